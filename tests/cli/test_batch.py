"""Many songs in one call, through the command."""

from __future__ import annotations

import functools
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import command_line
import fake_nets
import numpy as np
import pytest
import soundfile
import synthetic_songs
from command_line import SOURCE, make_environment, read_misuse, read_objects, run_python

from vocalsep import extraction, weights
from vocalsep.cli.batch import describing
from vocalsep.cli.parameters import OutputFormat

run = functools.partial(command_line.run, "extract")

EVENTS = {
    "start": {"event", "songs", "model"},
    "song": {"event", "song", "index", "of", "seconds"},
    "progress": {"event", "song", "index", "seconds", "of"},
    "end": {"event", "done", "skipped", "failed", "taken_seconds"},
}


@pytest.fixture
def music(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Songs ``music/a.wav``, ``music/b.flac`` and ``music/cd 1/a.wav``, and ``music/bad.wav``, which is not audio."""
    for seed, name in enumerate(("a.wav", "b.flac", "cd 1/a.wav")):
        write(tmp_path / "music" / name, seed=seed)
    (tmp_path / "music" / "bad.wav").write_bytes(b"noise" * 99)
    monkeypatch.chdir(tmp_path)
    return Path("music")


def write(path: Path, *, samples: int = 6_000, seed: int = 0, rate: int = 8_000) -> Path:
    return synthetic_songs.write(path, np.clip(fake_nets.noise(2, samples, seed), -0.99, 0.99).T, rate)


def files(folder: str | Path) -> dict[str, bytes]:
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_a_folder_is_processed_and_its_structure_kept(music: Path, model: Path) -> None:
    result = run(music, "-r", "-m", model, "-o", "out/{folder}/{song}-{stem}-{model}.{ext}", "--format", "flac")
    assert result.exit_code == 1
    written = [f"out/{name}-vocals-narrow.flac" for name in ("a", "b", "cd 1/a")]
    assert result.stdout.splitlines() == written
    assert sorted(files("out")) == sorted(name.removeprefix("out/") for name in written)
    assert "music/bad.wav: not an audio file, or damaged" in result.stderr


def test_a_second_call_does_not_process_the_outputs_of_the_first(music: Path, model: Path) -> None:
    (music / "bad.wav").unlink()
    assert run(music, "-m", model, "--accompaniment").exit_code == 0
    before = files(music)
    assert len(before) == 3 + 4
    result = run(music, "-m", model, "--overwrite")
    assert result.stdout.splitlines() == ["music/a.vocals.wav", "music/b.vocals.wav"]
    assert files(music) == before


def test_songs_can_come_from_a_list(music: Path, model: Path) -> None:
    result = run("--from-file", "-", "-o", "out", "-m", model, stdin="music/b.flac\nmusic/a.wav\n")
    assert (result.exit_code, result.stdout) == (0, "out/b.vocals.wav\nout/a.vocals.wav\n")
    Path("list.txt").write_text("music/b.flac", encoding="utf-8")
    assert run("--from-file", "list.txt", "-o", "other", "-m", model).stdout == "other/b.vocals.wav\n"
    missing = run("--from-file", "no.txt", "-m", model)
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert missing.stderr.startswith("vocalsep: no.txt: cannot be read as a list of songs")
    start, error, end = read_objects(run("--from-file", "no.txt", "-m", model, "--progress", "json").stderr)
    assert (start["event"], start["songs"], end["event"]) == ("start", 0, "end")
    assert error["message"].startswith("no.txt: cannot be read as a list of songs")
    both = run("--from-file", "no.txt", "music/a.wav", "-o", "both", "-m", model)
    assert (both.exit_code, both.stdout) == (1, "both/a.vocals.wav\n")


def test_an_argument_without_songs_is_an_error_and_the_rest_is_processed(music: Path, model: Path) -> None:
    Path("empty").mkdir()
    result = run("empty", music / "a.wav", "*.mp4", "-m", model)
    assert (result.exit_code, result.stdout) == (1, "music/a.vocals.wav\n")
    assert [line.split(": ")[1] for line in result.stderr.splitlines()[:2]] == ["empty", "*.mp4"]
    assert run("empty").exit_code == 1


# existing outputs


def test_complete_songs_are_skipped_and_incomplete_ones_processed_again(music: Path, model: Path) -> None:
    command = (music / "a.wav", music / "b.flac", "-m", model, "-o", "out", "--accompaniment")
    assert run(*command).exit_code == 0
    first = files("out")
    Path("out/a.vocals.wav").write_bytes(b"mine")
    Path("out/b.accompaniment.wav").unlink()
    Path("out/b.vocals.wav").write_bytes(b"half of a pair")
    result = run(*command, "--skip-existing")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["out/b.vocals.wav", "out/b.accompaniment.wav"]
    assert files("out") == first | {"a.vocals.wav": b"mine"}
    assert "1 done, 1 skipped, 0 failed" in result.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--overwrite", "--skip-existing"], "--overwrite and --skip-existing cannot be combined"),
        (["-q", "--progress", "json"], "--quiet and --progress json cannot be combined"),
        (["-o", "{sonk}.wav"], "unknown field 'sonk'; did you mean 'song'?"),
        (["-o", "{song}.flac", "--format", "flac"], "has no {ext}"),
        (["-o", "x.wav", "--format", "flac"], "different formats"),
        (["--format", "mid"], "'mid' is not one of"),
        (["--jobs", "0"], "greater than or equal to 1"),
        (["-o", "out/x.wav", "--accompaniment", "out/{song}.wav", "--from-file", "-"], "several songs need a folder"),
    ],
    ids=" ".join,
)
def test_misuse_is_reported_before_any_work_starts(music: Path, options: list[str], expected: str) -> None:
    (music / "a.wav").rename("x.wav")
    Path("out").mkdir()
    Path("out/x.wav").touch()
    result = run("x.wav", *options)
    assert expected in read_misuse(result)
    assert list(files("out")) == ["x.wav"]


# a dry run


def test_a_dry_run_prints_what_would_be_done(music: Path, broken_model: Path) -> None:
    command = (music, "-r", "-o", "out/{folder}/{song}.{stem}.{ext}", "--dry-run", "-m", broken_model)
    result = run(*command, "--accompaniment")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"music/{name} -> out/{stem}.vocals.wav, out/{stem}.accompaniment.wav"
        for name, stem in (("a.wav", "a"), ("b.flac", "b"), ("bad.wav", "bad"), ("cd 1/a.wav", "cd 1/a"))
    ]
    assert not Path("out").exists()
    for name in ("out/a.vocals.wav", "out/bad.vocals.wav"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    plan = read_objects(run(*command, "--skip-existing", "--json").stdout)
    assert [each["skipped"] for each in plan] == [True, False, True, False]
    assert plan[3] == {
        "input": "music/cd 1/a.wav",
        "outputs": {"vocals": "out/cd 1/a.vocals.wav"},
        "skipped": False,
    }
    refused = run(*command)
    assert refused.exit_code == 1
    assert refused.stdout.splitlines() == [
        "music/b.flac -> out/b.vocals.wav",
        "music/cd 1/a.wav -> out/cd 1/a.vocals.wav",
    ]
    assert [line.split(": ")[1] for line in refused.stderr.splitlines()] == ["out/a.vocals.wav", "out/bad.vocals.wav"]


@pytest.mark.slow
def test_neither_a_dry_run_nor_the_parent_of_the_workers_loads_torch(music: Path, model: Path) -> None:
    code = f"""
import sys
from vocalsep.cli import app

def main():
    side_by_side = ["music/a.wav", "music/b.flac", "--jobs", "2", "-o", "out", "-m", {str(model)!r}]
    for line in (["music", "--dry-run"], side_by_side):
        try:
            app(["extract", *line])
        except SystemExit as end:
            assert not end.code, end.code
    heavy = {{"torch", "numpy", "soundfile", "av", "mutagen"}} & set(sys.modules)
    assert not heavy, heavy

if __name__ == "__main__":
    main()
"""
    Path("main.py").write_text(code, encoding="utf-8")
    done = run_python("main.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["out/a.vocals.wav", "out/b.vocals.wav"]


# side by side


@pytest.mark.slow
def test_any_number_of_processes_gives_the_same_bytes_and_the_same_order(music: Path, model: Path) -> None:
    write(music / "long.wav", samples=400_000)  # the first song finishes last
    songs = [music / "long.wav", music / "bad.wav", music / "a.wav", music / "b.flac"]
    outcomes = []
    for count in (1, 3):
        options = ("-o", "{stem}/{song}.{ext}", "--accompaniment", "--overwrite")
        result = run(*songs, "-m", model, "--jobs", count, *options)
        assert result.exit_code == 1
        assert result.stderr.count("vocalsep: music/bad.wav: not an audio file") == 1
        assert "3 done, 0 skipped, 1 failed" in result.stderr
        outcomes.append((result.stdout, files("vocals"), files("accompaniment")))
    assert [path.split("/")[1] for path in outcomes[0][0].splitlines()[::2]] == ["long.wav", "a.wav", "b.wav"]
    assert outcomes[1] == outcomes[0]


def test_the_number_of_threads_changes_no_byte(music: Path, model: Path) -> None:
    song, contents = write(music / "long.wav", samples=400_000), []
    for threads in (1, 3):
        assert run(song, "-m", model, "--overwrite", "--threads", str(threads)).exit_code == 0
        contents.append((music / "long.vocals.wav").read_bytes())
    assert contents[0] == contents[1]


def test_a_broken_model_is_reported_once_by_many_processes(music: Path, broken_model: Path) -> None:
    result = run(music / "a.wav", music / "b.flac", "-m", broken_model, "--jobs", "2", "-q")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"vocalsep: {broken_model}: not a vocalsep weights file")
    assert result.stderr.count("\n") == 1
    assert "a.vocals.wav" not in files(music)


@pytest.mark.slow
def test_a_worker_process_that_dies_costs_one_song(music: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("sitecustomize.py").write_text(  # worker processes kill themselves when they open b.flac
        "import sys, os\n"
        "sys.addaudithook(lambda name, args: os.kill(os.getpid(), 9)"
        " if name == 'open' and str(args[0]).endswith('b.flac') else None)\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([".", str(SOURCE)]))
    (music / "bad.wav").unlink()
    result = run(music, "-r", "-m", model, "-o", "out/{folder}/{song}.wav", "--jobs", "2", "-q")
    assert (result.exit_code, result.stdout) == (1, "out/a.wav\nout/cd 1/a.wav\n")
    how = "its worker process ended with status -9; is there enough memory?"
    assert result.stderr == f"vocalsep: music/b.flac: {how}\n"
    assert not list(Path("out").rglob(".*"))


def test_a_bug_in_one_song_does_not_stop_the_others(music: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extract = extraction.extract

    def sometimes(song: Path, *arguments: Any, **options: Any) -> extraction.Report:
        if song.name == "a.wav":
            raise ZeroDivisionError("a bug")
        return extract(song, *arguments, **options)

    monkeypatch.setattr(extraction, "extract", sometimes)
    result = run(music / "a.wav", music / "b.flac", "-m", model, "-o", "out", "-q")
    assert (result.exit_code, result.stdout) == (1, "out/b.vocals.wav\n")
    assert "vocalsep: music/a.wav: ZeroDivisionError: a bug" in result.stderr
    events = read_objects(run(music / "a.wav", "-m", model, "-o", "out/", "--progress", "json").stderr)
    assert events[2]["error"] == "music/a.wav: ZeroDivisionError: a bug"
    assert "Traceback" in events[2]["traceback"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_call_even_if_a_library_turns_it_into_an_error(
    music: Path, model: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, status: int
) -> None:
    started = []

    def interrupted(song: Path, *arguments: Any, **options: Any) -> None:
        started.append(song)
        try:
            os.kill(os.getpid(), number)
        except BaseException as error:
            raise ImportError("cannot load module more than once per process") from error

    monkeypatch.setattr(extraction, "extract", interrupted)
    before = signal.getsignal(number)
    result = run(music / "a.wav", music / "b.flac", "-m", model, "-o", "out")
    assert (result.exit_code, result.stdout) == (status, "")
    hint = "to go on, repeat the command with --skip-existing"
    assert result.stderr == f"vocalsep: stopped after 0 of 2 songs; {hint}\n"
    assert len(started) == 1
    assert run(music / "a.wav", music / "b.flac", "-m", model, "-o", "out", "-q").stderr == ""
    one = run(music / "a.wav", "-m", model, "-o", "out/")
    assert one.stderr == "vocalsep: stopped; no file was written\n"
    assert signal.getsignal(number) is before


# reports


def test_each_song_has_one_line_and_the_call_another(music: Path, model: Path) -> None:
    write(music / "[red]c.wav")
    (music / "a.vocals.wav").touch()
    result = run(music, "-m", model, "--skip-existing")
    done = {"music/[red]c.vocals.wav", "music/b.vocals.wav"}
    lines = result.stderr.splitlines()
    assert {line.partition(": ")[0] for line in lines if "x real time)" in line} == done | {"4 songs"}
    assert re.fullmatch(r"4 songs: 2 done, 1 skipped, 1 failed; 0:02 in \d+(\.\d)? s \([\d.]+x real time\)", lines[-1])
    assert result.stderr.count("music/bad.wav") == 1
    assert len(lines) == 4
    assert run(music, "-m", model, "--overwrite", "-q").stderr.count("\n") == 1
    assert run(music / "b.flac", "-m", model, "--overwrite", "-q").stderr == ""
    assert run(music / "b.flac", "-m", model, "--overwrite", "--json").stderr == ""


def test_a_line_says_how_much_is_sung_how_loudly_and_how_fast_it_went() -> None:
    report = {
        "vocals": "a.wav",
        "accompaniment": None,
        "labels": None,
        "picture": None,
        "audio_seconds": 242.1,
        "taken_seconds": 5.26,
        "times_real_time": 46.02,
        "voice_share": 0.871,
        "vocals_db": -9.1,
    }

    def describe(**changes: Any) -> str:
        return describing.describe_song(report | changes).removeprefix("a.wav: ").removesuffix("(46x real time)")

    assert describing.describe_song(report) == (
        "a.wav: voice in 87 % of 4:02, 9 dB below the song, 5.3 s (46x real time)"
    )
    assert describe(voice_share=0.0, taken_seconds=12.4) == (
        "nobody seems to sing in 4:02; the vocals are 9 dB below the song, 12 s "
    )
    assert describe(voice_share=0.0, vocals_db=None).startswith("nobody seems to sing in 4:02, 5.3 s ")
    assert describe(voice_share=0.001, audio_seconds=3_725) == "voice in 1 % of 1:02:05, 9 dB below the song, 5.3 s "
    assert describe(vocals_db=0.2).startswith("voice in 87 % of 4:02, as loud as the song, ")
    assert describe(vocals_db=2.2).startswith("voice in 87 % of 4:02, 2 dB above the song, ")
    assert describe(vocals_db=None).startswith("voice in 87 % of 4:02, 5.3 s")
    both = describing.describe_song(report | {"accompaniment": "b.wav", "times_real_time": 3.21})
    assert both.startswith("a.wav, b.wav: ")
    assert both.endswith("(3.2x real time)")


def test_progress_as_json_keeps_its_contract(music: Path, model: Path, tmp_path: Path) -> None:
    write(music / "long.wav", samples=80_000)
    (music / "a.vocals.wav").touch()
    loud = synthetic_songs.write(music / "loud.wav", 1.5 * fake_nets.tone(300, 8_000, 1.0).T / 0.3, 8_000, "FLOAT")
    command = [music, "nothing*", "-m", model, "--skip-existing", "--progress", "json", "--json", "--subtype", "pcm16"]
    result = run(*command)
    assert result.exit_code == 1
    events = read_objects(result.stderr)
    assert events[0] == {"event": "start", "songs": 5, "model": "narrow"}
    assert events[1]["event"] == "error"
    assert events[1]["message"].startswith("nothing*: no such file")
    assert (events[-1]["event"], events[-1]["done"], events[-1]["skipped"], events[-1]["failed"]) == ("end", 3, 1, 1)
    for each in events:
        assert each["event"] in ("error", "warning", "done") or set(each) == EVENTS[each["event"]]
    done = {each["song"]: each for each in events if each["event"] == "done"}
    assert done["music/a.wav"] == {
        "event": "done",
        "song": "music/a.wav",
        "index": 1,
        "outcome": "skipped",
        "reason": "exists",
    }
    assert done["music/bad.wav"]["outcome"] == "failed"
    assert done["music/bad.wav"]["error"].startswith("music/bad.wav: not an audio file")
    reports = [done[f"music/{name}"]["report"] for name in ("b.flac", "long.wav", "loud.wav")]
    assert reports == read_objects(result.stdout)
    of_long = [each for each in events if each.get("song") == "music/long.wav"]
    assert [each["event"] for each in of_long] == ["song", "progress", "progress", "progress", "done"]
    assert (of_long[0]["index"], of_long[0]["of"], of_long[0]["seconds"]) == (4, 5, 10.0)
    assert [(each["seconds"], each["of"]) for each in of_long[1:4]] == [(4.0, 10.0), (8.0, 10.0), (10.0, 10.0)]
    if reports[2]["clipped_samples"]:
        (warning,) = [each for each in events if each["event"] == "warning"]
        assert (warning["song"], warning["index"]) == (str(loud), 5)


def test_bars_are_drawn_on_request_and_results_stay_on_stdout(music: Path, model: Path) -> None:
    result = run(music / "a.wav", music / "b.flac", "-m", model, "-o", "out", "--progress", "bar")
    assert (result.exit_code, result.stdout) == (0, "out/a.vocals.wav\nout/b.vocals.wav\n")
    assert {f"{count} of 2 songs" for count in range(3)} <= set(re.findall(r"\d of 2 songs", result.stderr))


# odd names


@pytest.mark.parametrize("name", ["two\nlines.wav", "🎤 👩‍🎤.wav", "\x1b[31mred.wav", os.fsdecode(b"latin \xe9.wav")])
def test_odd_names_are_printed_in_one_line(music: Path, model: Path, name: str) -> None:
    song = write(music / "a.wav").rename(music / name)
    result = run(song, "-m", model, "-o", "out/", "--json")
    assert result.exit_code == 0, result.output
    (report,) = read_objects(result.stdout)
    assert report["input"] == str(song)
    assert list(files("out")) == [Path(name).stem + ".vocals.wav"]
    again = run(song, "-m", model, "-o", "out/")
    assert again.exit_code == 1
    assert len(again.stderr.splitlines()) == 1
    assert "\x1b" not in again.stderr
    lines = read_objects(run(song, "-m", model, "-o", "out/", "--progress", "json").stderr)
    assert lines[1]["song"] == str(song)


def test_a_name_that_is_not_valid_text_is_printed_unchanged(music: Path, model: Path) -> None:
    name = b"latin \xe9"
    write(music / "a.wav").rename(music / os.fsdecode(name + b".wav"))
    command = [sys.executable, "-m", "vocalsep", "extract", "--from-file", "-", "-o", "out", "-m", str(model)]
    environment = make_environment(PYTHONUTF8="1")
    given = b"music/" + name + b".wav\n"
    done = subprocess.run(command, input=given, capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (0, b"out/" + name + b".vocals.wav\n")
    assert done.stderr.startswith(b"out/latin \\udce9.vocals.wav: ")
    assert Path(os.fsdecode(done.stdout.rstrip())).is_file()


def test_an_output_whose_folder_is_a_file_fails_alone(music: Path, model: Path) -> None:
    Path("out").mkdir()
    Path("out/cd 1").touch()
    result = run(music, "-r", "-m", model, "-o", "out/{folder}/{song}.{ext}", "-q")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == ["out/a.wav", "out/b.wav"]
    assert "out/cd 1" in result.stderr
    assert len(result.stderr.splitlines()) == 2


def test_weights_are_loaded_once_and_only_if_needed(music: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, load = [], weights.load
    monkeypatch.setattr(weights, "load", lambda name, **_options: loaded.append(name) or load(name))
    run(music / "bad.wav", "-m", model)
    assert not loaded
    run(music, "-m", model)
    assert loaded == [str(model)]


# bad recordings


def test_a_damaged_recording_gives_sound_or_a_one_line_error(music: Path, model: Path) -> None:
    good = (music / "a.wav").read_bytes()
    wav = write(music / "truncated.wav", samples=9_000)
    wav.write_bytes(wav.read_bytes()[:-20_000])
    (music / "lies.wav").write_bytes(good[:40] + (2**31).to_bytes(4, "little") + good[44:])
    (music / "flac.mp3").write_bytes((music / "b.flac").read_bytes())
    (music / "empty.wav").touch()
    (music / "header.wav").write_bytes(good[:44])
    (music / "random.flac").write_bytes(random.Random(0).randbytes(5_000))
    synthetic_songs.write(music / "slow.wav", fake_nets.noise(1, 50)[0], 10)
    (music / "folder.wav").mkdir()
    synthetic_songs.write(
        music / "nan.wav", np.array([0.1, np.nan, np.inf, -np.inf] * 2_000, np.float32), 8_000, "FLOAT"
    )
    result = run(music, music / "folder.wav", music / "missing.wav", "-m", model, "-o", "out", "-q")
    assert result.exit_code == 1
    complaints = dict(line.removeprefix("vocalsep: music/").split(": ", 1) for line in result.stderr.splitlines())
    assert len(complaints) == len(result.stderr.splitlines())
    failed = ["bad.wav", "empty.wav", "folder.wav", "header.wav", "missing.wav", "random.flac", "slow.wav"]
    assert sorted(complaints) == sorted([*failed, "truncated.wav"])
    assert complaints["truncated.wav"].startswith("breaks off after ")
    assert complaints["slow.wav"].startswith("states a sample rate of 10 Hz")
    lengths = {path.name.split(".")[0]: soundfile.info(path).frames for path in Path("out").iterdir()}
    assert lengths == {"a": 6_000, "b": 6_000, "flac": 6_000, "lies": 6_000, "nan": 8_000, "truncated": 4_000}
    assert np.isfinite(soundfile.read("out/nan.vocals.wav")[0]).all()


@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_stderr_holds_only_json_even_if_libraries_print_to_it(music: Path, model: Path, jobs: str) -> None:
    samples = fake_nets.noise(2, 16_000).T
    for seed in range(6):
        path = music / f"{seed}.mp3"
        soundfile.write(path, samples, 16_000, format="MP3", subtype="MPEG_LAYER_III")
        content, chance = bytearray(path.read_bytes()), random.Random(seed)
        for _ in range(30):
            content[chance.randrange(300, len(content))] = chance.randrange(256)
        path.write_bytes(content)
    command = ("-m", "vocalsep", "extract", "music", "-m", model, "--jobs", jobs)
    done = run_python(*command, "--progress", "json")
    events = read_objects(done.stderr)
    assert (done.returncode, events[-1]["event"], events[-1]["failed"]) == (1, "end", 1)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_song_without_read_permission_is_a_one_line_error(music: Path, model: Path) -> None:
    (music / "a.wav").chmod(0)
    result = run(music / "a.wav", "-m", model)
    assert result.exit_code == 1
    assert result.stderr == "vocalsep: music/a.wav: cannot be opened (Permission denied)\n"


@pytest.mark.parametrize("ending", get_args(OutputFormat))
def test_a_full_disk_is_a_one_line_error_leaves_no_file_and_spares_shorter_songs(
    music: Path, model: Path, ending: str
) -> None:
    resource = pytest.importorskip("resource")
    write(music / "bad.wav", samples=900_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (130_000, before[1]))
    try:
        result = run(music / "bad.wav", music / "a.wav", "-m", model, "-o", "out", "--format", ending, "-q")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"vocalsep: out/bad.vocals.{ending}: cannot be written (")
    assert len(result.stderr.splitlines()) == 1
    assert list(files("out")) == [f"a.vocals.{ending}"]
