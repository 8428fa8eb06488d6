"""Feature losses and logits guidance against direct implementations; gradients."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from advdenoise.classifiers.vgg import vgg16
from advdenoise.denoisers.autoencoders import seven_layer
from advdenoise.errors import BadInput
from advdenoise.training import features, logits
from advdenoise.training._references import reference_function

PAPER = ["layers.relu5_3", "layers.relu4_2", "layers.relu3_2"]
# The last modules of the slices that the authors' prototype takes: features[:-3], [:-7], [:-10].
PROTOTYPE = ["layers.relu5_2", "layers.pool4", "layers.relu4_2"]


def frozen(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def vgg():
    torch.manual_seed(0)
    return frozen(vgg16((1, 28, 28), 10, width=4))


def pair(seed: int, images: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    clean = torch.rand(images, 1, 28, 28, generator=generator)
    return (clean + torch.randn(clean.shape, generator=generator) / 5).clamp(0, 1), clean


def run_step(step, network, *arguments):
    """The loss and metrics of a step, with its reference."""
    model, images, targets = arguments
    with torch.no_grad():
        reference = reference_function(step, network)(targets)
    return step(model, images, targets, network, reference)


def plain_reference(network, denoised, clean, layers, weights, pixel_weight):
    """The paper's objective, image by image, with a pass for each map."""
    names = [name for name, _ in network.layers.named_children()]
    losses = []
    for actual, other in zip(denoised.split(1), clean.split(1), strict=True):
        loss = pixel_weight * ((actual - other) ** 2).sum()
        for layer, weight in zip(layers, weights, strict=True):
            part = network.layers[: names.index(layer.removeprefix("layers.")) + 1]
            loss = loss + weight * ((part(actual) - part(other)) ** 2).sum()
        losses.append(loss)
    return sum(losses) / len(losses)


@settings(deadline=None, max_examples=15)
@given(
    st.integers(0, 1000),
    st.sampled_from([PAPER, PROTOTYPE, PAPER[::-1], PAPER[1:2]]),
    st.floats(0, 0.01),
)
def test_the_objective_is_that_of_the_paper(vgg, seed, layers, pixel_weight):
    weights = [0.00048, 0.00024, 0.00012][: len(layers)]
    step = partial(features.reconstruct, layers=layers, weights=weights, pixel_weight=pixel_weight)
    loss, terms = run_step(step, vgg, nn.Identity(), *pair(seed))
    expected = plain_reference(vgg, *pair(seed), layers, weights, pixel_weight)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-7)
    assert list(terms) == ["pixels", *layers]
    torch.testing.assert_close(sum(terms.values()), loss)


def test_default_weights_turn_sums_into_means(vgg):
    _, terms = run_step(features.reconstruct, vgg, nn.Identity(), *pair(0))
    assert list(terms) == ["pixels", *PAPER]
    denoised, clean = pair(0)
    printed = {"pixels": 784, PAPER[0]: 512 * 2 * 2, PAPER[1]: 256 * 4 * 4, PAPER[2]: 128 * 8 * 8}
    maps = {"pixels": (denoised, clean)}
    for name in PAPER:
        maps[name] = tuple(features._maps(vgg, x, layers=[name])[0] for x in (denoised, clean))
    for name, (actual, other) in maps.items():
        sums = (actual - other).square().flatten(1).sum(1)
        assert terms[name].item() == pytest.approx((sums / printed[name]).mean().item(), rel=0.03)


def test_gradients_equal_the_reference_and_do_not_reach_the_network(vgg):
    torch.manual_seed(1)
    model = seven_layer((1, 28, 28), channels=(4, 3))
    gradients = []
    for loss_of in (
        lambda images, clean: run_step(features.reconstruct, vgg, model, images, clean)[0],
        lambda images, clean: plain_reference(
            vgg, model(images), clean, PAPER, [0.00048, 0.00024, 0.00012], 0.0013
        ),
    ):
        model.zero_grad()
        loss_of(*pair(3)).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
        assert all(p.grad is None for p in vgg.parameters())
    for actual, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-6)


def test_the_pass_ends_after_the_last_layer(vgg):
    called = []
    with vgg.layers.conv5_1.register_forward_hook(lambda *_: called.append("conv5_1")):
        features._maps(vgg, pair(0)[0], layers=PAPER[1:])
        assert not called
        features._maps(vgg, pair(0)[0], layers=PAPER)
        assert called == ["conv5_1"]
    assert not any(m._forward_hooks for m in vgg.modules())


def test_maps_are_copied_before_in_place_modules():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Conv2d(2, 2, 3))
    images = pair(0)[0]
    output, _ = features._maps(network, images, layers=["0", "2"])
    assert torch.equal(output, network[0](images)) and (output < 0).any()


def test_layers_and_weights_that_do_not_fit_are_refused(vgg):
    step = partial(features.reconstruct, layers=["layers.relu5_4"], weights=[1.0])
    with pytest.raises(BadInput, match="no module 'layers.relu5_4'; did you mean 'layers.relu5_3'"):
        run_step(step, vgg, nn.Identity(), *pair(0))
    for wrong in ({"weights": [1.0]}, {"layers": [PAPER[0]] * 3}):
        with pytest.raises(BadInput, match="a weight for each"):
            run_step(partial(features.reconstruct, **wrong), vgg, nn.Identity(), *pair(0))


def test_sums_are_float32_under_autocast(vgg):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, terms = run_step(features.reconstruct, vgg, nn.Identity(), *pair(0))
    assert {loss.dtype, *(term.dtype for term in terms.values())} == {torch.float32}
    expected, _ = run_step(features.reconstruct, vgg, nn.Identity(), *pair(0))
    assert loss.item() == pytest.approx(expected.item(), rel=0.05)


# ---------------------------------------------------------------- logits


@pytest.mark.parametrize("norm", ["l1", "mse"])
def test_logits_guidance(vgg, norm):
    images, clean = pair(2)
    loss, metrics = run_step(partial(logits.guided, norm=norm), vgg, nn.Identity(), images, clean)
    difference = vgg(images) - vgg(clean)
    expected = difference.abs().mean() if norm == "l1" else difference.square().mean()
    torch.testing.assert_close(loss, expected)
    agreeing = (vgg(images).argmax(1) == vgg(clean).argmax(1)).float().mean()
    assert metrics == {"agreement": agreeing}


def test_logits_guidance_trains_the_denoiser_only(vgg):
    model = seven_layer((1, 28, 28), channels=(4, 3))
    run_step(logits.guided, vgg, model, *pair(2))[0].backward()
    assert all(p.grad.any() for p in model.parameters())
    assert all(p.grad is None for p in vgg.parameters())


def test_an_unknown_norm_is_refused(vgg):
    with pytest.raises(BadInput, match="must be l1 or mse, got 'l2'"):
        run_step(partial(logits.guided, norm="l2"), vgg, nn.Identity(), *pair(0))
