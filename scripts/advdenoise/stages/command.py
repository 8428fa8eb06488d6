"""What every entry script does: options from the job's signature, its log, one-sentence errors."""

import argparse
import inspect
import json
import logging
import os
import socket
import sys
import traceback
from pathlib import Path
from typing import TextIO

from scripts.advdenoise import lineage, store
from scripts.advdenoise.devices import visible_gpus
from scripts.advdenoise.errors import EXIT_PREEMPTED, BadInput, Preempted
from scripts.advdenoise.graph import resolution


def main(run, arguments: list[str] | None = None) -> None:
    """Run a job from its command line and exit.

    `run` has keyword parameters: `settings` (JSON), and annotated `Path`, `list[Path]`, `int` or
    `str` ones, each an option of the same name. With `--log` all that the job prints goes to that
    file; an error's one sentence goes to the terminal as well. Under SLURM the first line printed
    names job, node, partition where known, and GPUs. Before the job runs its input files are
    compared with what its settings expect (`lineage.check`), and what was chosen (`--chosen`, files
    of the choose stage) takes the place of the candidates in its settings.

    Exit status: 0 done, 1 with one sentence for bad input, `EXIT_PREEMPTED` when asked to stop.
    """
    options = vars(_parser(run).parse_args(arguments))
    log, threads, chosen = options.pop("log"), options["threads"], options.get("chosen")
    options = {name: options[name] for name in inspect.signature(run).parameters}
    # Names of files need not be UTF-8.
    with os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace") as terminal:
        if log:
            _print_to(log)
        _tell_progress()
        _limit_threads(threads)
        sys.exit(_run(run, options, chosen, log, terminal))


def _run(run, options: dict, chosen: list[Path] | None, log: Path | None, terminal: TextIO) -> int:
    """The exit status."""
    try:
        if "settings" in options:
            inputs = {"chosen": chosen, **options}
            options["settings"] = lineage.with_digest(options["settings"], inputs)
        if chosen and "chosen" not in options:
            options["settings"] = with_choices(options["settings"], chosen)
        run(**options)
    except BadInput as mistake:
        _tell(str(mistake), log, terminal)
        return 1
    except Preempted as stop:
        _tell(f"Stopped as asked: {stop}", log, terminal)
        return EXIT_PREEMPTED
    except Exception as error:
        traceback.print_exc()
        if log:
            print(f"{type(error).__name__}: {error} (see {log})", file=terminal, flush=True)
        return 1
    return 0


def with_choices(settings: dict, files: list[Path]) -> dict:
    """The settings of a job with the values of these files of choices in their place."""
    return resolution.resolve(settings, {path: store.read_json(path) for path in files})


def _parser(run) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=inspect.getdoc(run))
    for name, parameter in inspect.signature(run).parameters.items():
        wanted = {"required": parameter.default is parameter.empty}
        if not wanted["required"]:
            wanted["default"] = parameter.default
        kind = parameter.annotation
        if kind is dict:
            wanted["type"] = json.loads
        elif list[Path] in (kind, *getattr(kind, "__args__", ())):
            wanted |= {"type": Path, "nargs": "*"}
        else:
            # `Path | None` takes a path.
            wanted["type"] = getattr(kind, "__args__", (kind,))[0]
        parser.add_argument(f"--{name}", **wanted)
    if "threads" not in inspect.signature(run).parameters:
        parser.add_argument("--threads", type=int, default=1)
    if "chosen" not in inspect.signature(run).parameters:
        parser.add_argument("--chosen", type=Path, nargs="*")
    parser.add_argument("--log", type=Path)
    return parser


def _print_to(log: Path) -> None:
    """Let both standard streams, and what libraries write below Python, go to the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    # Whole lines in the order of what happened, also when the job is killed.
    sys.stdout.reconfigure(line_buffering=True)


def _tell_progress() -> None:
    """Show what the library logs; under SLURM first where the job runs."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("scripts").setLevel(logging.INFO)
    job = os.environ.get("SLURM_JOB_ID")
    if job:
        node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        partition = os.environ.get("SLURM_JOB_PARTITION")
        place = f"{node}, partition {partition}" if partition else node
        gpus = visible_gpus()
        found = f"CUDA_VISIBLE_DEVICES={gpus}" if gpus else "no GPU"
        print(f"SLURM job {job} on {place}: {found}", file=sys.stderr, flush=True)


def _limit_threads(threads: int) -> None:
    """What is loaded from now on reads these once; torch came with the job and has to be told."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _tell(sentence: str, log: Path | None, terminal: TextIO) -> None:
    print(sentence, file=sys.stderr, flush=True)
    if log:
        print(f"{sentence} (log: {log})", file=terminal, flush=True)
