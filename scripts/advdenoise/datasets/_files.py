"""Lists and images as they lie in the folders of data sets."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from scripts.advdenoise.errors import BadInput, DamagedFile

# What Pillow raises on a file that is no image or a broken one
BROKEN_IMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty; BadInput where there are none."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read ({error}); unpack the data set again") from error
    found = [line for line in text.splitlines() if line.strip()]
    if not found:
        raise BadInput(f"{path} is empty; unpack the data set again")
    return found


def decode(path: Path, prepare: Callable) -> np.ndarray:
    """What `prepare` makes of an image, in colour; DamagedFile where it cannot be read."""
    try:
        with Image.open(path) as image:
            return np.asarray(prepare(image.convert("RGB")))
    except BROKEN_IMAGE as error:
        raise DamagedFile(f"{path} is no readable image ({error}); fetch it again") from error


def middle(
    image: Image.Image, size: int, resampling: Image.Resampling = Image.Resampling.BILINEAR
) -> Image.Image:
    """The middle `size` x `size` pixels of an image whose shorter side was brought to `size`."""
    shorter = min(image.size)
    width, height = (round(side * size / shorter) for side in image.size)
    image = image.resize((width, height), resampling)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))
