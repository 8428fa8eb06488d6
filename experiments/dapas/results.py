"""Which attack, budget and noise of "DAPAS" a result belongs to, and the mIoU of each."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from advdenoise.graph.sections.attacks import looks_at_model
from advdenoise.graph.threats import CLEAN, parse
from advdenoise.io.published import Published
from advdenoise.reporting import labels
from advdenoise.reporting.measures import Miou, mious
from advdenoise.reporting.read import Results

from .labels import LABELS, NOISES

PUBLISHED = Published(Path(__file__).parent / "published")
NONE = "no defence"
FGSM, I_FGSM = "FGSM", "I-FGSM"
_METHODS = {"gradient.segpgd": "SegPGD"}  # which the paper does not know
_STEP = 0.25 / 255  # of the paper's I-FGSM

# Data set, split and classifier.
Where = tuple[str, str, str]


class Attack(NamedTuple):
    """An attack's printed name, its budget in [0,1] (NaN without one), and who it knows.

    One who is `adaptive` knows the purifier. A corruption looks at no model.
    """

    method: str
    epsilon: float = math.nan
    adaptive: bool = False
    corrupts: bool = False

    @property
    def budget(self) -> str:
        return f"{self.epsilon:g}"


class Group(NamedTuple):
    """Predictions under one attack behind one purifier, by its noise."""

    attack: Attack
    noise: str
    about: dict
    miou: Miou


class World(NamedTuple):
    """All groups of one data set, split and classifier; `clean` is the one that has nothing."""

    where: Where
    groups: list[Group]
    clean: Group | None

    def kept(self, group: Group) -> Miou | None:
        """The share of the clean mIoU without a purifier that is left, image by image.

        None where that was not judged on the same images.
        """
        base = self.clean
        if base is None or base.miou.ids != group.miou.ids:
            return None
        return ratio(group.miou, base.miou)


def ratio(first: Miou, second: Miou) -> Miou:
    """The ratio of two mIoU, which are drawn together, of all replicates and of each."""
    with np.errstate(divide="ignore", invalid="ignore"):
        values = first.values / second.values
        of_replicates = {
            seed: float(np.divide(value, second.of_replicates[seed]))
            for seed, value in first.of_replicates.items()
        }
    return Miou(values, of_replicates, first.ids)


def worlds(predictions: Results) -> list[World]:
    """The groups of each data set, split and classifier, in the order of the results."""
    places = Places(predictions)
    found: dict[Where, list[Group]] = {}
    for about, miou in mious(predictions):
        where = (about["dataset"], about["split"], about["classifier"])
        group = Group(places.attack(about), places.noise(about), about, miou)
        found.setdefault(where, []).append(group)
    return [World(where, groups, _untouched(groups)) for where, groups in found.items()]


def _untouched(groups: list[Group]) -> Group | None:
    found = (g for g in groups if g.attack.method == CLEAN and g.noise == NONE)
    return next(found, None)


class Places:
    """Names the attack and the denoiser of each group of results.

    A denoiser is known by the noise that it was trained on, the paper's I-FGSM by its rule for the
    number of steps and its step. Of several entries that a printed name fits the first has it; the
    others stand under their own, as does what no printed name fits.
    """

    def __init__(self, results: Results):
        self._results = results
        self._holders = labels.Holders()

    def attack(self, about: dict) -> Attack:
        """The attack of the names of a group."""
        threat, point = parse(about["threat"]), about["attack_point"]
        if threat.is_clean:
            return Attack(CLEAN)
        entry = self._results.attack(threat.attack)
        own = labels.threat(about["threat"], point, about["classifier"])
        if not looks_at_model(entry):
            return Attack(own, corrupts=True)
        epsilon = entry["points"][point]["settings"].get("epsilon", math.nan)
        adaptive = threat.purifier == about["purifier"]
        knows_another = threat.purifier is not None and not adaptive
        if knows_another or threat.victim != about["classifier"]:
            return Attack(about["threat"], epsilon)
        where = (about["dataset"], about["classifier"], about["purifier"], epsilon, adaptive)
        name = self._holders.name(
            method(entry, point), own.rstrip("+"), f"{threat} {point}", *where
        )
        return Attack(name, epsilon, adaptive)

    def noise(self, about: dict) -> str:
        """The noise of a purifier's denoiser, NONE without a purifier, or the purifier's name."""
        own = labels.with_point(about["purifier"], about["purifier_point"])
        entry = self._results.entry("purifier", about["purifier"])
        function = entry["points"][about["purifier_point"]]["function"]
        if function == "basic.none":
            return NONE
        printed = self.trained_on(entry["denoiser"]) if function == "basic.direct" else None
        return self._holders.name(printed, own, own, about["dataset"]) if printed else own

    def trained_on(self, denoiser: str) -> str | None:
        """The printed name of the one noise that a denoiser was trained on; None without one."""
        points = self.noise_points(denoiser)
        return NOISES.get(points[0]["function"]) if len(points) == 1 else None

    def noise_points(self, denoiser: str) -> list[dict]:
        """The points of all noises that a denoiser was trained on."""
        sources = self._results.entry("denoiser", denoiser).get("trained_on", [])
        entries = [self._results.entry("attack", s["noise"]) for s in sources if "noise" in s]
        return [point for entry in entries for point in entry["points"].values()]


def method(entry: dict, point: str) -> str:
    """The printed name of an attack's method, with what it has of its own."""
    settled = entry["points"][point]
    name = _METHODS.get(settled["function"]) or LABELS.attack(entry, point, entry["name"])
    if settled["function"] == "gradient.bim" and settled["settings"].get("steps") == "kurakin":
        name, alpha = I_FGSM, settled["settings"].get("alpha")
        if alpha is None:
            name += f", step {settled['settings']['alpha_per_epsilon']:g} epsilon"
        elif not math.isclose(alpha, _STEP):
            name += f", step {255 * alpha:g}/255"
    source = entry.get("labels", "ground_truth")
    if isinstance(source, dict):
        return f"{name} to {source['target']}"
    return name if source == "ground_truth" else f"{name}, labels {source}"
