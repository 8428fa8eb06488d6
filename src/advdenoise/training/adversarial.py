"""Adversarial training: images are attacked in every batch."""

from typing import Annotated, Any

from torch import Tensor, nn
from torch.nn import functional

from advdenoise.attacks import gradient
from advdenoise.noise import Noise
from advdenoise.ranges import (
    Angle,
    Epsilon,
    Interval,
    NonNegativeInt,
    PositiveInt,
    Probability,
    Share,
    StepSize,
)
from advdenoise.training._augment import augment
from advdenoise.training._steps import Update, accuracy, frozen


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    noise: Noise,
    epoch: int,
    *,
    epsilon: Epsilon,
    alpha: StepSize,
    steps: PositiveInt,
    random_start: bool = True,
    warmup: NonNegativeInt = 0,
    crop: Annotated[int, Interval(ge=0, le=65536)] = 0,
    shift: Probability = 0.0,
    rotation: Angle = 0.0,
    scale: Share = 1.0,
    flip: bool = False,
) -> Update:
    """Cross-entropy of the adversarial images of PGD (Madry et al. 2018, equation 2.1).

    The attack uses the classifier in eval mode with frozen weights; the update uses the mode that
    the classifier was in. One step of alpha = epsilon without a random start is FGSM training.
    Metric `accuracy`: on the adversarial images, also in eval mode for held-out images.

    Args:
        epsilon, alpha: radius of the L-infinity ball and step size, in pixel units.
        steps: steps of the attack.
        random_start: start at a random point of the ball; otherwise at the image (BIM).
        warmup: epochs over which epsilon and alpha increase linearly to their values, starting at a
            fraction 1 / warmup; 0 for none. Helps networks that do not train with large budgets.
        crop, shift, rotation, scale, flip: augmentation before the attack, as in `plain.classify`.
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
    share = min((epoch + 1) / warmup, 1) if warmup else 1
    budget: dict[str, Any] = {"epsilon": share * epsilon, "alpha": share * alpha, "steps": steps}
    with frozen(model):
        if random_start:
            perturbation = gradient.pgd(images, labels, False, model, noise, **budget)
        else:
            perturbation = gradient.bim(images, labels, False, model, **budget)
    logits = model(images + perturbation)
    return functional.cross_entropy(logits, labels), {"accuracy": accuracy(logits, labels)}
