"""Shards, claims and manifests, through the commands."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import command_line
import fake_nets
import numpy as np
import pytest
import synthetic_songs
from command_line import list_files, make_environment, read_error, read_misuse, read_objects
from hypothesis import given
from hypothesis import strategies as st

from vocalsep import claims, extraction, manifests
from vocalsep.cli.batch import options, plan
from vocalsep.errors import ManifestError

run = functools.partial(command_line.run, "extract")

SONGS = ("a.wav", "b.wav", "cd/a.wav")


@pytest.fixture
def music(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Songs ``music/a.wav``, ``music/b.wav`` and ``music/cd/a.wav``."""
    for seed, name in enumerate(SONGS):
        write(tmp_path / "music" / name, seed=seed)
    monkeypatch.chdir(tmp_path)
    return Path("music")


def write(path: Path, *, samples: int = 4_000, seed: int = 0) -> Path:
    return synthetic_songs.write(path, np.clip(fake_nets.noise(1, samples, seed), -0.99, 0.99).T, 8_000)


def statuses(path: str = "m.jsonl") -> dict[str, str]:
    return {name: record.status for name, record in manifests.read(Path(path)).items()}


# shards


@given(names=st.lists(st.text(min_size=1), unique=True, max_size=30), parts=st.integers(1, 9))
def test_parts_counted_from_0_or_from_1_hold_every_song_once(names: list[str], parts: int) -> None:
    for first in (0, 1):
        chosen = [options.parse_shard(f"{number}/{parts}") for number in range(first, first + parts)]
        found = [name for part, _ in chosen for name in names if plan.choose_shard(name, parts) == part]
        assert sorted(found) == sorted(names)


def test_the_part_of_a_song_stays_the_same_in_every_version() -> None:
    assert [plan.choose_shard(name, 100) for name in ("a.wav", "cd/a.wav", "\udcff.mp3")] == [14, 76, 27]


def test_parts_are_about_equally_large() -> None:
    counts = np.bincount([plan.choose_shard(f"songs/{number}.mp3", 10) for number in range(5_000)])
    assert counts.min() > 400


def test_shards_name_outputs_as_one_call_does(music: Path, model: Path) -> None:
    write(music / "b.flac")  # its vocals are called b.flac.vocals.wav, because there is b.wav
    together = [music, "-r", "-m", model, "-o", "out", "--number", "--dry-run"]
    everything = run(*together).stdout.splitlines()
    assert len(everything) == 4
    for first in (0, 1):
        found = [
            line for part in range(3) for line in run(*together, "--shard", f"{first + part}/3").stdout.splitlines()
        ]
        assert sorted(found) == sorted(everything)


def test_a_shard_does_not_depend_on_where_the_folder_is(music: Path, model: Path, tmp_path: Path) -> None:
    def plan_from(place: str | Path) -> list[str]:
        lines = run(place, "-r", "-o", "out/{folder}/{song}.wav", "--shard", "1/2", "--dry-run").stdout.splitlines()
        return [line.partition(" -> ")[2] for line in lines]

    assert plan_from("music") == plan_from(tmp_path / "music") == plan_from("./music/")


@pytest.mark.parametrize("text", ["3", "3/", "/2", "0/0", "3/2", "-1/2", "1/2/3", "a/b", "1.5/2", "\u0661/2"])
def test_a_shard_that_makes_no_sense_is_misuse(music: Path, text: str) -> None:
    assert f"--shard {text}: " in read_misuse(run(music, "--shard", text))


# manifests


def test_a_manifest_says_what_was_done(music: Path, model: Path) -> None:
    (music / "bad.wav").write_text("hello")
    result = run(music, "-r", "-m", model, "-o", "out/{folder}/{song}.wav", "--manifest", "m.jsonl", "--gate")
    assert result.exit_code == 1
    assert statuses() == {"a.wav": "done", "b.wav": "done", "bad.wav": "failed", "cd/a.wav": "done"}
    record = read_objects(Path("m.jsonl").read_text())[3]
    assert record["input"] == "music/cd/a.wav"
    assert record["input_sha256"] == hashlib.sha256((music / "cd" / "a.wav").read_bytes()).hexdigest()
    assert record["model_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert (record["model"], record["outputs"]) == ("narrow", {"vocals": "out/cd/a.wav"})
    assert record["options"] == {"device": "auto", "inversion": "phase", "masks": "auto", "clip": "clamp", "gate": True}
    assert (record["audio_seconds"], record["error"]) == (0.5, None)


def test_a_call_goes_on_from_its_manifest(music: Path, model: Path) -> None:
    command = (music, "-r", "-m", model, "-o", "out/{folder}/{song}.wav", "--manifest", "m.jsonl")
    (music / "bad.wav").write_text("hello")
    run(*command)
    before = Path("m.jsonl").read_bytes()
    again = run(*command)
    assert (again.exit_code, again.stdout, Path("m.jsonl").read_bytes()) == (0, "", before)
    assert "4 songs: 0 done, 4 skipped, 0 failed" in again.stderr
    assert "1 of the skipped songs failed before; to try them again, add --retry-failed" in again.stderr
    write(music / "bad.wav")
    Path("out/b.wav").unlink()
    assert run(*command, "--dry-run").stdout == "music/b.wav -> out/b.wav\n"
    assert run(*command, "--retry-failed").stdout.splitlines() == ["out/b.wav", "out/bad.wav"]
    assert set(statuses().values()) == {"done"}
    assert len(Path("m.jsonl").read_text().splitlines()) == 6


def test_songs_that_were_there_before_are_recorded_once_as_skipped(music: Path, model: Path) -> None:
    command = (music, "-m", model, "-o", "out", "--manifest", "m.jsonl")
    assert run(music / "a.wav", "-m", model, "-o", "out/").exit_code == 0
    for _ in range(2):
        assert run(*command).exit_code == 0
    assert statuses() == {"a.wav": "skipped", "b.wav": "done"}
    first = read_objects(Path("m.jsonl").read_text())[0]
    assert (first["reason"], first["outputs"]) == ("exists", {"vocals": "out/a.vocals.wav"})
    assert len(Path("m.jsonl").read_text().splitlines()) == 2
    assert run(*command, "--overwrite").exit_code == 0
    assert statuses() == {"a.wav": "done", "b.wav": "done"}


def test_a_dry_run_writes_no_manifest(music: Path, model: Path) -> None:
    assert run(music, "-m", model, "--manifest", "m.jsonl", "--dry-run").exit_code == 0
    assert not Path("m.jsonl").exists()


def test_songs_of_two_folders_have_different_ids(music: Path, model: Path) -> None:
    write(Path("more/a.wav"))
    command = ("music", "more", "more/a.wav", "music/cd/a.wav", "-m", model, "-o", "out/{song}.wav", "--number")
    assert run(*command, "--manifest", "m.jsonl").exit_code == 0
    assert set(statuses()) == {"music/a.wav", "b.wav", "more/a.wav", "music/cd/a.wav"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")
def test_names_of_any_bytes_survive(music: Path, model: Path) -> None:
    name = os.fsdecode(b"\xff\n\x1b[1m'\xc3\xa9.wav")
    (music / "b.wav").rename(music / name)
    (music / "a.wav").unlink()
    command = ["-m", "vocalsep", music, "-m", model, "-o", "out/", "--manifest", "m.jsonl", "-q"]
    subprocess.run([sys.executable, *map(str, command)], check=True, env=make_environment())
    found = manifests.read(Path("m.jsonl"))[name]
    assert found.status == "done"
    assert Path(found.input).exists()
    assert Path(found.outputs["vocals"]).exists()
    again = run(music, "-m", model, "-o", "out/", "--manifest", "m.jsonl")
    assert (again.exit_code, again.stdout) == (0, "")


def test_a_mean_has_a_digest_of_its_own(music: Path, model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    made = fake_nets.random_unet(seed=1)
    from vocalsep import weights

    weights.save(other, made.net, made.front_end, {"licence": "none"})
    digests = []
    for number, more in enumerate(
        (["-m", model], ["-m", model, "-m", other], ["-m", model, "-m", other, "--weights", "1,2"])
    ):
        assert run(music / "a.wav", *more, "-o", f"{number}.wav", "--manifest", f"{number}.jsonl").exit_code == 0
        digests.append(read_objects(Path(f"{number}.jsonl").read_text())[0]["model_sha256"])
    assert len(set(digests)) == 3
    assert all(len(digest) == 64 for digest in digests)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--retry-failed"], "--retry-failed needs --manifest"),
        (["--manifest", "-"], "--manifest needs a file"),
        (["--manifest", "new.jsonl", "-o", "{song}.mid"], "unknown output format"),
        (["--manifest", "music"], "--manifest music: cannot be read as a manifest (Is a directory)"),
        (["--manifest", "music/a.wav"], "--manifest music/a.wav: "),
        (["--manifest", "m.jsonl", "--page"], "cannot be combined with --manifest, unless you add --overwrite"),
        (["--manifest", "other.jsonl"], "its songs were separated with model other (0000"),
    ],
)
def test_manifests_that_cannot_be_used_are_reported_first(
    music: Path, model: Path, more: list[str], expected: str
) -> None:
    call = manifests.Call(model="other", model_sha256="0" * 64)
    manifests.write(Path("other.jsonl"), [call.record("x", error="y")])
    before = {name: (music / name).read_bytes() for name in SONGS}
    assert expected in read_misuse(run(music, "-m", model, *more))
    assert before == {name: (music / name).read_bytes() for name in SONGS}
    assert list_files(music) == ["a.wav", "b.wav", "cd", "cd/a.wav"]
    assert not Path("new.jsonl").exists()


def test_standard_input_has_no_name_for_a_manifest(music: Path, model: Path) -> None:
    assert "standard input has none" in read_misuse(run("-", "-o", "x.wav", "--manifest", "m.jsonl"))


def test_a_shard_without_songs_says_so(music: Path, model: Path) -> None:
    outcomes = [run(music / "a.wav", "-o", "out", "-m", model, "--shard", f"{part}/2") for part in (1, 2)]
    empty = next(result for result in outcomes if not result.stdout)
    assert empty.exit_code == 0
    assert "none of the 1 songs belongs to part " in empty.stderr


@pytest.mark.slow
def test_the_parent_of_workers_does_not_load_numpy_to_write_a_manifest(music: Path, model: Path) -> None:
    code = f"""
import sys
from vocalsep.cli import app

if __name__ == "__main__":
    try:
        app(["extract", "music", "-m", {str(model)!r}, "-o", "out", "--jobs", "2", "--manifest", "m.jsonl"])
    except SystemExit as end:
        assert not end.code, end.code
    assert not {{"numpy", "fsspec", "pyarrow"}} & set(sys.modules)
"""
    Path("main.py").write_text(code, encoding="utf-8")
    done = command_line.run_python("main.py")
    assert done.returncode == 0, done.stderr
    assert set(statuses().values()) == {"done"}


def test_a_manifest_that_cannot_be_written_fails_the_call_but_not_the_songs(
    music: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ManifestError("m.jsonl: cannot be written as a manifest (No space left on device)")

    monkeypatch.setattr(manifests.Writer, "add", fail)
    result = run(music, "-m", model, "-o", "out", "--manifest", "m.jsonl")
    assert (result.exit_code, len(result.stdout.splitlines())) == (1, 2)
    assert result.stderr.count("vocalsep: m.jsonl: cannot be written as a manifest") == 2


# claims


def test_a_song_that_another_call_is_working_on_is_skipped(music: Path, model: Path) -> None:
    Path("out").mkdir()
    with claims.claim([Path("out/a.vocals.wav")]):
        result = run(music, "-m", model, "-o", "out", "--manifest", "m.jsonl")
    assert (result.exit_code, result.stdout) == (0, "out/b.vocals.wav\n")
    assert "music/a.wav: skipped; another call is working on it" in result.stderr
    assert manifests.read(Path("m.jsonl"))["a.wav"].reason == "claimed"
    assert list_files(Path("out")) == ["b.vocals.wav"]
    assert run(music, "-m", model, "-o", "out", "--manifest", "m.jsonl").stdout == "out/a.vocals.wav\n"
    assert statuses()["a.wav"] == "done"


def test_claims_of_a_call_that_was_killed_behind_its_outputs_are_removed(music: Path, model: Path) -> None:
    run(music, "-m", model, "-o", "out")
    code = "import sys; from vocalsep import claims; sys.stdout.write(claims.Claim()._content.decode())"
    ended = subprocess.run([sys.executable, "-c", code], env=make_environment(), capture_output=True, check=True)
    claims._name_claim(Path("out/a.vocals.wav")).write_bytes(ended.stdout)
    with claims.claim([Path("out/b.vocals.wav")]):
        assert run(music, "-m", model, "-o", "out", "--skip-existing").exit_code == 0
        assert [*Path("out").glob("*.claim")] == [claims._name_claim(Path("out/b.vocals.wav"))]


@pytest.mark.parametrize("existing", ["--skip-existing", None])
def test_outputs_that_appear_while_a_song_waits_are_left_alone(
    music: Path, model: Path, existing: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract = extraction.extract

    def meanwhile(*arguments: object, **named: object) -> object:
        Path("out/b.vocals.wav").write_bytes(b"of another call")
        return extract(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(extraction, "extract", meanwhile)
    result = run(music, "-m", model, "-o", "out", *([existing] if existing else []))
    assert Path("out/b.vocals.wav").read_bytes() == b"of another call"
    assert result.stdout == "out/a.vocals.wav\n"
    assert result.exit_code == (0 if existing else 1)
    assert ("out/b.vocals.wav: already exists" in result.stderr) == (existing is None)


def test_a_song_that_disappears_while_it_waits_costs_one_line(
    music: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract = extraction.extract

    def meanwhile(*arguments: object, **named: object) -> object:
        (music / "b.wav").unlink(missing_ok=True)
        return extract(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(extraction, "extract", meanwhile)
    result = run(music, "-r", "-m", model, "-o", "out/{folder}/{song}.wav", "--manifest", "m.jsonl")
    assert (result.exit_code, len(result.stdout.splitlines())) == (1, 2)
    assert "vocalsep: music/b.wav: no such file" in result.stderr
    assert statuses() == {"a.wav": "done", "b.wav": "failed", "cd/a.wav": "done"}


@pytest.mark.slow
def test_two_calls_on_one_folder_do_every_song_once(tmp_path: Path, model: Path) -> None:
    names = [f"{number:02}.wav" for number in range(6)]
    for seed, name in enumerate(names):
        write(tmp_path / "music" / name, seed=seed, samples=40_000)
    command = [sys.executable, "-m", "vocalsep", "music", "-m", str(model), "-o", "out", "--manifest", "m.jsonl"]
    calls = [
        subprocess.Popen(command, cwd=tmp_path, env=make_environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    written = [line for call in calls for line in call.communicate()[0].splitlines()]
    assert [call.returncode for call in calls] == [0, 0]
    assert sorted(written) == [f"out/{name.replace('.wav', '.vocals.wav')}" for name in names]
    done = [record.id for record in manifests.iterate(tmp_path / "m.jsonl") if record.status == "done"]
    assert sorted(done) == names
    assert len(list_files(tmp_path / "out")) == 6


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say when a process started")
@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_killed_call_is_completed_by_the_next_one(tmp_path: Path, model: Path, jobs: str) -> None:
    names = [f"{number}.wav" for number in range(3)]
    for seed, name in enumerate(names):
        write(tmp_path / "music" / name, seed=seed, samples=120_000)
    command = [sys.executable, "-m", "vocalsep", "music", "-m", str(model), "-o", "out", "--manifest", "m.jsonl"]
    command += ["--jobs", jobs]
    environment = make_environment()
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        running.stdout.readline()
        while not any((tmp_path / "out").glob(".vocalsep-*.claim")):  # the next song has begun
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
    before = {record.id: record.to_line() for record in manifests.iterate(tmp_path / "m.jsonl")}
    assert 1 <= len(before) < 3
    if jobs == "2":  # the workers end by themselves
        while any((tmp_path / "out").glob(".vocalsep-*.claim")):
            time.sleep(0.01)
    with (tmp_path / "m.jsonl").open("ab") as file:
        file.write(b'{"id": "torn')
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    found = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert sorted({record["id"] for record in found}) == names
    assert [json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in found[: len(before)]] == list(
        before.values()
    )
    assert sorted(list_files(tmp_path / "out")) == [name.replace(".wav", ".vocals.wav") for name in names]
    once = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert command_line.run("extract", tmp_path / "music", "-m", model, "-o", tmp_path / "again").exit_code == 0
    assert once == {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}


# the command


def test_manifests_are_merged_and_summarised(music: Path, model: Path) -> None:
    for part in "12":
        run(
            music,
            "-r",
            "-m",
            model,
            "-o",
            "out/{folder}/{song}.wav",
            "--shard",
            f"{part}/2",
            "--manifest",
            f"{part}.jsonl",
        )
    merged = command_line.run("manifest", "merge", "all.jsonl", "1.jsonl", "2.jsonl")
    assert (merged.exit_code, merged.stdout) == (0, "all.jsonl\n")
    assert statuses("all.jsonl") == dict.fromkeys(SONGS, "done")
    text = command_line.run("manifest", "summary", "all.jsonl").stdout
    assert "3: 3 done, 0 failed, 0 skipped" in text
    assert "narrow (" in text
    (found,) = read_objects(command_line.run("manifest", "summary", "all.jsonl", "--json").stdout)
    assert (found["songs"], found["done"], found["audio_seconds"]) == (3, 3, 1.5)
    error = read_error(command_line.run("manifest", "merge", "all.jsonl", "1.jsonl"))
    assert error == "all.jsonl: already exists; choose another file, or add --overwrite"
    assert command_line.run("manifest", "merge", "all.jsonl", "all.jsonl", "--overwrite").exit_code == 0
    assert len(statuses("all.jsonl")) == 3


def test_a_manifest_of_another_model_is_left_out_of_a_merger(tmp_path: Path) -> None:
    for name, digest in (("unet", "a"), ("dpcl", "b")):
        call = manifests.Call(model=name, model_sha256=digest * 64)
        manifests.write(tmp_path / f"{name}.jsonl", [call.record(name, error="x\nof\x1b")])
    inputs = [tmp_path / f"{name}.jsonl" for name in ("unet", "dpcl")]
    result = command_line.run("manifest", "merge", tmp_path / "all.jsonl", *inputs)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "dpcl.jsonl: its songs were separated with model dpcl (bbbbbbbbbbbb), not with unet" in result.stderr
    assert list(manifests.read(tmp_path / "all.jsonl")) == ["unet"]
    shown = command_line.run("manifest", "summary", inputs[0]).stdout
    assert "failed: unet: x\\nof\\x1b" in shown


@pytest.mark.parametrize("command", ["merge", "summary"])
def test_a_manifest_that_is_none_is_one_line(tmp_path: Path, command: str) -> None:
    (tmp_path / "bad.jsonl").write_text("hello\n")
    out = [tmp_path / "out.jsonl"] if command == "merge" else []
    for name in ("bad.jsonl", "none.jsonl"):
        error = read_error(command_line.run("manifest", command, *out, tmp_path / name))
        assert error.startswith(f"{tmp_path / name}: ")
    assert not (tmp_path / "out.jsonl").exists()
