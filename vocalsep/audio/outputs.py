"""The files that belong to one song: they share its rate and channels, and a gain, if one is needed."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, BinaryIO, Self

import numpy as np
import torch

from vocalsep.audio import tags
from vocalsep.audio.formats import BITS
from vocalsep.audio.pipes import PipeWriter
from vocalsep.audio.reader import BLOCK_SECONDS, reason
from vocalsep.audio.writer import Writer, exceeding
from vocalsep.errors import AudioError
from vocalsep.shapes import Waveform


class Outputs:
    """Writers of the parts of one song. A context manager: the files appear when it is left, if all is well.

    Args:
        paths: A file for each part, whose ending chooses the format, or an open binary file, which gets wav.
        rate: Sampling rate, Hz.
        channels: Channel count.
        subtype: Sample format wanted, in libsndfile's words; see `Writer`.
        clip: "clamp" and "error" as `Writer`. With "scale", where a fixed-point file would exceed full scale, the parts
            all get the gain that fits; they wait in temporary files beside the outputs until it is known.
        samples: Expected length.
        about: Tags of each part.
        raw: Whether open files get the samples alone, without a header.

    Attributes:
        clipped: Samples that were put to full scale.
        gain_db: Gain of all parts, dB; 0 unless "scale" had to change it.

    Raises:
        AudioError: As `Writer`, or `PipeWriter`.
        ConfigError: Likewise.
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
        about: Sequence[tags.Tags] = (),
        raw: bool = False,
    ) -> None:
        self.clipped, self.gain_db = 0, 0.0
        self._channels, self._block = channels, max(1, round(BLOCK_SECONDS * rate))
        self._scratch: list[_Scratch] = []
        self._writers: list[Writer | PipeWriter] = []
        given: dict[str, Any] = {
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
                    writer = Writer(path, about=about[number] if about else None, **given)
                else:
                    writer = PipeWriter(path, raw=raw, **given)
                stack.enter_context(writer)
                self._writers.append(writer)
            if clip == "scale" and any(writer.subtype in BITS for writer in self._writers):
                self._scratch = [stack.enter_context(_Scratch(writer)) for writer in self._writers]
            self._stack = stack.pop_all()

    @property
    def complaints(self) -> tuple[str, ...]:
        """What went wrong without harm to the sound."""
        return tuple(writer.complaint for writer in self._writers if writer.complaint)

    def write(self, parts: Sequence[Waveform]) -> None:
        """Appends a ``(channel, time)`` block to each file; parts that have none are left out.

        Raises:
            AudioError: If the disk does not take it.
        """
        sinks: Sequence[_Scratch | Writer | PipeWriter] = self._scratch or self._writers
        for sink, block in zip(sinks, parts, strict=False):
            sink.write(block)

    def _finish(self) -> None:
        if any(scratch.over for scratch in self._scratch):
            gain = min(scratch.gain for scratch in self._scratch)
            self.gain_db = 20 * math.log10(gain)
        else:
            gain = 1.0
        for scratch, writer in zip(self._scratch, self._writers, strict=False):
            for block in scratch.blocks(self._channels, self._block):
                writer.write(block * gain if gain != 1 else block)

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
        self.clipped = sum(writer.clipped for writer in self._writers)


class _Scratch:
    """A nameless file that holds a part until its gain is known; it vanishes by itself."""

    def __init__(self, writer: Writer | PipeWriter) -> None:
        self._path, self._subtype = writer.path, writer.subtype
        self.over, self._peak = 0, 0.0
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=writer.path.parent)  # noqa: SIM115
        except OSError as error:
            raise AudioError(f"{self._path}: cannot be written ({reason(error)})") from error

    @property
    def gain(self) -> float:
        """What brings this part within full scale, if it is beyond it."""
        if self._subtype not in BITS or not self.over:
            return 1.0
        full = 2.0 ** (BITS[self._subtype] - 1)
        return (full - 1) / full / self._peak

    def write(self, block: Waveform) -> None:
        self.over += exceeding(block, self._subtype)
        self._peak = max(self._peak, float(block.abs().max()) if block.numel() else 0.0)
        try:
            self._file.write(np.ascontiguousarray(block.numpy().T).tobytes())
        except OSError as error:
            raise AudioError(f"{self._path}: cannot be written ({reason(error)})") from error

    def blocks(self, channels: int, size: int) -> Iterator[Waveform]:
        self._file.seek(0)
        while content := self._file.read(4 * channels * size):
            samples = np.frombuffer(content, dtype=np.float32).reshape(-1, channels)
            yield torch.from_numpy(np.ascontiguousarray(samples.T))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
