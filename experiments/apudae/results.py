"""The attack and the defence of "APuDAE" that a result belongs to."""

from advdenoise.graph import components
from advdenoise.graph.threats import CLEAN, parse
from advdenoise.reporting import labels
from advdenoise.reporting.points import value_text, with_defaults
from advdenoise.reporting.read import Results

from .labels import LABELS

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


class LabelAssignment(labels.LabelAssignment):
    """Labels the attack and the defence of each group of results.

    Of several attacks of one method the first has the printed name; the others have their own, as
    has what no printed name fits. An entry with two points of BIM has both settings of Table 4, in
    the order of their steps.
    """

    def attack(self, about: dict) -> str:
        """The attack's printed name; an adaptive attack is a counter attack or has its own name."""
        threat, point = parse(about["threat"]), about["attack_point"]
        if threat.is_clean:
            return CLEAN
        own = labels.threat(about["threat"], point, about["classifier"])
        if threat.victim != about["classifier"]:
            return own
        entry = self._results.attack(threat.attack)
        if threat.purifier is not None:
            return counter_attack(entry, point) or own
        method = LABELS.attack(entry, point)
        printed = _ATTACKS.get(method, method)
        if printed == BIM:
            same = sorted(_of_one_method(entry, point), key=lambda name: _steps(entry, name))
            if len(same) == len(_SETTINGS):
                printed = _SETTINGS[same.index(point)]
        return self.assign(printed, own, (threat.attack, point), about["dataset"])

    def defence(self, about: dict) -> str:
        """The kind of a defence, a variant's by its letter; its own name where it has no kind.

        Of several robust classifiers of a data set the first is the paper's.
        """
        own, function = labels.purifier(about), self.function(about)
        if function == "basic.none":
            if not self.is_robust(about):
                return NONE
            robust = f"{ROBUST}, {about['classifier']}"
            return self.assign(ROBUST, robust, about["classifier"], about["dataset"])
        if self.is_robust(about):
            return f"{own}, {about['classifier']}"
        if function == "basic.direct":
            is_magnet = self.denoiser_entry(about)["function"] == "autoencoders.magnet"
            return MAGNET if is_magnet else DIRECT
        return _VARIANTS.get(function, GAN if function == "gan.defense_gan" else own)

    def point(self, about: dict) -> dict:
        """Function and settings of a purifier's point, defaults included.

        A chosen setting that differs between replicates or data sets is a text of all its values.
        """
        point = with_defaults("purifiers", self._results.purifier_point(about))
        values: dict[str, set] = {}
        for (_, *names, setting), by_seed in self._results.chosen.items():
            if names == [about["purifier"], about["purifier_point"]]:
                values.setdefault(setting, set()).update(by_seed.values())
        texts = {
            n: " or ".join(map(value_text, sorted(v))) for n, v in values.items() if len(v) > 1
        }
        return {**point, "settings": point["settings"] | texts}

    def attack_point(self, about: dict) -> dict:
        """The same of an attack's point."""
        entry = self._results.attack(about["threat"])
        return with_defaults("attacks", entry["points"][about["attack_point"]])

    def is_variant(self, about: dict) -> bool:
        """Whether a purifier is one of the paper's variants; the denoiser alone is none."""
        return self.function(about) in _VARIANTS

    def denoiser(self, about: dict) -> str | None:
        """The name of a purifier's denoiser, None where it has none."""
        return self._results.entry("purifier", about["purifier"]).get("denoiser")


def is_oblivious(about: dict) -> bool:
    """Whether the attack is on the classifier alone."""
    return parse(about["threat"]).purifier is None


def chosen(predictions: Results) -> list[str]:
    """A sentence for each value that was chosen on held-out images, with its purifiers.

    The values of several replicates are in the order of the seeds.
    """
    purifiers: dict[tuple, list[str]] = {}
    for (dataset, purifier, point, setting), by_seed in predictions.chosen.items():
        values = ", ".join(value_text(by_seed[seed]) for seed in sorted(by_seed))
        name = labels.with_point(purifier, point)
        purifiers.setdefault((dataset, setting, values), []).append(name)
    return [
        f"{setting} = {values} on {dataset}, chosen on held-out images: {', '.join(own)}."
        for (dataset, setting, values), own in purifiers.items()
    ]


def defence(function: str) -> str:
    """The printed name of a purifier by its function; empty if the paper has none."""
    if function == "basic.direct":
        return DIRECT
    variant = _VARIANTS.get(function, "")
    return f"APuDAE({variant})" if len(variant) == 1 else variant


def counter_attack(entry: dict, point: str) -> str | None:
    """The paper's counter attack that an adaptive attack's entry is; None if it is neither.

    A attacks through the denoiser in the purifier's place (equation 14), B also lowers the
    reconstruction error (equation 15).
    """
    if entry.get("through") == "denoiser":
        return COUNTER_A
    function = entry["points"][point]["function"]
    injected = components.signature("attacks", f"attacks.{entry['name']}", function).injected
    return COUNTER_B if "error" in injected else None


def _of_one_method(entry: dict, point: str) -> list[str]:
    function = entry["points"][point]["function"]
    return [name for name, other in entry["points"].items() if other["function"] == function]


def _steps(entry: dict, point: str) -> float:
    steps = entry["points"][point]["settings"].get("steps", 0)
    return steps if isinstance(steps, int | float) else 0
