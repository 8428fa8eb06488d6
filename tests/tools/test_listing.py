"""Snakemake's dry run is read whole or not at all."""

import pytest
import yaml

from advdenoise.errors import BadInput
from advdenoise.graph import configuration, yaml_files
from tests import mini
from tools.plan import listing

HEAD = """Building DAG of jobs...
Job stats:
job              count
-------------  -------
attack               1
figures_paper        1
all                  1
total                3


"""
JOBS = """[Sat Nov 21 06:14:53 2026]
rule attack:
    input: results/mini/images/digits/test.h5, results/mini/cnn.safetensors
    output: results/mini/adversarial/pgd@cnn+direct/test.h5
    log: logs/mini/attack/test.log
    jobid: 4
    benchmark: benchmarks/mini/attack/test.tsv
    reason: Missing output files: results/mini/adversarial/pgd@cnn+direct/test.h5
    wildcards: seed=0, dataset=digits, threat=pgd@cnn+direct, split=test
    threads: 4
    resources: tmpdir=/tmp, gpu=1, runtime=720, mem_mb=8000, mem=8 GB, mem_mib=7630
    shell command: python -P scripts/attack.py
[Sat Nov 21 06:14:53 2026]
localrule figures_paper:
    output: a.svg, b.svg
    jobid: 5
    resources: tmpdir=/tmp, runtime=<TBD>
[Sat Nov 21 06:14:53 2026]
rule all:
    input: a.svg
    jobid: 0
    resources: tmpdir=/tmp
"""
TAIL = "Job stats:\njob  count\nattack  1\ntotal  3\n\nReasons:\n    all, attack\n"


def test_jobs_are_read_with_what_a_plan_needs():
    attack, figures = listing.parse(HEAD + JOBS + TAIL)
    assert attack == listing.PlannedJob(
        "attack",
        {"seed": "0", "dataset": "digits", "threat": "pgd@cnn+direct", "split": "test"},
        ("results/mini/images/digits/test.h5", "results/mini/cnn.safetensors"),
        ("results/mini/adversarial/pgd@cnn+direct/test.h5",),
        "benchmarks/mini/attack/test.tsv",
        gpus=1,
        runtime=720,
    )
    assert attack.name == "results/mini/adversarial/pgd@cnn+direct/test.h5"
    assert figures == ("figures_paper", {}, (), ("a.svg", "b.svg"), None, 0, None)
    assert (attack.stage, figures.stage) == ("attack", "figures")


@pytest.mark.parametrize(
    "text",
    [
        HEAD + JOBS.replace("rule all", "rulealso all"),
        HEAD + JOBS.replace("rule attack:", "rule evaluate:"),
        HEAD + JOBS + JOBS,
        HEAD.replace("total                3", "total                4") + JOBS,
        JOBS,
        "",
    ],
)
def test_a_listing_of_another_form_is_refused(text):
    with pytest.raises(RuntimeError, match="dry run was not understood"):
        listing.parse(text)


def test_nothing_to_do_is_no_job():
    text = "Building DAG of jobs...\nNothing to be done (all requested files are present)."
    assert listing.parse(text) == []


def test_files_and_options_are_laid_over_each_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("{scale: quick, a: {x: 1, y: [1, 2]}}")
    (tmp_path / "whole.yaml").write_text("{scale: other, b: 1}")
    (tmp_path / "part.yaml").write_text("{a: {y: [3]}}")
    (tmp_path / "empty.yaml").write_text("")
    merged = yaml_files.requested
    assert merged([], []) == {"scale": "quick", "a": {"x": 1, "y": [1, 2]}}
    assert merged(["part.yaml"], ["data_root=/data", "a={x: 2}"]) == {
        "scale": "quick",
        "a": {"x": 2, "y": [3]},
        "data_root": "/data",
    }
    assert merged(["whole.yaml", "part.yaml"], []) == {
        "scale": "other",
        "a": {"y": [3]},
        "b": 1,
    }
    with pytest.raises(BadInput, match=r"missing\.yaml: does not exist"):
        merged(["missing.yaml"], [])
    with pytest.raises(BadInput, match=r"empty\.yaml: holds nothing"):
        merged(["whole.yaml", "empty.yaml"], [])


def test_a_dry_run_of_snakemake_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(mini.copy_code(tmp_path / "code"))
    monkeypatch.setenv("PYTHONPATH", ".")
    jobs = listing.dry_run([], [], [])
    assert sorted(job.rule for job in jobs if job.gpus) == sorted(
        ["train_classifier", "train_denoiser", "calibrate", "choose", "distances", "examples"]
        + ["cost"] + 3 * ["attack"] + 2 * ["evaluate"] + 2 * ["iqr"]
    )  # fmt: skip
    results = {path for job in jobs for path in job.outputs}
    assert all(set(job.inputs) <= results for job in jobs)
    assert all(job.benchmark and job.runtime for job in jobs)
    with pytest.raises(BadInput, match="(?s)refuses the dry run: nonsense: is no target; "):
        listing.dry_run(["nonsense"], [], [])


def test_the_configuration_is_what_snakemake_hands_to_the_workflow(tmp_path, monkeypatch):
    folder = mini.copy_code(tmp_path / "code")
    (folder / "mine.yaml").write_text("{attacks: {pgd: {settings: {steps: 7}}}}")
    files = ["config/config.yaml", "mine.yaml"]
    target = f"{mini.ROOT}/images/digits/test.h5"
    done = mini.snakemake(
        folder, "--cores", "1", target, "--configfile", *files, "--config", "batch=32"
    )
    assert done.returncode == 0, done.stdout
    monkeypatch.chdir(folder)

    ours = configuration.read(yaml_files.requested(files, ["batch=32"]))
    del ours["left_out"]  # computed, and not written
    assert yaml.safe_load((folder / mini.ROOT / "config.yaml").read_text()) == ours
