"""Manifests as no vocalsep writes them: damaged, torn, of other types, deep, huge, in other encodings."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import io
import json
import math
import random
from pathlib import Path
from typing import Any

import command_line
import damage
import fake_nets
import synthetic_songs
import typer
from cases import Case, check_message, require_clean

from vocalsep import files, manifests, means, weights
from vocalsep.batches import work
from vocalsep.cli import manifest
from vocalsep.cli.batch import recording
from vocalsep.cli.common import Misuse
from vocalsep.manifests import Call, Record

NUMBERS = ("audio_seconds", "taken_seconds", "vocals_db", "voice_share")
REPORT = {
    "vocals": "out/a.wav",
    "audio_seconds": 2.5,
    "taken_seconds": 0.5,
    "vocals_db": -3.25,
    "voice_share": 0.5,
    "voice": [[0.0, 1.25]],
    "warnings": ["no tags"],
}


def make_lines(rng: random.Random, call: Call) -> bytes:
    """Return the content of a manifest, of which some lines are not as they should be."""
    lines = []
    for number in range(rng.randint(1, 5)):
        record = rng.choice(
            [
                call.record(f"{number}.wav", report=REPORT, input_sha256="cd" * 32),
                call.record(f"{number}.wav", error="it broke"),
                call.record(f"{number}.wav", reason=rng.choice(["exists", "claimed"]), outputs={"vocals": "a.wav"}),
            ]
        )
        values: dict[str, Any] = dataclasses.asdict(record)
        if rng.random() < 0.4:
            values = damage.change_value(rng, values)
        if rng.random() < 0.2 and isinstance(values, dict):
            key = rng.choice([*values, "later", "id"])
            values = {**values, key: rng.choice(damage.HOSTILE)}
        lines.append(dump(rng, values))
        if rng.random() < 0.1:
            lines[-1] = make_other_line(rng, lines[-1])
    content = b"".join(line + b"\n" for line in lines)
    if rng.random() < 0.25:
        content = damage.damage(rng, content)
    if rng.random() < 0.25:
        content = content[: -rng.randint(1, min(len(content), 200))] if content else content
    return content


def dump(rng: random.Random, values: object) -> bytes:
    """Return a value as JSON, with anything that Python's own writer lets through."""
    line = json.dumps(values, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.05:
        line = line.replace("0.5", rng.choice(["1e999", "-1e999", "5e-324", "1e308", "NaN", "9" * 5_000, "0x1"]))
    return line.encode("utf-8", "surrogatepass")


def make_other_line(rng: random.Random, line: bytes) -> bytes:
    """Return a line that is no record, or one that is hard to read."""
    deep = rng.choice([20, 300, 900, 100_000])
    return rng.choice(
        [
            b"",
            b"\xef\xbb\xbf" + line,
            line + b"\r",
            line.decode("utf-8", "replace").encode(rng.choice(["utf-16", "utf-32", "utf-16-be"])),
            line.replace(b'"options": {', b'"options": {"x": ' + b"[" * deep + b"]" * deep + b", "),
            line.replace(b'"options": {', b'"options": {"x": ' + b'{"a":' * deep + b"1" + b"}" * deep + b", "),
            b"[" * deep,
            line.replace(
                b"it broke", rng.choice([b"\x1b[31m", b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800", b"x" * 10**6])
            ),
            line[:-1] + b', "status": "done", "id": "again"}',
            line[:-1] + b', "id": "' + b"y" * rng.choice([300, 10**5]) + b'"}',
            rng.randbytes(rng.randint(1, 300)),
            b"\0" * rng.randint(1, 99),
        ]
    )


def check_record(record: Record) -> None:
    """Check that a record that was read holds what the documentation of `Record` says, and can be written again."""
    for name, value in dataclasses.asdict(record).items():
        if name in NUMBERS:
            assert value is None or (type(value) in (int, float) and math.isfinite(value)), (name, value)
        elif name in ("options", "outputs"):
            assert all(isinstance(key, str) for key in value), (name, value)
        elif name == "voice":
            assert all(len(pair) == 2 and all(map(math.isfinite, pair)) for pair in value), value
        elif name == "warnings":
            assert isinstance(value, list | tuple), value
            assert all(isinstance(each, str) for each in value), value
        else:
            optional = name in ("input_sha256", "error", "reason")
            assert isinstance(value, str) or (value is None and optional), (name, value)
    assert Record.from_line(record.to_line()).to_line() == record.to_line()


def check_table(records: list[Record], path: Path) -> None:
    """Check that a table has all records, where the library that writes tables is installed."""
    if importlib.util.find_spec("pyarrow"):
        import pyarrow.parquet as parquet

        manifests.write_parquet(path, records)
        assert parquet.read_metadata(path).num_rows == len(records)


def check_printed(path: Path, *, good: bool) -> None:
    """Check what ``vocalsep manifest summary`` prints."""
    printed, errors, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        try:
            manifest.summary(path, as_json=True)
            assert json.loads(printed.getvalue())["songs"] == len(manifests.read(path))
            manifest.summary(path)
        except typer.Exit as error:
            status = error.exit_code
    assert status == (0 if good else 1), (status, errors.getvalue())
    for line in (printed.getvalue() + errors.getvalue()).splitlines():
        assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in line), line


def check_merger(path: Path, other: Path, out: Path) -> None:
    """Check that a merger leaves a damaged manifest out, and loses no song of the others."""
    merged, problems = manifests.merge([other, path])
    for problem in problems:
        check_message(str(problem))
    assert set(manifests.read(other)) <= {record.id for record in merged}
    manifests.write(out, merged)
    assert [record.to_line() for record in manifests.iterate(out)] == [record.to_line() for record in merged]


def check_continued(path: Path, call: Call, *, good: bool) -> None:
    """Check that a batch that goes on from a manifest keeps its whole lines, and that a refused file stays as it is."""
    before = path.read_bytes()
    known = manifests.read(path) if good else {}

    def go_on() -> None:
        with manifests.Writer(path, call) as writer:
            assert writer.known == known
            writer.add(call.record("next.wav", error="it broke"))

    if require_clean(go_on):
        assert path.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
        assert set(manifests.read(path)) == {*known, "next.wav"}
    else:  # it is no manifest, or one of another model
        assert path.read_bytes() in (before, before[: before.rfind(b"\n") + 1])


def set_up(folder: Path) -> Case:
    """Make a model and a song, and return a case: a manifest that is read, summarised, merged and continued."""
    made, model = fake_nets.random_unet(), folder / "narrow.safetensors"
    weights.save(model, made.net, made.front_end, {"licence": "none"})
    call = Call(model="narrow", model_sha256=means.hash_models((str(model),)), options={"gate": True, "shares": [1]})
    other = folder / "other.jsonl"
    manifests.write(other, [call.record("0.wav", error="x"), call.record("z.wav", report=REPORT)])
    settings = work.Settings(models=(str(model),))
    synthetic_songs.write(folder / "music" / "0.wav", fake_nets.noise(1, 400).T, 8_000)

    def case(rng: random.Random, folder: Path) -> None:
        path = folder / "m.jsonl"
        path.write_bytes(make_lines(rng, call))
        good = require_clean(lambda: manifests.read(path))
        if good:
            records = list(manifests.iterate(path))
            for record in records:
                check_record(record)
            assert json.loads(files.dump_json(manifests.summarise(records)))["songs"] == len(records)
            if rng.random() < 0.1:
                check_table(records, folder / "m.parquet")
        check_printed(path, good=good)
        check_merger(path, other, folder / "all.jsonl")
        try:
            failed = recording.Recorder(str(path), "narrow", settings).failed
            assert all(isinstance(name, str) for name in failed)
        except Misuse as error:
            check_message(str(error))
        if rng.random() < 0.02:
            arguments = ["extract", folder / "music", "-m", model, "-o", folder / "out", "--manifest", path]
            ended = command_line.run(*arguments, "--dry-run", *rng.choice([[], ["--retry-failed"]]))
            assert isinstance(ended.exception, SystemExit | None), ended.exception
            assert ended.exit_code in (0, 2), ended.output
        check_continued(path, call, good=good)

    return case
