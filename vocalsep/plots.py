"""Pictures, drawn with matplotlib, which is loaded only when one is wanted; its global state is left alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

_POINTS = 1_000  # to a curve: a noisy one is averaged over this many stretches


def loss_curves(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: Path) -> None:
    """Draws the course of a training: losses above, validation SNR (dB) below if there is any.

    Args:
        curves: Steps and values of "loss", "validation_loss", "validation_snr_db" and "lr", as far as they are there.
        path: The PNG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = [("loss", ["loss", "validation_loss"]), ("SNR, dB", ["validation_snr_db"]), ("learning rate", ["lr"])]
    shown = [(label, [name for name in names if name in curves]) for label, names in panels]
    shown = [(label, names) for label, names in shown if names]
    for axes, (label, names) in zip(figure.subplots(len(shown), sharex=True, squeeze=False)[:, 0], shown, strict=True):
        for name in names:
            steps, values = _smoothed(*curves[name])
            axes.plot(steps, values, label=name.replace("_", " "), marker="." if len(steps) < 50 else "")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        if len(names) > 1:
            axes.legend()
    figure.supxlabel("step")
    figure.savefig(path, format="png", dpi=100)


def _smoothed(steps: Sequence[float], values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """At most `_POINTS` points: the means of equal stretches; what is not finite does not count."""
    at, what = np.asarray(steps, float), np.asarray(values, float)
    at, what = at[np.isfinite(what)], what[np.isfinite(what)]
    count = max(1, -(-len(at) // _POINTS))
    parts = range(0, len(at), count)
    return (
        np.array([at[part : part + count].mean() for part in parts]),
        np.array([what[part : part + count].mean() for part in parts]),
    )
