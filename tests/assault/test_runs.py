"""Hostile checkpoints and files of runs are refused in a line; a run on a full disk stops in one, and goes on later."""

from __future__ import annotations

import errno
import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from assault import check_clean
from command_line import read_error, run
from states import are_identical
from tiny_recipes import CPU, make_recipe, make_trainer

from vocalsep import files, training
from vocalsep.errors import ConfigError, VocalsepError
from vocalsep.evaluation import runs as evaluation_runs
from vocalsep.training import checkpoints, record, trainer
from vocalsep.training.material import Material
from vocalsep.training.trainer import Trainer

State = dict[str, Any]


@pytest.fixture(autouse=True)
def cache() -> None:
    """Share the session's cache."""


def hurry(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(trainer, "NORM_BATCHES", 2)
    patch.setattr(record.plots, "draw_loss_curves", lambda _, path, **_title: Path(path).touch())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture(scope="module")
def trained(dsd100_root: Path, material: Material) -> Trainer:
    made = make_trainer(material, dsd100_root)
    made.update(made.draw_batch(0))
    return made


@pytest.fixture(scope="module")
def saved(trained: Trainer) -> bytes:
    return save(trained.state_dict())


class Evil:
    """Runs a command if it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/owned-by-a-checkpoint",)


def save(state: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(state, file, **options)
    return file.getvalue()


def pack(content: bytes, compression: int = zipfile.ZIP_STORED, **changed: bytes) -> bytes:
    """Write the zip file of a checkpoint again, with some entries changed."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(file, "w", compression) as after:
        for entry in before.infolist():
            name = entry.filename.partition("/")[2].replace("/", "_").replace(".", "_")
            after.writestr(entry.filename, changed.get(name, before.read(entry)))
    return file.getvalue()


def edit(*path: Any, value: Any) -> Callable[[State], bytes]:
    def change(state: State) -> bytes:
        table = state
        for key in path[:-1]:
            table[key] = table[key].copy()
            table = table[key]
        table[path[-1]] = value
        return save(state)

    return change


def edit_moments(change: Callable[[State], object]) -> Callable[[State], bytes]:
    def apply(state: State) -> bytes:
        change(state["optimiser"]["state"][0])
        return save(state)

    return apply


def spoil(tensor: torch.Tensor) -> torch.Tensor:
    return torch.full_like(tensor, torch.nan) if tensor.is_floating_point() else tensor


def drop(key: str) -> Callable[[State], bytes]:
    return lambda state: save({name: value for name, value in state.items() if name != key})


BYTEARRAY = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\0\0\0\0\x7f\x85R."  # of 545 GB
HOSTILE: dict[str, Callable[[State], bytes]] = {
    "empty": lambda _: b"",
    "random bytes": lambda _: os.urandom(10_000),
    "truncated": lambda state: save(state)[:-1_000],
    "half": lambda state: save(state)[: len(save(state)) // 2],
    "text": lambda _: b"not a checkpoint\n",
    "pickle": lambda _: pickle.dumps({"step": 3}),
    "evil pickle": lambda _: pickle.dumps(Evil()),
    "evil state": lambda state: save({**state, "more": Evil()}),
    "old format": lambda state: save(state, _use_new_zipfile_serialization=False),
    "compressed": lambda state: pack(save(state), zipfile.ZIP_DEFLATED),
    "no pickle": lambda state: pack(save(state), data_pkl=b""),
    "nested pickle": lambda state: pack(save(state), data_pkl=b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b"."),
    "huge bytearray": lambda state: pack(
        save(state), data_pkl=b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\0\0\0\0\x7f\x85R."
    ),
    "nothing": lambda _: save({}),
    "list": lambda _: save([1, 2]),
    "number": lambda _: save(3),
    "other net": edit("net", value={}),
    "net as list": edit("net", value=[]),
    "net of numbers": lambda state: save({**state, "net": dict.fromkeys(state["net"], 1)}),
    "wrong shape": lambda state: save({**state, "net": {key: torch.zeros(3) for key in state["net"]}}),
    "wrong type": lambda state: save({**state, "net": {key: value.double() for key, value in state["net"].items()}}),
    "not a number": lambda state: save({**state, "mean": {key: spoil(value) for key, value in state["mean"].items()}}),
    "no step": drop("step"),
    "no mean": drop("mean"),
    "no history": drop("standing"),
    "step below 0": edit("step", value=-1),
    "step as text": edit("step", value="3"),
    "step as float": edit("step", value=1.5),
    "step as truth": edit("step", value=True),
    "huge step": edit("step", value=2**80),
    "seconds below 0": edit("seconds", value=-1.0),
    "seconds not a number": edit("seconds", value=float("nan")),
    "endless seconds": edit("validated", value=float("inf")),
    "history as list": edit("standing", value=[]),
    "best not a number": edit("standing", "best", value=float("nan")),
    "stale below 0": edit("standing", "stale", value=-3),
    "factor above 1": edit("standing", "factor", value=5.0),
    "more in history": edit("standing", "more", value=1),
    "optimiser as list": edit("optimiser", value=[]),
    "no groups": edit("optimiser", "param_groups", value=[]),
    "other parameters": edit("optimiser", "param_groups", value=[{"params": [0]}, {"params": [7]}]),
    "moments as list": edit("optimiser", "state", value=[]),
    "moments of nobody": edit("optimiser", "state", value={999: {}}),
    "moment missing": edit_moments(lambda moments: moments.pop("exp_avg")),
    "moment of another shape": edit_moments(lambda moments: moments.update(exp_avg=torch.zeros(1))),
    "moment as number": edit_moments(lambda moments: moments.update(exp_avg=1.0)),
    "squares below 0": edit_moments(lambda moments: moments["exp_avg_sq"].sub_(1)),
    "steps below 0": edit_moments(lambda moments: moments["step"].sub_(9)),
    "scaler of fp16": edit("scaler", value={"scale": 1.0}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_checkpoint_is_refused_in_one_line(case: str, trained: Trainer, saved: bytes, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    state = torch.load(io.BytesIO(saved), weights_only=True)  # a copy
    path.write_bytes(HOSTILE[case](state))
    with pytest.raises(ConfigError) as caught:
        checkpoints.read(path, trained)
    message = str(caught.value)
    assert message.startswith(f"{path}: training cannot resume from this checkpoint: ")
    check_clean(message)
    assert not Path("/tmp/owned-by-a-checkpoint").exists()


def test_a_checkpoint_with_any_flipped_bit_is_refused(trained: Trainer, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoints.write(path, trained)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = next(entry for entry in archive.infolist() if entry.filename.endswith("/data/0"))
    content[entry.header_offset + 200] ^= 4
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"checksums|damaged"):
        checkpoints.read(path, trained)


def test_a_checkpoint_that_claims_more_than_it_holds_is_refused(trained: Trainer, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    content = save(trained.state_dict())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = len(archive.read("archive/data/0"))
    path.write_bytes(pack(content, data_0=bytes(size // 2)))
    with pytest.raises(ConfigError, match="states a larger size"):
        checkpoints.read(path, trained)


def test_a_whole_checkpoint_is_read_and_the_recipe_decides_the_options(trained: Trainer, tmp_path: Path) -> None:
    path, state = tmp_path / "checkpoint.pt", trained.state_dict()
    state["optimiser"]["param_groups"][0]["betas"] = "nonsense"
    path.write_bytes(save(state))
    found = checkpoints.read(path, trained)
    assert found["optimiser"]["param_groups"][0]["betas"] == (0.9, 0.999)
    assert are_identical(found["net"], trained.net.state_dict())


DEEP = b"[" * 10**5
FILES = {
    "tracks.json": (b"[]", b"3", b"{", b"\xff", b'{"training": 3}', b'{"training": [1]}', b'{"before": []}', DEEP),
    "log.jsonl": (
        *(b"[1]\n", b"\xff\xfe\n", b"{}\n", b'{"step": "0"}\n', b'{"step": -1}\n', DEEP + b"\n"),
        *(b'{"step": 0, "loss": "x"}\n', b'{"step": 0, "loss": {}}\n'),
    ),
    "recipe.toml": (b"", b"\xff", b"net = 3\n", b"x = [" * 3_000, b'net = "unet"\ntraining = 3\n'),
}


@pytest.fixture(scope="module")
def finished(dsd100_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two steps. Do not change it."""
    run = tmp_path_factory.mktemp("runs") / "finished"
    with pytest.MonkeyPatch.context() as patch:
        hurry(patch)
        training.fit(make_recipe(dsd100_root, steps=2), run, device=CPU)
    return run


CASES = [(name, each) for name, found in FILES.items() for each in found]


@pytest.mark.parametrize(("name", "content"), CASES, ids=range(len(CASES)))
def test_hostile_files_of_a_run_are_refused_in_one_line(
    name: str, content: bytes, finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / name).write_bytes(content)
    if name == "log.jsonl":  # read only where steps are left
        with pytest.raises(ConfigError) as caught:
            record.read_log(folder / name)
        message = str(caught.value)
    else:
        message = read_error(run("train", "--resume", folder, "--progress", "none"))
    assert message
    check_clean(message)
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize("content", ["[]", "3", "{", "[" * 10**5])
def test_a_hostile_setup_of_scores_is_refused(content: str, tmp_path: Path, stems_root: Path) -> None:
    (tmp_path / "setup.json").write_text(content)
    message = read_error(
        run("eval", "--dataset", "stems", "--root", stems_root, "--out", tmp_path, "--jobs", "1", "-q")
    )
    assert "not the setup of a run" in message


def test_a_hostile_line_of_scores_is_refused(tmp_path: Path) -> None:
    for line in ("[1]", "[" * 10**5, '{"fingerprint": 1}', "3", '{"row": [], "track": {}}'):
        (tmp_path / "tracks.jsonl").write_text(line + "\n")
        with pytest.raises(ConfigError, match="line 1 is not a line of scores"):
            evaluation_runs._read_lines(tmp_path / "tracks.jsonl")


@pytest.fixture(scope="module")
def losses(dsd100_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of a run of three steps that nothing disturbs."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        hurry(patch)
        training.fit(make_recipe(dsd100_root, steps=3), folder, device=CPU)
    return read_losses(folder)


def read_losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in record.read_log(folder / "log.jsonl")]


@pytest.mark.parametrize(
    "failing", ["log", "checkpoint", *(pytest.param(name, marks=pytest.mark.slow) for name in ("weights", "curves"))]
)
def test_a_full_disk_stops_a_run_in_one_line_and_it_goes_on_when_there_is_space(
    failing: str, losses: list[float], dsd100_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, folder = make_recipe(dsd100_root, steps=3), tmp_path / "run"
    calls = 0

    def fail_at_the_second_call(action: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return action(*arguments, **options)

        return call

    place, name = {
        "log": (record.Record, "flush"),
        "checkpoint": (checkpoints, "write"),
        "weights": (training.loop.weights, "save"),
        "curves": (record.plots, "draw_loss_curves"),
    }[failing]
    with monkeypatch.context() as patch:
        patch.setattr(place, name, fail_at_the_second_call(getattr(place, name)))
        with pytest.raises(VocalsepError) as caught:
            training.fit(recipe, folder, device=CPU)
    assert "No space left on device; the training has stopped. Make space, then " in str(caught.value)
    assert not list(folder.glob("*.part"))
    resumes = (folder / "checkpoint.pt").exists()
    assert f"continue with: vocalsep train --resume {folder}" in str(caught.value) or not resumes
    training.fit(recipe, folder, device=CPU, resume=resumes)
    assert read_losses(folder) == losses


def test_files_are_parsed_within_limits() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        files.parse_json("[" * 10**5)
