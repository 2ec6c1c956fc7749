"""Adds scores up over tracks: medians, means, means weighted by length, and how sure they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from vocalsep.evaluation.runs import Line
from vocalsep.evaluation.scores import SCORES, TARGETS

RESAMPLES = 1_000
CONFIDENCE = 0.95
_SEED = 20_160_901
_DIGITS = 4

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One score of one row, over all tracks that have it.

    Attributes:
        median: Over tracks. Of scores that are medians over frames this is museval's "median of medians".
        mean: Over tracks.
        weighted: Mean over tracks, weighted by their length: the literature's GNSDR, GSIR, GSAR.
        median_interval: 95 % bootstrap interval: what the median might have been with other such songs.
        mean_interval: Likewise.
        weighted_interval: Likewise.
        tracks: Tracks with this score.
        without: Tracks without it, since something in them is silent.
    """

    median: float | None
    mean: float | None
    weighted: float | None
    median_interval: tuple[float, float] | None
    mean_interval: tuple[float, float] | None
    weighted_interval: tuple[float, float] | None
    tracks: int
    without: int


Summary = dict[str, dict[str, dict[str, Figure]]]
"""Of each row, each target and each score the figure."""


def summarise(lines: Sequence[Line], rows: Iterable[str]) -> Summary:
    """Adds up the lines of a run.

    The intervals are percentiles of 1,000 resamples with a fixed seed. Songs are drawn, not tracks: the clips that
    MIR-1K cuts from one song come and go together, since they are no independent witnesses. One song has no interval.

    Args:
        lines: Of any rows and tracks.
        rows: Names of the rows wanted, in order.
    """
    return {row: _row([line for line in lines if line["row"] == row]) for row in rows}


def _row(lines: Sequence[Line]) -> dict[str, dict[str, Figure]]:
    drawn = draw([line["song"] for line in lines])
    seconds = np.array([line["seconds"] for line in lines], dtype=np.float64)
    found: dict[str, dict[str, Figure]] = {}
    for target in TARGETS:
        values = {
            name: np.array([np.nan if line[target][name] is None else line[target][name] for line in lines])
            for name in SCORES
        }
        found[target] = {name: figure(column, seconds, drawn) for name, column in values.items()}
    return found


def draw(songs: Sequence[str]) -> Floats:
    """How often each track is in each resample, ``(resample, track)``; tracks of one song always equally often."""
    names = sorted(set(songs))
    if len(names) < 2:
        return np.zeros((0, len(songs)))
    rng = np.random.default_rng(_SEED)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    return counts[:, [names.index(song) for song in songs]].astype(np.float64)


def figure(values: Floats, seconds: Floats, drawn: Floats) -> Figure:
    """Adds up one score.

    Args:
        values: Of each track; not-a-number where it has none.
        seconds: Length of each track.
        drawn: From `draw`.
    """
    there = ~np.isnan(values)
    values, seconds, drawn = values[there], seconds[there], drawn[:, there]
    count, without = len(values), int((~there).sum())
    if not count:
        return Figure(
            median=None,
            mean=None,
            weighted=None,
            median_interval=None,
            mean_interval=None,
            weighted_interval=None,
            tracks=0,
            without=without,
        )
    drawn = drawn[drawn.sum(axis=1) > 0]
    return Figure(
        median=_rounded(np.median(values)),
        mean=_rounded(values.mean()),
        weighted=_rounded((values * seconds).sum() / seconds.sum()),
        median_interval=_interval(_medians(values, drawn)),
        mean_interval=_interval(drawn @ values / drawn.sum(axis=1)),
        weighted_interval=_interval(drawn @ (values * seconds) / (drawn @ seconds)),
        tracks=count,
        without=without,
    )


def _medians(values: Floats, drawn: Floats) -> Floats:
    """The median of every resample, in which value `i` is there ``drawn[:, i]`` times."""
    order = np.argsort(values)
    ordered, until = values[order], np.cumsum(drawn[:, order], axis=1)
    total = until[:, -1:]
    low = (until < np.floor((total + 1) / 2)).sum(axis=1)
    high = (until < np.floor((total + 2) / 2)).sum(axis=1)
    return np.asarray((ordered[low] + ordered[high]) / 2)


def _interval(resampled: Floats) -> tuple[float, float] | None:
    if not len(resampled):
        return None
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return _rounded(low), _rounded(high)


def _rounded(value: np.floating) -> float:
    return round(float(value), _DIGITS)


def as_dict(summary: Summary) -> dict[str, dict[str, dict[str, dict[str, object]]]]:
    """The summary for JSON."""
    return {
        row: {target: {name: asdict(found) for name, found in scores.items()} for target, scores in targets.items()}
        for row, targets in summary.items()
    }
