"""The classifier heads compared in Yoon et al. 2019, section 4 and Table 7."""

from collections import OrderedDict

from torch import nn

from advdenoise.errors import BadInput

HEADS = ("linear", "conv", "prelu", "relu")


def check_head(head: str, key: str) -> None:
    """Raise BadInput, naming the setting `{key}.head`, for a head that is not one of HEADS."""
    if head not in HEADS:
        raise BadInput(f"{key}.head: must be one of {', '.join(HEADS)}, got {head!r}")


def convolution(channels: int, size: tuple[int, int], classes: int) -> nn.Module:
    """One convolution with the size of the map, without pooling: [N, channels, *size] -> logits."""
    layers = OrderedDict(conv=nn.Conv2d(channels, classes, size), flatten=nn.Flatten())
    return nn.Sequential(layers)


def with_activation(linear: nn.Module, head: str) -> nn.Module:
    """The layer followed by PReLU (`prelu`; one slope for all logits, initially 0.25) or ReLU."""
    activation = nn.PReLU(init=0.25) if head == "prelu" else nn.ReLU()
    return nn.Sequential(OrderedDict([("linear", linear), (head, activation)]))
