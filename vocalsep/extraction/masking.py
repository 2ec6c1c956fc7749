"""Estimates vocals by a net's masks, as all of our own models do.

    blocks -> resample to the model's rate -> STFT -> features -> net, in chunks -> stitched mask
           -> project onto the song's own STFT -> apply -> inverse STFT -> vocals

Everything between the blocks and the vocals is computed where the net runs. Each chunk goes all the way from the net to
sound on its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from vocalsep import masks
from vocalsep.backends import Backend, to_numpy
from vocalsep.extraction import clustering
from vocalsep.extraction.chunks import PIECE, Buffer, ChunkStream, PieceStream, Stitcher, join
from vocalsep.extraction.clustering import Clusters
from vocalsep.extraction.estimators import Lookahead
from vocalsep.extraction.inversion import INVERSIONS
from vocalsep.extraction.voice import VoiceDetector
from vocalsep.features import FrontEnd
from vocalsep.kinds import array_namespace, silence_non_finite
from vocalsep.shapes import Features, Mask, Spectrum, Waveform
from vocalsep.stft import Analysis
from vocalsep.weights import Model


class MaskEstimator:
    """Estimates the vocals of one song by masks; see `vocalsep.extraction.estimators.Estimator`.

    Args:
        model: The model.
        backend: Runs the model's net.
        rate: The song's sample rate in Hz.
        channels: The song's number of channels.
        inversion: A key of `INVERSIONS`.
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
        inversion: str,
        clusters: Clusters | None,
        ahead: Lookahead[Mask],
    ) -> None:
        front_end = model.front_end
        hop = round(front_end.frames * (1 - model.run.overlap))
        self._backend, self._front_end, self._channels = backend, front_end, channels
        self._batch = get_batch_size(backend, model)
        self._clusters, self._ahead = clusters, ahead
        self._grid = front_end.grid.at_rate(rate)
        self._piece = get_piece_size(backend)
        self._analysis = Analysis(self._grid)  # of songs on another grid than the net's
        self._pieces = PieceStream(self._grid, self._piece, backend.place)  # of songs on the net's own grid
        self._chunks = ChunkStream(front_end, rate, channels, hop, self._piece, backend.place)
        self._stitcher = Stitcher(front_end.frames, hop)
        self._inversion = INVERSIONS[inversion](self._grid)
        self._samples = Buffer()  # samples of the song that are not yet transformed, on another grid
        self._spectrum = Buffer()  # frames of the song that are not yet masked
        self._mask = Buffer()  # frames of the mask, on the model's grid, that are still needed
        self._total = self._returned = 0  # samples of the song and of its vocals so far
        self._empty = np.zeros((channels, 0), dtype=np.float32)
        self.detector: VoiceDetector | None = VoiceDetector(self._grid.frame_seconds)
        self.is_invalid = False

    def push(self, block: Waveform) -> Waveform:
        """See `Estimator.push`."""
        self._total += block.shape[-1]
        return self._advance(block, last=False)

    def finish(self) -> Waveform:
        """See `Estimator.finish`."""
        return self._advance(self._empty, last=True)

    def _advance(self, block: Waveform, *, last: bool) -> Waveform:
        if self._grid == self._front_end.grid:  # the song's own spectrum is the one that the net needs
            pieces = self._pieces.push(block, last=last)
            for piece in pieces:
                self._spectrum.push(piece)
            chunks = self._chunks.push_pieces(pieces, last=last)
        else:
            self._samples.push(block)
            chunks = self._chunks.push(block, last=last)
        for start in range(0, len(chunks), self._batch):
            batch = chunks[start : start + self._batch]
            self._submit(batch[0][None] if len(batch) == 1 else array_namespace(*batch).stack(batch))
        return self._invert(last=last)

    def _analyse(self, samples: int, *, last: bool) -> None:
        """Transform the song up to a number of samples, or to its end, and buffer the new frames."""
        count = self._samples.length if last else max(0, samples - self._samples.start)
        parts = [self._analysis.push(self._backend.place(self._samples.pop(count)))]
        if last:
            parts.append(self._analysis.finish())
        self._spectrum.push(join(parts))

    def _submit(self, power: Any) -> None:
        """Start to estimate the masks of a batch of chunks."""

        def estimate() -> Mask:
            with np.errstate(all="ignore"):
                mask = estimate_masks(self._backend, self._front_end, power, self._batch, self._clusters)
            return self._front_end.ungroup_channels(mask, self._channels)

        self._ahead.submit(estimate)

    def _invert(self, *, last: bool) -> Waveform:
        """Collect the masks that are due, and return the vocals as far as they are known."""
        parts: list[Waveform] = []
        for mask in self._ahead.collect(last=last):
            xp = array_namespace(mask)
            self.is_invalid = self.is_invalid or not bool(xp.all(xp.isfinite(mask)))
            for chunk in range(mask.shape[0]):  # one by one: less memory, and always the same sums
                self._mask.push(self._stitcher.push(mask[chunk, ...]))
                parts += map(self._inversion.push, self._apply_mask(last=False))
        if last:
            self._mask.push(self._stitcher.finish())
            parts += map(self._inversion.push, self._apply_mask(last=True))
            parts.append(self._inversion.finish())
        if not parts:
            return self._empty
        vocals = to_numpy(join(parts)[..., : self._total - self._returned])
        self._returned += vocals.shape[-1]
        return silence_non_finite(vocals)  # samples of huge songs may have overflowed

    def _apply_mask(self, *, last: bool) -> Iterator[Spectrum]:
        """Remove the frames whose mask is known from the buffer, and yield them masked, in pieces."""
        step, mask_step = self._grid.frame_seconds, self._front_end.grid.frame_seconds
        # Frames at or before the last frame of the mask are known.
        known = int((self._mask.total - 1) * mask_step / step) + 1 if self._mask.length else 0
        if self._grid != self._front_end.grid:  # as late as possible: a spectrum takes four times the song's memory
            self._analyse((known - 1) * self._grid.hop + self._grid.n_fft // 2, last=last)
        first, ready = self._spectrum.start, self._spectrum.length
        if not last:
            ready = max(0, min(ready, known - first))
        mask, start = self._mask.peek(), self._mask.start
        passed = int((first + ready) * step / mask_step) - 1  # earlier frames of the mask are no longer needed
        self._mask.drop(max(0, min(passed - start, self._mask.length - 1)))
        piece, powers = self._piece or max(1, ready), []
        for at in range(first, first + ready, piece):
            mixture = self._spectrum.pop(min(piece, first + ready - at))
            frames = range(at, at + mixture.shape[-1])
            vocals = masks.apply(self._front_end.project(mask, start=start, grid=self._grid, frames=frames), mixture)
            powers.append((_sum_power(vocals), _sum_power(mixture)))
            yield vocals
        if powers:
            assert self.detector
            self.detector.push(*map(np.concatenate, zip(*powers, strict=True)))


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
