"""Images with what became of them, and of their maps inside a classifier."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from advdenoise.errors import BadInput
from advdenoise.ranges import PositiveInt
from advdenoise.reporting import labels
from advdenoise.reporting.examples import NO_CLASS, Examples, Maps, first_replicate, read_examples
from advdenoise.reporting.sheet import CROSS, Row, Tile, sheet
from advdenoise.reporting.subject import describe

from .labels import LABELS

_BEFORE = ("dataset", "classifier", "threat", "attack_point")  # a purifier
_CROSSED = f"{CROSS}: not the image's own class"
_TOLD = (
    "above an image: the predicted class and its confidence, in parentheses the target's where "
    "another class is predicted"
)
_MAPS = (
    "columns: the image, then the channels that the attack changes most\n"
    "last row: {} times the absolute difference between adversarial and clean; above it the mean "
    "difference in % of the map's range"
)
_MAGNIFIED = 4  # differences, which would be all but black


def targeted(examples: list[Path], *, images: PositiveInt | None = None) -> Figure:
    """Images of all classes driven to one class, and what purifiers make of them (Figs. 1, 2).

    Rows are images as they are and as seen, and purified by each purifier of the same threat: the
    first `images` of a file, by default one of each class. Of several replicates the first is
    shown. Above an image stands what is predicted, crossed where that is not its class, with the
    confidence: as seen that in the attack's target, which is named where another class is
    predicted. Images of the target's own class are shown with the others.
    """
    blocks: dict[tuple, list[Examples]] = {}
    for example in first_replicate(read_examples(examples)):
        blocks.setdefault(tuple(example.about[name] for name in _BEFORE), []).append(example)
    rows = []
    for block in blocks.values():
        count = images or len({*block[0].labels})
        rows += [Row(row.name, row.tiles[:count]) for row in _block(block)]
    return sheet(rows, title=_where(examples), note=f"{_TOLD}\n{_CROSSED}")


def feature_noise(examples: list[Path], *, images: PositiveInt = 1) -> Figure:
    """Clean and adversarial maps of a classifier's modules, and their difference (Fig. 3).

    For each of the first `images` images a block of rows, the image itself in the first column:
    clean, adversarial, purified where there is a purifier, and the absolute difference between
    adversarial and clean. Columns are the channels that the attack changes most; each is drawn
    from the least to the greatest value of its clean and adversarial map, the image from 0 to 1.
    Differences are drawn from 0 to a quarter of that range, and above them stands their mean in %
    of it.
    """
    with_maps = [
        example for example in first_replicate(read_examples(examples, images)) if example.maps
    ]
    if not with_maps:
        raise BadInput(
            "examples.maps: these images have no maps; name modules of their classifier there, "
            "and cross a threat that is not clean"
        )
    rows = [
        row
        for example in with_maps
        for place in range(len(example.images))
        for row in _noise(example, place)
    ]
    attacks = dict.fromkeys(example.attack_name(LABELS) for example in with_maps)
    title = f"{_where(examples)}; attack: {', '.join(attacks)}"
    return sheet(rows, title=title, note=_MAPS.format(_MAGNIFIED))


def _where(examples: list[Path]) -> str:
    return "; ".join(describe([examples], LABELS))


def _block(block: list[Examples]) -> list[Row]:
    first = block[0]
    named = [first.classes[label] for label in first.labels]
    clean = [Tile(picture, name) for picture, name in zip(first.images, named, strict=True)]
    about = first.about
    threat = labels.threat(about["threat"], about["attack_point"], about["classifier"])
    printed = first.attack_name(LABELS)
    if first.target is not None:
        printed += f" to {first.classes[first.target]}"
    rows = [Row("clean", clean), Row(f"{printed}\n{threat}", _as_seen(first))]
    for example in block:
        if example.is_purified:
            name = labels.with_point(example.about["purifier"], example.about["purifier_point"])
            tiles = [
                _tile(example, picture, place, prediction, _percent(example.confidence[place]))
                for place, (picture, prediction) in enumerate(
                    zip(example.purified, example.prediction, strict=True)
                )
            ]
            rows.append(Row(f"denoised\n{name}", tiles))
    return rows


def _as_seen(example: Examples) -> list[Tile]:
    tiles = []
    for place, (picture, prediction) in enumerate(
        zip(example.inputs, example.input_prediction, strict=True)
    ):
        shares = example.input_probabilities[place]
        aim = prediction if example.target is None else example.target
        share = _percent(shares[aim])
        share_text = share if aim == prediction else f"({example.classes[aim]}: {share})"
        tiles.append(_tile(example, picture, place, prediction, share_text))
    return tiles


def _tile(
    example: Examples, picture: np.ndarray, place: int, prediction: int, share_text: str
) -> Tile:
    text = (
        example.name(prediction)
        if prediction == NO_CLASS
        else f"{example.name(prediction)} {share_text}"
    )
    return Tile(picture, text, prediction != example.labels[place])


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _noise(example: Examples, place: int) -> list[Row]:
    """One image's rows, column by column."""
    columns = [_image_column(example, place)]
    for module, maps in example.maps.items():
        columns += [
            _map_column(example, maps, module, place, channel)
            for channel in range(maps.channels.shape[1])
        ]
    names = ["clean", "adversarial", *(["purified"] if example.is_purified else [])]
    names.append(f"difference x {_MAGNIFIED}")
    return [
        Row(name, list(tiles))
        for name, tiles in zip(names, zip(*columns, strict=True), strict=True)
    ]


def _image_column(example: Examples, place: int) -> list[Tile]:
    versions = [example.images[place], example.inputs[place], example.purified[place]]
    return _column(example, versions, example.classes[example.labels[place]], 0.0, 1.0)


def _map_column(example: Examples, maps: Maps, module: str, place: int, channel: int) -> list[Tile]:
    versions = [version[place, channel] for version in (maps.clean, maps.inputs, maps.purified)]
    low, high = (function(versions[:2]) for function in (np.min, np.max))
    title = f"{module}, channel {maps.channels[place, channel]}"
    return _column(example, versions, title, float(low), float(high))


def _column(
    example: Examples, versions: list[np.ndarray], title: str, low: float, high: float
) -> list[Tile]:
    """Tiles of the clean, seen and purified version and of the difference of the first two."""
    extent = high - low or 1.0
    clean, attacked, purified = ((version - low) / extent for version in versions)
    change = np.abs(attacked - clean)
    kept = [Tile(clean, title), Tile(attacked)] + ([Tile(purified)] if example.is_purified else [])
    return [*kept, Tile(_MAGNIFIED * change, f"{100 * change.mean():.1f} %")]
