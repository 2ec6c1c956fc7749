"""The curves of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vocalsep.plots.style import ACCENT, CALM, GREY, add_title, save, style_axes
from vocalsep.shapes import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 1_000  # per curve at most; longer curves are averaged down to this
_SMOOTHED = 100  # curves of more steps are averaged, so that their trend is visible


def draw_loss_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: Path, *, title: str = ""
) -> None:
    """Draw the curves of a training run: losses, and below them validation SNR in dB and learning rate where given.

    An axis never shows less than a tenth of its values, or 1 dB, so that noise does not look like progress.

    Args:
        curves: Steps and values of any of "loss", "validation_loss", "validation_snr_db" and "lr".
        path: The PNG file to write.
        title: Title above them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [(panel, [name for name in panel.curves if name in curves]) for panel in _PANELS]
    shown = [(panel, names) for panel, names in shown if names]
    figure = Figure(figsize=(9, 1 + 2.2 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.subplots(len(shown), sharex=True, squeeze=False)[:, 0]
    for axes, (panel, names) in zip(places, shown, strict=True):
        drawn = []
        for name in names:
            steps, values = _smooth(*curves[name])
            drawn.append(values)
            style = _CURVES[name]
            if style.label == "training" and len(values) > _SMOOTHED:  # the noise of single steps, and its mean
                axes.plot(steps, values, color=style.color, alpha=0.25, linewidth=0.8)
                values = _average_around(values, len(values) // 50)
            marker = "o" if len(steps) < 50 else ""
            axes.plot(steps, values, label=style.label, color=style.color, marker=marker, markersize=4)
        _widen_axis(axes, np.concatenate(drawn), panel)
        axes.set_title(panel.title, loc="left", fontsize=11, fontweight="bold")
        if panel.least_db and len(drawn[0]):
            _name_best(axes, *_smooth(*curves[names[0]]))
        style_axes(axes)
        if len(names) > 1:
            axes.legend(frameon=False, ncols=2, loc="upper right")
    places[-1].set_xlabel("step")
    places[-1].xaxis.get_major_locator().set_params(integer=True)
    if title:
        add_title(figure, title)
    save(figure, path)


@dataclass(frozen=True)
class _Panel:
    title: str
    curves: tuple[str, ...]
    least_share: float = 0.0  # least range of the axis, as a share of the largest value
    least_db: float = 0.0  # least range of the axis in dB
    from_zero: bool = False


@dataclass(frozen=True)
class _Curve:
    label: str
    color: str


_PANELS = (
    _Panel("Loss", ("loss", "validation_loss"), least_share=0.1),
    _Panel("SNR of the held-out songs, dB", ("validation_snr_db",), least_db=1.0),
    _Panel("Learning rate", ("lr",), from_zero=True),
)
_CURVES = {
    "loss": _Curve("training", CALM),
    "validation_loss": _Curve("held-out songs", ACCENT),
    "validation_snr_db": _Curve("SNR", ACCENT),
    "lr": _Curve("learning rate", GREY),
}


def _widen_axis(axes: Axes, values: Array, panel: _Panel) -> None:
    """Keep an axis from zooming into tiny differences, and from being squeezed by a few extreme values."""
    if not len(values):
        return
    low, high = (float(np.percentile(values, percent)) for percent in (0.5, 99.5))
    low = min(low, 0.0) if panel.from_zero else low
    span = max(high - low, panel.least_db, panel.least_share * max(abs(low), abs(high)), 1e-12)
    middle, half = (low + high) / 2, 0.56 * span
    bottom = middle - half
    if values.min() >= 0 and not panel.least_db:
        bottom = max(bottom, 0.0)
    axes.set_ylim(bottom, middle + half)


def _name_best(axes: Axes, steps: Array, values: Array) -> None:
    best = int(np.argmax(values))
    axes.plot(steps[best], values[best], "o", color=ACCENT, markersize=8)
    text = f"best: {values[best]:.2f} dB after {round(steps[best]) + 1:,} steps"
    axes.set_title(text, loc="right", fontsize=11, color=ACCENT)


def _average_around(values: Array, reach: int) -> Array:
    """Return the mean of each value and its neighbours up to `reach` before and after it."""
    total = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.minimum(np.arange(len(values)) + reach + 1, len(values))
    starts = np.maximum(np.arange(len(values)) - reach, 0)
    means: Array = (total[ends] - total[starts]) / (ends - starts)
    return means


def _smooth(steps: Sequence[float], values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Average a curve down to at most `_POINTS` points, and leave out NaN and infinity."""
    x, y = np.asarray(steps, float), np.asarray(values, float)
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    length = max(1, -(-len(x) // _POINTS))
    starts = range(0, len(x), length)
    return (
        np.array([x[start : start + length].mean() for start in starts]),
        np.array([y[start : start + length].mean() for start in starts]),
    )
