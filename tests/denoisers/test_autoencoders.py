"""Autoencoders of the papers: sizes, shapes, ranges, gradients."""

import contextlib

import pytest
import torch
from torch import nn

from advdenoise.denoisers.autoencoders import OUTPUTS, elu_skips, magnet, red_net, seven_layer
from advdenoise.errors import BadInput


def weights(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_published_sizes():
    assert weights(seven_layer((1, 28, 28))) == 5_729
    assert weights(red_net((3, 32, 32))) == 1_041_219
    assert weights(red_net((1, 28, 28))) == 1_038_913
    assert weights(red_net((3, 32, 32), batch_norm=False)) == 1_037_507
    assert weights(red_net((1, 28, 28), batch_norm=False)) == 1_035_201
    assert weights(red_net((3, 32, 32), layers=4)) == 77_763
    assert weights(red_net((1, 28, 28), layers=4)) == 75_457
    assert weights(magnet((1, 28, 28), pooling=True)) == 310
    assert weights(magnet((1, 28, 28), pooling=False)) == 142


@pytest.mark.parametrize(
    ("channels", "count"),
    [
        ([64, 128, 256, 512, 512], 7_821_059),
        ([32, 64, 128, 256, 512], 3_136_643),
        ([64, 128, 256, 512, 1024], 12_540_163),
    ],
)
def test_published_sizes_of_elu_skips(channels, count):
    assert weights(elu_skips((3, 513, 513), channels=channels)) == count


def test_elu_skips_has_the_maps_of_the_paper():
    network = elu_skips((3, 513, 513), channels=[2, 3, 4, 5, 6])
    sides = []
    for layer in [*network.encoder, *network.decoder, network.last]:
        layer.register_forward_hook(lambda *args: sides.append(tuple(args[2].shape[1:])))
    with torch.no_grad():
        assert network(torch.rand(1, 3, 513, 513)).shape == (1, 3, 513, 513)
    down = [(2, 257, 257), (3, 129, 129), (4, 65, 65), (5, 33, 33), (6, 17, 17)]
    assert sides == down + down[-2::-1] + [(3, 513, 513)]


def test_elu_skips_adds_the_encoders_maps_after_elu():
    """With a decoder of zeros, the last layer gets the first layer's map."""
    torch.manual_seed(0)
    network = elu_skips((3, 33, 33), channels=[2, 3, 4, 5, 6])
    for layer in network.decoder:
        nn.init.zeros_(layer[0].weight)
        nn.init.zeros_(layer[0].bias)
    images = torch.rand(2, 3, 33, 33)
    first = torch.nn.functional.elu(network.encoder[0][0](images))
    assert torch.allclose(network(images), torch.sigmoid(network.last(first)), atol=1e-6)


@pytest.mark.parametrize("side", [553, 500, 512, 16, 1])
def test_elu_skips_refuses_other_sides(side):
    with pytest.raises(BadInput, match=rf"sides must be 32k\+1, .* got 513x{side}"):
        elu_skips((3, 513, side))


def test_elu_skips_accepts_sides_of_32k_plus_1():
    def is_accepted(side):
        with contextlib.suppress(BadInput):
            return elu_skips((3, side, side), channels=[1, 1, 1, 1, 1]) is not None

    assert [side for side in range(500, 560) if is_accepted(side)] == [513, 545]


def test_seven_layer_has_the_maps_of_the_paper():
    shapes, maps = [], torch.rand(1, 1, 28, 28)
    for layer in seven_layer((1, 28, 28)):
        maps = layer(maps)
        shapes.append(tuple(maps.shape[1:]))
    pooled = [(16, 10, 10)] * 2 + [(16, 5, 5)] + [(8, 3, 3)] * 2 + [(8, 2, 2)]
    assert shapes == pooled + [(16, 5, 5)] * 2 + [(8, 15, 15)] * 2 + [(1, 28, 28)] * 2


@pytest.mark.parametrize("side", range(8, 80))
def test_seven_layer_refuses_exactly_the_sides_that_it_cannot_restore(side):
    output_side = None
    with contextlib.suppress(RuntimeError):  # as for very small images
        output_side = nn.Sequential(*seven_layer((1, 28, 28)))(torch.rand(1, 1, side, 28)).shape[2]
    if output_side == side:
        assert seven_layer((1, side, 28))(torch.rand(1, 1, side, 28)).shape == (1, 1, side, 28)
    else:
        with pytest.raises(BadInput, match="16, 28, 40, 52, 64"):
            seven_layer((1, side, 28))


NETWORKS = [
    (seven_layer, (1, 28, 28), {}),
    (seven_layer, (3, 16, 40), {"channels": [4, 2]}),
    (red_net, (1, 28, 28), {"width": 4, "layers": 6, "output": "sigmoid"}),
    (red_net, (3, 32, 32), {"width": 4}),
    (red_net, (2, 8, 10), {"width": 4, "layers": 4, "batch_norm": False}),
    (red_net, (3, 16, 16), {"width": 4, "layers": 8, "output": "relu"}),
    (magnet, (1, 28, 28), {"pooling": True}),
    (magnet, (3, 9, 12), {"pooling": False}),
    (elu_skips, (3, 33, 97), {"channels": [3, 4, 5, 6, 7]}),
]


@pytest.mark.parametrize(("build", "shape", "settings"), NETWORKS)
def test_shape_range_and_gradients(build, shape, settings):
    torch.manual_seed(0)
    network = build(shape, **settings)
    images = torch.rand(4, *shape, requires_grad=True)
    outputs = network.train()(images)
    assert outputs.shape == images.shape
    (outputs - 0.5).square().sum().backward()
    assert all(weight.grad.isfinite().all() for weight in network.parameters())
    assert next(network.parameters()).grad.abs().sum() > 0
    assert images.grad.abs().sum() > 0
    with torch.no_grad():
        purified = network.eval()(images)
        alone = torch.cat([network(images[i : i + 1]) for i in range(4)])
    assert purified.min() >= 0
    assert purified.max() <= 1 or settings.get("output") == "relu"
    assert torch.allclose(purified, alone, atol=1e-6)


def test_seven_layer_scales_to_minus_one_to_one():
    network = seven_layer((1, 28, 28))
    images = torch.rand(2, 1, 28, 28)
    expected = (nn.Sequential(*network)(2 * images - 1) + 1) / 2
    assert torch.equal(network(images), expected)


def test_red_net_skips_pair_as_in_the_authors_program():
    """14 to 1, 12 to 3, ..., 2 to 13: encoder outputs are added after these decoder layers."""
    network = red_net((1, 8, 8), width=2).eval()
    for number, layer in enumerate(network.encoder, start=1):
        layer.forward = lambda maps, value=number: torch.full((1, 2, 4, 4), float(value))
    inputs = {}
    for number, layer in enumerate(network.decoder, start=1):

        def decode(maps, number=number):
            inputs[number] = maps.flatten()[0].item()
            return torch.zeros(1, 2, 4, 4)

        layer.forward = decode
    network(torch.rand(1, 1, 8, 8))
    assert inputs == {1: 15, **{n: 16 - n if n % 2 == 0 else 0 for n in range(2, 15)}}


@pytest.mark.parametrize("output", OUTPUTS)
def test_red_net_learns(output):
    """Outputs that start far outside [0,1] do not prevent training."""
    torch.manual_seed(0)
    network = red_net((1, 8, 8), layers=4, width=8, output=output).train()
    nn.init.constant_(network.last.bias, 0.7)
    images = (torch.rand(16, 1, 8, 8) > 0.5).float()
    noisy = (images + 0.1 * torch.randn_like(images)).clamp(0, 1)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = nn.functional.mse_loss(network(noisy), images)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_red_net_refuses_mistakes():
    with pytest.raises(BadInput, match="sides must be even"):
        red_net((1, 28, 27))
    for layers in (2, 5):
        with pytest.raises(BadInput, match="must be even and at least 4"):
            red_net((1, 28, 28), layers=layers)
    with pytest.raises(BadInput, match="must be one of residual, .* got 'tanh'"):
        red_net((1, 28, 28), output="tanh")


def test_magnet_has_the_maps_of_the_paper():
    def shapes(pooling: bool) -> list[tuple[int, ...]]:
        shapes_of_layers, maps = [], torch.rand(1, 1, 28, 28)
        for layer in magnet((1, 28, 28), pooling=pooling):
            maps = layer(maps)
            if not isinstance(layer, nn.Sigmoid):
                shapes_of_layers.append(tuple(maps.shape[1:]))
        return shapes_of_layers

    assert shapes(True) == [(3, 28, 28)] + 3 * [(3, 14, 14)] + 2 * [(3, 28, 28)] + [(1, 28, 28)]
    assert shapes(False) == 2 * [(3, 28, 28)] + [(1, 28, 28)]


def test_magnet_refuses_odd_sides_with_pooling():
    with pytest.raises(BadInput, match="sides must be even with pooling, got 28x27"):
        magnet((1, 28, 27), pooling=True)
