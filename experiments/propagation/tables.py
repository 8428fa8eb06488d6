"""Tables of "Propagated Perturbation": sets, denoisers, networks, and how far noise travels."""

from dataclasses import replace

import numpy as np

from advdenoise.graph.threats import CLEAN, parse
from advdenoise.reporting import labels
from advdenoise.reporting.cells import Cell, Cells
from advdenoise.reporting.claims import UNKNOWN
from advdenoise.reporting.measures import accuracy, noise
from advdenoise.reporting.read import Results
from advdenoise.statistics import Estimate

from . import results
from .labels import LABELS
from .results import ALL, Curves, LabelAssignment

_UNIT = "pixel^2"
_COUNTED = (
    "Layers are all convolutions and dense layers, those of shortcuts and gates among them; "
    "parameters are those of the network as it was trained here."
)
_POOLED = "All sets: the mean over {}; images are drawn together."
_SHARE = (
    "A jump is how many times as large a mean distance is at the last layer as before. NE-D "
    "divides by n, the number of elements, and so grows where layers get small even if the root "
    "mean square difference (by the root of n) does not: the normaliser's share is 1 - log(jump by "
    "the root of n) / log(jump by n), above 1 where the difference itself falls, and undefined "
    "without a jump."
)


def validation(predictions: Results) -> Cells:
    """Table 1: noise and accuracy on the adversarial images, before and after denoising.

    Squared differences are means on the scale 0..255. The caption's validation accuracy is that on
    the images that were attacked, its training accuracy that on images that were not.
    """
    labeler = LabelAssignment(predictions)
    frame = predictions.frame
    attacked = {*frame["split"][frame["threat"] != CLEAN]}

    def columns(before: str, after: str):
        def label(about: dict) -> tuple[str, str]:
            row, setting = labeler.adversarial_set(about), labeler.setting(about)
            if setting == results.NONE:
                return _caption(row, about["split"] in attacked) or (row, before)
            return row, after if setting == results.FN else f"{after} {setting}"

        return label

    mse = columns("MSE(x_ori,x_adv)", "MSE(x_ori,DN(x_adv))")
    cells = [*_noise(predictions, labeler, mse)]
    cells += accuracy(predictions, columns("F(x_adv)", "F(DN(x_adv))"))
    return Cells(cells)


def configurations(predictions: Results) -> Cells:
    """Table 2: which network gives a set's gradient, which is to err, and their clean accuracy."""
    labeler = LabelAssignment(predictions)
    clean: dict[str, Cell] = {}
    sets: dict[str, dict] = {}

    def label(about: dict) -> tuple[str, str]:
        return labeler.adversarial_set(about), labeler.setting(about)

    for cell in accuracy(predictions, label):
        if cell.column == results.NONE and cell.row == CLEAN:
            clean.setdefault(cell.about["classifier"], cell)
        elif cell.column == results.NONE:
            sets.setdefault(cell.row, cell.about)
    cells = []
    for row, about in sets.items():
        for role, name in (
            ("attacker", labeler.surrogate(about)),
            ("classifier", parse(about["threat"]).victim),
        ):
            if name in clean:
                printed = LABELS.classifier(predictions.entry("classifier", name))
                column = "classifier (target)" if role == "classifier" else role
                names = {key: about[key] for key in ("dataset", "split", "threat")}
                names |= {"classifier": name}
                cells.append(Cell(row, column, "", "name", UNKNOWN, about=names, text=printed))
                measured = replace(clean[name], row=row, column=f"{role} top-1 val. acc.")
                cells.append(replace(measured, about=names))
    return Cells(cells)


def capacities(predictions: Results, distances: Results) -> Cells:
    """Table 3: accuracy on training images, number of layers and of parameters, precision."""
    labeler = LabelAssignment(predictions)

    def label(about: dict) -> tuple[str, str]:
        return labeler.network(about), "top-1 training acc."

    frame = predictions.frame
    clean = (frame["threat"] == CLEAN) & (frame["purifier"] == "none")
    cells = accuracy(predictions.of(frame[clean]), label)
    labeler = LabelAssignment(distances)
    for about in distances.distinct(["dataset", "split", "classifier"]):
        entry = distances.entry("classifier", about["classifier"])
        row = labeler.network(about)
        for column, unit, metric, value in (
            ("Num. layers", "count", "layers", entry["layers"]),
            ("Num. parameters", "million", "parameters", entry["parameters"] / 1e6),
        ):
            estimate = Estimate.without_interval(value)
            cells.append(Cell(row, column, metric, unit, estimate, about=about))
        precision = labels.precision(entry)
        cells.append(Cell(row, "trained in", "", "text", UNKNOWN, about=about, text=precision))
    return Cells(cells, [_COUNTED])


def denoising(predictions: Results) -> Cells:
    """Table 4: mean squared difference to the clean images on the scale 0..255, by denoiser.

    It is the same whichever classifier looks on: the first one's rows count.
    """
    labeler = LabelAssignment(predictions)
    frame = predictions.frame
    names = [name for name in results.IMAGE if name in frame]
    first = predictions.of(frame.drop_duplicates([*names, "draw"]))
    columns = {results.NONE: "Primary", results.FN: "FusionNet", results.UN: "U-Net"}

    def label(about: dict) -> tuple[str, str]:
        setting = labeler.setting(about)
        return labeler.adversarial_set(about), columns.get(setting, setting)

    return Cells(_noise(first, labeler, label))


def accuracies(predictions: Results) -> Cells:
    """Tables 5 and 7: accuracy on the adversarial sets, by network and denoiser."""
    labeler = LabelAssignment(predictions)

    def label(about: dict) -> tuple[str, str]:
        return labeler.adversarial_set(about), f"{labeler.network(about)} {labeler.setting(about)}"

    return Cells(accuracy(predictions, label))


def observed(distances: Results) -> Cells:
    """Table 6: the observed layers by number, with the shapes of their maps for one image."""
    labeler = LabelAssignment(distances)
    cells = []
    for about in distances.distinct(["dataset", "split", "classifier"]):
        shapes = distances.entry("classifier", about["classifier"])["shapes"]
        for number, (layer, shape) in enumerate(shapes.items(), start=1):
            elements = Estimate.without_interval(np.prod(shape))
            text = f"{layer}, {'x'.join(map(str, shape))}"
            more = {"layer": layer, "elements": int(elements.value)}
            at = (str(number), labeler.network(about))
            cells.append(Cell(*at, "", "text", elements, about=about | more, text=text))
    return Cells(cells)


def last_layer(distances: Results) -> Cells:
    """Figure 4 as data: mean NE-D against COS-D of each network at its last layer.

    A radial plane shows in a small NE-D and a large COS-D, a tangential one in the opposite.
    """
    cells = []
    networks = results.curves(distances)
    for key, curves in networks.items():
        about = dict(zip(("dataset", "split", "network"), key, strict=True))
        for row, sets in _rows(curves):
            for setting in curves.settings:
                for measure, printed in results.MEASURES.items():
                    estimate = curves.means.estimate(curves.at(measure, curves.last, setting, sets))
                    label = (_row(networks, key, row), f"{printed} {setting}")
                    cells.append(Cell(*label, measure, "", estimate, about=about | {"set": row}))
    return Cells(cells, _pooled(networks))


def normaliser(distances: Results) -> Cells:
    """How much of the last layer's jump of NE-D is the normaliser's.

    Against the layer before, and against the mean of all layers before.
    """
    cells = []
    networks = results.curves(distances)
    for key, curves in networks.items():
        about = dict(zip(("dataset", "split", "network"), key, strict=True))
        for set_, sets in _rows(curves):
            for setting in curves.settings:
                row = f"{_row(networks, key, set_)}, {setting}"
                for against, earlier in results.EARLIER.items():
                    jumps = [
                        results.jump(curves, measure, setting, earlier, sets)
                        for measure in ("ne_d", "ne_d_sqrt")
                    ]
                    values = {"by n": jumps[0], "by the root of n": jumps[1]}
                    values["the normaliser's share"] = results.share(*jumps)
                    for printed, value in values.items():
                        estimate = curves.means.estimate(value)
                        label = (row, f"{printed}, against {against}")
                        cells.append(Cell(*label, "NE-D jump", "", estimate, about=about))
    return Cells(cells, [_SHARE, *_pooled(networks)])


def _noise(predictions: Results, labeler: LabelAssignment, label) -> list[Cell]:
    """Squared differences: without a denoiser before, and with one after denoising."""
    frame = predictions.frame
    frame = frame[frame["threat"] != CLEAN]
    bare = frame["purifier"] == "none"
    cells = []
    for rows, column in ((frame[bare], "mse_before"), (frame[~bare], "mse_after")):
        cells += noise(predictions.of(rows), column, label, _UNIT, results.PIXELS)
    return cells


def _caption(row: str, is_attacked: bool) -> tuple[str, str] | None:
    if row == CLEAN:
        return "caption", "validation accuracy" if is_attacked else "train accuracy"
    return None


def _rows(curves: Curves) -> list[tuple[str, tuple[str, ...]]]:
    """All sets together, then each: their name and themselves."""
    return [(ALL, curves.sets), *((name, (name,)) for name in curves.sets)]


def _row(networks: dict, key: tuple[str, str, str], row: str) -> str:
    """A network and a set, with the data set and split where there are several."""
    dataset, split, network = key
    several = len({(dataset, split) for dataset, split, _ in networks}) > 1
    return f"{dataset}, {split}: {network}, {row}" if several else f"{network}, {row}"


def _pooled(networks: dict[tuple, Curves]) -> list[str]:
    all_sets = dict.fromkeys(", ".join(curves.sets) for curves in networks.values())
    return [_POOLED.format(sets) for sets in all_sets]
