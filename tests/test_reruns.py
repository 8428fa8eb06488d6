"""After a change, just the jobs that it touches run again: the job lists of dry runs."""

import ast
import os
import shutil
from pathlib import Path

import pytest
import yaml

from tests import mini

TRAIN, HELD_OUT, TEST = (f"images/digits/{split}" for split in ("train", "held_out", "test"))
DETECTION = {"detection/detected/forest/slic/cnn/test", "tables/detection/auc"}
CHOSEN = "chosen/pgd/cnn"
PGD = {"adversarial/pgd@cnn/test", "iqr/pgd@cnn/slic/cnn/test", *DETECTION}
DENOISER = {
    "denoisers/dae",
    "denoisers/dae.calibration",
    "predictions/purified/direct/cnn/test",
    "distances/purified/cnn/test",
    "examples/fgsm@cnn/direct/cnn/test",
    "tables/defence/accuracy",
    "tables/defence/layers",
    "tables/defence/calibration",
    "tables/defence/explorer",
    "figures/defence/strips",
}
FGSM = {
    "adversarial/fgsm@cnn/train",
    "adversarial/fgsm@cnn/test",
    "predictions/purified/none/cnn/test",
    *DENOISER,
}
COST = {"cost/slic/cnn/test", "tables/detection/cost"}
TRAINED = {"classifiers/cnn", CHOSEN, "iqr/clean/slic/cnn/test", *FGSM, *PGD, *COST}
TABLES = {job for job in TRAINED if job.startswith("tables/")}

# What follows from one statement more in a module of the library.
EDITED = {
    "attacks/gradient.py": FGSM | PGD | {CHOSEN},
    "denoisers/autoencoders.py": DENOISER,
    "detectors/trees.py": DETECTION,
    "reporting/figures/examples.py": {"figures/defence/strips"},
    "statistics.py": TABLES,
    "inference/fold.py": TRAINED - {"classifiers/cnn"},  # the denoiser is trained on FGSM's images
    "reporting/tables/accuracy.py": {"tables/defence/accuracy"},
    "training/_loop.py": TRAINED,
}

# What follows from another value in the configuration.
CHANGED = {
    "cost.repetitions": (2, COST),
    "attacks.fgsm.settings.epsilon": (0.2, FGSM),
    "attacks.pgd.settings.epsilon": (0.2, PGD | {CHOSEN}),
    "attacks.pgd.settings.steps.by.mse": (500, PGD | {CHOSEN}),
    "choose.images": (32, PGD | {CHOSEN}),
    "datasets.digits.splits.test.size": (
        60,
        {TEST, *TRAINED}
        - {"classifiers/cnn", "adversarial/fgsm@cnn/train", "denoisers/dae", CHOSEN}
        - {"denoisers/dae.calibration", "tables/defence/calibration"},
    ),
    "datasets.digits.splits.held_out.size": (80, {TRAIN, HELD_OUT, *TRAINED}),
}


@pytest.fixture
def folder(tmp_path, tmp_path_factory) -> Path:
    """The finished run, moved to another place."""
    finished = mini.finished(tmp_path_factory.getbasetemp())
    return shutil.copytree(finished, tmp_path / "moved")


def put(folder: Path, key: str, value) -> None:
    path = folder / "config" / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    *way, last = key.split(".")
    place = config
    for part in way:
        place = place.setdefault(part, {})
    place[last] = value
    path.write_text(yaml.safe_dump(config), encoding="utf-8")


def test_all_stages_have_run_and_a_second_run_has_nothing_to_do(folder):
    again = mini.snakemake(folder, "--cores", "1")
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout
    results = {path.parent.name for path in (folder / "benchmarks").glob("*/*/")}
    assert results == {"mini"}
    stages = {path.name for path in (folder / "benchmarks" / "mini").iterdir()}
    written = {path.stem for path in (folder / "rules").glob("*.smk")}
    assert written - stages == {"common", "export", "probe"}  # on demand


@pytest.mark.parametrize("module", EDITED)
def test_a_statement_reruns_the_jobs_that_import_its_module(folder, module):
    path = folder / "src" / "advdenoise" / module
    with path.open("a", encoding="utf-8") as file:
        file.write("\n_CHANGED = True\n")
    assert mini.planned(folder) == EDITED[module]


def test_comments_docstrings_and_times_of_change_rerun_nothing(folder):
    sources = sorted((folder / "src").rglob("*.py"))
    assert len(sources) > 50
    for path in sources:
        text = path.read_text(encoding="utf-8")
        docstring = ast.get_docstring(ast.parse(text), clean=False)
        if docstring:
            text = text.replace(docstring, "Other words.", 1)
        path.write_text(f"# A comment.\n{text}\n# Another one.\n", encoding="utf-8")
    for name in ("Snakefile", "config/config.yaml", *sources):
        os.utime(folder / name)
    assert mini.planned(folder) == set()


def test_a_statement_in_what_decides_no_number_reruns_nothing(folder):
    """Reading, writing, the graph and the stages: of these a stage's `FORMAT` counts."""
    library = folder / "src" / "advdenoise"
    rooms = ("io", "ops", "graph", "stages")
    modules = ("ranges", "calls", "reporting/latex", "training/_resume", "training/_settings")
    for room in (*rooms, *(f"{module}.py" for module in modules)):
        place = library / room
        for path in [place] if place.is_file() else place.rglob("*.py"):
            with path.open("a", encoding="utf-8") as file:
                file.write("\n_CHANGED = True\n")
    assert mini.planned(folder) == set()
    declared = library / "graph" / "declarations" / "cost.py"
    text = declared.read_text(encoding="utf-8")
    declared.write_text(text.replace("FORMAT = 1", "FORMAT = 2"), encoding="utf-8")
    assert mini.planned(folder) == COST


@pytest.mark.parametrize("key", CHANGED)
def test_a_setting_reruns_the_jobs_that_it_is_handed_to(folder, key):
    value, expected = CHANGED[key]
    put(folder, key, value)
    assert mini.planned(folder) == expected


def test_what_no_job_is_handed_reruns_nothing(folder):
    put(folder, "attacks.unused.settings.epsilon", 0.3)
    put(folder, "attacks.another", {"function": "noise.uniform", "settings": {"epsilon": 0.1}})
    put(folder, "data_root", "/nowhere")
    put(folder, "datasets.digits.splits.few", {"of": "test", "size": 10})
    put(folder, "experiments.defence.seeds", [0])
    assert mini.planned(folder) == set()


def test_a_lost_file_and_its_table_are_made_again_and_nothing_else(folder):
    lost = folder / mini.ROOT / "seed0/digits/predictions/purified/direct/cnn/test.parquet"
    table = folder / mini.ROOT / "tables/defence/accuracy.csv"
    before = table.read_bytes()
    for path in (lost, table):
        path.unlink()
    target = str(table.relative_to(folder))
    assert mini.planned(folder, target) == {
        "predictions/purified/direct/cnn/test",
        "tables/defence/accuracy",
    }
    done = mini.snakemake(folder, "--cores", "1", target)
    assert done.returncode == 0, done.stdout
    assert table.read_bytes() == before
    # What else reads that file, and was not asked for.
    assert mini.planned(folder) == {"tables/defence/explorer"}


def test_a_lost_file_that_nothing_asks_for_is_not_made_again(folder):
    (folder / mini.ROOT / "seed0/digits/adversarial/fgsm@cnn/train.h5").unlink()
    assert mini.planned(folder) == set()


# ---------------------------------------------------------------- files and modules of one's own

OWN = """
import helper
from torch import nn


def own(shape, *, checkpoint: str):
    return nn.Sequential(nn.Conv2d(shape[0], shape[0], helper.SIDE))
"""


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory) -> Path:
    """A run whose classifier and denoiser have files and a module of the user's own.

    Its files are empty: nothing but the records of what they were made from counts here.
    """
    folder = mini.copy_code(tmp_path_factory.mktemp("own") / "run")
    (folder / "src/advdenoise/denoisers/mine.py").write_text(OWN, encoding="utf-8")
    (folder / "helper.py").write_text("SIDE = 1\n", encoding="utf-8")
    for name in ("resnet.pth", "parts.bin"):
        (folder / name).write_bytes(b"some weights")
    put(folder, "classifiers.cnn.function", "zoo.timm_model")
    settings = {"model": "test_resnet", "weights": "resnet.pth"}
    put(folder, "classifiers.cnn.settings", settings)
    put(folder, "denoisers.dae.function", "mine.own")
    put(folder, "denoisers.dae.settings", {"checkpoint": "parts.bin"})
    return with_empty_results(folder)


def with_empty_results(folder: Path) -> Path:
    """The folder with an empty file in the place of each result, and Snakemake's records of it."""
    for output in mini.outputs(folder):
        (folder / output).parent.mkdir(parents=True, exist_ok=True)
        (folder / output).touch()
    done = mini.snakemake(folder, "--touch", "--forceall", "--cores", "1")
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture
def own(laid_out, tmp_path) -> Path:
    return shutil.copytree(laid_out, tmp_path / "moved")


def another(path: Path) -> None:
    """Another file in the place of one, of the same size and older."""
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, (1, 1))


def test_a_newer_copy_of_a_file_that_a_setting_names_reruns_nothing(own):
    for name in ("resnet.pth", "parts.bin"):
        os.utime(own / name)
    assert mini.planned(own) == set()


def test_another_file_of_first_weights_reruns_the_training_and_what_follows(own):
    another(own / "resnet.pth")
    assert mini.planned(own) == TRAINED


def test_another_file_that_a_setting_of_ones_own_names_reruns_what_reads_it(own):
    another(own / "parts.bin")
    assert mini.planned(own) == DENOISER


def test_a_changed_module_of_ones_own_reruns_what_imports_it(own):
    (own / "helper.py").write_text("SIDE = 3\n", encoding="utf-8")
    assert mini.planned(own) == DENOISER


PUBLISHED = """
from advdenoise.io.published import Published


def text(predictions):
    return predictions


def drawn(examples):
    return examples
"""


@pytest.fixture(scope="module")
def with_published(tmp_path_factory) -> Path:
    """A run of two experiments with published numbers; one has code that reads them."""
    folder = mini.copy_code(tmp_path_factory.mktemp("published") / "run")
    (folder / "config/reader.py").write_text(PUBLISHED, encoding="utf-8")
    (folder / "config/published").mkdir()
    for name in ("accuracy", "textnumbers"):
        (folder / f"config/published/{name}.csv").write_text("row,column,value\n", encoding="utf-8")
    crossing = {"dataset": "digits", "classifier": "cnn", "split": "test"}
    predictions = crossing | {"suite": "purified"}
    put(folder, "experiments.defence.published", "published")
    put(folder, "experiments.reader.published", "published")
    tables = {
        "accuracy": {"function": "accuracy.by_threat", "predictions": predictions},
        "worst": {"function": "accuracy.worst_case", "predictions": predictions},
        "text": {"function": "reader.py:text", "predictions": predictions},
    }
    put(folder, "experiments.reader.tables", tables)
    examples = crossing | {"threat": "fgsm@cnn", "purifier": "direct"}
    put(folder, "experiments.reader.figures.drawn.function", "reader.py:drawn")
    put(folder, "experiments.reader.figures.drawn.examples", examples)
    return with_empty_results(folder)


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "accuracy": {
            *("tables/defence/accuracy", "tables/reader/accuracy"),
            *("tables/reader/text", "figures/reader/drawn"),
        },
        "textnumbers": {"tables/reader/text", "figures/reader/drawn"},
    }.items(),
)
def test_a_published_number_reruns_the_tables_and_figures_with_it(
    with_published, tmp_path, name, expected
):
    folder = shutil.copytree(with_published, tmp_path / "moved")
    assert mini.planned(folder) == set()
    with (folder / f"config/published/{name}.csv").open("a", encoding="utf-8") as file:
        file.write("FGSM,none,0.5\n")
    assert mini.planned(folder) == expected


def test_a_file_of_first_weights_that_is_missing_is_told_with_its_key(own):
    (own / "resnet.pth").unlink()
    shutil.rmtree(own / mini.ROOT)  # of what is there already nobody asks what it was made from
    shown = mini.snakemake(own, "--dry-run")
    assert shown.returncode != 0
    sentence = (
        "classifiers.cnn.settings.weights: resnet.pth does not exist; give the path of a file"
    )
    assert sentence in shown.stdout
