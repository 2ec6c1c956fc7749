"""The streaming separator: the one implementation of extraction. Its memory use does not grow with the song.

    blocks -> resample to the model's rate -> STFT -> features -> net, in chunks -> stitched mask
           -> project onto the song's own STFT -> apply -> inverse STFT -> vocals

The accompaniment is the mixture minus the vocals.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from vocalsep import masks
from vocalsep.backends import Backend, to_numpy
from vocalsep.errors import AudioError
from vocalsep.extraction import clustering
from vocalsep.extraction.chunks import Buffer, ChunkStream, Stitcher, join
from vocalsep.extraction.clustering import Clusters
from vocalsep.extraction.inversion import INVERSIONS
from vocalsep.extraction.voice import Gate, Segment, VoiceDetector
from vocalsep.features import FrontEnd
from vocalsep.shapes import Features, Mask, Spectrum, Waveform
from vocalsep.stft import Analysis
from vocalsep.weights import Model

_AHEAD = 4  # batches that the workers hold at a time, so that they have work while masks are applied
_HUGE = 1e12  # the power of samples beyond this multiple of full scale may overflow


class Parts(NamedTuple):
    """Vocals and accompaniment of a song or of a part of it, ``(channel, time)``. Their float32 sum is the mixture."""

    vocals: Waveform
    accompaniment: Waveform


class StreamingSeparator:
    """Separates one song, block by block. `Extractor.start` makes one.

    Blocks go in and parts come out as numpy arrays. In between everything is computed where the net runs. Each chunk
    goes all the way from the net to sound on its own, so the vocals do not depend on the blocks or on the workers.

    Args:
        model: The model.
        backend: Runs the model's net.
        rate: The song's sample rate in Hz.
        channels: The song's number of channels.
        inversion: A key of `INVERSIONS`.
        clusters: The song's clusters, to be used instead of the net's own mask.
        workers: Threads in which the net runs while the caller goes on. Without them it runs in the caller's thread.
        gate: Whether the vocals fade out where nobody sings.
        low_delay: Whether `push` waits until the workers are done.

    Attributes:
        has_invalid_mask: Whether the net has returned NaN or infinity, which count as 0. It stays False for songs so
            loud that their power overflows.
    """

    def __init__(
        self,
        model: Model,
        backend: Backend,
        rate: int,
        channels: int,
        *,
        inversion: str,
        clusters: Clusters | None = None,
        workers: Executor | None = None,
        gate: bool = False,
        low_delay: bool = False,
    ) -> None:
        front_end = model.front_end
        hop = round(front_end.frames * (1 - model.run.overlap))
        self._backend, self._front_end, self._channels = backend, front_end, channels
        self._batch = get_batch_size(backend, model)
        self._clusters, self._workers = clusters, workers
        self._ahead = _AHEAD if workers and not low_delay else 0
        self._grid = front_end.grid.at_rate(rate)
        self._analysis = Analysis(self._grid)
        self._chunks = ChunkStream(front_end, rate, channels, hop, backend.place)
        self._estimates: deque[Future[Mask]] = deque()  # masks of batches of chunks, in order
        self._stitcher = Stitcher(front_end.frames, hop)
        self._inversion = INVERSIONS[inversion](self._grid)
        self._mixture = Buffer()  # samples of the song whose vocals are not yet returned
        self._spectrum = Buffer()  # frames of the song that are not yet masked
        self._mask = Buffer()  # frames of the mask, on the model's grid, that are still needed
        self._inverted = 0  # samples of vocals so far, including those the gate holds back
        self._rate, self._detector = rate, VoiceDetector(self._grid.frame_seconds)
        self._gate = Gate(rate, self._detector) if gate else None
        self.has_invalid_mask = self._huge = False
        self._finished = False

    @property
    def seconds(self) -> float:
        """Length of the song so far, in seconds."""
        return self._mixture.total / self._rate

    @property
    def voice(self) -> list[Segment]:
        """Segments in which somebody sings, as (start, end) in seconds. After `finish` the list is complete."""
        return self._detector.segments

    @property
    def voice_share(self) -> float:
        """Share of the song so far that these segments take, in [0, 1]."""
        return sum(end - start for start, end in self.voice) / max(self.seconds, 1 / self._rate)

    def push(self, block: Waveform) -> Parts:
        """Take the next block of the song and return the samples that are ready. The rest follows later.

        Args:
            block: ``(channel, time)``, float32, any length. NaN and infinity count as silence.

        Returns:
            Vocals and accompaniment, ``(channel, time)``; possibly no samples.

        Raises:
            AudioError: If the block does not have this shape.
        """
        shape = np.shape(block)
        if len(shape) != 2 or shape[0] != self._channels:
            raise AudioError(f"a block of shape {shape}; expected ({self._channels}, time)")
        block = silence_non_finite(np.array(block, dtype=np.float32))  # a copy: the caller may use the array again
        self._huge = self._huge or bool(np.max(np.abs(block), initial=0) > _HUGE)
        self._mixture.push(block)
        with np.errstate(all="ignore"):
            return self._advance(block, last=False)

    def finish(self) -> Parts:
        """Return the rest of the song.

        Raises:
            AudioError: If the song had no samples, or `finish` was called before.
        """
        if self._finished:
            raise AudioError("the song has already ended")
        if self._mixture.total == 0:
            raise AudioError("a song needs at least one sample")
        self._finished = True
        with np.errstate(all="ignore"):
            return self._advance(self._mixture.peek(0, 0), last=True)

    def _advance(self, block: Waveform, *, last: bool) -> Parts:
        if self._grid == self._front_end.grid:  # the song's own spectrum is the one that the net needs
            chunks = self._chunks.push_spectrum(self._analyse(self._mixture.total, last=last), last=last)
        else:
            chunks = self._chunks.push(block, last=last)
        for start in range(0, len(chunks), self._batch):
            batch = chunks[start : start + self._batch]
            self._estimates.append(self._estimate(array_namespace(*batch).stack(batch)))
        vocals = self._invert(last=last)
        if self._gate:
            vocals = self._gate.push(vocals)
        return Parts(*masks.split_mixture(self._mixture.pop(vocals.shape[-1]), vocals))

    def _analyse(self, samples: int, *, last: bool) -> Spectrum:
        """Transform the song up to a number of samples, or to its end, and buffer the new frames."""
        start = self._analysis.samples - self._mixture.start
        end = max(start, samples - self._mixture.start)
        parts = [self._analysis.push(self._backend.place(self._mixture.peek(start, None if last else end)))]
        if last:
            parts.append(self._analysis.finish())
        spectrum = join(parts)
        self._spectrum.push(spectrum)
        return spectrum

    def _estimate(self, power: Any) -> Future[Mask]:
        """Start estimating the masks of a batch of chunks."""

        def estimate() -> Mask:
            with np.errstate(all="ignore"):
                mask = estimate_masks(self._backend, self._front_end, power, self._batch, self._clusters)
            return self._front_end.ungroup_channels(mask, self._channels)

        if self._workers:
            return self._workers.submit(estimate)
        answer: Future[Mask] = Future()
        answer.set_result(estimate())
        return answer

    def _invert(self, *, last: bool) -> Waveform:
        """Collect the masks that are due, and return the vocals as far as they are known."""
        parts = []
        while len(self._estimates) > (0 if last else self._ahead):
            mask = self._estimates.popleft().result()
            xp = array_namespace(mask)
            if not (self._huge or self.has_invalid_mask):
                self.has_invalid_mask = not bool(xp.all(xp.isfinite(mask)))
            for chunk in range(mask.shape[0]):  # one by one: less memory, and always the same sums
                self._mask.push(self._stitcher.push(mask[chunk, ...]))
                parts.append(self._inversion.push(self._apply_mask(last=False)))
        if last:
            self._mask.push(self._stitcher.finish())
            parts.append(self._inversion.push(self._apply_mask(last=True)))
            parts.append(self._inversion.finish())
            self._detector.finish(self.seconds)
        if not parts:
            return self._mixture.peek(0, 0)
        vocals = to_numpy(join(parts)[..., : self._mixture.total - self._inverted])
        self._inverted += vocals.shape[-1]
        return silence_non_finite(vocals)  # samples of huge songs may have overflowed

    def _apply_mask(self, *, last: bool) -> Spectrum:
        """Remove the frames whose mask is known from the buffer, and return them masked."""
        step, mask_step = self._grid.frame_seconds, self._front_end.grid.frame_seconds
        # Frames at or before the last frame of the mask are known.
        known = int((self._mask.total - 1) * mask_step / step) + 1 if self._mask.length else 0
        if self._grid != self._front_end.grid:  # as late as possible: a spectrum takes four times the song's memory
            self._analyse((known - 1) * self._grid.hop + self._grid.n_fft // 2, last=last)
        first, ready = self._spectrum.start, self._spectrum.length
        if not last:
            ready = max(0, min(ready, known - first))
        mixture = self._spectrum.pop(ready)
        if ready == 0:
            return mixture
        mask = self._front_end.project(
            self._mask.peek(), start=self._mask.start, grid=self._grid, frames=range(first, first + ready)
        )
        passed = int((first + ready) * step / mask_step) - 1  # earlier frames of the mask are no longer needed
        self._mask.pop(max(0, min(passed - self._mask.start, self._mask.length - 1)))
        vocals = masks.apply(mask, mixture)
        self._detector.push(_sum_power(vocals), _sum_power(mixture))
        return vocals


def silence_non_finite(block: Waveform) -> Waveform:
    """Return samples with NaN and infinity replaced by 0: the same array if there are none."""
    return block if np.isfinite(block).all() else np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)


def _sum_power(spectrum: Spectrum) -> Waveform:
    """Return the power of each frame, over all channels and rows, ``(frame,)``, as a numpy array."""
    xp = array_namespace(spectrum)
    return to_numpy(xp.sum(xp.real(xp.vecdot(spectrum, spectrum, axis=-2)), axis=0))


def get_batch_size(backend: Backend, model: Model) -> int:
    """Return how many inputs the net gets at once.

    On a CPU it is always one: batches are no faster there, and the vocals must not depend on how the song arrives.
    """
    return 1 if backend.device == "cpu" else model.run.chunks


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
