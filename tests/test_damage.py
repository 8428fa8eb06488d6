"""A damaged file ends the job that reads it with one sentence: the file and what to do."""

import json
import os
import re
import runpy
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from advdenoise.io.parquet import read_table, write_table
from advdenoise.io.provenance import read_provenance
from advdenoise.io.weights import read_weights, write_weights
from tests import mini

IMAGES, TRAIN = "images/digits/test.h5", "images/digits/train.h5"
CLASSIFIER, DENOISER = "classifiers/cnn.safetensors", "denoisers/dae.safetensors"
ADVERSARIAL = "adversarial/fgsm@cnn/test.h5"
PREDICTIONS = "predictions/purified/none/cnn/test.parquet"
FEATURES = "iqr/pgd@cnn/slic/cnn/test.parquet"
DISTANCES = "distances/purified/cnn/test.parquet"
CALIBRATION = "denoisers/dae.calibration.json"
EXAMPLES = "examples/fgsm@cnn/direct/cnn/test.h5"


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    """Flip one bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def flip_in_a_column(path: Path) -> None:
    """Flip one bit among the values; a page's statistics, which nobody reads, are unprotected."""
    column = next(c for c in _columns(path) if c["path_in_schema"] == "prediction")
    data = bytearray(path.read_bytes())
    data[column["data_page_offset"] + column["total_compressed_size"] - 1] ^= 16
    path.write_bytes(data)


def _columns(path: Path) -> list[dict]:
    return pq.read_metadata(path).to_dict()["row_groups"][0]["columns"]


def without_checksum(path: Path) -> None:
    Path(f"{path}.sha256").unlink()


def of_another_network(path: Path) -> None:
    tensors, provenance = read_weights(path)
    first = next(iter(tensors))
    write_weights(path, tensors | {first: torch.zeros(3, 3)}, provenance)


def of_another_type(path: Path) -> None:
    """A whole and valid table, with one column of another type."""
    table = read_table(path)
    column = table.column("confidence").cast("float64")
    place = table.schema.get_field_index("confidence")
    provenance = read_provenance(path)
    write_table(path, table.set_column(place, "confidence", column), provenance)


def without_a_column(path: Path) -> None:
    table = read_table(path).drop_columns(["prediction"])
    write_table(path, table, read_provenance(path))


def unsigned(path: Path) -> None:
    """A valid Parquet file that this workflow did not write."""
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)


def other(name: str):
    """A whole file of the workflow in the place of another one."""

    def replace(path: Path) -> None:
        shutil.copy(Path(mini.ROOT, "seed0/digits", name), path)

    replace.__name__ = f"replaced by {name}"
    return replace


def instead(make):
    """Something in the file's place that is no file."""

    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


folder_instead = instead(Path.mkdir)
pipe_instead = instead(os.mkfifo)
loop_instead = instead(lambda path: path.symlink_to(path.name))


def of_another_seed(path: Path) -> None:
    """As another replicate would have written it, whole and valid."""
    tensors, made_by = read_weights(path)
    made_by["settings"] |= {"seed": 1, "digest": "0123456789ab"}
    write_weights(path, tensors, made_by)


def halved(path: Path) -> None:
    """Every other image, by a valid writer."""
    table = read_table(path)
    half = table.filter([image % 2 == 0 for image in table["id"].to_pylist()])
    write_table(path, half, read_provenance(path))


# The file, what happens to it, and the job that then reads it.
DAMAGED = [
    (IMAGES, cut, "adversarial/fgsm@cnn/test"),
    (IMAGES, empty, "adversarial/pgd@cnn/test"),
    (TRAIN, flip, "classifiers/cnn"),
    (CLASSIFIER, cut, "predictions/purified/none/cnn/test"),
    (CLASSIFIER, flip, "adversarial/fgsm@cnn/test"),
    (CLASSIFIER, empty, "iqr/clean/slic/cnn/test"),
    (CLASSIFIER, without_checksum, "distances/purified/cnn/test"),
    (CLASSIFIER, of_another_network, "iqr/pgd@cnn/slic/cnn/test"),
    (CLASSIFIER, other(DENOISER), "examples/fgsm@cnn/direct/cnn/test"),
    (DENOISER, of_another_network, "denoisers/dae.calibration"),
    (ADVERSARIAL, flip, "predictions/purified/none/cnn/test"),
    (ADVERSARIAL, cut, "distances/purified/cnn/test"),
    (ADVERSARIAL, other("adversarial/fgsm@cnn/train.h5"), "predictions/purified/none/cnn/test"),
    (ADVERSARIAL, other(EXAMPLES), "examples/fgsm@cnn/direct/cnn/test"),
    ("adversarial/fgsm@cnn/train.h5", flip, "denoisers/dae"),
    (FEATURES, cut, "detection/detected/forest/slic/cnn/test"),
    (FEATURES, other(PREDICTIONS), "detection/detected/forest/slic/cnn/test"),
    (PREDICTIONS, flip_in_a_column, "tables/defence/accuracy"),
    (PREDICTIONS, empty, "tables/defence/accuracy"),
    (PREDICTIONS, of_another_type, "tables/defence/accuracy"),
    (PREDICTIONS, without_a_column, "tables/defence/accuracy"),
    (PREDICTIONS, unsigned, "tables/defence/accuracy"),
    (PREDICTIONS, other(DISTANCES), "tables/defence/accuracy"),
    (DISTANCES, other(PREDICTIONS), "tables/defence/layers"),
    (CALIBRATION, flip, "tables/defence/calibration"),
    (CALIBRATION, cut, "tables/defence/calibration"),
    (EXAMPLES, cut, "figures/defence/strips"),
    (EXAMPLES, folder_instead, "figures/defence/strips"),
    (PREDICTIONS, pipe_instead, "tables/defence/accuracy"),
    (DISTANCES, loop_instead, "tables/defence/layers"),
    (CLASSIFIER, of_another_seed, "cost/slic/cnn/test"),
    (DENOISER, of_another_seed, "denoisers/dae.calibration"),
    (ADVERSARIAL, other("adversarial/pgd@cnn/test.h5"), "predictions/purified/none/cnn/test"),
    (PREDICTIONS, other("predictions/purified/direct/cnn/test.parquet"), "tables/defence/explorer"),
    (FEATURES, other("iqr/clean/slic/cnn/test.parquet"), "detection/detected/forest/slic/cnn/test"),
    (PREDICTIONS, halved, "tables/defence/accuracy"),
    (DISTANCES, halved, "tables/defence/layers"),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return mini.finished(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def jobs(finished) -> dict[str, list[str]]:
    """The command line of every job of the graph."""
    return mini.commands(finished, "--forceall")


@pytest.fixture
def folder(finished, tmp_path, monkeypatch) -> Path:
    """The results in a folder of its own, the working one."""
    shutil.copytree(finished / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")  # the job sets them: the test's end takes that back
    return tmp_path


def run(command: list[str], monkeypatch) -> tuple[int, str, str]:
    """A job's command in this process: exit status, what the terminal shows, what the log holds."""
    assert command[:2] == ["python", "-P"]
    terminal, log = Path("terminal.txt"), Path(command[command.index("--log") + 1])
    saved = [os.dup(stream) for stream in (1, 2)]
    with terminal.open("w") as shown, os.fdopen(2, "w", closefd=False) as errors:
        for stream in (1, 2):
            os.dup2(shown.fileno(), stream)
        monkeypatch.setattr(sys, "stderr", errors)
        monkeypatch.setattr(sys, "argv", command[2:])
        try:
            runpy.run_path(command[2], run_name="__main__")
            status = 0
        except SystemExit as end:
            status = end.code
        finally:
            errors.flush()
            for stream, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, stream)
                os.close(copy)
    return status, terminal.read_text(), log.read_text()


@pytest.mark.parametrize(
    ("name", "damage", "job"), DAMAGED, ids=[f"{d.__name__} {n}" for n, d, _ in DAMAGED]
)
def test_a_damaged_file_is_named_with_what_to_rerun(folder, jobs, monkeypatch, name, damage, job):
    path = Path(mini.ROOT, name if name.startswith("images") else f"seed0/digits/{name}")
    damage(path)
    status, terminal, log = run(jobs[job], monkeypatch)
    assert status == 1
    sentence, *rest = log.splitlines()
    assert not rest
    assert sentence.startswith(str(path))
    assert f"delete it and run `snakemake --cores all {path}`" in sentence
    assert terminal == f"{sentence} (log: {jobs[job][jobs[job].index('--log') + 1]})\n"


@pytest.mark.parametrize("name", [ADVERSARIAL, PREDICTIONS])
def test_what_is_no_file_is_told_before_the_run(tmp_path, finished, name):
    folder = shutil.copytree(finished, tmp_path / "damaged")
    path = Path(mini.ROOT, "seed0/digits", name)
    (folder / path).unlink()
    (folder / mini.ROOT / "tables/defence/accuracy.csv").unlink()  # so that the file is needed
    if name == PREDICTIONS:
        (folder / path).symlink_to(path.name)
        reason = "is a broken link (Too many levels of symbolic links)"
    else:
        os.mkfifo(folder / path)
        reason = "is a named pipe, not a file"
    refused = mini.snakemake(folder, "--cores", "1")
    assert refused.returncode == 1
    sentence = f"{path}: {reason}; delete it and run the same command again"
    assert [line for line in refused.stdout.splitlines() if str(path) in line][-1] == sentence
    assert "Traceback" not in refused.stdout
    assert "jobid" not in refused.stdout


def cifar_with_another_batch(root: Path) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    for number in range(1, 6):
        (folder / f"data_batch_{number}").write_bytes(b"not the original")
    (folder / "test_batch").write_bytes(b"not the original")
    return folder / "data_batch_1"


def mnist_cut_short(root: Path) -> Path:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (folder / f"{part}-{kind}-ubyte").write_bytes(b"\0\0\b\3\0\0\0\2")
    return folder / "train-images-idx3-ubyte"


def class_without_images(root: Path) -> Path:
    for name in ("train/cat", "train/dog", "val/cat", "val/dog"):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(root / name / "one.png")
    (root / "train/dog/one.png").unlink()
    return root / "train/dog"


def image_of_no_bytes(root: Path) -> Path:
    for name in ("train/cat", "train/dog", "val/cat", "val/dog"):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(root / name / "one.png")
    empty(root / "train/cat/one.png")
    return root / "train/cat/one.png"


SOURCES = {
    cifar_with_another_batch: ("archives.cifar10", "fetch it again"),
    mnist_cut_short: ("archives.mnist", "fetch it again"),
    class_without_images: ("folders.imagenet_folder", "add some or remove this class folder"),
    image_of_no_bytes: ("folders.imagenet_folder", "fetch it again"),
}


@pytest.mark.parametrize("make", SOURCES, ids=lambda make: make.__name__)
def test_a_damaged_source_is_named_with_the_remedy(folder, jobs, monkeypatch, make):
    function, remedy = SOURCES[make]
    root = folder / "data"
    root.mkdir()
    path = make(root)
    command = list(jobs["images/digits/train"])
    settings = json.loads(command[command.index("--settings") + 1])
    settings["entry"] = {"function": function, "settings": {}, "splits": {}}
    command[command.index("--settings") + 1] = json.dumps(settings)
    command[command.index("--root") + 1] = str(root)
    status, terminal, log = run(command, monkeypatch)
    assert status == 1
    sentence, *rest = log.splitlines()
    assert not rest
    assert str(path) in sentence
    assert remedy in sentence
    assert terminal.startswith(sentence)
    assert terminal.count("\n") == 1


def test_the_remedy_that_is_told_helps(tmp_path, finished):
    folder = shutil.copytree(finished, tmp_path / "damaged")
    path = Path(mini.ROOT, "seed0/digits", PREDICTIONS)
    table = folder / mini.ROOT / "tables/defence/accuracy.csv"
    before = table.read_bytes()
    flip_in_a_column(folder / path)
    table.unlink()
    target = str(table.relative_to(folder))
    failed = mini.snakemake(folder, "--cores", "1", target)
    assert failed.returncode == 1
    (sentence,) = [line for line in failed.stdout.splitlines() if line.startswith(str(path))]
    (folder / path).unlink()
    remedy = re.search("`snakemake (.*)`", sentence)[1].split()
    for arguments in (remedy, ("--cores", "1", target)):
        done = mini.snakemake(folder, *arguments)
        assert done.returncode == 0, done.stdout
    assert table.read_bytes() == before
