"""Reading and writing recordings in blocks, and changing their rate: the only place that touches sound files.

Inside the package sound is ``(channel, time)`` float32 with full scale 1, channels in the order of wav; files and
libsndfile see ``(time, channel)``. Levels are never touched unless that is asked for.
"""

from __future__ import annotations

from vocalsep.audio.formats import FORMATS, SUBTYPES, SUFFIXES, Format, check_output
from vocalsep.audio.outputs import Outputs
from vocalsep.audio.pipes import INPUT, OUTPUT, PIPE_BLOCK_SECONDS, PipeWriter, Stream, opened, raw_layout
from vocalsep.audio.reader import BLOCK_SECONDS, RATES, Reader, read
from vocalsep.audio.resampling import Resampler, resample
from vocalsep.audio.tags import Tags
from vocalsep.audio.tags import read as read_tags
from vocalsep.audio.wav import Layout
from vocalsep.audio.writer import CLIPPING, Writer

__all__ = [
    "BLOCK_SECONDS",
    "CLIPPING",
    "FORMATS",
    "INPUT",
    "OUTPUT",
    "PIPE_BLOCK_SECONDS",
    "RATES",
    "SUBTYPES",
    "SUFFIXES",
    "Format",
    "Layout",
    "Outputs",
    "PipeWriter",
    "Reader",
    "Resampler",
    "Stream",
    "Tags",
    "Writer",
    "check_output",
    "opened",
    "raw_layout",
    "read",
    "read_tags",
    "resample",
]
