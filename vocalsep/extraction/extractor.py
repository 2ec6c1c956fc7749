"""A model made ready for songs: in memory, in arrays, or block by block."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import torch

from vocalsep import audio, weights
from vocalsep.errors import AudioError, ConfigError, describe_unknown
from vocalsep.extraction import clustering
from vocalsep.extraction.arrays import Array, Samples
from vocalsep.extraction.checks import OutputCheck
from vocalsep.extraction.chunks import ChunkStream
from vocalsep.extraction.clustering import Clusters
from vocalsep.extraction.inversion import INVERSIONS
from vocalsep.extraction.streaming import Parts, StreamingSeparator, prepare_inputs, silence_non_finite
from vocalsep.nets import ClusteringNet
from vocalsep.shapes import Waveform
from vocalsep.weights import Model

MASK_SOURCES = ("auto", "net", "clusters")


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
            raise ConfigError(describe_unknown("inversion", inversion, INVERSIONS))
        if masks_from not in MASK_SOURCES:
            raise ConfigError(describe_unknown("source of masks", masks_from, MASK_SOURCES))
        by_default = isinstance(model.net, ClusteringNet) and model.net.clusters_by_default
        if masks_from == "clusters" and not isinstance(model.net, ClusteringNet):
            raise ConfigError(f"model {model.name} does not cluster; take its own masks")
        self.clusters = masks_from == "clusters" or (masks_from == "auto" and by_default)
        """Whether songs are clustered first, which takes a pass over each."""
        self.model, self.inversion, self.gate = model, inversion, gate
        self.device = weights.choose_device(device)
        self._workers = ThreadPoolExecutor(workers) if workers and self.device.type == "cpu" else None
        model.net.to(self.device, memory_format=model.net.memory_format)  # type: ignore[call-overload]

    def cluster(self, blocks: Iterable[Waveform], rate: int, channels: int) -> Clusters | None:
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
        listener, sample = ChunkStream(front_end, rate, channels, front_end.frames), clustering.BinSample()

        def listen(block: Waveform, *, last: bool = False) -> None:
            for arranged, features in prepare_inputs(listener.push(block, last=last), front_end, net, self.device):
                sample.push(*net.embed(features), arranged)

        with torch.inference_mode():
            empty = None
            for block in blocks:
                listen(silence_non_finite(block))
                empty = block[:, :0]
            if empty is None:
                return None
            listen(empty, last=True)
        return sample.fit()

    def start(self, rate: int, channels: int, clusters: Clusters | None = None) -> StreamingSeparator:
        """Begins a song: push its blocks into what this returns.

        Args:
            rate: The song's rate, Hz.
            channels: Its channel count.
            clusters: What `survey` found in it; without them, or where they are not to be trusted, the net's own masks
                are taken.
        """
        return StreamingSeparator(
            self.model,
            rate,
            channels,
            self.device,
            self.inversion,
            clusters,
            workers=self._workers,
            gate=self.gate,
        )

    def __call__(self, mixture: Waveform, rate: int) -> Parts:
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

    def _whole(self, mixture: Waveform, rate: int) -> tuple[Parts, StreamingSeparator]:
        blocks = torch.split(mixture.float(), max(1, round(audio.BLOCK_SECONDS * rate)), dim=-1)
        clusters = self.cluster(blocks, rate, mixture.shape[0]) if self.clusters else None
        song = self.start(rate, mixture.shape[0], clusters)
        pieces = [song.push(block) for block in blocks]
        pieces.append(song.finish())
        return Parts(*(torch.cat(part, dim=-1) for part in zip(*pieces, strict=True))), song

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
        check = OutputCheck(self.model.name, "the samples")
        check.push(*piece, broken=separation.broken)
        check.finish()
        vocals, accompaniment = song.parts(piece.vocals)
        return song.like(vocals), song.like(accompaniment)
