"""The claims that "propagation" makes in words, computed from our results and from its own tables.

Networks and settings are compared on the same images, with the same resamples, and over several
sets as means over them. A published value is the same function of printed numbers.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from advdenoise.graph.threats import CLEAN
from advdenoise.io.published import Published
from advdenoise.reporting import labels
from advdenoise.reporting.claims import OTHER_IMAGES, Claim, Claims, Range
from advdenoise.reporting.read import Results, iter_groups
from advdenoise.statistics import ratio

from . import layer_claims, results
from .labels import LABELS
from .results import FN, NONE, SETS, UN, Curves, LabelAssignment, Means

RESNET, DENSENET, EARLY = "ResNet V2-50", "DenseNet-201", "Inception-ResNet V2"
PUBLISHED = Published(Path(__file__).parent / "published")
CONV, PRELU, RELU = (LABELS.heads[head] for head in ("conv", "prelu", "relu"))
# The bounds for "disappeared", relative to the layer before, and for "no big difference".
_VANISHED, _LITTLE, _POINTS = 0.1, Range(0.5, 2), Range(-5, 5)
# The least factor of an "explosive" increase, and the rank correlation of an "exact dependency".
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


class Predicted(NamedTuple):
    """Means of a network's predictions, by set and setting: accuracy in % and noise."""

    accuracy: Means
    noise: Means


def claims(distances: Results, predictions: Results) -> Claims:
    """The paper's own claims, each judged by what was measured here.

    A claim that the results cannot decide says why.
    """
    observed: dict[Where, dict[str, Curves]] = {}
    for (dataset, split, network), curves in results.curves(distances).items():
        observed.setdefault((dataset, split), {})[network] = curves
    claims = Claims()
    for (dataset, split), curves in observed.items():
        claims.add(f"{dataset}, {split}: ", _of_distances(curves))
        claims.add(f"{dataset}, {split}: ", layer_claims.claims(curves))
    for (dataset, split), networks in _accuracies(predictions).items():
        printed = _printed(dataset, split)
        claims.add(f"{dataset}, {split}: ", _of_accuracies(networks, printed))
    for (dataset, split), networks in _clean_accuracies(predictions).items():
        claims.add(f"{dataset}, {split}: ", _of_training(networks))
    claims.add_missing(_without_results())
    claims.notes = (
        "Distances are means over images and, where no set is named, over all sets. A jump by the "
        "root of n stands beside that by n: what is smaller there is the normaliser's.",
        f"COS-D counts as vanished below {_VANISHED:g} of that of the layer before. No big "
        f"difference: a factor {_LITTLE}, an accuracy that moves by {_POINTS} percentage points.",
        f"Explosively means by a factor of {_EXPLOSION} at least.",
        f"An exact dependency is a rank correlation (Spearman) of {_EXACT} or less between noise "
        "and accuracy over all sets, denoised or not.",
        *layer_claims.NOTES,
    )
    return claims


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
        name = results.MEASURES[measure]
        quantity = f"{name} of {network} {setting}, last layer / largest before"
        largest = results.jump(curves, measure, setting, _largest)
        yield Claim(_JUMPS, quantity, Range(_EXPLOSION), curves.means.estimate(largest))
    sentence, claimed = (_EXCEPT, Range(1)) if network == RESNET else (_VANISHES, _BELOW)
    quantity = f"COS-D of {network} {setting}, last layer / the layer before"
    change = results.jump(curves, "cos_d", setting, results.EARLIER["the layer before"])
    if network != PRELU:  # of which the paper claims the opposite
        yield Claim(sentence, quantity, claimed, curves.means.estimate(change))


_BELOW = Range(most=_VANISHED)


def _largest(values: np.ndarray) -> np.ndarray:
    return values.max(axis=0)


def _denoised(network: str, curves: Curves, setting: str) -> Iterator[Claim]:
    """The effect of a denoiser on COS-D in the middle and on NE-D at the end."""
    if len(curves.layers) > 2:
        after, before = (curves.earlier("cos_d", s)[1:].mean(axis=0) for s in (setting, NONE))
        quantity = f"COS-D of {network}, middle layers, {setting} / {NONE}"
        yield Claim(_MIDDLE, quantity, Range(most=1), curves.means.estimate(ratio(after, before)))
    if network == RESNET:
        for name in layer_claims.STRONG:
            if name in curves.sets:
                after, before = (
                    curves.at("ne_d", curves.last, s, (name,)) for s in (setting, NONE)
                )
                fall = curves.means.estimate(100 * (1 - ratio(after, before)))
                quantity = f"fall in % of NE-D of {network}, last layer, {name}, {setting}"
                yield Claim(_FALLS, quantity, Range(20, 30), fall, published="20 to 30")


def _modified(network: str, networks: dict[str, Curves], sentences) -> Iterator[Claim]:
    """The last layer of a modified network compared with that of the original."""
    own, plain = networks[network], networks[DENSENET]
    for setting in own.settings:
        for sentence, measure, claimed in sentences:
            name = results.MEASURES[measure]
            quantity = f"{name} at the last layer {setting}, {network} / {DENSENET}"
            claim = Claim(sentence, quantity, claimed)
            if setting not in plain.settings or own.sets != plain.sets:
                yield replace(claim, reason="the two did not meet the same sets")
            elif own.means.ids != plain.means.ids:
                yield replace(claim, reason=OTHER_IMAGES)
            else:
                ends = (c.at(measure, c.last, setting) for c in (own, plain))
                yield replace(claim, estimate=own.means.estimate(ratio(*ends)))


# ---------------------------------------------------------------- accuracies


def _accuracies(predictions: Results) -> dict[Where, dict[str, Predicted]]:
    frame = LabelAssignment(predictions).labelled()
    frame = frame[frame["set"].isin(SETS)]
    accuracy = 100.0 * (frame["prediction"] == frame["label"])
    noise = frame["mse_after"].where(frame["setting"] != NONE, frame["mse_before"])
    frame = frame.assign(accuracy=accuracy, noise=results.PIXELS * noise.astype(float))
    networks: dict[Where, dict[str, Predicted]] = {}
    for about, rows in iter_groups(frame, ["dataset", "split", "network"]):
        means = (results.means(rows, ["set", "setting"], name) for name in Predicted._fields)
        where = about["dataset"], about["split"]
        networks.setdefault(where, {})[about["network"]] = Predicted(*means)
    return networks


def _of_accuracies(
    networks: dict[str, Predicted], printed: dict[str, Predicted]
) -> Iterator[Claim]:
    for setting in (FN, UN):
        yield from _most_improved(networks, printed, setting)
    for network, sentence in ((CONV, _SAME), (PRELU, _UNMOVED)):
        for setting in (NONE, FN, UN):
            quantity = f"accuracy of {network} - {DENSENET} in points, {setting}"
            values = [_difference(n, network, DENSENET, setting) for n in (networks, printed)]
            yield from _against(sentence, quantity, _POINTS, networks, (network, DENSENET), values)
    for network, predicted in networks.items():
        quantity = f"rank correlation of noise and accuracy of {network}"
        theirs = _correlation(printed[network]) if network in printed else None
        ours = _correlation(predicted)
        if ours is not None:
            estimate = predicted.accuracy.estimate(np.round(ours, 12))
            yield Claim(_NO_ORDER, quantity, Range(_EXACT), estimate, _shown(theirs))


def _clean_accuracies(predictions: Results) -> dict[Where, dict[str, Means]]:
    """Clean accuracy in % without a denoiser of each network, by data set and split."""
    frame = LabelAssignment(predictions).labelled()
    frame = frame[(frame["set"] == CLEAN) & (frame["setting"] == NONE)]
    frame = frame.assign(accuracy=100.0 * (frame["prediction"] == frame["label"]))
    networks: dict[Where, dict[str, Means]] = {}
    for about, rows in iter_groups(frame, ["dataset", "split", "network"]):
        means = results.means(rows.drop_duplicates(["seed", "id"]), ["set"], "accuracy")
        networks.setdefault((about["dataset"], about["split"]), {})[about["network"]] = means
    return networks


def _of_training(networks: dict[str, Means]) -> Iterator[Claim]:
    """Whether the network with ReLU after its last layer fits its training images."""
    if not {RELU, DENSENET} <= networks.keys():
        return
    claim = Claim(_NO_TRAINING, _TRAINED, _UNLEARNT)
    own, plain = networks[RELU], networks[DENSENET]
    if own.ids != plain.ids:
        yield replace(claim, reason=OTHER_IMAGES)
    else:
        (ours,), (others,) = own.values.values(), plain.values.values()
        yield replace(claim, estimate=own.estimate(np.round(ours - others, 10)))


_TRAINED = f"clean accuracy of {RELU} - {DENSENET} in points"
_UNLEARNT = Range(most=_POINTS.least)


def _most_improved(
    networks: dict[str, Predicted], printed: dict[str, Predicted], setting: str
) -> Iterator[Claim]:
    """The gain of ResNet V2-50 less that of the network that gains most of the others."""
    gains = {name: _gain(predicted, setting) for name, predicted in networks.items()}
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
    networks: dict[str, Predicted],
    pair: tuple[str, str],
    values: list[np.ndarray | None],
) -> Iterator[Claim]:
    """A claim about two networks on the same images: our value and the published one."""
    ours, theirs = values
    if ours is None:
        return
    claim = Claim(sentence, quantity, claimed, published=_shown(theirs))
    first, second = (networks[name].accuracy for name in pair)
    if first.ids != second.ids:
        yield replace(claim, reason=OTHER_IMAGES)
    else:
        # Rounded, so that floating point decides no comparison with a bound.
        yield replace(claim, estimate=first.estimate(np.round(ours, 10)))


def _mean(predicted: Predicted | None, setting: str) -> np.ndarray | None:
    """The mean accuracy over all sets, None without results on one of them."""
    keys = [(name, setting) for name in SETS]
    if predicted is None or not all(key in predicted.accuracy.values for key in keys):
        return None
    return predicted.accuracy.over(keys)


def _gain(predicted: Predicted, setting: str) -> np.ndarray | None:
    after, before = _mean(predicted, setting), _mean(predicted, NONE)
    return None if after is None or before is None else after - before


def _difference(
    networks: dict[str, Predicted], first: str, second: str, setting: str
) -> np.ndarray | None:
    one, other = (_mean(networks.get(name), setting) for name in (first, second))
    return None if one is None or other is None else one - other


def _correlation(predicted: Predicted) -> np.ndarray | None:
    """Spearman's rank correlation of noise and accuracy over sets and settings.

    NaN where one of them is.
    """
    import pandas as pd

    keys = [key for key in predicted.accuracy.values if key in predicted.noise.values]
    if len(keys) < 3:
        return None
    values = np.array([[side.values[key] for key in keys] for side in predicted])
    first, second = (pd.DataFrame(side).rank() for side in values)
    # pandas would leave out what is NaN.
    return np.where(np.isnan(values).any(axis=(0, 1)), np.nan, first.corrwith(second).to_numpy())


# ---------------------------------------------------------------- what is printed


def _printed(dataset: str, split: str) -> dict[str, Predicted]:
    """The tables' accuracies and noise: Table 1 for validation images, else 4, 5 and 7."""
    if labels.DATASETS.get(dataset) != "TinyImageNet":
        return {}
    networks: dict[str, Predicted] = {}
    if split == _VALIDATION:
        accuracy, noise = {}, {}
        for line in PUBLISHED.lines("table1"):
            if line["row"] in SETS:
                setting = FN if "DN(" in line["column"] else NONE
                side = noise if line["column"].startswith("MSE") else accuracy
                side[line["row"], setting] = _number(line)
        return {EARLY: Predicted(Means(accuracy, ()), Means(noise, ()))}
    settings = {"Primary": NONE, "FusionNet": FN, "U-Net": UN}
    noise = {
        (line["row"], settings[line["column"]]): _number(line) for line in PUBLISHED.lines("table4")
    }
    for line in [*PUBLISHED.lines("table5"), *PUBLISHED.lines("table7")]:
        network, _, setting = line["column"].partition(" w/")
        empty = Predicted(Means({}, ()), Means(noise, ()))
        accuracy = networks.setdefault(network, empty).accuracy
        accuracy.values[line["row"], f"w/{setting}"] = _number(line)
    return networks


def _number(line: dict) -> np.ndarray:
    return np.array([float(line["value"])])


def _shown(value: np.ndarray | None) -> str:
    return "" if value is None else f"{value[0]:.3f}"


def _without_results() -> Iterator[Claim]:
    """Every sentence once, for those without results."""
    layers, accuracies = "no distances at several layers", "no accuracies on all sets"
    for sentence, quantity, claimed, missing in (
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
        reason = missing if missing.startswith("no ") else f"{missing} was not met"
        yield Claim(sentence, quantity, claimed, reason=reason)
