"""Our cells find the papers' printed numbers: one misspelt label would leave them apart."""

import csv
import re
from pathlib import Path

import pytest

from advdenoise.calls import call_with
from advdenoise.graph.sources import load
from advdenoise.graph.yaml_files import read_files
from advdenoise.io.published import PUBLISHED
from advdenoise.reporting import labels
from advdenoise.reporting.read import read_stage
from advdenoise.reporting.write import published_numbers
from tests.fake_results import Results

REPOSITORY = Path(__file__).parents[2]
PAPERS = read_files(REPOSITORY / "config" / "papers.yaml")
TABLES = [
    (paper, table)
    for paper, experiment in PAPERS["experiments"].items()
    for table in experiment["tables"]
    # The sizes of layers have rows of the networks' own: tests/tables/test_apudae.py.
    if (PUBLISHED / f"{paper}_{table}.csv").exists() and (paper, table) != ("apudae", "table1")
]


# APuDAE's robust network of ImageNet is a file of the user's.
USERS = {
    ("apudae", "table4"): r"^Adv\. Training \|",
    ("apudae", "table5"): r"^ImageNet [AB] \| Adversarial Training$",
}


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """The cells of a table at the papers' scale, of result files with random rows."""
    config = {**PAPERS, "seeds": [0]}
    config["detection"] = {**config["detection"], "split_seeds": 1}
    results = Results(tmp_path_factory.mktemp("papers"), config)

    def made(paper: str, table: str):
        inputs = results.inputs("tables", paper, table)
        entry = results.flow.config["experiments"][paper]["tables"][table]
        given = {k: read_stage(k, v) for k, v in inputs.items()}
        return call_with(load("tables", entry), **given)

    return made


def test_tables_of_the_papers_are_compared():
    assert len(TABLES) >= 6


@pytest.mark.parametrize(("paper", "table"), TABLES)
def test_every_printed_number_has_a_cell(cells, paper, table):
    printed = published_numbers(paper, table)
    made = {(cell.row, cell.column) for cell in cells(paper, table)}
    apart = {f"{row} | {column}" for row, column in printed.keys() - made}
    of_users = USERS.get((paper, table), r"(?!)")
    assert not [label for label in apart if not re.search(of_users, label)]
    assert made & printed.keys()


@pytest.mark.parametrize(("paper", "table"), TABLES)
def test_a_printed_number_meets_a_cell_of_its_kind(cells, paper, table):
    printed = published_numbers(paper, table)
    met: dict = {}
    for cell in cells(paper, table):
        found = printed.get((cell.row, cell.column))
        if found:
            assert (cell.row, cell.column) not in met, "two cells claim one printed number"
            met[cell.row, cell.column] = cell
            assert found["unit"] == cell.unit
            # The size of a network belongs to no data set.
            assert found["dataset"] in ("", labels.DATASETS[cell.about["dataset"]])
            assert cell.text or float(found["value"]) >= 0


@pytest.mark.parametrize(("paper", "table"), TABLES)
def test_what_no_printed_label_claims_stands_under_its_own_name(cells, paper, table):
    printed = published_numbers(paper, table)
    rows, columns = {row for row, _ in printed}, {column for _, column in printed}
    own = {(c.row, c.column) for c in cells(paper, table)} - printed.keys()
    allowed = {
        # No paper prints clean accuracy here, true labels, other starts and iterations, other
        # settings of Madry, one defence under the other's attack, or adaptive attacks.
        "feature_losses": r"^(clean|FGSM(, true labels)?|PGD(, random start)?(, \d+ iterations)?)"
        r"( \(\w+\))? / (UNSECURED|MADRY \(2017\)( \(\w+\))?|"
        r"HGD \(2018\)( \(\w+\))?|OURS( \((FGSM|PGD)\))?|\w+) "
        r"\| (accuracy|adaptive|BROKEN\?)$",
        # Nor another protocol, boosting with other settings, or images of other classes.
        "segfault": r" \((paper - )?grouped\) \| |^XGB \(off_the_shelf xgboost_library\) \| |"
        r"^sigma=\d \| \w+ max_dist=|^\w+ \| n_segments=",
        # Nor steps of another rule, another autoencoder, a transformation each time, a scan, each
        # attack on each data set, other CW and another robust network.
        "apudae": r"^APuDAE\S*( \(\S+ n=\d+\)| \([\w, ]+\))? \(apudae\w*( \w+)?\) \| |"
        r"^\S+ transformed \(\w+ \w+\) \| |"
        r"\| BIM \(bounded_bim10\)$|\| (APuDAE(\(B\))?|MagNet) \(\w+( \w+)?\)$|"
        r"^random \| |\| (R-)?FGSM$|^\S+ B, scan, weight = [\d.]+ \| |"
        r"C&W, unbounded L2|with_distance|\| Adversarial Training, robust_mlp_pgd$",
        # Nor clean images, U-Net on validation images, the attacker's accuracy, the precision of a
        # training, and sets with limits that are not chosen.
        "propagation": r"^clean \| | w/ UN$| \| attacker top-1 val\. acc\.$| \| trained in$|"
        r"^\S+( v\d)? \(\w+_starting@\w+\) \| ",
        # Nor other steps of I-FGSM, SegPGD and adaptive attacks.
        "dapas": r"\| (I-FGSM, step 1/255|SegPGD) |^[\d.]+ \S.* \| ",
    }[paper]
    for row, column in own:
        assert re.search(allowed, f"{row} | {column}"), (row, column, sorted(rows), sorted(columns))


def test_spelt_names_are_printed_somewhere():
    """Attacks, detectors, representations and data sets, each in some published file."""
    columns: dict[str, set] = {}
    for path in PUBLISHED.glob("*_table*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                for name, value in line.items():
                    columns.setdefault(name, set()).add(value)
    attacks = " ".join(columns["attack"])
    assert [name for name in labels.ATTACKS.values() if name not in attacks] == []
    assert set(labels.SETS.values()) <= columns["attack"]
    assert set(labels.CLASSIFIERS.values()) <= columns["classifier"]
    # The text alone speaks of the head that did not train.
    assert {*labels.HEADS.values()} - {labels.HEADS["relu"]} <= columns["variant"]
    assert set(labels.DENOISERS.values()) <= columns["denoiser"]
    assert set(labels.DETECTORS.values()) <= columns["detector"]
    assert set(labels.REPRESENTATIONS.values()) <= columns["representation"]
    assert set(labels.DATASETS.values()) <= columns["dataset"]


def test_superpixels_are_printed_as_their_settings():
    def printed(method, **settings):
        return labels.superpixels({"function": f"superpixels.{method}", "settings": settings})

    assert printed("slic", n_segments=64, like_2021=True) == "slic n_segments=64"
    assert printed("felzenszwalb", scale=1000.0) == "felzenszwalb scale=1000"
    assert printed("quickshift", sigma=0, max_dist=10) == "quickshift sigma=0 max_dist=10"
    assert printed("pixels") == "pixel (ML-LOO)"


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*_table*.csv")), ids=lambda path: path.stem)
def test_a_published_file_names_each_number_once(path):
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    keys = [(line["row"], line["column"]) for line in lines]
    assert len(set(keys)) == len(keys)
    paper, _, table = path.stem.rpartition("_table")
    assert {(line["paper"], line["table"]) for line in lines} == {(paper, table)}
    for row, column in keys:
        assert "|" not in row + column, "Markdown would take it for a border"
    assert published_numbers(paper, f"table{table}").keys() == set(keys)
