"""Superpixels: which pixels of an image are masked together.

Each function maps a float image [H, W, C], normalised for the classifier (the published numbers of
segments are only reproduced with z-scored images; Al Bared and Nassar 2021, section 4), to int64
labels [H, W] from 0 to K-1 without gaps; K may be 1. Methods that use the Lab colour space convert
colour images (C = 3); grey images (C = 1) are used as they are. All raise BadInput for settings out
of range and for images of another shape or with values that are not finite.
"""

from typing import Annotated

import numpy as np

from advdenoise.errors import BadInput
from advdenoise.ranges import Interval, PositiveFloat, PositiveInt, Probability


def pixels(image: np.ndarray) -> np.ndarray:
    """Each pixel as a segment, numbered row by row: the masks of ML-LOO."""
    image = _validated(image)
    return np.arange(image.shape[0] * image.shape[1]).reshape(image.shape[:2])


def slic(
    image: np.ndarray,
    *,
    n_segments: Annotated[int, Interval(ge=1, le=10**6)],
    compactness: PositiveFloat = 10.0,
    like_2021: bool = False,
) -> np.ndarray:
    """SLIC: k-means in colour and position, with connected segments (Achanta et al. 2012).

    Args:
        n_segments: approximate number of segments.
        compactness: weight of position against colour.
        like_2021: the labels of scikit-image 0.16.2, which Al Bared and Nassar 2021 used. Since
            then, scikit-image rescales images to [0, 1] first, which changes the labels of z-scored
            images, and derives the bounds of segment sizes from the number of grid centres instead
            of `n_segments`, which changes them where the two differ.
    """
    _check_at_least("n_segments", n_segments, 1)
    _check_positive("compactness", compactness)
    from skimage.segmentation import slic as segment

    image = _colour_or_grey(image)
    bounds = {}
    if like_2021:
        image = _lab(image)
        # The rescaling divides by the range; dividing the compactness by it compensates for that.
        compactness /= np.ptp(image) or 1.0
        bounds = _size_bounds_of_2021(image.shape[:2], n_segments)
    labels = segment(
        _squeeze_grey(image),
        n_segments=n_segments,
        compactness=compactness,
        convert2lab=image.shape[2] == 3 and not like_2021,
        start_label=0,
        channel_axis=_channel_axis(image),
        **bounds,
    )
    return _without_gaps(labels)


def felzenszwalb(
    image: np.ndarray,
    *,
    scale: PositiveFloat,
    sigma: Annotated[float, Interval(ge=0, le=1000)] = 0.8,
    min_size: PositiveInt = 20,
) -> np.ndarray:
    """Graph-based segmentation (Felzenszwalb and Huttenlocher 2004).

    Args:
        scale: larger values give larger segments.
        sigma: standard deviation of the smoothing beforehand, in pixels.
        min_size: minimum number of pixels of a segment.
    """
    _check_positive("scale", scale)
    _check_at_least("sigma", sigma, 0)
    _check_at_least("min_size", min_size, 1)
    from skimage.segmentation import felzenszwalb as segment

    image = _colour_or_grey(image)
    labels = segment(
        _squeeze_grey(image),
        scale=scale,
        sigma=sigma,
        min_size=min_size,
        channel_axis=_channel_axis(image),
    )
    return _without_gaps(labels)


def quickshift(
    image: np.ndarray,
    *,
    sigma: Annotated[float, Interval(ge=0, le=1000)],
    max_dist: PositiveFloat,
    ratio: Probability = 1.0,
    kernel_size: Annotated[float, Interval(ge=1, le=1000)] = 5,
) -> np.ndarray:
    """Quick shift: each pixel is linked to its nearest neighbour of higher density.

    Vedaldi and Soatto 2008.

    Args:
        sigma: standard deviation of the smoothing beforehand, in pixels.
        max_dist: maximum distance of a link; larger values give larger segments.
        ratio: weight of colour against position, in [0, 1].
        kernel_size: width of the density's kernel in pixels; larger values give larger segments.
    """
    _check_at_least("sigma", sigma, 0)
    _check_positive("max_dist", max_dist)
    _check_at_least("kernel_size", kernel_size, 1)
    from skimage.segmentation import quickshift as segment

    image = _colour_or_grey(image)
    # Ties are broken at random: a fixed seed gives an image the same labels each time.
    labels = segment(
        image,
        ratio=ratio,
        kernel_size=kernel_size,
        max_dist=max_dist,
        sigma=sigma,
        convert2lab=image.shape[2] == 3,
        rng=42,
    )
    return _without_gaps(labels)


def _validated(image: np.ndarray) -> np.ndarray:
    """The image as float64, so that labels do not depend on its dtype."""
    image = np.asarray(image, dtype=np.float64)
    if image.ndim != 3 or image.size == 0:
        raise BadInput(
            "attributions: images for superpixels must have the shape [height, width, channels], "
            f"got {image.shape}"
        )
    if not np.isfinite(image).all():
        raise BadInput(
            "attributions: an image has values that are not finite; check what produced it and "
            "produce it again"
        )
    return image


def _colour_or_grey(image: np.ndarray) -> np.ndarray:
    image = _validated(image)
    if image.shape[2] not in (1, 3):
        raise BadInput(
            f"attributions: images for superpixels must have 1 or 3 channels, got "
            f"{image.shape[2]}; use superpixels.pixels"
        )
    return image


def _squeeze_grey(image: np.ndarray) -> np.ndarray:
    return image[..., 0] if image.shape[2] == 1 else image


def _channel_axis(image: np.ndarray) -> int | None:
    return None if image.shape[2] == 1 else -1


def _lab(image: np.ndarray) -> np.ndarray:
    if image.shape[2] == 1:
        return image
    from skimage.color import rgb2lab

    return rgb2lab(image)


def _size_bounds_of_2021(shape: tuple[int, int], n_segments: int) -> dict[str, float]:
    """SLIC's factors of the minimum and maximum segment size that give the bounds of 0.16.2.

    These were 0.5 and 3 times pixels / n_segments, and are now times pixels / grid centres.
    """
    from skimage.util import regular_grid

    centres = np.zeros(shape)[regular_grid(shape, n_segments)].size
    # Both are rounded down: an integer product must not become slightly smaller.
    ratio = centres / n_segments * (1 + 1e-12)
    return {"min_size_factor": 0.5 * ratio, "max_size_factor": 3 * ratio}


def _without_gaps(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise BadInput(f"attributions: {name}: must be greater than 0, got {value}")


def _check_at_least(name: str, value: float, minimum: float) -> None:
    if not value >= minimum:
        raise BadInput(f"attributions: {name}: must be at least {minimum}, got {value}")
