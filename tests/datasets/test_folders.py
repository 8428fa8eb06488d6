from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advdenoise.datasets import folders
from advdenoise.datasets._files import resize_and_crop
from advdenoise.errors import BadInput, DamagedFile
from tests.real_data import ROOT, needs

CLASSES = ["n03", "n01", "n02"]


def save(path, colour, size=(64, 64), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-200])


@pytest.fixture
def tiny(tmp_path):
    """A data root with three classes of two training images and three validation images."""
    folder = tmp_path / folders.TINY_IMAGENET
    for number, name in enumerate(CLASSES):
        for i in range(2):
            save(folder / f"train/{name}/images/{name}_{i}.JPEG", (50 * number, 0, 100 * i))
        save(folder / f"val/images/val_{number}.JPEG", (0, 200, 50 * number))
    (folder / "wnids.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    lines = [f"val_{i}.JPEG\t{name}\t0\t0\t62\t62\n" for i, name in enumerate(CLASSES)]
    (folder / "val/val_annotations.txt").write_text("".join(lines))
    return tmp_path


@pytest.fixture
def imagenet(tmp_path):
    for part, count in (("train", 3), ("val", 1)):
        for number, name in enumerate(["cat", "dog"]):
            for i in range(count):
                save(tmp_path / part / name / f"{i}.jpg", (200 * number, 0, 0), (40, 30 + i))
    return tmp_path


def test_tiny_imagenet(tiny):
    source = folders.tiny_imagenet(tiny)
    assert source.classes == sorted(CLASSES)
    assert source.train_labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert source.test_labels.tolist() == [2, 0, 1]
    images = source.read(np.array([6, 0, 5]))
    assert images.shape == (3, 3, 64, 64)
    assert images.dtype == np.uint8
    colours = images.mean(axis=(2, 3))
    # val_0, n01's first and n03's second training image
    assert np.abs(colours - [[0, 200, 0], [50, 0, 0], [0, 0, 100]]).max() < 4


def test_the_first_classes_of_tiny_imagenet(tiny):
    source = folders.tiny_imagenet(tiny, classes=2)
    assert source.classes == ["n01", "n02"]
    assert source.train_labels.tolist() == [0, 0, 1, 1]
    assert source.test_labels.tolist() == [0, 1]
    full = folders.tiny_imagenet(tiny)
    assert (source.read(np.arange(6)) == full.read(np.array([0, 1, 2, 3, 7, 8]))).all()
    for count in (1, 4):
        with pytest.raises(BadInput, match=rf"classes must be in \[2, 3\], .* got {count}"):
            folders.tiny_imagenet(tiny, classes=count)


def test_tiny_imagenet_grey_images_get_three_channels(tiny):
    path = tiny / folders.TINY_IMAGENET / "train/n01/images/n01_0.JPEG"
    save(path, (90, 90, 90), mode="L")
    image = folders.tiny_imagenet(tiny).read(np.array([0]))
    assert image.shape == (1, 3, 64, 64)
    assert (image[:, 0] == image[:, 2]).all()


def test_images_are_opened_when_they_are_read(tiny):
    path = tiny / folders.TINY_IMAGENET / "val/images/val_1.JPEG"
    cut_short(path)
    source = folders.tiny_imagenet(tiny)
    source.read(np.arange(7))
    with pytest.raises(DamagedFile, match="val_1.JPEG is not a readable image"):
        source.read(np.arange(6, 9))


def test_tiny_image_of_another_size(tiny):
    save(tiny / folders.TINY_IMAGENET / "train/n01/images/n01_0.JPEG", (0, 0, 0), (64, 63))
    with pytest.raises(
        DamagedFile, match="n01_0.JPEG .*64x63 pixels where Tiny ImageNet has 64x64"
    ):
        folders.tiny_imagenet(tiny).read(np.array([0]))


def test_tiny_class_without_images(tiny):
    for path in (tiny / folders.TINY_IMAGENET / "train/n02/images").iterdir():
        path.unlink()
    with pytest.raises(BadInput, match="train/n02/images has no images, but wnids.txt lists"):
        folders.tiny_imagenet(tiny)


def test_annotation_of_an_absent_image(tiny):
    (tiny / folders.TINY_IMAGENET / "val/images/val_2.JPEG").unlink()
    with pytest.raises(BadInput, match=r"val_annotations.txt, line 3: .*no image val/images/val_2"):
        folders.tiny_imagenet(tiny)


def test_annotation_of_an_unknown_class(tiny):
    path = tiny / folders.TINY_IMAGENET / "val/val_annotations.txt"
    path.write_text(path.read_text().replace("n02", "n99"))
    with pytest.raises(BadInput, match="line 3: wnids.txt does not list the class 'n99'"):
        folders.tiny_imagenet(tiny)


def test_a_class_that_is_listed_twice(tiny):
    with (tiny / folders.TINY_IMAGENET / "wnids.txt").open("a") as file:
        file.write("n02 \r\n")
    with pytest.raises(BadInput, match="wnids.txt lists the class 'n02' twice"):
        folders.tiny_imagenet(tiny)


def test_an_image_that_is_annotated_twice(tiny):
    with (tiny / folders.TINY_IMAGENET / "val/val_annotations.txt").open("a") as file:
        file.write("val_0.JPEG\tn02\t0\t0\t62\t62\n")
    with pytest.raises(BadInput, match="annotations.txt, line 4: val_0.JPEG is annotated twice"):
        folders.tiny_imagenet(tiny)


def test_hidden_images_of_tiny_imagenet_are_ignored(tiny):
    (tiny / folders.TINY_IMAGENET / "train/n01/images/._n01_0.JPEG").write_bytes(b"no image")
    assert folders.tiny_imagenet(tiny).train_labels.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("file", ["wnids.txt", "val/val_annotations.txt"])
def test_damaged_lists_of_tiny_imagenet(tiny, file):
    path = tiny / folders.TINY_IMAGENET / file
    path.write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(BadInput, match=f"{file} cannot be read"):
        folders.tiny_imagenet(tiny)
    path.write_bytes(b"\n")
    with pytest.raises(BadInput, match=f"{file} is empty"):
        folders.tiny_imagenet(tiny)
    path.unlink()
    with pytest.raises(BadInput, match=f"{file} does not exist"):
        folders.tiny_imagenet(tiny)


def test_image_folder(imagenet):
    source = folders.imagenet_folder(imagenet, size=16)
    assert source.classes == ["cat", "dog"]
    assert source.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.test_labels.tolist() == [0, 1]
    images = source.read(np.array([7, 1]))
    assert images.shape == (2, 3, 16, 16)
    assert np.abs(images.mean(axis=(2, 3)) - [[200, 0, 0], [0, 0, 0]]).max() < 4


def test_image_folder_with_a_test_part_only(imagenet):
    source = folders.imagenet_folder(imagenet, train=None, test="train", size=8)
    assert source.train_labels.shape == (0,)
    assert source.test_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.read(np.array([0])).shape == (1, 3, 8, 8)


def test_image_folder_searches_subfolders_and_ignores_other_files(imagenet):
    save(imagenet / "val/cat/more/deep.PNG", (0, 0, 9), (20, 20))
    (imagenet / "val/cat/notes.txt").write_text("no image")
    assert folders.imagenet_folder(imagenet, size=16).test_labels.tolist() == [0, 0, 1]


@pytest.mark.parametrize("size", [(40, 30), (30, 47), (16, 16), (5, 100)])
def test_resize_and_crop(size):
    """The shorter side becomes 16, and equal parts are cut off at both ends, up to a pixel."""
    ramp = np.linspace(0, 255, max(size)).astype(np.uint8)
    rows = np.tile(ramp, (min(size), 1))
    image = Image.fromarray(rows if size[0] >= size[1] else rows.T).convert("RGB")
    crop = np.asarray(resize_and_crop(image, 16))
    assert crop.shape == (16, 16, 3)
    assert crop.mean() == pytest.approx(127.5, abs=7)


def test_empty_class_folder(imagenet):
    (imagenet / "val/dog/0.jpg").unlink()
    with pytest.raises(BadInput, match="val/dog has no images"):
        folders.imagenet_folder(imagenet)


def test_parts_with_different_classes(imagenet):
    save(imagenet / "val/emu/0.jpg", (0, 0, 0))
    with pytest.raises(BadInput, match="have different classes: 'emu'"):
        folders.imagenet_folder(imagenet)


def test_part_without_class_folders(tmp_path):
    (tmp_path / "val").mkdir()
    with pytest.raises(BadInput, match="val has no class folders"):
        folders.imagenet_folder(tmp_path, train=None)


@pytest.mark.parametrize("damage", [cut_short, lambda p: p.write_bytes(b""), Path.unlink])
def test_broken_image(imagenet, damage):
    path = imagenet / "train/dog/1.jpg"
    source = folders.imagenet_folder(imagenet, size=16)
    damage(path)
    with pytest.raises(DamagedFile, match=r"train/dog/1\.jpg is not a readable image"):
        source.read(np.arange(8))


@pytest.mark.parametrize("size", [0, -4, 2.5, True])
def test_invalid_size(imagenet, size):
    with pytest.raises(BadInput, match="settings.size must be a whole number in"):
        folders.imagenet_folder(imagenet, size=size)


def test_missing_root_or_folder(tmp_path):
    for reader, expected in (
        (folders.tiny_imagenet, "tiny-imagenet-200/ with wnids.txt"),
        (folders.imagenet_folder, "train/<class>/<images>; if there is no such part, set `train"),
    ):
        with pytest.raises(BadInput, match=f"^data_root is not set.*{expected}"):
            reader(None)
        with pytest.raises(BadInput, match=f"^data_root: .* does not exist.*{expected}"):
            reader(tmp_path)


@needs("tiny-imagenet-200")
def test_real_tiny_imagenet():
    source = folders.tiny_imagenet(ROOT)
    assert len(source.classes) == 200
    assert np.bincount(source.test_labels).tolist() == [50] * 200
    assert len(set(np.bincount(source.train_labels))) == 1
    n_train = len(source.train_labels)
    assert source.read(np.array([0, n_train - 1, n_train])).shape == (3, 3, 64, 64)
