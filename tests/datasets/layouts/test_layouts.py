from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vocalsep.datasets.layouts import LAYOUTS, dsd100, stems
from vocalsep.datasets.tracks import Listing
from vocalsep.errors import DatasetError


def test_an_unknown_split_is_refused(dsd100_root: Path, mir1k_root: Path, stems_root: Path) -> None:
    for name, root in (("dsd100", dsd100_root), ("mir1k", mir1k_root), ("stems", stems_root), ("voices", stems_root)):
        with pytest.raises(DatasetError, match="no split 'train2'"):
            LAYOUTS[name].find(root, "train2")


def test_a_folder_without_tracks_is_refused_by_name(tmp_path: Path) -> None:
    for find in (stems.find, stems.find_voices):
        with pytest.raises(DatasetError) as error:
            find(tmp_path)
        message = str(error.value)
    assert str(tmp_path) in message
    assert "\n" not in message


@pytest.mark.parametrize("find", [stems.find, lambda root: dsd100.find(root, "Dev")], ids=["stems", "dsd100"])
def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path, dsd100_root: Path, monkeypatch: pytest.MonkeyPatch, find: Callable[[Path], Listing]
) -> None:
    root = tmp_path / "root"
    shutil.copytree(dsd100_root, root)
    closed = str(next((root / "Sources" / "Dev").iterdir()))

    def scandir(path: object = ".", of: Callable[..., object] = os.scandir) -> object:
        if str(path) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return of(path)

    def listdir(path: object = ".", of: Callable[..., object] = os.listdir) -> object:
        if str(path) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return of(path)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(DatasetError, match=r"cannot be listed \(Permission denied\)"):
        find(root)


@pytest.mark.skipif(os.name == "nt", reason="links need special rights on Windows")
def test_links_to_folders_are_followed(stems_root: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(stems_root)
    linked, plain = stems.find(tmp_path).tracks, stems.find(stems_root).tracks
    assert [track.group for track in linked] == [track.group for track in plain]
    assert len(stems.find_voices(tmp_path).tracks) == len(stems.find_voices(stems_root).tracks) > 3
