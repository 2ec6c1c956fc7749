"""Write all outputs of one song together: they have the same sample rate and channels and, if needed, the same gain."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, BinaryIO, Self

import numpy as np

from vocalsep import files
from vocalsep.audio.formats import BITS, check_output, interleave, is_lossless
from vocalsep.audio.pipes import PipeWriter
from vocalsep.audio.reader import BLOCK_SECONDS
from vocalsep.audio.tags import Tags
from vocalsep.audio.writer import Writer, count_out_of_range
from vocalsep.errors import AudioError, describe_error
from vocalsep.shapes import Waveform

_BY_PEAK = "16-bit or float"
_BELOW_FULL_SCALE = 1 - 2.0**-24  # the largest float32 below 1; 32-bit files have finer steps


class Outputs:
    """Write the parts of one song. A context manager: leaving it without an exception finishes the files.

    A song from a lossy format has no bit depth. Its wav and aiff files become 16-bit if all of them stay within full
    scale, else 32-bit float: the parts wait in temporary files beside the outputs until the peak is known. Files
    without a header, and open files, which cannot wait, are always float.

    Args:
        paths: One output per part: a path, whose extension chooses the format, or an open binary file, which gets wav.
        rate: Sample rate, Hz.
        channels: Channel count.
        subtype: Preferred sample format, in libsndfile's names; see `Writer`. The name of a lossy codec, such as
            "VORBIS", stands for 16 bits or float, as above.
        clip: "clamp" and "error" as in `Writer`. "scale" gives all parts one gain, so that none exceeds full scale in a
            fixed-point file. The parts wait until the gain is known.
        samples: Expected length.
        bitrate: Bit rate of lossy files, bits per second; None for the formats' own choice.
        tags: Tags of each part.
        raw: Whether open binary files get samples without a header.

    Attributes:
        clipped_samples: Number of samples that were clamped, over all parts.
        gain_db: Gain of all parts in dB; 0 unless "scale" had to lower the level.

    Raises:
        AudioError: See `Writer` and `PipeWriter`.
        ConfigError: See `Writer` and `PipeWriter`.
    """

    def __init__(
        self,
        paths: Sequence[Path | BinaryIO],
        *,
        rate: int,
        channels: int,
        subtype: str,
        clip: str = "clamp",
        samples: int = 0,
        bitrate: int | None = None,
        tags: Sequence[Tags] = (),
        raw: bool = False,
    ) -> None:
        self.clipped_samples, self.gain_db = 0, 0.0
        self._paths, self._tags, self._raw, self._bitrate = paths, tags, raw, bitrate
        self._channels, self._block = channels, max(1, round(BLOCK_SECONDS * rate))
        self._options: dict[str, Any] = {"rate": rate, "channels": channels, "clip": clip, "samples": samples}
        self._writers: list[Writer | PipeWriter] = []
        self._receivers: list[_ScratchFile | Writer | PipeWriter] = []  # of each part
        subtypes = [_choose_subtype(path, subtype, clip) for path in paths]
        waiting = clip == "scale" and any(chosen in BITS for chosen in subtypes)
        with contextlib.ExitStack() as stack:
            for number, (path, chosen) in enumerate(zip(paths, subtypes, strict=True)):
                if isinstance(path, Path) and (waiting or chosen == _BY_PEAK):
                    self._receivers.append(stack.enter_context(_ScratchFile(path, chosen)))
                else:
                    self._receivers.append(self._open(number, chosen, stack))
            self._stack = stack.pop_all()

    def _open(self, number: int, subtype: str, stack: contextlib.ExitStack) -> Writer | PipeWriter:
        path = self._paths[number]
        writer: Writer | PipeWriter
        if isinstance(path, Path):
            tags = self._tags[number] if self._tags else None
            writer = Writer(path, subtype=subtype, bitrate=self._bitrate, tags=tags, **self._options)
        else:
            writer = PipeWriter(path, subtype=subtype, raw=self._raw, **self._options)
        stack.enter_context(writer)
        self._writers.append(writer)
        return writer

    @property
    def warnings(self) -> tuple[str, ...]:
        """Problems that do not affect the sound."""
        return tuple(writer.warning for writer in self._writers if writer.warning)

    def write(self, parts: Sequence[Waveform]) -> None:
        """Append one ``(channel, time)`` block to each output.

        Raises:
            AudioError: If an output cannot be written.
        """
        for receiver, block in zip(self._receivers, parts, strict=True):
            receiver.write(block)

    def _finish(self) -> None:
        waiting = [(number, part) for number, part in enumerate(self._receivers) if isinstance(part, _ScratchFile)]
        fits = not any(part.over for _, part in waiting if part.subtype == _BY_PEAK)
        gain = min((part.gain for _, part in waiting), default=1.0)
        self.gain_db = 20 * math.log10(gain) if gain < 1 else 0.0
        for number, part in waiting:
            chosen = part.subtype if part.subtype != _BY_PEAK else "PCM_16" if fits else "FLOAT"
            writer = self._open(number, chosen, self._stack)
            for block in part.read_blocks(self._channels, self._block):
                if gain < 1:  # multiply in float64, because float32 could round the peak up
                    block = (block.astype(np.float64) * gain).astype(np.float32)
                writer.write(block)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._finish()
        self.clipped_samples = sum(writer.clipped_samples for writer in self._writers)


def _choose_subtype(path: Path | BinaryIO, wanted: str, clip: str) -> str:
    """Return the sample format of an output, or `_BY_PEAK` if it depends on the song's peak."""
    if not isinstance(path, Path):
        return wanted
    kind = check_output(path)
    if is_lossless(wanted) or kind.lossy or kind.name == "RAW":
        return kind.choose_subtype(wanted)
    return "PCM_16" if clip == "scale" or "FLOAT" not in kind.subtypes else _BY_PEAK


def _find_scratch_folder(path: Path) -> Path | None:
    """Return the folder of an output; None, for the usual one, if the output is a named pipe or a device."""
    path = files.follow_links(path)
    return None if files.is_special(path) else path.parent


class _ScratchFile:
    """An anonymous temporary file that holds one part until its sample format and gain are known.

    Args:
        path: The output.
        subtype: Its sample format in libsndfile's names, or `_BY_PEAK`.
    """

    def __init__(self, path: Path, subtype: str) -> None:
        self._path, self.subtype = path, subtype
        self._range = "PCM_16" if subtype == _BY_PEAK else subtype
        self.over, self._peak = 0, 0.0
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=_find_scratch_folder(path))  # noqa: SIM115
        except OSError as error:
            raise AudioError(f"{self._path}: cannot be written ({describe_error(error)})") from error

    @property
    def gain(self) -> float:
        """Gain that brings this part within full scale; 1 if it fits already, or may become float."""
        if self.subtype not in BITS or not self.over:
            return 1.0
        full = 2.0 ** (BITS[self.subtype] - 1)
        return min((full - 1) / full, _BELOW_FULL_SCALE) / self._peak

    def write(self, block: Waveform) -> None:
        self.over += count_out_of_range(block, self._range)
        self._peak = max(self._peak, float(np.abs(block).max()) if block.size else 0.0)
        try:
            self._file.write(interleave(block).tobytes())
        except OSError as error:
            raise AudioError(f"{self._path}: cannot be written ({describe_error(error)})") from error

    def read_blocks(self, channels: int, size: int) -> Iterator[Waveform]:
        self._file.seek(0)
        while content := self._file.read(4 * channels * size):
            samples = np.frombuffer(content, dtype=np.float32).reshape(-1, channels)
            yield samples.T.copy()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
