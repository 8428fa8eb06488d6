"""A file made with other settings than the graph's is refused by jobs, and `verify` names it."""

import copy
import json
import os
import re
from pathlib import Path

import pyarrow as pa
import pytest
import torch
import yaml

from advdenoise.__main__ import main
from advdenoise.errors import BadInput
from advdenoise.graph import configuration
from advdenoise.graph.flow import Flow
from advdenoise.graph.stages import rule_of, stages
from advdenoise.graph.yaml_files import read_files
from advdenoise.io import lineage
from advdenoise.io.hdf5 import add_array, create_hdf5
from advdenoise.io.json_files import write_json
from advdenoise.io.parquet import write_table
from advdenoise.io.weights import write_weights
from tests import mini

CONFIG = read_files(mini.CONFIG)
SEED = f"{mini.ROOT}/seed0/digits"
IMAGES = f"{mini.ROOT}/images/digits/test.h5"
VICTIM = f"{SEED}/classifiers/cnn.safetensors"
ADVERSARIAL = f"{SEED}/adversarial/fgsm@cnn/test.h5"
PREDICTIONS = f"{SEED}/predictions/purified/none/cnn/test.parquet"
EXAMPLES = f"{SEED}/examples/fgsm@cnn/direct/cnn/test.h5"
CALIBRATION = f"{SEED}/denoisers/dae.calibration.json"
FILES = (IMAGES, VICTIM, ADVERSARIAL, PREDICTIONS, CALIBRATION)


def flow_of(**changes) -> Flow:
    """The graph of the mini configuration with values at dotted keys."""
    config = copy.deepcopy(CONFIG)
    for key, value in changes.items():
        *way, last = key.split("__")
        place = config
        for name in way:
            place = place[name]
        place[last] = value
    return Flow(configuration.read(config))


def settings_of(flow: Flow, path: str) -> dict:
    """The settings on the command line of a file's job."""
    return json.loads(json.dumps(flow.whole_settings(*rule_of(place_of(path)))))


def place_of(path: str) -> str:
    return path.removeprefix(f"{mini.ROOT}/")


def write(path: str, settings: dict) -> None:
    """A small file with these settings in its provenance."""
    provenance = {"settings": settings}
    if path.endswith(".h5"):
        with create_hdf5(path, provenance, "adversarial") as file:
            add_array(file, "ids", [1, 2])
    elif path.endswith(".parquet"):
        write_table(path, pa.table({"id": [1, 2]}), provenance)
    elif path.endswith(".safetensors"):
        write_weights(path, {"a": torch.ones(2)}, provenance)
    else:
        write_json(path, {"mean": 1.0}, provenance)


def make(flow: Flow, path: str, as_if: str | None = None) -> None:
    """A file as the job of this path, or of the path `as_if`, would write it."""
    write(path, lineage.with_digest(settings_of(flow, as_if or path), {}))


@pytest.fixture
def results(tmp_path, monkeypatch) -> Flow:
    """The graph of the mini configuration, with results in a new working folder."""
    monkeypatch.chdir(tmp_path)
    flow = flow_of()
    flow.start([])
    for path in FILES:
        make(flow, path)
    return flow


def complaints(capsys, *arguments: str) -> list[str]:
    status = main(["verify", *arguments])
    lines = capsys.readouterr().out.splitlines()
    assert status == bool(lines)
    return lines


def test_an_unchanged_folder_has_no_complaints(results, capsys):
    assert complaints(capsys) == []
    assert complaints(capsys, IMAGES, mini.ROOT) == []


# A file; the configuration or path that its substitute was made for; words of the sentence.
FOREIGN = [
    (IMAGES, {}, f"{mini.ROOT}/images/digits/train.h5", "split train", "split test"),
    (IMAGES, {"datasets__digits__splits__test": {"size": 60}}, None, "size 60", "size 64"),
    (ADVERSARIAL, {}, f"{SEED}/adversarial/pgd@cnn/test.h5", "threat pgd@cnn", "threat fgsm@cnn"),
    (
        ADVERSARIAL,
        {},
        f"{SEED}/examples/fgsm@cnn/direct/cnn/test.h5",
        "rule examples",
        "rule attack",
    ),
    (
        ADVERSARIAL,
        {"attacks__fgsm__settings__epsilon": 0.2},
        None,
        "attack.points.default.settings.epsilon 0.2",
        "attack.points.default.settings.epsilon 0.1",
    ),
    (ADVERSARIAL, {}, ADVERSARIAL.replace("seed0", "seed1"), "seed 1", "seed 0"),
    (VICTIM, {}, VICTIM.replace("seed0", "seed7"), "seed 7", "seed 0"),
    (
        VICTIM,
        {"classifiers__cnn__training__epochs": 4},
        None,
        "classifier.training.epochs 4",
        "classifier.training.epochs 3",
    ),
    (PREDICTIONS, {}, PREDICTIONS.replace("none", "direct"), "purifier direct", "purifier none"),
    (PREDICTIONS, {"suites__purified__threats": ["clean"]}, None, '["clean"]', '["clean", "fgsm@'),
    (CALIBRATION, {}, CALIBRATION.replace("seed0", "seed2"), "seed 2", "seed 0"),
    # Its own settings are as expected, but those of its inputs are not.
    (
        PREDICTIONS,
        {"datasets__digits__splits__test": {"size": 60}},
        None,
        f"a {IMAGES} of other settings",
        "that of this configuration",
    ),
]


@pytest.mark.parametrize(
    ("path", "changes", "as_if", "own", "expected"),
    FOREIGN,
    ids=[f[3] for f in FOREIGN],
)
def test_files_made_for_something_else_are_named(
    results, capsys, path, changes, as_if, own, expected
):
    make(flow_of(**changes), path, as_if)
    (sentence,) = complaints(capsys)
    assert re.fullmatch(
        f"{re.escape(path)}: was made (for|from) .*{re.escape(own)}.*; expected "
        f".*{re.escape(expected)}.*; delete it and run `snakemake --cores all {re.escape(path)}`",
        sentence,
    )


def test_a_job_refuses_such_a_file_with_the_same_sentence(results, capsys):
    settings = settings_of(results, PREDICTIONS)
    inputs = {"images": Path(IMAGES), "adversarial": [Path(ADVERSARIAL)]}
    inputs["classifier"] = Path(VICTIM)
    signed = lineage.with_digest(settings, inputs)
    assert signed["digest"] == results.digest(PREDICTIONS)
    make(flow_of(attacks__fgsm__settings__epsilon=0.2), ADVERSARIAL)
    with pytest.raises(BadInput) as refused:
        lineage.with_digest(settings, inputs)
    assert [str(refused.value)] == complaints(capsys)
    with pytest.raises(BadInput, match="--adversarial: must be 1 files, got 2"):
        lineage.with_digest(settings, inputs | {"adversarial": [Path(ADVERSARIAL)] * 2})


def test_without_a_configuration_a_job_names_the_digests(results):
    settings = settings_of(results, PREDICTIONS)
    make(results, IMAGES, f"{mini.ROOT}/images/digits/train.h5")
    Path(mini.ROOT, "config.yaml").unlink()
    with pytest.raises(BadInput, match=f"^{IMAGES}: was made with settings of digest "):
        lineage.with_digest(settings, {"images": Path(IMAGES)})


def test_a_file_without_a_digest_is_compared_by_its_settings(results, capsys):
    """As earlier versions wrote it; a job may store more settings than it got."""
    settings = settings_of(results, PREDICTIONS)
    own = results.job("attack", rule_of(place_of(ADVERSARIAL))[1]).settings
    inputs = {"adversarial": [Path(ADVERSARIAL)]}
    write(ADVERSARIAL, own | {"more": 1})
    assert complaints(capsys) == []
    lineage.check(settings, inputs)
    write(ADVERSARIAL, own | {"seed": 3})
    (sentence,) = complaints(capsys)
    assert "was made for seed 3; expected seed 0" in sentence
    with pytest.raises(BadInput, match="made for seed 3; expected seed 0"):
        lineage.check(settings, inputs)


def test_a_file_without_a_digest_is_refused_without_a_configuration(results):
    settings = settings_of(results, PREDICTIONS)
    own = results.job("attack", rule_of(place_of(ADVERSARIAL))[1]).settings
    write(ADVERSARIAL, own)
    Path(mini.ROOT, "config.yaml").unlink()
    with pytest.raises(BadInput, match=f"^{ADVERSARIAL}: does not store the settings that made"):
        lineage.check(settings, {"adversarial": [Path(ADVERSARIAL)]})


def test_settings_written_by_hand_need_no_digests():
    assert lineage.with_digest({"seed": 1}, {"images": Path("nowhere.h5")}) == {"seed": 1}


def test_damaged_and_leftover_files_are_named(results, capsys):
    folder = Path(SEED)
    part = folder / "adversarial/fgsm@cnn/.test.h5.12345.part"
    part.touch()
    forgotten = f"{SEED}/predictions/former/none/cnn/test.parquet"
    write(forgotten, {})
    note = Path(mini.ROOT, "note.txt")
    note.touch()
    Path(f"{VICTIM}.sha256").unlink()
    alone = Path(f"{SEED}/denoisers/dae.safetensors.sha256")
    alone.touch()
    data = bytearray(Path(PREDICTIONS).read_bytes())
    data[20] ^= 8
    Path(PREDICTIONS).write_bytes(data)
    Path(CALIBRATION).unlink()
    Path(CALIBRATION).mkdir()
    os.remove(ADVERSARIAL)
    os.mkfifo(ADVERSARIAL)
    os.remove(IMAGES)
    os.symlink("nowhere.h5", IMAGES)
    loop = Path(mini.ROOT, "images/digits/train.h5")
    loop.symlink_to(loop.name)
    lines = complaints(capsys)
    wrong = {
        str(part): "was left behind by a killed job",
        forgotten: "belongs to no job of the configuration",
        str(note): "belongs to no job of the configuration",
        VICTIM: f"is damaged ({VICTIM}.sha256 is missing)",
        str(alone): "there are no ",
        PREDICTIONS: "is damaged (",
        CALIBRATION: "is a folder, not a file",
        ADVERSARIAL: "is a named pipe, not a file",
        IMAGES: "is a broken link (No such file",
        str(loop): "is a broken link (Too many levels",
    }
    assert len(lines) == len(wrong)
    for path, reason in wrong.items():
        (line,) = [line for line in lines if line.startswith((f"{path} ", f"{path}:"))]
        assert reason in line


def test_verify_compares_with_a_named_configuration(results, capsys, tmp_path):
    other = tmp_path / "other.yaml"
    more = {"attacks": {"fgsm": {"settings": {"epsilon": 0.3}}}}
    other.write_text(yaml.safe_dump(more), encoding="utf-8")
    options = ["--configfile", str(mini.CONFIG), str(other)]
    lines = complaints(capsys, *options)
    assert [line.partition(":")[0] for line in lines] == [ADVERSARIAL, CALIBRATION, PREDICTIONS]
    assert complaints(capsys, *options[:2]) == []


def test_a_missing_configuration_is_reported_in_one_sentence(results, capsys):
    Path(mini.ROOT, "config.yaml").write_text("[]")
    assert main(["verify"]) == 1
    assert capsys.readouterr().err == (
        f"{mini.ROOT}/config.yaml cannot be read (it is no configuration); name the configuration "
        "with --configfile\n"
    )
    assert main(["verify", "elsewhere/file.h5"]) == 1
    assert "lies below no results/" in capsys.readouterr().err


def test_outputs_of_stages_are_those_of_the_rules():
    written = {
        place
        for path in (mini.REPOSITORY / "rules").glob("*.smk")
        for place in re.findall(r'"<results>/([^"]+)"', path.read_text(encoding="utf-8"))
    }
    known = {place for stage in stages().values() for place in stage.outputs}
    assert known - written == set(stages()["figures"].outputs)  # which the graph names
    assert written <= known
    for rule, stage in stages().items():
        for place in stage.outputs:
            names = dict.fromkeys(re.findall(r"\{(\w+)\}", place), "a@b")
            assert rule_of(place.format(**names)) == (rule, names)
