"""The hidden nodes of a classifier whose leave-one-out attributions are features.

Al Bared and Nassar 2021 take 200 nodes of each of 19 layers and the 10 probabilities: 3,810 in
all, their "4K".
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from advdenoise.distances import Taps
from advdenoise.errors import BadInput

# The configuration key with the names of the layers.
KEY = "hidden.taps"


@dataclass(frozen=True)
class Nodes:
    """Selected elements of the maps of named modules.

    Attributes:
        shapes: shape of each map without its first axis, by module name.
        indices: indices into the flattened map, by module name.
    """

    shapes: dict[str, tuple[int, ...]]
    indices: dict[str, list[int]]
    _axes_cache: dict = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return sum(map(len, self.indices.values()))

    @property
    def names(self) -> list[str]:
        return list(self.indices)

    def without(self, excluded: np.ndarray) -> "Nodes":
        """The nodes without the `excluded` ones: bool [len(self)], in the order of `names`."""
        remaining, start = {}, 0
        for name, indices in self.indices.items():
            part = excluded[start : start + len(indices)]
            remaining[name] = [index for index, out in zip(indices, part, strict=True) if not out]
            start += len(indices)
        return Nodes(self.shapes, {name: indices for name, indices in remaining.items() if indices})

    def take(self, name: str, output: Tensor) -> Tensor:
        """The nodes [N, k] of one layer's map [N, ...], whatever its memory format."""
        if output.shape[1:] != self.shapes[name]:
            raise ValueError(
                f"nodes of {name!r} were drawn for maps of shape {self.shapes[name]}, "
                f"not {tuple(output.shape[1:])}"
            )
        return output[(slice(None), *self._axes(name, output.device))]

    def gather(self, maps: Mapping[str, Tensor]) -> Tensor:
        """The nodes [N, len(self)] of all layers, in the order of `names`."""
        return torch.cat([self.take(name, maps[name]) for name in self.indices], dim=1)

    def _axes(self, name: str, device: torch.device) -> list[Tensor]:
        """Coordinates along each axis, cached on the device, since copying them is slow."""
        key = name, device
        if key not in self._axes_cache:
            axes = np.unravel_index(self.indices[name], self.shapes[name])
            self._axes_cache[key] = [torch.from_numpy(axis).to(device) for axis in axes]
        return self._axes_cache[key]


def draw_nodes(
    seed: int, classifier: str, shapes: Mapping[str, Sequence[int]], per_layer: int = 200
) -> Nodes:
    """Draw nodes independently and with replacement along each axis.

    Source: Al Bared and Nassar 2021, section 5.

    The nodes of a layer depend only on the seed and the names of classifier and layer, so that all
    threats, attributions and splits share them.

    Args:
        seed: the replicate's seed.
        classifier: its name in the configuration.
        shapes: shape of each layer's map without its first axis (`map_shapes`).
        per_layer: number of nodes in each layer.
    """
    sizes = {name: tuple(shape) for name, shape in shapes.items()}
    return Nodes(
        sizes,
        {
            name: _coordinates(_generator(int(seed), classifier, name), shape, per_layer)
            for name, shape in sizes.items()
        },
    )


def _generator(*names) -> np.random.Generator:
    digest = hashlib.sha256(json.dumps(["nodes", *names]).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def _coordinates(generator: np.random.Generator, shape: tuple[int, ...], count: int) -> list[int]:
    axes = [generator.integers(size, size=count) for size in shape]
    return np.ravel_multi_index(axes, shape).tolist()


def map_shapes(
    model: nn.Module, names: Sequence[str], images: Tensor
) -> dict[str, tuple[int, ...]]:
    """Shapes of the named modules' maps without the first axis, from one pass over `images`.

    Raises:
        BadInput: a module that the model does not have or that does not run.
    """
    with Taps(model, names, lambda _, output: tuple(output.shape[1:]), KEY) as taps:
        with torch.inference_mode():
            model(images)
        return taps.take()


@contextmanager
def node_outputs(model: nn.Module, nodes: Nodes) -> Iterator[Callable[[Tensor], Tensor]]:
    """A function from images [N, C, H, W] to nodes and probabilities [N, len(nodes) + classes].

    Nodes are gathered during the forward pass, so that no map is kept. The model must be in eval
    mode and return logits.
    """
    if model.training:
        raise ValueError("the classifier is in training mode")

    with Taps(model, nodes.names, nodes.take, KEY) as taps:

        def outputs(images: Tensor) -> Tensor:
            probabilities = model(images).softmax(dim=1)
            return torch.cat([*taps.take().values(), probabilities], dim=1)

        yield outputs


def check_finite(logits: Tensor) -> Tensor:
    """Return the logits; raise BadInput unless all are finite."""
    if not logits.isfinite().all():
        raise BadInput(
            "attributions: the classifier's outputs are not finite for a masked image; train it "
            "again, or check the images"
        )
    return logits


def probabilities(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """A function from images [N, C, H, W] to the classifier's probabilities [N, classes]."""
    return lambda images: model(images).softmax(dim=1)
