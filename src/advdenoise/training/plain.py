"""Supervised training of classifiers, segmenters and denoisers.

A step returns the loss and the batch means of its metrics. Its arguments, by name:

    model: in train mode, or in eval mode for held-out examples.
    images: the inputs, float32 [N,C,H,W] in [0,1].
    targets: the clean images.
    labels: int64 [N]; or masks: int64 [N,H,W] with 255 for pixels without a class.
    noise: one random stream per image.
    iteration, epoch: counted from 0.
    network: the frozen classifier that the entry names.
    reference: its outputs for the clean images, for steps marked with `_steps.with_reference`.
"""

from typing import Annotated, Any

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

    In train mode images are augmented: cropped after padding by `crop` zero pixels, translated by
    up to a fraction `shift` of their sides, rotated by up to `rotation` degrees, cropped to a
    random window with at least a share `scale` of their area and resized, and mirrored with
    probability 1/2 (`flip`).
    """
    if model.training:
        moves: dict[str, Any] = {
            "crop": crop,
            "shift": shift,
            "rotation": rotation,
            "scale": scale,
            "flip": flip,
        }
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
    """Cross-entropy of a segmenter, averaged over the labelled pixels of the batch.

    Metric `accuracy`: pixel accuracy, averaged over images. In train mode image and mask are
    resized by a random factor between the two of `scale`, such as [0.5, 2] for DeepLab on VOC,
    placed at random, and mirrored with probability 1/2 (`flip`).
    """
    if model.training:
        images, masks = augment_with_masks(images, masks, noise, scale=scale, flip=flip)
    logits = model(images)
    # Reduced here: torch's own reduction of masks has no deterministic kernel on a GPU.
    losses = functional.cross_entropy(logits, masks, ignore_index=IGNORED, reduction="none")
    loss = losses.sum() / (masks != IGNORED).sum().clamp(min=1)
    return loss, {"accuracy": accuracy(logits, masks)}


def reconstruct(model: nn.Module, images: Tensor, targets: Tensor) -> Update:
    """Mean squared error of a denoiser to the clean images; metric `mse` is the same number."""
    loss = functional.mse_loss(model(images).float(), targets)
    return loss, {"mse": loss}
