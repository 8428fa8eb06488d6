"""A table as LaTeX that fits the text of a page, with caption, label and notes.

It needs the packages booktabs and graphicx.
"""

import math
import re
import textwrap

_NEEDS = [r"% \usepackage{booktabs}", r"% \usepackage{graphicx}"]
_LINE = 124  # characters of a row: what is wider stands in several parts below each other
_GAP = 3  # between columns, in characters
_LONG, _SHORT = 34, 24  # a longer cell is broken into lines, of fewer characters where that helps
_LINES = 36  # of one float
_EM = 0.5  # width of a character
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def latex(
    head: list[str], body: list[list[str]], caption: str, label: str, notes: list[str]
) -> list[str]:
    """The lines of one or more floats, each with the first column, the names of the rows."""
    long = _SHORT if _wide(head, body, _LONG) and not _wide(head, body, _SHORT) else _LONG
    parts = [
        _tabular([head[c] for c in columns], [[row[c] for c in columns] for row in rows], long)
        for rows in _pages(body, long)
        for columns in _blocks(head, body, long)
    ]
    floats = _floats(parts)
    lines = [*_NEEDS]
    for number, some in enumerate(floats, start=1):
        part = f", part {number} of {len(floats)}" if len(floats) > 1 else ""
        lines += [r"\begin{table}[htbp]", r"\centering"]
        lines += [rf"\caption{{{escaped(caption)}{part}.}}"]
        lines += [rf"\label{{tab:{label}{f'-{number}' if number > 1 else ''}}}"]
        for tabular, _ in some:
            lines += [
                r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
                *tabular,
                r"}\par\medskip",
            ]
        if number == len(floats):
            lines += [rf"{{\footnotesize\raggedright {escaped(note)}\par}}" for note in notes]
        lines += [r"\end{table}"]
    return lines


def escaped(text: str) -> str:
    """A text with LaTeX's special characters escaped."""
    return re.sub(r"[\\~^<>|&%$#_{}]", lambda match: _ESCAPES[match[0]], text)


def _widths(head: list[str], body: list[list[str]], long: int) -> list[int]:
    """Of each column in characters, as it is printed: long cells and heads in several lines."""
    cells = [min(max(map(len, column), default=0), long) for column in zip(*body, strict=True)]
    words = [max(map(len, name.split()), default=0) for name in head]
    return [max(pair) for pair in zip(cells, words, strict=True)]


def _wide(head: list[str], body: list[list[str]], long: int) -> bool:
    """Whether a table does not fit the text side by side."""
    widths = _widths(head, body, long)
    return sum(widths) + _GAP * (len(widths) - 1) > _LINE


def _height(row: list[str], long: int) -> int:
    return max(len(textwrap.wrap(cell, long)) for cell in row) or 1


def _pages(body: list[list[str]], long: int) -> list[list[list[str]]]:
    """The rows, as many together as one float holds."""
    pages: list[list[list[str]]] = [[]]
    used = 0
    for row in body:
        height = _height(row, long)
        if pages[-1] and used + height > _LINES - 6:  # the rules and the head
            pages.append([])
            used = 0
        pages[-1].append(row)
        used += height
    return pages


def _blocks(head: list[str], body: list[list[str]], long: int) -> list[list[int]]:
    """Numbers of the columns that stand side by side, the first in every block.

    There are as few blocks as can be, of much the same width.
    """
    first, *others = _widths(head, body, long)
    total = sum(others) + _GAP * len(others)
    count = max(1, math.ceil(total / max(_LINE - first, 1)))
    blocks, used = [[0]], 0
    for number, width in enumerate(others, start=1):
        full = first + used + _GAP + width > _LINE or used >= total / count
        if len(blocks[-1]) > 1 and full:
            blocks.append([0])
            used = 0
        blocks[-1].append(number)
        used += _GAP + width
    return blocks


def _tabular(head: list[str], body: list[list[str]], long: int) -> tuple[list[str], int]:
    """The lines of a tabular and how many lines it takes in print."""
    widths = _widths(head, body, long)
    wraps = [any(len(cell) > long for cell in column) for column in zip(*body, strict=True)]
    spec = [f"p{{{_EM * long:g}em}}" if wrap else "l" for wrap in wraps]
    heads = [textwrap.wrap(name, max(width, 1)) for name, width in zip(head, widths, strict=True)]
    lines = [rf"\begin{{tabular}}{{{''.join(spec)}}}", r"\toprule"]
    lines += [" & ".join(map(_stacked, heads)) + r" \\", r"\midrule"]
    for row in body:
        cells = [
            rf"\raggedright {escaped(cell)}" if wrap else escaped(cell)
            for cell, wrap in zip(row, wraps, strict=True)
        ]
        lines.append(_guarded(" & ".join(cells)) + r" \tabularnewline")
    height = sum(_height(row, long) for row in body) + max(map(len, heads)) + 3
    return [*lines, r"\bottomrule", r"\end{tabular}"], height


def _stacked(lines: list[str]) -> str:
    if len(lines) < 2:
        return escaped("".join(lines))
    return r"\shortstack[l]{" + r"\\".join(_guarded(escaped(line)) for line in lines) + "}"


def _guarded(line: str) -> str:
    """A line whose first bracket is not taken for an option of the one before."""
    return "{}" + line if line.startswith("[") else line


def _floats(parts: list[tuple[list[str], int]]) -> list[list[tuple[list[str], int]]]:
    """Tabulars in their order, as many together as one float holds."""
    floats: list[list[tuple[list[str], int]]] = [[]]
    used = 0
    for tabular, height in parts:
        if floats[-1] and used + height > _LINES:
            floats.append([])
            used = 0
        floats[-1].append((tabular, height))
        used += height
    return floats
