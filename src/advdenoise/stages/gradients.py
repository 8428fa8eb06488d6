"""What an attack's networks did with each image: passes, and gradients that tell nothing."""

import math

import numpy as np
import torch
from torch import Tensor

from advdenoise.attacks._predict import Predict, copied, for_rows, per_draw, pull_back
from advdenoise.outputs import finite_rows

_CERTAIN = 1e-15  # a Euclidean norm above this one is no sum of squares that vanished by rounding


class Passes:
    """Counts for each image of a batch, int32 [N], of all networks that an attack is given.

    `forward` and `backward` are passes, one for each draw; `zero_gradients` and `bad_gradients`
    backward passes whose gradient was 0 everywhere, or not finite. `lost` [N] tells where outputs
    or a gradient were not finite.
    """

    def __init__(self, count: int, device: torch.device | str = "cpu"):
        self.forward, self.backward, self.zero_gradients, self.bad_gradients = torch.zeros(
            4, count, dtype=torch.int32, device=device
        )
        self.lost = torch.zeros(count, dtype=torch.bool, device=device)

    def arrays(self) -> dict[str, np.ndarray]:
        """The counts by name, as the adversarial set stores them."""
        return {
            "zero_gradients": _short(self.zero_gradients),
            "bad_gradients": _short(self.bad_gradients),
            "forward": self.forward.cpu().numpy(),
            "backward": self.backward.cpu().numpy(),
        }


def _short(counts: Tensor) -> np.ndarray:
    return counts.clamp(max=np.iinfo(np.uint16).max).cpu().numpy().astype(np.uint16)


class GradientMonitor:
    """A network whose passes are counted.

    It is called as the network itself, see `attacks._predict`; `rows` are the places of its images
    in the batch, by default all. Other numbers of images are not counted.
    """

    def __init__(self, predict: Predict, passes: Passes, rows: Tensor | None = None):
        self._predict, self._passes = predict, passes
        self._rows = slice(None) if rows is None else rows
        self._count = len(passes.lost) if rows is None else len(rows)
        self._draws = len(per_draw(predict))

    def __call__(self, images: Tensor) -> Tensor:
        if len(images) != self._count:
            return self._predict(images)
        self._passes.forward[self._rows] += self._draws
        if not (torch.is_grad_enabled() and images.requires_grad):
            return self._predict(images)
        inputs = images.view_as(images)  # its gradient is that of this call alone
        inputs.register_hook(self._note_gradient)
        outputs = self._predict(inputs)
        # Their gradient may be 0 where the outputs are NaN.
        if not _are_usual(outputs.detach()):
            self._passes.lost[self._rows] |= ~finite_rows(outputs.detach())
        return outputs

    def take(self, rows: Tensor) -> "GradientMonitor":
        """The same for some rows of the batch."""
        everywhere = torch.arange(len(self._passes.lost), device=rows.device)
        taken = everywhere[self._rows][rows]
        return GradientMonitor(for_rows(self._predict, rows), self._passes, taken)

    @property
    def per_draw(self) -> list["GradientMonitor"]:
        """A monitor for each draw of the network."""
        rows = None if isinstance(self._rows, slice) else self._rows
        return [GradientMonitor(draw, self._passes, rows) for draw in per_draw(self._predict)]

    def copy(self) -> "GradientMonitor":
        """The same for a copy of the network, see `attacks._predict`."""
        rows = None if isinstance(self._rows, slice) else self._rows
        return GradientMonitor(copied(self._predict), self._passes, rows)

    def pull_back(self, images: Tensor, gradient: Tensor) -> Tensor:
        """See `attacks._predict`; not counted, since it is no pass of the network."""
        return pull_back(self._predict, images, gradient)

    def _note_gradient(self, gradient: Tensor) -> None:
        passes, rows = self._passes, self._rows
        passes.backward[rows] += self._draws
        if _are_usual(gradient):
            return
        finite = finite_rows(gradient)
        passes.lost[rows] |= ~finite
        passes.bad_gradients[rows] += ~finite
        passes.zero_gradients[rows] += ~gradient.flatten(1).any(1)


def _are_usual(values: Tensor) -> bool:
    """Whether the values of all rows are finite and not all 0; False where it takes more to tell.

    Norms in float32 take a sixth of the time of `finite_rows`. A GPU would have to be waited for.
    """
    if values.device.type != "cpu":
        return False
    norms = torch.linalg.vector_norm(values, dim=tuple(range(1, values.ndim)))
    return bool(((norms > _CERTAIN) & (norms < math.inf)).all())
