"""The command line of the library: `python -m advdenoise list`, `check`, `verify` and `unlock`.

`list` prints the functions that a configuration may name, one line each: `list attacks` those of
one kind, `list attacks gradient.pgd` one in full, `list keys` the keys of a configuration. With
`--configfile` the entries of the configuration follow. `--markdown` prints config/README.md.

`check` reads a configuration as Snakemake does, and tries your own functions and networks in it on
a few images, one line each. The exit status is 1 where anything is wrong.

`verify` says what does not belong into a folder of results, one line a file: damaged, foreign, left
over. Without folders those of all scales are looked at. Files are compared with the configuration
that is named, by default with that which the folder was last used with (its `config.yaml`). The
exit status is 1 where anything is wrong. Nothing is changed.

`unlock` takes away the lock that a killed Snakemake run left in this folder, and ends its jobs. A
live run is never unlocked: one sentence tells of it, and the exit status is 1. So does one of the
next run's cache folder where Snakemake could not write to it, which it would tell in a traceback.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from advdenoise.errors import BadInput, suggest
from advdenoise.graph import configuration, reference, verification, yaml_files
from advdenoise.graph.flow import Flow
from advdenoise.ops import running, system
from advdenoise.ops.files import require_readable
from advdenoise.ops.terminal import program


@program
def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return options.run(options)


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("advdenoise", description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    unlock = commands.add_parser("unlock", help="remove a dead run's lock")
    unlock.set_defaults(run=_unlock)
    listing = commands.add_parser("list", help="print functions, their settings, and keys")
    listing.set_defaults(run=_list)
    listing.add_argument("topic", nargs="?", help=f"{', '.join(reference.KINDS)} or keys")
    listing.add_argument("name", nargs="?", help="a function, or a section of the keys")
    listing.add_argument("--configfile", nargs="+", default=[], help="as Snakemake's")
    listing.add_argument("--markdown", action="store_true", help="print config/README.md")
    check = commands.add_parser("check", help="read a configuration, try your own functions")
    check.set_defaults(run=_check)
    check.add_argument("configfile", nargs="+", help="as Snakemake's --configfile")
    check.add_argument("--config", nargs="+", default=[], help="name=value over the files")
    verify = commands.add_parser("verify", help="say which result files do not belong")
    verify.set_defaults(run=_verify)
    verify.add_argument("paths", nargs="*", type=Path, help="folders or files below results/")
    verify.add_argument("--configfile", nargs="+", default=[], help="as Snakemake's")
    verify.add_argument("--config", nargs="+", default=[], help="name=value over the files")
    verify.add_argument(
        "--origin", action="store_true", help="only what made a file, not whether it is damaged"
    )
    return parser


def _unlock(options) -> int:
    for sentence in running.unlock():
        print(sentence)
    system.check_cache()
    return 0


def _list(options) -> int:
    topics = [*reference.KINDS, reference.KEYS]
    if options.topic not in (None, *topics):
        raise BadInput(f"list {options.topic}: no such kind; {suggest(options.topic, topics)}")
    if options.markdown:
        print(reference.markdown(), end="")
        return 0
    if options.name:
        lines = reference.page(options.topic, options.name)
    else:
        entries = yaml_files.requested(options.configfile, []) if options.configfile else {}
        lines = reference.overview(options.topic, entries)
    for line in lines:
        print(line)
    return 0


def _check(options) -> int:
    config = configuration.read(yaml_files.requested(options.configfile, options.config))
    from advdenoise import contracts

    wrong = 0
    for key, sentence in contracts.check(config):
        wrong += sentence is not None
        line_text = sentence or "ok"
        print(line_text if line_text.startswith(key) else f"{key}: {line_text}", flush=True)
    return 1 if wrong else 0


def _verify(options) -> int:
    complaints = files = 0
    for complaint in _complaints(options):
        files += 1
        if complaint:
            complaints += 1
            print(complaint)
    print(f"{files} files, {complaints or 'nothing'} wrong.", file=sys.stderr)
    return 1 if complaints else 0


def _complaints(options) -> Iterator[str | None]:
    """What is wrong with each file, None where nothing is."""
    flow = None
    if options.configfile or options.config:
        raw = yaml_files.requested(options.configfile, options.config)
        flow = Flow(configuration.read(raw))
    default = [Path(flow.root)] if flow else sorted(Path("results").glob("*/"))
    verifiers: dict[Path, verification.Verifier] = {}
    require_readable(Path("results"))
    for path in options.paths or default:
        require_readable(path)
        folder = _scale(path)
        if folder not in verifiers:
            of_folder = flow or verification.flow_of(folder)
            verifiers[folder] = verification.Verifier(of_folder, folder)
        files = verification.files_below(path) if path.is_dir() else [path]
        for file in files:
            yield verifiers[folder].complaint(file, contents=not options.origin)


def _scale(path: Path) -> Path:
    """The folder `results/{scale}` that a path lies in."""
    parts = path.parts
    if "results" not in parts[:-1]:
        raise BadInput(f"{path}: lies below no results/{{scale}}; name a folder or file that does")
    return Path(*parts[: parts.index("results") + 2])


if __name__ == "__main__":
    sys.exit(main())
