"""Purifiers that draw random numbers under attack: whose draws, how many, for which rows."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from advdenoise.attacks import adaptive, blackbox, gradient, minimal
from advdenoise.inference.purified import probabilities, purified_classifier
from advdenoise.noise import Noise
from advdenoise.stages import attack, data, models

N, SHAPE = 6, (1, 6, 6)
IDS = [7, 3, 12, 5, 40, 1]


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, 2, 1), nn.Tanh(), nn.Flatten(), nn.Linear(36, 4)]
    classifier = nn.Sequential(*layers).double().eval().requires_grad_(False)
    for layer in (layers[0], layers[3]):  # so that all classes are within reach
        layer.weight *= 5
        layer.bias.zero_()
    layers[0].weight -= layers[0].weight.mean((1, 2, 3), keepdim=True)
    layers = [nn.Conv2d(1, 4, 3, 1, 1), nn.Softplus(), nn.Conv2d(4, 1, 3, 1, 1), nn.Sigmoid()]
    denoiser = nn.Sequential(*layers).double().eval().requires_grad_(False)
    return classifier, models.Denoiser(denoiser, {"mean": 0.5, "deviation": 0.5})


@pytest.fixture(scope="module")
def images():
    return torch.rand(N, *SHAPE, generator=torch.Generator().manual_seed(1)).double()


@pytest.fixture(scope="module")
def labels(networks, images):
    return networks[0](images).argmax(1)


def points() -> dict[str, dict]:
    """Random purifiers: F's noise and G's transformations are strong here."""
    return {
        "f": {"function": "apudae.f", "settings": {"steps": 3, "amount": 0.02}},
        "g": {"function": "apudae.g", "settings": {"steps": 2, "resize": 0.2, "rotation": 30.0}},
        "g_each": {"function": "apudae.g", "settings": {"steps": 2, "each_step": True}},
    }


random_purifiers = pytest.mark.parametrize("point", points().values(), ids=points())


def behind(networks, point, rows=range(N), draws=1, through="full", who="attacker"):
    classifier, using = networks
    ids = [IDS[row] for row in rows]
    noises = [Noise(0, ids, "best", who, draw=draw) for draw in range(draws)]
    purify = models.purifier(point, using)
    return purified_classifier(purify, classifier, through, using and using.denoise, *noises)


ATTACKS = {
    "bim": lambda predict, images, labels, ids: gradient.bim(
        images, labels, False, predict, epsilon=0.1, alpha=0.03, steps=3
    ),
    "mi_fgsm": lambda predict, images, labels, ids: gradient.mi_fgsm(
        images, labels, False, predict, epsilon=0.1, alpha=0.03, steps=3
    ),
    "deepfool": lambda predict, images, labels, ids: minimal.deepfool(
        images, labels, predict, steps=4, candidates=3
    ),
    "cw": lambda predict, images, labels, ids: minimal.carlini_wagner(
        images,
        labels,
        False,
        predict,
        binary_search_steps=2,
        steps=8,
        stepsize=0.1,
        initial_const=1.0,
    ),
    "square": lambda predict, images, labels, ids: blackbox.square(
        images, labels, False, predict, Noise(0, ids, "square"), epsilon=0.1, queries=8
    ),
}


@random_purifiers
@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("draws", [1, 2])
def test_neither_batch_nor_order_matters(name, draws, point, networks, images, labels):
    """Also where an attack asks for some rows only, with images done at different times."""

    def run(rows):
        predict = behind(networks, point, rows, draws)
        return ATTACKS[name](predict, images[rows], labels[rows], [IDS[row] for row in rows])

    whole = run(list(range(N)))
    assert whole.flatten(1).any(1).sum() >= 2
    order = [4, 0, 5]
    assert torch.allclose(run(order), whole[order], atol=1e-9)
    assert torch.allclose(run([4]), whole[[4]], atol=1e-9)


@random_purifiers
@pytest.mark.parametrize("through", ["full", "identity"])
def test_the_gradient_is_the_mean_over_draws_fresh_at_each_step(
    point, through, networks, images, labels
):
    classifier, using = networks
    purify = models.purifier(point, using)
    draws, steps = 3, 2
    noises = [Noise(0, IDS, "best", "attacker", draw=draw) for draw in range(draws)]
    now, threat_classifier = images, []
    for _ in range(steps):
        slopes = []
        for noise in noises:
            leaf = now.clone().requires_grad_()
            if through == "full":
                purified = purify(leaf, noise)
            else:
                purified = leaf + (purify(now, noise) - now)
            threat_classifier.append(purified.detach())
            loss = functional.cross_entropy(classifier(purified), labels, reduction="sum")
            slopes.append(torch.autograd.grad(loss, leaf)[0])
        mean = torch.stack(slopes).mean(0)
        now = (now + 0.03 * mean.sign()).clamp(images - 0.1, images + 0.1).clamp(0, 1)
    predict = behind(networks, point, draws=draws, through=through)
    result = gradient.bim(images, labels, False, predict, epsilon=0.1, alpha=0.03, steps=steps)
    assert torch.allclose(images + result, now, atol=1e-9)
    for place, purified in enumerate(threat_classifier):
        assert not any(torch.equal(purified, other) for other in threat_classifier[:place])


@random_purifiers
def test_outputs_of_several_draws_are_their_mean(point, networks, images):
    alone = [behind(networks, point, draws=3).per_draw[draw](images) for draw in range(3)]
    mean = behind(networks, point, draws=3)(images)
    assert torch.allclose(mean, torch.stack(alone).mean(0), atol=1e-12)
    assert not torch.allclose(alone[0], alone[1]) and not torch.allclose(alone[1], alone[2])
    assert torch.equal(alone[0], behind(networks, point)(images))


def test_rows_go_on_drawing_where_they_are(networks, images):
    """What the rows draw between two looks at the whole batch is theirs alone."""
    point = points()["f"]
    predict = behind(networks, point)
    first = predict(images)
    rows = torch.tensor([3, 1])
    second = predict.take(rows)(images[rows])
    third = predict(images)
    plain = behind(networks, point)
    expected = [plain(images) for _ in range(3)]
    assert torch.equal(first, expected[0])
    assert torch.allclose(second, expected[1][rows], atol=1e-12)
    for row in range(N):
        assert torch.allclose(third[row], expected[2 if row in (1, 3) else 1][row], atol=1e-12)


# ---------------------------------------------------------------- the stage


def attacker(networks, entry, point) -> attack.AttackRun:
    classifier, using = networks
    purifier = {"name": "best", "points": {"default": point}}
    settings = {"attack": entry, "seed": 0, "purifier": purifier, "threat": "eot@small+best"}
    return attack.AttackRun(settings, classifier, classifier, using, None)


def run(networks, entry, point, images, labels, rows=range(N)) -> torch.Tensor:
    rows = list(rows)
    ids = np.array([IDS[row] for row in rows])
    batch = data.Batch(slice(0, len(rows)), images[rows], labels[rows], ids)
    (settings,) = entry["points"].values()
    return attacker(networks, entry, point)(settings, batch, np.full(len(rows), 0.1))[0]


BIM = {"function": "gradient.bim", "settings": {"epsilon": 0.1, "alpha": 0.03, "steps": 2}}


def entry(**more) -> dict:
    return {"name": "eot", "points": {"default": BIM}} | more


@pytest.mark.parametrize("draws", [1, 4])
def test_an_entry_s_draws_are_taken(draws, networks, images, labels):
    point = points()["g"]
    result = run(networks, entry(draws=draws), point, images, labels)
    predict = behind(networks, point, draws=draws)
    expected = gradient.bim(images, labels, False, predict, **BIM["settings"])
    assert torch.equal(result, expected)
    alone = run(networks, entry(draws=draws), point, images, labels, [2])
    assert torch.allclose(alone[0], result[2], atol=1e-9)


def test_more_draws_are_another_gradient(networks, images, labels):
    point = points()["g"]
    result = [run(networks, entry(draws=draws), point, images, labels) for draws in (1, 4)]
    assert not torch.allclose(*result)


def test_one_draw_is_made_of_a_purifier_without_noise(networks, images, labels, capsys):
    calls = []

    class Counting(nn.Module):
        def forward(self, inputs):
            calls.append(len(inputs))
            return networks[0](inputs)

    counted = (Counting().eval(), networks[1])
    point = {"function": "apudae.a", "settings": {"steps": 2}}
    result = run(counted, entry(draws=5), point, images, labels)
    assert calls == [N] * 4  # two steps, the last iterate and the evaluation
    assert capsys.readouterr().out == (
        "eot@small+best: purifier best draws nothing, so 1 draw is made\n"
    )
    assert torch.equal(result, run(networks, entry(), point, images, labels))
    assert not capsys.readouterr().out


def test_softened_outputs_are_softened_draw_by_draw(networks, images, labels):
    point = points()["g"]
    result = run(networks, entry(draws=2, output="probabilities"), point, images, labels)
    soft = (probabilities(networks[0]), networks[1])
    predict = behind(soft, point, draws=2)
    expected = gradient.bim(images, labels, False, predict, **BIM["settings"])
    assert torch.equal(result, expected)


def test_counter_attack_b_looks_at_the_purifiers_denoiser(networks, images, labels):
    settings = BIM["settings"] | {"weight": 10.0}
    calls = {"name": "b", "points": {"w": {"function": "adaptive.counter_b", "settings": settings}}}
    result = run(networks, calls, points()["f"], images, labels)
    classifier, using = networks
    expected = adaptive.counter_b(images, labels, False, classifier, using.error, **settings)
    assert torch.equal(result, expected)


def test_without_a_purifier_counter_attack_b_is_bim(networks, images, labels):
    """Threat `b+` behind purifier none: there is nothing more to know."""
    classifier, _ = networks
    settings = BIM["settings"] | {"weight": 10.0}
    point = {"function": "adaptive.counter_b", "settings": settings}
    calls = {"name": "b", "points": {"default": point}}
    known = {"attack": calls, "seed": 0, "purifier": None, "threat": "b@small"}
    batch = data.Batch(slice(0, N), images, labels, np.array(IDS))
    bare = attack.AttackRun(known, classifier, classifier, None, None)
    result, _ = bare(point, batch, np.full(N, 0.1))
    assert torch.equal(result, gradient.bim(images, labels, False, classifier, **BIM["settings"]))


def test_a_targeted_cw_reaches_random_wrong_targets(networks, images, labels):
    """C&W to random wrong classes, with fewer steps: nothing is classified rightly any more."""
    settings = {"confidence": 1e-4, "steps": 60, "initial_const": 1e-2, "stepsize": 0.05}
    settings["binary_search_steps"] = 5
    point = {"function": "minimal.carlini_wagner", "settings": settings}
    calls = {"name": "cw", "labels": "random_target", "points": {"default": point}}
    classifier, _ = networks
    known = {"attack": calls, "seed": 0, "purifier": None, "threat": "cw@small"}
    batch = data.Batch(slice(0, N), images, labels, np.array(IDS))
    attacking = attack.AttackRun(known, classifier, classifier, None, None)
    result, fooled = attacking(point, batch, np.full(N, np.nan))
    targets, targeted = attacking._labels(calls, batch, classifier, Noise(0, IDS, "cw"))
    assert targeted and (targets != labels).all() and len(set(targets.tolist())) > 1
    assert fooled.all()
    assert torch.equal(classifier(images + result).argmax(1), targets)
