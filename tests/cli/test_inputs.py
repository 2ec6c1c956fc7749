from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from vocalsep import audio
from vocalsep.cli.batch import inputs
from vocalsep.errors import AudioError

TREE = ("b.wav", "a.FLAC", "notes.txt", ".hidden.wav", "e/no", ".trash/z.wav")
BELOW = ("cd 2/1.mp3", "cd 10/1.mp3", "cd 10/x/y.ogg")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of files without content, ``music``; the current folder is the one that holds it."""
    for name in TREE + BELOW:
        path = tmp_path / "music" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "music"


def found(*arguments: str, listed: tuple[str, ...] = (), recursive: bool = False) -> list[str]:
    songs, problems = inputs.find(arguments, listed, recursive=recursive)
    assert not problems
    return [song.path.as_posix() for song in songs]


def problem(*arguments: str, recursive: bool = False) -> str:
    songs, (only,) = inputs.find(arguments, recursive=recursive)
    assert not songs
    assert isinstance(only, AudioError)
    return str(only)


def test_a_folder_gives_the_recordings_directly_in_it_by_name(tree: Path) -> None:
    assert found("music") == ["music/a.FLAC", "music/b.wav"]
    assert found("music/") == found("./music") == found("music")


def test_subfolders_are_searched_on_request_except_hidden_ones(tree: Path) -> None:
    below = ["music/cd 10/1.mp3", "music/cd 10/x/y.ogg", "music/cd 2/1.mp3"]
    assert found("music", recursive=True) == ["music/a.FLAC", "music/b.wav", *below]
    songs, _ = inputs.find(["music"], recursive=True)
    assert [song.folder for song in songs] == ["", "", "cd 10", "cd 10/x", "cd 2"]
    assert not any(song.named for song in songs)


@pytest.mark.skipif(os.name == "nt", reason="links want rights there")
def test_links_to_folders_are_followed(tree: Path) -> None:
    (tree.parent / "linked").mkdir()
    (tree.parent / "linked" / "songs").symlink_to(tree / "cd 10")
    assert found("linked", recursive=True) == ["linked/songs/1.mp3", "linked/songs/x/y.ogg"]


def test_arguments_keep_their_order_and_each_file_comes_once(tree: Path) -> None:
    Path("link.wav").symlink_to("music/b.wav")
    given = ["music/b.wav", "music", "./music/../music/b.wav", "link.wav", str(tree / "a.FLAC")]
    assert found(*given) == ["music/b.wav", "music/a.FLAC"]


def test_a_file_that_is_named_somewhere_counts_as_named(tree: Path) -> None:
    songs, _ = inputs.find(["music", "music/b.wav"])
    assert [(song.path.name, song.named) for song in songs] == [("a.FLAC", False), ("b.wav", True)]


def test_an_argument_is_a_pattern_only_if_no_file_has_that_name(tree: Path) -> None:
    assert found("music/*.wav") == ["music/b.wav"]
    assert found("music/**/*.mp3") == ["music/cd 10/1.mp3", "music/cd 2/1.mp3"]
    assert found("mu*") == found("music")
    Path("[b].wav").touch()
    Path("b.wav").touch()
    assert found("[b].wav") == ["[b].wav"]


def test_outputs_are_no_songs_unless_they_are_named(tree: Path) -> None:
    outputs = ["b.vocals.flac", "b.wav.vocals.mp3", "a.accompaniment.wav", "b [VOC].mp3", "b [INSTR].ogg"]
    others = ["c.vocals.wav", "b.vocals.other.wav", "b.labels.wav", "b[VOC].mp3"]
    for name in outputs + others:
        (tree / name).touch()
    signed = tree / "signed.flac"
    with audio.Writer(
        signed, rate=8_000, channels=1, subtype="PCM_16", tags=audio.Tags({"encoder": (audio.sign("unet"),)})
    ) as writer:
        writer.write(np.zeros((1, 9), np.float32))
    expected = sorted(f"music/{name}" for name in ["a.FLAC", "b.wav", *others])
    assert sorted(found("music")) == expected
    assert sorted(found("music/[abs]*.*")) == sorted({*expected} - {"music/c.vocals.wav"})
    assert found("music/b.vocals.flac", str(signed)) == ["music/b.vocals.flac", str(signed)]
    assert found(listed=(str(signed),)) == [str(signed)]
    assert problem("music/s*.flac") == f"music/s*.flac: matches only {inputs._OWN}"
    signed.rename(tree / "e" / signed.name)
    assert problem("music/e") == f"music/e: holds only {inputs._OWN}"


def test_a_list_is_taken_literally(tree: Path) -> None:
    assert found("music/b.wav", listed=("music/*.wav", "music")) == ["music/b.wav", "music/*.wav", "music/a.FLAC"]


def test_a_file_that_is_missing_is_a_song_that_will_fail(tree: Path) -> None:
    assert found("no.wav", "n" * 300) == ["no.wav", "n" * 300]


def test_an_argument_that_yields_no_songs_is_an_error(tree: Path) -> None:
    assert problem("music/e") == "music/e: no recordings in this folder; add -r to search its subfolders too"
    assert problem("music/e", recursive=True) == "music/e: no recordings in this folder or its subfolders"
    assert problem("*.mid") == "*.mid: no such file, and no file matches it as a pattern"
    assert problem("") == "'': not a file name"
    songs, problems = inputs.find([], ["a\0b"])
    assert (songs, [str(each) for each in problems]) == ([], ["'a\\x00b': not a file name"])


def test_a_folder_that_cannot_be_listed_is_an_error_and_the_rest_is_found(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.scandir

    def forbid(path: str) -> object:
        if str(path).endswith("cd 10"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", forbid)
    songs, problems = inputs.find(["music"], recursive=True)
    assert [song.path.name for song in songs] == ["a.FLAC", "b.wav", "1.mp3"]
    assert [str(each) for each in problems] == ["music/cd 10: cannot be listed (Permission denied)"]


def test_a_dash_is_a_pipe_as_an_argument_and_a_file_in_a_list(tree: Path) -> None:
    songs, _ = inputs.find(["-", "music/b.wav", "-"])
    assert [(song.path, song.name, song.named) for song in songs] == [
        (inputs.PIPE, "stdin", True),
        (Path("music/b.wav"), "b", True),
    ]
    songs, _ = inputs.find(["./-"], ["-"])
    assert [song.path for song in songs] == [Path("-")]


def test_lists_are_read_from_files_and_from_standard_input(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "\ufeffa b.wav\r\n\n  c.wav \n".encode() + b"\xff.wav"
    Path("list.txt").write_bytes(content)
    expected = ["a b.wav", "  c.wav ", os.fsdecode(b"\xff.wav")]
    assert inputs.read_list("list.txt") == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert inputs.read_list("-") == expected
    with pytest.raises(AudioError, match=r"no\.txt: cannot be read as a list of songs \(No such file"):
        inputs.read_list("no.txt")
