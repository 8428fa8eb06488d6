"""The printed numbers of "APuDAE" beside our cells at the papers' scale."""

import pytest

from experiments.apudae import labels
from tests.experiments import printed

# The robust network of ImageNet is a file of the user's.
OF_USERS = {
    "table4": r"^Adv\. Training \|",
    "table5": r"^ImageNet [AB] \| Adversarial Training$",
}
# The paper does not print steps of another rule, another autoencoder, a transformation each
# time, a scan, each attack on each data set, other CW and another robust network.
ALLOWED = (
    r"^APuDAE\S*( \(\S+ n=\d+\)| \([\w, ]+\))? \(apudae\w*( \w+)?\) \| |"
    r"^\S+ transformed \(\w+ \w+\) \| |"
    r"\| BIM \(bounded_bim10\)$|\| (APuDAE(\(B\))?|MagNet) \(\w+( \w+)?\)$|"
    r"^random \| |\| (R-)?FGSM$|^\S+ B, scan, weight = [\d.]+ \| |"
    r"C&W, unbounded L2|with_distance|\| Adversarial Training, robust_mlp_pgd$"
)
TABLES = [name for name in printed.tables("apudae") if name != "table1"]  # rows of its own


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    return printed.cells_of("apudae", tmp_path_factory.mktemp("papers"))


def test_tables_are_compared():
    assert len(TABLES) >= 4


@pytest.mark.parametrize("table", TABLES)
def test_every_printed_number_stands_beside_a_cell_of_its_kind(cells, table):
    printed.check_numbers("apudae", table, cells(table), OF_USERS.get(table, "(?!)"))


@pytest.mark.parametrize("table", TABLES)
def test_what_no_printed_label_claims_stands_under_its_own_name(cells, table):
    printed.check_own_names("apudae", table, cells(table), ALLOWED)


def test_own_names_are_printed():
    attacks = " ".join(printed.columns("apudae")["attack"])
    assert [name for name in labels.LABELS.attacks.values() if name not in attacks] == []
