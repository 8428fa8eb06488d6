"""One table in three formats, each number with its interval and beside the published one."""

import math
from dataclasses import replace
from pathlib import Path

from scripts.advdenoise import store
from scripts.advdenoise.tables import _labels
from scripts.advdenoise.tables._cells import YES_NO, Cell, Cells

# Of other hardware, and of other images: shown beside the published ones and not compared.
_SECONDS, _SEGMENTS = "s", "segments"
_COUNT = "count"
_TIMED = ["Seconds are the median of all repetitions, with their range, on the machine at hand."]
PUBLISHED = Path(__file__).parents[3] / "config" / "published"


def published_lines(paper: str, table: str) -> list[dict]:
    """The paper's own numbers, a line each; none where it has no such table."""
    import csv

    path = PUBLISHED / f"{paper}_{table}.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    for line in lines:
        name = line.get("dataset", "")
        line["dataset"] = _labels.SPELLINGS.get(name, name)
    return lines


def published_numbers(paper: str, table: str) -> dict[tuple[str, str], dict]:
    """The paper's own numbers by printed row and column; empty where it has no such table."""
    return {(line["row"], line["column"]): line for line in published_lines(paper, table)}


def is_copied(line: dict) -> bool:
    """Whether a published number is another table's by mistake: shown, and not compared."""
    return "copied" in line.get("note", "")


def write(
    cells: list[Cell], paper: str, table: str, left_out: list[str], paths: dict[str, Path]
) -> None:
    """Write `csv` (one line per number), `markdown` and `latex` (as printed), each atomically.

    Published numbers stand beside ours; the difference is told where data set and unit are the
    same, the unit is no property of a machine or of single images, and the number is the table's
    own. Seconds stand in columns of
    their own, named so, in the CSV.
    """
    printed = cells.printed if isinstance(cells, Cells) else None
    if printed is None:
        printed = published_numbers(paper, table)
    own = cells.notes if isinstance(cells, Cells) else ()
    cells = _apart(cells)
    store.write_text(paths["csv"], _csv(cells, printed))
    notes = [
        "Each value with its 95 % confidence interval over images"
        + (" and, in parentheses, the published number." if printed else "."),
        *own,
        *(_TIMED if any(cell.unit == _SECONDS for cell in cells) else []),
        *(f"Left out: {reason}." for reason in left_out),
    ]
    head, body = _grid(cells, printed)
    markdown = [f"# {paper}: {table}", "", *tabulate(head, body, "github"), ""]
    store.write_text(paths["markdown"], "\n".join([*markdown, *_lines(notes)]) + "\n")
    latex = [*(f"% {note}" for note in notes), *tabulate(head, body, "latex_booktabs")]
    store.write_text(paths["latex"], "\n".join(latex) + "\n")


def _apart(cells: list[Cell]) -> list[Cell]:
    """Where several cells have one printed place, the first keeps it.

    The rows of the others say in what they differ: nothing that a paper does not print stands
    beside its numbers.
    """
    holders: dict[tuple[str, str], Cell] = {}
    told = []
    for cell in cells:
        holder = holders.setdefault((cell.row, cell.column), cell)
        if holder is not cell:
            others = [
                str(value)
                for name, value in cell.about.items()
                if value == value and value != holder.about.get(name)  # NaN is not equal to itself
            ]
            cell = replace(cell, row=f"{cell.row} ({', '.join(others)})")
        told.append(cell)
    return told


def _lines(notes: list[str]) -> list[str]:
    return [line for note in notes for line in (note, "")][:-1]


def _csv(cells: list[Cell], printed: dict) -> str:
    import csv
    import io

    names = list(dict.fromkeys(name for cell in cells for name in cell.about))
    measured = ["value", "low", "high", "n", "spread"]
    compared = ["published", "published_unit", "published_dataset", "difference"]
    timed = [f"{name}_seconds" for name in ("value", "low", "high", "spread")]
    if not any(cell.unit == _SECONDS for cell in cells):
        timed = []
    head = ["row", "column", "metric", "unit", *measured, *timed, *compared, *names]
    text = io.StringIO()
    writer = csv.DictWriter(text, head, restval="", lineterminator="\n")
    writer.writeheader()
    for cell in cells:
        found = printed.get((cell.row, cell.column), {})
        line = {"row": cell.row, "column": cell.column, "metric": cell.metric, "unit": cell.unit}
        line |= _numbers(cell)
        line |= {name: found.get(name.removeprefix("published_"), "") for name in compared[1:3]}
        line["published"] = found.get("value", "")
        if _is_comparable(cell, found):
            line["difference"] = number(cell.estimate.value - float(found["value"]))
        writer.writerow(line | {name: _about(cell, name) for name in cell.about})
    return text.getvalue()


def _numbers(cell: Cell) -> dict:
    end = "_seconds" if cell.unit == _SECONDS else ""
    numbers = {name: getattr(cell.estimate, name) for name in ("value", "low", "high")}
    numbers["spread"] = cell.spread
    told = {f"{name}{end}": number(value) for name, value in numbers.items()}
    if cell.text:
        told["value"] = cell.text
    return told | {"n": cell.estimate.n}


def _grid(cells: list[Cell], printed: dict) -> tuple[list[str], list[list[str]]]:
    """Rows and columns in the paper's order, then what it does not print."""
    rows = _ordered([cell.row for cell in cells], [row for row, _ in printed])
    columns = _ordered([cell.column for cell in cells], [column for _, column in printed])
    texts: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        found = printed.get((cell.row, cell.column), {})
        texts.setdefault((cell.row, cell.column), []).append(_text(cell, found))
    body = [[row, *("; ".join(texts.get((row, c), [])) for c in columns)] for row in rows]
    return ["", *columns], body


def _ordered(found: list[str], printed: list[str]) -> list[str]:
    first = [label for label in dict.fromkeys(printed) if label in found]
    return list(dict.fromkeys([*first, *found]))


def _text(cell: Cell, found: dict) -> str:
    estimate = cell.estimate
    shown = cell.text or _short(estimate.value, cell.unit)
    if not math.isnan(estimate.low):
        low, high = _short(estimate.low, cell.unit), _short(estimate.high, cell.unit)
        shown += f" [{low}, {high}]"
    return f"{shown} ({found['raw'].strip()})" if found else shown


def tabulate(head: list[str], body: list[list[str]], style: str) -> list[str]:
    """The lines of a table in one of tabulate's styles."""
    import tabulate

    shown = tabulate.tabulate(body, headers=head, tablefmt=style, disable_numparse=True)
    return shown.split("\n")


def _short(value: float, unit: str) -> str:
    if math.isnan(value):
        return "undefined"
    if unit == YES_NO:
        return "yes" if value else "no"
    if unit == "%":
        return f"{value:.1f}"
    if unit == "byte":
        return _bytes(value)
    if unit in (_SECONDS, _SEGMENTS, _COUNT):
        return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
    return f"{value:.3g}" if abs(value) < 0.1 else f"{value:.3f}"


def _bytes(value: float) -> str:
    """In decimal units of three digits, such as 9.83 kB."""
    power = min(int(math.log10(value)) // 3, 3) if value >= 1 else 0
    return f"{value / 1000**power:.3g} {('B', 'kB', 'MB', 'GB')[power]}"


def _about(cell: Cell, name: str):
    value = cell.about.get(name, "")
    return number(value) if isinstance(value, float) else value


def number(value: float) -> str:
    """A number in ten digits; nothing where it is undefined."""
    return "" if math.isnan(value) else f"{value:.10g}"


def _is_comparable(cell: Cell, found: dict) -> bool:
    """Whether the published number is of the same data set and unit; others are just shown."""
    dataset = _labels.DATASETS.get(cell.about.get("dataset"))
    is_number = not cell.text and cell.unit not in (_SECONDS, _SEGMENTS)
    comparable = is_number and not is_copied(found)
    return comparable and bool(found) and (found["dataset"], found["unit"]) == (dataset, cell.unit)
