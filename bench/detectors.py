"""Our support vector machine compared with scikit-learn's, and the cost of columns of zeros.

    python -m bench.detectors [--rows 6144] [--tested 1536] [--columns 1810] [--zeros 2000]
                              [--rounds 1] [--threads 1]

from the repository's root. Features are log-normal, as interquartile ranges are; a tenth of the
columns is larger for adversarial rows. Each round fits on `rows` and scores `tested`, ours and the
other in turn:

- `svc` with its defaults, and standardised: compared with scikit-learn's own kernel;
- `grid search` of its 7 x 6 values of C and gamma on 512 rows: compared with GridSearchCV on the
  same folds, both without a limit of steps;
- each detector: compared with itself on `zeros` more columns of zeros, as with single pixels.

Printed are medians over the rounds: CPU seconds of fit and score, the area under the ROC curve, and
the seconds of the other as a multiple of ours.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Result(NamedTuple):
    """CPU seconds of fit and score, and the area under the ROC curve."""

    fit: float
    score: float
    area: float


class Problem(NamedTuple):
    """Training and test rows, and which of them are adversarial."""

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
    # The waiting of spinning threads would count as CPU time.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    for library in ("OMP", "OPENBLAS"):
        os.environ[f"{library}_NUM_THREADS"] = str(options.threads)

    large = make_problem(options.rows, options.tested, options.columns)
    wide = with_zeros(large, options.zeros)
    print(f"{'':34} {'fit s':>8} {'score s':>8} {'AUC':>7} {'x fit':>7} {'x score':>8}")
    for scale in (False, True):
        name = "svc, standardised" if scale else "svc"
        show(name, "scikit-learn", options.rounds, ours(large, scale), sklearn_svc(large, scale))
    for columns in (200, options.columns):
        small = make_problem(512, 512, columns)
        name = f"grid search, 512 x {columns}"
        pair = our_grid_search(small), sklearn_grid_search(small)
        show(name, "GridSearchCV", options.rounds, *pair)
    for name in ("svm.svc", "trees.random_forest", "trees.xgboost"):
        pair = (detector(rows, name, options.threads) for rows in (large, wide))
        show(name, f"and {options.zeros} zeros", options.rounds, *pair)


def make_problem(rows: int, tested: int, columns: int) -> Problem:
    """Log-normal features of very different scales; half of the rows are adversarial."""
    import numpy as np

    rng = np.random.default_rng(0)
    truth = rng.permutation(np.arange(rows + tested) % 2 == 0)
    scale, shift = rng.normal(-3, 1.5, columns), 0.12 * (rng.random(columns) < 0.1)
    noise = rng.normal(size=(rows + tested, columns))
    features = np.exp(scale + noise + truth[:, None] * shift).astype(np.float32)
    return Problem(features[:rows], features[rows:], truth[:rows], truth[rows:])


def with_zeros(problem: Problem, zeros: int) -> Problem:
    """The problem with columns of zeros added."""
    import numpy as np

    train, test = (np.pad(side, ((0, 0), (0, zeros))) for side in problem[:2])
    return problem._replace(train=train, test=test)


def show(name: str, other: str, rounds: int, first: Callable, second: Callable) -> None:
    """Run two functions in turn; print both results and the second as a multiple of the first."""
    pairs = [(first(), second()) for _ in range(rounds)]
    fit, score = (statistics.median(pair[1][i] / pair[0][i] for pair in pairs) for i in (0, 1))
    for label, column in ((name, 0), (f"  {other}", 1)):
        results = zip(*(pair[column] for pair in pairs), strict=True)
        fit_s, score_s, area = (statistics.median(values) for values in results)
        ratios = f" {fit:7.2f} {score:8.2f}" if column else ""
        print(f"{label:34} {fit_s:8.2f} {score_s:8.3f} {area:7.4f}{ratios}", flush=True)


def measure(problem: Problem, fit: Callable, score: Callable) -> Result:
    from advdenoise.metrics import roc_auc

    started = time.process_time()
    model = fit(problem.train, problem.train_truth)
    fitted = time.process_time()
    scores = score(model, problem.test)
    ended = time.process_time()
    return Result(fitted - started, ended - fitted, roc_auc(scores, problem.test_truth))


def detector(problem: Problem, name: str, threads: int = 1, **settings) -> Callable[[], Result]:
    from advdenoise.calls import call_with
    from advdenoise.graph.sources import load

    def fit(features, truth):
        entry = {"function": name, "settings": settings}
        model = call_with(load("detectors", entry), seed=0, threads=threads)
        model.fit(features, truth)
        return model

    return lambda: measure(problem, fit, lambda model, rows: model.score(rows))


def ours(problem: Problem, scale: bool) -> Callable[[], Result]:
    return detector(problem, "svm.svc", scale=scale)


def sklearn_svc(problem: Problem, scale: bool) -> Callable[[], Result]:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    def fit(features, truth):
        steps = [StandardScaler(), SVC()] if scale else [SVC()]
        return make_pipeline(*steps).fit(features, truth)

    return lambda: measure(problem, fit, lambda model, rows: model.decision_function(rows))


def our_grid_search(problem: Problem) -> Callable[[], Result]:
    return detector(problem, "svm.svc_grid_search", steps=-1)


def sklearn_grid_search(problem: Problem) -> Callable[[], Result]:
    import numpy as np
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    from advdenoise.detectors import svm
    from advdenoise.graph.components import signature

    defaults = signature("detectors", "", "svm.svc_grid_search").defaults
    grid = {name: list(defaults[name]) for name in ("C", "gamma")}
    rows = np.arange(len(problem.train))
    fold = svm._folds(rows, problem.train_truth, defaults["folds"], 0)
    sides = [(rows[fold != k], rows[fold == k]) for k in np.unique(fold)]

    def fit(features, truth):
        return GridSearchCV(SVC(), grid, scoring="roc_auc", cv=sides).fit(features, truth)

    return lambda: measure(problem, fit, lambda model, rows: model.decision_function(rows))


if __name__ == "__main__":
    main()
