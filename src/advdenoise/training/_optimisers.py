"""Optimisers: gradient descent with momentum, Adam, RMSprop.

The updates are `torch.optim`'s functions. Its classes would import torch's compiler when the first
is made, which takes longer than all of the rest of a small job's start.
"""

import torch
from torch import nn
from torch.optim.adam import adam
from torch.optim.rmsprop import rmsprop
from torch.optim.sgd import sgd

from advdenoise.errors import BadInput
from advdenoise.training._settings import check_optimiser


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
        check_optimiser(key, settings)
        self._settings = settings
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._decayed = _decayed(model, settings, key)
        memories = {"sgd": ("velocity",), "adam": ("mean", "square"), "rmsprop": ("square",)}
        self._memory = {
            name: [torch.zeros_like(p) for p in self._parameters]
            for name in memories[settings["name"]]
        }
        self._memory["steps"] = [torch.zeros(()) for _ in self._parameters]

    def zero_grad(self) -> None:
        """Take all gradients away."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update of every parameter that has a gradient; others keep value and memory."""
        update = getattr(self, f"_{self._settings['name']}")
        for decayed in (True, False):
            places = [
                place
                for place, parameter in enumerate(self._parameters)
                if parameter.grad is not None and self._decayed[place] == decayed
            ]
            if places:
                parameters = [self._parameters[place] for place in places]
                memory = {
                    name: [tensors[place] for place in places]
                    for name, tensors in self._memory.items()
                }
                decay = self._settings.get("weight_decay", 0.0) if decayed else 0.0
                update(parameters, [p.grad for p in parameters], memory, lr, decay)

    def state_dict(self) -> dict:
        """Tensors by name."""
        return self._memory

    def load_state_dict(self, state: dict) -> None:
        """Go on from `state_dict()`; tensors are moved to their parameter's device."""
        self._memory = {
            name: [
                tensor if name == "steps" else tensor.to(parameter.device)
                for tensor, parameter in zip(tensors, self._parameters, strict=True)
            ]
            for name, tensors in state.items()
        }

    def _sgd(self, parameters, gradients, memory, lr: float, decay: float) -> None:
        sgd(
            parameters,
            gradients,
            memory["velocity"],
            foreach=True,
            weight_decay=decay,
            momentum=self._settings.get("momentum", 0.0),
            lr=lr,
            dampening=0.0,
            nesterov=self._settings.get("nesterov", False),
            maximize=False,
        )

    def _adam(self, parameters, gradients, memory, lr: float, decay: float) -> None:
        first, second = self._settings.get("betas", (0.9, 0.999))
        adam(
            parameters,
            gradients,
            memory["mean"],
            memory["square"],
            [],
            memory["steps"],
            foreach=True,
            amsgrad=False,
            beta1=first,
            beta2=second,
            lr=lr,
            weight_decay=decay,
            eps=self._settings.get("eps", 1e-8),
            maximize=False,
        )

    def _rmsprop(self, parameters, gradients, memory, lr: float, decay: float) -> None:
        rmsprop(
            parameters,
            gradients,
            memory["square"],
            [],
            [],
            memory["steps"],
            foreach=True,
            lr=lr,
            alpha=self._settings.get("alpha", 0.9),
            eps=self._settings.get("eps", 1e-7),
            weight_decay=decay,
            momentum=0.0,
            centered=False,
        )


def learning_rate(loop: dict, epoch: int, iteration: int) -> float:
    """The rate in an epoch (from 0) and iteration (from 0) by `optimiser` and `schedule`."""
    settings = loop["optimiser"]
    lr = settings["lr"]
    schedule = {int(after): value for after, value in loop.get("schedule", {}).items()}
    for after in sorted(schedule):
        if epoch >= after:
            lr = schedule[after]
    return lr / (1 + settings.get("decay", 0.0) * iteration)


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
