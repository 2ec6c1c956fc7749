from __future__ import annotations

from dataclasses import replace
from typing import Literal

import fake_nets
import librosa
import numpy as np
import pytest
import synthetic_songs
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep import masks, stft
from vocalsep.extraction.inversion import INVERSIONS, GriffinLim, griffin_lim
from vocalsep.shapes import Magnitude, Spectrum, Waveform
from vocalsep.stft import Grid

GRID = Grid(rate=8_000, n_fft=256, hop=64)
TINY = Grid(rate=8_000, n_fft=16, hop=4)
OVERLAP = GRID.n_fft // GRID.hop


def song(seconds: float) -> Waveform:
    """Return a voice with accompaniment, ``(1, time)``, float64."""
    rate = GRID.rate
    backing = sum(synthetic_songs.make_backing(1, seconds, rate).values())
    return np.asarray(synthetic_songs.make_voice(1, seconds, rate) + backing)[None]


def same_phase(magnitude: Magnitude) -> Spectrum:
    return np.ones_like(magnitude) + 0j


def random_phase(magnitude: Magnitude) -> Spectrum:
    return np.exp(2j * np.pi * np.random.default_rng(0).random(magnitude.shape)).astype(np.complex64)


def relative_error(spectrum: Spectrum, magnitude: Magnitude) -> float:
    """Return the distance of a sound's magnitudes from the wanted ones, relative to these."""
    samples = (magnitude.shape[-1] - 1) * GRID.hop
    made = np.abs(stft.forward(stft.inverse(spectrum, GRID, samples), GRID))
    return float(np.linalg.norm(made - magnitude) / np.linalg.norm(magnitude))


def stream(spectrum: Spectrum, sizes: list[int], grid: Grid = GRID, name: str = "griffin-lim") -> Waveform:
    inversion = INVERSIONS[name](grid)
    parts = [inversion.push(part) for part in fake_nets.split_in_blocks(spectrum, sizes)]
    return np.concatenate([*parts, inversion.finish()], axis=-1)


def noise_spectrum(channels: int, frames: int) -> Spectrum:
    """Return a spectrum on `TINY` that is the STFT of no sound."""
    parts = np.random.default_rng(0).standard_normal((2, channels, TINY.freqs, frames), dtype=np.float32)
    return parts[0] + 1j * parts[1]


# griffin_lim


@pytest.mark.parametrize("iterations", [1, 16])
@pytest.mark.parametrize("momentum", [0.0, 0.99])
def test_griffin_lim_equals_librosas_for_the_same_start(momentum: float, iterations: int) -> None:
    magnitude = np.abs(stft.forward(song(1.0), GRID))
    found = griffin_lim(magnitude, GRID, same_phase(magnitude), iterations=iterations, momentum=momentum)
    ours = stft.inverse(found, GRID, (magnitude.shape[-1] - 1) * GRID.hop)[0]
    reference = librosa.griffinlim(
        magnitude[0],
        n_iter=iterations,
        hop_length=GRID.hop,
        n_fft=GRID.n_fft,
        momentum=momentum,
        init=None,  # all phases 0
        pad_mode="constant",
    )
    assert ours.shape == reference.shape
    inside = slice(GRID.n_fft, -GRID.n_fft)
    np.testing.assert_allclose(ours[inside], reference[inside], atol=1e-4)
    np.testing.assert_allclose(ours, reference, atol=1e-3)
    assert fake_nets.snr_db(reference, ours) > 60


def test_griffin_lim_comes_nearer_with_every_round() -> None:
    magnitude = np.abs(stft.forward(song(1.0), GRID))
    start = random_phase(magnitude)
    found = [griffin_lim(magnitude, GRID, start, iterations=n, momentum=0.0) for n in (1, 2, 4, 8, 16)]
    errors = [relative_error(start * magnitude, magnitude), *(relative_error(each, magnitude) for each in found)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]


def test_griffin_lim_with_momentum_comes_nearer_than_without() -> None:
    magnitude = np.abs(stft.forward(song(1.0), GRID))
    start = random_phase(magnitude)
    slow, fast = (griffin_lim(magnitude, GRID, start, iterations=32, momentum=m) for m in (0.0, 0.99))
    assert relative_error(fast, magnitude) < relative_error(slow, magnitude)


def test_griffin_lim_keeps_the_magnitudes_and_its_inputs() -> None:
    magnitude = np.abs(stft.forward(song(0.5), GRID))
    start = random_phase(magnitude)
    before = magnitude.copy(), start.copy()
    found = griffin_lim(magnitude, GRID, start, iterations=3)
    np.testing.assert_allclose(np.abs(found), magnitude, rtol=1e-5, atol=1e-6)
    assert np.array_equal(magnitude, before[0])
    assert np.array_equal(start, before[1])


def test_griffin_lim_keeps_a_phase_that_fits() -> None:
    spectrum = stft.forward(song(0.5)[:, : 60 * GRID.hop], GRID)
    found = griffin_lim(np.abs(spectrum), GRID, spectrum, iterations=8, momentum=0.0)
    assert fake_nets.snr_db(spectrum, found) > 80


def test_griffin_lim_of_silence_is_silence() -> None:
    silence = np.zeros((1, GRID.freqs, 5), np.float32)
    assert np.array_equal(np.abs(griffin_lim(silence, GRID, random_phase(silence))), silence)


# streaming


@pytest.mark.parametrize("name", ["griffin-lim", "griffin-lim-phase"])
def test_samples_do_not_depend_on_how_the_spectrum_is_cut(name: str) -> None:
    spectrum = noise_spectrum(2, 700)  # two segments and a rest

    @settings(deadline=None, max_examples=4)
    @given(sizes=st.lists(st.integers(0, 400), min_size=1, max_size=4).filter(lambda s: max(s) > 30))
    def check(sizes: list[int]) -> None:
        assert np.array_equal(stream(spectrum, sizes, TINY, name), whole)

    whole = stream(spectrum, [spectrum.shape[-1]], TINY, name)
    check()


@pytest.mark.parametrize("frames", [2, 3, 255, 256, 257, 287, 288, 289, 600])
@pytest.mark.parametrize("name", ["griffin-lim", "griffin-lim-phase"])
def test_streaming_returns_as_many_samples_as_the_plain_inverse(frames: int, name: str) -> None:
    spectrum = np.ones((1, TINY.freqs, frames), np.complex64)
    plain = stft.Synthesis(TINY)
    expected = plain.push(spectrum).shape[-1] + plain.finish().shape[-1]
    out = stream(spectrum, [100], TINY, name)
    assert out.shape == (1, expected)
    assert np.isfinite(out).all()


def test_samples_arrive_while_the_song_goes_on() -> None:
    inversion = GriffinLim(TINY)
    spectrum = stft.forward(fake_nets.noise(1, 1_000 * TINY.hop), TINY)
    returned = [inversion.push(part).shape[-1] for part in fake_nets.split_in_blocks(spectrum, [250])]
    assert sum(returned[:3]) > 400 * TINY.hop


def errors_at_seams_and_elsewhere(samples: Waveform, magnitude: Magnitude) -> tuple[float, float]:
    """Return the relative error of the magnitudes, within a window of the seams and away from them."""
    frames = magnitude.shape[-1]
    made = np.abs(stft.forward(samples[..., : (frames - 1) * GRID.hop], GRID))
    error, power = (np.square(x).sum(axis=(0, 1)) for x in (made - magnitude, magnitude))
    near = np.zeros(frames, bool)
    for seam in range(256, frames - 32, 256):
        near[seam - OVERLAP : seam + OVERLAP] = True
    inside = ~near
    inside[:OVERLAP] = inside[-OVERLAP:] = False
    return float(error[near].sum() / power[near].sum()), float(error[inside].sum() / power[inside].sum())


def test_seams_between_segments_are_hardly_worse_than_the_rest() -> None:
    spectrum = stft.forward(song(6.0).astype(np.float32), GRID)
    magnitude = np.abs(spectrum)
    seam, inside = errors_at_seams_and_elsewhere(stream(spectrum, [300]), magnitude)
    assert seam < 2.5 * inside
    apart = [griffin_lim(part, GRID, random_phase(part)) for part in fake_nets.split_in_blocks(magnitude, [256])]
    hard_seam, _ = errors_at_seams_and_elsewhere(
        stft.inverse(np.concatenate(apart, axis=-1), GRID, spectrum.shape[-1] * GRID.hop), magnitude
    )
    assert seam < 0.5 * hard_seam


def test_streaming_comes_near_the_wanted_magnitudes() -> None:
    mixture = song(3.0).astype(np.float32)
    samples = stream(stft.forward(mixture, GRID), [50])[..., : mixture.shape[-1]]
    magnitude = np.abs(stft.forward(mixture, GRID))
    assert relative_error(stft.forward(samples, GRID), magnitude) < 0.15


def test_without_a_given_phase_only_the_magnitudes_count() -> None:
    magnitude = np.abs(stft.forward(song(0.5).astype(np.float32), GRID))
    one, other = (stream(phase * magnitude, [20]) for phase in (1, -1j))
    assert np.array_equal(one, other)


def test_streaming_is_the_same_each_time_and_leaves_numpys_generator_alone() -> None:
    spectrum = stft.forward(fake_nets.noise(1, 320 * TINY.hop), TINY)
    np.random.seed(1)  # noqa: NPY002 - the old global generator must not change
    before = np.random.get_state()[1].copy()  # type: ignore[union-attr] # noqa: NPY002
    one = stream(spectrum, [64], TINY)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    assert np.array_equal(stream(spectrum, [64], TINY), one)


# from the spectrum's own phases


@pytest.mark.parametrize("window", ["hann", "hamming"])
@pytest.mark.parametrize("seconds", [0.5, 6.0])
def test_from_its_own_phase_a_spectrum_returns_its_sound(seconds: float, window: Literal["hann", "hamming"]) -> None:
    """This holds in one segment and in several: the ends of segments need no correction."""
    mixture, grid = song(seconds).astype(np.float32), replace(GRID, window=window)
    spectrum = stft.forward(mixture, grid)
    assert (spectrum.shape[-1] > 2 * 256) == (seconds > 1)
    own, random = (stream(spectrum, [100], grid, name) for name in ("griffin-lim-phase", "griffin-lim"))
    assert fake_nets.snr_db(mixture, own[..., : mixture.shape[-1]]) > 90
    assert fake_nets.snr_db(mixture, random[..., : mixture.shape[-1]]) < 0


@pytest.mark.parametrize("frames", [2, 50, 287])
def test_a_short_song_takes_one_run_from_its_own_phases(frames: int) -> None:
    spectrum = noise_spectrum(2, frames)
    found = griffin_lim(np.abs(spectrum), TINY, spectrum)
    expected = stft.inverse(found, TINY, (frames - 1) * TINY.hop)
    ours = stream(spectrum, [20], TINY, "griffin-lim-phase")
    assert np.array_equal(ours[..., : expected.shape[-1]], expected)
    assert not np.array_equal(ours, stream(spectrum, [20], TINY))


def test_own_phases_count_up_to_a_common_rotation() -> None:
    spectrum = stft.forward(song(0.5).astype(np.float32), GRID)
    one, turned = (stream(x, [20], name="griffin-lim-phase") for x in (spectrum, -spectrum))
    np.testing.assert_allclose(turned, -one, rtol=0, atol=1e-6)
    other = stream(spectrum.conj(), [20], name="griffin-lim-phase")
    assert fake_nets.snr_db(one, other) < 3


def test_pushed_spectra_are_not_changed() -> None:
    spectrum = noise_spectrum(1, 700)
    before = spectrum.copy()
    stream(spectrum, [700], TINY, "griffin-lim-phase")
    assert np.array_equal(spectrum, before)


def test_griffin_lim_from_the_mixtures_phase_beats_random_phases_and_loses_to_the_phase_itself() -> None:
    stems = [
        synthetic_songs.make_voice(1, 3.0, GRID.rate),
        sum(synthetic_songs.make_backing(1, 3.0, GRID.rate).values()),
    ]
    vocals, backing = (np.asarray(stem, np.float32)[None] for stem in stems)
    spectra = [stft.forward(stem, GRID) for stem in (vocals, backing)]
    masked = masks.apply(masks.ratio(*(np.square(np.abs(x)) for x in spectra)), spectra[0] + spectra[1])
    ways = {name: stream(masked, [100], name=name)[..., : vocals.shape[-1]] for name in INVERSIONS}
    found = {name: fake_nets.snr_db(vocals, samples) for name, samples in ways.items()}
    assert found["griffin-lim"] < 0 < found["griffin-lim-phase"] < found["phase"]


# all inversions


@pytest.mark.parametrize("name", sorted(INVERSIONS))
def test_every_inversion_accepts_empty_pushes_but_needs_one_frame(name: str) -> None:
    inversion = INVERSIONS[name](TINY)
    empty = np.zeros((2, TINY.freqs, 0), np.complex64)
    assert inversion.push(empty).shape == (2, 0)
    spectrum = stft.forward(fake_nets.noise(2, 100), TINY)
    parts = [inversion.push(spectrum), inversion.push(empty), inversion.finish()]
    assert np.concatenate(parts, axis=-1).shape[-1] >= 100
    with pytest.raises(ValueError, match="at least one frame"):
        INVERSIONS[name](TINY).finish()


@pytest.mark.parametrize("name", sorted(INVERSIONS))
def test_every_inversion_turns_silence_into_silence(name: str) -> None:
    inversion = INVERSIONS[name](TINY)
    silence = np.zeros((1, TINY.freqs, 300), np.complex64)
    samples = np.concatenate([inversion.push(silence), inversion.finish()], axis=-1)
    assert samples.shape[-1] >= 299 * TINY.hop
    assert not samples.any()
