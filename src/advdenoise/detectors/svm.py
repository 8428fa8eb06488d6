"""Support vector machines as detectors; see `trees` for what a detector is.

The kernel is exp(-gamma |x - y|^2). All distances come from one float32 matrix product instead of
row by row, which is ten times faster than scikit-learn's own kernel and equal up to rounding. Rows
are first divided by a power of two, which is exact and keeps the squares of very small and very
large features in the range of float32. The score is the decision function.
"""

import warnings
from typing import Annotated, Literal

import numpy as np

from advdenoise.errors import BadInput
from advdenoise.metrics import roc_auc
from advdenoise.ranges import Interval, PositiveFloat, PositiveInt

# Rows scored at once, which bounds the memory of the kernel
SCORE_ROWS = 2048


def svc(
    *,
    C: PositiveFloat = 1.0,
    gamma: Literal["scale", "auto"] | PositiveFloat = "scale",
    scale: bool = False,
):
    """Support vector classification; the defaults are those of Al Bared and Nassar 2021.

    Args:
        C: weight of a training error, greater than 0.
        gamma: a number, "scale" (1 / (D var(features))) or "auto" (1 / D), as in scikit-learn.
        scale: standardise the features by the mean and standard deviation of the training rows.

    Raises:
        BadInput: for another `gamma`.
    """
    if isinstance(gamma, str) and gamma not in ("scale", "auto"):
        raise BadInput(
            f"svm.svc: settings.gamma must be a number, 'scale' or 'auto', got {gamma!r}"
        )
    return _SVC(C, gamma, scale)


def svc_grid_search(
    seed: int,
    *,
    C: tuple[PositiveFloat, ...] = (0.1, 1.0, 10.0, 1e2, 1e3, 1e4, 1e5),
    gamma: tuple[PositiveFloat, ...] = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0),
    folds: Annotated[int, Interval(ge=2)] = 5,
    steps: PositiveInt = 100_000,
    scale: bool = False,
):
    """`svc` with C and gamma chosen from a grid by cross-validation inside the training rows.

    Al Bared and Nassar 2021, section 3, name such a search; the grid is theirs. It chooses the pair
    with the highest area under the ROC curve (which the paper calls detection accuracy), averaged
    over the folds; of equal pairs, the smallest C and then the smallest gamma. Rows of one group
    are in one fold, and each fold has nearly the same share of each class. The model is then fitted
    on all training rows. Distances are computed once and the kernel once per gamma. If no weight
    has reached C, greater values of C are not tried, because they give the same model.

    Args:
        seed: of the order of groups in the folds.
        C, gamma: the values to try, at least one each.
        folds: number of folds, at least 2; each is held out once. With fewer groups there are as
            many folds as groups.
        steps: the most iterations of libsvm for one model. Large C on features that do not separate
            the classes would take hours to converge.
        scale: as for `svc`; by the mean and standard deviation of all training rows, also in folds.

    Raises:
        BadInput: without a value of `C` or `gamma`, or for fewer than 2 folds.
    """
    if not C or not gamma or folds < 2:
        raise BadInput(
            "svm.svc_grid_search: settings.C and settings.gamma must have at least one value and "
            f"settings.folds must be at least 2, got {C}, {gamma} and {folds}"
        )
    return _GridSearchSVC(sorted(C), sorted(gamma), folds, steps, scale, seed)


class _SVC:
    """A support vector machine on centred features.

    Only columns that vary in the training rows enter the matrix products.
    """

    def __init__(self, C: float, gamma: str | float, scale: bool, steps: int = -1):
        self._C, self._gamma, self._scale, self._steps = C, gamma, scale, steps

    def fit(self, features: np.ndarray, is_adversarial: np.ndarray, groups=None) -> None:
        # Distances do not depend on the origin, but rounding is smallest for rows around it.
        self._mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._std = None
        if self._scale:
            std = features.std(axis=0, dtype=np.float64).astype(np.float32)
            self._std = np.where(std > 0, std, np.float32(1.0))
        rows = self._standardise(features)
        # In this unit all elements are at most 1.
        exponent = int(np.frexp(np.abs(rows).max(initial=0.0))[1])
        self._unit = 2.0 ** min(max(exponent, -126), 126)  # float32 holds it and its inverse
        rows = self._to_unit(rows)
        squares = _squares(rows)
        self._fitted_gamma = self._resolve_gamma(rows, squares)
        # A column that is constant in training adds only its square, to distances of scored rows.
        self._varies = rows.any(axis=0)
        rows = self._varying(rows)
        distances = _squared_distances(rows, squares, rows, squares)
        self._choose(distances, is_adversarial, groups)
        kernel = self._kernel(distances, self._fitted_gamma, out=distances)
        support, self._weights, self._offset = _fit(kernel, is_adversarial, self._C, self._steps)
        self._support, self._squares = rows[support], squares[support]

    def score(self, features: np.ndarray) -> np.ndarray:
        blocks = range(0, len(features), SCORE_ROWS)
        return np.concatenate([self._decision(features[i : i + SCORE_ROWS]) for i in blocks])

    def _choose(self, distances: np.ndarray, is_adversarial: np.ndarray, groups) -> None:
        """Choose C and gamma from the squared distances [N, N] of the training rows."""

    def _decision(self, features: np.ndarray) -> np.ndarray:
        rows = self._to_unit(self._standardise(features))
        squares = _squares(rows)
        distances = _squared_distances(self._varying(rows), squares, self._support, self._squares)
        kernel = self._kernel(distances, self._fitted_gamma, out=distances)
        return kernel @ self._weights + self._offset

    def _kernel(
        self, distances: np.ndarray, gamma: float, out: np.ndarray | None = None
    ) -> np.ndarray:
        """The kernel of squared distances, which are in the unit of the training rows."""
        return _kernel(distances, gamma * self._unit**2, out)

    def _to_unit(self, rows: np.ndarray) -> np.ndarray:
        return np.multiply(rows, np.float32(1 / self._unit), out=rows)

    def _standardise(self, features: np.ndarray) -> np.ndarray:
        rows = np.subtract(features, self._mean, dtype=np.float32)
        if self._std is not None:
            rows /= self._std
        return rows

    def _varying(self, rows: np.ndarray) -> np.ndarray:
        return rows if self._varies.all() else rows[:, self._varies]

    def _resolve_gamma(self, rows: np.ndarray, squares: np.ndarray) -> float:
        if not isinstance(self._gamma, str):
            return self._gamma
        variance = 1.0
        if self._gamma == "scale":
            # The variance of all features: within the columns, and between their means.
            between = 0.0 if self._scale else self._mean.var(dtype=np.float64)
            variance = squares.sum(dtype=np.float64) / rows.size * self._unit**2 + between
        return 1.0 / (rows.shape[1] * (variance or 1.0))


class _GridSearchSVC(_SVC):
    """A support vector machine whose C and gamma are chosen by cross-validation when fitting."""

    def __init__(self, Cs: list, gammas: list, folds: int, steps: int, scale: bool, seed: int):
        super().__init__(Cs[0], gammas[0], scale, steps)
        self._Cs, self._gammas, self._folds, self._seed = Cs, gammas, folds, seed

    def _choose(self, distances: np.ndarray, is_adversarial: np.ndarray, groups) -> None:
        groups = np.arange(len(distances)) if groups is None else groups
        fold = _folds(groups, is_adversarial, self._folds, self._seed)
        areas = np.empty((len(self._Cs), len(self._gammas)))
        for column, gamma in enumerate(self._gammas):
            kernel = self._kernel(distances, gamma)
            by_fold = [self._areas(kernel, is_adversarial, fold == k) for k in np.unique(fold)]
            # Folds without a class have no area; if no fold has one, all pairs are equal.
            defined = ~np.isnan(by_fold)
            total = np.where(defined, by_fold, 0.0).sum(axis=0)
            areas[:, column] = total / np.maximum(defined.sum(axis=0), 1)
        best = np.unravel_index(np.argmax(areas), areas.shape)
        self._C, self._fitted_gamma = self._Cs[best[0]], self._gammas[best[1]]

    def _areas(self, kernel: np.ndarray, is_adversarial: np.ndarray, held_out: np.ndarray) -> list:
        """The area under the ROC curve of the held-out rows (bool [N]) for each C in order."""
        test, train = np.flatnonzero(held_out), np.flatnonzero(~held_out)
        targets = is_adversarial[train]
        if targets.all() or not targets.any():
            return [np.nan] * len(self._Cs)
        # libsvm needs float64; it is converted once, not for each C.
        train_kernel = kernel[np.ix_(train, train)].astype(np.float64)
        test_kernel = kernel[np.ix_(test, train)]
        areas: list[float] = []
        for C in self._Cs:
            support, weights, offset = _fit(train_kernel, targets, C, self._steps)
            scores = test_kernel[:, support] @ weights + offset
            areas.append(roc_auc(scores, is_adversarial[test]))
            if np.abs(weights).max(initial=0.0) < C:
                break
        return areas + areas[-1:] * (len(self._Cs) - len(areas))


def _fit(kernel: np.ndarray, is_adversarial: np.ndarray, C: float, steps: int):
    """Indices of the support vectors, their weights, and the offset, for a kernel [N, N]."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import SVC

    model = SVC(C=C, kernel="precomputed", max_iter=steps)
    with warnings.catch_warnings():
        # A grid search limits the steps on purpose and compares the models after them.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(kernel, is_adversarial.astype(np.int32))
    return model.support_, model.dual_coef_[0], model.intercept_[0]


def _folds(groups: np.ndarray, is_adversarial: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold [N] of each row. Groups are sorted by their share of adversarial rows, in random
    order among equals, and assigned to the folds in turn.
    """
    _, group = np.unique(groups, return_inverse=True)
    share = np.bincount(group, is_adversarial) / np.bincount(group)
    order = np.lexsort((np.random.default_rng(seed).random(len(share)), share))
    fold = np.empty(len(share), np.int64)
    fold[order] = np.arange(len(share)) % folds
    return fold[group]


def _squares(rows: np.ndarray) -> np.ndarray:
    """The squared norm [N] of each row."""
    """The squared norm [N] of each row."""
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
    """exp(-gamma d) of squared distances d, in float32."""
    # Above the range of float32 only a distance of 0 matters, so gamma can be clipped.
    factor = min(gamma, float(np.finfo(np.float32).max))
    with np.errstate(over="ignore"):
        kernel = np.multiply(distances, np.float32(-factor), out=out)
    return np.exp(kernel, out=kernel)
