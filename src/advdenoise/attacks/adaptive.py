"""Attacks of a fixed budget that look at the denoiser of the purifier that they know.

That attacks go through a purifier needs no function of its own: any of them is handed the
classifier behind it, and an entry's `through: denoiser` makes BIM counter attack A of APuDAE
(equation 14).
"""

from collections.abc import Callable

from torch import Tensor

from advdenoise.attacks._ascent import ascend, entropy, gradient, step_size
from advdenoise.attacks._predict import Predict
from advdenoise.ranges import Epsilon, NonNegativeFloat, PositiveInt, StepShare, StepSize


def counter_b(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    classifier: Predict,
    error: Callable[[Tensor], Tensor],
    *,
    weight: NonNegativeFloat,
    epsilon: Epsilon | Tensor,
    steps: PositiveInt,
    alpha: StepSize | None = None,
    alpha_per_epsilon: StepShare | None = None,
) -> Tensor:
    """BIM on a loss that also keeps the reconstruction error low (APuDAE, equation 15).

    X_{i+1} = Clip(X_i + alpha sign(gradient of [CE(f(X_i), y) - weight RE(X_i)])) from the image
    itself, f being the bare `classifier` and RE the `error`, images -> [N]. `weight` is the paper's
    lambda, which it chooses for each data set as the worst for the defence. Where `targeted`, the
    cross-entropy is lowered; the error is lowered always. With an error of 0 it is BIM.

    Images are [N,C,H,W] in [0,1], labels int64 [N] or masks [N,H,W], whose CE is the mean over
    labelled pixels; `epsilon` is the ball's radius in pixel units, a number or [N,1,1,1]; a step is
    `alpha` in pixel units or `alpha_per_epsilon` times epsilon. Raises BadInput unless one of the
    two is given.
    """
    sign = -1 if targeted else 1

    def loss(seen: Tensor) -> Tensor:
        return sign * entropy(classifier(seen), labels) - weight * error(seen).sum()

    alpha = step_size(epsilon, alpha, alpha_per_epsilon)
    return ascend(images, lambda seen: gradient(seen, loss), None, epsilon, alpha, steps)
