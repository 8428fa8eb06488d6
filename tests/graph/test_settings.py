"""Broken settings of components: each is refused in one sentence that names its key."""

import copy
from pathlib import Path

import pytest

from advdenoise.errors import BadInput
from advdenoise.graph import configuration
from advdenoise.graph.yaml_files import read_files

MINI = read_files(Path(__file__).parents[1] / "mini.yaml")
NAN, INF = float("nan"), float("inf")
SGD = {"name": "sgd", "lr": 0.1}
TRAINING = {"function": "plain.classify", "epochs": 1, "batch": 8, "optimiser": SGD}
DENOISING = TRAINING | {"function": "plain.reconstruct"}
ON_CLEAN = {"trained_on": [{"threat": "clean", "share": 1}]}
BUDGET = {"epsilon": 0.1, "alpha": 0.05, "steps": 3}
WHOLE = "must be a whole number"


def refused(kind: str, entry: dict, more: dict | None = None) -> str:
    """The sentence about the entry `mine`, put into the smallest configuration."""
    config = copy.deepcopy(MINI)
    for some, entries in ({kind: {"mine": entry}} | (more or {})).items():
        config.setdefault(some, {}).update(copy.deepcopy(entries))
    with pytest.raises(BadInput) as mistake:
        configuration.read(config)
    sentence = str(mistake.value)
    assert "\n" not in sentence and len(sentence) < 300
    return sentence


def assert_refused(kind: str, function: str, key: str, value, words: str, **settings) -> None:
    entry = {"function": function, "settings": settings | {key.partition(".")[0]: value}}
    if kind == "classifiers":
        entry["training"] = TRAINING
    elif kind == "denoisers":
        entry |= {"training": DENOISING} | ON_CLEAN
    sentence = refused(kind, entry)
    assert sentence.startswith(f"{kind}.mine.settings.{key}: {words}"), sentence


@pytest.mark.parametrize(
    ("function", "key", "value", "words"),
    [
        ("gradient.bim", "alpha", -0.05, "must be in (0, 1], got -0.05"),
        ("gradient.bim", "alpha", 2, "must be in (0, 1], got 2"),
        ("gradient.bim", "alpha", 0, "must be in (0, 1], got 0"),
        ("gradient.bim", "alpha", NAN, "must be a finite number, got nan"),
        ("gradient.bim", "alpha", "0,05", "must be a number in (0, 1] or null, got '0,05'"),
        ("gradient.bim", "alpha", "5e-2", "must be a number in (0, 1] or null, got '5e-2'; "),
        ("gradient.bim", "steps", 0, "must be at least 1, got 0"),
        ("gradient.bim", "steps", -3, "must be at least 1, got -3"),
        ("gradient.bim", "steps", 3.0, "must be a whole number at least 1 or 'kurakin', got"),
        ("gradient.bim", "steps", "kurakn", "must be a whole number at least 1 or 'kurakin', got"),
        ("gradient.bim", "steps", True, "must be a whole number at least 1 or 'kurakin', got"),
        ("gradient.bim", "steps", 10**15, "must be in [-2147483647, 2147483647], got 10000"),
        ("gradient.pgd", "steps", "foo", "must be a whole number at least 1, got 'foo'"),
        ("gradient.pgd", "alpha", [0.1], "must be a number in (0, 1] or null, got [0.1]"),
        ("gradient.mi_fgsm", "mu", -1, "must be in [0, 10], got -1"),
        ("gradient.mi_fgsm", "mu", INF, "must be a finite number, got inf"),
        ("gradient.r_fgsm", "start_radius", 16, "must be in [0, 1], got 16"),
        ("minimal.deepfool", "overshoot", -1.0, "must be in [0, 10], got -1.0"),
        ("minimal.deepfool", "candidates", 1, "must be at least 2, got 1"),
        ("minimal.deepfool", "norm", "linff", "must be 'linf' or 'l2', got 'linff'; did you"),
        ("minimal.carlini_wagner", "binary_search_steps", 0, "must be at least 1, got 0"),
        ("minimal.carlini_wagner", "initial_const", 0, "must be greater than 0, got 0"),
        ("minimal.carlini_wagner", "confidence", -1, "must be at least 0, got -1"),
        ("minimal.carlini_wagner", "fill", 128, "must be in [0, 1], got 128"),
        ("minimal.carlini_wagner", "stepsize", "fast", "must be a number greater than 0, got"),
        ("stopped.line_search", "increment", -0.01, "must be in (0, 1], got -0.01"),
        ("blackbox.square", "queries", 1, "must be at least 2, got 1"),
        ("blackbox.square", "share", 1.5, "must be in (0, 1], got 1.5"),
        ("corruptions.jpeg", "severity", 6, "must be in [1, 5], got 6"),
        ("corruptions.jpeg", "severity", None, "must be a whole number in [1, 5], got null"),
        ("noise.gaussian", "sigma", -0.1, "must be in (0, 10], got -0.1"),
        ("noise.bimodal", "mode", 20, "must be in [0, 1], got 20"),
    ],
)
def test_settings_of_attacks(function, key, value, words):
    known = {"gradient": BUDGET, "noise": {"sigma": 0.1}, "stopped": {"steps": 2}}
    settings = known.get(function.partition(".")[0], {"epsilon": 0.1})
    if function == "minimal.carlini_wagner" or function.startswith("corruptions"):
        settings = {}
    if function == "gradient.r_fgsm":
        settings = {"epsilon": 0.1}
    assert_refused("attacks", function, key, value, words, **settings)


@pytest.mark.parametrize(
    ("kind", "function", "key", "value", "words"),
    [
        ("classifiers", "convnets.lenet", "channels", [4, 8, 16], "must have 2 members, got 3"),
        ("classifiers", "convnets.lenet", "channels", [], "must have 2 members, got 0"),
        ("classifiers", "convnets.lenet", "channels", None, "must be a list, got null"),
        ("classifiers", "convnets.lenet", "channels", "4, 8", "must be a list, got '4, 8'"),
        ("classifiers", "convnets.lenet", "channels.0", [0, 8], "must be in [1, 65536], got 0"),
        ("classifiers", "convnets.lenet", "channels.1", [4, -4], "must be in [1, 65536], got"),
        ("classifiers", "convnets.lenet", "channels.1", [4, 10**15], "must be in [1, 65536], got"),
        ("classifiers", "convnets.lenet", "hidden", 64.0, WHOLE),
        ("classifiers", "convnets.lenet", "mean", NAN, "must be a finite number, got nan"),
        ("classifiers", "convnets.lenet", "mean", 120.7, "must be in [0, 1], got 120.7"),
        ("classifiers", "convnets.lenet", "std", 0, "must be in (0, 10], got 0"),
        ("classifiers", "convnets.lenet", "std.1", [0.2, 0], "must be in (0, 10], got 0"),
        ("classifiers", "convnets.mlp", "hidden", [], "the number of members must be in [1, 100]"),
        ("classifiers", "convnets.mlp", "dropout", 1, "must be in [0, 1), got 1"),
        ("classifiers", "convnets.elu_cnn", "momentum", 0, "must be in (0, 1], got 0"),
        ("classifiers", "convnets.elu_cnn", "dropout", 0.2, "must be a list, got 0.2"),
        (
            "classifiers",
            "families.densenet",
            "head",
            "cnv",
            "must be 'linear' or 'conv' or 'prelu' or 'relu', ",
        ),
        ("classifiers", "vgg.vgg16", "size", 28, "must be in [32, 65536], got 28"),
        ("classifiers", "vgg.vgg16", "batch_norm", 1, "must be true or false, got 1"),
        ("classifiers", "vgg.vgg16", "weights", 3, "must be text or null, got 3"),
        ("denoisers", "autoencoders.seven_layer", "channels", [4], "must have 2 members, got"),
        ("denoisers", "autoencoders.red_net", "layers", 5, "must be in [4, 1000] and a multiple"),
        ("denoisers", "autoencoders.red_net", "width", 1e9, f"{WHOLE} in [1, 65536], got 1"),
        ("denoisers", "autoencoders.magnet", "pooling", "yes", "must be true or false, got"),
        ("denoisers", "unet.hgd", "widths.1", [32, 0], "must be in [1, 65536], got 0"),
        ("denoisers", "unet.classic", "poolings", 0, "must be in [1, 10], got 0"),
        ("denoisers", "gan.wgan", "latent", -1, "must be in [1, 65536], got -1"),
        ("attributions", "superpixels.slic", "n_segments", 0, "must be in [1, 1000000], got 0"),
        ("attributions", "superpixels.slic", "compactness", -1, "must be greater than 0, got"),
        ("attributions", "superpixels.quickshift", "ratio", 2, "must be in [0, 1], got 2"),
        ("detectors", "svm.svc", "C", 0, "must be greater than 0, got 0"),
        ("detectors", "svm.svc", "gamma", "scal", "must be 'scale' or 'auto' or a number greater"),
        ("detectors", "svm.svc_grid_search", "C", [], "the number of members must be at least 1"),
        ("detectors", "svm.svc_grid_search", "gamma.0", [-1], "must be greater than 0, got -1"),
        ("detectors", "trees.random_forest", "trees", 0, "must be at least 1, got 0"),
        ("detectors", "trees.random_forest", "max_features", 1.5, "must be in (0, 1], got 1.5"),
        ("detectors", "trees.xgboost", "subsample", 0, "must be in (0, 1], got 0"),
        ("datasets", "embedded.patches", "train", 0, "must be at least 1, got 0"),
        ("datasets", "embedded.scenes", "size", 129.0, f"{WHOLE} in [32, 151], got 129.0; wri"),
        ("datasets", "segmentation.camvid", "size", [353], "must have 2 members, got 1"),
        ("datasets", "segmentation.camvid", "size", [352, 480], "sides must be 32k"),
        ("datasets", "folders.tiny_imagenet", "classes", 1, "must be in [2, 200], got 1"),
    ],
)
def test_settings_of_other_entries(kind, function, key, value, words):
    needed = {"pooling": True} if "magnet" in function else {}
    needed |= {"sigma": 1, "max_dist": 2} if "quickshift" in function else {}
    needed |= {"n_segments": 8} if "slic" in function else {}
    assert_refused(kind, function, key, value, words, **needed)


@pytest.mark.parametrize(
    ("function", "key", "value", "words"),
    [
        ("gan.defense_gan", "restarts", 0, "must be at least 1, got 0"),
        ("gan.defense_gan", "momentum", 1, "must be in [0, 1), got 1"),
    ],
)
def test_settings_of_purifiers(function, key, value, words):
    entry = {"function": function, "denoiser": "dae", "settings": {key: value}}
    assert refused("purifiers", entry).startswith(f"purifiers.mine.settings.{key}: {words}")


@pytest.mark.parametrize(
    ("kind", "training", "sentence"),
    [
        (
            "classifiers",
            {"optimiser": {"name": "adam", "lr": 0.1, "momentum": 0.9}},
            "optimiser.momentum: optimiser adam has no such setting; it has lr, ",
        ),
        (
            "classifiers",
            {"optimiser": SGD | {"betas": [0.9, 0.99]}},
            "optimiser.betas: optimiser sgd has no such setting; it has lr, ",
        ),
        (
            "denoisers",
            {"phases": [{"epochs": 1, "optimiser": {"name": "rmsprop", "lr": 1, "momentum": 0}}]},
            "phases.0.optimiser.momentum: optimiser rmsprop has no such setting; it has ",
        ),
        ("classifiers", {"optimiser": SGD | {"lr": 1e300}}, "optimiser.lr: must be "),
        ("classifiers", {"optimiser": SGD | {"momentum": 1}}, "optimiser.momentum: must be "),
        ("classifiers", {"optimiser": SGD | {"nesterov": 1}}, "optimiser.nesterov: must be "),
        ("classifiers", {"settings": {"shift": -0.1}}, "settings.shift: must be in [0, 1], got"),
        ("classifiers", {"settings": {"crop": 4.0}}, "settings.crop: must be a whole number"),
        ("classifiers", {"settings": {"scale": 0}}, "settings.scale: must be in (0, 1], got 0"),
        ("classifiers", {"settings": {"flip": "yes"}}, "settings.flip: must be true or false, "),
        (
            "classifiers",
            {"function": "plain.reconstruct"},
            "function: convnets.mlp learns from labels, but plain.reconstruct does not use them",
        ),
        (
            "classifiers",
            {"function": "adversarial.pgd", "settings": BUDGET | {"epsilon": 8}},
            "settings.epsilon: must be in [0, 1], got 8",
        ),
        (
            "denoisers",
            {"function": "gan.wgan_gp"},
            "function: gan.wgan_gp trains generators, but unet.hgd is none; choose another step",
        ),
        (
            "denoisers",
            {"function": "plain.classify"},
            "function: plain.classify trains classifiers, but unet.hgd is a denoiser; choose",
        ),
        (
            "denoisers",
            {"function": "features.reconstruct", "settings": {"weights": [0.1, -1]}},
            "settings.weights.1: must be at least 0, got -1",
        ),
    ],
)
def test_trainings(kind, training, sentence):
    entry = {"function": "convnets.mlp", "training": TRAINING | training}
    if kind == "denoisers":
        entry = {"function": "unet.hgd", "training": DENOISING | training} | ON_CLEAN
    assert refused(kind, entry).startswith(f"{kind}.mine.training.{sentence}")


def test_a_generator_is_trained_and_used_as_one():
    generator = {"function": "gan.wgan", "training": DENOISING} | ON_CLEAN
    sentence = refused("denoisers", generator)
    assert sentence.startswith("denoisers.mine.training.function: gan.wgan is a generator")
    generator["training"] = DENOISING | {"function": "gan.wgan_gp"}
    sentence = refused(
        "purifiers",
        {"function": "basic.direct", "denoiser": "codes"},
        {"denoisers": {"codes": generator}},
    )
    assert sentence.startswith("purifiers.mine.denoiser: gan.wgan is a generator, but basic.direct")
    sentence = refused("purifiers", {"function": "gan.defense_gan", "denoiser": "dae"})
    assert sentence.startswith("purifiers.mine.denoiser: autoencoders.seven_layer is a denoiser of")


@pytest.mark.parametrize(("more", "word"), [({}, "none"), ({"alpha_per_epsilon": 0.5}, "both")])
def test_a_step_has_one_length(more, word):
    settings = {"epsilon": 0.1, "steps": 2} | more | ({"alpha": 0.1} if more else {})
    sentence = refused("attacks", {"function": "gradient.pgd", "settings": settings})
    assert sentence.startswith("attacks.mine.settings: give either alpha (") and word in sentence


@pytest.mark.parametrize("function", ["auto.apgd", "auto.apgd_t"])
def test_the_scale_of_probabilities_is_not_undone(function):
    settings = {"epsilon": 0.1} | ({"loss": "dlr"} if function == "auto.apgd" else {})
    attack = {"function": function, "settings": settings, "output": "probabilities"}
    assert refused("attacks", attack) == (
        "attacks.mine.settings.loss: dlr compares logits, but the attack's `output` is "
        "probabilities; write loss: margin or leave `output` out"
    )


def test_a_setting_of_one_point_is_named_by_it():
    points = {"weak": {}, "strong": {"settings": {"alpha": 3}}}
    entry = {"function": "gradient.pgd", "settings": BUDGET, "points": points}
    sentence = refused("attacks", entry)
    assert sentence.startswith("attacks.mine.points.strong.settings.alpha: must be in (0, 1], got")


@pytest.mark.parametrize(
    ("part", "function", "setting", "words"),
    [
        ("figures", "examples.strips", {"images": 0}, "images: must be at least 1, got 0"),
        ("tables", "explorer.rows", {"protocol": "pape"}, "protocol: must be 'paper' or 'grouped'"),
    ],
)
def test_settings_of_tables_and_figures(part, function, setting, words):
    product = copy.deepcopy(MINI["experiments"]["defence"]["figures"]["strips"])
    if part == "tables":
        product = copy.deepcopy(MINI["experiments"]["defence"]["tables"]["explorer"])
    product |= {"function": function, "settings": setting}
    sentence = refused("experiments", {part: {"mine": product}})
    assert sentence.startswith(f"experiments.mine.{part}.mine.settings.{words}")


@pytest.mark.parametrize(("name", "value"), [("epsilon", True), ("alpha", True)])
def test_yes_is_no_length(name, value):
    entry = {"function": "gradient.pgd", "settings": BUDGET | {name: value}}
    sentence = refused("attacks", entry | {"epsilon_unit": {"name": "grey levels", "pixels": 0.5}})
    assert sentence.startswith(f"attacks.mine.settings.{name}: must be a number in ")
    assert "got true" in sentence
