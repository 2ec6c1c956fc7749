"""Recordings: separate a file or pipe into files or pipes, and report what was done."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vocalsep import audio, files, listening
from vocalsep.errors import AudioError, ConfigError, describe_error
from vocalsep.extraction.checks import OutputCheck
from vocalsep.extraction.clustering import Clusters
from vocalsep.extraction.extractor import Extractor
from vocalsep.extraction.naming import check_place, name_outputs
from vocalsep.extraction.overview import OverviewStream
from vocalsep.extraction.streaming import Parts, StreamingSeparator
from vocalsep.extraction.voice import Segment
from vocalsep.release import DEFAULT_MODEL
from vocalsep.shapes import Waveform
from vocalsep.weights import Model

_BLOCK_SECONDS = 0.005  # of a stream that several nets follow


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was done with one song.

    Attributes:
        input: The song's path, or "-" for an open file.
        vocals: Path of the vocals, or "-"; None if they were not written.
        accompaniment: Path of the accompaniment, or "-"; None if it was not written.
        labels: Path of the label track; None if it was not written.
        picture: Path of the picture; None if it was not drawn.
        model: Name of the model.
        audio_seconds: Length of the song in seconds.
        taken_seconds: Seconds that the extraction took, without loading the model.
        times_real_time: `audio_seconds` divided by `taken_seconds`.
        peak_memory_mb: Peak memory of this process so far in MiB; None on systems that do not report it.
        voice: Segments in which somebody sings, as (start, end) in seconds.
        voice_share: Share of the song that these segments take, in [0, 1].
        vocals_db: Level of the vocals relative to the song in dB; None if either is silent.
        cluster_confidence: See `clustering.Clusters`; None if the song was not clustered.
        clusters_used: Whether the vocals come from clusters rather than from the net's own masks.
        clipped_samples: Number of samples in all outputs that exceeded full scale and were clamped.
        gain_db: Gain of all outputs in dB; 0 unless `clip` was "scale" and the song had to be scaled.
        shorter_than_stated: Whether the song ended earlier than its file states, as if cut off. `warnings` says where.
        warnings: Problems that did not harm the sound, such as tags that could not be copied, or a song with hardly any
            voice.
    """

    input: str
    vocals: str | None
    accompaniment: str | None
    labels: str | None
    picture: str | None
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
    shorter_than_stated: bool
    warnings: tuple[str, ...]


def extract(
    song: Path | str | BinaryIO,
    vocals: Path | str | BinaryIO | bool | None = True,
    *,
    accompaniment: Path | str | BinaryIO | bool | None = None,
    model: Model | str | Path | None = None,
    extractor: Extractor | None = None,
    progress: Callable[[float], None] = lambda _: None,
    subtype: str | None = None,
    bitrate: int | None = None,
    clip: str = "clamp",
    labels: Path | str | bool | None = None,
    picture: Path | str | bool | None = None,
    raw: audio.SampleLayout | None = None,
    strict: bool = False,
    bundle: Path | None = None,
) -> Report:
    """Extract the vocals of a recording into a file with the same rate, channels, length and sample format.

    A song from a lossy format has no sample format: see `audio.Outputs`.

    The outputs get the song's tags, with the name of the part added to the title. Existing outputs are replaced. The
    folders of outputs must exist.

    Open binary files may be pipes: they need not be seekable, and the song may be endless. Vocals are written as soon
    as they are known. A song that can be read only once is not clustered; it gets the net's own masks.

    Args:
        song: The recording: a path, or an open binary file. A wav stream is read as it arrives; other formats go into a
            temporary file first.
        vocals: Where to write the vocals: a path, or an open binary file, which gets wav. A file appears under
            its path only when it is complete. A folder gets ``<song>.vocals.wav``; True puts that beside the song. None
            writes the accompaniment alone.
        accompaniment: Where to write the mixture minus the vocals. For this and other outputs, True stands for a file
            named after the song, beside the vocals.
        model: As for `Extractor`; by default the default model.
        extractor: The extractor to use instead of one with `model`, for other options and for many songs.
        progress: Called with the seconds of the song done since the last call.
        subtype: Sample format of the outputs, a key of `audio.SUBTYPES`; by default that of the song, if the output
            format supports it.
        bitrate: Bit rate of lossy outputs, bits per second; None for 200 to 300 kbit/s.
        clip: What to do with samples that exceed full scale in a fixed-point output, one of `audio.CLIPPING`: "clamp"
            clamps and counts them, "scale" scales all outputs by the same gain, "error" fails.
        labels: Where to write the segments with a voice as an Audacity label track.
        picture: Where to draw spectrograms of song, vocals and accompaniment, and the segments with a voice, as PNG.
        raw: Layout of the song's samples if it has no header. Then open outputs get no header either.
        strict: Whether to fail, and write nothing, if the song ends earlier than its file states. By default that is
            only a warning.
        bundle: Where to write what the player needs; see `listening`.

    Raises:
        AudioError: If the song cannot be read, an output cannot be written, or the song is too short for `strict`.
        BrokenPipeError: If the program that reads an open output has closed it.
        ConfigError: If there is no such sample format or clip mode, no output at all, or both `model` and `extractor`
            are given.
        ModelError: If the model cannot be loaded, the net returns NaN or infinity, or the vocals equal the song, unless
            it is silent. No output is left behind.
        TypeError: If the song or an output is neither a path nor an open binary file.
    """
    given = {"vocals": vocals, "accompaniment": accompaniment, "labels": labels, "picture": picture}
    places = name_outputs(song, given)
    chosen_subtype = None if subtype is None else audio.find_subtype(subtype)
    if extractor and model:
        raise ConfigError("model and extractor cannot be combined: an extractor has its model")
    extractor = extractor or Extractor(model or DEFAULT_MODEL)
    started = time.perf_counter()
    source = check_place(song, "the song")
    stems = [part for part in ("vocals", "accompaniment") if places[part] is not None]
    outputs = [places[part] for part in stems]
    if not outputs:
        raise ConfigError("nothing to write: give a path for the vocals or for the accompaniment")
    for place in places.values():
        if isinstance(place, Path) and files.is_same(source, place):
            raise AudioError(f"{place}: is the song itself; choose another output")
    name = str(source) if isinstance(source, Path) else audio.STDIN
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(audio.open_song(source, raw))
        for path in outputs:
            if isinstance(path, Path):
                audio.check_output(path, rate=reader.rate, channels=reader.channels, subtype=subtype, bitrate=bitrate)
        label_track, drawing = (places[part] and _open_file(stack, places[part]) for part in ("labels", "picture"))
        clusters = _cluster(reader, extractor, progress)
        tags, tag_warning = audio.read_tags(reader.path) if reader.path else (audio.Tags({}), "")
        encoder = audio.sign(extractor.model.name)
        written = audio.Outputs(
            outputs,
            rate=reader.rate,
            channels=reader.channels,
            subtype=chosen_subtype or reader.subtype,
            clip=clip,
            bitrate=bitrate,
            samples=0 if reader.estimated else reader.samples,
            tags=[tags.for_part(part, encoder) for part in stems],
            raw=raw is not None,
        )
        stack.enter_context(written)
        heard = None if bundle is None else _open_bundle(stack, bundle, reader)
        low_delay = not all(isinstance(place, Path) for place in (source, *outputs))  # what has arrived must not wait
        if isinstance(reader, audio.Stream) and (paces := extractor.find_paces(reader.rate)):
            # Steps of several nets differ. Small blocks leave none of them waiting for samples that another one needs.
            reader.block_samples = paces[0].step if len(paces) == 1 else max(1, round(_BLOCK_SECONDS * reader.rate))
            extractor.warm_up(reader.rate, reader.channels)
        separator = extractor.start(reader.rate, reader.channels, clusters, low_delay=low_delay)
        check = OutputCheck(extractor.model.name, name)
        overview = OverviewStream(reader.rate) if drawing else None
        share = 0.5 if extractor.uses_clusters and reader.path else 1.0  # the other half was clustering the song
        for parts in _separate(reader, separator, name, lambda seconds: progress(share * seconds)):
            check.push(*parts, invalid=separator.has_invalid_output)
            written.write([getattr(parts, part) for part in stems])
            if overview:
                overview.push(parts)
            if heard:
                heard.write(parts)
        check.finish()
        if strict and reader.warning:
            raise AudioError(reader.warning)
        if overview and drawing:
            about = {"name": Path(name).name, "model": extractor.model.name}
            overview.finish().draw(drawing, voice=separator.voice, **about)
        if heard:
            heard.finish(voice=separator.voice)
        if label_track:
            lines = (f"{start:.6f}\t{end:.6f}\tvoice\n" for start, end in separator.voice)
            label_track.write_text("".join(lines), encoding="utf-8")
    warnings = (tag_warning, *written.warnings, reader.warning, check.warning)
    taken = time.perf_counter() - started
    return Report(
        input=_describe(source),
        **{part: place and _describe(place) for part, place in places.items()},
        model=extractor.model.name,
        audio_seconds=round(separator.seconds, 3),
        taken_seconds=round(taken, 3),
        times_real_time=round(separator.seconds / taken, 2),
        peak_memory_mb=measure_peak_memory_mb(),
        voice=tuple((round(start, 3), round(end, 3)) for start, end in separator.voice),
        voice_share=round(separator.voice_share, 4),
        vocals_db=None if check.vocals_db is None else round(check.vocals_db, 2),
        cluster_confidence=round(clusters.confidence, 4) if clusters else None,
        clusters_used=clusters is not None and clusters.trusted,
        clipped_samples=written.clipped_samples,
        gain_db=round(written.gain_db, 3),
        shorter_than_stated=bool(reader.warning),
        warnings=tuple(filter(None, warnings)),
    )


def _describe(where: Path | BinaryIO) -> str:
    return str(where) if isinstance(where, Path) else "-"


def _open_file(stack: contextlib.ExitStack, path: Path) -> Path:
    """Return a temporary file that takes its final name when `stack` closes without an error."""
    try:
        return stack.enter_context(files.write_atomically(path))
    except OSError as error:
        raise AudioError(f"{path}: cannot be written ({describe_error(error)})") from error


def _open_bundle(
    stack: contextlib.ExitStack, path: Path, reader: audio.Reader | audio.Stream
) -> listening.BundleWriter:
    bundle = listening.BundleWriter(path, Parts._fields, rate=reader.rate, channels=reader.channels)
    return stack.enter_context(bundle)


def _cluster(
    reader: audio.Reader | audio.Stream, extractor: Extractor, progress: Callable[[float], None]
) -> Clusters | None:
    """Cluster the recording if the extractor uses clusters and the recording can be read twice."""
    if not extractor.uses_clusters or reader.path is None:
        return None

    def read_blocks(reader: audio.Reader) -> Iterator[Waveform]:
        for block in reader:
            yield block
            progress(block.shape[-1] / reader.rate / 2)  # half of the work on the song

    with audio.Reader(reader.path) as again:
        return extractor.cluster(read_blocks(again), again.rate, again.channels)


def _separate(
    reader: audio.Reader | audio.Stream, separator: StreamingSeparator, name: str, progress: Callable[[float], None]
) -> Iterator[Parts]:
    for block in reader:
        yield separator.push(block)
        progress(block.shape[-1] / reader.rate)
    if not separator.seconds:
        raise AudioError(f"{name}: the recording is empty")
    yield separator.finish()


def measure_peak_memory_mb() -> float | None:
    """Return the peak resident memory of this process so far in MiB, or None on systems that do not report it."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux getrusage includes the peak of the process that started this one
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(encoding="ascii", errors="replace"), re.MULTILINE)
        if found:
            return round(int(found[1]) / 1024, 1)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)
