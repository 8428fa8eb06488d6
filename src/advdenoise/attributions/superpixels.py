"""Label maps of an image: which pixels are masked together.

Every function takes an image [H, W, C], float, as the classifier's normalisation sees it (the
published segment counts only come out on z-scored images; "segfault", section 4), and gives int64
labels [H, W] from 0 to K-1 without gaps; K may be 1. Colour images (C = 3) are compared in the Lab
colour space where the method does so, grey ones (C = 1) as they are.
"""

from typing import Annotated

import numpy as np

from advdenoise.errors import BadInput
from advdenoise.ranges import Interval, PositiveFloat, PositiveInt, Probability


def pixels(image: np.ndarray) -> np.ndarray:
    """Every pixel by itself, numbered row by row: ML-LOO's masks."""
    image = _checked(image)
    return np.arange(image.shape[0] * image.shape[1]).reshape(image.shape[:2])


def slic(
    image: np.ndarray,
    *,
    n_segments: Annotated[int, Interval(ge=1, le=10**6)],
    compactness: PositiveFloat = 10.0,
    like_2021: bool = False,
) -> np.ndarray:
    """SLIC: k-means in colour and place, made connected.

    Args:
        n_segments: about how many segments; the image decides.
        compactness: weight of place against colour.
        like_2021: the labels of scikit-image 0.16.2, which "segfault" was written with. It has
            since come to stretch an image to [0, 1] first, which changes the labels of z-scored
            images, and to derive the bounds of a segment's size from the number of grid centres
            in the place of `n_segments`, which changes them where the two differ.
    """
    _at_least("n_segments", n_segments, 1)
    _positive("compactness", compactness)
    from skimage.segmentation import slic as segment

    image = _colour_or_grey(image)
    bounds = {}
    if like_2021:
        image = _lab(image)
        # The stretching divides by the span, so dividing the compactness by it undoes it.
        compactness /= np.ptp(image) or 1.0
        bounds = _size_bounds_of_2021(image.shape[:2], n_segments)
    labels = segment(
        _flat_grey(image),
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
    """Felzenszwalb and Huttenlocher's merging of a minimum spanning tree.

    Args:
        scale: larger gives larger segments.
        sigma: width in pixels of the smoothing before.
        min_size: pixels that a segment has at least.
    """
    _positive("scale", scale)
    _at_least("sigma", sigma, 0)
    _at_least("min_size", min_size, 1)
    from skimage.segmentation import felzenszwalb as segment

    image = _colour_or_grey(image)
    labels = segment(
        _flat_grey(image),
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
    """Quick shift: every pixel climbs to its nearest neighbour of higher density.

    Args:
        sigma: width in pixels of the smoothing before.
        max_dist: longest step; larger gives larger segments.
        ratio: weight of colour against place, in [0, 1].
        kernel_size: width in pixels of the density's kernel; larger gives larger segments.
    """
    _at_least("sigma", sigma, 0)
    _positive("max_dist", max_dist)
    _at_least("kernel_size", kernel_size, 1)
    from skimage.segmentation import quickshift as segment

    image = _colour_or_grey(image)
    # Ties are broken at random: with a seed of its own, an image always has the same labels.
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


def _checked(image: np.ndarray) -> np.ndarray:
    """The image as float64, so that labels do not depend on the type it was stored in."""
    image = np.asarray(image, dtype=np.float64)
    if image.ndim != 3 or image.size == 0:
        raise BadInput(
            f"attributions: an image has the shape {image.shape}, but superpixels need "
            "[height, width, channels]; give images of that kind"
        )
    if not np.isfinite(image).all():
        raise BadInput(
            "attributions: an image holds values that are not finite, so it has no superpixels; "
            "look for what made it and make it again"
        )
    return image


def _colour_or_grey(image: np.ndarray) -> np.ndarray:
    image = _checked(image)
    if image.shape[2] not in (1, 3):
        raise BadInput(
            f"attributions: an image has {image.shape[2]} channels, but superpixels need 1 (grey) "
            "or 3 (colour); use superpixels.pixels"
        )
    return image


def _flat_grey(image: np.ndarray) -> np.ndarray:
    return image[..., 0] if image.shape[2] == 1 else image


def _channel_axis(image: np.ndarray) -> int | None:
    return None if image.shape[2] == 1 else -1


def _lab(image: np.ndarray) -> np.ndarray:
    if image.shape[2] == 1:
        return image
    from skimage.color import rgb2lab

    return rgb2lab(image)


def _size_bounds_of_2021(shape: tuple[int, int], n_segments: int) -> dict[str, float]:
    """SLIC's factors of the smallest and largest segment that give the bounds of 0.16.2.

    There they are 0.5 and 3 times pixels / n_segments, today times pixels / grid centres.
    """
    from skimage.util import regular_grid

    centres = np.zeros(shape)[regular_grid(shape, n_segments)].size
    # Both are rounded down: a product that is whole must not fall short of it.
    ratio = centres / n_segments * (1 + 1e-12)
    return {"min_size_factor": 0.5 * ratio, "max_size_factor": 3 * ratio}


def _without_gaps(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise BadInput(f"attributions: {name} is {value}; give a number above 0")


def _at_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise BadInput(f"attributions: {name} is {value}; give {least} or more")
