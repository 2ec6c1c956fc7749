from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import fake_nets
import numpy as np
import pytest
import soundfile
import synthetic_songs
import torch
from typer.testing import CliRunner, Result

import vocalsep
from vocalsep import audio, weights
from vocalsep.cli import app

KEYS = {
    "input",
    "outputs",
    "model",
    "audio_seconds",
    "taken_seconds",
    "times_real_time",
    "peak_memory_mb",
    "voice",
    "voice_share",
    "vocals_db",
    "cluster_confidence",
    "clusters_used",
    "clipped_samples",
    "gain_db",
    "warnings",
}
PACKAGE = Path(vocalsep.__file__).parent


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """A folder that holds one song, ``song.wav``, and is the current one."""
    folder = tmp_path / "songs"
    write(folder / "song.wav")
    return folder


def write(path: Path, *, samples: int = 6_000, seed: int = 0, rate: int = 8_000) -> Path:
    return synthetic_songs.write(path, fake_nets.noise(2, samples, seed).clamp(-0.99, 0.99).numpy().T, rate)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the command as a user does."""
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=environment, check=False)


def listing(folder: Path) -> list[str]:
    """Everything below a folder, hidden files, too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def complaint(result: Result) -> str:
    """The one line that a failure says."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("vocalsep: ")
    return lines[0].removeprefix("vocalsep: ")


def misuse(result: Result) -> str:
    """What is said of a misuse, without the frame and the line ends."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    return " ".join(result.stderr.replace("│", " ").split())


# where the results go


def test_vocals_go_to_the_file_named(songs: Path, model: Path, tmp_path: Path) -> None:
    result = run("extract", songs / "song.wav", "-o", tmp_path / "v.flac", "-m", model)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{tmp_path / 'v.flac'}\n", "")
    info, song = soundfile.info(tmp_path / "v.flac"), soundfile.info(songs / "song.wav")
    assert (info.format, info.samplerate, info.channels, info.frames) == ("FLAC", 8_000, 2, song.frames)
    assert listing(songs) == ["song.wav"]


def test_vocals_go_into_the_folder_named(songs: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    result = run("extract", songs / "song.wav", "-o", tmp_path / "out", "-m", model)
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'out' / 'song.vocals.wav'}\n"
    assert listing(tmp_path / "out") == ["song.vocals.wav"]


def test_vocals_go_beside_the_song_without_o(songs: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("extract", songs / "song.wav", "-m", model).stdout == f"{songs / 'song.vocals.wav'}\n"
    assert listing(songs) == ["song.vocals.wav", "song.wav"]
    monkeypatch.chdir(songs)
    assert run("extract", "song.wav", "-m", model, "--overwrite").stdout == "song.vocals.wav\n"


def test_several_songs_go_into_a_folder_that_is_made(songs: Path, model: Path, tmp_path: Path) -> None:
    write(songs / "other.flac", seed=1)
    out = tmp_path / "new" / "deeper"
    result = run("extract", songs / "song.wav", songs / "other.flac", "-o", out, "-m", model)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [f"{out / 'song.vocals.wav'}", f"{out / 'other.vocals.wav'}"]
    assert listing(out) == ["other.vocals.wav", "song.vocals.wav"]


@pytest.mark.parametrize("bare", [["--accompaniment"], ["--accompaniment="]])
def test_accompaniment_without_a_path_goes_beside_the_vocals(
    songs: Path, model: Path, tmp_path: Path, bare: list[str]
) -> None:
    song = songs / "song.wav"
    result = run("extract", song, "-m", model, *bare)
    assert result.stdout.splitlines() == [f"{songs / 'song.vocals.wav'}", f"{songs / 'song.accompaniment.wav'}"]
    out = tmp_path / "out"
    out.mkdir()
    result = run("extract", *bare, "-o", out / "v.wav", "-m", model, song)
    assert result.exit_code == 0
    assert listing(out) == ["song.accompaniment.wav", "v.wav"]


def test_accompaniment_goes_to_the_path_named_and_completes_the_song(songs: Path, model: Path, tmp_path: Path) -> None:
    song, vocals, rest = songs / "song.wav", tmp_path / "v.wav", tmp_path / "a.wav"
    mixture = fake_nets.noise(2, 6_000).clamp(-0.99, 0.99)
    synthetic_songs.write(song, mixture.numpy().T, 8_000, "FLOAT")
    result = run("extract", song, "-m", model, "--accompaniment", rest, "-o", vocals)
    assert result.exit_code == 0
    parts = [audio.read(path)[0] for path in (vocals, rest)]
    assert min(float(part.square().mean()) for part in parts) > 1e-4
    torch.testing.assert_close(parts[0] + parts[1], mixture, rtol=0, atol=2**-23)
    folder = tmp_path / "rest"
    folder.mkdir()
    assert run("extract", song, "-m", model, "-o", tmp_path / "w.wav", "--accompaniment", folder).exit_code == 0
    assert listing(folder) == ["song.accompaniment.wav"]


def test_every_inversion_can_be_had(songs: Path, model: Path, tmp_path: Path) -> None:
    for name in ("phase", "griffin-lim"):
        out = tmp_path / f"{name}.wav"
        assert run("extract", songs / "song.wav", "-m", model, "-o", out, "--inversion", name).exit_code == 0
    phase, other = (audio.read(tmp_path / f"{name}.wav")[0] for name in ("phase", "griffin-lim"))
    assert phase.shape == other.shape
    assert not torch.equal(phase, other)


def test_the_same_song_gives_the_same_file(songs: Path, model: Path, tmp_path: Path) -> None:
    for name in ("1.wav", "2.wav"):
        assert run("extract", songs / "song.wav", "-m", model, "-o", tmp_path / name).exit_code == 0
    assert (tmp_path / "1.wav").read_bytes() == (tmp_path / "2.wav").read_bytes()


# what is told


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_is_one_object_for_each_song(songs: Path, model: Path, tmp_path: Path) -> None:
    write(songs / "other.wav", samples=12_000)
    given = [songs / "song.wav", songs / "other.wav"]
    result = run("extract", *given, "-m", model, "-o", tmp_path / "out", "--json")
    assert result.exit_code == 0
    told = objects(result.stdout)
    assert [each["input"] for each in told] == [str(song) for song in given]
    assert [each["audio_seconds"] for each in told] == [0.75, 1.5]
    for each in told:
        assert set(each) == KEYS
        assert set(each["outputs"]) == {"vocals"}
        assert Path(each["outputs"]["vocals"]).is_file()
        assert each["model"] == "narrow"
        assert 0 <= each["voice_share"] <= 1
        assert each["taken_seconds"] > 0
        assert each["times_real_time"] > 0


def test_json_names_the_accompaniment_and_letters_as_they_are(songs: Path, model: Path, tmp_path: Path) -> None:
    song = write(songs / "Grün 歌.wav")
    result = run(
        "extract", song, "-m", model, "-o", tmp_path / "v.wav", "--accompaniment", tmp_path / "a.wav", "--json"
    )
    (told,) = objects(result.stdout)
    assert told["input"] == str(song)
    assert "Grün 歌" in result.stdout
    assert told["outputs"] == {"vocals": str(tmp_path / "v.wav"), "accompaniment": str(tmp_path / "a.wav")}


@pytest.mark.parametrize("name", ["two words.wav", "Ünï 歌 é.wav", "song [live] [red]x[/red].wav", "a :cat: b.wav"])
def test_names_are_taken_and_told_literally(songs: Path, model: Path, name: str) -> None:
    song = write(songs / name)
    vocals = song.with_name(f"{song.stem}.vocals.wav")
    result = run("extract", song, "-m", model)
    assert (result.exit_code, result.stdout) == (0, f"{vocals}\n")
    assert vocals.is_file()
    assert complaint(run("extract", song, "-m", model)).startswith(f"{vocals}: exists already")


def test_a_name_that_begins_with_a_dash_stands_after_two(
    songs: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(songs / "-dash.wav")
    monkeypatch.chdir(songs)
    assert run("extract", "-m", model, "--", "-dash.wav").stdout == "-dash.vocals.wav\n"


def test_as_a_process_it_tells_results_on_stdout_only_and_goes_on_after_a_bad_song(songs: Path, model: Path) -> None:
    broken = write(songs / "broken.flac", samples=60_000, rate=11_025)  # breaks off while it is resampled
    broken.write_bytes(broken.read_bytes()[:-20_000])
    good = [write(songs / f"{number}.wav") for number in (1, 2)]
    done = process("-m", "vocalsep", "extract", good[0], broken, good[1], "-m", model, "--json", "-q")
    assert done.returncode == 1
    assert [each["input"] for each in objects(done.stdout)] == [str(song) for song in good]
    assert done.stderr.splitlines() == [f"vocalsep: {broken}: cannot be read to its end ({_reason(done.stderr)})"]
    assert listing(songs) == ["1.vocals.wav", "1.wav", "2.vocals.wav", "2.wav", "broken.flac", "song.wav"]


def _reason(text: str) -> str:
    return text.rpartition("(")[2].strip().removesuffix(")")


# where there is a voice


def half_sung(path: Path) -> Path:
    """High noise, and low tones from second 2 to 4 and 6 to 7, which `fake_nets.Gate` takes for voice."""
    mixture = 0.05 * fake_nets.tone(3_500, 8_000, 9.0, channels=2)
    for start, end in ((2, 4), (6, 7)):
        mixture[:, start * 8_000 : end * 8_000] += fake_nets.tone(500, 8_000, 1.0 * (end - start))
    return synthetic_songs.write(path, mixture.numpy().T, 8_000)


class Leaks(fake_nets.Gate):
    """`fake_nets.Gate`, which leaves a hundredth where it takes nothing for voice."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return super().forward(features).clamp_min(0.01)


def test_voice_and_labels_say_where_it_is(songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "load", lambda *_: fake_nets.wrap(Leaks(), fake_nets.SMALL))
    song = half_sung(songs / "song.wav")
    result = run("extract", song, "--labels", "--json")
    (told,) = objects(result.stdout)
    assert told["voice"] == [pytest.approx([2, 4], abs=0.1), pytest.approx([6, 7], abs=0.1)]
    assert told["voice_share"] == pytest.approx(3 / 9, abs=0.02)
    assert told["outputs"] == {"vocals": f"{songs}/song.vocals.wav", "labels": f"{songs}/song.labels.txt"}
    rows = [line.split("\t") for line in (songs / "song.labels.txt").read_text(encoding="utf-8").splitlines()]
    found = [[float(start), float(end)] for start, end, _ in rows]
    assert found == [pytest.approx(pair, abs=1e-3) for pair in told["voice"]]
    assert {text for _, _, text in rows} == {"voice"}
    result = run("extract", song, "--labels", tmp_path / "l.txt", "-o", tmp_path / "v.wav")
    assert result.stdout.splitlines() == [f"{tmp_path}/v.wav", f"{tmp_path}/l.txt"]
    assert (tmp_path / "l.txt").read_text() == (songs / "song.labels.txt").read_text()


def test_labels_do_not_replace_what_exists_nor_other_outputs(songs: Path, model: Path) -> None:
    old = songs / "song.labels.txt"
    old.write_text("mine")
    assert f"{old}: exists already" in complaint(run("extract", songs / "song.wav", "--labels", "-m", model))
    same = songs / "x.wav"
    assert "written twice" in misuse(run("extract", songs / "song.wav", "-o", same, "--labels", same, "-m", model))
    assert (old.read_text(), listing(songs)) == ("mine", ["song.labels.txt", "song.wav"])
    assert run("extract", songs / "song.wav", "--labels", "-m", model, "--overwrite").exit_code == 0
    assert old.read_text() != "mine"


def test_the_gate_silences_what_lies_between(songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "load", lambda *_: fake_nets.wrap(Leaks(), fake_nets.SMALL))
    song = half_sung(songs / "song.wav")
    for option, name in (("--no-gate", "open.wav"), ("--gate", "gated.wav")):
        assert run("extract", song, option, "--subtype", "float", "-o", tmp_path / name).exit_code == 0
    free, gated = (audio.read(tmp_path / name)[0] for name in ("open.wav", "gated.wav"))
    between = slice(round(4.4 * 8_000), round(5.6 * 8_000))
    assert free[:, between].any()
    assert not gated[:, between].any()
    assert torch.equal(gated[:, 20_000:30_000], free[:, 20_000:30_000])


# formats, samples, levels


def loud(path: Path) -> Path:
    """A float song that exceeds full scale by half."""
    return synthetic_songs.write(path, 1.5 * fake_nets.tone(300, 8_000, 1.0, 2).numpy().T / 0.3, 8_000, "FLOAT")


@pytest.mark.parametrize(
    ("name", "subtype", "written"),
    [
        ("v.wav", "pcm16", "PCM_16"),
        ("v.wav", "float", "FLOAT"),
        ("v.flac", "pcm24", "PCM_24"),
        ("v.aiff", "pcm32", "PCM_32"),
    ],
)
def test_the_sample_format_can_be_chosen(songs: Path, model: Path, name: str, subtype: str, written: str) -> None:
    assert run("extract", songs / "song.wav", "-m", model, "-o", songs / name, "--subtype", subtype).exit_code == 0
    assert soundfile.info(songs / name).subtype == written


@pytest.mark.parametrize(
    ("name", "rate", "options", "expected"),
    [
        ("v.mp3", 96_000, [], "mp3 holds 8000, "),
        ("v.m4a", 192_000, [], "m4a holds 7350, "),
        ("v.flac", 8_000, ["--subtype", "float"], "flac does not hold samples as float; expected pcm16 or pcm24"),
        ("v.ogg", 8_000, ["--subtype", "pcm16"], "ogg does not hold samples as pcm16; it has none to choose"),
    ],
)
def test_what_an_output_does_not_hold_is_refused_before_anything_is_computed(
    songs: Path, name: str, rate: int, options: list[str], expected: str
) -> None:
    write(songs / "song.wav", rate=rate)
    # had anything been computed, the model would have been missed
    line = complaint(run("extract", songs / "song.wav", "-o", songs / name, "-m", songs / "no.safetensors", *options))
    assert line.startswith(f"{songs / name}: {expected}")
    assert listing(songs) == ["song.wav"]


def test_samples_beyond_full_scale_are_clamped_and_told(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "load", lambda *_: fake_nets.constant(0.99, fake_nets.SMALL))
    command = ["extract", loud(songs / "song.wav"), "--json", "--overwrite", "-o"]
    result = run(*command, tmp_path / "v.wav", "--subtype", "pcm16")
    (told,) = objects(result.stdout)
    assert result.exit_code == 0
    assert 1_000 < told["clipped_samples"] < 16_000
    assert told["gain_db"] == 0
    lines = f"vocalsep: {songs / 'song.wav'}: {told['clipped_samples']} samples beyond full scale were put to it"
    assert result.stderr.startswith(lines)
    assert len(result.stderr.splitlines()) == 1
    (told,) = objects(run(*command, tmp_path / "v.wav").stdout)  # float holds it
    assert (told["clipped_samples"], told["gain_db"], told["warnings"]) == (0, 0, [])


def test_scaling_and_giving_up_can_be_chosen(songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "load", lambda *_: fake_nets.constant(0.75, fake_nets.SMALL))
    outputs = [tmp_path / "v.wav", tmp_path / "a.wav"]
    command = ["extract", loud(songs / "song.wav"), "-o", outputs[0], "--accompaniment", outputs[1]]
    result = run(*command, "--subtype", "pcm24", "--clip", "scale", "--json")
    (told,) = objects(result.stdout)
    assert told["clipped_samples"] == 0
    assert told["gain_db"] == pytest.approx(-1.05, abs=0.1)  # 1.5 * 0.75 = 1.125
    assert f"scaled by {told['gain_db']} dB" in result.stderr
    peaks = [float(audio.read(path)[0].abs().max()) for path in outputs]
    assert peaks == [pytest.approx(1.0, abs=1e-6), pytest.approx(1 / 3, abs=0.02)]
    for path in outputs:
        path.unlink()
    assert "does not hold a peak of 1." in complaint(run(*command, "--subtype", "pcm24", "--clip", "error"))
    assert not any(path.exists() for path in outputs)


@pytest.mark.parametrize("ending", ["mp3", "opus", "m4a"])
def test_lossy_outputs_have_the_songs_length_and_channels(songs: Path, model: Path, ending: str) -> None:
    assert run("extract", songs / "song.wav", "-m", model, "-o", songs / f"v.{ending}").exit_code == 0
    samples, rate = audio.read(songs / f"v.{ending}")
    assert samples.shape == (2, 6_000 * rate // 8_000)


def test_warnings_are_told_once_and_do_no_harm(songs: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio.tags, "_known", lambda _: 1 / 0)
    with audio.Writer(songs / "s.mp3", rate=8_000, channels=1, subtype="", about=audio.Tags({"title": ("T",)})) as made:
        made.write(fake_nets.noise(1, 9_000))
    result = run("extract", songs / "s.mp3", "-m", model, "--json")
    assert result.exit_code == 0
    assert result.stderr == f"vocalsep: {songs / 's.mp3'}: its tags cannot be read (division by zero)\n"
    assert objects(result.stdout)[0]["warnings"] == [result.stderr.removeprefix("vocalsep: ").strip()]


# overwriting


def test_what_exists_is_not_overwritten_and_nothing_is_computed(songs: Path, tmp_path: Path) -> None:
    for option, name in (("-o", "song.vocals.wav"), ("--accompaniment", "song.accompaniment.wav")):
        old = songs / name
        old.write_bytes(b"older")
        # had anything been computed, the model would have been missed
        line = complaint(run("extract", songs / "song.wav", option, old, "-m", tmp_path / "missing.safetensors"))
        assert line == f"{old}: exists already; choose another output, or add --overwrite or --skip-existing"
        assert old.read_bytes() == b"older"
        assert listing(songs) == sorted(["song.wav", name])
        old.unlink()


def test_overwrite_replaces_what_exists(songs: Path, model: Path) -> None:
    old = songs / "song.vocals.wav"
    old.write_bytes(b"older")
    assert run("extract", songs / "song.wav", "-m", model, "--overwrite").exit_code == 0
    assert soundfile.info(old).frames == 6_000
    assert listing(songs) == ["song.vocals.wav", "song.wav"]


@pytest.mark.parametrize("spelling", ["song.wav", "./song.wav", "../songs/song.wav", "link.wav"])
@pytest.mark.parametrize("option", ["-o", "--accompaniment"])
def test_a_song_is_never_its_own_output(
    songs: Path, model: Path, monkeypatch: pytest.MonkeyPatch, spelling: str, option: str
) -> None:
    monkeypatch.chdir(songs)
    if spelling == "link.wav":
        Path("link.wav").symlink_to("song.wav")
    before, names = Path("song.wav").read_bytes(), listing(songs)
    line = complaint(run("extract", "song.wav", option, spelling, "-m", model, "--overwrite"))
    assert "is a song to be read" in line
    assert Path("song.wav").read_bytes() == before
    assert listing(songs) == names


def test_no_output_replaces_another_song_of_the_call(songs: Path, model: Path) -> None:
    later = write(songs / "song.vocals.wav", seed=1)
    before = later.read_bytes()
    result = run("extract", songs / "song.wav", later, "-m", model, "--overwrite")
    assert result.exit_code == 1
    assert "song.vocals.wav: is a song to be read" in result.stderr
    assert later.read_bytes() == before
    assert listing(songs) == ["song.vocals.vocals.wav", "song.vocals.wav", "song.wav"]


def test_a_trailing_slash_means_a_folder(songs: Path, model: Path, tmp_path: Path) -> None:
    result = run(
        "extract", songs / "song.wav", "-m", model, "-o", f"{tmp_path}/new/", "--accompaniment", f"{tmp_path}/k/"
    )
    assert result.exit_code == 0, result.output
    assert listing(tmp_path / "new") == ["song.vocals.wav"]
    assert listing(tmp_path / "k") == ["song.accompaniment.wav"]


# failures


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("missing.wav", "no such file"),
        ("folder", "holds no recordings; -r looks in the folders below, too"),
        ("notes.wav", "not an audio file that can be read"),
        ("empty.wav", "the recording is empty"),
        ("nothing.wav", "not an audio file that can be read"),
    ],
)
def test_a_song_that_cannot_be_read_is_one_line(songs: Path, model: Path, name: str, expected: str) -> None:
    (songs / "folder").mkdir()
    (songs / "notes.wav").write_text("words\n" * 99, encoding="utf-8")
    (songs / "nothing.wav").touch()
    soundfile.write(songs / "empty.wav", np.zeros((0, 2)), 8_000)
    names = listing(songs)
    line = complaint(run("extract", songs / name, "-m", model))
    assert line.startswith(f"{songs / name}: ")
    assert expected in line
    assert listing(songs) == names


@pytest.mark.parametrize(("ending", "said"), [(".mid", "'.mid'"), (".xyz", "'.xyz'"), ("", "''")])
def test_an_output_of_unknown_format_is_one_line(songs: Path, model: Path, ending: str, said: str) -> None:
    line = complaint(run("extract", songs / "song.wav", "-o", songs / f"vocals{ending}", "-m", model))
    assert f"unknown output format {said}; expected .wav" in line
    assert listing(songs) == ["song.wav"]


def test_an_output_below_a_file_is_one_line(songs: Path, model: Path) -> None:
    line = complaint(run("extract", songs / "song.wav", "-o", songs / "song.wav" / "v.wav", "-m", model))
    assert str(songs / "song.wav") in line
    assert listing(songs) == ["song.wav"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_written_is_one_line(songs: Path, model: Path) -> None:
    songs.chmod(0o500)
    try:
        line = complaint(run("extract", songs / "song.wav", "-m", model))
    finally:
        songs.chmod(0o700)
    assert "cannot be written" in line


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "no such weights file"), (b"", "not a vocalsep weights file"), (b"x" * 99, "not a vocalsep weights file")],
)
def test_weights_that_cannot_be_read_are_one_line(songs: Path, content: bytes | None, expected: str) -> None:
    path = songs / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    names = listing(songs)
    line = complaint(run("extract", songs / "song.wav", "-m", path))
    assert line.startswith(f"{path}: ")
    assert expected in line
    assert listing(songs) == names


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_a_device_that_is_not_there_is_one_line(songs: Path, model: Path) -> None:
    assert "use --device cpu" in complaint(run("extract", songs / "song.wav", "-m", model, "--device", "cuda"))
    assert listing(songs) == ["song.wav"]


def test_one_bad_song_does_not_stop_the_good_ones(songs: Path, model: Path, tmp_path: Path) -> None:
    write(songs / "other.wav")
    broken = write(songs / "broken.flac", samples=60_000)
    broken.write_bytes(broken.read_bytes()[:-20_000])
    out = tmp_path / "out"
    given = [songs / name for name in ("missing.wav", "song.wav", "broken.flac", "other.wav")]
    result = run("extract", *given, "-o", out, "-m", model, "--accompaniment", "-q")
    assert result.exit_code == 1
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == [str(given[0]), str(broken)]
    names = [f"{song}.{stem}.wav" for song in ("other", "song") for stem in ("accompaniment", "vocals")]
    assert listing(out) == names
    assert sorted(Path(line).name for line in result.stdout.splitlines()) == names


def test_a_song_whose_output_exists_does_not_stop_the_others(songs: Path, model: Path) -> None:
    write(songs / "other.wav")
    (songs / "song.vocals.wav").write_bytes(b"older")
    result = run("extract", songs / "song.wav", songs / "other.wav", "-m", model, "-q")
    assert result.exit_code == 1
    assert result.stdout == f"{songs / 'other.vocals.wav'}\n"
    assert len(result.stderr.splitlines()) == 1
    assert (songs / "song.vocals.wav").read_bytes() == b"older"


def test_a_bug_keeps_its_traceback_and_leaves_nothing_behind(
    songs: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = fake_nets.wrap(fake_nets.Breaks(ZeroDivisionError("a bug"), after=0))
    monkeypatch.setattr(weights, "load", lambda *_: broken)
    result = run("extract", songs / "song.wav", "-m", model, "--accompaniment")
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert result.stderr.endswith(f"vocalsep: {songs / 'song.wav'}: ZeroDivisionError: a bug\n")
    assert listing(songs) == ["song.wav"]


# misuse


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["extract"], "which songs? Give recordings or folders"),
        (["extract", "song.wav", "--loud"], "No such option"),
        (["extract", "song.wav", "--inversion", "magic"], "'magic' is not one of"),
        (["extract", "song.wav", "--subtype", "pcm12"], "'pcm12' is not one of"),
        (["extract", "song.wav", "--clip", "cut"], "'cut' is not one of"),
        (["extract", "song.wav", "--device", "gpu"], "'gpu' is not one of"),
        (["extract", "song.wav", "-o"], "requires an argument"),
        (["sing"], "No such command 'sing'"),
        (["models", "show"], "Missing argument 'NAME'"),
    ],
    ids=" ".join,
)
def test_misuse_is_told_with_status_2(
    songs: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(songs)
    assert expected in misuse(run(*arguments))
    assert listing(songs) == ["song.wav"]


@pytest.mark.parametrize("option", ["-o", "--accompaniment"])
def test_several_songs_do_not_go_into_one_file(songs: Path, model: Path, option: str) -> None:
    write(songs / "other.wav")
    file = songs / "out.wav"
    file.write_bytes(b"older")
    names = listing(songs)
    text = misuse(run("extract", songs / "song.wav", songs / "other.wav", option, file, "-m", model, "--overwrite"))
    assert "several songs need a folder" in text
    assert file.read_bytes() == b"older"
    assert listing(songs) == names


def test_two_songs_do_not_go_to_one_output(songs: Path, model: Path, tmp_path: Path) -> None:
    song, twin = songs / "song.wav", write(songs / "b" / "song.wav")
    for arguments in ([song, twin, "-o", tmp_path / "out"], [song, write(songs / "song.flac")]):
        assert "would be written twice" in misuse(run("extract", *arguments, "-m", model))
    assert not (tmp_path / "out").exists()
    for same in (tmp_path / "v.wav", tmp_path / "songs" / ".." / "v.wav"):
        result = run("extract", song, "-o", tmp_path / "v.wav", "--accompaniment", same, "-m", model)
        assert "would be written twice" in misuse(result)
    assert listing(songs) == ["b", "b/song.wav", "song.flac", "song.wav"]


# models


@pytest.fixture
def published(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of published models: the default one and ``wide``."""
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("uhnet-hd", "wide"):
        (folder / f"{name}.safetensors").write_bytes(model.read_bytes())
        card = f"# {name}\n\n- **What**: a {name} net\n- **Licence**: CC0\n- **SHA-256**: `{weights.digest(model)}`\n"
        (folder / f"{name}.md").write_text(card, encoding="utf-8")
    monkeypatch.setattr(weights, "models_folder", lambda: folder)
    return folder


def test_models_lists_what_there_is(published: Path) -> None:
    result = run("models")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = result.stdout.splitlines()
    assert [row.split()[0] for row in rows if row.startswith(("uhnet-hd", "wide"))] == ["uhnet-hd", "wide"]
    for fact in ("a uhnet-hd net", "a wide net", "CC0", "(default)"):
        assert fact in result.stdout


def test_models_show_prints_the_card_as_it_is(published: Path) -> None:
    result = run("models", "show", "wide")
    assert result.exit_code == 0
    assert result.stdout == (published / "wide.md").read_text(encoding="utf-8")


def test_an_unknown_model_is_one_line_that_names_the_nearest(published: Path, songs: Path) -> None:
    assert complaint(run("models", "show", "wied")) == "unknown model 'wied'; did you mean 'wide'?"
    line = complaint(run("extract", songs / "song.wav", "-m", "uhnet-h"))
    assert line == "unknown model 'uhnet-h'; did you mean 'uhnet-hd'?"
    assert listing(songs) == ["song.wav"]


def test_without_m_the_default_model_is_taken(published: Path, songs: Path) -> None:
    result = run("extract", songs / "song.wav", "--json")
    assert result.exit_code == 0
    assert objects(result.stdout)[0]["model"] == weights.DEFAULT_MODEL == "uhnet-hd"


def test_a_model_that_is_not_what_its_card_says_is_refused(published: Path, songs: Path) -> None:
    path = published / "wide.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    assert "does not match its card's SHA-256" in complaint(run("extract", songs / "song.wav", "-m", "wide"))
    (published / "wide.md").unlink()
    assert "has no card wide.md" in complaint(run("extract", songs / "song.wav", "-m", "wide"))
    assert listing(songs) == ["song.wav"]


# data sets


@pytest.fixture
def no_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DSD100", "MIR1K", "STEMS"):
        monkeypatch.delenv(f"VOCALSEP_{name}", raising=False)


def test_data_check_prints_a_row_for_each_split(no_roots: None, mir1k_root: Path) -> None:
    result = run("data", "check", "--dataset", "mir1k", "--root", mir1k_root)
    assert (result.exit_code, result.stderr) == (0, "")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[0] for row in rows if row and row[0] in ("train", "test")] == ["train", "test"]
    assert "4 of 175" in result.stdout
    assert all(" ± " in line for line in result.stdout.splitlines() if line.startswith(("train", "test")))
    assert "note: train: 4 of the 175 tracks" in result.stdout


def test_data_check_names_problems_literally_and_takes_the_root_from_the_environment(
    no_roots: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic_songs.write(tmp_path / "Band - [bold] song" / "vocals.wav", np.full(800, 0.1), 8_000)
    monkeypatch.setenv("VOCALSEP_STEMS", str(tmp_path))
    result = run("data", "check", "--dataset", "stems")
    assert (result.exit_code, result.stderr) == (1, "")
    assert "problem: Band - [bold] song: vocals but neither" in result.stdout
    (told,) = objects(run("data", "check", "--dataset", "stems", "--json").stdout)
    assert told["root"] == str(tmp_path)
    assert [problem["name"] for problem in told["problems"]] == ["Band - [bold] song"]
    assert {"dataset", "totals", "tracks", "notes"} <= set(told)


@pytest.mark.parametrize("command", [["data", "check"], ["train"]])
def test_a_data_set_without_a_folder_is_one_line(no_roots: None, command: list[str]) -> None:
    line = complaint(run(*command, "--dataset", "dsd100"))
    assert line == "dsd100: which folder? Give --root DIR, or set VOCALSEP_DSD100"


def test_a_data_set_of_another_layout_is_one_line(mir1k_root: Path) -> None:
    assert "expected the layout of DSD100" in complaint(
        run("data", "check", "--dataset", "dsd100", "--root", mir1k_root)
    )


def test_misuse_of_data_sets_is_told_with_status_2(tmp_path: Path) -> None:
    assert "'musdb' is not one of" in misuse(run("data", "check", "--dataset", "musdb"))
    assert "belong to a --dataset" in misuse(run("train", "--root", tmp_path))
    assert "only takes --minutes or --epochs" in misuse(run("train", "--resume", tmp_path, "--skip-bad"))
    assert "belongs to --dataset teacher" in misuse(run("train", "--vocals", tmp_path))
    assert "give one" in misuse(run("train", "--minutes", "1", "--epochs", "1"))


SMALL = ("options.width=2", "front_end.bands=32", "front_end.frames=16", "training.batch_size=1")
ONE_STEP = [part for setting in (*SMALL, "training.minutes=0", "training.steps=1") for part in ("--set", setting)]


def test_train_takes_epochs_and_a_precision_and_goes_on_for_longer(
    no_roots: None, dsd100_root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    settings = [part for setting in SMALL for part in ("--set", setting)]
    command = ["train", "unet-tiny", "--dataset", "dsd100", "--root", dsd100_root, "--out", folder, *settings]
    result = run(*command, "--epochs", "0.1", "--precision", "bf16")
    assert (result.exit_code, result.stdout) == (0, f"{folder / 'unet.safetensors'}\n"), result.stderr
    assert "bf16" in result.stderr
    done = len((folder / "log.jsonl").read_text().splitlines())
    assert run("train", "--resume", folder).exit_code == 0
    assert len((folder / "log.jsonl").read_text().splitlines()) == done
    assert run("train", "--resume", folder, "--epochs", "0.2").exit_code == 0
    assert len((folder / "log.jsonl").read_text().splitlines()) == pytest.approx(2 * done, abs=1)


@pytest.mark.skipif(os.name == "nt", reason="this system has no SIGINT to send")
def test_ctrl_c_stops_a_training_after_the_step_that_is_being_made(dsd100_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "vocalsep",
        "train",
        "unet-tiny",
        "--dataset",
        "dsd100",
        "--root",
        str(dsd100_root),
    ]
    command += ["--out", str(folder), "--minutes", "60", "--precision", "fp32"]
    command += [part for setting in SMALL for part in ("--set", setting)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert any("steps to go" in line for line in running.stderr)
        running.send_signal(signal.SIGINT)
        _, told = running.communicate()
    assert running.returncode == 130, told
    assert f"vocalsep train --resume {folder} goes on from there" in told
    assert (folder / "checkpoint.pt").exists()
    assert run("train", "--resume", folder, "--minutes", "0.01").exit_code == 0


def test_train_learns_from_a_teacher(no_roots: None, dsd100_root: Path, tmp_path: Path) -> None:
    songs, found = tmp_path / "songs", tmp_path / "found"
    for folder in (songs, found):
        folder.mkdir()
    for number, song in enumerate(sorted((dsd100_root / "Sources" / "Dev").iterdir())[:2]):
        shutil.copy(dsd100_root / "Mixtures" / "Dev" / song.name / "mixture.wav", songs / f"song {number}.wav")
        shutil.copy(song / "vocals.wav", found / f"song {number}.vocals.wav")
    command = ["train", "unet-tiny", "--dataset", "teacher", "--root", songs, "--out", tmp_path / "run", *ONE_STEP]
    assert "song 0.vocals.*" in complaint(run(*command))
    result = run(*command, "--vocals", found)
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'run' / 'unet.safetensors'}\n"), result.stderr
    assert "teacher: 2 tracks to train on" in result.stderr


def test_train_names_bad_songs_and_goes_on_without_them(
    no_roots: None, dsd100_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "DSD100"
    shutil.copytree(dsd100_root / "Sources", root / "Sources")
    song = sorted((root / "Sources" / "Dev").iterdir())[0]
    (song / "bass.wav").unlink()
    monkeypatch.setenv("VOCALSEP_DSD100", str(root))
    command = ["train", "unet", "--dataset", "dsd100", "--out", tmp_path / "run", *ONE_STEP]
    assert song.name in complaint(run(*command))
    assert not (tmp_path / "run").exists()
    result = run(*command, "--skip-bad")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'run' / 'unet.safetensors'}\n")
    assert f"skipped 1 bad track: dsd100/{song.name}: no bass" in result.stderr


# version, help


def test_version_is_told() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"vocalsep {vocalsep.__version__}\n", "")


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_names_every_option(option: str) -> None:
    assert "extract" in run(option).stdout
    text = run("extract", option).stdout
    for name in (
        "--output",
        "--model",
        "--accompaniment",
        "--inversion",
        "--subtype",
        "--clip",
        "--gate",
        "--labels",
        "--device",
        "--overwrite",
        "--skip-existing",
        "--format",
        "--threads",
        "--recursive",
        "--from-file",
        "--jobs",
        "--dry-run",
        "--progress",
        "--json",
        "--quiet",
    ):
        assert name in text


def test_neither_import_nor_help_nor_version_loads_torch() -> None:
    code = """
import sys
import vocalsep
from vocalsep.cli import app
helps = [f"{command} --help" for command in ("", "extract", "eval", "models", "data check", "train", "doctor")]
for line in ["--version", *helps]:
    try:
        app(line.split())
    except SystemExit as end:
        assert not end.code, end.code
heavy = {"torch", "librosa", "matplotlib", "numba", "scipy", "soundfile", "av", "mutagen"} & set(sys.modules)
assert not heavy, heavy
"""
    done = process("-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage" in done.stdout


def test_public_names_are_there() -> None:
    assert vocalsep.load_model is weights.load
    for name in vocalsep.__all__:
        assert getattr(vocalsep, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'separate'"):
        _ = vocalsep.separate  # type: ignore[attr-defined]
