"""The configuration, checked, and the graph that rules ask for inputs, settings and code."""

import os
import shutil
import signal
import sys
from pathlib import Path

# SLURM sends it to all processes of a job when its time runs out: the job saves its state and exits,
# and Snakemake above it must live to see that. Before all imports, for it may come at once.
signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def local_copy(folder) -> Path:
    """The folder of this file; of a module from a git repository in a copy of its commit.

    Jobs need the scripts and the library as files, of which Snakemake itself fetches only what it
    includes. The copy lies below .snakemake of the working directory, which cluster nodes see.
    """
    if not hasattr(folder, "ref"):
        return Path(str(folder))
    import git

    repo = folder.hosted_repo.repo if hasattr(folder, "hosted_repo") else git.Repo(folder.repo_path)
    commit = repo.commit(folder.ref).hexsha
    copy = Path(".snakemake/modules").absolute() / commit
    if not copy.exists():
        part = copy.with_name(f"{commit}.{os.getpid()}.part")
        part.mkdir(parents=True)
        archive = part.with_suffix(".tar")
        repo.git.archive(commit, output=str(archive))
        shutil.unpack_archive(archive, part)
        archive.unlink()
        part.rename(copy)
    return copy / folder.path



REPOSITORY = local_copy(workflow.current_basedir).parent
SCRIPTS = REPOSITORY / "scripts"
sys.path.insert(0, str(REPOSITORY / "src"))

from advdenoise.graph import configuration, yaml_files
from advdenoise.graph.combinations import all_left_out
from advdenoise.graph.flow import Flow, one_sentence, prepare_environment
from advdenoise.graph.targets import explained
from advdenoise.ops import cluster, failures, running, system, terminal
from advdenoise.ops.files import check_paths, check_times

prepare_environment()
cluster.patch_executor()

default = f"{REPOSITORY}/config/config.yaml"
with one_sentence():
    if workflow.is_main_process:
        system.check_records(running.STATE)
    files = [Path(os.path.relpath(file)) for file in workflow.overwrite_configfiles]
    options = yaml_files.typed(dict(workflow.config_settings.config))
    merged = yaml_files.merged(files, options, Path(os.path.relpath(default)))
    flow = Flow(configuration.read(merged))
    cluster.check_site()

# Snakemake lays --configfile over what it loads here, so that it reads the default where we do.
if "scale" not in config:

    configfile: default


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


def papers(name):
    """The targets of one paper, asked for only when its rule is."""
    return one_sentence()(lambda wildcards: flow.targets(name))


def written(job):
    """The files that a job writes, and one where it keeps what is resumed."""
    return [*job.output, *job.log, *filter(None, [job.benchmark]), f"{flow.root}/resume/state"]


pathvars:
    results=flow.root,
    logs=f"logs/{flow.config['scale']}",
    benchmarks=f"benchmarks/{flow.config['scale']}",


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
