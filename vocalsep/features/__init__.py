"""Front ends turn an STFT into the features that a net sees, and the net's mask into a mask for the STFT.

A front end belongs to a model. `base` holds what all share. `LogMel` is the front end of the UH-net paper: 128 mel
bands and chunks of 128 frames. `Linear` keeps the rows of the STFT. `MFCC` computes the cepstrum of the DRNN paper.
"""

from __future__ import annotations

from vocalsep.features.base import FrontEnd
from vocalsep.features.linear import Linear
from vocalsep.features.log_mel import LogMel
from vocalsep.features.mfcc import MFCC

__all__ = ["FRONT_ENDS", "MFCC", "FrontEnd", "Linear", "LogMel"]

FRONT_ENDS: dict[str, type[FrontEnd]] = {"log-mel": LogMel, "linear": Linear, "mfcc": MFCC}
