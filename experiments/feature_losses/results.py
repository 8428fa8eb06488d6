"""Which attack and which defence of "Feature losses" a result belongs to."""

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


class Place(NamedTuple):
    """Attack and defence as printed, and whether the attacker knows the defence's purifier."""

    attack: str
    defence: str
    adaptive: bool = False


def _other_name(entry: dict, point: str, printed: str) -> str:
    """The name of an attack whose printed one another entry has: what may set the two apart."""
    settled = entry["points"][point]
    own = []
    if settled["function"] == "gradient.pgd":
        own.append("random start")
    if steps := settled["settings"].get("steps"):
        own.append(f"{steps} iterations")
    if entry.get("labels", TRUE_LABELS) == TRUE_LABELS:
        own.append("true labels")
    return ", ".join([printed, *own]) if own else labels.with_point(entry["name"], point)


class Defences:
    """Gives each result its place.

    The paper trains one autoencoder for each attack with feature losses: its row "OURS" is the
    purifier whose denoiser was trained so on that very threat and nothing else; under others, and
    on clean images, it stands as "OURS (FGSM)" or "OURS (PGD)". Of several entries that a printed
    name fits, the first has it; other attacks are told apart by start, iterations and labels, and
    other defences stand under their own names, as does whatever no printed name fits: other
    losses, several threats, other purifiers.
    """

    def __init__(self, predictions: Results):
        self._predictions = predictions
        self._met = {*predictions.frame["threat"]}
        self._holders = labels.Holders()

    def place(self, about: dict) -> Place:
        """The place of the names of a group of rows."""
        threat = parse(about["threat"])
        adaptive = threat.purifier == about["purifier"]
        oblivious = threat._replace(purifier=None) if adaptive else threat
        attack = self._attack(threat, about["attack_point"], about["classifier"], adaptive)
        return Place(attack, self._defence(about, oblivious), adaptive)

    def is_plain_classifier(self, about: dict) -> bool:
        """Whether there is no purifier: who attacks the classifier knows the whole defence."""
        return self._function(about) == "basic.none"

    def autoencoder(self, about: dict) -> str | None:
        """What a purifier's autoencoder is and was trained on; None where it has none."""
        denoiser = self._denoiser(about)
        if denoiser is None:
            return None
        parts = [denoiser["function"], denoiser.get("settings", {}), denoiser.get("trained_on")]
        return json.dumps(parts, sort_keys=True)

    def compares_pixels(self, about: dict) -> bool:
        """Whether a purifier's autoencoder was trained on the plain mean squared error."""
        denoiser = self._denoiser(about)
        return denoiser is not None and labels.training_function(denoiser) == _PLAIN

    def network(self, about: dict) -> str:
        """The network that the denoiser was trained to please, empty where there is none."""
        denoiser = self._denoiser(about)
        name = denoiser.get("training", {}).get("network") if denoiser else None
        return self._told(name, about["dataset"]) if name else ""

    def notes(self) -> list[str]:
        """One sentence for every network that denoisers were trained to please."""
        told: dict[tuple[str, str], dict[str, None]] = {}
        names = ["dataset", "classifier", "threat", "attack_point", "purifier", "purifier_point"]
        for values in self._predictions.frame[names].drop_duplicates().itertuples(index=False):
            about = dict(zip(names, values, strict=True))
            if network := self.network(about):
                function = labels.training_function(self._denoiser(about))
                told.setdefault((function, network), {})[self.place(about).defence] = None
        return [
            _SENTENCES.get(function, "{} looks at {}.").format(", ".join(defences), network)
            for (function, network), defences in told.items()
        ]

    def _told(self, name: str, dataset: str) -> str:
        """A network with its settings and where its weights come from."""
        entry = self._predictions.entry("network", name)
        settings = entry.get("settings", {})
        shown = {key: value for key, value in settings.items() if key not in _WEIGHTS}
        parts = [entry["function"], *(f"{key} = {value}" for key, value in shown.items())]
        given = ["with ImageNet weights"] if any(map(settings.get, _WEIGHTS)) else []
        given += ["with weights of its own"] if "weights" in entry else []
        here = [f"trained on {dataset}"] if entry.get("training", {}).get("epochs") else []
        origin = " and ".join(given + here) or "untrained"
        return f"{name} ({', '.join(parts)}), {origin}"

    def _attack(self, threat: Threat, point: str, classifier: str, adaptive: bool) -> str:
        if threat.is_clean:
            return CLEAN
        known = threat.purifier is None or adaptive
        if threat.victim != classifier or not known:
            return labels.with_point(str(threat), point)
        entry = self._predictions.attack(threat.attack)
        own = labels.with_point(threat.attack, point)
        if isinstance(entry.get("labels"), dict) or entry.get("labels") == "random_target":
            return own
        method = LABELS.attack(entry, point, threat.attack)
        printed = _ATTACKS.get(method, method)
        return self._holders.name(printed, _other_name(entry, point, printed), own, adaptive)

    def _defence(self, about: dict, threat: Threat) -> str:
        own = labels.with_point(about["purifier"], about["purifier_point"])
        classifier = self._predictions.entry("classifier", about["classifier"])
        robust = labels.training_function(classifier).startswith("adversarial.")
        if self.is_plain_classifier(about):
            return self._holders.name(
                MADRY if robust else UNSECURED, about["classifier"], about["classifier"]
            )
        if robust:
            return f"{own}, {about['classifier']}"
        denoiser = self._denoiser(about)
        if denoiser is None or self._function(about) != "basic.direct":
            return own
        if labels.training_function(denoiser) == _LOGITS:
            return self._holders.name(HGD, own, own)
        if labels.training_function(denoiser) == _FEATURES:
            return self._ours(denoiser, threat, about["classifier"], own)
        return own

    def _ours(self, denoiser: dict, threat: Threat, classifier: str, own: str) -> str:
        learnt = [source.get("threat", "") for source in denoiser["trained_on"]]
        if len(learnt) > 1 or learnt[0] not in self._met - {CLEAN}:
            return own
        (name,) = learnt
        if self._holders.name(OURS, own, own, name) != OURS:
            return own
        if str(threat) == name:
            return OURS
        known = parse(name)
        (point, *others) = self._predictions.attack(known.attack)["points"]
        printed = self._attack(known, point, classifier, False) if not others else known.attack
        return f"{OURS} ({printed})"

    def _function(self, about: dict) -> str:
        points = self._predictions.entry("purifier", about["purifier"])["points"]
        return points[about["purifier_point"]]["function"]

    def _denoiser(self, about: dict) -> dict | None:
        name = self._predictions.entry("purifier", about["purifier"]).get("denoiser")
        return self._predictions.entry("denoiser", name) if name else None
