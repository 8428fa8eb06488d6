"""Data sets whose images have masks, in their publishers' folder layouts.

Files are decoded when they are read. Reading raises `DamagedFile`, naming the file, for an image or
a mask that cannot be decoded, a mask of another size than its image, and a value in a mask that is
not a class.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from advdenoise.datasets._files import (
    decode,
    download_lock,
    open_image,
    read_lines,
    resize_and_crop,
)
from advdenoise.datasets._source import (
    IGNORED,
    DenseSource,
    Extent,
    Source,
    data_folder,
    with_extent,
)
from advdenoise.errors import BadInput, DamagedFile
from advdenoise.ranges import Size
from advdenoise.sides import check_sides

VOC = "VOCdevkit/VOC2012"
VOC_CLASSES = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "dining table",
    "dog",
    "horse",
    "motorbike",
    "person",
    "potted plant",
    "sheep",
    "sofa",
    "train",
    "tv/monitor",
]
SBD = "sbd"
CAMVID = "CamVid"
CAMVID_CLASSES = [
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign symbol",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
]
# The value of pixels without a class in CamVid's masks
CAMVID_VOID = 11


class _Pair(NamedTuple):
    """The files of an image and its mask."""

    image: Path
    mask: Path


def _voc2012(*, size: int = 513, sbd: bool = False, **_) -> Extent:
    train = 10_582 if sbd else 1464
    return Extent(train, 1449, (3, size, size), len(VOC_CLASSES), dense=True)


@with_extent(_voc2012)
def voc2012(
    root: Path,
    *,
    size: Size = 513,
    resize: Literal["crop", "plain"] = "crop",
    sbd: bool = False,
    download: bool = False,
) -> DenseSource:
    """Segmentation of PASCAL VOC 2012 in torchvision's layout: 1,464 images, 1,449 for test.

    `VOCdevkit/VOC2012` contains JPEGImages, SegmentationClass and ImageSets/Segmentation with
    train.txt and val.txt, the test part. There are 20 classes and the background; 255 in a mask is
    ignored.

    Args:
        root: the data root.
        size: side of the images in pixels, 32k+1.
        resize: with `crop`, images are resized to a shorter side of `size` (bilinear, antialiased;
            masks nearest) and cropped to the middle `size` x `size`, as in the evaluation of the
            DeepLab that Cho et al. 2020 attack; with `plain`, both sides become `size`, as their
            text says.
        sbd: add to the training part all images of the Semantic Boundaries Dataset that are in
            neither list of VOC (10,582 in total), from the folder `sbd` with img, cls, train.txt
            and val.txt, the layout of torchvision's SBDataset.
        download: let torchvision download missing data.

    Raises:
        BadInput: for a missing folder, list or file, and for a size that is not 32k+1.
    """
    check_sides("segmentation.voc2012: settings.size", size, size)
    train, test = _voc_parts(root, download)
    if sbd:
        names = {pair.image.stem for pair in train + test}
        for part in ("train", "val"):
            added = [p for p in _sbd_part(root, part, download) if p.image.stem not in names]
            names |= {pair.image.stem for pair in added}
            train = train + added

    def fit(image: Image.Image, resampling: Image.Resampling) -> Image.Image:
        if resize == "plain":
            return image.resize((size, size), resampling)
        return resize_and_crop(image, size, resampling)

    return _source(VOC_CLASSES, train, test, fit, IGNORED)


def _voc_parts(root: Path, download: bool) -> list[list[_Pair]]:
    """VOC's training and validation part, whose files torchvision's reader finds."""
    # Imported here because it takes seconds
    from torchvision.datasets import VOCSegmentation

    layout = f"{VOC}/ with JPEGImages, SegmentationClass and ImageSets/Segmentation"
    if download and root is not None:
        _fetch(root, VOC, lambda: VOCSegmentation(root, image_set="train", download=True))
    folder = data_folder(root, VOC, layout)
    parts = []
    for part in ("train", "val"):
        table = folder / f"ImageSets/Segmentation/{part}.txt"
        read_lines(table)
        parts.append(_pairs(VOCSegmentation(root, image_set=part), table))
    return parts


def _sbd_part(root: Path, part: str, download: bool) -> list[_Pair]:
    """SBD's training or validation part."""
    from torchvision.datasets import SBDataset

    if download:
        _fetch(root, SBD, lambda: SBDataset(Path(root) / SBD, download=True))
    folder = data_folder(root, SBD, f"{SBD}/ with img, cls, train.txt and val.txt")
    table = folder / f"{part}.txt"
    read_lines(table)
    return _pairs(SBDataset(folder, image_set=part, mode="segmentation"), table)


def _fetch(root: Path, folder: str, download: Callable) -> None:
    """Download a data set, unless its folder exists."""
    with download_lock(root, Path(folder).name):
        if (root / folder).is_dir():
            return
        try:
            download()
        except (OSError, RuntimeError) as error:
            raise BadInput(
                f"{folder} could not be downloaded into {root} ({error}); without a network, put "
                "the files there by hand"
            ) from error


def _pairs(reader, table: Path) -> list[_Pair]:
    """The pairs of one of torchvision's readers, which read the list `table`."""
    pairs = [_Pair(*map(Path, pair)) for pair in zip(reader.images, reader.masks, strict=True)]
    return _checked(pairs, table)


def _checked(pairs: list[_Pair], table: Path) -> list[_Pair]:
    """The pairs; raises BadInput if one is listed twice or has a missing file."""
    for pair, count in Counter(pairs).items():
        if count > 1:
            raise BadInput(f"{table} lists {pair.image.stem} twice; remove one of the lines")
        for name, file in pair._asdict().items():
            if not file.is_file():
                raise BadInput(
                    f"{table} lists {pair.image.stem}, but its {name} {file} is missing; "
                    "add it or remove the line"
                )
    return pairs


def _camvid(*, size: Sequence[int] = (353, 481), **_) -> Extent:
    assumed = "as many images as the whole CamVid"
    return Extent(367, 233, (3, size[0], size[1]), len(CAMVID_CLASSES), assumed, dense=True)


@with_extent(_camvid)
def camvid(
    root: Path,
    *,
    size: tuple[Size, Size] = (353, 481),
    train: Sequence[str] = ("train",),
    test: Sequence[str] = ("test",),
) -> DenseSource:
    """CamVid in the 11 classes of SegNet, from the folder `CamVid`.

    The folder contains lists such as train.txt, each line of which is an image file and its mask
    (only the last folder and the name of a path are used). Masks are grey with a class from 0 to
    10 per pixel, or 11 (void), which is ignored.

    Args:
        root: the data root.
        size: height and width of the images, 32k+1 each; 360x480 are resized to it (bilinear; masks
            nearest).
        train, test: names of the lists of each part.

    Raises:
        BadInput: for a missing folder, list or file, and for sides that are not 32k+1.
    """
    if len(size) != 2:
        raise BadInput(f"segmentation.camvid: settings.size must be [height, width], got {size}")
    check_sides("segmentation.camvid: settings.size", *size)
    folder = data_folder(root, CAMVID, f"{CAMVID}/ with train.txt, train/, trainannot/ and so on")
    parts = [
        [pair for name in part for pair in _read_pairs(folder, folder / f"{name}.txt")]
        for part in (train, test)
    ]

    height, width = size

    def fit(image: Image.Image, resampling: Image.Resampling) -> Image.Image:
        return image.resize((width, height), resampling)

    return _source(CAMVID_CLASSES, parts[0], parts[1], fit, CAMVID_VOID)


def _read_pairs(folder: Path, table: Path) -> list[_Pair]:
    """The pairs of a list with two files per line."""
    pairs = []
    for number, line in enumerate(read_lines(table), start=1):
        files = line.split()
        if len(files) != 2:
            raise BadInput(f"{table}, line {number}: {line!r} is not an image and its mask")
        pairs.append(_Pair(*(folder.joinpath(*Path(file).parts[-2:]) for file in files)))
    return _checked(pairs, table)


def _source(classes: list[str], train: list, test: list, fit: Callable, ignored: int) -> Source:
    """The data set of these pairs; `fit(image, resampling)` resizes an image."""
    pairs = [*train, *test]

    def bilinear(image: Image.Image) -> Image.Image:
        return fit(image, Image.Resampling.BILINEAR)

    def read(ids: np.ndarray) -> np.ndarray:
        return np.stack([decode(pairs[i].image, bilinear) for i in ids]).transpose(0, 3, 1, 2)

    def masks(ids: np.ndarray) -> np.ndarray:
        return np.stack([_mask(pairs[i], fit, len(classes), ignored) for i in ids])

    labels = np.zeros(len(train), np.int64), np.zeros(len(test), np.int64)
    return Source(list(classes), *labels, read, masks)


def _mask(pair: _Pair, fit: Callable, classes: int, ignored: int) -> np.ndarray:
    """The mask uint8 [H, W] of an image, with `IGNORED` where the file has `ignored`."""
    mask = _read_matlab(pair.mask) if pair.mask.suffix == ".mat" else _read_mask(pair.mask)
    height, width = mask.shape
    if (size := _image_size(pair.image)) != (width, height):
        raise DamagedFile(
            f"{pair.mask} has {width}x{height} pixels, but its image {pair.image} has "
            f"{size[0]}x{size[1]}; a mask must be as large as its image"
        )
    unknown = np.setdiff1d(mask, [*range(classes), ignored])
    if len(unknown):
        raise DamagedFile(
            f"{pair.mask} has the value {unknown[0]}, which is not a class; values must be 0 to "
            f"{classes - 1}, or {ignored} for pixels to ignore"
        )
    mask = np.where(mask == ignored, IGNORED, mask).astype(np.uint8)
    return np.asarray(fit(Image.fromarray(mask), Image.Resampling.NEAREST))


def _read_mask(path: Path) -> np.ndarray:
    """The values of a grey or palette image, which are its classes."""
    with open_image(path, "mask") as image:
        mode, values = image.mode, np.asarray(image)
    if mode not in ("L", "P"):
        raise DamagedFile(
            f"{path} is an image of mode {mode}; a mask must be grey or have a palette, with the "
            "classes as its values"
        )
    return values


def _read_matlab(path: Path) -> np.ndarray:
    """The mask in one of SBD's Matlab files."""
    from scipy.io import loadmat

    try:
        return np.asarray(loadmat(path)["GTcls"][0]["Segmentation"][0])
    except Exception as error:  # The format, zlib and a missing name each raise another type.
        raise DamagedFile(
            f"{path} is not a readable mask of SBD ({error}); fetch it again"
        ) from error


def _image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image, from its header."""
    with open_image(path) as image:
        return image.size
