"""Process songs one after another in one process, and report events on the way."""

from __future__ import annotations

import dataclasses
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocalsep.cli.batch import inputs
from vocalsep.cli.batch.plan import Job
from vocalsep.errors import AudioError, VocalsepError

if TYPE_CHECKING:
    from vocalsep.audio import SampleLayout
    from vocalsep.extraction import Extractor

READ_ONCE = (
    "raw samples and wav from a pipe can be read only once, so they are not clustered; "
    "vocalsep uses the net's own masks instead"
)


@dataclass(frozen=True, kw_only=True)
class Started:
    """A song can be read, and work on it starts.

    Attributes:
        index: Its position in the plan.
        seconds: Its length as the file states it; None if the file does not state it.
    """

    index: int
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Progressed:
    """A part of a song is done.

    Attributes:
        index: Its position in the plan.
        seconds: How much of the song is done in total.
    """

    index: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Warned:
    """Something about a song that the user should know before the song is done.

    Attributes:
        index: Its position in the plan.
        message: One line.
    """

    index: int
    message: str


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A song is done, has failed or was skipped.

    Attributes:
        index: Its position in the plan.
        report: The fields of its `extraction.Report`, if it is done.
        error: What went wrong, if it failed; one line.
        trace: The traceback, if the error is a bug.
    """

    index: int
    report: dict[str, Any] | None = None
    error: str = ""
    trace: str = ""


Event = Started | Progressed | Warned | Finished
OnEvent = Callable[[Event], None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to compute, the same for all songs of a call; see `extraction.Extractor` and `extraction.extract`.

    Attributes:
        models: Names or files; if there are several, their vocals are averaged.
        shares: Weights of several models.
        model_data: What models of other programs do not say about themselves; see `interchange.load`.
        as_original: Whether songs are cut for models of other programs as those programs do.
        device: Device to run on.
        inversion: How the masked spectrogram becomes audio.
        masks: Where masks come from.
        subtype: Sample format of the outputs; None if the user chose none.
        bitrate: Bit rate of lossy outputs, bits per second; None if the user chose none.
        clip: What to do with samples beyond full scale.
        gate: Whether to fade the vocals out where there is no voice.
        raw: Layout of the song's samples, if it has no header.
        threads: Threads of each process. The vocals do not depend on their number.
        mute: Whether to suppress the warnings of Python libraries.
    """

    models: tuple[str, ...]
    shares: tuple[float, ...] = ()
    model_data: str | None = None
    as_original: bool = False
    device: str = "auto"
    inversion: str = "phase"
    masks: str = "auto"
    subtype: str | None = None
    bitrate: int | None = None
    clip: str = "clamp"
    gate: bool = False
    raw: SampleLayout | None = None
    threads: int = 1
    mute: bool = False


class SetupError(VocalsepError):
    """No song can be processed at all: the model or the device is missing."""


class Worker:
    """Processes songs with one model, which it loads for the first song that can be read.

    Args:
        settings: What to compute.
        on_event: Called with each event.
        check_signals: Raises an exception if a signal has asked to stop; see `signals.raise_on_signal`.
    """

    def __init__(self, settings: Settings, on_event: OnEvent, check_signals: Callable[[], None]) -> None:
        self._settings, self._on_event, self._check_signals = settings, on_event, check_signals
        self._loaded: Extractor | None = None
        if settings.mute:
            warnings.simplefilter("ignore")

    def do(self, index: int, job: Job) -> None:
        """Process a song. If it fails, the error is reported as an event.

        Args:
            index: Its position in the plan.
            job: What to do.

        Raises:
            SetupError: If the model cannot be loaded.
            BrokenPipeError: If the program that reads standard output has ended.
        """
        report, error, trace = None, "", ""
        try:
            report = self._extract(index, job)
        except (SetupError, BrokenPipeError):
            raise
        except VocalsepError as failure:
            error = str(failure)
        except OSError as failure:
            error = f"{failure.filename or job.label}: {failure.strerror or failure}"
        except Exception as bug:
            error, trace = f"{job.label}: {type(bug).__name__}: {bug}", traceback.format_exc()
        self._check_signals()
        self._on_event(Finished(index=index, report=report, error=error, trace=trace))

    def _extract(self, index: int, job: Job) -> dict[str, Any]:
        from vocalsep import extraction

        settings = self._settings
        self._on_event(Started(index=index, seconds=_check_song(job, settings)))
        extractor = self._load()
        if extractor.uses_clusters and (job.song == inputs.PIPE or settings.raw):
            self._on_event(Warned(index=index, message=READ_ONCE))
        done = 0.0

        def progress(seconds: float) -> None:
            nonlocal done
            done += seconds
            self._check_signals()
            self._on_event(Progressed(index=index, seconds=done))

        for path in job.files:
            path.parent.mkdir(parents=True, exist_ok=True)
        outputs = {stem: path if isinstance(path, Path) else sys.stdout.buffer for stem, path in job.outputs.items()}
        report = extraction.extract(
            job.song if isinstance(job.song, Path) else sys.stdin.buffer,
            outputs.get("vocals"),
            accompaniment=outputs.get("accompaniment"),
            extractor=extractor,
            progress=progress,
            subtype=settings.subtype,
            bitrate=settings.bitrate,
            clip=settings.clip,
            labels=job.outputs.get("labels"),
            picture=job.outputs.get("picture"),
            raw=settings.raw,
            bundle=job.bundle,
        )
        return dataclasses.asdict(report)

    def _load(self) -> Extractor:
        if not self._loaded:
            try:
                self._loaded = load_extractor(self._settings)
            except VocalsepError as error:
                raise SetupError(str(error)) from error
        return self._loaded


def load_extractor(settings: Settings) -> Extractor:
    """Load the model into an extractor with as many workers as the settings allow threads.

    Raises:
        VocalsepError: If the model or the device is missing.
    """
    from vocalsep import extraction, weights

    return extraction.Extractor(
        [weights.load(model, data=settings.model_data) for model in settings.models],
        shares=settings.shares,
        device=settings.device,
        inversion=settings.inversion,
        masks_from=settings.masks,
        gate=settings.gate,
        workers=settings.threads,
        as_original=settings.as_original,
    )


def _check_song(job: Job, settings: Settings) -> float | None:
    """Check that a song can be read and that its outputs support it, before anything expensive starts.

    Returns:
        Its length in seconds as the file states it. None if the file states none, and for standard input, which is not
        read yet.
    """
    from vocalsep import audio

    if not isinstance(job.song, Path):
        return None
    try:
        job.song.stat()
    except FileNotFoundError as error:
        raise AudioError(inputs.describe_missing(job.song)) from error
    except (OSError, ValueError):
        pass  # the reader reports the reason
    with audio.open_song(job.song, settings.raw) as reader:
        for path in job.recordings:
            audio.check_output(
                path, rate=reader.rate, channels=reader.channels, subtype=settings.subtype, bitrate=settings.bitrate
            )
        return reader.samples / reader.rate or None
