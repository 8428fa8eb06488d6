"""Purifiers without noise are not evaluated in several draws."""

import pytest

from advdenoise.errors import BadInput
from advdenoise.graph import configuration


def test_draws_without_noise_are_refused(quick):
    name, entry = next(
        (name, entry)
        for name, entry in quick["purifiers"].items()
        if entry.get("function") == "basic.direct"
    )
    quick["purifiers"][name] = entry | {"draws": 4}
    with pytest.raises(BadInput, match=rf"purifiers\.{name}\.draws: basic\.direct does not list"):
        configuration.read(quick)
    quick["purifiers"][name] = entry | {"function": "tests.own_purifiers:noisy_descent", "draws": 4}
    configuration.read(quick)
