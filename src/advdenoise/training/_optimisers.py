"""Optimisers: SGD with momentum, Adam, RMSprop.

The updates are `torch.optim`'s functions. Its classes import torch's compiler when the first one is
created, which takes longer than the rest of a small job's start.
"""

import torch
from torch import nn
from torch.optim.adam import adam
from torch.optim.rmsprop import rmsprop
from torch.optim.sgd import sgd

from advdenoise.errors import BadInput
from advdenoise.training._settings import check_optimiser


class Optimiser:
    """Updates those trainable parameters of a model that have a gradient, in place.

    Args:
        model: the model.
        settings: `name`, `lr` and, with defaults, `decay` (0): the learning rate is divided by
            1 + decay * iteration, as in Keras; `weight_decay` (0), added to the gradient as
            weight_decay * parameter, of all parameters or, with `weight_decay_on: convolutions`,
            of the kernels of convolutions only. `sgd` also has momentum (0) and nesterov (false);
            `adam` (Kingma & Ba 2015) betas (0.9, 0.999) and eps (1e-8); `rmsprop` (Tieleman &
            Hinton 2012) alpha (0.9) and eps (1e-7), as in Keras.
        key: key of the entry in the configuration, for messages.

    Raises:
        BadInput: an unknown optimiser or setting.
    """

    def __init__(self, model: nn.Module, settings: dict, key: str):
        check_optimiser(key, settings)
        self._settings = settings
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._decayed = _decayed(model, settings, key)
        moment_names = {"sgd": ("velocity",), "adam": ("mean", "square"), "rmsprop": ("square",)}
        self._moments = {
            name: [torch.zeros_like(p) for p in self._parameters]
            for name in moment_names[settings["name"]]
        }
        self._moments["steps"] = [torch.zeros(()) for _ in self._parameters]

    def zero_grad(self) -> None:
        """Set all gradients to None."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Update every parameter that has a gradient; others keep their value and moments."""
        update = getattr(self, f"_{self._settings['name']}")
        for decayed in (True, False):
            indices = [
                i
                for i, parameter in enumerate(self._parameters)
                if parameter.grad is not None and self._decayed[i] == decayed
            ]
            if indices:
                parameters = [self._parameters[i] for i in indices]
                moments = {
                    name: [tensors[i] for i in indices] for name, tensors in self._moments.items()
                }
                decay = self._settings.get("weight_decay", 0.0) if decayed else 0.0
                update(parameters, [p.grad for p in parameters], moments, lr, decay)

    def state_dict(self) -> dict:
        """The moments and step counts: lists of tensors by name."""
        return self._moments

    def load_state_dict(self, state: dict) -> None:
        """Restore `state_dict()`; tensors are moved to the device of their parameter."""
        self._moments = {
            name: [
                tensor if name == "steps" else tensor.to(parameter.device)
                for tensor, parameter in zip(tensors, self._parameters, strict=True)
            ]
            for name, tensors in state.items()
        }

    def _sgd(self, parameters, gradients, moments, lr: float, decay: float) -> None:
        sgd(
            parameters,
            gradients,
            moments["velocity"],
            foreach=True,
            weight_decay=decay,
            momentum=self._settings.get("momentum", 0.0),
            lr=lr,
            dampening=0.0,
            nesterov=self._settings.get("nesterov", False),
            maximize=False,
        )

    def _adam(self, parameters, gradients, moments, lr: float, decay: float) -> None:
        beta1, beta2 = self._settings.get("betas", (0.9, 0.999))
        adam(
            parameters,
            gradients,
            moments["mean"],
            moments["square"],
            [],
            moments["steps"],
            foreach=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=lr,
            weight_decay=decay,
            eps=self._settings.get("eps", 1e-8),
            maximize=False,
        )

    def _rmsprop(self, parameters, gradients, moments, lr: float, decay: float) -> None:
        rmsprop(
            parameters,
            gradients,
            moments["square"],
            [],
            [],
            moments["steps"],
            foreach=True,
            lr=lr,
            alpha=self._settings.get("alpha", 0.9),
            eps=self._settings.get("eps", 1e-7),
            weight_decay=decay,
            momentum=0.0,
            centered=False,
        )


def learning_rate(loop: dict, epoch: int, iteration: int) -> float:
    """The learning rate of an epoch and iteration, both counted from 0.

    `loop` has `optimiser` (lr, decay) and optionally `schedule: {epochs: lr}`.
    """
    settings = loop["optimiser"]
    lr = settings["lr"]
    schedule = {int(start): value for start, value in loop.get("schedule", {}).items()}
    for start in sorted(schedule):
        if epoch >= start:
            lr = schedule[start]
    return lr / (1 + settings.get("decay", 0.0) * iteration)


def _decayed(model: nn.Module, settings: dict, key: str) -> list[bool]:
    """Whether weight decay applies, for each trainable parameter."""
    decays = settings.get("weight_decay_on", "all")
    if decays not in ("all", "convolutions"):
        raise BadInput(f"{key}.weight_decay_on: must be all or convolutions, got {decays!r}")
    kernels = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    }
    return [decays == "all" or id(p) in kernels for p in model.parameters() if p.requires_grad]
