"""Read list files and images from the folders of data sets."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from advdenoise.errors import BadInput, DamagedFile
from advdenoise.ops.files import why_not_readable

# What Pillow raises for a file that is not an image, or a broken one
BROKEN_IMAGE = (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError)
# Folders that file managers, archives and file servers create, besides names that begin with a dot
_SYSTEM_FOLDERS = {"@eaDir", "__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information"}
# The longest side in pixels that a setting may ask for; one image of 4096x4096 takes 48 MB.
LONGEST_SIDE = 4096


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden or created by the system, hence not data."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file that are not blank.

    Raises BadInput if the file cannot be read or has no such line.
    """
    if reason := why_not_readable(path):
        raise BadInput(f"{path} {reason}; unpack the data set again")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read ({error}); unpack the data set again") from error
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise BadInput(f"{path} is empty; unpack the data set again")
    return lines


@contextmanager
def download_lock(root: Path, name: str) -> Iterator[None]:
    """Hold the lock file of a data set, so that jobs of several splits do not download it twice.

    Raises BadInput if the data root cannot be written to.
    """
    with ExitStack() as files:
        try:
            root.mkdir(parents=True, exist_ok=True)
            lock = files.enter_context(open(root / f".{name}.lock", "w"))
        except OSError as error:
            raise BadInput(
                f"data_root: {root} cannot be written to ({error.strerror}), but {name} is to be "
                "downloaded there; set another folder or remove `download: true`"
            ) from error
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def open_image(path: Path, what: str = "image") -> Iterator[ImageFile.ImageFile]:
    """Open an image file with Pillow.

    Raises DamagedFile, naming the file as a `what`, if it cannot be opened, or if Pillow fails
    inside the `with` block.
    """
    if reason := why_not_readable(path):
        raise DamagedFile(f"{path} is not a readable {what}: it {reason}; put the original there")
    try:
        with Image.open(path) as image:
            yield image
    except BROKEN_IMAGE as error:
        raise DamagedFile(f"{path} is not a readable {what} ({error}); fetch it again") from error


def decode(path: Path, prepare: Callable) -> np.ndarray:
    """Decode an image file to RGB and apply `prepare` to it: uint8 [H, W, 3].

    As torchvision's readers do, it takes the first frame of an animation, drops transparency and
    ignores the orientation in the EXIF data. Of 16 bits the upper eight are kept.

    Raises DamagedFile if the file cannot be decoded.
    """
    with open_image(path) as image:
        return np.asarray(prepare(_eight_bits(image).convert("RGB")))


def _eight_bits(image: ImageFile.ImageFile) -> Image.Image:
    """The image with values 0..255: Pillow's own conversion of 16 bits clips instead of scaling."""
    # Pillow scales PNG and PGM of up to 16 bits to 0..65535; TIFF may hold anything.
    scaled = image.mode == "I" and image.format in ("PNG", "PPM")
    if image.mode.startswith("I;16") or scaled:
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DamagedFile(
            f"{image.filename!s} is an image of mode {image.mode}, numbers without a fixed range; "
            "save it with 8 or 16 bits per channel"
        )
    return image


def resize_and_crop(
    image: Image.Image, size: int, resampling: Image.Resampling = Image.Resampling.BILINEAR
) -> Image.Image:
    """Resize an image so that its shorter side is `size`, and crop its middle `size` x `size`.

    Raises ValueError for an image so narrow that its longer side would exceed 65,536 pixels.
    """
    shorter = min(image.size)
    width, height = (round(side * size / shorter) for side in image.size)
    if max(width, height) > 16 * LONGEST_SIDE:
        raise ValueError(f"{image.width}x{image.height} pixels, one side is too short")
    image = image.resize((width, height), resampling)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))
