"""Trained networks as the jobs use them: frozen, in eval mode, on the device at hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from advdenoise.calls import call_with, injected_parameters
from advdenoise.errors import BadInput, DamagedFile, remedy, short
from advdenoise.graph.components import without_first_weights
from advdenoise.graph.sources import load
from advdenoise.inference.elu import use_fast_elu
from advdenoise.inference.fold import fold
from advdenoise.inference.normalise import Normalise
from advdenoise.io.contents import check_value
from advdenoise.io.json_files import read_json
from advdenoise.io.weights import read_weights
from advdenoise.noise import Noise
from advdenoise.ops.devices import device
from advdenoise.outputs import finite_rows
from advdenoise.stages.data import Batch, ImageSet
from advdenoise.stages.repeats import FEW, check_network, check_purifier

Images = Callable[[Tensor], Tensor]


def build(kind: str, entry: dict, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A new network of a classifier's or denoiser's entry for images of this shape.

    Its ELUs are the fast ones, which can be differentiated once. Raises BadInput where the function
    cannot build it for these images, and for a classifier whose outputs are not one number for each
    class, of an image or of each pixel.
    """
    network = use_fast_elu(_network(kind, entry, shape, classes))
    if kind == "classifiers":
        _check_outputs(network, entry, shape, classes)
    return network


def _network(kind: str, entry: dict, shape: tuple[int, int, int], classes: int) -> nn.Module:
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


def started(kind: str, path: Path, entry: dict, images: ImageSet) -> nn.Module:
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


def trained(kind: str, path: Path, entry: dict, images: ImageSet) -> nn.Module:
    """As `started`, but frozen, in eval mode and channels-last.

    Raises BadInput where it gives the set's first images two outputs each.
    """
    network = started(kind, path, entry, images)
    network.eval().requires_grad_(False)
    network.to(device(), memory_format=torch.channels_last)
    if not hasattr(network, "code_shape"):  # a generator takes no images
        check_network(f"{kind}.{entry['name']}", network, _first(images).images)
    return network


def _first(images: ImageSet) -> Batch:
    return images.batch(slice(0, min(FEW, len(images))), device())


def _check_outputs(
    network: nn.Module, entry: dict, shape: tuple[int, int, int], classes: int
) -> None:
    """One black image through a classifier in eval mode; nothing that is random is drawn."""
    key = f"classifiers.{entry['name']}" if "name" in entry else "classifiers"
    words = "x".join(map(str, shape))
    modes = {module: module.training for module in network.modules()}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            outputs = network.eval()(torch.zeros(1, *shape))
    except RuntimeError as failure:
        raise BadInput(
            f"{key}: {entry['function']} does not take images of {words} ({failure}); choose "
            "another function or size"
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


def classifier(path: Path, entry: dict, images: ImageSet) -> nn.Module:
    """A trained classifier, folded for inference: equal outputs up to rounding, faster."""
    return fold(trained("classifiers", path, entry, images))


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
        """Sum over all elements of (X - A(X))^2 for each image: [N] (APuDAE, equation 7)."""
        return (images - self.denoise(images)).square().flatten(1).sum(1)

    def offers(self) -> dict:
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
    if path is None:
        return None
    value = check_value(calibration, read_json(calibration)) if calibration else None
    network = trained("denoisers", path, entry, images)
    if hasattr(network, "code_shape"):
        return Denoiser(_refuses(entry), generate=network)
    _check_shape(network, entry, images.shape)
    return Denoiser(network, value)


def _refuses(entry: dict) -> Images:
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
            given_back = tuple(network(torch.zeros(1, *shape, device=device())).shape[1:])
    except RuntimeError as failure:
        raise BadInput(
            f"denoisers.{entry['name']}: {entry['function']} does not take images of {words} "
            f"({failure}); choose another function"
        ) from None
    if given_back != shape:
        raise BadInput(
            f"denoisers.{entry['name']}: {entry['function']} turns images of {words} into "
            f"{'x'.join(map(str, given_back))}; a denoiser gives back the shape it takes"
        )


_NAMES = {"ConvTranspose2d": "DeConv2d", "ReLU": "Relu"}  # in APuDAE's Table 1


def layers(network: nn.Module) -> list[dict]:
    """Convolutions and dense layers in the order of their definition, for a table.

    Of each its name with those of the norms and activations that follow it, kernel, stride, padding
    (None of a dense layer), filters, and parameters with those of the norms.
    """
    found: list[dict] = []
    for module in network.modules():
        if next(module.children(), None) is not None:
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
            found.append(dict(zip(keys, values, strict=True)))
        elif found:
            found[-1]["layer"] += f"+{_NAMES.get(name, name)}"
            found[-1]["parameters"] += count
    return found


def capacity(network: nn.Module) -> dict:
    """What a table says of a network's size.

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


def purifier(point: dict, using: Denoiser | None) -> Callable[[Tensor, Noise], Tensor]:
    """One point of a purifier's entry as `purify(images, noise)`."""
    function = load("purifiers", point)
    offers = using.offers() if using else {}

    def purify(images: Tensor, noise: Noise) -> Tensor:
        return call_with(function, images=images, noise=noise, **offers)

    return purify


def purifiers(
    entry: dict, using: Denoiser | None, images: ImageSet, seed: int
) -> dict[str, Callable[[Tensor, Noise], Tensor]]:
    """Every point of a purifier's entry, tried on the set's first images.

    Raises BadInput for one that gives two results for one image and one noise, or another shape.
    """
    found = {}
    for name, point in entry["points"].items():
        key = f"purifiers.{entry['name']}" + (f".points.{name}" if len(entry["points"]) > 1 else "")
        found[name] = purifier(point, using)
        check_purifier(f"{key}: {point['function']}", found[name], _first(images), seed)
    return found


def draws_noise(point: dict) -> bool:
    """Whether a purifier's point is handed `noise`: another is the same at every draw."""
    return "noise" in injected_parameters(load("purifiers", point))


class Behind:
    """A network behind a purifier, for the images of one batch: images -> outputs, over all draws.

    `ask` gives outputs of images with the noise of one draw. What it draws goes on from call to
    call, image by image: no two calls draw alike, and which rows are asked together changes
    nothing.
    """

    def __init__(self, ask: Callable[[Tensor, Noise], Tensor], noises: Sequence[Noise]):
        self._ask, self._noises = ask, noises

    def __call__(self, images: Tensor) -> Tensor:
        outputs = [self._ask(images, noise) for noise in self._noises]
        mean = sum(outputs) / len(outputs)
        if len(outputs) == 1 or bool(mean.isfinite().all()):
            return mean
        # Where a draw leaves no finite output the mean is that of the others, NaN where none does.
        finite = [finite_rows(some).view(-1, *[1] * (some.ndim - 1)) for some in outputs]
        pairs = zip(outputs, finite, strict=True)
        return sum(some.where(is_finite, 0) for some, is_finite in pairs) / sum(finite)

    def take(self, rows: Tensor) -> "Behind":
        """The same for some rows of the batch, which share these streams."""
        return Behind(self._ask, [noise.take(rows) for noise in self._noises])

    @property
    def per_draw(self) -> list["Behind"]:
        """Itself for each draw alone."""
        return [Behind(self._ask, [noise]) for noise in self._noises]


def behind(
    purify: Callable[[Tensor, Noise], Tensor],
    predict: Images,
    through: str,
    using: Denoiser | None,
    *noises: Noise,
) -> Images:
    """`predict` behind a purifier, with the gradient that an attacker who knows it takes.

    `through` full differentiates the purifier, identity passes the gradient by it (BPDA with
    identity, Athalye et al. 2018), denoiser puts the denoiser in its place (APuDAE, counter
    attack A). `noises` are the purifier's, one for each draw (expectation over transformation).
    """

    def full(images: Tensor, noise: Noise) -> Tensor:
        return predict(purify(images, noise))

    def identity(images: Tensor, noise: Noise) -> Tensor:
        with torch.no_grad():
            purified = purify(images, noise)
        return predict(images + (purified - images).detach())

    if through == "denoiser":
        if using is None:
            raise BadInput("through: the purifier uses no denoiser; take `through: full`")
        return lambda images: predict(using.denoise(images))
    return Behind(identity if through == "identity" else full, noises)


def probabilities(predict: Images) -> Images:
    """Softmax outputs in the place of logits."""
    return lambda images: predict(images).softmax(1)


def check_frozen(*networks: nn.Module | None) -> None:
    """Attacks and evaluation need eval mode and frozen weights; a caller's mistake otherwise."""
    for network in filter(None, networks):
        if any(module.training for module in network.modules()):
            raise RuntimeError("a network under attack is in training mode")
        if any(weight.requires_grad for weight in network.parameters()):
            raise RuntimeError("a network under attack has weights that ask for a gradient")
