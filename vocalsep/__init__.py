"""vocalsep separates songs into vocals and accompaniment.

```python
import vocalsep

vocalsep.extract("song.wav", "vocals.wav")  # from file to file, any length

vocals, accompaniment = vocalsep.separate(samples, 44_100)  # numpy or torch, (time,) or (channel, time)

extractor = vocalsep.Extractor(vocalsep.load_model("unet"))  # for many songs
vocals, accompaniment = extractor.extract(samples, 44_100)
```

Names load on first use, so importing the package is instant. The guide is docs/python.md.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from vocalsep.release import __version__

if TYPE_CHECKING:
    from vocalsep.extraction import Extractor, extract, separate
    from vocalsep.weights import list_models
    from vocalsep.weights import load as load_model

__all__ = ["Extractor", "__version__", "extract", "list_models", "load_model", "separate"]

_SOURCES = {
    "Extractor": ("vocalsep.extraction", "Extractor"),
    "extract": ("vocalsep.extraction", "extract"),
    "list_models": ("vocalsep.weights", "list_models"),
    "load_model": ("vocalsep.weights", "load"),
    "separate": ("vocalsep.extraction", "separate"),
}


# Threads that wait must sleep, not spin: spinning takes the cores from whatever else runs, other threads of vocalsep
# included. OpenMP and OpenBLAS read this when they load, so it comes before any import of numpy or torch. ONNX Runtime
# has the same setting per session; see `vocalsep.backends.onnx`.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # sleep after 2^4 cycles, the least that OpenBLAS takes


def __getattr__(name: str) -> Any:
    if name not in _SOURCES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _SOURCES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
