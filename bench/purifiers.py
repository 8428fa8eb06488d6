"""The cost of purifiers in passes of the denoiser, and their overhead.

    python -m bench.purifiers [--images 32] [--steps 6] [--rounds 9] [--threads 1]

from the repository's root. A bare pass is forward and input-backward of the denoiser (eval mode,
frozen, channels-last) for the same images. Each purifier takes turns with as many bare passes as it
has steps, on RED-Net-30 and, with four times as many images, on a narrow network. Images are 32x32
in colour, with reconstruction errors above the calibration's mean, so that all of them move. Batch
norm has statistics of a few batches.

Printed, CPU time of this process, medians over the rounds: bare passes of a purification, bare
passes of one with a gradient through it (`through: full`), and the ratio of the first to the passes
of its steps. "E, half below the mean" is E with half of the images below the calibration's mean,
which do not move; "B, full graph" is B with autograd's graph of all steps. Last: the peak memory of
both for the gradient.
"""

import argparse
import functools
import statistics

from bench._clock import keep_freed_memory, seconds, use_threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", type=int, nargs="+", default=[30, 10])
    parser.add_argument("--only", nargs="+", help="names of purifiers as printed")
    options = parser.parse_args()
    use_threads(options.threads)
    keep_freed_memory()
    print("| denoiser | purifier | passes | with gradient | over bare |\n|---|---|---|---|---|")
    for layers in options.layers:
        width = 64 if layers == 30 else 16
        # More images for the narrow network, so that a pass takes long enough to be timed
        count = options.images if layers == 30 else 4 * options.images
        denoise, images = network(layers, width), photographs(count)
        variants = purifiers(denoise, images, options.steps)
        for name, purify in variants.items():
            if name not in (options.only or variants):
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


def descents() -> list[str]:
    """The library's purifiers by gradient descent on the reconstruction error."""
    from advdenoise.graph.components import signature
    from advdenoise.graph.sources import functions

    names = functions("purifiers")
    return [n for n in names if "error" in signature("purifiers", "purifiers", n).injected]


def title(name: str) -> str:
    """`module.a_with_noise` -> `A with noise`."""
    return name.partition(".")[2].replace("_", " ").capitalize()


def purifiers(denoise, images, steps: int) -> dict:
    """Each variant as a function of images."""
    import torch

    from advdenoise.calls import call_with
    from advdenoise.graph.sources import load
    from advdenoise.noise import Noise

    def error(images):
        return (images - denoise(images)).square().flatten(1).sum(1)

    with torch.no_grad():
        errors = error(images)
    below = {"mean": 0.5 * errors.min().item(), "deviation": errors.std().item()}
    half = {**below, "mean": errors.median().item()}

    def bind(function, calibration=below, **settings):
        def purify(images):
            noise = Noise(0, range(len(images)), "bench")
            available = {"error": error, "calibration": calibration, "noise": noise}
            available["images"] = images
            return call_with(functools.partial(function, steps=steps, **settings), **available)

        return purify

    functions = {title(name): load("purifiers", {"function": name}) for name in descents()}
    variants = {name: bind(function) for name, function in functions.items()}
    variants["E, half below the mean"] = bind(functions["E"], half)
    variants["G, at each step"] = bind(functions["G"], each_step=True)
    variants["B, full graph"] = full_graph(denoise, steps)
    return variants


def bare(denoise, images) -> None:
    import torch

    leaf = images.detach().requires_grad_()
    torch.autograd.grad(denoise(leaf), leaf, torch.ones_like(images))


def with_gradient(purify, images) -> None:
    import torch

    leaf = images.detach().requires_grad_()
    torch.autograd.grad(purify(leaf).sum(), leaf)


def compare(denoise, purify, images, options) -> str:
    functions = {
        "bare": functools.partial(repeat, bare, denoise, images, options.steps),
        "purify": functools.partial(purify, images),
        "gradient": functools.partial(with_gradient, purify, images),
    }
    rounds = [
        {name: seconds(function).cpu for name, function in functions.items()}
        for _ in range(options.rounds + 1)
    ][1:]  # the first round warms up

    def median(name: str) -> float:
        return statistics.median(times[name] / times["bare"] for times in rounds)

    passes, through = options.steps * median("purify"), options.steps * median("gradient")
    return f"{passes:.1f} | {through:.1f} | {median('purify'):.2f}"


def repeat(function, denoise, images, times: int) -> None:
    for _ in range(times):
        function(denoise, images)


def memory(options) -> None:
    """Print the bytes of the tensors that autograd saves in a purification, without weights."""
    import torch

    denoise, images = network(options.layers[0], 64), photographs(4)
    variants = purifiers(denoise, images, options.steps)
    weights = {w.untyped_storage().data_ptr() for w in denoise.state_dict().values()}
    print(f"\nmemory for the gradient through {options.steps} steps, MB per image:")
    for name in ("B", "B, full graph"):
        sizes = {}

        def save(tensor, sizes=sizes):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            purified = variants[name](images.detach().requires_grad_())
        size = sum(size for address, size in sizes.items() if address not in weights)
        print(f"{name}: {size / 2**20 / len(images):.1f}", flush=True)
        del purified


def full_graph(denoise, steps: int):
    """Variant B with a graph of all steps."""
    import torch

    from advdenoise.purifiers._descent import Adam

    def purify(images):
        rule = Adam(1 / 255)
        state = rule.start(images)
        with_graph = images.requires_grad
        for number in range(1, steps + 1):
            if not with_graph:
                images = images.detach().requires_grad_()
            error = (images - denoise(images)).square().flatten(1).sum(1)
            (gradient,) = torch.autograd.grad(error.sum(), images, create_graph=with_graph)
            images, *state = rule.step(number, images, gradient, error, *state)
        return images

    return purify


if __name__ == "__main__":
    main()
