"""Names of threats: parsed, written back, made concrete for what is at hand."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advdenoise.graph.threats import CLEAN, NO_PURIFIER, Threat, parse

NAMES = st.from_regex(r"[a-z0-9_]+", fullmatch=True)
THREATS = st.builds(Threat, NAMES, st.none() | NAMES, st.none() | st.just("") | NAMES)


@given(THREATS)
def test_a_threat_survives_its_name(threat):
    assert parse(str(threat)) == threat


@given(st.text(alphabet="az09_@+ A/.-", max_size=12))
def test_a_name_is_a_threat_or_refused(text):
    if re.fullmatch(r"[a-z0-9_]+(@[a-z0-9_]+)?(\+[a-z0-9_]*)?", text):
        assert str(parse(text)) == text
    else:
        with pytest.raises(ValueError, match="is not a threat"):
            parse(text)


@pytest.mark.parametrize(
    ("text", "threat"),
    [
        ("pgd", Threat("pgd", None, None)),
        ("pgd+", Threat("pgd", None, "")),
        ("pgd@cnn4", Threat("pgd", "cnn4", None)),
        ("pgd@cnn4+", Threat("pgd", "cnn4", "")),
        ("pgd@cnn4+direct_pgd", Threat("pgd", "cnn4", "direct_pgd")),
        ("clean", Threat(CLEAN)),
    ],
)
def test_what_is_left_out_is_what_is_at_hand(text, threat):
    assert parse(text) == threat


@pytest.mark.parametrize(
    ("text", "purifier", "expected"),
    [
        ("clean", "direct", "clean"),
        ("pgd", "direct", "pgd@cnn4"),
        ("pgd+", "direct", "pgd@cnn4+direct"),
        ("pgd+", NO_PURIFIER, "pgd@cnn4"),
        ("pgd+other", "direct", "pgd@cnn4+other"),
        ("pgd+none", "direct", "pgd@cnn4"),
        ("pgd@resnet18", "direct", "pgd@resnet18"),
        ("pgd@resnet18+", "direct", "pgd@resnet18+direct"),
    ],
)
def test_against_a_classifier_behind_a_purifier(text, purifier, expected):
    assert str(parse(text).against("cnn4", purifier)) == expected


@given(THREATS, NAMES, NAMES)
def test_what_is_met_names_all_its_parts(threat, classifier, purifier):
    expected = threat.against(classifier, purifier)
    assert expected.against("another", "yet_another") == expected
    if not threat.is_clean:
        assert expected.victim == threat.victim or (
            threat.victim is None and expected.victim == classifier
        )
        assert expected.purifier not in ("", NO_PURIFIER)
        assert (expected.purifier is None) >= (threat.purifier is None)
