"""What "Segmentation Fault" says in words, computed from our results and from its own tables.

Where two numbers are compared, they are compared image by image: images are resampled once for all
detectors, settings and attacks. A quantity of the paper's is the same function of its tables.
"""

from collections.abc import Callable, Iterable
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
from advdenoise.reporting.read import Results
from advdenoise.statistics import Estimate, Scored

from .areas import Lacking, Source, below_pixels, correlation, easier, gain, slic_gain
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


Quantity = Callable[[Source], np.ndarray]


def claims(detection: Results, iqr: Results, cost: Results, predictions: Results) -> Claims:
    """The paper's own claims, each judged by what was measured here.

    A claim that the results cannot decide says why.
    """
    every = (detection, iqr, cost, predictions)
    worlds = dict.fromkeys(world for results in every for world in _worlds(results))
    paid = costs(cost)
    found = Claims()
    for dataset, classifier in worlds:
        here = [_within(results.frame, dataset, classifier) for results in every]
        own = [
            each
            for each in paid
            if (each.about["dataset"], each.about["classifier"]) == (dataset, classifier)
        ]
        where = f"{dataset}, {classifier}: " if len(worlds) > 1 else ""
        for claim in (
            *_of_areas(detection, here[0], own),
            *_of_iqr(iqr, here[1]),
            *_of_segments(iqr, here[1]),
            _of_time(here[1]),
            *_of_costs(own),
            *_of_accuracy(here[3]),
            _of_fgsm(predictions, here[3]),
            *_of_size(cost.entry("classifier", classifier) if own else {}),
        ):
            found.append(replace(claim, quantity=where + claim.quantity))
    return found


def _worlds(results: Results) -> Iterable[tuple[str, str]]:
    pairs = results.frame[["dataset", "classifier"]].drop_duplicates()
    return pairs.itertuples(index=False, name=None)


def _within(frame: "pd.DataFrame", dataset: str, classifier: str) -> "pd.DataFrame":
    return frame[(frame["dataset"] == dataset) & (frame["classifier"] == classifier)]


# ---------------------------------------------------------------- areas under the ROC curve


def _of_areas(detection: Results, frame: "pd.DataFrame", paid: list[Cost]) -> list[Claim]:
    """The claims about detectors, under every protocol; the paper's numbers are of its own."""
    segments = {each.setting: each.passes for each in paid}
    found = []
    for protocol in dict.fromkeys(frame["protocol"]) or ["paper"]:
        rows = frame[frame["protocol"] == protocol]
        ours = _areas(detection, rows, XGB, segments)
        alike = rows[rows["split"] == _widest(rows)]
        together = ours if len(alike) == len(rows) else _areas(detection, alike, XGB, segments)
        printed = _printed() if protocol == "paper" else Source({}, {}, 0)
        some = _about_detection(ours, together, printed)
        some.append(_about_search(detection, rows, protocol))
        some += _about_many_dimensions(detection, rows, protocol)
        told = "" if protocol == "paper" else f" ({protocol})"
        found += [replace(claim, quantity=claim.quantity + told) for claim in some]
    return found


def _widest(rows: "pd.DataFrame") -> str | None:
    """The split with the most settings: other images would make these better or worse by chance."""
    settings = rows[["split", "attribution", "attribution_point"]].drop_duplicates()
    return None if settings.empty else settings["split"].value_counts().idxmax()


def _about_detection(ours: Source, together: Source, printed: Source) -> list[Claim]:
    """Settings are compared with each other on the images that they have `together`."""
    attacks = list(dict.fromkeys([*_printed().attacks, *ours.attacks]))
    there = [attack for attack in attacks if attack in ours.attacks] or attacks
    scopes = {**{attack: [attack] for attack in attacks}, f"mean of {', '.join(there)}": there}
    found = []

    def compare(
        sentence: str, quantity: str, claimed: Range, function: Quantity, source: Source = ours
    ) -> None:
        found.append(_compared(sentence, quantity, claimed, function, source, printed))

    for name, scope in scopes.items():
        for more, fewer in ((TEN, ONE), (HIDDEN, TEN)):
            quantity = f"AUC of {more} - AUC of {fewer}, {name}, mean over settings"
            compare(
                _DIMENSIONS,
                quantity,
                Range(0),
                partial(gain, attacks=scope, more=more, fewer=fewer),
            )
    for sentence, quantity, claimed, function in (
        (_SEGMENTS, "rank correlation of segments and AUC", Range(0), correlation),
        (_SLIC, "AUC of SLIC - AUC of others at as many segments", Range(0), slic_gain),
        (_LOWER, "AUC of ML-LOO - mean AUC of superpixels", Range(0, _SLIGHTLY), below_pixels),
    ):
        for name, scope in scopes.items():
            told = f"{quantity}, {name}, mean over representations"
            compare(sentence, told, claimed, partial(function, attacks=scope), together)
    for other in attacks:
        if other != CW:
            quantity = f"AUC of {CW} - AUC of {other}, mean over settings and representations"
            compare(_EASIEST, quantity, Range(0), partial(easier, attack=CW, other=other))
    return found


def _compared(
    sentence: str, quantity: str, claimed: Range, function: Quantity, ours: Source, printed: Source
) -> Claim:
    try:
        published = _told(float(function(printed)[0]))
    except Lacking:
        published = ""
    try:
        estimate = statistics.interval_of(function(ours), ours.n)
    except Lacking as reason:
        return Claim(sentence, quantity, claimed, published=published, lacking=str(reason))
    return Claim(sentence, quantity, claimed, estimate, published)


def _about_search(detection: Results, rows: "pd.DataFrame", protocol: str) -> Claim:
    line = PUBLISHED.numbers("textnumbers")["SVC, grid search", "improvement FGSM 4K-D"]
    claim = Claim(
        _SEARCH.format(line["raw"]),
        f"AUC of the SVC after a grid search - AUC by default, {FGSM}, {HIDDEN}, pixels",
        Range(0),
        published=_told(float(line["value"]) / 100) if protocol == "paper" else "",
    )
    place = (FGSM, PIXELS, HIDDEN)
    tried, plain = (_scored(detection, rows, name).get(place) for name in (SEARCHED, SVC))
    if tried is None or plain is None:
        return replace(claim, lacking="the SVC was not judged there with and without the search")
    return replace(claim, estimate=statistics.bootstrap_auc_difference(tried, plain))


def _about_many_dimensions(detection: Results, rows: "pd.DataFrame", protocol: str) -> list[Claim]:
    """The detectors of Table 2 on 4K-D beside 10-D, with single pixels."""
    claims = []
    for sentence, function, row in ((_FOREST, FOREST, "Random Forest"), (_SVC, SVC, "SVC")):
        printed = _printed_detectors(row) if protocol == "paper" else Source({}, {}, 0)
        whole = _areas(detection, rows, function, {})
        areas = {place: area for place, area in whole.areas.items() if place[1] == PIXELS}
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
    there = [attack for attack in attacks if attack in source.attacks] or attacks
    gains = [gain(source, [attack], more=HIDDEN, fewer=TEN) for attack in there]
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

    Of several entries that would be printed alike, the first counts, as in the tables.
    """
    found: dict[tuple[str, str, str], Scored] = {}
    names = ["detector", "detector_point", "threat", "attack_point", "attribution"]
    names += ["attribution_point", "representation"]
    for values, part in rows.groupby(names, sort=False):
        detector, detector_point, threat, attack_point, attribution, point, shown = values
        if detection.entry("detector", detector)["points"][detector_point]["function"] != function:
            continue
        attack = LABELS.attack(detection.attack(threat), attack_point, threat.partition("@")[0])
        setting = superpixel_name(detection.entry("attribution", attribution)["points"][point])
        place = (attack, setting, REPRESENTATIONS[shown])
        if place not in found:
            columns = (part[name].to_numpy() for name in ("score", "is_adversarial", "id"))
            runs = part["seed"] * (1 + rows["split_seed"].max()) + part["split_seed"]
            found[place] = Scored(*columns, runs.to_numpy())
    return found


def _printed() -> Source:
    """Table 6, and segments by what an image's attributions take in Table 7."""
    areas = {}
    for (row, column), line in PUBLISHED.numbers("table6").items():
        attack, shown = column.rsplit(" ", 1)
        areas[attack, row, shown] = np.array([float(line["value"])])
    memory = _printed_costs("memory")
    segments = {setting: size for (setting, shown), size in memory.items() if shown == ONE}
    return Source(areas, segments, 0)


# ---------------------------------------------------------------- interquartile ranges


def _of_iqr(iqr: Results, frame: "pd.DataFrame") -> list[Claim]:
    """Adversarial images against themselves unattacked, in the setting with the most segments."""
    setting, clean, attacked = "", frame, {}
    if not frame.empty:
        sizes = frame.groupby(["attribution", "attribution_point"], sort=False)["segments"].mean()
        attribution, point = sizes.idxmax()
        setting = superpixel_name(iqr.entry("attribution", attribution)["points"][point])
        here = (frame["attribution"] == attribution) & (frame["attribution_point"] == point)
        clean = frame[here & (frame["threat"] == CLEAN)]
        made = frame[here & (frame["threat"] != CLEAN)]
        for (threat, point), part in made.groupby(["threat", "attack_point"], sort=False):
            name = LABELS.attack(iqr.attack(threat), point, threat.partition("@")[0])
            attacked.setdefault(name, part)
    names = dict.fromkeys([*_printed().attacks, *attacked])
    return [claim for name in names for claim in _larger(name, setting, attacked.get(name), clean)]


def _larger(
    attack: str, setting: str, attacked: "pd.DataFrame | None", clean: "pd.DataFrame"
) -> list[Claim]:
    larger = Claim(_LARGER, f"mean IQR-1D of {attack} - that of clean images, {setting}", Range(0))
    if attacked is None:
        return [replace(larger, lacking=f"{attack} is not among the attacks")]
    pairs = attacked.merge(clean, on=["seed", "id"])
    if pairs.empty:
        return [replace(larger, lacking="the clean images are not the same")]
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
        place = (entry["function"].partition(".")[2], *labels.superpixel_settings(entry))
        counts.setdefault(place, part.set_index(["seed", "id"])["segments"])
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
        return replace(claim, lacking=f"no two values of {setting} were applied to clean images")
    changes = [(counts[large] - counts[small]).dropna() for large, small in steps]
    shared = changes[0].index
    for change in changes[1:]:
        shared = shared.intersection(change.index)
    if shared.empty:
        return replace(claim, lacking=f"the values of {setting} share no images")
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
    if CLEAN not in seconds or len(seconds.columns) < 2:
        return replace(claim, lacking="no clean and adversarial images were attributed alike")
    ratios = seconds.drop(columns=CLEAN).div(seconds[CLEAN], axis=0).to_numpy().ravel()
    ratios = ratios[np.isfinite(ratios)]
    if not len(ratios):
        return replace(claim, lacking="no clean and adversarial images were attributed alike")
    return replace(claim, estimate=over_runs(ratios))


# ---------------------------------------------------------------- cost


def _of_costs(paid: list[Cost]) -> list[Claim]:
    ours: dict[tuple[str, str], Cost] = {}
    for each in paid:
        ours.setdefault((each.setting, REPRESENTATIONS[each.representation]), each)
    return [_about_speed(ours), *_about_memory(ours), *_about_pixels(ours)]


def _about_speed(ours: dict[tuple[str, str], Cost]) -> Claim:
    quantity = f"seconds of {TEN} / seconds of the faster other, greatest of all settings"
    published = _told(float(_slowest(_printed_costs("time"))))
    seconds = {place: cost.seconds for place, cost in ours.items()}
    try:
        estimate = over_runs(np.atleast_1d(_slowest(seconds)))
    except Lacking as reason:
        return Claim(_FASTEST, quantity, Range(most=1), published=published, lacking=str(reason))
    return Claim(_FASTEST, quantity, Range(most=1), estimate, published)


def _slowest(seconds: dict[tuple[str, str], np.ndarray | float]) -> np.ndarray:
    """Of all settings the greatest ratio of 10-D's seconds to the faster other's."""
    ratios = [
        seconds[setting, TEN] / np.minimum(seconds[setting, ONE], seconds[setting, HIDDEN])
        for setting in dict.fromkeys(setting for setting, _ in seconds)
        if {(setting, ONE), (setting, TEN), (setting, HIDDEN)} <= seconds.keys()
    ]
    if not ratios:
        raise Lacking("no setting's cost was measured for all three representations")
    return np.max(ratios, axis=0)


def _about_memory(ours: dict[tuple[str, str], Cost]) -> list[Claim]:
    numbers = PUBLISHED.numbers("textnumbers")
    found = []
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
            found.append(replace(claim, lacking=reason))
            continue
        large, _ = pairs[0]
        wanted = float(numbers["26-layer CNN", f"{more} values"]["value"])
        ratio = float(np.mean([cost.array_bytes / other.array_bytes for cost, other in pairs]))
        other = f"{more} has {large.values} values here, and not {wanted:g}"
        lacking = other if large.values != wanted else ""
        found.append(replace(claim, estimate=_exactly(ratio, large.images), lacking=lacking))
    return found


def _about_pixels(ours: dict[tuple[str, str], Cost]) -> list[Claim]:
    """How many times cheaper each setting is than single pixels, for 10-D."""
    time, memory = _printed_costs("time"), _printed_costs("memory")
    settings = dict.fromkeys(setting for setting, _ in [*time, *ours] if setting != PIXELS)
    whole = ours.get((PIXELS, TEN))
    found = []
    for setting in settings:
        part = ours.get((setting, TEN))
        seconds, size = _cheaper(setting, "seconds", time), _cheaper(setting, "bytes", memory)
        if part is None or whole is None:
            absent = PIXELS if whole is None else setting
            reason = f"the cost of {absent} was not measured"
            found += [replace(claim, lacking=reason) for claim in (seconds, size)]
            continue
        ratio = whole.array_bytes / part.array_bytes
        found.append(replace(seconds, estimate=over_runs(whole.seconds / part.seconds)))
        found.append(replace(size, estimate=_exactly(ratio, part.images)))
    return found


def _cheaper(setting: str, what: str, printed: dict[tuple[str, str], float]) -> Claim:
    """The claim about one setting, without our own estimate."""
    numbers = PUBLISHED.numbers("textnumbers")
    bounds = [numbers["superpixels", f"{end} reduction"] for end in ("least", "greatest")]
    whole, part = printed[PIXELS, TEN], printed.get((setting, TEN))
    return Claim(
        _CHEAPER.format(*(line["raw"] for line in bounds)),
        f"{what} of {PIXELS} / {what} of {setting}, {TEN}",
        Range(*(float(line["value"]) for line in bounds)),
        published=_told(whole / part) if part else "",
    )


def _printed_costs(metric: str) -> dict[tuple[str, str], float]:
    """Table 7's seconds (`time`) or bytes (`memory`) by setting and representation."""
    return {
        (row, column.rsplit(" ", 1)[1]): float(line["value"])
        for (row, column), line in PUBLISHED.numbers("table7").items()
        if line["metric"] == metric
    }


# ---------------------------------------------------------------- the classifier


def _of_accuracy(frame: "pd.DataFrame") -> list[Claim]:
    numbers = PUBLISHED.numbers("textnumbers")
    plain = frame[(frame["threat"] == CLEAN) & (frame["purifier"] == NO_PURIFIER)]
    found = []
    for split, name in (("train", "training accuracy"), ("test", "testing accuracy")):
        line = numbers["26-layer CNN", name]
        printed = float(line["value"])
        rows = plain[plain["split"] == split].drop_duplicates(["seed", "id"])
        share = statistics.wilson((rows["prediction"] == rows["label"]).sum(), len(rows))
        found.append(
            Claim(
                _ACCURACY.format(line["raw"], name),
                f"{name} in %",
                Range(printed - _POINTS, printed + _POINTS),
                _in_percent(share),
                line["value"],
                "" if len(rows) else f"the split {split} was not predicted",
            )
        )
    return found


def _of_fgsm(predictions: Results, frame: "pd.DataFrame") -> Claim:
    """What FGSM leaves at the largest of the paper's epsilons."""
    ((row, column),) = (key for key in PUBLISHED.numbers("textnumbers") if key[0] == FGSM)
    line = PUBLISHED.numbers("textnumbers")[row, column]
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
        name = LABELS.attack(entry, point, threat.partition("@")[0])
        if (name, labels.epsilon(entry, epsilon)) == (FGSM, line["epsilon"]):
            part = part.drop_duplicates(["seed", "id"])
            right += int((part["prediction"] == part["label"]).sum())
            count += len(part)
    if not count:
        return replace(claim, lacking=f"{FGSM} with epsilon {line['epsilon']} was not predicted")
    return replace(claim, estimate=_in_percent(statistics.wilson(right, count)))


def _of_size(entry: dict) -> list[Claim]:
    """Layers and parameters as Keras counts them: all modules, and running statistics too."""
    numbers = PUBLISHED.numbers("textnumbers")
    known = "modules" in entry
    counted = {
        "layers": entry["modules"] if known else 0,
        "parameters": entry["parameters"] + entry["statistics"] if known else 0,
    }
    claims = []
    for name, count in counted.items():
        line = numbers["26-layer CNN", name]
        printed = float(line["value"])
        claim = Claim(
            _SIZE.format(line["raw"], name),
            f"{name} of the classifier, as Keras counts them",
            Range(printed - 1, printed + 1),
            published=line["value"],
        )
        if known:
            claims.append(replace(claim, estimate=_exactly(count, 1)))
        else:
            claims.append(replace(claim, lacking="no cost was measured, which counts them"))
    return claims


def _in_percent(share: Estimate) -> Estimate:
    return Estimate(100 * share.value, 100 * share.low, 100 * share.high, share.n)


def _exactly(value: float, n: int) -> Estimate:
    """What was counted, not estimated."""
    return Estimate(value, value, value, n)


def _told(value: float) -> str:
    return f"{value:.3g}"
