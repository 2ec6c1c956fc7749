"""Merge and summarise manifests, and write them as tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vocalsep import files
from vocalsep.errors import ManifestError
from vocalsep.manifests.records import STATUSES, Record, check_model, collect
from vocalsep.manifests.storage import describe_failure, read


def merge(paths: Sequence[Path]) -> tuple[list[Record], list[ManifestError]]:
    """Merge manifests: one record per song, the one that counts; see `choose`.

    Args:
        paths: The manifests.

    Returns:
        The records, and an error for each manifest that was left out: it cannot be read, or its songs were separated
        with another model than those of the first one.
    """
    merged: dict[str, Record] = {}
    problems: list[ManifestError] = []
    for path in paths:
        try:
            records = read(path)
            if merged:
                check_model(path, records.values(), next(iter(merged.values())).made_with, "merge it separately")
            elif records:
                check_model(path, records.values(), next(iter(records.values())).made_with, "split it by model")
        except ManifestError as error:
            problems.append(error)
            continue
        merged = collect([*merged.values(), *records.values()])
    return list(merged.values()), problems


def to_table(records: Iterable[Record]) -> Any:
    r"""Make a table (`pyarrow.Table`) with the columns of `Record`.

    Options and outputs are maps from text to text. Bytes of names that are not UTF-8 become text such as ``\udcff``.

    Raises:
        ManifestError: If pyarrow is not installed.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ManifestError("tables need pyarrow; run: pip install 'vocalsep[parquet]'") from error
    text, number, texts = pa.string(), pa.float64(), pa.list_(pa.string())
    kinds = {
        "options": pa.map_(text, text),
        "outputs": pa.map_(text, text),
        "voice": pa.list_(pa.struct([("start", number), ("end", number)])),
        "warnings": texts,
        **dict.fromkeys(("audio_seconds", "taken_seconds", "vocals_db", "voice_share"), number),
    }
    columns: dict[str, list[Any]] = {field.name: [] for field in dataclasses.fields(Record)}
    for record in records:
        for name, column in columns.items():
            column.append(_to_arrow(name, getattr(record, name)))
    return pa.table({name: pa.array(column, kinds.get(name, text)) for name, column in columns.items()})


def write_parquet(path: Path, records: Iterable[Record]) -> None:
    """Write records as a Parquet table; see `to_table`. It appears complete or not at all.

    Raises:
        ManifestError: If it cannot be written, or pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ManifestError(f"{path}: Parquet needs pyarrow; run: pip install 'vocalsep[parquet]'") from error
    try:
        with files.write_atomically(path) as temporary:
            parquet.write_table(to_table(records), temporary)
    except OSError as error:
        raise describe_failure(path, "written", error) from error


def _to_arrow(name: str, value: Any) -> Any:
    if name in ("options", "outputs"):
        texts = {key: each if isinstance(each, str) else files.dump_json(each) for key, each in value.items()}
        return [(_to_arrow("", key), _to_arrow("", each)) for key, each in texts.items()]
    if name == "voice":
        return [{"start": start, "end": end} for start, end in value]
    if name == "warnings":
        return [_to_arrow("", each) for each in value]
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def summarise(records: Iterable[Record]) -> dict[str, Any]:
    """Summarise a manifest.

    Returns:
        ``songs``; the number for each status; ``models`` as [name, SHA-256]; ``versions``; ``audio_seconds``,
        ``voice_seconds`` and ``taken_seconds`` of the songs that are done; ``times_real_time``; ``warnings``, the
        number of songs with any; ``errors`` by id.
    """
    listed = list(records)
    done = [record for record in listed if record.status == "done"]
    audio, taken = (sum(getattr(record, key) or 0.0 for record in done) for key in ("audio_seconds", "taken_seconds"))
    audio, taken = round(audio, 3), round(taken, 3)
    voice = sum((record.audio_seconds or 0.0) * (record.voice_share or 0.0) for record in done)
    return {
        "songs": len(listed),
        **{status: sum(record.status == status for record in listed) for status in STATUSES},
        "models": sorted({record.made_with for record in listed}),
        "versions": sorted({record.version for record in listed}),
        "audio_seconds": audio,
        "voice_seconds": round(voice, 3),
        "taken_seconds": taken,
        "times_real_time": round(audio / taken, 2) if taken else 0.0,
        "warnings": sum(bool(record.warnings) for record in listed),
        "errors": {record.id: record.error for record in listed if record.error},
    }
