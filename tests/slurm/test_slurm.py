"""The workflow on a real SLURM: jobs stopped in every way, and the tables of an undisturbed run.

Run by `make slurm-test`. All of it is one story, told in order on one cluster: a run that is
disturbed in all its jobs, and the quick scale's detection, which is not.
"""

import contextlib
import csv
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from advdenoise.io.hdf5 import open_hdf5
from advdenoise.io.weights import read_weights
from tests import mini
from tests.slurm import one_computer
from tests.slurm.one_computer import until

pytestmark = pytest.mark.slurm

HOLD = Path(__file__).parents[1] / "hold"
SITE = """
partitions:
  cpu: {max_mem_mb: 20000, max_threads: 1}
  gpu: {max_mem_mb: 20000, max_threads: 1, max_gpu: 1}
"""
# Requests that fit a small computer, and more looks at the queue than a cluster would like.
FITTING = ("--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "20")
WEIGHTS = "seed0/digits/classifiers/cnn.safetensors"
ADVERSARIAL = "seed0/digits/adversarial/pgd@cnn/test.h5"
SCORES = "tables/detection/auc.csv"
QUICK = "results/quick/tables/segfault/table2.csv"

PLACE = r"SLURM job \d+ on n\d"  # how a job's log begins

# Places to hold a job at, see `hold`.
TRAINED = "after .*/state.pt$"
ATTACKED = f"before {ADVERSARIAL}$"
FEATURES = "before iqr/pgd@cnn/.*parquet$"

RULES = {
    path.stem: path.read_text(encoding="utf-8")
    for path in (mini.REPOSITORY / "rules").glob("*.smk")
}
GPU_RULES = {rule for rule, text in RULES.items() if "gpu=1" in text}
LOCAL_RULES = {rule for rule, text in RULES.items() if "localrule: True" in text}
MEMORY = [f"{rule}:mem_mb=2000" for rule, text in RULES.items() if "mem_mb=" in text]


def say(text: str) -> None:
    print(f"slurm-test: {text}", flush=True)


@pytest.fixture(scope="module")
def cluster():
    try:
        one_computer.install()
        with one_computer.running() as started:
            say(f"a cluster of nodes {', '.join(one_computer.NODES)} in {started.folder}")
            yield started
    except one_computer.Unavailable as reason:
        say(f"skipped: {reason}")
        pytest.skip(str(reason))


class Run:
    """`snakemake --profile slurm` in a folder, in the background."""

    def __init__(self, cluster, folder: Path, *arguments: str, hold: str = "", resources=()):
        self.cluster, self.folder = cluster, folder
        self.held = folder / "held"
        more = {
            one_computer.MARK: str(cluster.folder),
            "ADVDENOISE_SITE": str(folder / "site.yaml"),
        }
        if hold:
            more |= {"PYTHONPATH": str(HOLD), "ADVDENOISE_TEST_HOLD": hold}
            more |= {"ADVDENOISE_TEST_HELD": str(self.held)}
        self.log = folder / "output.txt"
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "snakemake", *arguments, "--profile", "slurm"),
                    *(*FITTING, "--set-resources", *MEMORY, *resources),
                ],
                cwd=folder,
                env=mini.environment(**more),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def holds(self, rule: str, again: bool = True) -> str:
        """Wait until a job of that rule holds; its number. Will the next attempt hold again?"""
        until(self.held.exists, f"a job that holds: {self.log}", mini.PATIENCE)
        job = self.cluster.wait_for_job(rule)
        if again:
            self.held.unlink()
        return job

    def ends(self) -> int:
        return self.process.wait(4 * mini.PATIENCE)


@pytest.fixture
def run(cluster):
    """Start runs; none outlives its test, nor do its jobs."""
    started = []

    def start(*arguments, **options):
        started.append(Run(cluster, *arguments, **options))
        return started[-1]

    yield start
    for each in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each.process.pid, signal.SIGKILL)
        each.process.wait()
    cluster.tell("scancel", "--user=root", "--signal=KILL", "--full")


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory) -> Path:
    """The small configuration, in which one story goes on through the tests."""
    return prepare(tmp_path_factory.mktemp("disturbed") / "code", mini.CONFIG)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = prepare(tmp_path_factory.mktemp("undisturbed") / "code", mini.CONFIG)
    done = mini.snakemake(folder, f"{mini.ROOT}/{SCORES}", "--cores", "2")
    assert done.returncode == 0, done.stdout
    return folder


def prepare(folder: Path, config: Path) -> Path:
    """A copy of the code; its attack takes seconds, in batches of less than one."""
    mini.copy_code(folder, config)
    (folder / "site.yaml").write_text(SITE)
    if config == mini.CONFIG:
        path = folder / "config" / "config.yaml"
        entries = yaml.safe_load(path.read_text())
        entries["batch"] = 4
        entries["attacks"]["pgd"]["settings"]["steps"] = 1000
        path.write_text(yaml.safe_dump(entries, sort_keys=False))
    return folder


def slurm_log(folder: Path, rule: str, job: str) -> str:
    (path,) = (folder / "logs" / "slurm" / f"rule_{rule}").rglob(f"{job}.log")
    return path.read_text(encoding="utf-8")


def log_of(folder: Path, rule: str) -> str:
    (path,) = (folder / "logs" / "mini" / rule).rglob("*.log")
    return path.read_text(encoding="utf-8")


def ended(cluster, job: str, state: str) -> None:
    until(lambda: cluster.state_of(job) == state, f"job {job} to be {state}", mini.PATIENCE)
    say(f"job {job} is {state}")


def summary(run: Run) -> str:
    """What the run says at its end of the jobs that failed."""
    _, result, text = run.text().partition("Not done; ")
    assert result, run.text()
    say(text.rstrip())
    return text


def test_a_training_preempted_three_times_gives_the_same_weights(
    cluster, run, disturbed, undisturbed
):
    target = f"{mini.ROOT}/{WEIGHTS}"
    # Of three minutes the profile gives the last two for saving: the signal comes after one.
    first = run(disturbed, target, hold=TRAINED, resources=["train_classifier:runtime=3"])
    job = first.holds("train_classifier")
    ended(cluster, job, "FAILED")
    assert "SIGUSR1 received; the state after epoch 1" in slurm_log(
        disturbed, "train_classifier", job
    )

    job = first.holds("train_classifier")
    cluster.tell("scancel", job)
    ended(cluster, job, "CANCELLED")
    assert "SIGTERM received; the state after epoch 2" in slurm_log(
        disturbed, "train_classifier", job
    )

    job = first.holds("train_classifier")
    node = cluster.tell("squeue", "-h", "-j", job, "-o", "%N")
    urgent = ("--partition=urgent", f"--nodelist={node}", "--exclusive", "--output=/dev/null")
    assert cluster.tell("sbatch", *urgent, "--wrap=true")
    ended(cluster, job, "PREEMPTED")
    assert first.ends() == 1  # all three attempts are used up
    summary_text = summary(first)
    assert target in summary_text
    assert "was preempted by another job (PREEMPTED)" in summary_text
    assert "logs/mini/train_classifier/0/digits/cnn.log" in summary_text
    assert not (disturbed / target).exists()

    again = run(disturbed, target)
    assert again.ends() == 0, again.text()
    assert "resumed after epoch 3, batch 0" in log_of(disturbed, "train_classifier")
    assert bits(disturbed) == bits(undisturbed)


def bits(folder: Path) -> dict[str, bytes]:
    tensors, _ = read_weights(folder / mini.ROOT / WEIGHTS)
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def test_an_attack_is_cancelled_and_then_its_node_dies(cluster, run, disturbed, undisturbed):
    target = f"{mini.ROOT}/{ADVERSARIAL}"
    state = disturbed / mini.ROOT / "resume" / target
    running = run(disturbed, target, hold=ATTACKED)
    job = cluster.wait_for_job("attack")
    until((state / "lock").exists, f"the attack to begin: {running.text()}")
    cluster.tell("scancel", job)
    ended(cluster, job, "CANCELLED")
    assert "SIGTERM received; default is saved up to row" in slurm_log(disturbed, "attack", job)
    assert list(state.rglob("*.h5"))

    job = running.holds("attack", again=False)
    assert "rows were finished before" in log_of(disturbed, "attack")
    node = cluster.kill_node(job)
    say(f"node {node} died with job {job}")
    ended(cluster, job, "NODE_FAIL")
    assert not (disturbed / target).exists()
    assert running.ends() == 0, running.text()
    cluster.start_node(node)
    assert "lost its node" not in running.text()  # it is done by now
    assert perturbations(disturbed) == perturbations(undisturbed)
    assert not list(state.rglob("*.h5"))


def perturbations(folder: Path) -> bytes:
    with open_hdf5(folder / mini.ROOT / ADVERSARIAL) as file:
        return file["points/default/perturbation"][:].tobytes()


def test_time_and_memory_run_out_and_the_tables_are_those_of_a_local_run(
    cluster, run, disturbed, undisturbed
):
    target = f"{mini.ROOT}/{SCORES}"
    held = run(disturbed, target, "--retries", "0", hold=FEATURES, resources=["iqr:runtime=1"])
    held.holds("iqr")
    assert held.ends() == 1
    summary_text = summary(held)
    assert "reached its time limit" in summary_text
    assert "--set-resources iqr:runtime=MINUTES" in summary_text
    assert not list((disturbed / "results").rglob("iqr/pgd@cnn/**/*.parquet"))

    short = run(disturbed, target, "--retries", "0", resources=["detect:mem_mb=60"])
    assert short.ends() == 1
    assert "--set-resources detect:mem_mb=MEGABYTES" in summary(short)

    last = run(disturbed, target)
    assert last.ends() == 0, last.text()
    assert rows(disturbed / target) == rows(undisturbed / target)
    assert len(rows(undisturbed / target)) > 0
    assert not list((disturbed / "results").rglob("*.part"))
    assert mini.snakemake(disturbed, target, "--cores", "1").stdout.count("Nothing to be done") == 1


def rows(path: Path) -> list[dict]:
    """A table without the columns of seconds."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {name: value for name, value in row.items() if not name.endswith("_seconds")}
            for row in csv.DictReader(file)
        ]


def test_the_quick_scale_gives_the_tables_of_a_local_run(cluster, run, tmp_path):
    default = mini.REPOSITORY / "config" / "config.yaml"
    here, there = (prepare(tmp_path / name, default) for name in ("here", "there"))
    submitted = run(there, QUICK)
    assert submitted.ends() == 0, submitted.text()
    local = mini.snakemake(here, QUICK, "--cores", "2")
    assert local.returncode == 0, local.stdout
    assert rows(there / QUICK) == rows(here / QUICK)
    assert len(rows(here / QUICK)) > 0

    rules_run = set()
    for path in sorted((there / "logs" / "quick").rglob("*.log")):
        rule = path.relative_to(there / "logs" / "quick").parts[0]
        first, *others = path.read_text(encoding="utf-8").splitlines() or [""]
        if rule in LOCAL_RULES:
            assert "SLURM" not in first
            continue
        say(f"{rule}: {first}")
        rules_run.add(rule)
        if rule in GPU_RULES:
            assert re.search(
                r"^SLURM job \d+ on n\d, partition gpu: CUDA_VISIBLE_DEVICES=0$", first
            )
            if not torch.cuda.is_available():
                assert "torch finds none: running on the CPU" in "\n".join(others)
        else:
            assert re.fullmatch(f"{PLACE}, partition cpu: no GPU", first)
    assert {"train_classifier", "attack", "iqr", "detect"} <= rules_run


def test_a_module_from_git_runs_on_the_cluster(cluster, run, tmp_path):
    repository = mini.copy_code(tmp_path / "repository")
    commit = mini.commit(repository)
    folder = tmp_path / "outer"
    folder.mkdir()
    (folder / "site.yaml").write_text(SITE)
    (folder / "slurm").symlink_to(repository / "profiles" / "slurm")
    source = f"git+file://{repository}/workflow/Snakefile@main"
    (folder / "Snakefile").write_text(
        f'module adv:\n    snakefile: "{source}"\n    prefix: "adv"\nuse rule * from adv\n'
    )
    submitted = run(folder, f"adv/{mini.ROOT}/{WEIGHTS}")
    assert submitted.ends() == 0, submitted.text()
    assert [copy.name for copy in (folder / ".snakemake" / "modules").iterdir()] == [commit]
    assert read_weights(folder / "adv" / mini.ROOT / WEIGHTS)
    (log,) = (folder / "adv/logs/mini/train_classifier").rglob("*.log")
    assert re.match(PLACE, log.read_text(encoding="utf-8"))
