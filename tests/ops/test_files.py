"""Paths that are not files, and files with times in the future."""

import os
import time

import pytest

from advdenoise.errors import BadInput
from advdenoise.ops.files import check_paths, check_times, final_path, partial_path, remove

KINDS = {
    "folder": (lambda path: (path / "more").mkdir(parents=True), "is a folder, not a file"),
    "pipe": (lambda path: os.mkfifo(path), "is a named pipe, not a file"),
    "dangling": (lambda path: path.symlink_to("nowhere"), "is a broken link"),
    "loop": (lambda path: path.symlink_to(path), "is a broken link"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_path_that_is_not_a_file_is_refused_and_can_be_removed(tmp_path, kind):
    make, reason = KINDS[kind]
    good, path = tmp_path / "good", tmp_path / "bad"
    good.touch()
    make(path)
    with pytest.raises(BadInput, match=f"^{path}: {reason}.*; delete it and run the same command"):
        check_paths([good, tmp_path / "not" / "there", path])
    remove(path)
    remove(path)
    check_paths([good, path])
    assert not os.path.lexists(path) and good.exists()


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=f"^{tmp_path}/file: is not a folder; delete it"):
        check_paths([tmp_path / "file" / "deep" / "a.h5"])


def test_links_to_files_and_folders_are_followed(tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "a").touch()
    (tmp_path / "link").symlink_to(tmp_path / "scratch")
    (tmp_path / "b").symlink_to(tmp_path / "scratch" / "a")
    check_paths([str(tmp_path / "link" / "a"), tmp_path / "b"])


def test_a_time_in_the_future_is_refused_unless_it_is_a_few_seconds_ahead(tmp_path):
    path = tmp_path / "a"
    path.touch()
    os.utime(path, (0, time.time() + 5))
    check_times([path, tmp_path / "missing"])
    os.utime(path, (0, time.time() + 3600))
    with pytest.raises(
        BadInput, match=f"^{path}: its modification time, 2.* lies in the future; set"
    ):
        check_times([str(path)])


def test_a_temporary_file_names_its_final_one(tmp_path):
    path = tmp_path / "a.h5"
    assert partial_path(path).parent == tmp_path and final_path(partial_path(path)) == path
    assert final_path(path) == path
