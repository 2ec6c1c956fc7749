"""Manifests: files that say what was done with each song of a batch, one JSON object per line.

A manifest grows while songs are separated, and can be read meanwhile. Each line is one write under a lock, so several
processes can share a manifest. A process that is killed leaves at most one torn line at the end: readers ignore it, and
the next writer removes it. Lines reach the disk within a second, and when the manifest is closed.

```python
call = manifests.Call(model="uhnet-hd", model_sha256=means.hash_models(["uhnet-hd"]))
with manifests.Writer(Path("out.jsonl"), call) as writer:
    report = vocalsep.extract("a/song.mp3")
    writer.add(call.record("a/song.mp3", report=dataclasses.asdict(report), input_sha256=...))
```
"""

from __future__ import annotations

from vocalsep.manifests.records import STATUSES, STEMS, Call, Record, check_model, choose, collect
from vocalsep.manifests.storage import Writer, iterate, read, write
from vocalsep.manifests.tables import merge, summarise, to_table, write_parquet

__all__ = [
    "STATUSES",
    "STEMS",
    "Call",
    "Record",
    "Writer",
    "check_model",
    "choose",
    "collect",
    "iterate",
    "merge",
    "read",
    "summarise",
    "to_table",
    "write",
    "write_parquet",
]
