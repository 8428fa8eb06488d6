"""The printed numbers of "Feature Losses" beside our cells at the papers' scale."""

import pytest

from tests.experiments import printed

# The paper does not print clean accuracy here, true labels, other starts and iterations, other
# settings of Madry, one defence under the other's attack, or adaptive attacks.
ALLOWED = (
    r"^(clean|FGSM(, true labels)?|PGD(, random start)?(, \d+ iterations)?)"
    r"( \(\w+\))? / (UNSECURED|MADRY \(2017\)( \(\w+\))?|"
    r"HGD \(2018\)( \(\w+\))?|OURS( \((FGSM|PGD)\))?|\w+) "
    r"\| (accuracy|adaptive|BROKEN\?)$"
)
TABLES = printed.tables("feature_losses")


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    return printed.cells_of("feature_losses", tmp_path_factory.mktemp("papers"))


def test_tables_are_compared():
    assert len(TABLES) >= 1


@pytest.mark.parametrize("table", TABLES)
def test_every_printed_number_stands_beside_a_cell_of_its_kind(cells, table):
    printed.check_numbers("feature_losses", table, cells(table))


@pytest.mark.parametrize("table", TABLES)
def test_what_no_printed_label_claims_stands_under_its_own_name(cells, table):
    printed.check_own_names("feature_losses", table, cells(table), ALLOWED)
