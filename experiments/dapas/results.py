"""The attack, budget and noise of "DAPAS" that a result belongs to, and the mIoU of each."""

import math
from typing import NamedTuple

import numpy as np

from advdenoise.graph.sections.attacks import looks_at_model
from advdenoise.graph.threats import CLEAN, parse
from advdenoise.reporting import labels
from advdenoise.reporting.measures import Miou, mious
from advdenoise.reporting.read import Results
from advdenoise.statistics import ratio

from .labels import LABELS, NOISES

NONE = "no defence"
FGSM, I_FGSM = "FGSM", "I-FGSM"
_METHODS = {"gradient.segpgd": "SegPGD"}  # not in the paper
_STEP = 0.25 / 255  # of the paper's I-FGSM

# Data set, split and classifier.
Where = tuple[str, str, str]


class Attack(NamedTuple):
    """An attack's printed name, its budget in [0,1] (NaN without one), and its knowledge.

    It may be `adaptive` to the purifier, or a corruption, which needs no model.
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


class Setting(NamedTuple):
    """All groups of one data set, split and classifier.

    `clean` is the group of clean images without a purifier.
    """

    where: Where
    groups: list[Group]
    clean: Group | None

    def kept(self, group: Group) -> Miou | None:
        """The ratio to the clean mIoU without a purifier, resample by resample.

        None where that is not of the same images.
        """
        base = self.clean
        if base is None or base.miou.ids != group.miou.ids:
            return None
        return miou_ratio(group.miou, base.miou)


def miou_ratio(first: Miou, second: Miou) -> Miou:
    """The ratio of two mIoU of equal ids, of all replicates and of each."""
    of_replicates = {
        seed: float(ratio(np.float64(value), second.of_replicates[seed]))
        for seed, value in first.of_replicates.items()
    }
    return Miou(ratio(first.values, second.values), of_replicates, first.ids)


def group_by_setting(predictions: Results) -> list[Setting]:
    """The groups of each data set, split and classifier, in the order of the results."""
    labeler = LabelAssignment(predictions)
    settings: dict[Where, list[Group]] = {}
    for about, miou in mious(predictions):
        where = (about["dataset"], about["split"], about["classifier"])
        group = Group(labeler.attack(about), labeler.noise(about), about, miou)
        settings.setdefault(where, []).append(group)
    return [Setting(where, groups, _clean_group(groups)) for where, groups in settings.items()]


def _clean_group(groups: list[Group]) -> Group | None:
    return next((g for g in groups if g.attack.method == CLEAN and g.noise == NONE), None)


class LabelAssignment(labels.LabelAssignment):
    """Labels the attack and the denoiser of each group of results.

    A denoiser is identified by the noise that it was trained on, the paper's I-FGSM by its rule for
    the number of steps and its step. Of several entries that a printed name fits the first has it;
    the others have their own, as has what no printed name fits.
    """

    def attack(self, about: dict) -> Attack:
        """The attack of a group."""
        threat, point = parse(about["threat"]), about["attack_point"]
        if threat.is_clean:
            return Attack(CLEAN)
        entry = self._results.attack(threat.attack)
        own = labels.threat(about["threat"], point, about["classifier"])
        if not looks_at_model(entry):
            return Attack(own, corrupts=True)
        epsilon = entry["points"][point]["settings"].get("epsilon", math.nan)
        adaptive = threat.purifier == about["purifier"]
        adaptive_to_another = threat.purifier is not None and not adaptive
        if adaptive_to_another or threat.victim != about["classifier"]:
            return Attack(about["threat"], epsilon)
        where = (about["dataset"], about["classifier"], about["purifier"], epsilon, adaptive)
        printed, own = method(entry, point), own.rstrip("+")
        return Attack(self.assign(printed, own, f"{threat} {point}", *where), epsilon, adaptive)

    def noise(self, about: dict) -> str:
        """The noise of a purifier's denoiser, NONE without a purifier, or the purifier's name."""
        own, function = labels.purifier(about), self.function(about)
        if function == "basic.none":
            return NONE
        denoiser = self.denoiser_entry(about) if function == "basic.direct" else None
        printed = self.trained_on(denoiser["name"]) if denoiser else None
        return self.assign(printed, own, own, about["dataset"]) if printed else own

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
    """The printed name of an attack's method, with the settings that differ from the paper's."""
    function, settings = (entry["points"][point][key] for key in ("function", "settings"))
    name = _METHODS.get(function) or LABELS.attack(entry, point)
    if function == "gradient.bim" and settings.get("steps") == "kurakin":
        name, alpha = I_FGSM, settings.get("alpha")
        if alpha is None:
            name += f", step {settings['alpha_per_epsilon']:g} epsilon"
        elif not math.isclose(alpha, _STEP):
            name += f", step {255 * alpha:g}/255"
    source = entry.get("labels", "ground_truth")
    if isinstance(source, dict):
        return f"{name} to {source['target']}"
    return name if source == "ground_truth" else f"{name}, labels {source}"
