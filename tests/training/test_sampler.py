from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import synthetic_songs
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vocalsep.datasets.cache import DecodedTrack, decode
from vocalsep.datasets.layouts import dsd100
from vocalsep.datasets.tracks import Source, Track
from vocalsep.errors import ConfigError, DatasetError
from vocalsep.training.excerpts.augment import AugmentOptions
from vocalsep.training.excerpts.sampler import ExcerptOptions, ExcerptSampler, Pool

RATE = 100  # songs of a few hundred samples are enough here
SAMPLES = 60

PLAIN = ExcerptOptions(
    pairs=1.0,
    remixes=0.0,
    voices=0.0,
    instrumentals=0.0,
    vocal_free=0.0,
    gain_db=(0.0, 0.0),
    voice_level_db=(0.0, 0.0),
    swap=0.0,
    polarity=0.0,
)
REMIXES = replace(PLAIN, pairs=0.0, remixes=1.0)
VOICES = replace(PLAIN, pairs=0.0, voices=1.0)


def decoded(name: str, **stems: np.ndarray) -> DecodedTrack:
    sources = (Source(Path(name)),)
    have = {stem: sources for stem in ("vocals", "accompaniment") if stem in stems}
    return DecodedTrack(track=Track(name=name, group=name, **have), stems=stems)


def places(number: int, samples: int, channels: int = 2) -> np.ndarray:
    """Samples that tell their song and their place in it: ``1000 * number + position``; right a half more."""
    position = 1_000.0 * number + np.arange(samples)
    return np.stack([position + 0.5 * channel for channel in range(channels)]).astype(np.float32)


def song(number: int, samples: int = 300) -> DecodedTrack:
    """Vocals as `places`; the accompaniment is the same, negative."""
    samples_at = places(number, samples)
    return decoded(f"song {number}", vocals=samples_at, accompaniment=-samples_at)


def songs(count: int, samples: int = 300) -> list[Pool]:
    return [Pool([song(number, samples) for number in range(1, count + 1)])]


def lone(stem: str, number: int, value: float, samples: int = 300) -> DecodedTrack:
    return decoded(f"{stem} {number}", **{stem: np.full((2, samples), value, np.float32)})


def drawn(options: ExcerptOptions, size: int = 40, step: int = 0, **kinds: list[Pool]) -> tuple[Tensor, Tensor]:
    kinds.setdefault("songs", songs(8))
    return ExcerptSampler(**kinds, samples=SAMPLES, rate=RATE, options=options).draw_batch(step, size)[:2]


def numbers(stem: Tensor) -> list[int]:
    """Which song each excerpt of `song` came from."""
    return [int(abs(excerpt[0, 0].item()) // 1_000) for excerpt in stem]


def level(samples: Tensor) -> Tensor:
    return samples.square().mean(dim=(-1, -2)).sqrt()


# Batches


def test_a_batch_has_two_stereo_stems_of_the_length_asked_for() -> None:
    vocals, accompaniment = drawn(ExcerptOptions(voices=0.0), size=5)
    assert vocals.shape == accompaniment.shape == (5, 2, SAMPLES)
    assert vocals.dtype == accompaniment.dtype == torch.float32


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), step=st.integers(0, 2**40), size=st.integers(1, 6))
def test_seed_and_step_decide_everything(seed: int, step: int, size: int) -> None:
    options = ExcerptOptions(voices=0.0)
    make = lambda seed: ExcerptSampler(songs=songs(8), samples=SAMPLES, rate=RATE, options=options, seed=seed)  # noqa: E731
    one, two = make(seed), make(seed)
    two.draw_batch(step + 1, size)  # what was drawn before does not matter
    for first, second in zip(one.draw_batch(step, size)[:2], two.draw_batch(step, size)[:2], strict=True):
        assert torch.equal(first, second)


def test_steps_and_seeds_differ() -> None:
    found = [drawn(PLAIN, step=step)[0] for step in range(4)]
    found.append(ExcerptSampler(songs=songs(8), samples=SAMPLES, rate=RATE, options=PLAIN, seed=1).draw_batch(0, 40)[0])
    assert len({batch.numpy().tobytes() for batch in found}) == 5


def test_drawing_leaves_the_global_generators_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    drawn(ExcerptOptions(voices=0.0))
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_recordings_are_not_changed() -> None:
    pools = songs(3)
    before = [{stem: samples.copy() for stem, samples in track.stems.items()} for track in pools[0].tracks]
    drawn(replace(ExcerptOptions(voices=0.0), vocal_free=0.5), songs=pools)
    for track, stems in zip(pools[0].tracks, before, strict=True):
        for stem, samples in stems.items():
            np.testing.assert_array_equal(track.stems[stem], samples)


# What is drawn


def test_true_pairs_come_from_one_song_and_one_place() -> None:
    vocals, accompaniment = drawn(PLAIN)
    assert torch.equal(vocals, -accompaniment)
    assert len(set(numbers(vocals))) > 3
    offsets = vocals[:, 0, :] - vocals[:, 0, :1]
    assert torch.equal(offsets, torch.arange(SAMPLES).float().expand(40, -1))
    assert torch.equal(vocals[:, 1], vocals[:, 0] + 0.5)


def test_excerpts_start_anywhere_up_to_the_last_place() -> None:
    vocals, _ = drawn(PLAIN, size=200, songs=songs(1, SAMPLES + 3))
    assert set(vocals[:, 0, 0].tolist()) == {1_000.0, 1_001.0, 1_002.0, 1_003.0}


def test_remixes_cross_songs() -> None:
    vocals, accompaniment = drawn(REMIXES, size=100)
    crossed = [v != a for v, a in zip(numbers(vocals), numbers(accompaniment), strict=True)]
    assert sum(crossed) > 70
    assert set(numbers(vocals)) == set(numbers(accompaniment)) == set(range(1, 9))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_lone_instrumentals_stand_in_for_the_stated_share_of_remixes(share: float) -> None:
    lone_ones = [Pool([lone("accompaniment", 1, 7.0)])]
    options = replace(REMIXES, instrumentals=share)
    vocals, accompaniment = drawn(options, size=250, instrumentals=lone_ones)
    found = float((accompaniment == 7.0).all(dim=(-1, -2)).float().mean())
    assert found == pytest.approx(share, abs=0.08)
    assert vocals.abs().min() >= 1_000  # all from songs


@pytest.mark.parametrize(("pairs", "remixes", "voices"), [(1.0, 1.0, 2.0), (0.35, 0.30, 0.35), (0.0, 3.0, 1.0)])
def test_kinds_are_drawn_by_weight(pairs: float, remixes: float, voices: float) -> None:
    options = replace(PLAIN, pairs=pairs, remixes=remixes, voices=voices)
    one_sign = decoded("voice", vocals=np.tile(np.float32([1.0, -1.0]), (2, 150)))  # no song alternates
    vocals, accompaniment = drawn(options, size=300, voices=[Pool([one_sign])])
    is_pair = (vocals == -accompaniment).all(dim=(-1, -2))
    is_voice = (vocals[:, 0, 0] * vocals[:, 0, 1]) < 0
    total = pairs + remixes + voices
    assert float(is_voice.float().mean()) == pytest.approx(voices / total, abs=0.08)
    assert float(is_pair.float().mean()) == pytest.approx(pairs / total, abs=0.08)


def test_a_balanced_pool_draws_singers_alike_and_the_tracks_of_each_by_length() -> None:
    made = [song(number, samples) for number, samples in ((1, 300), (2, 300), (3, 600), (4, 200))]
    singers = ("ada", "ada", "ada", "bea")
    tracks = [replace(one, track=replace(one.track, group=who)) for one, who in zip(made, singers, strict=True)]
    np.testing.assert_allclose(Pool(tracks, balanced=True).compute_shares(100), [0.125, 0.125, 0.25, 0.5])
    np.testing.assert_allclose(Pool(tracks).compute_shares(100), np.array([3, 3, 6, 2]) / 14)
    vocals, _ = drawn(PLAIN, size=400, songs=[Pool(tracks, balanced=True)])
    assert numbers(vocals).count(4) / 400 == pytest.approx(0.5, abs=0.1)


def test_pools_are_drawn_by_weight_and_tracks_by_length() -> None:
    heavy = Pool([song(1, 300), song(2, 900)], weight=3.0)
    vocals, _ = drawn(PLAIN, size=300, songs=[heavy, Pool([song(3)], weight=1.0)])
    count = {number: numbers(vocals).count(number) / 300 for number in (1, 2, 3)}
    assert count[3] == pytest.approx(0.25, abs=0.08)
    assert count[2] / (count[1] + count[2]) == pytest.approx(0.75, abs=0.08)


def test_songs_that_are_not_to_be_remixed_make_pairs_alone() -> None:
    pools = [Pool([song(1)], weight=9.0, remixed=False), Pool([song(2)])]
    vocals, accompaniment = drawn(PLAIN, size=300, songs=pools)
    assert numbers(vocals) == numbers(accompaniment)
    assert numbers(vocals).count(1) / 300 == pytest.approx(0.9, abs=0.08)
    options = replace(PLAIN, pairs=0.0, remixes=0.5, voices=0.5, second_voice=1.0)
    vocals, accompaniment = drawn(options, size=100, songs=pools, voices=[Pool([song(3)])])
    assert set(numbers(accompaniment)) == {2}
    assert 1 not in numbers(vocals)


def test_an_album_long_track_does_not_outweigh_the_rest() -> None:
    def even(value: float, samples: int) -> DecodedTrack:
        stem = np.full((2, samples), value, np.float32)
        return decoded(str(value), vocals=stem, accompaniment=stem)

    album, one = even(1.0, 600 * RATE), even(2.0, 60 * RATE)
    vocals, _ = drawn(PLAIN, size=250, songs=[Pool([album, one])])
    assert float((vocals[:, 0, 0] == 2.0).float().mean()) == pytest.approx(0.5, abs=0.1)


# How it is varied


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("kind", [PLAIN, REMIXES])
def test_the_stated_share_has_no_vocals_at_all(kind: ExcerptOptions, share: float) -> None:
    options = replace(kind, vocal_free=share, gain_db=(-6.0, 6.0), polarity=0.5, swap=0.5)
    vocals, accompaniment = drawn(options, size=250)
    silent = (vocals == 0).all(dim=(-1, -2))
    assert float(silent.float().mean()) == pytest.approx(share, abs=0.08)
    assert torch.equal(silent, (vocals == 0).any(dim=(-1, -2)))
    assert (accompaniment != 0).all()


def test_gain_reaches_either_stem_on_its_own_within_its_range() -> None:
    options = replace(REMIXES, gain_db=(-12.0, 6.0))
    ones = [Pool([decoded("ones", vocals=np.ones((2, 300)), accompaniment=np.ones((2, 300)))])]
    vocals, accompaniment = drawn(options, size=300, songs=ones)
    gains_db = [20 * torch.log10(stem[:, 0, 0].double()) for stem in (vocals, accompaniment)]
    for gain_db in gains_db:
        assert -12.001 <= gain_db.min() < -10
        assert 4 < gain_db.max() <= 6.001
    assert abs(float(torch.corrcoef(torch.stack(gains_db))[0, 1])) < 0.2
    assert torch.equal(vocals, vocals[:, :1, :1].expand_as(vocals))  # one gain for all channels and samples


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_left_and_right_change_places_in_both_stems_together(share: float) -> None:
    vocals, accompaniment = drawn(replace(PLAIN, swap=share), size=250)
    assert torch.equal(vocals, -accompaniment)
    assert torch.equal((vocals[:, 0] - vocals[:, 1]).abs(), torch.full((250, SAMPLES), 0.5))
    swapped = vocals[:, 0, 0] > vocals[:, 1, 0]
    assert float(swapped.float().mean()) == pytest.approx(share, abs=0.08)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_polarity_turns_the_sign_of_either_stem_on_its_own(share: float) -> None:
    vocals, accompaniment = drawn(replace(PLAIN, polarity=share), size=250)
    assert torch.equal(vocals.abs(), accompaniment.abs())
    turned, backing_turned = vocals[:, 0, 0] < 0, accompaniment[:, 0, 0] > 0
    assert float(turned.float().mean()) == pytest.approx(share, abs=0.08)
    assert float(backing_turned.float().mean()) == pytest.approx(share, abs=0.08)
    assert float((turned & backing_turned).float().mean()) == pytest.approx(share**2, abs=0.08)


def test_lone_voices_get_a_level_against_their_accompaniment() -> None:
    options = replace(VOICES, voice_level_db=(-4.0, 10.0))
    voices = [Pool([lone("vocals", 1, 0.02), lone("vocals", 2, 0.9)])]
    vocals, accompaniment = drawn(options, size=300, voices=voices)
    against_db = 20 * torch.log10(level(vocals) / level(accompaniment))
    assert -4.01 <= against_db.min() < -3
    assert 9 < against_db.max() <= 10.01


def test_pauses_of_a_lone_voice_are_drawn_again() -> None:
    half = np.concatenate([np.zeros((2, 3_000)), np.full((2, 3_000), 0.5)], axis=1).astype(np.float32)
    vocals, _ = drawn(VOICES, size=200, voices=[Pool([decoded("half", vocals=half)])])
    silent = (vocals == 0).all(dim=(-1, -2))
    assert float(silent.float().mean()) < 0.05  # without another draw it would be a half


@pytest.mark.parametrize(("kind", "stereo"), [(VOICES, True), (REMIXES, False)], ids=["lone", "song's"])
def test_lone_voices_are_treated_as_a_studio_would_and_vocals_of_songs_stay(kind: ExcerptOptions, stereo: bool) -> None:
    mono = np.repeat(np.random.default_rng(0).standard_normal((1, 300)), 2, axis=0).astype(np.float32)
    options = replace(kind, augment=AugmentOptions(double=1.0, echo=1.0))
    pools = [Pool([decoded("song", vocals=mono, accompaniment=mono)])]
    vocals, _ = drawn(options, songs=pools, voices=[Pool([decoded("voice", vocals=mono)])])
    left, right = vocals.unbind(dim=1)
    assert bool((level((left - right).unsqueeze(1)) > 0.01).all()) is stereo
    assert bool((left == right).all()) is not stereo


def test_silent_recordings_stay_silent_and_finite() -> None:
    silence = np.zeros((2, 300), np.float32)
    quiet = [Pool([decoded("quiet", vocals=silence, accompaniment=silence)])]
    vocals, accompaniment = drawn(VOICES, songs=quiet, voices=[Pool([decoded("mute", vocals=silence)])])
    assert vocals.count_nonzero() == accompaniment.count_nonzero() == 0
    vocals, _ = drawn(VOICES, songs=quiet, voices=[Pool([lone("vocals", 1, 0.5)])])
    assert torch.isfinite(vocals).all()
    assert vocals.abs().max() < 0.01  # a voice over silence does not blow up


@pytest.mark.parametrize("samples", [1, 10, SAMPLES - 1])
def test_short_tracks_are_filled_with_zeros(samples: int) -> None:
    vocals, accompaniment = drawn(PLAIN, size=4, songs=songs(1, samples))
    assert vocals.shape == (4, 2, SAMPLES)
    assert (vocals[..., samples:] == 0).all()
    assert torch.equal(vocals[0, :, :samples], torch.from_numpy(places(1, samples)))
    assert torch.equal(accompaniment, -vocals)


# What is refused


@pytest.mark.parametrize(
    ("options", "kinds", "word"),
    [
        (VOICES, {"songs": songs(1)}, "voices"),
        (PLAIN, {"songs": []}, "songs"),
        (REMIXES, {"songs": [], "instrumentals": [Pool([lone("accompaniment", 1, 0.5)])]}, "songs"),
        (VOICES, {"songs": [], "voices": [Pool([lone("vocals", 1, 0.5)])]}, "accompaniment"),
        (PLAIN, {"songs": [Pool([])]}, "songs"),
        (REMIXES, {"songs": [Pool([song(1)], remixed=False)]}, "remixed"),
        (VOICES, {"songs": [Pool([song(1)], remixed=False)], "voices": songs(1)}, "accompaniment"),
        (replace(PLAIN, second_voice=0.5), {"songs": [Pool([song(1)], remixed=False)]}, "second voice"),
    ],
)
def test_a_kind_that_is_missing_is_named(options: ExcerptOptions, kinds: dict[str, list[Pool]], word: str) -> None:
    with pytest.raises(DatasetError, match=word):
        ExcerptSampler(**kinds, samples=SAMPLES, rate=RATE, options=options)


def test_voices_over_instrumentals_need_no_songs() -> None:
    kinds = {
        "voices": [Pool([lone("vocals", 1, 0.5)])],
        "instrumentals": [Pool([lone("accompaniment", 1, 0.25)])],
    }
    vocals, accompaniment = drawn(VOICES, songs=[], **kinds)
    assert (accompaniment == 0.25).all()
    torch.testing.assert_close(level(vocals), level(accompaniment))


@pytest.mark.parametrize(
    "values",
    [
        {"pairs": -0.1},
        {"voices": -1.0},
        {"pairs": 0.0, "remixes": 0.0, "voices": 0.0},
        {"vocal_free": 1.1},
        {"instrumentals": -0.1},
        {"swap": 2.0},
        {"polarity": -1.0},
        {"gain_db": (2.0, -2.0)},
        {"voice_level_db": (1.0, 0.0)},
    ],
)
def test_options_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        ExcerptOptions(**values)


def test_true_pairs_from_files_sum_to_the_mixture(dsd100_root: Path) -> None:
    found = [decode(track, 16_000, 2) for track in dsd100.find(dsd100_root, "Test").tracks]
    material = ExcerptSampler(songs=[Pool(found)], samples=48_000, rate=16_000, options=PLAIN)
    vocals, accompaniment, _ = material.draw_batch(0, 1)
    sums = [sum(stem.astype(np.float32) for stem in track.stems.values()) for track in found]
    total = (vocals + accompaniment)[0].numpy()
    assert any(np.array_equal(total, mixture) for mixture in sums)


# What is done to their sound. (Rates and lengths as in training: filters need room.)

ALL_OF_IT = AugmentOptions(pitch=0.5, tempo=0.5, eq=0.5, limiter=0.5, band_limit=0.5)


def noisy(seed: int, samples: int = 40_000) -> DecodedTrack:
    source = np.random.default_rng(seed)
    stems = {stem: 0.1 * source.standard_normal((2, samples)) for stem in ("vocals", "accompaniment")}
    return decoded(f"noise {seed}", **{stem: part.astype(np.float16) for stem, part in stems.items()})


def loud(options: ExcerptOptions, size: int = 6, step: int = 0, **kinds: list[Pool]) -> tuple[Tensor, Tensor]:
    kinds.setdefault("songs", [Pool([noisy(1), noisy(2)])])
    return ExcerptSampler(**kinds, samples=6_000, rate=16_000, options=options).draw_batch(step, size)[:2]


def test_the_defaults_change_no_sound() -> None:
    assert ExcerptOptions().augment == AugmentOptions()
    assert ExcerptOptions().second_voice == ExcerptOptions().voice_only == 0
    assert not ExcerptOptions().cut_silence


def test_seed_and_step_decide_every_change() -> None:
    options = ExcerptOptions(voices=0.0, voice_only=0.2, second_voice=0.5, cut_silence=True, augment=ALL_OF_IT)
    make = lambda: ExcerptSampler(songs=[Pool([noisy(1), noisy(2)])], samples=6_000, rate=16_000, options=options)  # noqa: E731
    one, two = make(), make()
    two.draw_batch(3, 2)
    for first, second in zip(one.draw_batch(4, 8)[:2], two.draw_batch(4, 8)[:2], strict=True):
        assert first.shape == (8, 2, 6_000)
        assert first.dtype == torch.float32
        assert torch.isfinite(first).all()
        assert torch.equal(first, second)


def test_changed_recordings_stay_as_they_are() -> None:
    song = noisy(1)
    before = {stem: samples.copy() for stem, samples in song.stems.items()}
    loud(ExcerptOptions(voices=0.0, second_voice=1.0, cut_silence=True, augment=ALL_OF_IT), songs=[Pool([song])])
    for stem, samples in before.items():
        np.testing.assert_array_equal(song.stems[stem], samples)


def test_true_pairs_change_pitch_and_tempo_together() -> None:
    samples = noisy(3).stems["vocals"]
    twins = [Pool([decoded("twins", vocals=samples, accompaniment=samples)])]
    moved = replace(PLAIN, augment=AugmentOptions(pitch=1.0, tempo=1.0))
    vocals, accompaniment = loud(moved, songs=twins)
    assert torch.equal(vocals, accompaniment)
    assert not torch.equal(vocals, loud(PLAIN, songs=twins)[0])
    vocals, accompaniment = loud(replace(moved, pairs=0.0, remixes=1.0), songs=twins)
    assert not torch.equal(vocals, accompaniment)


def test_songs_that_are_not_to_be_remixed_are_changed_as_a_whole() -> None:
    samples = noisy(3).stems["vocals"]
    twins = Pool([decoded("twins", vocals=samples, accompaniment=samples)])
    changes = replace(ALL_OF_IT, eq=1.0, limiter=0.0)
    options = ExcerptOptions(pairs=1, remixes=0, voices=0, vocal_free=0.5, voice_only=0.5, augment=changes)
    vocals, accompaniment = loud(options, songs=[replace(twins, remixed=False)])
    assert torch.equal(vocals, accompaniment)
    assert len({round(float(one), 6) for one in level(vocals)}) == len(vocals)
    vocals, accompaniment = loud(options, songs=[twins])
    assert not torch.equal(vocals, accompaniment)


@pytest.mark.parametrize("samples", [6_000, 6_500])
def test_a_track_that_is_too_short_is_not_changed_nor_filled_up(samples: int) -> None:
    vocals, _ = loud(replace(PLAIN, augment=AugmentOptions(tempo=1.0, tempo_ratio=(1.5, 1.5))), songs=[
        Pool([noisy(4, samples)])
    ])  # fmt: skip
    assert (vocals[..., -10:] != 0).any(dim=-1).all()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_stated_share_has_no_accompaniment(share: float) -> None:
    vocals, accompaniment = drawn(replace(PLAIN, voice_only=share), size=250)
    silent = (accompaniment == 0).all(dim=(-1, -2))
    assert float(silent.float().mean()) == pytest.approx(share, abs=0.08)
    assert (vocals != 0).all()


def test_voice_free_and_voice_only_exclude_each_other() -> None:
    vocals, accompaniment = drawn(replace(PLAIN, voice_only=0.5, vocal_free=0.5), size=100)
    gone, alone = ((stem == 0).all(dim=(-1, -2)) for stem in (vocals, accompaniment))
    assert torch.equal(gone, ~alone)


def test_no_excerpt_is_made_silent() -> None:
    quiet = decoded("quiet", vocals=np.zeros((2, 300), np.float32), accompaniment=np.ones((2, 300), np.float32))
    _, accompaniment = drawn(replace(PLAIN, voice_only=1.0), songs=[Pool([quiet])])
    assert (accompaniment == 1).all()


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_second_voice_joins_the_vocals_at_its_level(share: float) -> None:
    def steady(stem: str, frequency: int) -> np.ndarray:
        return np.tile(np.sin(2 * np.pi * frequency * np.arange(SAMPLES) / SAMPLES), (2, 5)).astype(np.float32)

    tune = decoded("tune", vocals=steady("vocals", 5), accompaniment=steady("accompaniment", 11))
    other = decoded("other", vocals=0.01 * steady("vocals", 9))
    options = replace(PLAIN, second_voice=share, second_voice_db=(-12.0, -3.0))
    vocals, accompaniment = drawn(options, size=150, songs=[Pool([tune])], voices=[Pool([other])])
    spectrum = torch.fft.rfft(vocals[:, 0]).abs() / (SAMPLES / 2)
    backing = torch.fft.rfft(accompaniment[:, 0]).abs() / (SAMPLES / 2)
    lone, own = spectrum[:, 9] > 0.1, spectrum[:, 5] - 1
    doubled = (own.abs() > 1e-3) & ~lone  # the second voice may be the song's own, at another place
    assert float((lone | doubled).float().mean()) == pytest.approx(share, abs=0.1)
    torch.testing.assert_close(backing[:, 11], torch.ones(150))
    assert backing[:, 9].max() < 1e-3
    if share:
        levels_db = 20 * torch.log10(spectrum[:, 9][lone])
        assert -12.01 <= levels_db.min() < -9
        assert -5 < levels_db.max() <= -2.99


def tones(stem: str, hz: float, seconds: float, rate: int = 8_000) -> DecodedTrack:
    return decoded(f"{stem} {hz:.0f}", **{stem: synthetic_songs.tone(hz, seconds, rate)})


def loudest_hz(samples: Tensor, rate: int = 8_000) -> Tensor:
    return (
        torch.fft.rfft(samples[:, 0] * torch.hann_window(samples.shape[-1])).abs().argmax(-1) * rate / samples.shape[-1]
    )


@pytest.mark.parametrize("kind", [REMIXES, VOICES])
@pytest.mark.parametrize("in_key", [0.0, 1.0])
def test_vocals_in_key_fall_on_the_accompaniment(kind: ExcerptOptions, in_key: float) -> None:
    sung, played = tones("vocals", 440 * 2 ** (2 / 12), 3), tones("accompaniment", 220, 3)
    both = decoded("song", vocals=sung.stems["vocals"], accompaniment=played.stems["accompaniment"])
    excerpts = ExcerptSampler(
        songs=[Pool([both])], voices=[Pool([sung])], samples=8_000, rate=8_000, options=replace(kind, in_key=in_key)
    )
    vocals, accompaniment, _ = excerpts.draw_batch(0, 6)
    assert loudest_hz(accompaniment).tolist() == pytest.approx([220] * 6, abs=2)
    wanted = 440 if in_key else 440 * 2 ** (2 / 12)
    assert loudest_hz(vocals).tolist() == pytest.approx([wanted] * 6, rel=0.02)


def test_true_pairs_are_in_key_as_they_are() -> None:
    for one, two in zip(drawn(PLAIN), drawn(replace(PLAIN, in_key=1.0)), strict=True):
        assert torch.equal(one, two)


def test_a_voice_too_short_to_be_moved_stays() -> None:
    sung, played = tones("vocals", 466.16, 1), tones("accompaniment", 220, 3)
    excerpts = ExcerptSampler(
        songs=[],
        voices=[Pool([sung])],
        instrumentals=[Pool([played])],
        samples=8_000,
        rate=8_000,
        options=replace(VOICES, in_key=1.0),
    )
    assert loudest_hz(excerpts.draw_batch(0, 3).vocals).tolist() == pytest.approx([466.16] * 3, abs=2)


def test_silent_vocals_get_no_second_voice() -> None:
    quiet = decoded("quiet", vocals=np.zeros((2, 300), np.float32), accompaniment=np.ones((2, 300), np.float32))
    options = replace(PLAIN, second_voice=1.0)
    vocals, _ = drawn(options, songs=[Pool([quiet])], voices=[Pool([lone("vocals", 1, 0.5)])])
    assert vocals.count_nonzero() == 0


def test_an_equaliser_takes_either_stem_on_its_own() -> None:
    plain, changed = (loud(replace(PLAIN, augment=AugmentOptions(eq=eq)), size=40) for eq in (0.0, 0.5))
    assert plain[0].shape == changed[0].shape
    vocals, accompaniment = loud(replace(PLAIN, augment=AugmentOptions(eq=1.0)), size=1)
    first = loud(PLAIN, size=1)  # drawn before the equaliser is: the same place
    gains = [torch.fft.rfft(a).abs() / torch.fft.rfft(b).abs() for a, b in zip((vocals, accompaniment), first)]  # noqa: B905
    smooth = [gain.reshape(2, -1)[:, :3_000].reshape(2, 100, 30).median(dim=-1).values for gain in gains]
    for gain in smooth:
        torch.testing.assert_close(gain[0], gain[1], rtol=0.1, atol=0.02)
        assert gain.max() / gain.min() > 1.2
    assert not torch.allclose(smooth[0], smooth[1], rtol=0.1)


def test_a_limited_excerpt_is_the_limited_mixture() -> None:
    plain = loud(PLAIN, size=1)
    limited = loud(replace(PLAIN, augment=AugmentOptions(limiter=1.0, limiter_db=(6.0, 6.0))), size=1)
    peak, now = (sum(stems).abs().max() for stems in (plain, limited))
    assert 20 * torch.log10(now / peak) <= -5.99
    gains = [after / before for after, before in zip(limited, plain, strict=True)]
    audible = (plain[0].abs() > 0.01) & (plain[1].abs() > 0.01)
    torch.testing.assert_close(gains[0][audible], gains[1][audible], rtol=1e-4, atol=1e-5)
    assert gains[0][audible].max() <= 1.0001


# The silence cut


def with_pauses(samples: int = 80_000) -> DecodedTrack:
    """Sings for a second, is silent for another; sung accompaniment is positive, the other negative."""
    sings = (np.arange(samples) // 16_000) % 2 == 0
    vocals = np.where(sings, 0.5, 0.0)
    return decoded(
        "pauses",
        vocals=np.stack([vocals, vocals]).astype(np.float16),
        accompaniment=np.stack([vocals - 0.25] * 2).astype(np.float16),
    )


@pytest.mark.parametrize("change", [AugmentOptions(), AugmentOptions(tempo=1.0)])
def test_silence_is_cut_from_true_pairs_in_both_stems(change: AugmentOptions) -> None:
    options = replace(PLAIN, cut_silence=True, augment=change)
    vocals, accompaniment = loud(options, size=20, songs=[Pool([with_pauses()])])
    assert vocals.shape == (20, 2, 6_000)
    sung = vocals.abs() > 0.1
    assert float(sung.float().mean()) > 0.94  # a frame may begin in a pause
    plain, _ = loud(replace(options, cut_silence=False), size=20, songs=[Pool([with_pauses()])])
    assert float((plain.abs() > 0.1).float().mean()) < 0.9
    if change == AugmentOptions():
        assert float((accompaniment > 0).float().mean()) > 0.94


def test_silence_is_cut_from_a_remixes_vocals_alone() -> None:
    options = replace(REMIXES, cut_silence=True)
    vocals, accompaniment = loud(options, size=30, songs=[Pool([with_pauses()])])
    assert float((vocals > 0.1).float().mean()) > 0.94
    assert 0.3 < float((accompaniment > 0).float().mean()) < 0.85


def test_a_track_with_too_little_singing_is_left_as_it_is() -> None:
    song = with_pauses()
    song.stems["vocals"][:, 4_000:] = 0
    vocals, accompaniment = loud(replace(PLAIN, cut_silence=True), size=30, songs=[Pool([song])])
    assert float((accompaniment < 0).float().mean()) > 0.2
    assert (vocals == 0).all(dim=(-1, -2)).any()


@pytest.mark.parametrize(
    "values",
    [
        {"voice_only": -0.1},
        {"vocal_free": 0.6, "voice_only": 0.6},
        {"second_voice": 1.1},
        {"in_key": -0.1},
        {"second_voice_db": (0.0, -1.0)},
        {"silence_db": 0.0},
    ],
)
def test_further_options_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        ExcerptOptions(**values)
