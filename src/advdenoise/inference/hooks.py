"""What a network computes beyond its modules' own forward passes, which no rewriting can see."""

from torch import nn
from torch.nn.modules import module as nn_module


def hooked_module(network: nn.Module) -> str | None:
    """The name of a module that computes more than its class says, or None.

    That is one with a forward hook or a forward pre-hook, which may change what it reads or gives
    (backward hooks may change the gradient), or with a `forward` of its own in the place of its
    class's. Hooks on all modules are named `all modules`.
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
