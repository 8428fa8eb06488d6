"""Columns of the Parquet files, one row per image (distances: per image and layer)."""

import pyarrow as pa

PREDICTIONS = pa.schema(
    [
        ("id", pa.int64()),
        ("threat", pa.string()),
        ("attack_point", pa.string()),
        ("purifier", pa.string()),
        ("purifier_point", pa.string()),
        ("draw", pa.int16()),  # 0, 1, ... where the purifier is random and repeated
        ("label", pa.int32()),
        ("prediction", pa.int32()),
        ("confidence", pa.float32()),  # probability of the predicted class
        ("label_rank", pa.int32()),  # place of the label among the classes, 0 = top
        ("mse_before", pa.float32()),  # mean squared difference to the clean image, unpurified
        ("mse_after", pa.float32()),  # the same after purification
        ("error_before", pa.float32()),  # reconstruction error, null without a denoiser
        ("error_after", pa.float32()),
        ("l2", pa.float32()),  # norms of the perturbation
        ("linf", pa.float32()),
        ("epsilon", pa.float32()),  # budget in [0,1] pixel units, null where there is none
    ]
)

# Predictions of a class for each pixel; what all such files share, `confusion` is the file's own.
SEGMENTATION = pa.schema(
    [
        field
        for field in PREDICTIONS
        if field.name not in ("label", "prediction", "confidence", "label_rank")
    ]
)

DISTANCES = pa.schema(
    [
        ("id", pa.int64()),
        ("threat", pa.string()),
        ("attack_point", pa.string()),
        ("purifier", pa.string()),
        ("purifier_point", pa.string()),
        ("layer_index", pa.int16()),
        ("layer", pa.string()),
        ("elements", pa.int32()),  # n, the size of the layer's output for one image
        ("l2", pa.float32()),
        ("ne_d", pa.float32()),  # l2 / n
        ("ne_d_sqrt", pa.float32()),  # l2 / sqrt(n)
        ("cos_d", pa.float32()),
        ("ne_d_raw", pa.float32()),  # of the maps as their modules give them, before ReLU
        ("cos_d_raw", pa.float32()),
    ]
)

DETECTION = pa.schema(
    [
        ("threat", pa.string()),
        ("attack_point", pa.string()),
        # The attack that the detector was fitted on: the row's own, or by transfer another one.
        ("fitted_threat", pa.string()),
        ("fitted_point", pa.string()),
        ("attribution_point", pa.string()),
        ("representation", pa.string()),
        ("detector_point", pa.string()),
        ("protocol", pa.string()),
        ("split_seed", pa.int16()),
        ("id", pa.int64()),
        ("is_adversarial", pa.bool_()),
        ("score", pa.float32()),  # higher = more adversarial
        ("fit_seconds", pa.float32()),
    ]
)

HISTORY = pa.schema(
    [
        ("epoch", pa.int32()),
        ("iteration", pa.int64()),
        ("loss", pa.float32()),
        ("metric", pa.string()),
        ("value", pa.float32()),
        ("held_out_loss", pa.float32()),
        ("held_out_value", pa.float32()),
        ("lr", pa.float32()),
        ("epoch_seconds", pa.float32()),
    ]
)


# What all files of interquartile ranges share; the other vectors' lengths are the file's own.
IQR = pa.schema(
    [
        ("id", pa.int64()),
        ("attack_point", pa.string()),
        ("attribution_point", pa.string()),
        ("label", pa.int32()),
        ("prediction", pa.int32()),  # on the whole, unmasked image
        ("epsilon", pa.float32()),
        ("success", pa.bool_()),  # null for clean images
        ("segments", pa.int32()),
        ("predicted", pa.list_(pa.float32(), 1)),
    ]
)

# One row per attribution point, representation and repetition of the measurement.
COST = pa.schema(
    [
        ("attribution_point", pa.string()),
        ("representation", pa.string()),
        ("repetition", pa.int16()),
        ("images", pa.int32()),  # of the batch
        ("values", pa.int32()),  # length of the feature vector
        ("passes", pa.float32()),  # masks of an image, mean over the batch
        ("most_passes", pa.int32()),  # masks of the image that has the most
        ("array_bytes", pa.int64()),  # of all attributions at once, as the authors kept them
        ("peak_bytes", pa.int64()),  # what computing the features took at most, null if unknown
        ("segmentation_seconds", pa.float32()),
        ("passes_seconds", pa.float32()),  # every attribution, none reduced
        ("features_seconds", pa.float32()),  # the interquartile ranges, as the iqr stage does it
    ]
)

# Columns that a table or figure finds in the files of a stage.
STAGES = {
    "predictions": PREDICTIONS,
    "distances": DISTANCES,
    "iqr": IQR,
    "detection": DETECTION,
    "cost": COST,
}


def iqr_schema(classes: int, hidden: int) -> pa.Schema:
    """Columns of interquartile ranges for `classes` outputs and a `hidden`-long third vector.

    `predicted` (length 1), `probabilities` (length `classes`) and `hidden` are the three
    representations of segfault, section 3.
    """
    vectors = {"probabilities": classes, "hidden": hidden}
    fields = [pa.field(name, pa.list_(pa.float32(), size)) for name, size in vectors.items()]
    return pa.schema([*IQR, *fields])


def segmentation_schema(classes: int) -> pa.Schema:
    """Columns of predictions of one of `classes` for each pixel.

    `confusion` counts an image's pixels that have a class: that at row * classes + column is of the
    class `row` and taken for the class `column`.
    """
    matrix = pa.field("confusion", pa.list_(pa.int32(), classes * classes))
    return pa.schema([*SEGMENTATION, matrix])
