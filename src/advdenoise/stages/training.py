"""The training stages: one classifier or one denoiser, resumed where an earlier job stopped."""

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from advdenoise.errors import BadInput
from advdenoise.graph.sources import load
from advdenoise.graph.threats import CLEAN
from advdenoise.io.digests import state_digest
from advdenoise.io.parquet import write_table
from advdenoise.io.provenance import collect_provenance
from advdenoise.io.schemas import HISTORY
from advdenoise.io.weights import write_weights
from advdenoise.noise import derive_seed
from advdenoise.ops.resume import remove_state, state_folder
from advdenoise.stages import models
from advdenoise.stages import weights as read_weights
from advdenoise.stages.columns import Columns
from advdenoise.stages.data import AdversarialSet, ImageSet, open_images, open_sets
from advdenoise.training._examples import Clean, Mixture, Part
from advdenoise.training._loop import FLOAT32, train


def train_classifier(
    settings: dict,
    code: str,
    images: Path,
    weights: Path,
    history: Path,
    resume: Path,
    held_out: Path | None = None,
    start: Path | None = None,
    classes: Path | None = None,
) -> None:
    """Train a classifier, from the weights `start`; write its weights and its history.

    One whose entry names a file of weights is not trained: these are checked and written.
    `classes` is an image set of the data set that it will be judged on, where that is another one.
    Raises BadInput where the two have different classes.
    """
    entry = settings["classifier"]
    if "weights" in entry:
        read_weights.read("classifiers", entry, settings, images, weights, history)
        return
    with ExitStack() as files:
        clean, pixels = _open(files, images)
        if classes:
            _check_classes(entry["name"], clean, files.enter_context(open_images(classes)))
        examples = Clean(pixels, clean.labels[:], clean.ids)
        test = None
        if held_out:
            other, its_pixels = _open(files, held_out)
            test = Clean(its_pixels, other.labels[:], other.ids)
        digest = state_digest(settings, code, images, *filter(None, [start]))
        job = _Job("classifiers", entry, settings, state_folder(resume, weights), digest, start)
        _write(job, job.train(clean, examples, test), weights, history)


def train_denoiser(
    settings: dict,
    code: str,
    images: Path,
    weights: Path,
    history: Path,
    resume: Path,
    adversarial: list[Path] | None = None,
    held_out: Path | None = None,
    network: Path | None = None,
    start: Path | None = None,
) -> None:
    """Train a denoiser on what its entry names; write its weights and history.

    `network` holds the weights of the classifier that the training step uses, `start` those
    that the denoiser has at first.

    Held-out loss is recorded only where all inputs are made afresh from noise: an adversarial set
    holds the training images alone. One whose entry names a file of weights is not trained: these
    are checked and written.
    """
    entry, adversarial = settings["denoiser"], adversarial or []
    if "weights" in entry:
        read_weights.read("denoisers", entry, settings, images, weights, history)
        return
    with ExitStack() as files:
        clean, pixels = _open(files, images)
        sets = files.enter_context(open_sets(settings["threats"], adversarial, clean))
        parts = [_part(source, settings, sets) for source in entry["trained_on"]]
        examples = Mixture(pixels, clean.labels[:], clean.ids, parts)
        test = None
        if held_out and not sets:
            other, its_pixels = _open(files, held_out)
            test = Mixture(its_pixels, other.labels[:], other.ids, parts)
        guide = None
        if network:
            guide = models.load_frozen("classifiers", network, settings["network"], clean)
        read = [images, *adversarial, *filter(None, [network, start])]
        digest = state_digest(settings, code, *read)
        job = _Job("denoisers", entry, settings, state_folder(resume, weights), digest, start)
        _write(job, job.train(clean, examples, test, guide), weights, history)


def _check_classes(name: str, clean: ImageSet, other: ImageSet) -> None:
    """Refuse images of other classes or channels than those that a classifier is judged on."""
    pairs = {
        "classes": (clean.classes, other.classes),
        "channels": (clean.shape[0], other.shape[0]),
    }
    for what, (here, there) in pairs.items():
        if here != there:
            raise BadInput(
                f"classifiers.{name}.training.dataset: {clean.path} has other {what} than "
                f"{other.path} ({here} and {there}); take a data set with the same {what}"
            )


def _open(files: ExitStack, path: Path) -> tuple[ImageSet, torch.Tensor]:
    """An image set and its pixels, uint8 in memory."""
    images = files.enter_context(open_images(path))
    return images, torch.from_numpy(images.stored[:])


def _part(source: dict, settings: dict, sets: dict[str, AdversarialSet]) -> Part:
    """One source of training inputs: clean images, noise or an adversarial set."""
    if "noise" in source:
        points = settings["noises"][source["noise"]]["points"].values()
        return Part(source["share"], [load("attacks", point) for point in points])
    if source["threat"] == CLEAN:
        return Part(source["share"])
    return Part(source["share"], [*sets[source["threat"]].perturbations.values()])


@dataclass
class _Job:
    """One training: what is trained, and where its state lies until the weights are written.

    `start` holds the weights that it begins with, where these are not its network's own.
    """

    kind: str
    entry: dict
    settings: dict
    state: Path
    digest: str
    start: Path | None = None
    started: float = field(default_factory=time.time)

    def train(
        self,
        clean: ImageSet,
        examples: Clean,
        test: Clean | None,
        guide: nn.Module | None = None,
    ):
        """The trained network and the rows of its history."""
        name = f"{self.kind}.{self.entry['name']}"
        torch.manual_seed(derive_seed(self.settings["seed"], name))
        if self.start:
            network = models.load_network(self.kind, self.start, self.entry, clean)
        else:
            network = models.build(self.kind, self.entry, clean.shape, len(clean.classes))
        rows = train(
            network,
            load("training", self.entry["training"]),
            examples,
            self.entry["training"],
            seed=self.settings["seed"],
            name=name,
            state=self.state,
            digest=self.digest,
            device=models.device(),
            held_out=test,
            network=guide,
        )
        return network, rows


def _write(job: _Job, result, weights: Path, history: Path) -> None:
    """Write the outputs; only then is the state forgotten."""
    network, rows = result
    precision = job.entry["training"].get("precision", FLOAT32)
    provenance = collect_provenance(job.settings | {"precision": precision}, job.started)
    columns = Columns(HISTORY)
    for row in rows:
        columns.add(1, **row)
    write_table(history, columns.table(), provenance)
    write_weights(weights, network.state_dict(), provenance)
    remove_state(job.state)
