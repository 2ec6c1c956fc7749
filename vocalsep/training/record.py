"""Record a run while it trains: ``log.jsonl``, its curves as a picture and, on request, events for TensorBoard."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vocalsep import files, plots
from vocalsep.errors import ConfigError

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
        _truncate(run / LOG, step)
        if (run / LOG).exists():
            for line in (run / LOG).read_text(encoding="utf-8").splitlines():
                self._extend_curves(json.loads(line))
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
        self._log.close()
        if self._board is not None:
            self._board.close()

    def _extend_curves(self, entry: Mapping[str, Any]) -> None:
        for key, value in entry.items():
            if key in ("loss", "lr") or key.startswith("validation"):
                steps, values = self._curves.setdefault(key, (array("d"), array("d")))
                steps.append(entry["step"])
                values.append(value)


def _truncate(log: Path, step: int) -> None:
    """Remove the lines of steps after the checkpoint, and a last line cut short by a crash."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] < step:
                kept.append(line + "\n")
        except (ValueError, KeyError):
            continue
    files.write_text(log, "".join(kept))


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
