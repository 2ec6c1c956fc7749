"""Estimates vocals with models of other programs: MDX-Net, and models from waveform to waveform.

    blocks -> resample to the model's rate -> STFT (MDX-Net) -> slices -> graph -> overlap-add
           -> inverse STFT (MDX-Net) -> resample to the song's rate -> vocals

Slices lie on one grid that starts with the song, and overlap by a quarter. Ours differ from those of the original
programs in two ways. MDX-Net models get slices of frames of the song's STFT, whose edges hold real sound instead of a
reflection, and these are joined as spectra. And where the song ends within a slice, the slice begins earlier, so
that it is full of sound. `ForeignEstimator` can also do as the originals do, to compare: audio-separator 0.47 for
MDX-Net, `demucs.apply` of Demucs 4 for waveforms.

Graphs take stereo. A mono song is given as two equal channels, more than two channels are given in pairs, and what
comes out of equal channels is averaged. A silent slice gives silence, and the graph does not even run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from vocalsep import audio, stft
from vocalsep.errors import ModelError
from vocalsep.extraction.chunks import join
from vocalsep.extraction.estimators import Lookahead
from vocalsep.extraction.slices import Cutting, Run, Slices
from vocalsep.extraction.voice import VoiceDetector
from vocalsep.interchange import ForeignModel, mdx, waveform
from vocalsep.kinds import silence_non_finite, slide
from vocalsep.shapes import AnyArray, Array, Spectrum, Waveform
from vocalsep.stft import Grid

if TYPE_CHECKING:
    from vocalsep.backends.foreign import ForeignGraph

_OVERLAP = 0.25  # as in audio-separator, Demucs and demucs-onnx
_LOWEST_ROW = 3  # UVR and audio-separator give MDX-Net models nothing below it, some 20 Hz


class ForeignEstimator:
    """Estimates the vocals of one song; see `vocalsep.extraction.estimators.Estimator`.

    Args:
        model: The model.
        graph: Runs its graph.
        rate: The song's sample rate in Hz.
        channels: The song's number of channels.
        ahead: Computes the estimates of slices.
        as_original: Whether to cut the song as the original program does.
    """

    def __init__(
        self,
        model: ForeignModel,
        graph: ForeignGraph,
        rate: int,
        channels: int,
        *,
        ahead: Lookahead[AnyArray],
        as_original: bool = False,
    ) -> None:
        settings = model.settings
        self._model, self._graph, self._channels, self._as_original = model, graph, channels, as_original
        self._analysis = self._synthesis = None
        model_rate = mdx.RATE
        if isinstance(settings, waveform.Settings):
            model_rate = settings.rate
            cutting = _cut(settings.samples, "triangle", end="centre" if as_original else "earlier")
            run: Run = self._run_waveform
        elif as_original:
            cutting = _cut((settings.dim_t - 1) * mdx.HOP, "hann", end="zeros", lead=settings.n_fft // 2)
            run = self._run_reflected
        else:
            grid = make_grid(settings)
            self._analysis, self._synthesis = stft.Analysis(grid), stft.Synthesis(grid)
            cutting, run = _cut(settings.dim_t, "sine"), self._run_spectrum
        self._slices = Slices(cutting, run, ahead)
        self._to_model = audio.Resampler(rate, model_rate, channels)
        self._from_model = audio.Resampler(model_rate, rate, channels)
        self._samples = self._estimated = 0  # at the model's rate
        self._total = self._returned = 0  # at the song's rate
        self.detector: VoiceDetector | None = None
        self.is_invalid = False

    def push(self, block: Waveform) -> Waveform:
        """See `Estimator.push`."""
        return self._advance(block, last=False)

    def finish(self) -> Waveform:
        """See `Estimator.finish`."""
        return self._advance(np.zeros((self._channels, 0), np.float32), last=True)

    def _advance(self, block: Waveform, *, last: bool) -> Waveform:
        self._total += block.shape[-1]
        samples = self._to_model.push(block, last=last)
        self._samples += samples.shape[-1]
        pieces = self._slices.push(self._analyse(samples, last=last), last=last)
        vocals = [block[:, :0]]
        for index, piece in enumerate(pieces):
            is_last = last and index == len(pieces) - 1
            found = self._synthesise(piece, last=is_last)[:, : self._samples - self._estimated]
            self._estimated += found.shape[-1]
            vocals.append(self._from_model.push(silence_non_finite(found), last=is_last))
        joined = join(vocals)
        if last:  # resampling there and back may lose or add a sample
            missing = max(0, self._total - self._returned - joined.shape[-1])
            joined = np.pad(joined, [(0, 0), (0, missing)])
        joined = joined[:, : self._total - self._returned]
        self._returned += joined.shape[-1]
        return joined

    def _analyse(self, samples: Waveform, *, last: bool) -> AnyArray:
        if self._analysis is None:
            return samples
        spectrum = self._analysis.push(samples)
        return join([spectrum, self._analysis.finish()]) if last else spectrum

    def _synthesise(self, piece: AnyArray, *, last: bool) -> Waveform:
        if self._synthesis is None:
            return piece
        return self._synthesis.finish(piece) if last else self._synthesis.push(piece)

    def _run_waveform(self, samples: Waveform) -> Waveform:
        """Estimate a slice of samples."""
        settings = self._model.settings
        assert isinstance(settings, waveform.Settings)
        index, shape = settings.stems.index("vocals"), (1, len(settings.stems), 2, settings.samples)
        found = [self._run_graph(pair[None], shape)[0, index] for pair in pair_channels(samples)]
        return unpair_channels(np.stack(found), self._channels)

    def _run_spectrum(self, spectrum: Spectrum) -> Spectrum:
        """Estimate a slice of frames of an MDX-Net model."""
        settings = self._model.settings
        assert isinstance(settings, mdx.Settings)
        rows, frames = settings.dim_f, settings.dim_t
        found = []
        for pair in pair_channels(spectrum):
            parts = np.stack([pair.real, pair.imag], axis=1)[:, :, :rows]  # (channel, part, row, frame)
            parts[:, :, :_LOWEST_ROW] = 0
            answer = self._run_graph(parts.reshape(1, 4, rows, frames), (1, 4, rows, frames))
            answer = answer.reshape(2, 2, rows, frames)
            whole = np.zeros_like(pair)
            whole[:, :rows] = answer[:, 0] + 1j * answer[:, 1]
            found.append(whole)
        estimate = unpair_channels(np.stack(found), self._channels)
        if settings.primary_stem == "vocals":
            return estimate if self._as_original else estimate * np.float32(settings.compensate)
        return spectrum - estimate * np.float32(settings.compensate)

    def _run_reflected(self, samples: Waveform) -> Waveform:
        """Estimate a slice of samples of an MDX-Net model as the original does: by itself, reflected at its ends."""
        settings = self._model.settings
        assert isinstance(settings, mdx.Settings)
        grid, edge = make_grid(settings), settings.n_fft // 2
        padded = np.pad(samples, [(0, 0), (edge, edge)], mode="reflect")
        frames = slide(padded, grid.n_fft, grid.hop)
        return stft.inverse(
            self._run_spectrum(stft.transform_frames(frames, grid).swapaxes(-1, -2)), grid, samples.shape[-1]
        )

    def _run_graph(self, values: Array, shape: tuple[int, ...]) -> Array:
        answer = self._graph.run(values)
        if answer.shape != shape:
            raise ModelError(f"model {self._model.name}: gives an output of shape {answer.shape}; expected {shape}")
        if not np.isfinite(answer).all():
            self.is_invalid = True
        finite: Array = silence_non_finite(answer)
        return finite


def _cut(size: int, window: Literal["sine", "triangle", "hann"], **options: object) -> Cutting:
    return Cutting(size=size, step=int((1 - _OVERLAP) * size), window=window, **options)  # type: ignore[arg-type]


def make_grid(settings: mdx.Settings) -> Grid:
    """Return the grid of an MDX-Net model's spectra."""
    return Grid(rate=mdx.RATE, n_fft=settings.n_fft, hop=mdx.HOP)


def pair_channels(values: AnyArray) -> AnyArray:
    """Give a graph that takes stereo the channels of any song.

    Args:
        values: ``(channel, ...)``.

    Returns:
        ``(pair, 2, ...)``. A last channel without a partner is its own.
    """
    if len(values) % 2:
        values = np.concatenate([values, values[-1:]])
    return values.reshape(-1, 2, *values.shape[1:])


def unpair_channels(pairs: AnyArray, channels: int) -> AnyArray:
    """Undo `pair_channels`. A channel that was its own partner gets the mean of both estimates.

    Args:
        pairs: ``(pair, 2, ...)``.
        channels: The song's number of channels.
    """
    values = pairs.reshape(-1, *pairs.shape[2:])
    if len(values) == channels:
        return values
    return np.concatenate([values[: channels - 1], (values[-2:-1] + values[-1:]) / 2])
