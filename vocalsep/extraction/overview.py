"""A song at a glance: spectrograms of the song, its vocals and its accompaniment, small enough for a picture.

They are reduced while the song is streamed, so memory does not grow with the song. A column is the mean power of a
number of frames. When there are too many columns, neighbours are merged, so that each holds twice as many frames.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vocalsep import plots
from vocalsep.extraction.streaming import Parts
from vocalsep.extraction.voice import Segment
from vocalsep.shapes import Array
from vocalsep.stft import Analysis, Grid

_COLUMNS = 1_600  # at most; a song of some minutes has at least half as many
_ROWS = 160
_LOWEST_HZ, _HIGHEST_HZ = 40.0, 16_000.0
_GRID = Grid(rate=44_100, n_fft=2048, hop=1024)


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Spectrograms of one song.

    Attributes:
        song: Power of the song, ``(row, column)``.
        vocals: That of its vocals.
        accompaniment: That of its accompaniment.
        hz: Centre of each row in Hz, rising.
        seconds: Length of the song in seconds. The columns share it equally.
    """

    song: Array
    vocals: Array
    accompaniment: Array
    hz: Array
    seconds: float

    def draw(self, path: Path, *, name: str, model: str, voice: Sequence[Segment]) -> None:
        """Draw the spectrograms and the segments with a voice as PNG.

        Args:
            path: The file to write.
            name: Name of the song.
            model: Name of the model.
            voice: The segments.
        """
        parts = {"Song": self.song, "Vocals": self.vocals, "Accompaniment": self.accompaniment}
        note = f"separated by {model}"
        plots.draw_song(parts, path, hz=self.hz, seconds=self.seconds, voice=voice, title=name, note=note)


class OverviewStream:
    """Reduces the spectrograms of a song that arrives in blocks.

    Args:
        rate: The song's sample rate in Hz.
    """

    def __init__(self, rate: int) -> None:
        grid = _GRID.at_rate(rate)
        self._rate, self._analysis = rate, Analysis(grid)
        self.hz = _space_rows(rate)
        self._bank = _make_bank(grid)
        self._columns = np.zeros((3, _ROWS, _COLUMNS))
        self._count, self._frames_each = 0, 1  # complete columns, and frames in each
        self._open = np.zeros((3, _ROWS, 0))  # frames of the next column

    def push(self, parts: Parts) -> None:
        """Take the next ``(channel, time)`` vocals and accompaniment."""
        if parts.vocals.shape[-1]:
            self._add(self._analysis.push(np.stack([*parts])))

    def finish(self) -> Overview:
        """Return the spectrograms of the song."""
        self._add(self._analysis.finish())
        columns = self._columns[..., : self._count]
        if self._open.shape[-1] > 1 or not self._count:  # the last frame lies on the end of the song
            columns = np.concatenate([columns, self._open.mean(axis=-1, keepdims=True)], axis=-1)
        song, vocals, accompaniment = columns
        seconds = self._analysis.samples / self._rate
        return Overview(song=song, vocals=vocals, accompaniment=accompaniment, hz=self.hz, seconds=seconds)

    def _add(self, spectrum: Array) -> None:
        """Add the frames of a spectrum, ``(part, channel, freq, frame)``."""
        both = np.concatenate([spectrum.sum(axis=0, keepdims=True), spectrum])
        power = (np.square(both.real) + np.square(both.imag)).mean(axis=1)
        self._open = np.concatenate([self._open, self._bank @ power], axis=-1)
        while self._open.shape[-1] >= self._frames_each:
            if self._count == _COLUMNS:
                self._merge()
                continue
            room = min(_COLUMNS - self._count, self._open.shape[-1] // self._frames_each)
            used = room * self._frames_each
            grouped = self._open[..., :used].reshape(3, _ROWS, room, self._frames_each)
            self._columns[..., self._count : self._count + room] = grouped.mean(axis=-1)
            self._count, self._open = self._count + room, self._open[..., used:]

    def _merge(self) -> None:
        """Merge neighbouring columns, so that half of the space is free."""
        self._columns[..., : _COLUMNS // 2] = self._columns.reshape(3, _ROWS, -1, 2).mean(axis=-1)
        self._count, self._frames_each = _COLUMNS // 2, 2 * self._frames_each


def _space_rows(rate: int) -> Array:
    """Return the centres of the rows in Hz: nearly linear below 200 Hz, and nearly logarithmic above."""
    lowest, highest = (math.log1p(hz / 200) for hz in (min(_LOWEST_HZ, rate / 40), min(_HIGHEST_HZ, rate / 2)))
    centres: Array = 200 * np.expm1(np.linspace(lowest, highest, _ROWS))
    return centres


@functools.lru_cache(maxsize=4)
def _make_bank(grid: Grid) -> Array:
    """Return the weights of the bins in each row, ``(row, freq)``: triangles at least one bin wide.

    Rows sum power, so that pink noise has the same level in all wide rows.
    """
    hz = _space_rows(grid.rate)
    width = np.maximum(np.gradient(hz), grid.rate / grid.n_fft)
    bank: Array = np.maximum(0, 1 - np.abs(grid.hz - hz[:, None]) / width[:, None]).astype(np.float32)
    return bank
