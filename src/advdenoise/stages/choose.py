"""The choose stage: which of the candidates for an entry's settings is best, on no test image.

The attack's networks and the purifier's denoiser are the only ones that are looked at; of equal
candidates the first is chosen.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from advdenoise.calls import injected_parameters
from advdenoise.graph.sources import load
from advdenoise.io.json_files import write_json
from advdenoise.io.provenance import collect_provenance
from advdenoise.noise import Noise
from advdenoise.outputs import predicted
from advdenoise.stages import models
from advdenoise.stages.attack import AttackRun, errs, image_epsilons, open_attack
from advdenoise.stages.data import Batch, ImageSet, open_images
from advdenoise.stages.evaluate import finite_logits

GREY = 255**2  # squared differences are told on the scale 0..255
MSE, CLEAN, ROBUST, SCORE = "MSE", "clean accuracy", "robust accuracy", "mean of both"


def run(
    settings: dict,
    images: Path,
    victim: Path,
    output: Path,
    surrogate: Path | None = None,
    denoiser: Path | None = None,
    calibration: Path | None = None,
) -> None:
    """Write what is chosen for each setting of the entry, and of every candidate its measures.

    Of an attack's setting that is the candidate whose mean squared perturbation is nearest to the
    one asked for; of a purifier's the one with the highest mean of clean accuracy and accuracy
    under an attack on the classifier alone, each image with one draw. `images` says
    how many of the file's first images are looked at.
    """
    started = time.time()
    with open_images(images) as clean:
        alone = settings | {"purifier": None, "denoiser": None}
        attack = open_attack(alone, clean, victim, surrogate, None, None)
        if settings["kind"] == "attacks":
            choices = _for_attack(settings, attack, clean)
        else:
            autoencoder = models.denoiser(denoiser, calibration, settings["denoiser"], clean)
            choices = _for_purifier(settings, attack, autoencoder, clean)
        value = {
            "entry": settings["entry"],
            "classifier": settings["victim"]["name"],
            "images": min(settings["images"], len(clean)),
            "choices": list(choices),
        }
    write_json(output, value, collect_provenance(settings, started))


def _batches(settings: dict, clean: ImageSet, title: str) -> Iterator[Batch]:
    batches = clean.batches(settings["batch"], models.device(), settings["images"])
    return tqdm(batches, desc=f"choose {settings['entry']} {title}", disable=None)


# ---------------------------------------------------------------- attacks


def _for_attack(settings: dict, attack: AttackRun, clean: ImageSet) -> Iterator[dict]:
    for choice in settings["choices"]:
        batches = _batches(settings, clean, choice["point"])
        parts = [_perturbed(settings, attack, choice, batch, len(clean)) for batch in batches]
        noise = GREY * np.concatenate(parts, axis=1)
        measures = [{MSE: values} for values in noise]
        scores = [-abs(values.mean() - choice["wanted"]) for values in noise]
        yield _record(choice, scores, measures)


def _perturbed(
    settings: dict, attack: AttackRun, choice: dict, batch: Batch, count: int
) -> np.ndarray:
    """The mean squared perturbation of each image with each candidate: [candidates, N].

    The path of an attack with a stop rule does not depend on its limit of steps, so one run with
    the largest limit gives the perturbations of all.
    """
    point = settings["attack"]["points"][choice["point"]]
    candidates = choice["candidates"]

    def perturb(value, callback=None) -> Tensor:
        tried = {**point, "settings": point["settings"] | {choice["setting"]: value}}
        epsilons = image_epsilons(tried, count)[batch.rows]
        return attack(tried, batch, epsilons, *([callback] if callback else []))[0]

    if choice["setting"] == "steps" and "callback" in injected_parameters(load("attacks", point)):
        path: list[Tensor] = []
        perturb(max(candidates), lambda perturbation: path.append(_squares(perturbation)))
        # Once all images are done, there are no further steps.
        squares = [path[min(steps, len(path) - 1)] for steps in candidates]
    else:
        squares = [_squares(perturb(value)) for value in candidates]
    return torch.stack(squares).cpu().double().numpy()


def _squares(perturbation: Tensor) -> Tensor:
    return perturbation.square().flatten(1).mean(1)


# ---------------------------------------------------------------- purifiers


def _for_purifier(
    settings: dict, attack: AttackRun, denoiser: models.Denoiser | None, clean: ImageSet
) -> Iterator[dict]:
    by = settings["choices"][0]["by"]["attack"]
    attacked = settings["attack"]["points"][by.partition(" ")[2] or "default"]
    epsilons = image_epsilons(attacked, len(clean))
    correct: dict[tuple[int, object], list[np.ndarray]] = {}
    for batch in _batches(settings, clean, f"under {by}"):
        perturbation, _ = attack(attacked, batch, epsilons[batch.rows])
        for number, choice in enumerate(settings["choices"]):
            for place, value in enumerate(choice["candidates"]):
                pair = [
                    _correct(settings, choice, value, batch, shown, attack, denoiser)
                    for shown in (batch.images, batch.images + perturbation)
                ]
                correct.setdefault((number, place), []).append(np.stack(pair))
    for number, choice in enumerate(settings["choices"]):
        places = range(len(choice["candidates"]))
        hits = [np.concatenate(correct[number, place], axis=1) for place in places]
        measures = [{CLEAN: own[0], ROBUST: own[1], SCORE: own.mean(0)} for own in hits]
        yield _record(choice, [own.mean() for own in hits], measures)


@torch.no_grad()
def _correct(
    settings: dict, choice: dict, value, batch: Batch, images: Tensor, attack: AttackRun, denoiser
) -> np.ndarray:
    """Whether each image is classified correctly, purified with a candidate: float64 [N]."""
    entry = settings["purifier"]
    point = entry["points"][choice["point"]]
    tried = {**point, "settings": point["settings"] | {choice["setting"]: value}}
    noise = Noise(settings["seed"], batch.ids, entry["name"], "choose")
    logits = finite_logits(attack.victim, models.purifier(tried, denoiser)(images, noise))
    return (~errs(predicted(logits), batch.labels)).cpu().double().numpy()


# ---------------------------------------------------------------- results


def _record(choice: dict, scores: list[float], measures: list[dict]) -> dict:
    candidates = choice["candidates"]
    best = max(range(len(candidates)), key=lambda place: np.nan_to_num(scores[place], nan=-np.inf))
    return {
        "point": choice["point"],
        "setting": choice["setting"],
        "by": choice["by"],
        "wanted": choice["wanted"],
        "value": candidates[best],
        "candidates": [
            {"value": value, "score": float(score), "measures": _means(own)}
            for value, score, own in zip(candidates, scores, measures, strict=True)
        ],
    }


def _means(measures: dict[str, np.ndarray]) -> dict[str, dict]:
    """Of each measure its mean over images, their standard deviation and their number."""
    return {
        name: {"mean": values.mean(), "deviation": values.std(), "images": len(values)}
        for name, values in measures.items()
    }
