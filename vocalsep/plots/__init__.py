"""Plots. matplotlib is imported only when a plot is drawn, and its global state stays untouched."""

from __future__ import annotations

from vocalsep.plots.curves import draw_loss_curves
from vocalsep.plots.scores import draw_score_boxes, draw_scores_by_song
from vocalsep.plots.song import draw_song

__all__ = ["draw_loss_curves", "draw_score_boxes", "draw_scores_by_song", "draw_song"]
