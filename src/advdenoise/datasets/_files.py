"""Lists and images as they lie in the folders of data sets."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from advdenoise.errors import BadInput, DamagedFile
from advdenoise.ops.files import why_not_readable

# What Pillow raises on a file that is no image or a broken one
BROKEN_IMAGE = (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError)
# What file managers, notebooks and network drives leave behind, beside names that begin with a dot
_LEFT_BEHIND = {"@eaDir", "__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information"}
# A side beyond it is a mistake: one image would take 48 MB.
LONGEST_SIDE = 4096


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is no data: hidden ones and what others leave there."""
    return name.startswith(".") or name in _LEFT_BEHIND


def lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty; BadInput where there are none."""
    if reason := why_not_readable(path):
        raise BadInput(f"{path} {reason}; unpack the data set again")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read ({error}); unpack the data set again") from error
    found = [line for line in text.splitlines() if line.strip()]
    if not found:
        raise BadInput(f"{path} is empty; unpack the data set again")
    return found


@contextmanager
def alone(root: Path, name: str) -> Iterator[None]:
    """One download at a time: the jobs of several splits may ask, and one waits for the other.

    Raises BadInput where the data root cannot be written to.
    """
    with ExitStack() as files:
        try:
            root.mkdir(parents=True, exist_ok=True)
            lock = files.enter_context(open(root / f".{name}.lock", "w"))
        except OSError as error:
            raise BadInput(
                f"data_root: {root} cannot be written to ({error.strerror}), but {name} is to be "
                "downloaded there; give another folder or take `download: true` out"
            ) from error
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def opened(path: Path, what: str = "image") -> Iterator[ImageFile.ImageFile]:
    """A file as Pillow opens it; DamagedFile where it, or what is done with it, fails."""
    if reason := why_not_readable(path):
        raise DamagedFile(f"{path} is no readable {what}: it {reason}; put the original there")
    try:
        with Image.open(path) as image:
            yield image
    except BROKEN_IMAGE as error:
        raise DamagedFile(f"{path} is no readable {what} ({error}); fetch it again") from error


def decode(path: Path, prepare: Callable) -> np.ndarray:
    """What `prepare` makes of an image, in colour; DamagedFile where it cannot be read.

    As torchvision's readers have it: the first picture of an animation, without its transparency,
    not turned by what EXIF says of the camera. Of 16 bits the upper eight count.
    """
    with opened(path) as image:
        return np.asarray(prepare(_eight_bits(image).convert("RGB")))


def _eight_bits(image: ImageFile.ImageFile) -> Image.Image:
    """The image with values 0..255, which Pillow's own conversion would clip and not scale."""
    # PNG and PGM hold up to 16 bits, which Pillow spreads over 0..65535; TIFF may hold anything.
    spread = image.mode == "I" and image.format in ("PNG", "PPM")
    if image.mode.startswith("I;16") or spread:
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DamagedFile(
            f"{image.filename!s} is an image of mode {image.mode}, numbers without a fixed range; "
            "write it with 8 or 16 bits a channel"
        )
    return image


def middle(
    image: Image.Image, size: int, resampling: Image.Resampling = Image.Resampling.BILINEAR
) -> Image.Image:
    """The middle `size` x `size` pixels of an image whose shorter side was brought to `size`."""
    shorter = min(image.size)
    width, height = (round(side * size / shorter) for side in image.size)
    if max(width, height) > 16 * LONGEST_SIDE:
        raise ValueError(f"{image.width}x{image.height} pixels, one side is too short")
    image = image.resize((width, height), resampling)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))
