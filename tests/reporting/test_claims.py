"""Claims: when they hold, and how they are told."""

import csv
import math

import pytest

from advdenoise.reporting import claims
from advdenoise.reporting.claims import Claim, Claims, Range
from advdenoise.statistics import Estimate


@pytest.mark.parametrize(
    ("claimed", "low", "high", "verdict"),
    [
        (Range(0), 0.01, 0.02, "holds"),
        (Range(0), -0.02, -0.01, "does not"),
        (Range(0), -0.01, 0.02, "not decidable"),
        (Range(0), 0.0, 0.0, "does not"),
        (Range(most=1), 0.5, 0.9, "holds"),
        (Range(most=1), 0.5, 1.5, "not decidable"),
        (Range(10, 100), 11.0, 99.0, "holds"),
        (Range(10, 100), 3.0, 9.0, "does not"),
        (Range(10, 100), 101.0, 900.0, "does not"),
        (Range(10, 100), 3.0, 900.0, "not decidable"),
        (Range(10, 100), 3.0, 50.0, "not decidable"),
        (Range(0), math.nan, math.nan, "not decidable"),
    ],
)
def test_the_whole_interval_decides(claimed, low, high, verdict):
    claim = Claim("It is so.", "a - b", claimed, Estimate((low + high) / 2, low, high, 50))
    assert claim.verdict == verdict


def test_what_is_lacking_is_the_reason():
    undecided = Claim("It is so.", "a", Range(0), Estimate(1, 1, 1, 3), reason="there is no b")
    assert undecided.verdict == "not decidable: there is no b"


CLAIMS = Claims(
    [
        Claim("More is better.", "a_1 - b, 50 %", Range(0), Estimate(0.5, 0.25, 0.75, 40), "0.6"),
        Claim("It is cheap.", "ratio", Range(10, 100), published="12", reason="no ratio"),
        Claim("It is fast.", "seconds", Range(most=1), Estimate(2, 1.5, 3, 4)),
    ]
)


@pytest.fixture
def written(tmp_path):
    paths = {kind: tmp_path / f"claims.{kind}" for kind in ("csv", "markdown", "latex")}
    claims.write(CLAIMS, "fake", "claims", ["x: not for data set y"], paths)
    return {kind: path.read_text(encoding="utf-8") for kind, path in paths.items()}


def test_a_claim_is_a_line(written):
    lines = list(csv.reader(written["csv"].splitlines()))
    assert lines == [
        ["sentence", "quantity", "published", "value", "low", "high", "n", "verdict"],
        ["More is better.", "a_1 - b, 50 %; claimed: above 0"]
        + ["0.6", "0.5", "0.25", "0.75", "40", "holds"],
        ["It is cheap.", "ratio; claimed: between 10 and 100"]
        + ["12", "", "", "", "0", "not decidable: no ratio"],
        ["It is fast.", "seconds; claimed: below 1", "", "2", "1.5", "3", "4", "does not"],
    ]


def test_markdown_and_latex_tell_the_rule(written):
    rows = [line.strip("|").split("|") for line in written["markdown"].splitlines() if "|" in line]
    assert [cell.strip() for cell in rows[2]] == [
        "More is better.",
        "a_1 - b, 50 %; claimed: above 0",
        "0.6",
        "0.5 [0.25, 0.75]",
        "40",
        "holds",
    ]
    assert "A claim holds where the whole interval" in written["markdown"]
    assert "Left out: x: not for data set y." in written["markdown"]
    assert r"a\_1 - b, 50 \%" in written["latex"] and r"\raggedright A claim" in written["latex"]
