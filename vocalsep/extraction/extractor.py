"""The extractor: a model ready to separate songs in memory, in arrays of any kind, or block by block."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import torch

from vocalsep import audio, weights
from vocalsep.backends import choose_device
from vocalsep.errors import AudioError, ConfigError, describe_unknown
from vocalsep.extraction import clustering
from vocalsep.extraction.arrays import ArraySong, Samples
from vocalsep.extraction.checks import OutputCheck
from vocalsep.extraction.chunks import ChunkStream
from vocalsep.extraction.clustering import Clusters
from vocalsep.extraction.inversion import INVERSIONS
from vocalsep.extraction.streaming import Parts, StreamingSeparator, prepare_inputs, silence_non_finite
from vocalsep.nets import ClusteringNet
from vocalsep.release import DEFAULT_MODEL
from vocalsep.shapes import Waveform
from vocalsep.weights import Model

MASK_SOURCES = ("auto", "net", "clusters")


def separate(
    samples: Samples, sample_rate: int, *, model: Model | str = DEFAULT_MODEL, device: str = "auto"
) -> tuple[Samples, Samples]:
    """Separate a song in an array into vocals and accompaniment.

    This loads the model on each call if `model` is a name. For many songs, make one `Extractor` and call
    `Extractor.extract`.

    Args:
        samples: numpy array or tensor, ``(time,)`` or ``(channel, time)``, at least one sample: float of any width with
            full scale 1, or int16 or int32 PCM. It is not changed.
        sample_rate: Sample rate in Hz.
        model: A published model's name, the path of a weights file (``.safetensors``), or a loaded model.
        device: "auto" (CUDA when available, else the CPU), "cpu" or "cuda".

    Returns:
        Vocals and accompaniment with the shape, type and device of `samples`; see `Extractor.extract`.

    Raises:
        AudioError: If the samples have another shape or type, or the sample rate is out of range.
        ConfigError: If the device does not exist.
        ModelError: If the model cannot be loaded or fails on this song.
    """
    loaded = weights.load(model) if isinstance(model, str) else model
    return Extractor(loaded, device=device).extract(samples, sample_rate)


class Extractor:
    """Separates any number of songs of any sample rate, channel count and length with one model.

    Args:
        model: A model from `load_model`.
        device: "auto" (CUDA when available, else the CPU), "cpu" or "cuda".
        inversion: "phase" (the mixture's phase), "griffin-lim" (from random phases) or "griffin-lim-phase" (from the
            mixture's phase).
        masks_from: "net" uses the net's own masks, "clusters" those of a clustering net's clusters. "auto" uses
            whichever the net is made for.
        workers: Threads in which the net runs on the CPU while the song is read, masked and written; 0 runs it in the
            caller's thread. The vocals do not depend on the number of workers as long as torch uses one thread in each
            (``torch.set_num_threads(1)``).
        gate: Whether the vocals fade out where nobody sings.

    Attributes:
        model: The model.
        device: The device that was chosen.
        uses_clusters: Whether songs have to be clustered first, which takes a pass over each.

    Raises:
        ConfigError: If an option has no such value, the device does not exist, or the net does not cluster.
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
            raise ConfigError(f"model {model.name} does not cluster; use the net's own masks")
        self.uses_clusters = masks_from == "clusters" or (masks_from == "auto" and by_default)
        self.model, self.inversion, self.gate = model, inversion, gate
        self.device = torch.device(choose_device(device))
        self._workers = ThreadPoolExecutor(workers) if workers and self.device.type == "cpu" else None
        model.net.to(self.device, memory_format=model.net.memory_format)  # type: ignore[call-overload]

    def extract(self, samples: Samples, sample_rate: int) -> tuple[Samples, Samples]:
        """Separate a song in an array of any kind.

        Args:
            samples: numpy array or tensor, ``(time,)`` or ``(channel, time)``, at least one sample: float of any width
                with full scale 1, or int16 or int32 PCM. It is not changed.
            sample_rate: Sample rate in Hz.

        Returns:
            Vocals and accompaniment with the shape, type and device of `samples`. They add up to it: exactly in fixed
            point, to the last bit of its type in floating point. NaN and infinity count as silence.

        Raises:
            AudioError: If the samples have another shape or type, or the sample rate is out of range.
            ModelError: If the net returns NaN or infinity, or the vocals are the song itself and it is not silent.
        """
        if sample_rate not in audio.RATES:
            raise AudioError(f"sample rate {sample_rate} Hz; expected {min(audio.RATES)} to {max(audio.RATES)} Hz")
        song = ArraySong(samples)
        parts, separator = self._separate(song.waveform, int(sample_rate))
        check = OutputCheck(self.model.name, "the samples")
        check.push(*parts, invalid=separator.has_invalid_mask)
        check.finish()
        vocals, accompaniment = song.split(parts.vocals)
        return song.restore(vocals), song.restore(accompaniment)

    def __call__(self, mixture: Waveform, rate: int) -> Parts:
        """Separate a song in a float32 tensor, without the checks of `extract`.

        Args:
            mixture: ``(channel, time)``, float32, at least one sample. It is not changed.
            rate: Sample rate in Hz.

        Returns:
            Vocals and accompaniment, same shape.

        Raises:
            AudioError: If the mixture has another shape or no samples.
        """
        if mixture.ndim != 2 or 0 in mixture.shape:
            raise AudioError(f"a mixture of shape {tuple(mixture.shape)}; expected (channel, time), neither empty")
        return self._separate(mixture, rate)[0]

    def _separate(self, mixture: Waveform, rate: int) -> tuple[Parts, StreamingSeparator]:
        blocks = torch.split(mixture.float(), max(1, round(audio.BLOCK_SECONDS * rate)), dim=-1)
        clusters = self.cluster(blocks, rate, mixture.shape[0]) if self.uses_clusters else None
        separator = self.start(rate, mixture.shape[0], clusters)
        parts = [separator.push(block) for block in blocks]
        parts.append(separator.finish())
        return Parts(*(torch.cat(part, dim=-1) for part in zip(*parts, strict=True))), separator

    def start(self, rate: int, channels: int, clusters: Clusters | None = None) -> StreamingSeparator:
        """Start a song, and return the separator to push its blocks into.

        Args:
            rate: The song's sample rate in Hz.
            channels: The song's number of channels.
            clusters: Result of `cluster` for this song. Without clusters, or if they are not to be trusted, the net's
                own masks are used.
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

    def cluster(self, blocks: Iterable[Waveform], rate: int, channels: int) -> Clusters | None:
        """Find a song's clusters, in memory that does not grow with the song.

        The model's net has to be a clustering net.

        Args:
            blocks: Blocks of the song, ``(channel, time)`` each.
            rate: The song's sample rate in Hz.
            channels: The song's number of channels.

        Returns:
            The clusters, or None if the song is silent or its loud bins are all alike.
        """
        net, front_end = self.model.net, self.model.front_end
        assert isinstance(net, ClusteringNet)
        chunks, sample = ChunkStream(front_end, rate, channels, front_end.frames), clustering.BinSample()

        def add(block: Waveform, *, last: bool = False) -> None:
            for grouped, features in prepare_inputs(chunks.push(block, last=last), front_end, net, self.device):
                sample.push(*net.embed(features), grouped)

        with torch.inference_mode():
            empty = None
            for block in blocks:
                add(silence_non_finite(block))
                empty = block[:, :0]
            if empty is None:
                return None
            add(empty, last=True)
        return sample.fit()
