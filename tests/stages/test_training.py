"""The training jobs: what is trained on what, the files, and what a resumed state belongs to."""

import numpy as np
import pytest
import torch

from advdenoise.errors import BadInput
from advdenoise.inference.purified import check_frozen
from advdenoise.io.hdf5 import open_hdf5
from advdenoise.io.parquet import read_table
from advdenoise.io.provenance import read_provenance
from advdenoise.io.schemas import HISTORY
from advdenoise.io.weights import read_weights
from advdenoise.noise import Noise
from advdenoise.stages import models, training
from advdenoise.stages.data import open_images

CLASSIFIER = "seed0/digits/classifiers/{}.safetensors"
DENOISER = "seed0/digits/denoisers/{}.safetensors"


def history(weights):
    path = weights.with_name(weights.name.replace(".safetensors", ".history.parquet"))
    return read_table(path, HISTORY).to_pandas()


@pytest.fixture
def examples(world, monkeypatch, tmp_path):
    """Runs a training job without training; gives the examples and what else the loop gets."""

    def run(file: str, **changes):
        inputs = {}

        def watched(model, step, examples, loop, **others):
            inputs.update(others, step=step, examples=examples, loop=loop)
            return []

        monkeypatch.setattr(training, "train", watched)
        world.run(file, tmp_path / "watched.safetensors", **changes)
        return inputs

    return run


# ---------------------------------------------------------------- the files


@pytest.mark.parametrize("name", ["small", "elu"])
def test_a_classifier_is_written_with_its_history(world, name):
    path = world.make(CLASSIFIER.format(name))
    settings = world.settings(CLASSIFIER.format(name))
    tensors, provenance = read_weights(path)
    assert provenance["settings"] == settings | {"precision": "float32"}
    results = history(path)
    epochs = settings["classifier"]["training"]["epochs"]
    assert list(results["epoch"]) == list(range(1, epochs + 1))
    assert list(results["iteration"]) == [10 * epoch for epoch in range(1, epochs + 1)]
    assert set(results["metric"]) == {"accuracy"}
    assert np.isfinite(results.drop(columns="metric")).all(axis=None)
    with open_images(world.make("images/digits/held_out.h5")) as held_out:
        network = models.load_frozen("classifiers", path, settings["classifier"], held_out)
        images = torch.from_numpy(held_out.stored[:] / np.float32(255))
        with torch.no_grad():
            right = network(images).argmax(1).numpy() == held_out.labels
    assert results["held_out_value"].iloc[-1] == pytest.approx(right.mean(), abs=1e-6)
    assert set(tensors) == set(network.state_dict())


def test_the_classifier_learns(world):
    results = history(world.make(CLASSIFIER.format("small")))
    assert results["held_out_value"].iloc[-1] > 0.7
    assert results["loss"].iloc[-1] < results["loss"].iloc[0] / 2


def test_the_state_is_gone_once_the_weights_are_written(world):
    world.make(CLASSIFIER.format("small"))
    assert not list((world.root / "resume").rglob("*.safetensors"))


def test_the_same_job_gives_the_same_weights_and_another_seed_others(world, tmp_path):
    file = CLASSIFIER.format("small")
    expected, _ = read_weights(world.make(file))
    again, _ = read_weights(world.run(file, tmp_path / "again.safetensors"))
    assert all(torch.equal(tensor, again[name]) for name, tensor in expected.items())
    settings = {"seed": 1}
    other, _ = read_weights(world.run(file, tmp_path / "other.safetensors", settings))
    assert not any(torch.equal(t, other[name]) for name, t in expected.items())


def test_without_held_out_images_nothing_is_told_of_them(world, tmp_path):
    file = CLASSIFIER.format("small")
    settings = world.settings(file)["classifier"]
    settings["training"]["epochs"] = 1
    path = tmp_path / "alone.safetensors"
    world.run(file, path, {"classifier": settings}, held_out=None)
    results = read_table(path.with_name("alone.history.parquet"), HISTORY).to_pandas()
    assert results["held_out_loss"].isna().all() and results["held_out_value"].isna().all()


# ---------------------------------------------------------------- start and stop


def test_a_classifier_stops_early_and_another_goes_on_from_it(world):
    early, late = (world.make(CLASSIFIER.format(name)) for name in ("early", "late"))
    message = {}
    for path, column in ((early, "held_out_value"), (late, "value")):
        rows = history(path)
        message[path] = rows[rows["metric"] == "clean_accuracy"][column]
        assert message[path].notna().all()
    assert (
        1 <= len(message[early]) < 9 and message[early].iloc[-1] >= 0.5 > message[early][:-1].max()
    )
    assert 1 < len(message[late]) < 13 and message[late].iloc[-1] >= 0.9 > message[late][:-1].max()
    assert read_provenance(late)["settings"]["start"]["name"] == "early"
    settings = world.settings(CLASSIFIER.format("late"))["classifier"]
    with open_images(world.make("images/digits/train.h5")) as clean:
        network = models.load_frozen("classifiers", late, settings, clean)
        images = torch.from_numpy(clean.stored[:] / np.float32(255))
        with torch.no_grad():
            right = network(images).argmax(1).numpy() == clean.labels
    assert message[late].iloc[-1] == pytest.approx(right.mean(), abs=1e-6)


def test_training_begins_with_the_weights_of_its_start(world, monkeypatch, tmp_path):
    begun = {}

    def watched(model, step, examples, loop, **others):
        begun.update({name: value.clone() for name, value in model.state_dict().items()})
        return []

    early, denoiser = CLASSIFIER.format("early"), DENOISER.format("of_noise")
    stored, _ = read_weights(world.make(early))
    denoising, _ = read_weights(world.make(denoiser))
    monkeypatch.setattr(training, "train", watched)
    world.run(CLASSIFIER.format("late"), tmp_path / "late.safetensors")
    assert all(torch.equal(value, begun[name]) for name, value in stored.items())
    begun.clear()
    world.run(DENOISER.format("tuned"), tmp_path / "tuned.safetensors")
    assert all(torch.equal(value, begun[name]) for name, value in denoising.items())


def test_another_start_is_another_state(world, examples):
    file = DENOISER.format("tuned")
    before = examples(file)["digest"]
    world.make(DENOISER.format("of_noise")).touch()
    assert examples(file)["digest"] != before


def test_a_start_of_another_network_is_refused(world, tmp_path):
    other = world.make(CLASSIFIER.format("other"))
    with pytest.raises(BadInput, match="holds weights of another network than classifiers.late"):
        world.run(CLASSIFIER.format("late"), tmp_path / "x.safetensors", start=other)


# ---------------------------------------------------------------- examples


def test_a_classifier_is_trained_on_its_split(world, examples):
    inputs = examples(CLASSIFIER.format("small"))
    with open_images(world.make("images/digits/train.h5")) as clean:
        assert np.array_equal(inputs["examples"].ids, clean.ids) and len(clean) == 320
        batch = inputs["examples"].batch(torch.arange(320), Noise(0, clean.ids, "x"), 0)
        assert np.allclose(batch["images"], clean.stored[:] / np.float32(255), atol=1e-7)
        assert np.array_equal(batch["labels"], clean.labels)
    with open_images(world.make("images/digits/held_out.h5")) as clean:
        assert np.array_equal(inputs["held_out"].ids, clean.ids)
    assert inputs["step"].func.__name__ == "classify" and inputs["loop"]["epochs"] == 5


def noise_of(ids) -> Noise:
    return Noise(0, ids, "test")


def test_a_denoiser_meets_clean_images_and_noise_in_their_shares(world, examples):
    inputs = examples(DENOISER.format("of_noise"))
    index = torch.arange(32)
    batch = inputs["examples"].batch(index, noise_of(index), 0)
    change = (batch["images"] - batch["targets"]).flatten(1)
    noisy = change.abs().amax(1) > 0
    assert noisy.sum() == 16
    bright = (batch["targets"].flatten(1) > 0.3) & (batch["targets"].flatten(1) < 0.7)
    assert change[noisy][bright[noisy]].std() == pytest.approx(0.1, rel=0.1)
    assert batch["images"].min() >= 0 and batch["images"].max() <= 1
    assert inputs["held_out"] is not None


def test_a_denoiser_meets_threats_in_their_shares(world, examples):
    inputs = examples(DENOISER.format("of_threats"))
    with open_images(world.make("images/digits/some.h5")) as clean:
        images = torch.from_numpy(clean.stored[:] / np.float32(255))
        ids = clean.ids
    attacked = {}
    for threat, point in (
        ("fgsm@small", "default"),
        ("cycled@small", "fgsm"),
        ("cycled@small", "pgd"),
    ):
        with open_hdf5(world.make(f"seed0/digits/adversarial/{threat}/some.h5")) as file:
            assert np.array_equal(file["ids"][:], ids)
            perturbation = torch.from_numpy(file[f"points/{point}/perturbation"][:])
        attacked[threat, point] = (images + perturbation).clamp(0, 1)
    turns = []
    for epoch in (0, 1):
        index = torch.arange(64).flip(0)[:32]
        batch = inputs["examples"].batch(index, noise_of(index), epoch)
        assert torch.allclose(batch["targets"], images[index], atol=1e-7)
        source = [
            next(k for k, v in attacked.items() if torch.allclose(v[i], results, atol=1e-6))
            for i, results in zip(index.tolist(), batch["images"], strict=True)
        ]
        assert sum(threat == "fgsm@small" for threat, _ in source) == 8
        assert {point for threat, point in source if threat == "cycled@small"} == {"fgsm", "pgd"}
        turns.append(source)
    assert turns[0] != turns[1]
    # The adversarial sets hold the training images alone.
    assert inputs["held_out"] is None


MIXTURE = {
    "fgsm@small": 0.05,
    "transferred@small": 0.30,
    "bim@small": 0.05,
    "fgsm@other": 0.30,
    "bim@other": 0.30,
}


def test_every_batch_of_a_mixture_holds_its_shares_exactly(world, examples):
    """Attacks with different victims and surrogates, told apart by what they did to each image."""
    inputs = examples(DENOISER.format("of_mixture"))
    attacked = {}
    with open_images(world.make("images/digits/some.h5")) as clean:
        images = torch.from_numpy(clean.stored[:] / np.float32(255))
        ids = clean.ids
    for threat in MIXTURE:
        with open_hdf5(world.make(f"seed0/digits/adversarial/{threat}/some.h5")) as file:
            perturbation = torch.from_numpy(file["points/default/perturbation"][:])
        attacked[threat] = (images + perturbation).clamp(0, 1)
    ids_of = {threat: set() for threat in MIXTURE}
    for epoch in range(3):
        order = torch.randperm(64, generator=torch.Generator().manual_seed(epoch))
        for index in order[:60].split(20):
            noise = Noise(0, ids[index.numpy()], "test", draw=epoch)
            batch = inputs["examples"].batch(index, noise, epoch)
            assert torch.allclose(batch["targets"], images[index], atol=1e-7)
            fits = {
                threat: (batch["images"] - experiment[index]).flatten(1).abs().amax(1) < 1e-6
                for threat, experiment in attacked.items()
            }
            # Where two attacks did the same to an image, it may be either's.
            message = sum(fit.int() for fit in fits.values())
            assert (message >= 1).all()
            for threat, share in MIXTURE.items():
                alone = int((fits[threat] & (message == 1)).sum())
                assert alone <= round(20 * share) <= int(fits[threat].sum())
                ids_of[threat] |= set(index[fits[threat]].tolist())
    assert all(len(images) > 2 for images in ids_of.values())
    assert len(ids_of["bim@other"]) > 25  # other images in each epoch


def test_a_denoiser_is_trained_on_a_mixture(world):
    results = history(world.make(DENOISER.format("of_mixture")))
    assert results["loss"].iloc[-1] < results["loss"].iloc[0]


def test_a_denoiser_is_trained_and_denoises(world):
    path = world.make(DENOISER.format("of_noise"))
    results = history(path)
    assert set(results["metric"]) == {"mse"} and results["held_out_loss"].notna().all()
    assert results["loss"].iloc[-1] < results["loss"].iloc[0]
    adversarial = history(world.make(DENOISER.format("of_threats")))
    assert adversarial["held_out_loss"].isna().all() and len(adversarial) == 1
    settings = read_provenance(world.make(DENOISER.format("of_threats")))["settings"]
    assert set(settings["attacks"]) == {"fgsm", "cycled"}


# ---------------------------------------------------------------- what a step looks at


def test_a_classifier_may_be_left_as_it_comes(world):
    path = world.make(CLASSIFIER.format("untrained"))
    assert history(path).empty
    settings = world.settings(CLASSIFIER.format("untrained"))["classifier"]
    with open_images(world.make("images/digits/few.h5")) as clean:
        network = models.load_frozen("classifiers", path, settings, clean)
    assert network.layers.conv5_3.bias.abs().max() == 0  # He's start


def test_weights_to_start_from_are_not_fetched_where_weights_are_stored(world):
    path = world.make(CLASSIFIER.format("untrained"))
    settings = world.settings(CLASSIFIER.format("untrained"))["classifier"]
    settings["settings"] |= {"pretrained": True}
    with open_images(world.make("images/digits/few.h5")) as clean:
        # There are none for so narrow a network.
        with pytest.raises(BadInput, match="ImageNet weights are for width 64"):
            models.build("classifiers", settings, clean.shape, 10)
        models.load_frozen("classifiers", path, settings, clean)


def test_a_step_is_handed_the_frozen_network_that_its_entry_names(world, examples):
    inputs = examples(DENOISER.format("of_features"))
    network, path = inputs["network"], world.make(CLASSIFIER.format("untrained"))
    check_frozen(network)
    stored, _ = read_weights(path)
    assert all(torch.equal(t, stored[name]) for name, t in network.state_dict().items())
    settings = world.settings(DENOISER.format("of_features"))
    assert settings["network"]["name"] == "untrained"
    assert inputs["step"].func.__name__ == "reconstruct"
    assert examples(DENOISER.format("of_noise"))["network"] is None


def test_another_network_is_another_state(world, examples):
    file = DENOISER.format("of_features")
    before = examples(file)["digest"]
    path = world.make(CLASSIFIER.format("untrained"))
    path.touch()
    assert examples(file)["digest"] != before


def test_a_denoiser_is_trained_on_features(world):
    path = world.make(DENOISER.format("of_features"))
    results = history(path)
    layers = ["layers.relu5_3", "layers.relu4_2", "layers.relu3_2"]
    assert list(results["metric"]) == 2 * ["pixels", *layers]
    for _, rows in results.groupby("epoch"):
        assert rows["value"].sum() == pytest.approx(rows["loss"].iloc[0], rel=1e-5)
    assert results["loss"].iloc[-1] < results["loss"].iloc[0]
    assert read_provenance(path)["settings"]["network"]["settings"] == {"width": 2}


def test_a_denoiser_is_guided_by_logits(world):
    results = history(world.make(DENOISER.format("of_logits")))
    assert set(results["metric"]) == {"agreement"} and results["held_out_value"].notna().all()
    assert results["loss"].iloc[-1] < results["loss"].iloc[0]
    assert 0 <= results["value"].min() <= results["value"].max() <= 1


def test_adversarial_sets_of_other_images_are_refused(world, tmp_path):
    experiment = [
        world.make(f"seed0/digits/adversarial/{threat}/few.h5")
        for threat in ("fgsm@small", "cycled@small")
    ]
    with pytest.raises(BadInput, match="was made from other images"):
        world.run(DENOISER.format("of_threats"), tmp_path / "x.safetensors", adversarial=experiment)


def test_shares_are_of_the_sets_that_they_name_in_any_order(world, tmp_path):
    denoiser = DENOISER.format("of_threats")
    sets = world.options(denoiser, tmp_path / "x.safetensors")[1]["adversarial"]
    result = world.run(denoiser, tmp_path / "x.safetensors", adversarial=sets[::-1])
    expected, _ = read_weights(world.make(denoiser))
    weights, _ = read_weights(result)
    assert all(tensor.equal(expected[name]) for name, tensor in weights.items())
