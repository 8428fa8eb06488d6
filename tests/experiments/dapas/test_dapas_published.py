"""The printed numbers of "DAPAS" beside our cells at the papers' scale."""

import pytest

from experiments.dapas import labels
from tests.experiments import printed

# The paper does not print other steps of I-FGSM, SegPGD and adaptive attacks.
ALLOWED = r"\| (I-FGSM, step 1/255|SegPGD) |^[\d.]+ \S.* \| "
TABLES = printed.tables("dapas")


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    return printed.cells_of("dapas", tmp_path_factory.mktemp("papers"))


def test_tables_are_compared():
    assert len(TABLES) >= 4


@pytest.mark.parametrize("table", TABLES)
def test_every_printed_number_stands_beside_a_cell_of_its_kind(cells, table):
    printed.check_numbers("dapas", table, cells(table))


@pytest.mark.parametrize("table", TABLES)
def test_what_no_printed_label_claims_stands_under_its_own_name(cells, table):
    printed.check_own_names("dapas", table, cells(table), ALLOWED)


def test_own_names_are_printed():
    assert set(labels.NOISES.values()) <= printed.columns("dapas")["noise"]
