"""Tables of "APuDAE": accuracy behind purifiers, oblivious and counter attacks, the networks."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from advdenoise.graph.threats import CLEAN
from advdenoise.reporting import architecture as layers
from advdenoise.reporting import labels
from advdenoise.reporting.cells import Cell, Cells
from advdenoise.reporting.measures import accuracy, correct_when_clean, with_top_hits
from advdenoise.reporting.points import differing, shown
from advdenoise.reporting.read import Results, read_values
from advdenoise.statistics import Estimate

from . import results
from .labels import LABELS
from .printed import PUBLISHED
from .results import LabelAssignment

_WORST = (
    "Counter attack B: of its scan the point with the lowest accuracy counts for each defence; all "
    "points stand below. Its interval is that of a point chosen after the fact.",
    "Adversarial Training has no purifier: its accuracy under BIM stands in both rows, as in the "
    "paper.",
)
_TOP = (
    "An image counts as right where its label is among the {} % of all classes that come first, at "
    "least one: top-{}."
)
_CHOSEN = (
    "As in the paper images are those that the undefended classifier has right: {} of {}, all "
    "replicates together."
)
_NOT_RUN = (
    "{} on {}: not run. Your own robust network is another classifier with its own crossing, "
    "`purifier: none`."
)
_NO_EPSILON = (
    "The text's number is lost; 0.3 is that of the works which it names. Beside each epsilon "
    "stands the one accuracy that Table 2 prints."
)
_CROSSING = "{}, {}: the published {:.3f} is reached here at epsilon {:.3g}."
_NO_CROSSING = "{}, {}: the published {:.3f} is reached at none of these epsilons."
_LOGGED = (
    "Published is what the log and the pickled statistics in the authors' repository hold: E+F "
    "with sigma = 0.5, which their program sets before its loop in the place of its own 0.923; "
    "CIFAR-10, RED-Net-30 without batch norm, 1,616 test images."
)
_OF_ERROR = "reconstruction error of clean images"


def architecture(calibration: list[Path]) -> Cells:
    """Table 1: layers of the denoisers with kernel, stride, padding, filters and parameters.

    They are read from the networks. Equal layers in a row are one line, which counts them. Beside a
    layer stands the paper's of the same kind and stride, of which it is not known how often it is
    repeated.
    """
    cells = layers.architecture(calibration, _printed_sizes)
    notes = [
        f"The paper's layer {line['row']}: {line['column']}, {line['raw']}."
        for line in PUBLISHED.lines("table1")
        if not line["value"].startswith("(")
    ]
    for _, settings in read_values(calibration):
        entry = settings["denoiser"]
        notes.append(f"{settings['dataset']}, {entry['name']}: {labels.precision(entry)} training.")
    return Cells(cells, [*cells.notes, *dict.fromkeys(notes)], cells.printed)


def attacks(predictions: Results) -> Cells:
    """Table 2: rows are attacks, columns defences; accuracy as a fraction.

    "APuDAE" is the entry's first point of variant A, MagNet that of its first autoencoder.
    """
    labeler = LabelAssignment(predictions)
    names = {results.A: "APuDAE"}
    rows = {CLEAN: "Clean", results.BIM: "PGD"}
    printed = {results.NONE, results.ROBUST, results.GAN, results.MAGNET, results.DIRECT, "APuDAE"}

    def label(about: dict) -> tuple[str, str]:
        attack, defence = labeler.attack(about), labeler.defence(about)
        name = names.get(defence, defence)
        has_name = name in printed or name.startswith(results.ROBUST)
        column = (
            _assigned(labeler, about, name)
            if has_name
            else f"{_variant(name)} ({labels.purifier(about)})"
        )
        return rows.get(attack, attack), column

    return Cells(accuracy(predictions, label, unit="fraction"), results.chosen(predictions))


def epsilons(predictions: Results) -> Cells:
    """Table 2's undefended and robust networks at several epsilons, beside the published numbers.

    Rows are a network and an epsilon, columns attacks; notes say where the published accuracy lies,
    by a straight line between neighbours.
    """
    labeler = LabelAssignment(predictions)

    def label(about: dict) -> tuple[str, str]:
        entry = predictions.attack(about["threat"])
        method = LABELS.attack(entry, about["attack_point"])
        column = "PGD" if method == results.BIM else method
        return f"{labeler.defence(about)}, epsilon = {_epsilon(labeler, about):g}", column

    cells = accuracy(predictions, label, unit="fraction")
    order = list(dict.fromkeys(labeler.defence(cell.about) for cell in cells))
    cells.sort(
        key=lambda cell: (order.index(labeler.defence(cell.about)), _epsilon(labeler, cell.about))
    )
    lines, printed, notes = PUBLISHED.numbers("table2"), {}, [_NO_EPSILON]
    curves: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for cell in cells:
        place = cell.column, labeler.defence(cell.about)
        if place in lines:
            printed[cell.row, cell.column] = lines[place]
            point = _epsilon(labeler, cell.about), cell.estimate.value
            curves.setdefault(place, []).append(point)
    for (attack, defence), curve in curves.items():
        published = float(lines[attack, defence]["value"])
        reached = _crossing(curve, published)
        sentence = _NO_CROSSING if reached is None else _CROSSING
        notes.append(sentence.format(defence, attack, published, reached))
    return Cells(cells, notes, printed)


def purifiers(predictions: Results) -> Cells:
    """Table 3: rows are defences, columns attacks; accuracy as a fraction."""
    labeler = LabelAssignment(predictions)

    def label(about: dict) -> tuple[str, str]:
        defence = labeler.defence(about)
        if defence == results.A:
            printed = f"APuDAE (A, n={labeler.point(about)['settings']['steps']})"
        else:
            printed = _variant(defence)
        is_own = defence in (results.NOISY, results.TURNED)  # of Table 4 alone
        row = (
            f"{printed} ({labels.purifier(about)})"
            if is_own
            else _assigned(labeler, about, printed)
        )
        return row, labeler.attack(about)

    return Cells(accuracy(predictions, label, unit="fraction"), results.chosen(predictions))


def top_classes(predictions: Results) -> Cells:
    """Table 4: rows are defences, columns attacks; accuracy among the top 1 % of the classes.

    n1, n2, n3 are the steps of variant A in increasing order, B and C are A with noise and from
    random transformations. Images are those that the undefended classifier has right.
    """
    labeler = LabelAssignment(predictions)
    predictions, k = with_top_hits(predictions)
    correct, counts = correct_when_clean(
        predictions, lambda about: labeler.defence(about) == results.NONE
    )
    steps = _steps_of_a(predictions, labeler)
    names = {results.NONE: "No defense", results.ROBUST: "Adv. Training"}
    names |= {
        results.NOISY: "APuDAE (B)",
        results.TURNED: "APuDAE (C)",
        results.DIRECT: results.DIRECT,
    }

    def label(about: dict) -> tuple[str, str]:
        defence = labeler.defence(about)
        if defence == results.A:
            number = steps.index(labeler.point(about)["settings"]["steps"]) + 1
            printed = f"APuDAE (A, n{number})"
        else:
            printed = names.get(defence, labels.purifier(about))
        return _assigned(labeler, about, printed), labeler.attack(about)

    cells = [
        replace(cell, metric=f"top-{k} {cell.metric}")
        for cell in accuracy(correct, label, unit="fraction")
    ]
    names_of_steps = ", ".join(f"n{index} = {n}" for index, n in enumerate(steps, start=1))
    notes = [_TOP.format(1, k), _CHOSEN.format(*counts), *([f"{names_of_steps}."] if steps else [])]
    notes += results.chosen(predictions)
    robust = names[results.ROBUST]
    return Cells(cells, notes + _not_run(robust, cells, [c for c in cells if c.row == robust]))


def counter_attacks(predictions: Results) -> Cells:
    """Table 5: rows are data sets and counter attacks, columns defences; accuracy as a fraction.

    "APuDAE (Best)" is the first variant that was attacked so. An accuracy is among the top 1 % of
    the classes, at least one.
    """
    labeler = LabelAssignment(predictions)
    hits, k = with_top_hits(predictions)

    def label(about: dict) -> tuple[str, str]:
        defence = labeler.defence(about)
        printed = results.BEST if labeler.is_variant(about) else defence
        return labeler.attack(about), _assigned(labeler, about, printed)

    cells = accuracy(hits, label, unit="fraction")
    shown: list[Cell] = []
    for cell in cells:
        if cell.row == results.COUNTER_A:
            shown.append(replace(cell, row=f"{_name(cell)} A"))
        elif cell.row in (results.BIM, results.SECOND) and cell.column == results.ROBUST:
            shown += [replace(cell, row=f"{_name(cell)} {letter}") for letter in "AB"]
    scans: dict[tuple, list[Cell]] = {}
    for cell in cells:
        if cell.row == results.COUNTER_B:
            where = (cell.about["dataset"], cell.about["split"], cell.about["classifier"])
            scans.setdefault((*where, cell.column), []).append(cell)
    for scan in scans.values():
        worst = min(scan, key=lambda cell: cell.estimate.value)
        shown.append(replace(worst, row=f"{_name(worst)} B"))
    shown += [cell for scan in scans.values() for cell in _scan(scan, labeler)]
    missing = _not_run(results.ROBUST, shown, [c for c in shown if c.column == results.ROBUST])
    notes = [*_WORST, *([_TOP.format(1, k)] if k > 1 else []), *results.chosen(predictions)]
    return Cells(shown, notes + missing)


def authors_log(predictions: Results, calibration: list[Path]) -> Cells:
    """The authors' logged run: variants E and F, F with its own sigma, and mu and sigma themselves.

    Rows are a denoiser and a variant, columns attacks, accuracy as a fraction; then, of each
    denoiser, mean and deviation of the reconstruction error of clean images.
    """
    labeler = LabelAssignment(predictions)
    columns = {CLEAN, results.RANDOM, "FGSM", "R-FGSM", results.BIM}

    def label(about: dict) -> tuple[str, str]:
        sigma = labeler.point(about)["settings"].get("deviation")
        suffix = "" if sigma is None else f", sigma = {sigma:g}"
        return f"{labeler.denoiser(about)}: {labeler.defence(about)}{suffix}", labeler.attack(about)

    wanted = _of_points(predictions, lambda point: point["function"] in ("apudae.e", "apudae.f"))
    cells = accuracy(wanted, label, unit="fraction") if len(wanted.frame) else []
    cells = [cell for cell in cells if cell.column in columns]
    lines = PUBLISHED.lines("source_repo_log")
    logged = {line["attack"]: line for line in lines if line["unit"] == "fraction"}
    printed = {
        (cell.row, cell.column): _as_published(logged[cell.column])
        for cell in cells
        if labeler.point(cell.about)["settings"].get("deviation") is not None
    }
    pickled = [line for line in lines if line["unit"] != "fraction"]
    for value, settings in read_values(calibration):
        about = {"dataset": settings["dataset"], "denoiser": settings["denoiser"]["name"]}
        row = f"{about['denoiser']}: {_OF_ERROR}"
        for name, line in zip(("mean", "deviation"), pickled, strict=True):
            unit = line["unit"]
            estimate = Estimate.without_interval(value[name])
            cells.append(Cell(row, name, name, unit, estimate, about=about))
            printed[row, name] = _as_published(line)
    return Cells(cells, [_LOGGED], printed)


def sweep(predictions: Results) -> Cells:
    """The appendix: a variant's accuracy for each of the settings in which its points differ.

    Rows are a variant and these settings, in their order, columns attacks. Points of equal settings
    are shown once; variants with one point are left out.
    """
    labeler = LabelAssignment(predictions)
    points: dict[str, list[dict]] = {}
    for about in _purifier_points(predictions):
        point = labeler.point(about)
        if point["function"].startswith("apudae."):
            points.setdefault(point["function"], []).append(point)
    names = {function: differing(settings) for function, settings in points.items()}
    several = predictions.frame["dataset"].nunique() > 1

    def order(about: dict) -> tuple:
        point = labeler.point(about)
        settings = [point["settings"].get(name) for name in names[point["function"]]]
        return point["function"], [_sortable(setting) for setting in settings]

    def label(about: dict) -> tuple[str, str]:
        point = labeler.point(about)
        settings = shown(point, names[point["function"]])
        dataset = f"{about['dataset']}: " if several else ""
        return f"{dataset}{labeler.defence(about)}, {settings}", labeler.attack(about)

    wanted = _of_points(predictions, lambda point: bool(names.get(point["function"])))
    cells = accuracy(wanted, label, unit="fraction") if len(wanted.frame) else []
    first: dict[tuple, Cell] = {}
    for cell in cells:
        first.setdefault((cell.row, cell.column, cell.about["classifier"]), cell)
    notes = results.chosen(wanted)
    return Cells(sorted(first.values(), key=lambda cell: order(cell.about)), notes)


def _variant(defence: str) -> str:
    """A variant's printed name by its letter; any other defence's is its own."""
    return f"APuDAE({defence})" if len(defence) == 1 else defence


def _assigned(labeler: LabelAssignment, about: dict, printed: str) -> str:
    """A printed name for the first purifier that it fits, else with the purifier's own."""
    own = labels.purifier(about)
    return labeler.assign(printed, own, own, about["dataset"], about["classifier"], "purifier")


def _purifier_points(predictions: Results) -> list[dict]:
    return predictions.distinct(["classifier", "purifier", "purifier_point"])


def _of_points(predictions: Results, wants: Callable[[dict], bool]) -> Results:
    """The rows of the purifiers' points, defaults included, for which `wants` is true."""
    labeler = LabelAssignment(predictions)
    wanted = {
        (about["purifier"], about["purifier_point"])
        for about in _purifier_points(predictions)
        if wants(labeler.point(about))
    }
    frame = predictions.frame
    pairs = zip(frame["purifier"], frame["purifier_point"], strict=True)
    return predictions.of(frame[[pair in wanted for pair in pairs]])


def _sortable(setting) -> tuple[int, float, str]:
    """Sorts unset values first, then numbers, then texts."""
    if setting is None or isinstance(setting, str):
        return (0 if setting is None else 2), 0.0, setting or ""
    return 1, float(setting), ""


def _epsilon(labeler: LabelAssignment, about: dict) -> float:
    return labeler.attack_point(about)["settings"]["epsilon"]


def _crossing(curve: list[tuple[float, float]], value: float) -> float | None:
    """Where a curve first has the value, interpolated linearly; None where it has not."""
    for (left, before), (right, after) in itertools.pairwise(sorted(curve)):
        if min(before, after) <= value <= max(before, after):
            share = 0.0 if before == after else (value - before) / (after - before)
            return left + share * (right - left)
    return None


def _as_published(line: dict) -> dict:
    """A line of the authors' log as one of a published table."""
    return line | {"raw": f"{float(line['value']):.3f}", "dataset": "CIFAR-10"}


def _steps_of_a(predictions: Results, labeler: LabelAssignment) -> list[int]:
    """The steps of variant A's points, in increasing order."""
    points = [labeler.point(about) for about in _purifier_points(predictions)]
    return sorted({p["settings"]["steps"] for p in points if p["function"] == "apudae.a"})


def _not_run(defence: str, cells: list[Cell], own: list[Cell]) -> list[str]:
    """A sentence for each data set on which a printed defence has no cell of its `own`."""
    missing = dict.fromkeys(map(_name, cells)).keys() - set(map(_name, own))
    return [_NOT_RUN.format(defence, dataset) for dataset in sorted(missing)]


def _name(cell: Cell) -> str:
    return labels.DATASETS.get(cell.about["dataset"], cell.about["dataset"])


def _scan(scan: list[Cell], labeler: LabelAssignment) -> list[Cell]:
    """Every point of counter attack B's scan, named by the settings in which they differ."""
    points = [labeler.attack_point(cell.about) for cell in scan]
    names = differing(points)
    rows = [f", {shown(point, names)}" if names else "" for point in points]
    return [
        replace(cell, row=f"{_name(cell)} B, scan{row}")
        for cell, row in zip(scan, rows, strict=True)
    ]


def _printed_sizes(layer: dict) -> list[tuple[str, dict]]:
    """The paper's sizes of the layer of the same kind and stride; c are the image's channels."""
    for line in PUBLISHED.lines("table1"):
        sizes = dict(zip(layers.SIZES, line["raw"].strip("()").split(","), strict=False))
        kind = line["column"].partition("+")[0]
        if kind == layer["layer"].partition("+")[0] and sizes.get("stride") == str(layer["stride"]):
            return [(name, {**line, "value": size, "raw": size}) for name, size in sizes.items()]
    return []
