"""From an STFT to the grid that a net looks at, and back: where that grid's rows lie in Hz.

A front end belongs to a model; `base` says what all have in common. `LogMel` is the front end of the UH-net paper: 128
mel bands, 128 frames to a chunk. `Linear` keeps the rows of the STFT as they are. `MFCC` is the DRNN paper's cepstrum.
"""

from __future__ import annotations

from vocalsep.features.base import FrontEnd
from vocalsep.features.linear import Linear
from vocalsep.features.log_mel import LogMel
from vocalsep.features.mfcc import MFCC

__all__ = ["FRONT_ENDS", "MFCC", "FrontEnd", "Linear", "LogMel"]

FRONT_ENDS: dict[str, type[FrontEnd]] = {"log-mel": LogMel, "linear": Linear, "mfcc": MFCC}
