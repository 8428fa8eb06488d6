"""Distances, predictions and detectors' scores of the same images, joined row by row."""

import pandas as pd

from advdenoise.graph.threats import CLEAN
from advdenoise.reporting import labels
from advdenoise.reporting.correct import is_skipped
from advdenoise.reporting.read import Results

_IMAGE = ["dataset", "split", "seed", "classifier", "id"]
_THREAT = ["threat", "attack_point"]
_PURIFIER = ["purifier", "purifier_point"]
_INPUT = [*_IMAGE, *_THREAT, *_PURIFIER]
_LAYER = ["layer_index", "layer", "elements"]
_DISTANCES = ["l2", "ne_d", "ne_d_sqrt", "cos_d", "ne_d_raw", "cos_d_raw"]
_PREDICTED = ["label", "right", "confidence", "mse_before", "mse_after"]


def join_results(
    distances: Results,
    predictions: Results,
    detection: Results | None,
    protocol: str,
    representation: str,
) -> pd.DataFrame:
    """A row for each image, threat, purifier and layer.

    Columns beside the distances are the means over a purifier's draws of `right` (whether the
    prediction is the label), confidence and noise, and for each detector and attribution
    `score ...`, its mean score over the splits that tested on the image. Detectors score images
    that are not purified: an image's score is the same behind every purifier, and that of a clean
    image the mean over the attacks that detectors were fitted on. Values that were not computed are
    null.
    """
    observed = distances.frame[[*_INPUT, *_LAYER, *_DISTANCES]]
    observed = observed.drop_duplicates([*_INPUT, "layer_index"])
    rows = observed.merge(_predicted(predictions.frame), on=_INPUT, how="left")
    rows["label"] = rows["label"].astype("Int32")  # integers also where some are null
    if detection is None:
        return rows
    scores = _scores(detection.frame, protocol, representation)
    return rows.merge(scores, on=[*_IMAGE, *_THREAT], how="left")


def _predicted(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame[~is_skipped(frame)].drop_duplicates([*_INPUT, "draw"])
    frame = frame.assign(right=(frame["prediction"] == frame["label"]).astype("float32"))
    return frame.groupby(_INPUT, sort=False, as_index=False)[_PREDICTED].mean()


def _scores(frame: pd.DataFrame, protocol: str, representation: str) -> pd.DataFrame:
    of_interest = frame["protocol"].eq(protocol) & frame["representation"].eq(representation)
    frame = frame[of_interest]
    names = ["detector", "detector_point", "attribution", "attribution_point"]
    columns = [
        f"score {labels.with_point(*names[:2])} {labels.with_point(*names[2:])}"
        for names in frame[names].itertuples(index=False, name=None)
    ]
    clean = ~frame["is_adversarial"]
    frame = frame.assign(
        column=columns,
        threat=frame["threat"].mask(clean, CLEAN),
        attack_point=frame["attack_point"].mask(clean, "default"),
    )
    index = [*_IMAGE, *_THREAT]
    wide = frame.pivot_table(index=index, columns="column", values="score", sort=False)
    return wide.rename_axis(columns=None).reset_index()
