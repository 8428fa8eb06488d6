"""The site file, the corrected SLURM executor, and the count of GPUs."""

import asyncio
import inspect
import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml

from advdenoise.errors import BadInput
from advdenoise.ops import cluster
from tests import mini

EXAMPLE = mini.REPOSITORY / "profiles" / "slurm" / "site.example.yaml"


def test_the_example_site_is_valid(monkeypatch):
    monkeypatch.setenv(cluster.SITE, str(EXAMPLE))
    cluster.check_site()


def test_a_site_is_optional_but_a_named_one_must_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(cluster.SITE, raising=False)
    cluster.check_site()
    monkeypatch.setenv(cluster.SITE, "mine.yaml")
    with pytest.raises(BadInput, match=r"^ADVDENOISE_SITE: mine.yaml does not exist; see "):
        cluster.check_site()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partitions: [", "cannot be read"),
        ("account: lab", "partitions is missing"),
        ("[]", "partitions is missing"),
        ("partitions: {gpu: {max_gpu: 1}}\nacount: lab", "did you mean 'account'"),
        ("partitions: {gpu: {max_gpus: 1}}", "unknown limit partitions.gpu.max_gpus; did you mean"),
        ("partitions: {gpu: 4}", "partitions.gpu is not a mapping of limits"),
        ("partitions: {cpu: {max_threads: 4}}", "no partition has GPUs"),
    ],
)
def test_a_wrong_site_is_refused_in_one_sentence(tmp_path, monkeypatch, text, message):
    path = tmp_path / "site.yaml"
    path.write_text(text)
    monkeypatch.setenv(cluster.SITE, str(path))
    with pytest.raises(BadInput) as refused:
        cluster.check_site()
    assert str(refused.value).startswith(str(path))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_wrong_site_stops_the_workflow_before_any_job(tmp_path):
    folder = mini.copy_code(tmp_path / "code")
    (folder / "site.yaml").write_text("partitions: {gpu: {max_gpus: 1}}")
    refused = mini.snakemake(folder, "--dry-run", ADVDENOISE_SITE="site.yaml")
    assert refused.returncode == 1
    assert "site.yaml: unknown limit partitions.gpu.max_gpus" in refused.stdout


@pytest.mark.parametrize("site", [None, "partitions: {gpu: {max_gpu: 1}}\naccount: lab"])
def test_the_profile_works_by_its_short_name(tmp_path, site):
    folder = mini.copy_code(tmp_path / "code")
    if site:
        (folder / "site.yaml").write_text(site)
    more = {cluster.SITE: "site.yaml"} if site else {}
    planned = mini.snakemake(folder, "--profile", "slurm", "--dry-run", **more)
    assert planned.returncode == 0, planned.stdout
    assert ("slurm_account=lab" in planned.stdout) == bool(site)
    assert "--signal=USR1@120" in planned.stdout


def test_gpu_rules_request_one_gpu_and_leave_the_partition_to_the_site():
    profile = (mini.REPOSITORY / "profiles" / "slurm" / "config.yaml").read_text(encoding="utf-8")
    assert "slurm_partition" not in profile
    for path in (mini.REPOSITORY / "rules").glob("*.smk"):
        text = path.read_text(encoding="utf-8")
        uses_torch = "train" in path.stem or path.stem in (
            *(
                "attack",
                "calibrate",
                "choose",
                "cost",
                "evaluate",
                "distances",
                "iqr",
                "examples",
                "probe",
            ),
        )
        assert ("gpu=1" in text) == uses_torch, path


@pytest.fixture
def plugin(monkeypatch):
    """A stand-in for the SLURM executor's module that reports `states`."""

    async def query_job_status(command, logger):
        return plugin.states, 0.5

    class Executor:
        def get_account_arg(self, job):
            yield f" -A {plugin.validate_account(job.resources['slurm_account'], log)}"

    def validate_account(account, logger):
        subprocess.check_output([plugin.sacctmgr, account])
        return account

    log = logging.getLogger("test")
    plugin = SimpleNamespace(
        query_job_status=query_job_status,
        Executor=Executor,
        validate_account=validate_account,
        sacctmgr="echo",
        states=None,
    )
    monkeypatch.setitem(sys.modules, "snakemake_executor_plugin_slurm", plugin)
    return plugin


def test_a_preempted_job_counts_as_cancelled_and_is_reported_once(plugin, caplog):
    cluster.patch_executor()
    cluster.patch_executor()  # a process reads the Snakefile more than once
    plugin.states = {"7": "PREEMPTED", "8": "RUNNING"}
    for _ in range(2):
        answer = asyncio.run(plugin.query_job_status("squeue", logging.getLogger("test")))
        assert answer == ({"7": "CANCELLED", "8": "RUNNING"}, 0.5)
    assert caplog.messages == ["SLURM-job '7' was preempted."]


def test_a_failed_query_is_passed_on(plugin):
    cluster.patch_executor()
    assert asyncio.run(plugin.query_job_status("squeue", None)) == (None, 0.5)


@pytest.mark.parametrize("sacctmgr", ["echo", "sacctmgr-is-missing"])
@pytest.mark.parametrize(("account", "argument"), [("", ""), (None, ""), ("lab", " -A lab")])
def test_only_a_configured_account_is_passed_to_sbatch(plugin, account, argument, sacctmgr):
    plugin.sacctmgr = sacctmgr
    cluster.patch_executor()
    job = SimpleNamespace(resources={"slurm_account": account} if account is not None else {})
    assert next(plugin.Executor().get_account_arg(job)) == argument


def test_the_real_executor_does_without_sacct(monkeypatch):
    import snakemake_executor_plugin_slurm as real

    for owner, name in (
        (real, "query_job_status"),
        (real, "validate_account"),
        (real.Executor, "get_account_arg"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # restored afterwards
    monkeypatch.setenv("PATH", "/is/empty")
    cluster.patch_executor()
    assert list(real.Executor.get_account_arg(None, SimpleNamespace(resources={}))) == [""]
    assert real.validate_account("lab", logging.getLogger("test")) == "lab"


def test_the_real_executor_has_the_wrapped_functions():
    import snakemake_executor_plugin_slurm as real

    assert asyncio.iscoroutinefunction(real.query_job_status)
    assert inspect.isgeneratorfunction(real.Executor.get_account_arg)
    assert inspect.isfunction(real.validate_account)
    assert yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))["partitions"]


@pytest.mark.parametrize(
    ("visible", "count"), [(None, 2), ("", 0), ("-1", 0), ("1", 1), ("0,1", 2), ("MIG-a,", 1)]
)
def test_only_visible_gpus_are_counted(tmp_path, monkeypatch, visible, count):
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(cluster, "_DRIVER", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert cluster.count_gpus() == count


def test_without_the_driver_there_are_no_gpus(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_DRIVER", tmp_path / "missing")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert cluster.count_gpus() == 0
