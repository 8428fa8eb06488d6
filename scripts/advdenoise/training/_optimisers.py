"""Optimisers: gradient descent with momentum, Adam, RMSprop.

The first use of `torch.optim` imports torch's compiler, which takes longer than all of the rest of
a small job's start. These are the same updates (tests compare them), on all parameters at once.
"""

import math

import torch
from torch import Tensor, nn

from scripts.advdenoise.errors import BadInput

_COMMON = ("lr", "decay", "weight_decay", "weight_decay_on")
_KNOWN = {
    "sgd": ("momentum", "nesterov"),
    "adam": ("betas", "eps"),
    "rmsprop": ("alpha", "eps"),
}


class Optimiser:
    """Updates the parameters of a model that take gradients and have one.

    Args:
        model: its parameters are moved in place.
        settings: `name`; `lr`; `decay` (0): the learning rate is divided by 1 + decay * iteration,
            as Keras does; `weight_decay` (0), added to the gradient as weight_decay * parameter,
            on `weight_decay_on: all` (parameters) or `convolutions` (their kernels only). Further
            `sgd`: momentum (0), nesterov (false); `adam` (Kingma & Ba 2015): betas (0.9, 0.999),
            eps (1e-8); `rmsprop` (Tieleman & Hinton 2012): alpha (0.9), eps (1e-7), as in Keras.
        key: the entry's place in the configuration, for messages.

    Raises:
        BadInput: an unknown optimiser or setting.
    """

    def __init__(self, model: nn.Module, settings: dict, key: str):
        _check(settings, key)
        self._settings = settings
        self._update = {"sgd": self._sgd, "adam": self._adam, "rmsprop": self._rmsprop}[
            settings["name"]
        ]
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._decayed = _decayed(model, settings, key)
        self._steps = [0] * len(self._parameters)
        self._memory: dict[str, list[Tensor]] = {}

    def zero_grad(self) -> None:
        """Take all gradients away."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update of every parameter that has a gradient; others keep value and memory."""
        places = [i for i, p in enumerate(self._parameters) if p.grad is not None]
        if not places:
            return
        parameters = [self._parameters[i] for i in places]
        gradients = [p.grad for p in parameters]
        decay = self._settings.get("weight_decay", 0.0)
        if decay:
            weights = [decay if self._decayed[i] else 0.0 for i in places]
            gradients = torch._foreach_add(gradients, torch._foreach_mul(parameters, weights))
        for i in places:
            self._steps[i] += 1
        self._update(places, parameters, gradients, lr)

    def state_dict(self) -> dict:
        """Plain numbers and tensors."""
        return {"steps": list(self._steps), **self._memory}

    def load_state_dict(self, state: dict) -> None:
        """Go on from `state_dict()`; tensors are moved to their parameter's device."""
        self._steps = list(state["steps"])
        self._memory = {
            name: [t.to(p.device) for t, p in zip(tensors, self._parameters, strict=True)]
            for name, tensors in state.items()
            if name != "steps"
        }

    def _remembered(self, name: str, places: list[int]) -> list[Tensor]:
        if name not in self._memory:
            self._memory[name] = [torch.zeros_like(p) for p in self._parameters]
        return [self._memory[name][i] for i in places]

    def _sgd(self, places, parameters, gradients, lr) -> None:
        momentum = self._settings.get("momentum", 0.0)
        if momentum:
            velocity = self._remembered("velocity", places)
            torch._foreach_mul_(velocity, momentum)
            torch._foreach_add_(velocity, gradients)
            ahead = self._settings.get("nesterov", False)
            gradients = (
                torch._foreach_add(gradients, velocity, alpha=momentum) if ahead else velocity
            )
        torch._foreach_add_(parameters, gradients, alpha=-lr)

    def _adam(self, places, parameters, gradients, lr) -> None:
        first, second = self._settings.get("betas", (0.9, 0.999))
        mean, square = self._remembered("mean", places), self._remembered("square", places)
        torch._foreach_lerp_(mean, gradients, 1 - first)
        torch._foreach_mul_(square, second)
        torch._foreach_addcmul_(square, gradients, gradients, 1 - second)
        steps = [self._steps[i] for i in places]
        scale = torch._foreach_sqrt(square)
        torch._foreach_div_(scale, [math.sqrt(1 - second**t) for t in steps])
        torch._foreach_add_(scale, self._settings.get("eps", 1e-8))
        torch._foreach_addcdiv_(parameters, mean, scale, [-lr / (1 - first**t) for t in steps])

    def _rmsprop(self, places, parameters, gradients, lr) -> None:
        alpha = self._settings.get("alpha", 0.9)
        square = self._remembered("square", places)
        torch._foreach_mul_(square, alpha)
        torch._foreach_addcmul_(square, gradients, gradients, 1 - alpha)
        scale = torch._foreach_sqrt(square)
        torch._foreach_add_(scale, self._settings.get("eps", 1e-7))
        torch._foreach_addcdiv_(parameters, gradients, scale, -lr)


def learning_rate(loop: dict, epoch: int, iteration: int) -> float:
    """The rate in an epoch (from 0) and iteration (from 0) by `optimiser` and `schedule`."""
    settings = loop["optimiser"]
    lr = settings["lr"]
    schedule = {int(after): value for after, value in loop.get("schedule", {}).items()}
    for after in sorted(schedule):
        if epoch >= after:
            lr = schedule[after]
    return lr / (1 + settings.get("decay", 0.0) * iteration)


def _check(settings: dict, key: str) -> None:
    name = settings["name"]
    if name not in _KNOWN:
        raise BadInput(f"{key}: optimiser {name!r} is unknown; take one of {', '.join(_KNOWN)}")
    knows = _COMMON + _KNOWN[name]
    for setting in settings:
        if setting not in ("name", *knows):
            raise BadInput(
                f"{key}: optimiser {name} has no setting {setting!r}; it knows {', '.join(knows)}"
            )


def _decayed(model: nn.Module, settings: dict, key: str) -> list[bool]:
    """Whether weight decay falls on each of the parameters that take gradients."""
    on = settings.get("weight_decay_on", "all")
    if on not in ("all", "convolutions"):
        raise BadInput(f"{key}: weight_decay_on is {on!r}; take all or convolutions")
    kernels = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    }
    return [on == "all" or id(p) in kernels for p in model.parameters() if p.requires_grad]
