import subprocess
import sys

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from advdenoise.datasets import embedded
from advdenoise.errors import BadInput


@pytest.fixture(scope="module")
def digits():
    return embedded.digits()


@pytest.fixture(scope="module")
def patches():
    return embedded.patches(train=40, test=20)


def test_digits(digits):
    assert digits.classes == [str(n) for n in range(10)]
    assert (len(digits.train_labels), len(digits.test_labels)) == (1437, 360)
    assert set(digits.train_labels) == set(digits.test_labels) == set(range(10))
    images = digits.read(np.arange(1797))
    assert images.shape == (1797, 1, 28, 28)
    assert images.dtype == np.uint8
    assert digits.labels(np.array([0, 1, 1796])).tolist() == [0, 1, 8]


def test_digits_are_scikit_learns_with_a_margin(digits):
    from sklearn.datasets import load_digits

    original = load_digits()
    images = digits.read(np.arange(1797))[:, 0]
    assert np.array_equal(digits.labels(np.arange(1797)), original.target)
    # Blocks keep their brightness, except for the overshoot of the bicubic interpolation
    inner = images[:, 4:24, 4:24].astype(float)
    means = inner.reshape(1797, 4, 5, 4, 5).mean(axis=(2, 4))
    expected = original.images.reshape(1797, 4, 2, 4, 2).mean(axis=(2, 4)) * 255 / 16
    assert np.corrcoef(means.ravel(), expected.ravel())[0, 1] > 0.98
    assert images[:, [0, 1, 26, 27]].max() <= 1
    assert images[:, :, [0, 1, 26, 27]].max() <= 1
    assert images.max() == 255


def test_patches(patches):
    assert len(patches.classes) == 8
    assert np.bincount(patches.train_labels).tolist() == [40] * 8
    assert np.bincount(patches.test_labels).tolist() == [20] * 8
    images = patches.read(np.arange(480))
    assert images.shape == (480, 3, 32, 32)
    assert images.dtype == np.uint8
    assert (images.std(axis=(2, 3)).max(axis=1) >= embedded.FLAT).all()


def test_patches_default_counts():
    source = embedded.patches()
    assert (len(source.train_labels), len(source.test_labels)) == (3200, 800)
    crops = {source.read(np.array([i])).tobytes() for i in range(4000)}
    assert len(crops) == 4000


def test_embedded_sets_are_the_same_each_time(digits, patches):
    assert np.array_equal(digits.read(np.arange(9)), embedded.digits().read(np.arange(9)))
    again = embedded.patches(train=40, test=20).read(np.arange(480))
    assert np.array_equal(patches.read(np.arange(480)), again)


def test_more_patches_begin_with_the_same(patches):
    more = embedded.patches(train=41, test=20)
    assert np.array_equal(more.read(np.arange(40)), patches.read(np.arange(40)))


@pytest.mark.parametrize("file", embedded.PHOTOGRAPHS.values())
def test_training_and_test_crops_share_no_pixel(file):
    photograph = embedded._photograph(file)
    height, width = photograph.shape[:2]
    is_covered = {}
    for part in ("train", "test"):
        is_covered[part] = np.zeros((height, width), bool)
        windows = sliding_window_view(is_covered[part], (32, 32), writeable=True)
        for y, x in embedded._corners(height, width, part):
            windows[y, x] = True
    assert not (is_covered["train"] & is_covered["test"]).any()
    assert is_covered["train"].any()
    assert 0.08 < is_covered["test"].mean() < 0.35


@pytest.mark.parametrize("part", ["train", "test"])
def test_crops_come_from_their_part_of_the_photograph(part):
    photograph = embedded._photograph("rocket.jpg")
    windows = sliding_window_view(photograph, (32, 32), axis=(0, 1))
    corners = embedded._corners(*photograph.shape[:2], part)
    crops = {windows[y, x].transpose(1, 2, 0).tobytes() for y, x in corners}
    assert {crop.tobytes() for crop in embedded._crops(photograph, "r", part, 60)} <= crops


def test_reduction_is_a_mean_over_separate_blocks():
    """No pixel of the original photograph affects two pixels of the reduced one."""
    from PIL import Image

    with Image.open(embedded._packaged("skimage", "data/ihc.png")) as image:
        original = np.asarray(image.convert("RGB")).astype(float)
    means = original.reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))
    assert np.abs(embedded._photograph("ihc.png") - means).max() <= 0.5


def test_scenes_do_not_depend_on_their_number_and_do_not_change_between_versions():
    source = embedded.scenes(train=3, test=2, size=97, digits=4)
    ids = np.array([4, 1])
    images, masks = source.read(ids), source.masks(ids)
    assert images.shape == (2, 3, 97, 97) and masks.shape == (2, 97, 97)
    assert source.classes == ["background", "0", "1", "2", "3"]
    assert masks.max() < 5 and all((mask > 0).mean() > 0.02 for mask in masks)
    # Fewer or more scenes of either part leave a scene as it is.
    more = embedded.scenes(train=5, test=9, size=97, digits=4)
    assert np.array_equal(more.read(np.array([6, 1])), images)
    assert np.array_equal(more.masks(np.array([6, 1])), masks)
    # Fixed up to rounding: weights and tables on disk depend on these scenes.
    counts = [np.bincount(mask.ravel(), minlength=5) for mask in masks]
    assert np.allclose(counts, [[7832, 249, 0, 1328, 0], [8468, 0, 0, 0, 941]], atol=3)


def test_the_mask_covers_the_ink():
    """Compare a scene with the same crop of the photograph without digits."""
    painter = embedded._Painter(129, 10)
    image, mask = painter.scene("test", 3)
    background = painter._crop("test", np.random.RandomState([3, True]))
    changed = (image != background).any(axis=2)
    assert changed[mask > 0].mean() > 0.95
    change = np.abs(image.astype(int) - background).max(axis=2)
    assert np.median(change[mask > 0]) > 4 * np.median(change[(mask == 0) & changed])


def test_scenes_of_the_two_parts_share_no_digit_and_no_pixel():
    painter = embedded._Painter(129, 10)
    assert (len(painter._digits["train"]), len(painter._digits["test"])) == (1437, 360)
    # One photograph whose pixels say which column they are from
    columns = np.arange(451, dtype=np.uint16)[None, :, None].repeat(300, 0).repeat(3, 2)
    painter._photographs = [columns]
    crops = {
        part: [painter._crop(part, np.random.RandomState(i)) for i in range(40)]
        for part in ("train", "test")
    }
    assert np.max(crops["train"]) < 300 <= np.min(crops["test"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": 0}, "train must be a whole number at least 1, got 0$"),
        ({"size": 160}, "size must be a whole number in .32, 151., got 160"),
        ({"digits": 11}, "digits must be a whole number in .1, 10., got 11"),
        ({"test": 1.5}, "test must be a whole number at least 1, got 1.5"),
    ],
)
def test_invalid_settings_of_scenes(settings, message):
    with pytest.raises(BadInput, match=f"^embedded.scenes: settings.{message}"):
        embedded.scenes(**settings)


@pytest.mark.parametrize("settings", [{"train": 0}, {"test": -1}, {"train": 2.5}, {"test": True}])
def test_invalid_numbers_of_patches(settings):
    with pytest.raises(BadInput, match="must be a whole number at least 1, got"):
        embedded.patches(**settings)


def test_more_crops_than_a_photograph_has():
    with pytest.raises(BadInput, match="test is 100000, but astronaut.png has .* smaller number"):
        embedded.patches(train=1, test=100_000)


def test_a_file_missing_from_a_package():
    with pytest.raises(BadInput, match="nothing.png is missing: this version of skimage"):
        embedded._packaged("skimage", "data/nothing.png")
    with pytest.raises(BadInput, match="no_such_package is not installed"):
        embedded._packaged("no_such_package", "x")


def test_reading_imports_no_heavy_library():
    code = (
        "import sys; from advdenoise.datasets import archives, embedded, folders;"
        "from advdenoise.stages import images; embedded.digits(); embedded.patches();"
        "print({'torch', 'torchvision', 'sklearn', 'skimage', 'scipy'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"
