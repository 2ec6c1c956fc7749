"""BSS Eval: split an estimate into its own source, the other sources, and what belongs to neither.

Every estimate is projected onto the references, filtered with 512 taps. The filters are fitted to the whole song
(Vincent, Gribonval and Fevotte, "Performance measurement in blind audio source separation", 2006):

    own    = projection of the estimate onto all channels of its own reference
    every  = projection of the estimate onto all channels of all references
    e_spat = own - true,  e_interf = every - own,  e_artif = estimate - every

Two versions score these parts:

- Version 4, images, as in museval (Stoter, Liutkus and Ito, "The 2018 signal separation evaluation campaign", 2018):
  frame by frame, with ``true`` as the signal. Gain and filtering count as errors.
- Version 3, sources, as in mir_eval (Raffel et al., 2014): over the whole song, with ``own`` as the signal. Filters of
  up to 512 taps on the estimate do not count as errors.

The results equal those of museval and mir_eval, but take less time. Correlations are summed over frames in the
frequency domain, and their matrices are factored once for all estimates of a song. Energies are taken from spectra
(Parseval), so nothing is transformed back.

Where a reference has no energy in some band, its filters are fitted to rounding errors. An example is a lossy file
decoded to float, above its bandwidth. The scores of version 4 are then meaningless, in museval too. Round such
references to 16 bits first.

A signal is silent where its channels sum to 0 at each sample (museval's rule). Frames in which a reference or an
estimate is silent score NaN for all sources. If one is silent throughout, every score is NaN; museval and mir_eval
raise errors in this case.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.linalg

from vocalsep.errors import AudioError
from vocalsep.evaluation.metrics import Floats, to_decibels
from vocalsep.kinds import to_numpy_signal
from vocalsep.shapes import Waveform
from vocalsep.stft import next_fast_length

Spectra = npt.NDArray[np.complex128]

TAPS = 512
_FRAMES = 2  # frames transformed at once; more do not fit into the processor's cache


class Ratios(NamedTuple):
    """Energy ratios in dB, each ``(source, frame)`` or ``(source,)``, float64; infinite where there is no such error.

    Attributes:
        sdr: Signal to distortion: all errors together.
        isr: Image to spatial distortion; NaN in version 3.
        sir: Source to interference.
        sar: Sources to artifacts.
    """

    sdr: Floats
    isr: Floats
    sir: Floats
    sar: Floats


class BssScores(NamedTuple):
    """Scores of the estimates of one song.

    Attributes:
        images: Version 4, ``(source, frame)``.
        sources: Version 3, ``(source,)``.
    """

    images: Ratios
    sources: Ratios


def bss_eval(references: Waveform, estimates: Waveform, rate: int, *, window_seconds: float = 1.0) -> BssScores:
    """Score an estimate of each source of a song with BSS Eval, version 4 as museval and version 3 as mir_eval.

    Args:
        references: The true sources, ``(source, time)`` or ``(source, channel, time)``: an array, a tensor or a list.
        estimates: One estimate per reference, in the same order and shape.
        rate: Their sample rate in Hz.
        window_seconds: Length of the frames of version 4.

    Returns:
        The ratios in dB; NaN in silence, infinite without errors.

    Raises:
        AudioError: If the shapes differ or are no shapes of sources, or a frame is shorter than the filters.
        TypeError: If they are no arrays, tensors or lists of numbers.
    """
    true, made = to_numpy_signal(references, "references", 3), to_numpy_signal(estimates, "estimates", 3)
    if true.shape != made.shape:
        raise AudioError(f"estimates of shape {made.shape}; expected {true.shape}, like the references")
    try:
        return BssScores(*BssEval(true, round(window_seconds * rate))(made))
    except ValueError as error:
        raise AudioError(str(error)) from error


class BssEval:
    """Scores any number of estimates against the references of one song.

    Args:
        references: The true sources, ``(source, channel, time)``.
        window: Samples per frame of version 4, at least `taps`. Frames do not overlap. A shorter remainder at the
            end is left out, unless the whole song is shorter than a frame.
        taps: Length of the distortion filters.

    Raises:
        ValueError: If there are no samples, or the window is shorter than the filters.
    """

    def __init__(self, references: Waveform, window: int, taps: int = TAPS) -> None:
        if references.ndim != 3 or 0 in references.shape:
            raise ValueError(f"references of shape {tuple(references.shape)}; expected (source, channel, time)")
        if window < taps:
            raise ValueError(f"frames of {window} samples; expected at least {taps}, the length of the filters")
        self._shape, self._taps = references.shape, taps
        self._window = min(window, references.shape[-1])
        self._size = next_fast_length(self._window + taps - 1)
        self._references = _split_frames(references, self._window, taps)
        self._silent = _find_silence(self._references[..., : self._window])
        self._factors: list[_Factors] | None = None

    def __call__(self, estimates: Waveform) -> tuple[Ratios, Ratios]:
        """Score one estimate of each source.

        Args:
            estimates: One estimate per reference, in the same order and shape. Not changed.

        Returns:
            Ratios of version 4, ``(source, frame)``, and of version 3, ``(source,)``.

        Raises:
            ValueError: If the shape differs from that of the references.
        """
        if estimates.shape != self._shape:
            raise ValueError(f"estimates of shape {tuple(estimates.shape)}; expected {tuple(self._shape)}")
        framed = _split_frames(estimates, self._window, self._taps)
        frames = self._shape[-1] // self._window
        silent_estimates = _find_silence(framed[..., : self._window])
        if self._silent.all(axis=-1).any() or silent_estimates.all(axis=-1).any():
            nothing = np.full((self._shape[0], frames), np.nan)
            return Ratios(*[nothing] * 4), Ratios(*[nothing[:, 0]] * 4)
        energies = self._compute_energies(framed)
        silent = (self._silent | silent_estimates).any(axis=0)
        version_4 = _Energies(*(np.where(silent, np.nan, energy)[:, :frames] for energy in energies[0]))
        return version_4.score_images(), energies[1].score_sources()

    def _compute_energies(self, estimates: Waveform) -> tuple[_Energies, _Energies]:
        """Return the energies of all parts, for every frame and for the whole song."""
        filters = self._fit_filters(estimates)
        spectra = _Filters(*(_transform(part, self._size) for part in filters))
        energies = np.empty((len(_Energies._fields), estimates.shape[0], estimates.shape[2]))
        for start in range(0, estimates.shape[2], _FRAMES):
            block = slice(start, start + _FRAMES)
            references = self._references[:, :, block, : self._window]
            parts = self._compute_parts(references, estimates[:, :, block, : self._window], spectra, self._size)
            for index, part in enumerate(parts):
                energies[index, :, block] = _sum_energy(part, self._size)
        framewise = _Energies(*energies)
        overlap = self._compute_overlap(estimates, filters)
        return framewise, _Energies(*(e.sum(axis=-1) + o for e, o in zip(framewise, overlap, strict=True)))

    def _compute_overlap(self, estimates: Waveform, filters: _Filters) -> list[Floats]:
        """Return the part of the whole song's energies that the sum over frames misses, ``(source,)`` each.

        Filtered frames reach into the next frame, and the product of the two overlapping parts is missing.
        """
        reach = self._taps - 1
        if estimates.shape[2] == 1 or reach == 0:
            return [np.zeros(estimates.shape[0])] * len(_Energies._fields)
        size = 2 * self._taps
        spectra = _Filters(*(_transform(part, size) for part in filters))
        last = slice(self._window - reach, self._window)
        ends = self._compute_parts(self._references[:, :, :-1, last], estimates[:, :, :-1, last], spectra, size)
        starts = self._compute_parts(self._references[:, :, 1:, :reach], estimates[:, :, 1:, :reach], spectra, size)
        overlap = []
        for end, start in zip(ends, starts, strict=True):
            late, early = _invert(end, size)[..., reach : 2 * reach], _invert(start, size)[..., :reach]
            overlap.append(2 * np.einsum("scft,scft->s", late, early))
        return overlap

    def _compute_parts(self, references: Waveform, estimates: Waveform, filters: _Filters, size: int) -> _Energies:
        """Return the spectra of all parts, ``(source, channel, frame, bin)`` each."""
        true, made = _transform(references, size), _transform(estimates, size)
        own, every = np.zeros_like(made), np.zeros_like(made)
        for channel in range(true.shape[1]):
            own += filters.own[:, channel, :, None] * true[:, channel, None]
            for source in range(true.shape[0]):
                every += filters.every[source, channel, :, :, None] * true[source, channel]
        return _Energies(
            true=true,
            own=own,
            every=every,
            spatial=own - true,
            interference=every - own,
            artifacts=made - every,
            error=made - true,
            unfiltered=made - own,
        )

    def _fit_filters(self, estimates: Waveform) -> _Filters:
        """Fit filters from references to estimates by least squares."""
        sources, channels = self._references.shape[:2]
        if self._factors is None:
            gram = _build_gram(self._correlate(self._references))
            own = channels * self._taps
            blocks = [slice(source * own, (source + 1) * own) for source in range(sources)]
            self._factors = [_Factors(gram[block, block]) for block in blocks] + [_Factors(gram)]
        products = self._correlate(estimates)
        sides = products.reshape(sources, channels, sources, channels, self._taps)  # reference, estimate, lag
        own_filters = []
        for source, factors in enumerate(self._factors[:-1]):
            side = sides[source, :, source].swapaxes(1, 2).reshape(-1, channels)
            own_filters.append(factors.solve(side).reshape(channels, self._taps, channels).swapaxes(1, 2))
        side = sides.transpose(0, 1, 4, 2, 3).reshape(-1, sources * channels)
        every = self._factors[-1].solve(side).reshape(sources, channels, self._taps, sources, channels)
        return _Filters(np.stack(own_filters), every.transpose(0, 1, 3, 4, 2))

    def _correlate(self, signals: Waveform) -> Floats:
        """Return ``sum_t reference[t] signal[t + lag]`` for all channels, ``(reference, signal, lag)``; lag >= 0."""
        count, frames = np.prod(self._shape[:2]), signals.shape[2]
        total = np.zeros((count, count, self._size // 2 + 1), np.complex128)
        for start in range(0, frames, _FRAMES):
            block = slice(start, start + _FRAMES)
            before = _transform(self._references[:, :, block, : self._window], self._size).conj()
            after = _transform(signals[:, :, block], self._size)
            before, after = (part.reshape(count, *part.shape[2:]) for part in (before, after))
            for index, spectrum in enumerate(before):
                total[index] += (spectrum * after).sum(axis=1)
        return _invert(total, self._size)[..., : self._taps]


class _Filters(NamedTuple):
    """Distortion filters, or their spectra."""

    own: npt.NDArray[np.inexact]  # (source, channel of the reference, channel of the estimate, tap)
    every: npt.NDArray[np.inexact]  # (source, channel of the references; source, channel of the estimates; tap)


class _Energies(NamedTuple):
    """The parts of estimates: their energies, or their spectra."""

    true: Any
    own: Any
    every: Any
    spatial: Any
    interference: Any
    artifacts: Any
    error: Any  # against the true source
    unfiltered: Any  # against the filtered source

    def score_images(self) -> Ratios:
        return Ratios(
            sdr=to_decibels(self.true, self.error),
            isr=to_decibels(self.true, self.spatial),
            sir=to_decibels(self.own, self.interference),
            sar=to_decibels(self.every, self.artifacts),
        )

    def score_sources(self) -> Ratios:
        sdr = to_decibels(self.own, self.unfiltered)
        return self.score_images()._replace(sdr=sdr, isr=np.full_like(sdr, np.nan))


class _Factors:
    """The factors of a Gram matrix of delayed references, with museval's epsilon on its diagonal."""

    def __init__(self, gram: Floats) -> None:
        self._gram = gram
        eps = np.finfo(np.float64).eps
        self._lu, self._pivots, info = scipy.linalg.lapack.dgetrf(gram + eps * np.eye(len(gram)), overwrite_a=True)
        self._regular = info == 0

    def solve(self, side: Floats) -> Floats:
        if self._regular:
            found: Floats = scipy.linalg.lapack.dgetrs(self._lu, self._pivots, side)[0]
            if np.isfinite(found).all():
                return found
        return np.asarray(np.linalg.lstsq(self._gram, side, rcond=None)[0], np.float64)


def _transform(samples: Waveform | Floats, size: int) -> Spectra:
    spectra: Spectra = scipy.fft.rfft(samples.astype(np.float64), size, workers=1)
    return spectra


def _invert(spectra: Spectra, size: int) -> Floats:
    samples: Floats = scipy.fft.irfft(spectra, size, workers=1)
    return samples


def _sum_energy(spectra: Spectra, size: int) -> Floats:
    """Return the energy of real signals of an even length from their spectra: ``(source, frame)``."""
    both = np.ascontiguousarray(spectra).view(np.float64)
    energy = np.einsum("scfb,scfb->sf", both, both)  # 0 Hz and half the sample rate count once, the others twice
    edges = np.square(np.abs(spectra[..., [0, -1]])).sum(axis=(1, 3))
    return np.asarray((2 * energy - edges) / size)


def _split_frames(signals: Waveform, window: int, taps: int) -> Waveform:
    """Split into frames, each with the `taps - 1` samples that follow it: ``(source, channel, frame, time)``."""
    padded = np.pad(signals, [(0, 0), (0, 0), (0, -signals.shape[-1] % window + taps - 1)])
    return np.lib.stride_tricks.sliding_window_view(padded, window + taps - 1, axis=-1)[..., ::window, :]


def _find_silence(framed: Waveform) -> npt.NDArray[np.bool_]:
    """Return which frames of which sources are silent, ``(source, frame)``."""
    return np.asarray((framed.sum(axis=1) == 0).all(axis=-1))


def _build_gram(correlations: Floats) -> Floats:
    """Build the Gram matrix of delayed signals: element ``(i, p), (j, q)`` is their correlation at lag ``p - q``."""
    signals, _, taps = correlations.shape
    both = np.concatenate([correlations.swapaxes(0, 1)[..., :0:-1], correlations], axis=-1)
    delay = np.arange(taps)
    lag = delay[:, None] - delay[None, :] + taps - 1
    return both[:, :, lag].transpose(0, 2, 1, 3).reshape(signals * taps, signals * taps)
