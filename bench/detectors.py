"""Our support vector machine against scikit-learn's, and what columns of zeros cost.

    python -m bench.detectors [--rows 6144] [--tested 1536] [--columns 1810] [--zeros 2000]
                              [--rounds 1] [--threads 1]

from the repository's root. Features are log-normal, as interquartile ranges are; a tenth of the
columns is larger for adversarial rows. Each round fits on `rows` and scores `tested`, ours and
scikit-learn's in turn:

- `svc` with its defaults, and standardised: scikit-learn's own kernel against ours;
- `grid search` of its 7 x 6 values of C and gamma on 512 rows: GridSearchCV with the same folds
  against ours, neither with a limit of steps;
- every detector with `zeros` more columns of zeros, which single pixels have, against without.

Printed are medians over the rounds: CPU seconds of fit and score, those of the peer as a multiple,
and the area under the ROC curve of both.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Measured(NamedTuple):
    fit: float
    score: float
    area: float


class Problem(NamedTuple):
    """Rows to train and to test on, and which of them are adversarial."""

    train: object
    test: object
    train_truth: object
    test_truth: object


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=6144)
    parser.add_argument("--tested", type=int, default=1536)
    parser.add_argument("--columns", type=int, default=1810)
    parser.add_argument("--zeros", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    # Spinning threads would charge waiting to CPU time.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    for library in ("OMP", "OPENBLAS"):
        os.environ[f"{library}_NUM_THREADS"] = str(options.threads)

    large = problem(options.rows, options.tested, options.columns)
    wide = widened(large, options.zeros)
    print(f"{'':34} {'fit s':>8} {'score s':>8} {'AUC':>7} {'x fit':>7} {'x score':>8}")
    for scale in (False, True):
        name = "svc, standardised" if scale else "svc"
        show(name, "scikit-learn", options.rounds, ours(large, scale), theirs(large, scale))
    for columns in (200, options.columns):
        small = problem(512, 512, columns)
        name = f"grid search, 512 x {columns}"
        show(name, "GridSearchCV", options.rounds, searched(small), grid_search(small))
    for name in ("svm.svc", "trees.random_forest", "trees.xgboost"):
        pair = (detector(given, name, options.threads) for given in (large, wide))
        show(name, f"and {options.zeros} zeros", options.rounds, *pair)


def problem(rows: int, tested: int, columns: int) -> Problem:
    """Log-normal features of widely different sizes; half of the rows are adversarial."""
    import numpy as np

    rng = np.random.default_rng(0)
    truth = rng.permutation(np.arange(rows + tested) % 2 == 0)
    size, shift = rng.normal(-3, 1.5, columns), 0.12 * (rng.random(columns) < 0.1)
    noise = rng.normal(size=(rows + tested, columns))
    features = np.exp(size + noise + truth[:, None] * shift).astype(np.float32)
    return Problem(features[:rows], features[rows:], truth[:rows], truth[rows:])


def widened(given: Problem, zeros: int) -> Problem:
    import numpy as np

    train, test = (np.pad(side, ((0, 0), (0, zeros))) for side in given[:2])
    return given._replace(train=train, test=test)


def show(name: str, other: str, rounds: int, first: Callable, second: Callable) -> None:
    """Measure two ways in turn, and print both and the second as a multiple of the first."""
    pairs = [(first(), second()) for _ in range(rounds)]
    fit, score = (
        statistics.median(pair[1][place] / pair[0][place] for pair in pairs) for place in (0, 1)
    )
    for label, column in ((name, 0), (f"  {other}", 1)):
        results = zip(*(pair[column] for pair in pairs), strict=True)
        found = [statistics.median(values) for values in results]
        ratios = f" {fit:7.2f} {score:8.2f}" if column else ""
        print(f"{label:34} {found[0]:8.2f} {found[1]:8.3f} {found[2]:7.4f}{ratios}", flush=True)


def measured(given: Problem, fit: Callable, score: Callable) -> Measured:
    from advdenoise.metrics import roc_auc

    started = time.process_time()
    machine = fit(given.train, given.train_truth)
    fitted = time.process_time()
    scores = score(machine, given.test)
    ended = time.process_time()
    return Measured(fitted - started, ended - fitted, roc_auc(scores, given.test_truth))


def detector(given: Problem, name: str, threads: int = 1, **settings) -> Callable[[], Measured]:
    from advdenoise.calls import call_with
    from advdenoise.graph.sources import load

    def fit(features, truth):
        entry = {"function": name, "settings": settings}
        machine = call_with(load("detectors", entry), seed=0, threads=threads)
        machine.fit(features, truth)
        return machine

    return lambda: measured(given, fit, lambda machine, rows: machine.score(rows))


def ours(given: Problem, scale: bool) -> Callable[[], Measured]:
    return detector(given, "svm.svc", scale=scale)


def theirs(given: Problem, scale: bool) -> Callable[[], Measured]:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    def fit(features, truth):
        steps = [StandardScaler(), SVC()] if scale else [SVC()]
        return make_pipeline(*steps).fit(features, truth)

    return lambda: measured(given, fit, lambda machine, rows: machine.decision_function(rows))


def searched(given: Problem) -> Callable[[], Measured]:
    return detector(given, "svm.svc_grid_search", steps=-1)


def grid_search(given: Problem) -> Callable[[], Measured]:
    import numpy as np
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    from advdenoise.detectors import svm
    from advdenoise.graph.components import signature

    defaults = signature("detectors", "", "svm.svc_grid_search").defaults
    grid = {name: list(defaults[name]) for name in ("C", "gamma")}
    rows = np.arange(len(given.train))
    fold = svm._folds(rows, given.train_truth, defaults["folds"], 0)
    sides = [(rows[fold != k], rows[fold == k]) for k in np.unique(fold)]

    def fit(features, truth):
        return GridSearchCV(SVC(), grid, scoring="roc_auc", cv=sides).fit(features, truth)

    return lambda: measured(given, fit, lambda machine, rows: machine.decision_function(rows))


if __name__ == "__main__":
    main()
