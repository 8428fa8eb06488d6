"""What every entry script does: options from the job's signature, its log, one-sentence errors."""

import argparse
import contextlib
import inspect
import json
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from advdenoise.errors import EXIT_PREEMPTED, BadInput, Preempted
from advdenoise.graph import resolution
from advdenoise.io import lineage
from advdenoise.io.json_files import read_json
from advdenoise.ops import system
from advdenoise.ops.devices import visible_gpus
from advdenoise.ops.terminal import discard_output

_INTERRUPTED = 128 + signal.SIGINT  # exit status of what Ctrl-C ended


def main(run, arguments: list[str] | None = None) -> None:
    """Run a job from its command line and exit.

    `run` has keyword parameters: `settings` (JSON), and annotated `Path`, `list[Path]`, `int` or
    `str` ones, each an option of the same name. With `--log` all that the job prints goes to that
    file; an error's one sentence goes to the terminal as well. Under SLURM the first line printed
    names job, node, partition where known, and GPUs. Before the job runs its input files are
    compared with what its settings expect (`lineage.check`), and what was chosen (`--chosen`, files
    of the choose stage) takes the place of the candidates in its settings.

    Exit status: 0 done, 1 with one sentence for bad input and for what the operating system
    refuses, `EXIT_PREEMPTED` when asked to stop.
    """
    options = vars(_parser(run).parse_args(arguments))
    log, threads, chosen = options.pop("log"), options["threads"], options.get("chosen")
    options = {name: options[name] for name in inspect.signature(run).parameters}
    _open_streams()
    # Names of files need not be UTF-8.
    with os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace") as terminal:
        if log:
            try:
                _print_to(log)
            except OSError as error:
                sys.exit(
                    system.refusal_message(error, log) or f"{log}: {error.strerror}; delete it"
                )
        _tell_progress()
        _limit_threads(threads)
        sys.exit(_run(run, options, chosen, log, terminal))


@contextmanager
def importing() -> Iterator[None]:
    """Of an entry script around the import of its job: the first that takes much memory."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except (ImportError, OSError, RuntimeError, MemoryError) as error:
        if not system.is_out_of_memory(error):
            raise
        log = argparse.ArgumentParser(add_help=False)
        log.add_argument("--log", type=Path)
        path = log.parse_known_args()[0].log
        sentence = _short_of_memory(error, Path(sys.argv[0]).stem)
        if path:  # for the summary that ends a run
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{sentence}\n", encoding="utf-8")
        sys.exit(sentence)


def _run(run, options: dict, chosen: list[Path] | None, log: Path | None, terminal: TextIO) -> int:
    """The exit status."""
    rule = options.get("settings", {}).get("rule", "RULE")
    try:
        if "settings" in options:
            inputs = {"chosen": chosen, **options}
            options["settings"] = lineage.with_digest(options["settings"], inputs)
        if chosen and "chosen" not in options:
            options["settings"] = with_choices(options["settings"], chosen)
        run(**options)
    except BadInput as mistake:
        _tell(str(mistake), log, terminal)
        if isinstance(mistake, system.Refusal):
            os._exit(1)  # HDF5 crashes as it closes files that it could not write
        return 1
    except Preempted as stop:
        _tell(f"Stopped as asked: {stop}", log, terminal)
        return EXIT_PREEMPTED
    except KeyboardInterrupt:
        print("Interrupted", file=sys.stderr)
        return _INTERRUPTED
    except Exception as error:
        sentence = system.refusal_message(error, log)
        if sentence is None and system.is_out_of_memory(error):
            sentence = _short_of_memory(error, rule)
        if sentence:
            _tell(sentence, log, terminal)
            os._exit(1)
        traceback.print_exc()
        if log:
            print(f"{type(error).__name__}: {error} (see {log})", file=terminal, flush=True)
        return 1
    return 0


def with_choices(settings: dict, files: list[Path]) -> dict:
    """The settings of a job with the values of these files of choices in their place."""
    return resolution.resolve(settings, {path: read_json(path) for path in files})


def _parser(run) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=inspect.getdoc(run))
    for name, parameter in inspect.signature(run).parameters.items():
        wanted: dict[str, Any] = {"required": parameter.default is parameter.empty}
        if not wanted["required"]:
            wanted["default"] = parameter.default
        kind = parameter.annotation
        if kind is dict:
            wanted["type"] = json.loads
        elif list[Path] in (kind, *getattr(kind, "__args__", ())):
            # An input of no files is left out of the command line.
            wanted = {"type": Path, "nargs": "*", "default": wanted.get("default", [])}
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


def _short_of_memory(error: BaseException, rule: str) -> str:
    """The sentence of a job that was given no more memory."""
    if type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU
        return f"{rule}: the GPU's memory does not suffice; lower `batch` in the configuration"
    words = " ".join((str(error) or type(error).__name__).split()).rstrip(".;")
    return f"{rule}: not enough memory ({words[:200]}); {system.memory_remedy(rule)}"


def _open_streams() -> None:
    """Standard streams that the caller closed lead nowhere: no file must take their numbers."""
    while (handle := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(handle)
    sys.stdout = sys.stdout or _stream(1)
    sys.stderr = sys.stderr or _stream(2)


def _stream(number: int) -> TextIO:
    return os.fdopen(number, "w", 1, encoding="utf-8", closefd=False)


def _print_to(log: Path) -> None:
    """Let both standard streams, and what libraries write below Python, go to the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    # Whole lines in the order of what happened, also when the job is killed.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _tell_progress() -> None:
    """Show what the library logs; under SLURM first where the job runs."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("advdenoise").setLevel(logging.INFO)
    job = os.environ.get("SLURM_JOB_ID")
    if job:
        node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        partition = os.environ.get("SLURM_JOB_PARTITION")
        place = f"{node}, partition {partition}" if partition else node
        gpus = visible_gpus()
        visible = f"CUDA_VISIBLE_DEVICES={gpus}" if gpus else "no GPU"
        print(f"SLURM job {job} on {place}: {visible}", file=sys.stderr, flush=True)


def _limit_threads(threads: int) -> None:
    """What is loaded from now on reads these once; torch came with the job and has to be told."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _tell(sentence: str, log: Path | None, terminal: TextIO) -> None:
    with contextlib.suppress(OSError):  # the log's file system may be what is full
        print(sentence, file=sys.stderr, flush=True)
    if log:
        try:
            print(f"{sentence} (log: {log})", file=terminal, flush=True)
        except BrokenPipeError:
            discard_output(terminal.fileno())
