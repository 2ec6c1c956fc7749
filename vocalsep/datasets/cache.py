"""The cache of decoded tracks: resampled to a net's rate once, stored as float16, then memory-mapped."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vocalsep import files
from vocalsep.datasets.tracks import Track
from vocalsep.errors import DatasetError, describe_error
from vocalsep.files import find_cache_folder
from vocalsep.shapes import Array


@dataclass(frozen=True, kw_only=True)
class DecodedTrack:
    """A track in the cache, with its stems as memory-mapped ``(channel, time)`` arrays."""

    track: Track
    stems: dict[str, Array]

    @property
    def samples(self) -> int:
        """Length in samples, the same for all stems."""
        return int(next(iter(self.stems.values())).shape[1])


def decode(track: Track, rate: int, channels: int, folder: Path | None = None) -> DecodedTrack:
    """Open a track in the cache. If it is not there yet, decode it first.

    Args:
        track: The track.
        rate: Sample rate of the cached stems, Hz.
        channels: Their channel count.
        folder: The cache; `find_cache_folder` by default.

    Raises:
        DatasetError: If the track cannot be read, or the cache cannot be read or written.
    """
    folder = folder or find_cache_folder()
    try:
        stamps = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in track.paths]
    except OSError as error:
        raise DatasetError(f"track {track.name!r}: {error.filename}: {describe_error(error)}") from error
    content = repr((stamps, track.vocals, track.accompaniment, rate, channels))
    key = hashlib.sha256(content.encode()).hexdigest()[:24]
    names = [name for name in ("vocals", "accompaniment") if getattr(track, name)]
    paths = {name: folder / f"{key}.{name}.npy" for name in names}
    if not all(path.exists() for path in paths.values()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, stem in track.load(rate, channels).items():
                with files.write_atomically(paths[name]) as temporary, temporary.open("wb") as file:
                    np.save(file, stem.astype(np.float16))
        except OSError as error:
            raise DatasetError(f"{folder}: cannot be written ({describe_error(error)})") from error
    try:
        stems = {name: np.load(path, mmap_mode="r") for name, path in paths.items()}
    except (ValueError, EOFError, OSError) as error:
        raise DatasetError(
            f"{folder}: the cache of track {track.name!r} is damaged or not readable; delete {key}.*"
        ) from error
    if min(stem.shape[1] for stem in stems.values()) < 1:
        raise DatasetError(f"track {track.name!r}: has no samples")
    return DecodedTrack(track=track, stems=stems)
