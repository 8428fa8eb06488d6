"""Images that other threats have fooled already, which an attack with `spare` leaves alone.

The share of images that are correct under all threats does not change by that, but for the time it
takes: an image of a deterministic defence counts as fooled whatever this attack does.
"""

import torch
from torch import Tensor

from advdenoise.attacks._predict import SELECTION_DRAWS, per_draw
from advdenoise.outputs import predicted
from advdenoise.stages.data import Batch
from advdenoise.stages.threats import Threats


def spared(attack_run, threats: Threats, batch: Batch) -> Tensor:
    """Which images of a batch one of the threats fools: bool [N].

    Of a defence that draws random numbers that is an image which all draws of the stream
    "selection" misclassify; choosing by the defender's own would make it look weaker than it is.
    """
    fooled = torch.zeros(len(batch.ids), dtype=torch.bool, device=batch.images.device)
    for threat_batch in threats.iter_batches(batch):
        if attack_run.is_random:
            fooled |= _always_fooled(attack_run, batch, threat_batch.images)
        else:
            fooled |= torch.from_numpy(threat_batch.success).to(fooled.device)
    return fooled


@torch.no_grad()
def _always_fooled(attack_run, batch: Batch, images: Tensor) -> Tensor:
    network = attack_run.defended(batch, "selection", SELECTION_DRAWS)
    errors = [predicted(draw(images)) != batch.labels for draw in per_draw(network)]
    return torch.stack(errors).all(0)
