"""Checks on a model's output: NaN and unchanged songs are errors; hardly any vocals cause a warning."""

from __future__ import annotations

import math

import numpy as np

from vocalsep.errors import ModelError
from vocalsep.shapes import Waveform

_UNCHANGED_DB = -100.0  # an accompaniment this far below the mixture is only rounding error
_RUN = 1024  # samples whose squares are added in float32
_LEAST = 1e-20  # a smaller energy may have lost squares that float32 cannot hold
_FAINT_DB = -50.0  # vocals this far below the mixture count as hardly any


class OutputCheck:
    """Checks the vocals and accompaniment of one song as they arrive.

    Args:
        model: Name of the model, for messages.
        song: Name of the song, for messages.
    """

    def __init__(self, model: str, song: str) -> None:
        self._model, self._song = model, song
        self._mixture = self._vocals = self._accompaniment = 0.0  # energies

    def push(self, vocals: Waveform, accompaniment: Waveform, *, invalid: bool) -> None:
        """Check the next part of the song. Call it before the part is used.

        Args:
            vocals: ``(channel, time)``.
            accompaniment: ``(channel, time)``.
            invalid: Whether the net has returned NaN or infinity; see `StreamingSeparator.has_invalid_output`.

        Raises:
            ModelError: If `invalid` is true.
        """
        if invalid:
            raise ModelError(
                f"model {self._model!r}: its net returned NaN or infinity for {self._song}; "
                "the weights are broken: choose another model"
            )
        self._mixture += _compute_energy(vocals + accompaniment)
        self._vocals += _compute_energy(vocals)
        self._accompaniment += _compute_energy(accompaniment)

    def finish(self) -> None:
        """Check the song as a whole.

        Raises:
            ModelError: If the vocals equal the song, unless it is silent.
        """
        level = _compute_level_db(self._accompaniment, self._mixture)
        if self._mixture and (level is None or level < _UNCHANGED_DB):
            raise ModelError(f"model {self._model!r}: returns {self._song} unchanged; choose another model")

    @property
    def vocals_db(self) -> float | None:
        """Level of the vocals relative to the mixture in dB, or None if either is silent."""
        return _compute_level_db(self._vocals, self._mixture)

    @property
    def warning(self) -> str:
        """A warning if the song is silent or has hardly any vocals, else an empty string."""
        if not self._mixture:
            return f"{self._song}: the recording is silent, and so are the vocals"
        if self.vocals_db is None:
            return f"{self._song}: no voice was found; the vocals are silent"
        if self.vocals_db < _FAINT_DB:
            return f"{self._song}: hardly any voice was found; the vocals are {-self.vocals_db:.0f} dB below the song"
        return ""


def _compute_energy(samples: Waveform) -> float:
    """Return the sum of squares: in float32 over short runs of samples if it fits, which is five times as fast."""
    whole = samples.shape[-1] // _RUN * _RUN
    runs = samples[:, :whole].reshape(len(samples), -1, _RUN)
    with np.errstate(over="ignore"):
        energy = float(np.sum(np.vecdot(runs, runs), dtype=np.float64))
    if not _LEAST < energy < math.inf:
        whole, energy = 0, 0.0
    rest = samples[:, whole:]
    return energy + float(np.einsum("ct,ct->", rest, rest, dtype=np.float64))


def _compute_level_db(part: float, whole: float) -> float | None:
    return 10 * math.log10(part / whole) if part and whole else None
