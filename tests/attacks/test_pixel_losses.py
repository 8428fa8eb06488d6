"""Closed-form gradients of losses of pixels, against autograd through their definitions."""

import math

import pytest
import torch
from torch.nn import functional

from advdenoise.attacks._pixel_losses import _js_weights, loss_gradient
from advdenoise.attacks.dense import VOC_WEIGHTS

CLASSES = 4
WEIGHTS = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
LOSSES = ["ce", "mask_ce", "mask_ce_balanced", "segpgd", "js", "mask_spherical", "cos"]
every_loss = pytest.mark.parametrize("loss", LOSSES)


@pytest.fixture(scope="module")
def logits():
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randn(3, CLASSES, 5, 6, generator=generator, dtype=torch.float64)


@pytest.fixture(scope="module")
def masks(logits):
    """Half of the pixels are predicted right; some have no label, of the last image all."""
    generator = torch.Generator().manual_seed(1)
    masks = torch.randint(CLASSES, (3, 5, 6), generator=generator)
    masks = torch.where(torch.rand(3, 5, 6, generator=generator) < 0.5, logits.argmax(1), masks)
    masks[1][torch.rand(5, 6, generator=generator) < 0.4] = 255
    masks[2] = 255
    return masks


def jensen_shannon(p, classes):
    """The mean of the Kullback-Leibler divergences of p and onehot to their mean, [N,H,W]."""
    onehot = functional.one_hot(classes, p.shape[1]).movedim(-1, 1).to(p.dtype)
    middle = (p + onehot) / 2
    terms = torch.xlogy(p, p / middle) - onehot * middle.log()
    return terms.sum(1) / 2


def definition(logits, masks, loss, progress):
    """The loss of each image, from the definitions and torch's own losses: [N]."""
    labelled = masks != 255
    classes = masks.where(labelled, 0)
    right = (logits.argmax(1) == classes).to(logits.dtype)
    ce = functional.cross_entropy(logits, classes, reduction="none")
    onehot = functional.one_hot(classes, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    cosine = functional.cosine_similarity(logits, onehot, dim=1)
    share = progress / 2
    pixels = {
        "ce": lambda: ce,
        "mask_ce": lambda: right * ce,
        "mask_ce_balanced": lambda: right * WEIGHTS[classes] * ce,
        "segpgd": lambda: (1 - share) * right * ce + share * (1 - right) * ce,
        "js": lambda: jensen_shannon(logits.softmax(1), classes),
        "mask_spherical": lambda: -right * cosine,
        "cos": lambda: 1 - cosine,
    }[loss]()
    count = labelled.sum((1, 2)).clamp(min=1)
    return (pixels * labelled).sum((1, 2)) / count


@every_loss
@pytest.mark.parametrize("progress", [0.0, 0.6])
def test_gradients_are_those_of_autograd(loss, progress, logits, masks):
    inputs = logits.clone().requires_grad_()
    values = definition(inputs, masks, loss, progress)
    (expected,) = torch.autograd.grad(values.sum(), inputs)
    result = loss_gradient(logits, masks, loss, progress, WEIGHTS)
    assert torch.allclose(result, expected, rtol=0, atol=1e-15)
    assert result[:2].any() and not result[2].any()


@every_loss
def test_labels_of_images_are_masks_of_one_pixel(loss, logits, masks):
    images, labels = logits[0, :, 0].T, masks[0, 0]
    result = loss_gradient(images, labels, loss, 0.5, WEIGHTS)
    pixels = images[..., None, None], labels[:, None, None]
    assert torch.equal(result[..., None, None], loss_gradient(*pixels, loss, 0.5, WEIGHTS))


@pytest.mark.parametrize(("q", "value"), [(0.1, 0.52560), (0.5, 0.21576), (0.9, 0.03597)])
def test_divergence_and_its_derivative(q, value):
    """The divergence of two classes in closed form, and by which factor its gradient is smaller."""
    p = torch.tensor([q, 1 - q], dtype=torch.float64).view(1, 2, 1, 1)
    label = torch.zeros(1, 1, 1, dtype=torch.int64)
    terms = q * math.log(2 * q / (1 + q)), (1 - q) * math.log(2), math.log(2 / (1 + q))
    assert jensen_shannon(p, label).item() == pytest.approx(sum(terms) / 2, abs=1e-15)
    assert jensen_shannon(p, label).item() == pytest.approx(value, abs=5e-6)
    factor = _js_weights(p.log(), label).item()
    assert factor == pytest.approx(q / 2 * math.log((1 + q) / q), abs=1e-15)
    step = 1e-6
    up, down = (jensen_shannon((p.log() + d * label_first(p)).softmax(1), label) for d in (1, -1))
    slope = -(up - down).item() / (2 * step * (1 - q))
    assert slope == pytest.approx(factor, rel=1e-6)


def label_first(p):
    """A small change of the first class's logit."""
    return torch.tensor([1e-6, 0], dtype=p.dtype).view(1, 2, 1, 1)


def test_certain_pixels_have_finite_gradients():
    """In float32 q underflows to 0 and rounds to 1."""
    logits = torch.tensor([[-200.0, 200.0], [200.0, -200.0], [0.0, 0.0]])
    for loss in LOSSES:
        result = loss_gradient(logits, torch.tensor([0, 0, 0]), loss, 0.5, torch.ones(2))
        assert result.isfinite().all()
    assert not loss_gradient(logits, torch.tensor([0, 0, 0]), "js")[:2].any()


@every_loss
def test_what_stands_at_pixels_without_a_label_has_no_influence(loss, logits, masks):
    other = torch.where(masks[:, None] == 255, 50 * logits.flip(1), logits)
    results = [loss_gradient(z, masks, loss, 0.5, WEIGHTS) for z in (logits, other)]
    assert torch.equal(*results)


@pytest.mark.parametrize("loss", ["mask_ce", "mask_ce_balanced", "mask_spherical"])
def test_masked_losses_leave_wrong_pixels_alone(loss, logits):
    wrong = (logits.argmax(1) + 1) % CLASSES
    assert not loss_gradient(logits, wrong, loss, 0.0, WEIGHTS).any()
    assert loss_gradient(logits, wrong, "ce").any()


def test_losses_that_coincide(logits, masks):
    plain = loss_gradient(logits, masks, "mask_ce")
    assert torch.equal(loss_gradient(logits, masks, "segpgd", 0.0), plain)
    equal = loss_gradient(logits, masks, "mask_ce_balanced", 0.0, torch.full((CLASSES,), 0.5))
    assert torch.equal(equal, plain / 2)


def test_the_published_weights_of_voc_are_shares():
    assert len(VOC_WEIGHTS) == 21 and sum(VOC_WEIGHTS) == pytest.approx(1, abs=1e-12)
