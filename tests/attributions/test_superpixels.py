import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advdenoise.attributions import superpixels
from advdenoise.errors import BadInput

METHODS = {
    "pixels": superpixels.pixels,
    "slic": lambda image: superpixels.slic(image, n_segments=16),
    "slic_2021": lambda image: superpixels.slic(image, n_segments=16, like_2021=True),
    "felzenszwalb": lambda image: superpixels.felzenszwalb(image, scale=10),
    "quickshift": lambda image: superpixels.quickshift(image, sigma=1, max_dist=10),
}


def create_image(kind, height, width, channels, seed=0):
    noise = np.random.default_rng(seed).normal(size=(height, width, channels))
    ramp = np.linspace(-2, 2, height * width * channels).reshape(height, width, channels)
    return {"constant": np.full_like(noise, 0.3), "noise": noise, "ramp": ramp}[kind]


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(["constant", "noise", "ramp"]),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([1, 3]),
    st.integers(0, 9),
)
def test_labels_count_from_zero_without_gaps(method, kind, height, width, channels, seed):
    image = create_image(kind, height, width, channels, seed)
    labels = METHODS[method](image)
    assert labels.shape == (height, width)
    assert labels.dtype == np.int64
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert np.array_equal(labels, METHODS[method](image.copy()))


@pytest.mark.parametrize("method", METHODS)
def test_labels_do_not_depend_on_the_dtype(method):
    image = create_image("noise", 12, 12, 3).astype(np.float32)
    assert np.array_equal(METHODS[method](image), METHODS[method](image.astype(np.float64)))


def test_pixels_are_numbered_row_by_row():
    assert superpixels.pixels(np.zeros((2, 3, 1))).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_constant_image_may_have_one_segment():
    assert not superpixels.felzenszwalb(create_image("constant", 8, 8, 3), scale=1).any()


def test_two_colours_are_two_segments():
    image = np.zeros((16, 16, 3))
    image[:, 8:] = 1
    expected = np.arange(16) >= 8
    labels = superpixels.felzenszwalb(image, scale=1, sigma=0)
    assert np.array_equal(labels == labels[0, 15], np.broadcast_to(expected, (16, 16)))
    assert labels.max() == 1
    assert np.array_equal(np.unique(superpixels.slic(image, n_segments=4)[:, 7:9]), range(4))


def test_slic_of_2021_depends_on_the_scale_of_the_image():
    # The current version rescales images first, the old one did not.
    image = create_image("noise", 16, 16, 3) * 0.1 + create_image("ramp", 16, 16, 3)
    current = [superpixels.slic(i, n_segments=20) for i in (image, image * 30)]
    old = [superpixels.slic(i, n_segments=20, like_2021=True) for i in (image, image * 30)]
    assert np.array_equal(*current)
    assert not np.array_equal(*old)


# Results of scikit-image 0.16.2 for four z-scored crops of a photograph: their numbers of segments
# and a digest of the label maps.
LABELS_OF_0_16_2 = {
    5: ([4, 4, 4, 4], "dd7cb438fcd6b125"),
    20: ([16, 18, 25, 15], "e90542efca27d86f"),
    32: ([18, 18, 25, 26], "9751c4943c05b593"),
    50: ([27, 30, 36, 37], "20e55acacab66c0b"),
    64: ([43, 48, 64, 55], "003fbcf02dc49dd5"),
    100: ([86, 94, 120, 88], "e4a8a75f83135bb6"),
    128: ([92, 105, 121, 102], "d397449d08dbba17"),
}
CROPS = ((0, 0, 32, 32), (96, 160, 32, 32), (200, 200, 32, 32), (130, 220, 28, 40))


@pytest.mark.parametrize("n_segments", LABELS_OF_0_16_2)
def test_slic_of_2021_has_the_labels_of_scikit_image_0_16_2(n_segments):
    from skimage import data

    photograph = (data.astronaut().astype(float) - 120.70748) / 64.150024
    maps = [
        superpixels.slic(photograph[y : y + h, x : x + w], n_segments=n_segments, like_2021=True)
        for y, x, h, w in CROPS
    ]
    pixels = b"".join(labels.astype(np.uint8).tobytes() for labels in maps)
    counts = [int(labels.max()) + 1 for labels in maps]
    assert (counts, hashlib.sha256(pixels).hexdigest()[:16]) == LABELS_OF_0_16_2[n_segments]


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 96), st.integers(1, 96), st.integers(1, 400))
def test_slic_of_2021_bounds_sizes_by_n_segments(height, width, n_segments):
    from skimage.util import regular_grid

    factors = superpixels._size_bounds_of_2021((height, width), n_segments)
    centres = np.zeros((1, height, width))[regular_grid((1, height, width), n_segments)].size
    size = height * width / n_segments
    for name, factor in (("min_size_factor", 0.5), ("max_size_factor", 3)):
        assert int(factors[name] * (height * width / centres)) == int(factor * size)


@pytest.mark.parametrize("channels", [1, 3])
def test_slic_of_2021_is_slic_without_rescaling(channels, monkeypatch):
    """The old one divides Lab by the compactness; checked on the input of the k-means."""
    from skimage.color import rgb2lab
    from skimage.segmentation import slic_superpixels

    image = create_image("noise", 10, 10, channels)
    lab = rgb2lab(image) if channels == 3 else image
    inputs = []
    kmeans = slic_superpixels._slic_cython

    def record(image, *arguments, **settings):
        inputs.append(np.array(image[0]))
        return kmeans(image, *arguments, **settings)

    monkeypatch.setattr(slic_superpixels, "_slic_cython", record)
    superpixels.slic(image, n_segments=8, compactness=5, like_2021=True)
    # Distances do not depend on an offset of all colours.
    np.testing.assert_allclose(inputs[0], (lab - lab.min()) / 5, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_that_is_not_finite_is_refused(method, value):
    image = create_image("noise", 8, 8, 3)
    image[3, 4, 1] = value
    with pytest.raises(BadInput, match="not finite"):
        METHODS[method](image)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(8, 8), (2, 8, 8, 3), (0, 8, 3)])
def test_other_shapes_are_refused(method, shape):
    with pytest.raises(BadInput, match="shape"):
        METHODS[method](np.zeros(shape))


def test_images_with_other_channels_have_pixels_only():
    image = np.zeros((4, 4, 5))
    assert superpixels.pixels(image).max() == 15
    with pytest.raises(BadInput, match=r"1 or 3 channels, got 5; use superpixels\.pixels"):
        superpixels.slic(image, n_segments=4)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda image: superpixels.slic(image, n_segments=0), "n_segments"),
        (lambda image: superpixels.slic(image, n_segments=4, compactness=0), "compactness"),
        (lambda image: superpixels.felzenszwalb(image, scale=-1), "scale"),
        (lambda image: superpixels.felzenszwalb(image, scale=1, sigma=-1), "sigma"),
        (lambda image: superpixels.felzenszwalb(image, scale=1, min_size=0), "min_size"),
        (lambda image: superpixels.quickshift(image, sigma=-1, max_dist=1), "sigma"),
        (lambda image: superpixels.quickshift(image, sigma=0, max_dist=0), "max_dist"),
        (
            lambda image: superpixels.quickshift(image, sigma=0, max_dist=1, kernel_size=0),
            "kernel_size",
        ),
    ],
)
def test_settings_out_of_range_are_refused(call, name):
    with pytest.raises(BadInput, match=rf"attributions: {name}: must be "):
        call(create_image("noise", 4, 4, 3))
