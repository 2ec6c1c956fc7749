"""`cluster.Extract` as a plain class, without Ray."""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_nets
import numpy as np
import pytest
import synthetic_songs
from command_line import list_files

from vocalsep import claims, extraction
from vocalsep.cluster import Extract
from vocalsep.errors import AudioError, ConfigError, ModelError, VocalsepError

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("pyarrow")


@pytest.fixture(autouse=True)
def workspaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folder of temporary files, which every test leaves empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert list_files(folder) == []


@pytest.fixture
def bucket() -> Iterator[Any]:
    """fsspec's memory, empty."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return synthetic_songs.write(tmp_path / "song.wav", np.clip(fake_nets.noise(1, 4_000, 0), -0.99, 0.99).T, 8_000)


def rows(extract: Extract, **columns: list[Any]) -> list[dict[str, Any]]:
    """Call it as Ray does by default: with a column of numpy for each name."""
    found: list[dict[str, Any]] = extract({name: to_column(values) for name, values in columns.items()}).to_pylist()
    return found


def to_column(values: list[Any]) -> np.ndarray[Any, Any]:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def make_references(song: Path, folder: Path, model: Path) -> dict[str, bytes]:
    folder.mkdir()
    extraction.extract(song, folder / "v.wav", accompaniment=folder / "a.wav", model=model)
    return {"vocals": (folder / "v.wav").read_bytes(), "accompaniment": (folder / "a.wav").read_bytes()}


def test_a_row_says_where_the_outputs_are_and_who_sings(tmp_path: Path, song: Path, model: Path) -> None:
    out = tmp_path / "out"
    (row,) = rows(Extract(out, model=str(model)), id=["album/song.wav"], uri=[str(song)])
    assert (row["id"], row["input"], row["status"], row["error"]) == ("album/song.wav", str(song), "done", None)
    expected = make_references(song, tmp_path / "ref", model)
    for stem in ("vocals", "accompaniment"):
        assert row[f"{stem}_uri"] == str(out / "album" / f"song.wav.{stem}.wav")
        assert Path(row[f"{stem}_uri"]).read_bytes() == expected[stem]
    assert (row["audio_seconds"], row["model"]) == (0.5, "narrow")
    assert row["input_sha256"] == hashlib.sha256(song.read_bytes()).hexdigest()
    assert all(set(segment) == {"start", "end"} for segment in row["voice"])
    assert list_files(out) == ["album", "album/song.wav.accompaniment.wav", "album/song.wav.vocals.wav"]


def test_bytes_give_what_a_file_gives(tmp_path: Path, song: Path, model: Path) -> None:
    (row,) = rows(Extract(tmp_path / "out", model=str(model)), id=["a/b.wav"], bytes=[song.read_bytes()])
    assert (row["status"], row["input"]) == ("done", "a/b.wav")
    expected = make_references(song, tmp_path / "ref", model)
    assert Path(row["vocals_uri"]).read_bytes() == expected["vocals"]
    assert Path(row["accompaniment_uri"]).read_bytes() == expected["accompaniment"]


def test_songs_and_outputs_may_be_remote(tmp_path: Path, song: Path, model: Path, bucket: Any) -> None:
    bucket.pipe_file("/in/song.wav", song.read_bytes())
    (row,) = rows(Extract("memory://out", model=str(model)), id=["x/song.wav"], uri=["memory://in/song.wav"])
    assert (row["error"], row["vocals_uri"]) == (None, "memory://out/x/song.wav.vocals.wav")
    expected = make_references(song, tmp_path / "ref", model)
    assert bucket.cat_file("/out/x/song.wav.vocals.wav") == expected["vocals"]
    assert bucket.cat_file("/out/x/song.wav.accompaniment.wav") == expected["accompaniment"]
    assert len(bucket.find("/out")) == 2  # no claims


def test_a_bad_song_does_not_harm_the_others(tmp_path: Path, song: Path, model: Path, bucket: Any) -> None:
    (tmp_path / "bad.wav").write_text("hello")
    missing = str(tmp_path / "missing.wav")
    uris = [str(tmp_path / "bad.wav"), missing, "memory://nowhere/a.wav", None, math.nan, str(tmp_path), str(song)]
    found = rows(Extract(tmp_path / "out", model=str(model)), id=[*"abcdefg"], uri=uris)
    assert [row["status"] for row in found] == ["failed"] * 6 + ["done"]
    assert "it is text" in found[0]["error"]
    assert found[1]["error"].startswith(f"{missing}: no such file")
    assert found[2]["error"].startswith("memory://nowhere/a.wav: no such file")
    assert found[3]["error"] == "d: the row has neither uri nor bytes"
    assert all("\n" not in row["error"] for row in found[:6])
    assert all(row["vocals_uri"] is None for row in found[:6])


@pytest.mark.parametrize("name", ["", None, "../a.wav", "a/../../b.wav", "/", "s3://"])
def test_ids_that_name_no_file_in_the_folder_are_errors(tmp_path: Path, song: Path, model: Path, name: Any) -> None:
    good, bad = rows(Extract(tmp_path / "out", model=str(model)), id=["good", name], uri=[str(song)] * 2)
    assert (good["status"], bad["status"]) == ("done", "failed")
    assert list_files(tmp_path / "out") == ["good.accompaniment.wav", "good.vocals.wav"]


def test_each_id_has_outputs_of_its_own(tmp_path: Path, song: Path, model: Path) -> None:
    names = ["a.wav", "a.flac", "a", "s3://bucket/a", "/x/a"]
    found = rows(Extract(tmp_path / "out", model=str(model), stem="vocals"), id=names, uri=[str(song)] * 5)
    assert len({row["vocals_uri"] for row in found}) == 5
    assert [row["accompaniment_uri"] for row in found] == [None] * 5


def test_rows_may_say_where_outputs_go(tmp_path: Path, song: Path, model: Path) -> None:
    (row,) = rows(
        Extract(tmp_path / "out", model=str(model)),
        id=["a"],
        uri=[str(song)],
        vocals_uri=[str(tmp_path / "elsewhere.flac")],
        accompaniment_uri=[None],
    )
    assert row["vocals_uri"] == str(tmp_path / "elsewhere.flac")
    assert Path(row["vocals_uri"]).read_bytes()[:4] == b"fLaC"
    assert row["accompaniment_uri"] == str(tmp_path / "out" / "a.accompaniment.wav")


@pytest.mark.parametrize(("existing", "status"), [("overwrite", "done"), ("skip", "skipped"), ("refuse", "failed")])
def test_outputs_that_exist(tmp_path: Path, song: Path, model: Path, existing: Any, status: str) -> None:
    out = tmp_path / "out"
    rows(Extract(out, model=str(model)), id=["a"], uri=[str(song)])
    (row,) = rows(Extract(out, model=str(model), existing=existing), id=["a"], uri=[str(song)])
    assert row["status"] == status
    assert (row["vocals_uri"] is None) == (status == "failed")


def test_a_song_that_another_call_works_on_is_skipped(tmp_path: Path, song: Path, model: Path) -> None:
    (tmp_path / "out").mkdir()
    with claims.claim([tmp_path / "out" / "a.vocals.wav"]):
        (row,) = rows(Extract(tmp_path / "out", model=str(model)), id=["a"], uri=[str(song)])
    assert (row["status"], row["reason"], row["vocals_uri"]) == ("skipped", "claimed", None)


def test_all_formats_of_batches_and_empty_ones_have_the_same_columns(tmp_path: Path, song: Path, model: Path) -> None:
    import pandas as pd
    import pyarrow as pa

    extract = Extract(tmp_path / "out", model=str(model), stem="vocals")
    columns = {"id": ["a", "b"], "uri": [str(song), None]}
    tables = [extract(batch) for batch in (columns, pa.table(columns), pd.DataFrame(columns))]
    empty = extract({"id": np.array([]), "uri": np.array([])})
    assert len(empty) == 0
    for table in tables:
        assert table.schema == empty.schema
        assert table["status"].to_pylist() == ["done", "failed"]
    pa.concat_tables([empty, *tables])


def test_settings_that_cannot_work_are_refused_before_any_song(tmp_path: Path, model: Path, broken: Path) -> None:
    with pytest.raises(ConfigError, match="give an absolute path"):
        Extract("out", model=str(model))
    with pytest.raises(AudioError, match="web server"):
        Extract("https://example.org/out", model=str(model))
    with pytest.raises(ModelError, match="nothing"):
        Extract(tmp_path, model="nothing")
    with pytest.raises(VocalsepError, match="broken"):
        Extract(tmp_path, model=str(broken))


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"no weights")
    return path
