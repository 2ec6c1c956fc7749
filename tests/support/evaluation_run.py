"""A run of ``vocalsep eval`` with known scores and estimates, for tests of its page."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vocalsep.evaluation.estimators import Estimator
from vocalsep.evaluation.page import Run
from vocalsep.evaluation.passages import Collector, Store
from vocalsep.evaluation.runs import Line
from vocalsep.evaluation.scores import SCORES, TARGETS
from vocalsep.evaluation.songs import Setup, Song
from vocalsep.evaluation.summary import summarise

RATE = 48_000
SECONDS = 24.0
SONG = "Ada - Chirps"
MARKUP = "<b>short</b> & </script><img src=x onerror=alert(1)>"
SILENT, UNHEARD = "nobody sings", "no passages"
ONE, TWO = "narrow", "<i>wide</i>"
ROWS = ("mixture", ONE, TWO, "IBM, linear", "IRM, linear")
SDR = {
    SONG: (-5.0, 4.0, 6.0, 9.0, 10.0),
    MARKUP: (-3.0, 5.0, 2.0, 8.0, 9.5),
    SILENT: (None, None, None, None, None),
    UNHEARD: (-70.0, 1.0, 3.0, 7.0, 7.5),
}
"""By song, the score of each row, whatever the target and the kind of score."""


def make_chirp(hz: float, rise: float, seconds: float = SECONDS, rate: int = RATE) -> np.ndarray:
    """Make a tone that rises, ``(1, time)``: a shift by a few samples shows."""
    times = np.arange(round(seconds * rate)) / rate
    return np.float32(0.2) * np.sin(2 * np.pi * (hz * times + rise * times**2), dtype=np.float64)[None].astype(
        np.float32
    )


def make_songs() -> dict[str, Song]:
    """Return the songs that are heard, by name."""
    chirps = np.stack([make_chirp(300, 25), make_chirp(2_000, 20)])
    short = np.stack([make_chirp(200, 5, 3, 8_000), make_chirp(900, 5, 3, 8_000)])
    alone = np.stack([np.zeros((2, 12 * 8_000), np.float32), make_chirp(500, 5, 12, 8_000).repeat(2, axis=0)])
    return {SONG: Song(chirps, RATE), MARKUP: Song(short, 8_000), SILENT: Song(alone, 8_000)}


def make_estimates(song: Song) -> dict[str, np.ndarray]:
    """Return the vocals of each model: with too much of the accompaniment, and too soft."""
    other = song.references[1]
    growing = np.linspace(0.5, 0.1, other.shape[-1], dtype=np.float32)
    return {ONE: song.vocals + growing * other, TWO: 0.5 * song.vocals + 0.01 * other}


def make_run(folder: Path, songs: dict[str, Song] | None = None) -> Run:
    """Make a run of two models, and keep the passages of its songs in a folder."""
    songs = make_songs() if songs is None else songs
    estimators = [
        Estimator(name=name, kind=kind)
        for name, kind in zip(ROWS, ("mixture", "estimates", "estimates", "ibm", "irm"), strict=True)
    ]
    for track, song in songs.items():
        collector = Collector(Store(folder, track), song, lambda song=song: 0.9 * song.vocals)  # type: ignore[misc]
        for name, vocals in make_estimates(song).items():
            if collector.needs(name):
                collector.add(name, vocals)
    scores = [(track, row, value) for track in SDR for row, value in zip(ROWS, SDR[track], strict=True)]
    lines = [_make_line(*score, songs) for score in scores]
    return Run(
        setup=Setup(dataset="stems", root=folder, split="all", snr_db=None),
        estimators=estimators,
        lines=lines,
        summary=summarise(lines, ROWS),
        passages=folder,
        version="0.1.0",
        command="vocalsep eval --dataset stems --page",
    )


def _make_line(track: str, row: str, value: float | None, songs: dict[str, Song]) -> Line:
    seconds = songs[track].seconds if track in songs else 5.0
    scores = {target: dict.fromkeys(SCORES, value) for target in TARGETS}
    return {"track": track, "song": track, "row": row, "fingerprint": row, "seconds": seconds, **scores}
