"""Real images that come with installed packages: no download, no data root."""

import gzip
import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

from scripts.advdenoise.datasets._source import Extent, Source, holds, in_memory
from scripts.advdenoise.errors import BadInput

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


@holds(lambda: Extent(1437, TEST_DIGITS, (1, 28, 28), 10))
def digits() -> Source:
    """The 1,797 handwritten digits of scikit-learn as 28x28 grey images, 360 of them for test.

    The 8x8 images (0..16) are enlarged 2.5 times, bicubic, to 20x20 in the middle of a black
    28x28 image: that is MNIST's own frame, so that networks made for MNIST see a digit of the size
    that they expect, with a margin for the strokes that touch the border of the 8x8 image. The
    last 360 images of the file are the test part, for other people wrote them than the rest.
    """
    with gzip.open(_packaged("sklearn", "datasets/data/digits.csv.gz"), "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    images = np.stack([_enlarge(row.reshape(8, 8)) for row in table[:, :64]])
    classes = [str(digit) for digit in range(10)]
    return in_memory(classes, images[:, None], table[:, 64], len(table) - TEST_DIGITS)


def _patches(*, train: int = 400, test: int = 100) -> Extent:
    count = len(PHOTOGRAPHS)
    return Extent(count * train, count * test, (3, CROP, CROP), count)


@holds(_patches)
def patches(*, train: int = 400, test: int = 100) -> Source:
    """32x32 colour crops of eight photographs of scikit-image; the class is the photograph.

    Each photograph is first reduced by the whole factor that brings its shorter side nearest to
    256 pixels (they end between 200 and 300), so that a crop shows a part of a thing and not a
    smooth surface. It is then cut into cells of 64x64: one cell in five, spread evenly, is for
    test, and a crop lies either wholly in such a cell or wholly outside of all. The reduction is a
    mean over blocks, so not even a pixel of the original photograph is shared. Crops without
    content (the retina's black rim) are left out; the rest is drawn at random, the same each time.

    `train` and `test` are crops per class. Raises `BadInput` where a photograph has not so many.
    """
    parts, labels = {"train": [], "test": []}, {"train": [], "test": []}
    for label, file in enumerate(PHOTOGRAPHS.values()):
        photograph = _photograph(file)
        for part, count in (("train", train), ("test", test)):
            parts[part].append(_crops(photograph, file, part, count))
            labels[part] += [label] * count
    images = np.concatenate(parts["train"] + parts["test"]).transpose(0, 3, 1, 2)
    everything = np.array(labels["train"] + labels["test"])
    return in_memory(list(PHOTOGRAPHS), images, everything, len(labels["train"]))


def _packaged(package: str, file: str) -> Path:
    """A data file inside an installed package, without importing it: that would cost seconds."""
    spec = importlib.util.find_spec(package)
    if spec is None:
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


def _photograph(file: str) -> np.ndarray:
    """A photograph of scikit-image, reduced: uint8 [H, W, 3]."""
    with Image.open(_packaged("skimage", f"data/{file}")) as image:
        factor = max(1, round(min(image.size) / 256))
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
    corners = _corners(*photograph.shape[:2], part)
    # RandomState's streams are frozen: the same crops with every version of NumPy
    order = np.random.RandomState(0).permutation(len(corners))
    found = {}
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
