"""References are computed once for each image; training does not depend on how they are kept."""

import logging
import signal
from functools import partial

import pytest
import torch
from torch import nn

from advdenoise.errors import Preempted
from advdenoise.training import _references, features, logits, plain
from advdenoise.training._examples import Clean, Mixture, Part
from advdenoise.training._loop import train
from advdenoise.training._references import References, reference_function

N, BATCH = 23, 5
LOOP = {"epochs": 3, "batch": BATCH, "optimiser": {"name": "adam", "lr": 0.01}}
LAYERS = ["0", "2"]
STEP = partial(features.reconstruct, layers=LAYERS, weights=[0.01, 0.02])
CPU = torch.device("cpu")


def classifier() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4)]
    return nn.Sequential(*layers).eval().requires_grad_(False)


def denoiser() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))


def examples(first: int = 0, count: int = N) -> Mixture:
    generator = torch.Generator().manual_seed(first)
    images = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    perturbation = torch.randn(images.shape, generator=generator).numpy() / 10
    ids = range(first, first + count)
    return Mixture(images, torch.zeros(count).long(), ids, [Part(1, [perturbation])])


@pytest.fixture
def fit(tmp_path):
    """A function that trains a denoiser and returns weights and history."""

    def run(name: str, step=STEP, **loop):
        model = denoiser()
        common = {"seed": 0, "name": "dae", "state": tmp_path / name, "digest": "d", "device": CPU}
        others = {"held_out": examples(100, 7), "network": classifier()}
        history = train(model, step, examples(), LOOP | loop, **common, **others)
        rows = [{k: v for k, v in row.items() if k != "epoch_seconds"} for row in history]
        return model.state_dict(), rows

    return run


def limit_memory(monkeypatch, storage: str) -> None:
    """Limit the memory to just single precision, half precision, or less."""
    values = N * (3 * 6 * 6 + 3 * 6 * 6)
    limit = {"single": 4 * values, "half": 2 * values, "nothing": 2 * 7 * 216 - 1}[storage]
    monkeypatch.setattr(_references, "_IN_MEMORY", limit)


@pytest.mark.parametrize("storage", ["single", "half", "nothing"])
def test_cached_references_are_those_of_the_images(monkeypatch, caplog, storage):
    caplog.set_level(logging.INFO)
    limit_memory(monkeypatch, storage)
    function, calls = reference_function(STEP, classifier()), []

    def counted(targets):
        calls.append(len(targets))
        return function(targets)

    data = examples()
    references = References(counted, data, BATCH, CPU)
    steps = sum(1 for _ in references.fill_cache())
    assert calls == ([5, 5, 5, 5, 3] if storage != "nothing" else [5])
    assert steps == (5 if storage != "nothing" else 0)
    index = torch.tensor([22, 3, 11])
    targets = data.targets(index)
    result, expected = references.get(index, targets), function(targets)
    assert len(calls) == (5 if storage != "nothing" else 2)
    tolerance = {"single": 1e-6, "half": 1e-3, "nothing": 0}[storage]
    for actual, other in zip(result, expected, strict=True):
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual, other, rtol=tolerance, atol=tolerance)
    message = "computed again in each epoch" if storage == "nothing" else "kept in memory"
    assert f"references of {N} images" in caplog.text and message in caplog.text


def test_values_beyond_half_precision_are_not_cached(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(_references, "_IN_MEMORY", 2 * N)
    data = examples()
    references = References(lambda x: [x.sum((1, 2, 3)) * 1e5], data, BATCH, CPU)
    assert not list(references.fill_cache())
    assert "exceed half precision" in caplog.text
    index = torch.tensor([4, 2])
    (result,) = references.get(index, data.targets(index))
    assert torch.equal(result, data.targets(index).sum((1, 2, 3)) * 1e5)


def test_steps_without_references():
    assert reference_function(plain.reconstruct, None) is None
    assert reference_function(partial(plain.classify, flip=True), classifier()) is None


def test_the_reference_function_gets_settings_and_defaults():
    assert len(reference_function(STEP, classifier())(torch.rand(2, 1, 8, 8))) == 2
    assert reference_function(features.reconstruct, None).keywords["layers"][0] == "layers.relu5_3"
    assert not reference_function(partial(logits.guided, norm="mse"), None).keywords


@pytest.mark.parametrize("storage", ["half", "nothing"])
def test_training_does_not_depend_on_the_cache(fit, monkeypatch, storage):
    expected, history = fit("single")
    limit_memory(monkeypatch, storage)
    result, others = fit(storage)
    for name, weight in expected.items():
        torch.testing.assert_close(result[name], weight, rtol=0.02, atol=2e-3)
    for row, other in zip(history, others, strict=True):
        assert row["metric"] == other["metric"]
        assert other["value"] == pytest.approx(row["value"], rel=1e-3)
        assert other["held_out_value"] == pytest.approx(row["held_out_value"], rel=1e-3)


@pytest.mark.parametrize("storage", ["single", "half", "nothing"])
def test_resumed_training_is_bit_equal(fit, monkeypatch, storage):
    limit_memory(monkeypatch, storage)
    expected, history = fit("whole")
    moments = iter([(1, True), (6, True), (10, False)])
    moment = next(moments)

    def step(model, images, targets, network, reference, iteration):
        nonlocal moment
        if (iteration, model.training) == moment:
            moment = next(moments, None)
            signal.raise_signal(signal.SIGTERM)
        return STEP(model, images, targets, network, reference)

    step.reference = partial(STEP.func.reference, layers=LAYERS)
    for _ in range(3):
        with pytest.raises(Preempted):
            fit("often", step)
    result, others = fit("often", step)
    assert others == history
    assert all(torch.equal(result[name], weight) for name, weight in expected.items())


def test_training_can_be_stopped_while_references_are_computed(fit):
    def step(model, images, targets, network, reference):
        raise AssertionError("trained")

    def function(network, targets):
        signal.raise_signal(signal.SIGTERM)
        return [targets]

    step.reference = function
    with pytest.raises(Preempted, match="after epoch 0, batch 0"):
        fit("stopped", step)


def test_no_cache_for_a_single_epoch(fit, monkeypatch):
    monkeypatch.setattr(References, "fill_cache", lambda self: pytest.fail("cached"))
    fit("once", epochs=1)


def test_targets_are_the_clean_images():
    images = torch.randint(0, 256, (4, 1, 3, 3), dtype=torch.uint8)
    result = Clean(images, torch.zeros(4), range(4)).targets(torch.tensor([2, 0]))
    assert torch.equal(result, images[[2, 0]].float() / 255)
