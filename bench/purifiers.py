"""What purifying costs in passes of the denoiser, and what the procedure adds to them.

    python -m bench.purifiers [--images 32] [--steps 6] [--rounds 9] [--threads 1]

from the repository's root. A bare pass is forward and input-backward of the denoiser (eval mode,
frozen, channels-last) for the same images. Each purifier takes turns with as many bare passes as it
has steps, on RED-Net-30 and, with four times as many images, on a narrow network: 32x32 in colour,
with reconstruction errors above the calibration's mean, so that none rests. Batch norm has seen a
few batches.

Printed, CPU time of this process, medians over the rounds: a purification in bare passes, the same
through which a gradient is taken (`through: full`), and the ratio of the first to its steps' bare
passes. "E, half at rest" is E with half of the images below the mean; "B, whole graph" B unrolled
as usual, with a graph of all steps. Last: what either holds at most for the gradient.
"""

import argparse
import functools
import os
import statistics
import time

from bench._clock import as_in_jobs


def main() -> None:
    parser = argparse.ArgumentParser(description="Purifiers against bare passes of the denoiser.")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", type=int, nargs="+", default=[30, 10])
    parser.add_argument("--only", nargs="+", help="names of purifiers as printed")
    options = parser.parse_args()
    # Spinning threads would charge their waiting to the CPU time.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    as_in_jobs()

    import torch

    torch.set_num_threads(options.threads)
    print("| denoiser | purifier | passes | with gradient | over bare |\n|---|---|---|---|---|")
    for layers in options.layers:
        width = 64 if layers == 30 else 16
        # Of narrow networks a workflow's batch, so that a pass lasts long beside the clock's noise
        count = options.images if layers == 30 else 4 * options.images
        denoise, images = network(layers, width), photographs(count)
        found = purifiers(denoise, images, options.steps)
        for name, purify in found.items():
            if name not in (options.only or found):
                continue
            cells = compare(denoise, purify, images, options)
            print(f"| {layers} layers of {width} | {name} | {cells} |", flush=True)
    memory(options)


def network(layers: int, width: int):
    import torch

    from advdenoise.denoisers.autoencoders import red_net

    torch.manual_seed(0)
    denoiser = red_net((3, 32, 32), layers=layers, width=width)
    with torch.no_grad():
        for _ in range(3):
            denoiser.train()(photographs(32))
    return denoiser.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def photographs(count: int):
    import torch

    from advdenoise.datasets.embedded import patches

    images = torch.from_numpy(patches(train=-(-count // 8)).read(range(count))).float() / 255
    return images.contiguous(memory_format=torch.channels_last)


def purifiers(denoise, images, steps: int) -> dict:
    """Each variant as a function of images."""
    import torch

    from advdenoise.calls import injected_parameters
    from advdenoise.noise import Noise
    from advdenoise.purifiers import apudae as variants

    def error(given):
        return (given - denoise(given)).square().flatten(1).sum(1)

    with torch.no_grad():
        errors = error(images)
    below = {"mean": 0.5 * errors.min().item(), "deviation": errors.std().item()}
    half = {**below, "mean": errors.median().item()}

    def bound(function, calibration=below, **settings):
        def purify(given):
            noise = Noise(0, range(len(given)), "bench")
            offered = {"error": error, "calibration": calibration, "noise": noise}
            own = {
                name: offered[name] for name in injected_parameters(function) if name != "images"
            }
            return function(given, **own, steps=steps, **settings)

        return purify

    found = {name.upper(): bound(getattr(variants, name)) for name in "abcdefg"}
    found["E, half at rest"] = bound(variants.e, half)
    found["G, at each step"] = bound(variants.g, each_step=True)
    found["A with noise"] = bound(variants.a_with_noise)
    found["A transformed"] = bound(variants.a_transformed)
    found["B, whole graph"] = whole_graph(denoise, steps)
    return found


def bare(denoise, images) -> None:
    import torch

    leaf = images.detach().requires_grad_()
    torch.autograd.grad(denoise(leaf), leaf, torch.ones_like(images))


def with_gradient(purify, images) -> None:
    import torch

    leaf = images.detach().requires_grad_()
    torch.autograd.grad(purify(leaf).sum(), leaf)


def compare(denoise, purify, images, options) -> str:
    ways = {
        "bare": functools.partial(repeated, bare, denoise, images, options.steps),
        "purify": functools.partial(purify, images),
        "gradient": functools.partial(with_gradient, purify, images),
    }
    rounds = [
        {name: seconds(way) for name, way in ways.items()} for _ in range(options.rounds + 1)
    ][1:]  # the first round warms up

    def median(name: str) -> float:
        return statistics.median(own[name] / own["bare"] for own in rounds)

    passes, through = options.steps * median("purify"), options.steps * median("gradient")
    return f"{passes:.1f} | {through:.1f} | {median('purify'):.2f}"


def repeated(function, denoise, images, times: int) -> None:
    for _ in range(times):
        function(denoise, images)


def seconds(function) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def memory(options) -> None:
    """Bytes of the storages that autograd holds on the way forth, weights left out."""
    import torch

    denoise, images = network(options.layers[0], 64), photographs(4)
    found = purifiers(denoise, images, options.steps)
    weights = {w.untyped_storage().data_ptr() for w in denoise.state_dict().values()}
    print(f"\nheld for the gradient through {options.steps} steps, MB for each image:")
    for name in ("B", "B, whole graph"):
        kept = {}

        def keep(tensor, kept=kept):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            purified = found[name](images.detach().requires_grad_())
        size = sum(size for place, size in kept.items() if place not in weights)
        print(f"{name}: {size / 2**20 / len(images):.1f}", flush=True)
        del purified


def whole_graph(denoise, steps: int):
    import torch

    from advdenoise.purifiers._descent import Adam

    def purify(images):
        rule = Adam(1 / 255)
        kept = rule.start(images)
        follow = images.requires_grad
        for number in range(1, steps + 1):
            if not follow:
                images = images.detach().requires_grad_()
            error = (images - denoise(images)).square().flatten(1).sum(1)
            (gradient,) = torch.autograd.grad(error.sum(), images, create_graph=follow)
            images, *kept = rule.step(number, images, gradient, error, *kept)
        return images

    return purify


if __name__ == "__main__":
    main()
