"""Adversarial sets: what the attacker is given, what is written, who knows what."""

import json

import h5py
import hdf5plugin  # noqa: F401, registers the codec
import numpy as np
import pytest
import torch
from torch.nn import functional

from advdenoise.errors import BadInput
from advdenoise.inference.purified import check_frozen, purified_classifier
from advdenoise.io.hdf5 import open_hdf5
from advdenoise.io.provenance import read_provenance
from advdenoise.noise import Noise
from advdenoise.stages import attack, data, folded, models
from advdenoise.stages.data import open_images

COUNTED = {"zero_gradients", "bad_gradients", "forward", "backward", "skipped"}
RECORDED = {"fooled_at", "fooled_last", "loss_start", "loss_best", "loss_recent"}
FEW = "seed0/digits/adversarial/{}/few.h5"
WEIGHTS = "seed0/digits/{}/{}.safetensors"


@pytest.fixture(scope="module")
def few(world):
    """The images, their labels and ids, and the networks as the stage has them."""

    class Few:
        with open_images(world.make("images/digits/few.h5")) as clean:
            (batch,) = clean.batches(100, torch.device("cpu"))
            images, labels, ids = batch.images, batch.labels, batch.ids
            entry = world.settings(FEW.format("transferred@small"))
            small = folded.classifier(
                world.make(WEIGHTS.format("classifiers", "small")), entry["victim"], clean
            )
            other = folded.classifier(
                world.make(WEIGHTS.format("classifiers", "other")), entry["surrogate"], clean
            )
            denoise = models.load_frozen(
                "denoisers",
                world.make(WEIGHTS.format("denoisers", "of_noise")),
                world.settings(FEW.format("bim@small+direct"))["denoiser"],
                clean,
            )

    return Few


def perturbation(path, point="default") -> torch.Tensor:
    with open_hdf5(path, "adversarial") as file:
        return torch.from_numpy(file[f"points/{point}/perturbation"][:])


def gradient(predict, images, labels) -> torch.Tensor:
    images = images.clone().requires_grad_()
    loss = functional.cross_entropy(predict(images), labels, reduction="sum")
    return torch.autograd.grad(loss, images)[0]


def fgsm(images, gradient, epsilon=0.2) -> torch.Tensor:
    return (images + epsilon * gradient.sign()).clamp(0, 1) - images


def agreement(result, expected) -> float:
    """Share of equal elements: the sign of a vanishing gradient hangs on rounding."""
    return ((result - expected).abs() < 1e-5).float().mean().item()


# ---------------------------------------------------------------- the file


def test_the_file_holds_perturbations_ids_and_what_made_them(world, few):
    path = world.make(FEW.format("cycled@small"))
    with open_hdf5(path, "adversarial") as file:
        assert set(file) == {"ids", "labels", "points"} and file.attrs["threat"] == "cycled@small"
        assert np.array_equal(file["ids"][:], few.ids)
        assert np.array_equal(file["labels"][:], few.labels)
        assert list(file["points"]) == ["fgsm", "pgd"]
        for name, point in world.settings(FEW.format("cycled@small"))["attack"]["points"].items():
            group = file["points"][name]
            recorded = RECORDED if name == "pgd" else set()  # an attack of one step has no path
            assert set(group) == {"perturbation", "epsilon", "success"} | COUNTED | recorded
            stored = group["perturbation"]
            assert stored.shape == few.images.shape and stored.dtype == np.float32
            assert stored.fletcher32 and group["epsilon"].dtype == np.float32
            assert group["success"].dtype == np.uint8
            assert json.loads(group.attrs["entry"]) == point
    provenance = read_provenance(path)
    assert provenance["settings"]["attack"]["name"] == "cycled"
    assert provenance["settings"]["victim"]["name"] == "small"


@pytest.mark.parametrize(
    "threat", ["fgsm@small", "cycled@small", "bim@small+direct", "random@small"]
)
def test_success_is_what_the_victim_makes_of_it(world, few, threat):
    predict = few.small
    if "+" in threat:
        predict = lambda images: few.small(few.denoise(images).clamp(0, 1))  # noqa: E731
    path = world.make(FEW.format(threat))
    with open_hdf5(path) as file, torch.no_grad():
        for group in file["points"].values():
            images = few.images + torch.from_numpy(group["perturbation"][:])
            assert images.min() >= 0 and images.max() <= 1
            wrong = predict(images).argmax(1) != few.labels
            assert np.array_equal(group["success"][:].astype(bool), wrong.numpy())


def test_a_cycle_gives_every_image_its_budget(world, few):
    expected = np.float32([0.05, 0.1, 0.15])[np.arange(12) // 5 % 3]
    path = world.make(FEW.format("cycled@small"))
    with open_hdf5(path) as file:
        for name in ("fgsm", "pgd"):
            group = file["points"][name]
            assert np.array_equal(group["epsilon"][:], expected)
            largest = np.abs(group["perturbation"][:]).max((1, 2, 3))
            assert (largest <= expected + 1e-6).all() and (largest > 0.9 * expected).all()
    by_hand = fgsm(
        few.images,
        gradient(few.small, few.images, few.labels),
        torch.from_numpy(expected).view(-1, 1, 1, 1),
    )
    assert agreement(perturbation(path, "fgsm"), by_hand) > 0.999


def test_the_budget_is_that_of_the_settings_or_none(world):
    for threat, epsilon in (("fgsm@small", 0.2), ("gaussian@small", np.nan)):
        with open_hdf5(world.make(FEW.format(threat))) as file:
            result = file["points/default/epsilon"][:]
            assert np.array_equal(result, np.full(12, epsilon, np.float32), equal_nan=True)


def test_epsilons_of_places():
    point = {"epsilons": {"cycle": [0.1, 0.3], "every": 2}, "settings": {}}
    assert np.allclose(attack.image_epsilons(point, 5), [0.1, 0.1, 0.3, 0.3, 0.1])
    assert np.isnan(attack.image_epsilons({"settings": {}}, 2)).all()


@pytest.mark.parametrize("threat", ["cycled@small", "targeted@small", "gaussian@small"])
def test_the_batch_size_changes_nothing_but_rounding(world, few, tmp_path, threat):
    file = FEW.format(threat)
    other = world.run(file, tmp_path / "other.h5", {"batch": 5})
    with h5py.File(other) as result:
        points = list(result["points"])
    for point in points:
        assert agreement(perturbation(other, point), perturbation(world.make(file), point)) > 0.995


def test_the_same_job_gives_the_same_bytes(world, tmp_path):
    file = FEW.format("cycled@small")
    again = world.run(file, tmp_path / "again.h5")
    for point in ("fgsm", "pgd"):
        assert torch.equal(perturbation(again, point), perturbation(world.make(file), point))


# ---------------------------------------------------------------- labels


@pytest.fixture
def spied(world, component, tmp_path):
    """Runs a threat's job with an attack that notes what it is handed, batch by batch."""

    def run(threat: str, split: str = "few", target: int | str | None = None) -> list[dict]:
        calls = []
        file = FEW.format(threat).replace("few", split)

        def spy(images, labels, targeted, predict, victim, classifier, noise, *, epsilon=0.0):
            calls.append(dict(locals()))
            return torch.zeros_like(images)

        component("attacks", spy=spy)
        entry = world.settings(file)["attack"]
        for point in entry["points"].values():
            point["function"], point["settings"] = "toy.spy", {}
        if target is not None:
            entry["labels"] = {"target": target}
        world.run(file, tmp_path / "spied.h5", {"attack": entry})
        return calls

    return run


def joined(calls: list[dict], name: str):
    return torch.cat([batch[name] for batch in calls])


def test_the_ground_truth_is_ascended(spied, few):
    calls = spied("fgsm@small")
    assert [len(batch["images"]) for batch in calls] == [8, 4]
    assert torch.equal(joined(calls, "images"), few.images)
    assert torch.equal(joined(calls, "labels"), few.labels)
    assert not any(batch["targeted"] for batch in calls)


def test_the_prediction_is_ascended_where_asked(spied, few, world):
    predicted = few.small(few.images).argmax(1)
    assert (predicted != few.labels).any(), "choose images of which one is misclassified"
    calls = spied("predicted@small")
    assert torch.equal(joined(calls, "labels"), predicted)
    assert not any(batch["targeted"] for batch in calls)
    by_hand = fgsm(few.images, gradient(few.small, few.images, predicted))
    path = world.make(FEW.format("predicted@small"))
    assert agreement(perturbation(path), by_hand) > 0.999


def test_a_random_target_is_never_the_label(spied, few, world):
    calls = spied("targeted@small")
    targets = joined(calls, "labels")
    assert all(batch["targeted"] for batch in calls)
    assert (targets != few.labels).all() and len(set(targets.tolist())) > 3
    assert targets.min() >= 0 and targets.max() <= 9
    assert torch.equal(joined(spied("targeted@small"), "labels"), targets)
    many = spied("targeted@small", "train")
    with open_images(world.make("images/digits/train.h5")) as clean:
        away = (joined(many, "labels").numpy() - clean.labels) % 10
    assert set(away.tolist()) == set(range(1, 10))
    results = few.images + perturbation(world.make(FEW.format("targeted@small")))
    before = functional.cross_entropy(few.small(few.images), targets)
    assert functional.cross_entropy(few.small(results), targets) < before


@pytest.mark.parametrize("target", [4, "4"])
def test_one_target_is_that_of_all_images(spied, few, target):
    calls = spied("aimed@small", target=target)
    targets = joined(calls, "labels")
    assert all(batch["targeted"] for batch in calls)
    assert targets.tolist() == [4] * len(few.ids) and (few.labels == 4).any()


def test_a_target_that_is_no_class_is_told_before_anything_is_made(world, tmp_path):
    entry = world.settings(FEW.format("aimed@small"))["attack"]
    for target, message in ((10, "numbered from 0"), ("tree", "there are: 0, 1, 2")):
        entry["labels"] = {"target": target}
        with pytest.raises(BadInput, match=rf"attacks\.aimed\.labels\.target: .*{message}"):
            world.run(FEW.format("aimed@small"), tmp_path / "x.h5", {"attack": entry})
    assert not list(tmp_path.iterdir())


class Linear(torch.nn.Module):
    """Two classes whose logits are weighted sums of the pixels."""

    def __init__(self, difference: torch.Tensor):
        super().__init__()
        self.difference = difference

    def forward(self, images):
        score = (images * self.difference).flatten(1).sum(1)
        return torch.stack([score, -score], dim=1)


def test_of_a_linear_network_a_target_gives_the_sign_of_its_weights():
    """Every step raises the target's logit alike, for images that it holds already too."""
    weights = torch.linspace(-1, 1, 16).view(1, 1, 4, 4)
    network = Linear(weights).eval()
    images = torch.full((3, 1, 4, 4), 0.5) + 0.1 * weights.sign() * torch.tensor(
        [1.0, 0.0, -1.0]
    ).view(3, 1, 1, 1)
    settings = {"function": "gradient.bim", "settings": {"epsilon": 0.3, "alpha": 0.1, "steps": 10}}
    entry = {"name": "aimed", "labels": {"target": "odd"}, "points": {"default": settings}}
    clean = data.ImageSet("images.h5", None, np.arange(3), np.arange(3), ["even", "odd"])
    goal = clean.target_of(entry)
    attacker = attack.AttackRun(
        {"attack": entry, "seed": 0, "purifier": None}, network, network, None, goal
    )
    batch = data.Batch(slice(0, 3), images, torch.tensor([0, 1, 0]), np.arange(3))
    perturbation, fooled = attacker(settings, batch, np.full(3, 0.3, np.float32))
    assert torch.allclose(perturbation, (-0.3 * weights.sign()).expand(3, 1, 4, 4), atol=1e-6)
    assert network(images + perturbation).argmax(1).tolist() == [1, 1, 1]
    assert fooled.tolist() == [True, False, True]


# ---------------------------------------------------------------- who gives the gradient


def test_a_surrogate_gives_the_gradient_and_the_victim_is_judged(world, few, spied):
    path = world.make(FEW.format("transferred@small"))
    by_hand = fgsm(few.images, gradient(few.other, few.images, few.labels))
    assert agreement(perturbation(path), by_hand) > 0.999
    with open_hdf5(path) as file, torch.no_grad():
        wrong = few.small(few.images + perturbation(path)).argmax(1) != few.labels
        assert np.array_equal(file["points/default/success"][:].astype(bool), wrong.numpy())
    (batch, _) = spied("transferred@small")
    with torch.no_grad():
        assert torch.equal(batch["predict"](few.images), few.other(few.images))
        assert torch.equal(batch["victim"](few.images), few.small(few.images))
        assert torch.equal(batch["classifier"](few.images), few.small(few.images))


def test_a_loss_of_probabilities_softens_the_output(world, few):
    softened = gradient(lambda x: few.small(x).softmax(1), few.images, few.labels)
    path = world.make(FEW.format("softened@small"))
    assert agreement(perturbation(path), fgsm(few.images, softened)) > 0.999


def test_the_full_gradient_goes_through_the_purifier(world, few):
    """One step of BIM with alpha = epsilon is FGSM."""
    entry = world.settings(FEW.format("bim@small+direct"))["attack"]
    entry["points"]["default"]["settings"] = {"epsilon": 0.2, "alpha": 0.2, "steps": 1}
    path = world.path("one_step.h5")
    world.run(FEW.format("bim@small+direct"), path, {"attack": entry})
    full = gradient(lambda x: few.small(few.denoise(x).clamp(0, 1)), few.images, few.labels)
    assert agreement(perturbation(path), fgsm(few.images, full)) > 0.999


def test_through_identity_is_bpda(world, few):
    """The gradient at the purified image, taken as that of the image (Athalye et al. 2018)."""
    with torch.no_grad():
        purified = few.denoise(few.images).clamp(0, 1)
    bpda = gradient(few.small, purified, few.labels)
    path = world.make(FEW.format("bpda@small+direct"))
    assert agreement(perturbation(path), fgsm(few.images, bpda)) > 0.999
    plain = gradient(few.small, few.images, few.labels)
    assert agreement(perturbation(path), fgsm(few.images, plain)) < 0.99


def test_through_the_denoiser_puts_it_in_the_purifiers_place(world, few, component, tmp_path):
    counter = gradient(lambda x: few.small(few.denoise(x)), few.images, few.labels)
    path = world.make(FEW.format("counter@small+direct"))
    assert agreement(perturbation(path), fgsm(few.images, counter)) > 0.999
    # However the purifier uses the denoiser, and be it without any gradient.
    component("purifiers", halved=lambda images, denoise: (images.detach() + denoise(images)) / 2)
    purifier = world.settings(FEW.format("counter@small+direct"))["purifier"]
    purifier["points"]["default"]["function"] = "toy.halved"
    other = world.run(FEW.format("counter@small+direct"), tmp_path / "o.h5", {"purifier": purifier})
    assert agreement(perturbation(other), fgsm(few.images, counter)) > 0.999


def test_through_a_denoiser_that_is_not_there_is_refused():
    with pytest.raises(BadInput, match="uses no denoiser"):
        purified_classifier(lambda images, noise: images, lambda images: images, "denoiser", None)


def test_gradients_through_a_purifier_by_hand():
    weights = torch.linspace(-1, 1, 4)

    def purify(images, noise):
        return images**2

    def predict(images):
        return (images**3 * weights).sum(1, keepdim=True)

    images = torch.tensor([[0.5, 0.25, 1.0, 0.1]], requires_grad=True)
    for through, expected in (
        ("full", 6 * images.detach() ** 5 * weights),
        ("identity", 3 * images.detach() ** 4 * weights),
    ):
        behind = purified_classifier(purify, predict, through, None, None)
        value = behind(images)
        assert value.item() == pytest.approx((images**6 * weights).sum().item(), rel=1e-5)
        assert torch.allclose(torch.autograd.grad(value.sum(), images)[0], expected, atol=1e-6)


# ---------------------------------------------------------------- adaptive against oblivious


def test_who_knows_the_purifier_beats_who_does_not(world, few, component, tmp_path):
    """Against a purifier that shifts the image by two pixels and blurs it."""

    def shifted(images):
        return functional.avg_pool2d(images.roll(2, 3), 3, 1, padding=1)

    component("purifiers", shifted=shifted)
    file = FEW.format("bim@small+direct")
    purifier = world.settings(file)["purifier"]
    purifier["points"]["default"] = {"function": "toy.shifted", "settings": {}}
    adaptive = world.run(file, tmp_path / "adaptive.h5", {"purifier": purifier})
    oblivious = world.make(FEW.format("bim@small"))

    def loss(path) -> float:
        with torch.no_grad():
            logits = few.small(shifted(few.images + perturbation(path)))
        return functional.cross_entropy(logits, few.labels).item()

    assert loss(adaptive) > 1.2 * loss(oblivious)


def noisy(images, noise):
    return (images + noise.normal(images, 0.5)).clamp(0, 1)


def test_the_attackers_draws_are_not_the_defenders(world, component, tmp_path, few):
    """Success is told for the defender's first draws, as evaluation will meet them."""
    component("purifiers", noisy=noisy)
    file = FEW.format("bim@small+direct")
    settings = world.settings(file)
    settings["purifier"]["points"]["default"] = {"function": "toy.noisy", "settings": {}}
    settings["attack"]["labels"] = "predicted"  # the victim is asked before the attack starts
    changed = {name: settings[name] for name in ("purifier", "attack")}
    path = world.run(file, tmp_path / "noisy.h5", changed)
    calls = few.images + perturbation(path)
    with torch.no_grad():
        purified = noisy(calls, Noise(0, few.ids, "direct", "defender"))
        wrong = few.small(purified).argmax(1) != few.labels
    with open_hdf5(path) as stored:
        assert np.array_equal(stored["points/default/success"][:].astype(bool), wrong.numpy())


def test_no_draw_of_the_attack_is_one_of_the_defender(world, component, tmp_path, few):
    drawn = []

    def purifier(images, noise):
        drawn.append(noise.normal(images, 0.5))
        return images

    component("purifiers", watched=purifier)

    def asking(images, predict, victim, noise):
        drawn.clear()
        predict(images), victim(images), predict(images), victim(images)
        drawn.append(noise.normal(images, 0.5))
        predictions.extend(drawn)
        return torch.zeros_like(images)

    predictions: list = []
    component("attacks", asking=asking)
    file = FEW.format("bim@small+direct")
    settings = world.settings(file)
    settings["purifier"]["points"]["default"] = {"function": "toy.watched", "settings": {}}
    settings["attack"]["points"]["default"] = {"function": "toy.asking", "settings": {}}
    changed = {name: settings[name] for name in ("purifier", "attack")}
    world.run(file, tmp_path / "asked.h5", changed | {"batch": 12})
    defender = Noise(0, few.ids, "direct", "defender").normal(few.images, 0.5)
    assert len(predictions) == 5 and torch.equal(drawn[-1], defender)
    everything = [*predictions, defender]
    for place, draws in enumerate(everything):
        assert not any(torch.equal(draws, other) for other in everything[:place])


# ---------------------------------------------------------------- guards


def test_a_perturbation_that_is_not_finite_is_not_written(world, component, tmp_path):
    component("attacks", broken=lambda images: images * float("nan"))
    entry = world.settings(FEW.format("fgsm@small"))["attack"]
    entry["points"]["default"]["function"] = "toy.broken"
    entry["points"]["default"]["settings"] = {}
    with pytest.raises(BadInput, match="attacks.fgsm: toy.broken .* not finite"):
        world.run(FEW.format("fgsm@small"), tmp_path / "broken.h5", {"attack": entry})
    assert not list(tmp_path.iterdir())


def test_weights_of_another_network_are_told(world, tmp_path):
    other = world.make(WEIGHTS.format("classifiers", "other"))
    with pytest.raises(BadInput, match=r"weights of another network than classifiers\.small"):
        world.run(FEW.format("fgsm@small"), tmp_path / "x.h5", victim=other)


def test_networks_under_attack_are_frozen_and_in_eval_mode():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())
    with pytest.raises(RuntimeError, match="training mode"):
        check_frozen(network.requires_grad_(False))
    network.eval()
    check_frozen(None, network)
    with pytest.raises(RuntimeError, match="require gradients"):
        check_frozen(network.requires_grad_(True))
