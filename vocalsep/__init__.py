"""vocalsep separates songs into vocals and accompaniment.

```python
import vocalsep

vocalsep.extract("song.mp3")  # writes song.vocals.wav, any length

vocals, accompaniment = vocalsep.separate(samples, 44_100)  # numpy or torch, (time,) or (channel, time)

extractor = vocalsep.Extractor("unet")  # for many songs
vocals, accompaniment = extractor.separate(samples, 44_100)
```

`list_models` lists the models. `metrics` scores estimates, `stft` transforms sound, `audio` reads and writes files,
and `errors` holds the errors that all of them raise.

Names load on first use, so importing the package is instant. The guide is docs/python.md.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from vocalsep.release import __version__

if TYPE_CHECKING:
    from vocalsep import audio, errors, metrics, stft
    from vocalsep.extraction import Extractor, Report, extract, musdb_method, separate
    from vocalsep.weights import Model, ModelInfo, list_models
    from vocalsep.weights import load as load_model

__all__ = [
    "Extractor",
    "Model",
    "ModelInfo",
    "Report",
    "__version__",
    "audio",
    "errors",
    "extract",
    "list_models",
    "load_model",
    "metrics",
    "musdb_method",
    "separate",
    "stft",
]

_EXTRACTION, _WEIGHTS = "vocalsep.extraction", "vocalsep.weights"
_SOURCES = {
    "Extractor": (_EXTRACTION, "Extractor"),
    "Model": (_WEIGHTS, "Model"),
    "ModelInfo": (_WEIGHTS, "ModelInfo"),
    "Report": (_EXTRACTION, "Report"),
    "extract": (_EXTRACTION, "extract"),
    "list_models": (_WEIGHTS, "list_models"),
    "load_model": (_WEIGHTS, "load"),
    "musdb_method": (_EXTRACTION, "musdb_method"),
    "separate": (_EXTRACTION, "separate"),
}
_MODULES = ("audio", "errors", "metrics", "stft")


# Threads that wait must sleep, not spin: spinning takes the cores from whatever else runs, other threads of vocalsep
# included. OpenMP and OpenBLAS read this when they load, so it comes before any import of numpy or torch. ONNX Runtime
# has the same setting per session; see `vocalsep.backends.onnx`.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # sleep after 2^4 cycles, the least that OpenBLAS takes

# From version 1.32 on, if not before, ONNX Runtime keeps a file in the temporary folder and sends reports to Microsoft.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"vocalsep.{name}")
    if name not in _SOURCES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _SOURCES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
