"""Hooks, which a network computes beyond its modules and which no rewriting can see."""

from torch import nn
from torch.nn.modules import module as nn_module


def hooked_module(network: nn.Module) -> str | None:
    """The name of a module with a hook or with its own `forward`; None if there is none.

    Forward hooks and pre-hooks may change inputs and outputs, backward hooks gradients, and an
    instance attribute `forward` replaces that of the class. `all modules` for global hooks.
    """
    if nn_module._has_any_global_hook():
        return "all modules"
    for name, module in network.named_modules():
        hooks = (
            module._forward_hooks,
            module._forward_pre_hooks,
            module._backward_hooks,
            module._backward_pre_hooks,
        )
        if any(hooks) or "forward" in vars(module):
            return name or type(module).__name__
    return None
