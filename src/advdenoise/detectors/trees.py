"""Detectors made of decision trees.

A detector has `fit(features, is_adversarial)` and `score(features)`: features float32 [N, D],
is_adversarial bool [N] with both classes, scores float [N], higher where more adversarial.
"""

from typing import Annotated, Literal

import numpy as np

from advdenoise.ranges import Interval, PositiveInt, Share

# Seeds below are what scikit-learn and XGBoost both take; smaller ones stay as they are.
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
    """scikit-learn's random forest; its defaults are those of Al Bared and Nassar 2021."""
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
    """Gradient boosting by XGBoost, on a CPU, whose results do not depend on the threads.

    The defaults are those of the library in 2021 (Al Bared and Nassar); today's own are depth 6
    and learning rate 0.3.
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
    def fit(self, features: np.ndarray, is_adversarial: np.ndarray) -> None:
        super().fit(features, is_adversarial)
        # Threads would add the trees' votes in the order in which they end, which rounds.
        self._classifier.set_params(n_jobs=1)


class _Boosted(_Trees):
    def fit(self, features: np.ndarray, is_adversarial: np.ndarray) -> None:
        # No tree splits what does not vary, such as the zeros of hidden nodes under single pixels.
        varies = (features != features[0]).any(axis=0)
        some = varies.any() and not varies.all()
        self._columns = np.flatnonzero(varies) if some else slice(None)
        super().fit(features[:, self._columns], is_adversarial)

    def score(self, features: np.ndarray) -> np.ndarray:
        return super().score(features[:, self._columns])
