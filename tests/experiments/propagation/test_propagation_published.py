"""The printed numbers of "Propagated Perturbation" beside our cells at the papers' scale."""

import pytest

from experiments.propagation import labels
from tests.experiments import printed

# The paper does not print clean images, U-Net on validation images, the attacker's accuracy,
# the precision of a training, and sets with limits that are not chosen.
ALLOWED = (
    r"^clean \| | w/ UN$| \| attacker top-1 val\. acc\.$| \| trained in$|"
    r"^\S+( v\d)? \(\w+_starting@\w+\) \| "
)
TABLES = printed.tables("propagation")


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    return printed.cells_of("propagation", tmp_path_factory.mktemp("papers"))


def test_tables_are_compared():
    assert len(TABLES) >= 6


@pytest.mark.parametrize("table", TABLES)
def test_every_printed_number_stands_beside_a_cell_of_its_kind(cells, table):
    printed.check_numbers("propagation", table, cells(table))


@pytest.mark.parametrize("table", TABLES)
def test_what_no_printed_label_claims_stands_under_its_own_name(cells, table):
    printed.check_own_names("propagation", table, cells(table), ALLOWED)


def test_own_names_are_printed():
    columns, names = printed.columns("propagation"), labels.LABELS
    assert set(names.sets.values()) <= columns["attack"]
    assert set(names.classifiers.values()) <= columns["classifier"]
    # The text alone speaks of the head that did not train.
    assert {*names.heads.values()} - {names.heads["relu"]} <= columns["variant"]
    assert set(labels.DENOISERS.values()) <= columns["denoiser"]
