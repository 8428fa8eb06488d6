"""Leave-one-out attributions and their interquartile ranges.

An attribution is phi_i = |f(x_i) - f(x)|, where x_i is the image x with segment i masked and f is a
node of the classifier. The feature of a node is the interquartile range of its phi over the image's
segments (Al Bared and Nassar 2021, equations 1 and 2; ML-LOO).

There are two algorithms with equal results. If the network is a sequence of supported layers, only
the change is propagated (`_delta`); otherwise each mask takes a full forward pass (`_passes`).
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
from advdenoise.inference.stack import NotSequential, Stack, read_stack

log = logging.getLogger(__name__)


class LeaveOneOut:
    """The leave-one-out features of one classifier.

    Args:
        network: in eval mode, from images [n, C, H, W] to logits [n, classes].
        nodes: the hidden nodes.
        example: an image [1, C, H, W] with the shape, dtype and device of all images.
        batch: images in a full forward pass.
        by_changes: propagate changes if the network allows it.
        rounding: "none", or "float32" to round probabilities before they are subtracted, as in the
            authors' program: in float64 the IQR of saturated ones is small, but not exactly 0.

    Raises:
        BadInput: a batch norm without running statistics, whose outputs depend on the batch.
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
        self._deltas: dict = {}
        with torch.inference_mode():
            self._classes = network(example).shape[1]
        self._delta = self._by_changes() if by_changes else None

    def _by_changes(self) -> Delta | None:
        try:
            stack = read_stack(self._network, self._example, self._nodes.names)
        except NotSequential as reason:
            log.info(
                "attributions: the classifier is not a sequence of supported layers (%s), so each "
                "mask takes a full pass",
                reason,
            )
            return None
        return Delta(stack, self._nodes, self._rounded)

    @property
    def stack(self) -> Stack | None:
        """The network as a stack; None if each mask takes a full pass."""
        return self._delta.stack if self._delta else None

    def attributions(self, masks: Masks) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield for each image its probabilities [classes] and phi [D, masks].

        D are the nodes and the probabilities. Raises BadInput if an output is not finite.
        """
        return self._attributions(masks, self._delta)

    def features(
        self,
        images: Tensor,
        segments: Tensor | np.ndarray,
        masking: Masking,
        rule: str = "linear",
        per_channel: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """The probabilities [N, classes] and the IQR of phi [N, D] of each image, on the CPU.

        The phi of an image are discarded before those of the next. For single pixels, nodes whose
        IQR is always 0, because fewer than a quarter of the pixels reach them, are not computed.

        Args:
            images: float [N, C, H, W] in [0, 1].
            segments: integer labels 0..K-1 [N, H, W].
            masking, per_channel: as in `masks_of`.
            rule: as in `iqr`.

        Raises:
            BadInput: an unknown masking or rule, images whose shape is not the classifier's or with
                values that are not finite, or an output that is not finite.
        """
        if images.shape[1:] != self._example.shape[1:]:
            raise BadInput(
                f"attributions: images must have the shape {tuple(self._example.shape[1:])}, got "
                f"{tuple(images.shape[1:])}"
            )
        masks = masks_of(images, segments, masking, per_channel)
        delta, computed = self._delta, np.ones(len(self._nodes) + self._classes, bool)
        if delta is not None and masks.are_pixels:
            delta, computed = self._without_zeros(rule, per_channel)
        # No variable for phi: it would keep the memory of its chunk while the next is computed.
        attributions = self._attributions(masks, delta)
        pairs = list(starmap(lambda outputs, phi: (outputs, iqr(phi, rule)), attributions))
        probabilities, iqrs = (torch.stack(column).cpu() for column in zip(*pairs, strict=True))
        all_iqrs = iqrs.new_zeros(len(iqrs), len(computed))
        all_iqrs[:, torch.from_numpy(computed)] = iqrs
        return probabilities, all_iqrs

    def _attributions(self, masks: Masks, delta: Delta | None) -> Iterator[tuple[Tensor, Tensor]]:
        if delta is not None:
            yield from delta.attributions(masks)
            return
        with node_outputs(self._network, self._nodes) as outputs:
            yield from _passes.attributions(masks, outputs, self._classes, self._batch)

    def _without_zeros(self, rule: str, per_channel: bool) -> tuple[Delta, np.ndarray]:
        """For single pixels: the `Delta` of the nodes that may be nonzero, and their columns."""
        if (rule, per_channel) not in self._deltas:
            assert self._delta
            zeros = self._delta.certain_zeros(rule, per_channel)
            log.info(
                "attributions: too few pixels reach %d of the %d hidden nodes for an "
                "interquartile range above 0; they are not computed",
                zeros.sum(),
                len(zeros),
            )
            delta = Delta(self._delta.stack, self._nodes.without(zeros), self._rounded)
            computed = np.concatenate([~zeros, np.ones(self._classes, bool)])
            self._deltas[rule, per_channel] = delta, computed
        return self._deltas[rule, per_channel]


def _check_statistics(network: nn.Module) -> None:
    """Raise BadInput for a network whose outputs depend on the other images of a batch."""
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise BadInput(
                f"attributions: {name} ({type(module).__name__}) of the classifier has no running "
                "statistics, so that outputs depend on the batch; build it with "
                "track_running_stats=True and train it again"
            )


def representations(probabilities: Tensor, iqrs: Tensor) -> dict[str, Tensor]:
    """The feature vectors of Al Bared and Nassar 2021, by representation.

    Args:
        probabilities, iqrs: from `LeaveOneOut.features`, [N, classes] and [N, D]; the last columns
            of `iqrs` are those of the probabilities.

    Returns:
        `predicted` [N, 1] (IQR of the probability of the predicted class), `probabilities`
        [N, classes] (of all probabilities), `hidden` [N, D] (of nodes and probabilities).
    """
    of_probabilities = iqrs[:, -probabilities.shape[1] :]
    return {
        "predicted": of_probabilities.gather(1, probabilities.argmax(dim=1, keepdim=True)),
        "probabilities": of_probabilities,
        "hidden": iqrs,
    }
