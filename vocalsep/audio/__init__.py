"""Reading and writing recordings in blocks, and changing their rate: the only place that touches sound files.

Inside the package sound is ``(channel, time)`` float32 with full scale 1, channels in the order of wav; files and
libsndfile see ``(time, channel)``. Levels are never touched unless that is asked for.

The names load on first use, so that what formats can hold may be asked without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vocalsep.audio.formats import FORMATS, SUBTYPES, SUFFIXES, Format, check_output, subtype_named
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
    "subtype_named",
]

_HOMES = {
    "BLOCK_SECONDS": ("reader", "BLOCK_SECONDS"),
    "CLIPPING": ("writer", "CLIPPING"),
    "FORMATS": ("formats", "FORMATS"),
    "Format": ("formats", "Format"),
    "INPUT": ("pipes", "INPUT"),
    "Layout": ("wav", "Layout"),
    "OUTPUT": ("pipes", "OUTPUT"),
    "Outputs": ("outputs", "Outputs"),
    "PIPE_BLOCK_SECONDS": ("pipes", "PIPE_BLOCK_SECONDS"),
    "PipeWriter": ("pipes", "PipeWriter"),
    "RATES": ("reader", "RATES"),
    "Reader": ("reader", "Reader"),
    "Resampler": ("resampling", "Resampler"),
    "SUBTYPES": ("formats", "SUBTYPES"),
    "SUFFIXES": ("formats", "SUFFIXES"),
    "Stream": ("pipes", "Stream"),
    "Tags": ("tags", "Tags"),
    "Writer": ("writer", "Writer"),
    "check_output": ("formats", "check_output"),
    "opened": ("pipes", "opened"),
    "raw_layout": ("pipes", "raw_layout"),
    "read": ("reader", "read"),
    "read_tags": ("tags", "read"),
    "resample": ("resampling", "resample"),
    "subtype_named": ("formats", "subtype_named"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
