"""The attack and the defence of "Feature losses" that a result belongs to."""

import json
from typing import NamedTuple

from advdenoise.graph.threats import CLEAN, Threat, parse
from advdenoise.reporting import labels
from advdenoise.reporting.read import Results

from .labels import LABELS

UNSECURED, MADRY, HGD, OURS = "UNSECURED", "MADRY (2017)", "HGD (2018)", "OURS"
# The paper's PGD starts at the image itself, so that its method may be BIM.
_ATTACKS = {"BIM": "PGD"}
_FEATURES, _LOGITS, _PLAIN = "features.reconstruct", "logits.guided", "plain.reconstruct"
_SENTENCES = {_FEATURES: "The loss network of {} is {}.", _LOGITS: "The guide of {} is {}."}
TRUE_LABELS = "ground_truth"
# Settings of a network that say that it starts from given weights.
_WEIGHTS = ("pretrained", "weights")


class Case(NamedTuple):
    """Attack and defence as printed, and whether the attack is adaptive to the purifier."""

    attack: str
    defence: str
    adaptive: bool = False


def _other_name(entry: dict, point: str, printed: str) -> str:
    """The name of an attack whose printed name another entry has: how the two may differ."""
    function, settings = (entry["points"][point][key] for key in ("function", "settings"))
    own = []
    if function == "gradient.pgd":
        own.append("random start")
    if steps := settings.get("steps"):
        own.append(f"{steps} iterations")
    if entry.get("labels", TRUE_LABELS) == TRUE_LABELS:
        own.append("true labels")
    return ", ".join([printed, *own]) if own else labels.with_point(entry["name"], point)


class LabelAssignment(labels.LabelAssignment):
    """Labels the attack and the defence of each group of results.

    The paper trains one autoencoder for each attack with feature losses: its row "OURS" is the
    purifier whose denoiser was trained on that threat alone; under other threats and on clean
    images it is "OURS (FGSM)" or "OURS (PGD)". Of several entries that a printed name fits, the
    first has it; other attacks are named with start, iterations and labels, and other defences have
    their own names, as has what no printed name fits: other losses, several threats, other
    purifiers.
    """

    def __init__(self, results: Results):
        super().__init__(results)
        self._threats = {*results.frame["threat"]}

    def case(self, about: dict) -> Case:
        """The case of a group of rows."""
        threat = parse(about["threat"])
        adaptive = threat.purifier == about["purifier"]
        oblivious = threat._replace(purifier=None) if adaptive else threat
        attack = self._attack(threat, about["attack_point"], about["classifier"], adaptive)
        return Case(attack, self._defence(about, oblivious), adaptive)

    def is_plain_classifier(self, about: dict) -> bool:
        """Whether there is no purifier, so that an attack on the classifier is adaptive."""
        return self.function(about) == "basic.none"

    def autoencoder(self, about: dict) -> str | None:
        """Function, settings and training inputs of a purifier's autoencoder, None without one."""
        denoiser = self.denoiser_entry(about)
        if denoiser is None:
            return None
        parts = [denoiser["function"], denoiser.get("settings", {}), denoiser.get("trained_on")]
        return json.dumps(parts, sort_keys=True)

    def compares_pixels(self, about: dict) -> bool:
        """Whether a purifier's autoencoder was trained on the plain mean squared error."""
        denoiser = self.denoiser_entry(about)
        return denoiser is not None and labels.training_function(denoiser) == _PLAIN

    def network(self, about: dict) -> str:
        """The network in the loss of a denoiser's training, empty where there is none."""
        denoiser = self.denoiser_entry(about)
        name = denoiser.get("training", {}).get("network") if denoiser else None
        return self._described(name, about["dataset"]) if name else ""

    def notes(self) -> list[str]:
        """A sentence for every network in the loss of denoisers' trainings."""
        by_network: dict[tuple[str, str], dict[str, None]] = {}
        names = ["dataset", "classifier", "threat", "attack_point", "purifier", "purifier_point"]
        for about in self._results.distinct(names):
            if network := self.network(about):
                function = labels.training_function(self.denoiser_entry(about))
                by_network.setdefault((function, network), {})[self.case(about).defence] = None
        return [
            _SENTENCES.get(function, "{} looks at {}.").format(", ".join(defences), network)
            for (function, network), defences in by_network.items()
        ]

    def _described(self, name: str, dataset: str) -> str:
        """A network with its settings and the origin of its weights."""
        entry = self._results.entry("network", name)
        settings = entry.get("settings", {})
        shown = {key: value for key, value in settings.items() if key not in _WEIGHTS}
        parts = [entry["function"], *(f"{key} = {value}" for key, value in shown.items())]
        origins = ["with ImageNet weights"] if any(map(settings.get, _WEIGHTS)) else []
        origins += ["with weights of its own"] if "weights" in entry else []
        origins += [f"trained on {dataset}"] if entry.get("training", {}).get("epochs") else []
        origin = " and ".join(origins) or "untrained"
        return f"{name} ({', '.join(parts)}), {origin}"

    def _attack(self, threat: Threat, point: str, classifier: str, adaptive: bool) -> str:
        if threat.is_clean:
            return CLEAN
        adaptive_to_another = threat.purifier is not None and not adaptive
        if threat.victim != classifier or adaptive_to_another:
            return labels.with_point(str(threat), point)
        entry = self._results.attack(threat.attack)
        own = labels.with_point(threat.attack, point)
        if isinstance(entry.get("labels"), dict) or entry.get("labels") == "random_target":
            return own
        method = LABELS.attack(entry, point)
        printed = _ATTACKS.get(method, method)
        return self.assign(printed, _other_name(entry, point, printed), own, adaptive)

    def _defence(self, about: dict, threat: Threat) -> str:
        own, robust = labels.purifier(about), self.is_robust(about)
        if self.is_plain_classifier(about):
            return self.assign(
                MADRY if robust else UNSECURED, about["classifier"], about["classifier"]
            )
        if robust:
            return f"{own}, {about['classifier']}"
        denoiser = self.denoiser_entry(about)
        if denoiser is None or self.function(about) != "basic.direct":
            return own
        if labels.training_function(denoiser) == _LOGITS:
            return self.assign(HGD, own, own)
        if labels.training_function(denoiser) == _FEATURES:
            return self._ours(denoiser, threat, about["classifier"], own)
        return own

    def _ours(self, denoiser: dict, threat: Threat, classifier: str, own: str) -> str:
        name, *others = (source.get("threat", "") for source in denoiser["trained_on"])
        if others or name not in self._threats - {CLEAN}:
            return own
        if self.assign(OURS, own, own, name) != OURS:
            return own
        if str(threat) == name:
            return OURS
        trained = parse(name)
        (point, *others) = self._results.attack(trained.attack)["points"]
        printed = self._attack(trained, point, classifier, False) if not others else trained.attack
        return f"{OURS} ({printed})"
