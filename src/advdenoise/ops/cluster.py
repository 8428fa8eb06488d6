"""What a site file says, how the SLURM executor is corrected, and which GPUs a computer shows."""

import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from advdenoise.errors import BadInput, suggest

SITE = "ADVDENOISE_SITE"
_SITE = Path("profiles/slurm/site.yaml")
_DRIVER = Path("/proc/driver/nvidia/gpus")


def check_site() -> None:
    """Refuse a site file that the executor would stumble over, before any job is submitted.

    It is the file named by ADVDENOISE_SITE, or profiles/slurm/site.yaml; that there is none is
    right too.

    The file holds `partitions: {NAME: {LIMIT: value}}` and, optionally, `account`. The limits are
    those of Snakemake's SLURM executor, which sends each job to the partition that fits it best:
    GPU jobs to one with `max_gpu`, others elsewhere if they can.

    Raises BadInput naming file and key.
    """
    path = Path(os.environ.get(SITE, _SITE))
    if not path.exists():
        if SITE in os.environ:
            raise BadInput(f"{SITE}: there is no file {path}; see profiles/slurm/site.example.yaml")
        return
    import yaml

    try:
        site = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"{path} cannot be read ({reason}); see site.example.yaml") from None
    known = ("account", "partitions")
    for key in site if isinstance(site, dict) else {}:
        if key not in known:
            raise BadInput(f"{path}: {key!r} is no key of it; {suggest(key, known)}")
    partitions = site.get("partitions") if isinstance(site, dict) else None
    if not isinstance(partitions, dict) or not partitions:
        raise BadInput(f"{path}: partitions is missing; name the cluster's, see site.example.yaml")
    for name, limits in partitions.items():
        _check_partition(path, name, limits)
    if not any(limits.get("max_gpu") for limits in partitions.values()):
        raise BadInput(
            f"{path}: no partition has GPUs, so no GPU job could start; give one of "
            f"{', '.join(partitions)} its max_gpu, the most GPUs that a job may have there"
        )


def _check_partition(path: Path, name: str, limits) -> None:
    from dataclasses import fields

    from snakemake_executor_plugin_slurm.partitions import PartitionLimits

    known = [field.name for field in fields(PartitionLimits)] + ["cluster"]
    if not isinstance(limits, dict):
        raise BadInput(
            f"{path}: partitions.{name} holds no limits; write `{name}: {{}}` for none, or some of "
            f"{', '.join(known)}"
        )
    for key in limits:
        if key not in known:
            raise BadInput(
                f"{path}: partitions.{name}.{key} is no limit; {suggest(str(key), known)}"
            )


def patch_executor() -> None:
    """Correct the SLURM executor (2.8.0) where it is loaded; nothing to do for other executors."""
    plugin = sys.modules.get("snakemake_executor_plugin_slurm")
    # A Snakefile is read more than once in a process.
    if plugin is not None and not hasattr(plugin.query_job_status, "__wrapped__"):
        _retry_preempted(plugin)
        _guess_no_account(plugin)


def _retry_preempted(plugin: ModuleType) -> None:
    """Let Snakemake see a preempted job as a cancelled one, to be tried again.

    The executor waits for SLURM to requeue it, for ever where that is not done: where preemption
    cancels jobs, or `--no-requeue` was said.
    """
    query = plugin.query_job_status
    told = set()

    @functools.wraps(query)
    async def see_preempted(command, logger):
        states, seconds = await query(command, logger)
        preempted = {job for job, state in (states or {}).items() if state == "PREEMPTED"}
        for job in sorted(preempted - told):
            logger.warning(f"SLURM-job '{job}' was preempted.")
        told.update(preempted)
        return states and states | dict.fromkeys(preempted, "CANCELLED"), seconds

    plugin.query_job_status = see_preempted


def _guess_no_account(plugin: ModuleType) -> None:
    """Submit without `-A` where no account is configured, and ask only programs that are there.

    The executor asks `sacct` for an account, and stops where there is no such program; its option
    --slurm-no-account does nothing. Without `-A` SLURM takes the user's default account. A
    configured account is checked with sacctmgr and sshare; without them sbatch checks it.
    """
    with_account, validate = plugin.Executor.get_account_arg, plugin.validate_account

    def account_argument(executor, job) -> Iterator[str]:
        if job.resources.get("slurm_account"):
            yield from with_account(executor, job)
        else:
            yield ""

    def validated(account: str, logger) -> str:
        try:
            return validate(account, logger)
        except FileNotFoundError as error:
            logger.warning(f"{error.filename} is missing: account {account} is not checked.")
            return account

    plugin.Executor.get_account_arg = account_argument
    plugin.validate_account = validated


def count_gpus() -> int:
    """How many NVIDIA GPUs this computer shows to its jobs; 0 without the driver."""
    present = len(list(_DRIVER.glob("*")))
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None or not present:
        return present
    return len([name for name in chosen.split(",") if name.strip() not in ("", "-1")])
