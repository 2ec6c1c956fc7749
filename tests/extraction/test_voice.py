from __future__ import annotations

import itertools
from typing import Any

import fake_nets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vocalsep.extraction import Extractor
from vocalsep.extraction import voice as voice_module
from vocalsep.extraction.voice import DELAY_SECONDS, OFF_DB, ON_DB, Gate, Segment, VoiceDetector
from vocalsep.shapes import Array, Waveform

STEP = 0.01
RATE = 8_000


def levels(*parts: tuple[float, float]) -> Array:
    """Return levels in dB, frame by frame, from pairs of (seconds, dB)."""
    return np.concatenate([np.full(round(seconds / STEP), level, np.float32) for seconds, level in parts])


def detect(level: Array, sizes: list[int] | None = None, whole: Array | None = None) -> VoiceDetector:
    """Run a detector over frames of these levels."""
    whole = np.ones(len(level), np.float32) if whole is None else whole
    found, voice = VoiceDetector(STEP), 10 ** (level / 10) * whole
    for cut in zip(
        fake_nets.split_in_blocks(voice, sizes or [len(level)]),
        fake_nets.split_in_blocks(whole, sizes or [len(level)]),
        strict=True,
    ):
        found.push(*cut)
    found.finish((len(level) - 1) * STEP)  # the last frame is at the end
    return found


def find_segments(*parts: tuple[float, float]) -> list[Segment]:
    return detect(levels(*parts)).segments


def near(*segments: Segment) -> Any:
    return [pytest.approx(segment, abs=0.06) for segment in segments]


LOW = -40.0

# segments


def test_segments_are_where_the_voice_is() -> None:
    assert find_segments((2, LOW), (3, -3), (2, LOW)) == near((2, 5))
    assert find_segments((2, LOW), (1, -3), (2, LOW), (1, -3)) == near((2, 3), (5, 6))


def test_a_voice_throughout_is_one_segment_and_no_voice_is_no_segment() -> None:
    assert find_segments((4.01, ON_DB + 0.1)) == [(0, 4)]
    assert find_segments((4, ON_DB - 0.1)) == []
    assert find_segments((4, LOW)) == []


def test_a_pause_ends_a_segment_and_a_breath_does_not() -> None:
    assert find_segments((1, LOW), (1, 0), (0.2, LOW), (1, 0)) == near((1, 3.2))
    assert len(find_segments((1, 0), (0.5, LOW), (1, 0))) == 2


def test_segments_shorter_than_a_syllable_are_dropped() -> None:
    assert find_segments((1, LOW), (0.08, 0), (1, LOW)) == []
    assert len(find_segments((1, LOW), (0.3, 0), (1, LOW))) == 1
    # two with a breath between them are one
    assert find_segments((1, LOW), (0.08, 0), (0.2, LOW), (0.08, 0), (1, LOW)) == near((1, 1.36))


def test_between_both_thresholds_a_segment_continues_but_does_not_start() -> None:
    between = (2 * ON_DB + OFF_DB) / 3
    assert find_segments((2, LOW), (1, 0), (4, between), (2, LOW)) == near((2, 7))
    assert find_segments((2, LOW), (4, between), (2, LOW)) == []
    assert find_segments((2, LOW), (0.2, between), (1, 0), (1, LOW)) == near((2, 3.2))
    assert find_segments((2, LOW), (2, between), (1, 0), (1, LOW)) == near((3.7, 5))  # it starts at most 0.3 s early


def test_a_flickering_level_is_averaged() -> None:
    flicker = levels((4, LOW))
    flicker[100:300] = np.where(np.arange(200) % 4 < 3, 0.0, LOW)
    assert detect(flicker).segments == near((1, 3))


def test_silence_is_no_voice_whatever_the_mask() -> None:
    whole = np.ones(600, np.float32)
    whole[200:400] = 1e-7  # 70 dB below
    assert detect(levels((6, 0)), whole=whole).segments == near((0, 2), (4, 6))
    assert detect(levels((6, 0)), whole=0 * whole).segments == []
    assert detect(levels((6, 0)), whole=1e-9 * np.ones(600, np.float32)).segments == near(
        (0, 6)
    )  # a quiet song is not silent


def test_nan_is_no_voice() -> None:
    bad = levels((3, 0))
    bad[100:200] = np.nan
    assert detect(bad).segments == near((0, 1), (2, 3))


# streaming


PARTS = st.lists(st.tuples(st.floats(0.01, 1.5), st.sampled_from([LOW, -14.0, -11.0, 0.0])), min_size=1, max_size=12)


@settings(deadline=None, max_examples=60)
@given(parts=PARTS, sizes=st.lists(st.integers(1, 200), min_size=1, max_size=4))
def test_segments_do_not_depend_on_how_frames_are_cut(parts: list[tuple[float, float]], sizes: list[int]) -> None:
    level = levels(*parts)
    assert detect(level, sizes).segments == detect(level).segments


@settings(deadline=None, max_examples=60)
@given(parts=PARTS)
def test_segments_are_ordered_separate_and_long_enough(parts: list[tuple[float, float]]) -> None:
    segments = find_segments(*parts)
    length = sum(len(levels(part)) for part in parts) * STEP
    for start, end in segments:
        assert 0 <= start < end <= length + 1e-9
    for (_, end), (start, _) in itertools.pairwise(segments):
        assert start - end >= voice_module._BREATH_SECONDS - STEP
    for start, end in segments[:-1]:
        assert end - start >= voice_module._SYLLABLE_SECONDS - STEP


@settings(deadline=None, max_examples=12)
@given(parts=PARTS)
def test_decisions_are_final_and_come_in_time(parts: list[tuple[float, float]]) -> None:
    level = levels(*parts)
    whole, now = detect(level).segments, VoiceDetector(STEP)
    for frame in range(len(level)):
        now.push(10 ** (level[frame : frame + 1] / 10), np.ones(1))
        assert frame * STEP - now.decided_seconds <= DELAY_SECONDS + 3 * STEP
        decided = now.decided_seconds
        early = [(start, min(end, decided)) for start, end in whole if start < decided - 1e-9]
        listed = [
            (start, min(end, decided)) for start, end in reversed(now.list_segments_after(-1)) if start < decided - 1e-9
        ]
        assert listed == [pytest.approx(segment) for segment in early]


def test_only_segments_take_memory() -> None:
    quiet = VoiceDetector(STEP)
    for _ in range(3_000):
        quiet.push(np.full(100, 1e-5), np.ones(100))
    assert quiet.segments == []
    assert quiet._levels is not None
    assert quiet._levels.base is None
    assert quiet._levels.nbytes < 3_000
    assert all(not isinstance(value, list) or len(value) < 3 for value in vars(quiet).values())


# gate


def run_gate(level: Array, samples: Waveform, sizes: list[int]) -> Waveform:
    """Return samples behind a gate whose detector gets the levels as the sound goes by."""
    detector = VoiceDetector(STEP)
    gate, frames, out = Gate(RATE, detector), 0, []
    for block in fake_nets.split_in_blocks(samples, sizes):
        ready = min(len(level), frames + int(block.shape[-1] / RATE / STEP) + 1)
        detector.push(10 ** (level[frames:ready] / 10), np.ones(ready - frames))
        frames = ready
        out.append(gate.push(block))
    detector.push(10 ** (level[frames:] / 10), np.ones(len(level) - frames))
    detector.finish(samples.shape[-1] / RATE)
    out.append(gate.push(samples[:, :0]))
    return np.concatenate(out, axis=-1)


def test_the_gate_is_open_where_somebody_sings_and_closed_elsewhere() -> None:
    level = levels((2, LOW), (2, 0), (2, LOW))
    out = run_gate(level, np.ones((2, 6 * RATE), np.float32), [4_000])
    (start, end), *more = detect(level).segments
    assert not more
    assert out.shape == (2, 6 * RATE)
    assert (out[:, round(start * RATE) : round(end * RATE)] == 1).all()
    assert (out[:, round((start - 0.05) * RATE) : round(start * RATE)] == 1).all()  # onsets
    assert not out[:, : round((start - 0.11) * RATE)].any()
    assert not out[:, round((end + 0.11) * RATE) :].any()
    assert float(np.abs(np.diff(out)).max()) < 1.1 * np.pi / 2 / (0.04 * RATE)  # no click
    assert out.min() >= 0
    assert out.max() <= 1


@settings(deadline=None, max_examples=30)
@given(parts=PARTS, sizes=st.lists(st.integers(0, 9_000), min_size=1, max_size=4).filter(lambda sizes: max(sizes) > 99))
def test_gated_samples_do_not_depend_on_how_the_song_is_cut(parts: list[tuple[float, float]], sizes: list[int]) -> None:
    level = levels(*parts)
    samples = fake_nets.noise(1, round(len(level) * STEP * RATE))
    once, cut = run_gate(level, samples, [samples.shape[-1]]), run_gate(level, samples, sizes)
    assert once.shape == cut.shape == samples.shape
    np.testing.assert_allclose(once, cut, rtol=0, atol=1e-6)


def song_with_voice(rate: int) -> Waveform:
    """Return a high tone throughout, and low ones from second 3 to 5 and 8 to 9, a voice to `LowBandNet`."""
    mixture = 0.01 * fake_nets.tone(3_500, rate, 12.0, channels=2)
    for start, end in ((3, 5), (8, 9)):
        mixture[:, start * rate : end * rate] += fake_nets.tone(500, rate, 1.0 * (end - start))
    return mixture


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_a_songs_segments_are_those_of_its_mask(rate: int) -> None:
    song = Extractor(fake_nets.make_model(fake_nets.LowBandNet(), fake_nets.SMALL)).start(rate, 2)
    fake_nets.separate_in_blocks(song, song_with_voice(rate), [5_000])
    assert song.voice == near((3, 5), (8, 9))
    assert song.voice_share == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("inversion", ["phase", "griffin-lim"])
@pytest.mark.parametrize("rate", [8_000, 11_025])
def test_gated_vocals_are_silent_between_segments_and_the_rest_is_accompaniment(rate: int, inversion: str) -> None:
    mixture = 0.1 * fake_nets.tone(3_500, rate, 6.0, channels=2)
    mixture[:, 2 * rate : 4 * rate] += fake_nets.tone(500, rate, 2.0)

    class LeakyNet(fake_nets.LowBandNet):
        def forward(self, features: Tensor) -> Tensor:
            return super().forward(features).clamp_min(0.05)

    model = fake_nets.make_model(LeakyNet(), fake_nets.SMALL)
    plain, closed = (Extractor(model, inversion=inversion, gate=gate)(mixture, rate) for gate in (False, True))
    inside, outside = slice(round(2.1 * rate), round(3.9 * rate)), slice(round(4.3 * rate), None)
    np.testing.assert_allclose(closed.vocals[:, inside], plain.vocals[:, inside], rtol=0, atol=1e-6)
    assert float(np.abs(plain.vocals[:, outside]).max()) > 1e-3
    assert not closed.vocals[:, outside].any()
    assert not closed.vocals[:, : round(1.7 * rate)].any()
    np.testing.assert_allclose(closed.vocals + closed.accompaniment, mixture, rtol=0, atol=1e-7)


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_gated_vocals_do_not_depend_on_how_the_song_is_cut(rate: int) -> None:
    extractor, mixture = (
        Extractor(fake_nets.make_model(fake_nets.LowBandNet(), fake_nets.SMALL), gate=True),
        song_with_voice(rate),
    )
    whole = extractor(mixture, rate)
    cut = fake_nets.separate_in_blocks(extractor.start(rate, 2), mixture, [700, 0, 9_001])
    assert whole.vocals.any()
    assert fake_nets.snr_db(whole.vocals, cut.vocals) >= 60
