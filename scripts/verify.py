"""Say what does not belong into a folder of results, one line a file: damaged, foreign, left over.

    python -m scripts.verify [--configfile F [F ...]] [--config k=v ...] [folder or file ...]

Without folders those of all scales are looked at. Files are compared with the configuration that is
named, by default with that which the folder was last used with (its `config.yaml`). The exit status
is 1 where anything is wrong. Nothing is changed.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from scripts.advdenoise import configuration, verification
from scripts.advdenoise.errors import BadInput
from scripts.advdenoise.files import require_readable
from scripts.advdenoise.planning import listing
from scripts.advdenoise.terminal import program
from scripts.advdenoise.workflow import Flow


@program
def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    complaints = files = 0
    for complaint in _complaints(options):
        files += 1
        if complaint:
            complaints += 1
            print(complaint)
    print(f"{files} files, {complaints or 'nothing'} wrong.", file=sys.stderr)
    return 1 if complaints else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="*", type=Path, help="folders or files below results/")
    parser.add_argument("--configfile", nargs="+", default=[], help="as Snakemake's")
    parser.add_argument("--config", nargs="+", default=[], help="name=value over the files")
    parser.add_argument(
        "--origin", action="store_true", help="only what made a file, not whether it is damaged"
    )
    return parser


def _complaints(options) -> Iterator[str | None]:
    """What is wrong with each file, None where nothing is."""
    flow = None
    if options.configfile or options.config:
        raw = listing.merged_configuration(options.configfile, options.config)
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
