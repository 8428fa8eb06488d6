"""Trainings with weights, losses or metrics that are not finite end in one error message."""

import pytest
import torch
from torch import nn

from advdenoise.errors import BadInput
from advdenoise.training import _steps, plain
from advdenoise.training._examples import Clean
from advdenoise.training._loop import train

NAN = float("nan")


def examples(count=8) -> Clean:
    images = torch.arange(count * 4, dtype=torch.uint8).view(count, 1, 2, 2)
    return Clean(images, torch.arange(count) % 3, range(count))


def run_training(tmp_path, step=plain.classify, epochs=0, held_out=None, weight=0.1):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    nn.init.constant_(network[1].weight, weight)
    loop = {"epochs": epochs, "batch": 4, "optimiser": {"name": "sgd", "lr": 0.01}}
    names = {"seed": 0, "name": "net", "state": tmp_path, "digest": "", "device": "cpu"}
    return train(network, step, examples(), loop, **names, held_out=held_out)


@pytest.mark.parametrize("epochs", [0, 1])
@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_initial_weights(tmp_path, epochs, value):
    with pytest.raises(BadInput, match="net: the initial weights are not finite"):
        run_training(tmp_path, epochs=epochs, weight=value)
    assert run_training(tmp_path / "fine") == []


def test_a_held_out_loss(tmp_path):
    def step(model, images, labels):
        loss, metrics = plain.classify(model, images, labels, None)
        return (loss if model.training else loss * NAN), metrics

    with pytest.raises(BadInput, match="net: the held-out loss is not finite in epoch 1"):
        run_training(tmp_path, step, epochs=1, held_out=examples())


def test_a_metric(tmp_path):
    def step(model, images, labels):
        loss, _ = plain.classify(model, images, labels, None)
        return loss, {"share": loss.detach() * NAN}

    with pytest.raises(BadInput, match="net: the share is not finite in epoch 1, batch 1"):
        run_training(tmp_path, step, epochs=1)


def test_outputs_that_are_not_finite_are_incorrect():
    logits = torch.tensor([[1.0, 0.0], [NAN, NAN], [NAN, 1.0]])
    assert _steps.correct_share(logits, torch.tensor([0, 0, 0])).tolist() == [1, 0, 0]
