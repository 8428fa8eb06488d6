"""Networks of others: where weights come from and what a network takes."""

import copy
import json

import pytest

from advdenoise.errors import BadInput
from advdenoise.graph import configuration
from advdenoise.graph.combinations import combinations
from advdenoise.graph.flow import Flow
from advdenoise.graph.yaml_files import read_files
from tests import mini

MINI = read_files(mini.CONFIG)
CNN = "seed0/digits/classifiers/cnn"


def with_weights(file, **more) -> dict:
    """The small configuration, its classifier and its denoiser read from a file."""
    config = copy.deepcopy(MINI)
    for entry in (config["classifiers"]["cnn"], config["denoisers"]["dae"]):
        entry.pop("training")
        entry.pop("trained_on", None)
        entry["weights"] = str(file)
    config["classifiers"]["cnn"] |= more
    return config


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"some weights")
    return path


REFUSED = {
    "no weights at all": (
        {"weights": None},
        ["classifiers.cnn: the key 'training' is missing", "`weights`"],
    ),
    "weights beside training": (
        {"training": MINI["classifiers"]["cnn"]["training"]},
        ["classifiers.cnn.training: stands beside `weights`"],
    ),
    "weights in two places": (
        {"function": "zoo.timm_model", "settings": {"model": "resnet18", "weights": "other.pth"}},
        ["classifiers.cnn.settings.weights: stands beside classifiers.cnn.weights"],
    ),
    "an empty path": ({"weights": ""}, ["classifiers.cnn.weights"]),
    "outputs of another kind": ({"outputs": "softmax"}, ["classifiers.cnn.outputs", "logits"]),
    "a mean beyond 1": ({"mean": [120, 110, 100]}, ["classifiers.cnn.mean.0", "at most 1"]),
    "a std of 0": ({"std": 0}, ["classifiers.cnn.std", "greater than 0"]),
    "a size of 0": ({"size": 0}, ["classifiers.cnn.size", "at least 1"]),
    "a size of three": ({"size": [1, 2, 3]}, ["classifiers.cnn.size"]),
    "four channels": ({"channels": 4}, ["classifiers.cnn.channels"]),
    "more means than channels": (
        {"mean": [0.1, 0.2], "channels": 3},
        ["classifiers.cnn.mean: 2 values for 3 channels"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_network_can_be_is_refused(case, file):
    more, expected = REFUSED[case]
    config = with_weights(file)
    changed = config["classifiers"]["cnn"] | more
    config["classifiers"]["cnn"] = {k: value for k, value in changed.items() if value is not None}
    with pytest.raises(BadInput) as mistake:
        configuration.read(config)
    assert all(words in str(mistake.value) for words in expected), mistake.value
    assert "\n" not in str(mistake.value)


def test_a_denoiser_with_weights_is_trained_on_nothing(file):
    config = with_weights(file)
    config["denoisers"]["dae"]["trained_on"] = [{"threat": "clean", "share": 1}]
    with pytest.raises(BadInput, match=r"denoisers\.dae\.trained_on: stands beside `weights`"):
        configuration.read(config)
    config = copy.deepcopy(MINI)
    del config["denoisers"]["dae"]["trained_on"]
    with pytest.raises(BadInput, match=r"denoisers\.dae: the key 'trained_on' is missing"):
        configuration.read(config)


def test_null_takes_the_training_of_a_file_below_out(file):
    config = copy.deepcopy(MINI)
    config["classifiers"]["cnn"] |= {"training": None, "weights": str(file)}
    assert "training" not in configuration.read(config)["classifiers"]["cnn"]


def test_only_images_are_converted_for_a_generator(file):
    config = with_weights(file)
    config["denoisers"]["dae"] = {
        "function": "gan.wgan",
        "weights": str(file),
        "size": 32,
    }
    config["purifiers"]["direct"]["function"] = "gan.defense_gan"
    with pytest.raises(BadInput, match=r"denoisers\.dae\.size: gan\.wgan is a generator"):
        configuration.read(config)


# ---------------------------------------------------------------- the graph


def flow(file, **more) -> Flow:
    return Flow(configuration.read(with_weights(file, **more)))


def test_weights_are_read_by_the_rule_that_trains(file):
    graph = flow(file)
    entries = {"train_classifier": {"classifier": "cnn"}, "train_denoiser": {"denoiser": "dae"}}
    for rule, names in entries.items():
        names = {"seed": "0", "dataset": "digits"} | names
        job = graph.job(rule, names)
        assert job.inputs == {"images": "results/mini/images/digits/test.h5"}
        assert [str(path) for path in graph.named_files(rule)(names)] == [str(file)]
        assert str(file) in graph.settings(rule)(names)


def test_the_contents_of_the_weights_are_in_the_code_of_that_job_alone(file):
    names = {"seed": "0", "dataset": "digits", "classifier": "cnn"}
    attack = {"seed": "0", "dataset": "digits", "threat": "fgsm@cnn", "split": "test"}
    before = flow(file)
    old = before.code("train_classifier")(names), before.code("attack")(attack)
    other = file.with_name("x.pth")
    other.write_bytes(b"other weights")
    after = flow(other)
    assert after.code("train_classifier")(names) != old[0]
    assert after.code("attack")(attack) == old[1]


def test_the_training_loop_is_no_part_of_a_network_that_is_not_trained(file):
    names = {"seed": "0", "dataset": "digits", "classifier": "cnn"}
    trained = Flow(configuration.read(MINI)).code("train_classifier")(names)
    assert flow(file).code("train_classifier")(names).split("-")[:2] != trained.split("-")[:2]
    assert flow(file).job("train_classifier", names).module == "weights"


def test_a_missing_file_is_told_with_its_key(tmp_path):
    graph = flow(tmp_path / "nowhere.pth")
    names = {"seed": "0", "dataset": "digits", "classifier": "cnn"}
    with pytest.raises(
        SystemExit, match=r"classifiers\.cnn\.weights: .*nowhere\.pth does not exist"
    ):
        graph.named_files("train_classifier")(names)


def test_a_network_may_start_from_one_that_is_read(file):
    config = with_weights(file)
    entry = config["classifiers"]["cnn"]
    tuned = {key: value for key, value in entry.items() if key != "weights"}
    config["classifiers"]["tuned"] = tuned | {
        "training": MINI["classifiers"]["cnn"]["training"] | {"start": "cnn"}
    }
    graph = Flow(configuration.read(config))
    names = {"seed": "0", "dataset": "digits", "classifier": "tuned"}
    assert graph.job("train_classifier", names).inputs["start"].endswith(f"{CNN}.safetensors")
    config["classifiers"]["tuned"]["mean"] = 0.5
    with pytest.raises(BadInput, match="other settings"):
        configuration.read(config)


def test_a_table_crosses_networks_with_weights(file):
    config = configuration.read(with_weights(file))
    table = config["experiments"]["defence"]["tables"]["accuracy"]
    combined, left_out = combinations(config, table)
    assert combined["predictions"] and not left_out
    settings = json.loads(
        Flow(config).settings("evaluate")(
            {"seed": "0", "dataset": "digits", "suite": "purified", "purifier": "direct"}
            | {"classifier": "cnn", "split": "test"}
        )
    )
    assert "network" not in settings and settings["denoiser"]["weights"] == str(file)
