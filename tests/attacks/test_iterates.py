"""Which iterate an attack returns, against a record of all the inputs that its network had."""

import functools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from advdenoise.attacks import adaptive, gradient
from advdenoise.attacks._facts import Facts
from advdenoise.attacks._predict import fooled_share
from advdenoise.calls import call_with
from advdenoise.inference.purified import purified_classifier
from advdenoise.noise import Noise

COUNT, STEPS, ALPHA = 24, 9, 0.02
SETTINGS = {"epsilon": 0.02, "steps": STEPS, "alpha": ALPHA}
CASES = {
    "bim": (gradient.bim, SETTINGS),
    "pgd": (gradient.pgd, SETTINGS),
    "mi_fgsm": (gradient.mi_fgsm, SETTINGS),
    "margin_pgd": (gradient.margin_pgd, SETTINGS | {"kappa": 0.3}),
    "margin_pgd_c": (gradient.margin_pgd, SETTINGS | {"kappa": 0.3, "c": 2.0}),
    "counter_b": (adaptive.counter_b, SETTINGS | {"weight": 0.1}),
}
every_attack = pytest.mark.parametrize("name", CASES)


class Wavy(nn.Module):
    """A network whose loss goes up and down along a step."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.Linear(24, 3, bias=False))
        self.layers.double().requires_grad_(False)
        self.inputs = []

    def forward(self, images):
        self.inputs.append(images.detach().clone())
        return self.layers[2](torch.sin(12 * self.layers[1](images.flatten(1))))


IMAGES = torch.rand(COUNT, 1, 4, 4, generator=torch.Generator().manual_seed(1)).double()
LABELS = Wavy()(IMAGES).argmax(1)


@pytest.fixture
def network():
    return Wavy().eval()


@pytest.fixture
def images():
    return IMAGES


def error(inputs):
    return (inputs - 0.5).square().flatten(1).sum(1)


def run(name, network, images, rows=None, **changes):
    rows = torch.arange(COUNT) if rows is None else rows
    function, values = CASES[name]
    settings = {key: changes.pop(key) for key in ("returns", "steps") if key in changes}
    return call_with(
        functools.partial(function, **{**values, **settings}),
        images=images[rows],
        labels=LABELS[rows],
        targeted=False,
        predict=network,
        classifier=network,
        error=error,
        noise=Noise(0, rows, "test"),
        **changes,
    )


def losses_of(name, network, images, inputs):
    """The loss that an attack raises, and whether it fools the network."""
    outputs = network.layers[2](torch.sin(12 * network.layers[1](inputs.flatten(1))))
    if name.startswith("margin"):
        label = functional.one_hot(LABELS, 3).bool()
        others = outputs.masked_fill(label, -math.inf).amax(1)
        losses = (others - outputs[label]).clamp(max=0.3)
        if name == "margin_pgd_c":
            losses = 2 * losses - (inputs - images).square().flatten(1).mean(1)
    else:
        losses = functional.cross_entropy(outputs, LABELS, reduction="none")
        if name == "counter_b":
            losses = losses - 0.1 * error(inputs)
    return losses, outputs.argmax(1) != LABELS


@every_attack
@pytest.mark.parametrize("returns", ["last", "best", "fooled"])
def test_it_is_the_best_of_all_visited(name, returns, network, images):
    last = run(name, network, images)
    network.inputs.clear()
    facts = Facts(COUNT)
    result = run(name, network, images, returns=returns, facts=facts)
    visited = list(network.inputs)
    assert len(visited) == STEPS + 1 and torch.equal(visited[-1], images + last)
    evaluated = [losses_of(name, network, images, inputs) for inputs in visited]
    losses, fooled = (torch.stack(values) for values in zip(*evaluated, strict=True))
    expected, steps = [], torch.arange(STEPS + 1)
    for image in range(COUNT):
        fooling = steps[fooled[:, image]]
        step = STEPS if returns == "last" else int(losses[:, image].argmax())
        if returns == "fooled" and len(fooling):
            step = int(fooling[-1])
        expected.append(visited[step][image])
    assert torch.allclose(images + result, torch.stack(expected), atol=1e-12)
    arrays = facts.arrays()
    first = [int(steps[column][0]) if column.any() else -1 for column in fooled.T]
    assert arrays["fooled_at"].tolist() == first and -1 in first and max(first) > 0
    assert arrays["fooled_last"].tolist() == fooled[-1].tolist()
    for key, value in (("start", losses[0]), ("best", losses.max(0).values)):
        assert torch.allclose(torch.tensor(arrays[f"loss_{key}"]), value.float())
    recent = losses[: int(0.9 * STEPS) + 1].max(0).values
    assert torch.allclose(torch.tensor(arrays["loss_recent"]), recent.float())


def test_best_and_fooled_are_never_worse_than_last(network, images):
    higher, gained = 0, 0
    for name in CASES:
        results = {r: run(name, network, images, returns=r) for r in ("last", "best", "fooled")}
        judged = {r: losses_of(name, network, images, images + p) for r, p in results.items()}
        assert (judged["best"][0] >= judged["last"][0]).all()
        higher += (judged["best"][0] > judged["last"][0]).sum().item()
        assert (judged["fooled"][1] >= judged["last"][1]).all()
        gained += (judged["fooled"][1].sum() - judged["last"][1].sum()).item()
    assert higher > 0 and gained > 0


@every_attack
def test_more_steps_are_never_worse(name, network, images):
    losses = [
        losses_of(
            name, network, images, images + run(name, network, images, returns="best", steps=s)
        )[0]
        for s in (2, 5, 9)
    ]
    assert (losses[1] >= losses[0]).all() and (losses[2] >= losses[1]).all()


def test_an_even_number_of_steps_across_a_narrow_region():
    """One pixel with margin cos(pi delta / alpha + 0.1): iterates are 0, alpha, 0, alpha, ..."""
    image = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)

    def predict(inputs):
        lead = torch.cos(torch.pi * (inputs.flatten(1) - 0.5) / ALPHA + 0.1)
        return torch.cat([lead, torch.zeros_like(lead)], 1)

    def attack(steps, returns):
        function, label = gradient.margin_pgd, torch.zeros(1, dtype=torch.int64)
        settings = {"epsilon": 0.1, "alpha": ALPHA, "random_start": False}
        settings |= {"steps": steps, "returns": returns}
        facts = Facts(1)
        moved = image + function(image, label, False, predict, Noise(0, [0]), facts, **settings)
        arrays = facts.arrays()
        assert arrays["fooled_at"] == 1 and arrays["fooled_last"] == steps % 2
        return bool(predict(moved).argmax(1) == 1)

    for steps in (1, 2, 3, 8, 9):
        assert attack(steps, "last") == steps % 2
        assert attack(steps, "fooled") and attack(steps, "best")


def test_images_are_independent(network, images):
    order = torch.tensor([4, 1, 9, 0])
    for name in CASES:
        for returns in ("best", "fooled"):
            together = run(name, network, images, returns=returns)[order]
            assert torch.allclose(run(name, network, images, order, returns=returns), together)


def test_a_loss_that_is_not_finite_is_never_the_best(images):
    calls = []

    def predict(inputs):
        calls.append(1)
        outputs = inputs.flatten(1)[:, :3]
        return outputs * math.nan if len(calls) == 3 else outputs

    result = run("bim", predict, images, returns="best", steps=4)
    assert result.isfinite().all()
    calls.clear()
    assert torch.equal(result, run("bim", predict, images, returns="last", steps=4))


# ---------------------------------------------------------------- random networks


def purify(inputs, noise):
    return (inputs + 0.03 * noise.normal(inputs)).clamp(0, 1)


def purified(network, stream, draws):
    noises = [Noise(0, range(COUNT), "p", stream, draw=draw) for draw in range(draws)]
    return purified_classifier(purify, network, "full", None, *noises)


@pytest.mark.parametrize("returns", ["best", "fooled"])
def test_fresh_draws_choose_among_the_best_three_and_the_last(returns, network, images):
    record = []

    class Recorder:
        def __init__(self, inner):
            self.per_draw = [self._record(draw) for draw in inner.per_draw]

        @staticmethod
        def _record(draw):
            def call(inputs):
                outputs = draw(inputs)
                record.append((inputs.detach().clone(), outputs.detach()))
                return outputs

            return call

    predict, select = Recorder(purified(network, "a", 4)), Recorder(purified(network, "s", 10))
    result = run("pgd", predict, images, returns=returns, select=select)
    visits, judged = record[: 4 * (STEPS + 1)], record[4 * (STEPS + 1) :]
    assert len(judged) == 4 * 10

    def key_of(calls, image):
        outputs = torch.stack([call[1][image] for call in calls])
        label = LABELS[image]
        losses = functional.cross_entropy(outputs, label.expand(len(outputs)), reduction="none")
        return (outputs.argmax(1) != label).double().mean().item(), losses.mean().item()

    changed = 0
    for image in range(COUNT):
        keys = [key_of(visits[4 * s : 4 * s + 4], image) for s in range(STEPS + 1)]
        order = sorted(range(STEPS + 1), key=lambda s, keys=keys: keys[s], reverse=True)
        candidates = [STEPS, *order[:3]]
        fresh = []
        for place, step in enumerate(candidates):
            calls = judged[10 * place : 10 * place + 10]
            assert torch.equal(calls[0][0][image], visits[4 * step][0][image])
            fresh.append(key_of(calls, image))
        chosen = candidates[fresh.index(max(fresh))]
        assert torch.allclose((images + result)[image], visits[4 * chosen][0][image], atol=1e-12)
        changed += chosen != order[0]
    assert changed > 0


def test_without_draws_to_choose_by_the_last_is_returned_as_before(network, images):
    expected = run("pgd", purified(network, "a", 4), images)
    select = purified(network, "s", 10)
    assert torch.equal(run("pgd", purified(network, "a", 4), images, select=select), expected)


# ---------------------------------------------------------------- predictions of every pixel


@pytest.mark.parametrize("function", [gradient.bim, gradient.segpgd])
def test_masks_order_by_the_share_of_wrong_pixels(function, images):
    torch.manual_seed(2)
    layer = nn.Conv2d(1, 3, 3, padding=1).double().requires_grad_(False)
    visited = []

    def predict(inputs):
        visited.append(inputs.detach().clone())
        return torch.sin(20 * layer(inputs))

    masks = torch.randint(3, (COUNT, 4, 4), generator=torch.Generator().manual_seed(3))
    masks[:, 0] = 255
    noise = Noise(0, range(COUNT), "test")
    for returns in ("best", "fooled"):
        visited.clear()
        values = functools.partial(function, **SETTINGS | {"returns": returns})
        result = call_with(
            values, images=images, labels=masks, targeted=False, predict=predict, noise=noise
        )
        outputs = [torch.sin(20 * layer(inputs)) for inputs in visited]
        shares = torch.stack([fooled_share(o, masks, False) for o in outputs])
        losses = torch.stack(
            [
                functional.cross_entropy(o, masks, ignore_index=255, reduction="none").sum((1, 2))
                for o in outputs
            ]
        )
        for image in range(COUNT):
            keys = list(zip(shares[:, image].tolist(), losses[:, image].tolist(), strict=True))
            best = visited[keys.index(max(keys))][image]
            assert torch.allclose((images + result)[image], best, atol=1e-12)
    assert (shares.max(0).values > shares[-1]).any()
