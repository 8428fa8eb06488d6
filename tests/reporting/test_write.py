"""One table in three formats: numbers, notes, the published ones beside, escapes."""

import csv
import json
import math
from pathlib import Path

import pytest

from advdenoise.errors import BadInput, DamagedFile
from advdenoise.graph import configuration
from advdenoise.graph.yaml_files import read_files
from advdenoise.io.published import Published
from advdenoise.reporting import latex, subject
from advdenoise.reporting import write as writers
from advdenoise.reporting.cells import Cell, Cells
from advdenoise.reporting.latex import escaped
from advdenoise.reporting.write import write
from advdenoise.stages import table
from advdenoise.statistics import Estimate
from tests.fake_results import Results

NAN = math.nan


@pytest.fixture
def published(tmp_path):
    """A paper of one table with three numbers and a word."""
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "table1.csv").write_text(
        "paper,table,row,column,value,unit,metric,dataset,raw\n"
        'fake,1,"Mine (A, n=12)",FGSM,90.5,%,accuracy,MNIST, 90.5 \n'
        "fake,1,No attack,FGSM,10,%,accuracy,CIFAR-10,10\n"
        "fake,1,No attack,clean,0.99,fraction,accuracy,MNIST,.99\n"
        "fake,1,No attack,attacker,ResNet-18,name,,MNIST,ResNet-18\n"
    )
    return Published(folder)


def cell(row, column, value, low=NAN, high=NAN, n=50, unit="%", spread=NAN, **about):
    about = {"dataset": "mnist"} | about
    return Cell(row, column, "accuracy", unit, Estimate(value, low, high, n), spread, about)


CELLS = [
    cell("mine_50%", "clean", 99.5, 98.25, 99.75, threat="clean", epsilon=NAN),
    cell("mine_50%", "FGSM", 12.345678901234, 10, 15, spread=0.25, threat="fgsm@cnn4", epsilon=0.5),
    cell("No attack", "FGSM", 60, 50, 70),
    cell("No attack", "clean", 97, 96, 98),
    cell("No attack", "attacker", 1.0, unit=""),
    cell("Mine (A, n=12)", "FGSM", 91.25, 90, 92),
    cell("No attack", "AUC", NAN, unit="AUC"),
    cell("No attack", "small", 0.0123456, 0.01, 0.0150, unit=""),
]


@pytest.fixture
def written(published, tmp_path):
    paths = {kind: tmp_path / f"out/t.{kind}" for kind in ("csv", "markdown", "latex")}

    def run(cells, paper="fake", name="table1", left_out=()):
        write(cells, paper, name, list(left_out), paths, published=published.numbers(name))
        return {kind: path.read_text(encoding="utf-8") for kind, path in paths.items()}

    return run


def lines_of(text: str) -> list[dict]:
    return list(csv.DictReader(text.splitlines()))


def test_published_numbers_are_found_by_row_and_column(published):
    result = published.numbers("table1")
    assert result["Mine (A, n=12)", "FGSM"]["value"] == "90.5"
    assert published.numbers("table2") == {}


def test_csv_has_a_line_for_every_number(written):
    lines = lines_of(written(CELLS)["csv"])
    assert len(lines) == len(CELLS)
    measured = ["row", "column", "metric", "unit", "value", "low", "high", "n", "spread"]
    compared = ["published", "published_unit", "published_dataset", "difference"]
    assert list(lines[0]) == [*measured, *compared, "dataset", "threat", "epsilon"]
    assert [lines[1][name] for name in measured] == (
        ["mine_50%", "FGSM", "accuracy", "%", "12.3456789", "10", "15", "50", "0.25"]
    )
    assert (lines[1]["threat"], lines[1]["epsilon"]) == ("fgsm@cnn4", "0.5")
    # What is undefined or not there is empty.
    assert (lines[0]["spread"], lines[0]["epsilon"]) == ("", "")
    assert (lines[6]["value"], lines[6]["low"]) == ("", "")
    assert lines[2]["threat"] == ""


def test_only_equal_things_are_compared(written):
    by_label = {(x["row"], x["column"]): x for x in lines_of(written(CELLS)["csv"])}
    same = by_label["Mine (A, n=12)", "FGSM"]
    assert (same["published"], same["published_unit"], same["difference"]) == ("90.5", "%", "0.75")
    other_data = by_label["No attack", "FGSM"]
    assert (other_data["published"], other_data["published_dataset"]) == ("10", "CIFAR-10")
    assert other_data["difference"] == ""
    other_unit = by_label["No attack", "clean"]
    assert (other_unit["published"], other_unit["difference"]) == ("0.99", "")
    word = by_label["No attack", "attacker"]
    assert (word["published"], word["difference"]) == ("ResNet-18", "")
    unpublished = by_label["mine_50%", "FGSM"]
    assert (unpublished["published"], unpublished["difference"]) == ("", "")


def test_markdown_shows_values_intervals_and_the_published_numbers(written):
    text = written(CELLS, left_out=["purifiers far: not for data set mnist"])["markdown"]
    lines = text.splitlines()
    assert lines[0] == "# fake: table1"
    head = [part.strip() for part in lines[2].strip("|").split("|")]
    # The paper's columns and rows first, in its order.
    assert head == ["", "FGSM", "clean", "attacker", "AUC", "small"]
    body = [[part.strip() for part in line.strip("|").split("|")] for line in lines[4:7]]
    assert [row[0] for row in body] == ["Mine (A, n=12)", "No attack", "mine_50%"]
    assert body[0][1] == "91.2 [90.0, 92.0] (90.5)"
    assert body[1][1:] == [
        "60.0 [50.0, 70.0] (10)",
        "97.0 [96.0, 98.0] (0.99)",
        "1 (ResNet-18)",
        "undefined",
        "0.0123 [0.0100, 0.0150]",
    ]
    assert body[2][1:3] == ["12.3 [10.0, 15.0]", "99.5 [98.2, 99.8]"]
    notes = [line for line in lines[7:] if line]
    assert notes == [
        "Each value with its 95 % confidence interval over images and, in parentheses, "
        "the published number as printed.",
        "The published numbers are of CIFAR-10, MNIST, ours of MNIST.",
        "Left out: purifiers far: not for data set mnist.",
    ]


def test_seconds_stand_in_columns_of_their_own(written):
    timed = cell("a", "time", 2.5, 2, 3, unit="s", spread=0.5)
    first, second = lines_of(written([timed, cell("a", "AUC", 0.5, 0.4, 0.6, unit="AUC")])["csv"])
    names = ["value", "low", "high", "spread"]
    assert [first[f"{name}_seconds"] for name in names] == ["2.5", "2", "3", "0.5"]
    assert [first[name] for name in names] == [""] * 4
    assert [second[name] for name in names] == ["0.5", "0.4", "0.6", ""]
    assert second["value_seconds"] == ""
    produced = written([timed])
    assert (
        "| 2.50 [2.00, 3.00] |" in produced["markdown"]
        and "median of all repetitions" in produced["latex"]
    )


def test_what_hangs_on_the_machine_or_the_image_is_shown_and_not_compared(written, published):
    (published.folder / "table7.csv").write_text(
        "paper,table,row,column,value,unit,metric,dataset,raw\n"
        "fake,7,a,time,1.79,s,time,MNIST,1.79s\n"
        "fake,7,a,segments,61,segments,segments,MNIST,61\n"
        "fake,7,a,memory,9800,byte,memory,MNIST,9.8KB\n"
    )
    cells = [cell("a", "time", 2.5, unit="s"), cell("a", "segments", 60, unit="segments")]
    produced = written([*cells, cell("a", "memory", 9830, unit="byte")], name="table7")
    differences = [(line["published"], line["difference"]) for line in lines_of(produced["csv"])]
    assert differences == [("1.79", ""), ("61", ""), ("9800", "30")]
    assert "2.50 (1.79s)" in produced["markdown"] and "9.83 kB (9.8KB)" in produced["markdown"]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "byte", "0 B"),
        (110, "byte", "110 B"),
        (9830, "byte", "9.83 kB"),
        (1_997_537_390, "byte", "2 GB"),
        (12_345.6, "s", "12346"),
        (12.345, "s", "12.3"),
        (1024, "segments", "1024"),
    ],
)
def test_numbers_are_shown_in_their_unit(value, unit, text):
    decimals = writers._decimals([cell("a", "b", value, unit=unit)])["b", unit]
    assert writers._short(value, unit, decimals) == text


def test_a_number_that_the_paper_copied_is_shown_and_not_compared(written, published):
    (published.folder / "table2.csv").write_text(
        "paper,table,row,column,value,unit,metric,dataset,raw,note\n"
        "fake,2,a,accuracy,22.1,%,accuracy,MNIST,22.1,row of another table; likely copied\n"
        "fake,2,b,accuracy,22.1,%,accuracy,MNIST,22.1,\n"
    )
    produced = written([cell("a", "accuracy", 30), cell("b", "accuracy", 30)], name="table2")
    assert [line["difference"] for line in lines_of(produced["csv"])] == ["", "7.9"]
    assert produced["markdown"].count("30.0 (22.1)") == 2


def test_what_is_so_or_not_is_told_in_a_word(written):
    produced = written([cell("a", "b", 1.0, unit="yes/no"), cell("c", "b", 0.0, unit="yes/no")])
    rows = [line.split("|")[1:3] for line in produced["markdown"].splitlines() if "|" in line]
    assert [[text.strip() for text in row] for row in rows[2:]] == [["a", "yes"], ["c", "no"]]
    assert [(x["value"], x["unit"]) for x in lines_of(produced["csv"])] == [
        ("1", "yes/no"),
        ("0", "yes/no"),
    ]


def test_notes_of_a_table_stand_below_it(written):
    produced = written(Cells(CELLS, ["The loss network is a_b."]), left_out=["x: far"])
    lines = [line for line in produced["markdown"].splitlines() if line]
    assert lines[-2:] == ["The loss network is a_b.", "Left out: x: far."]
    assert r"{\footnotesize\raggedright The loss network is a\_b.\par}" in produced["latex"]
    assert produced["csv"] == written(CELLS)["csv"]


def test_latex_escapes_what_it_would_take_for_its_own(written):
    text = written(CELLS, left_out=["attacks a_b: not for data set mnist"])["latex"]
    assert r"mine\_50\%" in text and r"Left out: attacks a\_b: not for data set mnist." in text
    lines = [line.rstrip("%") for line in text.splitlines() if not line.startswith("% ")]
    for line in lines:
        unescaped = line.replace(r"\%", "").replace(r"\_", "").replace(r"\&", "")
        assert "%" not in unescaped and "_" not in unescaped
    assert escaped("a~b ^ {c} $1 #2 <3> |4| \\") == (
        r"a\textasciitilde{}b \textasciicircum{} \{c\} \$1 \#2 \textless{}3\textgreater{} "
        r"\textbar{}4\textbar{} \textbackslash{}"
    )


def test_latex_is_a_float_with_caption_label_and_notes(written):
    lines = written(CELLS, left_out=["x: far"])["latex"].splitlines()
    assert lines[:2] == [r"% \usepackage{booktabs}", r"% \usepackage{graphicx}"]
    order = [r"\begin{table}[htbp]", r"\caption{fake: table1.}", r"\label{tab:fake-table1}"]
    order += [r"\toprule", r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    places = [lines.index(line) for line in order]
    assert places == sorted(places)
    assert lines[-2] == r"{\footnotesize\raggedright Left out: x: far.\par}"


def parts_of(lines: list[str]) -> list[list[list[str]]]:
    """The cells of each tabular's rows, heads first."""
    parts, rows = [], None
    for line in lines:
        if line.startswith(r"\begin{tabular}"):
            rows = []
        elif line == r"\end{tabular}":
            parts.append(rows)
        elif rows is not None and line.endswith((r" \\", r" \tabularnewline")):
            rows.append([cell.strip() for cell in line.rpartition(" ")[0].split("&")])
    return parts


def test_a_wide_table_stands_in_parts_that_each_name_the_rows():
    head = ["", *(f"column{number}" for number in range(10))]
    body = [[f"row{row}", *(f"0.{row}{number} [0.1, 0.9]" for number in range(10))] for row in "ab"]
    lines = latex.latex(head, body, "x", "x", [])
    parts = parts_of(lines)
    assert len(parts) > 1 and lines.count(r"\begin{table}[htbp]") == 1
    assert all([row[0] for row in part] == ["", "rowa", "rowb"] for part in parts)
    for row, expected in enumerate([head, *body]):
        assert [cell for part in parts for cell in part[row][1:]] == expected[1:]
    for part in parts:
        assert all(sum(map(len, row)) + 3 * len(row) <= latex._LINE + 3 for row in part)


def test_a_long_table_stands_in_several_floats():
    body = [[f"row{number}", "1.0"] for number in range(100)]
    lines = latex.latex(["", "a"], body, "x", "x", ["A note."])
    parts = parts_of(lines)
    assert [row[0] for part in parts for row in part[1:]] == [row[0] for row in body]
    captions = [line for line in lines if line.startswith(r"\caption")]
    assert captions == [rf"\caption{{x, part {n} of {len(captions)}.}}" for n in (1, 2, 3, 4)]
    assert [line for line in lines if line.startswith(r"\label")] == (
        [rf"\label{{tab:x{end}}}" for end in ("", "-2", "-3", "-4")]
    )
    assert sum("A note." in line for line in lines) == 1


def test_long_cells_and_heads_stand_in_several_lines():
    sentence = "A sentence that is much longer than a column can be on a page of paper."
    lines = latex.latex(["", "two words"], [[sentence, "1"], ["[a]", "2"]], "x", "x", [])
    assert r"\begin{tabular}{p{17em}l}" in lines
    assert r"\raggedright A sentence" in "".join(lines)
    assert r" & \shortstack[l]{two\\words} \\" in lines
    assert not [line for line in lines if line.startswith("[")]


@pytest.mark.parametrize(
    ("values", "decimals"),
    [
        ([0.5, 0.25], 3),
        ([12.3, 1.2], 1),
        ([300.0, 1.25], 1),
        ([0.0123], 4),
        ([0.98, 0.0082], 4),
        ([3, 1024], 0),
        ([NAN, 0.0], 0),
        ([1e9, 0.5], 0),
        ([1e-9], 6),
    ],
)
def test_numbers_of_a_column_have_the_same_number_of_decimals(written, values, decimals):
    cells = [cell(f"row{place}", "a", value, unit="x") for place, value in enumerate(values)]
    assert writers._decimals(cells)["a", "x"] == decimals
    shown = [
        line.split("|")[2].strip()
        for line in written(cells)["markdown"].splitlines()[4:]
        if line.startswith("|")
    ]
    assert {len(text.partition(".")[2]) for text in shown if text != "undefined"} == {decimals}


def test_fractions_have_three_decimals_and_per_cent_one():
    cells = [cell("a", name, 0.0, unit=name) for name in ("fraction", "AUC", "%")]
    assert list(writers._decimals(cells).values()) == [3, 3, 1]


@pytest.mark.parametrize(
    ("raw", "shown"),
    [("0.", "0.0"), (".99", "0.99"), (" 0.73 ", "0.73"), ("~45s", "~45s"), ("100", "100")],
)
def test_published_numbers_are_shown_as_printed_with_digits_around_the_point(raw, shown):
    assert writers._as_printed(raw) == shown


def test_published_numbers_of_other_images_are_told(written):
    note = "The published numbers are of CIFAR-10, MNIST, ours of MNIST."
    assert note in written(CELLS)["markdown"]
    assert "ours of" not in written(CELLS[5:6])["markdown"]
    elsewhere = written([cell("Mine (A, n=12)", "FGSM", 91.25, dataset="digits")])["markdown"]
    assert "The published numbers are of MNIST, ours of digits." in elsewhere


@pytest.mark.parametrize(
    ("value", "text"), [(8 / 255, "8/255"), (0.2, "0.2"), (0.3, "0.3"), (0.031, "0.031"), (0, "0")]
)
def test_budgets_are_shown_as_configured(value, text):
    assert subject.budget(value) == text


def test_without_published_numbers_none_are_announced(written):
    produced = written(CELLS[:2], name="own")
    assert (
        "published number" not in produced["markdown"]
        and "published number" not in produced["latex"]
    )


def test_of_two_cells_for_one_place_the_first_keeps_it(written):
    cells = [cell("a", "b", 1.0), cell("a", "b", 2.0, dataset="cifar10")]
    rows = [line.split("|")[1:3] for line in written(cells)["markdown"].splitlines() if "|" in line]
    assert [[text.strip() for text in row] for row in rows[2:]] == [
        ["a", "1.0"],
        ["a (cifar10)", "2.0"],
    ]


def test_the_same_cells_give_the_same_bytes(written):
    assert written(CELLS) == written(CELLS)


# ---------------------------------------------------------------- the stage


def run_table(results, paper, name, tmp_path, **changes):
    job = results.flow.job("table", {"experiment": paper, "table": name})
    settings = json.loads(json.dumps(job.settings))
    inputs = {stage: [results.make(f) for f in files] for stage, files in job.inputs.items()}
    paths = {kind: tmp_path / f"{name}.{kind}" for kind in ("csv", "markdown", "latex")}
    table.run(settings, **paths, **{**inputs, **changes})
    return lines_of(paths["csv"].read_text(encoding="utf-8"))


QUICK = configuration.read(read_files(Path(__file__).parents[2] / "config" / "config.yaml"))
TABLES = [
    (paper, name)
    for paper, experiment in QUICK["experiments"].items()
    for name, entry in experiment["tables"].items()
    if entry["function"] != "explorer.rows"  # for programs
]


@pytest.mark.parametrize(("paper", "name"), TABLES)
def test_every_table_of_the_quick_scale_is_made(tmp_path, quick, paper, name):
    quick["detection"]["split_seeds"] = 1
    lines = run_table(Results(tmp_path, quick), paper, name, tmp_path)
    assert lines
    if name == "claims":
        assert all(line["sentence"] and line["quantity"] and line["verdict"] for line in lines)
        return
    assert all(line["row"] and line["column"] for line in lines)
    for line in lines:  # seconds stand in columns of their own
        undefined = "the normaliser's share" in line["column"]  # of no jump
        assert line["value"] or undefined or any(line[k] for k in line if k.endswith("_seconds"))


def test_what_is_not_for_a_data_set_is_told(tmp_path, own):
    own["experiments"]["mine"]["tables"]["accuracy"]["predictions"]["classifier"] = [
        "resnet18",
        "cnn4",
    ]
    run_table(Results(tmp_path, own), "mine", "accuracy", tmp_path)
    text = (tmp_path / "accuracy.markdown").read_text(encoding="utf-8")
    assert "Left out: classifiers cnn4: not for data set patches." in text


def test_a_table_of_nothing_says_so(tmp_path, results):
    with pytest.raises(BadInput, match=r"experiments\.mine\.tables\.accuracy: .* reads predict"):
        run_table(results, "mine", "accuracy", tmp_path, predictions=[])


def test_a_damaged_result_is_named(tmp_path, results):
    (path, *_) = results.inputs("tables", "mine", "accuracy")["predictions"]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DamagedFile, match=str(path)):
        run_table(results, "mine", "accuracy", tmp_path)
