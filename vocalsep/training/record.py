"""What a run tells while it goes: ``log.jsonl``, the curves of it as a picture, and TensorBoard if that is wanted."""

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
    """The log of a run, one JSON object to a step, and what is made of it.

    Args:
        run: The run's folder.
        step: Steps done: what was logged of later ones is taken back.
        tensorboard: Whether to write for TensorBoard, too.

    Raises:
        ConfigError: If TensorBoard is wanted and not installed.
    """

    def __init__(self, run: Path, step: int, *, tensorboard: bool = False) -> None:
        self._run = run
        self._curves: dict[str, tuple[array[float], array[float]]] = {}
        _trim(run / LOG, step)
        if (run / LOG).exists():
            for line in (run / LOG).read_text(encoding="utf-8").splitlines():
                self._remember(json.loads(line))
        self._board = require_tensorboard()(str(run / BOARD), purge_step=step) if tensorboard else None
        self._log = (run / LOG).open("a", encoding="utf-8")

    def add(self, entry: Mapping[str, Any]) -> None:
        """Logs a step: ``step`` and numbers by name."""
        self._log.write(json.dumps(entry) + "\n")
        self._remember(entry)
        if self._board is not None:
            for key, value in entry.items():
                if key != "step":
                    self._board.add_scalar(key, value, entry["step"])

    def draw(self) -> None:
        """Draws the curves so far, and brings the log to the disk."""
        self.flush()
        with files.write_atomically(self._run / CURVES) as temporary:
            plots.loss_curves(self._curves, temporary)

    def flush(self) -> None:
        """Brings the log to the disk."""
        self._log.flush()

    def close(self) -> None:
        """Ends the record."""
        self._log.close()
        if self._board is not None:
            self._board.close()

    def _remember(self, entry: Mapping[str, Any]) -> None:
        for key, value in entry.items():
            if key in ("loss", "lr") or key.startswith("validation"):
                steps, values = self._curves.setdefault(key, (array("d"), array("d")))
                steps.append(entry["step"])
                values.append(value)


def _trim(log: Path, step: int) -> None:
    """Takes back what was logged after the checkpoint, and a last line that a crash has torn."""
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
    """Torch's writer of events.

    Raises:
        ConfigError: If TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError("training.tensorboard: not installed; pip install tensorboard, or switch it off") from error
    return SummaryWriter
