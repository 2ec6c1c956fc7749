"""What people type first, and what users of other separators type from habit."""

from __future__ import annotations

from pathlib import Path

import fake_nets
import numpy as np
import pytest
import soundfile
import synthetic_songs
from command_line import list_files, read_error, read_misuse, read_objects, run

from vocalsep import audio, weights
from vocalsep.audio.tags import Tags


@pytest.fixture
def songs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the songs ``song.wav`` and ``album/1.wav``. Every model answers with a mask of 0.25."""
    for name in ("song.wav", "album/1.wav"):
        synthetic_songs.write(tmp_path / name, 0.2 * fake_nets.noise(2, 6_000).T, 8_000)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(weights, "load", lambda *_, **_options: fake_nets.constant(0.25, fake_nets.SMALL))
    return tmp_path


# songs first


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        (["song.wav"], ["song.vocals.wav"]),
        (["-m", "unet", "song.wav"], ["song.vocals.wav"]),
        (["--format", "flac", "song.wav"], ["song.vocals.flac"]),
        (["*.wav"], ["song.vocals.wav"]),
        (["album"], ["album/1.vocals.wav"]),
        (["album/", "-o", "out"], ["out/1.vocals.wav"]),
        (["./song.wav", "-o", "out/"], ["out/song.vocals.wav"]),
        (["song.wav", "--accompaniment"], ["song.accompaniment.wav", "song.vocals.wav"]),
        (["--accompaniment", "song.wav"], ["song.accompaniment.wav", "song.vocals.wav"]),
        (["--labels", "song.wav"], ["song.labels.txt", "song.vocals.wav"]),
        (["song.wav", "--stem", "both"], ["song.accompaniment.wav", "song.vocals.wav"]),
        (["song.wav", "--stem", "vocals"], ["song.vocals.wav"]),
        (["song.wav", "--stem", "accompaniment"], ["song.accompaniment.wav"]),
        (["song.wav", "--instrumental"], ["song.accompaniment.wav"]),
        (["song.wav", "--karaoke", "-o", "inst.flac"], ["inst.flac"]),
        (["extract", "song.wav", "--karaoke", "--accompaniment", "k.mp3"], ["k.mp3"]),
        (["song.wav", "--karaoke", "--labels"], ["song.accompaniment.wav", "song.labels.txt"]),
        (["song.wav", "-o", "x.wav", "--karaoke", "--labels"], ["song.labels.txt", "x.wav"]),
        (["song.wav", "album", "--karaoke", "-o", "k"], ["k/1.accompaniment.wav", "k/song.accompaniment.wav"]),
        (["song.wav", "-o", "{source}/{song}.{ext}", "--format", "flac"], ["wav/song.flac"]),
        (["song.wav", "--preset", "ultrastar"], ["song [INSTR].mp3", "song [VOC].mp3"]),
        (["song.wav", "--preset", "ultrastar", "--stem", "vocals", "--format", "ogg"], ["song [VOC].ogg"]),
    ],
    ids=" ".join,
)
def test_it_extracts_if_the_first_argument_is_no_command(songs: Path, arguments: list[str], written: list[str]) -> None:
    before = {path for path in songs.rglob("*") if path.is_file()}
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    after = {path for path in songs.rglob("*") if path.is_file()} - before
    assert sorted(path.relative_to(songs).as_posix() for path in after) == written


def test_a_command_is_a_command_even_if_a_file_has_its_name(songs: Path) -> None:
    (songs / "doctor").mkdir()
    (songs / "models").touch()
    assert "uhnet-hd" in run("models").stdout
    assert run("--version").stdout.startswith("vocalsep ")
    assert read_error(run("./doctor")) == "doctor: no recordings in this folder; add -r to search its subfolders too"


def test_a_song_that_is_missing_is_a_song_and_a_word_that_is_nothing_no_command(songs: Path) -> None:
    assert read_error(run("sonk.wav")) == "sonk.wav: no such file. Did you mean song.wav?"
    assert "No such command 'alb', and no file or folder of that name." in read_misuse(run("alb"))
    assert "No such command 'separate', and no file" in read_misuse(run("separate", "song.wav"))
    assert "Did you mean 'vocalsep SONG'?" in read_misuse(run("separate", "-p", "spleeter:2stems", "song.wav"))
    assert "Did you mean 'extract'" in read_misuse(run("extrct", "song.wav"))


@pytest.mark.parametrize("first", [[], ["extract"]])
@pytest.mark.parametrize("output", ["vocals.wav", "out", "out/", "inst.mp3"])
def test_an_output_without_o_stops_before_anything_is_computed(songs: Path, first: list[str], output: str) -> None:
    assert f"no such file. Did you mean -o {output}?" in read_misuse(run(*first, "song.wav", output))
    assert f"Did you mean -o {output}?" in read_misuse(run(*first, "song.wav", "--karaoke", output))
    assert list_files(songs) == ["album", "album/1.wav", "song.wav"]


def test_a_missing_second_song_comes_with_a_similar_name(songs: Path) -> None:
    assert "sonk.wav: no such file. Did you mean -o sonk.wav, or song.wav?" in read_misuse(run("album", "sonk.wav"))
    assert "Did you mean -o out?" in read_misuse(run("song.wav", "album/1.wav", "out"))
    result = run("song.wav", "album/1.wav", "another.wav", "-q")  # a list of songs, one of which is missing
    assert (result.exit_code, result.stderr) == (1, "vocalsep: another.wav: no such file\n")
    assert result.stdout.splitlines() == ["song.vocals.wav", "album/1.vocals.wav"]


# misuse


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--two-stems=vocals", "song.wav"], "Use --stem vocals, accompaniment or both"),
        (["song.wav", "--two-stems", "vocals"], "Use --stem vocals, accompaniment or both"),
        (["song.wav", "--no-vocals"], "Use --instrumental"),
        (["-n", "htdemucs", "song.wav"], "Use -m NAME; 'vocalsep models' lists the models"),
        (["song.wav", "--mp3", "--mp3-bitrate", "320"], "Use --format mp3"),
        (["song.wav", "--mp3-bitrate", "320"], "Use --bitrate, as in --format mp3 --bitrate 320k"),
        (["song.wav", "--out", "x"], "Use -o FOLDER/ for a folder"),
        (["-i", "song.wav"], "Name the songs without an option"),
        (["song.wav", "--single_stem=Vocals"], "Use --stem vocals or --stem accompaniment"),
        (["song.wav", "--output_format=MP3"], "Use --format"),
        (["song.wav", "-d", "cuda"], "Use --device"),
        (["song.wav", "--shifts=10"], "vocalsep has no quality settings"),
        (["--list_models"], "Use the command 'vocalsep models'"),
        (["song.wav", "--karaokee"], "--karaoke"),
        (["song.wav", "--karaoke", "--stem", "both"], "--instrumental and --stem both cannot be combined"),
        (["song.wav", "--stem", "vocals", "--accompaniment"], "use --stem both"),
        (["song.wav", "--karaoke", "--accompaniment", "a.wav", "-o", "b.wav"], "both say where the accompaniment goes"),
        (["song.wav", "--stem", "drums"], "'drums' is not one of"),
        (["www.example.org/song.mp3"], "no such file. Did you mean https://www.example.org/song.mp3?"),
        (["song.wav", "-o", "https://example.org/vocals/"], "cannot write to a web server"),
        (["song.wav", "-o", "s4://bucket/vocals/"], "-o s4://bucket/vocals/: "),
        (["song.wav", "-m", "htdemucs"], "unknown model 'htdemucs'; known: "),
        (["song.wav", "-o", "vocals"], "write vocals/ for a folder, vocals.wav for a file"),
        (["song.wav", "--bitrate", "320k"], "song.vocals.wav: wav has no bit rate; only mp3, m4a, opus and ogg"),
        (["song.wav", "--bitrate", "high", "--format", "mp3"], "expected a number of kbit/s, such as 320k"),
        (["song.wav", "--bitrate", "300k", "--format", "mp3"], "mp3 has no bit rate of 300k; the nearest is 320k"),
        (["song.wav", "--bitrate", "320k", "-o", "-"], "standard output gets wav, which has no bit rate"),
        (["song.wav", "--subtype", "pcm16", "--format", "mp3"], "mp3 does not support pcm16 samples"),
        (["--accompaniment", "missing.wav"], "no songs given"),
        (["song.wav", "album", "-o", "{stem}.wav"], "gives all songs the same name; add {song}"),
        (["-", "--karaoke"], "where should the accompaniment go? Give -o PATH"),
    ],
    ids=" ".join,
)
def test_misuse_is_told_with_a_hint_before_anything_is_computed(
    songs: Path, arguments: list[str], expected: str
) -> None:
    assert expected in read_misuse(run(*arguments))
    assert list_files(songs) == ["album", "album/1.wav", "song.wav"]


@pytest.mark.parametrize("command", ["", "extract", "models", "models show", "doctor", "train", "eval", "data check"])
def test_help_shows_no_type_for_options_without_a_value(command: str) -> None:
    text = run(*command.split(), "--help").stdout
    assert "--help" in text
    assert "bool" not in text


# sound


def test_the_accompaniment_alone_goes_through_pipes(songs: Path) -> None:
    content = Path("song.wav").read_bytes()
    result = run("-", "--karaoke", "-o", "-", stdin=content)
    assert (result.exit_code, result.stderr) == (0, "")
    Path("piped.wav").write_bytes(result.stdout_bytes)
    mixture = audio.read(Path("song.wav"))[0]
    np.testing.assert_allclose(audio.read(Path("piped.wav"))[0], 0.75 * mixture, rtol=0, atol=2**-15)
    assert run("song.wav", "--stem", "accompaniment", "-o", "file.wav").exit_code == 0
    np.testing.assert_array_equal(audio.read(Path("file.wav"))[0], audio.read(Path("piped.wav"))[0])


def test_json_names_the_accompaniment_alone(songs: Path) -> None:
    (report,) = read_objects(run("song.wav", "--karaoke", "--json").stdout)
    assert report["outputs"] == {"accompaniment": "song.accompaniment.wav"}
    assert report["vocals_db"] == pytest.approx(-12, abs=0.1)
    (planned,) = read_objects(run("song.wav", "--karaoke", "--json", "--dry-run", "--overwrite").stdout)
    assert planned["outputs"] == report["outputs"]


@pytest.mark.slow
def test_a_bit_rate_sets_the_size(songs: Path) -> None:
    synthetic_songs.write(songs / "long.wav", 0.2 * fake_nets.noise(2, 44_100 * 3).T, 44_100)
    sizes = {}
    for bitrate in ("64k", "320k"):
        for ending in ("mp3", "m4a", "opus", "ogg"):
            name = f"{bitrate}.{ending}"
            assert run("long.wav", "--bitrate", bitrate, "-o", name).exit_code == 0
            sizes[name] = Path(name).stat().st_size * 8 / 3
            assert sizes[name] == pytest.approx(1_000 * int(bitrate[:-1]), rel=0.35)
    assert read_error(run("song.wav", "--bitrate", "320k", "-o", "x.mp3")).startswith(
        "x.mp3: mp3 has no bit rate of 320k at 8000 Hz; the nearest is 64k"
    )


@pytest.mark.slow
def test_songs_from_lossy_formats_give_16_bit_wav_unless_they_are_too_loud(
    songs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, level in (("quiet.mp3", 0.3), ("loud.mp3", 1.3)):
        with audio.Writer(songs / name, rate=8_000, channels=2, subtype="", tags=Tags({"title": ("T",)})) as writer:
            writer.write(level / 0.3 * fake_nets.tone(300, 8_000, 2.0, 2))
    monkeypatch.setattr(weights, "load", lambda *_, **_options: fake_nets.constant(0.9, fake_nets.SMALL))
    result = run("quiet.mp3", "loud.mp3", "--stem", "both", "--json")
    assert result.exit_code == 0, result.output
    assert [soundfile.info(f"quiet.{stem}.wav").subtype for stem in ("vocals", "accompaniment")] == ["PCM_16"] * 2
    assert [soundfile.info(f"loud.{stem}.wav").subtype for stem in ("vocals", "accompaniment")] == ["FLOAT"] * 2
    assert [each["clipped_samples"] for each in read_objects(result.stdout)] == [0, 0]
    parts = [audio.read(Path(f"quiet.{stem}.wav"))[0] for stem in ("vocals", "accompaniment")]
    np.testing.assert_allclose(sum(parts), audio.read(Path("quiet.mp3"))[0], rtol=0, atol=2**-15)
    assert run("loud.mp3", "--clip", "scale", "-o", "scaled.wav").exit_code == 0
    assert soundfile.info("scaled.wav").subtype == "PCM_16"
    assert run("quiet.mp3", "-o", "x.flac").exit_code == 0
    assert soundfile.info("x.flac").subtype == "PCM_16"
    assert run("quiet.mp3", "--subtype", "float", "-o", "f.wav").exit_code == 0
    assert soundfile.info("f.wav").subtype == "FLOAT"
    Path("piped.wav").write_bytes(run("quiet.mp3", "-o", "-").stdout_bytes)  # a pipe cannot wait for the peak
    assert soundfile.info("piped.wav").subtype == "FLOAT"


def test_outputs_are_no_songs_whatever_they_are_called(songs: Path) -> None:
    assert run("album", "--stem", "both").exit_code == 0
    assert run("album", "-o", "album/{song} (voice).{ext}", "--format", "ogg").exit_code == 0
    assert len(list_files(songs / "album")) == 4
    for options in (["--format", "mp3"], ["-o", "out"], ["--karaoke", "-o", "{song}-k.wav"]):
        result = run("album", *options, "--dry-run")
        assert (result.exit_code, result.stdout.count(" -> ")) == (0, 1), result.output
        assert result.stdout.startswith("album/1.wav -> ")


def test_a_wav_beside_a_flac_of_the_same_name_works(songs: Path) -> None:
    synthetic_songs.write(songs / "album" / "1.flac", 0.1 * fake_nets.noise(1, 6_000).T, 8_000)
    assert run("-r", "album", "-q").stdout.splitlines() == ["album/1.flac.vocals.wav", "album/1.wav.vocals.wav"]
    again = run("-r", "album", "-q", "--skip-existing")  # the outputs are recognised
    assert (again.exit_code, again.stdout) == (0, "")


def test_an_ultrastar_folder_may_hold_a_video_of_the_song(songs: Path) -> None:
    for name in ("1.mp4", "2.mkv"):
        (songs / "album" / name).touch()
    result = run("album", "--preset", "ultrastar", "--dry-run")
    assert [line.partition(" -> ")[2] for line in result.stdout.splitlines()] == [
        "album/1 [VOC].mp3, album/1 [INSTR].mp3",
        "album/2 [VOC].mp3, album/2 [INSTR].mp3",
    ]
    assert run("album/1.mp4", "--preset", "ultrastar", "--dry-run").stdout.startswith("album/1.mp4 -> ")


def test_random_bytes_are_told_apart_from_other_files(songs: Path) -> None:
    for content, expected in {
        bytes(range(128, 256)) * 20: "neither libsndfile nor FFmpeg knows its content",
        b"<!DOCTYPE html><html>": "it is a web page",
        "voilà\n".encode() * 200: "it is text",
        bytes(999): "it begins with zeros",
    }.items():
        Path("x.mp3").write_bytes(content)
        assert read_error(run("x.mp3")) == f"x.mp3: not an audio file, or damaged ({expected})"


def test_an_instrumental_says_that_nobody_seems_to_sing(songs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for mask, level in ((0.03, 30), (0.001, 60)):
        model = fake_nets.constant(mask, fake_nets.SMALL)
        monkeypatch.setattr(weights, "load", lambda *_, model=model, **_options: model)
        result = run("song.wav", "--overwrite")
        line = f"song.vocals.wav: nobody seems to sing in 0:01; the vocals are {level} dB below the song, "
        assert result.stderr.startswith(line)
        assert len(result.stderr.splitlines()) == 1
    assert "hardly any voice was found" in run("song.wav", "--overwrite", "-q").stderr  # a warning, without the line
