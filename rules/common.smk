"""The configuration, checked, and the graph that rules ask for inputs, settings and code."""

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

# SLURM sends it to all processes of a job when its time runs out: the job saves its state and exits,
# and Snakemake above it must live to see that. Before all imports, for it may come at once.
signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def repository(rules) -> Path:
    """The folder above `rules`; of a module from a git repository a copy of its commit.

    Jobs need the scripts and the library as files, of which Snakemake itself fetches only what it
    includes. The copy is below .snakemake of the working directory, which cluster nodes can read.
    """
    if not hasattr(rules, "ref"):
        folder = Path(str(rules)).resolve()
        if not folder.exists():
            raise SystemExit(
                f"{rules}: jobs need more files than Snakemake fetches from there; name a folder, "
                "git+file://, github() or gitlab() as the module's `snakefile`"
            )
        return folder.parent
    import git

    repo = rules.hosted_repo.repo if hasattr(rules, "hosted_repo") else git.Repo(rules.repo_path)
    commit = repo.commit(rules.ref)
    copy = Path(".snakemake/modules", commit.hexsha).resolve()
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=copy.parent, prefix=copy.name) as part:
            repo.git.archive(commit.hexsha, output=f"{part}/code.tar")
            shutil.unpack_archive(f"{part}/code.tar", f"{part}/code")
            try:
                Path(part, "code").rename(copy)
            except OSError:  # another process of this run was first
                if not copy.exists():
                    raise
    return copy


REPOSITORY = repository(workflow.current_basedir)
SCRIPTS = REPOSITORY / "scripts"
sys.path.insert(0, str(REPOSITORY / "src"))

import advdenoise
from advdenoise.graph import configuration, yaml_files
from advdenoise.graph.combinations import all_left_out
from advdenoise.graph.flow import (
    Flow,
    collect_garbage_less_often,
    for_rules,
    one_sentence,
    prepare_environment,
)
from advdenoise.graph.stages import stages
from advdenoise.graph.targets import explained
from advdenoise.ops import cluster, failures, running, system, terminal
from advdenoise.ops.files import check_paths, check_times

prepare_environment()
collect_garbage_less_often()
cluster.patch_executor()

if Path(advdenoise.__file__).resolve().parents[2] != REPOSITORY:
    raise SystemExit(
        f"advdenoise: already loaded from {Path(advdenoise.__file__).parent}, and {REPOSITORY} is "
        "another version; use one version of this workflow in a run"
    )
IS_MODULE = not workflow.modifier.is_main_snakefile()
default = f"{REPOSITORY}/config/config.yaml"
with one_sentence():
    if workflow.is_main_process:
        system.check_records(running.STATE)
    if IS_MODULE:
        merged = yaml_files.of_module(config, Path(default))
    else:
        files = [Path(os.path.relpath(file)) for file in workflow.overwrite_configfiles]
        options = yaml_files.typed(dict(workflow.config_settings.config))
        merged = yaml_files.merged(files, options, Path(os.path.relpath(default)))
    flow = Flow(configuration.read(merged))
    cluster.check_site()

# Snakemake lays --configfile over what it loads here, so that it reads the default where we do.
if "scale" not in config:

    configfile: default

    config["scale"] = flow.config["scale"]  # for the report


if not IS_MODULE:
    logger.addFilter(explained(flow, workflow))
terminal.ignore_closed_output(logger)
if workflow.is_main_process:
    for reason in all_left_out(flow.config):
        print(f"Left out: {reason}.", file=sys.stderr)
# Nothing else keeps more GPU jobs from starting here than there are GPUs: they would wait for each
# other, each with a core in hand. On a cluster it is the cluster that keeps count.
if workflow.resource_settings.nodes is None and "gpu" not in workflow.global_resources:
    if gpus := cluster.count_gpus():
        workflow.register_resource("gpu", gpus)


# A Path is the one type that Snakemake does not compare between runs: moving the data reruns nothing.
data_root = Path(flow.config["data_root"] or ".")
# What jobs resume from, below the prefix that a module may have.
RESUME = workflow.modifier.path_modifier.replace_prefix(f"{flow.root}/resume")


def as_options(wildcards, input):
    """A job's input files as command-line options by their names; entries name the others."""
    return " ".join(
        f"--{name} {files if isinstance(files, str) else ' '.join(files)}"
        for name, files in input.items()
        if files and name != "named"
    )


def weights(path):
    """Trained weights as an output: protected where the configuration says so."""
    return protected(path) if flow.config["protect_weights"] else path


def memory(megabytes):
    """Grows with each retry: the last attempt may have been short of it."""
    return lambda wildcards, attempt: megabytes * attempt


def minutes(limit):
    """Grows with each retry up to a day. Rules that go on where they were need no such thing."""
    return lambda wildcards, attempt: min(limit * attempt, 24 * 60)


def targets(name):
    """The tables and figures of one experiment, asked for only when its rule is."""
    return for_rules(lambda wildcards: flow.targets(name))


def set_docstring(name, text):
    """What `snakemake --list` shows of a rule whose name comes from the configuration."""
    name = workflow.modifier.modify_rulename(name)
    if workflow.is_rule(name):  # and none that a module's user leaves out
        workflow.get_rule(name).docstring = text


def written(job):
    """The files that a job writes, and one where it keeps what is resumed."""
    return [*job.output, *job.log, *filter(None, [job.benchmark]), f"{RESUME}/state"]


pathvars:
    results=flow.root,
    logs=f"logs/{flow.config['scale']}",
    benchmarks=f"benchmarks/{flow.config['scale']}",


if workflow.pathvars.get("results") != flow.root:
    raise SystemExit(
        "pathvars: another workflow's `results` is set here, but results are in results/{scale}; "
        "write `prefix: FOLDER` in the module to have them elsewhere"
    )


wildcard_constraints:
    **flow.constraints(),


onstart:
    try:
        with one_sentence():
            running.announce()
            jobs = list(workflow.dag.needrun_jobs())
            check_paths(path for job in jobs for path in (*job.input, *written(job)))
            check_times(path for job in jobs for path in job.input)
            system.check_writable(Path(path) for job in jobs for path in written(job))
            flow.start(jobs)
    except SystemExit:
        running.withdraw()
        raise


onsuccess:
    running.withdraw()


onerror:
    running.withdraw()
    print(*failures.summary(log), sep="\n", file=sys.stderr)
