"""Support vector machines as detectors; see `trees` for what a detector is.

The kernel is exp(-gamma |x - y|^2). The distances of all rows come from one float32 matrix product
and not row by row, which is an order of magnitude faster than scikit-learn's own kernel and equal
up to rounding. Rows are divided by a power of two first, which rounds nothing and keeps the squares
of tiny and huge features inside float32. The score is the decision function.
"""

import warnings
from typing import Annotated, Literal

import numpy as np

from advdenoise.errors import BadInput
from advdenoise.metrics import roc_auc
from advdenoise.ranges import Interval, PositiveFloat, PositiveInt

# Rows scored at once: bounds the memory that the kernel of many rows needs.
SCORE_ROWS = 2048


def svc(
    *,
    C: PositiveFloat = 1.0,
    gamma: Literal["scale", "auto"] | PositiveFloat = "scale",
    scale: bool = False,
):
    """Support vector classification; the defaults are those of Al Bared and Nassar 2021.

    Args:
        C: weight of a training error.
        gamma: a number, "scale" (1 / (D var(features))) or "auto" (1 / D), as in scikit-learn.
        scale: standardise the features by mean and deviation of the training rows first.
    """
    if isinstance(gamma, str) and gamma not in ("scale", "auto"):
        raise BadInput(f"detectors: gamma is {gamma!r}; give a number, 'scale' or 'auto'")
    return _SupportVectors(C, gamma, scale)


def svc_grid_search(
    seed: int,
    *,
    C: tuple[PositiveFloat, ...] = (0.1, 1.0, 10.0, 1e2, 1e3, 1e4, 1e5),
    gamma: tuple[PositiveFloat, ...] = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0),
    folds: Annotated[int, Interval(ge=2)] = 5,
    steps: PositiveInt = 100_000,
    scale: bool = False,
):
    """The same with C and gamma chosen among these by cross-validation inside the training rows.

    Al Bared and Nassar 2021, section 3, name such a search; the grid is theirs. Chosen is the
    pair of the highest area under the ROC curve, averaged over the folds, which is what the paper
    calls detection accuracy; of equal ones the smallest C, then the smallest gamma. Rows of one
    group lie in one fold, and each fold has its share of either class. The machine is then fitted
    on all training rows. Distances are computed once, the kernel once for each gamma, and where no
    weight has reached C, greater ones are not tried: they give the same machine.

    Args:
        C, gamma: the values tried, at least one each.
        folds: parts of the training rows, each held out once; less where there are fewer groups.
        steps: at most so many updates of libsvm for one machine. Large C on features that do not
            separate the classes would take hours to converge.
        scale: as for `svc`; standardisation is that of all training rows, the folds' included.
    """
    if not C or not gamma or folds < 2:
        raise BadInput("detectors: a grid search needs values of C and gamma, and 2 folds or more")
    return _Searched(sorted(C), sorted(gamma), folds, steps, scale, seed)


class _SupportVectors:
    """A machine on centred features, of which only the columns that vary are multiplied."""

    def __init__(self, C: float, gamma: str | float, scale: bool, steps: int = -1):
        self._C, self._gamma, self._scale, self._steps = C, gamma, scale, steps

    def fit(self, features: np.ndarray, is_adversarial: np.ndarray, groups=None) -> None:
        # Distances do not change with the origin, but those of rows around it round the least.
        self._mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._deviation = None
        if self._scale:
            deviation = features.std(axis=0, dtype=np.float64).astype(np.float32)
            self._deviation = np.where(deviation > 0, deviation, np.float32(1.0))
        rows = self._prepared(features)
        # Rows in this unit have elements up to 1.
        exponent = int(np.frexp(np.abs(rows).max(initial=0.0))[1])
        self._unit = 2.0 ** min(max(exponent, -126), 126)  # and its inverse, in float32
        rows = self._in_unit(rows)
        squares = _squares(rows)
        self._factor = self._gamma_of(rows, squares)
        # What no training row varies in adds to the distances of scored rows only, by its square.
        self._varies = rows.any(axis=0)
        rows = self._varying(rows)
        distances = _squared_distances(rows, squares, rows, squares)
        self._choose(distances, is_adversarial, groups)
        kernel = self._kernel(distances, self._factor, out=distances)
        support, self._weights, self._offset = _machine(
            kernel, is_adversarial, self._C, self._steps
        )
        self._support, self._squares = rows[support], squares[support]

    def score(self, features: np.ndarray) -> np.ndarray:
        blocks = range(0, len(features), SCORE_ROWS)
        return np.concatenate([self._decision(features[i : i + SCORE_ROWS]) for i in blocks])

    def _choose(self, distances: np.ndarray, is_adversarial: np.ndarray, groups) -> None:
        """Settle what the machine is fitted with; here it is given."""

    def _decision(self, features: np.ndarray) -> np.ndarray:
        rows = self._in_unit(self._prepared(features))
        squares = _squares(rows)
        distances = _squared_distances(self._varying(rows), squares, self._support, self._squares)
        return self._kernel(distances, self._factor, out=distances) @ self._weights + self._offset

    def _kernel(
        self, distances: np.ndarray, gamma: float, out: np.ndarray | None = None
    ) -> np.ndarray:
        """The kernel of squared distances in the unit of the training rows."""
        return _kernel(distances, gamma * self._unit**2, out)

    def _in_unit(self, rows: np.ndarray) -> np.ndarray:
        return np.multiply(rows, np.float32(1 / self._unit), out=rows)

    def _prepared(self, features: np.ndarray) -> np.ndarray:
        rows = np.subtract(features, self._mean, dtype=np.float32)
        if self._deviation is not None:
            rows /= self._deviation
        return rows

    def _varying(self, rows: np.ndarray) -> np.ndarray:
        return rows if self._varies.all() else rows[:, self._varies]

    def _gamma_of(self, rows: np.ndarray, squares: np.ndarray) -> float:
        if not isinstance(self._gamma, str):
            return self._gamma
        variance = 1.0
        if self._gamma == "scale":
            # That of all features: within the columns, and between their means where they have any.
            between = 0.0 if self._scale else self._mean.var(dtype=np.float64)
            variance = squares.sum(dtype=np.float64) / rows.size * self._unit**2 + between
        return 1.0 / (rows.shape[1] * (variance or 1.0))


class _Searched(_SupportVectors):
    """A machine whose C and gamma are chosen on the rows that it is fitted on."""

    def __init__(self, Cs: list, gammas: list, folds: int, steps: int, scale: bool, seed: int):
        super().__init__(Cs[0], gammas[0], scale, steps)
        self._Cs, self._gammas, self._folds, self._seed = Cs, gammas, folds, seed

    def _choose(self, distances: np.ndarray, is_adversarial: np.ndarray, groups) -> None:
        groups = np.arange(len(distances)) if groups is None else groups
        fold = _folds(groups, is_adversarial, self._folds, self._seed)
        areas = np.empty((len(self._Cs), len(self._gammas)))
        for place, gamma in enumerate(self._gammas):
            kernel = self._kernel(distances, gamma)
            found = [self._areas(kernel, is_adversarial, fold == k) for k in np.unique(fold)]
            # A fold that lacks a class tells nothing; where all do, no pair is better than another.
            known = ~np.isnan(found)
            total = np.where(known, found, 0.0).sum(axis=0)
            areas[:, place] = total / np.maximum(known.sum(axis=0), 1)
        best = np.unravel_index(np.argmax(areas), areas.shape)
        self._C, self._factor = self._Cs[best[0]], self._gammas[best[1]]

    def _areas(self, kernel: np.ndarray, is_adversarial: np.ndarray, held: np.ndarray) -> list:
        """The held rows' area for each C, smallest first."""
        held, train = np.flatnonzero(held), np.flatnonzero(~held)
        truth = is_adversarial[train]
        if truth.all() or not truth.any():
            return [np.nan] * len(self._Cs)
        # libsvm works in float64: converted here once, not for every C.
        inner = kernel[np.ix_(train, train)].astype(np.float64)
        outer = kernel[np.ix_(held, train)]
        areas: list[float] = []
        for C in self._Cs:
            support, weights, offset = _machine(inner, truth, C, self._steps)
            areas.append(roc_auc(outer[:, support] @ weights + offset, is_adversarial[held]))
            if np.abs(weights).max(initial=0.0) < C:
                break
        return areas + areas[-1:] * (len(self._Cs) - len(areas))


def _machine(kernel: np.ndarray, is_adversarial: np.ndarray, C: float, steps: int):
    """Support rows, their weights and the offset of the machine with this kernel."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import SVC

    machine = SVC(C=C, kernel="precomputed", max_iter=steps)
    with warnings.catch_warnings():
        # A search asks for at most so many steps; it judges the machine that they lead to.
        warnings.simplefilter("ignore", ConvergenceWarning)
        machine.fit(kernel, is_adversarial.astype(np.int32))
    return machine.support_, machine.dual_coef_[0], machine.intercept_[0]


def _folds(groups: np.ndarray, is_adversarial: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each row: groups in random order are dealt out, those of like rows in turn."""
    _, group = np.unique(groups, return_inverse=True)
    share = np.bincount(group, is_adversarial) / np.bincount(group)
    order = np.lexsort((np.random.default_rng(seed).random(len(share)), share))
    fold = np.empty(len(share), np.int64)
    fold[order] = np.arange(len(share)) % folds
    return fold[group]


def _squares(rows: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", rows, rows)


def _squared_distances(
    a: np.ndarray, squares_a: np.ndarray, b: np.ndarray, squares_b: np.ndarray
) -> np.ndarray:
    """|x - y|^2 of every pair of rows: float32 [len(a), len(b)]."""
    distances = a @ b.T
    distances *= -2
    distances += squares_a[:, None]
    distances += squares_b
    return np.maximum(distances, 0, out=distances)


def _kernel(distances: np.ndarray, gamma: float, out: np.ndarray | None = None) -> np.ndarray:
    # Beyond float32's range only a distance of 0 differs from an infinite one.
    factor = min(gamma, float(np.finfo(np.float32).max))
    with np.errstate(over="ignore"):
        kernel = np.multiply(distances, np.float32(-factor), out=out)
    return np.exp(kernel, out=kernel)
