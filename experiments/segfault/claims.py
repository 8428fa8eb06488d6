"""The claims that "Segmentation Fault" makes in words, from our results and from its own tables.

Numbers that are compared share their resamples of images, for all detectors, settings and attacks.
A published value is the same function of the paper's tables.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from advdenoise import statistics
from advdenoise.graph.threats import CLEAN, NO_PURIFIER
from advdenoise.io.published import Published
from advdenoise.reporting import labels
from advdenoise.reporting.claims import Claim, Claims, Range
from advdenoise.reporting.read import Results, iter_groups
from advdenoise.statistics import Estimate, Scored

from .areas import NotComputable, Source, below_pixels, correlation, easier, gain, slic_gain
from .costs import Cost, costs, over_runs
from .labels import LABELS, PIXELS, REPRESENTATIONS, superpixel_name

if TYPE_CHECKING:
    import pandas as pd

PUBLISHED = Published(Path(__file__).parent / "published")
ONE, TEN, HIDDEN = REPRESENTATIONS.values()
XGB, SVC, SEARCHED = "trees.xgboost", "svm.svc", "svm.svc_grid_search"
FOREST = "trees.random_forest"
CW, FGSM = labels.ATTACKS["minimal.carlini_wagner"], labels.ATTACKS["gradient.fgsm"]
# The text gives no bound for "slightly lower", and round numbers for the others.
_SLIGHTLY, _ABOUT, _POINTS = 0.05, 0.05, 1.0
_AROUND = 5.0  # points either side of "around 10%"
_INDEPENDENT = 0.1  # of the seconds of clean images, for "independent"

_DIMENSIONS = "Increasing the IQR representation dimensionality improves the detection accuracy."
_LARGER = "Adversarial images show larger IQR values in average."
_MOST = "They do so for most of the dimensions of IQR-10D."
_SEGMENTS = "The more segments are generated, the more accuracy is obtained."
_SLIC = "SLIC obtains better accuracy given an equal average number of segments."
_LOWER = "Accuracy is very similar to that of ML-LOO, even though slightly lower."
_EASIEST = "The best detection accuracies are recorded against the C&W attack."
_SEARCH = "A grid search for C and gamma of the SVC improves FGSM, 4K-D by {}."
_FASTEST = "10-D is consistently the fastest to execute."
_MEMORY = "{} requires {} times more memory than {}."
_CHEAPER = "Superpixels reduce processing and memory requirements by a ratio of {} to {}."
_ACCURACY = "The model has {} {}."
_FOREST = "The random forest classifier badly handles the high-dimensional 4K features."
_SVC = "The SVC sometimes badly handles the high-dimensional 4K features."
_FEWER = "A larger {} gives fewer segments."
_TIME = "The time is independent of whether the batch is benign or adversarial."
_LEFT = "FGSM at epsilon {} reduces the accuracy to {}."
_SIZE = "The classifier has {} {}."
# The settings of which larger values are said to give fewer segments.
_GROWING = (("felzenszwalb", "scale"), ("quickshift", "sigma"), ("quickshift", "max_dist"))
_SETTING = ("dataset", "classifier")

Quantity = Callable[[Source], np.ndarray]


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
                *_of_areas(detection, scores, own_costs),
                *_of_iqr(iqr, spreads),
                *_of_segments(iqr, spreads),
                _of_time(spreads),
                *_of_costs(own_costs),
                *_of_accuracy(predicted),
                _of_fgsm(predictions, predicted),
                *_of_size(cost.entry("classifier", classifier) if own_costs else {}),
            ),
        )
    return claims


# ---------------------------------------------------------------- areas under the ROC curve


def _of_areas(detection: Results, frame: "pd.DataFrame", costs: list[Cost]) -> list[Claim]:
    """The claims about detectors under every protocol, with published values under the paper's."""
    segments = {each.setting: each.passes for each in costs}
    claims = []
    for protocol in dict.fromkeys(frame["protocol"]) or ["paper"]:
        rows = frame[frame["protocol"] == protocol]
        ours = _areas(detection, rows, XGB, segments)
        alike = rows[rows["split"] == _widest(rows)]
        together = ours if len(alike) == len(rows) else _areas(detection, alike, XGB, segments)
        printed = _printed() if protocol == "paper" else Source({}, {}, 0)
        of_protocol = [
            *_about_detection(ours, together, printed),
            _about_search(detection, rows, protocol),
            *_about_many_dimensions(detection, rows, protocol),
        ]
        suffix = "" if protocol == "paper" else f" ({protocol})"
        claims += [replace(claim, quantity=claim.quantity + suffix) for claim in of_protocol]
    return claims


def _widest(rows: "pd.DataFrame") -> str | None:
    """The split with the most settings: other images would make these better or worse by chance."""
    settings = rows[["split", "attribution", "attribution_point"]].drop_duplicates()
    return None if settings.empty else settings["split"].value_counts().idxmax()


def _about_detection(ours: Source, together: Source, printed: Source) -> list[Claim]:
    """Settings are compared with each other on their common images, those of `together`."""
    attacks = list(dict.fromkeys([*_printed().attacks, *ours.attacks]))
    tried = [attack for attack in attacks if attack in ours.attacks] or attacks
    scopes = {**{attack: [attack] for attack in attacks}, f"mean of {', '.join(tried)}": tried}
    claims = []

    def compare(
        sentence: str, quantity: str, claimed: Range, function: Quantity, source: Source = ours
    ) -> None:
        claims.append(_compared(sentence, quantity, claimed, function, source, printed))

    for name, scope in scopes.items():
        for more, fewer in ((TEN, ONE), (HIDDEN, TEN)):
            quantity = f"AUC of {more} - AUC of {fewer}, {name}, mean over settings"
            function = partial(gain, attacks=scope, more=more, fewer=fewer)
            compare(_DIMENSIONS, quantity, Range(0), function)
    for sentence, quantity, claimed, function in (
        (_SEGMENTS, "rank correlation of segments and AUC", Range(0), correlation),
        (_SLIC, "AUC of SLIC - AUC of others at as many segments", Range(0), slic_gain),
        (_LOWER, "AUC of ML-LOO - mean AUC of superpixels", Range(0, _SLIGHTLY), below_pixels),
    ):
        for name, scope in scopes.items():
            quantity_ = f"{quantity}, {name}, mean over representations"
            compare(sentence, quantity_, claimed, partial(function, attacks=scope), together)
    for other in attacks:
        if other != CW:
            quantity = f"AUC of {CW} - AUC of {other}, mean over settings and representations"
            compare(_EASIEST, quantity, Range(0), partial(easier, attack=CW, other=other))
    return claims


def _compared(
    sentence: str, quantity: str, claimed: Range, function: Quantity, ours: Source, printed: Source
) -> Claim:
    published = ""
    with contextlib.suppress(NotComputable):
        published = _shown(float(function(printed)[0]))
    claim = Claim(sentence, quantity, claimed, published=published)
    try:
        return replace(claim, estimate=statistics.interval_of(function(ours), ours.n))
    except NotComputable as reason:
        return replace(claim, reason=str(reason))


def _about_search(detection: Results, rows: "pd.DataFrame", protocol: str) -> Claim:
    line = PUBLISHED.numbers("textnumbers")["SVC, grid search", "improvement FGSM 4K-D"]
    claim = Claim(
        _SEARCH.format(line["raw"]),
        f"AUC of the SVC after a grid search - AUC by default, {FGSM}, {HIDDEN}, pixels",
        Range(0),
        published=_shown(float(line["value"]) / 100) if protocol == "paper" else "",
    )
    key = (FGSM, PIXELS, HIDDEN)
    searched, plain = (_scored(detection, rows, name).get(key) for name in (SEARCHED, SVC))
    if searched is None or plain is None:
        return replace(claim, reason="the SVC was not judged there with and without the search")
    return replace(claim, estimate=statistics.bootstrap_auc_difference(searched, plain))


def _about_many_dimensions(detection: Results, rows: "pd.DataFrame", protocol: str) -> list[Claim]:
    """The detectors of Table 2 on 4K-D compared with 10-D, with single pixels."""
    claims = []
    for sentence, function, row in ((_FOREST, FOREST, "Random Forest"), (_SVC, SVC, "SVC")):
        printed = _printed_detectors(row) if protocol == "paper" else Source({}, {}, 0)
        whole = _areas(detection, rows, function, {})
        areas = {key: area for key, area in whole.areas.items() if key[1] == PIXELS}
        ours = whole._replace(areas=areas)
        attacks = list(dict.fromkeys([*_printed_detectors(row).attacks, *ours.attacks]))
        change = f"AUC of {row} on {HIDDEN} - that on {TEN}, {PIXELS}"
        if function == SVC:
            quantities = {f"{change}, least of all attacks": partial(_least_gain, attacks=attacks)}
        else:
            scopes = {name: [name] for name in attacks} | {"mean of all attacks": attacks}
            quantities = {
                f"{change}, {name}": partial(gain, attacks=scope, more=HIDDEN, fewer=TEN)
                for name, scope in scopes.items()
            }
        claims += [
            _compared(sentence, quantity, Range(most=0), computed, ours, printed)
            for quantity, computed in quantities.items()
        ]
    return claims


def _least_gain(source: Source, attacks: list[str]) -> np.ndarray:
    """The smallest of the attacks' gains from 10-D to 4K-D."""
    tried = [attack for attack in attacks if attack in source.attacks] or attacks
    gains = [gain(source, [attack], more=HIDDEN, fewer=TEN) for attack in tried]
    return np.min(gains, axis=0)


def _printed_detectors(row: str) -> Source:
    """One detector's areas of Table 2, which are those of single pixels."""
    areas = {}
    for (detector, column), line in PUBLISHED.numbers("table2").items():
        if detector == row:
            attack, shown = column.rsplit(" ", 1)
            areas[attack, PIXELS, shown] = np.array([float(line["value"])])
    return Source(areas, {}, 0)


def _areas(
    detection: Results, rows: "pd.DataFrame", function: str, segments: dict[str, float]
) -> Source:
    scored = _scored(detection, rows, function)
    if not scored:
        return Source({}, segments, 0)
    areas, n = statistics.resampled_auc(list(scored.values()))
    return Source(dict(zip(scored, areas, strict=True)), segments, n)


def _scored(detection: Results, rows: "pd.DataFrame", function: str) -> dict[tuple, Scored]:
    """The scores of one detector by attack, setting and representation as printed.

    Of several entries with the same printed names the first counts, as in the tables.
    """
    scored: dict[tuple[str, str, str], Scored] = {}
    names = ["detector", "detector_point", "threat", "attack_point", "attribution"]
    for about, part in iter_groups(rows, [*names, "attribution_point", "representation"]):
        entry = detection.entry("detector", about["detector"])
        if entry["points"][about["detector_point"]]["function"] != function:
            continue
        attack = LABELS.attack(detection.attack(about["threat"]), about["attack_point"])
        attribution = detection.entry("attribution", about["attribution"])
        setting = superpixel_name(attribution["points"][about["attribution_point"]])
        key = (attack, setting, REPRESENTATIONS[about["representation"]])
        if key not in scored:
            columns = (part[name].to_numpy() for name in ("score", "is_adversarial", "id"))
            runs = part["seed"] * (1 + rows["split_seed"].max()) + part["split_seed"]
            scored[key] = Scored(*columns, runs.to_numpy())
    return scored


def _printed() -> Source:
    """The areas of Table 6, with the bytes of 1-D in Table 7 as numbers of segments."""
    areas = {}
    for (row, column), line in PUBLISHED.numbers("table6").items():
        attack, shown = column.rsplit(" ", 1)
        areas[attack, row, shown] = np.array([float(line["value"])])
    memory = _printed_costs("memory")
    segments = {setting: size for (setting, shown), size in memory.items() if shown == ONE}
    return Source(areas, segments, 0)


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
    names = dict.fromkeys([*_printed().attacks, *attacked])
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


# ---------------------------------------------------------------- cost


def _of_costs(costs: list[Cost]) -> list[Claim]:
    ours: dict[tuple[str, str], Cost] = {}
    for each in costs:
        ours.setdefault((each.setting, REPRESENTATIONS[each.representation]), each)
    return [_about_speed(ours), *_about_memory(ours), *_about_pixels(ours)]


def _about_speed(ours: dict[tuple[str, str], Cost]) -> Claim:
    quantity = f"seconds of {TEN} / seconds of the faster other, greatest of all settings"
    published = _shown(float(_slowest(_printed_costs("time"))))
    claim = Claim(_FASTEST, quantity, Range(most=1), published=published)
    seconds = {key: cost.seconds for key, cost in ours.items()}
    try:
        return replace(claim, estimate=over_runs(np.atleast_1d(_slowest(seconds))))
    except NotComputable as reason:
        return replace(claim, reason=str(reason))


def _slowest(seconds: dict[tuple[str, str], np.ndarray | float]) -> np.ndarray:
    """The greatest ratio over settings of 10-D's seconds to those of the faster other."""
    ratios = [
        seconds[setting, TEN] / np.minimum(seconds[setting, ONE], seconds[setting, HIDDEN])
        for setting in dict.fromkeys(setting for setting, _ in seconds)
        if {(setting, ONE), (setting, TEN), (setting, HIDDEN)} <= seconds.keys()
    ]
    if not ratios:
        raise NotComputable("no setting's cost was measured for all three representations")
    return np.max(ratios, axis=0)


def _about_memory(ours: dict[tuple[str, str], Cost]) -> list[Claim]:
    numbers = PUBLISHED.numbers("textnumbers")
    claims = []
    for more, fewer in ((TEN, ONE), (HIDDEN, TEN)):
        line = numbers["memory", f"{more} / {fewer}"]
        printed = float(line["value"])
        claim = Claim(
            _MEMORY.format(more, line["raw"], fewer),
            f"bytes of {more} / bytes of {fewer}, all attributions at once",
            Range(printed * (1 - _ABOUT), printed * (1 + _ABOUT)),
            published=line["value"],
        )
        pairs = [
            (cost, ours[setting, fewer])
            for (setting, shown), cost in ours.items()
            if shown == more and (setting, fewer) in ours
        ]
        if not pairs:
            reason = f"no setting's cost was measured for {more} and {fewer}"
            claims.append(replace(claim, reason=reason))
            continue
        large, _ = pairs[0]
        wanted = float(numbers["26-layer CNN", f"{more} values"]["value"])
        ratio = float(np.mean([cost.array_bytes / other.array_bytes for cost, other in pairs]))
        other = f"{more} has {large.values} values here, and not {wanted:g}"
        reason = other if large.values != wanted else ""
        claims.append(replace(claim, estimate=Estimate.exact(ratio, large.images), reason=reason))
    return claims


def _about_pixels(ours: dict[tuple[str, str], Cost]) -> list[Claim]:
    """The ratio of the cost of single pixels to that of each setting, for 10-D."""
    time, memory = _printed_costs("time"), _printed_costs("memory")
    settings = dict.fromkeys(setting for setting, _ in [*time, *ours] if setting != PIXELS)
    whole = ours.get((PIXELS, TEN))
    claims = []
    for setting in settings:
        part = ours.get((setting, TEN))
        seconds, size = _cheaper(setting, "seconds", time), _cheaper(setting, "bytes", memory)
        if part is None or whole is None:
            reason = f"the cost of {PIXELS if whole is None else setting} was not measured"
            claims += [replace(claim, reason=reason) for claim in (seconds, size)]
            continue
        ratio = Estimate.exact(whole.array_bytes / part.array_bytes, part.images)
        claims.append(replace(seconds, estimate=over_runs(whole.seconds / part.seconds)))
        claims.append(replace(size, estimate=ratio))
    return claims


def _cheaper(setting: str, what: str, printed: dict[tuple[str, str], float]) -> Claim:
    """The claim about one setting, without our own estimate."""
    numbers = PUBLISHED.numbers("textnumbers")
    bounds = [numbers["superpixels", f"{end} reduction"] for end in ("least", "greatest")]
    whole, part = printed[PIXELS, TEN], printed.get((setting, TEN))
    return Claim(
        _CHEAPER.format(*(line["raw"] for line in bounds)),
        f"{what} of {PIXELS} / {what} of {setting}, {TEN}",
        Range(*(float(line["value"]) for line in bounds)),
        published=_shown(whole / part) if part else "",
    )


def _printed_costs(metric: str) -> dict[tuple[str, str], float]:
    """Table 7's seconds (`time`) or bytes (`memory`) by setting and representation."""
    return {
        (row, column.rsplit(" ", 1)[1]): float(line["value"])
        for (row, column), line in PUBLISHED.numbers("table7").items()
        if line["metric"] == metric
    }


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


def _shown(value: float) -> str:
    return f"{value:.3g}"
