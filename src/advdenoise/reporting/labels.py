"""How the papers spell what the configuration names: the one place for it."""

from advdenoise.graph.threats import parse


class Holders:
    """Who has a printed name that several entries fit: the first that asks, at each place."""

    def __init__(self):
        self._first: dict[tuple, object] = {}

    def name(self, printed: str, own: str, holder: object, *place: object) -> str:
        """`printed` where `holder` was the first to ask for it at this place, else with `own`."""
        if self._first.setdefault((printed, *place), holder) == holder:
            return printed
        return own if own.startswith(printed) else f"{printed} ({own})"


PAPERS = {
    "dapas": "DAPAS",
    "propagation": "Propagated Perturbation",
    "feature_losses": "Feature Losses",
    "apudae": "APuDAE",
    "segfault": "Segmentation Fault",
}
ATTACKS = {
    "gradient.fgsm": "FGSM",
    "gradient.r_fgsm": "R-FGSM",
    "gradient.bim": "BIM",
    "gradient.pgd": "PGD",
    "gradient.mi_fgsm": "mi-FGSM",
    "gradient.margin_pgd": "CW",
    "minimal.deepfool": "DeepFool",
    "minimal.carlini_wagner": "C&W",
    "noise.uniform": "random",
}
# The sets of "propagation" (Table 2) by function and whether the victim gives the gradient itself.
SETS = {
    ("stopped.line_search", True): "FGSM v1",
    ("stopped.line_search", False): "FGSM v2",
    ("stopped.i_fgsm", True): "i-FGSM v1",
    ("stopped.i_fgsm", False): "i-FGSM v2",
    ("stopped.mi_fgsm", False): "mi-FGSM",
}
# Networks by timm's names, or by the function that builds what stands in for them.
CLASSIFIERS = {
    "resnet18": "ResNet-18",
    "cifar_resnet18": "ResNet-18",
    "resnetv2_50": "ResNet V2-50",
    "resnet_v2": "ResNet V2-50",
    "vgg19": "VGG-19",
    "vgg": "VGG-19",
    "senet154": "SENet-154",
    "legacy_senet154": "SENet-154",
    "senet": "SENet-154",
    "inception_resnet_v2": "Inception-ResNet V2",
    "inception": "Inception-ResNet V2",
    "densenet201": "DenseNet-201",
    "densenet": "DenseNet-201",
}
# Of "propagation", Table 7, and the one that did not train.
HEADS = {"conv": "FC->Conv", "prelu": "PReLU after FC", "relu": "ReLU after FC"}
DENOISERS = {"fusionnet.fusionnet": "FusionNet", "unet.classic": "U-Net"}
NOISES = {"noise.gaussian": "Gaussian", "noise.uniform": "Uniform", "noise.bimodal": "Bimodal"}
DETECTORS = {
    "trees.random_forest": "Random Forest",
    "svm.svc": "SVC",
    "trees.xgboost": "XGB",
}
_DETECTORS_HERE = {"svm.svc_grid_search": "SVC, C and gamma searched"}  # which no paper prints
SUPERPIXELS = {
    "slic": ("n_segments",),
    "felzenszwalb": ("scale",),
    "quickshift": ("sigma", "max_dist"),
}
PIXELS = "pixel (ML-LOO)"
REPRESENTATIONS = {"predicted": "1-D", "probabilities": "10-D", "hidden": "4K-D"}
# As many values as these names stand for.
LENGTHS = {"predicted": 1, "probabilities": 10, "hidden": 3810}
DATASETS = {
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "cifar10_grey": "CIFAR-10 (grey 28x28)",
    "tiny_imagenet": "TinyImageNet",
    "imagenet": "ImageNet",
    "voc2012": "VOC2012",
}
SPELLINGS = {"ImageNet-1000": "ImageNet"}  # one data set under two names


def dataset(name: str) -> str:
    """The printed name of a data set; its own where the papers have none."""
    return DATASETS.get(name, name)


def threat(name: str, point: str, classifier: str) -> str:
    """A threat under its entry's name: victim and point only where they tell something new."""
    attack, _, rest = name.partition("@")
    victim, plus, _ = rest.partition("+")
    shown = attack if point == "default" else f"{attack} {point}"
    other = f"@{victim}" if victim and victim != classifier else ""
    return f"{shown}{other}{plus}"


def with_point(name: str, point: str) -> str:
    """An entry and its point; the only point is not named."""
    return name if point == "default" else f"{name} {point}"


def attack(entry: dict, point: str, name: str) -> str:
    """The printed name of an attack's method; the entry's own where the papers have none."""
    return ATTACKS.get(entry["points"][point]["function"], with_point(name, point))


def adversarial_set(entry: dict, threat: str, point: str) -> str | None:
    """The printed name of the set that an attack makes of a victim; None where it has none."""
    victim = parse(threat).victim
    function = entry["points"][point]["function"]
    return SETS.get((function, entry.get("surrogate", victim) == victim))


def classifier(entry: dict) -> str:
    """The printed name of a network, of a modified one its head's; its own where there is none."""
    settings = entry.get("settings", {})
    if settings.get("head") in HEADS:
        return HEADS[settings["head"]]
    built = entry["function"].partition(".")[2]
    return CLASSIFIERS.get(settings.get("model", built).partition(".")[0], entry["name"])


def precision(entry: dict) -> str:
    """What the passes of a network's training were in; float32 of one that comes with weights."""
    return entry.get("training", {}).get("precision", "float32")


def denoiser(entry: dict) -> str:
    """The printed name of an autoencoder; its own where the papers have none."""
    return DENOISERS.get(entry["function"], entry["name"])


def epsilon(entry: dict, value: float) -> str:
    """A budget in the unit of its attack's entry; None where there is no budget (NaN)."""
    if value != value:
        return "None"
    return f"{value / entry.get('epsilon_unit', {}).get('pixels', 1.0):.3g}"


def detector(entry: dict, point: str) -> str:
    """The printed name of a detector; the entry's own where the papers have none.

    Of several points of one method, which differ in settings, the first has its name alone, the
    others stand beside it with their own.
    """
    function = entry["points"][point]["function"]
    first = next(name for name, p in entry["points"].items() if p["function"] == function)
    own = with_point(entry["name"], point)
    printed = DETECTORS.get(function) or _DETECTORS_HERE.get(function)
    return f"{printed} ({own})" if printed and point != first else printed or own


def superpixels(point: dict) -> str:
    """The printed name of a superpixel setting, such as `slic n_segments=64`."""
    method = point["function"].partition(".")[2]
    if method == "pixels":
        return PIXELS
    return " ".join([method, *superpixel_settings(point)])


def superpixel_settings(point: dict) -> list[str]:
    """The printed settings of superpixels, such as `n_segments=64`."""
    names = SUPERPIXELS.get(point["function"].partition(".")[2], ())
    return [f"{name}={point['settings'][name]:g}" for name in names]
