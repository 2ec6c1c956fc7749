from __future__ import annotations

import fake_nets
import held_bytes
import numpy as np
import pytest
import synthetic_songs
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep import audio
from vocalsep.errors import AudioError
from vocalsep.extraction import Extractor
from vocalsep.features import FrontEnd, Linear, LogMel

# cutting


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
@settings(deadline=None, max_examples=6)
@given(sizes=st.lists(st.integers(0, 9_000), min_size=1, max_size=5).filter(lambda sizes: max(sizes) > 1_000))
def test_vocals_do_not_depend_on_how_the_song_is_cut(random_extractor: Extractor, rate: int, sizes: list[int]) -> None:
    mixture = fake_nets.noise(2, round(0.9 * rate), seed=3)
    whole = random_extractor(mixture, rate)
    assert 0.1 < float(np.linalg.norm(whole.vocals) / np.linalg.norm(mixture)) < 0.9
    cut = fake_nets.separate_in_blocks(random_extractor.start(rate, 2), mixture, sizes)
    assert cut.vocals.shape == mixture.shape
    assert fake_nets.snr_db(whole.vocals, cut.vocals) >= 60


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_blocks_leave_no_seams(random_extractor: Extractor, rate: int) -> None:
    mixture = fake_nets.noise(2, 3 * rate, seed=6)
    whole = fake_nets.separate_in_blocks(random_extractor.start(rate, 2), mixture, [mixture.shape[-1]]).vocals
    moment = rate // 50
    for seconds in (audio.PIPE_BLOCK_SECONDS, 0.1):
        cut = fake_nets.separate_in_blocks(random_extractor.start(rate, 2), mixture, [round(seconds * rate)]).vocals
        count = whole.shape[-1] // moment * moment
        here, error = (
            np.square(x[:, :count].astype(float)).reshape(2, -1, moment).sum(axis=-1) for x in (whole, cut - whole)
        )
        assert (error < 1e-6 * here).all()  # in each 20 ms, not just on average


@pytest.mark.parametrize(("rate", "size"), [(8_000, 50), (44_100, 441), (48_000, 480)])
def test_tiny_blocks_give_the_vocals_of_the_whole_song(random_extractor: Extractor, rate: int, size: int) -> None:
    mixture = fake_nets.noise(1, round(1.1 * rate), seed=4)
    cut = fake_nets.separate_in_blocks(random_extractor.start(rate, 1), mixture, [size])
    assert fake_nets.snr_db(random_extractor(mixture, rate).vocals, cut.vocals) >= 60


def test_the_first_block_may_have_a_single_sample(random_extractor: Extractor) -> None:
    mixture = fake_nets.noise(1, 30_000)
    cut = fake_nets.separate_in_blocks(random_extractor.start(44_100, 1), mixture, [1, 29_999])
    assert fake_nets.snr_db(random_extractor(mixture, 44_100).vocals, cut.vocals) >= 60


@pytest.mark.parametrize("inversion", ["phase", "griffin-lim"])
def test_blocks_longer_than_the_readers_give_the_same_vocals(inversion: str) -> None:
    extractor = Extractor(fake_nets.random_unet(fake_nets.PAPER), inversion=inversion)
    mixture = np.float32(synthetic_songs.make_voice(1, 9.0, 8_000))[None]  # blocks of the reader last four seconds
    once = fake_nets.separate_in_blocks(extractor.start(8_000, 1), mixture, [mixture.shape[-1]])
    assert fake_nets.snr_db(once.vocals, extractor(mixture, 8_000).vocals) >= 60


# memory


@pytest.mark.parametrize(("inversion", "n_fft", "minutes"), [("phase", 512, 10), ("griffin-lim", 128, 1)])
def test_memory_does_not_grow_with_the_song(inversion: str, n_fft: int, minutes: int) -> None:
    coarse = LogMel(rate=4_000, n_fft=n_fft, hop=n_fft // 2, bands=8, frames=32)
    song = Extractor(fake_nets.constant(0.5, coarse), inversion=inversion, workers=0).start(8_000, 1)
    held, missing = held_bytes.push_repeatedly(song, 8_000, minutes * 60, fake_nets.noise(1, 40_000))
    for amounts in (held, missing):
        early, late = amounts[: len(amounts) // 2], amounts[len(amounts) // 2 :]
        assert max(late) < 1.5 * max(early)
    assert max(held) < 6e6  # 10 minutes are 19 MB


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("front_end", [fake_nets.PAPER, Linear()], ids=["log-mel", "linear"])
def test_at_full_size_memory_is_small_and_vocals_come_within_seconds(rate: int, front_end: FrontEnd) -> None:
    song = Extractor(fake_nets.constant(0.5, front_end), workers=0).start(rate, 2)
    held, missing = held_bytes.push_repeatedly(song, rate, 40, fake_nets.noise(2, 4 * rate))
    assert max(held[5:]) < 1.5 * max(held[:5])
    assert max(held) < 40e6
    assert max(missing) <= 6 * rate


# voice_share


@pytest.mark.parametrize(("value", "expected"), [(0.0, 0.0), (0.2, 0.0), (0.3, 1.0), (1.0, 1.0)])
def test_voice_share_is_0_without_voice_and_1_with_voice_throughout(value: float, expected: float) -> None:
    song = Extractor(fake_nets.constant(value)).start(16_000, 2)
    assert song.voice_share == 0
    fake_nets.separate_in_blocks(song, fake_nets.noise(2, 20_000), [7_000])
    assert song.voice_share == expected


def test_voice_share_does_not_count_pauses() -> None:
    song = Extractor(fake_nets.constant(1.0)).start(16_000, 1)
    mixture = fake_nets.noise(1, 160_000)
    mixture[:, 40_000:] = 0
    fake_nets.separate_in_blocks(song, mixture, [50_000])
    assert song.voice_share == pytest.approx(0.25, abs=0.01)


# the end of a song


def test_a_song_needs_a_sample_and_ends_once(random_extractor: Extractor) -> None:
    with pytest.raises(AudioError, match="at least one sample"):
        random_extractor.start(8_000, 1).finish()
    song = random_extractor.start(8_000, 1)
    song.push(np.zeros((1, 0), np.float32))
    with pytest.raises(AudioError, match="at least one sample"):
        song.finish()
    song = random_extractor.start(8_000, 1)
    song.push(np.zeros((1, 1), np.float32))
    song.finish()
    with pytest.raises(AudioError, match="already ended"):
        song.finish()


def test_blocks_are_arrays_or_lists_of_the_channels_of_the_song(random_extractor: Extractor) -> None:
    separator, block = random_extractor.start(8_000, 2), fake_nets.noise(2, 3_000)
    parts = [separator.push(block.tolist()), separator.finish()]
    vocals = np.concatenate([part.vocals for part in parts], axis=-1)
    np.testing.assert_allclose(vocals, random_extractor(block, 8_000).vocals, atol=1e-6)
    for wrong in ([0.0] * 100, np.zeros((1, 100)), np.zeros((100, 2))):
        with pytest.raises(AudioError, match=r"expected \(2, time\)"):
            random_extractor.start(8_000, 2).push(wrong)
