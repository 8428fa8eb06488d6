"""Training with feature losses: what the loss network costs, and what keeping its maps saves.

    python -m bench.feature_loss [--images 256] [--rounds 5] [--threads 1] [--widths 64 16]

from the repository's root, in the development environment. The seven-layer autoencoder learns to
take noise from embedded digits in batches of 128 with Adam; the loss network is VGG-16 of the given
widths (64 is the whole one), with weights that no training has seen, which changes no cost. Ways:

    pixels   the squared error of the images alone: the autoencoder by itself
    kept     ours: the clean images' maps made once and kept, one pass for all three layers
    anew     the same, the clean images' maps made anew in each epoch
    slices   the usual script: a pass for each layer, through clean and denoised images

Epochs take turns (A B A B ...), so that a change of the machine's load meets all. Printed, medians
over the rounds: images/s of wall time, CPU seconds of 1,000 images and that as a multiple of `kept`
in the same round; the share of the loss network in a step; what making the maps costs once.
"""

import argparse
import os
import statistics
import time

BATCH, LR = 128, 1e-3
LAYERS = ("layers.relu5_3", "layers.relu4_2", "layers.relu3_2")
WEIGHTS, PIXEL_WEIGHT = (0.00048, 0.00024, 0.00012), 0.0013


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of feature losses in training.")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 16])
    options = parser.parse_args()
    # Spinning threads would charge one way's waiting to its CPU time.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ["OMP_NUM_THREADS"] = str(options.threads)

    import torch

    torch.set_num_threads(options.threads)
    examples = noisy_digits(options.images)
    for width in options.widths:
        torch.manual_seed(0)
        measure(width, examples, options.rounds)


def noisy_digits(count: int):
    import torch

    from advdenoise.datasets.embedded import digits
    from advdenoise.training._examples import Mixture, Part

    source = digits()
    images, labels = source.read(range(count)), source.train_labels[:count]
    noise = torch.randn(images.shape).mul_(0.2).numpy()
    parts = [Part(1, [noise])]
    return Mixture(torch.from_numpy(images), torch.from_numpy(labels), range(count), parts)


def measure(width: int, examples, rounds: int) -> None:
    import torch

    from advdenoise.classifiers.vgg import vgg16
    from advdenoise.training import features, plain

    network = vgg16((1, 28, 28), 10, width=width).eval().requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)
    ways = {
        "pixels": Way(examples, plain.reconstruct, network),
        "kept": Way(examples, features.reconstruct, network),
        "anew": Way(examples, features.reconstruct, network),
        "slices": Way(examples, slices, network),
    }
    once = seconds(ways["kept"].keep)
    found = [{name: seconds(way.epoch) for name, way in ways.items()} for _ in range(rounds + 1)][
        1:
    ]  # the first round warms up
    for name in ways:
        wall = statistics.median(r[name]["wall"] for r in found) / len(examples)
        cpu = 1000 * statistics.median(r[name]["cpu"] for r in found) / len(examples)
        ratio = statistics.median(r[name]["cpu"] / r["kept"]["cpu"] for r in found)
        print(
            f"width {width:3} {name:8}{1 / wall:8.0f} images/s{cpu:9.2f} CPU s / 1,000 images"
            f"{ratio:7.2f} x kept",
            flush=True,
        )
    share = statistics.median(1 - r["pixels"]["cpu"] / r["kept"]["cpu"] for r in found)
    cost = 1000 * once["cpu"] / len(examples)
    print(f"width {width:3} the loss network takes {100 * share:.1f} % of a step of `kept`")
    print(f"width {width:3} the maps, made once, take {cost:.2f} CPU s / 1,000 images", flush=True)


class Way:
    """One way to train: its autoencoder, its optimiser, its references."""

    def __init__(self, examples, step, network):
        import torch

        from advdenoise.denoisers.autoencoders import seven_layer
        from advdenoise.training._optimisers import Optimiser
        from advdenoise.training._references import References, reference_function

        self._examples, self._step, self._network = examples, step, network
        self._model = seven_layer((1, 28, 28)).to(memory_format=torch.channels_last)
        self._optimiser = Optimiser(self._model, {"name": "adam", "lr": LR}, "bench")
        self._references = None
        if function := reference_function(step, network):
            # Without gradients, as the loop makes them.
            function = torch.no_grad()(function)
            self._references = References(function, examples, BATCH, torch.device("cpu"))

    def keep(self) -> None:
        for _ in self._references.fill_cache():
            pass

    def epoch(self) -> None:
        import torch

        from advdenoise.calls import call_with
        from advdenoise.noise import Noise

        for index in torch.randperm(len(self._examples)).split(BATCH):
            batch = self._examples.batch(index, Noise(0, index, "bench"), 0)
            if self._references:
                batch["reference"] = self._references.get(index, batch["targets"])
            self._optimiser.zero_grad()
            loss, _ = call_with(self._step, model=self._model, network=self._network, **batch)
            loss.backward()
            self._optimiser.step(LR)


def slices(model, images, targets, network):
    """The same loss as scripts write it: the network cut off behind each layer in turn."""
    names = [name for name, _ in network.layers.named_children()]
    denoised = model(images)
    loss = PIXEL_WEIGHT * (denoised - targets).square().sum() / len(images)
    for layer, weight in zip(LAYERS, WEIGHTS, strict=True):
        part = network.layers[: names.index(layer.removeprefix("layers.")) + 1]
        difference = part(denoised) - part(targets)
        loss = loss + weight * difference.square().sum() / len(images)
    return loss, {}


def seconds(function) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


if __name__ == "__main__":
    main()
