"""The straight line from a song to its vocals, block by block, in memory that does not grow with the song.

blocks -> the model's rate -> STFT -> features -> net, in chunks -> stitched mask -> projected onto the song's own STFT
-> applied -> inverse STFT -> vocals; the accompaniment is what remains of the mixture.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from vocalsep import audio, clustering, masks, weights
from vocalsep.chunks import Stitcher
from vocalsep.clustering import Clusters
from vocalsep.errors import AudioError, ConfigError, unknown
from vocalsep.extraction.arrays import Array, Samples
from vocalsep.extraction.checks import Check
from vocalsep.extraction.voice import Gate, Stretch, Timeline
from vocalsep.features import FrontEnd
from vocalsep.inversion import INVERSIONS
from vocalsep.nets import ClusteringNet, Net
from vocalsep.shapes import Features, Mask, Spectrum, Waveform
from vocalsep.stft import Analysis
from vocalsep.streams import Listener, Queue
from vocalsep.weights import Model

MASKS_FROM = ("auto", "net", "clusters")

_AHEAD = 4  # batches that may be with the workers; how many are ready by when must not decide anything
_HUGE = 1e12  # times full scale; what is louder need not have a power that is a number


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
        self._listener = Listener(front_end, rate, channels, hop)
        self._estimates: deque[Future[Mask]] = deque()  # of batches of chunks, in their order
        self._stitcher = Stitcher(front_end.frames, hop)
        self._inversion = INVERSIONS[inversion](self._grid)
        self._song = Queue()  # the song's spectrum, frames not yet masked
        self._mask = Queue()  # the mask on the model's grid, frames still needed
        self._mixture = Queue()  # the song's samples, not yet answered
        self._got = 0  # samples of vocals, answered or at the gate
        self._rate, self._timeline = rate, Timeline(self._grid.frame_seconds)
        self._gate = Gate(rate, self._timeline) if gate else None
        self.broken = self._huge = False
        self._finished = False

    @property
    def seconds(self) -> float:
        """Length of the song so far."""
        return self._mixture.total / self._rate

    @property
    def voice(self) -> list[Stretch]:
        """Stretches of the song with a voice, as (start, end) in seconds; all of them when the song is over."""
        return self._timeline.stretches

    @property
    def voice_share(self) -> float:
        """Share of the song so far that these stretches take, in [0, 1]."""
        return sum(end - start for start, end in self.voice) / max(self.seconds, 1 / self._rate)

    def push(self, block: Waveform) -> Piece:
        """Takes the next block of the song and gives what is known by now; the rest comes later.

        Args:
            block: ``(channel, time)``, float32, any length. Samples that are not finite count as silence.
        """
        block = _finite(block)
        self._huge = self._huge or bool((block.abs() > _HUGE).any())
        self._mixture.push(block)
        with torch.inference_mode():
            return self._advance(block, last=False)

    def finish(self) -> Piece:
        """Gives the rest of the song.

        Raises:
            AudioError: If the song had no samples, or this is called twice.
        """
        if self._finished or self._mixture.total == 0:
            raise AudioError("a song needs at least one sample, and ends once")
        self._finished = True
        with torch.inference_mode():
            return self._advance(self._mixture.peek()[..., :0], last=True)

    def _advance(self, block: Waveform, *, last: bool) -> Piece:
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
        vocals = _finite(vocals)  # of samples too large to square
        if self._gate:
            vocals = self._gate.push(vocals)
        return Piece(*masks.remainder(self._mixture.pop(vocals.shape[-1]), vocals))

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
                mask = chunk_masks(self._net, self._front_end, power, self._device, self._clusters)
                return self._front_end.rearrange(mask.cpu(), self._channels)

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


def _finite(block: Waveform) -> Waveform:
    return torch.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)


def chunk_masks(
    net: Net, front_end: FrontEnd, power: Tensor, device: torch.device, clusters: Clusters | None = None
) -> Mask:
    """What a net answers to chunks of a song.

    Args:
        net: The net, on `device`.
        front_end: Its front end.
        power: ``(chunk, channel or 1, row, frame)``, as a `Listener` gives it.
        device: Where to compute.
        clusters: Of the song, to take the place of the net's own masks.

    Returns:
        ``(chunk * groups, channel of the net or 1, row, frame)``; see `FrontEnd.rearrange`.
    """
    return torch.cat(
        [
            clustering.mask(clusters, *net.embed(features), arranged)
            if clusters and isinstance(net, ClusteringNet)
            else net.mask(features)
            for arranged, features in _seen(power, front_end, net, device)
        ]
    )


def _seen(power: Tensor, front_end: FrontEnd, net: Net, device: torch.device) -> Iterator[tuple[Tensor, Features]]:
    """Chunks of power as they are dealt out to the net, and what it sees of them, as many as it is best given.

    A chunk of more channels than the net takes is several of its inputs; see `FrontEnd.arrange`.
    """
    for arranged in torch.split(front_end.arrange(power.to(device)), net.chunks):
        if len(arranged):
            yield arranged, front_end.normalise(arranged).contiguous(memory_format=net.memory_format)


class Extractor:
    """A model, ready to extract vocals from any number of songs of any rate, channel count and length.

    Args:
        model: From `load_model`.
        device: "auto", "cpu" or "cuda".
        inversion: "phase" (the mixture's phase), "griffin-lim", or "griffin-lim-phase" (which starts from it).
        masks_from: "net" takes the net's own masks, "clusters" those of a clustering net's clusters; "auto" does what
            the net is for.
        workers: Threads in which the net computes while songs are read, masked and written; without them (0) it
            computes in the caller's. The vocals do not depend on their number, if torch leaves each one thread
            (``torch.set_num_threads(1)``). CUDA needs none and has none.
        gate: Whether the vocals fade out where there is no voice.

    Raises:
        ConfigError: For an unknown inversion, a device that is not there, a net that does not cluster, or fewer
            workers than none.
    """

    def __init__(
        self,
        model: Model,
        *,
        device: str = "auto",
        inversion: str = "phase",
        masks_from: str = "auto",
        gate: bool = False,
        workers: int = 0,
    ) -> None:
        if workers < 0:
            raise ConfigError(f"{workers} workers; expected at least 0")
        if inversion not in INVERSIONS:
            raise ConfigError(unknown("inversion", inversion, INVERSIONS))
        if masks_from not in MASKS_FROM:
            raise ConfigError(unknown("source of masks", masks_from, MASKS_FROM))
        by_default = isinstance(model.net, ClusteringNet) and model.net.clusters_by_default
        if masks_from == "clusters" and not isinstance(model.net, ClusteringNet):
            raise ConfigError(f"model {model.name} does not cluster; take its own masks")
        self.clusters = masks_from == "clusters" or (masks_from == "auto" and by_default)
        """Whether songs are clustered first, which takes a pass over each."""
        self.model, self.inversion, self.gate = model, inversion, gate
        self.device = weights.best_device(device)
        self._workers = ThreadPoolExecutor(workers) if workers and self.device.type == "cpu" else None
        model.net.to(self.device, memory_format=model.net.memory_format)  # type: ignore[call-overload]

    def survey(self, blocks: Iterable[Waveform], rate: int, channels: int) -> Clusters | None:
        """Clusters a song, in memory that does not grow with it.

        Args:
            blocks: The song, ``(channel, time)`` each.
            rate: Its rate, Hz.
            channels: Its channel count.

        Returns:
            None if it cannot be clustered: where it is silent, or its loud bins are all of one kind.
        """
        net, front_end = self.model.net, self.model.front_end
        assert isinstance(net, ClusteringNet)
        listener, sample = Listener(front_end, rate, channels, front_end.frames), clustering.Sample()

        def listen(block: Waveform, *, last: bool = False) -> None:
            for arranged, features in _seen(listener.push(block, last=last), front_end, net, self.device):
                sample.push(*net.embed(features), arranged)

        with torch.inference_mode():
            empty = None
            for block in blocks:
                listen(_finite(block))
                empty = block[:, :0]
            if empty is None:
                return None
            listen(empty, last=True)
        return sample.clusters()

    def start(self, rate: int, channels: int, clusters: Clusters | None = None) -> Separation:
        """Begins a song: push its blocks into what this returns.

        Args:
            rate: The song's rate, Hz.
            channels: Its channel count.
            clusters: What `survey` found in it; without them, or where they are not to be trusted, the net's own masks
                are taken.
        """
        return Separation(
            self.model,
            rate,
            channels,
            self.device,
            self.inversion,
            clusters,
            workers=self._workers,
            gate=self.gate,
        )

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
        return self._whole(mixture, rate)[0]

    def _whole(self, mixture: Waveform, rate: int) -> tuple[Piece, Separation]:
        blocks = torch.split(mixture.float(), max(1, round(audio.BLOCK_SECONDS * rate)), dim=-1)
        clusters = self.survey(blocks, rate, mixture.shape[0]) if self.clusters else None
        song = self.start(rate, mixture.shape[0], clusters)
        pieces = [song.push(block) for block in blocks]
        pieces.append(song.finish())
        return Piece(*(torch.cat(part, dim=-1) for part in zip(*pieces, strict=True))), song

    def extract(self, samples: Samples, sample_rate: int) -> tuple[Samples, Samples]:
        """Extracts from a song in an array of any kind.

        Args:
            samples: numpy array or tensor, ``(time,)`` or ``(channel, time)``, at least one sample: float of any width
                with full scale 1, or int16 or int32 PCM. It is not changed.
            sample_rate: Its rate, Hz.

        Returns:
            Vocals and accompaniment, of the shape, type and device of `samples`. They add up to it: exactly in fixed
            point, to the last bit of its type in floating point. Samples that are not finite count as silence.

        Raises:
            AudioError: If shape, type or rate are others.
            ModelError: If the net's answers are no numbers, or the vocals the song itself (unless it is silent).
        """
        if sample_rate not in audio.RATES:
            raise AudioError(f"{sample_rate} samples a second; expected {min(audio.RATES)} to {max(audio.RATES)}")
        song = Array(samples)
        piece, separation = self._whole(song.waveform, int(sample_rate))
        check = Check(self.model.name, "the samples")
        check.push(*piece, broken=separation.broken)
        check.finish()
        vocals, accompaniment = song.parts(piece.vocals)
        return song.like(vocals), song.like(accompaniment)
