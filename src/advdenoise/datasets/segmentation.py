"""Data sets whose images have masks, in the folders that their publishers put them in.

They are decoded as they are read, never all at once. Errors on reading are `DamagedFile` naming the
file: an image or a mask that cannot be decoded, a mask of another size than its image, a value in a
mask that is no class.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from advdenoise.datasets._files import alone, decode, lines, middle, opened
from advdenoise.datasets._source import IGNORED, DenseSource, Extent, Source, below, holds
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
# What CamVid's masks hold where the others hold 255
CAMVID_VOID = 11


class _Pair(NamedTuple):
    """An image's file and its mask's."""

    image: Path
    mask: Path


def _voc2012(*, size: int = 513, sbd: bool = False, **_) -> Extent:
    train = 10_582 if sbd else 1464
    return Extent(train, 1449, (3, size, size), len(VOC_CLASSES), dense=True)


@holds(_voc2012)
def voc2012(
    root: Path,
    *,
    size: Size = 513,
    resize: Literal["crop", "plain"] = "crop",
    sbd: bool = False,
    download: bool = False,
) -> DenseSource:
    """Segmentation of PASCAL VOC 2012, in torchvision's layout: 1,464 images, 1,449 for test.

    `VOCdevkit/VOC2012` holds JPEGImages, SegmentationClass and ImageSets/Segmentation with
    train.txt and val.txt, of which the second is the test part. 20 classes and the background; 255
    in a mask is ignored. With `resize: crop` images get a shorter side of `size` pixels (bilinear,
    smoothed; masks nearest) and are cut to the middle `size` x `size` of them, as the DeepLab that
    Cho et al. 2020 attack was judged; with `plain` both sides become `size`, as their text says.

    `sbd` adds to the training part the images of both lists of the Semantic Boundaries Dataset that
    are in neither list of VOC (10,582 then): `sbd` holds img, cls, train.txt and val.txt, as
    torchvision's SBDataset has them. `download` lets torchvision fetch what is missing.

    Raises `BadInput` for a folder, a list or a file that is missing and for a size that is not
    32k+1.
    """
    check_sides("segmentation.voc2012: settings.size", size, size)
    train, test = _voc_parts(root, download)
    if sbd:
        known = {pair.image.stem for pair in train + test}
        for part in ("train", "val"):
            more = [p for p in _sbd_part(root, part, download) if p.image.stem not in known]
            known |= {pair.image.stem for pair in more}
            train = train + more

    def fit(image: Image.Image, resampling: Image.Resampling) -> Image.Image:
        if resize == "plain":
            return image.resize((size, size), resampling)
        return middle(image, size, resampling)

    return _source(VOC_CLASSES, train, test, fit, IGNORED)


def _voc_parts(root: Path, download: bool) -> list[list[_Pair]]:
    """VOC's training and validation part, of which torchvision's reader knows the files."""
    # Seconds to import: only where its data are read.
    from torchvision.datasets import VOCSegmentation

    layout = f"{VOC}/ with JPEGImages, SegmentationClass and ImageSets/Segmentation"
    if download and root is not None:
        _fetch(root, VOC, lambda: VOCSegmentation(root, image_set="train", download=True))
    folder = below(root, VOC, layout)
    parts = []
    for part in ("train", "val"):
        listed = folder / f"ImageSets/Segmentation/{part}.txt"
        lines(listed)
        parts.append(_pairs(VOCSegmentation(root, image_set=part), listed))
    return parts


def _sbd_part(root: Path, part: str, download: bool) -> list[_Pair]:
    from torchvision.datasets import SBDataset

    if download:
        _fetch(root, SBD, lambda: SBDataset(Path(root) / SBD, download=True))
    folder = below(root, SBD, f"{SBD}/ with img, cls, train.txt and val.txt")
    listed = folder / f"{part}.txt"
    lines(listed)
    return _pairs(SBDataset(folder, image_set=part, mode="segmentation"), listed)


def _fetch(root: Path, folder: str, download: Callable) -> None:
    """Download a data set whose folder is not there."""
    with alone(root, Path(folder).name):
        if (root / folder).is_dir():
            return
        try:
            download()
        except (OSError, RuntimeError) as error:
            raise BadInput(
                f"{folder} could not be downloaded into {root} ({error}); without a network, put "
                "the files there by hand"
            ) from error


def _pairs(reader, listed: Path) -> list[_Pair]:
    """The pairs of one of torchvision's readers, all of them there."""
    found = [_Pair(*map(Path, pair)) for pair in zip(reader.images, reader.masks, strict=True)]
    return _complete(found, listed)


def _complete(pairs: list[_Pair], listed: Path) -> list[_Pair]:
    for pair, count in Counter(pairs).items():
        if count > 1:
            raise BadInput(f"{listed} lists {pair.image.stem} twice; take one of the lines out")
        for name, file in pair._asdict().items():
            if not file.is_file():
                raise BadInput(
                    f"{listed} lists {pair.image.stem}, but its {name} {file} is missing; "
                    "add it or take the line out"
                )
    return pairs


def _camvid(*, size: Sequence[int] = (353, 481), **_) -> Extent:
    assumed = "as many images as the whole CamVid"
    return Extent(367, 233, (3, size[0], size[1]), len(CAMVID_CLASSES), assumed, dense=True)


@holds(_camvid)
def camvid(
    root: Path,
    *,
    size: tuple[Size, Size] = (353, 481),
    train: Sequence[str] = ("train",),
    test: Sequence[str] = ("test",),
) -> DenseSource:
    """CamVid in the 11 classes of SegNet, from the folder `CamVid`.

    It holds lists such as train.txt, each line the file of an image and that of its mask (of
    longer paths the last folder and the name count). `train` and `test` name the lists that make up
    the two parts. Masks are grey, a class from 0 to 10 a pixel, or 11, void, which is ignored here.
    Images of 360x480 become `size`, height and width (bilinear; masks nearest).

    Raises `BadInput` for a folder, a list or a file that is missing and for sides that are not
    32k+1.
    """
    if len(size) != 2:
        raise BadInput(f"segmentation.camvid: settings.size: {size} is not [height, width]")
    check_sides("segmentation.camvid: settings.size", *size)
    folder = below(root, CAMVID, f"{CAMVID}/ with train.txt, train/, trainannot/ and so on")
    parts = [
        [pair for name in part for pair in _listed(folder, folder / f"{name}.txt")]
        for part in (train, test)
    ]

    height, width = size

    def fit(image: Image.Image, resampling: Image.Resampling) -> Image.Image:
        return image.resize((width, height), resampling)

    return _source(CAMVID_CLASSES, parts[0], parts[1], fit, CAMVID_VOID)


def _listed(folder: Path, listed: Path) -> list[_Pair]:
    """The pairs of a list with two files a line."""
    found = []
    for number, line in enumerate(lines(listed), start=1):
        files = line.split()
        if len(files) != 2:
            raise BadInput(f"{listed}, line {number}: {line!r} is not an image and its mask")
        found.append(_Pair(*(folder.joinpath(*Path(file).parts[-2:]) for file in files)))
    return _complete(found, listed)


def _source(classes: list[str], train: list, test: list, fit: Callable, ignored: int) -> Source:
    """The data set of these pairs; `fit` brings an image to its size in a way of resampling."""
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
    """The mask uint8 [H, W] of an image, `IGNORED` where the file says `ignored`."""
    mask = _matlab(pair.mask) if pair.mask.suffix == ".mat" else _indices(pair.mask)
    height, width = mask.shape
    if (wanted := _size(pair.image)) != (width, height):
        raise DamagedFile(
            f"{pair.mask} is of {width}x{height} pixels, but its image {pair.image} of "
            f"{wanted[0]}x{wanted[1]}; a mask is as large as its image"
        )
    unknown = np.setdiff1d(mask, [*range(classes), ignored])
    if len(unknown):
        raise DamagedFile(
            f"{pair.mask} holds the value {unknown[0]}, which is no class: there are 0 to "
            f"{classes - 1}, and {ignored} is ignored"
        )
    mask = np.where(mask == ignored, IGNORED, mask).astype(np.uint8)
    return np.asarray(fit(Image.fromarray(mask), Image.Resampling.NEAREST))


def _indices(path: Path) -> np.ndarray:
    """The values of a grey or palette image, which are its classes."""
    with opened(path, "mask") as image:
        mode, values = image.mode, np.asarray(image)
    if mode not in ("L", "P"):
        raise DamagedFile(
            f"{path} is an image of mode {mode}; a mask is grey or has a palette, its values being "
            "the classes"
        )
    return values


def _matlab(path: Path) -> np.ndarray:
    """The mask in one of SBD's files."""
    from scipy.io import loadmat

    try:
        return np.asarray(loadmat(path)["GTcls"][0]["Segmentation"][0])
    except Exception as error:  # Of the file's format, of zlib or of a missing name, each its own.
        raise DamagedFile(f"{path} is no readable mask of SBD ({error}); fetch it again") from error


def _size(path: Path) -> tuple[int, int]:
    """Width and height of an image, from its first bytes."""
    with opened(path) as image:
        return image.size
