"""What is scored: models, other separators' files, and what frames them, each a row of a table."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vocalsep import audio, extraction, masks, weights
from vocalsep.datasets.layouts.folders import is_recording
from vocalsep.datasets.splits import Heard
from vocalsep.datasets.tracks import Track
from vocalsep.errors import AudioError, ConfigError, DatasetError
from vocalsep.evaluation.oracle import oracle
from vocalsep.evaluation.songs import Song
from vocalsep.extraction import Parts
from vocalsep.nets import ClusteringNet
from vocalsep.shapes import Waveform

MIXTURE = "mixture"


@dataclass(frozen=True, kw_only=True)
class Row:
    """Something that makes vocals of a song.

    Attributes:
        name: What the tables call it.
        kind: A key of `KINDS`.
        model: For "model" and "irm-grid": a model's name or weights file.
        inversion: For "model": from spectra to sound.
        masks_from: For "model": see `extraction.Extractor`.
        gate: For "model": likewise.
        folder: For "estimates": where the files are.
    """

    name: str
    kind: str
    model: str = ""
    inversion: str = "phase"
    masks_from: str = "auto"
    gate: bool = False
    folder: Path | None = None

    def fingerprint(self, track: Track) -> str:
        """Changes with whatever the row makes of a track, and with the track's files, without computing anything."""
        parts = [self.kind, self.inversion]
        for source in (*track.vocals, *track.accompaniment):
            state = source.path.stat()
            parts.append(f"{source.path.name} {source.channel} {source.weight} {state.st_size} {state.st_mtime_ns}")
        if self.masks_from != "auto":
            parts.append(self.masks_from)
        if self.gate:
            parts.append("gate")
        if self.model:
            parts.append(_digest(self.model))
        if self.folder:
            parts.append(str(self.folder))
            for stem in ("vocals", "accompaniment"):
                path = _estimate_path(self.folder, track.name, stem)
                parts.append(f"{path.stat().st_size} {path.stat().st_mtime_ns}" if path else "none")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def heard(self) -> Heard:
        """What the row's model was trained on, as far as its weights tell; nothing for rows that are no model."""
        known: Heard = weights.load(self.model).metadata.get("heard", {}) if self.kind == "model" else {}
        return known

    def estimate(self, track: str, song: Song) -> Parts:
        """Vocals and accompaniment of a song.

        Args:
            track: The track's name.
            song: The song.

        Raises:
            VocalsepError: If the files are not there or do not fit, or the model cannot be used.
        """
        return KINDS[self.kind](self, track, song)


def standard(
    models: Sequence[str],
    inversions: Iterable[str],
    folders: Iterable[Path],
    masks_from: Sequence[str] = ("auto",),
    gates: Sequence[bool] = (False,),
) -> list[Row]:
    """Rows of a table: the floor (the mixture), then what is compared, then the ceilings.

    Ceilings are the ideal binary mask (IBM) and the ideal ratio masks (IRM) of `oracle.oracle`.

    Args:
        models: Names or weights files. Each gets a row for every inversion, and one for the ideal mask on its grid,
            unless a model before it has the same.
        inversions: How they turn spectra into sound.
        masks_from: Where those that cluster take their masks from, each a row of its own; others have one row.
        gates: Whether their vocals fade out where there is no voice, each a row of its own.
        folders: What other separators wrote.

    Raises:
        ConfigError: If two rows would be called the same.
        ModelError: If a model cannot be loaded.
        DatasetError: If there is no such folder.
    """
    loaded = {model: weights.load(model) for model in models}
    compared: list[Row] = []
    for inversion, model in itertools.product(inversions, models):
        sources = masks_from if isinstance(loaded[model].net, ClusteringNet) else ["auto"]
        for source, gate in itertools.product(sources, gates):
            ways = [way for way in (source, inversion, "gate" if gate else "") if way not in ("auto", "phase", "")]
            row = Row(name=", ".join([_called(model), *ways]), kind="model", model=model, inversion=inversion)
            compared.append(replace(row, masks_from=source, gate=gate))
    for folder in folders:
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder of estimates")
        compared.append(Row(name=folder.resolve().name, kind="estimates", folder=folder.resolve()))
    ceilings = [Row(name="IBM, linear", kind="ibm")]
    grids = []
    for model in models:
        if loaded[model].front_end not in grids:
            grids.append(loaded[model].front_end)
            name = f"IRM, grid of {_called(model)}"
            ceilings.append(Row(name=name, kind="irm-grid", model=model))
    rows = [Row(name=MIXTURE, kind="mixture"), *compared, *ceilings, Row(name="IRM, linear", kind="irm")]
    names = [row.name for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two rows would be called {name!r}; give the weights files or folders different names")
    return rows


def strangers(folder: Path, tracks: Iterable[str]) -> list[str]:
    """Names of the estimates in a folder that belong to no track, in order."""
    known = {str(part) for track in tracks for part in (Path(track), *Path(track).parents)}
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not (path.is_dir() or is_recording(path)):
            continue
        name = path.name if path.is_dir() else path.stem
        if not {name, name.removesuffix(".vocals"), name.removesuffix(".accompaniment")} & known:
            found.append(path.name)
    return found


def _called(model: str) -> str:
    return Path(model).stem if model.endswith(weights.SUFFIX) else model


@functools.cache
def _digest(model: str) -> str:
    return weights.hash_file(Path(model) if model.endswith(weights.SUFFIX) else weights.find_models()[model])


@functools.lru_cache(maxsize=8)
def _extractor(model: str, inversion: str, masks_from: str, gate: bool) -> extraction.Extractor:
    loaded = weights.load(model)
    return extraction.Extractor(loaded, device="cpu", inversion=inversion, masks_from=masks_from, gate=gate)


def _mixture(row: Row, track: str, song: Song) -> Parts:
    del row, track
    return Parts(song.mixture, song.mixture)


def _model(row: Row, track: str, song: Song) -> Parts:
    del track
    return _extractor(row.model, row.inversion, row.masks_from, row.gate)(song.mixture, song.rate)


def _ideal(row: Row, track: str, song: Song) -> Parts:
    """A linear grid has a mask to each channel, so each may be done for itself; whole songs would take much memory."""
    del track
    if row.model:
        front_end = weights.load(row.model).front_end
        return oracle(song.mixture, song.vocals, song.rate, front_end)
    mask = masks.binary if row.kind == "ibm" else masks.ratio
    channels = zip(torch.split(song.mixture, 1), torch.split(song.vocals, 1), strict=True)
    pieces = [oracle(mixture, vocals, song.rate, mask=mask) for mixture, vocals in channels]
    return Parts(*(torch.cat(part) for part in zip(*pieces, strict=True)))


def _files(row: Row, track: str, song: Song) -> Parts:
    assert row.folder is not None
    vocals = _read(row.folder, track, "vocals", song)
    if vocals is None:
        raise DatasetError(f"no estimate in {row.folder}; expected {track}/vocals.wav or {track}.vocals.wav")
    accompaniment = _read(row.folder, track, "accompaniment", song)
    return Parts(vocals, song.mixture - vocals if accompaniment is None else accompaniment)


KINDS: dict[str, Callable[[Row, str, Song], Parts]] = {
    "mixture": _mixture,
    "model": _model,
    "estimates": _files,
    "ibm": _ideal,
    "irm-grid": _ideal,
    "irm": _ideal,
}
"""How each kind of row makes its estimate."""


def _estimate_path(folder: Path, track: str, stem: str) -> Path | None:
    """``TRACK/vocals.*`` or ``TRACK.vocals.*``, or for vocals ``TRACK.*``, the first that is there."""
    inside, beside = folder / track / stem, folder / f"{track}.{stem}"
    places = [inside, beside, folder / track] if stem == "vocals" else [inside, beside]
    for place in places:
        for suffix in sorted(audio.SUFFIXES):
            path = place.with_name(place.name + suffix)
            if is_recording(path):
                return path
    return None


def _read(folder: Path, track: str, stem: str, song: Song) -> Waveform | None:
    """Reads an estimate; None if there is none.

    Raises:
        DatasetError: If it does not fit the song.
    """
    path = _estimate_path(folder, track, stem)
    if path is None:
        return None
    try:
        samples, rate = audio.read(path)
    except AudioError as error:
        raise DatasetError(str(error)) from error
    found, wanted = (*samples.shape, rate), (*song.vocals.shape, song.rate)
    for have, want, what in zip(found, wanted, ("channels", "samples", "Hz"), strict=True):
        if have != want:
            raise DatasetError(f"{path}: {have} {what}; expected {want}, as the references have")
    if not torch.isfinite(samples).all():
        raise DatasetError(f"{path}: has samples that are not finite numbers")
    return samples
