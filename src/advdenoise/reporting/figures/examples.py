"""Example images: clean, attacked and purified."""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from advdenoise.ranges import PositiveInt
from advdenoise.reporting.examples import read_examples
from advdenoise.reporting.labels import USUAL, Labels
from advdenoise.reporting.palette import BLACK, WRONG
from advdenoise.reporting.sheet import CROSS
from advdenoise.reporting.subject import describe

_CROSSED = f"{CROSS}: not the image's own class"


def strips(examples: list[Path], labels: Labels = USUAL, *, images: PositiveInt = 6) -> Figure:
    """The first images of each file in three rows: clean, as seen, purified, with predictions.

    Predictions are printed above the purified images, crossed where they are wrong.
    """
    groups = read_examples(examples, images)
    figure, axes = plt.subplots(
        3 * len(groups), images, figsize=(1.1 * images, 3.6 * len(groups)), squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for block, group in enumerate(groups):
        for row, pictures in enumerate((group.images, group.inputs, group.purified)):
            for column, picture in enumerate(pictures):
                axes[3 * block + row][column].imshow(picture, cmap="gray", vmin=0, vmax=1)
        for column, (prediction, label) in enumerate(
            zip(group.prediction, group.labels, strict=True)
        ):
            is_correct = prediction == label
            colour = BLACK if is_correct else WRONG
            name = group.name(prediction)
            name = name if is_correct else f"{CROSS} {name}"
            axes[3 * block + 2][column].set_title(name, fontsize=6, color=colour, pad=2)
        points = (group.about["attack_point"], group.about["purifier_point"])
        names = [group.about["threat"], group.about["purifier"], *points]
        title = " ".join(name for name in names if name != "default")
        axes[3 * block][0].set_title(title, fontsize=7, loc="left")
    figure.suptitle(f"{'; '.join(describe([examples], labels))}; {_CROSSED}", fontsize=7)
    return figure
