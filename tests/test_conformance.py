"""Tests of the contract of each kind, for all components of the library.

They run for each public function, so that a new component needs no new test. Settings that make it
small enough, and those without defaults, are in the table `MINIATURE`.
"""

import copy
import functools
import inspect
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from advdenoise.attacks._facts import Facts
from advdenoise.calls import call_with
from advdenoise.datasets._source import IGNORED, Source
from advdenoise.graph import sources
from advdenoise.graph.components import signature
from advdenoise.graph.sections.common import KINDS
from advdenoise.graph.sources import functions, load
from advdenoise.graph.stages import crossings
from advdenoise.inference.fold import fold
from advdenoise.io.weights import read_weights, write_weights
from advdenoise.metrics import roc_auc
from advdenoise.noise import Noise
from advdenoise.purifiers._descent import Gradient, descend
from advdenoise.ranges import error_message, numbers
from advdenoise.training._references import reference_function

# Settings that make a component small enough for a test; those without defaults belong here too.
MINIATURE = {
    "attacks": {
        "auto.apgd": {"steps": 3},
        "auto.apgd_t": {"steps": 3, "targets": 2},
        "adaptive.counter_b": {"steps": 3, "alpha_per_epsilon": 0.5, "weight": 0.1},
        "blackbox.square": {"queries": 40},
        "corruptions.gaussian_blur": {"severity": 1},
        "corruptions.gaussian_noise": {"severity": 1},
        "corruptions.jpeg": {"severity": 1},
        "dense.apgd": {"steps": 5, "loss": "ce"},
        "dense.padam": {"steps": 3},
        "gradient.bim": {"steps": 3, "alpha_per_epsilon": 0.5},
        "gradient.pgd": {"steps": 3, "alpha_per_epsilon": 0.5},
        "gradient.margin_pgd": {"steps": 3, "alpha_per_epsilon": 0.5},
        "gradient.mi_fgsm": {"steps": 3, "alpha_per_epsilon": 0.5},
        "gradient.r_fgsm": {"start_radius": 0.02},
        "gradient.segpgd": {"steps": 3, "alpha_per_epsilon": 0.5},
        "lowpass.filters": {"steps": 5, "sizes": [5, 3]},
        "minimal.carlini_wagner": {"binary_search_steps": 3, "steps": 20, "initial_const": 1.0},
        "minimal.fab_t": {"steps": 3, "targets": 2, "restarts": 2, "clip": True},
        "stochastic.em_pgd": {"steps": 3, "alpha_per_epsilon": 0.5},
        "stopped.line_search": {"steps": 40, "increment": 0.005},
        "stopped.i_fgsm": {"steps": 8, "alpha": 0.02},
        "stopped.mi_fgsm": {"steps": 8, "alpha": 0.02},
        "noise.blind_gaussian": {"sigma_max": 0.3},
        "noise.gaussian": {"sigma": 0.3},
        "noise.bimodal": {"mode": 0.2, "sigma": 0.05},
    },
    "attributions": {
        "superpixels.slic": {"n_segments": 12},
        "superpixels.felzenszwalb": {"scale": 2.0},
        "superpixels.quickshift": {"sigma": 0.5, "max_dist": 3, "kernel_size": 1},
    },
    "classifiers": {
        "convnets.elu_cnn": {"width": 2},
        "convnets.lenet": {"channels": [3, 4], "hidden": 8},
        "convnets.mlp": {"hidden": [8, 6]},
        "families.densenet": {"width": 4},
        "families.inception": {"width": 4},
        "families.vgg": {"width": 3},
        "families.resnet_v2": {"width": 4},
        "families.senet": {"width": 4},
        "resnet.cifar_resnet18": {"width": 4},
        "vgg.vgg16": {"width": 2},
        "zoo.timm_model": {"model": "test_resnet"},
    },
    "datasets": {"embedded.patches": {"train": 5, "test": 3}},
    "denoisers": {
        "autoencoders.magnet": {"pooling": True},
        "autoencoders.red_net": {"layers": 6, "width": 4},
        "autoencoders.seven_layer": {"channels": [4, 3]},
        "fusionnet.fusionnet": {"width": 6, "poolings": 1},
        "gan.wgan": {"latent": 6, "width": 2},
        "laine.unet": {"width": 4, "poolings": 2},
        "unet.classic": {"width": 3, "poolings": 2},
        "unet.hgd": {"widths": [3, 4, 6]},
    },
    "detectors": {
        "trees.random_forest": {"trees": 20},
        "trees.xgboost": {"trees": 20},
    },
    "figures": {},
    "purifiers": {
        name: {"steps": 3}
        for name in functions("purifiers")
        if "steps" in signature("purifiers", "purifiers", name).settings
    }
    | {"gan.defense_gan": {"steps": 3, "restarts": 2}},
    "tables": {},
    "training": {
        "adversarial.pgd": {"epsilon": 0.1, "alpha": 0.05, "steps": 2},
        "features.reconstruct": {"layers": ["layers.1", "layers.0"], "weights": [0.2, 0.1]},
    },
}
# Components with separate tests: a generator and its training step, which take no images, and
# networks that do not accept images of 28x28
SEPARATE = (
    "gan.wgan",
    "gan.wgan_gp",
    "autoencoders.elu_skips",
    "segmentation.deeplab_v3",
    "segmentation.deeplab_v3_plus",
    "segmentation.small",
)
# By how much an attack may exceed its epsilon, as its docstring says
BEYOND_EPSILON = {"gradient.r_fgsm": 0.02}
# Attacks whose random numbers need not change the result, since they end at the same point.
UNCHANGED_BY_NOISE = ("minimal.fab_t",)

EPSILON = 0.1
GREY, COLOUR = (1, 28, 28), (3, 28, 28)
ALL_KINDS = tuple(MINIATURE)


def every(*kinds: str):
    """Parametrise a test over the components of one kind (`name`) or several (`kind`, `name`)."""
    if len(kinds) == 1:
        names = [name for name in functions(kinds[0]) if name not in SEPARATE]
        return pytest.mark.parametrize("name", names)
    pairs = [(kind, name) for kind in kinds or ALL_KINDS for name in functions(kind)]
    pairs = [(kind, name) for kind, name in pairs if not (kinds and name in SEPARATE)]
    return pytest.mark.parametrize(("kind", "name"), pairs)


def component(kind: str, name: str, **settings):
    """The component with its miniature settings, updated with `settings`."""
    declared = signature(kind, kind, name)
    settings = MINIATURE[kind].get(name, {}) | settings
    if kind == "attacks" and "epsilon" in declared.settings:
        settings.setdefault("epsilon", EPSILON)
    missing = [setting for setting in declared.required if setting not in settings]
    assert not missing, (
        f"{kind}.{name} needs {', '.join(missing)}: add {name!r} with small values to "
        f'MINIATURE["{kind}"] at the top of tests/test_conformance.py'
    )
    return load(kind, {"function": name, "settings": settings})


def images(count: int, shape=GREY, seed: int = 0) -> torch.Tensor:
    """Smooth random images with some pixels at 0 and some at 1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, shape[0], 7, 7, generator=generator) * 1.4 - 0.2
    return functional.interpolate(coarse, shape[1:], mode="bilinear").clamp(0, 1)


def assert_batches_are_independent(function, inputs: torch.Tensor, tolerance: float = 1e-5) -> None:
    """Assert that results depend neither on the order nor on the size of a batch."""
    ids = torch.arange(len(inputs))
    outputs, order = function(inputs, ids), ids.flip(0)
    assert torch.allclose(function(inputs[order], order).flip(0), outputs, atol=tolerance)
    single = torch.cat([function(inputs[i : i + 1], ids[i : i + 1]) for i in range(2)])
    assert torch.allclose(single, outputs[:2], atol=tolerance)


# ---------------------------------------------------------------- all kinds


def test_every_kind_is_tested():
    assert {*ALL_KINDS} == {*KINDS, "training", "tables", "figures"}


@every()
def test_components_have_docstrings_and_plain_settings(kind, name):
    function = component(kind, name).func
    assert inspect.getdoc(function), f"{kind}.{name} has no docstring"
    types = signature(kind, kind, name).types
    for setting in signature(kind, kind, name).settings:
        assert setting in types, f"{kind}.{name}: the setting {setting} has no type"
        # The attack stage may pass one budget per image.
        is_epsilon = (kind, setting) == ("attacks", "epsilon")
        is_plain = is_epsilon or "Unchecked" not in repr(types[setting])
        assert is_plain and types[setting] is not Any, f"{kind}.{name}: {setting}: no plain type"


@every()
def test_every_number_has_a_range(kind, name):
    """It is declared in the parameter's annotation."""
    types = signature(kind, kind, name).types
    for setting, annotation in types.items():
        for base, interval in numbers(annotation):
            assert interval, f"{kind}.{name}: {setting} is {base.__name__}; declare its range"


@every()
def test_settings_outside_of_their_range_are_invalid(kind, name):
    declared = signature(kind, kind, name)
    for setting, value in (declared.defaults | MINIATURE[kind].get(name, {})).items():
        assert error_message("", value, declared.types[setting]) is None, setting
    for setting, annotation in declared.types.items():
        for base, interval in numbers(annotation):
            for number in (-1e300, -math.inf, math.nan, math.inf, 1e300, -(10**15), True):
                for value in (number, [number], [1, number], {"a": number}):
                    assert error_message("", value, annotation), f"{setting}: {value}"
            if base is int:
                assert error_message("", 10**15, annotation) and error_message(
                    "", 2.0, annotation
                ), setting
            offset = 1 if base is int else 0.5
            bounds = (interval.gt, 0), (interval.ge, -offset), (interval.lt, 0)
            for bound, step in (*bounds, (interval.le, offset)):
                if bound is not None:
                    assert error_message("", bound + step, annotation), f"{setting}: {bound + step}"


@every()
def test_miniature_settings_exist(kind, name):
    declared = signature(kind, kind, name).settings
    assert set(MINIATURE[kind].get(name, {})) <= set(declared)


def test_components_of_miniature_settings_exist():
    for kind, entries in MINIATURE.items():
        assert set(entries) <= set(functions(kind))
    assert {*BEYOND_EPSILON, *UNCHANGED_BY_NOISE} <= set(functions("attacks"))


# ---------------------------------------------------------------- classifiers


@pytest.fixture(scope="module", params=["grey", "colour"])
def shape(request):
    return GREY if request.param == "grey" else COLOUR


def with_statistics(network: nn.Module, shape) -> nn.Module:
    """The network after three passes in train mode, which set the statistics of batch norms."""
    with torch.no_grad():
        for seed in range(3):
            network.train()(images(8, shape, seed))
    return network.eval()


@pytest.fixture(scope="module")
def build(shape):
    networks = {}

    def build_once(kind: str, name: str) -> nn.Module:
        if name not in networks:
            torch.manual_seed(0)
            network = call_with(component(kind, name), shape=shape, classes=7)
            networks[name] = with_statistics(network, shape)
        return networks[name].eval().requires_grad_(True)

    return build_once


@every("classifiers")
def test_logits_are_finite_and_independent_of_the_batch(name, build, shape):
    network = build("classifiers", name)
    inputs = images(5, shape)
    with torch.no_grad():
        logits = network(inputs)
        assert_batches_are_independent(lambda x, _: network(x), inputs)
    assert logits.shape == (5, 7) and logits.dtype == torch.float32 and logits.isfinite().all()
    assert logits.min() < 0 or logits.max() > 1 or (logits.sum(1) - 1).abs().max() > 1e-3


@every("classifiers")
def test_classifiers_have_gradients_of_inputs_and_weights(name, build, shape):
    network = build("classifiers", name)
    inputs = images(4, shape).requires_grad_()
    functional.cross_entropy(network(inputs), torch.arange(4)).backward()
    assert inputs.grad.isfinite().all() and (inputs.grad.flatten(1).abs().amax(1) > 0).all()
    for weight, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), weight
    network.zero_grad(set_to_none=True)


@every("classifiers")
def test_classifiers_change_only_in_train_mode(name, build, shape):
    network = build("classifiers", name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        network(images(4, shape))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert network.train()(images(4, shape)).shape == (4, 7)
    assert all(module.training for module in network.modules())
    network.load_state_dict(before)


@every("classifiers", "denoisers")
def test_weights_can_be_saved_and_loaded(kind, name, build, shape, tmp_path):
    network = build(kind, name)
    write_weights(tmp_path / "w.safetensors", network.state_dict(), {"settings": {}})
    torch.manual_seed(1)
    other = call_with(component(kind, name), shape=shape, classes=7)
    other.load_state_dict(read_weights(tmp_path / "w.safetensors")[0])
    with torch.no_grad():
        assert torch.equal(other.eval()(images(3, shape)), network(images(3, shape)))


@every("classifiers")
def test_classifiers_normalise_in_a_separate_layer(name, build, shape):
    """Superpixels are computed on normalised images, at the size of the images."""
    network = build("classifiers", name)
    normalised = network.normalise.scale(images(3, shape))
    assert normalised.shape == (3, *shape) and normalised.isfinite().all()
    if network.normalise.size is None:
        assert torch.equal(network.normalise(images(3, shape)), normalised)


@every("classifiers")
def test_folded_classifiers_compute_the_same(name, build, shape):
    network = build("classifiers", name)
    folded = fold(network)
    assert not any(m.training for m in folded.modules())
    assert not any(p.requires_grad for p in folded.parameters())
    gradients = []
    for model in (network, folded):
        inputs = images(4, shape).requires_grad_()
        logits = model(inputs)
        assert torch.allclose(logits, network(images(4, shape)), atol=1e-4)
        loss = functional.cross_entropy(logits, torch.arange(4), reduction="sum")
        gradients.append(torch.autograd.grad(loss, inputs)[0])
    size = gradients[0].abs().max()
    assert (gradients[1] - gradients[0]).abs().max() <= 1e-3 * size


# ---------------------------------------------------------------- denoisers


@every("denoisers")
def test_denoisers_return_images_independent_of_the_batch(name, build, shape):
    network = build("denoisers", name)
    inputs = images(5, shape)
    with torch.no_grad():
        denoised = network(inputs)
        assert_batches_are_independent(lambda x, _: network(x), inputs)
    assert denoised.shape == inputs.shape and denoised.dtype == torch.float32
    assert denoised.min() >= 0 and denoised.max() <= 1


@every("denoisers")
def test_denoisers_have_gradients_of_inputs_and_weights(name, build, shape):
    network = build("denoisers", name)
    inputs = images(4, shape).requires_grad_()
    functional.mse_loss(network(inputs), images(4, shape, 1)).backward()
    assert inputs.grad.isfinite().all() and (inputs.grad.flatten(1).abs().amax(1) > 0).all()
    for weight, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), weight
    network.zero_grad(set_to_none=True)


@every("denoisers")
def test_denoisers_have_second_derivatives(name, build, shape):
    """Attacks through a purifier that uses the denoiser's gradient need them."""
    network = copy.deepcopy(build("denoisers", name)).double().requires_grad_(False)
    inputs = (0.2 + 0.6 * images(2, shape).double()).requires_grad_()

    def error(x):
        return (x - network(x)).square().flatten(1).sum(1)

    (gradient,) = torch.autograd.grad(error(inputs).sum(), inputs, create_graph=True)
    (expected,) = torch.autograd.grad((inputs - 0.01 * gradient).square().sum(), inputs)
    purified = descend(inputs, error, 1, Gradient(0.01))
    (result,) = torch.autograd.grad(purified.square().sum(), inputs)
    assert (expected - 2 * inputs).abs().max() > 1e-5
    assert torch.allclose(result, expected, atol=1e-10)


# ---------------------------------------------------------------- attacks


class Victim(nn.Module):
    """A small smooth classifier in float64, so that rounding changes no sign."""

    def __init__(self, shape):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.normalise = nn.Identity()
        self.first = nn.Parameter(self._draw(generator, np.prod(shape), 16))
        self.last = nn.Parameter(self._draw(generator, 16, 5))

    @staticmethod
    def _draw(generator, rows, columns):
        return torch.randn(int(rows), columns, generator=generator, dtype=torch.float64) / 5

    def forward(self, inputs):
        return torch.tanh(inputs.double().flatten(1) @ self.first) @ self.last


def smooth(inputs: torch.Tensor) -> torch.Tensor:
    """A differentiable denoiser of images in [0,1]."""
    return functional.avg_pool2d(inputs, 3, 1, padding=1, count_include_pad=False).clamp(0, 1)


class Attack:
    """An attack with the inputs for six images, which can be run on any rows of them."""

    def __init__(self, name: str, shape):
        self.function = component("attacks", name)
        self.has_epsilon = "epsilon" in signature("attacks", "attacks", name).settings
        self.injected = signature("attacks", "attacks", name).injected
        self.images = images(6, shape)
        self.labels = torch.arange(6) % 5
        self.model = Victim(shape).eval()
        self.epsilon = torch.linspace(0.02, EPSILON, 6).view(-1, 1, 1, 1)
        self.iterates = []

    def run(
        self,
        rows=slice(None),
        targeted: bool = False,
        per_image: bool = True,
        seed: int = 0,
        facts: Facts | None = None,
    ):
        rows = torch.arange(6)[rows]
        function = self.function
        if self.has_epsilon and per_image:
            function = functools.partial(function, epsilon=self.epsilon[rows])
        return call_with(
            function,
            images=self.images[rows],
            labels=self.labels[rows],
            targeted=targeted,
            predict=self.model,
            victim=self.model,
            classifier=self.model,
            denoise=smooth,
            error=lambda x: (x - smooth(x)).square().flatten(1).sum(1),
            callback=self.iterates.append,
            noise=Noise(seed, rows, "test"),
            facts=facts,
        )

    def loss(self, perturbation):
        with torch.no_grad():
            logits = self.model(self.images + perturbation)
        return functional.cross_entropy(logits, self.labels, reduction="none")


@pytest.fixture(params=["grey", "colour"])
def attack(request, name):
    return Attack(name, GREY if request.param == "grey" else COLOUR)


@every("attacks")
def test_perturbations_are_within_epsilon_and_images_in_0_1(name, attack):
    for per_image in (True, False):
        perturbation = attack.run(per_image=per_image)
        assert perturbation.shape == attack.images.shape and perturbation.dtype == torch.float32
        assert not perturbation.requires_grad
        assert perturbation.isfinite().all() and perturbation.any()
        adversarial = attack.images + perturbation
        assert adversarial.min() >= 0 and adversarial.max() <= 1
        if attack.has_epsilon:
            epsilon = attack.epsilon if per_image else EPSILON
            radius = epsilon + BEYOND_EPSILON.get(name, 0)
            assert (perturbation.abs() <= radius + 1e-6).all()


@every("attacks")
def test_equal_noise_gives_equal_perturbations(name, attack):
    assert torch.equal(attack.run(), attack.run())
    if "noise" in attack.injected and name not in UNCHANGED_BY_NOISE:
        assert not torch.equal(attack.run(), attack.run(seed=1))


WITH_FACTS = [n for n in functions("attacks") if "facts" in signature("attacks", "", n).injected]


@pytest.mark.parametrize("name", WITH_FACTS)
def test_facts_change_nothing_and_are_independent_of_the_batch(name, attack):
    expected, facts = attack.run(), Facts(6)
    assert torch.equal(attack.run(facts=facts), expected)
    arrays, order = facts.arrays(), torch.tensor([4, 1, 5, 0, 3, 2])
    assert (arrays["fooled_at"] >= 0).any()
    assert (arrays["fooled_at"][arrays["fooled_last"]] >= 0).all()
    facts = Facts(6)
    attack.run(order, facts=facts)
    for fact, values in facts.arrays().items():
        assert np.allclose(values, arrays[fact][order], atol=1e-5, equal_nan=True), fact


@every("attacks")
def test_attacks_are_independent_of_the_batch(name, attack):
    expected = attack.run()
    order = torch.tensor([4, 1, 5, 0, 3, 2])
    assert torch.allclose(attack.run(order), expected[order], atol=1e-6)
    for row in range(2):
        rows = slice(row, row + 1)
        assert torch.allclose(attack.run(rows), expected[rows], atol=1e-6)


WITH_LABELS = [n for n in functions("attacks") if "labels" in signature("attacks", "", n).injected]


@pytest.mark.parametrize("name", WITH_LABELS)
def test_attacks_change_the_loss_of_their_labels(name, attack):
    before = attack.loss(torch.zeros_like(attack.images))
    assert attack.loss(attack.run()).mean() > before.mean()
    if "targeted" in attack.injected:
        assert attack.loss(attack.run(targeted=True)).mean() < before.mean()


@every("attacks")
def test_attacks_do_not_modify_their_inputs(name, attack):
    inputs = [attack.images, attack.labels, attack.epsilon, *attack.model.parameters()]
    before = [tensor.detach().clone() for tensor in inputs]
    attack.run()
    assert all(torch.equal(old, new) for old, new in zip(before, inputs, strict=True))
    assert not attack.images.requires_grad
    assert all(p.grad is None and p.requires_grad for p in attack.model.parameters())
    assert not any(module.training for module in attack.model.modules())


@every("attacks")
def test_attacks_run_inside_no_grad(name, attack):
    with torch.no_grad():
        perturbation = attack.run()
    assert torch.equal(perturbation, attack.run())


# ---------------------------------------------------------------- purifiers


class Generator(nn.Module):
    """A generator that maps codes of three numbers to images in [0,1]."""

    code_shape, code_std = (3, 1, 1), 0.5

    def __init__(self, shape):
        super().__init__()
        self.directions = images(3, shape, seed=7) - 0.5

    def forward(self, inputs):
        return torch.sigmoid(torch.einsum("nk,kchw->nchw", inputs.flatten(1), self.directions))


def purifier(name: str):
    """A purifier with its inputs, as a function of images and ids."""
    function = component("purifiers", name)

    def run(inputs: torch.Tensor, ids) -> torch.Tensor:
        return call_with(
            function,
            images=inputs,
            noise=Noise(0, ids, "purifier"),
            denoise=smooth,
            error=lambda x: (x - smooth(x)).square().flatten(1).sum(1),
            calibration={"mean": 0.5, "deviation": 0.2, "images": 100},
            generate=Generator(inputs.shape[1:]),
        )

    return run


@every("purifiers")
def test_purifiers_return_images_independent_of_the_batch(name, shape):
    run, inputs = purifier(name), images(5, shape)
    before = inputs.clone()
    with torch.no_grad():
        purified = run(inputs, torch.arange(5))
        assert torch.equal(run(inputs, torch.arange(5)), purified)
        assert_batches_are_independent(run, inputs)
    assert purified.shape == inputs.shape and purified.dtype == torch.float32
    assert purified.min() >= 0 and purified.max() <= 1
    assert torch.equal(inputs, before)


@every("purifiers")
def test_purifiers_without_a_gradient_say_so(name, shape):
    inputs = images(3, shape).requires_grad_()
    purified = purifier(name)(inputs, torch.arange(3))
    if purified.requires_grad:
        (gradient,) = torch.autograd.grad(purified.sum(), inputs)
        assert gradient.isfinite().all() and gradient.any()
    else:
        text = inspect.getdoc(component("purifiers", name).func)
        assert "no gradient" in text, f"{name} has no gradient; its docstring must say so"


# ---------------------------------------------------------------- attributions


@every("attributions")
@pytest.mark.parametrize("depth", [1, 3])
def test_segments_are_numbered_without_gaps(name, depth):
    function = component("attributions", name)
    for seed in range(2):
        generator = np.random.default_rng(seed)
        patches = generator.normal(size=(4, 4, depth)).repeat(5, axis=0).repeat(6, axis=1)
        image = (patches + generator.normal(size=patches.shape) / 20).astype(np.float32)
        before = image.copy()
        labels = function(image)
        assert labels.shape == (20, 24) and np.issubdtype(labels.dtype, np.integer)
        assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
        assert np.array_equal(function(image), labels)
        assert np.array_equal(image, before)
    assert labels.max() > 0


@every("attributions")
def test_segments_of_a_constant_image(name):
    labels = component("attributions", name)(np.zeros((20, 24, 1), np.float32))
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))


# ---------------------------------------------------------------- detectors


@every("detectors")
@pytest.mark.parametrize("width", [1, 6])
def test_detectors_separate_adversarial_rows(name, width):
    generator = np.random.default_rng(0)
    is_adversarial = np.arange(120) % 3 == 0
    features = generator.normal(size=(120, width)).astype(np.float32)
    features[is_adversarial] += 3
    scores = []
    for _ in range(2):
        detector = call_with(component("detectors", name), seed=5, threads=1)
        detector.fit(features[:80], is_adversarial[:80])
        scores.append(np.asarray(detector.score(features[80:])))
    assert scores[0].shape == (40,) and np.issubdtype(scores[0].dtype, np.floating)
    assert np.isfinite(scores[0]).all()
    assert np.array_equal(*scores)
    assert roc_auc(scores[0], is_adversarial[80:]) > 0.9


# ---------------------------------------------------------------- training steps


class Network(nn.Module):
    """A small network with batch norm and dropout that returns logits or denoised images."""

    def __init__(self, denoises: bool):
        super().__init__()
        torch.manual_seed(0)
        image = [nn.Conv2d(4, 1, 3, padding=1), nn.Sigmoid()]
        head = image if denoises else [nn.Flatten(), nn.Linear(4 * 28 * 28, 5)]
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.1), *head
        )

    def forward(self, inputs):
        return self.layers(inputs)


@every("training")
@pytest.mark.parametrize("training", [True, False])
def test_steps_return_a_differentiable_loss(name, training):
    injected = signature("training", "training", name).injected
    # Steps with clean targets train denoisers.
    model = Network(denoises="targets" in injected).train(training)
    inputs, targets = images(6), images(6, seed=1)
    step, network = component("training", name), Network(denoises=False).eval()
    network.requires_grad_(False)
    reference = reference_function(step, network)
    loss, metrics = call_with(
        step,
        model=model,
        network=network,
        reference=reference(targets) if reference else None,
        images=inputs,
        targets=targets,
        labels=torch.arange(6) % 5,
        masks=torch.arange(6) % 5,
        noise=Noise(0, range(6), "step"),
        iteration=0,
        epoch=0,
    )
    assert loss.shape == () and loss.isfinite() and loss > 0
    assert all(isinstance(key, str) and torch.as_tensor(v).ndim == 0 for key, v in metrics.items())
    assert all(module.training == training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad is None for p in network.parameters())
    assert torch.equal(inputs, images(6)) and torch.equal(targets, images(6, seed=1))


# ---------------------------------------------------------------- data sets


EMBEDDED = [n for n in functions("datasets") if "root" not in signature("datasets", "", n).injected]


@every("datasets")
def test_data_sets_get_nothing_but_the_root(name):
    assert set(signature("datasets", "datasets", name).injected) <= {"root"}


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_data_sets_return_sources(name):
    source = component("datasets", name)()
    assert isinstance(source, Source)
    assert all(isinstance(label, str) for label in source.classes)
    labels = np.concatenate([source.train_labels, source.test_labels])
    assert labels.dtype == np.int64 and len(source.train_labels) and len(source.test_labels)
    ids = np.array([len(labels) - 1, 0, 3, 0])
    pixels = source.read(ids)
    if source.masks:
        assert not labels.any()
        masks = source.masks(ids)
        assert masks.dtype == np.uint8 and masks.shape == (4, *pixels.shape[2:])
        classes = set(range(len(source.classes)))
        assert set(np.unique(source.masks(np.arange(len(labels))))) - {IGNORED} == classes
        assert np.array_equal(source.masks(ids[:1])[0], masks[0])
    else:
        assert set(labels) == set(range(len(source.classes)))
    assert pixels.dtype == np.uint8 and pixels.ndim == 4 and len(pixels) == 4
    assert np.array_equal(pixels[1], pixels[3]) and not np.array_equal(pixels[0], pixels[1])
    assert np.array_equal(source.read(ids[:1])[0], pixels[0])
    assert np.array_equal(source.labels(ids), labels[ids])
    assert np.array_equal(component("datasets", name)().read(ids), pixels)


# ---------------------------------------------------------------- tables and figures


@every("tables", "figures")
def test_parameters_of_tables_and_figures_are_result_files(kind, name):
    # They may also have `labels`, and figures the `styles` that an experiment's figures share.
    shared = {"labels", "styles"} if kind == "figures" else {"labels"}
    injected = {*signature(kind, kind, name).injected} - shared
    assert injected and injected <= set(crossings())


# ---------------------------------------------------------------- the test itself


def test_missing_miniature_settings(monkeypatch):
    monkeypatch.delitem(MINIATURE["attacks"], "noise.gaussian")
    with pytest.raises(AssertionError, match=r"noise.gaussian needs sigma: add .* MINIATURE"):
        component("attacks", "noise.gaussian")


@every()
def test_modules_of_components_define_their_functions(kind, name):
    """A function that a module only imports would be taken for a component."""
    module = sources.imported(kind, name.partition(".")[0])
    assert getattr(module, name.partition(".")[2]).__module__ == module.__name__
