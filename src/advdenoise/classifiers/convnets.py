"""Sequential networks, convolutional and dense.

Each maps float images [N,C,H,W] in [0,1] to logits [N, classes]; layer i of the paper is the module
`layers.i`. The first layer subtracts `mean` and divides by `std` (numbers, or one per channel, in
pixel units).
"""

from collections.abc import Sequence
from typing import Annotated

from torch import nn

from advdenoise.errors import BadInput
from advdenoise.inference.normalise import Normalise, Normalised
from advdenoise.ranges import Decay, Interval, Pixel, Share, Size, Std

Shape = tuple[int, int, int]


def lenet(
    shape: Shape,
    classes: int,
    *,
    channels: tuple[Size, Size] = (20, 50),
    hidden: Size = 500,
    mean: Pixel | list[Pixel] = 0.0,
    std: Std | list[Std] = 1.0,
) -> nn.Module:
    """The four-layer CNN of "feature losses", section on the target classifier.

    Two times a valid 5x5 convolution, ReLU and 2x2 max-pool, then a hidden and an output layer;
    431,080 parameters for 28x28 grey images and 10 classes. Raises BadInput for sides below 16.
    """
    depth, height, width = shape
    if min(height, width) < 16:
        raise BadInput(
            f"convnets.lenet: images must be at least 16x16 pixels, got {height}x{width}; "
            "choose another classifier for this data set"
        )
    first, second = channels
    height, width = _after_lenet(height), _after_lenet(width)
    layers = nn.Sequential(
        nn.Conv2d(depth, first, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(second * height * width, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )
    return Normalised(Normalise(depth, mean, std), layers)


def mlp(
    shape: Shape,
    classes: int,
    *,
    hidden: Annotated[Sequence[Size], Interval(ge=1, le=100)] = (256, 256),
    dropout: Decay = 0.2,
    mean: Pixel | list[Pixel] = 0.0,
    std: Std | list[Std] = 1.0,
) -> nn.Module:
    """Dense layers, each hidden one with ReLU and dropout.

    Source: Kalaria et al. 2022, the classifier of MNIST.

    269,322 parameters for 28x28 grey images and 10 classes.
    """
    depth, height, width = shape
    layers, c_in = [nn.Flatten()], depth * height * width
    for size in hidden:
        layers += [nn.Linear(c_in, size), nn.ReLU(), nn.Dropout(dropout)]
        c_in = size
    return Normalised(Normalise(depth, mean, std), nn.Sequential(*layers, nn.Linear(c_in, classes)))


def elu_cnn(
    shape: Shape,
    classes: int,
    *,
    width: Size = 32,
    dropout: tuple[Decay, Decay, Decay] = (0.2, 0.3, 0.4),
    momentum: Share = 0.01,
    mean: Pixel | list[Pixel] = 120.70748 / 255,
    std: Std | list[Std] = 64.150024 / 255,
) -> nn.Module:
    """A CNN of 26 layers, `layers.0` to `layers.25`.

    Source: Al Bared and Nassar 2021, section on the model.

    Three stages of `width`, 2 `width` and 4 `width` channels: two times a 3x3 convolution, ELU and
    batch norm, in this order, then 2x2 max-pool and dropout; then flatten and a dense layer, whose
    softmax the paper counts as part of layer 25. For 32x32 colour images and 10 classes it has
    308,394 weights and 896 running statistics. Initialisation and batch norm are those of Keras, in
    which the paper's network was written: Glorot uniform, zero biases; eps 1e-3 and momentum 0.99,
    which is 0.01 in PyTorch (a training of a few hundred updates needs a larger one). The default
    mean and std are the paper's for CIFAR-10. Raises BadInput for sides below 8.
    """
    depth, height, side = shape
    if min(height, side) < 8:
        raise BadInput(
            f"convnets.elu_cnn: images must be at least 8x8 pixels, got {height}x{side}; "
            "choose another classifier for this data set"
        )
    layers, c_in = [], depth
    for stage, rate in enumerate(dropout):
        c_out = width * 2**stage
        layers += [*_convolution(c_in, c_out, momentum), *_convolution(c_out, c_out, momentum)]
        layers += [nn.MaxPool2d(2), nn.Dropout(rate)]
        c_in, height, side = c_out, height // 2, side // 2
    layers += [nn.Flatten(), nn.Linear(c_in * height * side, classes)]
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return Normalised(Normalise(depth, mean, std), nn.Sequential(*layers))


def _after_lenet(side: int) -> int:
    """A side after two valid 5x5 convolutions, each followed by a 2x2 max-pool."""
    return ((side - 4) // 2 - 4) // 2


def _convolution(c_in: int, c_out: int, momentum: float) -> list[nn.Module]:
    return [
        nn.Conv2d(c_in, c_out, 3, padding=1),
        nn.ELU(),
        nn.BatchNorm2d(c_out, eps=1e-3, momentum=momentum),
    ]
