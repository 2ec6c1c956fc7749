from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import make_environment
from hypothesis import given
from hypothesis import strategies as st

from vocalsep import manifests
from vocalsep.errors import ManifestError
from vocalsep.manifests import Call, Record, Writer, storage

CALL = Call(model="unet", model_sha256="ab" * 32, options={"gate": True})
REPORT = {
    "vocals": "out/a.wav",
    "accompaniment": None,
    "audio_seconds": 2.5,
    "taken_seconds": 0.5,
    "vocals_db": -3.25,
    "voice_share": 0.5,
    "voice": ((0.0, 1.25),),
    "warnings": ("no tags",),
    "clipped_samples": 0,
}
NAMES = st.binary(min_size=1, max_size=12).map(os.fsdecode)

APPEND = """
import sys
from pathlib import Path
from vocalsep import manifests
call = manifests.Call(model="unet", model_sha256="ab" * 32)
with manifests.Writer(Path(sys.argv[1]), call) as writer:
    for number in range(200):
        writer.add(call.record(f"{sys.argv[2]}-{number}", error="x" * (number * 37 % 4000 + 1)))
"""


def write(path: Path, *names: str, call: Call = CALL, **values: Any) -> Path:
    with Writer(path, call) as writer:
        for name in names:
            writer.add(call.record(name, **values))
    return path


def test_a_record_holds_what_is_known_about_a_song(tmp_path: Path) -> None:
    path = tmp_path / "new" / "m.jsonl"
    with Writer(path, CALL) as writer:
        writer.add(CALL.record("a.wav", song="music/a.wav", report=REPORT, input_sha256="cd" * 32))
        writer.add(CALL.record("b.wav", error="b.wav: no such file"))
        writer.add(CALL.record("c.wav", reason="exists", outputs={"vocals": "out/c.wav"}))
    done, failed, skipped = map(json.loads, path.read_text().splitlines())
    assert done.pop("time")[4] == "-"
    assert done == {
        "id": "a.wav",
        "status": "done",
        "input": "music/a.wav",
        "input_sha256": "cd" * 32,
        "model": "unet",
        "model_sha256": "ab" * 32,
        "version": manifests.Record.from_line(path.read_bytes().splitlines()[0]).version,
        "options": {"gate": True},
        "outputs": {"vocals": "out/a.wav"},
        "audio_seconds": 2.5,
        "taken_seconds": 0.5,
        "vocals_db": -3.25,
        "voice_share": 0.5,
        "voice": [[0.0, 1.25]],
        "warnings": ["no tags"],
        "error": None,
        "reason": None,
    }
    assert (failed["status"], failed["error"], failed["outputs"]) == ("failed", "b.wav: no such file", {})
    assert (skipped["status"], skipped["reason"], skipped["outputs"]) == ("skipped", "exists", {"vocals": "out/c.wav"})


@given(names=st.lists(NAMES, min_size=1, max_size=4, unique=True), cut=st.integers(min_value=0))
def test_a_manifest_that_is_cut_anywhere_loses_only_the_torn_record(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], cut: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "m.jsonl"
    write(path, *names, error="it broke")
    content = path.read_bytes()
    path.write_bytes(content[: cut % (len(content) + 1)])
    whole = path.read_bytes().count(b"\n")
    assert list(manifests.read(path)) == names[:whole]
    write(path, "next", error="x")
    assert [record.id for record in manifests.iterate(path)] == [*names[:whole], "next"]
    assert path.read_bytes().startswith(b"".join(content.splitlines(keepends=True)[:whole]))


@given(
    record=st.builds(
        Record,
        id=NAMES,
        status=st.sampled_from(manifests.STATUSES),
        input=NAMES,
        model=NAMES,
        model_sha256=st.just(""),
        version=st.text(),
        outputs=st.dictionaries(st.text(), NAMES),
        error=st.none() | NAMES,
    )
)
def test_a_line_gives_its_record_back_whatever_bytes_are_in_the_names(record: Record) -> None:
    line = record.to_line()
    assert line.count(b"\n") == 1
    again = Record.from_line(line)
    assert (again.id, again.input, again.outputs, again.error) == (
        record.id,
        record.input,
        record.outputs,
        record.error,
    )
    assert again.to_line() == line


def test_processes_can_share_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    started = [
        subprocess.Popen([sys.executable, "-c", APPEND, str(path), name], env=make_environment()) for name in "ab"
    ]
    assert [running.wait() for running in started] == [0, 0]
    found = [record.id for record in manifests.iterate(path)]
    assert sorted(found) == sorted(f"{name}-{number}" for name in "ab" for number in range(200))


def test_a_manifest_can_be_read_while_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    with Writer(path, CALL) as writer:
        assert manifests.read(path) == {}
        writer.add(CALL.record("a", error="x"))
        assert list(manifests.read(path)) == ["a"]


def test_the_writer_knows_what_was_there(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", "a", "b", error="x")
    write(path, "b", report=REPORT)
    with Writer(path, CALL) as writer:
        assert {name: record.status for name, record in writer.known.items()} == {"a": "failed", "b": "done"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"hello\n", "line 1 is not a record"),
        (b"{}\n", "id is missing"),
        (b"[]\n", "expected a JSON object"),
        (b'{"id": 3}\n', "is missing"),
        (b"\xff\n", "line 1 is not a record"),
        (b"[" * 100_000 + b"\n", "line 1 is not a record"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused_and_stays(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=reason):
        Writer(path, CALL)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, 3) for name in ("id", "input", "model", "model_sha256", "version", "time", "error", "reason")),
        *(("audio_seconds", value) for value in ("1", True, float("nan"), float("inf"), 1e300, 10**400, [1])),
        *(("voice", value) for value in (1, [1], [[1]], [[1, 2, 3]], [["a", "b"]], [[0, float("inf")]], "ab")),
        *(("warnings", value) for value in ("text", [1], {"a": "b"})),
        *(("outputs", value) for value in ([], {"vocals": 1}, "x")),
        *(("options", value) for value in ([], None, {"x": float("nan")}, {"x": [[[[[[[[[]]]]]]]]]})),
        *(("status", value) for value in ("finished", None, ["done"], {})),
    ],
)
def test_a_field_of_another_type_is_refused_by_name(tmp_path: Path, field: str, value: object) -> None:
    path = tmp_path / "m.jsonl"
    values = dataclasses.asdict(CALL.record("a.wav", report=REPORT)) | {field: value}
    path.write_text(json.dumps(values) + "\n")
    with pytest.raises(ManifestError, match=rf"line 1 is not a record of a manifest \({field} is invalid\)"):
        manifests.read(path)


def test_a_line_without_end_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "m.jsonl", "a", error="x")
    monkeypatch.setattr(storage, "_LONGEST", path.stat().st_size + 1)
    assert list(manifests.read(path)) == ["a"]
    for ending in (b"", b"\n"):
        path.write_bytes(path.read_bytes() + b'{"id": "' + b"x" * 10_000 + ending)
        with pytest.raises(ManifestError, match=r"line 2 .*too long"):
            manifests.read(path)


def test_a_text_without_a_line_break_is_not_taken_for_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "song.txt"
    path.write_bytes(b"precious")
    with pytest.raises(ManifestError, match="is not a manifest"):
        Writer(path, CALL)
    assert path.read_bytes() == b"precious"


def test_another_model_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", "a", error="x")
    other = Call(model="unet", model_sha256="cd" * 32)
    with pytest.raises(ManifestError, match=r"with model unet \(abababababab\), not with unet \(cdcdcdcdcdcd\)"):
        Writer(path, other)


@pytest.mark.parametrize("place", [".", "file/m.jsonl"])
def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ManifestError, match="cannot be written as a manifest"):
        Writer(tmp_path / place, CALL)


def test_a_full_disk_is_one_line_and_leaves_the_manifest_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "m.jsonl", "a", error="x")
    before = path.read_bytes()
    real = os.write
    with Writer(path, CALL) as writer:
        monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:10]))
        with pytest.raises(ManifestError, match="No space left on device"):
            writer.add(CALL.record("b", error="x"))
        monkeypatch.undo()
        assert path.read_bytes() == before
        writer.add(CALL.record("c", error="x"))
    assert list(manifests.read(path)) == ["a", "c"]


def test_the_guide_reads_a_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = Path(__file__).parents[2] / "docs" / "batches.md"
    blocks = re.findall(r"```python\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if "manifests.read" in block]
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "all.jsonl", "a", report=REPORT | {"voice_share": 0.75})
    write(tmp_path / "all.jsonl", "b", report=REPORT)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["sung"] == ["out/a.wav"]


def test_the_guide_lists_every_field() -> None:
    guide = Path(__file__).parents[2] / "docs" / "batches.md"
    table = guide.read_text(encoding="utf-8").split("| field | meaning |")[1].split("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line]
    listed = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert listed == {field.name for field in dataclasses.fields(Record)}
