import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from advdenoise.attributions import _quantiles
from advdenoise.errors import BadInput

values = st.floats(0, 1e3, width=32)


@settings(deadline=None)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 40)), elements=values),
    st.sampled_from(_quantiles.RULES),
)
def test_iqr_is_bit_equal_to_numpy(phi, rule):
    quarter, three = (np.percentile(phi, p, axis=-1, method=rule) for p in (25, 75))
    result = _quantiles.iqr(torch.from_numpy(phi), rule).numpy()
    assert result.dtype == np.float32
    assert np.array_equal(result, three - quarter)


@pytest.mark.parametrize("rule", _quantiles.RULES)
def test_iqr_of_one_segment_is_zero(rule):
    assert _quantiles.iqr(torch.rand(5, 1), rule).tolist() == [0] * 5


@pytest.mark.parametrize("rule", _quantiles.RULES)
def test_iqr_of_consecutive_numbers(rule):
    expected = {"linear": 49.5, "inverted_cdf": 50.0}[rule]
    assert _quantiles.iqr(torch.arange(100.0).flip(0), rule).item() == expected


def test_iqr_does_not_modify_its_input():
    phi = torch.tensor([[3.0, 1, 2]])
    _quantiles.iqr(phi)
    assert phi.tolist() == [[3, 1, 2]]


def test_an_unknown_rule_is_refused():
    with pytest.raises(BadInput, match="did you mean 'linear'"):
        _quantiles.iqr(torch.rand(1, 3), "liner")


@pytest.mark.parametrize("rule", _quantiles.RULES)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 100, 1023, 1024])
def test_values_above_the_last_rank_have_no_influence(rule, count):
    ordered = torch.arange(float(count))
    last = _quantiles.last_rank(count, rule)
    larger = ordered.clone()
    larger[last + 1 :] += 7
    assert _quantiles.iqr(larger, rule) == _quantiles.iqr(ordered, rule)
    larger[last] += 0.5
    assert _quantiles.iqr(larger, rule) != _quantiles.iqr(ordered, rule) or count == 1
