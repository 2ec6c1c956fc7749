"""The streaming separator: the one implementation of extraction, in memory that does not grow with the song.

    blocks -> resample to the model's rate -> STFT -> features -> net, in chunks -> stitched mask
           -> project onto the song's own STFT -> apply -> inverse STFT -> vocals

The accompaniment is the mixture minus the vocals.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from typing import NamedTuple

import torch
from torch import Tensor

from vocalsep import masks
from vocalsep.errors import AudioError
from vocalsep.extraction import clustering
from vocalsep.extraction.chunks import Buffer, ChunkStream, Stitcher
from vocalsep.extraction.clustering import Clusters
from vocalsep.extraction.inversion import INVERSIONS
from vocalsep.extraction.voice import Gate, Segment, VoiceDetector
from vocalsep.features import FrontEnd
from vocalsep.features.base import compute_power
from vocalsep.nets import ClusteringNet, Net
from vocalsep.shapes import Features, Mask, Spectrum, Waveform
from vocalsep.stft import Analysis
from vocalsep.weights import Model

_AHEAD = 4  # batches in the workers' hands at a time; a fixed number, so that results do not depend on their speed
_HUGE = 1e12  # the power of samples beyond this multiple of full scale may overflow


class Parts(NamedTuple):
    """Vocals and accompaniment of a song or of a part of it, ``(channel, time)``. Their float32 sum is the mixture."""

    vocals: Waveform
    accompaniment: Waveform


class StreamingSeparator:
    """Separates one song, block by block. `Extractor.start` makes one.

    Args:
        model: The model.
        rate: The song's sample rate in Hz.
        channels: The song's number of channels.
        device: Device on which the net runs.
        inversion: A key of `INVERSIONS`.
        clusters: The song's clusters, to be used instead of the net's own mask.
        workers: Threads in which the net runs while the song goes on. Without them it runs in the caller's thread.
        gate: Whether the vocals fade out where nobody sings.

    Attributes:
        has_invalid_mask: Whether the net has returned NaN or infinity, which count as 0. It stays False for songs so
            loud that their power overflows.
    """

    def __init__(
        self,
        model: Model,
        rate: int,
        channels: int,
        device: torch.device,
        inversion: str,
        clusters: Clusters | None = None,
        *,
        workers: Executor | None = None,
        gate: bool = False,
    ) -> None:
        front_end = model.front_end
        hop = round(front_end.frames * (1 - model.net.overlap))
        self._net, self._front_end, self._device, self._channels = model.net, front_end, device, channels
        self._clusters, self._workers = clusters, workers
        self._grid = front_end.grid.at_rate(rate)
        self._analysis = Analysis(self._grid)
        self._chunks = ChunkStream(front_end, rate, channels, hop)
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
        """Take the next block of the song and return what is known by now. The rest follows later.

        Args:
            block: ``(channel, time)``, float32, any length. NaN and infinity count as silence.

        Returns:
            Vocals and accompaniment, ``(channel, time)``; possibly no samples.
        """
        block = silence_non_finite(block)
        self._huge = self._huge or bool((block.abs() > _HUGE).any())
        self._mixture.push(block)
        with torch.inference_mode():
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
        with torch.inference_mode():
            return self._advance(self._mixture.peek()[..., :0], last=True)

    def _advance(self, block: Waveform, *, last: bool) -> Parts:
        if self._grid == self._front_end.grid:  # the song's own spectrum is the one that the net needs
            power = self._chunks.push_spectrum(self._analyse(self._mixture.total, last=last), last=last)
        else:
            power = self._chunks.push(block, last=last)
        for batch in torch.split(power, self._net.chunks):
            if len(batch):
                self._estimates.append(self._estimate(batch))
        vocals = self._invert(last=last)
        if self._gate:
            vocals = self._gate.push(vocals)
        return Parts(*masks.split_mixture(self._mixture.pop(vocals.shape[-1]), vocals))

    def _analyse(self, samples: int, *, last: bool) -> Spectrum:
        """Transform the song up to a number of samples, or to its end, and buffer the new frames."""
        start = self._analysis.samples - self._mixture.start
        end = max(start, samples - self._mixture.start)
        spectrum = self._analysis.push(self._mixture.peek()[..., start : None if last else end])
        if last:
            spectrum = torch.cat([spectrum, self._analysis.finish()], dim=-1)
        self._spectrum.push(spectrum)
        return spectrum

    def _estimate(self, power: Tensor) -> Future[Mask]:
        """Start to estimate the masks of a batch of chunks."""

        def estimate() -> Mask:
            with torch.inference_mode():
                mask = estimate_masks(self._net, self._front_end, power, self._device, self._clusters)
                return self._front_end.ungroup_channels(mask.cpu(), self._channels)

        if self._workers:
            return self._workers.submit(estimate)
        answer: Future[Mask] = Future()
        answer.set_result(estimate())
        return answer

    def _invert(self, *, last: bool) -> Waveform:
        """Collect the masks that are due, and return the vocals as far as they are known."""
        parts = []
        while len(self._estimates) > (_AHEAD if self._workers and not last else 0):
            self._mask.push(self._stitcher.push(self._estimates.popleft().result()))
            parts.append(self._inversion.push(self._apply_mask(last=False)))  # batch by batch, to hold little at a time
        if last:
            self._mask.push(self._stitcher.finish())
        parts.append(self._inversion.push(self._apply_mask(last=last)))
        if last:
            parts.append(self._inversion.finish())
            self._detector.finish(self.seconds)
        vocals = torch.cat(parts, dim=-1)[..., : self._mixture.total - self._inverted]
        self._inverted += vocals.shape[-1]
        return silence_non_finite(vocals)  # samples of huge songs may have overflowed

    def _apply_mask(self, *, last: bool) -> Spectrum:
        """Remove the frames whose mask is known from the buffer, and return them masked."""
        step, mask_step = self._grid.frame_seconds, self._front_end.grid.frame_seconds
        # Frames at or before the last frame of the mask are known.
        known = int((self._mask.total - 1) * mask_step / step) + 1 if self._mask.length else 0
        if self._grid != self._front_end.grid:  # transform late, since a spectrum takes four times a song's memory
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
        passed = int((first + ready) * step / mask_step) - 1  # frames of the mask before this one are not needed again
        self._mask.pop(max(0, min(passed - self._mask.start, self._mask.length - 1)))
        self._detect_voice(mask, mixture)
        return masks.apply(mask, mixture)

    def _detect_voice(self, mask: Mask, mixture: Spectrum) -> None:
        power = compute_power(mixture)
        whole, voice = power.sum(dim=(0, 1)), (mask.square() * power).sum(dim=(0, 1))
        self.has_invalid_mask = self.has_invalid_mask or not (self._huge or bool(voice.isfinite().all()))
        self._detector.push(voice, whole)


def silence_non_finite(block: Waveform) -> Waveform:
    """Return samples with NaN and infinity replaced by 0."""
    return torch.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)


def estimate_masks(
    net: Net, front_end: FrontEnd, power: Tensor, device: torch.device, clusters: Clusters | None = None
) -> Mask:
    """Estimate the masks of chunks of a song.

    Args:
        net: The net, on `device`.
        front_end: The net's front end.
        power: ``(chunk, channel or 1, row, frame)``, from a `ChunkStream`.
        device: Device on which the net runs.
        clusters: The song's clusters, to be used instead of the net's own masks.

    Returns:
        ``(chunk * groups, channel of the net or 1, row, frame)``; see `FrontEnd.ungroup_channels`.
    """
    return torch.cat(
        [
            clustering.estimate_mask(clusters, *net.embed(features), grouped)
            if clusters and isinstance(net, ClusteringNet)
            else net(features)
            for grouped, features in prepare_inputs(power, front_end, net, device)
        ]
    )


def prepare_inputs(
    power: Tensor, front_end: FrontEnd, net: Net, device: torch.device
) -> Iterator[tuple[Tensor, Features]]:
    """Turn chunks of a song into batches of the size that the net runs best with.

    A chunk with more channels than the net takes becomes several inputs; see `FrontEnd.group_channels`.

    Args:
        power: ``(chunk, channel or 1, row, frame)``, from a `ChunkStream`.
        front_end: The net's front end.
        net: The net, on `device`.
        device: Device on which the net runs.

    Yields:
        Power and features, each ``(input, channel of the net or 1, row, frame)`` with at most `Net.chunks` inputs.
    """
    for grouped in torch.split(front_end.group_channels(power.to(device)), net.chunks):
        if len(grouped):
            yield grouped, front_end.normalise(grouped).contiguous(memory_format=net.memory_format)
