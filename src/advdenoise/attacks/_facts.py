"""What an attack observes of each image while it runs, from which doubts about it are computed."""

import numpy as np
import torch
from torch import Tensor

LOSSES = ("loss_start", "loss_best", "loss_recent")


class Facts:
    """Observations of an attack, one value per image of a batch.

    An attack that has the parameter `facts` records each evaluation of the network that it
    attacks. `arrays` are then:

        fooled_at: int16, the first step whose perturbation fools the network, 0 for the starting
            point; -1 for none. Behind random numbers it fools if more than half of the attack's
            draws are fooled, of dense predictions if more than half of the labelled pixels are.
        fooled_last: bool, whether the perturbation after the last step fools it.
        loss_start, loss_best: float32, the loss of the starting point and the largest of all.
        loss_recent: float32, `loss_best` as it was when 90 % of the steps were done.

    Losses are those that the attack raises, NaN where it did not evaluate the image.
    """

    def __init__(self, count: int, device: torch.device | str = "cpu"):
        def full(value: float, dtype: torch.dtype) -> Tensor:
            return torch.full((count,), value, dtype=dtype, device=device)

        self._values = {
            "fooled_at": full(-1, torch.int16),
            "fooled_last": full(0, torch.bool),
            **{name: full(torch.nan, torch.float32) for name in LOSSES},
        }
        self._rows: Tensor | None = None

    def take(self, rows: Tensor) -> "Facts":
        """A view of some rows (int64 indices): what it records is recorded here."""
        view = object.__new__(Facts)
        view._values = self._values
        view._rows = rows if self._rows is None else self._rows[rows]
        return view

    def record(
        self, step: int, steps: int | Tensor, loss: Tensor, fooled: Tensor, final: bool = False
    ) -> None:
        """Note the evaluation of the perturbations after `step` of `steps` steps.

        Args:
            step: 0 for the starting point. An attack with restarts counts on.
            steps: the number of steps of the whole attack, or one for each image, [N] or
                [N,1,1,1].
            loss: [N].
            fooled: [N], as in `_expectation.Expectation`.
            final: whether these are the perturbations after the last step.
        """
        fools = fooled > 0.5
        fooled_at, best = self._get("fooled_at"), self._get("loss_best")
        self._set("fooled_at", fooled_at.masked_fill(fools & (fooled_at < 0), step))
        best = torch.fmax(best, loss.to(best.dtype))
        self._set("loss_best", best)
        if step == 0:
            self._set("loss_start", loss.to(best.dtype))
        if isinstance(steps, Tensor):
            early = step <= 0.9 * steps.flatten()
            self._set("loss_recent", best.where(early, self._get("loss_recent")))
        elif step <= 0.9 * steps:
            self._set("loss_recent", best)
        if final:
            self._set("fooled_last", fools)

    def arrays(self) -> dict[str, np.ndarray]:
        """The observations of the whole batch by name, [N] each."""
        return {name: value.cpu().numpy() for name, value in self._values.items()}

    def _get(self, name: str) -> Tensor:
        value = self._values[name]
        return value if self._rows is None else value[self._rows]

    def _set(self, name: str, value: Tensor) -> None:
        if self._rows is None:
            self._values[name].copy_(value)
        else:
            self._values[name][self._rows] = value
