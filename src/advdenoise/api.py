"""What notebooks and scripts use: attacks, purifiers, features and detectors on your own networks.

An object here is what an entry is in a configuration, a function and its settings: `function` is
its name there (`gradient.pgd`, `package.module:name`, `file.py:name`) or a function itself, and
what follows by name are its settings. `python -m advdenoise list` prints them all. The work is done
by what the jobs of the workflow call, so equal settings give equal results.

A model is a network from images float32 [N,C,H,W] in [0,1] to logits [N,classes], for masks
[N,classes,H,W]; `Classifier` and `Denoiser` make one of a network that takes or gives something
else. Networks are copied, frozen and put into eval mode; yours stay as they are. They
compute where their weights are, and results come back to the device of the images. Images are
numbered by their place, and what is random belongs to seed and number alone, so results do not
depend on `batch`, the number of images that are computed at once.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from advdenoise.attributions._loo import representations
from advdenoise.calls import call_with, injected_parameters, required_parameters
from advdenoise.datasets._source import IGNORED
from advdenoise.errors import BadInput, suggest
from advdenoise.graph import components, sources
from advdenoise.graph.components import OF_DENOISERS
from advdenoise.graph.sections.common import KINDS
from advdenoise.inference.adapters import AdaptedClassifier as Classifier  # noqa: F401
from advdenoise.inference.adapters import AdaptedDenoiser as Denoiser  # noqa: F401
from advdenoise.inference.fold import fold
from advdenoise.noise import Noise
from advdenoise.outputs import predicted
from advdenoise.stages import models
from advdenoise.stages.attack import AttackRun, image_epsilons
from advdenoise.stages.calibrate import calibration_of
from advdenoise.stages.data import Batch
from advdenoise.stages.evaluate import finite_logits
from advdenoise.stages.leave_one_out import hidden_nodes, leave_one_out_of, segments
from advdenoise.stages.repeats import FEW, check_network, check_purifier

Purify = Callable[[Tensor, Noise], Tensor]
Model: TypeAlias = nn.Module | Callable[[Tensor], Tensor]


def list_functions(kind: str) -> tuple[str, ...]:
    """The names of the library's functions of a kind, such as "attacks"; BadInput for another."""
    if kind not in KINDS:
        raise BadInput(f"list_functions: {kind!r} is not a kind; {suggest(kind, KINDS)}")
    return sources.functions(kind)


class _Entry:
    """A function of a kind with its settings; BadInput for an unknown function or setting."""

    kind: str

    def __init__(self, function: str | Callable, settings: dict[str, Any]):
        self.name = _name(self.kind, function)
        self.function = self.name if isinstance(function, str) else function
        self.settings = settings
        if isinstance(self.function, str):
            components.check(self.kind, type(self).__name__, self._point)

    @property
    def _point(self) -> dict:
        return {"function": self.function, "settings": self.settings}

    def __repr__(self) -> str:
        settings = "".join(f", {name}={value!r}" for name, value in self.settings.items())
        return f"{type(self).__name__}({self.name!r}{settings})"


def _name(kind: str, function: str | Callable) -> str:
    if isinstance(function, str):
        return function
    return getattr(function, "__name__", type(function).__name__)


class Adversarial(NamedTuple):
    """The result of an attack.

    `images` float32 [N,C,H,W] in [0,1] are the adversarial images, `perturbations` their
    differences from the original ones. `success` is bool [N]: whether the model
    errs on the adversarial image, behind the purifier where there is one.
    """

    images: Tensor
    perturbations: Tensor
    success: Tensor


class Attack(_Entry):
    """An attack: `Attack("gradient.pgd", epsilon=8/255, alpha=2/255, steps=10)`.

    Args:
        function: its name, or a function that returns perturbations; see `attacks.gradient` for
            what it may be handed.
        labels: what the attack works with, "ground_truth", "predicted" (by the model),
            "random_target" (a random wrong class), or {"target": class} for one class.
        output: what the loss sees, "logits" or "probabilities".
        through: the gradient through a known purifier, "full", "identity" (BPDA) or "denoiser"
            (the denoiser in the purifier's place).
        draws: draws of a known purifier's noise that a gradient is the mean of.
        settings: of the function, such as `epsilon`, in pixels of [0,1].
    """

    kind = "attacks"

    def __init__(
        self,
        function: str | Callable,
        *,
        labels: str | dict = "ground_truth",
        output: str = "logits",
        through: str = "full",
        draws: int = 1,
        **settings,
    ):
        super().__init__(function, settings)
        if not isinstance(labels, dict):
            _check_word("labels", labels, ("ground_truth", "predicted", "random_target"))
        _check_word("output", output, ("logits", "probabilities"))
        _check_word("through", through, ("full", "identity", "denoiser"))
        self._options = {"labels": labels, "output": output, "through": through, "draws": draws}

    def __call__(
        self,
        model: Model,
        images: Tensor,
        labels: Tensor,
        *,
        surrogate: Model | None = None,
        purifier: "Purifier | None" = None,
        seed: int = 0,
        batch: int = 128,
    ) -> Adversarial:
        """Attack a model at images [N,C,H,W] with labels int64 [N], of pixels [N,H,W].

        Args:
            model: the network to be fooled.
            surrogate: the network that gives the gradient; the model by default.
            purifier: one before the model, which makes the attack adaptive.
            seed: of what is random.
            batch: images that are computed at once.

        Raises:
            BadInput: for images outside of [0,1], a network that is random in eval mode, and
                settings that do not fit together.
        """
        whole, device = _images(images), _device(model, images)
        victim = _victim(model, whole, device)
        source = _victim(surrogate, whole, device) if surrogate else victim
        known = purifier.denoiser_on(device) if purifier else None
        labels, source_of_labels = _labels(labels, whole), self._options["labels"]
        goal = source_of_labels["target"] if isinstance(source_of_labels, dict) else None
        _check_classes(victim, whole[:1].to(device), labels if goal is None else [goal])
        settings = {
            "threat": self.name,
            "attack": {"name": self.name, **self._options},
            "purifier": purifier and purifier.entry,
            "seed": seed,
        }
        self._check_needs(purifier)
        attack_run = AttackRun(settings, victim, source, known, goal)
        epsilons = image_epsilons(self._point, len(whole))
        parts = [
            attack_run(self._point, some, epsilons[some.rows])
            for some in _batches(whole, labels, batch, device)
        ]
        perturbations, success = map(torch.cat, zip(*parts, strict=True))
        perturbations = perturbations.to(whole.device)
        return Adversarial(whole + perturbations, perturbations, success.to(whole.device))

    def _check_needs(self, purifier: "Purifier | None") -> None:
        """BadInput where the attack uses a denoiser and the purifier has none."""
        needed = {*required_parameters(sources.load(self.kind, self._point))} & OF_DENOISERS
        if needed and purifier and purifier._denoiser is None:
            raise BadInput(f"{self!r}: needs a purifier with a denoiser; {purifier!r} has none")


class Purifier(_Entry):
    """A purifier: `Purifier("basic.direct", autoencoder)` maps images to purified ones.

    Args:
        function: its name, or a function of images and, if it lists them, `denoise`, `error`,
            `calibration` and `noise`.
        denoiser: the network that it uses, from images in [0,1] to the same shape, or a generator
            such as `denoisers.gan.wgan` gives.
        calibration: mean and standard deviation of the denoiser's reconstruction error on clean
            images, {"mean": ..., "deviation": ...}; `calibrate` measures them.
        settings: of the function.
    """

    kind = "purifiers"

    def __init__(
        self,
        function: str | Callable,
        denoiser: nn.Module | None = None,
        *,
        calibration: dict | None = None,
        **settings,
    ):
        super().__init__(function, settings)
        self.calibration = calibration
        self._denoiser = None if denoiser is None else _frozen(denoiser)
        needed = {*required_parameters(sources.load(self.kind, self._point))} & OF_DENOISERS
        if needed and denoiser is None:
            raise BadInput(f"{self!r}: needs a denoiser; write {type(self).__name__}(..., network)")

    @property
    def entry(self) -> dict:
        """This purifier as an entry of a configuration with one point."""
        return {"name": self.name, "points": {"default": self._point}}

    def calibrate(self, images: Tensor, batch: int = 128) -> "Purifier":
        """Measure the reconstruction error on held-out clean images [N,C,H,W]; returns itself."""
        whole, device = _images(images), _device(self._denoiser, images)
        known = self.denoiser_on(device)
        if known is None or not known.reconstructs:
            raise BadInput(f"{self!r}: has no denoiser of images, so there is nothing to calibrate")
        self.calibration = calibration_of(repr(self), known, _batches(whole, None, batch, device))
        return self

    def __call__(self, images: Tensor, *, seed: int = 0, draw: int = 0, batch: int = 128) -> Tensor:
        """Purified images [N,C,H,W] in [0,1]; of one that is random, the result of one draw."""
        whole, device = _images(images), _device(self._denoiser, images)
        purify = self._checked(whole, device, seed)
        parts = [
            _purified(purify, some, self.name, seed, draw)
            for some in _batches(whole, None, batch, device)
        ]
        return torch.cat(parts).to(whole.device)

    def denoiser_on(self, device: torch.device) -> models.Denoiser | None:
        """The denoiser as components are handed it; None where there is none."""
        network = self._denoiser
        if network is None:
            return None
        network.to(device)
        if hasattr(network, "codes"):
            return models.Denoiser(network, generate=network)
        return models.Denoiser(network, self.calibration)

    def _checked(self, images: Tensor, device: torch.device, seed: int) -> Purify:
        purify = models.purifier(self._point, self.denoiser_on(device))
        few = next(_batches(images[:FEW], None, FEW, device))
        check_purifier(repr(self), purify, few, seed)
        return purify


def predict(
    model: Model,
    images: Tensor,
    *,
    purifier: Purifier | None = None,
    seed: int = 0,
    draw: int = 0,
    batch: int = 128,
) -> Tensor:
    """The classes that a model predicts for images, behind a purifier if there is one.

    int64 [N], of dense predictions [N,H,W]; -1 where outputs are not finite.
    """
    whole, device = _images(images), _device(model, images)
    network = _victim(model, whole, device)
    purify = purifier._checked(whole, device, seed) if purifier else None
    parts = []
    for some in _batches(whole, None, batch, device):
        inputs = some.images
        if purifier and purify:
            inputs = _purified(purify, some, purifier.name, seed, draw)
        with torch.no_grad():
            parts.append(predicted(finite_logits(network, inputs)))
    return torch.cat(parts).to(whole.device)


class LeaveOneOut(_Entry):
    """Interquartile ranges of leave-one-out attributions, features that tell adversarial images.

    `LeaveOneOut("superpixels.slic", n_segments=50)(model, images)`: each segment of an image is
    masked once, and the spread of the changes of an output over the segments is a feature.

    Args:
        function: the segments, such as "superpixels.pixels" or a function of an image [H,W,C].
        masking: value of masked pixels in [0,1], or "image_mean".
        quantile: "linear" or "inverted_cdf".
        channels: "together", or "apart" for a mask of each channel by itself.
        rounding: "none", or "float32" to round probabilities before they are subtracted.
        layers: names of modules of the model whose units are drawn as hidden nodes.
        per_layer: units that are drawn from each layer.
        settings: of the function.
    """

    kind = "attributions"

    def __init__(
        self,
        function: str | Callable,
        *,
        masking: float | str = 0.0,
        quantile: str = "linear",
        channels: str = "together",
        rounding: str = "none",
        layers: Sequence[str] = (),
        per_layer: int = 200,
        **settings,
    ):
        super().__init__(function, settings)
        _check_word("channels", channels, ("together", "apart"))
        _check_word("rounding", rounding, ("none", "float32"))
        self._masking, self._quantile = masking, quantile
        self._apart, self._rounding = channels == "apart", rounding
        self._layers, self._per_layer = list(layers), per_layer

    def __call__(
        self, model: nn.Module, images: Tensor, *, seed: int = 0, batch: int = 128
    ) -> dict[str, np.ndarray]:
        """Feature vectors of images [N,C,H,W], float32, by representation.

        `predicted` [N,1] belongs to the probability of the predicted class, `probabilities`
        [N,classes] to those of all, `hidden` [N,D], where there are `layers`, to the drawn nodes
        and the probabilities. `seed` is that of the drawn nodes.
        """
        whole, device = _images(images), _device(model, images)
        network = _frozen(model).to(device)
        first = next(_batches(whole[:1], None, 1, device)).images
        settings = {
            "attribution": {"rounding": self._rounding},
            "batch": batch,
            "classifier": {"name": type(model).__name__},
            "per_layer": self._per_layer,
            "seed": seed,
            "taps": self._layers,
        }
        nodes = hidden_nodes(settings, network, first)
        leave_one_out = leave_one_out_of(settings, network, nodes, first)
        parts = []
        for some in _batches(whole, None, batch, device):
            labels = segments(self._point, network, some.images)
            features = leave_one_out.features(
                some.images, labels, self._masking, self._quantile, self._apart
            )
            parts.append(representations(*features))
        names = [name for name in parts[0] if name != "hidden" or self._layers]
        return {name: torch.cat([part[name] for part in parts]).float().numpy() for name in names}


class Detector(_Entry):
    """A binary classifier of feature vectors, of which a higher score means more adversarial.

    `Detector("trees.random_forest").fit(features, is_adversarial).score(others)`.

    Args:
        function: its name, or a function that builds an object with `fit` and `score`.
        seed: of what is random.
        threads: of the training.
        settings: of the function.
    """

    kind = "detectors"

    def __init__(self, function: str | Callable, *, seed: int = 0, threads: int = 1, **settings):
        super().__init__(function, settings)
        self._seed, self._threads = seed, threads

    def fit(self, features, is_adversarial, groups=None) -> "Detector":
        """Learn from features [N,D] and whether each row is adversarial, bool [N]; returns itself.

        `groups` [N] are kept together where the detector divides the rows once more.
        """
        function = sources.load(self.kind, self._point)
        self._fitted = call_with(function, seed=self._seed, threads=self._threads)
        together = "groups" in injected_parameters(self._fitted.fit) and groups is not None
        more = {"groups": np.asarray(groups)} if together else {}
        self._fitted.fit(_features(features), np.asarray(is_adversarial, bool), **more)
        return self

    def score(self, features) -> np.ndarray:
        """Scores of features [N,D]: float32 [N], higher where more adversarial."""
        if not hasattr(self, "_fitted"):
            raise BadInput(f"{self!r}: is not fitted; call fit(features, is_adversarial) first")
        return np.asarray(self._fitted.score(_features(features)), dtype=np.float32)


def _features(features) -> np.ndarray:
    return np.ascontiguousarray(features, dtype=np.float32)


def _check_word(name: str, word: str, words: tuple[str, ...]) -> None:
    if word not in words:
        raise BadInput(f"{name}: {word!r} is not possible; {suggest(word, words)}")


def _images(images: Tensor) -> Tensor:
    """The images as float32 [N,C,H,W]; BadInput where they are not images in [0,1]."""
    images = torch.as_tensor(images).detach()
    if images.ndim != 4 or not len(images) or not images.is_floating_point():
        raise BadInput(
            f"images: must be float [N,C,H,W] in [0,1], but are {_words(images)}"
            + ("; divide by 255" if images.dtype == torch.uint8 else "")
        )
    low, high = (value.item() for value in images.aminmax())
    if not (low >= 0 and high <= 1):
        raise BadInput(f"images: must lie in [0,1], but lie in [{low:.4g}, {high:.4g}]")
    return images.float()


def _labels(labels: Tensor, images: Tensor) -> Tensor:
    labels = torch.as_tensor(labels)
    if labels.is_floating_point() or labels.shape not in (
        images.shape[:1],
        (len(images), *images.shape[2:]),
    ):
        raise BadInput(
            f"labels: must be whole numbers [N], of pixels [N,H,W], for {_words(images)}, but are "
            f"{_words(labels)}"
        )
    return labels.long()


@torch.no_grad()
def _check_classes(model: Model, image: Tensor, labels) -> None:
    """BadInput where a model gives no logits, or a label is none of its classes."""
    logits = model(image)
    if not isinstance(logits, Tensor) or logits.ndim not in (2, 4):
        words = _words(logits) if isinstance(logits, Tensor) else type(logits).__name__
        raise BadInput(
            f"model: must give logits [N,classes], of pixels [N,classes,H,W], but gives {words}"
        )
    classes, labels = logits.shape[1], torch.as_tensor(labels)
    wrong = labels[((labels < 0) | (labels >= classes)) & (labels != IGNORED)]
    if len(wrong):
        raise BadInput(f"labels: must be in [0, {classes}), the model's classes, got {wrong[0]}")


def _words(values: Tensor) -> str:
    return f"{str(values.dtype).removeprefix('torch.')} {list(values.shape)}"


def _batches(
    images: Tensor, labels: Tensor | None, size: int, device: torch.device
) -> Iterator[Batch]:
    """Batches of at most `size`, channels-last as in the jobs; labels of 0 where there are none."""
    labels = torch.zeros(len(images), dtype=torch.int64) if labels is None else labels
    for start in range(0, len(images), size):
        rows = slice(start, min(start + size, len(images)))
        part = images[rows].to(device).contiguous(memory_format=torch.channels_last)
        yield Batch(rows, part, labels[rows].to(device), np.arange(rows.start, rows.stop))


def _device(model: Model | None, images: Tensor) -> torch.device:
    """Where a model's weights are; for one without weights, where the images are."""
    weights = model.parameters() if isinstance(model, nn.Module) else iter(())
    weight = next(weights, None)
    return torch.as_tensor(images).device if weight is None else weight.device


def _frozen(network: nn.Module) -> nn.Module:
    """A copy as the jobs use networks: in eval mode, without gradients of weights."""
    network = copy.deepcopy(network).eval().requires_grad_(False)
    return network.to(memory_format=torch.channels_last)


def _victim(model: Model, images: Tensor, device: torch.device) -> Model:
    """A frozen copy of a network, folded for inference; a function of images as it is."""
    if not isinstance(model, nn.Module):
        return model
    network = fold(model).to(device)
    few = images[:FEW].to(device).contiguous(memory_format=torch.channels_last)
    check_network(type(model).__name__, network, few)
    return network


@torch.no_grad()  # and not in inference mode: a purifier may take gradients of its own
def _purified(purify: Purify, some: Batch, name: str, seed: int, draw: int) -> Tensor:
    return purify(some.images, Noise(seed, some.ids, name, "defender", draw=draw))
