"""The claims that "Segmentation Fault" makes in words, from our results and from its own tables.

Numbers that are compared share their resamples of images, for all detectors, settings and attacks.
A published value is the same function of the paper's tables.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from advdenoise import statistics
from advdenoise.graph.threats import CLEAN, NO_PURIFIER
from advdenoise.reporting import labels
from advdenoise.reporting.claims import Claim, Claims, Range
from advdenoise.reporting.read import Results
from advdenoise.statistics import Estimate

from . import cost_claims, detection_claims
from .costs import costs, over_runs
from .labels import FGSM, LABELS, superpixel_name
from .printed import PUBLISHED, printed_areas

if TYPE_CHECKING:
    import pandas as pd

_POINTS = 1.0  # either side of a whole number of the text
_AROUND = 5.0  # points either side of "around 10%"
_INDEPENDENT = 0.1  # of the seconds of clean images, for "independent"

_LARGER = "Adversarial images show larger IQR values in average."
_MOST = "They do so for most of the dimensions of IQR-10D."
_ACCURACY = "The model has {} {}."
_FEWER = "A larger {} gives fewer segments."
_TIME = "The time is independent of whether the batch is benign or adversarial."
_LEFT = "FGSM at epsilon {} reduces the accuracy to {}."
_SIZE = "The classifier has {} {}."
# The settings of which larger values are said to give fewer segments.
_GROWING = (("felzenszwalb", "scale"), ("quickshift", "sigma"), ("quickshift", "max_dist"))
_SETTING = ("dataset", "classifier")


def claims(detection: Results, iqr: Results, cost: Results, predictions: Results) -> Claims:
    """The paper's own claims, each judged by what was measured here.

    A claim that the results cannot decide says why.
    """
    stages = (detection, iqr, cost, predictions)
    settings = dict.fromkeys(tuple(s.values()) for r in stages for s in r.distinct(_SETTING))
    all_costs = costs(cost)
    claims = Claims()
    for dataset, classifier in settings:
        scores, spreads, _, predicted = (
            r.frame[(r.frame["dataset"] == dataset) & (r.frame["classifier"] == classifier)]
            for r in stages
        )
        own_costs = [
            each
            for each in all_costs
            if tuple(each.about[name] for name in _SETTING) == (dataset, classifier)
        ]
        claims.add(
            f"{dataset}, {classifier}: " if len(settings) > 1 else "",
            (
                *detection_claims.claims(detection, scores, own_costs),
                *_of_iqr(iqr, spreads),
                *_of_segments(iqr, spreads),
                _of_time(spreads),
                *cost_claims.claims(own_costs),
                *_of_accuracy(predicted),
                _of_fgsm(predictions, predicted),
                *_of_size(cost.entry("classifier", classifier) if own_costs else {}),
            ),
        )
    return claims


# ---------------------------------------------------------------- interquartile ranges


def _of_iqr(iqr: Results, frame: "pd.DataFrame") -> list[Claim]:
    """Adversarial against clean images, in the setting with the most segments."""
    setting, clean, attacked = "", frame, {}
    if not frame.empty:
        sizes = frame.groupby(["attribution", "attribution_point"], sort=False)["segments"].mean()
        attribution, point = sizes.idxmax()
        setting = superpixel_name(iqr.entry("attribution", attribution)["points"][point])
        here = (frame["attribution"] == attribution) & (frame["attribution_point"] == point)
        clean = frame[here & (frame["threat"] == CLEAN)]
        adversarial = frame[here & (frame["threat"] != CLEAN)]
        for (threat, point), part in adversarial.groupby(["threat", "attack_point"], sort=False):
            attacked.setdefault(LABELS.attack(iqr.attack(threat), point), part)
    names = dict.fromkeys([*printed_areas().attacks, *attacked])
    return [claim for name in names for claim in _larger(name, setting, attacked.get(name), clean)]


def _larger(
    attack: str, setting: str, attacked: "pd.DataFrame | None", clean: "pd.DataFrame"
) -> list[Claim]:
    larger = Claim(_LARGER, f"mean IQR-1D of {attack} - that of clean images, {setting}", Range(0))
    if attacked is None:
        return [replace(larger, reason=f"{attack} is not among the attacks")]
    pairs = attacked.merge(clean, on=["seed", "id"])
    if pairs.empty:
        return [replace(larger, reason="the clean images are not the same")]
    single, outputs = (
        np.stack(pairs[f"{name}_x"]) - np.stack(pairs[f"{name}_y"])
        for name in ("predicted", "probabilities")
    )
    ids = pairs["id"].to_numpy()
    means, n = statistics.resampled_means(outputs, ids)
    most = Claim(
        _MOST,
        f"outputs of {len(means)} with a larger mean IQR under {attack}, {setting}",
        Range(len(means) / 2),
        statistics.interval_of((means > 0).sum(axis=0), n),
    )
    return [replace(larger, estimate=statistics.bootstrap_mean(single[:, 0], ids)), most]


# ---------------------------------------------------------------- segments and time


def _of_segments(iqr: Results, frame: "pd.DataFrame") -> list[Claim]:
    """Segments of the same clean images under neighbouring values of one setting."""
    clean = frame[frame["threat"] == CLEAN] if len(frame) else frame
    counts: dict[tuple[str, ...], pd.Series] = {}
    for (name, point), part in clean.groupby(["attribution", "attribution_point"], sort=False):
        entry = iqr.entry("attribution", name)["points"][point]
        key = (entry["function"].partition(".")[2], *labels.superpixel_settings(entry))
        counts.setdefault(key, part.set_index(["seed", "id"])["segments"])
    return [_about_segments(counts, method, setting) for method, setting in _GROWING]


def _about_segments(counts: dict[tuple[str, ...], "pd.Series"], method: str, setting: str) -> Claim:
    quantity = f"mean segments of {method} at a larger {setting} - at the next smaller, greatest"
    claim = Claim(_FEWER.format(setting), quantity, Range(most=0))
    values: dict[tuple[str, ...], list] = {}
    for name, *settings in counts:
        if name == method:
            named = dict(text.split("=") for text in settings)
            value = float(named.pop(setting))
            values.setdefault(tuple(named.items()), []).append((value, (name, *settings)))
    steps = [
        (large, small)
        for alike in values.values()
        for (_, small), (_, large) in pairwise(sorted(alike))
    ]
    if not steps:
        return replace(claim, reason=f"no two values of {setting} were applied to clean images")
    changes = [(counts[large] - counts[small]).dropna() for large, small in steps]
    shared = changes[0].index
    for change in changes[1:]:
        shared = shared.intersection(change.index)
    if shared.empty:
        return replace(claim, reason=f"the values of {setting} share no images")
    table = np.stack([change.loc[shared].to_numpy(np.float64) for change in changes], axis=1)
    means, n = statistics.resampled_means(table, shared.get_level_values("id").to_numpy())
    return replace(claim, estimate=statistics.interval_of(means.max(axis=0), n))


def _of_time(frame: "pd.DataFrame") -> Claim:
    """Seconds of an attacked image over those of a clean one, attribution by attribution."""
    claim = Claim(
        _TIME,
        "seconds of an adversarial image / of a clean one, median of all attacks and attributions",
        Range(1 - _INDEPENDENT, 1 + _INDEPENDENT),
    )
    keys = ["seed", "split", "attribution", "threat"]
    jobs = frame.groupby(keys, sort=False)["job_seconds"].agg(["first", "size"])
    seconds = (jobs["first"] / jobs["size"]).unstack("threat")
    ratios = np.empty(0)
    if CLEAN in seconds:
        ratios = seconds.drop(columns=CLEAN).div(seconds[CLEAN], axis=0).to_numpy().ravel()
    ratios = ratios[np.isfinite(ratios)]
    if not len(ratios):
        return replace(claim, reason="no clean and adversarial images were attributed alike")
    return replace(claim, estimate=over_runs(ratios))


# ---------------------------------------------------------------- the classifier


def _of_accuracy(frame: "pd.DataFrame") -> Iterator[Claim]:
    numbers = PUBLISHED.numbers("textnumbers")
    plain = frame[(frame["threat"] == CLEAN) & (frame["purifier"] == NO_PURIFIER)]
    for split, name in (("train", "training accuracy"), ("test", "testing accuracy")):
        line = numbers["26-layer CNN", name]
        printed = float(line["value"])
        rows = plain[plain["split"] == split].drop_duplicates(["seed", "id"])
        share = statistics.wilson((rows["prediction"] == rows["label"]).sum(), len(rows))
        yield Claim(
            _ACCURACY.format(line["raw"], name),
            f"{name} in %",
            Range(printed - _POINTS, printed + _POINTS),
            share.scaled(100),
            line["value"],
            "" if len(rows) else f"the split {split} was not predicted",
        )


def _of_fgsm(predictions: Results, frame: "pd.DataFrame") -> Claim:
    """Accuracy under FGSM at the largest of the paper's epsilons."""
    (line,) = (line for line in PUBLISHED.lines("textnumbers") if line["row"] == FGSM)
    printed = float(line["value"])
    claim = Claim(
        _LEFT.format(line["epsilon"], line["raw"]),
        f"accuracy in % under {FGSM}, epsilon {line['epsilon']}",
        Range(printed - _AROUND, printed + _AROUND),
        published=PUBLISHED.numbers("table1")[FGSM, f"eps={line['epsilon']}"]["value"],
    )
    attacked = frame[(frame["threat"] != CLEAN) & (frame["purifier"] == NO_PURIFIER)]
    right, count = 0, 0
    names = ["threat", "attack_point", "epsilon"]
    for (threat, point, epsilon), part in attacked.groupby(names, sort=False):
        entry = predictions.attack(threat)
        name = LABELS.attack(entry, point)
        if (name, labels.epsilon(entry, epsilon)) == (FGSM, line["epsilon"]):
            part = part.drop_duplicates(["seed", "id"])
            right += int((part["prediction"] == part["label"]).sum())
            count += len(part)
    if not count:
        return replace(claim, reason=f"{FGSM} with epsilon {line['epsilon']} was not predicted")
    return replace(claim, estimate=statistics.wilson(right, count).scaled(100))


def _of_size(entry: dict) -> Iterator[Claim]:
    """Layers and parameters as Keras counts them: all modules, and running statistics too."""
    numbers = PUBLISHED.numbers("textnumbers")
    for name, keys in (("layers", ("modules",)), ("parameters", ("parameters", "statistics"))):
        line = numbers["26-layer CNN", name]
        printed = float(line["value"])
        claim = Claim(
            _SIZE.format(line["raw"], name),
            f"{name} of the classifier, as Keras counts them",
            Range(printed - 1, printed + 1),
            published=line["value"],
        )
        if "modules" in entry:
            yield replace(claim, estimate=Estimate.exact(sum(entry[key] for key in keys), 1))
        else:
            yield replace(claim, reason="no cost was measured, which counts them")
