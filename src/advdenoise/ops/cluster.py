"""Checks of the site file, corrections of the SLURM executor, and the GPUs of a computer."""

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
    """Check the site file before any job is submitted.

    It is the file named by ADVDENOISE_SITE, or profiles/slurm/site.yaml if that exists. It holds
    `partitions: {NAME: {LIMIT: value}}` and, optionally, `account`. The limits are those of
    Snakemake's SLURM executor, which sends each job to the partition that fits it best: GPU jobs to
    one with `max_gpu`, others to one without if possible.

    Raises:
        BadInput: names the file and the key that is wrong.
    """
    path = Path(os.environ.get(SITE, _SITE))
    if not path.exists():
        if SITE in os.environ:
            raise BadInput(f"{SITE}: {path} does not exist; see profiles/slurm/site.example.yaml")
        return
    import yaml

    try:
        site = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"{path} cannot be read ({reason}); see site.example.yaml") from None
    site, known = site if isinstance(site, dict) else {}, ("account", "partitions")
    if unknown := [key for key in site if key not in known]:
        raise BadInput(f"{path}: unknown key {unknown[0]!r}; {suggest(unknown[0], known)}")
    partitions = site.get("partitions")
    if not isinstance(partitions, dict) or not partitions:
        raise BadInput(f"{path}: partitions is missing; name the cluster's, see site.example.yaml")
    for name, limits in partitions.items():
        _check_partition(path, name, limits)
    if not any(limits.get("max_gpu") for limits in partitions.values()):
        raise BadInput(
            f"{path}: no partition has GPUs, so no GPU job could start; add max_gpu, the largest "
            f"number of GPUs for one job, to one of {', '.join(partitions)}"
        )


def _check_partition(path: Path, name: str, limits) -> None:
    from dataclasses import fields

    from snakemake_executor_plugin_slurm.partitions import PartitionLimits

    known = [field.name for field in fields(PartitionLimits)] + ["cluster"]
    if not isinstance(limits, dict):
        raise BadInput(
            f"{path}: partitions.{name} is not a mapping of limits; write `{name}: {{}}` for none, "
            f"or some of {', '.join(known)}"
        )
    if unknown := [str(key) for key in limits if key not in known]:
        hint = suggest(unknown[0], known)
        raise BadInput(f"{path}: unknown limit partitions.{name}.{unknown[0]}; {hint}")


def patch_executor() -> None:
    """Correct the SLURM executor (2.8.0) if it is loaded."""
    plugin = sys.modules.get("snakemake_executor_plugin_slurm")
    # A process reads the Snakefile more than once.
    if plugin is not None and not hasattr(plugin.query_job_status, "__wrapped__"):
        _retry_preempted(plugin)
        _allow_no_account(plugin)


def _retry_preempted(plugin: ModuleType) -> None:
    """Report a preempted job as cancelled, so that Snakemake tries it again.

    The executor waits for SLURM to requeue it, for ever if preemption cancels jobs or if
    `--no-requeue` is set.
    """
    query = plugin.query_job_status
    reported: set[str] = set()

    @functools.wraps(query)
    async def query_job_status(command, logger):
        states, seconds = await query(command, logger)
        preempted = {job for job, state in (states or {}).items() if state == "PREEMPTED"}
        for job in sorted(preempted - reported):
            logger.warning(f"SLURM-job '{job}' was preempted.")
        reported.update(preempted)
        return states and states | dict.fromkeys(preempted, "CANCELLED"), seconds

    plugin.query_job_status = query_job_status  # type: ignore[attr-defined]


def _allow_no_account(plugin: ModuleType) -> None:
    """Submit without `-A` if no account is configured, and do without missing programs.

    The executor asks `sacct` for an account and stops if there is no such program; its option
    --slurm-no-account has no effect. Without `-A`, SLURM uses the user's default account. A
    configured account is checked with sacctmgr and sshare; without these, sbatch checks it.
    """
    with_account, validate = plugin.Executor.get_account_arg, plugin.validate_account

    def account_argument(executor, job) -> Iterator[str]:
        if job.resources.get("slurm_account"):
            yield from with_account(executor, job)
        else:
            yield ""

    def validate_account(account: str, logger) -> str:
        try:
            return validate(account, logger)
        except FileNotFoundError as error:
            logger.warning(f"{error.filename} is missing: account {account} is not checked.")
            return account

    plugin.Executor.get_account_arg = account_argument
    plugin.validate_account = validate_account  # type: ignore[attr-defined]


def count_gpus() -> int:
    """The number of NVIDIA GPUs that jobs on this computer see; 0 without the driver."""
    present = len(list(_DRIVER.glob("*")))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not present:
        return present
    return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
