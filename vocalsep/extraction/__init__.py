"""From songs to their vocals: streamed (the one implementation), as arrays, and from file to file."""

from __future__ import annotations

from vocalsep.extraction.extractor import MASKS_FROM, Extractor
from vocalsep.extraction.recordings import Report, extract, peak_memory_mb
from vocalsep.extraction.streaming import Piece, Separation, chunk_masks

__all__ = ["MASKS_FROM", "Extractor", "Piece", "Report", "Separation", "chunk_masks", "extract", "peak_memory_mb"]
