"""Digests of sources and files: what a job has to be run again for."""

import ast
import functools
import hashlib
import json
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def text_digest(path: Path) -> str:
    """A digest of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def settings_digest(settings: dict) -> str:
    """A short digest of a job's settings, in whatever order they stand."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@functools.cache
def code_digest(*files: Path) -> str:
    """A digest of the given sources and of all that they import from this project.

    Over the syntax tree without docstrings, so that a comment or a docstring changes nothing.
    """
    closure: set[Path] = set()
    waiting = list(files)
    while waiting:
        path = waiting.pop()
        if path not in closure:
            closure.add(path)
            waiting += _imports(path)
    digest = hashlib.sha256()
    for path in sorted(closure):
        digest.update(str(path.relative_to(REPOSITORY)).encode() + b"\0")
        digest.update(_syntax(path).encode() + b"\0")
    return digest.hexdigest()[:16]


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@functools.cache
def _syntax(path: Path) -> str:
    """The syntax tree as text, docstrings and places left out."""
    tree = _tree(path)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


@functools.cache
def _imports(path: Path) -> list[Path]:
    """The project's own modules that a source imports, anywhere in it."""
    names = []
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    found = (REPOSITORY / f"{name.replace('.', '/')}.py" for name in names if "scripts" in name)
    return [candidate for candidate in found if candidate.is_file()]
