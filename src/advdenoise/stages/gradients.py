"""Images at which an attack's outputs or gradient were not finite, which lead it nowhere."""

import torch
from torch import Tensor

from advdenoise.attacks._predict import Predict, for_rows, per_draw
from advdenoise.outputs import finite_rows


class Watched:
    """A network that notes in `lost` (bool, of the whole batch) where a gradient leads nowhere.

    It is asked as the network itself is, see `attacks._predict`; `rows` are the places of its
    images in the batch.
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

    def take(self, rows: Tensor) -> "Watched":
        """The same for some rows of the batch."""
        return Watched(for_rows(self._predict, rows), self._lost, self._rows[rows])

    @property
    def per_draw(self) -> list["Watched"]:
        """Itself for each draw of the network alone."""
        return [Watched(predict, self._lost, self._rows) for predict in per_draw(self._predict)]

    def _note(self, values: Tensor) -> None:
        self._lost[self._rows] |= ~finite_rows(values)
