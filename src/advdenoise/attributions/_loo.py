"""Leave-one-out attributions and their spread.

An attribution is phi_i = |f(x_i) - f(x)|, where x_i is the image x with segment i masked and f any
nodes of the classifier. The feature of a node is the interquartile range of its phi over the
image's segments ("segfault", equations 1 and 2; ML-LOO).

There are two ways to the same phi. Where the network is a plain stack of layers, the change alone
is sent through it (`_delta`), else every mask takes a full pass (`_passes`).
"""

import logging
from collections.abc import Iterator
from itertools import starmap

import numpy as np
import torch
from torch import Tensor, nn

from advdenoise.attributions import _passes
from advdenoise.attributions._delta import Delta
from advdenoise.attributions._masks import Masking, Masks, masks_of
from advdenoise.attributions._nodes import Nodes, node_outputs
from advdenoise.attributions._quantiles import iqr
from advdenoise.errors import BadInput
from advdenoise.inference.stack import NotPlain, Stack, read

log = logging.getLogger(__name__)


class LeaveOneOut:
    """The leave-one-out features of one classifier.

    Args:
        network: in eval mode, from images [n, C, H, W] to logits [n, classes].
        nodes: the hidden nodes to look at.
        example: one image [1, C, H, W] as all will be: shape, type and device.
        batch: images in a full pass.
        by_changes: send changes where the network allows it.
        rounding: "none", or "float32" to round probabilities before they are subtracted, as the
            authors' are: in float64 the range of saturated ones is small, and not exactly 0.

    Raises:
        BadInput: for a batch norm without running statistics, whose outputs depend on the batch.
    """

    def __init__(
        self,
        network: nn.Module,
        nodes: Nodes,
        example: Tensor,
        batch: int = 128,
        by_changes: bool = True,
        rounding: str = "none",
    ):
        if any(module.training for module in network.modules()):
            raise ValueError("the classifier is in training mode")
        _check_statistics(network)
        self._network = network
        self._nodes = nodes
        self._example = example
        self._batch = batch
        self._rounded = rounding == "float32"
        self._deltas = {}
        with torch.inference_mode():
            self._classes = network(example).shape[1]
        self._delta = self._by_changes() if by_changes else None

    def _by_changes(self) -> Delta | None:
        try:
            stack = read(self._network, self._example, self._nodes.names)
        except NotPlain as reason:
            log.info(
                "attributions: the classifier is no plain stack of layers (%s), so each mask "
                "takes a full pass",
                reason,
            )
            return None
        return Delta(stack, self._nodes, self._rounded)

    @property
    def stack(self) -> Stack | None:
        """The network as steps; None where every mask takes a full pass."""
        return self._delta and self._delta.stack

    def attributions(self, masks: Masks) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield for each image its probabilities [classes] and phi [D, masks].

        D are the nodes and the probabilities. Raises BadInput where an output is not finite.
        """
        return self._attributions(masks, self._delta)

    def features(
        self,
        images: Tensor,
        segments: Tensor | np.ndarray,
        masking: Masking,
        rule: str = "linear",
        apart: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Probabilities [N, classes] and the IQR of phi [N, D] of each image, on the CPU.

        No phi outlives its images. Of single pixels, the nodes whose IQR must be 0, because less
        than a quarter of the pixels reach them, are not computed.

        Args:
            images: float [N, C, H, W] in [0, 1].
            segments: labels 0..K-1 [N, H, W], whole numbers.
            masking, apart: as in `masks_of`.
            rule: as in `iqr`.

        Raises:
            BadInput: for another masking or rule, for images of another shape than the
                classifier's or with values that are not finite, where an output is not finite.
        """
        if images.shape[1:] != self._example.shape[1:]:
            raise BadInput(
                f"attributions: images of shape {tuple(images.shape[1:])} for a classifier of "
                f"images of shape {tuple(self._example.shape[1:])}; give images of that shape"
            )
        masks = masks_of(images, segments, masking, apart)
        delta, live = self._delta, np.ones(len(self._nodes) + self._classes, bool)
        if delta is not None and masks.are_pixels:
            delta, live = self._without_zeros(rule, apart)
        # No name for a phi: it would keep the memory of its part while the next is computed.
        found = self._attributions(masks, delta)
        pairs = list(starmap(lambda whole, phi: (whole, iqr(phi, rule)), found))
        whole, spread = (torch.stack(column).cpu() for column in zip(*pairs, strict=True))
        everything = spread.new_zeros(len(spread), len(live))
        everything[:, torch.from_numpy(live)] = spread
        return whole, everything

    def _attributions(self, masks: Masks, delta: Delta | None) -> Iterator[tuple[Tensor, Tensor]]:
        if delta is not None:
            yield from delta.attributions(masks)
            return
        with node_outputs(self._network, self._nodes) as outputs:
            yield from _passes.attributions(masks, outputs, self._classes, self._batch)

    def _without_zeros(self, rule: str, apart: bool) -> tuple[Delta, np.ndarray]:
        """For single pixels: what computes the other nodes, and which columns these are."""
        if (rule, apart) not in self._deltas:
            zero = self._delta.certain_zeros(rule, apart)
            log.info(
                "attributions: too few pixels reach %d of the %d hidden nodes for an "
                "interquartile range above 0; they are not computed",
                zero.sum(),
                len(zero),
            )
            delta = Delta(self._delta.stack, self._nodes.without(zero), self._rounded)
            live = np.concatenate([~zero, np.ones(self._classes, bool)])
            self._deltas[rule, apart] = delta, live
        return self._deltas[rule, apart]


def _check_statistics(network: nn.Module) -> None:
    """Refuse a network of which an image's outputs depend on the other images of a batch."""
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise BadInput(
                f"attributions: {name} ({type(module).__name__}) of the classifier has no running "
                "statistics, so that the outputs of an image depend on its batch; build it with "
                "track_running_stats=True and train it again"
            )


def representations(whole: Tensor, spread: Tensor) -> dict[str, Tensor]:
    """The feature vectors of "segfault" from one set of passes, by representation.

    Args:
        whole, spread: from `LeaveOneOut.features`, [N, classes] and [N, D]; the last columns of
            `spread` belong to the probabilities.

    Returns:
        `predicted` [N, 1] (the probability of the class that the whole image is given),
        `probabilities` [N, classes], `hidden` [N, D] (nodes and probabilities).
    """
    probabilities = spread[:, -whole.shape[1] :]
    return {
        "predicted": probabilities.gather(1, whole.argmax(dim=1, keepdim=True)),
        "probabilities": probabilities,
        "hidden": spread,
    }
