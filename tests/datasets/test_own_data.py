"""What a user's data set function may return, and what image files and folders may contain."""

import io
import os
import struct
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from advdenoise.datasets import folders
from advdenoise.datasets._files import LONGEST_SIDE, decode, read_lines
from advdenoise.datasets._source import BadSource, Source, in_memory
from advdenoise.errors import BadInput, DamagedFile
from advdenoise.io.hdf5 import open_hdf5
from advdenoise.sides import check_sides
from advdenoise.stages import images
from tests.places import put_in_place

RAMP = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
IMAGES = np.arange(12 * 2 * 8 * 8, dtype=np.uint8).reshape(12, 2, 8, 8)
LABELS = np.arange(12) % 3


def unchanged(image):
    return image


# ---------------------------------------------------------------- data set functions


@pytest.fixture
def write_split(tmp_path, monkeypatch):
    """Write the split `train` of a user's data set, whose function returns `source`."""

    def prepare(source) -> Path:
        module = types.ModuleType("advdenoise.datasets.own")
        module.own = lambda: source
        monkeypatch.setitem(sys.modules, module.__name__, module)
        entry = {"function": "own.own", "settings": {}, "splits": {}}
        output = tmp_path / "train.h5"
        images.run({"dataset": "mine", "entry": entry, "split": "train"}, output)
        return output

    return prepare


def test_a_correct_source_is_stored_unchanged(write_split):
    with open_hdf5(
        write_split(in_memory(["a", "b", "c"], IMAGES, LABELS.astype(np.uint8), 12))
    ) as file:
        ids = file["ids"][:]
        assert np.array_equal(file["images"][:], IMAGES[ids])
        assert np.array_equal(file["labels"][:], LABELS[ids])
        assert file["labels"].dtype == np.int64


WRONG_IMAGES = {
    "float": IMAGES / np.float32(255),
    "16 bit": IMAGES.astype(np.uint16) * 257,
    "int64": IMAGES.astype(np.int64),
    "bool": IMAGES > 9,
    "NaN": np.full(IMAGES.shape, np.nan),
    "without channels": IMAGES[:, 0],
    "flat": IMAGES.reshape(12, -1),
    "channels last": np.zeros((12, 8, 8, 3), np.uint8),
    "no pixels": IMAGES[..., :0],
    "a list": IMAGES.tolist(),
}


@pytest.mark.parametrize("wrong", WRONG_IMAGES.values(), ids=WRONG_IMAGES)
def test_images_that_are_not_uint8_channels_first(write_split, wrong):
    sentence = r"images must be uint8 \[n,C,H,W\] in 0\.\.255, (got|but)"
    with pytest.raises(BadSource, match=f"^{sentence}"):
        in_memory(["a", "b", "c"], wrong, LABELS, 12)
    source = Source(["a", "b", "c"], LABELS, LABELS, lambda ids: wrong[: len(ids)])
    with pytest.raises(BadInput, match=rf"^datasets\.mine: own\.own: {sentence}"):
        write_split(source)


def test_images_in_0_1_cast_to_uint8(write_split):
    with pytest.raises(BadInput, match="^datasets.mine: .* none is above 1; multiply by 255"):
        write_split(in_memory(["a", "b", "c"], IMAGES % 2, LABELS, 12))
    write_split(in_memory(["a", "b", "c"], IMAGES % 3, LABELS, 12))


def test_images_of_two_sizes(write_split):
    sizes = iter([8, 8, 9])

    def read(ids):
        return np.zeros((len(ids), 1, 8, next(sizes)), np.uint8)

    source = Source(["a", "b"], np.arange(12) % 2, LABELS[:0], read)
    source.images(np.arange(2))
    with pytest.raises(BadSource, match=r"one shape, got \[1, 8, 8\] and \[1, 8, 9\]"):
        [source.images(np.arange(2), (1, 8, 8)) for _ in range(2)]


def test_read_returns_another_number_of_images(write_split):
    source = Source(["a", "b"], np.arange(12) % 2, LABELS[:0], lambda ids: IMAGES)
    with pytest.raises(BadInput, match="^datasets.mine: .*return one image per id, got 12 for 1"):
        write_split(source)


WRONG_LABELS = {
    "negative": LABELS - 1,
    "too large": LABELS + 1,
    "float": LABELS.astype(float),
    "NaN": np.where(LABELS > 0, LABELS, np.nan),
    "one-hot": np.eye(3, dtype=int)[LABELS],
    "bool": LABELS > 0,
    "texts": np.array(["a", "b", "c"])[LABELS],
    "objects": np.array([*LABELS[:-1], None]),
    "a column": LABELS[:, None],
    "all the same": np.zeros(12, int),
    "beyond 63 bits": np.where(LABELS > 0, np.uint64(2**64 - 1), LABELS.astype(np.uint64)),
}


@pytest.mark.parametrize("wrong", WRONG_LABELS.values(), ids=WRONG_LABELS)
def test_invalid_labels(write_split, wrong):
    for build in (
        lambda: in_memory(["a", "b", "c"], IMAGES, wrong, 6),
        lambda: Source(["a", "b", "c"], wrong[:6], wrong[6:], IMAGES.__getitem__),
        lambda: Source(["a", "b", "c"], wrong[:0], wrong, IMAGES.__getitem__),
    ):
        with pytest.raises(BadSource, match="^labels must be "):
            build()


@given(st.lists(st.integers(-3, 6), min_size=2, max_size=9), st.integers(2, 4))
def test_labels_are_accepted_only_if_they_are_classes(labels, classes):
    names, is_valid = [*"abcd"[:classes]], all(0 <= label < classes for label in labels)
    if is_valid and len({*labels}) > 1:
        source = in_memory(names, IMAGES[: len(labels)], np.array(labels), 1)
        assert source.labels(np.arange(len(labels))).tolist() == labels
    else:
        with pytest.raises(BadSource):
            in_memory(names, IMAGES[: len(labels)], np.array(labels), 1)


@pytest.mark.parametrize("count", [0, 11, 13])
def test_a_label_for_each_image(count):
    with pytest.raises(BadSource, match=f"a label, got 12 images and {count} labels"):
        in_memory(["a", "b", "c"], IMAGES, np.arange(count) % 3, 6)


def test_labels_that_are_not_an_array():
    with pytest.raises(BadSource, match="labels must be an array of whole numbers"):
        in_memory(["a", "b", "c"], IMAGES, [[0], [1, 2]], 6)


def test_fewer_images_than_labels(write_split):
    with pytest.raises(
        BadInput, match="^datasets.mine: own.own: there are more labels than images"
    ):
        write_split(Source(["a", "b", "c"], LABELS, LABELS[:0], IMAGES[:2].__getitem__))


@pytest.mark.parametrize("n_train", [-1, 13, 6.0, None, True])
def test_invalid_n_train(n_train):
    with pytest.raises(BadSource, match="n_train must be an int from 0 to 12, got"):
        in_memory(["a", "b", "c"], IMAGES, LABELS, n_train)


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        ([], "must be a list of strings"),
        ("abc", "must be a list of strings"),
        (None, "must be a list of strings"),
        ({"a": 0, "b": 1}, "must be a list of strings"),
        ([0, 1, 2], "must be a list of strings"),
        (["a"], "must be two or more, got only 'a'"),
        (["a", "b", "a"], "must be distinct, but 'a' is listed twice"),
        (["a", "b", os.fsdecode(b"\xff")], "must be valid UTF-8"),
    ],
)
def test_invalid_classes(classes, sentence):
    with pytest.raises(BadSource, match=f"^classes {sentence}"):
        in_memory(classes, IMAGES, LABELS, 6)


@pytest.mark.parametrize("value", [None, (IMAGES, LABELS), {"images": IMAGES}])
def test_a_function_that_does_not_return_a_source(write_split, value):
    with pytest.raises(BadInput, match=r"^datasets\.mine: own\.own: must return a Source, but"):
        write_split(value)


WRONG_MASKS = {
    "float": (np.zeros((12, 8, 8)), r"uint8 \[n,H,W\] of the images' sides, here \[1, 8, 8\]"),
    "int64": (np.zeros((12, 8, 8), int), "got int64"),
    "bool": (np.zeros((12, 8, 8), bool), "got bool"),
    "with channels": (np.zeros((12, 1, 8, 8), np.uint8), r"got uint8 \[1, 1, 8, 8\]"),
    "smaller": (np.zeros((12, 4, 4), np.uint8), r"got uint8 \[1, 4, 4\]"),
    "no class": (np.full((12, 8, 8), 3, np.uint8), "from 0 to 2, .* holds 3"),
}


@pytest.mark.parametrize(("wrong", "sentence"), WRONG_MASKS.values(), ids=WRONG_MASKS)
def test_invalid_masks(write_split, wrong, sentence):
    zeros = np.zeros(12, int)
    source = Source(["a", "b", "c"], zeros, zeros[:0], IMAGES.__getitem__, wrong.__getitem__)
    with pytest.raises(BadInput, match=f"^datasets.mine: own.own: masks must .*{sentence}"):
        write_split(source)


# ---------------------------------------------------------------- image files


@pytest.mark.parametrize("name", ["sixteen.png", "sixteen.tif", "sixteen.pgm", "big_endian.tif"])
def test_a_ramp_of_16_bits_stays_a_ramp(tmp_path, name):
    path, values = tmp_path / name, RAMP.astype(np.uint16) * 257
    if name == "sixteen.pgm":
        path.write_bytes(b"P5\n64 64\n65535\n" + values.astype(">u2").tobytes())
    elif name == "big_endian.tif":
        Image.frombytes("I;16B", (64, 64), values.astype(">u2").tobytes()).save(path)
    else:
        Image.fromarray(values).save(path)
    assert np.array_equal(decode(path, unchanged), np.repeat(RAMP[..., None], 3, 2))


@pytest.mark.parametrize("maximum", [255, 1023, 65535])
def test_a_pgm_of_any_depth(tmp_path, maximum):
    values = (RAMP / 255 * maximum).round().astype(np.uint8 if maximum < 256 else ">u2")
    (tmp_path / "x.pgm").write_bytes(b"P5\n64 64\n%d\n" % maximum + values.tobytes())
    assert np.abs(decode(tmp_path / "x.pgm", unchanged)[..., 0].astype(int) - RAMP).max() <= 1


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_32_bits_without_a_range_are_refused(tmp_path, dtype):
    Image.fromarray(RAMP.astype(dtype)).save(tmp_path / "x.tif")
    with pytest.raises(DamagedFile, match=r"x\.tif is an image of mode [FI], numbers without"):
        decode(tmp_path / "x.tif", unchanged)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr"])
def test_modes_of_8_bits_become_colour(tmp_path, mode):
    suffix = "jpg" if mode in ("CMYK", "YCbCr") else "png"
    image = Image.fromarray(np.repeat(RAMP[..., None], 3, 2)).convert(mode)
    image.save(tmp_path / f"x.{suffix}")
    result = decode(tmp_path / f"x.{suffix}", unchanged)
    assert (result.shape, result.dtype) == ((64, 64, 3), np.uint8)
    blurred = result[..., 0].reshape(8, 8, 8, 8).mean((0, 1, 3))  # black and white are dithered
    assert np.abs(blurred - RAMP.reshape(8, 8, 8, 8).mean((0, 1, 3))).max() < 12


def test_transparency_is_dropped(tmp_path):
    Image.new("RGBA", (4, 4), (200, 0, 0, 0)).save(tmp_path / "x.png")
    assert (decode(tmp_path / "x.png", unchanged) == [200, 0, 0]).all()


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_the_first_frame_of_an_animation_is_used(tmp_path, suffix):
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    options = {"lossless": True} if suffix == "webp" else {}
    path = tmp_path / f"x.{suffix}"
    first.save(path, save_all=True, append_images=[second], **options)
    assert (decode(path, unchanged) == [255, 0, 0]).all()


def test_the_exif_orientation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    Image.fromarray(RAMP).save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(decode(tmp_path / "x.png", unchanged)[..., 0], RAMP)


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "loop", "dangling"])
def test_paths_that_are_not_files_raise_and_do_not_block(tmp_path, kind):
    put_in_place(tmp_path / "x.png", kind)
    for read, error in (
        (lambda path: decode(path, unchanged), DamagedFile),
        (read_lines, BadInput),
    ):
        with pytest.raises(error, match=r"x\.png (is|is not .* image: it is) (a|a broken) "):
            read(tmp_path / "x.png")


def test_a_file_without_read_permission(tmp_path, monkeypatch):
    Image.fromarray(RAMP).save(tmp_path / "x.png")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(DamagedFile, match=r"x\.png is not a readable image: it cannot be read \(P"):
        decode(tmp_path / "x.png", unchanged)


def decompression_bomb() -> bytes:
    """The beginning of a PNG of 30,000 x 30,000 pixels."""
    start = io.BytesIO()
    Image.new("1", (1, 1)).save(start, "PNG")
    content = bytearray(start.getvalue())
    content[16:24] = struct.pack(">II", 30_000, 30_000)
    return bytes(content)


@pytest.mark.parametrize("content", [b"", b"text", decompression_bomb(), b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_not_an_image_or_too_large(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(DamagedFile, match=r"x\.png is not a readable image"):
        decode(tmp_path / "x.png", unchanged)


# ---------------------------------------------------------------- folders of images


@pytest.fixture
def root(tmp_path):
    """Two classes with an image each in both parts."""
    for part in ("train", "val"):
        for number, name in enumerate(("cat", "dog")):
            put(tmp_path / part / name / "0.png", 100 * number)
    return tmp_path


def put(path: Path, value=9, size=(20, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


def counts(root: Path) -> list[int]:
    source = folders.imagenet_folder(root, size=16)
    assert source.classes == ["cat", "dog"]
    source.read(np.arange(len(source.train_labels)))
    return np.bincount(source.train_labels).tolist()


@pytest.mark.parametrize("name", [".ipynb_checkpoints", ".thumbnails", "@eaDir", "__MACOSX"])
def test_hidden_folders_and_files_are_ignored(root, name):
    for part in ("train", "val"):
        put(root / part / name / "0-checkpoint.png")
        put(root / part / "cat" / name / "0-checkpoint.png")
        (root / part / "dog" / "._0.png").write_bytes(b"\0\5\x16\7" + bytes(60))
    (root / "train/cat/.DS_Store.png").mkdir()
    assert counts(root) == [1, 1]


def test_other_suffixes_are_ignored_and_capitals_are_not(root):
    put(root / "train/cat/1.PNG")
    (root / "train/cat/Thumbs.db").write_bytes(b"no image")
    (root / "train/cat/list.csv").write_text("0.png,cat\n")
    assert counts(root) == [2, 1]


def test_file_names_need_not_be_utf_8(root):
    put(root / "train/cat/1.png")
    os.rename(root / "train/cat/1.png", os.fsencode(root / "train/cat") + b"/\xff.png")
    assert counts(root) == [2, 1]


@pytest.mark.parametrize("target", [".", "..", "../..", "/", "../../train/cat"])
def test_a_link_to_a_parent_folder_repeats_no_image(root, target):
    (root / "train/cat/latest").symlink_to(target)
    assert counts(root) == [1, 1]


def test_two_links_to_one_folder_count_once(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    put(other / "1.png")
    (other / "back").symlink_to(other)
    for name in ("a", "b"):
        (root / "train/cat" / name).symlink_to(other)
    assert counts(root) == [2, 1]


def test_a_folder_of_two_classes(root):
    (root / "train/dog/more").symlink_to(root / "train/cat")
    with pytest.raises(
        BadInput, match="dog/more is also a folder of .*train/cat; an image has one class"
    ):
        counts(root)


@pytest.mark.parametrize("path", ["train/emu", "train/cat/more", "train/dog/1.png"])
@pytest.mark.parametrize("kind", ["loop", "dangling"])
def test_a_broken_link(root, path, kind):
    put_in_place(root / path, kind)
    with pytest.raises(BadInput, match=f"{path} is a broken link; repair or remove it"):
        counts(root)


def test_a_pipe_between_the_images(root):
    put_in_place(root / "val/cat/1.png", "pipe")
    source = folders.imagenet_folder(root, size=16)
    with pytest.raises(DamagedFile, match=r"val/cat/1\.png .* it is a named pipe"):
        source.read(np.arange(4))


def test_a_folder_that_cannot_be_listed(root, monkeypatch):
    list_entries = os.scandir

    def refuse(folder):
        if Path(folder).name == "dog":
            raise PermissionError(13, "Permission denied")
        return list_entries(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(BadInput, match=r"train/dog cannot be listed \(Permission denied\)"):
        counts(root)


def test_one_class(tmp_path):
    for part in ("train", "val"):
        put(tmp_path / part / "images/cat/0.png")
    with pytest.raises(BadInput, match="train has only the class folder 'images', two are needed"):
        folders.imagenet_folder(tmp_path, size=16)


@pytest.mark.parametrize("size", [LONGEST_SIDE + 1, 10**5, 10**15])
def test_a_size_above_the_maximum(root, size):
    with pytest.raises(BadInput, match=rf"settings\.size must be .* in \[1, 4096\], got {size}"):
        folders.imagenet_folder(root, size=size)
    with pytest.raises(BadInput, match="sides must be at most 4097, got 353x"):
        check_sides("segmentation.camvid: settings.size", 353, 32 * size + 1)


@pytest.mark.parametrize("size", [(1, 3000), (3000, 2)])
def test_an_image_with_one_very_short_side(root, size):
    put(root / "train/cat/1.png", size=size)
    source = folders.imagenet_folder(root, size=224)
    with pytest.raises(DamagedFile, match=r"train/cat/1\.png .* one side is too short"):
        source.read(np.array([1]))


def test_a_part_that_is_a_file(tmp_path):
    (tmp_path / "train").write_text("")
    with pytest.raises(BadInput, match="^data_root: .*train is a file, not a folder; expected"):
        folders.imagenet_folder(tmp_path)
