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

from vocalsep.audio.formats import BITS, interleave
from vocalsep.audio.pipes import PipeWriter
from vocalsep.audio.reader import BLOCK_SECONDS, describe_error
from vocalsep.audio.tags import Tags
from vocalsep.audio.writer import Writer, count_out_of_range
from vocalsep.errors import AudioError
from vocalsep.shapes import Waveform

_BELOW_FULL_SCALE = 1 - 2.0**-24  # the largest float32 below 1; 32-bit files have finer steps


class Outputs:
    """Write the parts of one song. A context manager: leaving it without an exception finishes the files.

    Args:
        paths: One output per part: a path, whose extension chooses the format, or an open binary file, which gets wav.
        rate: Sample rate, Hz.
        channels: Channel count.
        subtype: Preferred sample format, in libsndfile's names; see `Writer`.
        clip: "clamp" and "error" as in `Writer`. "scale" gives all parts one gain, so that none exceeds full scale in a
            fixed-point file. The parts wait in temporary files beside the outputs until the gain is known.
        samples: Expected length.
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
        tags: Sequence[Tags] = (),
        raw: bool = False,
    ) -> None:
        self.clipped_samples, self.gain_db = 0, 0.0
        self._channels, self._block = channels, max(1, round(BLOCK_SECONDS * rate))
        self._scratch: list[_ScratchFile] = []
        self._writers: list[Writer | PipeWriter] = []
        options: dict[str, Any] = {
            "rate": rate,
            "channels": channels,
            "subtype": subtype,
            "clip": clip,
            "samples": samples,
        }
        with contextlib.ExitStack() as stack:
            for number, path in enumerate(paths):
                writer: Writer | PipeWriter
                if isinstance(path, Path):
                    writer = Writer(path, tags=tags[number] if tags else None, **options)
                else:
                    writer = PipeWriter(path, raw=raw, **options)
                stack.enter_context(writer)
                self._writers.append(writer)
            if clip == "scale" and any(writer.subtype in BITS for writer in self._writers):
                self._scratch = [stack.enter_context(_ScratchFile(writer)) for writer in self._writers]
            self._stack = stack.pop_all()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Problems that do not affect the sound."""
        return tuple(writer.warning for writer in self._writers if writer.warning)

    def write(self, parts: Sequence[Waveform]) -> None:
        """Append one ``(channel, time)`` block to each output; extra blocks are ignored.

        Raises:
            AudioError: If an output cannot be written.
        """
        receivers: Sequence[_ScratchFile | Writer | PipeWriter] = self._scratch or self._writers
        for receiver, block in zip(receivers, parts, strict=False):
            receiver.write(block)

    def _finish(self) -> None:
        if any(scratch.over for scratch in self._scratch):
            gain = min(scratch.gain for scratch in self._scratch)
            self.gain_db = 20 * math.log10(gain)
        else:
            gain = 1.0
        for scratch, writer in zip(self._scratch, self._writers, strict=False):
            for block in scratch.read_blocks(self._channels, self._block):
                if gain != 1:  # multiply in float64, because float32 could round the peak up
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


class _ScratchFile:
    """An anonymous temporary file that holds one part until the gain is known."""

    def __init__(self, writer: Writer | PipeWriter) -> None:
        self._path, self._subtype = writer.path, writer.subtype
        self.over, self._peak = 0, 0.0
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=writer.path.parent)  # noqa: SIM115
        except OSError as error:
            raise AudioError(f"{self._path}: cannot be written ({describe_error(error)})") from error

    @property
    def gain(self) -> float:
        """Gain that brings this part within full scale; 1 if it fits already."""
        if self._subtype not in BITS or not self.over:
            return 1.0
        full = 2.0 ** (BITS[self._subtype] - 1)
        return min((full - 1) / full, _BELOW_FULL_SCALE) / self._peak

    def write(self, block: Waveform) -> None:
        self.over += count_out_of_range(block, self._subtype)
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
