"""Ensembles of decision trees as detectors.

A detector has `fit(features, is_adversarial)` and `score(features)`: features float32 [N, D],
is_adversarial bool [N] with both classes, scores float [N], higher for adversarial rows.
"""

from typing import Annotated, Literal

import numpy as np

from advdenoise.ranges import Interval, PositiveInt, Share

# scikit-learn and XGBoost both take seeds below this; larger ones are reduced modulo it.
_SEEDS = 2**31


def random_forest(
    seed: int,
    threads: int,
    *,
    trees: PositiveInt = 100,
    max_depth: PositiveInt | None = None,
    min_samples_leaf: PositiveInt = 1,
    max_features: Literal["sqrt", "log2"] | PositiveInt | Share | None = "sqrt",
):
    """scikit-learn's random forest; the defaults are those of Al Bared and Nassar 2021.

    Args:
        seed: of the bootstrap samples and the features tried at each split.
        threads: for fitting; results do not depend on them.
        trees, max_depth, min_samples_leaf, max_features: as in scikit-learn.
    """
    from sklearn.ensemble import RandomForestClassifier

    return _Forest(
        RandomForestClassifier(
            n_estimators=trees,
            max_depth=max_depth,
            min_samples_leaf=min_samples_leaf,
            max_features=max_features,
            n_jobs=threads,
            random_state=seed % _SEEDS,
        )
    )


def xgboost(
    seed: int,
    threads: int,
    *,
    trees: PositiveInt = 100,
    depth: PositiveInt = 3,
    learning_rate: Share = 0.1,
    max_bin: Annotated[int, Interval(ge=2)] = 256,
    subsample: Share = 1.0,
    colsample_bytree: Share = 1.0,
):
    """Gradient boosting by XGBoost on the CPU.

    The defaults are those of the library in 2021 (Al Bared and Nassar); those of today are
    depth 6 and learning rate 0.3.

    Args:
        seed: of the subsamples of rows and columns.
        threads: for fitting; results do not depend on them.
        trees, depth, learning_rate, max_bin, subsample, colsample_bytree: as in XGBoost.
    """
    from xgboost import XGBClassifier

    return _Boosted(
        XGBClassifier(
            n_estimators=trees,
            max_depth=depth,
            learning_rate=learning_rate,
            max_bin=max_bin,
            subsample=subsample,
            colsample_bytree=colsample_bytree,
            tree_method="hist",
            device="cpu",
            n_jobs=threads,
            random_state=seed % _SEEDS,
        )
    )


class _Trees:
    """A classifier whose score is its probability of the adversarial class."""

    def __init__(self, classifier):
        self._classifier = classifier

    def fit(self, features: np.ndarray, is_adversarial: np.ndarray) -> None:
        self._classifier.fit(features, is_adversarial.astype(np.int32))

    def score(self, features: np.ndarray) -> np.ndarray:
        return self._classifier.predict_proba(features)[:, 1]


class _Forest(_Trees):
    """A random forest that is scored with one thread."""

    """A random forest that is scored with one thread."""

    def fit(self, features: np.ndarray, is_adversarial: np.ndarray) -> None:
        super().fit(features, is_adversarial)
        # Threads would sum the trees' votes in varying order, which changes the rounding.
        self._classifier.set_params(n_jobs=1)


class _Boosted(_Trees):
    """Boosted trees that are fitted on the columns that vary."""

    """Boosted trees that are fitted on the columns that vary."""

    def fit(self, features: np.ndarray, is_adversarial: np.ndarray) -> None:
        # No tree splits a constant column; many hidden nodes are zero for all single pixels.
        varies = (features != features[0]).any(axis=0)
        some_vary = varies.any() and not varies.all()
        self._columns = np.flatnonzero(varies) if some_vary else slice(None)
        super().fit(features[:, self._columns], is_adversarial)

    def score(self, features: np.ndarray) -> np.ndarray:
        return super().score(features[:, self._columns])
