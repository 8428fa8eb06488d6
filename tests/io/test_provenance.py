"""How a file was made: plain JSON with the commit of the code."""

import json
import shutil
import subprocess
import time

import numpy as np
import torch

from advdenoise.io.provenance import _exported, collect_provenance
from tests.io.samples import ROOT, python


def test_provenance_is_plain_json(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    provenance = collect_provenance({"epsilon": 0.1}, time.time() - 5)
    assert json.loads(json.dumps(provenance)) == provenance
    assert provenance["settings"] == {"epsilon": 0.1}
    assert provenance["slurm_job"] == "42"
    assert 5 <= provenance["wall_seconds"] < 60
    assert provenance["device"] == "cpu" or torch.cuda.is_initialized()
    assert provenance["versions"]["numpy"] == np.__version__


def test_commit_and_dirty_flag(tmp_path):
    library = tmp_path / "src" / "advdenoise"
    for room in ("io", "ops"):
        shutil.copytree(ROOT / "src/advdenoise" / room, library / room)
    for name in ("__init__.py", "errors.py"):
        shutil.copy(ROOT / "src/advdenoise" / name, library)

    def checkout():
        code = (
            "from advdenoise.io.provenance import _exported, collect_provenance; import json;"
            "provenance = collect_provenance({}, 0);"
            "print(json.dumps([provenance['commit'], provenance['dirty']]))"
        )
        variables = {
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(tmp_path / "src"),
            "GIT_CEILING_DIRECTORIES": str(tmp_path),
        }
        return json.loads(python(code, tmp_path, **variables).stdout)

    def git(*arguments):
        identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert checkout() == [None, None]
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "All.")
    assert checkout() == [git("rev-parse", "HEAD"), False]
    (tmp_path / "results.csv").touch()
    assert checkout()[1] is False
    (library / "errors.py").write_text((library / "errors.py").read_text() + "\n")
    assert checkout()[1] is True


def test_an_archive_names_its_commit(tmp_path):
    archived = tmp_path / ".git_archival.txt"
    assert _exported(archived) is None
    archived.write_text((ROOT / ".git_archival.txt").read_text())
    assert _exported(archived) is None
    archived.write_text(f"node: {'0123456789' * 4}\n")
    assert _exported(archived) == "0123456789" * 4
