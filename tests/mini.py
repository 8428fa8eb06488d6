"""A copy of the code with the small configuration `mini.yaml`, and Snakemake to run in it."""

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from advdenoise.ops import running

REPOSITORY = Path(__file__).parents[1]
CODE = ("Snakefile", "rules", "scripts", "src", "experiments", "tools", "config", "envs")
CODE += ("workflow", "profiles", "report", "Makefile", "pyproject.toml")
CODE += (".gitattributes", ".git_archival.txt")
CONFIG = Path(__file__).with_name("mini.yaml")
ROOT = "results/mini"
PATIENCE = 300  # seconds that a command may take on a busy machine


def copy_code(folder: Path, config: Path = CONFIG) -> Path:
    """The workflow in a new folder, with `mini.yaml` or another file as default configuration."""
    folder.mkdir(parents=True)
    for name in CODE:
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / name)
    (folder / "slurm").symlink_to("profiles/slurm")
    shutil.copy2(config, folder / "config" / "config.yaml")
    shutil.copy2(CONFIG.with_name("own_tables.py"), folder / "config")
    return folder


def commit(folder: Path) -> str:
    """Make a git repository of a folder; its commit."""
    git = ("git", "-C", str(folder), "-c", "user.name=Test", "-c", "user.email=test@localhost")
    for command in (
        ("init", "-q", "-b", "main"),
        ("add", "-A"),
        ("commit", "-q", "-m", "Add code"),
    ):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return head.stdout.strip()


@functools.cache
def finished(base: Path) -> Path:
    """A folder in which everything has run undisturbed: copy it, do not change it."""
    folder = copy_code(base / "finished")
    done = snakemake(folder, "--cores", "2")
    assert done.returncode == 0, done.stdout
    return folder


def environment(**more: str) -> dict[str, str]:
    """The user's environment without what tells a process that it runs within make or a run."""
    inner = ("PYTHONPATH", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", running.RUN_VARIABLE)
    kept = {name: value for name, value in os.environ.items() if name not in inner}
    # As in an environment in which the library is installed.
    return kept | {"PYTHONPATH": str(REPOSITORY / "src")} | more


def snakemake(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    """Snakemake in that folder, with more in its environment; both its streams as `stdout`."""
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=folder,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )


def planned(folder: Path, *arguments: str) -> set[str]:
    """The jobs of a dry run, each by its first output without root and suffix."""
    return set(commands(folder, *arguments))


def commands(folder: Path, *arguments: str) -> dict[str, list[str]]:
    """The command lines that a dry run shows, by job as `planned` names it."""
    shown = snakemake(folder, "--dry-run", "--printshellcmds", *arguments)
    assert shown.returncode == 0, shown.stdout
    result = re.findall(
        r"^    output: ([^,\n]+).*?^Shell command: (.*?)$", shown.stdout, re.S | re.M
    )
    return {_job(output): shlex.split(command) for output, command in result}


def outputs(folder: Path, *arguments: str) -> list[str]:
    """Every file that a dry run shows as an output."""
    shown = snakemake(folder, "--dry-run", *arguments)
    assert shown.returncode == 0, shown.stdout
    listed = re.findall(r"^    output: (.*)$", shown.stdout, re.M)
    return [path for line in listed for path in line.split(", ")]


def _job(output: str) -> str:
    path = Path(output).relative_to(ROOT).with_suffix("")
    return str(path).removeprefix("seed0/digits/")


def counts(folder: Path, *arguments: str) -> dict[str, int]:
    """The number of jobs of each rule in a dry run."""
    shown = snakemake(folder, "--dry-run", *arguments, "--quiet", "rules")
    assert shown.returncode == 0, shown.stdout
    table = shown.stdout.rpartition("Job stats:")[2].partition("total")[0]
    return {rule: int(number) for rule, number in re.findall(r"^(\w+) +(\d+)$", table, re.M)}
