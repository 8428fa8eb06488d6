"""A classifier may be trained on another data set than the one that it is judged on."""

import copy

import pytest

from advdenoise.errors import BadInput
from advdenoise.graph import configuration
from advdenoise.graph.flow import Flow
from advdenoise.graph.yaml_files import read_files
from advdenoise.io.parquet import read_table
from advdenoise.stages import images
from tests import mini
from tests.stages.conftest import World

PATH = "seed0/digits/classifiers/cnn.safetensors"


@pytest.fixture
def config() -> dict:
    """mini.yaml, whose classifier is trained on a second draw of the same digits."""
    config = read_files(mini.CONFIG)
    digits = copy.deepcopy(config["datasets"]["digits"])
    config["datasets"]["more"] = digits | {
        "splits": {"train": {"size": 300}, "held_out": {"size": 32}}
    }
    config["classifiers"]["cnn"]["training"]["dataset"] = "more"
    return config


def test_the_classifier_reads_the_other_images_and_denoisers_their_own(config):
    flow = Flow(configuration.read(config))
    names = {"seed": "0", "dataset": "digits"}
    inputs = flow.job("train_classifier", names | {"classifier": "cnn"}).inputs
    root = "results/mini/images"
    assert inputs == {
        "images": f"{root}/more/train.h5",
        "held_out": f"{root}/more/held_out.h5",
        "classes": f"{root}/digits/test.h5",
    }
    inputs = flow.job("train_denoiser", names | {"denoiser": "dae"}).inputs
    assert inputs["images"] == f"{root}/digits/train.h5"
    assert inputs["held_out"] == f"{root}/digits/held_out.h5"


def test_without_it_nothing_changes(config):
    del config["classifiers"]["cnn"]["training"]["dataset"]
    job = Flow(configuration.read(config)).job(
        "train_classifier", {"seed": "0", "dataset": "digits", "classifier": "cnn"}
    )
    assert "classes" not in job.inputs and "dataset" not in job.settings["classifier"]["training"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "mroe"}, "training.dataset: 'mroe' is not configured .* did you mean 'more'"),
        ({"dataset": "scenes"}, "'scenes' has masks, but the classifier learns from labels"),
        (
            {"stop": {"measured_on": "held_out", "accuracy": 0.9}, "dataset": "bare"},
            "data set 'bare' holds nothing out",
        ),
    ],
)
def test_a_data_set_that_does_not_fit_is_refused(config, change, message):
    config["datasets"]["scenes"] = {"function": "embedded.scenes"}
    config["datasets"]["bare"] = {"function": "embedded.digits"}
    config["classifiers"]["cnn"]["training"] |= change
    with pytest.raises(BadInput, match=message):
        configuration.read(config)


def test_a_denoiser_has_no_other_data_set(config):
    config["denoisers"]["dae"]["training"]["dataset"] = "more"
    with pytest.raises(BadInput, match="dae.training.dataset: a denoiser is trained on the data"):
        configuration.read(config)


class OfConfiguration(World):
    def __init__(self, root, config):
        self.root, self.flow = root, Flow(configuration.read(config))


def test_it_is_trained_on_the_other_images(config, tmp_path):
    results = OfConfiguration(tmp_path, config)
    results.make(PATH)
    history = read_table(tmp_path / "results/mini/seed0/digits/classifiers/cnn.history.parquet")
    # 300 of the other data set and not 256 of its own, in batches of 32.
    assert history.to_pandas()["iteration"].tolist() == [10, 20, 30]


def test_other_classes_or_channels_are_refused(config, tmp_path):
    results = OfConfiguration(tmp_path, config)
    entry = {"function": "embedded.patches", "settings": {}, "splits": {"test": {"size": 8}}}
    patches = tmp_path / "patches.h5"
    images.run({"dataset": "patches", "entry": entry, "split": "test"}, patches)
    with pytest.raises(BadInput, match=r"classifiers\.cnn\.training\.dataset: .* other classes"):
        results.run(PATH, tmp_path / "weights.safetensors", classes=patches)
