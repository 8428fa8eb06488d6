"""Write a table as CSV, Markdown and LaTeX, with intervals and published numbers."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from advdenoise.io.files import write_text
from advdenoise.reporting import labels
from advdenoise.reporting.cells import YES_NO, Cell, Cells
from advdenoise.reporting.latex import latex

# Of other hardware, and of other images: shown beside the published ones and not compared.
_SECONDS, _SEGMENTS = "s", "segments"
_DECIMALS = {"%": 1, "fraction": 3, "AUC": 3}  # of other units as many as a column needs
_FLAGGED = (
    "A number that is marked warn, suspect or error has a reason to be doubted, a suspect one is "
    "an upper bound: the column `flags` of the CSV names the reasons."
)
_TIMED = ["Seconds are the median of all repetitions, with their range, on the machine at hand."]


def is_copied(line: dict) -> bool:
    """Whether a published number was copied from another table by mistake: shown, not compared."""
    return "copied" in line.get("note", "")


def write(
    cells: list[Cell],
    paper: str,
    table: str,
    left_out: list[str],
    paths: dict[str, Path],
    title: str = "",
    warnings: Sequence[str] = (),
    published: dict[tuple[str, str], dict] | None = None,
) -> None:
    """Write `csv` (one line per number), `markdown` and `latex` (as printed), each atomically.

    `warnings` are sentences about the results. `published` are the lines of the paper's table by
    row and column, for cells without `printed` ones.

    Published numbers stand beside ours, with the difference if data set and unit are the same, the
    unit does not depend on the machine or on single images, and the number is not copied. Seconds
    have their own columns in the CSV. `title` is by default the paper and the table's name.
    """
    printed = cells.printed if isinstance(cells, Cells) else None
    if printed is None:
        printed = published or {}
    own = cells.notes if isinstance(cells, Cells) else ()
    cells = _with_unique_rows(cells)
    write_text(paths["csv"], _csv(cells, printed))
    notes = [
        "Each value with its 95 % confidence interval over images"
        + (" and, in parentheses, the published number as printed." if printed else "."),
        *_of_other_images(cells, printed),
        *own,
        *warnings,
        *([_FLAGGED] if any(cell.flags for cell in cells) else []),
        *(_TIMED if any(cell.unit == _SECONDS for cell in cells) else []),
        *(f"Left out: {reason}." for reason in left_out),
    ]
    head, body = _grid(cells, printed)
    write_shown(head, body, title or f"{paper}: {table}", f"{paper}-{table}", notes, paths)


def write_shown(
    head: list[str],
    body: list[list[str]],
    title: str,
    label: str,
    notes: list[str],
    paths: dict[str, Path],
) -> None:
    """Write `markdown` and `latex` of a table of texts with its title above and notes below."""
    markdown = [f"# {title}", "", *tabulate(head, body)]
    markdown += [line for note in notes for line in ("", note)]
    write_text(paths["markdown"], "\n".join(markdown) + "\n")
    write_text(paths["latex"], "\n".join(latex(head, body, title, label, notes)) + "\n")


def _of_other_images(cells: list[Cell], printed: dict) -> list[str]:
    """A sentence if published numbers and ours are of different data sets."""
    pairs = [
        (printed[cell.row, cell.column]["dataset"], labels.dataset(cell.about.get("dataset", "")))
        for cell in cells
        if (cell.row, cell.column) in printed
    ]
    pairs = [pair for pair in pairs if all(pair)]
    if all(theirs == ours for theirs, ours in pairs):
        return []
    both = (", ".join(dict.fromkeys(names)) for names in zip(*pairs, strict=True))
    return ["The published numbers are of {}, ours of {}.".format(*both)]


def _with_unique_rows(cells: list[Cell]) -> list[Cell]:
    """Of several cells with one row and column the first keeps them.

    The rows of the others get the names in which they differ, so that only what a paper prints
    stands beside its numbers.
    """
    firsts: dict[tuple[str, str], Cell] = {}
    unique = []
    for cell in cells:
        first = firsts.setdefault((cell.row, cell.column), cell)
        if first is not cell:
            others = [
                str(value)
                for name, value in cell.about.items()
                if value == value and value != first.about.get(name)  # NaN is not equal to itself
            ]
            cell = replace(cell, row=f"{cell.row} ({', '.join(others)})")
        unique.append(cell)
    return unique


def _csv(cells: list[Cell], printed: dict) -> str:
    import csv
    import io

    names = list(dict.fromkeys(name for cell in cells for name in cell.about))
    measured = ["value", "low", "high", "n", "spread"]
    compared = ["published", "published_unit", "published_dataset", "difference"]
    timed = [f"{name}_seconds" for name in ("value", "low", "high", "spread")]
    if not any(cell.unit == _SECONDS for cell in cells):
        timed = []
    flagged = ["flags"] if any(cell.flags for cell in cells) else []
    head = ["row", "column", "metric", "unit", *measured, *timed, *compared, *flagged, *names]
    text = io.StringIO()
    writer = csv.DictWriter(text, head, restval="", lineterminator="\n")
    writer.writeheader()
    for cell in cells:
        theirs = printed.get((cell.row, cell.column), {})
        line = {"row": cell.row, "column": cell.column, "metric": cell.metric, "unit": cell.unit}
        line |= _numbers(cell) | dict.fromkeys(flagged, cell.flags)
        line |= {name: theirs.get(name.removeprefix("published_"), "") for name in compared[1:3]}
        line["published"] = theirs.get("value", "")
        if _is_comparable(cell, theirs):
            line["difference"] = number(cell.estimate.value - float(theirs["value"]))
        writer.writerow(line | {name: _about(cell, name) for name in cell.about})
    return text.getvalue()


def _numbers(cell: Cell) -> dict:
    end = "_seconds" if cell.unit == _SECONDS else ""
    numbers = {name: getattr(cell.estimate, name) for name in ("value", "low", "high")}
    numbers["spread"] = cell.spread
    texts = {f"{name}{end}": number(value) for name, value in numbers.items()}
    if cell.text:
        texts["value"] = cell.text
    return texts | {"n": cell.estimate.n}


def _grid(cells: list[Cell], printed: dict) -> tuple[list[str], list[list[str]]]:
    """Rows and columns in the paper's order, then those that it does not print."""
    rows = _ordered([cell.row for cell in cells], [row for row, _ in printed])
    columns = _ordered([cell.column for cell in cells], [column for _, column in printed])
    decimals = _decimals(cells)
    texts: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        theirs = printed.get((cell.row, cell.column), {})
        text = _text(cell, theirs, decimals[cell.column, cell.unit])
        texts.setdefault((cell.row, cell.column), []).append(text)
    body = [[row, *("; ".join(texts.get((row, c), [])) for c in columns)] for row in rows]
    return ["", *columns], body


def _decimals(cells: list[Cell]) -> dict[tuple[str, str], int]:
    """How many decimals the numbers of a column in one unit have: all the same."""
    values: dict[tuple[str, str], list[float]] = {}
    for cell in cells:
        values.setdefault((cell.column, cell.unit), []).append(abs(cell.estimate.value))
    return {key: _DECIMALS.get(key[1], _digits(some)) for key, some in values.items()}


def _digits(values: list[float]) -> int:
    """Decimals that leave the largest three digits and the smallest two, but no more than six."""
    values = [value for value in values if value and math.isfinite(value)]
    if not values or all(value == round(value) for value in values):
        return 0
    of_largest, of_smallest = (math.floor(math.log10(end(values))) for end in (max, min))
    return min(max(2 - of_largest, min(1 - of_smallest, 4 - of_largest), 0), 6)


def _ordered(names: list[str], printed: list[str]) -> list[str]:
    first = [name for name in dict.fromkeys(printed) if name in names]
    return list(dict.fromkeys([*first, *names]))


def _text(cell: Cell, theirs: dict, decimals: int) -> str:
    estimate = cell.estimate
    shown = cell.text or _short(estimate.value, cell.unit, decimals)
    if not math.isnan(estimate.low):
        ends = (_short(end, cell.unit, decimals) for end in (estimate.low, estimate.high))
        shown += f" [{', '.join(ends)}]"
    if theirs:
        shown += f" ({_as_printed(theirs['raw'])})"
    severity = cell.flags.partition(":")[0]  # the worst stands first
    return f"{shown}, {severity}" if severity else shown


def _as_printed(raw: str) -> str:
    """A published number as the paper has it, with a digit on both sides of its point."""
    return re.sub(r"^\.(?=\d)", "0.", re.sub(r"(?<=\d)\.$", ".0", raw.strip()))


def tabulate(head: list[str], body: list[list[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    import tabulate

    shown = tabulate.tabulate(body, headers=head, tablefmt="github", disable_numparse=True)
    return shown.split("\n")


def _short(value: float, unit: str, decimals: int) -> str:
    if not math.isfinite(value):
        return "undefined"
    if unit == YES_NO:
        return "yes" if value else "no"
    if unit == "byte":
        return _bytes(value)
    return f"{value:.{decimals}f}"


def _bytes(value: float) -> str:
    """In decimal units of three digits, such as 9.83 kB."""
    power = min(int(math.log10(value)) // 3, 3) if value >= 1 else 0
    return f"{value / 1000**power:.3g} {('B', 'kB', 'MB', 'GB')[power]}"


def _about(cell: Cell, name: str):
    value = cell.about.get(name, "")
    return number(value) if isinstance(value, float) else value


def number(value: float) -> str:
    """A number in ten digits; nothing where it is undefined."""
    return f"{value:.10g}" if math.isfinite(value) else ""


def _is_comparable(cell: Cell, theirs: dict) -> bool:
    """Whether the published number is of the same data set and unit; others are just shown."""
    dataset = labels.DATASETS.get(cell.about.get("dataset", ""))
    is_number = not cell.text and cell.unit not in (_SECONDS, _SEGMENTS)
    if not theirs or not is_number or is_copied(theirs):
        return False
    return (theirs["dataset"], theirs["unit"]) == (dataset, cell.unit)
