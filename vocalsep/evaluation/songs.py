"""What to score on: the tracks of a data set, mixed as its literature mixes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vocalsep import audio
from vocalsep.datasets.layouts import LAYOUTS
from vocalsep.datasets.tracks import Listing, Track
from vocalsep.errors import AudioError, ConfigError, DatasetError, describe_unknown
from vocalsep.shapes import Waveform

SPLITS = {name: layout.scoring_splits for name, layout in LAYOUTS.items() if layout.scoring_splits}
"""For each data set that can be scored: its splits, as in `Layout`."""

_FULL_SCALE = 2.0**15  # of 16 bits


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a run scores on. `set_up` makes one.

    Attributes:
        dataset: A key of `SPLITS`.
        root: Its folder.
        split: One of its splits.
        snr_db: Level of the voice relative to the accompaniment in the mixture, dB; None to leave it as it is.
    """

    dataset: str
    root: Path
    split: str
    snr_db: float | None

    def list_tracks(self) -> Listing:
        """List the tracks.

        Raises:
            DatasetError: If the folder does not have the data set's layout.
        """
        return LAYOUTS[self.dataset].find(self.root, SPLITS[self.dataset][self.split])


def set_up(dataset: str, root: Path, split: str = "", snr_db: float | None = None) -> Setup:
    """Make a setup.

    Args:
        dataset: A key of `SPLITS`.
        root: Its folder.
        split: One of its splits, in upper or lower case; empty for the default.
        snr_db: Level of the voice relative to the accompaniment, dB. Only MIR-1K takes one; its default is 0 dB.

    Raises:
        ConfigError: If the data set or split is unknown, or the data set takes no level.
    """
    if dataset not in SPLITS:
        raise ConfigError(describe_unknown("data set", dataset, SPLITS))
    splits = SPLITS[dataset]
    chosen = split.lower() or next(iter(splits))
    if chosen not in splits:
        raise ConfigError(f"{dataset}: no split {split!r} to score on; expected {' or '.join(splits)}")
    if dataset == "mir1k":
        return Setup(dataset=dataset, root=root, split=chosen, snr_db=0.0 if snr_db is None else snr_db)
    if snr_db is not None:
        raise ConfigError(f"{dataset}: takes no --snr; only mir1k can be mixed at a chosen level")
    return Setup(dataset=dataset, root=root, split=chosen, snr_db=None)


@dataclass(frozen=True)
class Song:
    """A track, mixed.

    Attributes:
        references: The true vocals and accompaniment, ``(source, channel, time)``.
        rate: Their sample rate, Hz.
    """

    references: Waveform
    rate: int

    @property
    def vocals(self) -> Waveform:
        """The true vocals, ``(channel, time)``."""
        return self.references[0]

    @property
    def mixture(self) -> Waveform:
        """The sum of the references, ``(channel, time)``."""
        return self.references.sum(axis=0)

    @property
    def seconds(self) -> float:
        """Length of the song."""
        return float(self.references.shape[-1] / self.rate)


def load(track: Track, setup: Setup) -> Song:
    """Read a track and mix it.

    DSD100 is 44.1 kHz stereo, MIR-1K 16 kHz mono; other songs keep the rate and channels of their vocals. The mixture
    is always the sum of the stems.

    For MIR-1K the accompaniment is first scaled, so that the voice lies `Setup.snr_db` above it over the whole clip.
    Huang et al. do the same ("Singing-voice separation from monaural recordings using deep recurrent neural networks",
    2014): they divide both by their norms, and scores do not depend on that common factor.

    Stems are rounded to 16 bits, as both data sets store them. A stem decoded from a lossy file has no energy in some
    bands, where BSS Eval, museval's included, would fit its filters to rounding errors.

    Raises:
        DatasetError: If a file cannot be read or the lengths differ.
    """
    layout = LAYOUTS[setup.dataset]
    rate, channels = (layout.rate, layout.channels) if layout.rate and layout.channels else _read_format(track)
    stems = track.load(rate, channels)
    vocals, accompaniment = ((stems[stem] * _FULL_SCALE).round() / _FULL_SCALE for stem in ("vocals", "accompaniment"))
    if setup.snr_db is not None:
        voice, had = (np.linalg.norm(stem.astype(np.float64)) for stem in (vocals, accompaniment))
        wanted = voice * 10 ** (-setup.snr_db / 20)
        if wanted > 0 and had > 0:
            accompaniment = accompaniment * float(wanted / had)
    return Song(np.stack([vocals, accompaniment]), rate)


def _read_format(track: Track) -> tuple[int, int]:
    try:
        with audio.Reader(track.vocals[0].path) as reader:
            return reader.rate, reader.channels
    except AudioError as error:
        raise DatasetError(f"track {track.name!r}: {error}") from error
