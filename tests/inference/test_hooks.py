"""Networks with hooks are not rewritten."""

import types

import pytest
import torch
from torch import nn

from advdenoise.attributions import _loo, _nodes
from advdenoise.inference import stack
from advdenoise.inference.fold import fold
from advdenoise.inference.hooks import hooked_module

SIDE = 8
IMAGES = torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(6 * 36, 4)).eval().requires_grad_(False)


def doubled(module, inputs, output=None):
    return 2 * (inputs[0] if output is None else output)


def backwards(module, gradients, *_):
    return tuple(2 * gradient for gradient in gradients)


def replace_forward(module):
    forward = type(module).forward
    module.forward = types.MethodType(lambda self, values: 2 * forward(self, values), module)


HOOKS = {
    "forward": lambda module: module.register_forward_hook(doubled),
    "pre-forward": lambda module: module.register_forward_pre_hook(doubled),
    "backward": lambda module: module.register_full_backward_hook(backwards),
    "instance forward": replace_forward,
}


@pytest.mark.parametrize("index", range(6))
@pytest.mark.parametrize("hook", HOOKS)
def test_hooks_are_found_and_kept(hook, index):
    hooked = network()
    HOOKS[hook](hooked[index])
    assert hooked_module(hooked) == str(index)
    images = IMAGES.clone().requires_grad_()
    expected, actual = hooked(images), fold(hooked)(images)
    torch.testing.assert_close(actual, expected)
    gradients = [torch.autograd.grad(out[:, 0].sum(), images)[0] for out in (actual, expected)]
    torch.testing.assert_close(*gradients)
    with pytest.raises(stack.NotSequential, match=f"^{index} has a hook"):
        stack.read_stack(hooked, IMAGES[:1])


def test_hooks_of_the_network_and_of_all_modules():
    hooked = network()
    hooked.register_forward_hook(doubled)
    assert hooked_module(hooked) == "Sequential"
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert hooked_module(network()) == "all modules"
    finally:
        handle.remove()
    assert hooked_module(network()) is None


def test_attributions_of_a_network_with_hooks():
    hooked = network()
    hooked[0].register_forward_hook(lambda module, inputs, output: output + output.roll(1, -1))
    segments = torch.arange(SIDE * SIDE).view(1, SIDE, SIDE).expand(4, -1, -1) % 5
    no_nodes = _nodes.Nodes({}, {})
    features = [
        _loo.LeaveOneOut(hooked, no_nodes, IMAGES[:1], by_changes=by_changes).features(
            IMAGES, segments, 0.5
        )
        for by_changes in (True, False)
    ]
    for actual, expected in zip(*features, strict=True):
        assert torch.equal(actual, expected)


def test_a_batch_norm_without_running_statistics_is_not_folded():
    model = network()
    model[1] = nn.BatchNorm2d(6, track_running_stats=False)
    torch.testing.assert_close(fold(model)(IMAGES), model(IMAGES))
