"""Which attack and which defence of "APuDAE" a result belongs to."""

from pathlib import Path

from advdenoise.graph import components
from advdenoise.graph.threats import CLEAN, parse
from advdenoise.io.published import Published
from advdenoise.reporting import labels
from advdenoise.reporting.points import value_text, with_defaults
from advdenoise.reporting.read import Results

from .labels import LABELS

PUBLISHED = Published(Path(__file__).parent / "published")
RANDOM, BIM, CW, UNBOUNDED = "random", "BIM", "CW", "C&W, unbounded L2"
FIRST, SECOND = "BIM first setting", "BIM second setting"
COUNTER_A, COUNTER_B = "counter attack A", "counter attack B"
NONE, ROBUST, DIRECT = "No Defense", "Adversarial Training", "APuDAE (Direct)"
MAGNET, GAN = "MagNet", "Defense-GAN"
BEST = "APuDAE (Best)"
A, NOISY, TURNED = "A", "A with noise", "A transformed"
_VARIANTS = {f"apudae.{letter}": letter.upper() for letter in "abcdefg"}
_VARIANTS |= {"apudae.a_with_noise": NOISY, "apudae.a_transformed": TURNED}
# PGD stands for BIM where the paper has no random start, and for itself in its text; the paper's CW
# stays inside the ball.
_ATTACKS = {"PGD": BIM, "C&W": UNBOUNDED}
_SETTINGS = (FIRST, SECOND)


class Places:
    """Names the attack and the defence of each group of results.

    Of several attacks of one method the first has its name, and the others stand under their own,
    as does what no printed name fits. An entry with two points of BIM has both settings of Table 4,
    in the order of their steps.
    """

    def __init__(self, predictions: Results):
        self._predictions = predictions
        self._holders = labels.Holders()

    def attack(self, about: dict) -> str:
        """The attack's printed name; of one who knows the purifier its own, or a counter attack."""
        threat, point = parse(about["threat"]), about["attack_point"]
        if threat.is_clean:
            return CLEAN
        own = labels.threat(about["threat"], point, about["classifier"])
        if threat.victim != about["classifier"]:
            return own
        entry = self._predictions.attack(threat.attack)
        if threat.purifier is not None:
            return counter_attack(entry, point) or own
        method = LABELS.attack(entry, point, threat.attack)
        printed = _ATTACKS.get(method, method)
        if printed == BIM:
            same = sorted(_of_one_method(entry, point), key=lambda name: _steps(entry, name))
            if len(same) == len(_SETTINGS):
                printed = _SETTINGS[same.index(point)]
        return self._holders.name(printed, own, (threat.attack, point), about["dataset"])

    def defence(self, about: dict) -> str:
        """The kind of a defence, a variant's by its letter; its own name where it has no kind.

        Of several robust classifiers of a data set the first is the paper's.
        """
        own = self.own(about)
        function = self.point(about)["function"]
        classifier = self._predictions.entry("classifier", about["classifier"])
        robust = labels.training_function(classifier).startswith("adversarial.")
        if function == "basic.none":
            if not robust:
                return NONE
            named = f"{ROBUST}, {about['classifier']}"
            return self._holders.name(ROBUST, named, about["classifier"], about["dataset"])
        if robust:
            return f"{own}, {about['classifier']}"
        if function == "basic.direct":
            return MAGNET if self._is_magnet(about) else DIRECT
        return _VARIANTS.get(function, GAN if function == "gan.defense_gan" else own)

    def own(self, about: dict) -> str:
        """A purifier's point by the names of the configuration."""
        return labels.with_point(about["purifier"], about["purifier_point"])

    def point(self, about: dict) -> dict:
        """Function and settings of a purifier's point, defaults included.

        A chosen setting of which replicates or data sets have several values is a text of them all.
        """
        points = self._predictions.entry("purifier", about["purifier"])["points"]
        point = with_defaults("purifiers", points[about["purifier_point"]])
        several: dict[str, set] = {}
        for (_, *place, setting), values in self._predictions.chosen.items():
            if place == [about["purifier"], about["purifier_point"]]:
                several.setdefault(setting, set()).update(values.values())
        texts = {
            n: " or ".join(map(value_text, sorted(v))) for n, v in several.items() if len(v) > 1
        }
        return {**point, "settings": point["settings"] | texts}

    def attack_point(self, about: dict) -> dict:
        """The same of an attack's point."""
        entry = self._predictions.attack(about["threat"])
        return with_defaults("attacks", entry["points"][about["attack_point"]])

    def is_plain(self, about: dict) -> bool:
        """Whether the attacker knows the classifier alone."""
        return parse(about["threat"]).purifier is None

    def is_variant(self, about: dict) -> bool:
        """Whether a purifier is one of the paper's own, the denoiser alone not counted."""
        return self.point(about)["function"] in _VARIANTS

    def denoiser(self, about: dict) -> str | None:
        """The name of a purifier's denoiser, None where it has none."""
        return self._predictions.entry("purifier", about["purifier"]).get("denoiser")

    def knows(self, about: dict) -> bool:
        """Whether the attacker knows the very purifier that is judged."""
        return parse(about["threat"]).purifier == about["purifier"]

    def _is_magnet(self, about: dict) -> bool:
        name = self._predictions.entry("purifier", about["purifier"])["denoiser"]
        return self._predictions.entry("denoiser", name)["function"] == "autoencoders.magnet"


def chosen(predictions: Results) -> list[str]:
    """A sentence for each value that was chosen on held-out images, with the points that have it.

    Of several replicates the values stand in the order of the seeds.
    """
    points: dict[tuple, list[str]] = {}
    for (dataset, purifier, point, setting), values in predictions.chosen.items():
        told = ", ".join(value_text(values[seed]) for seed in sorted(values))
        name = labels.with_point(purifier, point)
        points.setdefault((dataset, setting, told), []).append(name)
    return [
        f"{setting} = {told} on {dataset}, chosen on held-out images: {', '.join(own)}."
        for (dataset, setting, told), own in points.items()
    ]


def defence(function: str) -> str:
    """The printed name of what a purifier's function is; empty where the paper has none."""
    if function == "basic.direct":
        return DIRECT
    variant = _VARIANTS.get(function, "")
    return f"APuDAE({variant})" if len(variant) == 1 else variant


def counter_attack(entry: dict, point: str) -> str | None:
    """The paper's counter attack that an attack's entry is, behind a known purifier.

    A has the denoiser in the purifier's place (equation 14), B lowers the reconstruction error
    beside the attack on the classifier (equation 15).
    """
    if entry.get("through") == "denoiser":
        return COUNTER_A
    function = entry["points"][point]["function"]
    handed = components.signature("attacks", f"attacks.{entry['name']}", function).injected
    return COUNTER_B if "error" in handed else None


def _of_one_method(entry: dict, point: str) -> list[str]:
    function = entry["points"][point]["function"]
    return [name for name, other in entry["points"].items() if other["function"] == function]


def _steps(entry: dict, point: str) -> float:
    steps = entry["points"][point]["settings"].get("steps", 0)
    return steps if isinstance(steps, int | float) else 0
