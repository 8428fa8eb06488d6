"""What "Segmentation Fault" says of areas under the ROC curve."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from advdenoise import statistics
from advdenoise.reporting.claims import Claim, Range
from advdenoise.reporting.read import Results, iter_groups
from advdenoise.statistics import Scored

from .areas import NotComputable, Source, below_pixels, correlation, easier, gain, slic_gain
from .costs import Cost
from .labels import CW, FGSM, HIDDEN, LABELS, ONE, PIXELS, REPRESENTATIONS, TEN, superpixel_name
from .printed import PUBLISHED, printed_areas, printed_detector_areas, published_text

if TYPE_CHECKING:
    import pandas as pd

XGB, SVC, SEARCHED = "trees.xgboost", "svm.svc", "svm.svc_grid_search"
FOREST = "trees.random_forest"
_SLIGHTLY = 0.05  # for "slightly lower", of which the text gives no bound

_DIMENSIONS = "Increasing the IQR representation dimensionality improves the detection accuracy."
_SEGMENTS = "The more segments are generated, the more accuracy is obtained."
_SLIC = "SLIC obtains better accuracy given an equal average number of segments."
_LOWER = "Accuracy is very similar to that of ML-LOO, even though slightly lower."
_EASIEST = "The best detection accuracies are recorded against the C&W attack."
_SEARCH = "A grid search for C and gamma of the SVC improves FGSM, 4K-D by {}."
_FOREST = "The random forest classifier badly handles the high-dimensional 4K features."
_SVC = "The SVC sometimes badly handles the high-dimensional 4K features."

Quantity = Callable[[Source], np.ndarray]


def claims(detection: Results, frame: "pd.DataFrame", costs: list[Cost]) -> list[Claim]:
    """The claims about detectors under every protocol, with published values under the paper's."""
    segments = {each.setting: each.passes for each in costs}
    claims = []
    for protocol in dict.fromkeys(frame["protocol"]) or ["paper"]:
        rows = frame[frame["protocol"] == protocol]
        ours = _areas(detection, rows, XGB, segments)
        alike = rows[rows["split"] == _widest(rows)]
        together = ours if len(alike) == len(rows) else _areas(detection, alike, XGB, segments)
        printed = printed_areas() if protocol == "paper" else Source({}, {}, 0)
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
    attacks = list(dict.fromkeys([*printed_areas().attacks, *ours.attacks]))
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
        published = published_text(float(function(printed)[0]))
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
        published=published_text(float(line["value"]) / 100) if protocol == "paper" else "",
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
        printed = printed_detector_areas(row) if protocol == "paper" else Source({}, {}, 0)
        whole = _areas(detection, rows, function, {})
        areas = {key: area for key, area in whole.areas.items() if key[1] == PIXELS}
        ours = whole._replace(areas=areas)
        attacks = list(dict.fromkeys([*printed_detector_areas(row).attacks, *ours.attacks]))
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
