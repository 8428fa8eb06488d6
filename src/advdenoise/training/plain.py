"""Training on images as they are given.

What steps are handed: `model` in train mode (in eval mode for held-out examples); `images` float32
[N,C,H,W] in [0,1], its inputs; `targets`, the clean images; `labels` int64 [N], or `masks` int64
[N,H,W], 255 where a pixel has no class; `noise`, one random stream per image; `network`, the
trained classifier that the entry names, and `reference`, what it makes of the clean images. They
return the loss and the batch means of their metrics.
"""

from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional

from advdenoise.datasets._source import IGNORED
from advdenoise.noise import Noise
from advdenoise.ranges import Angle, Interval, PositiveFloat, Probability, Share
from advdenoise.training._augment import augment, augment_with_masks
from advdenoise.training._steps import Update, accuracy


def classify(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    noise: Noise,
    *,
    crop: Annotated[int, Interval(ge=0, le=65536)] = 0,
    shift: Probability = 0.0,
    rotation: Angle = 0.0,
    scale: Share = 1.0,
    flip: bool = False,
) -> Update:
    """Cross-entropy of a classifier; metric `accuracy`.

    In train mode images are cut out of themselves padded by `crop` pixels of zero, shifted by up to
    the fraction `shift`, turned by up to `rotation` degrees, enlarged to leave a random window of
    the share `scale` of their area or more, and mirrored half of the time (`flip`).
    """
    if model.training:
        moves = {"crop": crop, "shift": shift, "rotation": rotation, "scale": scale, "flip": flip}
        images = augment(images, noise, **moves)
    logits = model(images)
    return functional.cross_entropy(logits, labels), {"accuracy": accuracy(logits, labels)}


def segment(
    model: nn.Module,
    images: Tensor,
    masks: Tensor,
    noise: Noise,
    *,
    scale: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0),
    flip: bool = False,
) -> Update:
    """Cross-entropy of a segmenter, the mean over the labelled pixels of the batch.

    Metric `accuracy`, of pixels, the mean over images. In train mode image and mask are enlarged by
    a random factor from `scale`, such as [0.5, 2] for DeepLab on VOC, at a random place, and
    mirrored half of the time (`flip`).
    """
    if model.training:
        images, masks = augment_with_masks(images, masks, noise, scale=scale, flip=flip)
    logits = model(images)
    # Summed apart: the sum that the loss itself takes has no deterministic kernel on a GPU.
    losses = functional.cross_entropy(logits, masks, ignore_index=IGNORED, reduction="none")
    loss = losses.sum() / (masks != IGNORED).sum().clamp(min=1)
    return loss, {"accuracy": accuracy(logits, masks)}


def reconstruct(model: nn.Module, images: Tensor, targets: Tensor) -> Update:
    """Mean squared error of a denoiser to the clean images; metric `mse`, the same number."""
    loss = functional.mse_loss(model(images).float(), targets)
    return loss, {"mse": loss}
