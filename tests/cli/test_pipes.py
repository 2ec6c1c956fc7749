"""One song through pipes, or as samples without a header."""

from __future__ import annotations

import functools
import io
import json
import subprocess
import sys
from pathlib import Path

import command_line
import fake_nets
import numpy as np
import pytest
import soundfile
import synthetic_songs
import torch
from command_line import make_environment, read_misuse, read_objects

from vocalsep import audio, library, weights
from vocalsep.batches import work
from vocalsep.shapes import Waveform

run = functools.partial(command_line.run, "extract")
RATE = 8_000


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return synthetic_songs.write(tmp_path / "song.wav", np.clip(fake_nets.noise(2, 20_000), -0.99, 0.99).T, RATE)


@pytest.fixture(autouse=True)
def _half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every model answer with a mask of 0.5."""
    monkeypatch.setattr(weights, "load", lambda *_, **_options: fake_nets.constant(0.5, fake_nets.SMALL))


def process(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "vocalsep", "extract", *map(str, arguments)]


def sound(content: bytes) -> Waveform:
    with audio.open_song(io.BytesIO(content)) as reader:
        assert isinstance(reader, audio.Stream)
        return np.concatenate(list(reader), axis=-1)


def test_wav_goes_in_and_out_and_nothing_else(song: Path) -> None:
    result = run("-", "-o", "-", stdin=song.read_bytes())
    assert (result.exit_code, result.stderr) == (0, "")
    mixture = audio.read(song)[0]
    np.testing.assert_allclose(sound(result.stdout_bytes), mixture / 2, rtol=0, atol=2**-15)
    assert soundfile.info(io.BytesIO(result.stdout_bytes)).frames == mixture.shape[-1]  # its length was known
    assert [path.name for path in song.parent.iterdir()] == ["song.wav"]


def test_one_side_alone_may_be_a_pipe(song: Path, tmp_path: Path) -> None:
    mixture = audio.read(song)[0]
    result = run(song, "-o", "-", "--subtype", "float")
    assert result.exit_code == 0
    np.testing.assert_allclose(sound(result.stdout_bytes), mixture / 2, rtol=0, atol=1e-6)
    out = tmp_path / "new" / "v.flac"
    result = run("-", "-o", out, "--labels", tmp_path / "l.txt", stdin=song.read_bytes())
    assert (result.exit_code, result.stdout) == (0, f"{out}\n{tmp_path / 'l.txt'}\n")
    np.testing.assert_allclose(audio.read(out)[0], mixture / 2, rtol=0, atol=2**-15)


def test_the_accompaniment_can_be_a_file_or_the_pipe(song: Path, tmp_path: Path) -> None:
    rest = tmp_path / "a.wav"
    result = run("-", "-o", "-", "--accompaniment", rest, stdin=song.read_bytes())
    total = sound(result.stdout_bytes) + audio.read(rest)[0]
    np.testing.assert_allclose(total, audio.read(song)[0], rtol=0, atol=2**-15)
    result = run(song, "-o", tmp_path / "v.wav", "--accompaniment", "-")
    assert result.exit_code == 0
    np.testing.assert_allclose(sound(result.stdout_bytes), audio.read(rest)[0], rtol=0, atol=2**-15)


def test_json_goes_to_stderr_if_sound_goes_to_stdout(song: Path, tmp_path: Path) -> None:
    result = run("-", "-o", "-", "--json", stdin=song.read_bytes())
    report = json.loads(result.stderr)
    assert (report["input"], report["outputs"], report["audio_seconds"]) == ("-", {"vocals": "-"}, 2.5)
    result = run("-", "-o", tmp_path / "v.wav", "--json", stdin=song.read_bytes())
    assert json.loads(result.stdout)["outputs"] == {"vocals": str(tmp_path / "v.wav")}


def test_formats_other_than_wav_can_come_through_a_pipe(tmp_path: Path) -> None:
    song = synthetic_songs.write(tmp_path / "song.flac", np.clip(fake_nets.noise(2, 9_000), -0.9, 0.9).T, RATE)
    result = run("-", "-o", "-", stdin=song.read_bytes())
    np.testing.assert_allclose(sound(result.stdout_bytes), audio.read(song)[0] / 2, rtol=0, atol=2**-15)


@pytest.mark.parametrize("piped", [True, False])
def test_raw_samples_go_in_and_out(song: Path, tmp_path: Path, piped: bool) -> None:
    pcm = song.read_bytes()[44:]
    source = tmp_path / "song.raw"
    source.write_bytes(pcm)
    result = run("-" if piped else source, "-o", "-", "--raw", "8000,2,s16le", stdin=pcm)
    assert (result.exit_code, result.stderr) == (0, "")
    steps = np.frombuffer(result.stdout_bytes, "<i2").astype(int)
    assert np.abs(2 * steps - np.frombuffer(pcm, "<i2")).max() <= 1
    result = run(
        source, "-o", tmp_path / "v.wav", "--raw", "8000,2,s16le"
    )  # the extension of a file decides on its format
    assert np.array_equal(soundfile.read(tmp_path / "v.wav", dtype="int16")[0].reshape(-1), steps)
    result = run(source, "-o", tmp_path / "v.pcm", "--raw", "8000,2,s16le", "--subtype", "float")
    assert (tmp_path / "v.pcm").stat().st_size == 2 * len(pcm)


@pytest.mark.parametrize("models", [["a"], ["a", "b"]])
def test_with_a_latency_a_file_and_a_pipe_give_the_same_samples(
    song: Path, tmp_path: Path, models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    grids = {"a": fake_nets.SMALL, "b": fake_nets.PAPER}
    monkeypatch.setattr(weights, "load", lambda name, **_options: fake_nets.constant(0.5, grids[name]))
    monkeypatch.setattr(library, "find_file", lambda name: Path(f"{name}.safetensors"))
    pcm, out = song.read_bytes()[44:], tmp_path / "v.wav"
    latency = ("--latency", "0.2", *(part for name in models for part in ("-m", name)))
    assert run(song, "-o", out, *latency).exit_code == 0
    result = run("-", "-o", "-", "--raw", "8000,2,s16le", *latency, stdin=pcm)
    assert (result.exit_code, result.stderr) == (0, "")
    assert out.read_bytes()[44 : 44 + len(pcm)] == result.stdout_bytes
    steps = np.frombuffer(result.stdout_bytes, "<i2").astype(int)
    assert np.abs(2 * steps - np.frombuffer(pcm, "<i2")).max() <= 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--latency", "4"], "latency 4: expected 0.1 to 3 seconds, or auto"),
        (["--latency", "0.3", "--gate"], "--latency cannot be combined with --gate"),
        (["--latency", "0.3", "--inversion", "griffin-lim"], "--inversion griffin-lim, which needs more of the song"),
        (["--latency", "0.3", "--masks", "clusters"], "--masks clusters, which needs more of the song"),
        (["--latency", "0.3", "--as-original"], "--as-original, which needs more of the song"),
    ],
)
def test_what_does_not_work_with_a_latency_is_misuse(song: Path, arguments: list[str], expected: str) -> None:
    assert expected in read_misuse(run(song, *arguments))


def test_a_stream_that_breaks_off_is_a_warning(song: Path) -> None:
    result = run("-", "-o", "-", stdin=song.read_bytes()[:40_044])
    assert result.exit_code == 0
    assert result.stderr == "vocalsep: standard input: breaks off after 1.2 of 2.5 seconds\n"
    assert sound(result.stdout_bytes).shape == (2, 10_000)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", "standard input: is empty"), (b"words" * 99, "standard input: not an audio file")],
)
def test_input_that_is_not_sound_is_a_one_line_error_and_nothing_goes_out(content: bytes, expected: str) -> None:
    result = run("-", "-o", "-", stdin=content)
    assert (result.exit_code, result.stdout_bytes) == (1, b"")
    assert expected in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_clustering_net_warns_once_that_it_cannot_cluster_a_pipe(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vocalsep import nets

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nets.build("hdpcl", {"bands": 16, "units": 8, "layers": 1, "dimensions": 2})
    monkeypatch.setattr(weights, "load", lambda *_, **_options: fake_nets.make_model(net, fake_nets.SMALL))
    warning = f"vocalsep: {work.READ_ONCE}\n"
    result = run("-", "-o", "-", "--masks", "clusters", stdin=song.read_bytes())
    assert (result.exit_code, result.stderr) == (0, warning)
    own = run("-", "-o", "-", "--masks", "net", stdin=song.read_bytes())
    assert (own.stdout_bytes, own.stderr) == (result.stdout_bytes, "")


def test_files_beside_pipes_are_protected_too(song: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.wav"
    old.write_bytes(b"older")
    result = run("-", "-o", old, stdin=song.read_bytes())
    assert result.exit_code == 1
    assert f"{old}: already exists" in result.stderr
    result = run(song, "-o", "-", "--accompaniment", song)
    assert f"{song}: is one of the input songs" in result.stderr
    assert "unknown output format '.xyz'" in run("-", "-o", "v.xyz", stdin=song.read_bytes()).stderr
    assert old.read_bytes() == b"older"
    assert run("-", "-o", old, "--overwrite", "--format", "wav", stdin=song.read_bytes()).exit_code == 0
    assert soundfile.info(old).frames == 20_000


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-"], "where should the vocals go?"),
        (["-", "x.wav", "-o", "out"], "one song at a time"),
        (["-", "-o", "-", "--accompaniment", "-"], "cannot both go to standard output"),
        (["-", "-o", "-", "--accompaniment"], "need a path"),
        (["-", "-o", "-", "--labels"], "need a path"),
        (["-", "-o", "-", "--labels", "-"], "labels needs a file"),
        (["x.wav", "--labels", "-"], "labels needs a file"),
        (["-", "-o", "-", "--clip", "scale"], "scale needs the whole song"),
        (["-", "-o", "-", "--format", "flac"], "-o - (wav) and --format flac are different formats"),
        (
            ["-", "-o", "v.flac", "--accompaniment", "a.wav", "--format", "flac"],
            "a.wav and --format flac are different",
        ),
        (["-", "-o", "-", "--jobs", "2"], "pipes and --raw take one song at a time"),
        (["-", "-o", "-", "--from-file", "no.txt"], "pipes and --raw take one song at a time"),
        (["-", "-o", "v.wav", "--accompaniment", "./v.wav"], "written twice"),
        (["-", "-o", "-", "--raw", "44100,2"], "expected rate,channels,format"),
        (["x.wav", "y.wav", "-o", "out", "--raw", "44100,2,s16le"], "one song at a time"),
    ],
    ids=" ".join,
)
def test_calls_that_make_no_sense_are_misuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expected in read_misuse(run(*arguments))
    assert not list(tmp_path.iterdir())


# a pipe is an ordinary job


def test_a_pipe_reports_its_progress_as_json_lines(song: Path) -> None:
    result = run("-", "-o", "-", "--progress", "json", "--json", stdin=song.read_bytes())
    events = read_objects(result.stderr)
    assert (events[0]["event"], events[0]["songs"]) == ("start", 1)
    assert events[1] == {"event": "song", "song": "-", "index": 1, "of": 1, "seconds": None}
    assert {event["event"] for event in events[2:-2]} == {"progress"}
    assert (events[-2]["outcome"], events[-2]["report"]["outputs"]) == ("done", {"vocals": "-"})
    assert (events[-1]["event"], events[-1]["done"]) == ("end", 1)
    assert sound(result.stdout_bytes).shape == (2, 20_000)


def test_a_dry_run_reads_nothing_from_a_pipe(tmp_path: Path) -> None:
    out = tmp_path / "v.wav"
    assert run("-", "-o", out, "--dry-run").stdout == f"- -> {out}\n"
    plan = json.loads(run("-", "-o", "-", "--accompaniment", out, "--dry-run", "--json").stdout)
    assert plan == {"input": "-", "outputs": {"vocals": "-", "accompaniment": str(out)}, "skipped": False}
    assert not list(tmp_path.iterdir())


def test_an_output_of_a_pipe_that_exists_can_be_skipped(song: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.wav"
    old.write_bytes(b"older")
    result = run("-", "-o", old, "--skip-existing", stdin=song.read_bytes())
    assert (result.exit_code, result.stdout, result.stderr, old.read_bytes()) == (0, "", "", b"older")
    both = run("-", "-o", "-", "--accompaniment", old, "--skip-existing", stdin=song.read_bytes())
    assert both.exit_code == 0
    assert soundfile.info(old).frames == 20_000


def test_outputs_of_a_pipe_are_named_after_stdin(song: Path, tmp_path: Path) -> None:
    result = run("-", "-o", f"{tmp_path}/out/", "--accompaniment", stdin=song.read_bytes())
    assert result.stdout.splitlines() == [f"{tmp_path}/out/stdin.{stem}.wav" for stem in ("vocals", "accompaniment")]
    result = run("-", "-o", f"{tmp_path}/{{song}} {{stem}}.{{ext}}", "--format", "flac", stdin=song.read_bytes())
    assert result.stdout == f"{tmp_path}/stdin vocals.flac\n"


def test_raw_samples_of_a_file_go_beside_it_without_o(song: Path, tmp_path: Path) -> None:
    source = tmp_path / "music.raw"
    source.write_bytes(song.read_bytes()[44:])
    result = run(source, "--raw", "8000,2,s16le")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'music.vocals.wav'}\n")


def test_a_bug_keeps_its_traceback_and_sends_no_sound(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = fake_nets.make_model(fake_nets.FailingNet(ZeroDivisionError("a bug"), after=0), fake_nets.SMALL)
    monkeypatch.setattr(weights, "load", lambda *_, **_options: broken)
    result = run("-", "-o", "-", stdin=song.read_bytes())
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert result.stderr.endswith("vocalsep: standard input: ZeroDivisionError: a bug\n")


# as a process: real pipes


def test_it_ends_quietly_when_the_reader_has_gone(model: Path) -> None:
    command = process("-", "-o", "-", "-m", model, "--raw", "8000,1,s16le")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=make_environment(), **pipes) as running:  # type: ignore[call-overload]
        running.stdout.close()
        try:
            running.stdin.write((9_000 * fake_nets.noise(1, 400_000)).astype(np.int16).tobytes())
            running.stdin.close()
        except BrokenPipeError:
            pass
        said = running.stderr.read()
    assert (running.returncode, said) == (1, b"")


def test_vocals_come_out_before_the_song_has_ended(model: Path) -> None:
    command = process("-", "-o", "-", "-m", model, "--raw", "8000,1,s16le")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    second = (9_000 * fake_nets.noise(1, RATE)).astype(np.int16).tobytes()
    with subprocess.Popen(command, env=make_environment(), **pipes) as running:  # type: ignore[call-overload]
        for _ in range(4):
            running.stdin.write(second)
        running.stdin.flush()
        early = running.stdout.read(2 * len(second))  # would block forever if vocalsep waited for the end of the song
        running.stdin.write(second)
        running.stdin.close()
        rest, said = running.stdout.read(), running.stderr.read()
    assert (running.returncode, said) == (0, b"")
    assert len(early + rest) == 5 * len(second)
