"""Leave-one-out passes against the bare forward passes that they need.

    python -m bench.leave_one_out [--images 16] [--batch 128] [--rounds 3] [--threads 1]

from the repository's root. The network is the 26-layer CNN with fresh weights, on random images;
masks are single pixels of two images, and SLIC superpixels of all. Printed for probabilities and
for the 3,810 nodes, medians over the rounds: masked images/s of CPU time, interquartile ranges
included, those of as many bare forward passes (logits only, batches of the same size, same round)
and the quotient.
"""

import argparse
import contextlib
import statistics
import time

import numpy as np
import torch

from scripts.advdenoise.attributions import _loo, _nodes, superpixels
from scripts.advdenoise.classifiers.convnets import elu_cnn

SHAPE, CLASSES = (3, 32, 32), 10
MEAN_GREY = 0.473363


def main() -> None:
    parser = argparse.ArgumentParser(description="Leave-one-out against bare forward passes.")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = elu_cnn(SHAPE, CLASSES).eval().to(memory_format=torch.channels_last)
    images = _images(options.images)
    shapes = _nodes.map_shapes(model, [f"layers.{i}" for i in range(6, 25)], images[:1])
    nodes = _nodes.draw(0, "elu_cnn", shapes)

    print(f"{'masks':<8} {'outputs':<14} {'masked/s':>9} {'bare/s':>9} {'ratio':>6}")
    for masks, count, segment in (
        ("pixels", 2, superpixels.pixels),
        ("slic", len(images), lambda image: superpixels.slic(image, n_segments=64)),
    ):
        chosen = images[:count]
        segments = _segments(chosen, segment)
        for outputs, enter in (
            ("probabilities", lambda: contextlib.nullcontext(_nodes.probabilities(model))),
            (f"{len(nodes) + CLASSES} nodes", lambda: _nodes.node_outputs(model, nodes)),
        ):
            rates = [
                _rates(model, chosen, segments, enter, options.batch) for _ in range(options.rounds)
            ]
            ours, bare = (statistics.median(column) for column in zip(*rates, strict=True))
            ratio = statistics.median(ours / bare for ours, bare in rates)
            print(f"{masks:<8} {outputs:<14} {ours:9.0f} {bare:9.0f} {ratio:6.3f}")


def _images(count: int) -> torch.Tensor:
    """Smooth random images, so that superpixels have something to follow."""
    coarse = torch.rand(count, SHAPE[0], 6, 6)
    return torch.nn.functional.interpolate(coarse, SHAPE[1:], mode="bilinear")


def _segments(images: torch.Tensor, segment) -> torch.Tensor:
    maps = [segment(image) for image in images.permute(0, 2, 3, 1).numpy()]
    return torch.from_numpy(np.stack(maps))


def _rates(model, images, segments, enter, batch: int) -> tuple[float, float]:
    """Masked images per CPU second of leave-one-out, and of bare passes of the same number."""
    masks = int((segments.flatten(1).amax(1) + 1).sum())
    with enter() as outputs:
        ours = _cpu_seconds(
            lambda: _loo.iqr_features(images, segments, outputs, MEAN_GREY, "linear", batch)
        )
    # Each image is passed whole, too.
    passes = masks + len(images)
    inputs = images.repeat(-(-passes // len(images)), 1, 1, 1)[:passes]
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    return masks / ours, masks / _cpu_seconds(lambda: _bare(model, inputs, batch))


@torch.inference_mode()
def _bare(model, inputs: torch.Tensor, batch: int) -> None:
    for part in inputs.tensor_split(-(-len(inputs) // batch)):
        model(part)


def _cpu_seconds(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
