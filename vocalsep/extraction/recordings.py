"""From a recording to the files of its vocals and accompaniment, and a report of what was done."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vocalsep import audio, files, release, weights
from vocalsep.errors import AudioError
from vocalsep.extraction.checks import OutputCheck
from vocalsep.extraction.clustering import Clusters
from vocalsep.extraction.extractor import Extractor
from vocalsep.extraction.streaming import Parts, StreamingSeparator
from vocalsep.extraction.voice import Segment
from vocalsep.shapes import Waveform


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was done with one song.

    Attributes:
        input: The song.
        vocals: The file written.
        accompaniment: The other file written, if any.
        labels: The label track written, if any.
        model: Name of the model.
        audio_seconds: Length of the song.
        taken_seconds: Time it took, without loading the model.
        times_real_time: The former over the latter.
        peak_memory_mb: Peak memory of this process so far, MiB; None where the system does not tell.
        voice: Stretches of the song with a voice, as (start, end) in seconds.
        voice_share: Share of the song that they take, in [0, 1].
        vocals_db: Level of the vocals against the song, dB; None where either is silent.
        cluster_confidence: See `clustering.Clusters`; None where the song was not clustered.
        clusters_used: Whether the vocals come from clusters, and not from the net's own masks.
        clipped_samples: Samples of all outputs that were put to full scale, since their format holds no more.
        gain_db: Gain of all outputs, dB; 0 unless `clip` was "scale" and something had to be scaled.
        warnings: What went wrong without harm to the sound, as tags that could not be copied; and that hardly any voice
            was found.
    """

    input: str
    vocals: str
    accompaniment: str | None
    labels: str | None
    model: str
    audio_seconds: float
    taken_seconds: float
    times_real_time: float
    peak_memory_mb: float | None
    voice: tuple[Segment, ...]
    voice_share: float
    vocals_db: float | None
    cluster_confidence: float | None
    clusters_used: bool
    clipped_samples: int
    gain_db: float
    warnings: tuple[str, ...]


def extract(
    song: Path | str | BinaryIO,
    vocals: Path | str | BinaryIO,
    *,
    accompaniment: Path | str | BinaryIO | None = None,
    extractor: Extractor | None = None,
    progress: Callable[[float], None] = lambda _: None,
    subtype: str | None = None,
    clip: str = "clamp",
    labels: Path | str | None = None,
    raw: audio.SampleLayout | None = None,
) -> Report:
    """Extracts the vocals of a recording into a file of the same rate, channel count, length and sample format.

    The song's tags go with it, with the part added to the title. Open binary files need not know their end nor go back,
    so pipes will do: what comes from one may be of any length, and what goes to one is on its way as it is known. What
    can be read only once is not clustered; the net's own masks are used.

    Args:
        song: The recording; a file, or an open one (of wav; other formats go to a temporary file first).
        vocals: The file to write; replaced if it exists. It appears whole or not at all. An open one gets wav.
        accompaniment: Where to write mixture minus vocals, too.
        extractor: What to use; by default the default model.
        progress: Is told the seconds of the song that are done since the last time.
        subtype: Sample format of the outputs, a key of `audio.SUBTYPES`; None takes the song's where the output has it.
        clip: What to do with samples that a fixed-point output cannot hold, one of `audio.CLIPPING`: "clamp" puts them
            to full scale and counts them, "error" gives up, "scale" gives all outputs the gain that fits.
        labels: Where to write the stretches with a voice, too, as a label track of Audacity.
        raw: How the song's samples lie, if it has no header. Open outputs get none then, either.

    Raises:
        AudioError: If the song cannot be read or a file cannot be written.
        BrokenPipeError: If the other end of an open output was closed.
        ConfigError: If there is no such sample format or way of clipping.
        ModelError: If the net's answers are no numbers, or the vocals the song itself (unless it is silent). No output
            is left then.
    """
    asked = None if subtype is None else audio.find_subtype(subtype)
    extractor = extractor or Extractor(weights.load())
    started = time.perf_counter()
    source = _place(song)
    outputs = [_place(where) for where in (vocals, accompaniment) if where is not None]
    name = str(source) if isinstance(source, Path) else audio.STDIN
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(audio.open_song(source, raw))
        for path in outputs:
            if isinstance(path, Path):
                audio.check_output(path, rate=reader.rate, channels=reader.channels, subtype=subtype)
        track = None if labels is None else _label_track(stack, Path(labels))
        clusters = _surveyed(reader, extractor, progress)
        about, complaint = audio.read_tags(reader.path) if reader.path else (audio.Tags({}), "")
        encoder = f"vocalsep {release.__version__}, model {extractor.model.name}"
        written = audio.Outputs(
            outputs,
            rate=reader.rate,
            channels=reader.channels,
            subtype=asked or reader.subtype,
            clip=clip,
            samples=0 if reader.estimated else reader.samples,
            tags=[about.for_part(part, encoder) for part in ("vocals", "accompaniment")],
            raw=raw is not None,
        )
        stack.enter_context(written)
        separation = extractor.start(reader.rate, reader.channels, clusters)
        check = OutputCheck(extractor.model.name, name)
        share = 0.5 if extractor.clusters and reader.path else 1.0
        for piece in _pieces(reader, separation, name, lambda seconds: progress(share * seconds)):
            check.push(*piece, broken=separation.broken)
            written.write(piece)
        check.finish()
        if track:
            lines = (f"{start:.6f}\t{end:.6f}\tvoice\n" for start, end in separation.voice)
            track.write_text("".join(lines), encoding="utf-8")
    complaints = (complaint, *written.warnings, reader.warning, check.warning)
    taken = time.perf_counter() - started
    return Report(
        input=_told(source),
        vocals=_told(outputs[0]),
        accompaniment=None if accompaniment is None else _told(outputs[1]),
        labels=None if labels is None else str(labels),
        model=extractor.model.name,
        audio_seconds=round(separation.seconds, 3),
        taken_seconds=round(taken, 3),
        times_real_time=round(separation.seconds / taken, 2),
        peak_memory_mb=measure_peak_memory_mb(),
        voice=tuple((round(start, 3), round(end, 3)) for start, end in separation.voice),
        voice_share=round(separation.voice_share, 4),
        vocals_db=None if check.vocals_db is None else round(check.vocals_db, 2),
        cluster_confidence=round(clusters.confidence, 4) if clusters else None,
        clusters_used=clusters is not None and clusters.trusted,
        clipped_samples=written.clipped_samples,
        gain_db=round(written.gain_db, 3),
        warnings=tuple(filter(None, complaints)),
    )


def _place(where: Path | str | BinaryIO) -> Path | BinaryIO:
    return Path(where) if isinstance(where, str) else where


def _told(where: Path | BinaryIO) -> str:
    return str(where) if isinstance(where, Path) else "-"


def _label_track(stack: contextlib.ExitStack, path: Path) -> Path:
    """A file that takes its name only when all is well."""
    try:
        return stack.enter_context(files.write_atomically(path))
    except OSError as error:
        raise AudioError(f"{path}: cannot be written ({error.strerror})") from error


def _surveyed(
    reader: audio.Reader | audio.Stream, extractor: Extractor, progress: Callable[[float], None]
) -> Clusters | None:
    """Clusters of a recording, if they are wanted and it can be read twice: half of the work on it."""
    if not extractor.clusters or reader.path is None:
        return None

    def blocks(reader: audio.Reader) -> Iterator[Waveform]:
        for block in reader:
            yield block
            progress(block.shape[-1] / reader.rate / 2)

    with audio.Reader(reader.path) as again:
        return extractor.cluster(blocks(again), again.rate, again.channels)


def _pieces(
    reader: audio.Reader | audio.Stream, separation: StreamingSeparator, name: str, progress: Callable[[float], None]
) -> Iterator[Parts]:
    for block in reader:
        yield separation.push(block)
        progress(block.shape[-1] / reader.rate)
    if not separation.seconds:
        raise AudioError(f"{name}: the recording is empty")
    yield separation.finish()


def measure_peak_memory_mb() -> float | None:
    """Peak resident memory of this process so far, MiB; None on systems that do not tell."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, whose getrusage begins with what the process that started this one had
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(encoding="ascii", errors="replace"), re.MULTILINE)
        if found:
            return round(int(found[1]) / 1024, 1)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)
