"""The attack stage: the perturbations of one attack on one victim, all its points in one job.

An interrupted job goes on after its last finished batch, with the very result of an undisturbed
one. Within a batch nothing is saved, so a batch whose attack takes hours is computed again.
"""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from advdenoise.attacks._facts import Facts
from advdenoise.attacks._predict import SELECTION_DRAWS, Callback
from advdenoise.calls import call_with, injected_parameters
from advdenoise.datasets._source import IGNORED
from advdenoise.errors import BadInput
from advdenoise.graph.sources import load
from advdenoise.inference.purified import (
    check_frozen,
    in_bfloat16,
    probabilities,
    purified_classifier,
)
from advdenoise.io.digests import state_digest
from advdenoise.io.hdf5 import add_array, create_hdf5
from advdenoise.io.provenance import collect_provenance
from advdenoise.noise import Noise
from advdenoise.ops.resume import remove_state, state_folder
from advdenoise.outputs import predicted
from advdenoise.stages import folded, models
from advdenoise.stages.data import (
    GRADIENTS,
    Batch,
    ImageSet,
    leads_out,
    open_images,
    reach,
    why_impossible,
)
from advdenoise.stages.finished import FinishedRows, finished_rows
from advdenoise.stages.gradients import GradientMonitor, Passes
from advdenoise.stages.memory import most_held, reset_most_held
from advdenoise.stages.spared import spared
from advdenoise.stages.threats import Threats, open_threats


def run(
    settings: dict,
    code: str,
    images: Path,
    victim: Path,
    output: Path,
    resume: Path,
    surrogate: Path | None = None,
    denoiser: Path | None = None,
    calibration: Path | None = None,
    through_denoiser: Path | None = None,
    through_calibration: Path | None = None,
    spare: list[Path] | None = None,
) -> None:
    """Write the adversarial set of one threat; of a dense image set it holds no labels.

    Images that a threat of `spare` fools are not attacked.
    Raises BadInput for such sets of a dense image set.
    """
    started = time.time()
    state = state_folder(resume, output)
    with open_images(images) as clean:
        through = (through_denoiser, through_calibration)
        attacker = open_attack(settings, clean, victim, surrogate, denoiser, calibration, *through)
        others = spare or []
        inputs = filter(None, (images, victim, surrogate, denoiser, calibration, *through, *others))
        digest = state_digest(settings, code, *inputs)
        made_by = collect_provenance(settings, started)
        if others and clean.dense:
            raise BadInput(
                f"attacks.{settings['attack']['name']}.spare: holds for images with one label; "
                "take it out"
            )
        with (
            open_threats(settings.get("spare", []), others, clean) as threats,
            finished_rows(state, digest, settings["threat"]) as finished,
            create_hdf5(output, made_by, "adversarial") as file,
        ):
            file.attrs["threat"] = settings["threat"]
            add_array(file, "ids", clean.ids)
            if not clean.dense:  # masks are as large as perturbations, and stand with the images
                add_array(file, "labels", clean.labels)
            for name, point in settings["attack"]["points"].items():
                group = file.create_group(f"points/{name}")
                group.attrs["entry"] = json.dumps(point)
                _write_point(group, attacker, name, clean, settings, finished, threats)
    remove_state(state)


def _write_point(
    group: h5py.Group,
    attacker: "AttackRun",
    name: str,
    clean: ImageSet,
    settings: dict,
    finished: FinishedRows,
    threats: Threats,
) -> None:
    """The perturbations of one point, batch by batch, with what is known of each image."""
    point = settings["attack"]["points"][name]
    stored = add_array(group, "perturbation", shape=(len(clean), *clean.shape), dtype="f4")
    epsilons = image_epsilons(point, len(clean))

    def attack(rows: slice) -> dict[str, np.ndarray]:
        begun = time.perf_counter()
        reset_most_held(models.device())
        batch = clean.batch(rows, models.device())
        arrays = _attack_some(
            attacker, point, batch, epsilons[rows], spared(attacker, threats, batch)
        )
        # Also of a batch, so that they outlive an interruption.
        spent = {
            "seconds": (time.perf_counter() - begun) / len(batch.ids),
            "peak": most_held(models.device()) or 0,
        }
        return arrays | {name: np.full(len(batch.ids), value) for name, value in spent.items()}

    arrays: dict[str, np.ndarray] = {}
    title = f"{settings['threat']} {name}"
    with tqdm(desc=title, total=len(clean), unit="image", disable=None) as bar:
        for rows, of_batch in finished.each(name, len(clean), settings["batch"], attack):
            stored[rows] = of_batch["perturbation"]
            for array in of_batch.keys() - {"perturbation"}:
                values = of_batch[array]
                arrays.setdefault(array, np.zeros(len(clean), values.dtype))[rows] = values
            bar.update(rows.stop - rows.start)
    lost, seconds, peak = (arrays.pop(array) for array in ("lost", "seconds", "peak"))
    group.attrs["attack_seconds"] = float(seconds.sum())
    if peak.any():
        group.attrs["peak_bytes"] = int(peak.max())
    for array, values in sorted({"epsilon": epsilons, **arrays}.items()):
        add_array(group, array, values)
    count = int(arrays["success"].sum())
    what = "most labelled pixels of " if clean.dense else ""
    print(f"{title}: the victim errs on {what}{count} of {len(clean)} images")
    if lost.any():
        group.attrs[GRADIENTS] = int(lost.sum())
        print(
            f"{title}: at {lost.sum()} of {len(clean)} images outputs or a gradient were not "
            "finite, which moved nothing: the attack may be weaker than it looks"
        )


def _attack_some(
    attacker: "AttackRun", point: dict, batch: Batch, epsilons: np.ndarray, skipped: Tensor
) -> dict[str, np.ndarray]:
    """What is stored of a batch, whose images `skipped` [N] are left as they are."""
    arrays = {
        "perturbation": np.zeros(batch.images.shape, np.float32),
        "success": np.zeros(len(batch.ids), np.uint8),
        "lost": np.zeros(len(batch.ids), bool),
        "skipped": skipped.cpu().numpy().astype(np.uint8),
        **attacker.no_facts(point, len(batch.ids)),
    }
    some = np.flatnonzero(~skipped.cpu().numpy())
    if not len(some):
        return arrays
    if len(some) < len(batch.ids):
        places = torch.from_numpy(some).to(batch.images.device)
        batch = Batch(
            np.r_[batch.rows][some], batch.images[places], batch.labels[places], batch.ids[some]
        )
    perturbation, fooled = attacker(point, batch, epsilons[some])
    attacked = {
        "perturbation": perturbation.contiguous().cpu().numpy(),
        "success": fooled.cpu().numpy(),
        "lost": attacker.passes.lost.cpu().numpy(),
        **attacker.facts,
    }
    for name, values in attacked.items():
        arrays[name][some] = values
    return arrays


def image_epsilons(point: dict, count: int) -> np.ndarray:
    """The budget of each image in pixels of [0,1], NaN where the attack has none: float32 [N]."""
    if "epsilons" not in point:
        return np.full(count, point["settings"].get("epsilon", np.nan), dtype=np.float32)
    cycle, every = point["epsilons"]["cycle"], point["epsilons"]["every"]
    return np.asarray(cycle, dtype=np.float32)[np.arange(count) // every % len(cycle)]


def errs(predictions: Tensor, labels: Tensor) -> Tensor:
    """Where a prediction [N] is wrong; of masks [N,H,W] on more than half of what has a class."""
    wrong = predictions != labels
    if labels.ndim == 1:
        return wrong
    labelled = labels != IGNORED
    return 2 * (wrong & labelled).flatten(1).sum(1) > labelled.flatten(1).sum(1)


def open_attack(
    settings: dict,
    clean: ImageSet,
    victim: Path,
    surrogate: Path | None = None,
    denoiser: Path | None = None,
    calibration: Path | None = None,
    through_denoiser: Path | None = None,
    through_calibration: Path | None = None,
) -> "AttackRun":
    """The attack of a job's settings on images, with the networks of these files."""
    goal = clean.target_of(settings["attack"])
    target = folded.classifier(victim, settings["victim"], clean)
    source = target
    if surrogate:
        source = folded.classifier(surrogate, settings["surrogate"], clean)
    autoencoder = models.denoiser(denoiser, calibration, settings["denoiser"], clean)
    other = models.denoiser(
        through_denoiser, through_calibration, settings.get("through_denoiser"), clean
    )
    check_frozen(target, source, *(known.network for known in (autoencoder, other) if known))
    for purifier, known in ((settings["purifier"], autoencoder), (settings.get("through"), other)):
        if purifier:
            models.purifiers(purifier, known, clean, settings["seed"])
    return AttackRun(settings, target, source, autoencoder, goal, other)


def _no_op(perturbation: Tensor) -> None:
    """The callback of jobs that do not use intermediate perturbations."""


class AttackRun:
    """One attack entry with the networks that it uses; `goal` is its one target class.

    `through_denoiser` is that of the purifier whose gradient replaces that of the known one.

    `passes` are those of its networks on the last batch, not counting how success is judged, and
    `facts` what the adversarial set stores of them, and of what the attack itself tells.
    """

    def __init__(
        self,
        settings: dict,
        victim,
        surrogate,
        denoiser: models.Denoiser | None,
        goal: int | None,
        through_denoiser: models.Denoiser | None = None,
    ):
        self.settings, self.denoiser, self.goal = settings, denoiser, goal
        self.victim, self.surrogate = victim, surrogate
        self.through_denoiser = through_denoiser
        self.draws = _draws(settings)
        self.is_random = _draw_noise(settings["purifier"])
        self.passes = Passes(0)
        self.facts: dict[str, np.ndarray] = {}

    def __call__(
        self, point: dict, batch: Batch, epsilons: np.ndarray, callback: Callback = _no_op
    ) -> tuple[Tensor, Tensor]:
        """Perturbations [N,C,H,W], and whether the victim errs [N], behind a known purifier.

        An attack with a stop rule passes its perturbations to `callback` after each step. Raises
        BadInput where a perturbation is not finite.
        """
        entry = self.settings["attack"]
        knows_draws = entry.get("knows_draws", False)
        trial = "defender" if knows_draws else "trial"
        victim = self.defended(batch, trial, self.draws, restart=knows_draws)
        source = self.surrogate
        if entry.get("output") == "probabilities":
            source = probabilities(source)
        stream = "defender" if knows_draws else "attacker"
        through = entry.get("through", "full")
        path = partial(self._purified, batch=batch, through=through)
        fast = in_bfloat16(source) if entry.get("precision") == "bfloat16" else source
        is_random = _path_draws(self.settings)
        predict = path(
            fast, stream=stream, draws=self.draws if is_random else 1, restart=knows_draws
        )
        selects = is_random and not knows_draws
        select = path(source, stream="selection", draws=SELECTION_DRAWS) if selects else None
        noise = Noise(self.settings["seed"], batch.ids, entry["name"])
        labels, targeted = self._labels(entry, batch, victim, noise)
        self.passes = Passes(len(batch.ids), batch.images.device)
        function, facts = _with_budget(point, epsilons), Facts(len(batch.ids), batch.images.device)
        perturbation = call_with(
            function,
            images=batch.images,
            labels=labels,
            targeted=targeted,
            predict=GradientMonitor(predict, self.passes),
            select=GradientMonitor(select, self.passes) if select else None,
            victim=GradientMonitor(victim, self.passes),
            classifier=GradientMonitor(self.victim, self.passes),
            noise=noise,
            callback=callback,
            facts=facts,
            **self._injected(),
        )
        self.facts = _facts(function, self.passes, facts)
        self._check(point, perturbation, batch, epsilons)
        # As in the evaluation: with the defender's first draw, which the attack did not use.
        defended = self.defended(batch, "defender")
        with torch.no_grad():
            predictions = predicted(defended(batch.images + perturbation))
        return perturbation, errs(predictions, batch.labels)

    def no_facts(self, point: dict, count: int) -> dict[str, np.ndarray]:
        """As `facts`, of so many images that are not attacked."""
        return _facts(load("attacks", point), Passes(count), Facts(count))

    def defended(
        self, batch: Batch, stream: str, draws: int = 1, restart: bool = False
    ) -> Callable[[Tensor], Tensor]:
        """The victim behind the purifier that the attack is adaptive to, with draws of a stream."""
        return self._purified(self.victim, batch, stream, draws, restart=restart)

    def _check(self, point: dict, perturbation: Tensor, batch: Batch, epsilons: np.ndarray) -> None:
        """Raises BadInput for what whoever reads the file would refuse."""
        reason = why_impossible(perturbation.cpu().numpy(), reach(point["settings"], epsilons))
        if reason is None and leads_out(batch.images, perturbation):
            reason = "its perturbations lead out of [0,1]"
        if reason:
            raise BadInput(
                f"attacks.{self.settings['attack']['name']}: {point['function']} is wrong "
                f"({reason}); clamp what it returns to `_ball.limits`"
            )

    def _injected(self) -> dict:
        """What the purifier uses; without one, a denoiser that returns its images."""
        if self.settings["purifier"] is None:
            return models.Denoiser(lambda images: images).injected()
        return self.denoiser.injected() if self.denoiser else {}

    def _purified(
        self,
        predict: Callable,
        batch: Batch,
        stream: str,
        draws: int = 1,
        through: str = "full",
        restart: bool = False,
    ) -> Callable:
        """`predict` behind the purifier that the attack is adaptive to; itself without one."""
        purifier = self.settings["purifier"]
        if purifier is None:
            return predict
        # A known purifier has one point.
        (point,) = purifier["points"].values()
        seed, name = self.settings["seed"], purifier["name"]
        noises = [Noise(seed, batch.ids, name, stream, draw=draw) for draw in range(draws)]
        purify = models.purifier(point, self.denoiser)
        entry = self.settings["attack"]
        if through == "full":
            purify = _with_gradient(purify, f"attacks.{entry['name']}", name)
        return purified_classifier(
            purify,
            predict,
            through,
            self._stand_in(through),
            *noises,
            forward=entry.get("forward", "stand_in"),
            restart=restart,
        )

    def _stand_in(self, through: str) -> Callable[[Tensor, Noise], Tensor] | None:
        """What gives the gradient in the known purifier's place; None without such a thing."""
        if through in ("full", "identity"):
            return None
        if through == "denoiser":
            known = self.denoiser
            return (lambda images, _: known.denoise(images)) if known else None
        other = self.settings["through"]
        (point,) = other["points"].values()
        purify = models.purifier(point, self.through_denoiser)
        return _with_gradient(purify, f"attacks.{self.settings['attack']['name']}", other["name"])

    def _labels(
        self, entry: dict, batch: Batch, victim: Callable, noise: Noise
    ) -> tuple[Tensor, bool]:
        """What the attack ascends, or descends to where it is targeted: [N], of masks [N,H,W]."""
        if self.goal is not None:  # of images of that class too: figures show every class
            return _where_labelled(torch.full_like(batch.labels, self.goal), batch.labels), True
        choice = entry.get("labels", "ground_truth")
        if choice == "ground_truth":
            return batch.labels, False
        with torch.no_grad():
            logits = victim(batch.images)
        if choice == "predicted":  # of every pixel: who has no masks does not know which have none
            return logits.argmax(1), False
        others = logits.shape[1]
        shift = noise.integers(others - 1, batch.labels.device) + 1
        shift = shift.view(-1, *[1] * (batch.labels.ndim - 1))
        return _where_labelled((batch.labels + shift) % others, batch.labels), True


def _facts(function: Callable, passes: Passes, facts: Facts) -> dict[str, np.ndarray]:
    """What the adversarial set stores of an attack's passes and of what the attack recorded."""
    recorded = facts.arrays() if "facts" in injected_parameters(function) else {}
    return passes.arrays() | {
        name: values.astype("u1") if values.dtype == bool else values
        for name, values in recorded.items()
    }


def _with_gradient(purify: Callable, key: str, name: str) -> Callable:
    """`purify`, which ends in BadInput where autograd is to go through it and cannot."""
    reason = (
        f"{key}.through: purifier {name!r} gives no gradient with regard to its images; say "
        "`through: identity`"
    )

    def purified(images: Tensor, noise: Noise) -> Tensor:
        differentiates = torch.is_grad_enabled() and images.requires_grad
        try:
            result = purify(images, noise)
        except RuntimeError as error:
            if differentiates and "requires grad" in str(error):  # as of `images.numpy()`
                raise BadInput(reason) from error
            raise
        if differentiates and not result.requires_grad:
            raise BadInput(reason)
        return result

    return purified


def _where_labelled(goals: Tensor, labels: Tensor) -> Tensor:
    """The classes to reach; a pixel of a mask that has no class has none to reach."""
    return goals if labels.ndim == 1 else goals.where(labels != IGNORED, IGNORED)


def _draws(settings: dict) -> int:
    """Over how many draws of the known purifier's noise outputs are the mean; 1 without noise."""
    draws, purifier = settings["attack"].get("draws", 1), settings["purifier"]
    if draws == 1 or purifier is None:
        return 1
    if _draw_noise(purifier):
        return draws
    print(f"{settings['threat']}: purifier {purifier['name']} draws nothing, so 1 draw is made")
    return 1


def _path_draws(settings: dict) -> bool:
    """Whether what images pass on the way of the attack's gradient draws noise."""
    entry, purifier = settings["attack"], settings["purifier"]
    through = entry.get("through", "full")
    if purifier is None or through in ("full", "identity"):
        return _draw_noise(purifier)
    other = None if through == "denoiser" else settings["through"]
    return _draw_noise(other, purifier if entry.get("forward") == "purifier" else None)


def _draw_noise(*purifiers: dict | None) -> bool:
    points = [
        point for purifier in filter(None, purifiers) for point in purifier["points"].values()
    ]
    return any(models.draws_noise(point) for point in points)


def _with_budget(point: dict, epsilons: np.ndarray) -> Callable:
    """The point's function; images of different budgets get them as a tensor [N,1,1,1]."""
    if "epsilons" not in point:
        return load("attacks", point)
    budget = torch.from_numpy(epsilons).to(models.device()).view(-1, 1, 1, 1)
    return load("attacks", {**point, "settings": {**point["settings"], "epsilon": budget}})
