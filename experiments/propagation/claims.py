"""What "propagation" says in words, computed from our results and from its own tables.

What is compared is so on the same images, which are drawn together. Over several sets it is the
mean over them. A published value follows from printed numbers as ours does.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from advdenoise.graph.threats import CLEAN
from advdenoise.io.published import Published
from advdenoise.reporting import labels
from advdenoise.reporting.claims import Claim, Claims, Range
from advdenoise.reporting.read import Results

from . import layer_claims
from . import results as known
from .labels import LABELS
from .results import FN, NONE, SETS, UN, Curves, Means, Places

RESNET, DENSENET, EARLY = "ResNet V2-50", "DenseNet-201", "Inception-ResNet V2"
PUBLISHED = Published(Path(__file__).parent / "published")
CONV, PRELU, RELU = (LABELS.heads[head] for head in ("conv", "prelu", "relu"))
# What "disappeared" leaves at most of the layer before, and what "no big difference" may change.
_VANISHED, _LITTLE, _POINTS = 0.1, Range(0.5, 2), Range(-5, 5)
# What "explosively" multiplies by at least, and a rank correlation that is an exact dependency.
_EXPLOSION, _EXACT = 2, -0.9
_VALIDATION = "test"

_JUMPS = "NE-D explosively increases in the last fully connected layer."
_VANISHES = "COS-D disappears at the last layer."
_EXCEPT = "In ResNet V2-50 COS-D is not decreased when passing through the last layer."
_MIDDLE = "Denoisers reduce COS-D in the middle layers."
_FALLS = "In ResNet V2-50 noise is reduced by 20 to 30 % for the v2 sets."
_GAINS = "Accuracy is most improved when a denoiser is combined with ResNet V2-50."
_SAME = "With the last layer replaced by a convolution there is no big difference."
_LOWER = "With PReLU after the last layer NE-D is decreased."
_HIGHER = "With PReLU after the last layer COS-D is increased."
_UNMOVED = "PReLU after the last layer little affects the performance."
_NO_TRAINING = "With a plain ReLU after the last layer the network does not learn the training set."
_NO_ORDER = "There is no exact dependency between the amount of noise and accuracy."

# Data set and split.
Where = tuple[str, str]


class Judged(NamedTuple):
    """Means of a network's predictions, by set and setting: accuracy in % and noise."""

    right: Means
    noise: Means


def claims(distances: Results, predictions: Results) -> Claims:
    """The paper's own claims, each judged by what was measured here.

    A claim that the results cannot decide says why.
    """
    observed: dict[Where, dict[str, Curves]] = {}
    for (dataset, split, network), curves in known.curves(distances).items():
        observed.setdefault((dataset, split), {})[network] = curves
    judged = _judged(predictions)
    found = Claims()
    for (dataset, split), curves in observed.items():
        found += _told(dataset, split, _of_distances(curves))
        found += _told(dataset, split, layer_claims.claims(curves))
    for (dataset, split), networks in judged.items():
        found += _told(dataset, split, _of_accuracies(networks, _printed(dataset, split)))
    for (dataset, split), networks in _clean(predictions).items():
        found += _told(dataset, split, _of_training(networks))
    met = {claim.sentence for claim in found}
    found += [claim for claim in _absent() if claim.sentence not in met]
    found.notes = (
        "Distances are means over images and, where no set is named, over all sets. A jump by the "
        "root of n stands beside that by n: what is smaller there is the normaliser's.",
        f"COS-D counts as vanished below {_VANISHED:g} of that of the layer before. No big "
        f"difference: a factor {_LITTLE}, an accuracy that moves by {_POINTS} percentage points.",
        f"Explosively means by a factor of {_EXPLOSION} at least.",
        f"An exact dependency is a rank correlation (Spearman) of {_EXACT} or less between noise "
        "and accuracy over all sets, denoised or not.",
        *layer_claims.NOTES,
    )
    return found


def _told(dataset: str, split: str, claims: Iterable[Claim]) -> Iterator[Claim]:
    for claim in claims:
        yield replace(claim, quantity=f"{dataset}, {split}: {claim.quantity}")


# ---------------------------------------------------------------- distances


def _of_distances(networks: dict[str, Curves]) -> Iterator[Claim]:
    for network, curves in networks.items():
        for setting in curves.settings:
            yield from _at_the_end(network, curves, setting)
        for setting in curves.settings:
            if setting != NONE and NONE in curves.settings:
                yield from _denoised(network, curves, setting)
    for network, sentences in (
        (CONV, ((_SAME, "ne_d", _LITTLE), (_SAME, "cos_d", _LITTLE))),
        (PRELU, ((_LOWER, "ne_d", Range(most=1)), (_HIGHER, "cos_d", Range(1)))),
    ):
        if {network, DENSENET} <= networks.keys():
            yield from _modified(network, networks, sentences)


def _at_the_end(network: str, curves: Curves, setting: str) -> Iterator[Claim]:
    for measure in ("ne_d", "ne_d_sqrt"):
        quantity = f"{known.MEASURES[measure]} of {network} {setting}, last layer / largest before"
        largest = known.jump(curves, measure, setting, _largest)
        yield Claim(_JUMPS, quantity, Range(_EXPLOSION), curves.means.estimate(largest))
    sentence, claimed = (_EXCEPT, Range(1)) if network == RESNET else (_VANISHES, _BELOW)
    quantity = f"COS-D of {network} {setting}, last layer / the layer before"
    change = known.jump(curves, "cos_d", setting, known.EARLIER["the layer before"])
    if network != PRELU:  # of which the paper says the opposite
        yield Claim(sentence, quantity, claimed, curves.means.estimate(change))


_BELOW = Range(most=_VANISHED)


def _largest(values: np.ndarray) -> np.ndarray:
    return values.max(axis=0)


def _denoised(network: str, curves: Curves, setting: str) -> Iterator[Claim]:
    """What a denoiser does to COS-D in the middle and to NE-D at the end."""
    if len(curves.layers) > 2:
        after, before = (curves.earlier("cos_d", s)[1:].mean(axis=0) for s in (setting, NONE))
        quantity = f"COS-D of {network}, middle layers, {setting} / {NONE}"
        yield Claim(_MIDDLE, quantity, Range(most=1), curves.means.estimate(_ratio(after, before)))
    if network == RESNET:
        for name in layer_claims.STRONG:
            if name in curves.sets:
                after, before = (
                    curves.at("ne_d", curves.last, s, (name,)) for s in (setting, NONE)
                )
                fall = curves.means.estimate(100 * (1 - _ratio(after, before)))
                quantity = f"fall in % of NE-D of {network}, last layer, {name}, {setting}"
                yield Claim(_FALLS, quantity, Range(20, 30), fall, published="20 to 30")


def _modified(network: str, networks: dict[str, Curves], sentences) -> Iterator[Claim]:
    """The last layer of a modified network beside that of the one that it was made of."""
    own, plain = networks[network], networks[DENSENET]
    for setting in own.settings:
        for sentence, measure, claimed in sentences:
            quantity = (
                f"{known.MEASURES[measure]} at the last layer {setting}, {network} / {DENSENET}"
            )
            claim = Claim(sentence, quantity, claimed)
            if setting not in plain.settings or own.sets != plain.sets:
                yield replace(claim, lacking="the two did not meet the same sets")
            elif own.means.ids != plain.means.ids:
                yield replace(claim, lacking="the images are not the same")
            else:
                ends = (c.at(measure, c.last, setting) for c in (own, plain))
                yield replace(claim, estimate=own.means.estimate(_ratio(*ends)))


def _ratio(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return first / second


# ---------------------------------------------------------------- accuracies


def _judged(predictions: Results) -> dict[Where, dict[str, Judged]]:
    frame = Places(predictions).labelled()
    frame = frame[frame["set"].isin(SETS)]
    right = 100.0 * (frame["prediction"] == frame["label"])
    noise = frame["mse_after"].where(frame["setting"] != NONE, frame["mse_before"])
    frame = frame.assign(right=right, noise=known.PIXELS * noise.astype(float))
    found: dict[Where, dict[str, Judged]] = {}
    for (dataset, split, network), rows in frame.groupby(
        ["dataset", "split", "network"], sort=False
    ):
        made = (known.means(rows, ["set", "setting"], value) for value in ("right", "noise"))
        found.setdefault((dataset, split), {})[network] = Judged(*made)
    return found


def _of_accuracies(networks: dict[str, Judged], printed: dict[str, Judged]) -> Iterator[Claim]:
    for setting in (FN, UN):
        yield from _most_improved(networks, printed, setting)
    for network, sentence in ((CONV, _SAME), (PRELU, _UNMOVED)):
        for setting in (NONE, FN, UN):
            quantity = f"accuracy of {network} - {DENSENET} in points, {setting}"
            values = [_difference(n, network, DENSENET, setting) for n in (networks, printed)]
            yield from _against(sentence, quantity, _POINTS, networks, (network, DENSENET), values)
    for network, judged in networks.items():
        quantity = f"rank correlation of noise and accuracy of {network}"
        theirs = _correlation(printed[network]) if network in printed else None
        ours = _correlation(judged)
        if ours is not None:
            estimate = judged.right.estimate(np.round(ours, 12))
            yield Claim(_NO_ORDER, quantity, Range(_EXACT), estimate, _shown(theirs))


def _clean(predictions: Results) -> dict[Where, dict[str, Means]]:
    """Clean accuracy in % without a denoiser of each network, by data set and split."""
    frame = Places(predictions).labelled()
    frame = frame[(frame["set"] == CLEAN) & (frame["setting"] == NONE)]
    frame = frame.assign(right=100.0 * (frame["prediction"] == frame["label"]))
    found: dict[Where, dict[str, Means]] = {}
    for (dataset, split, network), rows in frame.groupby(
        ["dataset", "split", "network"], sort=False
    ):
        rows = rows.drop_duplicates(["seed", "id"])
        found.setdefault((dataset, split), {})[network] = known.means(rows, ["set"], "right")
    return found


def _of_training(networks: dict[str, Means]) -> Iterator[Claim]:
    """Whether the network with ReLU after its last layer has learnt what it was trained on."""
    if not {RELU, DENSENET} <= networks.keys():
        return
    claim = Claim(_NO_TRAINING, _TRAINED, _UNLEARNT)
    own, plain = networks[RELU], networks[DENSENET]
    if own.ids != plain.ids:
        yield replace(claim, lacking="the images are not the same")
    else:
        (ours,), (others,) = own.values.values(), plain.values.values()
        yield replace(claim, estimate=own.estimate(np.round(ours - others, 10)))


_TRAINED = f"clean accuracy of {RELU} - {DENSENET} in points"
_UNLEARNT = Range(most=_POINTS.least)


def _most_improved(
    networks: dict[str, Judged], printed: dict[str, Judged], setting: str
) -> Iterator[Claim]:
    """The gain of ResNet V2-50 less that of the network that gains most of the others."""
    gains = {name: _gain(judged, setting) for name, judged in networks.items()}
    others = {
        name: gain
        for name, gain in gains.items()
        if gain is not None and name not in (RESNET, CONV, PRELU, RELU)
    }
    if gains.get(RESNET) is None or not others:
        return
    rival = max(others, key=lambda name: others[name][0])
    theirs = [_gain(printed[name], setting) for name in (RESNET, rival) if name in printed]
    values = [gains[RESNET] - others[rival], theirs[0] - theirs[1] if len(theirs) == 2 else None]
    quantity = f"gain in points of {RESNET} - {rival}, {setting}"
    yield from _against(_GAINS, quantity, Range(0), networks, (RESNET, rival), values)


def _against(
    sentence: str,
    quantity: str,
    claimed: Range,
    networks: dict[str, Judged],
    pair: tuple[str, str],
    values: list[np.ndarray | None],
) -> Iterator[Claim]:
    """A claim about two networks on the same images: our value and the published one."""
    ours, theirs = values
    if ours is None:
        return
    claim = Claim(sentence, quantity, claimed, published=_shown(theirs))
    first, second = (networks[name].right for name in pair)
    if first.ids != second.ids:
        yield replace(claim, lacking="the images are not the same")
    else:
        # Means of means are no round numbers: nothing is to lie beside a bound by rounding.
        yield replace(claim, estimate=first.estimate(np.round(ours, 10)))


def _mean(judged: Judged | None, setting: str) -> np.ndarray | None:
    """The mean accuracy over all sets, None where one was not met."""
    keys = [(name, setting) for name in SETS]
    if judged is None or not all(key in judged.right.values for key in keys):
        return None
    return judged.right.over(keys)


def _gain(judged: Judged, setting: str) -> np.ndarray | None:
    after, before = _mean(judged, setting), _mean(judged, NONE)
    return None if after is None or before is None else after - before


def _difference(
    networks: dict[str, Judged], first: str, second: str, setting: str
) -> np.ndarray | None:
    one, other = (_mean(networks.get(name), setting) for name in (first, second))
    return None if one is None or other is None else one - other


def _correlation(judged: Judged) -> np.ndarray | None:
    """Spearman's rank correlation of noise and accuracy over sets and settings.

    NaN where one of them is.
    """
    import pandas as pd

    keys = [key for key in judged.right.values if key in judged.noise.values]
    if len(keys) < 3:
        return None
    values = np.array([[side.values[key] for key in keys] for side in judged])
    first, second = (pd.DataFrame(side).rank() for side in values)
    # pandas would leave out what is NaN.
    return np.where(np.isnan(values).any(axis=(0, 1)), np.nan, first.corrwith(second).to_numpy())


# ---------------------------------------------------------------- what is printed


def _printed(dataset: str, split: str) -> dict[str, Judged]:
    """The tables' accuracies and noise: Table 1 for validation images, else 4, 5 and 7."""
    if labels.DATASETS.get(dataset) != "TinyImageNet":
        return {}
    found: dict[str, Judged] = {}
    if split == _VALIDATION:
        right, noise = {}, {}
        for line in PUBLISHED.lines("table1"):
            if line["row"] in SETS:
                setting = FN if "DN(" in line["column"] else NONE
                side = noise if line["column"].startswith("MSE") else right
                side[line["row"], setting] = _number(line)
        return {EARLY: Judged(Means(right, ()), Means(noise, ()))}
    settings = {"Primary": NONE, "FusionNet": FN, "U-Net": UN}
    noise = {
        (line["row"], settings[line["column"]]): _number(line) for line in PUBLISHED.lines("table4")
    }
    for line in [*PUBLISHED.lines("table5"), *PUBLISHED.lines("table7")]:
        network, _, setting = line["column"].partition(" w/")
        judged = found.setdefault(network, Judged(Means({}, ()), Means(noise, ())))
        judged.right.values[line["row"], f"w/{setting}"] = _number(line)
    return found


def _number(line: dict) -> np.ndarray:
    return np.array([float(line["value"])])


def _shown(value: np.ndarray | None) -> str:
    return "" if value is None else f"{value[0]:.3f}"


def _absent() -> Iterator[Claim]:
    """Every sentence once, for those that no results speak of."""
    layers, accuracies = "no distances at several layers", "no accuracies on all sets"
    for sentence, quantity, claimed, lacking in (
        (_JUMPS, "NE-D, last layer / largest before", Range(_EXPLOSION), layers),
        (_VANISHES, "COS-D, last layer / the layer before", _BELOW, layers),
        (_EXCEPT, f"COS-D of {RESNET}, last layer / the layer before", Range(1), RESNET),
        (_MIDDLE, "COS-D, middle layers, denoised / not", Range(most=1), "a denoiser"),
        (_FALLS, f"fall in % of NE-D of {RESNET}, last layer", Range(20, 30), RESNET),
        (_GAINS, f"gain in points of {RESNET} - another", Range(0), accuracies),
        (_SAME, f"{CONV} beside {DENSENET}", _LITTLE, CONV),
        (_LOWER, f"NE-D at the last layer, {PRELU} / {DENSENET}", Range(most=1), PRELU),
        (_HIGHER, f"COS-D at the last layer, {PRELU} / {DENSENET}", Range(1), PRELU),
        (_UNMOVED, f"accuracy of {PRELU} - {DENSENET} in points", _POINTS, PRELU),
        (_NO_TRAINING, _TRAINED, _UNLEARNT, RELU),
        (_NO_ORDER, "rank correlation of noise and accuracy", Range(_EXACT), accuracies),
        *layer_claims.sentences(layers),
    ):
        reason = lacking if lacking.startswith("no ") else f"{lacking} was not met"
        yield Claim(sentence, quantity, claimed, lacking=reason)
