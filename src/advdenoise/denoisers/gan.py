"""Generators: codes -> images, which are no autoencoders and take no images."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from advdenoise.errors import BadInput
from advdenoise.ranges import Size

Shape = tuple[int, int, int]
# What a function returns whose networks are generators: the configuration reads it without a call.
Generator = nn.Module
_SLOPE = 0.2  # of the critic's leaky ReLUs
PRIORS = ("normal", "scaled")


def wgan(
    shape: Shape,
    *,
    latent: Size = 128,
    width: Size = 64,
    prior: Literal["normal", "scaled"] = "normal",
) -> Generator:
    """Generator and critic of Defense-GAN (Samangouei et al. 2018) for grey images of 28x28.

    The generator turns a code [N, latent, 1, 1] into an image in [0,1]: a dense layer to 4 `width`
    maps of 4x4, three 5x5 transposed convolutions of stride 2 to 2 `width`, `width` and 1 map, the
    first of whose results is cut to 7x7; ReLU between, sigmoid at the end. The critic mirrors it
    with convolutions and leaky ReLU, and gives one number for an image. 1,554,177 and 1,030,145
    parameters.

    `prior` is what the elements of a code are drawn from in training: `normal` N(0, 1), as the
    authors' program does, `scaled` N(0, 1 / latent), from which that program starts a
    reconstruction in both cases.

    The module itself is the generator, `critic` what it is trained with, `codes` the shape of a
    code and `deviation` that of its elements in training. Raises BadInput for images of another
    shape and unknown priors.
    """
    if prior not in PRIORS:
        raise BadInput(f"gan.wgan: settings.prior: {prior!r} is none of {', '.join(PRIORS)}")
    if tuple(shape) != (1, 28, 28):
        raise BadInput(
            f"gan.wgan makes grey images of 28x28, not {'x'.join(map(str, shape))} (channels, "
            "height, width); choose another denoiser for this data set"
        )
    return _Gan(latent, width, prior)


class _Gan(nn.Module):
    def __init__(self, latent: int, width: int, prior: str):
        super().__init__()
        self.code_shape = (latent, 1, 1)
        self.code_std = 1.0 if prior == "normal" else latent**-0.5
        self.generator = nn.ModuleDict(
            {
                "dense": nn.Linear(latent, 4 * width * 4 * 4),
                "first": _doubling(4 * width, 2 * width),
                "second": _doubling(2 * width, width),
                "last": _doubling(width, 1),
            }
        )
        self.critic = nn.Sequential(
            *_halving(1, width),
            *_halving(width, 2 * width),
            *_halving(2 * width, 4 * width),
            nn.Flatten(),
            nn.Linear(4 * width * 4 * 4, 1),
        )

    def forward(self, codes: Tensor) -> Tensor:
        maps = functional.relu(self.generator["dense"](codes.flatten(1))).unflatten(1, (-1, 4, 4))
        maps = functional.relu(self.generator["first"](maps)[:, :, :7, :7])
        maps = functional.relu(self.generator["second"](maps))
        return torch.sigmoid(self.generator["last"](maps))


def _doubling(last: int, width: int) -> nn.Module:
    return nn.ConvTranspose2d(last, width, 5, stride=2, padding=2, output_padding=1)


def _halving(last: int, width: int) -> list[nn.Module]:
    return [nn.Conv2d(last, width, 5, stride=2, padding=2), nn.LeakyReLU(_SLOPE)]
