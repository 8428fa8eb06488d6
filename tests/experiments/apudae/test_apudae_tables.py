"""Tables of "APuDAE": which row is whose, the worst of a scan, the top classes, the layers."""

import copy
import csv
import json

import numpy as np
import pytest

from advdenoise.calls import call_with
from advdenoise.graph.sources import load
from advdenoise.io.parquet import read_table, write_table
from advdenoise.io.provenance import read_provenance
from advdenoise.io.schemas import PREDICTIONS
from advdenoise.reporting.latex import escaped
from advdenoise.reporting.read import read_stage
from advdenoise.stages import table
from experiments.apudae import results as results_of
from experiments.apudae.printed import PUBLISHED
from tests.fake_results import IMAGES, Results, rows


class FakeExperiment:
    """The cells of a table, from fabricated results that may be changed first."""

    def __init__(self, root, config: dict):
        self.results = Results(root, copy.deepcopy(config))
        self._read: dict[str, dict] = {}

    def cells(self, name: str, *changes):
        if name not in self._read:
            inputs = self.results.inputs("tables", "apudae", name)
            self._read[name] = {stage: read_stage(stage, files) for stage, files in inputs.items()}
        arguments = dict(self._read[name])
        if changes:
            frame = arguments["predictions"].frame.copy()
            for change in changes:
                changed = change(frame)
                frame = frame if changed is None else changed
            arguments["predictions"] = arguments["predictions"].of(frame)
        entry = self.results.flow.config["experiments"]["apudae"]["tables"][name]
        return call_with(load("tables", entry), **arguments)

    def by_label(self, name: str, *changes) -> dict:
        cells = self.cells(name, *changes)
        result = {(cell.row, cell.column): cell for cell in cells}
        assert len(result) == len(cells)
        return result


# CW is inside the ball; by the smallest norm it has a column of its own.
ATTACKS = {"clean", "random", "FGSM", "R-FGSM", "BIM", "CW", "CW (cw_random with_distance)"}
ATTACKS |= {"C&W, unbounded L2"}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, apudae_file):
    return FakeExperiment(tmp_path_factory.mktemp("apudae"), apudae_file)


def right(share: float, **names):
    """Lets the first `share` of the images of these rows be classified rightly."""

    def change(frame) -> None:
        hits = frame["id"].rank(method="dense") <= share * frame["id"].nunique()
        guessed = np.where(hits, frame["label"], (frame["label"] + 1) % 10)
        chosen = rows(frame, **names)
        frame["prediction"] = np.where(chosen, guessed, frame["prediction"])
        frame["label_rank"] = np.where(chosen, np.where(hits, 0, 1), frame["label_rank"])

    return change


@pytest.mark.parametrize("name", ["table2", "table3", "table4", "table5"])
def test_every_printed_number_has_one_cell_of_its_kind(experiment, name):
    cells = experiment.by_label(name)
    printed = PUBLISHED.numbers(name)
    assert printed.keys() <= cells.keys()
    for place, line in printed.items():
        assert cells[place].unit == line["unit"]


def test_table_2_stands_for_the_entries_that_its_names_say(experiment):
    cells = experiment.by_label("table2")
    expected = {
        "No Defense": ("mlp", "none", "default"),
        "Adversarial Training": ("robust_mlp", "none", "default"),
        "Adversarial Training, robust_mlp_pgd": ("robust_mlp_pgd", "none", "default"),
        "Defense-GAN": ("mlp", "defense_gan", "default"),
        "MagNet": ("mlp", "magnet1", "default"),
        "MagNet (magnet2)": ("mlp", "magnet2", "default"),
        "APuDAE (Direct)": ("mlp", "apudae", "direct"),
        "APuDAE": ("mlp", "apudae", "a12"),
        "APuDAE (apudae a15)": ("mlp", "apudae", "a15"),
        "APuDAE(F) (apudae f)": ("mlp", "apudae", "f"),
    }
    attacks = {
        "Clean": "default",
        "FGSM": "fgsm",
        "R-FGSM": "r_fgsm",
        "PGD": "pgd",
        "CW": "bounded",
        "CW (cw_random with_distance)": "with_distance",
        "C&W, unbounded L2": "l2",
    }
    for column, names in expected.items():
        for row, point in attacks.items():
            about = cells[row, column].about
            result = (about["classifier"], about["purifier"], about["purifier_point"])
            assert result == names and about["attack_point"] == point
    assert {row for row, _ in cells} == {*attacks}


def test_table_3_names_the_variants_and_what_they_do_not_name_stands_apart(experiment):
    cells = experiment.by_label("table3")
    for row, point in (
        ("APuDAE (Direct)", "direct"),
        ("APuDAE (A, n=12)", "a12"),
        ("APuDAE (A, n=15)", "a15"),
        ("APuDAE (A, n=18)", "a18"),
        *((f"APuDAE({letter})", letter.lower()) for letter in "BCDEFG"),
        ("APuDAE(G) (apudae g_each_step)", "g_each_step"),
        ("APuDAE(F) (apudae f_logged)", "f_logged"),
        ("APuDAE(F) (apudae_red4 f)", "f"),
        ("APuDAE (Direct) (apudae_red4 direct)", "direct"),
    ):
        assert cells[row, "BIM"].about["purifier_point"] == point
        assert cells[row, "BIM"].about["attack_point"] == "bim"
    assert {column for _, column in cells} == ATTACKS


def test_the_column_cw_is_inside_the_ball(experiment):
    cells = experiment.by_label(
        "table3", right(0.8, threat="cw_random@resnet18", attack_point="l2")
    )
    cell, other = (cells["No Defense", name] for name in ("CW", "C&W, unbounded L2"))
    assert cell.about["attack_point"] == "bounded" and other.about["attack_point"] == "l2"
    assert other.estimate.value == pytest.approx(0.8)


def test_epsilons_say_where_the_published_accuracy_lies(experiment):
    """FGSM leaves 90, 50 and 10 % of the images at 0.1, 0.2 and 0.3: 26.9 % lie at 0.25775."""
    shares = {"e1": 0.9, "e2": 0.5, "e3": 0.1}
    fgsm = {"threat": "fgsm_radii@mlp"}
    changes = [right(share, attack_point=point, **fgsm) for point, share in shares.items()]
    changes.append(right(0.9, threat="pgd_radii@mlp"))
    cells = experiment.cells("epsilon", *changes)
    assert list(dict.fromkeys(cell.row for cell in cells)) == [
        f"{defence}, epsilon = {value}"
        for defence in ("No Defense", "Adversarial Training")
        for value in (0.1, 0.2, 0.3)
    ]
    assert cells.printed["No Defense, epsilon = 0.2", "FGSM"]["value"] == "0.269"
    assert cells.printed["Adversarial Training, epsilon = 0.2", "PGD"]["value"] == "0.354"
    assert len(cells) == len(cells.printed) == 12
    notes = " ".join(cells.notes)
    assert "No Defense, FGSM: the published 0.269 is reached here at epsilon 0.258." in notes
    assert "No Defense, PGD: the published 0.129 is reached at none of these epsilons." in notes


def test_the_authors_logged_run_stands_beside_f_with_its_sigma(experiment):
    chosen = {"threat": "colour@resnet18", "purifier": "apudae", "purifier_point": "f_logged"}
    cells = experiment.cells("authors_log", right(0.3, attack_point="bim", **chosen))
    by_label = {(cell.row, cell.column): cell for cell in cells}
    assert len(by_label) == len(cells)
    cell = by_label["red: F, sigma = 0.5", "BIM"]
    assert cell.estimate.value == pytest.approx(0.3)
    assert {row for row, _ in by_label} == {
        "red: E",
        "red: F",
        "red: F, sigma = 0.5",
        "red: reconstruction error of clean images",
    }
    printed = {place: line["raw"] for place, line in cells.printed.items()}
    assert printed == {
        ("red: F, sigma = 0.5", "clean"): "0.870",
        ("red: F, sigma = 0.5", "random"): "0.860",
        ("red: F, sigma = 0.5", "FGSM"): "0.792",
        ("red: F, sigma = 0.5", "R-FGSM"): "0.777",
        ("red: F, sigma = 0.5", "BIM"): "0.723",
        ("red: reconstruction error of clean images", "mean"): "2.856",
        ("red: reconstruction error of clean images", "deviation"): "0.923",
    }
    assert by_label["red: reconstruction error of clean images", "mean"].estimate.value == 4.0


def test_draws_are_averaged_image_by_image(experiment):
    def first_draw_alone(frame) -> None:
        chosen = rows(frame, purifier_point="f", attack_point="bim")
        hit = frame["draw"] == 0
        guessed = np.where(hit, frame["label"], (frame["label"] + 1) % 10)
        frame["prediction"] = np.where(chosen, guessed, frame["prediction"])

    cell = experiment.by_label("table3", first_draw_alone)["APuDAE(F)", "BIM"]
    assert cell.estimate.value == pytest.approx(1 / 3) and cell.estimate.n == IMAGES


def test_table_4_is_of_images_that_the_undefended_classifier_has_right(experiment):
    half = right(0.5, purifier="none", threat="clean", classifier="resnet18")
    cells = experiment.by_label("table4", half, right(0.1, purifier_point="noise"))
    assert {cell.estimate.n for cell in cells.values()} == {IMAGES // 2}
    assert cells["No defense", "clean"].estimate.value == 1
    assert cells["APuDAE (B)", "random"].estimate.value == pytest.approx(0.2)
    for row, point in (("n1", "a12"), ("n2", "a15"), ("n3", "a18")):
        assert cells[f"APuDAE (A, {row})", "clean"].about["purifier_point"] == point
    assert cells["APuDAE (C)", "clean"].about["purifier_point"] == "transformed"
    # The setting with fewer steps is the first, whatever the order of the entry.
    assert cells["No defense", "BIM first setting"].about["attack_point"] == "few"
    notes = " ".join(experiment.cells("table4", half).notes)
    assert f"{IMAGES // 2} of {IMAGES}" in notes and "n1 = 12, n2 = 15, n3 = 18." in notes


@pytest.mark.parametrize(("classes", "k"), [(10, 1), (199, 1), (200, 2), (1000, 10)])
def test_a_label_among_one_percent_of_the_classes_is_right(experiment, classes, k):
    def many(frame) -> None:
        frame["classes"] = classes
        frame["label_rank"] = np.where(rows(frame, threat="clean"), 0, frame["id"] - 100)
        first = frame["label_rank"] == 0
        frame["prediction"] = np.where(first, frame["label"], (frame["label"] + 1) % 10)

    cells = experiment.by_label("table4", many)
    cell = cells["APuDAE (C)", "random"]
    assert cell.estimate.value == pytest.approx(k / IMAGES)
    assert cell.metric == f"top-{k} robust accuracy"


def test_table_5_takes_the_worst_of_the_scan_for_each_defence(experiment):
    shares = {"l001": 0.8, "l01": 0.3, "l1": 0.5, "l10": 0.9}
    threats = {"direct_red": "counter_b@resnet18+direct_red", "best_f": "counter_b@resnet18+best_f"}
    changes = [
        right(shares[point], threat=threats["best_f"], attack_point=point) for point in shares
    ]
    changes += [
        right(round(1 - shares[p], 2), threat=threats["direct_red"], attack_point=p) for p in shares
    ]
    changes.append(right(0.7, threat="colour@robust_resnet18", attack_point="bim"))
    cells = experiment.by_label("table5", *changes)
    best, direct = (cells["CIFAR-10 B", f"APuDAE ({name})"] for name in ("Best", "Direct"))
    assert best.estimate.value == pytest.approx(0.3) and best.about["attack_point"] == "l01"
    assert direct.estimate.value == pytest.approx(0.1) and direct.about["attack_point"] == "l10"
    for weight, share in (("0.01", 0.8), ("0.1", 0.3), ("1", 0.5), ("10", 0.9)):
        cell = cells[f"CIFAR-10 B, scan, weight = {weight}", "APuDAE (Best)"]
        assert cell.estimate.value == pytest.approx(share)
    for letter in "AB":
        cell = cells[f"CIFAR-10 {letter}", "Adversarial Training"]
        assert cell.estimate.value == pytest.approx(0.7)
        assert cell.about["classifier"] == "robust_resnet18"
    assert cells["MNIST A", "APuDAE (Best)"].about["purifier"] == "best_a"
    assert cells["ImageNet A", "APuDAE (Best)"].about["purifier"] == "best_c"
    assert not [row for row, _ in cells if "unrolled" in row]


@pytest.mark.parametrize("name", ["table4", "table5"])
def test_a_robust_network_that_is_not_there_is_told(experiment, name):
    """As at the papers' scale, where ImageNet's is a file of the user's."""

    def without(frame):
        return frame[~rows(frame, dataset="imagenet", classifier="robust_resnet18")]

    def message(*changes) -> list[str]:
        return [note for note in experiment.cells(name, *changes).notes if "not run" in note]

    assert message() == []
    (note,) = message(without)
    assert "on ImageNet: not run" in note and "purifier: none" in note


def test_the_sweep_names_the_settings_that_differ_in_their_order(experiment):
    cells = experiment.cells("sweep")
    result = list(dict.fromkeys(cell.row for cell in cells))
    assert result == [
        "A, steps = 3",
        "A, steps = 12",
        "A, steps = 15",
        "A, steps = 18",
        "A, steps = 30",
        "F, deviation = not set",
        "F, deviation = 0.5",
        "G, resize = 0.05, rotation = 5, each_step = False",
        "G, resize = 0.1, rotation = 10, each_step = False",
        "G, resize = 0.1, rotation = 10, each_step = True",
        "G, resize = 0.2, rotation = 20, each_step = False",
    ]
    assert {cell.column for cell in cells} == ATTACKS
    of_a3 = {c.column for c in cells if c.row == "A, steps = 3"}
    assert of_a3 == {"clean", "random", "FGSM", "R-FGSM", "BIM"}


def with_rates(experiment: FakeExperiment, name: str, rates: dict[int, float]) -> None:
    """Lets the files of a table's predictions say that A's rate was chosen, for each seed."""
    for path in experiment.results.inputs("tables", "apudae", name)["predictions"]:
        provenance = read_provenance(path)
        settings = provenance["settings"]
        if settings["purifier"]["name"] in ("apudae", "apudae_sweep"):
            for point in settings["purifier"]["points"].values():
                if point["function"] == "apudae.a":
                    point["settings"]["rate"] = rates[settings["seed"]]
                    point["chosen"] = ["rate"]
            write_table(path, read_table(path, PREDICTIONS), provenance)


def test_a_chosen_rate_is_told_below_the_table_and_in_the_sweep(tmp_path, apudae):
    experiment = FakeExperiment(tmp_path, apudae)
    with_rates(experiment, "sweep", {0: 0.2})
    note = "rate = 0.2 on cifar10, chosen on held-out images: apudae a12, apudae a15, apudae a18."
    assert note in experiment.cells("table3").notes
    swept = note.replace("a18.", "a18, apudae_sweep a3, apudae_sweep a30.")
    assert swept in experiment.cells("sweep").notes
    assert "A, steps = 12" in {cell.row for cell in experiment.cells("sweep")}


def test_replicates_that_chose_otherwise_are_told(tmp_path, apudae):
    apudae["seeds"] = [0, 1]
    apudae["purifiers"]["apudae_sweep"]["points"]["a_fixed"] = {
        "function": "apudae.a",
        "settings": {"rate": 0.7},
    }
    experiment = FakeExperiment(tmp_path, apudae)
    with_rates(experiment, "table3", {0: 0.2, 1: 0.05})
    cells = experiment.cells("sweep")
    rows = {cell.row for cell in cells if cell.row.startswith("A")}
    assert "A, steps = 12, rate = 0.05 or 0.2" in rows and "A, steps = 15, rate = 0.7" in rows
    message = "rate = 0.2, 0.05 on cifar10, chosen on held-out images: apudae a12, "
    assert any(note.startswith(message) for note in cells.notes)


def test_table_1_counts_equal_layers_beside_the_papers(experiment):
    cells = experiment.by_label("table1")
    row = "cifar10, red: 2-4 Conv2d+Relu+BatchNorm2d"
    values = {column: cells[row, column].estimate.value for r, column in cells if r == row}
    assert values == {
        "layers": 3,
        "kernel": 3,
        "stride": 1,
        "padding": 1,
        "filters": 64,
        "parameters": 180,
    }
    made_so = experiment.cells("table1")
    printed = {place: line["raw"] for place, line in made_so.printed.items()}
    assert [printed[row, name] for name in ("kernel", "stride", "padding", "filters")] == [
        "3",
        "1",
        "1",
        "64",
    ]
    assert printed["mnist, red: 8 DeConv2d", "filters"] == "c"
    notes = " ".join(made_so.notes)
    assert "480 parameters" in notes and "output = residual" in notes and "Sigmoid" in notes


def test_of_two_attacks_of_one_method_the_second_stands_under_its_own_name(apudae, tmp_path):
    apudae["suites"]["colour"]["threats"] += ["ten_steps", "colour@robust_resnet18", "unrolled+"]
    apudae["suites"]["colour"]["purifiers"] = ["none", "best_f"]
    columns = {column for _, column in FakeExperiment(tmp_path, apudae).by_label("table3")}
    assert {"BIM", "BIM (ten_steps)", "colour bim@robust_resnet18", "unrolled+"} <= columns


def test_what_makes_a_counter_attack():
    entry = {"name": "x", "points": {"default": {"function": "gradient.bim", "settings": {}}}}
    assert results_of.counter_attack(entry, "default") is None
    counter = results_of.counter_attack(entry | {"through": "denoiser"}, "default")
    assert counter == "counter attack A"
    entry["points"]["default"]["function"] = "adaptive.counter_b"
    assert results_of.counter_attack(entry, "default") == "counter attack B"


@pytest.mark.parametrize(
    "name", ["table1", "table4", "table5", "sweep", "claims", "epsilon", "authors_log"]
)
def test_the_stage_writes_them(experiment, tmp_path, name):
    results = experiment.results
    job = results.flow.job("table", {"experiment": "apudae", "table": name})
    inputs = {stage: [results.make(f) for f in files] for stage, files in job.inputs.items()}
    paths = {kind: tmp_path / f"{name}.{kind}" for kind in ("csv", "markdown", "latex")}
    table.run(json.loads(json.dumps(job.settings)), **paths, **inputs)
    lines = list(csv.DictReader(paths["csv"].read_text(encoding="utf-8").splitlines()))
    if name == "claims":
        assert lines and all(line["verdict"] for line in lines)
        return
    message = {(line["row"], line["column"]): line for line in lines}
    if name == "authors_log":
        assert message["red: F, sigma = 0.5", "BIM"]["difference"]
        assert message["red: reconstruction error of clean images", "mean"]["published"] == "2.856"
    if name == "epsilon":
        assert message["No Defense, epsilon = 0.3", "FGSM"]["difference"]
    if name == "table4":
        assert message["APuDAE (C)", "clean"]["published"] == "0.926"
        assert message["APuDAE (C)", "clean"]["difference"]
    if name == "table5":
        assert message["ImageNet B", "APuDAE (Best)"]["published"] == "0.407"
        assert message["CIFAR-10 A", "Adversarial Training"]["difference"]
    if name == "table1":
        assert "| 64 (64)" in paths["markdown"].read_text(encoding="utf-8")


def test_a_title_says_paper_number_content_images_networks_budgets_and_units(quick, tmp_path):
    results = Results(tmp_path, quick)
    job = results.flow.job("table", {"experiment": "apudae", "table": "table3"})
    settings = json.loads(json.dumps(job.settings))
    inputs = {stage: [results.make(f) for f in files] for stage, files in job.inputs.items()}
    paths = {kind: tmp_path / f"table3.{kind}" for kind in ("csv", "markdown", "latex")}
    table.run(settings, **paths, **inputs)
    title = paths["markdown"].read_text(encoding="utf-8").splitlines()[0]
    assert title.startswith("# APuDAE, table 3: rows are defences, columns attacks; accuracy as")
    for fact in ("(patches; ResNet-18, ResNet-18 (robust_resnet18); epsilon = ", "; n = 30; "):
        assert fact in title
    assert "accuracy in [0,1]" in title
    caption = paths["latex"].read_text(encoding="utf-8").splitlines()[4]
    assert caption.startswith(rf"\caption{{{escaped(title[2:])}")
