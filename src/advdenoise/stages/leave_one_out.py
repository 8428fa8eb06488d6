"""What the jobs that leave segments out share: the hidden nodes and the superpixels."""

import numpy as np
import torch
from torch import Tensor, nn

from advdenoise.attributions._loo import LeaveOneOut
from advdenoise.attributions._nodes import Nodes, draw_nodes, map_shapes
from advdenoise.graph.sources import load
from advdenoise.inference.adapters import to_network_units


def hidden_nodes(settings: dict, network: nn.Module, image: Tensor) -> Nodes:
    """The hidden nodes, drawn from seed and classifier alone: all threats share them."""
    shapes = map_shapes(network, settings["taps"], image)
    name = settings["classifier"]["name"]
    return draw_nodes(settings["seed"], name, shapes, settings["per_layer"])


def leave_one_out_of(
    settings: dict, network: nn.Module, nodes: Nodes, image: Tensor
) -> LeaveOneOut:
    """The leave-one-out features of a job's attribution entry, for images like `image`."""
    rounding = settings["attribution"].get("rounding", "none")
    return LeaveOneOut(network, nodes, image, settings["batch"], rounding=rounding)


def segments(point: dict, network: nn.Module, images: Tensor) -> Tensor:
    """Superpixel labels int64 [N,H,W] of images in the classifier's own units, not its size."""
    function = load("attributions", point)
    with torch.inference_mode():
        normalised = to_network_units(network, images).permute(0, 2, 3, 1).cpu().numpy()
    return torch.from_numpy(np.stack([function(image) for image in normalised]))
