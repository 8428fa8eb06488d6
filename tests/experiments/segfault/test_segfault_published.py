"""The printed numbers of "Segmentation Fault" beside our cells at the papers' scale."""

import pytest

from experiments.segfault import labels
from tests.experiments import printed

# The paper does not print another protocol, boosting with other settings, or images of other
# classes.
ALLOWED = (
    r" \((paper - )?grouped\) \| |^XGB \(off_the_shelf xgboost_library\) \| |"
    r"^sigma=\d \| \w+ max_dist=|^\w+ \| n_segments="
)
TABLES = printed.tables("segfault")


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    return printed.cells_of("segfault", tmp_path_factory.mktemp("papers"))


def test_tables_are_compared():
    assert len(TABLES) >= 5


@pytest.mark.parametrize("table", TABLES)
def test_every_printed_number_stands_beside_a_cell_of_its_kind(cells, table):
    printed.check_numbers("segfault", table, cells(table))


@pytest.mark.parametrize("table", TABLES)
def test_what_no_printed_label_claims_stands_under_its_own_name(cells, table):
    printed.check_own_names("segfault", table, cells(table), ALLOWED)


def test_own_names_are_printed():
    columns = printed.columns("segfault")
    assert set(labels.DETECTORS.values()) <= columns["detector"]
    assert set(labels.REPRESENTATIONS.values()) <= columns["representation"]


def test_superpixels_are_printed_as_their_settings():
    def name(method, **settings):
        return labels.superpixel_name({"function": f"superpixels.{method}", "settings": settings})

    assert name("slic", n_segments=64, like_2021=True) == "slic n_segments=64"
    assert name("felzenszwalb", scale=1000.0) == "felzenszwalb scale=1000"
    assert name("quickshift", sigma=0, max_dist=10) == "quickshift sigma=0 max_dist=10"
    assert name("pixels") == "pixel (ML-LOO)"
