"""Attacks that ask the victim and take no gradient."""

import math
from typing import Annotated

import torch
from torch import Tensor

from advdenoise.attacks._ball import limits
from advdenoise.attacks._predict import Predict, margin, of_rows, refuse_masks
from advdenoise.errors import BadInput
from advdenoise.noise import Noise
from advdenoise.ranges import Epsilon, Interval, Share

# After so many of 10,000 queries the squares' share of the image is halved once more.
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
) -> Tensor:
    """Random search with squares in the L-infinity ball (Andriushchenko et al. 2020, algorithm 2).

    The first perturbation is vertical stripes of -epsilon or epsilon, a sign for each column and
    channel. Each further query sets a square at a random place to -epsilon or epsilon, a sign for
    each channel, and keeps it where the margin, output of the label minus the largest other
    (reversed where `targeted`), gets smaller. A square that would change nothing is set to the
    other signs. Its side is the root of p H W pixels, rounded; p starts at `share` and is halved at
    10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 of 10,000 queries, scaled to `queries`.

    An image whose margin is negative is fooled and asked no further; one that is so from the start
    gets a perturbation of 0. `queries` is how often the victim is asked about an image at most, the
    look at the image itself included; behind a purifier that draws random numbers a query is the
    mean over the entry's `draws`.

    Images are [N,C,H,W] in [0,1], labels int64 [N], `epsilon` the ball's radius in pixel units, a
    number or [N,1,1,1]; `victim` gives outputs [N, classes], `noise` is a random stream per image.
    Raises BadInput for fewer than 2 queries or a share outside (0, 1].
    """
    refuse_masks(labels, "blackbox.square")
    if queries < 2:
        raise BadInput(f"settings.queries: {queries} leaves none to search with; take 2 or more")
    if not 0 < share <= 1:
        raise BadInput(f"settings.share: {share:g} is no share of an image; take one in (0, 1]")
    lower, upper = limits(images, epsilon)
    perturbation = torch.zeros_like(images)
    with torch.no_grad():
        best = margin(victim(images), labels, targeted)
        rows = (best >= 0).nonzero().flatten()
        for query in range(queries - 1):
            if not len(rows):
                break
            low, high, kept = lower[rows], upper[rows], perturbation[rows]
            if query == 0:
                tried = _stripes(low, high, noise.take(rows))
            else:
                side = _side(share, query / (queries - 1), *images.shape[2:])
                tried = _with_square(kept, low, high, side, noise.take(rows))
            outputs = of_rows(victim, rows)(images[rows] + tried)
            found = margin(outputs, labels[rows], targeted)
            # The stripes are where the search starts from, whatever they do.
            closer = (found < best[rows]) | (query == 0)
            perturbation[rows] = tried.where(closer.view(-1, 1, 1, 1), kept)
            best[rows] = found.where(closer, best[rows])
            rows = rows[best[rows] >= 0]
    return perturbation


def _stripes(low: Tensor, high: Tensor, noise: Noise) -> Tensor:
    """One of the two limits for each column and channel."""
    up = noise.uniform(low[:, :, :1]) < 0.5
    return torch.where(up, high, low)


def _with_square(kept: Tensor, low: Tensor, high: Tensor, side: int, noise: Noise) -> Tensor:
    """The perturbations with one square each at one of the two limits in each channel."""
    count, channels, height, width = kept.shape
    drawn = noise.uniform(kept.new_empty(count, 2 + channels))
    rows = _stretch(drawn[:, 0], side, height).view(count, 1, height, 1)
    columns = _stretch(drawn[:, 1], side, width).view(count, 1, 1, width)
    inside = rows & columns
    up = (drawn[:, 2:] < 0.5).view(count, channels, 1, 1)
    tried = torch.where(up, high, low).where(inside, kept)
    same = (tried == kept).flatten(1).all(1).view(-1, 1, 1, 1)
    return torch.where(up ^ same, high, low).where(inside, kept)


def _stretch(drawn: Tensor, side: int, length: int) -> Tensor:
    """`side` neighbours of `length` places, the first by a number in [0, 1): bool [N, length]."""
    first = (drawn * (length - side + 1)).floor()[:, None]
    places = torch.arange(length, device=drawn.device)
    return (places >= first) & (places < first + side)


def _side(share: float, done: float, height: int, width: int) -> int:
    """The side of a square after this share of the queries."""
    halvings = sum(10_000 * done > place for place in HALVINGS)
    side = round(math.sqrt(share / 2**halvings * height * width))
    return min(max(side, 1), height, width)
