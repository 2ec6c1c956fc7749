"""The window that slides over a song keeps the laws of the offline engine, a fraction of a second behind the song."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import fake_nets
import foreign_graphs
import held_bytes
import numpy as np
import pytest
import synthetic_songs
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep import extraction, weights
from vocalsep.errors import ConfigError
from vocalsep.extraction import Extractor
from vocalsep.extraction.sliding import choose_latency, choose_pace
from vocalsep.features import MFCC, FrontEnd, Linear, LogMel
from vocalsep.latency import LATENCIES as LATENCIES_TO_CHOOSE_FROM
from vocalsep.shapes import Features, Mask
from vocalsep.weights import Model

LATENCIES = st.sampled_from([0.1, 0.15, 0.3, 1.0, 3.0])
RATES = st.sampled_from([8_000, 11_025, 16_000, 44_100, 48_000])


@pytest.fixture(scope="module", params=["unet", "uhnet-hd"])
def random_model(request: pytest.FixtureRequest) -> Model:
    return fake_nets.random_unet() if request.param == "unet" else fake_nets.random_uhnet()


def measure_lag(extractor: Extractor, rate: int, channels: int, size: int, seconds: float = 3.0) -> float:
    """Return the most seconds that a sample waited for its vocals, if computing took no time."""
    separator, pushed, got, waited = extractor.start(rate, channels, low_delay=True), 0, 0, 0
    for block in fake_nets.split_in_blocks(fake_nets.noise(channels, round(seconds * rate)), [size]):
        pushed += block.shape[-1]
        waited = max(waited, pushed - got)
        got += separator.push(block).vocals.shape[-1]
    return waited / rate


# the laws


@settings(deadline=None, max_examples=25)
@given(rate=RATES, channels=st.integers(1, 3), samples=st.integers(1, 40_000), latency=LATENCIES, whole=st.booleans())
def test_a_mask_of_1_gives_the_song_and_of_0_silence(
    rate: int, channels: int, samples: int, latency: float, whole: bool
) -> None:
    mixture = fake_nets.noise(channels, samples)
    parts = Extractor(fake_nets.constant(float(whole), fake_nets.SMALL), workers=0, latency=latency)(mixture, rate)
    assert parts.vocals.shape == mixture.shape
    np.testing.assert_allclose(parts.vocals, mixture if whole else 0 * mixture, rtol=0, atol=2e-6)
    assert whole or not parts.vocals.any()


@settings(deadline=None, max_examples=15)
@given(rate=RATES, channels=st.integers(1, 3), samples=st.integers(1, 30_000), latency=LATENCIES)
def test_vocals_and_accompaniment_add_up_bit_for_bit(
    random_model: Model, rate: int, channels: int, samples: int, latency: float
) -> None:
    mixture = fake_nets.quantise(fake_nets.noise(channels, samples, level=0.3), 16)
    parts = Extractor(random_model, workers=0, latency=latency)(mixture, rate)
    assert np.array_equal(parts.vocals + parts.accompaniment, mixture)
    assert np.isfinite(parts.vocals).all()


@pytest.mark.parametrize("rate", [8_000, 22_050])
@settings(deadline=None, max_examples=4)
@given(
    sizes=st.lists(st.integers(0, 5_000), min_size=1, max_size=5).filter(lambda sizes: max(sizes) > 50),
    low_delay=st.booleans(),
    latency=LATENCIES,
)
def test_blocks_of_any_size_give_the_same_bits(
    random_model: Model, rate: int, sizes: list[int], low_delay: bool, latency: float
) -> None:
    mixture = fake_nets.noise(2, rate + 77, seed=3)
    extractor = Extractor(random_model, workers=2, latency=latency)
    cut = fake_nets.separate_in_blocks(extractor.start(rate, 2, low_delay=low_delay), mixture, sizes)
    assert np.array_equal(cut.vocals, Extractor(random_model, workers=0, latency=latency)(mixture, rate).vocals)


def test_a_file_and_a_pipe_give_the_same_bytes(random_model: Model, tmp_path: Path) -> None:
    song = synthetic_songs.write(tmp_path / "song.wav", fake_nets.noise(2, 30_001, level=0.1).T, 22_050)
    extractor, found = Extractor(random_model, latency=0.2), set()
    for source in (song, io.BytesIO(song.read_bytes())):
        extraction.extract(source, tmp_path / "vocals.wav", extractor=extractor)
        found.add((tmp_path / "vocals.wav").read_bytes())
    assert len(found) == 1


def test_silence_stays_silent(random_model: Model) -> None:
    parts = Extractor(random_model, workers=0, latency=0.2)(np.zeros((2, 9_000), np.float32), 8_000)
    assert not parts.vocals.any()
    assert not parts.accompaniment.any()


# the delay


@pytest.mark.parametrize("front_end", [fake_nets.PAPER, Linear(), MFCC()], ids=lambda f: f.kind)
@pytest.mark.parametrize("latency", [0.1, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("frame_step", [None, 1, 16])
def test_a_step_the_future_and_the_time_to_compute_fill_the_latency(
    front_end: FrontEnd, latency: float, rate: int, frame_step: int | None
) -> None:
    pace = choose_pace(front_end, rate, latency, frame_step)
    assert pace.latency_seconds <= latency + 1e-9
    assert pace.latency_seconds > latency - 0.01 or latency > 0.5  # with more, chunks decide
    assert 0.02 < pace.compute_seconds <= pace.step_seconds
    assert pace.step % pace.grid.hop == 0
    frame_seconds = front_end.grid.frame_seconds
    assert (pace.step + pace.future + pace.grid.n_fft / 2) / rate <= pace.frames * frame_seconds
    if frame_step is None:
        assert pace.frames == front_end.frames
    else:
        past = pace.frames * frame_seconds - (pace.step + pace.future) / rate
        assert pace.frames % frame_step == 0
        assert past >= 1.2 or pace.frames == front_end.frames
        assert past < 1.2 + (frame_step + 1) * frame_seconds  # no more than is needed


@pytest.mark.parametrize("rate", [8_000, 44_100])
@pytest.mark.parametrize("latency", [0.1, 0.3, 1.0])
def test_no_sample_waits_longer_than_the_latency(random_model: Model, rate: int, latency: float) -> None:
    extractor = Extractor(random_model, workers=2, latency=latency)
    (pace,) = extractor.find_paces(rate)
    lag = measure_lag(extractor, rate, 2, size=rate // 100)
    assert lag <= (pace.step + pace.future) / rate + 0.01  # a block of 10 ms
    assert lag + pace.compute_seconds <= latency + 0.01


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("latency", [0.15, 0.3])
def test_a_mean_waits_for_the_slowest_of_its_nets(rate: int, latency: float) -> None:
    """Their steps differ, because they have different grids."""
    models = [fake_nets.constant(0.3, fake_nets.PAPER), fake_nets.constant(0.5, Linear())]
    extractor = Extractor(models, workers=0, latency=latency)
    paces = extractor.find_paces(rate)
    assert len({pace.step for pace in paces}) == 2
    lag = measure_lag(extractor, rate, 2, size=rate // 100)
    assert max((pace.step + pace.future) / rate for pace in paces) - 0.02 < lag
    assert lag + max(pace.compute_seconds for pace in paces) <= latency + 0.01
    mixture = fake_nets.noise(2, rate)
    np.testing.assert_allclose(extractor(mixture, rate).vocals, 0.4 * mixture, rtol=0, atol=2e-6)


def test_a_mean_can_be_warmed_up_and_its_latency_measured() -> None:
    models = [fake_nets.constant(0.3, fake_nets.PAPER), fake_nets.constant(0.5, Linear())]
    extractor = Extractor(models, workers=0, latency="auto")
    assert extractor.latency in LATENCIES_TO_CHOOSE_FROM
    extractor.warm_up(44_100, 2)
    with pytest.raises(ConfigError, match="with a latency"):
        Extractor(models, workers=0).warm_up(44_100, 2)


def test_the_time_that_all_nets_of_a_mean_take_decides_what_a_machine_can_hold() -> None:
    choose = functools.partial(choose_pace, Linear(), 44_100, frame_step=16)
    frames = choose(latency_seconds=0.3).frames
    alone = choose(latency_seconds=0.3).compute_seconds / frames / 1.3

    def find(*seconds: float) -> float:
        return choose_latency([(lambda latency: choose(latency_seconds=latency), each) for each in seconds])

    assert find(alone) <= 0.3
    assert find(alone / 2, alone / 2) == find(alone)
    assert find(alone, alone) > find(alone)
    assert find(10.0) == 3.0


def test_the_net_sees_no_more_frames_than_it_needs() -> None:
    seen = set()

    class Spy(fake_nets.ConstantNet):
        def __init__(self, frame_step: int | None) -> None:
            super().__init__(1.0)
            self.step = frame_step

        @property
        def frame_step(self) -> int | None:
            return self.step

        def forward(self, features: Features) -> Mask:
            seen.add(features.shape[-1])
            return super().forward(features)

    for frame_step, frames in ((None, 128), (16, 64)):
        model = fake_nets.make_model(Spy(frame_step), Linear())
        Extractor(model, workers=0, latency=0.3)(fake_nets.noise(2, 44_100), 44_100)
        assert seen == {frames}
        seen.clear()


class Newest(fake_nets.ConstantNet):
    """Returns 1 in the last frames of a chunk, else 0."""

    def __init__(self, frames: int) -> None:
        super().__init__(1.0)
        self.frames = frames

    def forward(self, features: Features) -> Mask:
        mask = super().forward(features).clone()
        mask[..., : -self.frames] = 0
        return mask


def test_vocals_come_from_frames_with_the_future_that_the_pace_promises() -> None:
    pace = choose_pace(fake_nets.SMALL, 8_000, 0.2, None)
    lookahead = pace.future // pace.grid.hop - pace.grid.parts // 2 - 1
    assert lookahead > 3
    mixture = fake_nets.noise(1, 16_000)
    for frames, heard in ((lookahead - 1, False), (lookahead + pace.step // pace.grid.hop + pace.grid.parts + 3, True)):
        model = fake_nets.make_model(Newest(frames), fake_nets.SMALL)
        vocals = Extractor(model, workers=0, latency=0.2)(mixture, 8_000).vocals
        middle = np.abs(vocals[:, 4_000:12_000])
        assert (middle.max() > 1e-6) == heard


def test_steps_leave_no_seams() -> None:
    """A tone through masks that change from step to step has no clicks: nothing far away from its own frequency."""

    class Jumping(fake_nets.ConstantNet):
        def forward(self, features: Features) -> Mask:
            level = features[..., -1].mean(dim=(-1, -2), keepdim=True)[..., None]
            return super().forward(features) * (level * 7).sin().abs()

    rate = 8_000
    tone = fake_nets.tone(1_000, rate, 3) * (1 + 0.5 * fake_nets.tone(3, rate, 3))
    vocals = Extractor(fake_nets.make_model(Jumping(1.0), fake_nets.SMALL), workers=0, latency=0.15)(tone, rate).vocals
    spectrum = np.abs(np.fft.rfft(vocals[0, rate:-rate] * np.hanning(rate)))
    far = np.delete(spectrum, slice(700, 1_300))
    assert spectrum[900:1_100].max() > 30
    assert far.max() < 1e-3 * spectrum.max()


# memory


@pytest.mark.parametrize("rate", [8_000, 11_025])
def test_memory_does_not_grow_with_the_song(rate: int) -> None:
    coarse = LogMel(rate=4_000, n_fft=128, hop=64, bands=8, frames=32)
    song = Extractor(fake_nets.constant(0.5, coarse), workers=0, latency=1.0).start(rate, 1)
    held, missing = held_bytes.push_repeatedly(song, rate, 30, fake_nets.noise(1, rate))
    assert max(held[15:]) < 1.2 * max(held[:15])
    assert max(held) < 1e6
    assert max(missing) <= rate


# what it refuses


@pytest.mark.parametrize(
    "options",
    [{"inversion": "griffin-lim"}, {"masks_from": "clusters"}, {"as_original": True}, {"gate": True}],
    ids=str,
)
def test_what_needs_more_of_the_song_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="cannot be combined"):
        Extractor(fake_nets.constant(1.0), latency=0.3, **options)


@pytest.mark.parametrize("latency", [0.05, 3.5, float("nan")])
def test_latencies_out_of_range_are_refused(latency: float) -> None:
    with pytest.raises(ConfigError, match=r"expected 0.1 to 3 seconds"):
        Extractor(fake_nets.constant(1.0), latency=latency)


def test_a_latency_needs_models_of_our_own(tmp_path: Path) -> None:
    foreign = weights.load(str(foreign_graphs.write_waveform(tmp_path / "net.onnx")))
    for model in (foreign, [fake_nets.constant(1.0), foreign]):
        with pytest.raises(ConfigError, match="needs vocalsep's own models"):
            Extractor(model, latency=0.3)


def test_chunks_and_frames_have_to_be_short_and_long_enough() -> None:
    with pytest.raises(ConfigError, match="too short for this model's frames"):
        choose_pace(LogMel(rate=8_000, n_fft=4_096, hop=2_048), 8_000, 0.1, None)
    with pytest.raises(ConfigError, match="chunks of 4 frames are too short"):
        choose_pace(LogMel(rate=8_000, n_fft=256, hop=64, frames=4), 8_000, 0.3, None)
