"""Attacks on a loss of every pixel whose results are known, and their stages and iterates."""

import functools

import pytest
import torch
from torch import nn

from advdenoise.attacks import _apgd, dense
from advdenoise.attacks._facts import Facts
from advdenoise.attacks._predict import fooled_share
from advdenoise.errors import BadInput
from advdenoise.noise import Noise

EPSILON, CLASSES, SIDE = 0.05, 4, 6
SEA = ["mask_ce", "mask_ce_balanced", "js"]
EQUAL = {"mask_ce_balanced": {"weights": [0.25] * CLASSES}}
CASES = {f"apgd {loss}": (dense.apgd, {"loss": loss, **EQUAL.get(loss, {})}) for loss in SEA}
CASES |= {f"padam {loss}": (dense.padam, {"loss": loss}) for loss in ("ce", "cos")}
every_attack = pytest.mark.parametrize("name", CASES)


class Segmenter(nn.Module):
    """A smooth tiny network in float64; a pixel's logits depend on its neighbours."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 6, 3, 1, 1), nn.Softplus(), nn.Conv2d(6, CLASSES, 3, 1, 1)]
        self.layers = nn.Sequential(*layers).double().requires_grad_(False)

    def forward(self, images):
        return 6 * self.layers(images)


@pytest.fixture(scope="module")
def network():
    return Segmenter().eval()


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(4, 3, SIDE, SIDE, generator=generator).double()


@pytest.fixture(scope="module")
def masks(network, images):
    """Right predictions for the most part, with some pixels and one image without labels."""
    generator = torch.Generator().manual_seed(2)
    masks = torch.randint(CLASSES, (4, SIDE, SIDE), generator=generator)
    masks = torch.where(
        torch.rand(masks.shape, generator=generator) < 0.7, network(images).argmax(1), masks
    )
    masks[1, :3] = 255
    masks[3] = 255
    return masks


def run(name, network, images, masks, ids=range(4), **changes):
    function, values = CASES[name]
    settings = {"epsilon": EPSILON, "steps": 20} | values | changes
    return function(images, masks, network, Noise(0, ids, "test"), **settings)


# ---------------------------------------------------------------- known results


@pytest.fixture(scope="module")
def linear():
    """Two classes and images that no step inside the ball brings across the boundary."""
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(2, 3, generator=generator).double()
    towards = (weights[1] - weights[0]).view(1, 3, 1, 1)

    def network(inputs):
        return torch.einsum("kc,nchw->nkhw", weights, inputs - 0.5)

    side = torch.rand(2, 1, 4, 4, generator=generator).double().sub(0.5).sign()
    distance = 0.25 + 0.05 * torch.rand(2, 3, 4, 4, generator=generator).double()
    images = 0.5 + side * towards.sign() * distance
    logits, masks = network(images), (side[:, 0] > 0).long()
    assert ((logits[:, 1] - logits[:, 0]).abs() > 4 * EPSILON * towards.abs().sum()).all()
    assert torch.equal(logits.argmax(1), masks) and 0 < masks.sum() < masks.numel()
    return network, weights, images, masks


@pytest.mark.parametrize("loss", ["ce", *SEA, "segpgd"])
def test_of_a_linear_network_every_pixel_goes_to_its_corner(loss, linear):
    network, weights, images, masks = linear
    settings = {"weights": [0.5, 0.5]} if loss == "mask_ce_balanced" else {}
    result = dense.apgd(
        images,
        masks,
        network,
        Noise(0, range(2), "test"),
        epsilon=EPSILON,
        steps=30,
        loss=loss,
        returns="last",
        **settings,
    )
    direction = (weights[1 - masks] - weights[masks]).sign().movedim(-1, 1)
    assert torch.equal(result, EPSILON * direction)


def test_adam_is_that_of_torch(linear):
    """With AMSGrad, where the bounds do not matter but for the clipping after each step."""
    network, _, images, masks = linear
    start = Noise(0, range(2), "test").uniform(images, -EPSILON, EPSILON)
    point = start.double().requires_grad_()
    settings = {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "amsgrad": True, "maximize": True}
    optimiser = torch.optim.Adam([point], **settings)
    for _ in range(7):
        optimiser.zero_grad()
        losses = nn.functional.cross_entropy(network(images + point), masks, reduction="none")
        losses.sum().backward()
        optimiser.step()
        with torch.no_grad():
            point.clamp_(-EPSILON, EPSILON)
    result = dense.padam(
        images,
        masks,
        network,
        Noise(0, range(2), "test"),
        epsilon=EPSILON,
        steps=7,
        rate=0.01,
        beta1=0.8,
        beta2=0.95,
        tiny=1e-3,
    )
    assert torch.allclose(result, point.detach(), rtol=0, atol=1e-12)


@every_attack
def test_more_pixels_are_fooled(name, network, images, masks):
    before = fooled_share(network(images), masks, False)
    result = run(name, network, images, masks, epsilon=0.3, steps=40)
    after = fooled_share(network(images + result), masks, False)
    assert (after[:3] > before[:3]).all()


# ---------------------------------------------------------------- stages and checks


def test_stages_and_checks(network, images, masks, monkeypatch):
    """Nine steps are checked after every one, the last twelve after every one but the first."""
    radii, checks = [], []
    check = _apgd.Search._check
    start = _apgd.Search._start

    def begin(self, *arguments):
        radii.append(self._epsilon[0].item())
        checks.append([])
        self.visits = 0
        return start(self, *arguments)

    move = _apgd.Search._move

    def counted(self, *arguments):
        self.visits += 1
        return move(self, *arguments)

    def noted(self, state, length):
        checks[-1].append(self.visits)
        return check(self, state, length)

    monkeypatch.setattr(_apgd.Search, "_start", begin)
    monkeypatch.setattr(_apgd.Search, "_move", counted)
    monkeypatch.setattr(_apgd.Search, "_check", noted)
    run("apgd mask_ce", network, images, masks, steps=30)
    assert radii == pytest.approx([2 * EPSILON, 1.5 * EPSILON, EPSILON])
    assert checks == [list(range(1, 9)), list(range(1, 9)), list(range(2, 12))]


@pytest.mark.parametrize(("steps", "gradients"), [(30, 30), (2, 2)])
def test_the_gradient_after_the_last_step_of_a_stage_is_not_taken(steps, gradients, images, masks):
    taken = []

    def network(inputs):
        outputs = Segmenter()(inputs)
        if inputs.requires_grad:
            inputs.register_hook(lambda _: taken.append(1))
        return outputs

    run("apgd js", network, images, masks, steps=steps)
    assert len(taken) == gradients


def test_one_stage_without_red_epsilon(network, images, masks):
    seen = []

    def watched(inputs):
        seen.append((inputs.detach() - images).abs().max().item())
        return network(inputs)

    run("apgd js", watched, images, masks, red_epsilon=False, steps=5)
    assert max(seen) <= EPSILON + 1e-12 and len(seen) == 6
    seen.clear()
    run("apgd js", watched, images, masks, steps=10)
    assert max(seen[:4]) > 1.5 * EPSILON and max(seen[-5:]) <= EPSILON + 1e-12


@every_attack
def test_the_iterate_with_most_wrong_pixels_is_returned(name, network, images, masks):
    """Also with pixels without a label, which count neither as right nor as wrong."""
    shares = []

    def watched(inputs):
        outputs = network(inputs)
        shares.append(fooled_share(outputs.detach(), masks, False))
        return outputs

    changes = {"red_epsilon": False} if name.startswith("apgd") else {}
    result = run(name, watched, images, masks, returns="best", **changes)
    best = torch.stack(shares).amax(0)
    assert torch.equal(fooled_share(network(images + result), masks, False), best)
    last = run(name, network, images, masks, returns="last", **changes)
    assert torch.equal(fooled_share(network(images + last), masks, False), shares[-1])


def test_facts_are_of_the_last_stage(network, images, masks):
    facts = Facts(4)
    result = run("apgd mask_ce", network, images, masks, facts=facts, steps=10)
    arrays = facts.arrays()
    assert (arrays["loss_best"][:3] >= arrays["loss_start"][:3]).all()
    assert arrays["fooled_at"].max() <= 4
    fooled = fooled_share(network(images + result), masks, False) > 0.5
    assert ((arrays["fooled_at"] >= 0) == fooled.numpy()).all()


# ---------------------------------------------------------------- properties


@every_attack
def test_neither_batch_nor_order_matters(name, network, images, masks):
    together = run(name, network, images, masks)
    order = torch.tensor([3, 0, 2, 1])
    assert torch.equal(run(name, network, images[order], masks[order], order), together[order])
    for row in range(4):
        part = slice(row, row + 1)
        alone = run(name, network, images[part], masks[part], [row])
        assert torch.allclose(alone, together[part], rtol=0, atol=1e-9)


@every_attack
def test_ignored_pixels_have_no_influence(name, network, images, masks):
    def shifted(inputs):
        far = 1e3 * torch.arange(CLASSES, dtype=inputs.dtype).view(1, -1, 1, 1)
        return torch.where(masks[:, None] == 255, far, network(inputs))

    assert torch.equal(run(name, shifted, images, masks)[:3], run(name, network, images, masks)[:3])


@every_attack
def test_an_image_whose_gradient_is_not_finite_stays_at_its_start(name, network, images, masks):
    def broken(inputs):
        factor = torch.ones(len(inputs), 1, 1, 1, dtype=inputs.dtype)
        factor[0] = torch.inf
        return network(inputs) + 0 * (inputs[:, :1] - inputs[:, :1].detach()) * factor

    result = run(name, broken, images, masks, returns="last")
    expected = run(name, network, images, masks, returns="last")
    radius = EPSILON * (2 if name.startswith("apgd") else 1)
    start = Noise(0, range(4), "test").uniform(images, -radius, radius)[0]
    lower, upper = torch.clamp(-images[0], min=-EPSILON), torch.clamp(1 - images[0], max=EPSILON)
    assert torch.equal(result[1:], expected[1:])
    assert torch.allclose(result[0], start.clamp(lower, upper), rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "mask_ce_balanced"}, "give the weights of the classes"),
        ({"loss": "js", "weights": "voc"}, "with no other loss"),
        ({"loss": "mask_ce_balanced", "weights": "voc"}, "each of the 4 classes, got 21"),
    ],
)
def test_weights_that_do_not_fit(settings, message, network, images, masks):
    attack = functools.partial(dense.apgd, images, masks, network, Noise(0, range(4), "test"))
    with pytest.raises(BadInput, match=message):
        attack(epsilon=EPSILON, steps=2, **settings)
