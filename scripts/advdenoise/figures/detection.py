"""What the detectors see."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from scripts.advdenoise.tables._read import Results


def spread(iqr: Results) -> Figure:
    """Interquartile range of the predicted class, clean against adversarial images (Fig. 1).

    One panel for each data set, classifier and attribution; images in the order of the split.
    """
    frame = iqr.frame
    places = ["dataset", "classifier", "attribution", "attribution_point"]
    panels = list(frame.groupby(places, sort=False))
    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.2), squeeze=False)
    for axis, (names, rows) in zip(axes[0], panels, strict=True):
        for (threat, point), part in rows.groupby(["threat", "attack_point"], sort=False):
            name = threat if point == "default" else f"{threat} {point}"
            values = np.concatenate(part["predicted"].to_list())
            axis.scatter(range(len(values)), values, s=8, label=name)
        axis.set_title(", ".join(names), fontsize=8)
        axis.set_yscale("symlog", linthresh=1e-6)
        axis.set_xlabel("image")
        axis.legend(fontsize=7)
    axes[0][0].set_ylabel("IQR of the predicted class's attributions")
    return figure
