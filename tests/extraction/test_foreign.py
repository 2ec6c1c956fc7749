from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import fake_nets
import foreign_graphs
import numpy as np
import onnxruntime
import pytest
import synthetic_songs
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from vocalsep import stft, weights
from vocalsep.errors import ConfigError, ModelError
from vocalsep.extraction import Extractor, extract
from vocalsep.extraction.foreign import pair_channels, unpair_channels
from vocalsep.interchange import mdx
from vocalsep.shapes import Waveform
from vocalsep.stft import Grid
from vocalsep.weights import AnyModel

RATE = 44_100


@pytest.fixture(scope="module", params=["mdx", "waveform"])
def mixing_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AnyModel:
    """A model whose vocals depend on each sample's surroundings and its place in the slice."""
    folder = tmp_path_factory.mktemp(request.param)
    write = foreign_graphs.write_mdx if request.param == "mdx" else foreign_graphs.write_waveform
    return weights.load(str(write(folder / "model.onnx", mixes=True)))


def make_song(channels: int, seconds: float, rate: int = RATE) -> Waveform:
    """Make a voice with backing, quantised to 16 bits, different in each channel."""
    sound = synthetic_songs.make_voice(1, seconds, rate) + sum(synthetic_songs.make_backing(1, seconds, rate).values())
    return fake_nets.quantise(0.2 * np.stack([np.roll(sound, 99 * channel) for channel in range(channels)]), 16)


# laws


@pytest.mark.parametrize("as_original", [False, True])
@settings(deadline=None, max_examples=4)
@given(
    sizes=st.lists(st.integers(0, 9_000), min_size=1, max_size=4).filter(lambda sizes: max(sizes) > 500),
    low_delay=st.booleans(),
)
def test_blocks_of_any_size_give_the_same_bits(
    mixing_model: AnyModel, as_original: bool, sizes: list[int], low_delay: bool
) -> None:
    extractor, mixture = Extractor(mixing_model, as_original=as_original), fake_nets.noise(2, 30_077, seed=3)
    whole = extractor(mixture, RATE)
    cut = fake_nets.separate_in_blocks(extractor.start(RATE, 2, low_delay=low_delay), mixture, sizes)
    assert np.array_equal(cut.vocals, whole.vocals)
    assert 0.01 < float(np.linalg.norm(whole.vocals) / np.linalg.norm(mixture)) < 0.99


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (48_000, 1), (8_000, 3), (96_000, 2)])
@pytest.mark.parametrize("samples", [1, 700, 6_000, 20_011])
def test_parts_add_up_and_have_the_songs_length(mixing_model: AnyModel, rate: int, channels: int, samples: int) -> None:
    mixture = fake_nets.quantise(fake_nets.noise(channels, samples), 24)
    parts = Extractor(mixing_model, workers=0)(mixture, rate)
    assert parts.vocals.shape == mixture.shape
    assert np.array_equal(parts.vocals + parts.accompaniment, mixture)
    assert np.isfinite(parts.vocals).all()


@pytest.mark.parametrize("as_original", [False, True])
def test_silence_gives_silence(mixing_model: AnyModel, as_original: bool) -> None:
    parts = Extractor(mixing_model, workers=0, as_original=as_original)(np.zeros((2, 30_000), np.float32), RATE)
    assert not parts.vocals.any()
    assert not parts.accompaniment.any()


def test_a_file_and_a_pipe_give_the_same_bytes_with_any_number_of_threads(
    tmp_path: Path, mixing_model: AnyModel
) -> None:
    song = synthetic_songs.write(tmp_path / "song.wav", make_song(2, 1.3, 48_000).T, 48_000)
    found = set()
    for workers in (0, 1, 3):
        extractor = Extractor(mixing_model, workers=workers, gate=True)
        for source in (song, io.BytesIO(song.read_bytes())):
            extract(source, tmp_path / "vocals.wav", accompaniment=tmp_path / "rest.wav", extractor=extractor)
            found.add((tmp_path / "vocals.wav").read_bytes() + (tmp_path / "rest.wav").read_bytes())
    assert len(found) == 1


def test_the_mixture_is_not_changed(mixing_model: AnyModel) -> None:
    mixture = fake_nets.noise(2, 20_000)
    before = mixture.copy()
    Extractor(mixing_model, workers=0)(mixture, RATE)
    assert np.array_equal(mixture, before)


# what comes out


@pytest.mark.parametrize("as_original", [False, True])
@pytest.mark.parametrize("n_fft", [4_096, 7_680])
def test_what_mdx_models_do_not_see_is_accompaniment(tmp_path: Path, as_original: bool, n_fft: int) -> None:
    model = weights.load(str(foreign_graphs.write_mdx(tmp_path / "m.onnx", gain=1, n_fft=n_fft)))
    inside = fake_nets.tone(1_000, RATE, 1.0, 2) + fake_nets.tone(3_000, RATE, 1.0, 2)
    above = fake_nets.tone(15_000, RATE, 1.0, 2)
    parts = Extractor(model, as_original=as_original)(inside + above, RATE)
    middle = slice(5_000, -5_000)
    assert fake_nets.snr_db(inside[:, middle], parts.vocals[:, middle]) > 60
    assert fake_nets.snr_db(above[:, middle], parts.accompaniment[:, middle]) > 60


@pytest.mark.parametrize("as_original", [False, True])
def test_vocals_remain_when_an_mdx_model_takes_the_instrumental_out(tmp_path: Path, as_original: bool) -> None:
    path = foreign_graphs.write_mdx(tmp_path / "m.onnx", gain=0.5, stem="Instrumental", compensate=1.2)
    mixture = fake_nets.tone(1_000, RATE, 1.0, 2)
    vocals = Extractor(weights.load(str(path)), as_original=as_original)(mixture, RATE).vocals
    assert fake_nets.snr_db(0.4 * mixture, vocals) > 50


@pytest.mark.parametrize(("as_original", "gain"), [(False, 0.6), (True, 0.5)])
def test_compensation_raises_the_vocals_except_as_in_the_original(
    tmp_path: Path, as_original: bool, gain: float
) -> None:
    model = weights.load(str(foreign_graphs.write_mdx(tmp_path / "m.onnx", gain=0.5, compensate=1.2)))
    mixture = fake_nets.tone(1_000, RATE, 1.0, 2)
    assert fake_nets.snr_db(gain * mixture, Extractor(model, as_original=as_original)(mixture, RATE).vocals) > 50


@pytest.mark.parametrize("as_original", [False, True])
@pytest.mark.parametrize("samples", [100, 6_000, 20_011])
def test_the_fourth_stem_of_a_waveform_model_is_the_vocals(tmp_path: Path, as_original: bool, samples: int) -> None:
    model = weights.load(str(foreign_graphs.write_waveform(tmp_path / "m.onnx", gain=0.7)))
    mixture = fake_nets.noise(2, samples)
    assert fake_nets.snr_db(0.7 * mixture, Extractor(model, as_original=as_original)(mixture, RATE).vocals) > 120


def test_vocals_come_out_at_the_songs_rate(tmp_path: Path) -> None:
    model = weights.load(str(foreign_graphs.write_waveform(tmp_path / "m.onnx", gain=0.7)))
    mixture = fake_nets.tone(440, 32_000, 1.0, 2)
    assert fake_nets.snr_db(0.7 * mixture, Extractor(model)(mixture, 32_000).vocals) > 50


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_channels_are_paired_and_unpaired(channels: int) -> None:
    values = fake_nets.noise(channels, 7)
    pairs = pair_channels(values)
    assert pairs.shape == (-(-channels // 2), 2, 7)
    assert np.array_equal(unpair_channels(pairs, channels), values)


def test_a_channel_without_partner_gets_the_mean_of_both_estimates() -> None:
    pairs = np.array([[[1.0], [2.0]], [[3.0], [5.0]]], np.float32)
    assert unpair_channels(pairs, 3).ravel().tolist() == [1, 2, 4]


def test_the_voice_is_found_without_a_spectrum(tmp_path: Path) -> None:
    model = weights.load(str(foreign_graphs.write_waveform(tmp_path / "m.onnx", gain=1.0)))
    mixture = fake_nets.noise(2, 4 * RATE)
    mixture[:, : 2 * RATE] = 0
    song = Extractor(model).start(RATE, 2)
    fake_nets.separate_in_blocks(song, mixture, [9_000])
    ((start, end),) = song.voice
    assert start == pytest.approx(2, abs=0.1)
    assert end == 4


def test_a_short_song_is_one_slice_of_its_own_spectrum(tmp_path: Path) -> None:
    path = foreign_graphs.write_mdx(tmp_path / "m.onnx", mixes=True)
    mixture = fake_nets.noise(2, (foreign_graphs.FRAMES - 1) * mdx.HOP)
    grid = Grid(rate=RATE, n_fft=foreign_graphs.N_FFT, hop=mdx.HOP)
    spectrum = stft.forward(mixture, grid)
    seen = np.stack([part for channel in spectrum for part in (channel.real, channel.imag)])[:, : foreign_graphs.ROWS]
    seen[:, :3] = 0
    (answer,) = onnxruntime.InferenceSession(path).run(None, {"input": seen[None]})
    whole = np.zeros_like(spectrum)
    whole[:, : foreign_graphs.ROWS] = answer[0, 0::2] + 1j * answer[0, 1::2]
    expected = stft.inverse(whole, grid, mixture.shape[-1])
    found = Extractor(weights.load(str(path)), workers=0)(mixture, RATE).vocals
    assert fake_nets.snr_db(expected, found) > 100


# memory


def test_memory_does_not_grow_with_the_song(mixing_model: AnyModel) -> None:
    song = Extractor(mixing_model, workers=0).start(48_000, 2)
    block, missing, pushed, got = fake_nets.noise(2, 24_000), [], 0, 0
    for _ in range(20):
        got += song.push(block).vocals.shape[-1]
        pushed += block.shape[-1]
        missing.append(pushed - got)
    assert got + song.finish().vocals.shape[-1] == pushed
    assert max(missing[10:]) <= max(missing[:10]) < 48_000


def test_a_graph_that_takes_more_memory_than_any_known_is_stopped(tmp_path: Path) -> None:
    doubles = [helper.make_node("Concat", [f"x{i}", f"x{i}"], [f"x{i + 1}"], axis=0) for i in range(16)]
    nodes = [
        helper.make_node("Identity", ["input"], ["x0"]),
        *doubles,
        helper.make_node("ReduceMax", ["x16"], ["most"], keepdims=0),
        helper.make_node("Add", ["input", "most"], ["output"]),
    ]
    path = foreign_graphs.write_mdx(tmp_path / "m.onnx")
    shape = ["batch", 4, foreign_graphs.ROWS, foreign_graphs.FRAMES]
    foreign_graphs.write_model(path, nodes, (shape, shape))  # 16 GiB
    model = weights.load(str(path), data="n_fft=4096,primary_stem=vocals")
    with pytest.raises(ModelError, match=r"needs more than \d+ MiB of memory"):
        Extractor(model, workers=0)(fake_nets.noise(2, 30_000), RATE)


# errors


def test_nan_from_a_graph_is_an_error(tmp_path: Path) -> None:
    model = weights.load(str(foreign_graphs.write_waveform(tmp_path / "m.onnx", gain=float("nan"))))
    with pytest.raises(ModelError, match="NaN or infinity"):
        Extractor(model).extract(fake_nets.noise(2, 20_000), RATE)


def test_an_output_of_another_shape_is_an_error(tmp_path: Path) -> None:
    path = foreign_graphs.write_waveform(tmp_path / "m.onnx")

    def forget_shape(model: Any) -> None:
        model.graph.output[0].type.tensor_type.ClearField("shape")

    foreign_graphs.change(path, forget_shape)
    path.with_suffix(".toml").write_text('stems = ["bass", "vocals"]')
    with pytest.raises(ModelError, match=r"model m: gives an output of shape \(1, 4, 2, 6000\); expected"):
        Extractor(weights.load(str(path)))(fake_nets.noise(2, 20_000), RATE)


def test_models_of_other_programs_neither_cluster_nor_run_on_cuda(mixing_model: AnyModel) -> None:
    with pytest.raises(ConfigError, match="does not cluster"):
        Extractor(mixing_model, masks_from="clusters")
    with pytest.raises(ConfigError, match="run on the CPU"):
        Extractor(mixing_model, device="cuda")


def test_a_file_that_disappears_is_an_error(tmp_path: Path) -> None:
    path = foreign_graphs.write_waveform(tmp_path / "m.onnx")
    model = weights.load(str(path))
    shutil.move(path, tmp_path / "other.onnx")
    with pytest.raises(ModelError, match="cannot load it"):
        Extractor(model)
