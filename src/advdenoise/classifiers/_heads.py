"""What makes logits of the last map, in the ways of "propagation", section 4 and Table 7."""

from collections import OrderedDict

from torch import nn

from advdenoise.errors import BadInput

HEADS = ("linear", "conv", "prelu", "relu")


def check_head(head: str, here: str) -> None:
    """Raises BadInput, which begins with `here`, for a head that is none of HEADS."""
    if head not in HEADS:
        raise BadInput(f"{here}.head: {head!r} is none of {', '.join(HEADS)}")


def convolution(channels: int, size: tuple[int, int], classes: int) -> nn.Module:
    """One convolution as large as the map: [N, channels, *size] -> logits, nothing pooled."""
    layers = OrderedDict(conv=nn.Conv2d(channels, classes, size), flatten=nn.Flatten())
    return nn.Sequential(layers)


def bent(linear: nn.Module, head: str) -> nn.Module:
    """The layer with PReLU behind it (one slope for all logits, 0.25 at first), or plain ReLU."""
    last = nn.PReLU(init=0.25) if head == "prelu" else nn.ReLU()
    return nn.Sequential(OrderedDict([("linear", linear), (head, last)]))
