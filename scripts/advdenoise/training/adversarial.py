"""Training on images that are attacked anew in every batch."""

from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional

from scripts.advdenoise.attacks import gradient
from scripts.advdenoise.noise import Noise
from scripts.advdenoise.ranges import (
    Angle,
    Epsilon,
    Interval,
    PositiveInt,
    Probability,
    Share,
    StepSize,
)
from scripts.advdenoise.training._augment import augment
from scripts.advdenoise.training._steps import Update, accuracy, attacked


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    noise: Noise,
    *,
    epsilon: Epsilon,
    alpha: StepSize,
    steps: PositiveInt,
    random_start: bool = True,
    crop: Annotated[int, Interval(ge=0, le=65536)] = 0,
    shift: Probability = 0.0,
    rotation: Angle = 0.0,
    scale: Share = 1.0,
    flip: bool = False,
) -> Update:
    """Cross-entropy at the adversarial images of PGD (Madry et al. 2018, equation 2.1).

    The attack meets the classifier in eval mode and takes no gradient of its weights; then the
    classifier learns in the mode it had. One step of alpha = epsilon without a random start is FGSM
    training. Metric `accuracy`: on the adversarial images; also in eval mode, for held-out ones.

    Args:
        epsilon, alpha: radius of the L-infinity ball and step, in pixel units.
        crop, shift, rotation, scale, flip: augmentation before the attack, as `plain.classify`'s.
    """
    if model.training:
        moves = {"crop": crop, "shift": shift, "rotation": rotation, "scale": scale, "flip": flip}
        images = augment(images, noise, **moves)
    budget = {"epsilon": epsilon, "alpha": alpha, "steps": steps}
    with attacked(model):
        if random_start:
            perturbation = gradient.pgd(images, labels, False, model, noise, **budget)
        else:
            perturbation = gradient.bim(images, labels, False, model, **budget)
    logits = model(images + perturbation)
    return functional.cross_entropy(logits, labels), {"accuracy": accuracy(logits, labels)}
