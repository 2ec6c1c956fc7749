"""Process songs one after another in one process, and report events on the way."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal

from vocalsep import claims, files
from vocalsep.batches.events import Finished, OnEvent, Progressed, Started, Warned
from vocalsep.batches.jobs import PIPE, Job, Place, check_existing, describe_missing
from vocalsep.claims import Claim
from vocalsep.errors import AudioError, VocalsepError, describe_error, is_about_memory
from vocalsep.remote import Remote, Workspace

if TYPE_CHECKING:
    from vocalsep.audio import SampleLayout
    from vocalsep.extraction import Extractor

_NO_OPTIONS: Final = {"models", "threads", "mute", "bundles", "existing", "hash_inputs", "run"}  # they change no output

READ_ONCE = (
    "raw samples and wav from a pipe can be read only once, so they are not clustered; "
    "vocalsep uses the net's own masks instead"
)


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
        latency: Seconds that the vocals may be behind the song; None for the best quality.
        raw: Layout of the song's samples, if it has no header.
        threads: Threads of each process. The vocals do not depend on their number.
        strict: Whether a song that ends earlier than it states fails.
        mute: Whether to suppress the warnings of Python libraries.
        existing: What to do about outputs that exist when the song's turn comes: "refuse", "overwrite" or "skip".
        hash_inputs: Whether to compute the SHA-256 of each song.
        run: Name of the run on several machines that hands out the songs; see `claims.claim`.
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
    latency: float | Literal["auto"] | None = None
    raw: SampleLayout | None = None
    threads: int = 1
    mute: bool = False
    strict: bool = False
    existing: str = "overwrite"
    hash_inputs: bool = False
    run: str = ""

    def describe(self) -> dict[str, Any]:
        """Return the settings that decide the outputs, except for the models, and without those that are off."""
        values, off = dataclasses.asdict(self), (None, False, ())
        on = {key: value for key, value in values.items() if key not in _NO_OPTIONS and value not in off}
        return {"weights" if key == "shares" else key: value for key, value in on.items()}


class SetupError(VocalsepError):
    """No song can be processed at all: the model or the device is missing."""


class _Skip(Exception):  # noqa: N818 - it is no error
    """A song is skipped. The argument says why; see `Finished`."""


class Worker:
    """Processes songs with one model, which it loads for the first song that can be read.

    Args:
        settings: What to compute.
        on_event: Called with each event.
        check_signals: Raises an exception if somebody has asked to stop.
        open_stdout: Opens standard output for sound.
    """

    def __init__(
        self,
        settings: Settings,
        on_event: OnEvent,
        check_signals: Callable[[], None],
        open_stdout: Callable[[], BinaryIO] = lambda: sys.stdout.buffer,
    ) -> None:
        self.settings, self._on_event, self._check_signals = settings, on_event, check_signals
        self._open_stdout = open_stdout
        self._loaded: Extractor | None = None
        self._frozen = False
        gc.freeze()  # nothing that is there already is garbage of a song
        if settings.mute:
            warnings.simplefilter("ignore")

    def do(self, index: int, job: Job, *, again: bool = False) -> None:
        """Process a song. If it fails, the error is reported as an event.

        Args:
            index: Its position in the plan.
            job: What to do.
            again: Whether a lost process has worked on it in this call, so that its outputs are replaced.

        Raises:
            SetupError: If the model cannot be loaded.
            BrokenPipeError: If the program that reads standard output has ended.
        """
        report, error, trace, skipped = None, "", "", ""
        self._digest: str | None = None
        self._existing = "overwrite" if again else self.settings.existing
        try:
            report = self._extract(index, job)
        except _Skip as reason:
            skipped = str(reason)
        except (SetupError, BrokenPipeError):
            raise
        except VocalsepError as failure:
            error = str(failure)
        except OSError as failure:
            error = f"{failure.filename or job.label}: {describe_error(failure)}"
        except Exception as bug:
            error, trace = f"{job.label}: {describe_error(bug)}", ""
            if not is_about_memory(bug):
                error, trace = f"{job.label}: {type(bug).__name__}: {bug}", traceback.format_exc()
        self._collect_garbage()
        self._check_signals()
        self._on_event(
            Finished(index=index, report=report, error=error, trace=trace, skipped=skipped, input_sha256=self._digest)
        )

    def _collect_garbage(self) -> None:
        """Free what a song has left in circles, mostly its tags. Python itself would wait for thousands of songs.

        Everything that is there after the first song stays until `close`, so it is searched only once.
        """
        gc.collect()
        if not self._frozen:
            gc.freeze()
            self._frozen = True

    def close(self) -> None:
        """Let Python collect what is no longer needed. The worker must not be used any more."""
        gc.unfreeze()

    def _extract(self, index: int, job: Job) -> dict[str, Any]:
        if not job.is_remote:
            return self._extract_here(index, job, job)
        _check_existing(job, self._existing)
        with Workspace(self._check_signals) as workspace:
            here = _move_here(job, workspace)
            places = {str(here.song): str(job.song)}
            places |= {str(here.outputs[stem]): str(path) for stem, path in job.outputs.items()}
            try:
                report = self._extract_here(index, here, job, workspace)
            except VocalsepError as error:
                is_page = isinstance(job.song, Remote) and job.song.is_web and "web page" in str(error)
                hint = "; to download songs from video sites, use yt-dlp -x" if is_page else ""
                raise type(error)(rename(str(error), places) + hint) from error
            return {key: rename(value, places) for key, value in report.items()}

    def _extract_here(self, index: int, here: Job, job: Job, workspace: Workspace | None = None) -> dict[str, Any]:
        """Process a song.

        Args:
            index: Its position in the plan.
            here: The job with temporary files in place of remote ones.
            job: The job itself.
            workspace: Where the temporary files are.
        """
        settings = self.settings
        self._on_event(Started(index=index, seconds=_check_song(here, settings)))
        measures = settings.latency == "auto" and not self._loaded
        extractor = self.load()
        if measures:
            self._on_event(
                Warned(index=index, message=f"this machine can keep up with a latency of {extractor.latency:g} s")
            )
        if extractor.uses_clusters and (job.song == PIPE or settings.raw):
            self._on_event(Warned(index=index, message=READ_ONCE))
        for file in here.files:
            file.parent.mkdir(parents=True, exist_ok=True)
        with _claim(job, self._existing, settings.run) as held:
            if settings.hash_inputs and isinstance(here.song, Path):
                self._digest = files.hash_file(here.song)
            report = self._separate(index, here, extractor, held)
            for stem, path in job.outputs.items():
                if workspace and isinstance(path, Remote):
                    workspace.upload(Path(str(here.outputs[stem])), path)
            return report

    def _separate(self, index: int, job: Job, extractor: Extractor, held: Claim) -> dict[str, Any]:
        from vocalsep import extraction

        settings, done = self.settings, 0.0

        def progress(seconds: float) -> None:
            nonlocal done
            done += seconds
            held.renew()
            self._check_signals()
            self._on_event(Progressed(index=index, seconds=done))

        outputs = {stem: path if isinstance(path, Path) else self._open_stdout() for stem, path in job.outputs.items()}
        report = extraction.extract(
            job.song if isinstance(job.song, Path) else sys.stdin.buffer,
            outputs.get("vocals"),
            accompaniment=outputs.get("accompaniment"),
            extractor=extractor,
            progress=progress,
            subtype=settings.subtype,
            bitrate=settings.bitrate,
            clip=settings.clip,
            labels=_get_path(job, "labels"),
            picture=_get_path(job, "picture"),
            raw=settings.raw,
            strict=settings.strict,
            bundle=job.bundle,
        )
        return dataclasses.asdict(report)

    def load(self) -> Extractor:
        """Load the model, unless it is loaded; raise `SetupError` if that fails."""
        if not self._loaded:
            try:
                self._loaded = load_extractor(self.settings)
            except VocalsepError as error:
                raise SetupError(str(error)) from error
        return self._loaded


def _get_path(job: Job, stem: str) -> Path | None:
    path = job.outputs.get(stem)
    return path if isinstance(path, Path) else None


@contextlib.contextmanager
def _claim(job: Job, existing: str, run: str) -> Iterator[Claim]:
    """Keep other calls away from the outputs of a job, and check once more whether they exist.

    Raises:
        _Skip: If they do, or another call is working on them.
        AudioError: If they exist and may not be replaced, or cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(claims.claim(job.all_files, run))
        except OSError as error:
            path = next(path for path in job.files if path.parent == Path(error.filename).parent)
            raise AudioError(f"{path}: cannot be written ({describe_error(error)})") from error
        if held is None:
            raise _Skip("claimed")
        _check_existing(job, existing)
        yield held


def _check_existing(job: Job, existing: str) -> None:
    """Check whether the outputs of a job exist now.

    Raises:
        _Skip: If they do, and the job is to be skipped.
        AudioError: If one does, and may not be replaced.
    """
    checked = check_existing(job, existing, now=True)
    if checked.refusal:
        raise AudioError(checked.refusal)
    if checked.skipped:
        raise _Skip(checked.skipped)


def _move_here(job: Job, workspace: Workspace) -> Job:
    """Download a remote song. Return the job with temporary files in place of remote ones."""
    song = workspace.download(job.song) if isinstance(job.song, Remote) else job.song
    outputs: dict[str, Place] = {
        stem: workspace.place(path) if isinstance(path, Remote) else path for stem, path in job.outputs.items()
    }
    return dataclasses.replace(job, song=song, outputs=outputs)


def rename(value: Any, places: dict[str, str]) -> Any:
    """Replace names of files by others, in a text or a list of texts."""
    if isinstance(value, str):
        for here, there in places.items():
            value = value.replace(here, there)
    elif isinstance(value, tuple):
        return tuple(rename(each, places) for each in value)
    return value


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
        latency=settings.latency,
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
        raise AudioError(describe_missing(job.song)) from error
    except (OSError, ValueError):
        pass  # the reader reports the reason
    with audio.open_song(job.song, settings.raw) as reader:
        for path in job.recordings:
            audio.check_output(
                path, rate=reader.rate, channels=reader.channels, subtype=settings.subtype, bitrate=settings.bitrate
            )
        return reader.samples / reader.rate or None
