"""Gradients by central differences."""

import torch
from torch.nn import functional

STEP = 1e-5  # small enough for no kink of ReLU or max-pool to lie between


def differences(predict, images, labels) -> torch.Tensor:
    """Central differences of each image's cross-entropy in each pixel."""
    result = torch.empty_like(images)
    with torch.no_grad():
        for pixel in range(images[0].numel()):
            offset = torch.zeros(images[0].numel(), dtype=images.dtype)
            offset[pixel] = STEP
            offset = offset.view(images[0].shape)
            losses = [
                functional.cross_entropy(predict(images + s * offset), labels, reduction="none")
                for s in (1, -1)
            ]
            result.flatten(1)[:, pixel] = (losses[0] - losses[1]) / (2 * STEP)
    return result


def gradient_of(predict, images, labels) -> torch.Tensor:
    """The gradient of each image's cross-entropy by autograd."""
    inputs = images.clone().requires_grad_()
    loss = functional.cross_entropy(predict(inputs), labels, reduction="sum")
    return torch.autograd.grad(loss, inputs)[0]
