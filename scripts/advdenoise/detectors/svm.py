"""The support vector machine as a detector; see `trees` for what a detector is."""

import numpy as np

from scripts.advdenoise.errors import BadInput

# Rows scored at once: bounds the memory that the kernel of many rows needs.
SCORE_ROWS = 2048


def svc(*, C: float = 1.0, gamma: str | float = "scale", scale: bool = False):
    """Support vector classification with the kernel exp(-gamma |x - y|^2).

    The kernel matrix comes from one float32 matrix product and not row by row, which is an order
    of magnitude faster and equal up to rounding; the score is the decision function.

    Args:
        C: weight of a training error.
        gamma: a number, "scale" (1 / (D var(features))) or "auto" (1 / D), as in scikit-learn.
        scale: standardise the features by mean and deviation of the training rows first. "segfault"
            does not.
    """
    if isinstance(gamma, str) and gamma not in ("scale", "auto"):
        raise BadInput(f"detectors: gamma is {gamma!r}; give a number, 'scale' or 'auto'")
    return _SupportVectors(C, gamma, scale)


class _SupportVectors:
    def __init__(self, C: float, gamma: str | float, scale: bool):
        self._C, self._gamma, self._scale = C, gamma, scale

    def fit(self, features: np.ndarray, is_adversarial: np.ndarray) -> None:
        from sklearn.svm import SVC

        # Distances do not change with the origin, but those of rows around it round the least.
        self._mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._deviation = np.float32(1.0)
        if self._scale:
            deviation = features.std(axis=0, dtype=np.float64).astype(np.float32)
            self._deviation = np.where(deviation > 0, deviation, np.float32(1.0))
        rows = self._prepared(features)
        self._factor = self._gamma_of(rows if self._scale else features)
        machine = SVC(C=self._C, kernel="precomputed").fit(
            _kernel(rows, rows, self._factor), is_adversarial.astype(np.int32)
        )
        self._support = rows[machine.support_]
        self._weights, self._offset = machine.dual_coef_[0], machine.intercept_[0]

    def score(self, features: np.ndarray) -> np.ndarray:
        blocks = range(0, len(features), SCORE_ROWS)
        return np.concatenate([self._decision(features[i : i + SCORE_ROWS]) for i in blocks])

    def _decision(self, features: np.ndarray) -> np.ndarray:
        kernel = _kernel(self._prepared(features), self._support, self._factor)
        return kernel @ self._weights + self._offset

    def _prepared(self, features: np.ndarray) -> np.ndarray:
        return (np.asarray(features, np.float32) - self._mean) / self._deviation

    def _gamma_of(self, features: np.ndarray) -> float:
        if not isinstance(self._gamma, str):
            return self._gamma
        variance = features.var(dtype=np.float64) if self._gamma == "scale" else 1.0
        return 1.0 / (features.shape[1] * (variance or 1.0))


def _kernel(a: np.ndarray, b: np.ndarray, gamma: float) -> np.ndarray:
    """exp(-gamma |x - y|^2) of every pair of rows: float32 [len(a), len(b)]."""
    squares_a, squares_b = np.einsum("nd,nd->n", a, a), np.einsum("nd,nd->n", b, b)
    kernel = a @ b.T
    kernel *= -2
    kernel += squares_a[:, None]
    kernel += squares_b
    np.maximum(kernel, 0, out=kernel)
    kernel *= np.float32(-gamma)
    return np.exp(kernel, out=kernel)
