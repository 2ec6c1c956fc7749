from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep.training.excerpts import studio
from vocalsep.training.excerpts.augment import AugmentOptions

RATE = 16_000
OFF = AugmentOptions()
ALL = AugmentOptions(compressor=0.7, double=0.7, echo=0.7, reverb=0.7)


def noise(seed: int, samples: int = 16_000, channels: int = 2) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal((channels, samples))).astype(np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.square(samples).mean()))


def make_click(samples: int, at: int = 1_000) -> np.ndarray:
    made = np.zeros((2, samples), np.float32)
    made[0, at] = 1
    return made


def test_by_default_nothing_changes_and_no_random_number_is_drawn() -> None:
    voice, source = noise(1), rng()
    assert studio.produce(voice, RATE, source, OFF) is voice
    assert source.random() == rng().random()


@pytest.mark.parametrize("change", ["compressor", "double", "echo", "reverb"])
def test_each_effect_works_alone(change: str) -> None:
    voice = np.concatenate([noise(1, 8_000), 4 * noise(2, 8_000)], axis=1)
    changed = studio.produce(voice, RATE, rng(), AugmentOptions(**{change: 1.0}))
    assert changed.shape == voice.shape
    assert level_db(changed - voice) > level_db(voice) - 40


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 999))
def test_effects_depend_on_the_generator_alone_and_keep_their_input(seed: int) -> None:
    voice = noise(12)
    before = voice.copy()
    one, two = (studio.produce(voice, RATE, rng(seed), ALL) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(voice, before)
    assert one.dtype == np.float32
    assert np.isfinite(one).all()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("samples", [1, 50, 20_000])
def test_silence_stays_silence(channels: int, samples: int) -> None:
    zeros = np.zeros((channels, samples), np.float32)
    for seed in range(4):
        made = studio.produce(zeros, RATE, rng(seed), ALL)
        assert made.shape == zeros.shape
        assert not made.any()


# Compressor


def compress(voice: np.ndarray, below_db: float, seed: int = 0) -> np.ndarray:
    options = AugmentOptions(compressor=1.0, compressor_db=(below_db, below_db))
    return studio.compress(voice, RATE, rng(seed), options)


@pytest.mark.parametrize("seed", range(4))
def test_a_compressor_lowers_loud_parts_and_keeps_soft_ones(seed: int) -> None:
    soft, loud = noise(1, 8_000), 10 * noise(2, 8_000)
    made = compress(np.concatenate([soft, loud], axis=1), below_db=10.0, seed=seed)
    np.testing.assert_allclose(made[:, :7_000], soft[:, :7_000], rtol=1e-5)  # 20 dB below the loudest part
    drop = level_db(loud[:, 1_000:]) - level_db(made[:, 9_000:])
    assert (
        10 * (1 - 1 / 2) - 1 < drop < 10 * (1 - 1 / 10) + 1
    )  # between ratios of 2 and 10, for 10 dB above the threshold


def test_a_compressor_has_one_gain_for_all_channels() -> None:
    voice = noise(3) * np.linspace(0.1, 2, 16_000, dtype=np.float32)
    gain = compress(voice, below_db=12.0) / voice
    np.testing.assert_allclose(gain[0], gain[1], rtol=1e-4)
    assert gain.min() < 0.7 < gain.max()


# Doubles


def test_doubles_lie_left_and_right_of_the_voice() -> None:
    voice = np.repeat(noise(4, 2_000, channels=1), 8, axis=1).repeat(
        2, axis=0
    )  # high frequencies lose a little in the interpolation
    options = AugmentOptions(double=1.0, double_db=(-6.0, -6.0))
    added = studio.double(voice, RATE, rng(), options) - voice
    # Each side has the near double and, softer, the one of the far side.
    assert [level_db(side) for side in added] == pytest.approx([level_db(voice) - 6 + 0.4] * 2, abs=0.7)
    assert abs(np.corrcoef(*added)[0, 1]) < 0.8
    assert not added[:, : round(0.005 * RATE)].any()  # doubles are late


def test_the_delay_of_a_double_drifts() -> None:
    seconds = 4
    voice = np.repeat(noise(5, seconds * RATE, channels=1), 2, axis=0)
    added = studio.double(voice, RATE, rng(2), AugmentOptions(double=1.0)) - voice
    delays = []
    for start in range(RATE, (seconds - 1) * RATE, RATE // 4):
        piece = added[0, start : start + 2_000].astype(np.float64)
        matches = [np.dot(piece, voice[0, start - delay : start - delay + 2_000]) for delay in range(700)]
        delays.append(int(np.argmax(matches)))
    assert len(set(delays)) > 2
    assert max(delays) - min(delays) < 0.008 * RATE


# Echo


def test_each_echo_is_softer_and_comes_from_the_other_side() -> None:
    options = AugmentOptions(echo=1.0, echo_seconds=(0.25, 0.25), echo_db=(-6.0, -6.0))
    heard = studio.echo(make_click(RATE), RATE, rng(), options)
    where = np.argwhere(heard.T)  # time, channel
    assert where.tolist() == [[1_000, 0], [5_000, 1], [9_000, 0], [13_000, 1]]
    assert heard.T[tuple(where.T)] == pytest.approx([1, 0.501, 0.251, 0.126], abs=1e-3)


def test_inaudible_echoes_are_dropped() -> None:
    options = AugmentOptions(echo=1.0, echo_seconds=(0.05, 0.05), echo_db=(-15.0, -15.0))
    heard = studio.echo(make_click(2 * RATE), RATE, rng(), options)
    assert np.count_nonzero(heard) == 3  # the click, -15 and -30 dB; -45 dB is too soft


# Reverb


def make_room(voice: np.ndarray, seconds: float, level_db: float, seed: int = 0) -> np.ndarray:
    """Return only what the room adds to a voice."""
    options = AugmentOptions(reverb=1.0, reverb_seconds=(seconds, seconds), reverb_db=(level_db, level_db))
    return studio.reverberate(voice, RATE, rng(seed), options) - voice


@pytest.mark.parametrize("level_db", [-20.0, -6.0])
def test_a_room_has_the_stated_level(level_db: float) -> None:
    voice = noise(1, 60_000)
    rooms = [
        make_room(voice, 0.3, level_db, seed)[:, 10_000:] for seed in range(6)
    ]  # after the room has filled with sound
    levels = [10 * np.log10(np.square(room).mean() / np.square(voice).mean()) for room in rooms]
    assert np.mean(levels) == pytest.approx(level_db, abs=0.5)


@pytest.mark.parametrize("seconds", [0.4, 1.5])
def test_a_room_dies_away_by_60_db_in_the_stated_time(seconds: float) -> None:
    click = np.zeros((2, 3 * RATE), np.float32)
    click[:, 1_000] = 1
    energy = np.square(np.stack([make_room(click, seconds, -6.0, seed) for seed in range(20)])).sum(axis=(0, 1))
    assert energy[:1_000].max() < 1e-9  # silent before the click
    early, late = (energy[start : start + 1_600].sum() for start in (2_000, 2_000 + round(seconds / 2 * RATE)))
    assert 10 * np.log10(early / late) == pytest.approx(30, abs=1.5)


def test_a_room_spreads_a_voice_over_both_channels() -> None:
    voice = np.repeat(noise(2, 40_000, channels=1), 2, axis=0)
    left, right = make_room(voice, 1.0, -6.0)
    assert abs(np.corrcoef(left, right)[0, 1]) < 0.3
