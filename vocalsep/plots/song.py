"""A song at a glance: spectrograms, and a line that shows where somebody sings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vocalsep.plots.style import ACCENT, GREY, add_title, clean, save
from vocalsep.shapes import Array

_FLOOR_DB = -70.0  # levels below this are black


def draw_song(
    spectrograms: Mapping[str, Array],
    path: Path,
    *,
    hz: Array,
    seconds: float,
    voice: Sequence[tuple[float, float]],
    title: str,
    note: str,
) -> None:
    """Draw spectrograms of a song and its parts below each other, and a line that shows where somebody sings.

    Args:
        spectrograms: Power of each, ``(row, column)``, by name; all of the same shape, the song first.
        path: The PNG file to write.
        hz: Centre of each row in Hz, rising.
        seconds: Length of the song in seconds.
        voice: Segments with a voice, (start, end) in seconds.
        title: Title above them.
        note: A short text at the upper right.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MultipleLocator

    figure = Figure(figsize=(12, 7.5), layout="constrained")
    heights = [*[1.0] * len(spectrograms), 0.13]
    *panels, line = figure.subplots(len(heights), sharex=True, height_ratios=heights)
    loudest = max(float(np.percentile(next(iter(spectrograms.values())), 99.8)), 1e-12)
    rows = np.arange(len(hz))
    ticks = [tick for tick in (100, 200, 500, 1_000, 2_000, 5_000, 10_000) if hz[0] <= tick <= hz[-1]]
    for axes, (name, power) in zip(panels, spectrograms.items(), strict=True):
        level_db = 10 * np.log10(np.maximum(power / loudest, 10 ** (_FLOOR_DB / 10)))
        image = axes.imshow(
            level_db,
            origin="lower",
            aspect="auto",
            extent=(0, seconds, -0.5, len(hz) - 0.5),
            cmap="magma",
            vmin=_FLOOR_DB,
            vmax=0,
            interpolation="antialiased",
        )
        axes.set_yticks(np.interp(ticks, hz, rows), labels=[_format_hz(tick) for tick in ticks])
        axes.set_title(name, loc="left", fontsize=11, fontweight="bold")
        axes.tick_params(axis="x", bottom=False)
    panels[0].set_title(clean(note), loc="right", fontsize=11, color=GREY, parse_math=False)
    panels[1].set_ylabel("frequency, Hz")
    bar = figure.colorbar(image, ax=panels, pad=0.01, aspect=50)
    bar.set_label("level, dB")
    bar.set_ticks(range(0, int(_FLOOR_DB) - 1, -20))
    bar.outline.set_visible(False)
    line.set_facecolor("#eeeeee")
    line.broken_barh([(start, end - start) for start, end in voice], (0, 1), color=ACCENT, linewidth=0)
    sung = sum(end - start for start, end in voice)
    share = f"Voice: {100 * sung / max(seconds, 1e-9):.0f} % of the song" if voice else "No voice found"
    line.set_title(share, loc="left", fontsize=11, fontweight="bold", color=ACCENT)
    step = _choose_time_step(seconds)
    unit = "s" if step < 1 else "h:mm:ss" if seconds >= 3600 else "m:ss"
    line.set(ylim=(0, 1), yticks=[], xlim=(0, seconds), xlabel=f"time, {unit}")
    line.xaxis.set_major_locator(MultipleLocator(step))
    line.xaxis.set_major_formatter(lambda value, _: f"{value:.1f}" if step < 1 else _format_time(value, seconds))
    for spine in line.spines.values():
        spine.set_visible(False)
    add_title(figure, title)
    save(figure, path)


def _choose_time_step(seconds: float) -> float:
    """Return a round number of seconds that gives a song about ten marks."""
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600)
    return next((step for step in steps if seconds / step <= 14), seconds / 10)


def _format_time(value: float, length: float) -> str:
    """Return a time as m:ss, or as h:mm:ss in songs of an hour or more."""
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if length >= 3600 else f"{minutes}:{seconds:02d}"


def _format_hz(hz: float) -> str:
    return f"{hz / 1000:g}k" if hz >= 1000 else f"{hz:g}"
