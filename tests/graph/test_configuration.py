"""Every mistake in a configuration ends in one sentence before any job starts."""

import copy
import os
from pathlib import Path

import pytest

from advdenoise.errors import BadInput
from advdenoise.graph import configuration
from advdenoise.graph.schema import schema
from advdenoise.graph.sections.attacks import why_not_adaptive
from advdenoise.graph.sections.datasets import check_data_root
from advdenoise.graph.stages import crossings
from advdenoise.graph.yaml_files import read_files
from tests.places import put_in_place

PAPERS = Path(__file__).parents[2] / "config" / "papers.yaml"


def put(config: dict, key: str, value) -> None:
    """Set `a.b.c` in nested mappings and lists."""
    *way, last = key.split(".")
    for part in way:
        config = config[int(part)] if isinstance(config, list) else config[part]
    config[last] = value


def take(config: dict, key: str) -> None:
    *way, last = key.split(".")
    for part in way:
        config = config[part]
    del config[last]


STOPPED = {"function": "stopped.i_fgsm", "settings": {"steps": 2, "alpha": 0.1}}


TRAINING = {
    "function": "plain.classify",
    "epochs": 1,
    "batch": 8,
    "optimiser": {"name": "sgd", "lr": 0.1},
}
CLASSIFIER = {"function": "convnets.lenet", "datasets": ["digits"]}

# What is changed in the quick configuration, and what the one sentence must hold.
BROKEN = {
    "unknown key at the top": ({"datasetz": {}}, ["datasetz", "unknown key", "'datasets'"]),
    "unknown key of an entry": (
        {"classifiers.cnn4.trainin": {}},
        ["classifiers.cnn4.trainin", "'training'"],
    ),
    "unknown function": (
        {"attacks.fgsm.function": "gradient.fgms"},
        ["attacks.fgsm.function", "'gradient.fgms'", "gradient.fgsm"],
    ),
    "unknown module": (
        {"denoisers.dae_pgd.function": "autoencoder.seven_layer"},
        ["denoisers.dae_pgd.function", "autoencoders.seven_layer"],
    ),
    "helper in place of a function": (
        {"attacks.fgsm.function": "gradient._ascend"},
        ["attacks.fgsm.function", "module.name"],
    ),
    "unknown setting": (
        {"attacks.fgsm.settings.epsilom": 0.1},
        ["attacks.fgsm.settings.epsilom", "no such setting", "'epsilon'"],
    ),
    "missing setting": (
        {"attacks.fgsm.settings": {}},
        ["attacks.fgsm.settings", "'epsilon'", "add it"],
    ),
    "setting of a wrong type": (
        {"classifiers.cnn26.settings.width": "wide"},
        ["classifiers.cnn26.settings.width", "must be a whole number", "'wide'"],
    ),
    "epsilon above one": (
        {"attacks.fgsm.settings.epsilon": 8},
        ["attacks.fgsm", "epsilon", "8", "[0,1]"],
    ),
    "epsilon below zero": ({"attacks.fgsm.settings.epsilon": -0.1}, ["epsilon", "[0,1]"]),
    "epsilon of a cycle in another unit": (
        {"attacks.z_score.epsilons.cycle": [0.02, 6]},
        ["attacks.z_score", "epsilon", "[0,1]"],
    ),
    "a fraction by zero": ({"attacks.fgsm.settings.epsilon": "8/0"}, ["divides by zero"]),
    "surrogate that is not configured": (
        {"attacks.black_box.surrogate": "resnet"},
        ["attacks.black_box.surrogate", "'resnet'", "resnet18"],
    ),
    "denoiser that is not configured": (
        {"purifiers.direct_pgd.denoiser": "dae_pdg"},
        ["purifiers.direct_pgd.denoiser", "'dae_pgd'"],
    ),
    "purifier without its denoiser": (
        {"purifiers.direct_pgd": {"function": "basic.direct"}},
        ["purifiers.direct_pgd", "'denoiser'"],
    ),
    "denoiser for a purifier that uses none": (
        {"purifiers.plain": {"function": "basic.none", "denoiser": "dae_pgd"}},
        ["purifiers.plain.denoiser", "take it out"],
    ),
    "unknown threat in a suite": (
        {"suites.robust.threats": ["clean", "fsgm"]},
        ["suites.robust.threats", "'fsgm'", "'fgsm'"],
    ),
    "unknown victim": (
        {"suites.robust.threats": ["fgsm@cnn5"]},
        ["suites.robust.threats", "'cnn5'", "cnn4"],
    ),
    "clean images with a victim": ({"suites.robust.threats": ["clean@cnn4"]}, ["write clean"]),
    "a corruption that is adaptive to the purifier": (
        {"suites.robust.threats": ["gaussian_noise+"]},
        ["gaussian_noise", "no model"],
    ),
    "an attack that spares what is not there": (
        {"attacks.pgd.spare": ["fgms"]},
        ["attacks.pgd.spare", "fgsm"],
    ),
    "attacks that spare each other's images": (
        {"attacks.pgd.spare": ["fgsm"], "attacks.fgsm.spare": ["pgd"]},
        ["attacks.", "waits for itself"],
    ),
    "a suite without the attack that another relies on": (
        {"attacks.pgd.spare": ["fgsm"], "suites.robust.threats": ["clean", "pgd"]},
        [".threats", "leaves out", "fgsm"],
    ),
    "a path that is no purifier": (
        {"attacks.pgd.through": "dierct"},
        ["attacks.pgd.through", "direct"],
    ),
    "a path through a purifier with several points": (
        {
            "attacks.pgd.through": "two",
            "purifiers.two": {
                "function": "basic.direct",
                "denoiser": "dae",
                "points": {"a": {}, "b": {}},
            },
        },
        ["attacks.pgd.through", "2 points"],
    ),
    "forward passes without a path of their own": (
        {"attacks.pgd.forward": "purifier"},
        ["attacks.pgd.forward", "through"],
    ),
    "draws beside the defender's": (
        {"attacks.pgd.draws": 3, "attacks.pgd.knows_draws": True},
        ["attacks.pgd.draws", "knows_draws"],
    ),
    "through without a known purifier": (
        {"attacks.pgd.through": "identity"},
        ["attacks.pgd.through", "pgd+"],
    ),
    "draws without a known purifier": (
        {"attacks.pgd.draws": 10},
        ["attacks.pgd.draws", "pgd+"],
    ),
    "no draws": ({"attacks.bounded_bim.draws": 0}, ["attacks.bounded_bim.draws", "at least 1"]),
    "draws of an attack that asks nothing behind a purifier": (
        {"attacks.gaussian_noise.draws": 10},
        ["attacks.gaussian_noise.draws", "asks nothing", "take it out"],
    ),
    "a way through for an attack without gradient": (
        {
            "attacks.squares": {
                "function": "blackbox.square",
                "settings": {"epsilon": 0.1},
                "through": "identity",
            }
        },
        ["attacks.squares.through", "asks nothing", "take it out"],
    ),
    "an attack that needs the denoiser of no purifier": (
        {
            "attacks.kept": {
                "function": "adaptive.counter_b",
                "settings": {"epsilon": 0.1, "alpha": 0.01, "steps": 2, "weight": 1},
            },
            "suites.robust.threats": ["clean", "kept"],
        },
        ["attacks.kept", "'kept'", "write kept+"],
    ),
    "an attack that needs the denoiser of a purifier without one": (
        {
            "attacks.kept": {
                "function": "adaptive.counter_b",
                "settings": {"epsilon": 0.1, "alpha": 0.01, "steps": 2, "weight": 1},
            },
            "purifiers.plain": {"function": "basic.none"},
            "suites.robust.threats": ["clean", "kept@cnn4+plain"],
        },
        ["suites.robust.threats", "'kept@cnn4+plain'", "denoiser of purifier 'plain'"],
    ),
    "known purifier with two points": (
        {
            "purifiers.best": {
                "denoiser": "red",
                "points": {"a": {"function": "basic.direct"}, "b": {"function": "basic.direct"}},
            }
        },
        ["suites.knowing.threats", "best", "2 points"],
    ),
    "denoiser trained on an attack that is adaptive to it": (
        {"denoisers.dae_pgd.trained_on": [{"threat": "pgd@cnn4+direct_pgd", "share": 1}]},
        ["denoisers.dae_pgd.trained_on", "is adaptive to the denoiser 'dae_pgd'"],
    ),
    "two denoisers trained on each other": (
        {
            "denoisers.dae_pgd.trained_on": [{"threat": "pgd@cnn4+direct_fgsm", "share": 1}],
            "denoisers.dae_fgsm.trained_on": [{"threat": "fgsm@cnn4+direct_pgd", "share": 1}],
        },
        ["trained_on", "is adaptive to the denoiser"],
    ),
    "training threat without a victim": (
        {"denoisers.dae_pgd.trained_on": [{"threat": "pgd", "share": 1}]},
        ["denoisers.dae_pgd.trained_on.0.threat", "pgd@"],
    ),
    "shares that do not add up": (
        {"denoisers.dae_pgd.trained_on": [{"threat": "pgd@cnn4", "share": 0.4}]},
        ["denoisers.dae_pgd.trained_on", "add up to 0.4"],
    ),
    "noise that looks at a model": (
        {"denoisers.dae_pgd.trained_on": [{"noise": "pgd", "share": 1}]},
        ["denoisers.dae_pgd.trained_on.0.noise", "looks at a model"],
    ),
    "a step that looks at a network without one": (
        {"denoisers.plain_pgd.training.function": "features.reconstruct"},
        ["denoisers.plain_pgd.training", "looks at a trained classifier", "'network'"],
    ),
    "a network that nothing looks at": (
        {"denoisers.plain_pgd.training.network": "cnn4"},
        ["denoisers.plain_pgd.training.network", "plain.reconstruct uses no network"],
    ),
    "a network that is not configured": (
        {
            "denoisers.dae_fgsm.training.function": "logits.guided",
            "denoisers.dae_fgsm.training.network": "cnn5",
        },
        ["denoisers.dae_fgsm.training.network", "'cnn5'", "'cnn4'"],
    ),
    "a network of another data set": (
        {
            "denoisers.dae_fgsm.training.function": "logits.guided",
            "denoisers.dae_fgsm.training.network": "resnet18",
        },
        ["denoisers.dae_fgsm.training.network", "'resnet18'", "'digits'"],
    ),
    "a network of too few data sets": (
        {
            "denoisers.red_bimodal.training.function": "logits.guided",
            "denoisers.red_bimodal.training.network": "cnn4",
        },
        ["denoisers.red_bimodal.training.network", "'scenes'", "datasets"],
    ),
    "a start that is not configured": (
        {"classifiers.cnn4.training.start": "cnn5"},
        ["classifiers.cnn4.training.start", "'cnn5'", "'cnn4'"],
    ),
    "a start of another architecture": (
        {"classifiers.cnn4.training.start": "cnn26"},
        ["classifiers.cnn4.training.start", "'cnn26'", "do not fit"],
    ),
    "a start of other settings": (
        {
            "classifiers.wider": {
                "function": "convnets.elu_cnn",
                "settings": {"width": 9, "momentum": 0.1},
                "training": {
                    "function": "plain.classify",
                    "epochs": 1,
                    "batch": 8,
                    "optimiser": {"name": "sgd", "lr": 0.1},
                    "start": "cnn26",
                },
            }
        },
        ["classifiers.wider.training.start", "'cnn26'", "other settings"],
    ),
    "a start of another data set": (
        {
            "classifiers.cnn4.datasets": ["patches"],
            "classifiers.cnn4.training.start": "robust4",
        },
        ["classifiers.cnn4.training.start", "'robust4'", "'patches'"],
    ),
    "a classifier that starts from itself": (
        {"classifiers.cnn4.training.start": "cnn4"},
        ["classifiers.cnn4.training.start", "starts from itself"],
    ),
    "starts in a circle": (
        {
            "classifiers.cnn4.training.start": "robust4",
            "classifiers.robust4.training.start": "cnn4",
        },
        ["classifiers.cnn4.training.start", "starts from itself"],
    ),
    "a start that leads into a circle": (
        {
            "classifiers.cnn4.training.start": "one",
            "classifiers.one": {**CLASSIFIER, "training": TRAINING | {"start": "two"}},
            "classifiers.two": {**CLASSIFIER, "training": TRAINING | {"start": "one"}},
        },
        ["'one' starts from itself", "one -> two -> one"],
    ),
    "a surrogate of another data set": (
        {"attacks.black_box.datasets": ["patches", "digits"]},
        ["attacks.black_box.surrogate", "'resnet18'", "'digits'", "attacks.black_box.datasets"],
    ),
    "a split to train on that is nowhere": (
        {"classifiers.cnn4.training.split": "trian"},
        ["classifiers.cnn4.training.split", "'trian'", "'train'"],
    ),
    "a calibration where nothing is held out": (
        {
            "datasets.digits.splits": {"test": {"size": 250}},
            "experiments.mine.tables.c": {
                "function": "denoisers.calibration",
                "calibration": {"dataset": "digits", "denoiser": "dae_pgd"},
            },
        },
        ["held_out", "'digits'"],
    ),
    "detectors without a way to judge them": (
        {"detection": None},
        ["detection"],
    ),
    "a table of which nothing is left": (
        {
            "experiments.mine.tables.accuracy.predictions": {
                "dataset": "digits",
                "classifier": "resnet18",
                "suite": "steps",
                "split": "test",
            }
        },
        ["experiments.mine.tables.accuracy.predictions", "nothing is left", "resnet18", "digits"],
    ),
    "a denoiser that starts from one trained on what knows it": (
        {
            "denoisers.plain_pgd.training.start": "dae_pgd",
            "denoisers.dae_pgd.trained_on": [{"threat": "pgd@cnn4+direct_plain_pgd", "share": 1}],
            "purifiers.direct_plain_pgd": {"function": "basic.direct", "denoiser": "plain_pgd"},
        },
        ["denoisers.", "'plain_pgd'", "knows"],
    ),
    "a denoiser that stops at an accuracy": (
        {"denoisers.plain_pgd.training.stop": {"measured_on": "train", "accuracy": 0.9}},
        ["denoisers.plain_pgd.training.stop", "no accuracy"],
    ),
    "a stop at the accuracy on images that are not held out": (
        {
            "classifiers.cnn4.training.stop": {"measured_on": "held_out", "accuracy": 0.9},
            "datasets.digits.splits": {"test": {"size": 250}},
        },
        ["classifiers.cnn4.training.stop.measured_on", "'digits'", "held_out"],
    ),
    "a stop at an accuracy in percent": (
        {"classifiers.cnn4.training.stop": {"measured_on": "train", "accuracy": 99.5}},
        ["classifiers.cnn4.training.stop.accuracy", "at most 1"],
    ),
    "a phase without an optimiser": (
        {"classifiers.cnn4.training.phases": [{"epochs": 2}]},
        ["classifiers.cnn4.training.phases.0", "'optimiser'"],
    ),
    "a figure on demand": (
        {"experiments.mine.figures.strips.on_demand": True},
        ["experiments.mine.figures.strips.on_demand", "take it out"],
    ),
    "a classifier whose training looks at a network": (
        {"classifiers.cnn4.training.function": "features.reconstruct"},
        ["classifiers.cnn4.training.function", "trains denoisers only"],
    ),
    "wrong type": ({"batch": "many"}, ["batch", "a whole number", "'many'"]),
    "number out of range": (
        {"classifiers.cnn4.training.epochs": -1},
        ["classifiers.cnn4.training.epochs", "at least 0"],
    ),
    "unknown optimiser": (
        {"classifiers.cnn4.training.optimiser.name": "adan"},
        ["classifiers.cnn4.training.optimiser.name", "'adam'"],
    ),
    "no seeds": ({"seeds": []}, ["seeds", "empty"]),
    "the same seed twice": ({"seeds": [1, 1]}, ["seeds", "twice"]),
    "name in capitals": (
        {"suites.Robust": {"threats": ["clean"]}},
        ["'Robust'", "lower-case letters"],
    ),
    "split of an unknown split": (
        {"datasets.digits.splits.few": {"of": "tset"}},
        ["datasets.digits.splits.few.of", "'tset'", "'test'"],
    ),
    "splits drawn from each other": (
        {"datasets.digits.splits.a": {"of": "b"}, "datasets.digits.splits.b": {"of": "a"}},
        ["datasets.digits.splits", "drawn from itself"],
    ),
    "unknown split in a crossing": (
        {"experiments.mine.tables.threats.predictions.split": "tests"},
        ["experiments.mine.tables.threats.predictions", "'tests'", "'test'"],
    ),
    "crossing without a classifier": (
        {
            "experiments.mine.tables.accuracy.predictions": {
                "dataset": "patches",
                "suite": "steps",
                "split": "test",
            }
        },
        ["experiments.mine.tables.accuracy.predictions", "'classifier'"],
    ),
    "an experiment made from nothing": (
        {"experiments.mine": {"tables": {"mine": {"function": "accuracy.by_threat"}}}},
        ["experiments.mine.tables.mine", "made from nothing", "predictions"],
    ),
    "an experiment with the name of a stage": (
        {"experiments.attack": {}},
        ["experiments.attack", "name of a rule", "another name"],
    ),
    "an experiment with the name of another's figures": (
        {"experiments.figures_mine": {}},
        ["experiments.figures_mine", "name of a rule", "another name"],
    ),
    "an include that no file has": (
        {"include": ["mine.yaml"]},
        ["include", "in a configuration file only"],
    ),
    "table made from what its function does not read": (
        {
            "experiments.mine.tables.accuracy.distances": {
                "dataset": "patches",
                "classifier": "resnet18",
                "suite": "steps",
                "split": "test",
            }
        },
        ["experiments.mine.tables.accuracy.distances", "reads predictions", "take it out"],
    ),
    "distances of a classifier without taps": (
        {"distances.taps": {"cnn4": ["fc1"]}},
        ["distances.taps", "'resnetv2_50'"],
    ),
    "detector everywhere that is not configured": (
        {"everywhere": {"detectors": ["off_the_shelve"]}},
        ["everywhere.detectors", "'off_the_shelf'"],
    ),
    "list of epsilons beside points": (
        {"attacks.bounded.epsilons": [0.1, 0.2]},
        ["attacks.bounded.epsilons", "points"],
    ),
    "a target class for an attack without targets": (
        {"attacks.gaussian_noise.labels": {"target": 0}},
        ["attacks.gaussian_noise.labels", "targeted"],
    ),
    "a target class below zero": (
        {"attacks.pgd.labels": {"target": -1}},
        ["attacks.pgd.labels.target", "at least 0"],
    ),
    "labels that are none of the ways": (
        {"attacks.pgd.labels": "predict"},
        ["attacks.pgd.labels", "'predict'", "'predicted'"],
    ),
    "labels of a target that is not named": (
        {"attacks.pgd.labels": {"class": 0}},
        ["attacks.pgd.labels", "target"],
    ),
    "target labels for an attack without targets": (
        {"attacks.gaussian_noise.labels": "random_target"},
        ["attacks.gaussian_noise.labels", "targeted"],
    ),
    "data sets of an entry that are not configured": (
        {"classifiers.cnn4.datasets": ["digit"]},
        ["classifiers.cnn4.datasets", "'digits'"],
    ),
    "masks of sides that do not close": (
        {"datasets.scenes": {"function": "embedded.scenes", "settings": {"size": 128}}},
        ["datasets.scenes.settings.size", "128x128", "32k+1", "skip connections do not match"],
    ),
    "masks of one side that does not close": (
        {"datasets.camvid": {"function": "segmentation.camvid", "settings": {"size": [360, 481]}}},
        ["datasets.camvid.settings.size", "360x481", "32k+1"],
    ),
    "a segmenter that is taught labels": (
        {"classifiers.cnn4.function": "segmentation.small", "classifiers.cnn4.settings": {}},
        ["classifiers.cnn4.training.function", "learns from masks", "plain.classify"],
    ),
    "a classifier that is taught masks": (
        {"classifiers.cnn4.training.function": "plain.segment"},
        ["classifiers.cnn4.training.function", "learns from labels", "plain.segment"],
    ),
    "a classifier for images with masks": (
        {"datasets.digits": {"function": "embedded.scenes", "splits": {"held_out": {"size": 9}}}},
        ["classifier", "does not fit data set 'digits'", "masks", "a segmenter"],
    ),
    "a key that is missing": ({"classifiers.cnn4": {"function": "convnets.lenet"}}, ["'training'"]),
}


@pytest.mark.parametrize(("change", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_mistake_is_told_in_one_sentence(own, change, expected):
    for key, value in change.items():
        put(own, key, value)
    with pytest.raises(BadInput) as mistake:
        configuration.read(own)
    sentence = str(mistake.value)
    assert "\n" not in sentence and len(sentence) < 400
    for part in expected:
        assert part in sentence


def test_the_shipped_configurations_are_whole(quick):
    configuration.read(quick)
    configuration.read(read_files(PAPERS))


def test_reading_changes_nothing_of_what_is_given(quick):
    before = copy.deepcopy(quick)
    configuration.read(quick)
    assert quick == before


def test_tables_that_read_nothing_at_a_scale_are_left_out(quick):
    config, left_out = configuration.read(quick), 0
    for name, experiment in quick["experiments"].items():
        for part in ("tables", "figures"):
            for product, entry in experiment.get(part, {}).items():
                reads = bool({*entry} & {*crossings()})
                assert (product in config["experiments"][name][part]) == reads
                left_out += not reads
    assert left_out


def test_entries_that_nothing_uses_are_fine(quick):
    quick["attacks"]["unused"] = {"function": "gradient.fgsm", "settings": {"epsilon": 0.5}}
    assert "unused" in configuration.read(quick)["attacks"]


def test_epsilons_in_another_unit_become_pixels(quick):
    quick["attacks"]["z_score"]["epsilons"]["cycle"] = [0.02, 0.06, 0.1]
    read = configuration.read(quick)
    point = read["attacks"]["z_score"]["points"]["pgd"]
    grey_levels = [255 * epsilon for epsilon in point["epsilons"]["cycle"]]
    # Al Bared and Nassar 2021, section 4, with the z-score's deviation of 64.150024 grey levels.
    assert grey_levels == pytest.approx([1.283, 3.849, 6.415], abs=1e-3)


def test_a_list_of_epsilons_is_one_point_each(quick):
    quick["attacks"]["many"] = {"function": "gradient.fgsm", "epsilons": [0.1, "8/255"]}
    points = configuration.read(quick)["attacks"]["many"]["points"]
    assert [p["settings"]["epsilon"] for p in points.values()] == pytest.approx([0.1, 8 / 255])


def test_everywhere_reaches_every_suite_and_detection(quick):
    quick["purifiers"]["mine"] = {"function": "basic.direct", "denoiser": "red_bimodal"}
    quick["everywhere"] = {"purifiers": ["mine"], "attacks": ["pgd+"]}
    read = configuration.read(quick)
    for suite in read["suites"].values():
        assert "mine" in suite["purifiers"]
        assert "pgd+" in suite["threats"]
    several = next(name for name, e in read["purifiers"].items() if len(e["points"]) > 1)
    assert why_not_adaptive(read, "pgd+", several).startswith("'pgd+' is adaptive to purifier")
    assert why_not_adaptive(read, "pgd+", "mine") is None


def test_null_takes_an_entry_or_a_crossing_out(own):
    tables = own["experiments"]["mine"]["tables"]
    without = copy.deepcopy(own)
    del without["experiments"]["mine"]["tables"]["accuracy"], without["attacks"]["square"]
    del without["experiments"]["mine"]["tables"]["joined"]["detection"]
    without["suites"]["knowing"]["threats"].remove("square+")
    tables["accuracy"] = tables["joined"]["detection"] = own["attacks"]["square"] = None
    own["suites"]["knowing"] = without["suites"]["knowing"]
    read, expected = configuration.read(own), configuration.read(without)
    # A target that asks for the table is refused with its key.
    assert {*read.pop("left_out")} - {*expected.pop("left_out")} == {
        "experiments.mine.tables.accuracy"
    }
    assert read == expected
    own["attacks"]["bpda"] = None
    with pytest.raises(BadInput, match="'bpda'"):
        configuration.read(own)


def test_a_data_root_is_asked_for_only_where_it_is_read(quick, tmp_path):
    quick["datasets"]["mnist"] = {"function": "archives.mnist"}
    read = configuration.read(quick)
    check_data_root(read, ["digits", "patches"])
    with pytest.raises(BadInput, match="data_root: not set, but data set 'mnist'"):
        check_data_root(read, ["mnist"])
    read["data_root"] = str(tmp_path)
    check_data_root(read, ["mnist"])


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (None, "does not exist"),
        ("file", "is a file, not a folder"),
        ("pipe", "is a named pipe, not a folder"),
        ("loop", "is a broken link"),
        ("dangling", "is a broken link"),
    ],
)
def test_a_data_root_that_is_no_folder(quick, tmp_path, kind, reason):
    quick["datasets"]["mnist"] = {"function": "archives.mnist"}
    root = tmp_path / "root"
    if kind == "file":
        root.write_text("")
    elif kind:
        put_in_place(root, kind)
    read = configuration.read(quick) | {"data_root": str(root)}
    with pytest.raises(BadInput, match=f"^data_root: '{root}' {reason}.*, but data set 'mnist' is"):
        check_data_root(read, ["mnist"])


def test_a_data_root_that_may_not_be_listed(quick, tmp_path, monkeypatch):
    quick["datasets"]["mnist"] = {"function": "archives.mnist"}
    read = configuration.read(quick) | {"data_root": str(tmp_path)}
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(
        BadInput, match=r"cannot be read \(Permission denied\), but data set 'mnist'"
    ):
        check_data_root(read, ["mnist"])


def test_a_data_root_in_a_home_folder(quick, tmp_path, monkeypatch):
    quick["datasets"]["mnist"] = {"function": "archives.mnist"}
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    read = configuration.read(quick) | {"data_root": "~/data"}
    check_data_root(read, ["mnist"])
    with pytest.raises(BadInput, match="'~nobody_at_all/data' does not exist"):
        check_data_root(read | {"data_root": "~nobody_at_all/data"}, ["mnist"])


def test_every_key_of_the_schema_is_described():
    result = []

    def look(part, place):
        if isinstance(part, list):
            for number, item in enumerate(part):
                look(item, f"{place}.{number}")
        if not isinstance(part, dict):
            return
        for name, value in part.get("properties", {}).items():
            if isinstance(value, dict):
                result.append(f"{place}.{name}")
                target = value
                if "description" not in target:
                    target = schema()["$defs"][value["$ref"].split("/")[-1]]
                assert target.get("description"), f"{place}.{name} has no description"
        for name, value in part.items():
            look(value, f"{place}.{name}")

    look(schema(), "schema")
    assert len(result) > 60


def test_unknown_keys_are_refused_everywhere():
    def look(part):
        if isinstance(part, dict):
            if "properties" in part:
                assert part.get("additionalProperties") is False
            for value in part.values():
                look(value)
        elif isinstance(part, list):
            for value in part:
                look(value)

    look(schema())
