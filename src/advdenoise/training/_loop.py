"""The training loop. Models differ in the `step` function only."""

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
from advdenoise.training._references import ReferenceFunction, References, reference_function
from advdenoise.training._resume import State
from advdenoise.training._steps import correct_share

log = logging.getLogger(__name__)

# Batches after which losses are read from the device, so that a GPU is not synchronised after each.
_READ_EVERY = 32
# The default precision.
FLOAT32 = "float32"
# The metric of the stop rule in the history.
CLEAN_ACCURACY = "clean_accuracy"
_COLUMN_OF = {"train": "value", "held_out": "held_out_value"}


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

    All random numbers derive from (seed, name, epoch, batch) and image ids. A training that was
    interrupted and resumed thus gives bit-equal weights and history (for equal threads and device,
    and except for the seconds).

    Args:
        model: any module; it is moved to `device`.
        step: a component of `training/` with its settings bound, see `plain` for its arguments. It
            returns the loss to be minimised and a dictionary of batch means. Parameters that the
            loss does not reach stay unchanged.
        examples: has `__len__`, `ids`, `targets(index, device)` and `batch(index, noise, epoch,
            device)`, see `_examples`.
        loop: the settings.
            `epochs`, `batch`: number of epochs, and of images in a batch.
            `optimiser: {name, lr, ...}`: see `_optimisers.Optimiser`. (An L2 term c * sum(w^2) of
            the loss is `weight_decay: 2c`, which costs nothing.)
            `schedule: {epochs: lr}`: learning rates after these numbers of epochs.
            `phases`: further epochs, each with epochs, optimiser and schedule of its own. A phase
            begins without moments and counts its epochs and iterations from 0.
            `stop: {measured_on, accuracy}`: end the training after the first epoch with that
            accuracy on the clean images of `train` (the examples) or `held_out`, in eval mode.
            `precision`: float32 (default), or bfloat16 for passes under autocast.
        seed: the replicate's seed.
        name: the entry, for messages and for random numbers.
        state: folder of the saved state and the lock; call `resume.remove_state` on it once the
            outputs are written.
        digest: of settings and code; a state with another digest is removed.
        device: device of the training.
        held_out: examples on which the step is evaluated after each epoch, in eval mode.
        network: passed to the step: frozen, in eval mode, on `device`.

    Returns:
        one row per epoch and metric, as in `schemas.HISTORY`; `epoch` counts from 1, means are over
        images. A step without metrics gives one row with its loss. The accuracy for `stop` is the
        metric `clean_accuracy`.

    Raises:
        BadInput: loss or weights are not finite, the GPU's memory does not suffice, or a batch of
            one image under batch norm.
        Preempted: on SIGTERM or SIGUSR1, after the current batch, with the state saved.
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
            # The message of torch's batch norm.
            if "more than 1 value per channel" not in str(error):
                raise
            raise BadInput(
                f"{name}.training.batch: must be at least 2 for the network's batch norm, with at "
                "least 2 images; a batch of one image has no variance"
            ) from None


class _Run:
    """The state of one training, and its steps."""

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
        self.pending: list[tuple[int, Tensor, dict[str, Tensor]]] = []
        self.history: list[dict] = []
        self.references: dict = {}
        if function := reference_function(step, network):
            self.references = {
                part: References(self._without_grad(function), part, loop["batch"], device)
                for part in filter(None, (examples, held_out))
            }
        self._begin_phase()

    def train(self, state: State, interruption: Interruption) -> list[dict]:
        self._resume(state)
        if not _is_finite(self.model):
            raise BadInput(f"{self.name}: the initial weights are not finite; use others")
        # Also for the last of several epochs, so that a resumed training uses the same bits.
        if self.epochs > 1 and self._continues():
            self._fill_references(state, interruption)
        with _bar(self.name, self.epochs * len(self._batches()), self.iteration) as bar:
            while self._continues():
                self._train_epoch(state, interruption, bar)
                held_out = self._evaluate(state, interruption)
                accuracy = self._clean_accuracy(state, interruption)
                bar.set_postfix(_with_held_out(_means(self.sums), held_out))
                self._end_epoch(held_out, accuracy)
                self._save(state)
                _raise_if_interrupted(interruption, self.name, self.epoch)
        self._warn_if_not_reached()
        self.model.eval()
        return self.history

    def _continues(self) -> bool:
        return self.epoch < self.epochs and not self.stopped

    def _begin_phase(self) -> None:
        """Start the phase of this epoch, with a new optimiser."""
        self.phase = self._phase_of(self.epoch)
        self.phase_iteration = self.phase.first * len(self._batches())
        self.optimiser = Optimiser(self.model, self.phase.loop["optimiser"], self.name)

    def _phase_of(self, epoch: int) -> "_Phase":
        return [phase for phase in self.phases if phase.first <= epoch][-1]

    def _fill_references(self, state: State, interruption: Interruption) -> None:
        for references in self.references.values():
            for _ in references.fill_cache():
                self._stop_if_interrupted(state, interruption)

    def _train_epoch(self, state: State, interruption: Interruption, bar: tqdm) -> None:
        self.model.train()
        batches = self._batches()
        for index in batches[self.batch :]:
            start = time.perf_counter()
            self._train_batch(index)
            self.seconds += time.perf_counter() - start
            bar.update()
            if self.batch % _READ_EVERY == 0:
                self._read_pending(state)
                bar.set_postfix(_means(self.sums), refresh=False)
            self._stop_if_interrupted(state, interruption)
        self._read_pending(state)

    def _train_batch(self, index: Tensor) -> None:
        self._set_seed("batch", self.epoch, self.batch)
        self.optimiser.zero_grad()
        noise = Noise(self.seed, self.examples.ids[index], self.name, draw=self.epoch)
        loss, metrics = self._step(self.examples, index, noise)
        loss.backward()
        counters = (self.epoch - self.phase.first, self.iteration - self.phase_iteration)
        self.lr = learning_rate(self.phase.loop, *counters)
        self.optimiser.step(self.lr)
        self.pending.append((len(index), loss.detach(), metrics))
        self.batch += 1
        self.iteration += 1

    def _step(self, examples, index: Tensor, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        batch = examples.batch(index, noise, self.epoch, self.device)
        if examples in self.references:
            batch["reference"] = self.references[examples].get(index, batch["targets"])
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

    def _without_grad(self, function: ReferenceFunction) -> ReferenceFunction:
        """Reference computation without gradients, in the precision of the step."""

        def references(targets: Tensor) -> list[Tensor]:
            with torch.no_grad(), self._autocast():
                return function(targets)

        return references

    def _autocast(self) -> torch.autocast:
        is_bfloat16 = self.loop.get("precision", FLOAT32) != FLOAT32
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=is_bfloat16)

    def _set_seed(self, *names: str | int) -> None:
        """Seed torch's global generators, for dropout and random numbers without `noise`."""
        seed = derive_seed(self.seed, self.name, *names)
        torch.default_generator.manual_seed(seed)
        # torch.manual_seed would format the stack each time if a GPU is present but not used.
        if self.device.type == "cuda":
            torch.cuda.manual_seed_all(seed)

    def _batches(self) -> list[Tensor]:
        """Indices of each image once, in this epoch's order; no batch of one, for batch norm."""
        seed = derive_seed(self.seed, self.name, "order", self.epoch)
        order = torch.randperm(len(self.examples), generator=torch.Generator().manual_seed(seed))
        batches = order.split(self.loop["batch"])
        if len(batches) > 1 and len(batches[-1]) == 1 < self.loop["batch"]:
            batches = (*batches[:-2], torch.cat(batches[-2:]))
        return list(batches)

    def _read_pending(self, state: State) -> None:
        """Add the pending losses to the epoch's sums; raise BadInput unless all are finite."""
        sizes, losses, metrics = zip(*self.pending, strict=True) if self.pending else ((), (), ())
        first = self.batch - len(self.pending) + 1
        self.pending = []
        for number, (size, values) in enumerate(zip(sizes, _values(losses, metrics), strict=True)):
            for name, value in values.items():
                if not math.isfinite(value):
                    self._diverged(state, f"{name} is not finite", first + number)
            _add(self.sums, size, values)
        if not _is_finite(self.model):
            self._diverged(state, "weights are not finite", self.batch)

    def _evaluate(self, state: State, interruption: Interruption) -> dict[str, float]:
        """Means of loss and metrics over the held-out examples, with equal noise in each epoch."""
        if self.held_out is None:
            return {}
        self.model.eval()
        sums: dict[str, list[float]] = {}
        for index in torch.arange(len(self.held_out)).split(self.loop["batch"]):
            self._stop_if_interrupted(state, interruption)
            self._set_seed("held out", int(index[0]))
            noise = Noise(self.seed, self.held_out.ids[index], self.name, "held out")
            with torch.no_grad():
                loss, metrics = self._step(self.held_out, index, noise)
            _add(sums, len(index), _values([loss], [metrics])[0])
        means = _means(sums)
        for name, value in means.items():
            if not math.isfinite(value):
                self._diverged(state, f"held-out {name} is not finite", self.batch)
        return means

    def _clean_accuracy(self, state: State, interruption: Interruption) -> float | None:
        """The accuracy of the stop rule, on clean images in eval mode; None without a rule."""
        stop = self.loop.get("stop")
        if stop is None:
            return None
        examples = self.examples if stop["measured_on"] == "train" else self.held_out
        self.model.eval()
        correct = 0.0
        for index in torch.arange(len(examples)).split(self.loop["batch"]):
            self._stop_if_interrupted(state, interruption)
            clean = examples.batch(index, None, 0, self.device)
            with torch.no_grad(), self._autocast():
                logits = self.model(clean["targets"])
                correct += correct_share(logits, clean[examples.label_name]).double().sum()
        return float(correct) / len(examples)

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
            values[_COLUMN_OF[self.loop["stop"]["measured_on"]]] = accuracy
            self.history.append({**common, "metric": CLEAN_ACCURACY, **values})
            self.stopped = accuracy >= self.loop["stop"]["accuracy"]
            means |= {CLEAN_ACCURACY: accuracy}
        if not sys.stderr.isatty():
            log.info("%s: %s", self.name, _log_line(self.epochs, common, means, held_out))
        self.epoch, self.batch, self.seconds, self.sums = self.epoch + 1, 0, 0.0, {}
        if any(phase.first == self.epoch for phase in self.phases):
            self._begin_phase()

    def _warn_if_not_reached(self) -> None:
        stop = self.loop.get("stop")
        if stop and not self.stopped:
            text = f"an accuracy of {stop['accuracy']:g} on {stop['measured_on']} was not reached"
            log.warning("%s: %s in %d epochs", self.name, text, self.epochs)

    def _stop_if_interrupted(self, state: State, interruption: Interruption) -> None:
        if interruption.signal:
            self._read_pending(state)
            self._save(state)
            _raise_if_interrupted(interruption, self.name, self.epoch, self.batch)

    def _save(self, state: State) -> None:
        state.save(
            {
                "weights": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                **{key: getattr(self, key) for key in _STATE_KEYS},
            }
        )

    def _resume(self, state: State) -> None:
        saved = state.load()
        if saved is None:
            return
        if reason := self._why_incompatible(saved):
            state.discard(reason)
            return
        for key in _STATE_KEYS:
            setattr(self, key, saved[key])
        self._begin_phase()
        self.model.load_state_dict(saved["weights"])
        self.optimiser.load_state_dict(saved["optimiser"])
        log.info("%s: resumed after epoch %d, batch %d", self.name, self.epoch, self.batch)

    def _why_incompatible(self, saved: dict) -> str | None:
        """Why this training cannot continue from a state; None if it can."""
        if not all(isinstance(saved.get(name), kind) for name, kind in _STATE_KEYS.items()):
            return "entries are missing or have another type"
        epoch, batch, batches = saved["epoch"], saved["batch"], len(self._batches())
        is_valid = 0 <= epoch <= self.epochs and 0 <= batch <= batches
        if not is_valid or saved["iteration"] != epoch * batches + batch:
            return f"epoch {epoch}, batch {batch} of {self.epochs} epochs of {batches} batches"
        optimiser = Optimiser(self.model, self._phase_of(epoch).loop["optimiser"], self.name)
        current = (self.model.state_dict(), optimiser.state_dict())
        if _shapes(current) != _shapes((saved.get("weights"), saved.get("optimiser"))):
            return "it belongs to another network or optimiser"
        return None if _are_finite(saved["weights"]) else "weights are not finite"

    def _diverged(self, state: State, what: str, batch: int) -> None:
        settings = "lower `optimiser: lr` or change other settings of this entry"
        rerun = (
            f"(a rerun tries once more from the last valid state, {state.path})"
            if state.diverged()
            else "(a rerun starts over)"
        )
        raise BadInput(
            f"{self.name}: the {what} in epoch {self.epoch + 1}, batch {batch}, at learning rate "
            f"{self.lr:g}; {settings} {rerun}"
        )


# The entries of a state beside weights and optimiser, with their types.
_STATE_KEYS = {
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
    """Epochs with one optimiser; `first` is the first of them, counted from 0 over all phases."""

    first: int
    loop: dict


def _phases(loop: dict) -> list[_Phase]:
    phases: list[_Phase] = []
    first = 0
    for phase in (loop, *loop.get("phases", ())):
        phases.append(_Phase(first, phase))
        first += phase["epochs"]
    return phases


def _values(losses, metrics) -> list[dict[str, float]]:
    """Loss and metrics of several batches as numbers, transferred from the device at once."""
    batches = [{"loss": loss, **named} for loss, named in zip(losses, metrics, strict=True)]
    tensors = [value.detach().float() for batch in batches for value in batch.values()]
    numbers = iter(torch.stack(tensors).tolist() if tensors else ())
    return [{name: next(numbers) for name in batch} for batch in batches]


def _add(sums: dict[str, list[float]], size: int, values: dict[str, float]) -> None:
    """Add a batch of `size` images to `{name: [sum, images]}`; names may differ between batches."""
    for name, value in values.items():
        total, images = sums.get(name, (0.0, 0))
        sums[name] = [total + size * value, images + size]


def _means(sums: dict[str, list[float]]) -> dict[str, float]:
    return {name: total / images for name, (total, images) in sums.items()}


def _log_line(epochs: int, common: dict, means: dict, held_out: dict) -> str:
    values = _with_held_out({"loss": common["loss"], **means}, held_out).items()
    parts = [f"epoch {common['epoch']}/{epochs}", *(f"{name} {v:.4f}" for name, v in values)]
    return ", ".join([*parts, f"lr {common['lr']:g}", f"{common['epoch_seconds']:.1f} s"])


def _with_held_out(means: dict[str, float], held_out: dict[str, float]) -> dict[str, float]:
    return {**means, **{f"held-out {name}": value for name, value in held_out.items()}}


def _is_finite(model: nn.Module) -> bool:
    """Whether weights and running statistics are finite: a state must never be saved otherwise."""
    return _are_finite(model.state_dict())


def _are_finite(weights: dict[str, Tensor]) -> bool:
    tensors = [t for t in weights.values() if t.is_floating_point()]
    return not tensors or bool(torch.stack([t.isfinite().all() for t in tensors]).all())


def _shapes(tree):
    """The tree of dictionaries and lists with shape and type instead of each tensor."""
    if isinstance(tree, dict):
        return {name: _shapes(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_shapes(value) for value in tree]
    return (tree.shape, tree.dtype) if isinstance(tree, Tensor) else type(tree)


def _raise_if_interrupted(
    interruption: Interruption, name: str, epoch: int, batch: int = 0
) -> None:
    if interruption.signal:
        raise Preempted(
            f"{name}: {interruption.signal} received; the state after epoch {epoch}, batch {batch} "
            "is saved and a rerun continues from there"
        )


def _bar(name: str, total: int, done: int) -> tqdm:
    """A progress bar on a terminal; elsewhere lines are logged instead."""
    return tqdm(desc=name, total=total, initial=done, unit="batch", disable=not sys.stderr.isatty())


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """On a GPU, use deterministic kernels, and warn of operations that have none.

    A CPU is deterministic for equal threads, and the setting would import torch's compiler.
    """
    if device.type == "cpu":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # That setting also fills new tensors, which costs time and is not needed.
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
