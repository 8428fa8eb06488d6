"""Printed names of what the configuration names: the usual ones, and those of an experiment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from advdenoise.errors import BadInput
from advdenoise.graph.sources import imported_object
from advdenoise.graph.threats import parse

if TYPE_CHECKING:
    from advdenoise.reporting.read import Results

ATTACKS = {
    "gradient.fgsm": "FGSM",
    "gradient.r_fgsm": "R-FGSM",
    "gradient.bim": "BIM",
    "gradient.pgd": "PGD",
    "gradient.mi_fgsm": "mi-FGSM",
    "auto.apgd": "APGD",
    "auto.apgd_t": "APGD-T",
    "minimal.deepfool": "DeepFool",
    "minimal.carlini_wagner": "C&W",
}
# Networks by timm's names, or by the function that builds them.
CLASSIFIERS = {
    "resnet18": "ResNet-18",
    "cifar_resnet18": "ResNet-18",
    "resnetv2_50": "ResNet V2-50",
    "vgg19": "VGG-19",
    "senet154": "SENet-154",
    "legacy_senet154": "SENet-154",
    "inception_resnet_v2": "Inception-ResNet V2",
    "densenet201": "DenseNet-201",
}
SUPERPIXELS = {
    "slic": ("n_segments",),
    "felzenszwalb": ("scale",),
    "quickshift": ("sigma", "max_dist"),
}
DATASETS = {
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "cifar10_grey": "CIFAR-10 (grey 28x28)",
    "tiny_imagenet": "TinyImageNet",
    "imagenet": "ImageNet",
    "voc2012": "VOC2012",
}


@dataclass(frozen=True)
class Labels:
    """The printed names of an experiment, before the usual ones.

    `paper` is its own name. `attacks` are named by function, `classifiers` by function or timm's
    name, modified ones by their head, `sets` of adversarial images by the attack's function and
    whether the victim gives the gradient itself.
    """

    paper: str = ""
    attacks: Mapping[str, str] = field(default_factory=dict)
    classifiers: Mapping[str, str] = field(default_factory=dict)
    heads: Mapping[str, str] = field(default_factory=dict)
    sets: Mapping[tuple[str, bool], str] = field(default_factory=dict)

    def attack(self, entry: dict, point: str) -> str:
        """The printed name of an attack's method; its own where it has none."""
        function = entry["points"][point]["function"]
        printed = self.attacks.get(function) or ATTACKS.get(function)
        return printed or with_point(entry["name"], point)

    def classifier(self, entry: dict) -> str:
        """The printed name of a network, of a modified one its head's; its own without one."""
        settings = entry.get("settings", {})
        if settings.get("head") in self.heads:
            return self.heads[settings["head"]]
        built = entry["function"].partition(".")[2]
        model = settings.get("model", built).partition(".")[0]
        return self.classifiers.get(model) or CLASSIFIERS.get(model, entry["name"])

    def adversarial_set(self, entry: dict, threat: str, point: str) -> str | None:
        """The printed name of the set that an attack makes of a victim; None where it has none."""
        victim = parse(threat).victim
        function = entry["points"][point]["function"]
        return self.sets.get((function, entry.get("surrogate", victim) == victim))


USUAL = Labels()


def labels_of(settings: dict) -> Labels:
    """The labels that a table's or the figures' experiment names; the usual ones by default.

    Raises BadInput where it names something else.
    """
    if "labels" not in settings:
        return USUAL
    labels = imported_object(settings["labels"])
    if not isinstance(labels, Labels):
        raise BadInput(
            f"experiments.{settings['experiment']}.labels: {settings['labels']} is a "
            f"{type(labels).__name__}; name an advdenoise.reporting.labels.Labels"
        )
    return labels


class LabelAssignment:
    """Assigns a printed name that several entries fit to the first of them, in each scope.

    An experiment derives from it a class that labels the groups of its results.
    """

    def __init__(self, results: "Results | None" = None):
        self._results: Any = results
        self._first: dict[tuple, object] = {}

    def assign(self, printed: str, own: str, entry: object, *scope: object) -> str:
        """`printed` if `entry` is the first in this scope that it fits, else with the `own` name.

        `entry` identifies what is named, `scope` the data set, classifier or other names within
        which a printed name is given once.
        """
        if self._first.setdefault((printed, *scope), entry) == entry:
            return printed
        return own if own.startswith(printed) else f"{printed} ({own})"

    def function(self, about: dict) -> str:
        """The function of a group's purifier."""
        return self._results.purifier_point(about)["function"]

    def is_robust(self, about: dict) -> bool:
        """Whether a group's classifier was trained adversarially."""
        classifier = self._results.entry("classifier", about["classifier"])
        return training_function(classifier).startswith("adversarial.")

    def denoiser_entry(self, about: dict) -> dict | None:
        """The entry of the denoiser of a group's purifier; None without one."""
        name = self._results.entry("purifier", about["purifier"]).get("denoiser")
        return self._results.entry("denoiser", name) if name else None


def purifier(about: dict) -> str:
    """The purifier and its point in a group's names, as the configuration has them."""
    return with_point(about["purifier"], about["purifier_point"])


def dataset(name: str) -> str:
    """The printed name of a data set; its own where it has none."""
    return DATASETS.get(name, name)


def threat(name: str, point: str, classifier: str) -> str:
    """A threat by its entry's name, with victim and point where these are not the usual ones."""
    attack, _, rest = name.partition("@")
    victim, plus, _ = rest.partition("+")
    shown = attack if point == "default" else f"{attack} {point}"
    other = f"@{victim}" if victim and victim != classifier else ""
    return f"{shown}{other}{plus}"


def with_point(name: str, point: str) -> str:
    """An entry and its point, without the name of an only point."""
    return name if point == "default" else f"{name} {point}"


def training_function(entry: dict) -> str:
    """The training step of a network; empty for one whose entry names a file of weights."""
    return entry.get("training", {}).get("function", "")


def precision(entry: dict) -> str:
    """The number format of the passes in training; float32 for networks that come with weights."""
    return entry.get("training", {}).get("precision", "float32")


def epsilon(entry: dict, value: float) -> str:
    """A budget in the unit of its attack's entry; None where there is no budget (NaN)."""
    if value != value:
        return "None"
    return f"{value / entry.get('epsilon_unit', {}).get('pixels', 1.0):.3g}"


def superpixel_settings(point: dict) -> list[str]:
    """The printed settings of superpixels, such as `n_segments=64`."""
    names = SUPERPIXELS.get(point["function"].partition(".")[2], ())
    return [f"{name}={point['settings'][name]:g}" for name in names]
