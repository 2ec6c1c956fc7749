"""The extractor: a model ready to separate songs in memory, in arrays of any kind, or block by block."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vocalsep import audio, means, weights
from vocalsep.cores import count_cores
from vocalsep.errors import AudioError, ConfigError
from vocalsep.extraction.arrays import ArraySong, Samples
from vocalsep.extraction.checks import OutputCheck
from vocalsep.extraction.clustering import Clusters
from vocalsep.extraction.engines import MaskEngine, Options, Start, open_engine
from vocalsep.extraction.sliding import Pace, choose_latency
from vocalsep.extraction.streaming import Parts, StreamingSeparator
from vocalsep.extraction.workers import Workers
from vocalsep.kinds import MAX_CHANNELS, to_array
from vocalsep.latency import LATENCIES
from vocalsep.latency import check as check_latency
from vocalsep.release import DEFAULT_MODEL
from vocalsep.shapes import Waveform
from vocalsep.weights import AnyModel

_FEWEST_MEASURED = 4  # steps of which the slowest are taken for what the machine can hold


def separate(
    samples: Samples,
    sample_rate: float,
    *,
    model: AnyModel | str | Path = DEFAULT_MODEL,
    device: str = "auto",
    inversion: str = "phase",
    masks_from: str = "auto",
    gate: bool = False,
    workers: int | None = None,
) -> tuple[Samples, Samples]:
    """Separate a song in an array into vocals and accompaniment.

    This loads the model on each call if `model` is a name. For many songs, make one `Extractor` and call
    `Extractor.separate`.

    Args:
        samples: numpy array, tensor or list, ``(time,)`` or ``(channel, time)``, at least one sample: float of any
            width with full scale 1, or int16 or int32 PCM. It is not changed.
        sample_rate: Sample rate in Hz.
        model: As for `Extractor`, like all options below.
        device: "auto" (CUDA when available, else the CPU), "cpu" or "cuda".
        inversion: How to turn the masked spectrogram back into sound.
        masks_from: Where the masks of clustering nets come from.
        gate: Whether the vocals fade out where nobody sings.
        workers: Number of threads in which the net runs on the CPU.

    Returns:
        Vocals and accompaniment with the shape, type and device of `samples`; see `Extractor.separate`.

    Raises:
        AudioError: If `samples` has an unsupported shape or type, or the sample rate is out of range.
        ConfigError: If an option has an unknown value, or the device does not exist.
        ModelError: If the model cannot be loaded or fails on this song.
        TypeError: If an argument is not of these types.
    """
    rate, song = check_rate(sample_rate), ArraySong(samples)  # before the model is loaded, which takes longer
    extractor = Extractor(model, device=device, inversion=inversion, masks_from=masks_from, gate=gate, workers=workers)
    return extractor._separate_song(song, rate)


def check_rate(rate: float) -> int:
    """Return a sample rate as a whole number.

    Raises:
        AudioError: If it is out of range, or no whole number.
        TypeError: If it is no number.
    """
    if isinstance(rate, bool) or not isinstance(rate, Real):
        raise TypeError(f"a sample rate must be a number in Hz, not {type(rate).__name__}")
    if rate not in audio.RATES:
        raise AudioError(f"sample rate {rate} Hz; expected {min(audio.RATES)} to {max(audio.RATES)} Hz")
    return int(rate)


class Extractor:
    """Separates any number of songs of any sample rate, channel count and length with one model, or a mean of several.

    Args:
        model: Name of a model, several joined by "+" for their mean, path of a model's file, folder of a training run,
            a model from `load_model`, or a list of these, whose vocals are averaged.
        shares: Weights of several models, one for each; only their proportions count. By default they are equal.
        device: "auto" (CUDA when available, else the CPU), "cpu" or "cuda". Models of other programs run on the CPU.
        inversion: "phase" (the mixture's phase), "griffin-lim" (from random phases) or "griffin-lim-phase" (from the
            mixture's phase).
        masks_from: "net" uses the net's own masks, "clusters" the masks of a clustering net's clusters. "auto"
            uses whichever the net is made for. In a mean, it is the net's own masks.
        workers: Number of threads in which the net runs on the CPU while the song is read, masked and written. None
            means one for each core; 0 runs the net in the caller's thread. The vocals do not depend on the number of
            workers.
        gate: Whether the vocals fade out where nobody sings.
        as_original: Whether models of other programs cut songs as those programs do, to compare the two.
        latency: Seconds that the vocals may be behind the song, 0.1 to 3, for models of our own; see `sliding`. "auto"
            runs each net for a second and chooses the shortest that this machine can keep up with. None takes as long
            as the best vocals need, some 3 s.

    After `os.fork`, both parent and child may use an extractor. A song that began before stays with the parent.

    Attributes:
        model: The model, or the mean of models.
        device: The device that was chosen, "cpu" or "cuda".
        latency: Seconds that the vocals may be behind the song; None for the best vocals.
        uses_clusters: Whether songs must be clustered first, which takes an extra pass over each song.

    Raises:
        ConfigError: If an option has an unknown value, the device does not exist, or the net cannot provide clusters.
        ModelError: If the model cannot be loaded.
        TypeError: If `model` or `workers` is of another type.
    """

    def __init__(
        self,
        model: AnyModel | str | Path | Sequence[AnyModel | str | Path] = DEFAULT_MODEL,
        *,
        shares: Sequence[float] = (),
        device: str = "auto",
        inversion: str = "phase",
        masks_from: str = "auto",
        gate: bool = False,
        workers: int | None = None,
        as_original: bool = False,
        latency: float | Literal["auto"] | None = None,
    ) -> None:
        if workers is None:
            workers = count_cores()
        if not isinstance(workers, int):
            raise TypeError(f"workers must be a whole number or None, not {type(workers).__name__}")
        if workers < 0:
            raise ConfigError(f"{workers} workers; expected at least 0")
        options = Options(
            device=device,
            inversion=inversion,
            masks_from=masks_from,
            as_original=as_original,
            follows=latency is not None,
        )
        if latency is not None and latency != "auto":
            check_latency(latency)
        if gate and latency is not None:
            raise ConfigError("the gate looks a second ahead, so it cannot be combined with a latency")
        given = model if isinstance(model, Sequence) and not isinstance(model, str) else [model]
        models = [one if isinstance(one, AnyModel) else weights.load(one) for one in given]
        self.model = means.combine(models, shares)
        self.inversion, self.gate = inversion, gate
        self._engine = open_engine(self.model, options)
        self.device, self.uses_clusters = self._engine.device, self._engine.uses_clusters
        self._workers = Workers(workers) if workers and self.device == "cpu" else None
        self.latency = self._measure_latency() if latency == "auto" else latency

    def __repr__(self) -> str:
        return f"Extractor({self.model.name!r}, device={self.device!r})"

    def separate(self, samples: Samples, sample_rate: float) -> tuple[Samples, Samples]:
        """Separate a song in an array of any kind.

        Args:
            samples: numpy array, tensor or list, ``(time,)`` or ``(channel, time)``, at least one sample: float of any
                width with full scale 1, or int16 or int32 PCM. It is not changed.
            sample_rate: Sample rate in Hz.

        Returns:
            Vocals and accompaniment with the shape, type and device of `samples`; numpy arrays for a list. They add up
            to it: exactly in fixed point, to within rounding of its type in floating point. NaN and infinity count as
            silence.

        Raises:
            AudioError: If `samples` has an unsupported shape or type, or the sample rate is out of range.
            ModelError: If the net returns NaN or infinity, or the vocals of a song that is not silent equal the song.
            TypeError: If `samples` or `sample_rate` are no numbers.
        """
        rate = check_rate(sample_rate)
        return self._separate_song(ArraySong(samples), rate)

    extract = separate
    """The same under its first name."""

    def _separate_song(self, song: ArraySong, rate: int) -> tuple[Any, Any]:
        parts, separator = self._separate(song.waveform, rate)
        check = OutputCheck(self.model.name, "the samples")
        check.push(*parts, invalid=separator.has_invalid_output)
        check.finish()
        vocals, accompaniment = song.split(parts.vocals)
        return song.restore(vocals), song.restore(accompaniment)

    def __call__(self, mixture: Waveform, rate: int) -> Parts:
        """Separate a song in a float32 numpy array, without the checks of `separate`.

        Args:
            mixture: ``(channel, time)``, at least one sample; other numbers become float32. It is not changed.
            rate: Sample rate in Hz.

        Returns:
            Vocals and accompaniment, same shape.

        Raises:
            AudioError: If the mixture does not have this shape, or has no samples.
        """
        mixture = np.asarray(to_array(mixture, "a mixture"), dtype=np.float32)
        if mixture.ndim != 2 or 0 in mixture.shape:
            shape = tuple(mixture.shape)
            raise AudioError(f"a mixture of shape {shape}; expected (channel, time), at least one sample")
        if mixture.shape[0] > MAX_CHANNELS:
            raise AudioError(f"a mixture of {mixture.shape[0]} channels; expected (channel, time): transpose the array")
        return self._separate(mixture, rate)[0]

    def _separate(self, mixture: Waveform, rate: int) -> tuple[Parts, StreamingSeparator]:
        size = max(1, round(audio.BLOCK_SECONDS * rate))
        blocks = [mixture[:, start : start + size] for start in range(0, mixture.shape[1], size)]
        clusters = self.cluster(blocks, rate, mixture.shape[0]) if self.uses_clusters else None
        separator = self.start(rate, mixture.shape[0], clusters)
        parts = [separator.push(block) for block in blocks]
        parts.append(separator.finish())
        return Parts(*(np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))), separator

    def start(
        self, rate: int, channels: int, clusters: Clusters | None = None, *, low_delay: bool = False
    ) -> StreamingSeparator:
        """Start a song, and return the separator to push its blocks into.

        Args:
            rate: The song's sample rate in Hz.
            channels: The song's number of channels.
            clusters: Result of `cluster` for this song. Without clusters, or if they are not trusted, the net's own
                masks are used.
            low_delay: Whether `push` waits for the net, so that the vocals come as early as they can. Otherwise the
                workers hold a few chunks, which is faster. The vocals are the same.
        """
        song = Start(
            rate=rate,
            channels=channels,
            clusters=clusters,
            workers=self._workers,
            low_delay=low_delay,
            latency=self.latency,
        )
        return StreamingSeparator(self._engine.start(song), rate, channels, gate=self.gate)

    def find_paces(self, rate: int) -> list[Pace]:
        """Return how each net's window slides over songs of this sample rate in Hz; an empty list without a latency.

        Raises:
            ConfigError: If the latency or a chunk is too short for a net's frames.
        """
        return [] if self.latency is None else [net.choose_pace(rate, self.latency) for net in self._engine.nets]

    def warm_up(self, rate: int, channels: int) -> None:
        """Run the nets once, so that the first vocals need no longer than the others. Needs a latency.

        Args:
            rate: The sample rate of the songs to come, in Hz.
            channels: Their number of channels.

        Raises:
            ConfigError: Without a latency, or as `find_paces`.
        """
        paces = self.find_paces(rate)
        if not paces:
            raise ConfigError("only an extractor with a latency can be warmed up")
        step = max(pace.step for pace in paces)
        separator, silence = self.start(rate, channels, low_delay=True), np.zeros((channels, step), np.float32)
        while not separator.push(silence).vocals.shape[-1]:
            pass

    def _measure_latency(self) -> float:
        """Run each net on noise for a second, and return the shortest latency that this machine can hold."""
        rate, nets = 44_100, self._engine.nets
        return choose_latency([(partial(net.choose_pace, rate), _measure_step(net, rate)) for net in nets])

    def cluster(self, blocks: Iterable[Waveform], rate: int, channels: int) -> Clusters | None:
        """Find a song's clusters. Memory use does not grow with the song.

        The model's net must be a clustering net.

        Args:
            blocks: Blocks of the song, ``(channel, time)`` each.
            rate: The song's sample rate in Hz.
            channels: The song's number of channels.

        Returns:
            The clusters, or None if the song is silent or its loud bins are all alike.
        """
        return self._engine.cluster(blocks, rate, channels)


def _measure_step(net: MaskEngine, rate: int) -> float:
    """Run a net on noise for a second. Return the seconds that a step takes, for each frame that the net sees."""
    channels, latency = 2, LATENCIES[-1]
    pace = net.choose_pace(rate, latency)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (channels, pace.step)).astype(np.float32)
    estimator, began = net.start(Start(rate=rate, channels=channels, latency=latency, low_delay=True)), 0.0
    taken: list[float] = []
    while len(taken) < _FEWEST_MEASURED or time.perf_counter() < began + 1:
        before = time.perf_counter()
        if estimator.push(noise).shape[-1]:
            taken.append(time.perf_counter() - before)
        else:  # the first vocals take longer, because the net is loaded
            taken, began = [], time.perf_counter()
    return float(np.quantile(taken[1:], 0.9)) / pace.frames
