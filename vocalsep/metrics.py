"""Scores of separated sound, for researchers: how close an estimate comes to the true source, in dB.

```python
from vocalsep import metrics

metrics.sdr(true_vocals, vocals)  # of the whole song
metrics.bss_eval([true_vocals, true_accompaniment], [vocals, accompaniment], 44_100).images.sir
```

All functions take numpy arrays, tensors and lists, ``(time,)`` or ``(channel, time)``, and check their shapes.
``vocalsep eval`` prints the same scores. docs/evaluate.md has the formulas, and says which number to quote.
"""

from __future__ import annotations

from vocalsep.evaluation.bsseval import BssScores, Ratios, bss_eval
from vocalsep.evaluation.metrics import GainRatios, framewise_sdr, gain_ratios, sdr, si_sdr

__all__ = ["BssScores", "GainRatios", "Ratios", "bss_eval", "framewise_sdr", "gain_ratios", "sdr", "si_sdr"]
