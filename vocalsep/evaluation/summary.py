"""Summarise scores over tracks: medians, means, means weighted by length, and confidence intervals."""

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
class Statistics:
    """Statistics of one score of one estimator, over all tracks that have it; None if there are no tracks.

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


def draw_resamples(songs: Sequence[str]) -> Floats:
    """Draw songs with replacement, and count how often each resample has each track.

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


def to_dict(summary: Summary) -> dict[str, dict[str, dict[str, dict[str, object]]]]:
    """Return the summary as plain values, for JSON."""
    return {
        estimator: {
            target: {name: asdict(found) for name, found in scores.items()} for target, scores in targets.items()
        }
        for estimator, targets in summary.items()
    }
