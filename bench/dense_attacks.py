"""Attacks on dense predictions compared with the bare passes that they need.

    python -m bench.dense_attacks [--sides 129x129 353x481] [--images 4] [--batch 2] [--rounds 3]
                                  [--threads 1] [--classes 21] [--width 16]

from the repository's root. A randomly initialised small DeepLabV3+ is attacked with FGSM, I-FGSM of
10 steps and SegPGD of 10 steps, on random images and masks in which a twentieth of the pixels has
no class. `--images` and `--batch` are the numbers for 10 steps at 353x481; for smaller images or
fewer steps they are larger in proportion.

A bare pass is forward, torch's mean cross-entropy without those pixels, and input-backward of the
network as jobs use it (folded, frozen, channels-last), on tensors in memory. It is compared with
the attack alone, which needs as many passes as it has steps, and with the whole job (`run`: it
opens files, loads the network, attacks, predicts, compresses and writes), which needs one more
forward pass. They take turns.

Printed, medians over the rounds: images per second of the job, and the ratio of the seconds of the
attack and of the job to those of their bare passes, in wall and in CPU time.
"""

import argparse
import contextlib
import functools
import io
import json
import statistics
import tempfile
from pathlib import Path

from bench._clock import keep_freed_memory, seconds, use_threads

EPSILON, ALPHA, STEPS = 0.032, 0.25 / 255, 10
ITERATIVE = {"epsilon": EPSILON, "alpha": ALPHA, "steps": STEPS}
ATTACKS = {
    "FGSM": ("gradient.fgsm", {"epsilon": EPSILON}, 1),
    "I-FGSM, 10 steps": ("gradient.bim", ITERATIVE, STEPS),
    "SegPGD, 10 steps": ("gradient.segpgd", ITERATIVE, STEPS),
}
IGNORED = 255
PIXELS = 353 * 481


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", nargs="+", default=["129x129", "353x481"])
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--width", type=int, default=16)
    options = parser.parse_args()
    use_threads(options.threads)
    keep_freed_memory()
    head = ("sides", "attack", "images/s", "attack: wall", "CPU", "job: wall", "CPU")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for text in options.sides:
        sides = [int(side) for side in text.split("x")]
        for name, (_, _, passes) in ATTACKS.items():
            scale = PIXELS / (sides[0] * sides[1])
            count, batch = int(options.images * scale * STEPS / passes), int(options.batch * scale)
            with tempfile.TemporaryDirectory() as folder:
                files = Files(Path(folder), sides, count, max(1, batch), options)
                print(f"| {text} | {name} | {compare(files, name, options.rounds)} |", flush=True)


class Files:
    """An image set and a segmentation network, as files and as loaded by jobs."""

    def __init__(self, root: Path, sides: list[int], count: int, batch: int, options):
        import numpy as np
        import torch

        from advdenoise.io.hdf5 import add_array, create_hdf5
        from advdenoise.io.weights import write_weights
        from advdenoise.stages import folded, models
        from advdenoise.stages.data import open_images

        self.root, self.batch = root, batch
        self.images, self.victim = root / "images.h5", root / "victim.safetensors"
        random = np.random.default_rng(0)
        masks = random.integers(options.classes, size=(count, *sides), dtype=np.uint8)
        masks[random.random(masks.shape) < 0.05] = IGNORED
        with create_hdf5(self.images, {"settings": {}}, "images") as file:
            pixels = random.integers(256, size=(count, 3, *sides), dtype=np.uint8)
            add_array(file, "images", pixels)
            add_array(file, "masks", masks, rows=1)
            add_array(file, "ids", np.arange(count))
            file.attrs["classes"] = json.dumps([str(name) for name in range(options.classes)])
        self.entry = {"name": "small", "function": "segmentation.small"}
        self.entry["settings"] = {"width": options.width}
        torch.manual_seed(0)
        with open_images(self.images) as clean:
            network = models.build("classifiers", self.entry, clean.shape, options.classes)
            with torch.no_grad():  # for the statistics of batch norm
                (first,) = clean.batches(batch, models.device(), batch)
                network.to(models.device()).train()(first.images)
            write_weights(self.victim, network.state_dict(), {"settings": {}})
            self.network = folded.classifier(self.victim, self.entry, clean)
            self.batches = list(clean.batches(batch, models.device()))

    def job(self, name: str) -> None:
        """The whole job, without its prints."""
        from advdenoise.stages import attack

        function, settings, _ = ATTACKS[name]
        points = {"default": {"function": function, "settings": settings}}
        settings = {
            "seed": 0,
            "batch": self.batch,
            "threat": "attack@small",
            "attack": {"name": "attack", "points": points},
            "victim": self.entry,
            "purifier": None,
            "denoiser": None,
        }
        paths = {"output": self.root / "adversarial.h5", "resume": self.root / "resume"}
        with contextlib.redirect_stdout(io.StringIO()):
            attack.run(settings, "", images=self.images, victim=self.victim, **paths)

    def attack(self, name: str) -> None:
        """The attack alone, on tensors in memory."""
        from advdenoise.calls import call_with
        from advdenoise.graph.sources import load
        from advdenoise.noise import Noise

        function, settings, _ = ATTACKS[name]
        attack = load("attacks", {"function": function, "settings": settings})
        for batch in self.batches:
            inputs = {"images": batch.images, "labels": batch.labels, "targeted": False}
            call_with(attack, **inputs, predict=self.network, noise=Noise(0, batch.ids, "bench"))

    def bare(self, passes: int) -> None:
        """`passes` forward and input-backward passes."""
        import torch
        from torch.nn import functional

        for batch in self.batches:
            for _ in range(passes):
                leaf = batch.images.detach().requires_grad_()
                logits = self.network(leaf)
                loss = functional.cross_entropy(logits, batch.labels, ignore_index=IGNORED)
                torch.autograd.grad(loss, leaf)

    def forward(self) -> None:
        """One forward pass."""
        import torch

        with torch.no_grad():
            for batch in self.batches:
                self.network(batch.images)


def compare(files: Files, name: str, count: int) -> str:
    functions = [
        functools.partial(files.bare, ATTACKS[name][2]),
        files.forward,
        functools.partial(files.attack, name),
        functools.partial(files.job, name),
    ]
    # The first round warms up.
    rounds = [[seconds(function) for function in functions] for _ in range(count + 1)][1:]
    images = sum(len(batch.images) for batch in files.batches)
    cells = [f"{images / statistics.median(times[3][0] for times in rounds):.2f}"]
    for measured, bare in ((2, (0,)), (3, (0, 1))):
        for clock in (0, 1):
            ratios = [t[measured][clock] / sum(t[i][clock] for i in bare) for t in rounds]
            cells.append(f"{statistics.median(ratios):.3f}")
    return " | ".join(cells)


if __name__ == "__main__":
    main()
