"""Which rules run again when a module of the library changes: each module in turn."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from advdenoise.graph import components, configuration, digests, yaml_files
from advdenoise.graph.flow import Flow
from advdenoise.graph.packages import SOURCES
from advdenoise.graph.stages import stages
from advdenoise.graph.syntax import source_of
from tests import mini

LIBRARY = SOURCES / "advdenoise"
MODULES = sorted(path for path in LIBRARY.rglob("*.py") if path.read_bytes())
PLACE = {"seed": "0", "dataset": "digits", "classifier": "cnn", "split": "test"}
JOBS = {
    "images": {"dataset": "digits", "split": "test"},
    "train_classifier": {name: PLACE[name] for name in ("seed", "dataset", "classifier")},
    "train_denoiser": {"seed": "0", "dataset": "digits", "denoiser": "dae"},
    "calibrate": {"seed": "0", "dataset": "digits", "denoiser": "dae"},
    "attack": {"seed": "0", "dataset": "digits", "threat": "fgsm@cnn", "split": "test"},
    "choose": {"seed": "0", "dataset": "digits", "entry": "pgd", "classifier": "cnn"},
    "evaluate": PLACE | {"suite": "purified", "purifier": "direct"},
    "distances": PLACE | {"suite": "purified"},
    "iqr": PLACE | {"threat": "clean", "attribution": "slic"},
    "cost": PLACE | {"attribution": "slic"},
    "probe": PLACE | {"purifier": "direct"},
    "detect": PLACE | {"suite": "detected", "detector": "forest", "attribution": "slic"},
    "examples": PLACE | {"threat": "fgsm@cnn", "purifier": "direct"},
    "export": {"seed": "0", "dataset": "digits", "threat": "clean", "split": "test"},
    "table": {"experiment": "defence", "table": "accuracy"},
    "rows": {"experiment": "defence", "rows": "explorer"},
    "figures": {"experiment": "defence"},
}
# Rooms whose modules decide no number: reading and writing, the graph, the stages themselves.
NOT_COVERED = {"__main__.py", "__init__.py", "calls.py", "errors.py", "ranges.py"}
NOT_COVERED |= {"graph", "io", "ops", "stages"}
# What each process prints: the modules of the library that a job's stage and components import.
IMPORTED = """
import importlib, json, os, sys
import h5py, pyarrow, torch
for rule, (stage, loaded) in json.loads(sys.argv[1]).items():
    if (child := os.fork()) == 0:
        from advdenoise.graph.sources import load
        importlib.import_module(f"advdenoise.stages.{stage}")
        for kind, entry in loaded:
            load(kind, {"function": entry})
        files = [m.__file__ for n, m in sys.modules.items() if n.startswith("advdenoise.")]
        print(json.dumps([rule, files]), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.fixture(scope="module")
def flow() -> Flow:
    return Flow(configuration.read(yaml_files.read_files(mini.CONFIG)))


@pytest.fixture(scope="module")
def files(flow) -> dict[str, tuple[Path, ...]]:
    """The sources that a digest begins with, by rule."""
    used = {rule: flow.job(rule, names).components for rule, names in JOBS.items()}
    return {
        rule: (stages()[rule].module, *sorted({components.module_file(*one) for one in of_rule}))
        for rule, of_rule in used.items()
    }


def test_there_is_a_job_of_each_stage():
    assert set(JOBS) == set(stages())


def test_each_module_changes_the_digests_that_cover_it_and_no_other(flow, files, monkeypatch):
    covered = {rule: {r / s for s, r in digests.closure(of)[0]} for rule, of in files.items()}
    digest = digests.code_digest.__wrapped__
    before = {rule: digest(*of) for rule, of in files.items()}
    for module in MODULES:
        edited = source_of(module)._replace(digest="of other contents")
        monkeypatch.setattr(
            digests, "source_of", lambda p, m=module, e=edited: e if p == m else source_of(p)
        )
        reran = {rule for rule, of in files.items() if digest(*of) != before[rule]}
        assert reran == {rule for rule, of in covered.items() if module in of}, module
        if module.relative_to(LIBRARY).parts[0] in NOT_COVERED:
            assert not reran, module


def test_digests_cover_all_that_decides_a_job_s_numbers(flow, files):
    """As Python imports it, which knows nothing of how digests are computed."""
    loaded = {
        rule: (
            stages()[rule].module.stem,
            [(kind, entry["function"]) for kind, entry in flow.job(rule, names).components],
        )
        for rule, names in JOBS.items()
    }
    shown = subprocess.run(
        [sys.executable, "-c", IMPORTED, json.dumps(loaded)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(SOURCES)},
    )
    imported = dict(json.loads(line) for line in shown.stdout.splitlines())
    assert set(imported) == set(JOBS)
    for rule, paths in imported.items():
        covered = {root / source for source, root in digests.closure(files[rule])[0]}
        for path in map(Path, paths):
            parts = path.relative_to(LIBRARY).parts
            writer = "/".join(("advdenoise", *parts)) in digests.FOLLOWED
            idle = not path.read_bytes() or (parts[-1] == "__init__.py" and len(parts) <= 2)
            if parts[0] not in NOT_COVERED and not writer and not idle:
                assert path in covered, f"{rule} imports {path}"


@pytest.mark.parametrize(
    ("rule", "rooms"),
    {
        "train_classifier": {"attacks", "purifiers", "detectors", "reporting", "attributions"},
        "attack": {"training", "detectors", "reporting", "attributions", "purifiers"},
        "evaluate": {"training", "detectors", "reporting", "attributions"},
        "detect": {"training", "attacks", "classifiers", "denoisers", "reporting"},
        "table": {"training", "attacks", "classifiers", "denoisers", "detectors", "datasets"},
    }.items(),
)
def test_digests_cover_no_room_that_a_job_has_no_part_in(files, rule, rooms):
    sources = {source for source, root in digests.closure(files[rule])[0] if root == SOURCES}
    assert not rooms & {source.split("/")[1] for source in sources}


@pytest.mark.parametrize("rule", ["train_classifier", "train_denoiser", "calibrate"])
def test_digests_of_networks_cover_nothing_that_only_attacks_and_evaluations_run(files, rule):
    sources = {source for source, root in digests.closure(files[rule])[0] if root == SOURCES}
    alone = {"fold", "hooks", "purified", "stack", "steps"}
    assert not {f"advdenoise/inference/{name}.py" for name in alone} & sources
    assert not {"advdenoise/training/_resume.py", "advdenoise/training/_settings.py"} & sources
