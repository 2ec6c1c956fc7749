"""Engines: models ready to run, one kind for each kind of model. An engine starts an estimator for each song."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from vocalsep import backends
from vocalsep.errors import ConfigError, describe_unknown
from vocalsep.extraction import clustering
from vocalsep.extraction.averaging import MeanEstimator
from vocalsep.extraction.chunks import ChunkStream
from vocalsep.extraction.clustering import Clusters
from vocalsep.extraction.estimators import Estimator, Lookahead, PaddedEstimator
from vocalsep.extraction.foreign import ForeignEstimator
from vocalsep.extraction.inversion import INVERSIONS
from vocalsep.extraction.masking import MaskEstimator, MaskStream, get_batch_size, get_piece_size, prepare_inputs
from vocalsep.extraction.sliding import Pace, SlidingEstimator, choose_pace
from vocalsep.interchange import ForeignModel, waveform
from vocalsep.kinds import silence_non_finite
from vocalsep.means import Mean
from vocalsep.shapes import AnyArray, Mask, Waveform
from vocalsep.stft import Grid
from vocalsep.weights import AnyModel, Model

_FRAMES_AHEAD = 512  # of the chunks whose masks are computed ahead
MASK_SOURCES = ("auto", "net", "clusters")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How models are run; see `Extractor`.

    Attributes:
        device: See `Extractor`, as for the next three.
        inversion: How to turn the masked spectrogram back into sound.
        masks_from: Where masks come from.
        as_original: Whether songs are cut as other programs do.
        follows: Whether a latency is set; see `sliding`.

    Raises:
        ConfigError: If a value is unknown.
    """

    device: str = "auto"
    inversion: str = "phase"
    masks_from: str = "auto"
    as_original: bool = False
    follows: bool = False

    def __post_init__(self) -> None:
        if self.inversion not in INVERSIONS:
            raise ConfigError(describe_unknown("inversion", self.inversion, INVERSIONS))
        if self.masks_from not in MASK_SOURCES:
            raise ConfigError(describe_unknown("source of masks", self.masks_from, MASK_SOURCES))
        if self.follows and (self.inversion != "phase" or self.masks_from == "clusters" or self.as_original):
            raise ConfigError(
                "a latency needs the song's phase and the net's own masks, so it cannot be combined with Griffin-Lim, "
                "clusters or as_original"
            )


@dataclass(frozen=True, kw_only=True)
class Start:
    """A song that is about to start.

    Attributes:
        rate: Its sample rate in Hz.
        channels: Its number of channels.
        clusters: Its clusters, if it was clustered.
        workers: Threads in which nets run, if there are any.
        low_delay: Whether the caller waits for them.
        latency: Seconds that its vocals may be behind; None to separate it as well as possible. See `sliding`.
    """

    rate: int
    channels: int
    clusters: Clusters | None = None
    workers: Executor | None = None
    low_delay: bool = False
    latency: float | None = None


class Engine(Protocol):
    """A model, ready to run."""

    device: str
    """Where it runs, "cpu" or "cuda"."""

    uses_clusters: bool
    """Whether songs must be clustered first."""

    @property
    def nets(self) -> Sequence[MaskEngine]:
        """The engines of vocalsep's own nets: this one, those of a mean, or none."""

    def start(self, song: Start) -> Estimator:
        """Start a song."""

    def cluster(self, blocks: Iterable[Waveform], rate: int, channels: int) -> Clusters | None:
        """Cluster a song; see `Extractor.cluster`."""


def open_engine(model: AnyModel, options: Options) -> Engine:
    """Get a model ready to run.

    Raises:
        ConfigError: If the device does not exist, or the model does not support an option.
        ModelError: If the model is damaged, or needs what is not installed.
    """
    if isinstance(model, ForeignModel):
        return ForeignEngine(model, options)
    if isinstance(model, Mean):
        return MeanEngine(model, options)
    return MaskEngine(model, options)


def _refuse_clusters(name: str, options: Options) -> None:
    if options.masks_from == "clusters":
        raise ConfigError(f"model {name} does not cluster; use the net's own masks")


def _refuse_latency(name: str, options: Options) -> None:
    if options.follows:
        raise ConfigError(f"{name}: a latency needs vocalsep's own models, not another program's")


class MaskEngine:
    """Runs one of our own models.

    Args:
        model: The model.
        options: How to run it.

    Raises:
        ConfigError: If the device does not exist, or the net cannot provide clusters.
    """

    def __init__(self, model: Model, options: Options) -> None:
        if not model.run.embeds:
            _refuse_clusters(model.name, options)
        wanted = options.masks_from
        by_default = model.run.clusters_by_default and not options.follows
        self.uses_clusters = wanted == "clusters" or (wanted == "auto" and by_default)
        self._model, self._inversion = model, options.inversion
        self._lead = model.run.original_lead if options.as_original else None
        self._backend = backends.open_backend(model, options.device)
        self.device = self._backend.device

    @property
    def nets(self) -> Sequence[MaskEngine]:
        """See `Engine.nets`."""
        return [self]

    def choose_pace(self, rate: int, latency: float) -> Pace:
        """Choose how the net slides over songs of a sample rate; see `sliding.choose_pace`."""
        return choose_pace(self._model.front_end, rate, latency, self._model.run.frame_step)

    def start(self, song: Start) -> Estimator:
        """See `Engine.start`."""
        model, lead = self._model, self._lead
        if song.latency is not None:
            pace = self.choose_pace(song.rate, song.latency)
            steps: Lookahead[Waveform] = Lookahead(song.workers, low_delay=song.low_delay)
            return SlidingEstimator(model, self._backend, pace, song.channels, ahead=steps)
        if lead is not None:
            model = replace(model, run=replace(model.run, overlap=0.0))
        estimator = MaskEstimator([self.open_stream(song, model)], song.rate, song.channels, inversion=self._inversion)
        if lead is None:
            return estimator
        grid = model.front_end.grid.at_rate(song.rate)
        return PaddedEstimator(estimator, song.channels, lead * grid.hop, (grid.parts - 1 - lead) * grid.hop)

    def open_stream(self, song: Start, model: Model | None = None) -> MaskStream:
        """Start to estimate the mask of a song; by default with the engine's own model."""
        model = model or self._model
        most = _FRAMES_AHEAD // model.front_end.frames
        ahead: Lookahead[Mask] = Lookahead(song.workers, low_delay=song.low_delay, most=most)
        return MaskStream(model, self._backend, song.rate, song.channels, clusters=song.clusters, ahead=ahead)

    @property
    def cut(self) -> tuple[Grid, int, float, str] | None:
        """How the net cuts songs. Nets of which this is equal can share a song's spectrum; None if this one cannot."""
        if self._lead is not None or self.uses_clusters:
            return None
        front_end = self._model.front_end
        return front_end.grid, front_end.frames, self._model.run.overlap, self.device

    def cluster(self, blocks: Iterable[Waveform], rate: int, channels: int) -> Clusters | None:
        """See `Engine.cluster`."""
        front_end, batch = self._model.front_end, get_batch_size(self._backend, self._model)
        piece = get_piece_size(self._backend)
        stream = ChunkStream(front_end, rate, channels, front_end.frames, piece, self._backend.place)
        sample = clustering.BinSample()

        def add(block: Waveform, *, last: bool = False) -> None:
            for chunk in stream.push(block, last=last):
                for power, features in prepare_inputs(chunk[None], front_end, batch):
                    sample.push(*self._backend.embed(features), power)

        with np.errstate(all="ignore"):
            empty = None
            for block in blocks:
                add(silence_non_finite(block))
                empty = block[:, :0]
            if empty is None:
                return None
            add(empty, last=True)
        return sample.fit()


class ForeignEngine:
    """Runs a model of another program, on the CPU.

    Args:
        model: The model.
        options: How to run it.

    Raises:
        ConfigError: If the device is "cuda".
        ModelError: If ONNX Runtime cannot load the file.
    """

    device, uses_clusters = "cpu", False
    nets: Sequence[MaskEngine] = ()

    def __init__(self, model: ForeignModel, options: Options) -> None:
        _refuse_clusters(model.name, options)
        _refuse_latency(model.name, options)
        if options.device == "cuda":
            raise ConfigError(f"model {model.name}: models of other programs run on the CPU; use --device cpu")
        from vocalsep.backends.foreign import ForeignGraph  # takes time to import

        self._model, self._as_original = model, options.as_original
        self._graph = ForeignGraph(
            model.name,
            model.path,
            output=model.graph.output.name,
            weights=model.graph.weight_bytes,
            run=estimate_memory(model),
        )

    def start(self, song: Start) -> Estimator:
        """See `Engine.start`."""
        ahead: Lookahead[AnyArray] = Lookahead(song.workers, low_delay=song.low_delay)
        return ForeignEstimator(
            self._model, self._graph, song.rate, song.channels, ahead=ahead, as_original=self._as_original
        )

    def cluster(self, blocks: Iterable[Waveform], rate: int, channels: int) -> Clusters | None:  # noqa: ARG002
        """Do nothing: these models do not cluster."""
        return None


class MeanEngine:
    """Runs several models and averages their vocals. Clustering nets use their own masks here.

    Args:
        mean: The models and their weights.
        options: How to run them.
    """

    uses_clusters = False

    def __init__(self, mean: Mean, options: Options) -> None:
        _refuse_clusters(mean.name, options)
        own = replace(options, masks_from="net")
        self._engines: Sequence[Engine] = [open_engine(model, own) for model in mean.models]
        self._mean = mean
        cuts = {engine.cut if isinstance(engine, MaskEngine) else None for engine in self._engines}
        self._is_of_masks = options.inversion == "phase" and len(cuts) == 1 and None not in cuts
        self.device = next((engine.device for engine in self._engines if engine.device != "cpu"), "cpu")

    @property
    def nets(self) -> Sequence[MaskEngine]:
        """See `Engine.nets`."""
        return [net for engine in self._engines for net in engine.nets]

    def start(self, song: Start) -> Estimator:
        """See `Engine.start`."""
        if song.latency is None and self._is_of_masks:
            streams = [net.open_stream(song) for net in self.nets]
            return MaskEstimator(streams, song.rate, song.channels, inversion="phase", mean=self._mean)
        estimators = [engine.start(song) for engine in self._engines]
        return MeanEstimator(estimators, self._mean.weights, song.rate, led_by_first=self._mean.led_by_first)

    def cluster(self, blocks: Iterable[Waveform], rate: int, channels: int) -> Clusters | None:  # noqa: ARG002
        """Do nothing; see the class."""
        return None


def estimate_memory(model: ForeignModel) -> int:
    """Return the bytes that one run of a model's graph may take, beside its weights.

    MDX-Net and HTDemucs of full size take some 50 times their input and output.
    """
    settings = model.settings
    if isinstance(settings, waveform.Settings):
        numbers = 2 * settings.samples * (1 + len(settings.stems))
    else:
        numbers = 2 * 4 * settings.dim_f * settings.dim_t
    return 80 * 4 * numbers
