"""Images and their masks under attack and behind denoisers, and what is left of the mIoU."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from advdenoise.errors import BadInput, suggest
from advdenoise.graph.sections.attacks import looks_at_model
from advdenoise.graph.threats import CLEAN
from advdenoise.ranges import PositiveInt
from advdenoise.reporting import labels
from advdenoise.reporting.examples import (
    NO_CLASS_OF_PIXEL,
    NO_OUTPUT,
    DenseExamples,
    first_replicate,
    read_dense_examples,
)
from advdenoise.reporting.palette import BLACK, Style, Styles, colour, coloured
from advdenoise.reporting.read import Results
from advdenoise.reporting.sheet import SIDE, Row, Tile, sheet
from advdenoise.reporting.subject import describe

from .labels import LABELS, NOISES
from .printed import PUBLISHED
from .results import NONE, Group, LabelAssignment, Setting, group_by_setting, method

_LARGEST = 256  # side of a tile in pixels: larger pictures are reduced
_BEFORE = ("dataset", "split", "classifier")
_ALIKE = (*_BEFORE, "purifier", "purifier_point")


def attacked(examples: list[Path], *, attack: str = "I-FGSM", images: PositiveInt = 3) -> Figure:
    """Clean images, their predictions, adversarial images and theirs, without a defence (Fig. 1).

    A row for each of the first `images` images, of the first replicate; `attack` is a printed name,
    of whose budgets the largest is shown. Pixels without a class are predicted like all others.
    """
    groups = first_replicate(read_dense_examples(examples, images))
    clean, (attacked_, name) = _clean(groups, _BEFORE), _strongest(groups, attack)
    before = _like(clean, attacked_, _BEFORE)
    rows = []
    for place in range(len(before.images)):
        tiles = [
            Tile(before.images[place], "clean"),
            Tile(coloured(before.input_prediction[place]), "prediction"),
            Tile(attacked_.inputs[place], name),
            Tile(coloured(attacked_.input_prediction[place]), "prediction"),
        ]
        rows.append(Row("", tiles))
    masks = [before.input_prediction, attacked_.input_prediction]
    return _with_legend(rows, before, masks, _where(examples))


def denoised(examples: list[Path], *, noise: str | None = None, images: PositiveInt = 2) -> Figure:
    """Clean and noisy images, each before and behind the denoiser (Fig. 4).

    Rows are the first `images` images of each noise, of the first replicate; `noise` is an attack
    that needs no model, with its point if it has several, all by default. Above an image stands
    its peak signal-to-noise ratio to the clean one, in dB.
    """
    groups = first_replicate(read_dense_examples(examples, images))
    clean = _clean(groups, _ALIKE)
    noises: dict[str, list[DenseExamples]] = {}
    printed: dict[str, str] = {}
    for group in groups:
        if group.attack is not None and not looks_at_model(group.attack):
            name = labels.with_point(group.attack["name"], group.about["attack_point"])
            noises.setdefault(name, []).append(group)
            function = group.attack["points"][group.about["attack_point"]]["function"]
            printed[name] = f"{NOISES[function]} noise\n" if function in NOISES else ""
    if not noises:
        raise BadInput("figures: no example images are noisy; cross an attack that sees no model")
    if noise and noise not in noises:
        raise BadInput(f"figures: no example images have {noise!r}; {suggest(noise, noises)}")
    rows = []
    for name in [noise] if noise else noises:
        for noisy in noises[name]:
            name_of_row = f"{printed[name]}{name}\n{noisy.about['purifier']}"
            rows += _restored(name_of_row, _like(clean, noisy, _ALIKE), noisy)
    note = "above an image: its peak signal-to-noise ratio to the clean one"
    return sheet(rows, _side(rows), title=_where(examples), note=note)


def grid(
    examples: list[Path], *, attacks: list[str] | None = None, images: PositiveInt = 1
) -> Figure:
    """Images under no attack and some, their predictions, and both after the denoiser (Fig. 6).

    Columns are clean images and `attacks`, printed names (FGSM and I-FGSM by default), at the
    largest budget of each; of the first `images` images of the first replicate.
    """
    groups = first_replicate(read_dense_examples(examples, images))
    shown = [_strongest(groups, attack) for attack in attacks or ("FGSM", "I-FGSM")]
    clean = _like(_clean(groups, _ALIKE), shown[0][0], _ALIKE)
    columns = [(clean, "clean"), *shown]
    rows = []
    for place in range(len(clean.images)):
        for row, pictures in {
            "image": [Tile(group.inputs[place], name) for group, name in columns],
            "prediction": [Tile(coloured(s.input_prediction[place])) for s, _ in columns],
            "after DAPAS": [Tile(group.purified[place]) for group, _ in columns],
            "prediction\nafter DAPAS": [Tile(coloured(s.prediction[place])) for s, _ in columns],
        }.items():
            rows.append(Row(row, pictures))
    masks = [mask for s, _ in columns for mask in (s.input_prediction, s.prediction)]
    return _with_legend(rows, clean, masks, _where(examples))


def densities(predictions: Results, styles: Styles | None = None) -> Figure:
    """Densities of the noises that the denoisers were trained on, in pixels of [0,1] (Fig. 5)."""
    labeler = LabelAssignment(predictions)
    points: dict[str, dict] = {}
    for purifier in dict.fromkeys(predictions.frame["purifier"]):
        entry = predictions.entry("purifier", purifier)
        if "denoiser" in entry and (name := labeler.trained_on(entry["denoiser"])):
            points.setdefault(name, labeler.noise_points(entry["denoiser"])[0])
    if not points:
        raise BadInput("figures: no denoiser was trained on noise; cross purifiers with such ones")
    reach = 1.3 * max(_reach(point["settings"]) for point in points.values())
    values = np.linspace(-reach, reach, 1001)
    figure, axis = plt.subplots(figsize=(7, 3.5), layout="constrained")
    styles = styles or Styles()
    for (name, point), line in zip(points.items(), itertools.cycle(("-", "--", ":")), strict=False):
        settings = ", ".join(f"{key} {value:g}" for key, value in point["settings"].items())
        label, shade = f"{name} ({settings})", styles.of(name).colour
        axis.plot(values, _density(values, **point["settings"]), line, color=shade, label=label)
    axis.set_title("noise that the denoisers are trained on", fontsize=9)
    axis.set_xlabel("noise of a pixel (pixels in [0,1])")
    axis.set_ylabel("probability density")
    figure.legend(fontsize=8, loc="outside right upper")
    return figure


def ratios(predictions: Results, styles: Styles | None = None, *, attack: str) -> Figure:
    """What is left of the clean mIoU over the budget, without and with DAPAS (Figs. 7, 8).

    A panel for each data set and segmenter; `attack` is a printed name. Bars are 95 % intervals
    over images, dotted curves adaptive attacks on segmenter and denoiser, dashes the published
    numbers.
    """
    settings = group_by_setting(predictions)
    panels = [(setting, _curves(setting, attack)) for setting in settings]
    panels = [(setting, curves) for setting, curves in panels if curves]
    if not panels:
        names = {g.attack.method for setting in settings for g in setting.groups} - {CLEAN}
        raise BadInput(f"figures: no attack is printed {attack!r}; {suggest(attack, names)}")
    size = (5.5 * len(panels) + 2, 4)
    figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False, layout="constrained")
    styles = styles or Styles()
    handles: dict[str, Artist] = {}
    for axis, (setting, curves) in zip(axes[0], panels, strict=True):
        count = sum(len({group.attack.adaptive for group in groups}) for groups in curves.values())
        shifts = iter(1.03 ** (np.arange(count) - (count - 1) / 2))
        for noise, groups in curves.items():
            style = Style(BLACK, "o") if noise == NONE else styles.of(noise)
            handles |= _draw(axis, setting, noise, groups, style, shifts)
            handles |= _draw_published(axis, attack, noise, style)
        dataset, _, network = setting.where
        n = len({image for _, image in setting.groups[0].miou.ids})
        axis.set_xscale("log")
        axis.set_ylim(bottom=0)
        axis.set_title(f"{labels.dataset(dataset)}, {network}, {attack}, n = {n}", fontsize=9)
        axis.set_xlabel("epsilon (pixels in [0,1])")
        axis.set_ylabel("mIoU in % of the clean one")
    legend = {"handles": handles.values(), "labels": handles.keys(), "fontsize": 8}
    figure.legend(**legend, title="bars: 95 % intervals", loc="outside right upper")
    return figure


# ---------------------------------------------------------------- images and masks


def _key(group: DenseExamples, names: tuple[str, ...]) -> tuple:
    return tuple(group.about[name] for name in names)


def _clean(groups: list[DenseExamples], names: tuple[str, ...]) -> dict[tuple, DenseExamples]:
    """The clean images by the values of these names."""
    clean: dict[tuple, DenseExamples] = {}
    for group in groups:
        if group.attack is None:
            clean.setdefault(_key(group, names), group)
    return clean


def _like(
    clean: dict[tuple, DenseExamples], group: DenseExamples, names: tuple[str, ...]
) -> DenseExamples:
    if _key(group, names) not in clean:
        words = ", ".join(_key(group, names))
        raise BadInput(f"figures: there are no clean example images of {words}; cross clean, too")
    return clean[_key(group, names)]


def _strongest(groups: list[DenseExamples], attack: str) -> tuple[DenseExamples, str]:
    """The images under an attack's largest budget, and the attack's name with that budget."""
    named: dict[str, list[tuple[float, DenseExamples]]] = {}
    for group in groups:
        if group.attack is not None:
            point = group.about["attack_point"]
            epsilon = group.attack["points"][point]["settings"].get("epsilon", math.nan)
            named.setdefault(method(group.attack, point), []).append((epsilon, group))
    if attack not in named:
        raise BadInput(f"figures: no example images are under {attack!r}; {suggest(attack, named)}")
    epsilon, group = max(named[attack], key=lambda pair: pair[0])
    return group, attack if math.isnan(epsilon) else f"{attack}, epsilon = {epsilon:g}"


def _restored(name: str, clean: DenseExamples, noisy: DenseExamples) -> list[Row]:
    """Rows of clean and noisy images, each before and behind the denoiser."""
    rows = []
    for place, image in enumerate(clean.images):
        shown = (
            ("clean", image),
            ("denoised", clean.purified[place]),
            ("noisy", noisy.inputs[place]),
            ("denoised", noisy.purified[place]),
        )
        rows.append(
            Row(name, [Tile(picture, _rated(word, picture, image)) for word, picture in shown])
        )
    return rows


def _rated(name: str, picture: np.ndarray, clean: np.ndarray) -> str:
    error = float(np.square(picture - clean).mean())
    return f"{name}, {-10 * math.log10(error):.1f} dB" if 0 < error < math.inf else name


def _where(examples: list[Path]) -> str:
    return "; ".join([*describe([examples], LABELS), "epsilon in pixels of [0,1]"])


def _with_legend(rows: list[Row], of: DenseExamples, masks: list[np.ndarray], title: str) -> Figure:
    """The rows with the colours of all classes that are shown."""
    figure = sheet(rows, _side(rows), title=title)
    labels = np.unique(np.concatenate([mask.ravel() for mask in masks]))
    names = dict(enumerate(of.classes)) | {NO_CLASS_OF_PIXEL: NO_OUTPUT}
    handles = [Patch(color=colour(label), label=names[label]) for label in labels]
    (axis,) = figure.axes
    axis.legend(
        handles=handles,
        fontsize=5,
        ncols=6,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        frameon=False,
    )
    return figure


def _side(rows: list[Row]) -> int:
    longest = max(max(tile.picture.shape[:2]) for row in rows for tile in row.tiles)
    return min(max(longest, SIDE), _LARGEST)


# ---------------------------------------------------------------- curves


def _reach(settings: dict) -> float:
    """The value below which nearly all of a noise lies."""
    return settings.get("epsilon", settings.get("mode", 0.0) + 3 * settings.get("sigma", 0.0))


def _density(
    values: np.ndarray, epsilon: float = 0.0, mode: float = 0.0, sigma: float = 0.0
) -> np.ndarray:
    """That of uniform noise (epsilon), else of normal noise around `mode` and -`mode`."""
    if epsilon:
        return (np.abs(values) <= epsilon) / (2 * epsilon)
    bells = [np.exp(-((values - centre) ** 2) / (2 * sigma**2)) for centre in (mode, -mode)]
    return np.mean(bells, axis=0) / (sigma * math.sqrt(2 * math.pi))


def _curves(setting: Setting, attack: str) -> dict[str, list[Group]]:
    """The groups under an attack by noise, without a defence first."""
    curves: dict[str, list[Group]] = {}
    for group in sorted(setting.groups, key=lambda group: group.noise != NONE):
        if group.attack.method == attack and setting.kept(group):
            curves.setdefault(group.noise, []).append(group)
    return curves


def _draw(
    axis: Axes,
    setting: Setting,
    noise: str,
    groups: list[Group],
    style: Style,
    shifts: Iterator[float],
) -> dict[str, Artist]:
    """A curve of attacks on the segmenter alone, and one of adaptive ones: handles by label.

    `shifts` are factors by which points stand beside their budgets, so that bars hide no others.
    """
    handles = {}
    for adaptive, line, fill in ((False, "-", "full"), (True, ":", "none")):
        points = [group for group in groups if group.attack.adaptive == adaptive]
        if not points:
            continue
        points.sort(key=lambda group: group.attack.epsilon)
        shift = next(shifts)
        budgets = [shift * group.attack.epsilon for group in points]
        kept = [setting.kept(group) for group in points]
        value, low, high, _ = zip(*(miou.estimate(100 * miou.values) for miou in kept), strict=True)
        label = f"{noise}, adaptive" if adaptive else noise
        handles[label] = axis.errorbar(
            budgets,
            value,
            [np.subtract(value, low), np.subtract(high, value)],
            linestyle=line,
            marker=style.marker,
            fillstyle=fill,
            markersize=5,
            elinewidth=0.6,
            capsize=1.5,
            color=style.colour,
            label=label,
        )
    return handles


def _draw_published(axis: Axes, attack: str, noise: str, style: Style) -> dict[str, Artist]:
    """The printed numbers as a dashed line: its handle by label, none where there are none."""
    budgets, values, datasets = _published(attack, noise)
    if not budgets:
        return {}
    label = f"{noise}, published ({', '.join(datasets)})"
    look = {"color": style.colour, "marker": "x", "markersize": 4, "linewidth": 0.8}
    (line,) = axis.plot(budgets, values, linestyle="--", alpha=0.7, label=label, **look)
    return {label: line}


def _published(attack: str, noise: str) -> tuple[list[float], list[float], list[str]]:
    """Budgets in rising order, printed ratios in %, and the data sets that they are of."""
    lines = [
        line
        for table in ("table2", "table3", "table4")
        for line in PUBLISHED.numbers(table).values()
        if line["metric"].startswith("Ratio")
        and (line["attack"], line["noise"] or NONE) == (attack, noise)
    ]
    lines.sort(key=lambda line: float(line["epsilon"]))
    datasets = list(dict.fromkeys(line["dataset"] for line in lines))
    budgets, values = ([float(line[name]) for line in lines] for name in ("epsilon", "value"))
    return budgets, values, datasets
