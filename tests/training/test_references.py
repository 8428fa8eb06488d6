"""What steps compare with is made once for each image, and training does not depend on that."""

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
from advdenoise.training._references import References, maker

N, BATCH = 23, 5
LOOP = {"epochs": 3, "batch": BATCH, "optimiser": {"name": "adam", "lr": 0.01}}
LAYERS = ["0", "2"]
STEP = partial(features.reconstruct, layers=LAYERS, weights=[0.01, 0.02])
CPU = torch.device("cpu")


def looked_at() -> nn.Module:
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
    """Trains a denoiser; its weights and history."""

    def run(name: str, step=STEP, **loop):
        model = denoiser()
        common = {"seed": 0, "name": "dae", "state": tmp_path / name, "digest": "d", "device": CPU}
        others = {"held_out": examples(100, 7), "network": looked_at()}
        history = train(model, step, examples(), LOOP | loop, **common, **others)
        rows = [{k: v for k, v in row.items() if k != "epoch_seconds"} for row in history]
        return model.state_dict(), rows

    return run


def kept_as(monkeypatch, way: str) -> None:
    """Let memory just suffice for single precision, for half precision, or not."""
    values = N * (3 * 6 * 6 + 3 * 6 * 6)
    limit = {"single": 4 * values, "half": 2 * values, "nothing": 2 * 7 * 216 - 1}[way]
    monkeypatch.setattr(_references, "_IN_MEMORY", limit)


@pytest.mark.parametrize("way", ["single", "half", "nothing"])
def test_kept_references_are_those_of_the_images(monkeypatch, caplog, way):
    caplog.set_level(logging.INFO)
    kept_as(monkeypatch, way)
    make, calls = maker(STEP, looked_at()), []

    def counted(targets):
        calls.append(len(targets))
        return make(targets)

    some = examples()
    references = References(counted, some, BATCH, CPU)
    steps = sum(1 for _ in references.keep())
    assert calls == ([5, 5, 5, 5, 3] if way != "nothing" else [5])
    assert steps == (5 if way != "nothing" else 0)
    index = torch.tensor([22, 3, 11])
    targets = some.targets(index)
    found, expected = references.of(index, targets), make(targets)
    assert len(calls) == (5 if way != "nothing" else 2)
    tolerance = {"single": 1e-6, "half": 1e-3, "nothing": 0}[way]
    for mine, other in zip(found, expected, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance)
    said = "made anew in each epoch" if way == "nothing" else "kept in memory"
    assert f"references of {N} images" in caplog.text and said in caplog.text


def test_what_half_precision_cannot_hold_is_made_anew(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(_references, "_IN_MEMORY", 2 * N)
    some = examples()
    references = References(lambda x: [x.sum((1, 2, 3)) * 1e5], some, BATCH, CPU)
    assert not list(references.keep())
    assert "exceed half precision" in caplog.text
    index = torch.tensor([4, 2])
    (found,) = references.of(index, some.targets(index))
    assert torch.equal(found, some.targets(index).sum((1, 2, 3)) * 1e5)


def test_a_step_without_references_has_no_maker():
    assert maker(plain.reconstruct, None) is None
    assert maker(partial(plain.classify, flip=True), looked_at()) is None


def test_a_maker_gets_the_step_s_settings_and_defaults():
    assert len(maker(STEP, looked_at())(torch.rand(2, 1, 8, 8))) == 2
    assert maker(features.reconstruct, None).keywords["layers"][0] == "layers.relu5_3"
    assert not maker(partial(logits.guided, norm="mse"), None).keywords


@pytest.mark.parametrize("way", ["half", "nothing"])
def test_training_does_not_depend_on_what_is_kept(fit, monkeypatch, way):
    expected, history = fit("single")
    kept_as(monkeypatch, way)
    found, others = fit(way)
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0.02, atol=2e-3)
    for row, other in zip(history, others, strict=True):
        assert row["metric"] == other["metric"]
        assert other["value"] == pytest.approx(row["value"], rel=1e-3)
        assert other["held_out_value"] == pytest.approx(row["held_out_value"], rel=1e-3)


@pytest.mark.parametrize("way", ["single", "half", "nothing"])
def test_resumed_training_is_bit_equal(fit, monkeypatch, way):
    kept_as(monkeypatch, way)
    expected, history = fit("whole")
    seen = iter([(1, True), (6, True), (10, False)])
    moment = next(seen)

    def step(model, images, targets, network, reference, iteration):
        nonlocal moment
        if (iteration, model.training) == moment:
            moment = next(seen, None)
            signal.raise_signal(signal.SIGTERM)
        return STEP(model, images, targets, network, reference)

    step.reference = partial(STEP.func.reference, layers=LAYERS)
    for _ in range(3):
        with pytest.raises(Preempted):
            fit("often", step)
    found, others = fit("often", step)
    assert others == history
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_training_that_is_stopped_while_references_are_made_stops_there(fit):
    def step(model, images, targets, network, reference):
        raise AssertionError("trained")

    def make(network, targets):
        signal.raise_signal(signal.SIGTERM)
        return [targets]

    step.reference = make
    with pytest.raises(Preempted, match="after epoch 0, batch 0"):
        fit("stopped", step)


def test_nothing_is_kept_for_a_single_epoch(fit, monkeypatch):
    monkeypatch.setattr(References, "keep", lambda self: pytest.fail("kept"))
    fit("once", epochs=1)


def test_clean_examples_are_their_own_targets():
    images = torch.randint(0, 256, (4, 1, 3, 3), dtype=torch.uint8)
    found = Clean(images, torch.zeros(4), range(4)).targets(torch.tensor([2, 0]))
    assert torch.equal(found, images[[2, 0]].float() / 255)
