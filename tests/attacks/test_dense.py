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
from advdenoise.attacks._ascent import entropy, entropy_slope
from advdenoise.attacks._ball import limits
from advdenoise.calls import call_with
from advdenoise.errors import BadInput
from advdenoise.noise import Noise

CLASSES, SIDE = 4, 7
EPSILON, ALPHA, STEPS = 0.1, 0.03, 5
WALK = {"epsilon": EPSILON, "steps": STEPS, "alpha": ALPHA}
CASES = {
    "fgsm": (gradient.fgsm, {"epsilon": EPSILON}),
    "bim": (gradient.bim, WALK),
    "pgd": (gradient.pgd, WALK),
    "mi_fgsm": (gradient.mi_fgsm, WALK),
    "segpgd": (gradient.segpgd, WALK),
    "r_fgsm": (gradient.r_fgsm, {"epsilon": EPSILON, "start_radius": 0.04}),
    "counter_b": (adaptive.counter_b, WALK | {"weight": 0.1}),
}
TARGETED = [name for name in CASES if name != "segpgd"]
every_attack = pytest.mark.parametrize("name", CASES)


class Segmenter(nn.Module):
    """A smooth tiny network in float64, whose logits of a pixel hang on its neighbours."""

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
    drawn = torch.rand(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).double()
    drawn[:, :, 0] = 0  # a row at each end of the range, where the box is felt
    drawn[:, :, 1] = 1
    return drawn


@pytest.fixture(scope="module")
def masks():
    """Of 0, some, most, and all but one pixel the class is unknown; the last has none at all."""
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
        error=lambda seen: (seen - 0.4).square().flatten(1).sum(1),
        noise=Noise(0, ids, "test"),
    )


def loss_of_pixels(logits, mask) -> float:
    """An image's mean over labelled pixels, one pixel after the other, from the definition."""
    logits, mask = logits.detach().numpy(), mask.numpy()
    found = []
    for row in range(mask.shape[0]):
        for column in range(mask.shape[1]):
            label = mask[row, column]
            if label == 255:
                continue
            of = logits[:, row, column]
            surprise = np.log(np.exp(of).sum()) - of[label]
            found.append(surprise)
    return float(np.mean(found)) if found else 0.0


# ---------------------------------------------------------------- the loss


def test_the_loss_is_the_mean_over_labelled_pixels_summed_over_images(network, images, masks):
    logits = network(images)
    by_hand = [loss_of_pixels(*pair) for pair in zip(logits, masks, strict=True)]
    assert by_hand[4] == 0 and min(by_hand[:4]) > 0
    assert entropy(logits, masks).item() == pytest.approx(sum(by_hand), rel=1e-12)
    for row in range(4):  # torch's own mean is over the labelled pixels of one image
        alone = functional.cross_entropy(
            logits[row : row + 1], masks[row : row + 1], ignore_index=255
        )
        assert alone.item() == pytest.approx(by_hand[row], rel=1e-12)


def test_weights_stand_before_the_mean(network, images, masks):
    def weigh(logits, labels):
        return torch.where(logits.argmax(1) == labels, 0.75, 0.25)

    slopes = entropy_slope(images, masks, network, weigh)
    for row in range(4):
        expected = slope_of(network, images[row], masks[row], (0.75, 0.25))
        assert torch.allclose(slopes[row], expected, rtol=1e-6, atol=1e-12)
    assert not slopes[4].any()


def test_the_slope_by_hand_is_that_of_the_loss(network, images, masks):
    """Of logits in either order of memory."""
    for order in (torch.contiguous_format, torch.channels_last):

        def ask(seen, order=order):
            return network(seen).contiguous(memory_format=order)

        leaf = images.clone().requires_grad_()
        (expected,) = torch.autograd.grad(entropy(ask(leaf), masks), leaf)
        assert torch.allclose(entropy_slope(images, masks, ask), expected, rtol=1e-6, atol=1e-12)


def test_of_images_with_one_label_nothing_is_ignored():
    logits = torch.randn(3, 300, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([255, 0, 299])
    plain = functional.cross_entropy(logits, labels, reduction="sum")
    assert torch.allclose(entropy(logits, labels), plain)
    found, expected = (
        torch.autograd.grad(loss, logits)[0] for loss in (entropy(logits, labels), plain)
    )
    assert torch.equal(found, expected) and found[0].any()


def test_the_gradient_against_finite_differences(network, images, masks):
    slope = entropy_slope(images, masks, network)
    generator = np.random.default_rng(0)
    step = 1e-5
    for row in range(4):
        for _ in range(12):
            place = (generator.integers(3), *generator.integers(SIDE, size=2))
            moved = [images[row].clone(), images[row].clone()]
            moved[0][place] += step
            moved[1][place] -= step
            high, low = (loss_of_pixels(network(x[None])[0], masks[row]) for x in moved)
            assert slope[row][place].item() == pytest.approx((high - low) / (2 * step), abs=1e-7)
    assert not slope[4].any()


# ---------------------------------------------------------------- the attacks


def project(moved, image, epsilon=EPSILON):
    return moved.clamp(image - epsilon, image + epsilon).clamp(0, 1)


def slope_of(network, image, mask, weights=None):
    """By torch's cross-entropy over the labelled pixels alone, taken out of the image."""
    leaf = image.clone().requires_grad_()
    logits = network(leaf[None])[0].permute(1, 2, 0)[mask != 255]
    losses = functional.cross_entropy(logits, mask[mask != 255], reduction="none")
    if weights is not None:
        right = logits.argmax(1) == mask[mask != 255]
        losses = losses * torch.where(right, weights[0], weights[1])
    return torch.autograd.grad(losses.mean(), leaf)[0]


@pytest.mark.parametrize("targeted", [False, True])
def test_bim_equals_the_formula_image_by_image(targeted, network, images, masks):
    """DAPAS: X <- Clip(X + alpha sign(gradient)), with a minus and target labels where targeted."""
    sign = -1 if targeted else 1
    found = images + run("bim", network, images, masks, targeted=targeted)
    for row in range(4):
        moved = images[row]
        for _ in range(STEPS):
            direction = slope_of(network, moved, masks[row]).sign()
            moved = project(moved + sign * ALPHA * direction, images[row])
        assert torch.allclose(found[row], moved, rtol=0, atol=1e-9)


@pytest.mark.parametrize("targeted", [False, True])
def test_fgsm_equals_the_formula_image_by_image(targeted, network, images, masks):
    sign = -1 if targeted else 1
    found = images + run("fgsm", network, images, masks, targeted=targeted)
    for row in range(4):
        direction = slope_of(network, images[row], masks[row]).sign()
        expected = project(images[row] + sign * EPSILON * direction, images[row])
        assert torch.allclose(found[row], expected, rtol=0, atol=1e-9)


def test_segpgd_equals_algorithm_1_image_by_image(network, images, masks):
    found = images + run("segpgd", network, images, masks)
    starts = Noise(0, range(5), "test").uniform(images, -EPSILON, EPSILON)
    for row in range(4):
        moved = project(images[row] + starts[row], images[row])
        for t in range(1, STEPS + 1):
            of_wrong = (t - 1) / (2 * STEPS)
            weights = (1 - of_wrong, of_wrong)
            direction = slope_of(network, moved, masks[row], weights).sign()
            moved = project(moved + ALPHA * direction, images[row])
        assert torch.allclose(found[row], moved, rtol=0, atol=1e-9)
    pgd = images + run("pgd", network, images, masks)
    assert not torch.equal(found[:3], pgd[:3])


def test_segpgd_begins_with_the_pixels_that_are_right(network, images):
    """Where none is, its first step has nothing to follow; of one step it is all there is."""
    with torch.no_grad():
        right = network(images).argmax(1)
    wrong = (right + 1) % CLASSES
    budget = {"epsilon": 1e-6, "alpha": 1e-7, "steps": 1}  # no pixel changes sides
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
    """foolbox takes the loss that it is given: torch's, over all labelled pixels of an image."""
    steps = {} if name == "fgsm" else {"abs_stepsize": ALPHA, "steps": STEPS}
    peers = {
        "fgsm": foolbox.attacks.LinfFastGradientAttack,
        "bim": foolbox.attacks.LinfBasicIterativeAttack,
        "pgd": foolbox.attacks.LinfProjectedGradientDescentAttack,
    }
    peer = peers[name](random_start=name == "pgd", **steps)
    start = Noise(0, range(5), "test").uniform(images, -EPSILON, EPSILON)

    def loss(model, labels):
        def of(seen):
            logits = model(seen).raw
            losses = [
                functional.cross_entropy(logits[i : i + 1], masks[i : i + 1], ignore_index=255)
                for i in range(4)
            ]
            value = -torch.stack(losses).sum() if targeted else torch.stack(losses).sum()
            return type(seen)(value)

        return of

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
def test_i_fgsm_of_dapas_and_its_variant(alpha, largest, network, images, masks):
    """Its six budgets take 1, 2, 3, 4, 5 and 10 steps of 0.25/255, or of 1/255 (Kurakin's)."""
    asked = []

    def counted(seen):
        asked.append(None)
        return network(seen)

    inside = images * 0.9 + 0.05
    for epsilon, count in zip(
        [0.001, 0.002, 0.004, 0.008, 0.016, 0.032], [1, 2, 3, 4, 5, 10], strict=True
    ):
        asked.clear()
        found = run("bim", counted, inside, masks, epsilon=epsilon, steps="kurakin", alpha=alpha)
        assert len(asked) == count
        reach = min(count * alpha, epsilon)
        assert found.abs().max().item() == pytest.approx(reach, rel=1e-9)
    assert reach == pytest.approx(largest)


@every_attack
def test_an_image_without_labelled_pixels_rests(name, network, images, masks):
    changes = {"weight": 0.0} if name == "counter_b" else {}  # its other term has no labels
    found = run(name, network, images, masks, **changes)[4]
    radius = {"pgd": EPSILON, "segpgd": EPSILON, "r_fgsm": 0.04}.get(name, 0)
    start = Noise(0, range(5), "test").uniform(images, -radius, radius)[4].double()
    lower, upper = (bound[4] for bound in limits(images, radius))
    assert torch.equal(found, start.clamp(lower, upper))


@every_attack
def test_neither_batch_nor_order_matters(name, network, images, masks):
    whole = run(name, network, images, masks)
    order = torch.tensor([3, 0, 4, 2, 1])
    assert torch.equal(run(name, network, images[order], masks[order], order), whole[order])
    for row in range(5):
        part = slice(row, row + 1)
        alone = run(name, network, images[part], masks[part], [row])
        assert torch.allclose(alone, whole[part], rtol=0, atol=1e-9)


@every_attack
def test_what_is_ignored_changes_nothing(name, network, images, masks):
    """The labels of ignored pixels are unknown; their logits may be anything."""

    def shifted(seen):
        far = 1e3 * torch.arange(CLASSES, dtype=seen.dtype).view(1, -1, 1, 1)
        return torch.where(masks[:, None] == 255, far, network(seen))

    def torn(seen):  # no gradient flows back from ignored pixels
        logits = network(seen)
        return torch.where(masks[:, None] == 255, logits.detach(), logits)

    expected = run(name, torn, images, masks)
    assert torch.equal(run(name, shifted, images, masks), expected)
    assert torch.equal(run(name, network, images, masks), expected)


@pytest.mark.parametrize("name", TARGETED)
def test_untargeted_raises_and_targeted_lowers_the_loss(name, network, images, masks):
    def losses(perturbation):
        with torch.no_grad():
            logits = network(images + perturbation)
        return [entropy(logits[i : i + 1], masks[i : i + 1]).item() for i in range(4)]

    before = losses(torch.zeros_like(images))
    raised = losses(run(name, network, images, masks))
    lowered = losses(run(name, network, images, masks, targeted=True))
    for one, more, less in zip(before, raised, lowered, strict=True):
        assert less < one < more


def test_draws_are_averaged_over(network, images, masks):
    """Expectation over transformation: the mean of the gradients of both draws."""

    class Twice:
        each = (network, lambda seen: network(seen.flip(3)))

    found = run("fgsm", Twice(), images, masks)
    for row in range(4):
        flipped = slope_of(lambda x: network(x.flip(3)), images[row], masks[row])
        direction = (slope_of(network, images[row], masks[row]) + flipped).sign()
        expected = project(images[row] + EPSILON * direction, images[row])
        assert torch.allclose(images[row] + found[row], expected, rtol=0, atol=1e-9)


@every_attack
@settings(max_examples=15, deadline=None)
@given(epsilon=st.floats(0, 1), share=st.floats(0, 2), seed=st.integers(0, 99))
def test_always_inside_ball_and_box(name, epsilon, share, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 1, 4, 4, generator=generator)
    images[0, 0, 0] = torch.tensor([0.0, 1.0, 1e-9, 1 - 2**-24])
    masks = torch.randint(3, (2, 4, 4), generator=generator)
    masks[torch.rand(2, 4, 4, generator=generator) < 0.2] = 255
    kernel = torch.randn(3, 1, 3, 3, generator=generator)

    def predict(seen):
        return functional.conv2d(seen.square(), kernel, padding=1)

    changes = {} if name in ("fgsm", "r_fgsm") else {"alpha": None, "alpha_per_epsilon": share}
    found = run(name, predict, images, masks, range(2), epsilon=epsilon, **changes)
    radius = epsilon + 0.04 if name == "r_fgsm" else epsilon
    assert found.dtype == torch.float32 and found.isfinite().all()
    assert (found.abs() <= torch.tensor(radius)).all()
    assert (images + found).min() >= 0 and (images + found).max() <= 1


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
def test_attacks_that_ask_whether_an_image_is_fooled_refuse_masks(attack, network, images, masks):
    handed = {"predict": network, "victim": network, "targeted": False, "watch": print}
    noise = Noise(0, range(5), "test")
    with pytest.raises(BadInput, match="a class for each pixel; take gradient.fgsm"):
        call_with(attack, images=images, labels=masks, noise=noise, **handed)
