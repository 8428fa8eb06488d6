"""Gradients of losses of every pixel in the logits, in closed form.

Beside a small segmenter, autograd through the loss of so many pixels is a large share of a step.
An image's loss is the mean over its labelled pixels. With p the softmax of a pixel's logits z, y
its label and q = p_y, most losses are weights of the cross-entropy's gradient p - onehot(y), and
two depend on the direction of z alone.

Functions take logits [N,K,H,W] and masks [N,H,W] with 255 for pixels without a label, whose
gradient is 0; or logits [N,K] and labels [N], where 255 is a class like any other.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from advdenoise.datasets._source import IGNORED
from advdenoise.outputs import predicted
from advdenoise.ranges import PixelLoss

# Weights of the pixels: logits and masks [N,H,W] -> [N,H,W].
PixelWeights = Callable[[Tensor, Tensor], Tensor]


def classes_of(masks: Tensor) -> Tensor:
    """The class of each pixel, 0 for pixels without a label, so that it can be an index."""
    return masks if masks.ndim == 1 else masks.where(masks != IGNORED, 0)


def mean_weights(masks: Tensor, like: Tensor) -> Tensor:
    """The weight of each pixel in its image's mean over labelled pixels: [N,H,W]."""
    if masks.ndim == 1:
        return torch.ones_like(masks, dtype=like.dtype)
    labelled = (masks != IGNORED).to(like.dtype)
    return labelled / labelled.sum((1, 2), keepdim=True).clamp(min=1)


@torch.no_grad()
def loss_gradient(
    logits: Tensor,
    masks: Tensor,
    loss: PixelLoss,
    progress: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """The gradient of each image's loss in its logits, shaped like these.

    ce: the cross-entropy, -ln q.
    mask_ce: the cross-entropy of the pixels that are predicted right.
    mask_ce_balanced: the same, times the `class_weights` [K] of the labels.
    segpgd: the cross-entropy times 1 - `progress` / 2 where the prediction is right, `progress` / 2
        where it is wrong; `progress` is the share of the steps that are done (Gu et al. 2022).
    js: the Jensen-Shannon divergence of p and onehot(y), whose gradient vanishes where q does.
    mask_spherical: -z_y / |z|_2 of the pixels that are predicted right.
    cos: 1 - z_y / |z|_2.

    Sources: Croce, Singh & Hein 2024 (mask_ce, mask_ce_balanced, js), and Halmosi, Mohos &
    Jelasity 2024 (cos).
    """
    weights = _pixel_weights(loss, progress, class_weights)
    if loss in ("mask_spherical", "cos"):
        return _direction_gradient(logits, masks, weights)
    return logit_gradient(logits, masks, weights)


def segpgd_weights(progress: float) -> PixelWeights:
    """The weights of `segpgd`, see `loss_gradient`."""

    def weights(logits: Tensor, masks: Tensor) -> Tensor:
        correct = predicted(logits) == masks
        share = logits.new_tensor(progress / 2)
        return torch.where(correct, 1 - share, share)

    return weights


@torch.no_grad()
def logit_gradient(
    logits: Tensor, masks: Tensor, pixel_weights: PixelWeights | None = None
) -> Tensor:
    """The gradient of the cross-entropy, times `pixel_weights`: softmax minus one-hot.

    Classes lie next to each other in memory, as in channels-last logits, so nothing is copied.
    """
    weights = mean_weights(masks, logits)
    if pixel_weights is not None:
        weights = weights * pixel_weights(logits, masks)
    gradient = logits.movedim(1, -1).softmax(-1)
    classes = classes_of(masks)[..., None]
    gradient.scatter_add_(-1, classes, gradient.new_full((), -1.0).expand(classes.shape))
    return gradient.mul_(weights[..., None]).movedim(-1, 1)


def _direction_gradient(
    logits: Tensor, masks: Tensor, pixel_weights: PixelWeights | None
) -> Tensor:
    """The gradient of -z_y / |z|_2, times `pixel_weights`; 0 where all logits are 0."""
    weights = mean_weights(masks, logits)
    if pixel_weights is not None:
        weights = weights * pixel_weights(logits, masks)
    outputs = logits.movedim(1, -1)
    norm = torch.linalg.vector_norm(outputs, 2, -1, keepdim=True)
    weights = (weights[..., None] / norm).where(norm > 0, 0)
    unit = outputs / norm.where(norm > 0, 1)
    classes = classes_of(masks)[..., None]
    gradient = unit * unit.gather(-1, classes)
    gradient.scatter_add_(-1, classes, gradient.new_full((), -1.0).expand(classes.shape))
    return gradient.mul_(weights).movedim(-1, 1)


def _pixel_weights(
    loss: PixelLoss, progress: float, class_weights: Tensor | None
) -> PixelWeights | None:
    if loss in ("ce", "cos"):
        return None
    if loss == "js":
        return _js_weights
    if loss == "segpgd":
        return segpgd_weights(progress)

    def weights(logits: Tensor, masks: Tensor) -> Tensor:
        correct = (predicted(logits) == masks).to(logits.dtype)
        if loss != "mask_ce_balanced":
            return correct
        assert class_weights is not None
        return correct * class_weights.to(logits)[classes_of(masks)]

    return weights


def _js_weights(logits: Tensor, masks: Tensor) -> Tensor:
    """q/2 ln((1 + q)/q): the gradient of the divergence is this times that of the cross-entropy.

    The divergence is 1/2 [q ln(2q/(1+q)) + (1-q) ln 2 + ln(2/(1+q))], its derivative in q
    1/2 ln(q/(1+q)), and that of q in the logits q (onehot(y) - p).
    """
    log_q = logits.gather(1, classes_of(masks)[:, None])[:, 0] - logits.logsumexp(1)
    q = log_q.exp()
    return q / 2 * (q.log1p() - log_q)
