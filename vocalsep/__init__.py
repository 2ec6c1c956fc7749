"""vocalsep takes a song and gives back its vocals.

```python
import vocalsep

vocalsep.extract("song.wav", "vocals.wav")  # file to file, any length

extractor = vocalsep.Extractor(vocalsep.load_model())
vocals, accompaniment = extractor.extract(samples, 44_100)  # numpy or torch, (time,) or (channel, time), of any type
```

The names load on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vocalsep.release import __version__

if TYPE_CHECKING:
    from vocalsep.extraction import Extractor, extract
    from vocalsep.weights import load as load_model

__all__ = ["Extractor", "__version__", "extract", "load_model"]

_HOMES = {
    "Extractor": ("vocalsep.extraction", "Extractor"),
    "extract": ("vocalsep.extraction", "extract"),
    "load_model": ("vocalsep.weights", "load"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)
