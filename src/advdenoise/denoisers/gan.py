"""Generators: latent codes -> images. They take no images, unlike the autoencoders."""

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from advdenoise.errors import BadInput
from advdenoise.ranges import Size

Shape = tuple[int, int, int]
# Return annotation of functions that build generators: the configuration reads it without a call.
Generator: TypeAlias = nn.Module
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

    The generator maps codes [N, latent, 1, 1] to images [N,1,28,28] in [0,1]: a dense layer to 4
    `width` maps of 4x4, then three 5x5 transposed convolutions of stride 2 to 2 `width`, `width`
    and 1 maps, with the first result cropped to 7x7; ReLU between them, sigmoid at the end. The
    critic mirrors it with convolutions and leaky ReLU and returns one number per image. 1,554,177
    and 1,030,145 parameters.

    `prior` is the distribution of the elements of a code in training: `normal` is N(0, 1), as in
    the authors' program; `scaled` is N(0, 1 / latent), from which that program starts
    reconstructions in both cases.

    The module itself is the generator. Its `critic` is used in training, `code_shape` is the shape
    of a code, and `code_std` the standard deviation of its elements in training.

    Raises BadInput for images of another shape and for an unknown prior.
    """
    if prior not in PRIORS:
        raise BadInput(
            f"gan.wgan: settings.prior: must be one of {', '.join(PRIORS)}, got {prior!r}"
        )
    if tuple(shape) != (1, 28, 28):
        raise BadInput(
            f"gan.wgan: images must be 1x28x28 (channels, height, width), got "
            f"{'x'.join(map(str, shape))}; choose another denoiser for this data set"
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
                "first": _upsampling(4 * width, 2 * width),
                "second": _upsampling(2 * width, width),
                "last": _upsampling(width, 1),
            }
        )
        self.critic = nn.Sequential(
            *_downsampling(1, width),
            *_downsampling(width, 2 * width),
            *_downsampling(2 * width, 4 * width),
            nn.Flatten(),
            nn.Linear(4 * width * 4 * 4, 1),
        )

    def forward(self, codes: Tensor) -> Tensor:
        maps = functional.relu(self.generator["dense"](codes.flatten(1))).unflatten(1, (-1, 4, 4))
        maps = functional.relu(self.generator["first"](maps)[:, :, :7, :7])
        maps = functional.relu(self.generator["second"](maps))
        return torch.sigmoid(self.generator["last"](maps))


def _upsampling(c_in: int, c_out: int) -> nn.Module:
    return nn.ConvTranspose2d(c_in, c_out, 5, stride=2, padding=2, output_padding=1)


def _downsampling(c_in: int, c_out: int) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, 5, stride=2, padding=2), nn.LeakyReLU(_SLOPE)]
