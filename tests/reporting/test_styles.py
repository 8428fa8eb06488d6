"""Colours and markers: those of a set are the same in all figures of an experiment."""

import itertools

from advdenoise.reporting.palette import Styles

SETS = ["FGSM v1", "FGSM v2", "i-FGSM v1", "i-FGSM v2", "mi-FGSM"]


def test_styles_do_not_depend_on_what_else_is_drawn():
    first, second = Styles(SETS), Styles(SETS)
    for name in ("a", "mi-FGSM", "b"):
        first.of(name)
    assert all(first.of(name) == second.of(name) for name in [*SETS, "clean"])
    assert first.of("b") == first.of("b") != first.of("a")


def test_a_reserved_name_more_changes_no_other_style():
    few, many = Styles(SETS[:2]), Styles(SETS)
    assert all(few.of(name) == many.of(name) for name in [*SETS[:2], "a", "b", "clean"])


def test_no_two_of_forty_names_look_the_same():
    styles = Styles(SETS)
    names = [*SETS, "clean", *map(str, range(36))]
    for one, other in itertools.combinations(names, 2):
        assert styles.of(one) != styles.of(other)
    assert {styles.of(name).colour for name in names if name != "clean"}.isdisjoint({"#000000"})
