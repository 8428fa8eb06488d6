"""Real images that come with installed packages: no download, no data root."""

import gzip
import importlib.util
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image

from advdenoise.datasets._source import DenseSource, Extent, Source, holds, in_memory
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
CROP = 32
CELL = 64
FLAT = 4.0
INK = 0.6


@holds(lambda: Extent(1437, TEST_DIGITS, (1, 28, 28), 10))
def digits() -> Source:
    """The 1,797 handwritten digits of scikit-learn as 28x28 grey images, 360 of them for test.

    The 8x8 images (0..16) are enlarged 2.5 times, bicubic, to 20x20 in the middle of a black
    28x28 image: that is MNIST's own frame, so that networks made for MNIST see a digit of the size
    that they expect, with a margin for the strokes that touch the border of the 8x8 image. The
    last 360 images of the file are the test part, for other people wrote them than the rest.
    """
    small, labels = _digits()
    images = np.stack([_enlarge(image) for image in small])
    classes = [str(digit) for digit in range(10)]
    return in_memory(classes, images[:, None], labels, len(labels) - TEST_DIGITS)


def _patches(*, train: int = 400, test: int = 100) -> Extent:
    count = len(PHOTOGRAPHS)
    return Extent(count * train, count * test, (3, CROP, CROP), count)


@holds(_patches)
def patches(*, train: PositiveInt = 400, test: PositiveInt = 100) -> Source:
    """32x32 colour crops of eight photographs of scikit-image; the class is the photograph.

    Each photograph is first reduced by the whole factor that brings its shorter side nearest to
    256 pixels (they end between 200 and 300), so that a crop shows a part of a thing and not a
    smooth surface. It is then cut into cells of 64x64: one cell in five, spread evenly, is for
    test, and a crop lies either wholly in such a cell or wholly outside of all. The reduction is a
    mean over blocks, so not even a pixel of the original photograph is shared. Crops without
    content (the retina's black rim) are left out; the rest is drawn at random, the same each time.

    `train` and `test` are crops per class. Raises `BadInput` where a photograph has not so many.
    """
    parts: dict[str, list] = {"train": [], "test": []}
    labels: dict[str, list] = {"train": [], "test": []}
    for label, file in enumerate(PHOTOGRAPHS.values()):
        photograph = _photograph(file)
        for part, count in (("train", train), ("test", test)):
            parts[part].append(_crops(photograph, file, part, count))
            labels[part] += [label] * count
    images = np.concatenate(parts["train"] + parts["test"]).transpose(0, 3, 1, 2)
    everything = np.array(labels["train"] + labels["test"])
    return in_memory(list(PHOTOGRAPHS), images, everything, len(labels["train"]))


def _scenes(*, train: int = 240, test: int = 60, size: int = 129, digits: int = 10) -> Extent:
    return Extent(train, test, (3, size, size), 1 + digits, dense=True)


@holds(_scenes)
def scenes(
    *,
    train: PositiveInt = 240,
    test: PositiveInt = 60,
    size: Annotated[int, Interval(ge=32, le=151)] = 129,
    digits: Annotated[int, Interval(ge=1, le=10)] = 10,
) -> DenseSource:
    """Handwritten digits on photographs, each with a mask of its own pixels: a dense data set.

    A scene is a crop of `size` x `size` pixels of one of scikit-image's photographs, reduced until
    its shorter side is nearest to 512 pixels. Two to four of scikit-learn's digits stand in its
    quarters, enlarged from 8x8 (bicubic) to between 0.3 and 0.46 of the side, in an ink of black
    and full primary colours that is far from the background there and lets 0.4 of it through. Their
    mask is where ink covers more than half of a pixel; everything else is class 0, `background`.
    Only the digits below `digits` occur, so there are `digits` + 1 classes.

    Test scenes are of other digits (the last 360 of the file, which other people wrote) and of
    another part of the photographs (their right third) than training scenes. A scene depends on its
    part and number alone, so fewer or more of them leave the others as they are.

    `train` and `test` are numbers of scenes. Raises `BadInput` for a number of scenes below one, of
    digits that is not 1 to 10, and a size that is not 32 to 151, the width of the narrowest part.
    """
    bounds: dict[str, tuple[int, int, int | None]] = {
        "train": (train, 1, None),
        "test": (test, 1, None),
    }
    bounds |= {"size": (size, 32, 151), "digits": (digits, 1, 10)}
    for name, (value, least, most) in bounds.items():
        _check_number(name, value, least, most)
    painter = _Painter(size, digits)
    places = [("train", i) for i in range(train)] + [("test", i) for i in range(test)]

    def read(ids: np.ndarray) -> np.ndarray:
        return np.stack([painter.scene(*places[i])[0].transpose(2, 0, 1) for i in ids])

    def masks(ids: np.ndarray) -> np.ndarray:
        return np.stack([painter.scene(*places[i])[1] for i in ids])

    classes = ["background", *map(str, range(digits))]
    return Source(classes, np.zeros(train, np.int64), np.zeros(test, np.int64), read, masks)


class _Painter:
    """Paints scenes: a photograph's crop with digits in some of its quarters."""

    def __init__(self, side: int, digits: int):
        self._side = side
        small, labels = _digits()
        last = len(labels) - TEST_DIGITS
        self._digits = {
            part: [(image, label) for image, label in zip(small[cut], labels[cut], strict=True)]
            for part, cut in (("train", slice(last)), ("test", slice(last, None)))
        }
        for part, known in self._digits.items():
            self._digits[part] = [(image, label) for image, label in known if label < digits]
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
            there = np.s_[y : y + size, x : x + size]
            cover = _stretch(digit, size)
            image[there] = _inked(image[there], INK * cover)
            mask[there][cover > 0.5] = label + 1
        return image, mask

    def _crop(self, part: str, random: np.random.RandomState) -> np.ndarray:
        photograph = self._photographs[random.randint(len(self._photographs))]
        border = photograph.shape[1] * 2 // 3
        photograph = photograph[:, border:] if part == "test" else photograph[:, :border]
        y, x = (random.randint(length - self._side + 1) for length in photograph.shape[:2])
        return photograph[y : y + self._side, x : x + self._side].copy()


def _stretch(digit: np.ndarray, size: int) -> np.ndarray:
    """A digit of 8x8 (0..16) as the share of ink in [0,1] at each of size x size pixels."""
    bright = Image.fromarray(digit.astype(np.float32) / 16)
    return np.clip(np.asarray(bright.resize((size, size), Image.Resampling.BICUBIC)), 0, 1)


def _inked(background: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """The background where ink covers it by so much: full where it is dark, none where bright."""
    ink = np.where(background.mean(axis=(0, 1)) < 128, 255, 0)
    covered = background + cover[..., None] * (ink - background.astype(np.float32))
    return np.rint(covered).astype(np.uint8)


def _check_number(name: str, value, least: int, most: int | None) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        reach = f"from {least}" if most is None else f"from {least} to {most}"
        raise BadInput(f"embedded.scenes: {name} is {value!r}; give a whole number {reach}")


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits: uint8 [1797, 8, 8] in 0..16, and which digit each is."""
    with gzip.open(_packaged("sklearn", "datasets/data/digits.csv.gz"), "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    return table[:, :64].reshape(-1, 8, 8), table[:, 64]


def _packaged(package: str, file: str) -> Path:
    """A data file inside an installed package, without importing it: that would cost seconds."""
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
    bright = Image.fromarray(np.pad(image.astype(np.float32) * (255 / 16), 4))
    # 28 pixels at 2.5 pixels each are 11.2 of the 16, around their middle
    large = bright.resize((28, 28), Image.Resampling.BICUBIC, box=(2.4, 2.4, 13.6, 13.6))
    return np.clip(np.rint(np.asarray(large)), 0, 255).astype(np.uint8)


def _photograph(file: str, shorter: int = 256) -> np.ndarray:
    """A photograph of scikit-image, reduced until its shorter side is about that: [H, W, 3]."""
    with Image.open(_packaged("skimage", f"data/{file}")) as image:
        factor = max(1, round(min(image.size) / shorter))
        return np.asarray(image.convert("RGB").reduce(factor))


def _corners(height: int, width: int, part: str) -> np.ndarray:
    """The upper left corners [n, 2] of all crops that lie in one part of a photograph.

    A crop is smaller than a cell, so it touches just the cells of its own four corners; no two
    test cells are neighbours, so four corners in test cells are in one.
    """
    rows, columns = np.arange(height) // CELL, np.arange(width) // CELL
    is_test = (2 * rows[:, None] + columns) % 5 == 2
    last = CROP - 1
    touched = [
        is_test[y : height - last + y, x : width - last + x] for y in (0, last) for x in (0, last)
    ]
    inside = np.all(touched, axis=0) if part == "test" else ~np.any(touched, axis=0)
    return np.argwhere(inside)


def _crops(photograph: np.ndarray, file: str, part: str, count: int) -> np.ndarray:
    """`count` crops of one part, uint8 [count, 32, 32, 3], distinct and not flat."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise BadInput(f"embedded.patches: {part} is {count!r}; give a whole number from 1")
    height, width = photograph.shape[:2]
    corners = _corners(height, width, part)
    # RandomState's streams are frozen: the same crops with every version of NumPy
    order = np.random.RandomState(0).permutation(len(corners))
    found: dict = {}
    for y, x in corners[order]:
        crop = photograph[y : y + CROP, x : x + CROP]
        if crop.std(axis=(0, 1)).max() >= FLAT:
            found.setdefault(crop.tobytes(), crop)
        if len(found) == count:
            return np.stack(list(found.values()))
    raise BadInput(
        f"embedded.patches: {part} is {count}, but {file} has {len(found)} different crops there; "
        "ask for fewer"
    )
