"""Logits of a trained classifier as guidance for a denoiser."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from advdenoise.errors import BadInput
from advdenoise.training._steps import Update, accuracy, with_reference

NORMS = {"l1": functional.l1_loss, "mse": functional.mse_loss}


def _logits(network: nn.Module, targets: Tensor) -> list[Tensor]:
    return [network(targets).float()]


@with_reference(_logits)
def guided(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    network: nn.Module,
    reference: list[Tensor],
    *,
    norm: Literal["l1", "mse"] = "l1",
) -> Update:
    """Logits guided denoising (LGD of HGD, Liao et al. 2018): no term in pixels.

    The loss is the mean absolute difference between the logits of `network` for the denoised and
    for the clean image (`reference`), or with `norm: mse` the mean squared one, as "feature losses"
    describes it. Metric `agreement`: share of images that are classified like the clean image.
    Raises BadInput for an unknown norm.
    """
    if norm not in NORMS:
        raise BadInput(f"logits.guided: settings.norm: must be l1 or mse, got {norm!r}")
    (clean,) = reference
    logits = network(model(images)).float()
    return NORMS[norm](logits, clean), {"agreement": accuracy(logits, clean.argmax(1))}
