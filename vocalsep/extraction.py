"""The straight line from a song to its vocals, block by block, in memory that does not grow with the song.

blocks -> the model's rate -> STFT -> features -> net, in chunks -> stitched mask -> projected onto the song's own STFT
-> applied -> inverse STFT -> vocals; the accompaniment is what remains of the mixture.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vocalsep import audio, chunks, masks, stft, weights
from vocalsep.errors import AudioError, ConfigError, unknown
from vocalsep.features import FrontEnd
from vocalsep.inversion import INVERSIONS
from vocalsep.shapes import Mask, Spectrum, Waveform
from vocalsep.stft import Analysis, Grid
from vocalsep.weights import Model

_OVERLAP = 2  # chunks that see each frame
_BATCH = 8  # chunks that the net is given at once
_VOICED_DB = -12.0  # a frame has voice where the vocals are at most this far below the mixture


class Piece(NamedTuple):
    """What is known of a song next, ``(channel, time)`` each; their float32 sum is the mixture."""

    vocals: Waveform
    accompaniment: Waveform


class Separation:
    """One song on its way through a model. Made by `Extractor.start`.

    Args:
        model: The model.
        rate: The song's rate, Hz.
        channels: Its channel count.
        device: Where the net computes.
        inversion: A key of `INVERSIONS`.
    """

    def __init__(self, model: Model, rate: int, channels: int, device: torch.device, inversion: str) -> None:
        front_end = model.front_end
        self._net, self._front_end, self._device, self._channels = model.net, front_end, device, channels
        self._grid = front_end.grid.at_rate(rate)
        self._resampler = audio.Resampler(rate, front_end.rate, channels)
        self._analysis = Analysis(self._grid)
        self._model_analysis = None if self._grid == front_end.grid else Analysis(front_end.grid)
        hop = front_end.frames // _OVERLAP
        self._slicer = chunks.Slicer(front_end.frames, hop)
        self._stitcher = chunks.Stitcher(front_end.frames, hop)
        self._inversion = INVERSIONS[inversion](self._grid)
        self._song = _Queue()  # the song's spectrum, frames not yet masked
        self._mask = _Queue()  # the mask on the model's grid, frames still needed
        self._mixture = _Queue()  # the song's samples, not yet answered
        self._frames = 0  # of the song, all seen
        self._voiced = 0  # of the song, those with voice
        self._finished = False

    @property
    def voice_share(self) -> float:
        """Share of the frames so far in which there is a voice, in [0, 1]."""
        return self._voiced / max(1, self._frames)

    def push(self, block: Waveform) -> Piece:
        """Takes the next block of the song and gives what is known by now; the rest comes later.

        Args:
            block: ``(channel, time)``, float32, any length. Samples that are not finite count as silence.
        """
        block = torch.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
        self._mixture.push(block)
        with torch.inference_mode():
            low = self._resampler.push(block)
            return self._advance(self._analysis.push(block), low, last=False)

    def finish(self) -> Piece:
        """Gives the rest of the song.

        Raises:
            AudioError: If the song had no samples, or this is called twice.
        """
        if self._finished or self._mixture.total == 0:
            raise AudioError("a song needs at least one sample, and ends once")
        self._finished = True
        with torch.inference_mode():
            low = self._resampler.push(self._mixture.empty(), last=True)
            return self._advance(self._analysis.finish(), low, last=True)

    def _advance(self, song: Spectrum, low: Waveform, *, last: bool) -> Piece:
        self._song.push(song)
        spectrum = self._model_spectrum(song, low, last=last)
        sliced = [self._slicer.push(self._front_end.analyse(spectrum))]
        if last:
            sliced.append(self._slicer.finish())
        for batch in torch.split(torch.cat(sliced), _BATCH):
            if len(batch):
                self._mask.push(self._stitcher.push(self._estimate(batch)))
        if last:
            self._mask.push(self._stitcher.finish())
        vocals = self._inversion.push(self._masked(last=last))
        if last:
            vocals = torch.cat([vocals, self._inversion.finish()], dim=-1)[..., : self._mixture.length]
        vocals = torch.nan_to_num(vocals, nan=0.0, posinf=0.0, neginf=0.0)  # of samples too large to square
        return Piece(*masks.remainder(self._mixture.pop(vocals.shape[-1]), vocals))

    def _model_spectrum(self, song: Spectrum, low: Waveform, *, last: bool) -> Spectrum:
        if self._model_analysis is None:
            return song
        parts = [self._model_analysis.push(low)]
        if last:
            parts.append(self._model_analysis.finish())
        return torch.cat(parts, dim=-1)

    def _estimate(self, power: Tensor) -> Mask:
        features = self._front_end.normalise(self._front_end.arrange(power.to(self._device)))
        mask = self._net.mask(features.contiguous(memory_format=self._net.memory_format)).cpu()
        return self._front_end.rearrange(mask, self._channels)

    def _masked(self, *, last: bool) -> Spectrum:
        """The song's frames whose mask is known by now, masked."""
        step, unit = self._grid.frame_seconds, self._front_end.grid.frame_seconds
        first, ready = self._song.start, self._song.length
        if not last:  # those at or before the last frame of the mask
            known = int((self._mask.total - 1) * unit / step) + 1 if self._mask.length else 0
            ready = max(0, min(ready, known - first))
        mixture = self._song.pop(ready)
        if ready == 0:
            return mixture
        mask = self._front_end.project(
            self._mask.peek(), start=self._mask.start, grid=self._grid, frames=range(first, first + ready)
        )
        passed = int((first + ready) * step / unit) - 1  # frames of the mask that no later frame lies next to
        self._mask.pop(max(0, min(passed - self._mask.start, self._mask.length - 1)))
        self._count_voiced(mask, mixture)
        return masks.apply(mask, mixture)

    def _count_voiced(self, mask: Mask, mixture: Spectrum) -> None:
        power = mixture.real.square() + mixture.imag.square()
        whole, voice = power.sum(dim=(0, 1)), (mask.square() * power).sum(dim=(0, 1))
        self._frames += whole.shape[0]
        self._voiced += int(((voice >= 10 ** (_VOICED_DB / 10) * whole) & (whole > 0)).sum())


class _Queue:
    """Frames or samples (the last axis) that wait: pushed at one end, popped at the other."""

    def __init__(self) -> None:
        self._held: Tensor | None = None
        self.total = 0  # pushed in all

    @property
    def length(self) -> int:
        return 0 if self._held is None else self._held.shape[-1]

    @property
    def start(self) -> int:
        """Popped in all."""
        return self.total - self.length

    def push(self, part: Tensor) -> None:
        self._held = part if self._held is None else torch.cat([self._held, part], dim=-1)
        self.total += part.shape[-1]

    def peek(self) -> Tensor:
        assert self._held is not None
        return self._held

    def pop(self, count: int) -> Tensor:
        held = self.peek()
        self._held = held[..., count:]
        return held[..., :count]

    def empty(self) -> Tensor:
        return self.peek()[..., :0]


class Extractor:
    """A model, ready to extract vocals from any number of songs of any rate, channel count and length.

    Args:
        model: From `load_model`.
        device: "auto", "cpu" or "cuda".
        inversion: "phase" (the mixture's phase) or "griffin-lim".

    Raises:
        ConfigError: For an unknown inversion or a device that is not there.
    """

    def __init__(self, model: Model, *, device: str = "auto", inversion: str = "phase") -> None:
        if inversion not in INVERSIONS:
            raise ConfigError(unknown("inversion", inversion, INVERSIONS))
        self.model, self.inversion = model, inversion
        self.device = weights.best_device(device)
        model.net.to(self.device, memory_format=model.net.memory_format)  # type: ignore[call-overload]

    def start(self, rate: int, channels: int) -> Separation:
        """Begins a song: push its blocks into what this returns.

        Args:
            rate: The song's rate, Hz.
            channels: Its channel count.
        """
        return Separation(self.model, rate, channels, self.device, self.inversion)

    def __call__(self, mixture: Waveform, rate: int) -> Piece:
        """Extracts from a song in memory.

        Args:
            mixture: ``(channel, time)``, float32, at least one sample. It is not changed.
            rate: Its rate, Hz.

        Returns:
            Vocals and accompaniment, of the mixture's shape.

        Raises:
            AudioError: If the shape is another, or there are no samples.
        """
        if mixture.ndim != 2 or 0 in mixture.shape:
            raise AudioError(f"a mixture of shape {tuple(mixture.shape)}; expected (channel, time), neither empty")
        song = self.start(rate, mixture.shape[0])
        size = max(1, round(audio.BLOCK_SECONDS * rate))
        pieces = [song.push(block) for block in torch.split(mixture.float(), size, dim=-1)]
        pieces.append(song.finish())
        return Piece(*(torch.cat(part, dim=-1) for part in zip(*pieces, strict=True)))


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was done with one song.

    Attributes:
        input: The song.
        vocals: The file written.
        accompaniment: The other file written, if any.
        model: Name of the model.
        audio_seconds: Length of the song.
        taken_seconds: Time it took, without loading the model.
        times_real_time: The former over the latter.
        peak_memory_mb: Peak memory of this process so far, MiB; None where the system does not tell.
        voice_share: Share of the song in which there is a voice, in [0, 1].
    """

    input: str
    vocals: str
    accompaniment: str | None
    model: str
    audio_seconds: float
    taken_seconds: float
    times_real_time: float
    peak_memory_mb: float | None
    voice_share: float


def extract(
    song: Path | str,
    vocals: Path | str,
    *,
    accompaniment: Path | str | None = None,
    extractor: Extractor | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> Report:
    """Extracts the vocals of a recording into a file of the same rate, channel count, length and sample format.

    Args:
        song: The recording.
        vocals: The file to write; replaced if it exists. It appears whole or not at all.
        accompaniment: Where to write mixture minus vocals, too.
        extractor: What to use; by default the default model.
        progress: Is told the seconds of the song that were just read.

    Raises:
        AudioError: If the song cannot be read or a file cannot be written.
    """
    extractor = extractor or Extractor(weights.load())
    started = time.perf_counter()
    outputs = [Path(path) for path in (vocals, accompaniment) if path is not None]
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(audio.Reader(Path(song)))
        writers = [
            stack.enter_context(audio.Writer(path, rate=reader.rate, channels=reader.channels, subtype=reader.subtype))
            for path in outputs
        ]
        separation = extractor.start(reader.rate, reader.channels)
        samples = 0
        for block in reader:
            samples += block.shape[-1]
            _write(writers, separation.push(block))
            progress(block.shape[-1] / reader.rate)
        if not samples:
            raise AudioError(f"{song}: the recording is empty")
        _write(writers, separation.finish())
    taken = time.perf_counter() - started
    seconds = samples / reader.rate
    return Report(
        input=str(song),
        vocals=str(vocals),
        accompaniment=None if accompaniment is None else str(accompaniment),
        model=extractor.model.name,
        audio_seconds=round(seconds, 3),
        taken_seconds=round(taken, 3),
        times_real_time=round(seconds / taken, 2),
        peak_memory_mb=peak_memory_mb(),
        voice_share=round(separation.voice_share, 4),
    )


def _write(writers: list[audio.Writer], piece: Piece) -> None:
    for writer, part in zip(writers, piece, strict=False):
        writer.write(part)


def peak_memory_mb() -> float | None:
    """Peak resident memory of this process so far, MiB; None on systems that do not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)


def oracle(
    mixture: Waveform,
    vocals: Waveform,
    rate: int,
    front_end: FrontEnd | None = None,
    *,
    mask: Callable[[Tensor, Tensor], Mask] = masks.ratio,
) -> Piece:
    """What an ideal mask makes of a song: the ceiling of every net that answers with such masks.

    Args:
        mixture: ``(channel, time)``.
        vocals: The true vocals, of the same shape; the rest of the mixture counts as accompaniment.
        rate: Their rate, Hz.
        front_end: Whose grid the mask lives on before it is projected, as a net's would. By default the mask lives
            on the song's own STFT of 4096 samples at 44.1 kHz (or as long at other rates), a mask to each channel.
        mask: From power of vocals and accompaniment to their mask.

    Returns:
        Vocals and accompaniment.
    """
    accompaniment = mixture - vocals
    if front_end is None:
        grid = Grid(rate=44_100, n_fft=4096, hop=1024).at_rate(rate)
        power = [stft.forward(part, grid).abs().square() for part in (vocals, accompaniment)]
        ideal = mask(power[0], power[1])
    else:
        grid = front_end.grid.at_rate(rate)
        low = [audio.resample(part, rate, front_end.rate) for part in (vocals, accompaniment)]
        bands = [front_end.analyse(stft.forward(part, front_end.grid)) for part in low]
        frames = range(grid.frames(mixture.shape[-1]))
        ideal = front_end.project(mask(bands[0], bands[1]), start=0, grid=grid, frames=frames)
    estimate = stft.inverse(masks.apply(ideal, stft.forward(mixture, grid)), grid, mixture.shape[-1])
    return Piece(*masks.remainder(mixture, estimate))
