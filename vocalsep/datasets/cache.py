"""Decoded tracks: brought to a net's rate once, kept as float16 arrays, and memory-mapped from then on."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vocalsep import files
from vocalsep.datasets.tracks import Track
from vocalsep.errors import DatasetError

Array = npt.NDArray[np.floating]


def cache_folder() -> Path:
    """Where decoded tracks are kept: ``VOCALSEP_CACHE``, else the user's cache folder."""
    named = os.environ.get("VOCALSEP_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else base / "vocalsep"


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A track in the cache: stems as memory-mapped ``(channel, time)`` arrays."""

    track: Track
    stems: dict[str, Array]

    @property
    def samples(self) -> int:
        """Length; stems of one track are equally long."""
        return int(next(iter(self.stems.values())).shape[1])


def decode(track: Track, rate: int, channels: int, folder: Path | None = None) -> Decoded:
    """Brings a track into the cache, unless it is there, and opens it.

    Args:
        track: The track.
        rate: Rate of the cached stems, Hz.
        channels: Their channel count.
        folder: The cache; `cache_folder` by default.

    Raises:
        DatasetError: If the track cannot be read.
    """
    folder = folder or cache_folder()
    try:
        stamps = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in track.paths]
    except OSError as error:
        raise DatasetError(f"track {track.name!r}: {error.filename}: {error.strerror}") from error
    what = repr((stamps, track.vocals, track.accompaniment, rate, channels))
    key = hashlib.sha256(what.encode()).hexdigest()[:24]
    names = [name for name in ("vocals", "accompaniment") if getattr(track, name)]
    paths = {name: folder / f"{key}.{name}.npy" for name in names}
    if not all(path.exists() for path in paths.values()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, stem in track.load(rate, channels).items():
                with files.write_atomically(paths[name]) as temporary, temporary.open("wb") as file:
                    np.save(file, stem.numpy().astype(np.float16))
        except OSError as error:
            raise DatasetError(f"{folder}: cannot be written ({error.strerror})") from error
    try:
        stems = {name: np.load(path, mmap_mode="r") for name, path in paths.items()}
    except (ValueError, EOFError, OSError) as error:
        raise DatasetError(
            f"{folder}: the cache of track {track.name!r} is damaged, or may not be read; delete {key}.*"
        ) from error
    if min(stem.shape[1] for stem in stems.values()) < 1:
        raise DatasetError(f"track {track.name!r}: has no samples")
    return Decoded(track=track, stems=stems)
