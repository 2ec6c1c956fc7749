"""What must not pass for vocals without a word: no numbers, the song itself, next to nothing."""

from __future__ import annotations

import math

import torch

from vocalsep.errors import ModelError
from vocalsep.shapes import Waveform

_SAME_DB = -100.0  # an accompaniment so far below the mixture is rounding
_FAINT_DB = -50.0


class OutputCheck:
    """Looks at what a model makes of a song, piece by piece.

    Args:
        model: Name of the model.
        song: Name of the song.
    """

    def __init__(self, model: str, song: str) -> None:
        self._model, self._song = model, song
        self._mixture = self._vocals = self._accompaniment = 0.0  # energies

    def push(self, vocals: Waveform, accompaniment: Waveform, *, broken: bool) -> None:
        """Takes the next piece, before it is used.

        Args:
            vocals: ``(channel, time)``.
            accompaniment: Likewise.
            broken: Whether the net has answered with something that is no number.

        Raises:
            ModelError: If it has.
        """
        if broken:
            said = "its net answers with something that is no number"
            raise ModelError(f"model {self._model!r}: {said}, for {self._song}; the weights are broken: choose another")
        self._mixture += _energy(vocals + accompaniment)
        self._vocals += _energy(vocals)
        self._accompaniment += _energy(accompaniment)

    def finish(self) -> None:
        """Ends the song.

        Raises:
            ModelError: If the vocals are the song itself. (Silence is its own vocals.)
        """
        level = _level_db(self._accompaniment, self._mixture)
        if self._mixture and (level is None or level < _SAME_DB):
            raise ModelError(f"model {self._model!r}: gives {self._song} back as it is; choose another model")

    @property
    def vocals_db(self) -> float | None:
        """Level of the vocals against the mixture, dB; None where either is silent."""
        return _level_db(self._vocals, self._mixture)

    @property
    def warning(self) -> str:
        """Says that there are hardly any vocals, if so."""
        if not self._mixture:
            return f"{self._song}: is silent, and so are the vocals"
        if self.vocals_db is None:
            return f"{self._song}: no voice was found; the vocals are silent"
        if self.vocals_db < _FAINT_DB:
            return f"{self._song}: hardly any voice was found; the vocals are {-self.vocals_db:.0f} dB below the song"
        return ""


def _energy(samples: Waveform) -> float:
    return float(torch.linalg.vector_norm(samples, dtype=torch.float64)) ** 2


def _level_db(part: float, whole: float) -> float | None:
    return 10 * math.log10(part / whole) if part and whole else None
