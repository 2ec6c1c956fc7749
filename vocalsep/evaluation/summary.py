"""Summarise scores over tracks: medians, means, means weighted by length, differences, and confidence intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
class Statistics:
    """Statistics of one score of one estimator, over all tracks that have it; None where they cannot be computed.

    Attributes:
        median: Median over tracks. For scores that are medians over frames, this is museval's "median of medians".
        mean: Mean over tracks.
        weighted: Mean over tracks, weighted by length: the literature's GNSDR, GSIR and GSAR.
        median_interval: 95 % bootstrap interval of the median.
        mean_interval: 95 % bootstrap interval of the mean.
        weighted_interval: 95 % bootstrap interval of the weighted mean.
        tracks: Number of tracks with this score.
        without: Number of tracks without it, because something in them is silent.
    """

    median: float | None = None
    mean: float | None = None
    weighted: float | None = None
    median_interval: tuple[float, float] | None = None
    mean_interval: tuple[float, float] | None = None
    weighted_interval: tuple[float, float] | None = None
    tracks: int
    without: int


Summary = dict[str, dict[str, dict[str, Statistics]]]
"""Statistics by name of estimator, target and score."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much higher one score of an estimator is than that of another, over the tracks for which both have it.

    Attributes:
        mean: Mean difference in dB.
        mean_interval: Its 95 % bootstrap interval; None with a single song.
        better: Number of tracks on which the score is higher.
        tracks: Number of tracks.
    """

    mean: float
    mean_interval: tuple[float, float] | None
    better: int
    tracks: int


@dataclass(frozen=True)
class Comparison:
    """Estimators against one of them, track by track.

    Attributes:
        base: The name of the one that the others are compared with.
        differences: Differences by name of estimator, target and score; None where no track has both scores.
    """

    base: str
    differences: dict[str, dict[str, dict[str, Difference | None]]]


def summarise(lines: Sequence[Line], names: Iterable[str]) -> Summary:
    """Summarise the lines of a run.

    Intervals are percentiles of 1,000 bootstrap resamples from a fixed seed. They resample songs, not tracks: MIR-1K
    cuts several clips from one song, and these are not independent of each other. A single song has no interval.

    Args:
        lines: Lines of any estimators and tracks.
        names: Names of the estimators to include, in order.
    """
    return {name: _summarise_estimator([line for line in lines if line["row"] == name]) for name in names}


def _summarise_estimator(lines: Sequence[Line]) -> dict[str, dict[str, Statistics]]:
    counts = draw_resamples([line["song"] for line in lines])
    seconds = np.array([line["seconds"] for line in lines], dtype=np.float64)
    found: dict[str, dict[str, Statistics]] = {}
    for target in TARGETS:
        values = {
            name: np.array([np.nan if line[target][name] is None else line[target][name] for line in lines])
            for name in SCORES
        }
        found[target] = {name: compute_statistics(column, seconds, counts) for name, column in values.items()}
    return found


def compare(lines: Sequence[Line], names: Sequence[str]) -> Comparison | None:
    """Compare estimators on the same tracks with the first of them that has scores.

    Paired differences vary much less from song to song than scores do. So their intervals can show that one estimator
    is better where the intervals of both scores overlap. They are made as in `summarise`.

    Args:
        lines: Lines of any estimators and tracks.
        names: Names of the estimators, in order.

    Returns:
        The comparison, or None if fewer than two have scores.
    """
    by_row = {name: {line["track"]: line for line in lines if line["row"] == name} for name in names}
    scored = [name for name in names if by_row[name]]
    if len(scored) < 2:
        return None
    base, *others = scored
    return Comparison(base, {name: _compare_estimators(by_row[base], by_row[name]) for name in others})


def _compare_estimators(base: dict[str, Line], other: dict[str, Line]) -> dict[str, dict[str, Difference | None]]:
    tracks = [track for track in base if track in other]
    counts = draw_resamples([base[track]["song"] for track in tracks])
    return {
        target: {
            score: _compute_difference(
                np.array([_subtract(other[track][target][score], base[track][target][score]) for track in tracks]),
                counts,
            )
            for score in SCORES
        }
        for target in TARGETS
    }


def _subtract(one: float | None, other: float | None) -> float:
    return np.nan if one is None or other is None else one - other


def _compute_difference(values: Floats, counts: Floats) -> Difference | None:
    found = compute_statistics(values, np.ones(len(values)), counts)
    if found.mean is None:
        return None
    better = int((values > 0).sum())
    return Difference(mean=found.mean, mean_interval=found.mean_interval, better=better, tracks=found.tracks)


def draw_resamples(songs: Sequence[str]) -> Floats:
    """Draw songs with replacement, and count how often each resample contains each track.

    Args:
        songs: The song of each track.

    Returns:
        Counts, ``(resample, track)``, the same for all tracks of a song. There are no resamples of a single song.
    """
    names = sorted(set(songs))
    if len(names) < 2:
        return np.zeros((0, len(songs)))
    rng = np.random.default_rng(_SEED)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    return counts[:, [names.index(song) for song in songs]].astype(np.float64)


def compute_statistics(values: Floats, seconds: Floats, counts: Floats) -> Statistics:
    """Compute the statistics of one score.

    Args:
        values: The score of each track; NaN where it has none.
        seconds: Length of each track.
        counts: Resamples of the tracks, from `draw_resamples`.
    """
    valid = ~np.isnan(values)
    values, seconds, counts = values[valid], seconds[valid], counts[:, valid]
    without = int((~valid).sum())
    if not len(values):
        return Statistics(tracks=0, without=without)
    counts = counts[counts.sum(axis=1) > 0]
    return Statistics(
        median=_round(np.median(values)),
        mean=_round(values.mean()),
        weighted=_round((values * seconds).sum() / seconds.sum()),
        median_interval=_compute_interval(_compute_medians(values, counts)),
        mean_interval=_compute_interval(counts @ values / counts.sum(axis=1)),
        weighted_interval=_compute_interval(counts @ (values * seconds) / (counts @ seconds)),
        tracks=len(values),
        without=without,
    )


def _compute_medians(values: Floats, counts: Floats) -> Floats:
    """Return the median of every resample, which holds value `i` as often as ``counts[:, i]`` says."""
    order = np.argsort(values)
    ordered, until = values[order], np.cumsum(counts[:, order], axis=1)
    total = until[:, -1:]
    low = (until < np.floor((total + 1) / 2)).sum(axis=1)
    high = (until < np.floor((total + 2) / 2)).sum(axis=1)
    return np.asarray((ordered[low] + ordered[high]) / 2)


def _compute_interval(resampled: Floats) -> tuple[float, float] | None:
    if not len(resampled):
        return None
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return _round(low), _round(high)


def _round(value: np.floating) -> float:
    return round(float(value), _DIGITS)


def to_dict(
    found: Mapping[str, Mapping[str, Mapping[str, Statistics | Difference | None]]],
) -> dict[str, dict[str, dict[str, dict[str, object] | None]]]:
    """Return a summary, or the differences of a comparison, as plain values, for JSON."""
    return {
        estimator: {
            target: {name: None if value is None else asdict(value) for name, value in scores.items()}
            for target, scores in targets.items()
        }
        for estimator, targets in found.items()
    }
