from __future__ import annotations

import dataclasses
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from vocalsep import files, manifests
from vocalsep.errors import ManifestError
from vocalsep.manifests import Call, Record

UNET, OTHER = (Call(model=name, model_sha256=digest * 64) for name, digest in (("unet", "a"), ("dpcl", "b")))
REPORT = {"vocals": "o/a.wav", "audio_seconds": 7200.0, "taken_seconds": 360.0, "voice_share": 0.5, "vocals_db": None}


def make(name: str, time: str = "", call: Call = UNET, **values: Any) -> Record:
    return dataclasses.replace(call.record(name, **values), time=time)


def write(path: Path, *records: Record) -> Path:
    manifests.write(path, records)
    return path


def test_the_latest_record_of_a_song_counts_but_a_done_song_stays_done() -> None:
    done, failed, exists, claimed = (
        make("x", "1", report=REPORT),
        make("x", "2", error="it broke"),
        make("x", "3", reason="exists"),
        make("x", "4", reason="claimed"),
    )
    assert manifests.choose(done, failed) == failed
    assert manifests.choose(failed, exists) == exists
    assert manifests.choose(done, exists) == done
    assert manifests.choose(failed, claimed) == failed
    assert manifests.choose(claimed, make("x", "5", report=REPORT)).status == "done"
    for first, second in itertools.permutations((done, failed, exists, claimed), 2):
        assert manifests.choose(first, second) == manifests.choose(second, first)


def test_merging_leaves_one_record_per_song(tmp_path: Path) -> None:
    first = write(tmp_path / "1.jsonl", make("a", "1", error="x"), make("b", "1", report=REPORT))
    second = write(tmp_path / "2.jsonl", make("a", "2", report=REPORT), make("c", "1", error="y"))
    for order in ([first, second], [second, first]):
        merged, problems = manifests.merge(order)
        assert problems == []
        assert {record.id: record.status for record in merged} == {"a": "done", "b": "done", "c": "failed"}


def test_a_manifest_of_another_model_or_a_damaged_one_is_left_out(tmp_path: Path) -> None:
    first = write(tmp_path / "1.jsonl", make("a", error="x"))
    other = write(tmp_path / "2.jsonl", make("b", call=OTHER, error="x"))
    mixed = write(tmp_path / "3.jsonl", make("c", error="x"), make("d", call=OTHER, error="x"))
    damaged = tmp_path / "4.jsonl"
    damaged.write_text("hello\n")
    last = write(tmp_path / "5.jsonl", make("e", error="x"))
    merged, problems = manifests.merge([first, other, mixed, damaged, tmp_path / "none", last])
    assert [record.id for record in merged] == ["a", "e"]
    assert [str(problem).partition(": ")[0] for problem in problems] == [
        str(path) for path in (other, mixed, damaged, tmp_path / "none")
    ]
    assert "with model dpcl (bbbbbbbbbbbb), not with unet (aaaaaaaaaaaa); merge it separately" in str(problems[0])
    assert len(manifests.merge([mixed])[1]) == 1


def test_a_summary_counts_songs_and_hours() -> None:
    records = [
        make("a", report=REPORT),
        make("b", report=REPORT),
        make("c", error="it broke"),
        make("d", reason="exists"),
    ]
    found = manifests.summarise(records)
    assert [found[status] for status in ("songs", "done", "failed", "skipped")] == [4, 2, 1, 1]
    assert (found["audio_seconds"], found["voice_seconds"], found["taken_seconds"]) == (14_400, 7_200, 720)
    assert found["times_real_time"] == 20.0
    assert found["models"] == [("unet", "a" * 64)]
    assert found["errors"] == {"c": "it broke"}
    assert manifests.summarise([])["songs"] == 0


def test_a_summary_is_finite_whatever_the_times_are() -> None:
    for taken, times in ((5e-324, 0.0), (1e12, 0.0), (0.5, 14400.0)):
        found = manifests.summarise([make("a", report=REPORT | {"taken_seconds": taken})])
        assert found["times_real_time"] == times
        assert json.loads(files.dump_json(found)) == found | {"models": [list(UNET.record("x").made_with)]}


def test_a_table_has_a_column_for_each_field(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    report = REPORT | {"voice": ((0.5, 1.0),), "warnings": ("w",), "vocals": "o/\udcff.wav"}
    call = Call(model="unet", model_sha256="a" * 64, options={"gate": True, "clip": "clamp", "x": "\udcff"})
    manifests.write_parquet(tmp_path / "t.parquet", [call.record("\udcff", report=report), make("b", error="x")])
    first, second = parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert list(first) == [field.name for field in dataclasses.fields(Record)]
    assert first["id"] == "\\udcff"
    assert (dict(first["outputs"]), dict(first["options"])) == (
        {"vocals": "o/\\udcff.wav"},
        {"gate": "true", "clip": "clamp", "x": "\\udcff"},
    )
    assert first["voice"] == [{"start": 0.5, "end": 1.0}]
    assert (second["audio_seconds"], second["error"], second["voice"]) == (None, "x", [])


def test_a_table_needs_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ManifestError, match=r"Parquet needs pyarrow; run: pip install 'vocalsep\[parquet\]'"):
        manifests.write_parquet(tmp_path / "t.parquet", [])
    assert list(tmp_path.iterdir()) == []
