"""Query-only attacks: they evaluate the victim and take no gradient."""

import math
from typing import Annotated

import torch
from torch import Tensor

from advdenoise.attacks._ball import limits
from advdenoise.attacks._expectation import expectation
from advdenoise.attacks._predict import Predict, fooled_share, for_rows, margin, refuse_masks
from advdenoise.errors import BadInput
from advdenoise.noise import Noise
from advdenoise.ranges import Epsilon, Interval, Share

# Of 10,000 queries, those after which the area of the squares is halved.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def square(
    images: Tensor,
    labels: Tensor,
    targeted: bool,
    victim: Predict,
    noise: Noise,
    *,
    epsilon: Epsilon | Tensor,
    queries: Annotated[int, Interval(ge=2)] = 5000,
    share: Share = 0.8,
    rescale: bool = True,
    stop: bool = True,
) -> Tensor:
    """Square attack in the L-infinity ball (Andriushchenko et al. 2020, algorithm 2).

    The search starts from vertical stripes of -epsilon or epsilon, with a random sign for each
    column and channel. Each further query sets a square at a random position to -epsilon or
    epsilon, with a random sign for each channel, and keeps the change if the margin decreases: the
    label's output minus the largest other one, the opposite if `targeted`. If the square would
    change nothing, its signs are flipped. The side of a square is the rounded root of p H W pixels;
    p starts at `share` and is halved after 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 of
    10,000 queries. Once an image's margin is negative it is no longer queried; if that is so for
    the image itself, the perturbation is 0.

    Args:
        images: [N,C,H,W] in [0,1].
        labels: int64 [N].
        victim: images -> outputs [N, classes].
        noise: one random stream per image.
        epsilon: radius of the ball in pixel units, a number or [N,1,1,1].
        queries: maximum evaluations of the victim per image, including the one of the image
            itself. Behind a purifier that draws random numbers, a query is one evaluation for each
            of the entry's `draws`, and the margin is the mean over them.
        share: initial share of the image that a square covers, in (0, 1].
        rescale: scale the numbers of queries after which p is halved to `queries`. If false, they
            are numbers of squares, as in AutoAttack, whose attack is `queries: 5002` with this.
        stop: stop at an image's first negative margin. If false, images that are correct at the
            start have all queries, which further lowers the margin: the authors' advice for
            random networks.

    Raises:
        BadInput: fewer than 2 queries, a share outside (0, 1], or masks.
    """
    refuse_masks(labels, "blackbox.square")
    if queries < 2:
        raise BadInput(f"settings.queries: must be at least 2, got {queries}")
    if not 0 < share <= 1:
        raise BadInput(f"settings.share: must be in (0, 1], got {share:g}")
    lower, upper = limits(images, epsilon)
    perturbation = torch.zeros_like(images)
    best = _mean_margin(images, labels, targeted, victim)
    rows = (best >= 0).nonzero().flatten()
    for query in range(queries - 1):
        if not len(rows):
            break
        low, high, current = lower[rows], upper[rows], perturbation[rows]
        if query == 0:
            candidate = _stripes(low, high, noise.take(rows))
        else:
            position = 10_000 * (query / (queries - 1)) if rescale else query - 1
            side = _side(share, position, *images.shape[2:])
            candidate = _with_square(current, low, high, side, noise.take(rows))
        network = for_rows(victim, rows)
        margins = _mean_margin(images[rows] + candidate, labels[rows], targeted, network)
        # The stripes are the starting point, even if they increase the margin.
        accepted = (margins < best[rows]) | (query == 0)
        perturbation[rows] = candidate.where(accepted.view(-1, 1, 1, 1), current)
        best[rows] = margins.where(accepted, best[rows])
        if stop:
            rows = rows[best[rows] >= 0]
    return perturbation


def _mean_margin(images: Tensor, labels: Tensor, targeted: bool, victim: Predict) -> Tensor:
    """The mean of the margin over the draws whose outputs are finite: [N].

    Where none is, that of outputs that are not finite, see `_predict.margin`.
    """
    result = expectation(
        images,
        victim,
        lambda outputs: margin(outputs, labels, targeted),
        lambda outputs: fooled_share(outputs, labels, targeted),
        gradient=False,
    )
    return result.loss.where(~result.loss.isnan(), math.inf if targeted else -math.inf)


def _stripes(low: Tensor, high: Tensor, noise: Noise) -> Tensor:
    """The lower or the upper limit at random, for each column and channel."""
    up = noise.uniform(low[:, :, :1]) < 0.5
    return torch.where(up, high, low)


def _with_square(current: Tensor, low: Tensor, high: Tensor, side: int, noise: Noise) -> Tensor:
    """The perturbations with one square each, set to the lower or the upper limit per channel."""
    count, channels, height, width = current.shape
    random = noise.uniform(current.new_empty(count, 2 + channels))
    rows = _window(random[:, 0], side, height).view(count, 1, height, 1)
    columns = _window(random[:, 1], side, width).view(count, 1, 1, width)
    inside = rows & columns
    up = (random[:, 2:] < 0.5).view(count, channels, 1, 1)
    candidate = torch.where(up, high, low).where(inside, current)
    same = (candidate == current).flatten(1).all(1).view(-1, 1, 1, 1)
    return torch.where(up ^ same, high, low).where(inside, current)


def _window(random: Tensor, side: int, length: int) -> Tensor:
    """`side` consecutive positions of `length`, at random ones in [0, 1): bool [N, length]."""
    first = (random * (length - side + 1)).floor()[:, None]
    positions = torch.arange(length, device=random.device)
    return (positions >= first) & (positions < first + side)


def _side(share: float, position: float, height: int, width: int) -> int:
    """The side of a square in pixels at a position in the schedule of `HALVINGS`."""
    halvings = sum(position > query for query in HALVINGS)
    side = round(math.sqrt(share / 2**halvings * height * width))
    return min(max(side, 1), height, width)
