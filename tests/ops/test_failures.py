"""The summary of failed jobs, from logs as Snakemake writes them."""

import pytest

from advdenoise.ops import failures

STARTED = "[Sat Nov 21 06:25:35 2026]\nrule attack:\n    output: results/x.h5\n    jobid: 3\n"


def error(rule="attack", jobid="3", message="None", logs="logs/attack.log", external=None):
    """A failure as Snakemake 9.27 reports it."""
    lines = [
        "[Sat Nov 21 06:25:36 2026]",
        f"Error in rule {rule}:",
        f"    message: {message}",
        f"    jobid: {jobid}",
        "    input: results/in.h5",
        f"    output: results/{rule}.h5, results/{rule}.parquet",
        f"    log: {logs} (check log file(s) for error details)",
        "    shell:",
        "        python -P scripts/attack.py --log logs/attack.log",
        "        (command exited with non-zero exit code)",
    ]
    if external:
        lines.append(f"    external_jobid: {external}")
    return "\n".join(lines) + "\n"


def killed(how="died with <Signals.SIGKILL: 9>", log="logs/attack.log"):
    """The line above the failure of a local job that a signal ended."""
    return f"Command 'set -euo pipefail;  python -P scripts/attack.py --log {log}' {how}.\n"


def on_slurm(status, external="12", **more):
    message = f"SLURM-job '{external}' failed, SLURM status is: '{status}'. Detailed reason"
    return error(message=message, external=external, **more)


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Writes Snakemake's log into a new working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").mkdir()

    def write(text):
        path = tmp_path / "snakemake.log"
        path.write_text(text)
        return [str(path)]

    return write


def test_a_run_without_failures_has_no_summary(log):
    assert failures.summary(log(STARTED + "Finished jobid: 3 (Rule: attack)\n")) == []


def test_a_failed_job_is_listed_with_its_message_and_its_logs(log, tmp_path):
    (tmp_path / "logs" / "attack.log").write_text("one\nattacks.pgd: the victim is missing\n\n")
    cluster_log = tmp_path / "logs" / "slurm" / "12.log"
    assert failures.summary(log(on_slurm("FAILED", logs=f"logs/attack.log, {cluster_log}"))) == [
        "",
        "Not done; all other results are kept, and the same command continues from here:",
        "  results/attack.h5",
        "    attacks.pgd: the victim is missing",
        "    log: logs/attack.log",
        "    log: logs/slurm/12.log",
    ]


def test_a_job_that_succeeded_later_is_not_listed(log):
    done = "Trying to restart job 3.\nFinished jobid: 3 (Rule: attack)\n"
    text = error() + error(rule="evaluate", jobid="4") + done
    assert [failure.rule for failure in failures.failed_jobs(text)] == ["evaluate"]


def test_of_several_attempts_the_last_one_counts():
    (failure,) = failures.failed_jobs(on_slurm("TIMEOUT", "12") + on_slurm("CANCELLED", "15"))
    assert (failure.status, failure.external) == ("CANCELLED", "15")


@pytest.mark.parametrize(
    ("status", "end"),
    [
        ("TIMEOUT", "--set-resources attack:runtime=MINUTES (TIMEOUT)"),
        ("OUT_OF_MEMORY", "--set-resources attack:mem_mb=MEGABYTES (OUT_OF_MEMORY)"),
        ("NODE_FAIL", "SLURM job 12 lost its node (NODE_FAIL)"),
        ("CANCELLED", "SLURM job 12 was cancelled (CANCELLED)"),
        ("FAILED", "SLURM job 12 failed (FAILED)"),
    ],
)
def test_states_of_slurm_are_explained(log, status, end):
    assert failures.summary(log(on_slurm(status)))[3].endswith(end)


def test_preemption_is_not_cancellation(log):
    text = "SLURM-job '12' was preempted.\n" + on_slurm("CANCELLED")
    assert "was preempted by another job (PREEMPTED)" in failures.summary(log(text))[3]


@pytest.mark.parametrize(
    "line",
    [
        "slurmstepd: error: StepId=1.0 exceeded memory limit (2 > 1), being killed",
        "slurmstepd: error: Detected 1 oom_kill event in StepId=1.0.",
        "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=1.batch",
        "terminate called after throwing an instance of 'std::bad_alloc'",
    ],
)
def test_lack_of_memory_is_recognised_in_the_logs(log, tmp_path, line):
    (tmp_path / "logs" / "attack.log").write_text(line + "\n")
    assert "needed more memory than it requested" in failures.summary(log(on_slurm("FAILED")))[3]


@pytest.mark.parametrize(
    "how", ["died with <Signals.SIGKILL: 9>", "returned non-zero exit status 137"]
)
def test_the_remedy_of_a_killed_local_job_is_more_memory(log, tmp_path, how):
    (tmp_path / "logs" / "attack.log").write_text("resumed after epoch 1\n")
    assert failures.summary(log(killed(how) + error()))[3] == (
        "    the job was killed, probably because memory ran out; give it more with "
        "--set-resources attack:mem_mb=MEGABYTES (KILLED); its log ends: resumed after epoch 1"
    )


@pytest.mark.parametrize(
    "above",
    [
        killed("returned non-zero exit status 1"),
        killed(log="logs/another.log"),
        killed() + killed("returned non-zero exit status 1"),
    ],
)
def test_signals_of_other_jobs_and_attempts_are_ignored(log, above):
    assert failures.summary(log(above + error()))[3] == "    the job failed"


def test_another_signal_is_named(log):
    above = killed("died with <Signals.SIGTERM: 15>")
    assert failures.summary(log(above + error()))[3] == "    the job failed (SIGTERM)"


def test_a_job_killed_on_a_node_is_recognised_in_the_clusters_log(log, tmp_path):
    cluster_log = tmp_path / "logs" / "12.log"
    cluster_log.write_text(killed())
    message = failures.summary(log(on_slurm("FAILED", logs=f"logs/attack.log, {cluster_log}")))[3]
    assert message.startswith("    SLURM job 12 was killed, probably because memory ran out; ")


def test_a_job_without_a_log_has_a_line(log):
    assert failures.summary(log(error()))[3] == "    the job failed"
