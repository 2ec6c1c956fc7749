from __future__ import annotations

from pathlib import Path

import pytest

from vocalsep.batches.jobs import describe_missing


def test_a_missing_song_comes_with_the_most_similar_name_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("music").mkdir()
    for name in ("song2.mp3", "song3.txt", "music/b.wav"):
        Path(name).touch()
    assert describe_missing(Path("song.mp3")) == "song.mp3: no such file. Did you mean song2.mp3?"
    assert describe_missing(Path("music/c.wav")) == "music/c.wav: no such file. Did you mean music/b.wav?"
    assert describe_missing(Path("quite another.wav")) == "quite another.wav: no such file"
    assert describe_missing(Path("no folder/song.mp3")) == "no folder/song.mp3: no such file"
