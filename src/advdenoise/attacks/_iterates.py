"""Which of the perturbations that an attack visits it returns, image by image.

    last: the one after the last step.
    best: the one with the highest loss, the first among equals.
    fooled: the last one that fools the network, or else `best`.

Of dense predictions and behind random numbers an image is fooled in part, so that `best` and
`fooled` are the same: the highest (share that is fooled, loss) in lexicographic order, the last
among equals. Behind random numbers shares and losses are means over the draws of the step's
gradient, which favours iterates with lucky draws. The three best and the last one are therefore
judged again with the draws of `select`, and the best of these four is returned.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from advdenoise.attacks._expectation import Expectation
from advdenoise.attacks._facts import Facts
from advdenoise.attacks._predict import Predict
from advdenoise.ranges import Returns

# Iterates per image that are judged again by `select`, beside the last one
CANDIDATES = 3


class Iterates:
    """The perturbations of a batch under attack that are kept to be returned.

    Args:
        images: [N,C,H,W].
        returns: which perturbations are returned.
        dense: whether the network predicts every pixel.
        facts: where each visit is noted.
        select: see `_predict`.
    """

    def __init__(
        self,
        images: Tensor,
        returns: Returns = "last",
        dense: bool = False,
        facts: Facts | None = None,
        select: Predict | None = None,
    ):
        self._returns, self._facts, self._select = returns, facts, select
        self._by_share = dense or select is not None
        self._rows = torch.arange(len(images), device=images.device)
        kept = 0 if returns == "last" else 1 if select is None else CANDIDATES
        self._kept = [torch.zeros_like(images) for _ in range(kept)]
        # Of each kept perturbation; -1 in the place of a share means that there is none yet.
        self._fooled = images.new_full((kept, len(images)), -1)
        self._loss = images.new_full((kept, len(images)), -math.inf)

    @property
    def is_needed(self) -> bool:
        """Whether visits have any use."""
        return bool(self._kept) or self._facts is not None

    def visit(
        self,
        perturbation: Tensor | None,
        result: Expectation,
        step: int,
        steps: int | Tensor,
        rows: Tensor | None = None,
        final: bool = False,
    ) -> None:
        """Look at the perturbations after `step` of `steps` steps.

        Args:
            perturbation: of the images at `rows` (int64 indices, None for all); None for zeros.
            result: of the network at these perturbations, ordered by its `tracked` loss.
            step, steps, final: see `Facts.record`.
        """
        if self._facts is not None:
            facts = self._facts if rows is None else self._facts.take(rows)
            facts.record(step, steps, result.tracked, result.fooled, final)
        if not self._kept:
            return
        rows = self._rows if rows is None else rows
        fooled = result.fooled.to(self._fooled.dtype)
        loss = result.tracked.to(self._loss.dtype).nan_to_num(-math.inf, math.inf, -math.inf)
        place = self._is_better(rows, fooled, loss).sum(0)
        for slot in range(len(self._kept) - 1, 0, -1):
            moved = rows[place < slot]
            for values in (self._kept, self._fooled, self._loss):
                values[slot][moved] = values[slot - 1][moved]
        for slot, kept in enumerate(self._kept):
            here = (place == slot).nonzero().flatten()
            target = rows[here]
            kept[target] = 0 if perturbation is None else perturbation[here]
            self._fooled[slot][target] = fooled[here]
            self._loss[slot][target] = loss[here]

    def _is_better(self, rows: Tensor, fooled: Tensor, loss: Tensor) -> Tensor:
        """Whether each kept perturbation comes before the one visited: bool [kept, rows]."""
        kept_fooled, kept_loss = self._fooled[:, rows], self._loss[:, rows]
        if self._by_share:
            equal = kept_fooled == fooled
            return (kept_fooled > fooled) | (equal & (kept_loss > loss))
        better = kept_loss >= loss
        if self._returns == "fooled":
            better = (better | (kept_fooled > 0)) & (fooled == 0)
        return better & (kept_fooled >= 0)

    def choose(
        self,
        last: Tensor,
        evaluate: Callable[[Predict, Tensor], Expectation],
        rows: Tensor | None = None,
    ) -> Tensor:
        """The perturbations [N,C,H,W] to return, after the last visit.

        Args:
            last: the perturbations after the last step.
            evaluate: from `select` and perturbations of the images at `rows` to their evaluation.
            rows: of the images that were visited, None for all. Others have 0, also in `last`.
        """
        if not self._kept:
            return last
        if self._select is None:
            return self._kept[0]
        chosen = last.clone()
        rows = self._rows if rows is None else rows
        results = [evaluate(self._select, last[rows])]
        results += [evaluate(self._select, kept[rows]) for kept in self._kept]
        fooled, loss = results[0].fooled, results[0].tracked.nan_to_num(-math.inf)
        for slot, result in enumerate(results[1:]):
            other = result.tracked.nan_to_num(-math.inf)
            better = (result.fooled > fooled) | ((result.fooled == fooled) & (other > loss))
            better &= self._fooled[slot][rows] >= 0
            chosen[rows[better]] = self._kept[slot][rows[better]]
            fooled, loss = result.fooled.where(better, fooled), other.where(better, loss)
        return chosen
