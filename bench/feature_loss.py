"""Training with feature losses: the cost of the loss network, and the gain of caching its maps.

    python -m bench.feature_loss [--images 256] [--rounds 5] [--threads 1] [--widths 64 16]

from the repository's root, in the development environment. The seven-layer autoencoder learns to
denoise embedded digits in batches of 128 with Adam. The loss network is a randomly initialised
VGG-16 of the given widths (64 is the full one). Compared are:

    pixels   the squared error of the images alone, without a loss network
    cached   ours: the clean images' maps are computed once, with one pass for all three layers
    uncached the same, but the clean images' maps are computed in each epoch
    sliced   the usual script: a pass for each layer, of clean and of denoised images

Epochs take turns (A B A B ...), so that a change of the machine's load affects all. Printed,
medians over the rounds: images/s of wall time, CPU seconds per 1,000 images and that as a multiple
of `cached` in the same round; the share of the loss network in a step; the cost of the cache.
"""

import argparse
import statistics

from bench._clock import seconds, use_threads

BATCH, LR = 128, 1e-3
LAYERS = ("layers.relu5_3", "layers.relu4_2", "layers.relu3_2")
WEIGHTS, PIXEL_WEIGHT = (0.00048, 0.00024, 0.00012), 0.0013


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 16])
    options = parser.parse_args()
    use_threads(options.threads)

    import torch

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
    trainings = {
        "pixels": Training(examples, plain.reconstruct, network),
        "cached": Training(examples, features.reconstruct, network),
        "uncached": Training(examples, features.reconstruct, network),
        "sliced": Training(examples, sliced, network),
    }
    caching = seconds(trainings["cached"].fill_cache)
    times = [
        {name: seconds(training.epoch) for name, training in trainings.items()}
        for _ in range(rounds + 1)
    ][1:]  # the first round warms up
    for name in trainings:
        wall = statistics.median(r[name].wall for r in times) / len(examples)
        cpu = 1000 * statistics.median(r[name].cpu for r in times) / len(examples)
        ratio = statistics.median(r[name].cpu / r["cached"].cpu for r in times)
        print(
            f"width {width:3} {name:8}{1 / wall:8.0f} images/s{cpu:9.2f} CPU s / 1,000 images"
            f"{ratio:7.2f} x cached",
            flush=True,
        )
    share = statistics.median(1 - r["pixels"].cpu / r["cached"].cpu for r in times)
    cost = 1000 * caching.cpu / len(examples)
    print(f"width {width:3} the loss network takes {100 * share:.1f} % of a step of `cached`")
    print(f"width {width:3} filling the cache takes {cost:.2f} CPU s / 1,000 images", flush=True)


class Training:
    """An autoencoder with its step, optimiser and references."""

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
            # Without gradients, as in the training loop
            function = torch.no_grad()(function)
            self._references = References(function, examples, BATCH, torch.device("cpu"))

    def fill_cache(self) -> None:
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


def sliced(model, images, targets, network):
    """The same loss as usual in scripts, with a truncated network for each layer."""
    names = [name for name, _ in network.layers.named_children()]
    denoised = model(images)
    loss = PIXEL_WEIGHT * (denoised - targets).square().sum() / len(images)
    for layer, weight in zip(LAYERS, WEIGHTS, strict=True):
        part = network.layers[: names.index(layer.removeprefix("layers.")) + 1]
        difference = part(denoised) - part(targets)
        loss = loss + weight * difference.square().sum() / len(images)
    return loss, {}


if __name__ == "__main__":
    main()
