"""Real images from installed packages: these data sets need no download and no data root."""

import gzip
import importlib.util
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image

from advdenoise.datasets._source import DenseSource, Extent, Source, in_memory, with_extent
from advdenoise.errors import BadInput
from advdenoise.ranges import Interval, PositiveInt

TEST_DIGITS = 360
PHOTOGRAPHS = {
    "astronaut": "astronaut.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "galaxies": "hubble_deep_field.jpg",
    "tissue": "ihc.png",
    "motorcycle": "motorcycle_left.png",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
}
# Sides in pixels of a crop, and of the cells that are for training or for test
CROP = 32
CELL = 64
# A crop whose standard deviation (0..255) is smaller in all channels is left out.
FLAT = 4.0
# Opacity of the ink
INK = 0.6


@with_extent(lambda: Extent(1437, TEST_DIGITS, (1, 28, 28), 10))
def digits() -> Source:
    """The 1,797 handwritten digits of scikit-learn as 28x28 grey images, 360 of them for test.

    The 8x8 images (0..16) are enlarged 2.5 times (bicubic) to 20x20 in the middle of a black
    28x28 image, as in MNIST, so that digits have the size that networks for MNIST expect, and
    strokes at the border of the 8x8 image have a margin. The last 360 images of the file are the
    test part: other people wrote them.
    """
    small, labels = _digits()
    images = np.stack([_enlarge(image) for image in small])
    classes = [str(digit) for digit in range(10)]
    return in_memory(classes, images[:, None], labels, len(labels) - TEST_DIGITS)


def _patches(*, train: int = 400, test: int = 100) -> Extent:
    count = len(PHOTOGRAPHS)
    return Extent(count * train, count * test, (3, CROP, CROP), count)


@with_extent(_patches)
def patches(*, train: PositiveInt = 400, test: PositiveInt = 100) -> Source:
    """32x32 colour crops of eight photographs of scikit-image; the class is the photograph.

    Each photograph is first reduced by the integer factor that brings its shorter side nearest to
    256 pixels (200 to 300), so that a crop shows part of an object and not a smooth surface. It is
    then divided into cells of 64x64, one in five of them, evenly spread, for test. A crop lies
    entirely inside a test cell or entirely outside of all. The reduction is a mean over blocks, so
    that training and test crops share no pixel of the original photograph either. Crops without
    content (the retina's black rim) are left out. Crops are drawn at random from a fixed seed.

    Args:
        train, test: crops per class in each part.

    Raises:
        BadInput: for a number below 1, or above that of a photograph's crops.
    """
    parts: dict[str, list] = {"train": [], "test": []}
    labels: dict[str, list] = {"train": [], "test": []}
    for label, file in enumerate(PHOTOGRAPHS.values()):
        photograph = _photograph(file)
        for part, count in (("train", train), ("test", test)):
            parts[part].append(_crops(photograph, file, part, count))
            labels[part] += [label] * count
    images = np.concatenate(parts["train"] + parts["test"]).transpose(0, 3, 1, 2)
    all_labels = np.array(labels["train"] + labels["test"])
    return in_memory(list(PHOTOGRAPHS), images, all_labels, len(labels["train"]))


def _scenes(*, train: int = 240, test: int = 60, size: int = 129, digits: int = 10) -> Extent:
    return Extent(train, test, (3, size, size), 1 + digits, dense=True)


@with_extent(_scenes)
def scenes(
    *,
    train: PositiveInt = 240,
    test: PositiveInt = 60,
    size: Annotated[int, Interval(ge=32, le=151)] = 129,
    digits: Annotated[int, Interval(ge=1, le=10)] = 10,
) -> DenseSource:
    """Handwritten digits on photographs, with a mask of the digits' pixels: a dense data set.

    A scene is a crop of `size` x `size` pixels of one of scikit-image's photographs, reduced until
    its shorter side is nearest to 512 pixels. Two to four quarters of it contain one of
    scikit-learn's digits, enlarged from 8x8 (bicubic) to between 0.3 and 0.46 of the side. Its
    ink has an opacity of 0.6 and in each channel the extreme that is farther from the background.
    A pixel is in the mask where ink covers more than half of it; all others are class 0,
    `background`. Only digits below `digits` are used, so there are `digits` + 1 classes.

    Test scenes use other digits (the last 360 of the file, which other people wrote) and another
    part of the photographs (their right third) than training scenes. A scene depends only on its
    part and number, so scenes stay the same when there are more or fewer of them.

    Args:
        train, test: numbers of scenes.
        size: the side in pixels, 32 to 151 (the width of the narrowest part of a photograph).
        digits: 1 to 10.

    Raises:
        BadInput: for a setting outside of these ranges.
    """
    bounds: dict[str, tuple[int, int, int | None]] = {
        "train": (train, 1, None),
        "test": (test, 1, None),
    }
    bounds |= {"size": (size, 32, 151), "digits": (digits, 1, 10)}
    for name, (value, low, high) in bounds.items():
        _check_number("scenes", name, value, low, high)
    painter = _Painter(size, digits)
    scene_keys = [("train", i) for i in range(train)] + [("test", i) for i in range(test)]

    def read(ids: np.ndarray) -> np.ndarray:
        return np.stack([painter.scene(*scene_keys[i])[0].transpose(2, 0, 1) for i in ids])

    def masks(ids: np.ndarray) -> np.ndarray:
        return np.stack([painter.scene(*scene_keys[i])[1] for i in ids])

    classes = ["background", *map(str, range(digits))]
    return Source(classes, np.zeros(train, np.int64), np.zeros(test, np.int64), read, masks)


class _Painter:
    """Paint digits on crops of photographs."""

    def __init__(self, side: int, digits: int):
        self._side = side
        small, labels = _digits()
        last = len(labels) - TEST_DIGITS
        self._digits = {
            part: [(image, label) for image, label in zip(small[cut], labels[cut], strict=True)]
            for part, cut in (("train", slice(last)), ("test", slice(last, None)))
        }
        for part, pairs in self._digits.items():
            self._digits[part] = [(image, label) for image, label in pairs if label < digits]
        self._photographs = [_photograph(file, 512) for file in PHOTOGRAPHS.values()]

    def scene(self, part: str, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 [side, side, 3] and mask uint8 [side, side]."""
        # RandomState's streams are frozen: the same scenes with every version of NumPy
        random = np.random.RandomState([number, part == "test"])
        image, mask = self._crop(part, random), np.zeros((self._side, self._side), np.uint8)
        half = self._side // 2
        for quarter in random.permutation(4)[: random.randint(2, 5)]:
            digit, label = self._digits[part][random.randint(len(self._digits[part]))]
            size = random.randint(round(0.3 * self._side), round(0.46 * self._side) + 1)
            y, x = half * np.array(divmod(quarter, 2)) + random.randint(half - size + 1, size=2)
            window = np.s_[y : y + size, x : x + size]
            cover = _enlarge_to_cover(digit, size)
            image[window] = _add_ink(image[window], INK * cover)
            mask[window][cover > 0.5] = label + 1
        return image, mask

    def _crop(self, part: str, random: np.random.RandomState) -> np.ndarray:
        photograph = self._photographs[random.randint(len(self._photographs))]
        border = photograph.shape[1] * 2 // 3
        photograph = photograph[:, border:] if part == "test" else photograph[:, :border]
        y, x = (random.randint(length - self._side + 1) for length in photograph.shape[:2])
        return photograph[y : y + self._side, x : x + self._side].copy()


def _enlarge_to_cover(digit: np.ndarray, size: int) -> np.ndarray:
    """A digit of 8x8 (0..16) enlarged to the share of ink in [0,1] of size x size pixels."""
    bright = Image.fromarray(digit.astype(np.float32) / 16)
    return np.clip(np.asarray(bright.resize((size, size), Image.Resampling.BICUBIC)), 0, 1)


def _add_ink(background: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """Blend `background` [H, W, 3] with ink by `cover` [H, W] in [0,1].

    A channel of the ink is 255 if the background is dark there on average, and 0 if it is bright.
    """
    ink = np.where(background.mean(axis=(0, 1)) < 128, 255, 0)
    covered = background + cover[..., None] * (ink - background.astype(np.float32))
    return np.rint(covered).astype(np.uint8)


def _check_number(function: str, name: str, value, low: int, high: int | None = None) -> None:
    is_int = isinstance(value, int) and not isinstance(value, bool)
    if not is_int or value < low or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"in [{low}, {high}]"
        raise BadInput(
            f"embedded.{function}: settings.{name} must be a whole number {bounds}, got {value!r}"
        )


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits: images uint8 [1797, 8, 8] in 0..16, and their labels."""
    with gzip.open(_packaged("sklearn", "datasets/data/digits.csv.gz"), "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    return table[:, :64].reshape(-1, 8, 8), table[:, 64]


def _packaged(package: str, file: str) -> Path:
    """The path of a data file in a package, which is not imported because that takes seconds."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise BadInput(f"the package {package} is not installed; install the pinned environment")
    path = Path(spec.submodule_search_locations[0]) / file
    if not path.is_file():
        raise BadInput(
            f"{path} is missing: this version of {package} comes without it; "
            "install the pinned environment"
        )
    return path


def _enlarge(image: np.ndarray) -> np.ndarray:
    """An image 8x8 (0..16) as 28x28 (0..255) with a margin of four pixels."""
    bright = Image.fromarray(np.pad(image.astype(np.float32) * (255 / 16), 4))
    # 28 pixels at 2.5 pixels each are 11.2 of the 16, around their middle
    large = bright.resize((28, 28), Image.Resampling.BICUBIC, box=(2.4, 2.4, 13.6, 13.6))
    return np.clip(np.rint(np.asarray(large)), 0, 255).astype(np.uint8)


def _photograph(file: str, shorter: int = 256) -> np.ndarray:
    """A photograph of scikit-image, reduced to a shorter side near `shorter`: uint8 [H, W, 3]."""
    with Image.open(_packaged("skimage", f"data/{file}")) as image:
        factor = max(1, round(min(image.size) / shorter))
        return np.asarray(image.convert("RGB").reduce(factor))


def _corners(height: int, width: int, part: str) -> np.ndarray:
    """The upper left corners [n, 2] of all crops in one part of a photograph.

    A crop is smaller than a cell, so its pixels are in the cells of its four corners. No two test
    cells are adjacent, so if four corners are in test cells, they are in the same one.
    """
    rows, columns = np.arange(height) // CELL, np.arange(width) // CELL
    is_test = (2 * rows[:, None] + columns) % 5 == 2
    last = CROP - 1
    corners_in_test = [
        is_test[y : height - last + y, x : width - last + x] for y in (0, last) for x in (0, last)
    ]
    valid = np.all(corners_in_test, axis=0) if part == "test" else ~np.any(corners_in_test, axis=0)
    return np.argwhere(valid)


def _crops(photograph: np.ndarray, file: str, part: str, count: int) -> np.ndarray:
    """`count` distinct crops of one part that are not flat: uint8 [count, 32, 32, 3]."""
    _check_number("patches", part, count, 1)
    height, width = photograph.shape[:2]
    corners = _corners(height, width, part)
    # RandomState's streams are frozen: the same crops with every version of NumPy
    order = np.random.RandomState(0).permutation(len(corners))
    crops: dict = {}
    for y, x in corners[order]:
        crop = photograph[y : y + CROP, x : x + CROP]
        if crop.std(axis=(0, 1)).max() >= FLAT:
            crops.setdefault(crop.tobytes(), crop)
        if len(crops) == count:
            return np.stack(list(crops.values()))
    raise BadInput(
        f"embedded.patches: settings.{part} is {count}, but {file} has {len(crops)} different "
        "crops for it; use a smaller number"
    )
