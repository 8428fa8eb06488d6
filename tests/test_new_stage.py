"""CONTRIBUTING.md, "Add a stage", followed in a copy of the code: five files and no other."""

import re

import pytest

from advdenoise.io.parquet import read_table
from tests import mini

PAGE = (mini.REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTION = re.search(r"^## Add a stage\n(.*?)^## ", PAGE, re.S | re.M)[1]
# Each block with the path that is named last before it.
BLOCKS = dict(
    re.findall(
        r"`([\w./]+/[\w.]+)`(?:(?!```|`[\w./]+/).)*```python\n(.*?)^```$", SECTION, re.S | re.M
    )
)
SCHEMAS = "src/advdenoise/io/schemas.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = mini.copy_code(tmp_path_factory.mktemp("stage") / "code")
    for name, text in BLOCKS.items():
        assert (folder / name).exists() == (name == SCHEMAS)
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(f"\n\n{text}" if name == SCHEMAS else text)
    return folder


def test_the_page_shows_five_files():
    assert list(BLOCKS) == [
        "rules/classes.smk",
        "scripts/classes.py",
        "src/advdenoise/graph/declarations/classes.py",
        "src/advdenoise/stages/classes.py",
        SCHEMAS,
    ]


def test_a_new_stage_runs_once(folder):
    (command,) = re.findall(r"^```sh\nsnakemake (.*)\n```$", SECTION, re.M)
    arguments = command.replace("results/quick", mini.ROOT).split()
    done = mini.snakemake(folder, *arguments)
    assert done.returncode == 0, done.stdout
    table = read_table(folder / arguments[-1])
    assert len(table) == 10 and sum(table["images"].to_pylist()) == 64
    assert "Nothing to be done" in mini.snakemake(folder, *arguments).stdout
    # The digests of another stage are as before.
    assert mini.planned(folder, f"{mini.ROOT}/images/digits/test.h5") == set()
