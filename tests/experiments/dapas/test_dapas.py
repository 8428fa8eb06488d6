"""Tables of "DAPAS": known answers, names of rows and columns, and what is compared with what."""

import copy

import numpy as np
import pandas as pd
import pytest

from advdenoise import metrics, statistics
from advdenoise.calls import call_with
from advdenoise.errors import BadInput, DamagedFile
from advdenoise.graph.sources import load
from advdenoise.io.parquet import write_table
from advdenoise.io.schemas import PREDICTIONS, segmentation_schema
from advdenoise.reporting import labels
from advdenoise.reporting.measures import mious
from advdenoise.reporting.read import read, read_stage
from advdenoise.reporting.tables.accuracy import by_threat
from experiments.dapas import results as results_of
from experiments.dapas import tables
from experiments.dapas.printed import PUBLISHED
from tests.fake_results import DENSE, IMAGES, Results

TABLES = ("table1", "table2", "table3", "table4")
# As mIoU of two classes of equally many pixels: 2p of 2p + 2(q - p) pixels.
Q = 1000


def matrix(percent: float) -> np.ndarray:
    """Pixels of two classes whose mIoU is so many %, to a tenth."""
    right = round(10 * percent)
    return np.array([2 * right, Q - right, Q - right, 2 * right])


def overlap(percent, **names):
    """Gives rows of these names an mIoU in %, one for all images or one for each."""

    def change(frame: pd.DataFrame) -> None:
        chosen = np.ones(len(frame), dtype=bool)
        for name, value in names.items():
            chosen &= frame[name].isin([value] if isinstance(value, str) else value).to_numpy()
        assert chosen.any(), names
        of_images = np.broadcast_to(percent, IMAGES)
        places = frame["id"].rank(method="dense").astype(int) - 1
        frame["confusion"] = [
            matrix(of_images[place]) if is_chosen else old
            for old, place, is_chosen in zip(frame["confusion"], places, chosen, strict=True)
        ]

    return change


class FakeExperiment:
    """What a table makes of fabricated results that may be changed first.

    They are of two classes, of which many resamples are soon made, unless `whole`.
    """

    def __init__(self, root, config: dict, table: str, whole: bool = False):
        results = Results(root, copy.deepcopy(config))
        inputs = results.inputs("tables", "dapas", table)
        self.entry = results.flow.config["experiments"]["dapas"]["tables"][table]
        self.predictions = read_stage("predictions", inputs["predictions"])
        frame = self.predictions.frame
        if not whole:
            random = np.random.default_rng(0)
            frame["confusion"] = [matrix(percent) for percent in random.uniform(30, 70, len(frame))]

    def __call__(self, *changes):
        frame = self.predictions.frame.copy()
        for change in changes:
            change(frame)
        return call_with(load("tables", self.entry), predictions=self.predictions.of(frame))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, dapas_file):
    root, tables = tmp_path_factory.mktemp("dapas"), {}

    def of(table: str) -> FakeExperiment:
        if table not in tables:
            tables[table] = FakeExperiment(root, dapas_file, table)
        return tables[table]

    return of


def by_place(cells) -> dict:
    result = {(cell.row, cell.column): cell for cell in cells}
    assert len(result) == len(cells)
    return result


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("table", TABLES)
def test_every_printed_number_has_a_cell_of_its_kind(experiment, table):
    cells, printed = by_place(experiment(table)()), PUBLISHED.numbers(table)
    assert printed and not printed.keys() - cells.keys()
    for place, line in printed.items():
        assert (line["unit"], line["metric"]) == (cells[place].unit, cells[place].metric)
        assert line["dataset"] == labels.DATASETS[cells[place].about["dataset"]]


def test_what_the_paper_does_not_have_stands_in_rows_and_columns_of_its_own(experiment):
    def own(table):
        cells = by_place(experiment(table)())
        return cells.keys() - PUBLISHED.numbers(table).keys()

    assert own("table1") == {
        ("Gaussian (dapas_often)", "mIoU after DAPAS"),
        ("Gaussian (dapas_often)", "RatioRED"),
    }
    methods = {column.rpartition(" ")[0] for _, column in own("table2")}
    assert methods == {"I-FGSM, step 1/255", "SegPGD", "I-FGSM to 1"}
    assert {row for row, _ in own("table3")} == {
        f"{budget} {who}".strip()
        for budget in ("0.001", "0.002", "0.004", "0.008", "0.016", "0.032")
        for who in ("", "adaptive")
    }
    assert {column for row, column in own("table3") if "adaptive" not in row} == {
        "Gaussian (dapas_often) mIoU",
        "Gaussian (dapas_often) RatioROB",
    }
    beyond = {row for row, _ in own("table4") if row.partition(" ")[2] != "adaptive"}
    assert beyond == {
        "0.008 I-FGSM, step 1/255",
        "0.008 SegPGD",
        "0.032 SegPGD",
        "0.008 SegPGD, adaptive",
        "0.032 SegPGD, adaptive",
        "0.032 I-FGSM to 1",
    }
    rows = {row for row, _ in by_place(experiment("corruptions")())}
    assert rows == {"clean", "corrupted gaussian", "corrupted blur", "corrupted jpeg"}


@pytest.mark.parametrize(
    ("function", "settings", "labels", "name"),
    [
        ("fgsm", {"epsilon": 0.1}, None, "FGSM"),
        ("bim", {"alpha": 0.25 / 255, "steps": "kurakin"}, None, "I-FGSM"),
        ("bim", {"alpha": 0.25 / 255, "steps": "kurakin"}, "ground_truth", "I-FGSM"),
        ("bim", {"alpha": 1 / 255, "steps": "kurakin"}, None, "I-FGSM, step 1/255"),
        ("bim", {"alpha_per_epsilon": 0.5, "steps": "kurakin"}, None, "I-FGSM, step 0.5 epsilon"),
        ("bim", {"alpha": 0.25 / 255, "steps": 10}, None, "BIM"),
        ("fgsm", {"epsilon": 0.1}, "predicted", "FGSM, labels predicted"),
        ("fgsm", {"epsilon": 0.1}, {"target": "sky"}, "FGSM to sky"),
        ("segpgd", {"epsilon": 0.1, "steps": 3}, None, "SegPGD"),
        ("pgd", {"epsilon": 0.1, "steps": 3}, None, "PGD"),
    ],
)
def test_a_method_is_known_by_its_settings(function, settings, labels, name):
    point = {"function": f"gradient.{function}", "settings": settings}
    entry = {"name": "mine", "points": {"default": point}}
    if labels is not None:
        entry["labels"] = labels
    assert results_of.method(entry, "default") == name


def test_another_victim_and_another_purifier_are_told(experiment):
    """What is not against the segmenter at hand has no printed name."""
    table = experiment("table3")
    frame = table.predictions.frame
    other = frame["threat"] == "fgsm_steps@deeplab"
    elsewhere = frame.assign(threat=frame["threat"].where(~other, "fgsm_steps@small"))
    rows = {cell.row for cell in tables.robust_to_ifgsm(table.predictions.of(elsewhere))}
    assert "0.001 fgsm_steps@small" in rows
    known = frame["threat"] == "fgsm_steps@deeplab+dapas_uniform"
    mine = frame[known].assign(purifier="dapas_gaussian")
    places = results_of.LabelAssignment(table.predictions)
    about = mine.iloc[0][["dataset", "classifier", "threat", "attack_point", "purifier"]].to_dict()
    assert places.attack(about) == ("fgsm_steps@deeplab+dapas_uniform", 0.001, False, False)


# ---------------------------------------------------------------- known answers


def test_ratios_and_miou_by_hand(experiment):
    quiet = {"threat": "clean"}
    cells = by_place(
        experiment("table1")(
            overlap(80, purifier="none", **quiet),
            overlap(60, purifier="dapas_gaussian", **quiet),
            overlap(78, purifier="dapas_uniform", **quiet),
        )
    )
    assert cells["no defence", "mIoU clean image"].estimate == pytest.approx((80, 80, 80, IMAGES))
    assert cells["Gaussian", "mIoU after DAPAS"].estimate.value == pytest.approx(60)
    assert cells["Gaussian", "RatioRED"].estimate == pytest.approx((75, 75, 75, IMAGES))
    assert cells["Uniform", "RatioRED"].estimate.value == pytest.approx(97.5)
    cells = by_place(
        experiment("table4")(
            overlap(80, purifier="none", **quiet),
            overlap(20, threat="ifgsm_steps@deeplab", attack_point="e6", purifier="dapas_bimodal"),
            overlap(8, threat="ifgsm_steps@deeplab+dapas_bimodal", attack_point="e6"),
        )
    )
    assert cells["0.032", "Bimodal mIoU"].estimate.value == pytest.approx(20)
    assert cells["0.032", "Bimodal RatioROB"].estimate.value == pytest.approx(25)
    assert cells["0.032 adaptive", "Bimodal RatioROB"].estimate.value == pytest.approx(10)


def test_miou_is_of_one_matrix_over_all_images(experiment):
    """Ten images at 90 % and twenty at 30 %: of 2p = 1800 and 600 of 2000 right pixels each."""
    percent = np.where(np.arange(IMAGES) < 10, 90, 30)
    cells = by_place(experiment("table1")(overlap(percent, threat="clean", purifier="none")))
    right, wrong = 10 * 1800 + 20 * 600, 10 * 100 + 20 * 700
    value, low, high, n = cells["no defence", "mIoU clean image"].estimate
    assert value == pytest.approx(100 * right / (right + 2 * wrong)) and n == IMAGES
    assert low < value - 5 and value + 5 < high


def test_ratios_draw_both_sides_together(experiment):
    """What is lost on each image alike is known exactly, however much the images differ."""
    percent = np.linspace(20, 90, IMAGES)
    cells = by_place(experiment("table1")(overlap(percent, threat="clean")))
    value, low, high, _ = cells["Gaussian", "mIoU after DAPAS"].estimate
    assert low < value - 3 and value + 3 < high
    assert cells["Gaussian", "RatioRED"].estimate == pytest.approx((100, 100, 100, IMAGES))


def test_without_the_same_images_there_is_no_ratio(experiment):
    def lost(frame):
        gone = (frame["purifier"] == "dapas_gaussian") & (frame["id"] == frame["id"].min())
        frame.loc[gone & (frame["threat"] == "clean"), "id"] += 1000

    cells = by_place(experiment("table1")(lost))
    assert ("Gaussian", "mIoU after DAPAS") in cells and ("Gaussian", "RatioRED") not in cells
    assert ("Uniform", "RatioRED") in cells
    table = experiment("table1")
    frame = table.predictions.frame
    defended = table.predictions.of(frame[frame["purifier"] != "none"])
    assert {cell.column for cell in tables.reduction(defended)} == {"mIoU after DAPAS"}


def test_replicates_are_averaged_and_their_spread_told(tmp_path, dapas_file):
    config = dapas_file | {"seeds": [0, 1]}
    two = FakeExperiment(tmp_path, config, "table1")
    frame = two.predictions.frame
    for seed, percent in ((0, 40), (1, 60)):
        rows = frame["seed"] == seed
        part = frame[rows].copy()
        overlap(80, purifier="none", threat="clean")(part)
        overlap(percent, purifier="dapas_gaussian", threat="clean")(part)
        frame.loc[rows, "confusion"] = part["confusion"]
    cells = by_place(two())
    mean, ratio = (cells["Gaussian", name] for name in ("mIoU after DAPAS", "RatioRED"))
    assert mean.estimate == pytest.approx((50, 50, 50, IMAGES))
    assert mean.spread == pytest.approx(np.std([40, 60], ddof=1))
    assert ratio.estimate.value == pytest.approx(62.5)
    assert ratio.spread == pytest.approx(np.std([50, 75], ddof=1))


def test_draws_of_a_purifier_are_added_up(experiment):
    predictions = experiment("table1").predictions
    frame = predictions.frame[predictions.frame["threat"] == "clean"]
    again = frame.assign(draw=1)
    both = predictions.of(pd.concat([frame, again], ignore_index=True))
    for (_, once), (_, twice) in zip(mious(predictions.of(frame)), mious(both), strict=True):
        assert np.allclose(once.values, twice.values) and once.ids == twice.ids


def test_intervals_are_those_of_resampled_confusion_matrices(tmp_path, dapas_file):
    predictions = FakeExperiment(tmp_path, dapas_file, "table1", whole=True).predictions
    about, miou = next(iter(mious(predictions)))
    frame = predictions.frame
    rows = frame[np.logical_and.reduce([frame[key] == value for key, value in about.items()])]
    counts = np.stack(rows["confusion"].to_list())
    classes = DENSE["voc2012"]
    sums, n = statistics.resampled_sums(counts, rows["id"].to_numpy())
    expected = metrics.miou(sums.reshape(-1, classes, classes))
    assert np.allclose(miou.values, expected) and n == IMAGES
    whole = counts.sum(0).reshape(classes, classes)
    by_class = [
        whole[k, k] / (whole[k].sum() + whole[:, k].sum() - whole[k, k]) for k in range(classes)
    ]
    assert miou.values[0] == pytest.approx(np.mean(by_class))
    assert miou.estimate(miou.values).n == IMAGES


# ---------------------------------------------------------------- published numbers


def test_printed_ratios_follow_from_printed_miou():
    clean = float(PUBLISHED.numbers("table1")["no defence", "mIoU clean image"]["value"])
    compared = 0
    for table in TABLES:
        printed = PUBLISHED.numbers(table)
        for (row, column), line in printed.items():
            if line["metric"].startswith("Ratio"):
                mean = (
                    "mIoU after DAPAS" if table == "table1" else column.rsplit(" ", 1)[0] + " mIoU"
                )
                ratio = 100 * float(printed[row, mean]["value"]) / clean
                assert float(line["value"]) == pytest.approx(ratio, abs=0.15)
                compared += 1
    assert compared == 3 + 12 + 18 + 18


# ---------------------------------------------------------------- other predictions


def test_masks_and_labels_are_not_confused(experiment, tmp_path, quick):
    results = Results(tmp_path, quick)
    labels = read_stage("predictions", results.inputs("tables", "dapas", "accuracy")["predictions"])
    with pytest.raises(BadInput, match="a table of mIoU reads predictions of masks"):
        tables.reduction(labels)
    masks = experiment("table1").predictions
    assert masks.is_dense and not labels.is_dense
    with pytest.raises(BadInput, match="'voc2012' are masks, which have no accuracy"):
        by_threat(masks)


def test_a_file_of_masks_has_all_columns_but_those_of_labels(tmp_path):
    import pyarrow as pa

    schema = segmentation_schema(2)
    assert not {"label", "prediction", "confidence"} & set(schema.names)
    columns = {name: pa.nulls(1, schema.field(name).type) for name in schema.names}
    columns["confusion"] = pa.array([[1, 2, 3, 4]], schema.field("confusion").type)
    settings = {"settings": {"classifier": {"name": "small"}, "classes": 2}}
    for left_out, path in ((None, tmp_path / "whole.parquet"), ("l2", tmp_path / "part.parquet")):
        kept = {name: column for name, column in columns.items() if name != left_out}
        fields = pa.schema([schema.field(name) for name in kept])
        write_table(path, pa.Table.from_arrays(list(kept.values()), schema=fields), settings)
    (result,) = read([tmp_path / "whole.parquet"], PREDICTIONS).frame["confusion"]
    assert list(result) == [1, 2, 3, 4]
    with pytest.raises(DamagedFile, match="no column l2"):
        read([tmp_path / "part.parquet"], PREDICTIONS)
