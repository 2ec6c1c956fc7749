from __future__ import annotations

import os
import re
from pathlib import Path

import fake_nets
import numpy as np
import pytest
import soundfile
import synthetic_songs
import torch
from command_line import list_files, read_error, read_misuse, read_objects, run, run_python

import vocalsep
from vocalsep import audio, weights

LINE = (
    r"{}: (voice in \d+ % of 0:01(, \d+ dB below the song)?|nobody seems to sing in 0:01.*), "
    r"\d\.\d s \([\d.]+x real time\)\n"
)
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
    "shorter_than_stated",
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
    return synthetic_songs.write(path, np.clip(fake_nets.noise(2, samples, seed), -0.99, 0.99).T, rate)


# where the results go


def test_vocals_go_to_the_file_named(songs: Path, model: Path, tmp_path: Path) -> None:
    result = run("extract", songs / "song.wav", "-o", tmp_path / "v.flac", "-m", model)
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'v.flac'}\n")
    assert re.fullmatch(LINE.format(tmp_path / "v.flac"), result.stderr)
    info, song = soundfile.info(tmp_path / "v.flac"), soundfile.info(songs / "song.wav")
    assert (info.format, info.samplerate, info.channels, info.frames) == ("FLAC", 8_000, 2, song.frames)
    assert list_files(songs) == ["song.wav"]


def test_vocals_go_into_the_folder_named(songs: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    result = run("extract", songs / "song.wav", "-o", tmp_path / "out", "-m", model)
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'out' / 'song.vocals.wav'}\n"
    assert list_files(tmp_path / "out") == ["song.vocals.wav"]


def test_vocals_go_beside_the_song_without_o(songs: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("extract", songs / "song.wav", "-m", model).stdout == f"{songs / 'song.vocals.wav'}\n"
    assert list_files(songs) == ["song.vocals.wav", "song.wav"]
    monkeypatch.chdir(songs)
    assert run("extract", "song.wav", "-m", model, "--overwrite").stdout == "song.vocals.wav\n"


def test_several_songs_go_into_a_folder_that_is_made(songs: Path, model: Path, tmp_path: Path) -> None:
    write(songs / "other.flac", seed=1)
    out = tmp_path / "new" / "deeper"
    result = run("extract", songs / "song.wav", songs / "other.flac", "-o", out, "-m", model)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [f"{out / 'song.vocals.wav'}", f"{out / 'other.vocals.wav'}"]
    assert list_files(out) == ["other.vocals.wav", "song.vocals.wav"]


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
    assert list_files(out) == ["song.accompaniment.wav", "v.wav"]


def test_accompaniment_goes_to_the_path_named_and_completes_the_song(songs: Path, model: Path, tmp_path: Path) -> None:
    song, vocals, rest = songs / "song.wav", tmp_path / "v.wav", tmp_path / "a.wav"
    mixture = np.clip(fake_nets.noise(2, 6_000), -0.99, 0.99)
    synthetic_songs.write(song, mixture.T, 8_000, "FLOAT")
    result = run("extract", song, "-m", model, "--accompaniment", rest, "-o", vocals)
    assert result.exit_code == 0
    parts = [audio.read(path)[0] for path in (vocals, rest)]
    assert min(float(np.square(part).mean()) for part in parts) > 1e-4
    np.testing.assert_allclose(parts[0] + parts[1], mixture, rtol=0, atol=2**-23)
    folder = tmp_path / "rest"
    folder.mkdir()
    assert run("extract", song, "-m", model, "-o", tmp_path / "w.wav", "--accompaniment", folder).exit_code == 0
    assert list_files(folder) == ["song.accompaniment.wav"]


def test_every_inversion_can_be_chosen(songs: Path, model: Path, tmp_path: Path) -> None:
    for name in ("phase", "griffin-lim"):
        out = tmp_path / f"{name}.wav"
        assert run("extract", songs / "song.wav", "-m", model, "-o", out, "--inversion", name).exit_code == 0
    phase, other = (audio.read(tmp_path / f"{name}.wav")[0] for name in ("phase", "griffin-lim"))
    assert phase.shape == other.shape
    assert not np.array_equal(phase, other)


def test_the_same_song_gives_the_same_file(songs: Path, model: Path, tmp_path: Path) -> None:
    for name in ("1.wav", "2.wav"):
        assert run("extract", songs / "song.wav", "-m", model, "-o", tmp_path / name).exit_code == 0
    assert (tmp_path / "1.wav").read_bytes() == (tmp_path / "2.wav").read_bytes()


# results


def test_json_is_one_object_for_each_song(songs: Path, model: Path, tmp_path: Path) -> None:
    write(songs / "other.wav", samples=12_000)
    given = [songs / "song.wav", songs / "other.wav"]
    result = run("extract", *given, "-m", model, "-o", tmp_path / "out", "--json")
    assert result.exit_code == 0
    reports = read_objects(result.stdout)
    assert [each["input"] for each in reports] == [str(song) for song in given]
    assert [each["audio_seconds"] for each in reports] == [0.75, 1.5]
    for each in reports:
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
    (report,) = read_objects(result.stdout)
    assert report["input"] == str(song)
    assert "Grün 歌" in result.stdout
    assert report["outputs"] == {"vocals": str(tmp_path / "v.wav"), "accompaniment": str(tmp_path / "a.wav")}


@pytest.mark.parametrize("name", ["two words.wav", "Ünï 歌 é.wav", "song [live] [red]x[/red].wav", "a :cat: b.wav"])
def test_names_are_read_and_printed_literally(songs: Path, model: Path, name: str) -> None:
    song = write(songs / name)
    vocals = song.with_name(f"{song.stem}.vocals.wav")
    result = run("extract", song, "-m", model)
    assert (result.exit_code, result.stdout) == (0, f"{vocals}\n")
    assert vocals.is_file()
    assert read_error(run("extract", song, "-m", model)).startswith(f"{vocals}: already exists")


def test_a_name_that_begins_with_a_dash_comes_after_two_dashes(
    songs: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(songs / "-dash.wav")
    monkeypatch.chdir(songs)
    assert run("extract", "-m", model, "--", "-dash.wav").stdout == "-dash.vocals.wav\n"


def test_a_process_prints_only_results_on_stdout_and_continues_after_a_bad_song(songs: Path, model: Path) -> None:
    broken = write(songs / "broken.flac", samples=60_000, rate=11_025)  # breaks off while it is resampled
    broken.write_bytes(broken.read_bytes()[:-20_000])
    good = [write(songs / f"{number}.wav") for number in (1, 2)]
    done = run_python("-m", "vocalsep", "extract", good[0], broken, good[1], "-m", model, "--json", "-q")
    assert done.returncode == 1
    assert [each["input"] for each in read_objects(done.stdout)] == [str(song) for song in good]
    assert done.stderr.splitlines() == [f"vocalsep: {broken}: cannot be read to the end ({_reason(done.stderr)})"]
    assert list_files(songs) == ["1.vocals.wav", "1.wav", "2.vocals.wav", "2.wav", "broken.flac", "song.wav"]


def _reason(text: str) -> str:
    return text.rpartition("(")[2].strip().removesuffix(")")


# where there is a voice


def half_sung(path: Path) -> Path:
    """High noise, and low tones from second 2 to 4 and 6 to 7, which `fake_nets.LowBandNet` takes for voice."""
    mixture = 0.05 * fake_nets.tone(3_500, 8_000, 9.0, channels=2)
    for start, end in ((2, 4), (6, 7)):
        mixture[:, start * 8_000 : end * 8_000] += fake_nets.tone(500, 8_000, 1.0 * (end - start))
    return synthetic_songs.write(path, mixture.T, 8_000)


class Leaks(fake_nets.LowBandNet):
    """`fake_nets.LowBandNet`, which leaves a hundredth where it takes nothing for voice."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return super().forward(features).clamp_min(0.01)


def test_voice_and_labels_say_where_someone_sings(songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "load", lambda *_, **_options: fake_nets.make_model(Leaks(), fake_nets.SMALL))
    song = half_sung(songs / "song.wav")
    result = run("extract", song, "--labels", "--json")
    (report,) = read_objects(result.stdout)
    assert report["voice"] == [pytest.approx([2, 4], abs=0.1), pytest.approx([6, 7], abs=0.1)]
    assert report["voice_share"] == pytest.approx(3 / 9, abs=0.02)
    assert report["outputs"] == {"vocals": f"{songs}/song.vocals.wav", "labels": f"{songs}/song.labels.txt"}
    rows = [line.split("\t") for line in (songs / "song.labels.txt").read_text(encoding="utf-8").splitlines()]
    found = [[float(start), float(end)] for start, end, _ in rows]
    assert found == [pytest.approx(pair, abs=1e-3) for pair in report["voice"]]
    assert {text for _, _, text in rows} == {"voice"}
    result = run("extract", song, "--labels", tmp_path / "l.txt", "-o", tmp_path / "v.wav")
    assert result.stdout.splitlines() == [f"{tmp_path}/v.wav", f"{tmp_path}/l.txt"]
    assert (tmp_path / "l.txt").read_text() == (songs / "song.labels.txt").read_text()


def test_labels_replace_neither_existing_files_nor_other_outputs(songs: Path, model: Path) -> None:
    old = songs / "song.labels.txt"
    old.write_text("mine")
    assert f"{old}: already exists" in read_error(run("extract", songs / "song.wav", "--labels", "-m", model))
    same = songs / "x.wav"
    assert "written twice" in read_misuse(run("extract", songs / "song.wav", "-o", same, "--labels", same, "-m", model))
    assert (old.read_text(), list_files(songs)) == ("mine", ["song.labels.txt", "song.wav"])
    assert run("extract", songs / "song.wav", "--labels", "-m", model, "--overwrite").exit_code == 0
    assert old.read_text() != "mine"


def test_the_gate_silences_what_lies_between(songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "load", lambda *_, **_options: fake_nets.make_model(Leaks(), fake_nets.SMALL))
    song = half_sung(songs / "song.wav")
    for option, name in (("--no-gate", "open.wav"), ("--gate", "gated.wav")):
        assert run("extract", song, option, "--subtype", "float", "-o", tmp_path / name).exit_code == 0
    free, gated = (audio.read(tmp_path / name)[0] for name in ("open.wav", "gated.wav"))
    between = slice(round(4.4 * 8_000), round(5.6 * 8_000))
    assert free[:, between].any()
    assert not gated[:, between].any()
    assert np.array_equal(gated[:, 20_000:30_000], free[:, 20_000:30_000])


# formats, samples, levels


def loud(path: Path) -> Path:
    """A float song that exceeds full scale by half."""
    return synthetic_songs.write(path, 1.5 * fake_nets.tone(300, 8_000, 1.0, 2).T / 0.3, 8_000, "FLOAT")


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
        ("v.mp3", 96_000, [], "mp3 supports 8000, "),
        ("v.m4a", 192_000, [], "m4a supports 7350, "),
        ("v.flac", 8_000, ["--subtype", "float"], "flac does not support float samples; choose pcm16 or pcm24"),
        ("v.ogg", 8_000, ["--subtype", "pcm16"], "ogg does not support pcm16 samples; leave the"),
    ],
)
def test_what_a_format_does_not_support_is_refused_before_anything_is_computed(
    songs: Path, broken_model: Path, name: str, rate: int, options: list[str], expected: str
) -> None:
    write(songs / "song.wav", rate=rate)
    # computing anything would need the model, which is broken
    result = run("extract", songs / "song.wav", "-o", songs / name, "-m", broken_model, *options)
    if options:  # the song plays no part in it
        assert f"{songs / name}: {expected}" in read_misuse(result)
    else:
        assert read_error(result).startswith(f"{songs / name}: {expected}")
    assert list_files(songs) == ["song.wav"]


def test_samples_beyond_full_scale_are_clamped_and_reported(
    songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "load", lambda *_, **_options: fake_nets.constant(0.99, fake_nets.SMALL))
    command = ["extract", loud(songs / "song.wav"), "--json", "--overwrite", "-o"]
    result = run(*command, tmp_path / "v.wav", "--subtype", "pcm16")
    (report,) = read_objects(result.stdout)
    assert result.exit_code == 0
    assert 1_000 < report["clipped_samples"] < 16_000
    assert report["gain_db"] == 0
    lines = f"vocalsep: {songs / 'song.wav'}: {report['clipped_samples']} samples exceeded full scale and were clamped"
    assert result.stderr.startswith(lines)
    assert len(result.stderr.splitlines()) == 1
    (report,) = read_objects(run(*command, tmp_path / "v.wav").stdout)  # float holds it
    assert (report["clipped_samples"], report["gain_db"], report["warnings"]) == (0, 0, [])


def test_clip_can_also_scale_the_song_or_fail(songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "load", lambda *_, **_options: fake_nets.constant(0.75, fake_nets.SMALL))
    outputs = [tmp_path / "v.wav", tmp_path / "a.wav"]
    command = ["extract", loud(songs / "song.wav"), "-o", outputs[0], "--accompaniment", outputs[1]]
    result = run(*command, "--subtype", "pcm24", "--clip", "scale", "--json")
    (report,) = read_objects(result.stdout)
    assert report["clipped_samples"] == 0
    assert report["gain_db"] == pytest.approx(-1.05, abs=0.1)  # 1.5 * 0.75 = 1.125
    assert f"scaled by {report['gain_db']} dB" in result.stderr
    peaks = [float(np.abs(audio.read(path)[0]).max()) for path in outputs]
    assert peaks == [pytest.approx(1.0, abs=1e-6), pytest.approx(1 / 3, abs=0.02)]
    for path in outputs:
        path.unlink()
    assert "cannot hold a peak of 1." in read_error(run(*command, "--subtype", "pcm24", "--clip", "error"))
    assert not any(path.exists() for path in outputs)


@pytest.mark.parametrize("ending", ["mp3", "opus", "m4a"])
def test_lossy_outputs_have_the_songs_length_and_channels(songs: Path, model: Path, ending: str) -> None:
    assert run("extract", songs / "song.wav", "-m", model, "-o", songs / f"v.{ending}").exit_code == 0
    samples, rate = audio.read(songs / f"v.{ending}")
    assert samples.shape == (2, 6_000 * rate // 8_000)


def test_a_warning_is_printed_once_and_does_no_harm(songs: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio.tags, "_read_known", lambda _: 1 / 0)
    with audio.Writer(songs / "s.mp3", rate=8_000, channels=1, subtype="", tags=audio.Tags({"title": ("T",)})) as made:
        made.write(fake_nets.noise(1, 9_000))
    result = run("extract", songs / "s.mp3", "-m", model, "--json")
    assert result.exit_code == 0
    assert result.stderr == f"vocalsep: {songs / 's.mp3'}: its tags cannot be read (division by zero)\n"
    assert read_objects(result.stdout)[0]["warnings"] == [result.stderr.removeprefix("vocalsep: ").strip()]


# overwriting


def test_existing_files_are_refused_before_anything_is_computed(songs: Path, broken_model: Path) -> None:
    for option, name in (("-o", "song.vocals.wav"), ("--accompaniment", "song.accompaniment.wav")):
        old = songs / name
        old.write_bytes(b"older")
        # computing anything would need the model, which is broken
        line = read_error(run("extract", songs / "song.wav", option, old, "-m", broken_model))
        assert line == f"{old}: already exists; choose another output, or add --overwrite or --skip-existing"
        assert old.read_bytes() == b"older"
        assert list_files(songs) == sorted(["song.wav", name])
        old.unlink()


def test_overwrite_replaces_existing_files(songs: Path, model: Path) -> None:
    old = songs / "song.vocals.wav"
    old.write_bytes(b"older")
    assert run("extract", songs / "song.wav", "-m", model, "--overwrite").exit_code == 0
    assert soundfile.info(old).frames == 6_000
    assert list_files(songs) == ["song.vocals.wav", "song.wav"]


@pytest.mark.parametrize("spelling", ["song.wav", "./song.wav", "../songs/song.wav", "link.wav"])
@pytest.mark.parametrize("option", ["-o", "--accompaniment"])
def test_a_song_is_never_its_own_output(
    songs: Path, model: Path, monkeypatch: pytest.MonkeyPatch, spelling: str, option: str
) -> None:
    monkeypatch.chdir(songs)
    if spelling == "link.wav":
        Path("link.wav").symlink_to("song.wav")
    before, names = Path("song.wav").read_bytes(), list_files(songs)
    line = read_error(run("extract", "song.wav", option, spelling, "-m", model, "--overwrite"))
    assert "is one of the input songs" in line
    assert Path("song.wav").read_bytes() == before
    assert list_files(songs) == names


def test_no_output_replaces_another_song_of_the_call(songs: Path, model: Path) -> None:
    later = write(songs / "song.vocals.wav", seed=1)
    before = later.read_bytes()
    result = run("extract", songs / "song.wav", later, "-m", model, "--overwrite")
    assert result.exit_code == 1
    assert "song.vocals.wav: is one of the input songs" in result.stderr
    assert later.read_bytes() == before
    assert list_files(songs) == ["song.vocals.vocals.wav", "song.vocals.wav", "song.wav"]


def test_a_trailing_slash_means_a_folder(songs: Path, model: Path, tmp_path: Path) -> None:
    result = run(
        "extract", songs / "song.wav", "-m", model, "-o", f"{tmp_path}/new/", "--accompaniment", f"{tmp_path}/k/"
    )
    assert result.exit_code == 0, result.output
    assert list_files(tmp_path / "new") == ["song.vocals.wav"]
    assert list_files(tmp_path / "k") == ["song.accompaniment.wav"]


# failures


def test_a_missing_song_comes_with_a_similar_name(songs: Path, broken_model: Path) -> None:
    line = read_error(run("extract", songs / "sonk.wav", "-m", broken_model))
    assert line == f"{songs / 'sonk.wav'}: no such file. Did you mean {songs / 'song.wav'}?"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("missing.wav", "no such file"),
        ("folder", "no recordings in this folder; add -r to search its subfolders too"),
        ("notes.wav", "not an audio file, or damaged"),
        ("empty.wav", "the recording is empty"),
        ("nothing.wav", "not an audio file, or damaged"),
    ],
)
def test_a_song_that_cannot_be_read_is_a_one_line_error(songs: Path, model: Path, name: str, expected: str) -> None:
    (songs / "folder").mkdir()
    (songs / "notes.wav").write_text("words\n" * 99, encoding="utf-8")
    (songs / "nothing.wav").touch()
    soundfile.write(songs / "empty.wav", np.zeros((0, 2)), 8_000)
    names = list_files(songs)
    line = read_error(run("extract", songs / name, "-m", model))
    assert line.startswith(f"{songs / name}: ")
    assert expected in line
    assert list_files(songs) == names


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v.mid", "unknown output format '.mid'; expected .wav"),
        ("v.xyz", "unknown output format '.xyz'; expected .wav"),
        ("v", "v: has no file extension; write v/ for a folder, v.wav for a file"),
    ],
)
def test_an_output_of_unknown_format_is_misuse(
    songs: Path, model: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.chdir(songs)
    assert said in read_misuse(run("extract", "song.wav", "-o", name, "-m", model))
    assert list_files(songs) == ["song.wav"]


def test_an_output_below_a_file_is_a_one_line_error(songs: Path, model: Path) -> None:
    line = read_error(run("extract", songs / "song.wav", "-o", songs / "song.wav" / "v.wav", "-m", model))
    assert str(songs / "song.wav") in line
    assert list_files(songs) == ["song.wav"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_without_write_permission_is_a_one_line_error(songs: Path, model: Path) -> None:
    songs.chmod(0o500)
    try:
        line = read_error(run("extract", songs / "song.wav", "-m", model))
    finally:
        songs.chmod(0o700)
    assert "cannot be written" in line


@pytest.mark.parametrize(
    "content",
    [b"", b"x" * 99],
)
def test_weights_that_cannot_be_read_are_a_one_line_error(songs: Path, content: bytes) -> None:
    path = songs / "w.safetensors"
    path.write_bytes(content)
    names = list_files(songs)
    line = read_error(run("extract", songs / "song.wav", "-m", path))
    assert line.startswith(f"{path}: not a vocalsep weights file")
    assert list_files(songs) == names


def test_a_model_that_does_not_exist_is_misuse_that_comes_first(songs: Path) -> None:
    for name, expected in {
        "unnet": "unknown model 'unnet'; did you mean 'unet'?; see 'vocalsep models'",
        "no.safetensors": "no.safetensors: no such",
        "runs/none": "runs/none: no such",
    }.items():
        for arguments in (["missing.wav"], [songs / "song.wav", "--dry-run"], [songs / "song.wav", "--json", "-q"]):
            assert expected in read_misuse(run("extract", *arguments, "-m", name))
    assert list_files(songs) == ["song.wav"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_a_missing_device_is_a_one_line_error(songs: Path, model: Path) -> None:
    assert "use --device cpu" in read_error(run("extract", songs / "song.wav", "-m", model, "--device", "cuda"))
    assert list_files(songs) == ["song.wav"]


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
    assert list_files(out) == names
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
    broken = fake_nets.make_model(fake_nets.FailingNet(ZeroDivisionError("a bug"), after=0))
    monkeypatch.setattr(weights, "load", lambda *_, **_options: broken)
    result = run("extract", songs / "song.wav", "-m", model, "--accompaniment")
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert result.stderr.endswith(f"vocalsep: {songs / 'song.wav'}: ZeroDivisionError: a bug\n")
    assert list_files(songs) == ["song.wav"]


# misuse


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["extract"], "no songs given. Name files or folders"),
        (["extract", "song.wav", "--loud"], "No such option"),
        (["extract", "song.wav", "--inversion", "magic"], "'magic' is not one of"),
        (["extract", "song.wav", "--subtype", "pcm12"], "'pcm12' is not one of"),
        (["extract", "song.wav", "--clip", "cut"], "'cut' is not one of"),
        (["extract", "song.wav", "--device", "gpu"], "'gpu' is not one of"),
        (["extract", "song.wav", "-o"], "requires an argument"),
    ],
    ids=" ".join,
)
def test_misuse_has_status_2(songs: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str) -> None:
    monkeypatch.chdir(songs)
    assert expected in read_misuse(run(*arguments))
    assert list_files(songs) == ["song.wav"]


@pytest.mark.parametrize("option", ["-o", "--accompaniment"])
def test_several_songs_do_not_go_into_one_file(songs: Path, model: Path, option: str) -> None:
    write(songs / "other.wav")
    file = songs / "out.wav"
    file.write_bytes(b"older")
    names = list_files(songs)
    text = read_misuse(
        run("extract", songs / "song.wav", songs / "other.wav", option, file, "-m", model, "--overwrite")
    )
    assert "several songs need a folder" in text
    assert file.read_bytes() == b"older"
    assert list_files(songs) == names


def test_two_songs_do_not_go_to_one_output(songs: Path, model: Path, tmp_path: Path) -> None:
    song, twin, other = songs / "song.wav", write(songs / "b" / "song.wav"), write(songs / "other.wav")
    result = run("extract", song, twin, other, "-o", tmp_path / "out", "-m", model)
    assert (result.exit_code, result.stdout) == (1, f"{tmp_path / 'out' / 'other.vocals.wav'}\n")
    assert result.stderr.count("would also hold the outputs of") == 2
    assert result.stderr.count("; leave out -o, or add --number") == 2
    result = run("extract", song, twin, "-o", tmp_path / "numbered", "-m", model, "--number")
    assert result.exit_code == 0
    assert list_files(tmp_path / "numbered") == ["song-2.vocals.wav", "song.vocals.wav"]


def test_a_song_is_not_written_twice(songs: Path, model: Path, tmp_path: Path) -> None:
    song = songs / "song.wav"
    for same in (tmp_path / "v.wav", tmp_path / "songs" / ".." / "v.wav"):
        result = run("extract", song, "-o", tmp_path / "v.wav", "--accompaniment", same, "-m", model)
        assert "would be written twice" in read_misuse(result)
    assert list_files(songs) == ["song.wav"]


def test_a_run_is_a_model_with_the_name_of_its_folder(songs: Path, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    (folder / "recipe.toml").touch()
    (folder / "unet.safetensors").write_bytes(model.read_bytes())
    output = tmp_path / "{song}-{model}.{ext}"
    result = run("extract", songs / "song.wav", "-m", folder, "-o", output, "--json")
    (report,) = read_objects(result.stdout)
    assert report["model"] == "tiny"
    assert report["outputs"] == {"vocals": str(tmp_path / "song-tiny.wav")}


def test_picture_draws_each_song(songs: Path, model: Path, tmp_path: Path) -> None:
    write(songs / "other.wav", seed=1)
    result = run("extract", songs, "-m", model, "-o", tmp_path / "out", "--picture")
    assert result.exit_code == 0, result.stderr
    names = [f"{song}.{end}" for song in ("other", "song") for end in ("picture.png", "vocals.wav")]
    assert list_files(tmp_path / "out") == names
    assert str(tmp_path / "out" / "song.picture.png") in result.stdout.splitlines()
    pictures = {path.read_bytes()[:8] for path in (tmp_path / "out").glob("*.png")}
    assert pictures == {b"\x89PNG\r\n\x1a\n"}


def test_a_picture_is_named_like_other_outputs(songs: Path, model: Path, tmp_path: Path) -> None:
    given = ["extract", songs / "song.wav", "-m", model, "-o", tmp_path / "v.wav"]
    (report,) = read_objects(run(*given, "--picture", tmp_path / "p.png", "--json").stdout)
    assert report["outputs"]["picture"] == str(tmp_path / "p.png")
    assert "already exists" in read_error(run(*given[:-1], tmp_path / "w.wav", "--picture", tmp_path / "p.png"))
    assert "write pic/ for a folder, or a name that ends in .png" in read_misuse(run(*given, "--picture", "pic"))
    assert "--picture needs a file" in read_misuse(run(*given, "--picture", "-"))


@pytest.mark.parametrize("wanted", [[], pytest.param(["picture"], marks=pytest.mark.slow)])
def test_matplotlib_is_only_imported_for_pictures(songs: Path, model: Path, wanted: list[str]) -> None:
    code = (
        "import sys, vocalsep; vocalsep.extract(sys.argv[1], model=sys.argv[2], picture=len(sys.argv) > 3); "
        "print('matplotlib' in sys.modules)"
    )
    assert run_python("-c", code, songs / "song.wav", model, *wanted).stdout == f"{bool(wanted)}\n"
