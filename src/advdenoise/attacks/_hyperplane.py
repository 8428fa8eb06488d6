"""The projection onto a hyperplane inside the unit cube, for attacks that linearise a network."""

import torch
from torch import Tensor


def project_linf(points: Tensor, normals: Tensor, gaps: Tensor) -> Tensor:
    """The smallest moves d in the L-infinity norm onto <normal, point + d> = <normal, point> - gap.

    Each point stays inside [0,1]; coordinates with a normal of 0 do not move. With a length m,
    d_i = -sign(w_i) min(m, room_i) lowers <w, .> by h(m) = sum |w_i| min(m, room_i), where room_i
    is the distance to the bound in that direction. h is concave and piecewise linear, so Newton's
    method from m = 0 rises to the solution of h(m) = gap and ends there after a few steps of O(D).
    (Croce and Hein 2020 sort the rooms and bisect; the solution is the same.)

    Args:
        points: [N,D] in [0,1].
        normals: [N,D], finite.
        gaps: [N], finite; negative ones are raised.

    Returns:
        d [N,D]. Where no move suffices, all coordinates go to their bounds.
    """
    weights = normals.abs()
    downwards = torch.sign(normals) * torch.where(gaps < 0, -1, 1)[:, None]
    room = torch.where(downwards > 0, points, 1 - points)
    weighted_room, gaps = weights * room, gaps.abs()
    length = torch.zeros_like(gaps)
    while True:
        free = room > length[:, None]
        reached = weighted_room.masked_fill(free, 0).sum(1)
        derivative = weights.where(free, 0).sum(1)
        next_length = (gaps - reached) / derivative  # infinite where all are at their bounds
        rising = next_length > length
        if not rising.any():
            return torch.minimum(room, length[:, None]).mul_(downwards).neg_()
        length = length.where(~rising, next_length)
