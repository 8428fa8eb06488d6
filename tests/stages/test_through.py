"""What gives the gradient in a purifier's place, the draws that select, and the defender's own."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from advdenoise.inference.purified import purified_classifier
from advdenoise.io.hdf5 import open_hdf5
from advdenoise.io.parquet import read_table
from advdenoise.io.schemas import PREDICTIONS
from advdenoise.noise import Noise
from advdenoise.stages import attack, data

N = 4
IDS = np.arange(10, 10 + N)
LABELS = torch.tensor([0, 1, 2, 0])
FEW = "seed0/digits/adversarial/{}@small+direct/few.h5"
FGSM = {"function": "gradient.fgsm", "settings": {"epsilon": 0.2}}


@pytest.fixture
def images():
    return torch.rand(N, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3)).eval()


def output_and_gradient(network, images):
    inputs = images.clone().requires_grad_()
    outputs = network(inputs)
    loss = functional.cross_entropy(outputs, LABELS, reduction="sum")
    return outputs.detach(), torch.autograd.grad(loss, inputs)[0]


def plain(images, noise):
    return images


def halved(images, noise):
    return 0.5 * images + 0.2


def rounded(images, noise):
    return (255 * images).round() / 255


def defended(network, purify, through, stand_in=None, **options):
    return purified_classifier(purify, network, through, stand_in, Noise(0, IDS, "x"), **options)


def test_through_a_purifier_that_does_nothing_all_paths_are_equal(images, network):
    expected = output_and_gradient(network, images)
    paths = [defended(network, plain, through) for through in ("full", "identity")]
    for forward in ("stand_in", "purifier"):
        paths.append(defended(network, plain, "other", plain, forward=forward))
    for path in paths:
        for actual, wanted in zip(output_and_gradient(path, images), expected, strict=True):
            assert torch.equal(actual, wanted)


def test_a_stand_in_that_is_the_purifier_itself_has_its_gradient(images, network):
    full = output_and_gradient(defended(network, halved, "full"), images)
    for forward in ("stand_in", "purifier"):
        path = defended(network, halved, "denoiser", halved, forward=forward)
        for actual, wanted in zip(output_and_gradient(path, images), full, strict=True):
            assert torch.allclose(actual, wanted, atol=1e-7)


def test_forward_passes_the_purifier_and_backward_the_stand_in(images, network):
    outputs, gradient = output_and_gradient(
        defended(network, rounded, "other", halved, forward="purifier"), images
    )
    assert torch.allclose(outputs, network(rounded(images, None)), atol=1e-6)
    _, at_rounded = output_and_gradient(network, rounded(images, None))
    assert torch.allclose(gradient, 0.5 * at_rounded, atol=1e-6)


def run(network, point, entry, images, purify):
    settings = {
        "attack": {"name": "mine", "points": {"default": point}, **entry},
        "seed": 0,
        "threat": "mine@net+toy",
        "purifier": {"name": "toy", "points": {"default": {"function": f"toy.{purify}"}}},
    }
    settings["purifier"]["points"]["default"]["settings"] = {}
    attacking = attack.AttackRun(settings, network, network, None, None)
    batch = data.Batch(slice(0, N), images, LABELS, IDS)
    result, _ = attacking(point, batch, np.full(N, 0.2, np.float32))
    return result, attacking


def test_a_purifier_that_rounds_hides_the_gradient_but_not_from_identity(
    images, network, component
):
    network.requires_grad_(False)
    component("purifiers", rounded=rounded)
    hidden, full = run(network, FGSM, {}, images, "rounded")
    assert full.facts["zero_gradients"].tolist() == [1] * N and not hidden.any()
    moved, identity = run(network, FGSM, {"through": "identity"}, images, "rounded")
    assert identity.facts["zero_gradients"].tolist() == [0] * N and moved.flatten(1).any(1).all()


# ---------------------------------------------------------------- another purifier, as a job


@pytest.mark.parametrize("threat", ["rival", "guided"])
def test_another_purifier_gives_the_gradient(world, threat):
    file = FEW.format(threat)
    job = world.job(f"{world.flow.root}/{file}")[1]
    assert job.inputs["denoiser"].endswith("of_noise.safetensors")
    assert job.inputs["through_denoiser"].endswith("of_threats.safetensors")
    path = world.make(file)
    options = world.options(file, path)[1]
    with data.open_images(options["images"]) as clean:
        opened = attack.open_attack(
            options["settings"],
            clean,
            options["victim"],
            denoiser=options["denoiser"],
            through_denoiser=options["through_denoiser"],
        )
        (batch,) = clean.batches(100, torch.device("cpu"))

    def purify(known):
        return lambda x: known.denoise(x).clamp(0, 1)

    own, other = purify(opened.denoiser), purify(opened.through_denoiser)
    assert not torch.equal(own(batch.images), other(batch.images))
    inputs = batch.images.clone().requires_grad_()
    purified = other(inputs)
    if threat == "guided":
        purified = purified + (own(inputs) - purified).detach()
    loss = functional.cross_entropy(opened.victim(purified), batch.labels, reduction="sum")
    step = 0.2 * torch.autograd.grad(loss, inputs)[0].sign()
    expected = (batch.images + step).clamp(0, 1) - batch.images
    with open_hdf5(path, "adversarial") as stored:
        actual = torch.from_numpy(stored["points/default/perturbation"][:])
    assert ((actual - expected).abs() < 1e-5).float().mean() > 0.999


# ---------------------------------------------------------------- draws


def noisy(images, noise):
    return (images + noise.normal(images, 0.3)).clamp(0, 1)


@pytest.fixture
def spied(images, network, component):
    """What an attack is handed behind a purifier, as an entry says."""

    def hand(purify, **entry):
        handed = {}

        def spy(images, predict, victim, select):
            handed.update(predict=predict, victim=victim, select=select)
            return torch.zeros_like(images)

        component("attacks", spy=spy)
        component("purifiers", noisy=noisy, halved=lambda images: halved(images, None))
        network.requires_grad_(False)
        run(network, {"function": "toy.spy", "settings": {}}, entry, images, purify)
        return handed

    return hand


def test_select_has_ten_draws_of_a_stream_that_nothing_else_uses(spied, images, network):
    handed = spied("noisy", draws=2)
    own = [draw(images) for draw in handed["select"].per_draw]
    assert len(own) == 10
    streams = [
        network(noisy(images, Noise(0, IDS, "toy", stream, draw=draw)))
        for stream in ("attacker", "trial", "defender", "selection")
        for draw in range(10)
    ]
    for place, outputs in enumerate(own):
        assert torch.allclose(outputs, streams[30 + place], atol=1e-6)
        assert not any(torch.allclose(outputs, other) for other in streams[:30])


@pytest.mark.parametrize(("purify", "entry"), [("halved", {}), ("noisy", {"knows_draws": True})])
def test_nothing_selects_where_the_network_is_deterministic(spied, purify, entry):
    assert spied(purify, **entry)["select"] is None


def test_knows_draws_passes_the_defenders_draw_at_each_call(spied, images, network):
    handed = spied("noisy", knows_draws=True)
    first = network(noisy(images, Noise(0, IDS, "toy", "defender")))
    for _ in range(3):
        assert torch.allclose(handed["predict"](images), first, atol=1e-6)
    assert torch.allclose(handed["victim"](images), first, atol=1e-6)
    some = torch.tensor([2, 0])
    assert torch.allclose(handed["predict"].take(some)(images[some]), first[some], atol=1e-6)
    other = spied("noisy")["predict"]
    assert not torch.allclose(other(images), other(images), atol=1e-3)


def test_knows_draws_is_judged_on_that_draw_alone(world, component, tmp_path):
    component("purifiers", noisy=noisy)
    file = "seed0/digits/predictions/adaptive/direct/small/few.parquet"
    settings = world.settings(file)
    purifier, attacks = settings["purifier"], settings["attacks"]
    purifier["points"]["default"] = {"function": "toy.noisy", "settings": {}}
    purifier["draws"] = 3
    attacks["bim"]["knows_draws"] = True
    path = world.run(file, tmp_path / "p.parquet", {"purifier": purifier, "attacks": attacks})
    rows = read_table(path, PREDICTIONS).to_pandas()
    assert {t: set(of["draw"]) for t, of in rows.groupby("threat")} == {
        "clean": {0, 1, 2},
        "bim@small+direct": {0},
    }


# ---------------------------------------------------------------- precision


def test_gradients_are_of_bfloat16_and_success_of_float32(images, network):
    network.requires_grad_(False)
    kinds = []
    network[0].register_forward_hook(lambda *_: kinds.append(torch.is_autocast_enabled("cpu")))
    settings = {"attack": {"name": "mine", "precision": "bfloat16"}, "seed": 0, "purifier": None}
    attacking = attack.AttackRun(settings, network, network, None, None)
    batch = data.Batch(slice(0, N), images, LABELS, IDS)
    result, fooled = attacking(FGSM, batch, np.full(N, 0.2, np.float32))
    assert kinds[0] and not kinds[-1] and result.dtype == torch.float32
    assert torch.equal(fooled, network(images + result).argmax(1) != LABELS)
    settings["attack"].pop("precision")
    whole, _ = attack.AttackRun(settings, network, network, None, None)(
        FGSM, batch, np.full(N, 0.2, np.float32)
    )
    assert (whole == result).float().mean() > 0.9
