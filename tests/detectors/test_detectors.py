import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from advdenoise.calls import call_with
from advdenoise.detectors import svm, trees
from advdenoise.errors import BadInput
from advdenoise.graph import sources


def detector(name, seed=0, threads=1, **settings):
    entry = {"function": name, "settings": settings}
    return call_with(sources.load("detectors", entry), seed=seed, threads=threads)


def problem(rows=160, columns=6, shift=3.0, seed=0):
    rng = np.random.default_rng(seed)
    is_adversarial = rng.permutation(np.arange(rows) % 2 == 0)
    features = rng.normal(size=(rows, columns)) + shift * is_adversarial[:, None]
    return features.astype(np.float32), is_adversarial


@pytest.mark.parametrize("name", sources.functions("detectors"))
def test_scores_of_a_separable_problem_are_higher_for_adversarial_rows(name):
    features, is_adversarial = problem()
    machine = detector(name)
    machine.fit(features[:100], is_adversarial[:100])
    score = machine.score(features[100:])
    assert score.shape == (60,) and np.isfinite(score).all()
    assert roc_auc_score(is_adversarial[100:], score) > 0.99


@pytest.mark.parametrize("name", sources.functions("detectors"))
def test_results_depend_on_the_seed_and_not_on_threads(name):
    features, is_adversarial = problem(shift=0.5)
    scores = []
    for threads in (1, 1, 2):
        machine = detector(name, seed=5, threads=threads)
        machine.fit(features[:100], is_adversarial[:100])
        scores.append(machine.score(features[100:]))
    assert np.array_equal(scores[0], scores[1])
    assert np.array_equal(scores[0], scores[2])


def test_the_forest_depends_on_its_seed():
    features, is_adversarial = problem(shift=0.5)
    scores = []
    for seed in (0, 1):
        machine = detector("trees.random_forest", seed=seed, trees=5)
        machine.fit(features, is_adversarial)
        scores.append(machine.score(features))
    assert not np.array_equal(*scores)


def test_xgboost_has_the_defaults_of_2021():
    settings = trees.xgboost(0, 1)._classifier.get_params()
    assert (settings["n_estimators"], settings["max_depth"]) == (100, 3)
    assert (settings["learning_rate"], settings["tree_method"]) == (0.1, "hist")


@pytest.mark.parametrize("shift", [0.3, 3.0])
@pytest.mark.parametrize("gamma", ["scale", "auto", 0.05])
@pytest.mark.parametrize("scale", [False, True])
def test_svc_matches_scikit_learn(scale, gamma, shift):
    features, is_adversarial = problem(rows=240, columns=12, shift=shift)
    # Far from the origin and of unequal scales, where a float32 kernel is least exact
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


def test_svc_with_features_as_small_as_attributions():
    features, is_adversarial = problem(shift=1.0)
    features *= 1e-5
    machine = svm.svc()
    machine.fit(features[:100], is_adversarial[:100])
    reference = SVC().fit(features[:100].astype(np.float64), is_adversarial[:100])
    expected = reference.decision_function(features[100:])
    np.testing.assert_allclose(machine.score(features[100:]), expected, atol=5e-3)


def test_svc_scores_a_row_independently_of_others(monkeypatch):
    features, is_adversarial = problem(shift=1.0)
    machine = svm.svc(scale=True)
    machine.fit(features, is_adversarial)
    expected = machine.score(features)
    monkeypatch.setattr(svm, "SCORE_ROWS", 7)
    np.testing.assert_allclose(machine.score(features), expected, atol=1e-5)


def test_svc_of_constant_features_is_defined():
    machine = svm.svc(scale=True)
    machine.fit(np.ones((6, 3), np.float32), np.arange(6) % 2 == 0)
    assert np.isfinite(machine.score(np.ones((2, 3), np.float32))).all()


def test_invalid_gamma():
    with pytest.raises(BadInput, match="settings.gamma must be .* got 'scales'"):
        svm.svc(gamma="scales")


@pytest.mark.parametrize("scale", [False, True])
def test_columns_that_are_constant_in_training_affect_scores(scale):
    """They are left out of the matrix product, but not of the distances."""
    features, is_adversarial = problem(rows=120, columns=5, shift=1.0)
    constant = np.float32([[0.0, 3.0, 0.1]])
    trained = np.concatenate([features[:80], constant.repeat(80, axis=0)], axis=1)
    scored = np.concatenate([features[80:], constant.repeat(40, axis=0)], axis=1)
    scored[:20, 5:] += np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
    machine = svm.svc(gamma=0.1, scale=scale)
    machine.fit(trained, is_adversarial[:80])
    plain = SVC(gamma=0.1)
    reference = make_pipeline(StandardScaler(), plain) if scale else plain
    reference.fit(trained.astype(np.float64), is_adversarial[:80])
    expected = reference.decision_function(scored.astype(np.float64))
    np.testing.assert_allclose(machine.score(scored), expected, atol=5e-3)


def test_library_defaults_of_xgboost_are_settings():
    """Those of the current version of XGBoost."""
    from xgboost import XGBClassifier

    features, is_adversarial = problem(shift=0.5)
    machine = detector("trees.xgboost", depth=6, learning_rate=0.3)
    machine.fit(features[:100], is_adversarial[:100])
    reference = XGBClassifier(n_jobs=1).fit(features[:100], is_adversarial[:100])
    expected = reference.predict_proba(features[100:])[:, 1]
    assert np.array_equal(machine.score(features[100:]), expected)
    machine = detector("trees.xgboost")
    machine.fit(features[:100], is_adversarial[:100])
    assert not np.array_equal(machine.score(features[100:]), expected)


@pytest.mark.parametrize("name", ["trees.xgboost", "svm.svc"])
def test_columns_of_zeros_change_nothing(name):
    """Two thousand of the nodes of Al Bared and Nassar 2021 are zero for all single pixels."""
    features, is_adversarial = problem(columns=8, shift=0.5)
    features[:, 3] = 0
    wide = np.zeros((len(features), 40), np.float32)
    wide[:, ::5] = features
    scores = []
    for rows in (features, wide):
        settings = {"gamma": 0.1} if name == "svm.svc" else {}
        machine = detector(name, **settings)
        machine.fit(rows[:100], is_adversarial[:100])
        scores.append(machine.score(rows[100:]))
    np.testing.assert_allclose(*scores, rtol=1e-5, atol=1e-6)


def test_boosted_trees_equal_those_of_all_columns():
    from xgboost import XGBClassifier

    features, is_adversarial = problem(columns=8, shift=0.5)
    features[:100, [1, 6]] = 2.0  # varies only in scored rows
    reference = XGBClassifier(n_estimators=100, max_depth=3, learning_rate=0.1, n_jobs=1)
    reference.fit(features[:100], is_adversarial[:100])
    expected = reference.predict_proba(features[100:])[:, 1]
    machine = detector("trees.xgboost")
    machine.fit(features[:100], is_adversarial[:100])
    assert np.array_equal(machine.score(features[100:]), expected)


@pytest.mark.parametrize("name", sources.functions("detectors"))
def test_constant_features_are_defined(name):
    machine = detector(name)
    machine.fit(np.ones((12, 3), np.float32), np.arange(12) % 2 == 0)
    assert np.isfinite(machine.score(np.ones((2, 3), np.float32))).all()


# ---------------------------------------------------------------- the grid search

GRID = {"C": (0.1, 10.0, 1000.0), "gamma": (0.001, 0.03, 1.0)}


def areas_of(machine, monkeypatch, features, is_adversarial, groups=None):
    """Fit a grid search; returns the mean area for each C and gamma."""
    calls = []
    monkeypatch.setattr(svm.np, "argmax", lambda a, inner=np.argmax: (calls.append(a), inner(a))[1])
    machine.fit(features, is_adversarial, groups)
    monkeypatch.undo()
    return calls[0]


@pytest.mark.parametrize("scale", [False, True])
def test_the_grid_search_matches_scikit_learn(monkeypatch, scale):
    features, is_adversarial = problem(rows=200, columns=6, shift=0.4)
    features[:, 2] *= 50
    machine = detector("svm.svc_grid_search", seed=3, steps=-1, scale=scale, **GRID)
    areas = areas_of(machine, monkeypatch, features[:150], is_adversarial[:150])
    score = machine.score(features[150:])
    fold = svm._folds(np.arange(150), is_adversarial[:150], 5, seed=3)
    sides = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(5)]
    grid = {name: list(values) for name, values in GRID.items()}
    reference = GridSearchCV(SVC(), grid, scoring="roc_auc", cv=sides)
    features = features.astype(np.float64)
    if scale:  # by all training rows, for all folds
        features = StandardScaler().fit(features[:150]).transform(features)
    reference.fit(features[:150], is_adversarial[:150])
    expected = reference.cv_results_["mean_test_score"].reshape(areas.shape)
    np.testing.assert_allclose(areas, expected, atol=2e-3)
    expected = reference.decision_function(features[150:])
    assert reference.best_params_ == {"C": machine._C, "gamma": machine._fitted_gamma}
    np.testing.assert_allclose(score, expected, atol=2e-2)


def test_greater_C_are_not_tried_if_no_weight_reached_C(monkeypatch):
    features, is_adversarial = problem(rows=100, columns=30, shift=1.0)
    tried = []
    fit = svm._fit
    monkeypatch.setattr(svm, "_fit", lambda *a: (tried.append(a[2]), fit(*a))[1])
    Cs = (1.0, 100.0, 1e4, 1e6)
    detector("svm.svc_grid_search", C=Cs, gamma=(0.01,)).fit(features, is_adversarial)
    assert tried.count(1e4) == 0 and tried.count(100.0) == 5
    kernel = svm._kernel(np.square(features[:, None] - features).sum(axis=2), 0.01)
    first, second = (svm._fit(kernel, is_adversarial, C, -1) for C in Cs[1:3])
    assert np.array_equal(first[0], second[0])
    np.testing.assert_allclose(first[1], second[1], rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_folds_keep_groups_together_and_are_stratified(seed):
    images = 53
    groups = np.random.default_rng(seed).permutation(np.repeat(np.arange(images) * 7, 2))
    # Two rows per image; one image in four has only clean rows.
    is_adversarial = np.zeros(len(groups), bool)
    for image in np.unique(groups):
        if image % 4:
            is_adversarial[np.flatnonzero(groups == image)[0]] = True
    fold = svm._folds(groups, is_adversarial, 5, seed)
    assert all(len(set(fold[groups == image])) == 1 for image in groups)
    for k in range(5):
        assert abs((fold == k).sum() - len(groups) / 5) <= 2
        assert abs(is_adversarial[fold == k].sum() - is_adversarial.sum() / 5) <= 2
    fold = svm._folds(np.arange(len(groups)), is_adversarial, 5, seed)
    assert np.ptp(np.bincount(fold)) <= 1
    assert np.ptp(np.bincount(fold[is_adversarial])) <= 1


def test_groups_prevent_leaks_between_folds(monkeypatch):
    """With a clean and an adversarial row side by side, a narrow kernel is worse than chance."""
    rng = np.random.default_rng(0)
    images = np.repeat(rng.normal(size=(60, 4)) * 10, 2, axis=0)
    features = (images + rng.normal(size=images.shape) * 0.01).astype(np.float32)
    groups, is_adversarial = np.repeat(np.arange(60), 2), np.arange(120) % 2 == 0
    areas = [
        areas_of(
            detector("svm.svc_grid_search", C=(10.0,), gamma=(1.0,)),
            monkeypatch,
            features,
            is_adversarial,
            fold_groups,
        ).item()
        for fold_groups in (None, groups)
    ]
    assert areas[0] < 0.4 and areas[1] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("rows", [2, 3, 5])
def test_a_grid_search_on_very_few_rows_is_defined(rows):
    features, is_adversarial = np.eye(rows, dtype=np.float32), np.arange(rows) == 0
    machine = detector("svm.svc_grid_search", **GRID)
    machine.fit(features, is_adversarial, np.arange(rows))
    assert np.isfinite(machine.score(features)).all()


@pytest.mark.parametrize("settings", [{"C": ()}, {"gamma": ()}, {"folds": 1}])
def test_invalid_grid_searches(settings):
    with pytest.raises(BadInput, match="grid_search: .* must have at least one value"):
        svm.svc_grid_search(0, **settings)


@pytest.mark.parametrize("seed", [2**31, 2**32 - 1, 5 * 1234567890, 2**32 * 10])
@pytest.mark.parametrize("name", sources.functions("detectors"))
def test_large_seeds_are_accepted(name, seed):
    features, is_adversarial = problem(rows=40)
    machine = detector(name, seed=seed)
    machine.fit(features, is_adversarial)
    assert np.isfinite(machine.score(features)).all()
