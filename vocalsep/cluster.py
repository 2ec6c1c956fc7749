"""Separate songs in a pipeline of Ray Data.

```python
songs = ray.data.from_items([{"id": "a.mp3", "uri": "s3://bucket/songs/a.mp3"}])
done = songs.map_batches(
    vocalsep.cluster.Extract,
    fn_constructor_kwargs={"output": "s3://bucket/vocals"},
    batch_size=4,
    concurrency=(1, 8),
    num_cpus=1,
)
done.write_parquet("s3://bucket/done")
```

To separate files on a cluster without a pipeline, use the command ``vocalsep cluster``.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from vocalsep import manifests, means, remote
from vocalsep.audio import bitrates
from vocalsep.batches.events import Event, Finished
from vocalsep.batches.jobs import Job
from vocalsep.batches.work import Settings, Worker, rename
from vocalsep.errors import AudioError, ConfigError, VocalsepError
from vocalsep.manifests import Record
from vocalsep.release import DEFAULT_MODEL
from vocalsep.remote import Remote, Workspace

_STEMS: Final = ("vocals", "accompaniment")


class Extract:
    """Extracts the vocals of the songs in a batch: a class for `ray.data.Dataset.map_batches`.

    A batch has the columns ``id`` and ``uri`` or ``bytes``. The id is a relative path, such as ``album/song.mp3``, and
    no two songs share one. The uri is the path or address of the song; bytes are the content of its file.
    ``vocals_uri`` and ``accompaniment_uri`` may say where the outputs go. Otherwise they go to
    ``OUTPUT/ID.vocals.EXTENSION`` and ``OUTPUT/ID.accompaniment.EXTENSION``, so each id has names of its own.

    The result has the columns of a manifest (see `manifests.Record`), with ``vocals_uri`` and ``accompaniment_uri``
    instead of ``outputs``, and without ``options``. A song that fails has a line in the column ``error``, and the other
    songs of the batch are done. The model stays in memory from batch to batch.

    If Ray repeats a batch because a process or machine was lost, the outputs are replaced by the same bytes.

    Args:
        output: Folder for the outputs: an absolute path, or an address such as ``s3://bucket/vocals``. A path has to
            mean the same folder on all machines.
        model: Name or file of a model. Of several, the vocals are averaged.
        stem: What to write: "vocals", "accompaniment" or "both".
        extension: Format of the outputs, as a file extension.
        existing: What to do with songs whose outputs exist: "overwrite", "skip" (the row has the status "skipped"), or
            "refuse" (it has an error).
        subtype: Sample format of the outputs, a key of `audio.SUBTYPES`; None for that of the song.
        bitrate: Bit rate of lossy outputs, such as "192k"; None for the default.
        clip: What to do with samples beyond full scale; see `audio.CLIPPING`.
        inversion: How the masked spectrogram becomes audio; see `Extractor`.
        masks_from: Where masks come from; see `Extractor`.
        gate: Whether to fade the vocals out where there is no voice.
        device: Device to run on. Ask Ray for one with ``num_gpus=1``.
        threads: Threads for each song. Ask Ray for as many processors with ``num_cpus``.

    Raises:
        VocalsepError: If the model cannot be loaded, or `output` cannot be used.
    """

    def __init__(
        self,
        output: str | Path,
        *,
        model: str | Sequence[str] = DEFAULT_MODEL,
        stem: Literal["vocals", "accompaniment", "both"] = "both",
        extension: str = "wav",
        existing: Literal["overwrite", "skip", "refuse"] = "overwrite",
        subtype: str | None = None,
        bitrate: str | None = None,
        clip: str = "clamp",
        inversion: str = "phase",
        masks_from: str = "auto",
        gate: bool = False,
        device: str = "auto",
        threads: int = 1,
    ) -> None:
        self._output = _open_folder(str(output))
        self._stems = _STEMS if stem == "both" else (stem,)
        self._extension = extension
        models = (model,) if isinstance(model, str) else tuple(model)
        settings = Settings(
            models=models,
            device=device,
            inversion=inversion,
            masks=masks_from,
            subtype=subtype,
            bitrate=None if bitrate is None else bitrates.parse(bitrate),
            clip=clip,
            gate=gate,
            threads=threads,
            existing=existing,
            hash_inputs=True,
            run=_name_run(),
        )
        self._call = manifests.Call(
            model="+".join(map(means.name_model, models)),
            model_sha256=means.hash_models(models),
            options=settings.describe(),
        )
        self._finished: Finished | None = None
        self._worker = Worker(settings, self._keep, lambda: None)
        self._worker.load()

    def __call__(self, batch: Any) -> Any:
        """Extract the vocals of each song.

        Args:
            batch: Columns by name, a `pyarrow.Table` or a `pandas.DataFrame`.

        Returns:
            A `pyarrow.Table` with a row for each song, in the same order.
        """
        import pyarrow as pa

        records = [self._do(row) for row in _list_rows(batch)]
        table = manifests.to_table(records).drop_columns(["outputs", "options"])
        for stem in _STEMS:
            table = table.append_column(
                f"{stem}_uri", pa.array([each.outputs.get(stem) for each in records], pa.string())
            )
        return table

    def _do(self, row: Mapping[str, Any]) -> Record:
        name = "" if _is_missing(row.get("id")) else str(row["id"])
        uri = None if _is_missing(row.get("uri")) else str(row["uri"])
        try:
            with self._open(name, uri, row.get("bytes")) as song:
                return self._separate(name, song, uri, row)
        except (VocalsepError, OSError) as error:
            return self._call.record(name, song=uri, error=" ".join(str(error).split()))

    @contextlib.contextmanager
    def _open(self, name: str, uri: str | None, content: Any) -> Iterator[Path | Remote]:
        """Yield the song as a file: that of its uri, or a temporary one with its bytes."""
        if not name:
            raise AudioError("a row has no id")
        if uri is not None:
            yield Remote(uri) if remote.is_address(uri) else Path(uri)
        elif isinstance(content, bytes | bytearray | memoryview):
            with Workspace() as workspace:
                path = workspace.place(Path(name))
                path.write_bytes(content)
                yield path
        else:
            raise AudioError(f"{name}: the row has neither uri nor bytes")

    def _separate(self, name: str, song: Path | Remote, uri: str | None, row: Mapping[str, Any]) -> Record:
        outputs = {stem: self._place(name, stem, row.get(f"{stem}_uri")) for stem in self._stems}
        self._finished = None
        self._worker.do(0, Job(song=song, outputs=dict(outputs), id=name))
        event: Finished = self._finished  # type: ignore[assignment]  # the worker has set it
        places = {} if uri is not None else {str(song): name}
        return self._call.record(
            name,
            song=uri,
            report=event.report and {key: rename(value, places) for key, value in event.report.items()},
            input_sha256=event.input_sha256,
            error=rename(event.error, places),
            reason=event.skipped,
            outputs={stem: str(path) for stem, path in outputs.items()} if event.skipped == "exists" else None,
        )

    def _place(self, name: str, stem: str, uri: Any) -> Path | Remote:
        if not _is_missing(uri):
            return Remote(str(uri)) if remote.is_address(str(uri)) else Path(str(uri))
        parts = [part for part in name.partition("://")[2 if "://" in name else 0].split("/") if part not in ("", ".")]
        if ".." in parts or not parts:
            raise AudioError(f"{name}: this id leads out of the output folder; give the row {stem}_uri")
        place = self._output
        for part in parts[:-1]:
            place = place / part
        return place / f"{parts[-1]}.{stem}.{self._extension}"

    def _keep(self, event: Event) -> None:
        if isinstance(event, Finished):
            self._finished = event


def _open_folder(output: str) -> Path | Remote:
    if remote.is_address(output):
        folder = Remote(output)
        remote.check_writable(folder)
        return folder
    if not os.path.isabs(output):  # noqa: PTH117
        raise ConfigError(f"output {output}: processes of a cluster work in other folders; give an absolute path")
    return Path(output)


def _list_rows(batch: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a batch in any of Ray's formats."""
    if hasattr(batch, "to_pylist"):  # pyarrow
        yield from batch.to_pylist()
        return
    columns = {name: list(batch[name]) for name in batch}
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _is_missing(value: Any) -> bool:
    """Return whether a cell is empty: None, or NaN in a `pandas.DataFrame`."""
    return value is None or value != value


def _name_run() -> str:
    """Return a name for the Ray job that this process works for, which no other job has; empty outside of Ray."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return ""
    heads = [node["NodeID"] for node in ray.nodes() if "node:__internal_head__" in node["Resources"]]
    return " ".join([*heads, ray.get_runtime_context().get_job_id()])
