"""Layers and sizes of networks, for tables."""

from torch import nn

from advdenoise.inference.normalise import Normalise

_NAMES = {"ConvTranspose2d": "DeConv2d", "ReLU": "Relu"}  # as in Kalaria et al. 2022, Table 1


def layers(network: nn.Module) -> list[dict]:
    """Convolutions and dense layers in the order of their definition, for a table.

    Of each its name with those of the norms and activations that follow it, kernel, stride, padding
    (None of a dense layer), filters, and parameters with those of the norms.
    """
    described: list[dict] = []
    for module in network.modules():
        if next(module.children(), None) is not None or isinstance(module, Normalise):
            continue
        name = type(module).__name__
        count = sum(parameter.numel() for parameter in module.parameters())
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            convolves = not isinstance(module, nn.Linear)
            sizes = [
                getattr(module, size)[0] if convolves else None
                for size in ("kernel_size", "stride", "padding")
            ]
            filters = module.out_channels if convolves else module.out_features
            values = (_NAMES.get(name, name), *sizes, filters, count)
            keys = ("layer", "kernel", "stride", "padding", "filters", "parameters")
            described.append(dict(zip(keys, values, strict=True)))
        elif described:
            described[-1]["layer"] += f"+{_NAMES.get(name, name)}"
            described[-1]["parameters"] += count
    return described


def capacity(network: nn.Module) -> dict:
    """The sizes of a network.

    `parameters`, `statistics` (running means and variances), `layers` (convolutions and dense
    ones) and `modules` (all that have no parts, without the normalisation of the images).
    """
    leaves = [module for module in network.modules() if next(module.children(), None) is None]
    norms = [module for module in leaves if isinstance(module, nn.modules.batchnorm._NormBase)]
    running = [norm for norm in norms if norm.running_mean is not None]
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "statistics": sum(2 * norm.running_mean.numel() for norm in running),
        "layers": len(layers(network)),
        "modules": sum(not isinstance(module, Normalise) for module in leaves),
    }
