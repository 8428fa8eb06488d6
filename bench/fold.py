"""The gain of the exact rewriting of classifiers for inference.

    python -m bench.fold [--images 128] [--rounds 25] [--threads 2]

from the repository's root. Compared are the plain network (eval mode, frozen, channels_last), the
plain network with the fast ELU if it has one, and the folded network. They take turns in one
process, on the same random images; batch norm has statistics of a few batches. Printed for the
forward pass and for the forward and input-backward pass: medians of the CPU milliseconds, and the
median over the rounds of plain / variant. Page faults count as CPU time, more for networks that
allocate more; to see their share, run it with and without

    MALLOC_TRIM_THRESHOLD_=4000000000 MALLOC_MMAP_MAX_=0

with which glibc keeps freed memory. ATEN_CPU_CAPABILITY=avx2 shows the gain on CPUs where torch's
expm1, and with it its ELU, is fast.
"""

import argparse
import copy
import os
import statistics
import time

from bench._clock import use_threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    use_threads(options.threads)

    import torch

    from advdenoise.classifiers.convnets import elu_cnn, lenet
    from advdenoise.classifiers.resnet import cifar_resnet18

    torch.manual_seed(0)
    print(
        "| network | pass | variant | CPU ms | plain / variant |\n| --- | --- | --- | --- | --- |"
    )
    for build, shape, fraction in (
        (elu_cnn, (3, 32, 32), 1),
        (lenet, (1, 28, 28), 1),
        (cifar_resnet18, (3, 32, 32), 8),
    ):
        images = torch.rand(options.images // fraction, *shape)
        images = images.contiguous(memory_format=torch.channels_last)
        compare(build.__name__, variants(build(shape, 10), images), images, options.rounds)


def variants(network, images) -> dict:
    import torch

    from advdenoise.inference.elu import FastELU, use_fast_elu
    from advdenoise.inference.fold import fold

    with torch.no_grad():
        for _ in range(5):
            network.train()(images)
    network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    networks = {"plain": network}
    fast = use_fast_elu(copy.deepcopy(network))
    if any(isinstance(module, FastELU) for module in fast.modules()):
        networks["fast ELU"] = fast
    return networks | {"folded": fold(network)}


def compare(name: str, networks: dict, images, rounds: int) -> None:
    for label, run in (("forward", forward), ("forward + backward", forward_and_backward)):
        seconds = {variant: [] for variant in networks}
        for number in range(rounds + 2):
            for variant, network in networks.items():
                start = time.process_time()
                run(network, images)
                if number >= 2:  # The first rounds warm up.
                    seconds[variant].append(time.process_time() - start)
        for variant, times in seconds.items():
            ratios = [a / b for a, b in zip(seconds["plain"], times, strict=True)]
            cells = f"{1000 * statistics.median(times):.1f} | {statistics.median(ratios):.2f}"
            print(f"| {name} | {label} | {variant} | {cells} |", flush=True)


def forward(network, images) -> None:
    import torch

    with torch.no_grad():
        network(images)


def forward_and_backward(network, images) -> None:
    import torch

    leaf = images.detach().requires_grad_()
    loss = torch.nn.functional.cross_entropy(network(leaf), leaf.new_zeros(len(leaf)).long())
    torch.autograd.grad(loss, leaf)


if __name__ == "__main__":
    main()
