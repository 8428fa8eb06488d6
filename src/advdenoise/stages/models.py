"""Trained networks as the jobs use them: frozen, in eval mode, on the device at hand."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from advdenoise.calls import call_with, injected_parameters
from advdenoise.errors import BadInput, DamagedFile, remedy, short
from advdenoise.graph.components import without_first_weights
from advdenoise.graph.sections.networks import conversion
from advdenoise.graph.sources import is_own, load
from advdenoise.inference.adapters import AdaptedClassifier, AdaptedDenoiser, input_shape
from advdenoise.inference.elu import use_fast_elu
from advdenoise.io.contents import check_value
from advdenoise.io.json_files import read_json
from advdenoise.io.weights import read_weights
from advdenoise.noise import Noise
from advdenoise.ops.devices import device
from advdenoise.stages.data import Batch, ImageSet
from advdenoise.stages.repeats import FEW, check_network, check_purifier

Images = Callable[[Tensor], Tensor]


def build(kind: str, entry: dict, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A new network of a classifier's or denoiser's entry for images of this shape.

    It takes images in [0,1] and gives logits, or images: see `adapters` for networks that do
    otherwise. Its ELUs are the fast ones, which can be differentiated once. Raises BadInput where
    the function cannot build it for these images, and for a classifier whose outputs are not one
    number for each class, of an image or of each pixel.
    """
    converted = conversion(entry)
    network = _network(kind, entry, input_shape(shape, **converted), classes)
    if not isinstance(network, nn.Module):
        raise BadInput(
            f"{_key(kind, entry)}: {entry['function']} gives a {type(network).__name__}; a "
            "function here builds a network, an nn.Module"
        )
    network = use_fast_elu(network)
    if (converted or is_own(entry["function"])) and not hasattr(network, "codes"):
        try:
            network = _ADAPTERS[kind](network, shape, **converted)
        except BadInput as mistake:
            raise BadInput(f"{_key(kind, entry)}.{mistake}") from None
    if kind == "classifiers":
        _check_outputs(network, entry, shape, classes)
    return network


_ADAPTERS = {"classifiers": AdaptedClassifier, "denoisers": AdaptedDenoiser}


def _key(kind: str, entry: dict) -> str:
    return f"{kind}.{entry['name']}" if "name" in entry else kind


def _network(kind: str, entry: dict, shape: tuple[int, int, int], classes: int):
    """What the function gives; what it refuses, and PyTorch's failures, name the entry."""
    key = f"{kind}.{entry['name']}: " if "name" in entry else ""
    try:
        return call_with(load(kind, entry), shape=shape, classes=classes)
    except BadInput as mistake:
        raise type(mistake)(f"{key}{mistake}") from mistake
    except (RuntimeError, ValueError, ArithmeticError, MemoryError) as error:
        raise BadInput(
            f"{key}{entry['function']} cannot be built for images of {'x'.join(map(str, shape))} "
            f"and {classes} classes ({short(error)}); change its settings or choose another for "
            "this data set"
        ) from error


def load_network(kind: str, path: Path, entry: dict, images: ImageSet) -> nn.Module:
    """A network with its stored weights.

    Raises BadInput where weights and network do not fit, DamagedFile where the file is damaged or
    holds weights that are not finite.
    """
    network = build(kind, without_first_weights(kind, entry), images.shape, len(images.classes))
    tensors, _ = read_weights(path)
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise DamagedFile(f"{path}: the weights {name} are not finite numbers; {remedy(path)}")
    try:
        network.load_state_dict(tensors)
    except RuntimeError:
        raise BadInput(
            f"{path} holds weights of another network than {kind}.{entry['name']}; {remedy(path)}"
        ) from None
    return network


def load_frozen(kind: str, path: Path, entry: dict, images: ImageSet) -> nn.Module:
    """As `load_network`, but frozen, in eval mode and channels-last.

    Raises BadInput where it gives the set's first images two outputs each.
    """
    network = load_network(kind, path, entry, images)
    network.eval().requires_grad_(False)
    network.to(device(), memory_format=torch.channels_last)
    if not hasattr(network, "code_shape"):  # a generator takes no images
        check_network(f"{kind}.{entry['name']}", network, _first_images(images).images)
    return network


def _first_images(images: ImageSet) -> Batch:
    return images.batch(slice(0, min(FEW, len(images))), device())


def _check_outputs(
    network: nn.Module, entry: dict, shape: tuple[int, int, int], classes: int
) -> None:
    """One black image through a classifier in eval mode; nothing that is random is drawn."""
    key = _key("classifiers", entry)
    words = "x".join(map(str, shape))
    modes = {module: module.training for module in network.modules()}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            outputs = network.eval()(torch.zeros(1, *shape))
    except RuntimeError as failure:
        raise BadInput(
            f"{key}: {entry['function']} does not take images of {_given(entry, shape)} "
            f"({failure}); choose another function or size"
        ) from None
    finally:
        for module, mode in modes.items():
            module.training = mode
    if not isinstance(outputs, Tensor):
        raise BadInput(
            f"{key}: {entry['function']} gives a {type(outputs).__name__}; a classifier gives one "
            "tensor, the logits"
        )
    if tuple(outputs.shape) not in ((1, classes), (1, classes, *shape[1:])):
        raise BadInput(
            f"{key}: {entry['function']} gives outputs of {'x'.join(map(str, outputs.shape))} for "
            f"an image of {words}, but there are {classes} classes; a classifier gives a logit for "
            f"each class, 1x{classes}, and a segmenter one for each class and pixel"
        )
    _check_probabilities(key, outputs, entry)


def _given(entry: dict, shape: tuple[int, int, int]) -> str:
    """The shape of what a network is given for images of `shape`."""
    return "x".join(map(str, input_shape(shape, **conversion(entry))))


def _check_probabilities(key: str, logits: Tensor, entry: dict) -> None:
    """Whether an entry says rightly that its network gives probabilities, or logits."""
    total = float(logits.exp().sum(1).mean())
    if entry.get("outputs") == "probabilities":
        if abs(total - 1) > 1e-3:
            raise BadInput(
                f"{key}.outputs: {entry['function']} gives values for a black image that add up to "
                f"{total:.4g}, and so no probabilities; take `outputs` out"
            )
    elif is_own(entry["function"]) and _are_probabilities(logits):
        raise BadInput(
            f"{key}: {entry['function']} gives probabilities for a black image, no logits; add "
            "`outputs: probabilities`"
        )


def _are_probabilities(values: Tensor) -> bool:
    total = values.sum(1)
    return bool((values >= 0).all() and torch.allclose(total, torch.ones_like(total), atol=1e-5))


@dataclass(frozen=True)
class Denoiser:
    """A trained denoiser with its reconstruction error and, where asked for, its calibration.

    Of a generator, which makes images of codes, `generate` is the network; it reconstructs none.
    """

    denoise: Images
    calibration: dict | None = None
    generate: nn.Module | None = None

    @property
    def reconstructs(self) -> bool:
        return self.generate is None

    @property
    def network(self) -> nn.Module:
        return self.denoise if self.generate is None else self.generate

    def error(self, images: Tensor) -> Tensor:
        """Sum over all elements of (X - A(X))^2 for each image: [N].

        Source: Kalaria et al. 2022, equation 7.
        """
        return (images - self.denoise(images)).square().flatten(1).sum(1)

    def injected(self) -> dict:
        """What components are handed of it, by name."""
        return {
            "denoise": self.denoise,
            "error": self.error,
            "calibration": self.calibration,
            "generate": self.generate,
        }


def denoiser(
    path: Path | None, calibration: Path | None, entry: dict | None, images: ImageSet
) -> Denoiser | None:
    """The denoiser of a purifier; None where it uses none.

    Raises BadInput where it gives back another shape than that of the images.
    """
    if path is None or entry is None:
        return None
    value = check_value(calibration, read_json(calibration)) if calibration else None
    network = load_frozen("denoisers", path, entry, images)
    if hasattr(network, "code_shape"):
        return Denoiser(_no_denoiser(entry), generate=network)
    _check_shape(network, entry, images.shape)
    return Denoiser(network, value)


def _no_denoiser(entry: dict) -> Images:
    """In the place of a denoiser, where there is a generator."""

    def refuse(images: Tensor) -> Tensor:
        raise BadInput(
            f"denoisers.{entry['name']}: {entry['function']} makes images of codes and denoises "
            "none; it serves `gan.defense_gan`, and others need an autoencoder"
        )

    return refuse


def _check_shape(network: nn.Module, entry: dict, shape: tuple[int, int, int]) -> None:
    """One black image: a difference of another shape may be broadcast without an error."""
    words = "x".join(map(str, shape))
    try:
        with torch.no_grad():
            returned = tuple(network(torch.zeros(1, *shape, device=device())).shape[1:])
    except RuntimeError as failure:
        raise BadInput(
            f"denoisers.{entry['name']}: {entry['function']} does not take images of "
            f"{_given(entry, shape)} ({failure}); choose another function or size"
        ) from None
    if returned != shape:
        raise BadInput(
            f"denoisers.{entry['name']}: {entry['function']} turns images of {words} into "
            f"{'x'.join(map(str, returned))}; a denoiser gives back the shape it takes"
        )


def purifier(point: dict, denoiser: Denoiser | None) -> Callable[[Tensor, Noise], Tensor]:
    """One point of a purifier's entry as `purify(images, noise)`."""
    function = load("purifiers", point)
    injected = denoiser.injected() if denoiser else {}

    def purify(images: Tensor, noise: Noise) -> Tensor:
        return call_with(function, images=images, noise=noise, **injected)

    return purify


def purifiers(
    entry: dict, denoiser: Denoiser | None, images: ImageSet, seed: int
) -> dict[str, Callable[[Tensor, Noise], Tensor]]:
    """Every point of a purifier's entry, tried on the set's first images.

    Raises BadInput for one that gives two results for one image and one noise, or another shape.
    """
    functions = {}
    for name, point in entry["points"].items():
        key = f"purifiers.{entry['name']}" + (f".points.{name}" if len(entry["points"]) > 1 else "")
        functions[name] = purifier(point, denoiser)
        check_purifier(f"{key}: {point['function']}", functions[name], _first_images(images), seed)
    return functions


def draws_noise(point: dict) -> bool:
    """Whether a purifier's point is handed `noise`: another is the same at every draw."""
    return "noise" in injected_parameters(load("purifiers", point))
