"""One epoch of our training loop compared with the usual script.

    python -m bench.training [--images 1024] [--rounds 5] [--threads 2] [--augmentation crop|affine]

from the repository's root, in the development environment. Both train the 26-layer CNN on the same
embedded crops of photographs with the same batch size, augmentation and Adam. The usual script is a
`DataLoader` with transforms of one PIL image at a time, batches in NCHW and `torch.optim`. Ours is
an epoch of a job, with shuffling, noise, augmentation, history and saving the state. Epochs take
turns (A B A B ...), so that a change of the machine's load affects both.

Printed, medians over the rounds: images/s of wall time, CPU seconds of an epoch, the usual script's
CPU time as a multiple of this one in the same round; then the same for the data alone.
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path

from bench._clock import seconds, use_threads

BATCH, LR = 128, 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--augmentation", choices=("crop", "affine"), default="crop")
    options = parser.parse_args()
    use_threads(options.threads)

    from advdenoise.datasets.embedded import patches

    source = patches(train=-(-options.images // 8))
    ids = range(options.images)
    images, labels = source.read(ids), source.train_labels[: options.images]
    trainings = {"usual": Usual(images, labels, options), "ours": Ours(images, labels, options)}
    for part in ("epoch", "data"):
        rounds = [
            {name: seconds(getattr(training, part)) for name, training in trainings.items()}
            for _ in range(options.rounds + 1)
        ]
        report(part, rounds[1:], options.images)  # the first round warms up


def network():
    import torch

    from advdenoise.classifiers.convnets import elu_cnn

    torch.manual_seed(0)
    return elu_cnn((3, 32, 32), 8)


class Usual:
    """The usual script for CIFAR-10."""

    def __init__(self, images, labels, options):
        import torch
        from torchvision import transforms

        augmentation = {
            "crop": [transforms.RandomCrop(32, padding=4)],
            "affine": [
                transforms.RandomAffine(
                    15, translate=(0.1, 0.1), interpolation=transforms.InterpolationMode.BILINEAR
                )
            ],
        }[options.augmentation]
        self._transform = transforms.Compose(
            [*augmentation, transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        )
        self._images, self._labels = images.transpose(0, 2, 3, 1), labels
        self._loader = torch.utils.data.DataLoader(self, BATCH, shuffle=True)
        self._model = network()
        self._optimiser = torch.optim.Adam(self._model.parameters(), LR)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, i: int):
        from PIL import Image

        return self._transform(Image.fromarray(self._images[i])), int(self._labels[i])

    def epoch(self) -> None:
        from torch.nn import functional

        self._model.train()
        for images, labels in self._loader:
            self._optimiser.zero_grad()
            loss = functional.cross_entropy(self._model(images), labels)
            loss.backward()
            self._optimiser.step()
            loss.item()

    def data(self) -> None:
        for _ in self._loader:
            pass


class Ours:
    """The workflow's training loop."""

    def __init__(self, images, labels, options):
        import torch

        from advdenoise.training._examples import Clean

        augmentations = {"crop": {"crop": 4}, "affine": {"rotation": 15.0, "shift": 0.1}}
        self._augmentation = {**augmentations[options.augmentation], "flip": True}
        self._examples = Clean(
            torch.from_numpy(images), torch.from_numpy(labels), range(len(images))
        )
        self._model = network()

    def epoch(self) -> None:
        from functools import partial

        from advdenoise.training import plain
        from advdenoise.training._loop import train

        loop = {"epochs": 1, "batch": BATCH, "optimiser": {"name": "adam", "lr": LR}}
        step = partial(plain.classify, **self._augmentation)
        with tempfile.TemporaryDirectory() as folder:
            common = {"seed": 0, "name": "bench", "state": Path(folder), "digest": "d"}
            train(self._model, step, self._examples, loop, device="cpu", **common)

    def data(self) -> None:
        import torch

        from advdenoise.noise import Noise
        from advdenoise.training._augment import augment

        for index in torch.randperm(len(self._examples)).split(BATCH):
            noise = Noise(0, self._examples.ids[index], "bench")
            augment(self._examples.batch(index, noise, 0)["images"], noise, **self._augmentation)


def report(part: str, rounds: list[dict], images: int) -> None:
    for name in rounds[0]:
        wall = statistics.median(r[name].wall for r in rounds)
        cpu = statistics.median(r[name].cpu for r in rounds)
        ratio = statistics.median(r["usual"].cpu / r[name].cpu for r in rounds)
        line = f"{part:6}{name:6}{images / wall:10.0f} images/s{cpu:9.3f} CPU s{ratio:8.2f} x usual"
        print(line, flush=True)


if __name__ == "__main__":
    main()
