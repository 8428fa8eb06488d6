"""`import advdenoise` as in a notebook: the page docs/library.md, and what it does not show."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import advdenoise
from advdenoise.attacks import gradient
from advdenoise.errors import BadInput
from advdenoise.inference.normalise import Normalise, Normalised
from advdenoise.noise import Noise
from tests import own_purifiers

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "library.md"
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Dropout(), nn.Flatten())
    return nn.Sequential(network, nn.Linear(4 * 36, 3)).train()


@pytest.fixture(scope="module")
def autoencoder() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def labels(model, images) -> torch.Tensor:
    return advdenoise.predict(model, images)


PGD = {"epsilon": 0.1, "alpha": 0.03, "steps": 4}


@pytest.mark.slow
def test_the_examples_of_the_page_run():
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(blocks) > 5
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["attacked"].shape == (100,)
    assert names["features"]["hidden"].shape == (100, 30)
    (short,) = re.findall(r"```python\n(import advdenoise.*?)```", README, re.S)
    exec(compile(short, "README.md", "exec"), names)


def test_the_links_of_the_page_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", PAGE.read_text(encoding="utf-8"))
    assert links and not [link for link in links if not (PAGE.parent / link).exists()]


def test_importing_the_package_imports_no_torch():
    code = (
        "import sys, advdenoise\n"
        "assert 'Attack' in dir(advdenoise) and 'metrics' in dir(advdenoise)\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)\n"
        "advdenoise.attacks.gradient.pgd, advdenoise.purifiers.basic.direct\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    with pytest.raises(AttributeError, match="no attribute 'attac'"):
        advdenoise.attac  # noqa: B018


def test_the_version_is_that_of_the_project():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project.get("version", advdenoise.__version__) == advdenoise.__version__


def test_an_attack_gives_what_its_function_gives(model, images, labels):
    result = advdenoise.Attack("gradient.pgd", **PGD)(model, images, labels, seed=3)
    noise = Noise(3, range(len(images)), "gradient.pgd")
    frozen = model.eval()
    expected = gradient.pgd(images, labels, False, frozen, noise, **PGD)
    assert torch.allclose(result.perturbations, expected, atol=1e-6)
    assert torch.equal(result.images, images + result.perturbations)
    errs = advdenoise.predict(model, result.images) != labels
    assert torch.equal(result.success, errs)
    model.train()


@pytest.mark.parametrize("function", ["gradient.pgd", gradient.pgd])
def test_results_do_not_depend_on_the_batch(function, model, images, labels):
    attack = advdenoise.Attack(function, **PGD)
    whole, parts = (attack(model, images, labels, batch=size) for size in (7, 3))
    assert torch.allclose(whole.images, parts.images, atol=1e-6)


def test_your_network_stays_as_it_is(model, images, labels):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    advdenoise.Attack("gradient.pgd", **PGD)(model, images, labels)
    assert model.training and all(weight.requires_grad for weight in model.parameters())
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_a_model_may_be_a_function(model, images, labels):
    frozen = model.eval()
    result = advdenoise.Attack("gradient.fgsm", epsilon=0.1)(lambda x: frozen(x), images, labels)
    model.train()
    expected = advdenoise.Attack("gradient.fgsm", epsilon=0.1)(model, images, labels)
    assert torch.allclose(result.images, expected.images, atol=1e-6)


def test_a_target_is_reached_or_approached(model, images, labels):
    attack = advdenoise.Attack("gradient.bim", labels={"target": 1}, **PGD | {"epsilon": 0.3})
    result = attack(model, images, labels)
    with torch.no_grad():
        before, after = (model.eval()(x).softmax(1)[:, 1] for x in (images, result.images))
    model.train()
    assert (after > before).all()


@pytest.mark.parametrize("through", ["full", "identity", "denoiser"])
def test_an_adaptive_attack_goes_through_the_purifier(through, model, autoencoder, images, labels):
    purifier = advdenoise.Purifier("basic.direct", autoencoder)
    attack = advdenoise.Attack("gradient.pgd", through=through, **PGD)
    result = attack(model, images, labels, purifier=purifier)
    errs = advdenoise.predict(model, result.images, purifier=purifier) != labels
    assert torch.equal(result.success, errs)


def test_an_attack_may_look_at_the_denoiser(model, autoencoder, images, labels):
    attack = advdenoise.Attack("adaptive.counter_b", weight=0.1, **PGD)
    purifier = advdenoise.Purifier(own_purifiers.descent, autoencoder, steps=2)
    assert attack(model, images, labels, purifier=purifier).perturbations.abs().max() > 0
    with pytest.raises(BadInput, match="needs a purifier with a denoiser"):
        attack(model, images, labels, purifier=advdenoise.Purifier("basic.none"))


def test_a_purifier_that_draws_depends_on_seed_and_draw(autoencoder, images):
    def noisy(images, denoise, noise, *, sigma=0.1):
        return denoise(images + noise.normal(images, sigma)).clamp(0, 1)

    purifier = advdenoise.Purifier(noisy, autoencoder)
    first = purifier(images)
    assert torch.equal(first, purifier(images))
    assert torch.allclose(first, purifier(images, batch=2), atol=1e-6)
    assert not torch.equal(first, purifier(images, draw=1))
    assert not torch.equal(first, purifier(images, seed=1))


def test_calibration_is_that_of_the_reconstruction_error(autoencoder, images):
    purifier = advdenoise.Purifier(own_purifiers.calibrated_descent, autoencoder, steps=2)
    with pytest.raises(BadInput, match="needs the calibration"):
        purifier(images)
    purifier.calibrate(images, batch=3)
    with torch.no_grad():
        errors = (images - autoencoder(images)).square().flatten(1).sum(1)
    assert purifier.calibration["mean"] == pytest.approx(errors.mean().item(), rel=1e-5)
    assert purifier.calibration["deviation"] == pytest.approx(errors.std().item(), rel=1e-5)
    assert purifier(images).shape == images.shape


def test_features_have_a_row_for_each_image(model, images):
    extract = advdenoise.LeaveOneOut("superpixels.pixels", layers=["0.1"], per_layer=5)
    features, parts = extract(model, images), extract(model, images, batch=2)
    assert {name: rows.shape for name, rows in features.items()} == {
        "predicted": (7, 1),
        "probabilities": (7, 3),
        "hidden": (7, 8),
    }
    assert all(np.allclose(features[name], parts[name], atol=1e-6) for name in features)
    assert "hidden" not in advdenoise.LeaveOneOut("superpixels.pixels")(model, images)


def test_a_wrapped_network_is_attacked_in_pixels(model, images):
    """Mean and deviation belong to the network: budgets stay pixels of [0,1]."""
    wrapped = advdenoise.Classifier(model, images.shape[1:], mean=0.5, std=0.2)
    labels = advdenoise.predict(wrapped, images)
    assert torch.equal(labels, advdenoise.predict(lambda x: model.eval()((x - 0.5) / 0.2), images))
    result = advdenoise.Attack("gradient.pgd", **PGD)(wrapped, images, labels)
    assert 0.05 < result.perturbations.abs().max() <= 0.1
    model.train()


def test_superpixels_are_those_of_normalised_images(model, images):
    """Felzenszwalb's scale is in the units of the image."""
    extract = advdenoise.LeaveOneOut("superpixels.felzenszwalb", scale=2.0, min_size=2)
    wrapped = advdenoise.Classifier(model, images.shape[1:], mean=0.5, std=0.2)
    own = Normalised(Normalise(1, 0.5, 0.2), model)
    one, other = extract(wrapped, images), extract(own, images)
    assert np.allclose(one["probabilities"], other["probabilities"], atol=1e-6)


def test_a_detector_is_fitted_and_scores():
    generator = np.random.default_rng(0)
    is_adversarial = np.arange(60) % 2 == 1
    rows = generator.normal(size=(60, 4)) + 3 * is_adversarial[:, None]
    for function in ("svm.svc", "trees.random_forest"):
        detector = advdenoise.Detector(function)
        with pytest.raises(BadInput, match="is not fitted"):
            detector.score(rows)
        scores = detector.fit(rows[:40], is_adversarial[:40]).score(rows[40:])
        assert advdenoise.metrics.roc_auc(scores, is_adversarial[40:]) > 0.9


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: advdenoise.Attack("gradient.pdg"), "did you mean 'gradient.pgd'"),
        (lambda: advdenoise.Attack("gradient.fgsm", epsilon=8), "epsilon: must be in [0, 1]"),
        (lambda: advdenoise.Attack("gradient.fgsm", epsilom=0.1), "did you mean 'epsilon'?"),
        (lambda: advdenoise.Attack("gradient.fgsm"), "needs the setting 'epsilon'"),
        (lambda: advdenoise.Attack("gradient.pgd", through="ful", **PGD), "did you mean 'full'?"),
        (lambda: advdenoise.Purifier("basic.direct"), "needs a denoiser"),
        (lambda: advdenoise.list_functions("attack"), "did you mean 'attacks'"),
    ],
)
def test_a_mistake_is_one_sentence(wrong, sentence):
    with pytest.raises(BadInput) as mistake:
        wrong()
    assert sentence in str(mistake.value) and "\n" not in str(mistake.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda x, y: ((x * 255).byte(), y), "divide by 255"),
        (lambda x, y: (x * 255, y), "must lie in [0,1]"),
        (lambda x, y: (x[0], y), "must be float [N,C,H,W]"),
        (lambda x, y: (x, y[:3]), "labels: must be whole numbers [N]"),
        (lambda x, y: (x, y.float()), "labels: must be whole numbers [N]"),
        (lambda x, y: (x, y + 3), "labels: must be in [0, 3), the model's classes, got"),
        (lambda x, y: (x.where(x < 0.5, torch.nan), y), "must lie in [0,1]"),
    ],
)
def test_images_and_labels_are_checked(change, sentence, model, images, labels):
    with pytest.raises(BadInput) as mistake:
        advdenoise.Attack("gradient.pgd", **PGD)(model, *change(images, labels))
    assert sentence in str(mistake.value)


def test_a_network_that_is_random_in_eval_mode_is_refused(images, labels):
    class Random(nn.Module):
        def forward(self, x):
            return torch.rand(len(x), 3)

    with pytest.raises(BadInput, match="gives two outputs for one image"):
        advdenoise.Attack("gradient.pgd", **PGD)(Random(), images, labels)


def test_a_model_gives_logits(images, labels):
    with pytest.raises(BadInput, match=r"must give logits \[N,classes\]"):
        advdenoise.Attack("gradient.pgd", **PGD)(lambda x: (x,), images, labels)


def test_objects_are_shown_as_they_are_written():
    assert repr(advdenoise.Attack("gradient.fgsm", epsilon=0.1)) == (
        "Attack('gradient.fgsm', epsilon=0.1)"
    )
