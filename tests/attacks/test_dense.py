"""The gradient attacks on predictions of every pixel, against loops over pixels and foolbox."""

import functools

import foolbox
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from advdenoise.attacks import adaptive, blackbox, gradient, minimal, stopped
from advdenoise.attacks._ascent import (
    cross_entropies,
    cross_entropy_expectation,
    cross_entropy_gradient,
)
from advdenoise.attacks._ball import limits
from advdenoise.calls import call_with
from advdenoise.errors import BadInput
from advdenoise.noise import Noise

CLASSES, SIDE = 4, 7
EPSILON, ALPHA, STEPS = 0.1, 0.03, 5
SETTINGS = {"epsilon": EPSILON, "steps": STEPS, "alpha": ALPHA}
CASES = {
    "fgsm": (gradient.fgsm, {"epsilon": EPSILON}),
    "bim": (gradient.bim, SETTINGS),
    "pgd": (gradient.pgd, SETTINGS),
    "mi_fgsm": (gradient.mi_fgsm, SETTINGS),
    "segpgd": (gradient.segpgd, SETTINGS),
    "r_fgsm": (gradient.r_fgsm, {"epsilon": EPSILON, "start_radius": 0.04}),
    "counter_b": (adaptive.counter_b, SETTINGS | {"weight": 0.1}),
}
TARGETED = [name for name in CASES if name != "segpgd"]
every_attack = pytest.mark.parametrize("name", CASES)


class Segmenter(nn.Module):
    """A smooth tiny network in float64; a pixel's logits depend on its neighbours."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 6, 3, 1, 1), nn.Softplus(), nn.Conv2d(6, CLASSES, 3, 1, 1)]
        self.layers = nn.Sequential(*layers).double().eval().requires_grad_(False)

    def forward(self, images):
        return 4 * self.layers(images)


@pytest.fixture(scope="module")
def network():
    return Segmenter().eval()


@pytest.fixture(scope="module")
def images():
    images = torch.rand(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).double()
    images[:, :, 0] = 0  # rows at both ends of the range, where clipping matters
    images[:, :, 1] = 1
    return images


@pytest.fixture(scope="module")
def masks():
    """Masks that ignore no, some, most, all but one and all pixels."""
    generator = torch.Generator().manual_seed(2)
    masks = torch.randint(CLASSES, (5, SIDE, SIDE), generator=generator)
    for image, share in ((1, 0.3), (2, 0.8)):
        masks[image][torch.rand(SIDE, SIDE, generator=generator) < share] = 255
    masks[3] = 255
    masks[3, 2, 3] = 1
    masks[4] = 255
    return masks


def run(name, predict, images, masks, ids=range(5), targeted=False, **changes):
    function, values = CASES[name]
    return call_with(
        functools.partial(function, **{**values, **changes}),
        images=images,
        labels=masks,
        targeted=targeted,
        predict=predict,
        classifier=predict,
        error=lambda inputs: (inputs - 0.4).square().flatten(1).sum(1),
        noise=Noise(0, ids, "test"),
    )


def loss_of_pixels(logits, mask) -> float:
    """The mean cross-entropy over labelled pixels, pixel by pixel from the definition."""
    logits, mask = logits.detach().numpy(), mask.numpy()
    losses = []
    for row in range(mask.shape[0]):
        for column in range(mask.shape[1]):
            label = mask[row, column]
            if label == 255:
                continue
            scores = logits[:, row, column]
            loss = np.log(np.exp(scores).sum()) - scores[label]
            losses.append(loss)
    return float(np.mean(losses)) if losses else 0.0


# ---------------------------------------------------------------- the loss


def test_the_loss_is_the_mean_over_labelled_pixels_summed_over_images(network, images, masks):
    logits = network(images)
    by_hand = [loss_of_pixels(*pair) for pair in zip(logits, masks, strict=True)]
    assert by_hand[4] == 0 and min(by_hand[:4]) > 0
    assert cross_entropies(logits, masks).sum().item() == pytest.approx(sum(by_hand), rel=1e-12)
    for row in range(4):  # torch's own mean is over the labelled pixels of one image
        alone = functional.cross_entropy(
            logits[row : row + 1], masks[row : row + 1], ignore_index=255
        )
        assert alone.item() == pytest.approx(by_hand[row], rel=1e-12)


def test_pixel_weights_apply_before_the_mean(network, images, masks):
    def pixel_weights(logits, labels):
        return torch.where(logits.argmax(1) == labels, 0.75, 0.25)

    result = cross_entropy_expectation(images, masks, False, network, pixel_weights)
    gradients = result.gradient
    for row in range(4):
        expected = gradient_of(network, images[row], masks[row], (0.75, 0.25))
        assert torch.allclose(gradients[row], expected, rtol=1e-6, atol=1e-12)
    assert not gradients[4].any()


def test_the_closed_form_gradient_is_that_of_the_loss(network, images, masks):
    """For logits in either memory format."""
    for order in (torch.contiguous_format, torch.channels_last):

        def predict(inputs, order=order):
            return network(inputs).contiguous(memory_format=order)

        leaf = images.clone().requires_grad_()
        (expected,) = torch.autograd.grad(cross_entropies(predict(leaf), masks).sum(), leaf)
        gradient = cross_entropy_gradient(images, masks, predict)
        assert torch.allclose(gradient, expected, rtol=1e-6, atol=1e-12)


def test_label_255_of_whole_images_is_not_ignored():
    logits = torch.randn(3, 300, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([255, 0, 299])
    plain = functional.cross_entropy(logits, labels, reduction="sum")
    assert torch.allclose(cross_entropies(logits, labels).sum(), plain)
    result, expected = (
        torch.autograd.grad(loss, logits)[0]
        for loss in (cross_entropies(logits, labels).sum(), plain)
    )
    assert torch.equal(result, expected) and result[0].any()


def test_the_gradient_against_finite_differences(network, images, masks):
    gradient = cross_entropy_gradient(images, masks, network)
    generator = np.random.default_rng(0)
    step = 1e-5
    for row in range(4):
        for _ in range(12):
            index = (generator.integers(3), *generator.integers(SIDE, size=2))
            moved = [images[row].clone(), images[row].clone()]
            moved[0][index] += step
            moved[1][index] -= step
            high, low = (loss_of_pixels(network(x[None])[0], masks[row]) for x in moved)
            assert gradient[row][index].item() == pytest.approx((high - low) / (2 * step), abs=1e-7)
    assert not gradient[4].any()


# ---------------------------------------------------------------- the attacks


def project(moved, image, epsilon=EPSILON):
    return moved.clamp(image - epsilon, image + epsilon).clamp(0, 1)


def gradient_of(network, image, mask, weights=None):
    """The gradient of torch's cross-entropy over the labelled pixels alone."""
    leaf = image.clone().requires_grad_()
    logits = network(leaf[None])[0].permute(1, 2, 0)[mask != 255]
    losses = functional.cross_entropy(logits, mask[mask != 255], reduction="none")
    if weights is not None:
        right = logits.argmax(1) == mask[mask != 255]
        losses = losses * torch.where(right, weights[0], weights[1])
    return torch.autograd.grad(losses.mean(), leaf)[0]


@pytest.mark.parametrize("targeted", [False, True])
def test_bim_equals_the_formula_image_by_image(targeted, network, images, masks):
    """Cho et al. 2019: X <- Clip(X + alpha sign(gradient)).

    If targeted, with a minus and target labels.
    """
    sign = -1 if targeted else 1
    result = images + run("bim", network, images, masks, targeted=targeted)
    for row in range(4):
        moved = images[row]
        for _ in range(STEPS):
            direction = gradient_of(network, moved, masks[row]).sign()
            moved = project(moved + sign * ALPHA * direction, images[row])
        assert torch.allclose(result[row], moved, rtol=0, atol=1e-9)


@pytest.mark.parametrize("targeted", [False, True])
def test_fgsm_equals_the_formula_image_by_image(targeted, network, images, masks):
    sign = -1 if targeted else 1
    result = images + run("fgsm", network, images, masks, targeted=targeted)
    for row in range(4):
        direction = gradient_of(network, images[row], masks[row]).sign()
        expected = project(images[row] + sign * EPSILON * direction, images[row])
        assert torch.allclose(result[row], expected, rtol=0, atol=1e-9)


def test_segpgd_equals_algorithm_1_image_by_image(network, images, masks):
    result = images + run("segpgd", network, images, masks)
    starts = Noise(0, range(5), "test").uniform(images, -EPSILON, EPSILON)
    for row in range(4):
        moved = project(images[row] + starts[row], images[row])
        for t in range(1, STEPS + 1):
            weight = (t - 1) / (2 * STEPS)
            weights = (1 - weight, weight)
            direction = gradient_of(network, moved, masks[row], weights).sign()
            moved = project(moved + ALPHA * direction, images[row])
        assert torch.allclose(result[row], moved, rtol=0, atol=1e-9)
    pgd = images + run("pgd", network, images, masks)
    assert not torch.equal(result[:3], pgd[:3])


def test_segpgd_begins_with_the_correct_pixels(network, images):
    """If none is correct, the first step has a zero gradient."""
    with torch.no_grad():
        right = network(images).argmax(1)
    wrong = (right + 1) % CLASSES
    budget = {"epsilon": 1e-6, "alpha": 1e-7, "steps": 1}  # too small to change a prediction
    start = Noise(0, range(5), "test").uniform(images, -1e-6, 1e-6).double()
    start = start.clamp(*limits(images, 1e-6))
    assert torch.equal(run("segpgd", network, images, wrong, **budget), start)
    assert not torch.equal(run("segpgd", network, images, right, **budget), start)
    later = run("segpgd", network, images, wrong, **budget | {"steps": 2})
    assert not torch.equal(later, start)


@pytest.mark.parametrize(
    ("name", "targeted"),
    [("fgsm", False), ("bim", False), ("bim", True), ("pgd", False), ("pgd", True)],
)
def test_agrees_with_foolbox(name, targeted, network, images, masks, monkeypatch):
    """foolbox is given torch's loss over all labelled pixels of an image."""
    steps = {} if name == "fgsm" else {"abs_stepsize": ALPHA, "steps": STEPS}
    peers = {
        "fgsm": foolbox.attacks.LinfFastGradientAttack,
        "bim": foolbox.attacks.LinfBasicIterativeAttack,
        "pgd": foolbox.attacks.LinfProjectedGradientDescentAttack,
    }
    peer = peers[name](random_start=name == "pgd", **steps)
    start = Noise(0, range(5), "test").uniform(images, -EPSILON, EPSILON)

    def loss(model, labels):
        def scores(inputs):
            logits = model(inputs).raw
            losses = [
                functional.cross_entropy(logits[i : i + 1], masks[i : i + 1], ignore_index=255)
                for i in range(4)
            ]
            value = -torch.stack(losses).sum() if targeted else torch.stack(losses).sum()
            return type(inputs)(value)

        return scores

    monkeypatch.setattr(peer, "get_loss_fn", loss, raising=False)
    monkeypatch.setattr(
        peer, "get_random_start", lambda x, _: type(x)((x.raw + start).clamp(0, 1)), raising=False
    )
    model = foolbox.PyTorchModel(network, bounds=(0, 1))
    criterion = foolbox.criteria.Misclassification(torch.zeros(5, dtype=torch.int64))
    theirs = peer.run(model, images, criterion, epsilon=EPSILON)
    ours = images + run(name, network, images, masks, targeted=targeted)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("alpha", "largest"), [(0.25 / 255, 2.5 / 255), (1 / 255, 0.032)])
def test_i_fgsm_with_few_steps_and_its_variant(alpha, largest, network, images, masks):
    """Its six budgets take 1, 2, 3, 4, 5 and 10 steps of 0.25/255, or of 1/255 (Kurakin's)."""
    calls = []

    def counted(inputs):
        calls.append(None)
        return network(inputs)

    inside = images * 0.9 + 0.05
    for epsilon, count in zip(
        [0.001, 0.002, 0.004, 0.008, 0.016, 0.032], [1, 2, 3, 4, 5, 10], strict=True
    ):
        calls.clear()
        result = run("bim", counted, inside, masks, epsilon=epsilon, steps="kurakin", alpha=alpha)
        assert len(calls) == count
        reach = min(count * alpha, epsilon)
        assert result.abs().max().item() == pytest.approx(reach, rel=1e-9)
    assert reach == pytest.approx(largest)


@every_attack
def test_an_image_without_labelled_pixels_does_not_move(name, network, images, masks):
    changes = {"weight": 0.0} if name == "counter_b" else {}  # the other term has no labels
    result = run(name, network, images, masks, **changes)[4]
    radius = {"pgd": EPSILON, "segpgd": EPSILON, "r_fgsm": 0.04}.get(name, 0)
    start = Noise(0, range(5), "test").uniform(images, -radius, radius)[4].double()
    lower, upper = (bound[4] for bound in limits(images, radius))
    assert torch.equal(result, start.clamp(lower, upper))


@every_attack
def test_neither_batch_nor_order_matters(name, network, images, masks):
    together = run(name, network, images, masks)
    order = torch.tensor([3, 0, 4, 2, 1])
    assert torch.equal(run(name, network, images[order], masks[order], order), together[order])
    for row in range(5):
        part = slice(row, row + 1)
        alone = run(name, network, images[part], masks[part], [row])
        assert torch.allclose(alone, together[part], rtol=0, atol=1e-9)


@every_attack
def test_ignored_pixels_have_no_influence(name, network, images, masks):
    """The labels of ignored pixels are unknown; their logits may be anything."""

    def shifted(inputs):
        far = 1e3 * torch.arange(CLASSES, dtype=inputs.dtype).view(1, -1, 1, 1)
        return torch.where(masks[:, None] == 255, far, network(inputs))

    def detached(inputs):  # no gradient flows back from ignored pixels
        logits = network(inputs)
        return torch.where(masks[:, None] == 255, logits.detach(), logits)

    expected = run(name, detached, images, masks)
    assert torch.equal(run(name, shifted, images, masks), expected)
    assert torch.equal(run(name, network, images, masks), expected)


@pytest.mark.parametrize("name", TARGETED)
def test_untargeted_raises_and_targeted_lowers_the_loss(name, network, images, masks):
    def losses(perturbation):
        with torch.no_grad():
            logits = network(images + perturbation)
        return [cross_entropies(logits[i : i + 1], masks[i : i + 1]).item() for i in range(4)]

    before = losses(torch.zeros_like(images))
    raised = losses(run(name, network, images, masks))
    lowered = losses(run(name, network, images, masks, targeted=True))
    for middle, high, low in zip(before, raised, lowered, strict=True):
        assert low < middle < high


def test_gradients_are_averaged_over_draws(network, images, masks):
    """Expectation over transformation: the mean of the gradients of both draws."""

    class Twice:
        per_draw = (network, lambda inputs: network(inputs.flip(3)))

    result = run("fgsm", Twice(), images, masks)
    for row in range(4):
        flipped = gradient_of(lambda x: network(x.flip(3)), images[row], masks[row])
        direction = (gradient_of(network, images[row], masks[row]) + flipped).sign()
        expected = project(images[row] + EPSILON * direction, images[row])
        assert torch.allclose(images[row] + result[row], expected, rtol=0, atol=1e-9)


@every_attack
@settings(max_examples=15, deadline=None)
@given(epsilon=st.floats(0, 1), share=st.floats(0, 2), seed=st.integers(0, 99))
def test_always_inside_ball_and_unit_interval(name, epsilon, share, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 1, 4, 4, generator=generator)
    images[0, 0, 0] = torch.tensor([0.0, 1.0, 1e-9, 1 - 2**-24])
    masks = torch.randint(3, (2, 4, 4), generator=generator)
    masks[torch.rand(2, 4, 4, generator=generator) < 0.2] = 255
    kernel = torch.randn(3, 1, 3, 3, generator=generator)

    def predict(inputs):
        return functional.conv2d(inputs.square(), kernel, padding=1)

    changes = {} if name in ("fgsm", "r_fgsm") else {"alpha": None, "alpha_per_epsilon": share}
    result = run(name, predict, images, masks, range(2), epsilon=epsilon, **changes)
    radius = epsilon + 0.04 if name == "r_fgsm" else epsilon
    assert result.dtype == torch.float32 and result.isfinite().all()
    assert (result.abs() <= torch.tensor(radius)).all()
    assert (images + result).min() >= 0 and (images + result).max() <= 1


# ---------------------------------------------------------------- attacks that need one label


@pytest.mark.parametrize(
    "attack",
    [
        minimal.deepfool,
        minimal.carlini_wagner,
        functools.partial(blackbox.square, epsilon=0.1),
        functools.partial(stopped.i_fgsm, steps=2, alpha=0.1),
        functools.partial(stopped.mi_fgsm, steps=2, alpha=0.1),
        functools.partial(stopped.line_search, steps=2),
    ],
)
def test_attacks_that_need_one_label_refuse_masks(attack, network, images, masks):
    arguments = {"predict": network, "victim": network, "targeted": False, "callback": print}
    noise = Noise(0, range(5), "test")
    with pytest.raises(BadInput, match="this data set has one per pixel; use gradient.fgsm"):
        call_with(attack, images=images, labels=masks, noise=noise, **arguments)
