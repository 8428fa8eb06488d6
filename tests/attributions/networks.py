"""Random sequential networks for the tests of leave-one-out attributions."""

import torch
from hypothesis import strategies as st
from torch import nn

from advdenoise.inference.elu import FastELU
from advdenoise.inference.normalise import Normalise, Normalised

CLASSES = 4
ACTIVATIONS = (nn.ReLU, nn.ELU, FastELU, nn.GELU, nn.LeakyReLU, nn.Tanh, nn.SiLU)


@st.composite
def networks(draw, channels: int, height: int, width: int):
    """A network in eval mode, float64, for images of this shape."""
    torch.manual_seed(draw(st.integers(0, 9)))
    layers, maps = [], torch.rand(16, channels, height, width)
    for _ in range(draw(st.integers(1, 3))):
        for layer in _block(draw, maps):
            try:
                output = layer.train()(maps)
            except RuntimeError:  # The map is too small for this layer.
                continue
            # No empty maps, and no windows that contain only padding.
            if output.numel() == 0 or not output.isfinite().all():
                continue
            layers.append(layer)
            maps = output.detach()
    layers.append(nn.Flatten())
    features = maps[0].numel()
    if draw(st.booleans()):
        layers += [nn.Linear(features, 5), nn.BatchNorm1d(5), nn.ReLU(inplace=True)]
        features = 5
    layers.append(nn.Linear(features, CLASSES))
    network = Normalised(Normalise(channels, 0.3, 0.2), nn.Sequential(*layers))
    with torch.no_grad():
        network.train()(torch.rand(16, channels, height, width))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                # Of both signs: a max-pool must not be moved before a negative scale.
                module.weight.copy_(torch.randn_like(module.weight))
                module.bias.copy_(torch.randn_like(module.bias))
    return network.eval().double().requires_grad_(False)


def _block(draw, maps: torch.Tensor) -> list[nn.Module]:
    channels = maps.shape[1]
    groups = draw(st.sampled_from([1, channels]))
    out_channels = groups * draw(st.integers(1, 3))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    block = [
        nn.Conv2d(
            channels,
            out_channels,
            kernel,
            stride=draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
            padding=draw(st.tuples(st.integers(0, 3), st.integers(0, 3))),
            dilation=draw(st.integers(1, 2)),
            groups=groups,
            bias=draw(st.booleans()),
        )
    ]
    further = [nn.BatchNorm2d(out_channels), draw(st.sampled_from(ACTIVATIONS))()]
    if draw(st.booleans()):
        further.reverse()
    size = draw(st.integers(1, 3))
    stride, padding = draw(st.integers(1, 4)), draw(st.integers(0, size // 2))
    pools = [
        nn.Identity(),
        nn.MaxPool2d(size, stride, padding),
        nn.MaxPool2d(size, stride, padding, dilation=2),
        nn.AvgPool2d(size, stride, padding),
        nn.AdaptiveAvgPool2d(1),
    ]
    further.insert(draw(st.integers(0, 2)), draw(st.sampled_from(pools)))
    return [*block, *further, nn.Dropout(0.5)]


def every_layer(network: nn.Module) -> list[str]:
    """Names of all modules of such a network, without the last layer."""
    return ["normalise", *(f"layers.{i}" for i in range(len(network.layers) - 1))]
