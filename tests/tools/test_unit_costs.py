"""What is measured is there, positive and of the right thing; the rest is the machine's."""

import json

import pytest
import torch
from torch import nn

from advdenoise.graph import sources
from advdenoise.io.json_files import read_json
from advdenoise.io.provenance import read_provenance
from advdenoise.stages import models
from tools.plan import measure, units
from tools.plan.work import (
    BYTE,
    DEVICE,
    DISK,
    FIT,
    FORWARD,
    GRADIENT,
    INNER,
    MAPS,
    STEP,
    UPDATE,
    Thing,
    Use,
)

LENET = Thing("classifiers", "convnets.lenet", '{"channels": [2, 2], "hidden": 4}', (1, 28, 28, 10))
TIMM = Thing(
    "classifiers", "zoo.timm_model", '{"model": "resnet10t", "pretrained": true}', (3, 32, 32, 3)
)
DENOISER = Thing("denoisers", "autoencoders.seven_layer", '{"channels": [2, 2]}', (1, 28, 28, 10))
SLIC = Thing("attributions", "superpixels.slic", '{"n_segments": 16}', (3, 24, 20))
PIXELS = Thing("attributions", "superpixels.pixels", "{}", (1, 12, 10))
TREES = Thing("detectors", "trees.random_forest", '{"trees": 3}', (4,))


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(measure, "_SECONDS", 1e-6)
    monkeypatch.setattr(measure, "_ROWS", (20, 40))
    monkeypatch.setattr(measure, "_BYTES", 1 << 14)


def parameters(thing: Thing) -> int:
    entry = {"function": thing.function, "settings": json.loads(thing.settings)}
    network = models.build(thing.kind, entry, thing.size[:3], thing.size[3])
    return sum(tensor.numel() for tensor in network.state_dict().values())


def test_every_use_that_is_asked_for_is_measured(tmp_path, capsys):
    uses = [Use(LENET, what) for what in (FORWARD, GRADIENT, INNER, UPDATE, STEP)]
    uses += [Use(DENOISER, FORWARD), Use(SLIC, MAPS), Use(PIXELS, MAPS), Use(DEVICE, "start")]
    uses += [Use(TREES, FIT, 100), Use(TREES, FIT, 400), Use(DISK, BYTE)]
    path = measure.run(uses, 16, tmp_path / "units")
    assert read_provenance(path)["device"] == units.read(tmp_path / "units")[0]["device"]
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    known = units.Units(units.read(tmp_path / "units"))
    for use in uses:
        cost = known.cost(use)
        assert cost.of(use.rows) > 0 and cost.factor >= 1, use
    assert set(read_json(path)["things"][DENOISER.key]["costs"]) == {FORWARD}
    assert known.fact(LENET, "parameters") == parameters(LENET)
    assert known.fact(DENOISER, "parameters") == parameters(DENOISER)
    assert known.fact(PIXELS, "segments") == 12 * 10
    assert 4 < known.fact(SLIC, "segments") < 40
    assert "convnets.lenet" in capsys.readouterr().out


def test_weights_that_cost_nothing_are_not_fetched(tmp_path, monkeypatch):
    calls = []

    def load(kind, entry):
        calls.append(entry)
        return sources.load(kind, entry)

    monkeypatch.setattr(models, "load", load)
    measured = measure.measure([Use(TIMM, FORWARD)], 2, tmp_path)
    assert calls == [{"function": "zoo.timm_model", "settings": {"model": "resnet10t"}}]
    assert measured[TIMM.key]["costs"][FORWARD]["seconds"] > 0


def test_what_cannot_be_built_is_told_and_left_out(tmp_path, capsys):
    odd = DENOISER._replace(size=(1, 30, 30, 10))
    measured = measure.measure([Use(odd, FORWARD), Use(LENET, FORWARD)], 8, tmp_path)
    assert set(measured) == {LENET.key}
    printed = capsys.readouterr().out
    assert f"not measured: {odd.key}: autoencoders.seven_layer: sides must be" in printed


def test_a_start_is_that_of_the_jobs_own_script(tmp_path):
    thing = Thing("scripts", "table")
    assert measure.measure([Use(thing, "start")], 1, tmp_path)[thing.key]["costs"]["start"]


@pytest.mark.parametrize(
    ("what", "trains", "wants_weights"),
    [(FORWARD, False, False), (INNER, False, False), (UPDATE, True, True)],
)
def test_a_network_is_measured_in_the_state_of_its_use(
    tmp_path, monkeypatch, what, trains, wants_weights
):
    inputs = []

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, images):
            inputs.append((self.training, self.weight.requires_grad, torch.is_grad_enabled()))
            return images * self.weight

    monkeypatch.setattr(models, "build", lambda *_: Network())
    measure.measure([Use(DENOISER, what)], 8, tmp_path)
    assert set(inputs) == {(trains, wants_weights, what != FORWARD)}


def test_a_measurement_is_the_median_of_several_after_the_first(monkeypatch):
    times = iter([0.0, 9.0, 9.0, 10.0, 10.0, 12.0, 12.0, 15.0, 15.0, 19.0, 19.0, 21.0])
    monkeypatch.setattr(measure, "_SECONDS", 100.0)
    result = measure._cost(lambda: None, 2, lambda: next(times))
    assert result == {"seconds": 1.0, "factor": 1.5}
