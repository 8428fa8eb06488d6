"""Which sources and packages a digest of code covers: edits of someone's own modules change it."""

import ast
import sys
from pathlib import Path

import pytest

from advdenoise.errors import BadInput
from advdenoise.graph import digests, packages
from advdenoise.io.digests import file_digest

LIBRARY = packages.SOURCES / "advdenoise"
OWN = "src/advdenoise/denoisers/own.py"
SOURCES = {
    OWN: """
        import beside_the_snakefile
        import grown, not_there_at_all
        from on_the_path import parts
        from on_the_path.deep import layer as first
        from plain_folder.module import anything
        from advdenoise.denoisers._blocks import block
        from advdenoise.io import read
        from . import _relative
        from ._package.inner import other

        def build():
            import edited_in_place
            importlib.import_module("by_name")
        """,
    "beside_the_snakefile.py": "import json\nimport torch\nimport second\n",
    "second.py": "VALUE = 1\n",
    "by_name.py": "VALUE = 1\n",
    "plain_folder/module.py": "anything = 1\n",
    "src/advdenoise/denoisers/_blocks.py": "block = 1\n",
    "src/advdenoise/denoisers/_relative.py": "from .. import noise\n",
    "src/advdenoise/noise.py": "VALUE = 1\n",
    "src/advdenoise/denoisers/_package/__init__.py": "VALUE = 1\n",
    "src/advdenoise/denoisers/_package/inner.py": "other = 1\n",
    "lib/on_the_path/__init__.py": "VALUE = 1\n",
    "lib/on_the_path/parts.py": "VALUE = 1\n",
    "lib/on_the_path/deep/__init__.py": "VALUE = 1\n",
    "lib/on_the_path/deep/layer.py": "VALUE = 1\n",
    "checkout/edited_in_place/__init__.py": "from edited_in_place import core\n",
    "checkout/edited_in_place/core.py": "VALUE = 1\n",
}
OTHERS = {
    "src/advdenoise/denoisers/unused.py": "VALUE = 1\n",
    "unused.py": "VALUE = 1\n",
    "json.py": "VALUE = 1\n",  # the standard library's comes first
    "lib/on_the_path/unused.py": "VALUE = 1\n",
    "src/advdenoise/io/read.py": "VALUE = 1\n",  # which decides no number
    "src/advdenoise/own.py": "VALUE = 1\n",
}


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def install(folder: Path, version: str) -> None:
    write(folder, "site-packages/grown/__init__.py", f"VERSION = {version!r}\n")
    write(folder, "site-packages/grown.dist-info/top_level.txt", "grown\n")
    metadata = f"Metadata-Version: 2.1\nName: grown\nVersion: {version}\n"
    write(folder, "site-packages/grown.dist-info/METADATA", metadata)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A repository with a module of someone's own and all that it imports."""
    for name, text in (SOURCES | OTHERS).items():
        write(
            tmp_path,
            name,
            "\n".join(line[8:] for line in text.split("\n")) if name == OWN else text,
        )
    write(tmp_path, "src/advdenoise/__init__.py", "")
    write(tmp_path, "src/advdenoise/denoisers/__init__.py", "")
    install(tmp_path, "1.0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    for module in (digests, packages):
        monkeypatch.setattr(module, "SOURCES", tmp_path / "src")
    monkeypatch.setattr(
        sys, "path", [f"{tmp_path}/site-packages", f"{tmp_path}/checkout", *sys.path]
    )
    return tmp_path


def digest(folder: Path) -> str:
    """As another process would have it."""
    for function in (*vars(digests).values(), *vars(packages).values()):
        if hasattr(function, "cache_clear"):
            function.cache_clear()
    return digests.code_digest(folder / OWN)


def test_each_source_counts_and_no_other(own):
    before = digest(own)
    for name in OTHERS:
        write(own, name, "VALUE = 2\n")
    assert digest(own) == before
    write(own, "src/advdenoise/__init__.py", '"""Words."""\n\n# A comment.\n')
    assert digest(own) == before
    known = {before}
    for name in SOURCES:
        with (own / name).open("a") as file:
            file.write("\n# A comment.\n")
        assert digest(own) in known, name
        with (own / name).open("a") as file:
            file.write("CHANGED = True\n")
        known.add(after := digest(own))
        assert after != before, name
        before = after
    assert len(known) == len(SOURCES) + 1


def test_of_an_installed_package_the_version_counts(own):
    before = digest(own)
    write(own, "site-packages/grown/__init__.py", "VERSION = 'patched'\n")
    assert digest(own) == before
    install(own, "1.1")
    assert digest(own) != before


def test_moving_everything_changes_nothing(own, tmp_path_factory, monkeypatch):
    before = digest(own)
    moved = tmp_path_factory.mktemp("elsewhere") / "moved"
    own.rename(moved)
    monkeypatch.chdir(moved)
    monkeypatch.setenv("PYTHONPATH", f"{moved}/lib")
    for module in (digests, packages):
        monkeypatch.setattr(module, "SOURCES", moved / "src")
    monkeypatch.setattr(sys, "path", [f"{moved}/site-packages", f"{moved}/checkout", *sys.path[2:]])
    assert digest(moved) == before


def test_what_this_project_imports_is_pinned():
    """So that its own digests hold no versions."""
    named = set()
    for path in LIBRARY.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                named |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                named.add(node.module.partition(".")[0])
    assert named - sys.stdlib_module_names - {"advdenoise"} <= digests.PINNED


def test_a_file_of_any_size_by_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(bytes(1 << 20))
    (tmp_path / "b").write_bytes(bytes(1 << 20))
    (tmp_path / "c").write_bytes(bytes(1 << 20)[1:] + b"\1")
    a, b, c = (file_digest(tmp_path / name) for name in "abc")
    assert a == b != c


@pytest.mark.parametrize("text", ["def broken(:\n", "a = '\0'\n", b"\xff\xfe"])
def test_a_module_that_is_no_python(own, text):
    place = own / "second.py"
    place.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadInput, match=f"^{place} cannot be read as Python .*; correct it$"):
        digest(own)


def test_what_a_module_of_a_package_imports_from_above_and_from_beside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "mine/__init__.py": "",
        "mine/common.py": "VALUE = 1\n",
        "mine/nets/__init__.py": "",
        "mine/nets/beside.py": "VALUE = 1\n",
        "mine/nets/net.py": "from ..common import VALUE\nimport beside\n",
    }.items():
        write(tmp_path, name, text)
    covered, _ = digests.closure((tmp_path / "mine" / "nets" / "net.py",))
    assert {root / source for source, root in covered} == {
        tmp_path / "mine" / name for name in ("nets/net.py", "nets/beside.py", "common.py")
    }
