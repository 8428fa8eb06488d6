"""Columns of the Parquet files, with one row per image (distances: per image and layer)."""

import pyarrow as pa

# What an attack tells of each image, by the arrays of adversarial sets; null where it tells nothing
# and for clean images.
FACTS = pa.schema(
    [
        ("fooled_at", pa.int16()),  # the first step whose image fools, -1 for none
        ("fooled_last", pa.bool_()),  # whether the last step's image does
        ("loss_start", pa.float32()),  # the attack's own loss, which it raises
        ("loss_best", pa.float32()),
        ("loss_recent", pa.float32()),  # the best one when 90 % of the steps were done
        ("zero_gradients", pa.int32()),  # backward passes whose gradient was 0 everywhere
        ("bad_gradients", pa.int32()),  # or not finite
        ("forward", pa.int32()),  # passes of the networks that the attack was given
        ("backward", pa.int32()),
        ("skipped", pa.bool_()),  # not attacked: another threat fooled it, see `spare`
    ]
)

PREDICTIONS = pa.schema(
    [
        ("id", pa.int64()),
        ("threat", pa.string()),
        ("attack_point", pa.string()),
        ("purifier", pa.string()),
        ("purifier_point", pa.string()),
        ("draw", pa.int16()),  # 0, 1, ... of repetitions of a random purifier
        ("label", pa.int32()),
        ("prediction", pa.int32()),
        ("confidence", pa.float32()),  # probability of the predicted class
        ("label_rank", pa.int32()),  # place of the label among the classes, 0 = top
        ("mse_before", pa.float32()),  # mean squared difference from the clean image, unpurified
        ("mse_after", pa.float32()),  # the same after purification
        ("error_before", pa.float32()),  # reconstruction error, null without a denoiser
        ("error_after", pa.float32()),
        ("l2", pa.float32()),  # norms of the perturbation
        ("linf", pa.float32()),
        ("epsilon", pa.float32()),  # budget in [0,1] pixel units, null if there is none
        *FACTS,
    ]
)

# Predictions per pixel, the common columns; the length of `confusion` depends on the file.
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
        ("ne_d_raw", pa.float32()),  # of the modules' outputs, before ReLU
        ("cos_d_raw", pa.float32()),
    ]
)

DETECTION = pa.schema(
    [
        ("threat", pa.string()),
        ("attack_point", pa.string()),
        # The attack that the detector was fitted on: the row's, or another one for transfer.
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


# Interquartile ranges, the common columns; the other vectors' lengths depend on the file.
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
        ("most_passes", pa.int32()),  # masks of the image with the most
        ("array_bytes", pa.int64()),  # of all attributions at once, as the authors keep them
        ("peak_bytes", pa.int64()),  # peak memory of computing the features, null if unknown
        ("segmentation_seconds", pa.float32()),
        ("passes_seconds", pa.float32()),  # of all attributions, unreduced
        ("features_seconds", pa.float32()),  # of the interquartile ranges, as in the iqr stage
    ]
)

# Columns that tables and figures read, by stage.
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
    representations of Al Bared and Nassar 2021, section 3.
    """
    vectors = {"probabilities": classes, "hidden": hidden}
    fields = [pa.field(name, pa.list_(pa.float32(), size)) for name, size in vectors.items()]
    return pa.schema([*IQR, *fields])


def segmentation_schema(classes: int) -> pa.Schema:
    """Columns of predictions of one of `classes` for each pixel.

    `confusion` counts an image's pixels with a label: entry `label * classes + prediction`.
    """
    matrix = pa.field("confusion", pa.list_(pa.int32(), classes * classes))
    return pa.schema([*SEGMENTATION, matrix])
