"""Bundles: what the player needs of one song, collected while the song streams.

A bundle is a zip file. The song is cut into pieces of ten seconds, and each piece of each stem is an Opus file of its
own. The player decodes the pieces around the playhead, and nothing else: a song of an hour starts as fast and takes
as little memory as one of a minute, and all stems stay in sync to the sample. Pieces overlap. The samples before a
piece give the encoder time to settle, and those after it are cross-faded with the next piece.

    song.json               name, length, grid of the pieces, stems, and whatever the caller adds
    vocals/0.opus           sound of the first piece
    vocals/0.view           its picture; see `drawing.pack`
    vocals/overview.view    the picture of the whole song
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from vocalsep import audio, files
from vocalsep.errors import AudioError, describe_error
from vocalsep.listening import drawing
from vocalsep.shapes import Array, Waveform

PIECE = 10 * drawing.RATE
BEFORE, FADE = 3_840, 480  # samples that are encoded before and after a piece
_BITRATES = {1: 60_000, 2: 88_000}  # by channels
_AFTER = max(FADE, drawing.N_FFT // 2)

# Where the channels of a recording go, (left, right), in wav order: front left, right, centre, low frequencies, ...
_LEFT, _RIGHT, _CENTRE, _NONE = (1.0, 0.0), (0.0, 1.0), (0.7, 0.7), (0.0, 0.0)
_DOWNMIXES = {
    3: (_LEFT, _RIGHT, _CENTRE),
    4: (_LEFT, _RIGHT, _LEFT, _RIGHT),
    5: (_LEFT, _RIGHT, _CENTRE, _LEFT, _RIGHT),
    6: (_LEFT, _RIGHT, _CENTRE, _NONE, _LEFT, _RIGHT),
    7: (_LEFT, _RIGHT, _CENTRE, _NONE, _CENTRE, _LEFT, _RIGHT),
    8: (_LEFT, _RIGHT, _CENTRE, _NONE, _LEFT, _RIGHT, _LEFT, _RIGHT),
}


class BundleWriter:
    """Writes the bundle of one song. A context manager: leaving it with an exception deletes the file.

    Call `finish` after the last block.

    Args:
        path: The file to write.
        stems: Names of the stems, in the order in which the player shows them.
        rate: The song's sample rate in Hz.
        channels: The song's number of channels. More than two are mixed down to two.
        bitrates: Bits per second of each stem. The default depends on the channels.

    Raises:
        AudioError: If the file cannot be written.
    """

    def __init__(
        self, path: Path, stems: Sequence[str], *, rate: int, channels: int, bitrates: Sequence[int] | None = None
    ) -> None:
        self._path, self._stems, self._channels = path, tuple(stems), min(channels, 2)
        self._bitrates = bitrates or [_BITRATES[self._channels]] * len(stems)
        self._downmix = None if channels <= 2 else _make_downmix(channels)
        self._highest_hz = min(drawing.HIGHEST_HZ, rate / 2)
        self._resamplers = [audio.Resampler(rate, drawing.RATE, self._channels) for _ in stems]
        self._overviews = [drawing.Overview() for _ in stems]
        silence = np.zeros((self._channels, BEFORE), np.float32)  # before the song
        self._held = [[silence] for _ in stems]  # samples from `BEFORE` samples before the next piece on
        self._pieces = self._samples = 0
        try:
            self._zip = zipfile.ZipFile(path, "w")
        except OSError as error:
            raise self._wrap(error) from error

    def write(self, parts: Sequence[Waveform]) -> None:
        """Append a block to each stem.

        Args:
            parts: For each stem, ``(channel, time)``, all of the same length.

        Raises:
            AudioError: If the file cannot be written.
        """
        self._push(parts, last=False)

    def _push(self, parts: Sequence[Waveform], *, last: bool) -> None:
        for held, resampler, part in zip(self._held, self._resamplers, parts, strict=True):
            mixed = part if self._downmix is None else self._downmix @ part
            held.append(resampler.push(np.asarray(mixed, np.float32), last=last))
        self._samples += self._held[0][-1].shape[-1]
        while (left := self._samples - self._pieces * PIECE) >= PIECE + _AFTER or (last and left > 0):
            self._write_piece(min(PIECE, left))

    def _write_piece(self, count: int) -> None:
        """Write the next piece of each stem, which is `count` samples long."""
        margin = drawing.N_FFT // 2
        for number, stem in enumerate(self._stems):
            held = np.concatenate(self._held[number], axis=-1)
            sound = held[:, BEFORE if self._pieces == 0 else 0 : BEFORE + count + FADE]
            padded = np.pad(held, ((0, 0), (0, max(0, BEFORE + count + margin - held.shape[-1]))))
            picture = drawing.draw(padded[:, BEFORE - margin : BEFORE + count + margin], count, self._highest_hz)
            self._overviews[number].push(picture)
            self._add(f"{stem}/{self._pieces}.opus", self._encode(sound, self._bitrates[number]))
            self._add(f"{stem}/{self._pieces}.view", drawing.pack(picture))
            self._held[number] = [held[:, count:].copy()]
        self._pieces += 1

    def _encode(self, sound: Array, bitrate: int) -> bytes:
        from vocalsep.audio.encoding import encode_opus  # loads FFmpeg

        try:
            return encode_opus(sound, drawing.RATE, bitrate)
        except OSError as error:
            raise self._wrap(error) from error

    def finish(self, **about: Any) -> None:
        """Complete the bundle after the last block.

        Args:
            about: Values that JSON can hold, for the player or the page.

        Raises:
            AudioError: If the file cannot be written.
        """
        nothing = np.zeros((self._channels if self._downmix is None else self._downmix.shape[1], 0), np.float32)
        self._push([nothing] * len(self._stems), last=True)
        for stem, overview in zip(self._stems, self._overviews, strict=True):
            self._add(f"{stem}/overview.view", drawing.pack(overview.finish()))
        grid = {
            "rate": drawing.RATE,
            "samples": self._samples,
            "pieces": self._pieces,
            "piece": PIECE,
            "before": BEFORE,
            "fade": FADE,
            "hop": drawing.HOP,
            "rows": drawing.ROWS,
            "peaks": drawing.PEAKS,
            "levels": drawing.LEVELS,
            "overviewHop": drawing.HOP * self._overviews[0].step,
            "lowestHz": drawing.LOWEST_HZ,
            "highestHz": self._highest_hz,
            "floorDb": drawing.FLOOR_DB,
            "ceilingDb": drawing.CEILING_DB,
        }
        self._add("song.json", files.dump_json({"stems": self._stems, "grid": grid, **about}).encode())
        try:
            self._zip.close()
        except OSError as error:
            raise self._wrap(error) from error

    def _add(self, name: str, content: bytes) -> None:
        try:
            self._zip.writestr(zipfile.ZipInfo(name), content)
        except OSError as error:
            raise self._wrap(error) from error

    def _wrap(self, error: OSError) -> AudioError:
        return AudioError(f"{self._path}: cannot be written ({describe_error(error)})")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            with contextlib.suppress(OSError):
                self._zip.close()
            self._path.unlink(missing_ok=True)


def _make_downmix(channels: int) -> Array:
    """Return the matrix that mixes channels down to two, ``(2, channel)``, without raising the largest peak."""
    gains = np.array(_DOWNMIXES.get(channels, ((1.0, 1.0),) * channels), np.float32).T
    return np.asarray(gains / gains.sum(axis=1, keepdims=True))
