"""Read, write and resample recordings block by block: the only package that touches sound files.

Inside vocalsep, sound is a numpy array, ``(channel, time)`` float32 in C order, with full scale 1 and channels in wav
order. Files and libsndfile use ``(time, channel)``. Levels never change unless the caller asks for it.

Names load on first use, so that `FORMATS` and `check_output` work without importing soundfile.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vocalsep.audio.formats import FORMATS, SUBTYPES, SUFFIXES, Format, check_output, find_subtype
    from vocalsep.audio.outputs import Outputs
    from vocalsep.audio.pipes import (
        PIPE_BLOCK_SECONDS,
        STDIN,
        STDOUT,
        PipeWriter,
        Stream,
        open_song,
        parse_sample_layout,
    )
    from vocalsep.audio.reader import BLOCK_SECONDS, RATES, Reader, read
    from vocalsep.audio.resampling import Resampler, resample
    from vocalsep.audio.signature import is_signed, sign
    from vocalsep.audio.tags import Tags, read_tags
    from vocalsep.audio.wav import SampleLayout
    from vocalsep.audio.writer import CLIPPING, Writer

__all__ = [
    "BLOCK_SECONDS",
    "CLIPPING",
    "FORMATS",
    "PIPE_BLOCK_SECONDS",
    "RATES",
    "STDIN",
    "STDOUT",
    "SUBTYPES",
    "SUFFIXES",
    "Format",
    "Outputs",
    "PipeWriter",
    "Reader",
    "Resampler",
    "SampleLayout",
    "Stream",
    "Tags",
    "Writer",
    "check_output",
    "find_subtype",
    "is_signed",
    "open_song",
    "parse_sample_layout",
    "read",
    "read_tags",
    "resample",
    "sign",
]

_MODULES = {
    "BLOCK_SECONDS": "reader",
    "CLIPPING": "writer",
    "FORMATS": "formats",
    "Format": "formats",
    "Outputs": "outputs",
    "PIPE_BLOCK_SECONDS": "pipes",
    "PipeWriter": "pipes",
    "RATES": "reader",
    "Reader": "reader",
    "Resampler": "resampling",
    "STDIN": "pipes",
    "STDOUT": "pipes",
    "SUBTYPES": "formats",
    "SUFFIXES": "formats",
    "SampleLayout": "wav",
    "Stream": "pipes",
    "Tags": "tags",
    "Writer": "writer",
    "check_output": "formats",
    "find_subtype": "formats",
    "is_signed": "signature",
    "open_song": "pipes",
    "parse_sample_layout": "pipes",
    "read": "reader",
    "read_tags": "tags",
    "resample": "resampling",
    "sign": "signature",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
