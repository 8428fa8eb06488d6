"""Weights of other libraries: what several classifiers share."""

from torch import Tensor

from advdenoise.errors import BadInput, short

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def check_one_source(key: str, pretrained: bool, weights: str | None) -> None:
    """Raise BadInput if both `pretrained` and `weights` are given; `key` names the settings."""
    if pretrained and weights:
        raise BadInput(f"{key}.weights: given beside `pretrained: true`; leave one of them out")


def fetch(weights, name: str, key: str, file: str = "the file") -> dict[str, Tensor]:
    """The tensors of torchvision's `weights` (a member of a `WeightsEnum`), cached or downloaded.

    Raises:
        BadInput: they cannot be fetched; the message asks for a local copy of `file`.
    """
    try:
        return weights.get_state_dict(progress=False, check_hash=True, map_location="cpu")
    except Exception as error:  # Network, cache and hash each raise a type of their own.
        raise BadInput(
            f"{key}.pretrained: torchvision's weights of {name} cannot be fetched "
            f"({short(error)}); name a local copy of {file} in `weights`"
        ) from error
