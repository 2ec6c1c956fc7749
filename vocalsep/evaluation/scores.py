"""With what is scored: every score of one song, by name."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from vocalsep.evaluation import metrics
from vocalsep.evaluation.bsseval import BssEval, Ratios
from vocalsep.evaluation.songs import Song
from vocalsep.extraction import Parts

SCORES = {
    "v4_sdr": "SDR, BSS Eval v4 (images, 1-s frames, as museval), median over frames",
    "v4_isr": "ISR, BSS Eval v4 (images, 1-s frames, as museval), median over frames",
    "v4_sir": "SIR, BSS Eval v4 (images, 1-s frames, as museval), median over frames",
    "v4_sar": "SAR, BSS Eval v4 (images, 1-s frames, as museval), median over frames",
    "v4_sdr_frame_mean": "SDR, BSS Eval v4 (images, 1-s frames, as museval), mean over frames",
    "song_sdr": "SDR of the whole song, no filters (music demixing challenges)",
    "si_sdr": "SI-SDR of the whole song",
    "gain_sdr": "SDR, BSS Eval v2.1, gain only, whole song",
    "gain_sir": "SIR, BSS Eval v2.1, gain only, whole song",
    "gain_sar": "SAR, BSS Eval v2.1, gain only, whole song",
    "gain_nsdr": "NSDR: gain_sdr less that of the mixture",
    "v3_sdr": "SDR, BSS Eval v3 (sources, 512 taps, as mir_eval), whole song",
    "v3_sir": "SIR, BSS Eval v3 (sources, 512 taps, as mir_eval), whole song",
    "v3_sar": "SAR, BSS Eval v3 (sources, 512 taps, as mir_eval), whole song",
    "v3_nsdr": "NSDR: v3_sdr less that of the mixture",
}
"""Names of the scores, all in dB, and what each is."""

TARGETS = ("vocals", "accompaniment")
LIMIT_DB = 300.0
WINDOW_SECONDS = 1.0

Scores = dict[str, dict[str, float | None]]
"""Of each target each score; None where there is none."""


class Ruler:
    """A song, ready to score any number of estimates of it.

    Scores are limited to plus or minus 300 dB, which stands for infinity, and rounded to 1e-4 dB. Where a reference or
    an estimate is silent there is no score; see `bsseval` and `metrics` for which.

    Args:
        song: The song.
    """

    def __init__(self, song: Song) -> None:
        self._references = song.references
        self._bss_eval = BssEval(song.references, round(WINDOW_SECONDS * song.rate))
        mixture = song.mixture
        self._floor = self._whole(torch.stack([mixture, mixture]), self._bss_eval(torch.stack([mixture, mixture]))[1])

    def __call__(self, piece: Parts) -> Scores:
        """Scores estimated vocals and accompaniment, ``(channel, time)`` each."""
        estimates = torch.stack([*piece])
        frames, whole = self._bss_eval(estimates)
        found = self._whole(estimates, whole)
        for index, scores in enumerate(found):
            for name, values in zip(Ratios._fields, frames, strict=True):
                scores[f"v4_{name}"] = _median(values[index])
            scores["v4_sdr_frame_mean"] = float(frames.sdr[index].nanmean())
            for form in ("gain", "v3"):
                scores[f"{form}_nsdr"] = scores[f"{form}_sdr"] - self._floor[index][f"{form}_sdr"]
        return {
            target: {name: _limited(scores[name]) for name in SCORES}
            for target, scores in zip(TARGETS, found, strict=True)
        }

    def _whole(self, estimates: Tensor, ratios: Ratios) -> list[dict[str, float]]:
        """Those scores that take the song as a whole, of each target."""
        found = []
        for index, (reference, estimate) in enumerate(zip(self._references, estimates, strict=True)):
            gain = metrics.gain_ratios(self._references, estimate, index)
            found.append(
                {
                    "song_sdr": metrics.sdr(reference, estimate),
                    "si_sdr": metrics.si_sdr(reference, estimate),
                    **{f"gain_{name}": value for name, value in gain._asdict().items()},
                    **{f"v3_{name}": float(getattr(ratios, name)[index]) for name in ("sdr", "sir", "sar")},
                }
            )
        return found


def _median(values: Tensor) -> float:
    """The median of those that are numbers."""
    return math.nan if values.isnan().all() else float(np.nanmedian(values.numpy()))


def _limited(score: float) -> float | None:
    return None if math.isnan(score) else round(min(max(score, -LIMIT_DB), LIMIT_DB), 4)
