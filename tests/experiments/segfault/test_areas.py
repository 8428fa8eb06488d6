"""What follows from many areas under the ROC curve."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from advdenoise.statistics import Estimate
from experiments.segfault import areas, costs
from experiments.segfault.areas import NotComputable, Source

PIXELS = "pixel (ML-LOO)"


def source(areas: dict, segments: dict | None = None) -> Source:
    columns = {place: np.atleast_1d(np.asarray(v, float)) for place, v in areas.items()}
    return Source(columns, segments or {}, 9)


AREAS = source(
    {
        ("FGSM", "slic n_segments=32", "1-D"): [0.5, 0.6],
        ("FGSM", "slic n_segments=32", "10-D"): [0.7, 0.7],
        ("FGSM", PIXELS, "1-D"): [0.6, 0.5],
        ("FGSM", PIXELS, "10-D"): [0.9, 0.4],
        ("PGD", PIXELS, "1-D"): [0.2, 0.2],
        ("PGD", PIXELS, "4K-D"): [0.9, 0.9],
    }
)


def test_a_gain_is_the_mean_over_what_has_both():
    results = areas.gain(AREAS, ["FGSM"], "10-D", "1-D")
    assert results == pytest.approx([(0.2 + 0.3) / 2, (0.1 - 0.1) / 2])
    both = areas.gain(AREAS, ["FGSM", "PGD"], "4K-D", "1-D")
    assert both == pytest.approx([0.7, 0.7])


def test_one_attack_against_another():
    assert areas.easier(AREAS, "FGSM", "PGD") == pytest.approx([0.4, 0.3])


def test_superpixels_against_pixels():
    assert areas.below_pixels(AREAS, ["FGSM"]) == pytest.approx([0.15, -0.2])


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda: areas.gain(AREAS, ["C&W"], "10-D", "1-D"), "C&W is not among the attacks"),
        (lambda: areas.gain(AREAS, ["PGD"], "10-D", "1-D"), "no setting has the representations"),
        (lambda: areas.gain(source({}), ["PGD"], "10-D", "1-D"), "no scores"),
        (lambda: areas.easier(AREAS, "C&W", "PGD"), "C&W is not among the attacks"),
        (lambda: areas.correlation(AREAS, ["FGSM"]), "0 superpixel settings of known cost"),
        (lambda: areas.slic_gain(AREAS, ["FGSM"]), "both SLIC and other superpixels"),
        (lambda: areas.below_pixels(source({}), ["FGSM"]), "both pixels and superpixels"),
    ],
)
def test_what_cannot_be_computed_says_why(function, reason):
    with pytest.raises(NotComputable, match=reason):
        function()


def by_setting(values: dict, segments: dict) -> Source:
    """The same areas for two representations, pixels far above all."""
    areas = {("A", name, shown): v for name, v in values.items() for shown in ("1-D", "10-D")}
    return source({**areas, ("A", PIXELS, "1-D"): 1.0}, {**segments, PIXELS: 1024})


values = st.lists(
    st.tuples(st.integers(1, 6), st.integers(0, 6).map(lambda n: n / 6)), min_size=3, max_size=8
)


@given(values)
def test_the_correlation_is_spearmans(pairs):
    names = [f"felzenszwalb scale={place}" for place in range(len(pairs))]
    segments, of_names = zip(*pairs, strict=True)
    given_ = by_setting(
        dict(zip(names, of_names, strict=True)), dict(zip(names, segments, strict=True))
    )
    (results,) = areas.correlation(given_, ["A"])
    if len(set(segments)) == 1 or len(set(of_names)) == 1:
        assert np.isnan(results)
    else:
        assert results == pytest.approx(stats.spearmanr(segments, of_names).statistic)


def test_equal_segments_are_found_between_the_others():
    segments = {"quickshift a": 10, "felzenszwalb b": 1000, "slic mid": 100, "slic far": 5000}
    results = areas.slic_gain(
        by_setting(
            {"quickshift a": 0.2, "felzenszwalb b": 0.6, "slic mid": 0.5, "slic far": 0.7}, segments
        ),
        ["A"],
    )
    # At 100 segments, halfway between 10 and 1000, the others have 0.4; beyond the last 0.6.
    assert results == pytest.approx([(0.1 + 0.1) / 2])


def test_every_column_is_a_resample_of_its_own():
    random = np.random.default_rng(0)
    names = ["slic a", "slic b", "quickshift a", "quickshift b", "felzenszwalb a"]
    segments = dict(zip(names, (10, 30, 12, 50, 20), strict=True))
    of_names = {name: random.random(4) for name in names}
    for function in (areas.correlation, areas.slic_gain):
        whole = function(by_setting(of_names, segments), ["A"])
        alone = [
            function(by_setting({k: v[place] for k, v in of_names.items()}, segments), ["A"])[0]
            for place in range(4)
        ]
        assert whole == pytest.approx(alone)


@pytest.mark.parametrize("values", [[], [np.nan, 1.0], [1.0, np.nan], [np.inf, 1.0]])
def test_a_median_with_missing_values_is_undefined(values):
    result = costs.over_runs(np.array(values))
    assert np.isnan(result[:3]).all() and result.n == len(values)
    assert costs.over_runs(np.array([3.0, 1.0, 2.0])) == Estimate(2, 1, 3, 3)


def test_ranks_with_nan_are_undefined():
    ranks = areas._ranks(np.array([[1.0, 1.0], [np.nan, 3.0]]))
    assert np.isnan(ranks[:, 0]).all() and ranks[:, 1].tolist() == [0, 1]
