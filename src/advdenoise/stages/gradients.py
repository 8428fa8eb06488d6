"""Images at which an attack's outputs or gradients were not finite."""

import torch
from torch import Tensor

from advdenoise.attacks._predict import Predict, for_rows, per_draw
from advdenoise.outputs import finite_rows


class GradientMonitor:
    """A network that sets `lost` (bool, of the whole batch) where a gradient is not finite.

    It is called as the network itself, see `attacks._predict`; `rows` are the places of its images
    in the batch.
    """

    def __init__(self, predict: Predict, lost: Tensor, rows: Tensor | None = None):
        self._predict, self._lost = predict, lost
        self._rows = torch.arange(len(lost), device=lost.device) if rows is None else rows

    def __call__(self, images: Tensor) -> Tensor:
        outputs = self._predict(images)
        if images.requires_grad and len(images) == len(self._rows):
            images.register_hook(self._note)
            self._note(outputs.detach())  # whose gradient may be 0 where the outputs are NaN
        return outputs

    def take(self, rows: Tensor) -> "GradientMonitor":
        """The same for some rows of the batch."""
        return GradientMonitor(for_rows(self._predict, rows), self._lost, self._rows[rows])

    @property
    def per_draw(self) -> list["GradientMonitor"]:
        """A monitor for each draw of the network."""
        return [
            GradientMonitor(predict, self._lost, self._rows) for predict in per_draw(self._predict)
        ]

    def _note(self, values: Tensor) -> None:
        self._lost[self._rows] |= ~finite_rows(values)
