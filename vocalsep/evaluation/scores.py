"""All scores of one song, by name."""

from __future__ import annotations

import math

import numpy as np

from vocalsep.evaluation import metrics
from vocalsep.evaluation.bsseval import BssEval, Ratios
from vocalsep.evaluation.metrics import Floats
from vocalsep.evaluation.songs import Song
from vocalsep.extraction import Parts
from vocalsep.shapes import Waveform

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
    "gain_nsdr": "NSDR: gain_sdr minus that of the mixture",
    "v3_sdr": "SDR, BSS Eval v3 (sources, 512 taps, as mir_eval), whole song",
    "v3_sir": "SIR, BSS Eval v3 (sources, 512 taps, as mir_eval), whole song",
    "v3_sar": "SAR, BSS Eval v3 (sources, 512 taps, as mir_eval), whole song",
    "v3_nsdr": "NSDR: v3_sdr minus that of the mixture",
}
"""The names of the scores, all in dB, and what each one is."""

TARGETS = ("vocals", "accompaniment")
LIMIT_DB = 300.0
WINDOW_SECONDS = 1.0

Scores = dict[str, dict[str, float | None]]
"""For each target, each score by name; None where the score is missing."""


class Scorer:
    """Scores any number of estimates of one song.

    Scores are rounded to 1e-4 dB and limited to plus or minus `LIMIT_DB`, which stands for infinity. Some scores are
    missing where a reference or an estimate is silent; see `bsseval` and `metrics`.

    Args:
        song: The song.
    """

    def __init__(self, song: Song) -> None:
        self._references = song.references
        self._bss_eval = BssEval(song.references, round(WINDOW_SECONDS * song.rate))
        mixture = song.mixture
        both = np.stack([mixture, mixture])
        self._mixture_scores = self._score_whole_song(both, self._bss_eval(both)[1])

    def __call__(self, parts: Parts) -> Scores:
        """Score estimates of vocals and accompaniment, ``(channel, time)`` each."""
        estimates = np.stack([*parts])
        frames, whole_song = self._bss_eval(estimates)
        by_target = self._score_whole_song(estimates, whole_song)
        for index, scores in enumerate(by_target):
            for name, values in zip(Ratios._fields, frames, strict=True):
                scores[f"v4_{name}"] = _compute_median(values[index])
            scores["v4_sdr_frame_mean"] = _compute_mean(frames.sdr[index])
            for form in ("gain", "v3"):
                scores[f"{form}_nsdr"] = scores[f"{form}_sdr"] - self._mixture_scores[index][f"{form}_sdr"]
        return {
            target: {name: _limit(scores[name]) for name in SCORES}
            for target, scores in zip(TARGETS, by_target, strict=True)
        }

    def _score_whole_song(self, estimates: Waveform, ratios: Ratios) -> list[dict[str, float]]:
        """Return the scores over the whole song for each target; `ratios` are those of BSS Eval v3."""
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


def _compute_median(values: Floats) -> float:
    """Return the median of the values that are not NaN."""
    return math.nan if np.isnan(values).all() else float(np.nanmedian(values))


def _compute_mean(values: Floats) -> float:
    """Return the mean of the values that are not NaN."""
    return math.nan if np.isnan(values).all() else float(np.nanmean(values))


def _limit(score: float) -> float | None:
    return None if math.isnan(score) else round(min(max(score, -LIMIT_DB), LIMIT_DB), 4)
