"""Data sets with masks, on tiny folders in their publishers' layouts."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from advdenoise.datasets import segmentation
from advdenoise.errors import BadInput, DamagedFile
from tests.real_data import ROOT, needs

SIZE = (70, 50)  # width and height
VALUES = {"2007_000032": 1, "2007_000039": 20, "2007_000063": 255, "2008_000001": 4}


def save(path, values, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if mode == "P":
        image = image.convert("P")
        image.putdata(values.flatten().tolist())
        image.putpalette([*range(256)] * 3)
    image.save(path)


def scene(value: int) -> tuple[np.ndarray, np.ndarray]:
    """An image whose right half is bright, and a mask whose right half has the value."""
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[:, 35:] = value
    image = np.where(mask[..., None] > 0, 200, 20).repeat(3, axis=2).astype(np.uint8)
    return image, mask


@pytest.fixture
def voc(tmp_path):
    folder = tmp_path / segmentation.VOC
    for name, value in VALUES.items():
        image, mask = scene(value)
        save(folder / f"JPEGImages/{name}.jpg", image)
        save(folder / f"SegmentationClass/{name}.png", mask, "P")
    lists = folder / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    names = list(VALUES)
    (lists / "train.txt").write_text("".join(f"{name}\n" for name in names[:2]))
    (lists / "val.txt").write_text("".join(f"{name}\n" for name in names[2:]))
    return tmp_path


@pytest.fixture
def sbd(voc):
    """SBD beside VOC: one image of VOC's validation part, one of its training part, two others."""
    folder = voc / segmentation.SBD
    lists = {"train": ["2008_000001", "2010_000005"], "val": ["2007_000032", "2011_000007"]}
    for part, names in lists.items():
        for name in names:
            image, mask = scene(7)
            save(folder / f"img/{name}.jpg", image)
            record = np.zeros(1, [("Segmentation", object)])
            record["Segmentation"][0] = mask
            (folder / "cls").mkdir(exist_ok=True)
            savemat(folder / f"cls/{name}.mat", {"GTcls": record})
        (folder / f"{part}.txt").write_text("".join(f"{name}\n" for name in names))
    return voc


@pytest.fixture
def camvid(tmp_path):
    folder = tmp_path / "CamVid"
    for part, values in (("train", [0, 10]), ("val", [3]), ("test", [11])):
        lines = []
        for number, value in enumerate(values):
            image, mask = scene(value)
            save(folder / part / f"{number}.png", image)
            save(folder / f"{part}annot" / f"{number}.png", mask)
            lines.append(f"/SegNet/CamVid/{part}/{number}.png {part}annot/{number}.png\n")
        (folder / f"{part}.txt").write_text("".join(lines))
    return tmp_path


def test_voc(voc):
    source = segmentation.voc2012(voc, size=33)
    assert (len(source.classes), len(source.train_labels), len(source.test_labels)) == (21, 2, 2)
    ids = np.arange(4)
    images, masks = source.read(ids), source.masks(ids)
    assert images.shape == (4, 3, 33, 33) and images.dtype == np.uint8
    assert masks.shape == (4, 33, 33) and masks.dtype == np.uint8
    assert [np.unique(mask).tolist() for mask in masks] == [[0, v] for v in VALUES.values()]
    # The right half is bright in the image and has the class in the mask.
    assert 0.4 < (masks[0] > 0).mean() < 0.6
    assert (images[:, 0][masks > 0] > 150).mean() > 0.95
    assert (images[:, 0][masks == 0] < 70).mean() > 0.95


def test_voc_resized_without_a_crop(voc):
    """Both sides become the size, and nothing is cut off."""
    ids = np.arange(4)
    for size in (33, 65):
        source = segmentation.voc2012(voc, size=size, resize="plain")
        masks, images = source.masks(ids), source.read(ids)
        assert images.shape == (4, 3, size, size) and masks.shape == (4, size, size)
    with Image.open(voc / segmentation.VOC / f"JPEGImages/{[*VALUES][0]}.jpg") as image:
        expected = np.asarray(image.resize((65, 65), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.array_equal(images[0], expected)
    crops = segmentation.voc2012(voc, size=65).read(ids)
    assert not np.array_equal(images, crops)


def test_sbd_adds_images_that_are_in_neither_list(sbd):
    source = segmentation.voc2012(sbd, size=33, sbd=True)
    assert (len(source.train_labels), len(source.test_labels)) == (4, 2)
    masks = source.masks(np.arange(6))
    expected = [1, 20, 7, 7, 255, 4]
    assert [np.unique(mask).tolist() for mask in masks] == [[0, value] for value in expected]


def test_camvid(camvid):
    source = segmentation.camvid(camvid, size=[33, 65])
    assert (len(source.classes), len(source.train_labels), len(source.test_labels)) == (11, 2, 1)
    assert source.read(np.array([2, 0])).shape == (2, 3, 33, 65)
    # void is ignored
    assert np.unique(source.masks(np.array([2]))).tolist() == [0, 255]
    both = segmentation.camvid(camvid, size=[33, 65], train=["train", "val"])
    assert len(both.train_labels) == 3 and both.masks(np.array([2])).max() == 3


def damage(camvid, kind):
    mask = camvid / "CamVid/trainannot/1.png"
    if kind == "unknown value":
        save(mask, scene(12)[1])
    elif kind == "another size":
        save(mask, scene(3)[1][:-1])
    elif kind == "in colour":
        save(mask, scene(3)[0])
    elif kind == "cut short":
        mask.write_bytes(mask.read_bytes()[:40])
    return segmentation.camvid(camvid, size=[33, 33])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("unknown value", "has the value 12, which is not a class; values must be 0 to 10, or 11"),
        ("another size", "has 70x49 pixels, but its image .*train/1.png has 70x50"),
        ("in colour", "is an image of mode RGB; a mask must be grey or have a palette"),
        ("cut short", "is not a readable mask"),
    ],
)
def test_invalid_masks(camvid, kind, message):
    source = damage(camvid, kind)
    source.masks(np.array([0, 2]))
    with pytest.raises(DamagedFile, match=rf"trainannot/1\.png {message}"):
        source.masks(np.arange(3))


def test_an_invalid_mask_of_sbd(sbd):
    (sbd / "sbd/cls/2010_000005.mat").write_bytes(b"nothing")
    source = segmentation.voc2012(sbd, size=33, sbd=True)
    with pytest.raises(DamagedFile, match=r"2010_000005\.mat is not a readable mask of SBD"):
        source.masks(np.array([2]))


@pytest.mark.parametrize(
    "file", ["JPEGImages/2007_000039.jpg", "SegmentationClass/2007_000039.png"]
)
def test_a_missing_image_or_mask(voc, file):
    (voc / segmentation.VOC / file).unlink()
    with pytest.raises(
        BadInput, match=rf"train\.txt lists 2007_000039, but its .*{file} is missing"
    ):
        segmentation.voc2012(voc, size=33)


def test_lists_of_camvid(camvid):
    table = camvid / "CamVid/train.txt"
    table.write_text("train/0.png\n")
    with pytest.raises(BadInput, match=r"train\.txt, line 1: .* is not an image and its mask"):
        segmentation.camvid(camvid)
    with pytest.raises(BadInput, match=r"other\.txt does not exist"):
        segmentation.camvid(camvid, train=["other"])


def test_sides_that_are_not_32k_plus_1(voc, camvid):
    with pytest.raises(BadInput, match=r"sides must be 32k\+1, .* got 500x500"):
        segmentation.voc2012(voc, size=500)
    with pytest.raises(BadInput, match=r"sides must be 32k\+1, .* got 360x480"):
        segmentation.camvid(camvid, size=[360, 480])


def test_missing_folders(tmp_path):
    for read, layout in (
        (segmentation.voc2012, "VOCdevkit/VOC2012/ with JPEGImages"),
        (segmentation.camvid, "CamVid/ with train.txt"),
    ):
        with pytest.raises(BadInput, match=f"^data_root is not set.*{layout}"):
            read(None)
        with pytest.raises(BadInput, match=f"^data_root: .* does not exist.*{layout}"):
            read(tmp_path)


@needs("CamVid")
def test_real_camvid():
    source = segmentation.camvid(ROOT)
    assert source.read(np.array([0])).shape == (1, 3, 353, 481)
    masks = source.masks(np.arange(8))
    assert set(np.unique(masks)) <= {*range(11), 255}
    assert 0.01 < (masks == 255).mean() < 0.1
