"""Which rows of predictions are correct, and which were not attacked."""

from typing import TYPE_CHECKING

from advdenoise.errors import BadInput

if TYPE_CHECKING:
    import pandas as pd


def is_correct(rows: "pd.DataFrame", among_top: bool = False) -> "pd.Series":
    """Whether each row's prediction is its label.

    `among_top`: whether the label is among the k = max(1, classes // 100) largest outputs, which
    Kalaria et al. 2022 count as a hit on ImageNet.
    """
    if "prediction" not in rows:
        raise BadInput(
            f"tables: predictions of data set {rows['dataset'].iloc[0]!r} are masks, which have no "
            "accuracy; cross a data set of labels, or take a table of mIoU"
        )
    hits = rows["prediction"] == rows["label"]
    if not among_top:
        return hits
    k = (rows["classes"] // 100).clip(lower=1)
    return hits.where(k == 1, rows["label_rank"] < k)


def is_skipped(rows: "pd.DataFrame") -> "pd.Series":
    """Whether each row was not attacked, as other attacks had fooled its image (`spare`)."""
    if "skipped" not in rows:
        return rows["id"] != rows["id"]
    return rows["skipped"] == True  # noqa: E712  null where nothing is known
