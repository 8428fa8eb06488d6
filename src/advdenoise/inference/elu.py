"""ELU for the CPU, from exp and not from expm1.

torch computes ELU with expm1, which in its AVX-512 build costs up to twenty times as much as exp:
in a convolutional network more than all convolutions together. Here ELU(y) = max(y, 0) + s - 1 with
s = exp(min(y, 0)), equal up to 1e-7 in float32, and s, being the derivative as well, is kept for
the backward pass, which is one multiplication.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class FastELU(nn.ELU):
    """nn.ELU with alpha 1, faster on the CPU; differentiable once."""

    def forward(self, maps: Tensor) -> Tensor:
        if maps.device.type != "cpu":
            return super().forward(maps)
        return _Elu.apply(maps, -1.0, False)


class ShiftedELU(nn.Module):
    """ELU(maps) + shift, overwriting the maps and the gradient that comes back.

    For a place where nothing else sees either: after a convolution or pooling that nothing else
    follows, before one that follows nothing else. `shift` is a number or [C,1,1].
    """

    def __init__(self, shift: Tensor):
        super().__init__()
        self.register_buffer("shift", shift)
        self.register_buffer("shift_minus_1", shift - 1)

    def forward(self, maps: Tensor) -> Tensor:
        if maps.device.type != "cpu":
            return functional.elu(maps, inplace=True) + self.shift
        return _Elu.apply(maps, self.shift_minus_1, True)


def use_fast_elu(network: nn.Module) -> nn.Module:
    """The network, each nn.ELU of alpha 1 in it replaced by the faster one; weights untouched."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.ELU and child.alpha == 1:
                setattr(module, name, FastELU().train(child.training))
    return network


class _Elu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, maps: Tensor, offset: Tensor | float, overwrite: bool) -> Tensor:
        # torch's own kernel for ELU's derivative is exp(min(maps, 0)) in a single pass.
        ones = maps.new_ones(()).expand_as(maps)
        slope = torch.ops.aten.elu_backward(ones, 1.0, 1.0, 1.0, False, maps)
        ctx.save_for_backward(slope)
        ctx.overwrite = overwrite
        if overwrite:
            ctx.mark_dirty(maps)
            maps = maps.clamp_min_(0)
        else:
            maps = maps.clamp_min(0)
        return maps.add_(slope).add_(offset)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        if torch.is_grad_enabled():
            # torch's once_differentiable would let torch.autograd.grad go past it, to wrong values.
            raise RuntimeError(
                "the fast ELU can be differentiated once: no gradient goes through a gradient "
                "through it (create_graph); use torch's ELU, or a network of ReLUs"
            )
        (slope,) = ctx.saved_tensors
        gradient = gradient.mul_(slope) if ctx.overwrite else gradient * slope
        return gradient, None, None
