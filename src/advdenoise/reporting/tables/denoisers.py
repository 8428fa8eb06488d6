"""Reconstruction errors of denoisers."""

from pathlib import Path

from advdenoise.reporting.cells import Cell
from advdenoise.reporting.read import read_values
from advdenoise.statistics import Estimate


def calibration(calibration: list[Path]) -> list[Cell]:
    """Mean and standard deviation of the reconstruction error on held-out images.

    The mean's interval is the normal one, 1.96 standard errors to either side.
    """
    cells = []
    for value, settings in read_values(calibration):
        about = {
            "dataset": settings["dataset"],
            "seed": settings["seed"],
            "denoiser": settings["denoiser"]["name"],
        }
        row = f"{about['dataset']}, {about['denoiser']}, seed {about['seed']}"
        half = 1.96 * value["deviation"] / value["images"] ** 0.5
        mean = Estimate(value["mean"], value["mean"] - half, value["mean"] + half, value["images"])
        deviation = Estimate.without_interval(value["deviation"], value["images"])
        for column, estimate in (("mean", mean), ("deviation", deviation)):
            metric = f"reconstruction error, {column}"
            cells.append(Cell(row, column, metric, "", estimate, about=about))
    return cells
