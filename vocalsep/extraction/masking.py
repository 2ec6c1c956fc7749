"""Estimates vocals by a net's masks, as all of our own models do.

    blocks -> resample to the model's rate -> STFT -> features -> net, in chunks -> stitched mask
           -> project onto the song's own STFT -> apply -> inverse STFT -> vocals

Everything between the blocks and the vocals is computed where the net runs. Each chunk goes all the way from the net to
sound on its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from vocalsep import masks
from vocalsep.backends import Backend, to_numpy
from vocalsep.extraction import clustering
from vocalsep.extraction.chunks import PIECE, Buffer, ChunkStream, PieceStream, Stitcher, join
from vocalsep.extraction.clustering import Clusters
from vocalsep.extraction.estimators import Lookahead
from vocalsep.extraction.fading import Fader
from vocalsep.extraction.inversion import INVERSIONS
from vocalsep.extraction.voice import VoiceDetector
from vocalsep.features import FrontEnd
from vocalsep.features.base import compute_power
from vocalsep.kinds import array_namespace, silence_non_finite
from vocalsep.means import Mean
from vocalsep.shapes import AnyArray, Array, Features, Mask, Spectrum, Waveform
from vocalsep.stft import Analysis, Grid
from vocalsep.weights import Model


class MaskStream:
    """The mask of one song, as one net estimates it.

    Args:
        model: The model.
        backend: Runs the model's net.
        rate: The song's sample rate in Hz.
        channels: The song's number of channels.
        clusters: The song's clusters, to be used instead of the net's own mask.
        ahead: Computes the masks of batches of chunks.
    """

    def __init__(
        self,
        model: Model,
        backend: Backend,
        rate: int,
        channels: int,
        *,
        clusters: Clusters | None = None,
        ahead: Lookahead[Mask],
    ) -> None:
        self.front_end, self.backend, self.piece = model.front_end, backend, get_piece_size(backend)
        self.hop = round(self.front_end.frames * (1 - model.run.overlap))
        self.is_invalid = False
        self._channels, self._batch = channels, get_batch_size(backend, model)
        self._clusters, self._ahead = clusters, ahead
        self._chunks = ChunkStream(self.front_end, rate, channels, self.hop, self.piece, backend.place)
        self._stitcher = Stitcher(self.front_end.frames, self.hop)
        self._mask = Buffer()  # frames of the mask, on the net's grid, that are still needed

    @property
    def known_seconds(self) -> float:
        """Time of the last frame of the mask so far. Negative before the first one."""
        return (self._mask.total - 1) * self.front_end.grid.frame_seconds

    def push(self, block: Waveform, *, last: bool) -> None:
        """Take the next block of the song, and start to estimate the masks of the chunks that are complete."""
        self._start(self._chunks.push(block, last=last))

    def push_pieces(self, pieces: list[Spectrum], *, last: bool) -> None:
        """Like `push`, for a song whose own spectrum is the one that the net needs."""
        self._start(self._chunks.push_pieces(pieces, last=last))

    def _start(self, chunks: list[Any]) -> None:
        for start in range(0, len(chunks), self._batch):
            batch = chunks[start : start + self._batch]
            self._submit(batch[0][None] if len(batch) == 1 else array_namespace(*batch).stack(batch))

    def _submit(self, power: Any) -> None:
        """Start to estimate the masks of a batch of chunks."""

        def estimate() -> Mask:
            with np.errstate(all="ignore"):
                mask = estimate_masks(self.backend, self.front_end, power, self._batch, self._clusters)
            return self.front_end.ungroup_channels(mask, self._channels)

        self._ahead.submit(estimate)

    def collect(self, *, last: bool) -> Iterator[None]:
        """Add the masks of the chunks that are due, one by one: less memory, and always the same sums."""
        for mask in self._ahead.collect(last=last):
            xp = array_namespace(mask)
            self.is_invalid = self.is_invalid or not bool(xp.all(xp.isfinite(mask)))
            for chunk in range(mask.shape[0]):
                self._mask.push(self._stitcher.push(mask[chunk, ...]))
                yield

    def finish(self) -> None:
        """Add the rest of the mask."""
        self._mask.push(self._stitcher.finish())

    def take(self, grid: Grid, frames: range) -> Iterator[Mask]:
        """Yield the mask of pieces of the song's frames. Then forget what later frames do not need."""
        mask, start, net_step = self._mask.peek(), self._mask.start, self.front_end.grid.frame_seconds
        passed = int(frames.stop * grid.frame_seconds / net_step) - 1  # earlier frames are no longer needed
        self._mask.drop(max(0, min(passed - start, self._mask.length - 1)))
        for piece in split_frames(frames, self.piece):
            yield self.front_end.project(mask, start=start, grid=grid, frames=piece)


class MaskEstimator:
    """Estimates the vocals of one song by masks; see `vocalsep.extraction.estimators.Estimator`.

    Several nets must share the grid of their STFT, the length of their chunks and the hop between these: then the mean
    of their masks gives the mean of their vocals, and the song is transformed only once.

    Args:
        streams: The masks that each net estimates.
        rate: The song's sample rate in Hz.
        channels: The song's number of channels.
        inversion: A key of `INVERSIONS`.
        mean: The mean whose nets these are; see `fading` for one that is led by its first model.
    """

    def __init__(
        self,
        streams: Sequence[MaskStream],
        rate: int,
        channels: int,
        *,
        inversion: str,
        mean: Mean | None = None,
    ) -> None:
        self._streams, self._weights = streams, [np.float32(weight) for weight in (mean.weights if mean else (1,))]
        first = streams[0]
        self._net_grid, self._grid = first.front_end.grid, first.front_end.grid.at_rate(rate)
        self._piece, self._place = first.piece, first.backend.place
        self._analysis = Analysis(self._grid)  # of songs on another grid than the net's
        self._pieces = PieceStream(self._grid, self._piece, self._place)  # of songs on the net's own grid
        self._inversion = INVERSIONS[inversion](self._grid)
        self._samples = Buffer()  # samples of the song that are not yet transformed, on another grid
        self._spectrum = Buffer()  # frames of the song that are not yet masked
        self._total = self._returned = 0  # samples of the song and of its vocals so far
        self._empty = np.zeros((channels, 0), dtype=np.float32)
        self._faders = [Fader(self._grid.frame_seconds) for _ in streams[1:]] if mean and mean.led_by_first else []
        self.detector: VoiceDetector | None = VoiceDetector(self._grid.frame_seconds)

    @property
    def is_invalid(self) -> bool:
        """Whether any net has returned NaN or infinity."""
        return any(stream.is_invalid for stream in self._streams)

    def push(self, block: Waveform) -> Waveform:
        """See `Estimator.push`."""
        self._total += block.shape[-1]
        return self._advance(block, last=False)

    def finish(self) -> Waveform:
        """See `Estimator.finish`."""
        return self._advance(self._empty, last=True)

    def _advance(self, block: Waveform, *, last: bool) -> Waveform:
        if self._grid == self._net_grid:  # the song's own spectrum is the one that the nets need
            pieces = self._pieces.push(block, last=last)
            for piece in pieces:
                self._spectrum.push(piece)
            for stream in self._streams:
                stream.push_pieces(pieces, last=last)
        else:
            self._samples.push(block)
            for stream in self._streams:
                stream.push(block, last=last)
        return self._invert(last=last)

    def _analyse(self, samples: int, *, last: bool) -> None:
        """Transform the song up to a number of samples, or to its end, and buffer the new frames."""
        count = self._samples.length if last else max(0, samples - self._samples.start)
        parts = [self._analysis.push(self._place(self._samples.pop(count)))]
        if last:
            parts.append(self._analysis.finish())
        self._spectrum.push(join(parts))

    def _invert(self, *, last: bool) -> Waveform:
        """Collect the masks that are due, and return the vocals as far as they are known."""
        parts: list[Waveform] = []
        for _ in zip(*(stream.collect(last=last) for stream in self._streams), strict=True):
            parts += map(self._inversion.push, self._apply_mask(last=False))
        if last:
            for stream in self._streams:
                stream.finish()
            parts += map(self._inversion.push, self._apply_mask(last=True))
            parts.append(self._inversion.finish())
        if not parts:
            return self._empty
        vocals = to_numpy(join(parts)[..., : self._total - self._returned])
        self._returned += vocals.shape[-1]
        return silence_non_finite(vocals)  # samples of huge songs may have overflowed

    def _apply_mask(self, *, last: bool) -> Iterator[Spectrum]:
        """Remove the frames whose mask is known from the buffer, and yield them masked, in pieces."""
        # Frames at or before the last frame of the masks are known.
        known = int(self._streams[0].known_seconds / self._grid.frame_seconds) + 1
        if self._grid != self._net_grid:  # as late as possible: a spectrum takes four times the song's memory
            self._analyse((known - 1) * self._grid.hop + self._grid.n_fft // 2, last=last)
        first, ready = self._spectrum.start, self._spectrum.length
        if not last:
            ready = max(0, min(ready, known - first))
        frames, powers = range(first, first + ready), []
        masks_of = [stream.take(self._grid, frames) for stream in self._streams]
        for piece, *found in zip(split_frames(frames, self._piece), *masks_of, strict=True):
            mixture = self._spectrum.pop(len(piece))
            mask, leading = self._average(found, mixture)
            vocals = masks.apply(mask, mixture)
            powers.append((_sum_power(vocals) if leading is None else leading, _sum_power(mixture)))
            yield vocals
        if powers:
            assert self.detector
            self.detector.push(*map(np.concatenate, zip(*powers, strict=True)))

    def _average(self, found: list[Mask], mixture: Spectrum) -> tuple[Mask, Array | None]:
        """Return the mean of the nets' masks of some frames, and the power of the vocals of the net that leads.

        That net also says where somebody sings. Without one, there is no such power.
        """
        first, *others = found
        if not others:
            return first, None
        leading: Array | None = None
        if self._faders:
            power = compute_power(mixture)
            leading, *sums = (_sum_masked_power(mask, power) for mask in found)
            others = [
                mask * self._place(fader.push(leading, own).astype(np.float32))
                for fader, mask, own in zip(self._faders, others, sums, strict=True)
            ]
        mean = self._weights[0] * first
        for weight, mask in zip(self._weights[1:], others, strict=True):
            mean = mean + weight * mask
        return mean, leading


def split_frames(frames: range, size: int | None) -> list[range]:
    """Cut frames into pieces; None leaves them in one piece."""
    step = size or max(1, len(frames))
    return [frames[at : at + step] for at in range(0, len(frames), step)]


def _sum_masked_power(mask: Mask, power: AnyArray) -> Array:
    """Return the power of each frame under a mask, over all channels and rows, ``(frame,)``, float64 in numpy."""
    xp = array_namespace(mask)
    energy: Array = to_numpy(xp.sum(mask * mask * power, axis=(0, 1))).astype(np.float64)
    return energy


def _sum_power(spectrum: Spectrum) -> Waveform:
    """Return the power of each frame, over all channels and rows, ``(frame,)``, as a numpy array."""
    xp = array_namespace(spectrum)
    return to_numpy(xp.sum(xp.real(xp.vecdot(spectrum, spectrum, axis=-2)), axis=0))


def get_batch_size(backend: Backend, model: Model) -> int:
    """Return how many inputs the net gets at once.

    On a CPU it is always one: batches are no faster there, and the vocals must not depend on how the song arrives.
    """
    return 1 if backend.device == "cpu" else model.run.chunks


def get_piece_size(backend: Backend) -> int | None:
    """Return how many frames of a song are transformed and masked at a time; see `chunks.PieceStream`."""
    return PIECE if backend.device == "cpu" else None


def estimate_masks(
    backend: Backend, front_end: FrontEnd, power: Any, batch: int, clusters: Clusters | None = None
) -> Mask:
    """Estimate the masks of chunks of a song.

    Args:
        backend: Runs the net.
        front_end: The net's front end.
        power: ``(chunk, channel or 1, row, frame)``, from a `ChunkStream`.
        batch: Number of inputs that the net gets at once.
        clusters: The song's clusters, to be used instead of the net's own masks.

    Returns:
        ``(chunk * groups, channel of the net or 1, row, frame)``; see `FrontEnd.ungroup_channels`.
    """
    found = [
        clustering.estimate_mask(clusters, *backend.embed(features), grouped)
        if clusters and clusters.trusted
        else backend.run(features)
        for grouped, features in prepare_inputs(power, front_end, batch)
    ]
    return found[0] if len(found) == 1 else array_namespace(*found).concat(found)


def prepare_inputs(power: Any, front_end: FrontEnd, batch: int) -> Iterator[tuple[Any, Features]]:
    """Turn chunks of a song into batches for the net.

    A chunk with more channels than the net takes becomes several inputs; see `FrontEnd.group_channels`.

    Args:
        power: ``(chunk, channel or 1, row, frame)``, from a `ChunkStream`.
        front_end: The net's front end.
        batch: Number of inputs that the net gets at once.

    Yields:
        Power and features, each ``(input, channel of the net or 1, row, frame)`` with at most `batch` inputs.
    """
    grouped = front_end.group_channels(power)
    for start in range(0, grouped.shape[0], batch):
        part = grouped[start : start + batch, ...]
        yield part, front_end.normalise(part)
