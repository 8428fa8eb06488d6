"""The projection onto hyperplanes against linear programming, bisection and pyautoattack."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyautoattack.fab_projections import projection_linf
from scipy.optimize import linprog

from advdenoise.attacks._hyperplane import project_linf


def problem(count, size, seed, scale=1.0):
    """Points of which many coordinates are 0 or 1, normals of which some are 0, and gaps."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, size, generator=generator, dtype=torch.float64)
    points = (points * 1.6 - 0.3).clamp(0, 1)
    normals = torch.randn(count, size, generator=generator, dtype=torch.float64)
    normals[torch.rand(count, size, generator=generator) < 0.2] = 0
    gaps = torch.randn(count, generator=generator, dtype=torch.float64) * scale * size**0.5
    return points, normals, gaps


def reachable(points, normals, gaps):
    """By how much <normal, .> can be lowered, or raised where the gap is negative."""
    downwards = normals * torch.where(gaps < 0, -1, 1)[:, None]
    room = torch.where(downwards > 0, points, 1 - points)
    return (normals.abs() * room).sum(1)


@pytest.mark.parametrize("size", [1, 2, 5, 12])
def test_it_is_the_optimum_of_the_linear_program(size):
    points, normals, gaps = problem(25, size, seed=size, scale=0.3)
    gaps = gaps.clamp(-0.999 * (span := reachable(points, normals, gaps)), 0.999 * span)
    moves = project_linf(points, normals, gaps)
    for point, normal, gap, move in zip(
        *map(np.asarray, (points, normals, gaps, moves)), strict=True
    ):
        # Of (d, m) minimise m: <w, d> = -gap, -m <= d_i <= m, 0 <= point + d <= 1.
        identity, ones = np.eye(size), np.ones((size, 1))
        result = linprog(
            np.r_[np.zeros(size), 1],
            A_ub=np.block([[identity, -ones], [-identity, -ones]]),
            b_ub=np.zeros(2 * size),
            A_eq=np.r_[normal, 0][None],
            b_eq=[-gap],
            bounds=[*zip(-point, 1 - point, strict=True), (0, None)],
        )
        assert result.success
        assert np.abs(move).max() == pytest.approx(result.fun, abs=1e-12)
        assert normal @ move == pytest.approx(-gap, abs=1e-12)


def by_bisection(points, normals, gaps):
    """The move whose length is found by 200 bisections."""
    downwards = normals * torch.where(gaps < 0, -1, 1)[:, None]
    room = torch.where(downwards > 0, points, 1 - points)
    low, high = torch.zeros_like(gaps), torch.ones_like(gaps)
    for _ in range(200):
        middle = (low + high) / 2
        lowered = (normals.abs() * room.minimum(middle[:, None])).sum(1)
        low = middle.where(lowered < gaps.abs(), low)
        high = high.where(lowered < gaps.abs(), middle)
    return -downwards.sign() * room.minimum(high[:, None])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), size=st.integers(1, 300), scale=st.floats(1e-6, 3))
def test_it_equals_bisection_and_pyautoattack(seed, size, scale):
    points, normals, gaps = problem(8, size, seed, scale)
    moves = project_linf(points, normals, gaps)
    assert torch.allclose(moves, by_bisection(points, normals, gaps), rtol=0, atol=1e-12)
    offsets = (normals * points).sum(1) - gaps
    assert torch.allclose(moves, projection_linf(points, normals, offsets), rtol=0, atol=1e-12)
    assert (points + moves).min() >= 0 and (points + moves).max() <= 1
    assert not moves[normals == 0].any()


def test_out_of_reach_all_coordinates_go_to_their_bounds():
    points, normals, _ = problem(6, 9, seed=1)
    gaps = torch.tensor([1, -1] * 3).double() * 100
    expected = torch.where(normals * gaps[:, None] > 0, -points, 1 - points)
    assert torch.equal(project_linf(points, normals, gaps), expected.where(normals != 0, 0))


def test_no_gap_or_no_normal_is_no_move():
    points, normals, gaps = problem(4, 9, seed=2)
    assert not project_linf(points, normals, torch.zeros_like(gaps)).any()
    assert not project_linf(points, torch.zeros_like(normals), gaps).any()


def test_weights_and_rooms_of_very_different_sizes():
    """Each step of the search passes few bounds; it ends at the solution all the same."""
    powers = torch.arange(60, dtype=torch.float64)
    points, normals = (2.0**-powers)[None], (4.0**powers)[None]
    for share in (1e-9, 0.3, 0.999):
        gaps = share * (points * normals).sum(1)
        moves = project_linf(points, normals, gaps)
        assert (normals * moves).sum().item() == pytest.approx(-gaps.item(), rel=1e-12)
        assert torch.allclose(moves, by_bisection(points, normals, gaps), rtol=0, atol=1e-12)


def test_rows_do_not_influence_each_other():
    points, normals, gaps = problem(20, 50, seed=3)
    moves = project_linf(points, normals, gaps)
    for row in range(20):
        rows = slice(row, row + 1)
        assert torch.equal(project_linf(points[rows], normals[rows], gaps[rows]), moves[rows])
