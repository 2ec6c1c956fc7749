"""Extraction: separate songs in arrays, from file to file, or block by block. All three share one implementation."""

from __future__ import annotations

from vocalsep.extraction.engines import MASK_SOURCES
from vocalsep.extraction.extractor import Extractor, separate
from vocalsep.extraction.masking import estimate_masks
from vocalsep.extraction.musdb import musdb_method
from vocalsep.extraction.recordings import Report, extract, measure_peak_memory_mb
from vocalsep.extraction.streaming import Parts, StreamingSeparator

__all__ = [
    "MASK_SOURCES",
    "Extractor",
    "Parts",
    "Report",
    "StreamingSeparator",
    "estimate_masks",
    "extract",
    "measure_peak_memory_mb",
    "musdb_method",
    "separate",
]
