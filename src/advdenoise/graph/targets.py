"""Targets that no rule makes: which of their names is not configured, and a near one."""

import difflib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from advdenoise.errors import BadInput, suggest
from advdenoise.graph import threats
from advdenoise.graph.flow import SEED, Flow
from advdenoise.graph.sections.attacks import check_threat

_WILDCARD = re.compile(r"\{(\w+)(?:,(?:[^{}]|\{[^{}]*\})*)?\}")
_MISSING = re.compile(r"No rule to produce (.+) \(if you use input")
_KINDS = {"dataset": "data set", "rows": "table"}


def explained(flow: Flow, workflow: Any) -> Callable[[Any], bool]:
    """A filter of Snakemake's messages: where no rule makes a target it says which name is wrong.

    `workflow` is Snakemake's: its rules are known once all are read.
    """

    def explain(record: Any) -> bool:
        missing = getattr(record, "exception", None) == "MissingRuleException"
        target = _MISSING.search(record.getMessage()) if missing else None
        if target:
            rules = [rule.name for rule in workflow.rules]
            outputs = [str(path) for rule in workflow.rules for path in rule.products()]
            try:
                check_target(flow, target[1], rules, outputs)
            except BadInput as mistake:
                record.msg, record.args = str(mistake), ()
        return True

    return explain


def check_target(flow: Flow, target: str, rules: list[str], outputs: list[str]) -> None:
    """Raise BadInput, with a near name, where a target is neither a rule nor what one makes.

    `outputs` are the rules' paths with wildcards in braces.
    """
    if "/" in target:
        _check_path(flow, target, outputs)
    elif target not in rules:
        raise BadInput(f"{target}: is no target; {suggest(target, rules)}")


def _check_path(flow: Flow, target: str, outputs: list[str]) -> None:
    folder = re.match(r"results/([^/]+)/", target)
    scale = flow.config["scale"]
    if folder and folder[1] != scale:
        raise BadInput(
            f"{target}: belongs to scale {folder[1]!r}, but the configuration is of {scale!r}; "
            "give the --configfile of that scale"
        )
    _check_left_out(flow, target)
    for output in outputs:
        parts = _WILDCARD.split(output)
        pattern, named = "", set()
        for place, part in enumerate(parts):
            if place % 2 == 0:
                pattern += re.escape(part)
            else:
                pattern += f"(?P={part})" if part in named else f"(?P<{part}>[^/]+)"
                named.add(part)
        if match := re.fullmatch(pattern, target):
            _check_names(flow, target, match.groupdict())
            return
    paths = [path for name in flow.config["experiments"] for path in flow.products(name)]
    near = difflib.get_close_matches(target, paths, n=1, cutoff=0.85)
    hint = f"did you mean {near[0]}?" if near else f"tables lie in {flow.root}/tables"
    raise BadInput(f"{target}: no rule makes that; {hint}")


def _check_left_out(flow: Flow, target: str) -> None:
    """A table or figure is none that the configuration takes out."""
    place = re.fullmatch(r".*/(tables|figures)/([^/]+)/([^/]+)\.\w+", target)
    if place is None:
        return
    part, experiment, name = place.groups()
    key = f"experiments.{experiment}.{part}.{name}"
    if key in flow.config.get("left_out", ()):
        there = sorted(flow.config["experiments"][experiment][part])  # type: ignore[literal-required]
        raise BadInput(
            f"{target}: {key} is left out at this scale, where it is null or reads nothing; say "
            f"there what it reads, or take one of {', '.join(there)}"
        )


def _check_names(flow: Flow, target: str, names: dict[str, str]) -> None:
    """The parts of a path are names of the configuration."""
    for kind, name in names.items():
        if kind == "threat":
            _check_threat(flow, target, name)
        elif kind == "seed":
            if not re.fullmatch(SEED, name):
                raise BadInput(f"{target}: {name!r} is no seed; write a whole number, such as 0")
        elif kind not in ("table", "rows") and name not in (configured := flow.names()[kind]):
            word = _KINDS.get(kind, kind)
            raise BadInput(f"{target}: there is no {word} {name!r}; {suggest(name, configured)}")
    for kind in {"table", "rows"} & set(names):
        flow.entries.table(names["experiment"], names[kind], key=target)
        if target not in flow.products(names["experiment"]):
            right = [p for p in flow.products(names["experiment"]) if Path(p).stem == names[kind]]
            raise BadInput(f"{target}: the table has another format; write {right[0]}")


def _check_threat(flow: Flow, target: str, name: str) -> None:
    try:
        threat = threats.parse(name)
    except ValueError:
        raise BadInput(f"{target}: {name!r} is no threat; write attack@classifier") from None
    check_threat(flow.config, name, target)
    if not threat.is_clean and threat.victim is None:
        raise BadInput(f"{target}: {name!r} names no victim; write {name}@classifier")
