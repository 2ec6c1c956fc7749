from __future__ import annotations

import json
import sys
from pathlib import Path

import fake_nets
import foreign_graphs
import numpy as np
import pytest
import soundfile
import synthetic_songs
from command_line import list_files, read_error, read_misuse, read_objects, run, run_python

from vocalsep import means

RATE = 44_100


@pytest.fixture
def song(tmp_path: Path) -> Path:
    """A song of half a second."""
    return synthetic_songs.write(tmp_path / "song.wav", fake_nets.noise(2, RATE // 2).T, RATE)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two models: their vocals are 0.2 and 0.6 times the song."""
    return (
        foreign_graphs.write_waveform(tmp_path / "quiet.onnx", gain=0.2),
        foreign_graphs.write_waveform(tmp_path / "loud.onnx", gain=0.6),
    )


def measure_gain(song: Path, vocals: Path) -> float:
    mixture, found = (soundfile.read(path)[0] for path in (song, vocals))
    return float(np.sum(mixture * found) / np.sum(mixture * mixture))


@pytest.mark.parametrize(("weights", "gain"), [([], 0.4), (["--weights", "1,3"], 0.5)])
def test_several_models_are_averaged(
    song: Path, pair: tuple[Path, Path], tmp_path: Path, weights: list[str], gain: float
) -> None:
    out = tmp_path / "out" / "{model}.wav"
    result = run("extract", song, "-m", pair[0], "-m", pair[1], *weights, "-o", out, "--json")
    assert result.exit_code == 0
    (report,) = read_objects(result.stdout)
    assert report["model"] == "quiet+loud"
    assert list_files(tmp_path / "out") == ["quiet+loud.wav"]
    assert measure_gain(song, tmp_path / "out" / "quiet+loud.wav") == pytest.approx(gain, abs=0.001)


def test_a_mean_with_a_name_is_a_model(song: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
    means.write(tmp_path / "best.toml", means.Settings(models=tuple(map(str, pair)), weights=(3, 1)))
    result = run("extract", song, "-m", tmp_path / "best.toml", "-o", tmp_path / "{model}.wav")
    assert result.exit_code == 0
    assert measure_gain(song, tmp_path / "best.wav") == pytest.approx(0.3, abs=0.001)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-m", "unet", "-m", "unet"], "named twice"),
        (["-m", "unet", "-m", "uhnet", "--weights", "1"], "1 weights for 2 models"),
        (["-m", "unet", "-m", "uhnet", "--weights", "1,x"], "--weights 1,x"),
        (["-m", "unet", "-m", "uhnet", "--weights", "1,-1"], "expected numbers above 0"),
        (["-m", "unet", "--weights", "1"], "give several models"),
    ],
)
def test_wrong_weights_are_misuse(song: Path, options: list[str], message: str) -> None:
    result = run("extract", song, *options)
    assert message in read_misuse(result)
    assert list_files(song.parent) == ["song.wav"]


def test_parameters_of_a_model_can_be_given(song: Path, tmp_path: Path) -> None:
    path = foreign_graphs.write_mdx(tmp_path / "m.onnx", gain=0.5)
    data = (tmp_path / "mdx_model_data.json").rename(tmp_path / "elsewhere.json")
    refused = run("extract", song, "-m", path)
    assert "n_fft and primary_stem are not known" in read_error(refused)
    for given in (data, "n_fft=4096,primary_stem=vocals"):
        result = run("extract", song, "-m", path, "--model-data", given, "--overwrite", "-q")
        assert (result.exit_code, result.stderr) == (0, "")


def test_songs_can_be_cut_as_the_original_program_does(song: Path, tmp_path: Path) -> None:
    path = foreign_graphs.write_waveform(tmp_path / "m.onnx", mixes=True)
    for name, options in (("ours", []), ("theirs", ["--as-original"])):
        assert run("extract", song, "-m", path, "-o", tmp_path / f"{name}.wav", *options).exit_code == 0
    ours, theirs = (soundfile.read(tmp_path / f"{name}.wav")[0] for name in ("ours", "theirs"))
    assert 5 < fake_nets.snr_db(ours, theirs) < 90


@pytest.mark.parametrize("content", [b"", b"<html>", "truncated"])
def test_a_damaged_model_is_one_line(song: Path, tmp_path: Path, content: bytes | str) -> None:
    path = foreign_graphs.write_waveform(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:-20] if isinstance(content, str) else content)
    result = run("extract", song, "-m", path)
    assert result.exit_code == 1
    assert "is damaged, or not an ONNX model" in read_error(result)
    assert not (tmp_path / "song.vocals.wav").exists()


@pytest.mark.slow
def test_means_are_scored(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    track = tmp_path / "tracks" / "one"
    for name, seed in (("vocals", 0), ("accompaniment", 1)):
        synthetic_songs.write(track / f"{name}.wav", fake_nets.noise(2, RATE, seed).T, RATE)
    command = ["eval", "--dataset", "stems", "--root", tmp_path / "tracks", "-m", f"{pair[0]}+{pair[1]}"]
    result = run(*command, "-m", pair[0], "--out", tmp_path / "scores", "--jobs", "1", "--json")
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in (tmp_path / "scores" / "tracks.jsonl").read_text().splitlines()]
    rows = [line["row"] for line in lines]
    assert rows == ["mixture", "quiet+loud", "quiet", "IBM, linear", "IRM, linear"]
    assert len({line["fingerprint"] for line in lines}) == len(rows)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.slow
def test_a_hostile_model_takes_less_than_a_gigabyte(song: Path, tmp_path: Path) -> None:
    from onnx import helper

    doubles = [helper.make_node("Concat", [f"x{i}", f"x{i}"], [f"x{i + 1}"], axis=0) for i in range(40)]
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["x0"]),
        *doubles,
        helper.make_node("ReduceMax", ["x40"], ["most"], keepdims=0),
        helper.make_node("Add", ["input", "most"], ["output"]),
    ]
    shape = ["batch", 4, foreign_graphs.ROWS, foreign_graphs.FRAMES]
    tensors = {"shape": np.array([2**20], np.int64)}
    path = foreign_graphs.write_model(tmp_path / "m.onnx", nodes, (shape, shape), tensors=tensors)
    result = run_python(
        "-c",
        "import sys; from vocalsep.cli import main; from vocalsep.extraction import measure_peak_memory_mb as measure\n"
        "try: main()\n"
        "finally: print(measure(), file=sys.stderr)",
        "extract", song, "-m", path, "--model-data", "n_fft=4096,primary_stem=vocals",
    )  # fmt: skip
    *_, message, peak = result.stderr.splitlines()
    assert "needs more than" in message
    assert float(peak) < 1_000
