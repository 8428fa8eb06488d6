"""A source as its syntax tree: what it imports, and what of it decides results."""

import ast
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from advdenoise.graph.packages import parsed

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_IDLE = (ast.Pass, ast.Expr)


class Source(NamedTuple):
    """A source file, read once.

    `digest` is over the syntax tree without comments, docstrings and line numbers. `imports` are
    the modules that it names anywhere, each with the number of folders up that a relative import
    begins at (0 for an absolute one); of `from a import b` both `a` and `a.b`, for `b` may be a
    module. `is_empty` says that it does nothing, as most `__init__.py` do.
    """

    digest: str
    imports: tuple[tuple[str, int], ...]
    is_empty: bool


@functools.cache
def source_of(path: Path) -> Source:
    """Read a source file. Raises BadInput where it is not Python."""
    tree = parsed(path)
    parts: list[str] = []
    imports: list[tuple[str, int]] = []
    _write(tree, parts, imports)
    digest = hashlib.sha256("".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
    idle = all(isinstance(node, _IDLE) for node in tree.body)
    is_empty = idle and not any(isinstance(node, ast.Call) for node in ast.walk(tree))
    return Source(digest, tuple(imports), is_empty)


def _write(node: ast.AST, parts: list[str], imports: list[tuple[str, int]]) -> None:
    """Append a node as text to `parts`, and the modules that it names to `imports`.

    Fields without a value are left out, so that versions of Python that add one give the same text.
    So is the context of a name (load, store), which follows from where it stands.
    """
    kind = type(node)
    if kind in _REFERRING:
        _REFERRING[kind](node, imports)
    parts.append(f"{kind.__name__}(")
    for name in kind._fields:
        value = getattr(node, name, None)
        if value is None or name == "ctx":
            continue
        if isinstance(value, list):
            if not value:
                continue
            if name == "body" and kind in _DOCUMENTED:
                value = _without_docstring(value)
            parts.append(f"{name}=[")
            for item in value:
                if isinstance(item, ast.AST):
                    _write(item, parts, imports)
                else:
                    parts.append(f"{item!r},")
            parts.append("]")
        elif isinstance(value, ast.AST):
            parts.append(f"{name}=")
            _write(value, parts, imports)
        else:
            parts.append(f"{name}={value!r},")
    parts.append(")")


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    if not isinstance(first, ast.Expr) or not isinstance(first.value, ast.Constant):
        return body
    return (body[1:] or [ast.Pass()]) if isinstance(first.value.value, str) else body


def _add_imported(node: ast.Import, imports: list[tuple[str, int]]) -> None:
    imports += [(alias.name, 0) for alias in node.names]


def _add_imported_from(node: ast.ImportFrom, imports: list[tuple[str, int]]) -> None:
    module = [node.module] if node.module else []
    imports += [(name, node.level) for name in module]
    imports += [(".".join([*module, alias.name]), node.level) for alias in node.names]


def _add_imported_by_call(node: ast.Call, imports: list[tuple[str, int]]) -> None:
    """Append the module that a call of importlib's `import_module("name")` imports."""
    function = node.func
    called = getattr(function, "attr", getattr(function, "id", ""))
    if called.endswith("import_module") and node.args:
        first = node.args[0]
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            imports.append((first.value, 0))


_REFERRING: dict[type, Callable[[Any, list[tuple[str, int]]], None]] = {
    ast.Import: _add_imported,
    ast.ImportFrom: _add_imported_from,
    ast.Call: _add_imported_by_call,
}
