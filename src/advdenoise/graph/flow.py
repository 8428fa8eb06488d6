"""The graph: which files a job reads, which settings it gets, which code it depends on.

Rules ask a `Flow` for these. It has the stages of `declarations/` and the entries of a
configuration, and names neither.
"""

import atexit
import contextlib
import gc
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from advdenoise.errors import BadInput, suggest
from advdenoise.graph import choices, components
from advdenoise.graph.digests import code_digest
from advdenoise.graph.jobs import Entries, Job
from advdenoise.graph.sections.common import KIND_OF, point_key
from advdenoise.graph.sections.datasets import BUILT_IN_SPLITS, check_data_root
from advdenoise.graph.sources import LIBRARY
from advdenoise.graph.stages import module_of, rule_of, stages
from advdenoise.graph.threats import CLEAN
from advdenoise.io.digests import file_digest, settings_digest
from advdenoise.ops.files import why_not_readable
from advdenoise.ops.system import refusal_message

if TYPE_CHECKING:
    from advdenoise.graph.configuration import Configuration

TABLE_FORMATS = ("csv", "md", "tex")
ROWS_FORMATS = ("parquet",)
SEED = "(0|[1-9][0-9]{0,9})"
Wildcards = Mapping[str, str]
T = TypeVar("T")


def prepare_environment() -> None:
    """Let `python` in a rule's shell mean this interpreter, with this library.

    The Snakefile is parsed again in every job, so this holds on a cluster's node as well.
    """
    for variable, folder in (("PATH", Path(sys.executable).parent), ("PYTHONPATH", LIBRARY.parent)):
        parts = os.environ.get(variable, "").split(os.pathsep)
        others = [part for part in parts if part not in ("", str(folder))]
        os.environ[variable] = os.pathsep.join([str(folder), *others])
    # Memory that a pass over a batch frees is needed by the next one: giving it back to the system
    # each time cost a tenth of a job's CPU time.
    for variable in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        os.environ.setdefault(variable, str(2**30))


def collect_garbage_less_often() -> None:
    """Save a process that builds a graph two fifths of its time.

    A graph of a thousand jobs is millions of objects that stay. Python looks for garbage among them
    after every 700 new ones, and once more when it exits.
    """
    gc.set_threshold(100_000, 10, 10)
    atexit.register(gc.freeze)


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """End Snakemake with the sentence of a `BadInput`, or of what the system refuses, and no more.

    It would put places in its own files and in ours around any other exception's message.
    """
    try:
        yield
    except BadInput as mistake:
        raise SystemExit(str(mistake)) from None
    except OSError as error:
        if sentence := refusal_message(error):
            raise SystemExit(sentence) from None
        raise


def for_rules(function: Callable[[Wildcards], T]) -> Callable[[Wildcards], T]:
    """Make a function of wildcards end Snakemake with one sentence where it fails.

    Snakemake asks for the signature of such a function several times in each job; working it out
    through the wrapper took a tenth of a dry run.
    """
    wrapped = one_sentence()(function)
    wrapped.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return wrapped


class Flow:
    """The graph of one configuration in effect."""

    def __init__(self, config: "Configuration"):
        self.config = config
        self.entries = Entries(config)
        self.root = self.entries.root
        self._jobs: dict[tuple[object, ...], Job] = {}
        self._digests: dict[str, str] = {}

    # ------------------------------------------------------------ what rules ask for

    def names(self) -> dict[str, set[str]]:
        """The configured names that a wildcard of the rules stands for."""
        config, entries = self.config, cast("Mapping[str, Any]", self.config)
        own = [split for entry in config["datasets"].values() for split in entry["splits"]]
        tables = [pair for e in config["experiments"].values() for pair in e["tables"].items()]
        return {
            **{wildcard: set(entries[kind]) for wildcard, kind in KIND_OF.items()},
            "split": {*BUILT_IN_SPLITS, *own},
            "entry": set(choices.choosing(config)),
            "experiment": set(config["experiments"]),
            "table": {name for name, entry in tables if not _gives_rows(entry)},
            "rows": {name for name, entry in tables if _gives_rows(entry)},
        }

    def constraints(self) -> dict[str, str]:
        """Wildcard constraints: the configured names and nothing else."""
        name = {wildcard: _either(names) for wildcard, names in self.names().items()}
        attack = _either(self.config["attacks"])
        threat = f"{attack}@{name['classifier']}(\\+{name['purifier']})?"
        return {"seed": SEED, "threat": f"({CLEAN}|{threat})", **name}

    def files(self, rule: str, name: str) -> Callable[[Wildcards], str | Sequence[str]]:
        """The input function of one of a rule's inputs; no files where a job has no such input."""
        return for_rules(lambda wildcards: self.job(rule, wildcards).inputs.get(name, []))

    def named_files(self, rule: str) -> Callable[[Wildcards], list[str]]:
        """The input function of the files that an entry or its settings name.

        They count by their contents, which are in `code`, and not by their age. Raises BadInput for
        one that is not there.
        """

        def files(wildcards: Wildcards) -> list[str]:
            from snakemake.io import ancient, local

            named = self._named_files(rule, wildcards)
            for path, key in named.items():
                if reason := why_not_readable(Path(path)):
                    raise BadInput(f"{key}: {path} {reason}; give the path of a file")
            # Local, so that a module's prefix is not put before them.
            paths: list[str] = local(ancient([*named])) if named else []
            return paths

        return for_rules(files)

    def settings(self, rule: str, **fixed: str) -> Callable[[Wildcards], str]:
        """The rule's settings as sorted JSON: one parameter, so that any change reruns the job.

        `fixed` are names that the rule holds itself, in place of wildcards.
        """

        def settings(wildcards: Wildcards) -> str:
            return json.dumps(self.whole_settings(rule, fixed or wildcards), sort_keys=True)

        return for_rules(settings)

    def code(self, rule: str, **fixed: str) -> Callable[[Wildcards], str]:
        """The digest of what decides a job's numbers: the stage's format and code, its components.

        And the contents of the files that its entries name.
        """

        def digest(wildcards: Wildcards) -> str:
            names, stage = fixed or wildcards, stages()[rule]
            job = self.job(rule, names)
            module = module_of(job.module) if job.module else stage.module
            files = {components.module_file(kind, entry) for kind, entry in job.components}
            code = f"{stage.format}-{code_digest(module, *sorted({*files, *job.sources}))}"
            named = [
                path for path in self._named_files(rule, names) if not why_not_readable(Path(path))
            ]
            return "-".join([code, *(file_digest(Path(path)) for path in named)])

        return for_rules(digest)

    # ------------------------------------------------------------ jobs

    def job(self, rule: str, wildcards: Wildcards) -> Job:
        """What a job of `rule` needs for these wildcards."""
        names = dict(wildcards.items())
        key = (rule, *sorted(names.items()))
        if key not in self._jobs:
            self._jobs[key] = stages()[rule].job(self.entries, **names)
        return self._jobs[key]

    def whole_settings(self, rule: str, wildcards: Wildcards) -> dict[str, Any]:
        """A job's settings with its rule and, by name, the digests of what makes its inputs.

        A job compares them with what its inputs say of themselves, so that a file of another
        seed, split or entry is refused. They change only where an input is made anew.
        """
        job = self.job(rule, wildcards)
        digests = {
            name: [self.digest(path) for path in ([files] if isinstance(files, str) else files)]
            for name, files in job.inputs.items()
        }
        return job.settings | {"rule": rule, "input_digests": digests}

    def digest(self, path: str) -> str:
        """The digest of the whole settings of a file's job; empty where no job makes the file."""
        if path not in self._digests:
            maker = rule_of(path.removeprefix(f"{self.root}/"))
            self._digests[path] = settings_digest(self.whole_settings(*maker)) if maker else ""
        return self._digests[path]

    def _named_files(self, rule: str, wildcards: Wildcards) -> dict[str, str]:
        """The files that entries of this job and their settings name, and the key of each.

        A network's first weights are read by the job that trains it from them, and by no other.
        """
        job = self.job(rule, wildcards)
        files: dict[str, str] = {}
        trained = {"train_classifier": "classifiers", "train_denoiser": "denoisers"}.get(rule)
        for kind, entry in job.components:
            if kind == trained and "weights" in entry:
                files[entry["weights"]] = f"{self._key(kind, entry)}.weights"
            if kind in ("classifiers", "denoisers") and (kind != trained or "start" in job.inputs):
                files_of = components.named_files(
                    kind, components.without_first_weights(kind, entry)
                )
            else:
                files_of = components.named_files(kind, entry)
            for setting, paths in files_of.items():
                key = f"{self._key(kind, entry)}.settings.{setting}"
                files |= dict.fromkeys(paths, key)
        return files

    def _key(self, kind: str, entry: Mapping[str, Any]) -> str:
        """The place of an entry or of one of its points in the configuration.

        Kind and function of what has no place of its own, such as a training.
        """
        entries: Any = self.config.get(kind, {})
        for name, configured in entries.items():
            if configured is entry or configured.get("name", name) == entry.get("name"):
                return f"{kind}.{name}"
            points = configured.get("points", {})
            for point, settings in points.items():
                if settings is entry:
                    return point_key(f"{kind}.{name}", points, point)
        return f"{kind}: {entry['function']}"

    # ------------------------------------------------------------ experiments

    def targets(self, experiment: str) -> list[str]:
        """The tables and figures of one experiment, without those that are made on demand.

        Raises BadInput where there is no such experiment.
        """
        if experiment not in self.config["experiments"]:
            raise BadInput(
                f"experiments: {experiment!r} is not configured; "
                f"{suggest(experiment, self.config['experiments'])}"
            )
        tables = self.config["experiments"][experiment]["tables"]
        paths = self._tables(experiment)
        always = [path for name, path in paths if not tables[name].get("on_demand")]
        return always + list(self.figures(experiment).values())

    def products(self, experiment: str) -> list[str]:
        """All tables and figures of one experiment, also those that are made on demand."""
        paths = [path for _, path in self._tables(experiment)]
        return paths + list(self.figures(experiment).values())

    def _tables(self, experiment: str) -> list[tuple[str, str]]:
        """The files of an experiment's tables, each with the table's name."""
        return [
            (table, f"{self.root}/tables/{experiment}/{table}.{suffix}")
            for table, entry in self.config["experiments"][experiment]["tables"].items()
            for suffix in (ROWS_FORMATS if _gives_rows(entry) else TABLE_FORMATS)
        ]

    def figures(self, experiment: str) -> dict[str, str]:
        """The figures of one experiment: their files by name."""
        names = self.config["experiments"][experiment]["figures"]
        return {name: f"{self.root}/figures/{experiment}/{name}.svg" for name in names}

    def experiments_with_figures(self) -> list[str]:
        return [name for name, entry in self.config["experiments"].items() if entry["figures"]]

    def start(self, jobs: Iterable[Any]) -> None:
        """Check that the data of Snakemake's `jobs` are there, and write the configuration.

        Raises BadInput.
        """
        import yaml

        datasets = {job.wildcards.dataset for job in jobs if job.rule.name == "images"}
        check_data_root(self.config, datasets)
        path = Path(self.root) / "config.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        config = {key: value for key, value in self.config.items() if key != "left_out"}
        part.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        part.replace(path)


def _either(names: Collection[str]) -> str:
    """A pattern for one of the names; one that matches nothing where there are none."""
    return f"({'|'.join(map(re.escape, sorted(names)))})" if names else "(?!)"


def _gives_rows(entry: Mapping[str, Any]) -> bool:
    """Whether a table's function gives rows for programs, and not cells."""
    return components.signature_of("tables", entry).returns == "Rows"
