"""The one training loop. What differs between models is the `step` function handed to it."""

import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from advdenoise.calls import call_with
from advdenoise.errors import BadInput, Preempted
from advdenoise.noise import Noise, derive_seed
from advdenoise.ops.resume import Interruption, state_lock
from advdenoise.training._optimisers import Optimiser, learning_rate
from advdenoise.training._references import Make, References, maker
from advdenoise.training._resume import State
from advdenoise.training._steps import hits

log = logging.getLogger(__name__)

# Losses wait on the device for so many batches, so that a GPU is not halted after each.
_READ_EVERY = 32
# What a training's passes are in by default.
FLOAT32 = "float32"
# What the stop rule looks at, in the history.
CLEAN_ACCURACY = "clean_accuracy"
_TOLD_AS = {"train": "value", "held_out": "held_out_value"}


def train(
    model: nn.Module,
    step: Callable,
    examples,
    loop: dict,
    *,
    seed: int,
    name: str,
    state: Path,
    digest: str,
    device: torch.device | str,
    held_out=None,
    network: nn.Module | None = None,
) -> list[dict]:
    """Train `model` in place and leave it in eval mode; return the history.

    All randomness derives from (seed, name, epoch, batch) and image ids, so training that was
    interrupted and resumed gives the very weights and history of an undisturbed one (for equal
    threads and device; seconds apart).

    Args:
        model: any module; it is moved to `device`.
        step: a component of `training/` with its settings bound. It is handed what it lists of
            `model`, `images`, `targets`, `labels` or `masks`, `noise`, `iteration` (from 0),
            `epoch` (from 0), `network` and `reference` (see `_steps.compares_with`) and returns the
            loss to be descended and a dictionary of batch means. Parameters that the loss does not
            reach stay as they are.
        examples: has `__len__`, `ids`, `targets(index, device)` and `batch(index, noise, epoch,
            device)`, see `_examples`.
        loop: `epochs`, `batch`, `optimiser: {name, lr, ...}` and, optionally,
            `schedule: {epochs: lr}`, the learning rate once so many epochs are done. The
            optimiser's settings are those of `_optimisers.Optimiser`; an L2 term c * sum(w^2) of
            the loss is `weight_decay: 2c`, the same gradient at no cost. `phases` are what follows
            these epochs: each has epochs, optimiser and schedule of its own and begins without
            moments, its epochs and iterations counted from 0 by the learning rate. `stop:
            {measured_on, accuracy}` ends all of it after the first epoch with that accuracy of a
            classifier on `train` (the examples) or `held_out`: of clean images, in eval mode.
            `precision` is float32 (by default) or bfloat16, in which passes run under autocast.
        seed: the replicate's seed.
        name: what is trained, for messages and as a source of randomness.
        state: folder that keeps the state from epoch to epoch and the lock; call
            `resume.remove_state` on it once the outputs are written.
        digest: of settings and code; a state of another one is removed and not resumed.
        device: where it is trained.
        held_out: examples that the step is evaluated on after each epoch, in eval mode.
        network: what the step looks at: frozen, in eval mode, on `device`.

    Returns:
        one row per epoch and metric, as `schemas.HISTORY`; `epoch` counts from 1, means are over
        images. A step without metrics gives one row with its loss. What `stop` looks at is the
        metric `clean_accuracy`.

    Raises:
        BadInput: the loss or the weights are no longer finite; the GPU's memory does not suffice;
            batch norm is given a batch of one image.
        Preempted: on SIGTERM or SIGUSR1, the current batch done and the state saved.
    """
    device = torch.device(device)
    with state_lock(state), Interruption() as interruption, _deterministic(device):
        run = _Run(model, step, examples, loop, seed, name, device, held_out, network)
        try:
            return run.train(State(state, digest), interruption)
        except torch.OutOfMemoryError:
            raise BadInput(
                f"{name}: a batch of {loop['batch']} does not fit into the memory of {device}; "
                "lower `batch`"
            ) from None
        except ValueError as error:
            # torch's words where batch norm meets one value.
            if "more than 1 value per channel" not in str(error):
                raise
            raise BadInput(
                f"{name}.training.batch: a batch of one image has no variance for the network's "
                "batch norm; give a batch of 2 or more, and 2 images or more"
            ) from None


class _Run:
    """One training: where it stands and how to go on."""

    def __init__(self, model, step, examples, loop, seed, name, device, held_out, network):
        self.model = model.to(device, memory_format=torch.channels_last)
        self.step, self.examples, self.held_out = step, examples, held_out
        self.loop, self.seed, self.name, self.device = loop, seed, name, device
        self.network = network
        self.phases = _phases(loop)
        self.epochs = sum(phase.loop["epochs"] for phase in self.phases)
        self.epoch = self.iteration = self.batch = 0
        self.stopped = False
        self.lr = self.seconds = 0.0
        self.sums: dict[str, list[float]] = {}
        self.unread: list[tuple[int, Tensor, dict[str, Tensor]]] = []
        self.history: list[dict] = []
        self.references: dict = {}
        if make := maker(step, network):
            self.references = {
                some: References(self._quietly(make), some, loop["batch"], device)
                for some in filter(None, (examples, held_out))
            }
        self._begin_phase()

    def train(self, state: State, interruption: Interruption) -> list[dict]:
        self._resume(state)
        if not _is_finite(self.model):
            raise BadInput(
                f"{self.name}: the weights that it begins with are not finite numbers; give others"
            )
        # Also with one epoch left of several: a resumed training compares with the same bits.
        if self.epochs > 1 and self._goes_on():
            self._keep_references(state, interruption)
        with _bar(self.name, self.epochs * len(self._batches()), self.iteration) as bar:
            while self._goes_on():
                self._train_epoch(state, interruption, bar)
                held_out = self._evaluate(state, interruption)
                accuracy = self._clean_accuracy(state, interruption)
                bar.set_postfix(_named(_means(self.sums), held_out))
                self._end_epoch(held_out, accuracy)
                self._save(state)
                _stop_if_asked(interruption, self.name, self.epoch)
        self._tell_if_missed()
        self.model.eval()
        return self.history

    def _goes_on(self) -> bool:
        return self.epoch < self.epochs and not self.stopped

    def _begin_phase(self) -> None:
        """Take up the phase that this epoch belongs to, with an optimiser of its own."""
        self.phase = self._phase_of(self.epoch)
        self.phase_iteration = self.phase.first * len(self._batches())
        self.optimiser = Optimiser(self.model, self.phase.loop["optimiser"], self.name)

    def _phase_of(self, epoch: int) -> "_Phase":
        return [phase for phase in self.phases if phase.first <= epoch][-1]

    def _keep_references(self, state: State, interruption: Interruption) -> None:
        for references in self.references.values():
            for _ in references.keep():
                self._leave_if_asked(state, interruption)

    def _train_epoch(self, state: State, interruption: Interruption, bar: tqdm) -> None:
        self.model.train()
        batches = self._batches()
        for index in batches[self.batch :]:
            started = time.perf_counter()
            self._train_batch(index)
            self.seconds += time.perf_counter() - started
            bar.update()
            if self.batch % _READ_EVERY == 0:
                self._read(state)
                bar.set_postfix(_means(self.sums), refresh=False)
            self._leave_if_asked(state, interruption)
        self._read(state)

    def _train_batch(self, index: Tensor) -> None:
        self._set_seed("batch", self.epoch, self.batch)
        self.optimiser.zero_grad()
        noise = Noise(self.seed, self.examples.ids[index], self.name, draw=self.epoch)
        loss, metrics = self._step(self.examples, index, noise)
        loss.backward()
        of_phase = (self.epoch - self.phase.first, self.iteration - self.phase_iteration)
        self.lr = learning_rate(self.phase.loop, *of_phase)
        self.optimiser.step(self.lr)
        self.unread.append((len(index), loss.detach(), metrics))
        self.batch += 1
        self.iteration += 1

    def _step(self, examples, index: Tensor, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        batch = examples.batch(index, noise, self.epoch, self.device)
        if examples in self.references:
            batch["reference"] = self.references[examples].of(index, batch["targets"])
        with self._autocast():
            return call_with(
                self.step,
                model=self.model,
                network=self.network,
                noise=noise,
                iteration=self.iteration,
                epoch=self.epoch,
                **batch,
            )

    def _quietly(self, make: Make) -> Make:
        """References take no gradient, and the precision that the step has."""

        def made(targets: Tensor) -> list[Tensor]:
            with torch.no_grad(), self._autocast():
                return make(targets)

        return made

    def _autocast(self) -> torch.autocast:
        narrow = self.loop.get("precision", FLOAT32) != FLOAT32
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=narrow)

    def _set_seed(self, *use: str | int) -> None:
        """For what takes no `noise`: dropout and a step's own draws."""
        seed = derive_seed(self.seed, self.name, *use)
        torch.default_generator.manual_seed(seed)
        # torch.manual_seed would, for a GPU not in use, format the stack each time.
        if self.device.type == "cuda":
            torch.cuda.manual_seed_all(seed)

    def _batches(self) -> list[Tensor]:
        """Every image once, in this epoch's order; no batch of one, which has no variance."""
        seed = derive_seed(self.seed, self.name, "order", self.epoch)
        order = torch.randperm(len(self.examples), generator=torch.Generator().manual_seed(seed))
        batches = order.split(self.loop["batch"])
        if len(batches) > 1 and len(batches[-1]) == 1 < self.loop["batch"]:
            batches = (*batches[:-2], torch.cat(batches[-2:]))
        return list(batches)

    def _read(self, state: State) -> None:
        """Add the losses that wait on the device to the epoch's sums; all must be finite."""
        sizes, losses, metrics = zip(*self.unread, strict=True) if self.unread else ((), (), ())
        first = self.batch - len(self.unread) + 1
        self.unread = []
        for number, (size, values) in enumerate(zip(sizes, _values(losses, metrics), strict=True)):
            for name, value in values.items():
                if not math.isfinite(value):
                    self._diverged(state, f"{name} is not a finite number", first + number)
            _add(self.sums, size, values)
        if not _is_finite(self.model):
            self._diverged(state, "weights are not finite numbers", self.batch)

    def _evaluate(self, state: State, interruption: Interruption) -> dict[str, float]:
        """Means of loss and metrics over the held-out examples; the same noise in each epoch."""
        if self.held_out is None:
            return {}
        self.model.eval()
        sums: dict[str, list[float]] = {}
        for index in torch.arange(len(self.held_out)).split(self.loop["batch"]):
            self._leave_if_asked(state, interruption)
            self._set_seed("held out", int(index[0]))
            noise = Noise(self.seed, self.held_out.ids[index], self.name, "held out")
            with torch.no_grad():
                loss, metrics = self._step(self.held_out, index, noise)
            _add(sums, len(index), _values([loss], [metrics])[0])
        found = _means(sums)
        for name, value in found.items():
            if not math.isfinite(value):
                self._diverged(state, f"held-out {name} is not a finite number", self.batch)
        return found

    def _clean_accuracy(self, state: State, interruption: Interruption) -> float | None:
        """The accuracy that the stop rule looks at: of clean images, in eval mode."""
        stop = self.loop.get("stop")
        if stop is None:
            return None
        examples = self.examples if stop["measured_on"] == "train" else self.held_out
        self.model.eval()
        right = 0.0
        for index in torch.arange(len(examples)).split(self.loop["batch"]):
            self._leave_if_asked(state, interruption)
            clean = examples.batch(index, None, 0, self.device)
            with torch.no_grad(), self._autocast():
                right += hits(self.model(clean["targets"]), clean[examples.truth]).double().sum()
        return float(right) / len(examples)

    def _end_epoch(self, held_out: dict[str, float], accuracy: float | None) -> None:
        means = _means(self.sums)
        loss = means.pop("loss")
        common = {
            "epoch": self.epoch + 1,
            "iteration": self.iteration,
            "loss": loss,
            "held_out_loss": held_out.get("loss"),
            "lr": self.lr,
            "epoch_seconds": self.seconds,
        }
        for metric, value in (means or {"loss": loss}).items():
            row = {"metric": metric, "value": value, "held_out_value": held_out.get(metric)}
            self.history.append({**common, **row})
        if accuracy is not None:
            values = dict.fromkeys(("value", "held_out_value"))
            values[_TOLD_AS[self.loop["stop"]["measured_on"]]] = accuracy
            self.history.append({**common, "metric": CLEAN_ACCURACY, **values})
            self.stopped = accuracy >= self.loop["stop"]["accuracy"]
            means |= {CLEAN_ACCURACY: accuracy}
        if not sys.stderr.isatty():
            log.info("%s: %s", self.name, _line(self.epochs, common, means, held_out))
        self.epoch, self.batch, self.seconds, self.sums = self.epoch + 1, 0, 0.0, {}
        if any(phase.first == self.epoch for phase in self.phases):
            self._begin_phase()

    def _tell_if_missed(self) -> None:
        stop = self.loop.get("stop")
        if stop and not self.stopped:
            missed = f"an accuracy of {stop['accuracy']:g} on {stop['measured_on']} was not reached"
            log.warning("%s: %s in %d epochs", self.name, missed, self.epochs)

    def _leave_if_asked(self, state: State, interruption: Interruption) -> None:
        if interruption.signal:
            self._read(state)
            self._save(state)
            _stop_if_asked(interruption, self.name, self.epoch, self.batch)

    def _save(self, state: State) -> None:
        state.save(
            {
                "weights": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                **{place: getattr(self, place) for place in _PLACE},
            }
        )

    def _resume(self, state: State) -> None:
        saved = state.load()
        if saved is None:
            return
        if reason := self._why_unfit(saved):
            state.discard(reason)
            return
        for place in _PLACE:
            setattr(self, place, saved[place])
        self._begin_phase()
        self.model.load_state_dict(saved["weights"])
        self.optimiser.load_state_dict(saved["optimiser"])
        log.info("%s: resumed after epoch %d, batch %d", self.name, self.epoch, self.batch)

    def _why_unfit(self, saved: dict) -> str | None:
        """Why this training cannot go on from a state; None where it can."""
        if not all(isinstance(saved.get(name), kind) for name, kind in _PLACE.items()):
            return "entries are missing or of another kind"
        epoch, batch, batches = saved["epoch"], saved["batch"], len(self._batches())
        is_place = 0 <= epoch <= self.epochs and 0 <= batch <= batches
        if not is_place or saved["iteration"] != epoch * batches + batch:
            return f"epoch {epoch}, batch {batch} of {self.epochs} epochs of {batches} batches"
        optimiser = Optimiser(self.model, self._phase_of(epoch).loop["optimiser"], self.name)
        own = (self.model.state_dict(), optimiser.state_dict())
        if _shapes(own) != _shapes((saved.get("weights"), saved.get("optimiser"))):
            return "it is of another network or optimiser"
        return None if _are_finite(saved["weights"]) else "weights are not finite numbers"

    def _diverged(self, state: State, what: str, batch: int) -> None:
        settings = "lower `optimiser: lr` or change other settings of this entry"
        rerun = (
            f"(a rerun tries once more from the last good state, {state.path})"
            if state.diverged()
            else "(a rerun begins anew)"
        )
        raise BadInput(
            f"{self.name}: the {what} in epoch {self.epoch + 1}, batch {batch}, at learning rate "
            f"{self.lr:g}; {settings} {rerun}"
        )


# What a state holds beside weights and optimiser.
_PLACE = {
    "epoch": int,
    "batch": int,
    "iteration": int,
    "lr": float,
    "seconds": float,
    "sums": dict,
    "history": list,
    "stopped": bool,
}


class _Phase(NamedTuple):
    """The epochs of one optimiser; `first` counts from 0 over the whole training."""

    first: int
    loop: dict


def _phases(loop: dict) -> list[_Phase]:
    found: list[_Phase] = []
    first = 0
    for phase in (loop, *loop.get("phases", ())):
        found.append(_Phase(first, phase))
        first += phase["epochs"]
    return found


def _values(losses, metrics) -> list[dict[str, float]]:
    """Loss and metrics of several batches as numbers, brought from the device in one go."""
    batches = [{"loss": loss, **named} for loss, named in zip(losses, metrics, strict=True)]
    waiting = [value.detach().float() for batch in batches for value in batch.values()]
    numbers = iter(torch.stack(waiting).tolist() if waiting else ())
    return [{name: next(numbers) for name in batch} for batch in batches]


def _add(sums: dict[str, list[float]], size: int, values: dict[str, float]) -> None:
    """Add a batch of `size` images to `{name: [sum, images]}`; not all batches name the same."""
    for name, value in values.items():
        total, images = sums.get(name, (0.0, 0))
        sums[name] = [total + size * value, images + size]


def _means(sums: dict[str, list[float]]) -> dict[str, float]:
    return {name: total / images for name, (total, images) in sums.items()}


def _line(epochs: int, common: dict, means: dict, held_out: dict) -> str:
    values = _named({"loss": common["loss"], **means}, held_out).items()
    parts = [f"epoch {common['epoch']}/{epochs}", *(f"{name} {v:.4f}" for name, v in values)]
    return ", ".join([*parts, f"lr {common['lr']:g}", f"{common['epoch_seconds']:.1f} s"])


def _named(means: dict[str, float], held_out: dict[str, float]) -> dict[str, float]:
    return {**means, **{f"held-out {name}": value for name, value in held_out.items()}}


def _is_finite(model: nn.Module) -> bool:
    """Weights and running statistics: a state of others must never be saved."""
    return _are_finite(model.state_dict())


def _are_finite(weights: dict[str, Tensor]) -> bool:
    tensors = [t for t in weights.values() if t.is_floating_point()]
    return not tensors or bool(torch.stack([t.isfinite().all() for t in tensors]).all())


def _shapes(tree):
    """The shapes and types of tensors in dictionaries and lists."""
    if isinstance(tree, dict):
        return {name: _shapes(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_shapes(value) for value in tree]
    return (tree.shape, tree.dtype) if isinstance(tree, Tensor) else type(tree)


def _stop_if_asked(interruption: Interruption, name: str, epoch: int, batch: int = 0) -> None:
    if interruption.signal:
        raise Preempted(
            f"{name}: {interruption.signal} received; the state after epoch {epoch}, batch {batch} "
            "is saved and a rerun goes on from there"
        )


def _bar(name: str, total: int, done: int) -> tqdm:
    """A progress bar on a terminal; elsewhere nothing is drawn, lines are logged."""
    return tqdm(desc=name, total=total, initial=done, unit="batch", disable=not sys.stderr.isatty())


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """On a GPU, deterministic kernels where there are any and a warning where there are none.

    Equal threads make a CPU deterministic, and asking there imports torch's compiler.
    """
    if device.type == "cpu":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # That option also fills every new tensor, which costs time and hides nothing here.
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
