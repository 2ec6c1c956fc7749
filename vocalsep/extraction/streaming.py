"""The straight line from a song to its vocals, block by block, in memory that does not grow with the song.

blocks -> the model's rate -> STFT -> features -> net, in chunks -> stitched mask -> projected onto the song's own STFT
-> applied -> inverse STFT -> vocals; the accompaniment is what remains of the mixture.
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
from vocalsep.nets import ClusteringNet, Net
from vocalsep.shapes import Features, Mask, Spectrum, Waveform
from vocalsep.stft import Analysis
from vocalsep.weights import Model

_AHEAD = 4  # batches that may be with the workers; how many are ready by when must not decide anything
_HUGE = 1e12  # times full scale; what is louder need not have a power that is a number


class Parts(NamedTuple):
    """What is known of a song next, ``(channel, time)`` each; their float32 sum is the mixture."""

    vocals: Waveform
    accompaniment: Waveform


class StreamingSeparator:
    """One song on its way through a model. Made by `Extractor.start`.

    Args:
        model: The model.
        rate: The song's rate, Hz.
        channels: Its channel count.
        device: Where the net computes.
        inversion: A key of `INVERSIONS`.
        clusters: Of the song, to take the place of the net's own mask.
        workers: Threads in which the net computes while the song goes on; without them it computes in the caller's.
        gate: Whether the vocals fade out where there is no voice.

    Attributes:
        broken: Whether the net has answered with something that is no number, which counts as not voice. (Songs of a
            loudness that is none are not its fault.)
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
        self._listener = ChunkStream(front_end, rate, channels, hop)
        self._estimates: deque[Future[Mask]] = deque()  # of batches of chunks, in their order
        self._stitcher = Stitcher(front_end.frames, hop)
        self._inversion = INVERSIONS[inversion](self._grid)
        self._song = Buffer()  # the song's spectrum, frames not yet masked
        self._mask = Buffer()  # the mask on the model's grid, frames still needed
        self._mixture = Buffer()  # the song's samples, not yet answered
        self._got = 0  # samples of vocals, answered or at the gate
        self._rate, self._timeline = rate, VoiceDetector(self._grid.frame_seconds)
        self._gate = Gate(rate, self._timeline) if gate else None
        self.broken = self._huge = False
        self._finished = False

    @property
    def seconds(self) -> float:
        """Length of the song so far."""
        return self._mixture.total / self._rate

    @property
    def voice(self) -> list[Segment]:
        """Stretches of the song with a voice, as (start, end) in seconds; all of them when the song is over."""
        return self._timeline.stretches

    @property
    def voice_share(self) -> float:
        """Share of the song so far that these stretches take, in [0, 1]."""
        return sum(end - start for start, end in self.voice) / max(self.seconds, 1 / self._rate)

    def push(self, block: Waveform) -> Parts:
        """Takes the next block of the song and gives what is known by now; the rest comes later.

        Args:
            block: ``(channel, time)``, float32, any length. Samples that are not finite count as silence.
        """
        block = silence_non_finite(block)
        self._huge = self._huge or bool((block.abs() > _HUGE).any())
        self._mixture.push(block)
        with torch.inference_mode():
            return self._advance(block, last=False)

    def finish(self) -> Parts:
        """Gives the rest of the song.

        Raises:
            AudioError: If the song had no samples, or this is called twice.
        """
        if self._finished or self._mixture.total == 0:
            raise AudioError("a song needs at least one sample, and ends once")
        self._finished = True
        with torch.inference_mode():
            return self._advance(self._mixture.peek()[..., :0], last=True)

    def _advance(self, block: Waveform, *, last: bool) -> Parts:
        if self._grid == self._front_end.grid:
            power = self._listener.push_spectrum(self._analyse(self._mixture.total, last=last), last=last)
        else:
            power = self._listener.push(block, last=last)
        for batch in torch.split(power, self._net.chunks):
            if len(batch):
                self._estimates.append(self._estimate(batch))
        parts = []
        while len(self._estimates) > (_AHEAD if self._workers and not last else 0):
            self._mask.push(self._stitcher.push(self._estimates.popleft().result()))
            parts.append(self._inversion.push(self._masked(last=False)))  # at once, or much would have to be held
        if last:
            self._mask.push(self._stitcher.finish())
        parts.append(self._inversion.push(self._masked(last=last)))
        if last:
            parts.append(self._inversion.finish())
            self._timeline.finish(self.seconds)
        vocals = torch.cat(parts, dim=-1)[..., : self._mixture.total - self._got]
        self._got += vocals.shape[-1]
        vocals = silence_non_finite(vocals)  # of samples too large to square
        if self._gate:
            vocals = self._gate.push(vocals)
        return Parts(*masks.split_mixture(self._mixture.pop(vocals.shape[-1]), vocals))

    def _analyse(self, samples: int, *, last: bool) -> Spectrum:
        """The frames that the song has more when so many of its samples are known, or all of them; they are queued."""
        at = self._analysis.samples - self._mixture.start
        end = max(at, samples - self._mixture.start)
        song = self._analysis.push(self._mixture.peek()[..., at : None if last else end])
        if last:
            song = torch.cat([song, self._analysis.finish()], dim=-1)
        self._song.push(song)
        return song

    def _estimate(self, power: Tensor) -> Future[Mask]:
        def estimate() -> Mask:
            with torch.inference_mode():
                mask = estimate_masks(self._net, self._front_end, power, self._device, self._clusters)
                return self._front_end.ungroup_channels(mask.cpu(), self._channels)

        if self._workers:
            return self._workers.submit(estimate)
        answer: Future[Mask] = Future()
        answer.set_result(estimate())
        return answer

    def _masked(self, *, last: bool) -> Spectrum:
        """The song's frames whose mask is known by now, masked."""
        step, unit = self._grid.frame_seconds, self._front_end.grid.frame_seconds
        # those at or before the last frame of the mask
        known = int((self._mask.total - 1) * unit / step) + 1 if self._mask.length else 0
        if self._grid != self._front_end.grid:  # not before they are needed: they are four times as large as the song
            self._analyse((known - 1) * self._grid.hop + self._grid.n_fft // 2, last=last)
        first, ready = self._song.start, self._song.length
        if not last:
            ready = max(0, min(ready, known - first))
        mixture = self._song.pop(ready)
        if ready == 0:
            return mixture
        mask = self._front_end.project(
            self._mask.peek(), start=self._mask.start, grid=self._grid, frames=range(first, first + ready)
        )
        passed = int((first + ready) * step / unit) - 1  # frames of the mask that no later frame lies next to
        self._mask.pop(max(0, min(passed - self._mask.start, self._mask.length - 1)))
        self._listen_for_voice(mask, mixture)
        return masks.apply(mask, mixture)

    def _listen_for_voice(self, mask: Mask, mixture: Spectrum) -> None:
        power = mixture.real.square() + mixture.imag.square()
        whole, voice = power.sum(dim=(0, 1)), (mask.square() * power).sum(dim=(0, 1))
        self.broken = self.broken or not (self._huge or bool(voice.isfinite().all()))
        self._timeline.push(voice, whole)


def silence_non_finite(block: Waveform) -> Waveform:
    """Samples of any shape; those that are no finite numbers are silent."""
    return torch.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)


def estimate_masks(
    net: Net, front_end: FrontEnd, power: Tensor, device: torch.device, clusters: Clusters | None = None
) -> Mask:
    """What a net answers to chunks of a song.

    Args:
        net: The net, on `device`.
        front_end: Its front end.
        power: ``(chunk, channel or 1, row, frame)``, as a `ChunkStream` gives it.
        device: Where to compute.
        clusters: Of the song, to take the place of the net's own masks.

    Returns:
        ``(chunk * groups, channel of the net or 1, row, frame)``; see `FrontEnd.ungroup_channels`.
    """
    return torch.cat(
        [
            clustering.estimate_mask(clusters, *net.embed(features), arranged)
            if clusters and isinstance(net, ClusteringNet)
            else net(features)
            for arranged, features in prepare_inputs(power, front_end, net, device)
        ]
    )


def prepare_inputs(
    power: Tensor, front_end: FrontEnd, net: Net, device: torch.device
) -> Iterator[tuple[Tensor, Features]]:
    """Chunks of power as they are dealt out to the net, and what it sees of them, as many as it is best given.

    A chunk of more channels than the net takes is several of its inputs; see `FrontEnd.group_channels`.

    Args:
        power: ``(chunk, channel or 1, row, frame)``, as a `ChunkStream` gives it.
        front_end: The net's front end.
        net: The net, on `device`.
        device: Where to compute.

    Yields:
        Power and features, ``(input, channel of the net or 1, row, frame)`` each, of at most `Net.chunks` inputs.
    """
    for arranged in torch.split(front_end.group_channels(power.to(device)), net.chunks):
        if len(arranged):
            yield arranged, front_end.normalise(arranged).contiguous(memory_format=net.memory_format)
