"""The small versions of five architectures: layers, properties, heads."""

import pytest
import torch
from torch import nn

from advdenoise.classifiers import families
from advdenoise.distances import Taps
from advdenoise.errors import BadInput

SHAPE = (3, 32, 32)
STAGES = {"stage1": (4, 16, 16), "stage2": (8, 8, 8), "stage3": (16, 4, 4)}
POOLED = {"pool": (16, 1, 1), "fc": (10,)}
ROWS = {
    "resnet_v2": {"stem": (4, 16, 16), **STAGES, "norm": (16, 4, 4), **POOLED},
    "vgg": {
        "stage1": (4, 32, 32),
        "stage2": (8, 16, 16),
        "stage3": (16, 8, 8),
        "fc1": (32,),
        "fc2": (32,),
        "fc": (10,),
    },
    "senet": {"stem": (4, 16, 16), **STAGES, **POOLED},
    "inception": {
        "stem": (4, 16, 16),
        "stage1": (4, 16, 16),
        "mixed1": (8, 8, 8),
        "stage2": (8, 8, 8),
        "mixed2": (16, 4, 4),
        "stage3": (16, 4, 4),
        **POOLED,
    },
    "densenet": {
        "stem": (8, 16, 16),
        "stage1": (20, 16, 16),
        "transition1": (10, 8, 8),
        "stage2": (22, 8, 8),
        "transition2": (11, 4, 4),
        "stage3": (23, 4, 4),
        "norm": (23, 4, 4),
        "pool": (23, 1, 1),
        "fc": (10,),
    },
}
# Modules whose maps may be negative: no ReLU follows their sum or concatenation.
BEFORE_RELU = {
    "resnet_v2": {"stem", "stage1", "stage2", "stage3"},
    "densenet": {"stem", "stage1", "transition1", "stage2", "transition2", "stage3"},
}


def build(name: str, **settings) -> nn.Module:
    torch.manual_seed(0)
    return getattr(families, name)(SHAPE, 10, width=4, **settings).eval()


def maps(network: nn.Module, rows) -> dict[str, torch.Tensor]:
    with torch.no_grad(), Taps(network, [f"layers.{row}" for row in rows]) as taps:
        network(torch.rand(2, *SHAPE))
        return {name.removeprefix("layers."): output for name, output in taps.take().items()}


@pytest.mark.parametrize("name", ROWS)
def test_the_rows_of_the_table_are_modules(name):
    outputs = maps(build(name), ROWS[name])
    assert {row: tuple(output.shape[1:]) for row, output in outputs.items()} == ROWS[name]
    negative = {row for row, output in outputs.items() if (output < 0).any()}
    assert negative == BEFORE_RELU.get(name, set()) | {"fc"}


@pytest.mark.parametrize("name", ROWS)
def test_pixels_are_scaled_to_minus_one_to_one(name):
    images = torch.rand(1, *SHAPE)
    assert torch.allclose(build(name).normalise(images), 2 * images - 1)


def test_vgg_has_no_norm_and_no_shortcut():
    kinds = {type(module) for module in build("vgg").layers.modules()}
    assert kinds == {nn.Sequential, nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.Flatten, nn.Linear}


def test_squeeze_and_excitation_weighs_whole_channels():
    block = build("senet").layers.stage1[0]
    excite = block.inner[-1]
    inputs = torch.randn(2, 4, 5, 5)
    weights = excite(inputs) / inputs
    assert torch.allclose(weights, weights[..., :1, :1].expand_as(weights), atol=1e-5)
    assert weights.min() > 0 and weights.max() < 1


def test_dense_layers_append_to_their_input():
    network = build("densenet")
    outputs = maps(network, ["stem", "stage1"])
    assert torch.equal(outputs["stage1"][:, :8], outputs["stem"])


def test_heads_of_densenet():
    heads = {head: build("densenet", head=head) for head in ("linear", "conv", "prelu", "relu")}
    sizes = {head: sum(p.numel() for p in net.parameters()) for head, net in heads.items()}
    assert sizes["prelu"] == sizes["linear"] + 1 and sizes["relu"] == sizes["linear"]
    assert sizes["conv"] == sizes["linear"] + 15 * 23 * 10  # a kernel of 4x4 in the place of 1x1
    assert heads["conv"].layers.fc.conv.kernel_size == (4, 4)
    assert not hasattr(heads["conv"].layers, "pool")
    assert heads["prelu"].layers.fc.prelu.weight.tolist() == [0.25]
    for network in heads.values():
        assert maps(network, ["fc"])["fc"].shape == (2, 10)
    with pytest.raises(BadInput, match=r"families.densenet: settings.head: must be one of linear"):
        build("densenet", head="fc")


@pytest.mark.parametrize("name", ROWS)
def test_small_images(name):
    smallest = getattr(families, name)((1, 8, 9), 3, width=2).eval()
    assert smallest(torch.rand(2, 1, 8, 9)).shape == (2, 3)
    with pytest.raises(BadInput, match=f"families.{name}: images must be at least 8x8"):
        getattr(families, name)((1, 7, 9), 3)
