"""The work on one song after the other, in one process."""

from __future__ import annotations

import dataclasses
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vocalsep.cli.batch.plan import Job
from vocalsep.errors import VocalsepError

if TYPE_CHECKING:
    from vocalsep.extraction import Extractor


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A song can be read, and its turn has come.

    Attributes:
        index: Its place in the plan.
        seconds: Its length as the file states it; None where it states none.
    """

    index: int
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A part of a song is done.

    Attributes:
        index: Its place in the plan.
        seconds: How much of it is done in all.
    """

    index: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A song is done, or failed, or needs not be done.

    Attributes:
        index: Its place in the plan.
        report: The fields of its `extraction.Report`, if it is done.
        error: What went wrong, if it failed; one line.
        trace: Where it went wrong, if that is a bug.
    """

    index: int
    report: dict[str, Any] | None = None
    error: str = ""
    trace: str = ""


Event = Begun | Moved | Ended
Tell = Callable[[Event], None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is computed, the same for all songs of a call; see `extraction.Extractor` and `extraction.extract`.

    Attributes:
        model: A name or weights file.
        device: Where to compute.
        inversion: From spectra to sound.
        masks: Where masks come from.
        subtype: Sample format of the outputs, if one is asked for.
        clip: What becomes of samples that an output cannot hold.
        gate: Whether the vocals fade out where there is no voice.
        threads: In which each process computes. Their number changes no byte of the vocals.
        mute: Whether libraries may warn on stderr.
    """

    model: str
    device: str = "auto"
    inversion: str = "phase"
    masks: str = "auto"
    subtype: str | None = None
    clip: str = "clamp"
    gate: bool = False
    threads: int = 1
    mute: bool = False


class SetupError(VocalsepError):
    """No song at all can be done: the model or the device is not there."""


class Bench:
    """Does songs with one model, which is loaded for the first song that can be read.

    Args:
        settings: What to compute.
        tell: Is told what happens.
        heed: Raises an exception where the work should stop.
    """

    def __init__(self, settings: Settings, tell: Tell, heed: Callable[[], None]) -> None:
        self._settings, self._tell, self._heed = settings, tell, heed
        self._ready: Extractor | None = None
        if settings.mute:
            warnings.simplefilter("ignore")

    def do(self, index: int, job: Job) -> None:
        """Does a song; that it fails is told, too.

        Args:
            index: Its place in the plan.
            job: What to do.

        Raises:
            SetupError: If the model cannot be loaded.
        """
        report, error, trace = None, "", ""
        try:
            report = self._extracted(index, job)
        except SetupError:
            raise
        except VocalsepError as failure:
            error = str(failure)
        except OSError as failure:
            error = f"{failure.filename or job.song}: {failure.strerror or failure}"
        except Exception as bug:
            error, trace = f"{job.song}: {type(bug).__name__}: {bug}", traceback.format_exc()
        self._heed()
        self._tell(Ended(index=index, report=report, error=error, trace=trace))

    def _extracted(self, index: int, job: Job) -> dict[str, Any]:
        from vocalsep import extraction

        self._tell(Begun(index=index, seconds=_look(job, self._settings.subtype)))
        extractor = self._extractor()
        done = 0.0

        def progress(seconds: float) -> None:
            nonlocal done
            done += seconds
            self._heed()
            self._tell(Moved(index=index, seconds=done))

        for path in job.outputs.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        report = extraction.extract(
            job.song,
            job.outputs["vocals"],
            accompaniment=job.outputs.get("accompaniment"),
            extractor=extractor,
            progress=progress,
            subtype=self._settings.subtype,
            clip=self._settings.clip,
            labels=job.outputs.get("labels"),
        )
        return dataclasses.asdict(report)

    def _extractor(self) -> Extractor:
        if not self._ready:
            try:
                self._ready = extractor(self._settings)
            except VocalsepError as error:
                raise SetupError(str(error)) from error
        return self._ready


def extractor(settings: Settings, *, at_once: bool = False) -> Extractor:
    """Loads the model, and has this process compute in the settings' threads.

    Args:
        settings: What to compute.
        at_once: Whether answers are wanted as soon as they can be had, rather than as fast as they can be computed.

    Raises:
        VocalsepError: If that cannot be.
    """
    import torch

    from vocalsep import extraction, weights

    torch.set_num_threads(settings.threads if at_once else 1)  # of each of the extractor's
    return extraction.Extractor(
        weights.load(settings.model),
        device=settings.device,
        inversion=settings.inversion,
        masks_from=settings.masks,
        gate=settings.gate,
        workers=0 if at_once else settings.threads,
    )


def _look(job: Job, subtype: str | None) -> float | None:
    """Looks at a song once before anything is computed: can it be read, do its outputs hold it, how long is it?"""
    from vocalsep import audio

    with audio.Reader(job.song) as reader:
        for path in job.sounds:
            audio.check_output(path, rate=reader.rate, channels=reader.channels, subtype=subtype)
        return reader.samples / reader.rate or None
