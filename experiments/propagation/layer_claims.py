"""The claims of "propagation" about its curves, Figures 2 and 3, network by network.

Where the text gives no number the bound is defined here and printed in the notes of the table.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from advdenoise.reporting.claims import OTHER_IMAGES, Claim, Range
from advdenoise.statistics import ratio

from . import results
from .results import NONE, SETS, Curves

RESNET, VGG, SENET = "ResNet V2-50", "VGG-19", "SENet-154"
INCEPTION, DENSENET = "Inception-ResNet V2", "DenseNet-201"
FIVE = (RESNET, VGG, SENET, INCEPTION, DENSENET)
# The paper's sets with the larger noise.
STRONG = ("FGSM v2", "i-FGSM v2")
_GRADUAL, _UP_DOWN_UP = (RESNET, VGG, SENET), (INCEPTION, DENSENET)
_VANISHED, _EXPLOSION, _HALF, _LITTLE = 0.1, 2, 40, 10

_GAP = "The sets with the larger perturbation (v2) show a bigger gap of NE-D."
_LARGEST = "VGG-19 shows the largest jump of NE-D after the last layer."
_RISES = "In ResNet V2-50, VGG-19 and SENet-154 COS-D rises gradually before the last layer."
_WAVES = "In Inception-ResNet V2 and DenseNet-201 COS-D goes up, down and up before the last layer."
_KEEPS = "In convolutional layers noise is not amplified in NE-D."
_TURNS = "In convolutional layers noise is amplified in COS-D."
_LOWER = "In ResNet V2-50 NE-D is lower than in the others."
_STAYS = "In SENet-154, Inception-ResNet V2 and DenseNet-201 NE-D is little reduced at the end."
_HALVED = "In ResNet V2-50 denoisers reduce COS-D by about half or more."
_GONE = "In ResNet V2-50 NE-D disappears at the last layer."
_BURSTS = "In ResNet V2-50 COS-D explosively increases in the last layer."

NOTES = (
    "Before the last layer: a fall is COS-D at a layer over the largest before it, the deepest of "
    "all; gradually means that there is none, and up, down and up that it is followed by a rise.",
    f"About half or more: at least {_HALF} %. Little reduced: by less than {_LITTLE} %. NE-D "
    f"counts as vanished below {_VANISHED:g} of that of the layer before.",
)


def claims(networks: dict[str, Curves]) -> Iterator[Claim]:
    """The claims about those of the five networks that have results."""
    five = {name: curves for name, curves in networks.items() if name in FIVE}
    for network, curves in five.items():
        for setting in curves.settings:
            yield from _of_a_network(network, curves, setting)
        if NONE in curves.settings:
            for setting in curves.settings:
                if setting != NONE:
                    yield from _denoised(network, curves, setting)
    yield from _beside_others(VGG, five, _LARGEST, "jump of NE-D", _jump, max)
    yield from _beside_others(RESNET, five, _LOWER, "NE-D at the last layer", _end, min)


def sentences(reason: str) -> Iterator[tuple[str, str, Range, str]]:
    """Every sentence with its quantity and range, for those without results."""
    for sentence, quantity, claimed in (
        (_GAP, "NE-D at the last layer, v2 sets / others", Range(1)),
        (_LARGEST, f"jump of NE-D, {VGG} / another", Range(1)),
        (_RISES, f"deepest fall of COS-D of {RESNET} before the last layer", Range(1)),
        (_WAVES, f"deepest fall of COS-D of {DENSENET} before the last layer", Range(most=1)),
        (_KEEPS, "NE-D, layer before the last / first", Range(most=1)),
        (_TURNS, "COS-D, layer before the last / first", Range(1)),
        (_LOWER, f"NE-D at the last layer, {RESNET} / another", Range(most=1)),
        (_STAYS, "fall in % of NE-D at the last layer", Range(0, _LITTLE)),
        (_HALVED, f"fall in % of COS-D of {RESNET}, last layer", Range(_HALF)),
        (_GONE, f"NE-D of {RESNET}, last layer / the layer before", Range(most=_VANISHED)),
        (_BURSTS, f"COS-D of {RESNET}, last layer / largest before", Range(_EXPLOSION)),
    ):
        yield sentence, quantity, claimed, reason


def _of_a_network(network: str, curves: Curves, setting: str) -> Iterator[Claim]:
    def claim(sentence: str, quantity: str, claimed: Range, values: np.ndarray) -> Claim:
        return Claim(sentence, quantity, claimed, curves.means.estimate(values))

    of = f"of {network} {setting}"
    if set(curves.sets) == set(SETS):
        strong, weak = STRONG, [name for name in curves.sets if name not in STRONG]
        ends = [curves.at("ne_d", curves.last, setting, sets) for sets in (strong, weak)]
        quantity = f"NE-D {of} at the last layer, v2 sets / others"
        yield claim(_GAP, quantity, Range(1), ratio(*ends))
    ne_d, cos_d = (curves.earlier(measure, setting) for measure in ("ne_d", "cos_d"))
    if len(ne_d) > 1:
        way = "layer before the last / first"
        yield claim(_KEEPS, f"NE-D {of}, {way}", Range(most=1), ratio(ne_d[-1], ne_d[0]))
        yield claim(_TURNS, f"COS-D {of}, {way}", Range(1), ratio(cos_d[-1], cos_d[0]))
        fall, rise = _fall_and_rise(cos_d)
        quantity = f"deepest fall of COS-D {of} before the last layer"
        if network in _GRADUAL:
            yield claim(_RISES, quantity, Range(1), fall)
        else:
            yield claim(_WAVES, quantity, Range(most=1), fall)
            yield claim(_WAVES, f"rise of COS-D {of} after its deepest fall", Range(1), rise)
    if network == RESNET:
        end = results.jump(curves, "ne_d", setting, results.EARLIER["the layer before"])
        quantity = f"NE-D {of}, last layer / the layer before"
        yield claim(_GONE, quantity, Range(most=_VANISHED), end)
        burst = results.jump(curves, "cos_d", setting, lambda values: values.max(axis=0))
        quantity = f"COS-D {of}, last layer / largest before"
        yield claim(_BURSTS, quantity, Range(_EXPLOSION), burst)


def _fall_and_rise(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of curves [layers, N] the deepest fall below an earlier layer, and the rise after it: [N].

    The rise is the largest value from there on over that at the fall, 1 where none follows.
    """
    falls = ratio(values[1:], np.maximum.accumulate(values, axis=0)[:-1])
    place = falls.argmin(axis=0)
    after = np.arange(len(falls))[:, None] >= place
    highest = np.where(after, values[1:], -np.inf).max(axis=0)
    columns = np.arange(values.shape[1])
    return falls[place, columns], ratio(highest, values[1:][place, columns])


def _denoised(network: str, curves: Curves, setting: str) -> Iterator[Claim]:
    """The effect of a denoiser at the last layer."""
    measure, sentence, claimed = "ne_d", _STAYS, Range(0, _LITTLE)
    if network == RESNET:
        measure, sentence, claimed = "cos_d", _HALVED, Range(_HALF)
    elif network == VGG:
        return
    after, before = (curves.at(measure, curves.last, name) for name in (setting, NONE))
    quantity = f"fall in % of {results.MEASURES[measure]} of {network}, last layer, {setting}"
    fall = curves.means.estimate(100 * (1 - ratio(after, before)))
    yield Claim(sentence, quantity, claimed, fall)


def _beside_others(
    network: str, networks: dict[str, Curves], sentence: str, what: str, measure, most
) -> Iterator[Claim]:
    """A network compared with the most extreme of the others, on the same images."""
    own = networks.get(network)
    for setting in own.settings if own else ():
        others = {
            name: measure(curves, setting)
            for name, curves in networks.items()
            if name != network and setting in curves.settings and curves.sets == own.sets
        }
        if not others:
            continue
        rival = most(others, key=lambda name: others[name][0])
        claimed = Range(1) if most is max else Range(most=1)
        claim = Claim(sentence, f"{what} {setting}, {network} / {rival}", claimed)
        if networks[rival].means.ids != own.means.ids:
            yield replace(claim, reason=OTHER_IMAGES)
        else:
            values = ratio(measure(own, setting), others[rival])
            yield replace(claim, estimate=own.means.estimate(values))


def _jump(curves: Curves, setting: str) -> np.ndarray:
    return results.jump(curves, "ne_d", setting, results.EARLIER["the layer before"])


def _end(curves: Curves, setting: str) -> np.ndarray:
    return curves.at("ne_d", curves.last, setting)
