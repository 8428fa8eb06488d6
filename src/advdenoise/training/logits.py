"""Training on what a trained classifier says of denoised and clean images."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from advdenoise.errors import BadInput
from advdenoise.training._steps import Update, accuracy, compares_with

NORMS = {"l1": functional.l1_loss, "mse": functional.mse_loss}


def _logits(network: nn.Module, targets: Tensor) -> list[Tensor]:
    return [network(targets).float()]


@compares_with(_logits)
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

    The loss is the mean absolute difference between the logits of `network` for the denoised image
    and for the clean one (`reference`), with `norm: mse` the mean squared one, as "feature losses"
    describes it. Metric `agreement`: share of images that get the class of the clean image.
    Raises BadInput for another norm.
    """
    if norm not in NORMS:
        raise BadInput(f"logits.guided: settings.norm: {norm!r} is unknown; take l1 or mse")
    (clean,) = reference
    logits = network(model(images)).float()
    return NORMS[norm](logits, clean), {"agreement": accuracy(logits, clean.argmax(1))}
