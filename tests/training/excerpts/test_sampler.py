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

RATE = 100  # low, so that songs of a few hundred samples suffice
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


def make_track(name: str, **stems: np.ndarray) -> DecodedTrack:
    sources = (Source(Path(name)),)
    have = {stem: sources for stem in ("vocals", "accompaniment") if stem in stems}
    return DecodedTrack(track=Track(name=name, group=name, **have), stems=stems)


def encode_places(number: int, samples: int, channels: int = 2) -> np.ndarray:
    """Make samples that encode song and position: ``1000 * number + position``, and 0.5 more on the right."""
    position = 1_000.0 * number + np.arange(samples)
    return np.stack([position + 0.5 * channel for channel in range(channels)]).astype(np.float32)


def make_song(number: int, samples: int = 300) -> DecodedTrack:
    """Make a song with vocals as `encode_places` makes them, and their negative as accompaniment."""
    samples_at = encode_places(number, samples)
    return make_track(f"song {number}", vocals=samples_at, accompaniment=-samples_at)


def make_pools(count: int, samples: int = 300) -> list[Pool]:
    return [Pool([make_song(number, samples) for number in range(1, count + 1)])]


def make_lone(stem: str, number: int, value: float, samples: int = 300) -> DecodedTrack:
    return make_track(f"{stem} {number}", **{stem: np.full((2, samples), value, np.float32)})


def draw(options: ExcerptOptions, size: int = 40, step: int = 0, **kinds: list[Pool]) -> tuple[Tensor, Tensor]:
    kinds.setdefault("songs", make_pools(8))
    return ExcerptSampler(**kinds, samples=SAMPLES, rate=RATE, options=options).draw_batch(step, size)[:2]


def read_song_numbers(stem: Tensor) -> list[int]:
    """Return the number of the song that each excerpt came from."""
    return [int(abs(excerpt[0, 0].item()) // 1_000) for excerpt in stem]


def measure_level(samples: Tensor) -> Tensor:
    return samples.square().mean(dim=(-1, -2)).sqrt()


# Batches


def test_a_batch_has_two_stereo_stems_of_the_requested_length() -> None:
    vocals, accompaniment = draw(ExcerptOptions(voices=0.0), size=5)
    assert vocals.shape == accompaniment.shape == (5, 2, SAMPLES)
    assert vocals.dtype == accompaniment.dtype == torch.float32


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), step=st.integers(0, 2**40), size=st.integers(1, 6))
def test_seed_and_step_decide_everything(seed: int, step: int, size: int) -> None:
    options = ExcerptOptions(voices=0.0)
    make = lambda seed: ExcerptSampler(songs=make_pools(8), samples=SAMPLES, rate=RATE, options=options, seed=seed)  # noqa: E731
    one, two = make(seed), make(seed)
    two.draw_batch(step + 1, size)  # earlier draws must not matter
    for first, second in zip(one.draw_batch(step, size)[:2], two.draw_batch(step, size)[:2], strict=True):
        assert torch.equal(first, second)


def test_steps_and_seeds_differ() -> None:
    found = [draw(PLAIN, step=step)[0] for step in range(4)]
    found.append(
        ExcerptSampler(songs=make_pools(8), samples=SAMPLES, rate=RATE, options=PLAIN, seed=1).draw_batch(0, 40)[0]
    )
    assert len({batch.numpy().tobytes() for batch in found}) == 5


def test_drawing_leaves_the_global_generators_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    draw(ExcerptOptions(voices=0.0))
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_drawing_does_not_change_the_recordings() -> None:
    pools = make_pools(3)
    before = [{stem: samples.copy() for stem, samples in track.stems.items()} for track in pools[0].tracks]
    draw(replace(ExcerptOptions(voices=0.0), vocal_free=0.5), songs=pools)
    for track, stems in zip(pools[0].tracks, before, strict=True):
        for stem, samples in stems.items():
            np.testing.assert_array_equal(track.stems[stem], samples)


# Drawing


def test_true_pairs_come_from_one_song_and_one_place() -> None:
    vocals, accompaniment = draw(PLAIN)
    assert torch.equal(vocals, -accompaniment)
    assert len(set(read_song_numbers(vocals))) > 3
    offsets = vocals[:, 0, :] - vocals[:, 0, :1]
    assert torch.equal(offsets, torch.arange(SAMPLES).float().expand(40, -1))
    assert torch.equal(vocals[:, 1], vocals[:, 0] + 0.5)


def test_excerpts_start_at_every_possible_place() -> None:
    vocals, _ = draw(PLAIN, size=200, songs=make_pools(1, SAMPLES + 3))
    assert set(vocals[:, 0, 0].tolist()) == {1_000.0, 1_001.0, 1_002.0, 1_003.0}


def test_remixes_combine_different_songs() -> None:
    vocals, accompaniment = draw(REMIXES, size=100)
    crossed = [v != a for v, a in zip(read_song_numbers(vocals), read_song_numbers(accompaniment), strict=True)]
    assert sum(crossed) > 70
    assert set(read_song_numbers(vocals)) == set(read_song_numbers(accompaniment)) == set(range(1, 9))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_stated_share_of_remixes_gets_a_lone_instrumental(share: float) -> None:
    lone_ones = [Pool([make_lone("accompaniment", 1, 7.0)])]
    options = replace(REMIXES, instrumentals=share)
    vocals, accompaniment = draw(options, size=250, instrumentals=lone_ones)
    found = float((accompaniment == 7.0).all(dim=(-1, -2)).float().mean())
    assert found == pytest.approx(share, abs=0.08)
    assert vocals.abs().min() >= 1_000  # all of them come from songs


@pytest.mark.parametrize(("pairs", "remixes", "voices"), [(1.0, 1.0, 2.0), (0.35, 0.30, 0.35), (0.0, 3.0, 1.0)])
def test_kinds_are_drawn_by_weight(pairs: float, remixes: float, voices: float) -> None:
    options = replace(PLAIN, pairs=pairs, remixes=remixes, voices=voices)
    alternating = make_track("voice", vocals=np.tile(np.float32([1.0, -1.0]), (2, 150)))  # songs keep their sign
    vocals, accompaniment = draw(options, size=300, voices=[Pool([alternating])])
    is_pair = (vocals == -accompaniment).all(dim=(-1, -2))
    is_voice = (vocals[:, 0, 0] * vocals[:, 0, 1]) < 0
    total = pairs + remixes + voices
    assert float(is_voice.float().mean()) == pytest.approx(voices / total, abs=0.08)
    assert float(is_pair.float().mean()) == pytest.approx(pairs / total, abs=0.08)


def test_a_balanced_pool_draws_all_singers_equally_often() -> None:
    made = [make_song(number, samples) for number, samples in ((1, 300), (2, 300), (3, 600), (4, 200))]
    singers = ("ada", "ada", "ada", "bea")
    tracks = [replace(one, track=replace(one.track, group=who)) for one, who in zip(made, singers, strict=True)]
    np.testing.assert_allclose(Pool(tracks, balanced=True).compute_shares(100), [0.125, 0.125, 0.25, 0.5])
    np.testing.assert_allclose(Pool(tracks).compute_shares(100), np.array([3, 3, 6, 2]) / 14)
    vocals, _ = draw(PLAIN, size=400, songs=[Pool(tracks, balanced=True)])
    assert read_song_numbers(vocals).count(4) / 400 == pytest.approx(0.5, abs=0.1)


def test_pools_are_drawn_by_weight_and_tracks_by_length() -> None:
    heavy = Pool([make_song(1, 300), make_song(2, 900)], weight=3.0)
    vocals, _ = draw(PLAIN, size=300, songs=[heavy, Pool([make_song(3)], weight=1.0)])
    count = {number: read_song_numbers(vocals).count(number) / 300 for number in (1, 2, 3)}
    assert count[3] == pytest.approx(0.25, abs=0.08)
    assert count[2] / (count[1] + count[2]) == pytest.approx(0.75, abs=0.08)


def test_songs_that_may_not_be_remixed_only_make_true_pairs() -> None:
    pools = [Pool([make_song(1)], weight=9.0, remixed=False), Pool([make_song(2)])]
    vocals, accompaniment = draw(PLAIN, size=300, songs=pools)
    assert read_song_numbers(vocals) == read_song_numbers(accompaniment)
    assert read_song_numbers(vocals).count(1) / 300 == pytest.approx(0.9, abs=0.08)
    options = replace(PLAIN, pairs=0.0, remixes=0.5, voices=0.5, second_voice=1.0)
    vocals, accompaniment = draw(options, size=100, songs=pools, voices=[Pool([make_song(3)])])
    assert set(read_song_numbers(accompaniment)) == {2}
    assert 1 not in read_song_numbers(vocals)


def test_a_track_as_long_as_an_album_does_not_outweigh_the_rest() -> None:
    def even(value: float, samples: int) -> DecodedTrack:
        stem = np.full((2, samples), value, np.float32)
        return make_track(str(value), vocals=stem, accompaniment=stem)

    album, one = even(1.0, 600 * RATE), even(2.0, 60 * RATE)
    vocals, _ = draw(PLAIN, size=250, songs=[Pool([album, one])])
    assert float((vocals[:, 0, 0] == 2.0).float().mean()) == pytest.approx(0.5, abs=0.1)


# Variation


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("kind", [PLAIN, REMIXES])
def test_the_stated_share_has_no_vocals_at_all(kind: ExcerptOptions, share: float) -> None:
    options = replace(kind, vocal_free=share, gain_db=(-6.0, 6.0), polarity=0.5, swap=0.5)
    vocals, accompaniment = draw(options, size=250)
    silent = (vocals == 0).all(dim=(-1, -2))
    assert float(silent.float().mean()) == pytest.approx(share, abs=0.08)
    assert torch.equal(silent, (vocals == 0).any(dim=(-1, -2)))
    assert (accompaniment != 0).all()


def test_each_stem_gets_its_own_gain_within_the_range() -> None:
    options = replace(REMIXES, gain_db=(-12.0, 6.0))
    ones = [Pool([make_track("ones", vocals=np.ones((2, 300)), accompaniment=np.ones((2, 300)))])]
    vocals, accompaniment = draw(options, size=300, songs=ones)
    gains_db = [20 * torch.log10(stem[:, 0, 0].double()) for stem in (vocals, accompaniment)]
    for gain_db in gains_db:
        assert -12.001 <= gain_db.min() < -10
        assert 4 < gain_db.max() <= 6.001
    assert abs(float(torch.corrcoef(torch.stack(gains_db))[0, 1])) < 0.2
    assert torch.equal(vocals, vocals[:, :1, :1].expand_as(vocals))  # a single gain for all channels and samples


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_left_and_right_are_swapped_in_both_stems_together(share: float) -> None:
    vocals, accompaniment = draw(replace(PLAIN, swap=share), size=250)
    assert torch.equal(vocals, -accompaniment)
    assert torch.equal((vocals[:, 0] - vocals[:, 1]).abs(), torch.full((250, SAMPLES), 0.5))
    swapped = vocals[:, 0, 0] > vocals[:, 1, 0]
    assert float(swapped.float().mean()) == pytest.approx(share, abs=0.08)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_polarity_flips_the_sign_of_each_stem_independently(share: float) -> None:
    vocals, accompaniment = draw(replace(PLAIN, polarity=share), size=250)
    assert torch.equal(vocals.abs(), accompaniment.abs())
    turned, backing_turned = vocals[:, 0, 0] < 0, accompaniment[:, 0, 0] > 0
    assert float(turned.float().mean()) == pytest.approx(share, abs=0.08)
    assert float(backing_turned.float().mean()) == pytest.approx(share, abs=0.08)
    assert float((turned & backing_turned).float().mean()) == pytest.approx(share**2, abs=0.08)


def test_lone_voices_get_a_level_relative_to_their_accompaniment() -> None:
    options = replace(VOICES, voice_level_db=(-4.0, 10.0))
    voices = [Pool([make_lone("vocals", 1, 0.02), make_lone("vocals", 2, 0.9)])]
    vocals, accompaniment = draw(options, size=300, voices=voices)
    against_db = 20 * torch.log10(measure_level(vocals) / measure_level(accompaniment))
    assert -4.01 <= against_db.min() < -3
    assert 9 < against_db.max() <= 10.01


def test_pauses_of_a_lone_voice_are_drawn_again() -> None:
    half = np.concatenate([np.zeros((2, 3_000)), np.full((2, 3_000), 0.5)], axis=1).astype(np.float32)
    vocals, _ = draw(VOICES, size=200, voices=[Pool([make_track("half", vocals=half)])])
    silent = (vocals == 0).all(dim=(-1, -2))
    assert float(silent.float().mean()) < 0.05  # without new draws it would be a half


@pytest.mark.parametrize(("kind", "stereo"), [(VOICES, True), (REMIXES, False)], ids=["lone", "song's"])
def test_studio_effects_change_lone_voices_but_not_vocals_of_songs(kind: ExcerptOptions, stereo: bool) -> None:
    mono = np.repeat(np.random.default_rng(0).standard_normal((1, 300)), 2, axis=0).astype(np.float32)
    options = replace(kind, augment=AugmentOptions(double=1.0, echo=1.0))
    pools = [Pool([make_track("song", vocals=mono, accompaniment=mono)])]
    vocals, _ = draw(options, songs=pools, voices=[Pool([make_track("voice", vocals=mono)])])
    left, right = vocals.unbind(dim=1)
    assert bool((measure_level((left - right).unsqueeze(1)) > 0.01).all()) is stereo
    assert bool((left == right).all()) is not stereo


def test_silent_recordings_stay_silent_and_finite() -> None:
    silence = np.zeros((2, 300), np.float32)
    quiet = [Pool([make_track("quiet", vocals=silence, accompaniment=silence)])]
    vocals, accompaniment = draw(VOICES, songs=quiet, voices=[Pool([make_track("mute", vocals=silence)])])
    assert vocals.count_nonzero() == accompaniment.count_nonzero() == 0
    vocals, _ = draw(VOICES, songs=quiet, voices=[Pool([make_lone("vocals", 1, 0.5)])])
    assert torch.isfinite(vocals).all()
    assert vocals.abs().max() < 0.01  # a voice over silence is not amplified


@pytest.mark.parametrize("samples", [1, 10, SAMPLES - 1])
def test_short_tracks_are_padded_with_zeros(samples: int) -> None:
    vocals, accompaniment = draw(PLAIN, size=4, songs=make_pools(1, samples))
    assert vocals.shape == (4, 2, SAMPLES)
    assert (vocals[..., samples:] == 0).all()
    assert torch.equal(vocals[0, :, :samples], torch.from_numpy(encode_places(1, samples)))
    assert torch.equal(accompaniment, -vocals)


# Refusals


@pytest.mark.parametrize(
    ("options", "kinds", "word"),
    [
        (VOICES, {"songs": make_pools(1)}, "voices"),
        (PLAIN, {"songs": []}, "songs"),
        (REMIXES, {"songs": [], "instrumentals": [Pool([make_lone("accompaniment", 1, 0.5)])]}, "songs"),
        (VOICES, {"songs": [], "voices": [Pool([make_lone("vocals", 1, 0.5)])]}, "accompaniment"),
        (PLAIN, {"songs": [Pool([])]}, "songs"),
        (REMIXES, {"songs": [Pool([make_song(1)], remixed=False)]}, "remixed"),
        (VOICES, {"songs": [Pool([make_song(1)], remixed=False)], "voices": make_pools(1)}, "accompaniment"),
        (replace(PLAIN, second_voice=0.5), {"songs": [Pool([make_song(1)], remixed=False)]}, "second voice"),
    ],
)
def test_a_missing_kind_of_track_is_named(options: ExcerptOptions, kinds: dict[str, list[Pool]], word: str) -> None:
    with pytest.raises(DatasetError, match=word):
        ExcerptSampler(**kinds, samples=SAMPLES, rate=RATE, options=options)


def test_voices_over_instrumentals_need_no_songs() -> None:
    kinds = {
        "voices": [Pool([make_lone("vocals", 1, 0.5)])],
        "instrumentals": [Pool([make_lone("accompaniment", 1, 0.25)])],
    }
    vocals, accompaniment = draw(VOICES, songs=[], **kinds)
    assert (accompaniment == 0.25).all()
    torch.testing.assert_close(measure_level(vocals), measure_level(accompaniment))


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


# Changes of sound, at rates and lengths as in training because filters need room

ALL_CHANGES = AugmentOptions(pitch=0.5, tempo=0.5, eq=0.5, limiter=0.5, band_limit=0.5)


def make_noise(seed: int, samples: int = 40_000) -> DecodedTrack:
    source = np.random.default_rng(seed)
    stems = {stem: 0.1 * source.standard_normal((2, samples)) for stem in ("vocals", "accompaniment")}
    return make_track(f"noise {seed}", **{stem: part.astype(np.float16) for stem, part in stems.items()})


def draw_noise(options: ExcerptOptions, size: int = 6, step: int = 0, **kinds: list[Pool]) -> tuple[Tensor, Tensor]:
    kinds.setdefault("songs", [Pool([make_noise(1), make_noise(2)])])
    return ExcerptSampler(**kinds, samples=6_000, rate=16_000, options=options).draw_batch(step, size)[:2]


def test_the_defaults_change_no_sound() -> None:
    assert ExcerptOptions().augment == AugmentOptions()
    assert ExcerptOptions().second_voice == ExcerptOptions().voice_only == 0
    assert not ExcerptOptions().cut_silence


def test_seed_and_step_decide_every_change() -> None:
    options = ExcerptOptions(voices=0.0, voice_only=0.2, second_voice=0.5, cut_silence=True, augment=ALL_CHANGES)
    pools = [Pool([make_noise(1), make_noise(2)])]
    one, two = (ExcerptSampler(songs=pools, samples=6_000, rate=16_000, options=options) for _ in range(2))
    two.draw_batch(3, 2)
    for first, second in zip(one.draw_batch(4, 8)[:2], two.draw_batch(4, 8)[:2], strict=True):
        assert first.shape == (8, 2, 6_000)
        assert first.dtype == torch.float32
        assert torch.isfinite(first).all()
        assert torch.equal(first, second)


def test_changes_do_not_touch_the_recordings() -> None:
    song = make_noise(1)
    before = {stem: samples.copy() for stem, samples in song.stems.items()}
    draw_noise(
        ExcerptOptions(voices=0.0, second_voice=1.0, cut_silence=True, augment=ALL_CHANGES), songs=[Pool([song])]
    )
    for stem, samples in before.items():
        np.testing.assert_array_equal(song.stems[stem], samples)


def test_true_pairs_change_pitch_and_tempo_together() -> None:
    samples = make_noise(3).stems["vocals"]
    twins = [Pool([make_track("twins", vocals=samples, accompaniment=samples)])]
    moved = replace(PLAIN, augment=AugmentOptions(pitch=1.0, tempo=1.0))
    vocals, accompaniment = draw_noise(moved, songs=twins)
    assert torch.equal(vocals, accompaniment)
    assert not torch.equal(vocals, draw_noise(PLAIN, songs=twins)[0])
    vocals, accompaniment = draw_noise(replace(moved, pairs=0.0, remixes=1.0), songs=twins)
    assert not torch.equal(vocals, accompaniment)


def test_songs_that_may_not_be_remixed_are_changed_as_a_whole() -> None:
    samples = make_noise(3).stems["vocals"]
    twins = Pool([make_track("twins", vocals=samples, accompaniment=samples)])
    changes = replace(ALL_CHANGES, eq=1.0, limiter=0.0)
    options = ExcerptOptions(pairs=1, remixes=0, voices=0, vocal_free=0.5, voice_only=0.5, augment=changes)
    vocals, accompaniment = draw_noise(options, songs=[replace(twins, remixed=False)])
    assert torch.equal(vocals, accompaniment)
    assert len({round(float(one), 6) for one in measure_level(vocals)}) == len(vocals)
    vocals, accompaniment = draw_noise(options, songs=[twins])
    assert not torch.equal(vocals, accompaniment)


@pytest.mark.parametrize("samples", [6_000, 6_500])
def test_a_track_too_short_for_a_change_is_neither_changed_nor_padded(samples: int) -> None:
    vocals, _ = draw_noise(replace(PLAIN, augment=AugmentOptions(tempo=1.0, tempo_ratio=(1.5, 1.5))), songs=[
        Pool([make_noise(4, samples)])
    ])  # fmt: skip
    assert (vocals[..., -10:] != 0).any(dim=-1).all()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_stated_share_has_no_accompaniment(share: float) -> None:
    vocals, accompaniment = draw(replace(PLAIN, voice_only=share), size=250)
    silent = (accompaniment == 0).all(dim=(-1, -2))
    assert float(silent.float().mean()) == pytest.approx(share, abs=0.08)
    assert (vocals != 0).all()


def test_vocal_free_and_voice_only_exclude_each_other() -> None:
    vocals, accompaniment = draw(replace(PLAIN, voice_only=0.5, vocal_free=0.5), size=100)
    gone, alone = ((stem == 0).all(dim=(-1, -2)) for stem in (vocals, accompaniment))
    assert torch.equal(gone, ~alone)


def test_voice_only_leaves_silent_vocals_their_accompaniment() -> None:
    quiet = make_track("quiet", vocals=np.zeros((2, 300), np.float32), accompaniment=np.ones((2, 300), np.float32))
    _, accompaniment = draw(replace(PLAIN, voice_only=1.0), songs=[Pool([quiet])])
    assert (accompaniment == 1).all()


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_second_voice_joins_the_vocals_at_its_level(share: float) -> None:
    def steady(stem: str, frequency: int) -> np.ndarray:
        return np.tile(np.sin(2 * np.pi * frequency * np.arange(SAMPLES) / SAMPLES), (2, 5)).astype(np.float32)

    tune = make_track("tune", vocals=steady("vocals", 5), accompaniment=steady("accompaniment", 11))
    other = make_track("other", vocals=0.01 * steady("vocals", 9))
    options = replace(PLAIN, second_voice=share, second_voice_db=(-12.0, -3.0))
    vocals, accompaniment = draw(options, size=150, songs=[Pool([tune])], voices=[Pool([other])])
    spectrum = torch.fft.rfft(vocals[:, 0]).abs() / (SAMPLES / 2)
    backing = torch.fft.rfft(accompaniment[:, 0]).abs() / (SAMPLES / 2)
    lone, own = spectrum[:, 9] > 0.1, spectrum[:, 5] - 1
    doubled = (own.abs() > 1e-3) & ~lone  # the second voice may come from the same song
    assert float((lone | doubled).float().mean()) == pytest.approx(share, abs=0.1)
    torch.testing.assert_close(backing[:, 11], torch.ones(150))
    assert backing[:, 9].max() < 1e-3
    if share:
        levels_db = 20 * torch.log10(spectrum[:, 9][lone])
        assert -12.01 <= levels_db.min() < -9
        assert -5 < levels_db.max() <= -2.99


def make_tone(stem: str, hz: float, seconds: float, rate: int = 8_000) -> DecodedTrack:
    return make_track(f"{stem} {hz:.0f}", **{stem: synthetic_songs.make_tone(hz, seconds, rate)})


def find_loudest_hz(samples: Tensor, rate: int = 8_000) -> Tensor:
    return (
        torch.fft.rfft(samples[:, 0] * torch.hann_window(samples.shape[-1])).abs().argmax(-1) * rate / samples.shape[-1]
    )


@pytest.mark.parametrize("kind", [REMIXES, VOICES])
@pytest.mark.parametrize("in_key", [0.0, 1.0])
def test_vocals_in_key_fall_on_the_accompaniment(kind: ExcerptOptions, in_key: float) -> None:
    sung, played = make_tone("vocals", 440 * 2 ** (2 / 12), 3), make_tone("accompaniment", 220, 3)
    both = make_track("song", vocals=sung.stems["vocals"], accompaniment=played.stems["accompaniment"])
    excerpts = ExcerptSampler(
        songs=[Pool([both])], voices=[Pool([sung])], samples=8_000, rate=8_000, options=replace(kind, in_key=in_key)
    )
    vocals, accompaniment, _ = excerpts.draw_batch(0, 6)
    assert find_loudest_hz(accompaniment).tolist() == pytest.approx([220] * 6, abs=2)
    wanted = 440 if in_key else 440 * 2 ** (2 / 12)
    assert find_loudest_hz(vocals).tolist() == pytest.approx([wanted] * 6, rel=0.02)


def test_true_pairs_are_never_moved_in_key() -> None:
    for one, two in zip(draw(PLAIN), draw(replace(PLAIN, in_key=1.0)), strict=True):
        assert torch.equal(one, two)


def test_a_voice_too_short_to_be_moved_is_not_moved() -> None:
    sung, played = make_tone("vocals", 466.16, 1), make_tone("accompaniment", 220, 3)
    excerpts = ExcerptSampler(
        songs=[],
        voices=[Pool([sung])],
        instrumentals=[Pool([played])],
        samples=8_000,
        rate=8_000,
        options=replace(VOICES, in_key=1.0),
    )
    assert find_loudest_hz(excerpts.draw_batch(0, 3).vocals).tolist() == pytest.approx([466.16] * 3, abs=2)


def test_silent_vocals_get_no_second_voice() -> None:
    quiet = make_track("quiet", vocals=np.zeros((2, 300), np.float32), accompaniment=np.ones((2, 300), np.float32))
    options = replace(PLAIN, second_voice=1.0)
    vocals, _ = draw(options, songs=[Pool([quiet])], voices=[Pool([make_lone("vocals", 1, 0.5)])])
    assert vocals.count_nonzero() == 0


def test_each_stem_is_equalised_independently() -> None:
    plain, changed = (draw_noise(replace(PLAIN, augment=AugmentOptions(eq=eq)), size=40) for eq in (0.0, 0.5))
    assert plain[0].shape == changed[0].shape
    vocals, accompaniment = draw_noise(replace(PLAIN, augment=AugmentOptions(eq=1.0)), size=1)
    first = draw_noise(PLAIN, size=1)  # the same place: it is drawn before the equaliser
    gains = [torch.fft.rfft(a).abs() / torch.fft.rfft(b).abs() for a, b in zip((vocals, accompaniment), first)]  # noqa: B905
    smooth = [gain.reshape(2, -1)[:, :3_000].reshape(2, 100, 30).median(dim=-1).values for gain in gains]
    for gain in smooth:
        torch.testing.assert_close(gain[0], gain[1], rtol=0.1, atol=0.02)
        assert gain.max() / gain.min() > 1.2
    assert not torch.allclose(smooth[0], smooth[1], rtol=0.1)


def test_a_limited_excerpt_is_the_limited_mixture() -> None:
    plain = draw_noise(PLAIN, size=1)
    limited = draw_noise(replace(PLAIN, augment=AugmentOptions(limiter=1.0, limiter_db=(6.0, 6.0))), size=1)
    peak, now = (sum(stems).abs().max() for stems in (plain, limited))
    assert 20 * torch.log10(now / peak) <= -5.99
    gains = [after / before for after, before in zip(limited, plain, strict=True)]
    audible = (plain[0].abs() > 0.01) & (plain[1].abs() > 0.01)
    torch.testing.assert_close(gains[0][audible], gains[1][audible], rtol=1e-4, atol=1e-5)
    assert gains[0][audible].max() <= 1.0001


# The silence cut


def make_song_with_pauses(samples: int = 80_000) -> DecodedTrack:
    """Make vocals that alternate between a second of singing and one of silence.

    The accompaniment is positive during singing and negative during silence.
    """
    sings = (np.arange(samples) // 16_000) % 2 == 0
    vocals = np.where(sings, 0.5, 0.0)
    return make_track(
        "pauses",
        vocals=np.stack([vocals, vocals]).astype(np.float16),
        accompaniment=np.stack([vocals - 0.25] * 2).astype(np.float16),
    )


@pytest.mark.parametrize("change", [AugmentOptions(), AugmentOptions(tempo=1.0)])
def test_silence_is_cut_from_true_pairs_in_both_stems(change: AugmentOptions) -> None:
    options = replace(PLAIN, cut_silence=True, augment=change)
    vocals, accompaniment = draw_noise(options, size=20, songs=[Pool([make_song_with_pauses()])])
    assert vocals.shape == (20, 2, 6_000)
    sung = vocals.abs() > 0.1
    assert float(sung.float().mean()) > 0.94  # a frame may start in a pause
    plain, _ = draw_noise(replace(options, cut_silence=False), size=20, songs=[Pool([make_song_with_pauses()])])
    assert float((plain.abs() > 0.1).float().mean()) < 0.9
    if change == AugmentOptions():
        assert float((accompaniment > 0).float().mean()) > 0.94


def test_in_remixes_silence_is_cut_from_the_vocals_only() -> None:
    options = replace(REMIXES, cut_silence=True)
    vocals, accompaniment = draw_noise(options, size=30, songs=[Pool([make_song_with_pauses()])])
    assert float((vocals > 0.1).float().mean()) > 0.94
    assert 0.3 < float((accompaniment > 0).float().mean()) < 0.85


def test_a_track_with_too_little_singing_is_not_cut() -> None:
    song = make_song_with_pauses()
    song.stems["vocals"][:, 4_000:] = 0
    vocals, accompaniment = draw_noise(replace(PLAIN, cut_silence=True), size=30, songs=[Pool([song])])
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
