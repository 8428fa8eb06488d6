"""Figures of fabricated results, drawn by the stage and read as SVG."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from advdenoise.reporting import palette, sheet
from advdenoise.stages import figures

SVG = "{http://www.w3.org/2000/svg}"
TITLE = "{http://purl.org/dc/elements/1.1/}title"


def drawn(results, paper: str, output: Path, **changes) -> dict[str, ElementTree.Element]:
    """The figures of a paper by name, as the stage draws them from what the rule hands over."""
    settings = json.loads(results.flow.settings("figures", experiment=paper)(None))
    job = results.flow.job("figures", {"experiment": paper})
    files = [results.make(file) for file in job.inputs["files"]]
    settings |= changes
    names = [name for name in results.flow.figures(paper) if name in settings["figures"]]
    paths = {name: output / f"{name}.svg" for name in names}
    figures.run(settings, list(paths.values()), files)
    actual = {name: ElementTree.parse(path).getroot() for name, path in paths.items()}
    for name, figure in actual.items():
        assert figure.findtext(f".//{TITLE}") == f"{paper}: {name}"
    return actual


def texts(figure: ElementTree.Element) -> list[str]:
    """All texts: they stay texts, so that a report can be searched."""
    return ["".join(element.itertext()).strip() for element in figure.iter(f"{SVG}text")]


def crossed(figure: ElementTree.Element) -> list[str]:
    """What is marked as wrong, by its colour and by a cross."""
    words = {"".join(e.itertext()): e.get("style", "") for e in figure.iter(f"{SVG}text")}
    for word, style in words.items():
        assert word.startswith(f"{sheet.CROSS} ") == (palette.WRONG.lower() in style.lower())
    result = [word for word in texts(figure) if word.startswith(f"{sheet.CROSS} ")]
    return [word.removeprefix(f"{sheet.CROSS} ") for word in result]


def check_same_bytes(results, experiment: str, folder: Path) -> None:
    """The same inputs give the same files."""
    first, second = folder / "a", folder / "b"
    for output in (first, second):
        drawn(results, experiment, output)
    assert list(first.iterdir())
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()
