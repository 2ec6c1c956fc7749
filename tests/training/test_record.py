from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from vocalsep.errors import ConfigError
from vocalsep.training.record import Record


def make_entry(step: int, **more: float) -> dict[str, Any]:
    return {"step": step, "loss": 1 / (1 + step), "lr": 0.1, **more}


def read_log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def test_each_step_is_one_line(tmp_path: Path) -> None:
    with closing(Record(tmp_path, 0)) as record:
        record.add(make_entry(0))
        record.add(make_entry(1, validation_loss=0.5))
    assert read_log(tmp_path) == [make_entry(0), make_entry(1, validation_loss=0.5)]


def test_a_resumed_run_has_the_same_log_and_curves_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole" / "run", tmp_path / "parts" / "run"  # the title of the curves names the run
    for run, breaks in ((whole, ()), (parts, (3, 5))):
        run.mkdir(parents=True)
        record = Record(run, 0)
        for step in range(8):
            if step in breaks:  # steps after the checkpoint are lost
                record.add(make_entry(step, validation_loss=7.0))
                record.close()
                record = Record(run, step)
            record.add(make_entry(step))
        record.draw_curves()
        record.close()
    assert read_log(parts) == read_log(whole)
    assert (parts / "curves.png").read_bytes() == (whole / "curves.png").read_bytes()


def test_drawing_curves_flushes_the_log(tmp_path: Path) -> None:
    with closing(Record(tmp_path, 0)) as record:
        record.add(make_entry(0))
        record.draw_curves()
        assert read_log(tmp_path) == [make_entry(0)]
        assert not list(tmp_path.glob("*.part"))


def test_events_are_written_for_tensorboard_on_request(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with closing(Record(tmp_path, 0, tensorboard=True)) as record:
        record.add(make_entry(0))
        record.add(make_entry(1, validation_snr_db=3.0))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [0, 1]
    assert [(event.step, event.value) for event in events.Scalars("validation_snr_db")] == [(1, 3.0)]


def test_a_missing_tensorboard_is_an_error_only_if_it_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match="pip install tensorboard"):
        Record(tmp_path, 0, tensorboard=True)
    with closing(Record(tmp_path, 0)) as record:
        record.add(make_entry(0))
    assert not (tmp_path / "tensorboard").exists()
