"""Predicted classes and ranks, with ties and with outputs that are not finite."""

import numpy as np
import pytest
import torch

from advdenoise.outputs import NO_CLASS, finite_rows, label_rank, predicted

NAN, INF = float("nan"), float("inf")
BROKEN = torch.tensor([[NAN] * 4, [NAN, 1, 2, 3], [1, 2, 3, INF], [0, 1, 2, -INF]])


def test_the_rank_is_the_position_in_a_stable_sort():
    outputs = torch.randint(0, 4, (200, 6), generator=torch.Generator().manual_seed(0)).float()
    labels = torch.arange(200) % 6
    order = np.argsort(-outputs.numpy(), axis=1, kind="stable")
    expected = [list(row).index(label) for row, label in zip(order, labels.tolist(), strict=True)]
    assert label_rank(outputs, labels).tolist() == expected
    assert ((label_rank(outputs, labels) == 0) == (predicted(outputs) == labels)).all()


@pytest.mark.parametrize("k", [1, 2, 5])
def test_a_constant_network_is_correct_by_chance(k):
    labels = torch.arange(50) % 10
    hits = label_rank(torch.full((50, 10), 0.3), labels) < k
    assert hits.double().mean() == k / 10


def test_outputs_that_are_not_finite_have_no_class():
    assert predicted(BROKEN).tolist() == [NO_CLASS] * 4
    for label in range(4):
        assert label_rank(BROKEN, torch.full((4,), label)).tolist() == [3] * 4


def test_predictions_of_pixels():
    outputs = torch.rand(2, 3, 4, 5)
    expected = outputs.argmax(1)
    outputs[1, 2, 3, 4] = NAN
    expected[1, 3, 4] = NO_CLASS
    assert torch.equal(predicted(outputs), expected)


def test_large_values_are_finite():
    values = torch.full((3, 2, 50), 3e38)
    values[1, 0, 7], values[2, 1, 3] = INF, NAN
    assert finite_rows(values).tolist() == [True, False, False]
