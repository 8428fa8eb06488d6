import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from scripts.advdenoise import components
from scripts.advdenoise.detectors import svm, trees
from scripts.advdenoise.errors import BadInput


def detector(name, seed=0, threads=1, **settings):
    entry = {"function": name, "settings": settings}
    return components.provide(components.load("detectors", entry), seed=seed, threads=threads)


def problem(rows=160, columns=6, shift=3.0, seed=0):
    rng = np.random.default_rng(seed)
    is_adversarial = rng.permutation(np.arange(rows) % 2 == 0)
    features = rng.normal(size=(rows, columns)) + shift * is_adversarial[:, None]
    return features.astype(np.float32), is_adversarial


@pytest.mark.parametrize("name", components.functions("detectors"))
def test_a_separable_problem_is_separated_upwards(name):
    features, is_adversarial = problem()
    machine = detector(name)
    machine.fit(features[:100], is_adversarial[:100])
    score = machine.score(features[100:])
    assert score.shape == (60,) and np.isfinite(score).all()
    assert roc_auc_score(is_adversarial[100:], score) > 0.99


@pytest.mark.parametrize("name", components.functions("detectors"))
def test_the_seed_decides_and_threads_do_not(name):
    features, is_adversarial = problem(shift=0.5)
    scores = []
    for threads in (1, 1, 2):
        machine = detector(name, seed=5, threads=threads)
        machine.fit(features[:100], is_adversarial[:100])
        scores.append(machine.score(features[100:]))
    assert np.array_equal(scores[0], scores[1])
    assert np.array_equal(scores[0], scores[2])


def test_the_forest_follows_its_seed():
    features, is_adversarial = problem(shift=0.5)
    scores = []
    for seed in (0, 1):
        machine = detector("trees.random_forest", seed=seed, trees=5)
        machine.fit(features, is_adversarial)
        scores.append(machine.score(features))
    assert not np.array_equal(*scores)


def test_xgboost_has_the_defaults_of_the_papers_time():
    settings = trees.xgboost(0, 1)._classifier.get_params()
    assert (settings["n_estimators"], settings["max_depth"]) == (100, 3)
    assert (settings["learning_rate"], settings["tree_method"]) == (0.1, "hist")


@pytest.mark.parametrize("shift", [0.3, 3.0])
@pytest.mark.parametrize("gamma", ["scale", "auto", 0.05])
@pytest.mark.parametrize("scale", [False, True])
def test_svc_is_scikit_learns(scale, gamma, shift):
    features, is_adversarial = problem(rows=240, columns=12, shift=shift)
    # Far from the origin and of unequal scales, where a float32 kernel matrix is hardest.
    features = features * np.linspace(0.5, 2, 12, dtype=np.float32) + 30
    features[:, -1] = 7.0
    plain = SVC(C=2.0, gamma=gamma)
    reference = make_pipeline(StandardScaler(), plain) if scale else plain
    reference.fit(features[:160].astype(np.float64), is_adversarial[:160])
    machine = svm.svc(C=2.0, gamma=gamma, scale=scale)
    machine.fit(features[:160], is_adversarial[:160])
    score = machine.score(features[160:])
    expected = reference.decision_function(features[160:].astype(np.float64))
    # libsvm itself stops at a tolerance of 1e-3.
    np.testing.assert_allclose(score, expected, atol=5e-3)
    auc = [roc_auc_score(is_adversarial[160:], s) for s in (score, expected)]
    assert abs(auc[0] - auc[1]) <= 1e-3


def test_svc_of_features_as_small_as_attributions():
    features, is_adversarial = problem(shift=1.0)
    features *= 1e-5
    machine = svm.svc()
    machine.fit(features[:100], is_adversarial[:100])
    reference = SVC().fit(features[:100].astype(np.float64), is_adversarial[:100])
    expected = reference.decision_function(features[100:])
    np.testing.assert_allclose(machine.score(features[100:]), expected, atol=5e-3)


def test_svc_scores_a_row_alike_in_any_company(monkeypatch):
    features, is_adversarial = problem(shift=1.0)
    machine = svm.svc(scale=True)
    machine.fit(features, is_adversarial)
    whole = machine.score(features)
    monkeypatch.setattr(svm, "SCORE_ROWS", 7)
    np.testing.assert_allclose(machine.score(features), whole, atol=1e-5)


def test_svc_of_constant_features_is_defined():
    machine = svm.svc(scale=True)
    machine.fit(np.ones((6, 3), np.float32), np.arange(6) % 2 == 0)
    assert np.isfinite(machine.score(np.ones((2, 3), np.float32))).all()


def test_another_gamma_is_told():
    with pytest.raises(BadInput, match="gamma"):
        svm.svc(gamma="scales")
