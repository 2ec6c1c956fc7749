"""Record a run while it trains: ``log.jsonl``, its curves as a picture and, on request, events for TensorBoard."""

from __future__ import annotations

import contextlib
import json
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vocalsep import files, plots
from vocalsep.errors import ConfigError, describe_error

LOG, CURVES, BOARD = "log.jsonl", "curves.png", "tensorboard"


class Record:
    """The log of a run, one JSON object per step, and the curves drawn from it.

    Args:
        run: Folder of the run.
        step: Steps done so far. Log lines of later steps are removed.
        tensorboard: Whether to write events for TensorBoard too.

    Raises:
        ConfigError: If `tensorboard` is on but TensorBoard is not installed.
    """

    def __init__(self, run: Path, step: int, *, tensorboard: bool = False) -> None:
        self._run = run
        self._curves: dict[str, tuple[array[float], array[float]]] = {}
        for entry in _truncate(run / LOG, step):
            self._extend_curves(entry)
        self._board = require_tensorboard()(str(run / BOARD), purge_step=step) if tensorboard else None
        self._log = (run / LOG).open("a", encoding="utf-8")

    def add(self, entry: Mapping[str, Any]) -> None:
        """Log a step. `entry` has its number as ``step``, and other numbers by name."""
        self._log.write(json.dumps(entry) + "\n")
        self._extend_curves(entry)
        if self._board is not None:
            for key, value in entry.items():
                if key != "step":
                    self._board.add_scalar(key, value, entry["step"])

    def draw_curves(self) -> None:
        """Draw the curves so far, and flush the log."""
        self.flush()
        with files.write_atomically(self._run / CURVES) as temporary:
            plots.draw_loss_curves(self._curves, temporary, title=f"Training of {self._run.resolve().name}")

    def flush(self) -> None:
        """Write the log to the disk."""
        self._log.flush()

    def close(self) -> None:
        """Close the log and the event files."""
        with contextlib.suppress(OSError):  # of a full disk; what is in it by now has been flushed
            self._log.close()
        if self._board is not None:
            self._board.close()

    def _extend_curves(self, entry: Mapping[str, Any]) -> None:
        for key, value in entry.items():
            if key in ("loss", "lr") or key.startswith("validation"):
                steps, values = self._curves.setdefault(key, (array("d"), array("d")))
                steps.append(entry["step"])
                values.append(value)


def read_log(log: Path) -> list[dict[str, Any]]:
    """Read the log of a run. A last line that a crash or a full disk cut short is left out.

    Raises:
        ConfigError: If the log cannot be read, or a line is not a step.
    """
    try:
        lines = log.read_bytes().split(b"\n") if log.exists() else []
    except OSError as error:
        raise ConfigError(f"{log}: cannot be read ({describe_error(error)})") from error
    entries = []
    for number, line in enumerate(lines[:-1], start=1):
        entry = _parse_entry(line)
        if entry is None:
            raise ConfigError(f"{log}: line {number} is not a step of the run; repair it, or remove the file")
        entries.append(entry)
    last = _parse_entry(lines[-1]) if lines else None
    return entries + ([last] if last else [])


def _parse_entry(line: bytes) -> dict[str, Any] | None:
    """Return a step: its number, and other numbers by name. Return None if a line is anything else."""
    try:
        entry = files.parse_json(line.decode("utf-8"))
    except ValueError:
        return None
    if not isinstance(entry, dict) or type(entry.get("step")) is not int or entry["step"] < 0:
        return None
    return entry if all(type(value) in (int, float) for value in entry.values()) else None


def _truncate(log: Path, step: int) -> list[dict[str, Any]]:
    """Remove the lines of steps after the checkpoint. Return those that stay."""
    kept = [entry for entry in read_log(log) if entry["step"] < step]
    if log.exists():
        files.write_text(log, "".join(json.dumps(entry) + "\n" for entry in kept))
    return kept


def require_tensorboard() -> Any:
    """Return torch's class that writes events for TensorBoard.

    Raises:
        ConfigError: If TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "training.tensorboard needs TensorBoard: run pip install tensorboard, or set training.tensorboard=false"
        ) from error
    return SummaryWriter
