"""Numbers that are not finite: statistics and tables are undefined, detectors robust."""

import math

import numpy as np
import pytest
from sklearn.svm import SVC

from advdenoise import statistics
from advdenoise.detectors import svm
from advdenoise.errors import BadInput
from advdenoise.purifiers._checks import mean_and_deviation
from advdenoise.reporting import write
from advdenoise.reporting.cells import Cell
from advdenoise.statistics import Estimate

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("successes", [NAN, INF, -INF])
def test_a_share_that_is_not_finite_is_undefined(successes):
    assert all(map(math.isnan, statistics.wilson(successes, 10)[:3]))


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_tables_print_undefined(value):
    cell = Cell("r", "c", "m", "%", Estimate(value, NAN, NAN, 3))
    assert write._text(cell, {}, 1) == "undefined" and write.number(value) == ""


@pytest.mark.parametrize("value", [{"mean": NAN, "deviation": 1}, {"mean": 1, "deviation": INF}])
def test_a_calibration_that_is_not_finite_is_refused(value):
    with pytest.raises(BadInput, match="calibrate on at least two"):
        mean_and_deviation(value, "mine")


@pytest.mark.parametrize("power", [-38, -24, -19, 0, 15, 20, 36])
@pytest.mark.parametrize("scale", [False, True])
def test_an_svm_does_not_depend_on_the_scale_of_features(power, scale):
    random = np.random.default_rng(0)
    features, truth = random.random((60, 4)), np.arange(60) < 30
    features[:30] += 0.3
    detector = svm.svc(scale=scale)
    scaled = (features * 2.0 ** round(power * math.log2(10))).astype(np.float32)
    detector.fit(scaled, truth)
    inputs = features.astype(np.float32).astype(float)
    if scale:
        inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    expected = SVC(gamma="scale").fit(inputs, truth).decision_function(inputs)
    assert np.abs(detector.score(scaled) - expected).max() < 5e-3


@pytest.mark.parametrize("power", [-20, 20])
def test_gamma_may_be_a_number(power):
    features = np.random.default_rng(0).random((40, 3))
    truth = np.arange(40) < 20
    features[:20] += 0.3
    scaled = (features * 10.0**power).astype(np.float32)
    detector = svm.svc(gamma=0.7 * 10.0 ** (-2 * power))
    detector.fit(scaled, truth)
    expected = SVC(gamma=0.7).fit(features, truth).decision_function(features)
    assert np.abs(detector.score(scaled) - expected).max() < 5e-3
    detector = svm.svc(gamma=1.0)
    detector.fit(scaled, truth)
    assert np.isfinite(detector.score(scaled)).all()
