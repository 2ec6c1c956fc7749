"""What is scored on: the tracks of a data set, mixed as its literature mixes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vocalsep import audio
from vocalsep.datasets.layouts import LAYOUTS, dsd100, mir1k
from vocalsep.datasets.tracks import Listing, Track
from vocalsep.errors import AudioError, ConfigError, DatasetError, describe_unknown
from vocalsep.shapes import Waveform

SPLITS = {
    "dsd100": {"test": "Test", "dev": "Dev"},
    "mir1k": {"test": "test", "train": "train", "drnn": "drnn-test"},
    "stems": {"all": "all"},
}
"""Of each data set the parts that can be scored on, its usual one first, and what the data set calls them."""

_FULL_SCALE = 2.0**15  # of 16 bits
_FORMS = {"dsd100": (dsd100.RATE, 2), "mir1k": (mir1k.RATE, 1)}  # rate and channels; of others the vocals file's own


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Decides all scores, together with what is scored. Made by `set_up`.

    Attributes:
        dataset: A key of `SPLITS`.
        root: Its folder.
        split: One of its parts.
        snr_db: Level of the voice over the accompaniment in the mixture, dB; None for the level that the songs have.
    """

    dataset: str
    root: Path
    split: str
    snr_db: float | None

    def find(self) -> Listing:
        """Lists the tracks.

        Raises:
            DatasetError: If the folder is laid out differently.
        """
        return LAYOUTS[self.dataset](self.root, SPLITS[self.dataset][self.split])


def set_up(dataset: str, root: Path, split: str = "", snr_db: float | None = None) -> Setup:
    """Makes a setup.

    Args:
        dataset: A key of `SPLITS`.
        root: Its folder.
        split: One of its parts, in any case; empty for the usual one.
        snr_db: Level of the voice over the accompaniment, dB: for MIR-1K alone, which is scored at 0 dB otherwise.

    Raises:
        ConfigError: For an unknown data set or part, or a level where there is none to choose.
    """
    if dataset not in SPLITS:
        raise ConfigError(describe_unknown("data set", dataset, SPLITS))
    parts = SPLITS[dataset]
    chosen = split.lower() or next(iter(parts))
    if chosen not in parts:
        raise ConfigError(f"{dataset}: no split {split!r} to score on; expected {' or '.join(parts)}")
    if dataset == "mir1k":
        return Setup(dataset=dataset, root=root, split=chosen, snr_db=0.0 if snr_db is None else snr_db)
    if snr_db is not None:
        raise ConfigError(f"{dataset}: songs are scored at their own level; only mir1k is mixed at a chosen one")
    return Setup(dataset=dataset, root=root, split=chosen, snr_db=None)


@dataclass(frozen=True)
class Song:
    """A track, mixed.

    Attributes:
        references: Vocals and accompaniment, ``(source, channel, time)``.
        rate: Their rate, Hz.
    """

    references: Tensor
    rate: int

    @property
    def vocals(self) -> Waveform:
        """The true vocals, ``(channel, time)``."""
        return self.references[0]

    @property
    def mixture(self) -> Waveform:
        """The sum of the references, ``(channel, time)``."""
        return self.references.sum(dim=0)

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.references.shape[-1] / self.rate


def load(track: Track, setup: Setup) -> Song:
    """Reads and mixes a track.

    DSD100 is 44.1 kHz stereo, MIR-1K 16 kHz mono, and folders of stems have the vocals' rate and channels. The mixture
    is always the sum of the stems. For MIR-1K the accompaniment is first brought to the voice's energy over the
    whole clip, less `Setup.snr_db` (Huang et al., "Singing-voice separation from monaural recordings using deep
    recurrent neural networks", 2014, who divide both by their norms; scores do not depend on that common factor).

    Stems are rounded to 16 bits, which changes nothing in the data sets: they are stored so. Decoded from a lossy
    file they would have nothing at all in some bands, and BSS Eval, museval's too, would fit filters to rounding there.

    Raises:
        DatasetError: If a file cannot be read or the lengths differ.
    """
    rate, channels = _FORMS.get(setup.dataset) or _form(track)
    stems = track.load(rate, channels)
    vocals, accompaniment = ((stems[stem] * _FULL_SCALE).round() / _FULL_SCALE for stem in ("vocals", "accompaniment"))
    if setup.snr_db is not None:
        wanted, had = vocals.double().norm() * 10 ** (-setup.snr_db / 20), accompaniment.double().norm()
        if wanted > 0 and had > 0:
            accompaniment = accompaniment * float(wanted / had)
    return Song(torch.stack([vocals, accompaniment]), rate)


def _form(track: Track) -> tuple[int, int]:
    try:
        with audio.Reader(track.vocals[0].path) as reader:
            return reader.rate, reader.channels
    except AudioError as error:
        raise DatasetError(f"track {track.name!r}: {error}") from error
