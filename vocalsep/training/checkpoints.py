"""Write and read checkpoints: the whole state of a trainer, as one file of torch's.

A checkpoint may come from elsewhere, or be damaged. So it is checked against the state of a fresh trainer of the same
recipe before torch reads it. A checkpoint is a zip file: a pickle, which describes the state, and the bytes of each
tensor. The pickle is first read with stubs in place of tensors. Nothing else may be in it, so nothing of it is run, and
no memory is taken for sizes that it merely claims.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vocalsep import files
from vocalsep.errors import ConfigError, describe_error

if TYPE_CHECKING:
    from vocalsep.training.trainer import Trainer

_MAX_DESCRIPTION = 2**24  # bytes of the pickle; nets have some hundred tensors
_MAX_ENTRIES = 100_000
_KINDS = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}
_MOMENTS = {"adamw": {"exp_avg", "exp_avg_sq"}, "rmsprop": {"square_avg"}, "muon": {"momentum"}}
_SQUARES = ("exp_avg_sq", "square_avg")


class _Damaged(Exception):  # noqa: N818 - not an error of its own; `read` makes one of it
    """Why a checkpoint is refused: the rest of a sentence that begins with "it"."""


@dataclass(frozen=True)
class _Stub:
    """Stands for a tensor that is not read yet."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class _Storage:
    """Stands for the bytes of one or several tensors."""

    dtype: torch.dtype
    count: int


def write(path: Path, trainer: Trainer) -> None:
    """Write a checkpoint. The file appears complete or not at all.

    Raises:
        OSError: If it cannot be written.
    """
    with files.write_atomically(path) as temporary, temporary.open("wb") as file:
        torch.save(trainer.state_dict(), file)  # given a path, it would not say why it fails


def read(path: Path, trainer: Trainer) -> dict[str, Any]:
    """Read a checkpoint for a trainer. It is loaded only if it fits.

    Args:
        path: The checkpoint.
        trainer: A fresh trainer of the same recipe.

    Returns:
        The state, for `Trainer.load_state_dict`.

    Raises:
        ConfigError: If it cannot be read, is damaged, holds anything but a state, or that of another recipe.
    """
    like = trainer.state_dict()
    try:
        _check(_read_description(path), like, trainer)
        state: dict[str, Any] = torch.load(path, map_location=trainer.team.device, weights_only=True)
        _check_values(state)
    except _Damaged as reason:
        remedy = "start a new run, with training.init set to the run's weights"
        raise ConfigError(f"{path}: training cannot resume from this checkpoint: it {reason}; {remedy}") from reason
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise ConfigError(f"{path}: cannot be read ({describe_error(error)})") from error
    state["optimiser"]["param_groups"] = like["optimiser"]["param_groups"]  # the recipe decides, not the file
    return state


def _read_description(path: Path) -> Any:
    """Read the state with stubs for its tensors."""
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = _check_archive(archive, path.stat().st_size)
            (name,) = (name for name in sizes if name.endswith("/data.pkl"))
            if sizes[name] > _MAX_DESCRIPTION:
                raise _Damaged("is far larger than that of any net")
            records = {key.partition("/data/")[2]: size for key, size in sizes.items() if "/data/" in key}
            return _Reader(archive.read(name), records).load()
    except _Damaged:
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise _Damaged("is damaged") from error
    except zipfile.BadZipFile as error:
        raise _Damaged("is empty" if not path.stat().st_size else "is damaged, or not a checkpoint") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise _Damaged("is damaged, or not a checkpoint") from error


def _check_archive(archive: zipfile.ZipFile, size: int) -> dict[str, int]:
    """Check that a zip file takes no more memory than it has bytes, and that its checksums fit. Return its sizes."""
    entries = archive.infolist()
    if len(entries) > _MAX_ENTRIES or sum(entry.file_size for entry in entries) > size:
        raise _Damaged("states a larger size than it has")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise _Damaged("is compressed, which checkpoints are not")
    if archive.testzip() is not None:
        raise _Damaged("is damaged: its checksums do not match")
    return {entry.filename: entry.file_size for entry in entries}


class _Reader(pickle.Unpickler):
    """Reads the pickle of a checkpoint. Classes and functions other than those of tensors are refused."""

    def __init__(self, content: bytes, records: Mapping[str, int]) -> None:
        super().__init__(io.BytesIO(content))
        self._records = records

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _make_stub
        if module == "torch" and name in _KINDS:
            return _KINDS[name]
        raise _Damaged(f"asks for {module}.{name}, which no checkpoint needs")

    def persistent_load(self, pid: Any) -> Any:
        what, dtype, key, _, count = pid
        if what != "storage" or self._records.get(key) != count * dtype.itemsize:
            raise _Damaged("states a larger size than it has")
        return _Storage(dtype, count)


def _make_stub(storage: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> _Stub:
    numbers = (offset, *shape, *strides)
    if not all(type(number) is int and number >= 0 for number in numbers) or len(shape) != len(strides):
        raise _Damaged("has a tensor of impossible shape")
    end = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) + 1
    if 0 not in shape and end > storage.count:
        raise _Damaged("has a tensor with fewer numbers than it states")
    return _Stub(tuple(shape), storage.dtype)


def _check(state: Any, like: Mapping[str, Any], trainer: Trainer) -> None:
    """Check a state with stubs against that of a fresh trainer."""
    missing = like.keys() - {"validation_seconds"} - (state.keys() if isinstance(state, dict) else set())
    if missing:
        raise _Damaged(f"has no {sorted(missing)[0]}")
    for part in ("net", "mean"):
        _check_tensors(state[part], like[part], part)
    _check_optimiser(state["optimiser"], trainer)
    scaler = state["scaler"]
    if not isinstance(scaler, dict) or scaler.keys() != like["scaler"].keys():
        raise _Damaged("was made with another precision")
    if not all(_is_number(value) for value in scaler.values()):
        raise _Damaged("has a scale that is not a number")
    _check_counters(state)


def _check_tensors(found: Any, like: Mapping[str, Tensor], part: str) -> None:
    if not isinstance(found, dict) or not all(isinstance(value, _Stub) for value in found.values()):
        raise _Damaged(f"has a {part} that is not a table of tensors")
    expected = {key: _Stub(tuple(tensor.shape), tensor.dtype) for key, tensor in like.items()}
    if found != expected:
        raise _Damaged("belongs to another net or to other options")


def _check_optimiser(found: Any, trainer: Trainer) -> None:
    like = trainer.optimiser.state_dict()
    if not isinstance(found, dict) or found.keys() != like.keys() or not isinstance(found["state"], dict):
        raise _Damaged("has a damaged optimiser")
    given, groups = found["param_groups"], like["param_groups"]
    if not isinstance(given, list) or not all(isinstance(group, dict) for group in given):
        raise _Damaged("has an optimiser without groups")
    if [group.get("params") for group in given] != [group["params"] for group in groups]:
        raise _Damaged("has an optimiser for other parameters")
    kind = "rmsprop" if trainer.recipe.training.optimiser == "rmsprop" else "adamw"
    moments = {
        number: _MOMENTS["muon" if group.get("muon") else kind] for group in groups for number in group["params"]
    }
    parameters = [each for group in trainer.optimiser.param_groups for each in group["params"]]
    shapes = dict(zip(moments, (tuple(parameter.shape) for parameter in parameters), strict=True))
    for number, entry in found["state"].items():
        if number not in moments or not isinstance(entry, dict) or entry.keys() != moments[number] | {"step"}:
            raise _Damaged("has the moments of another optimiser")
        for key, value in entry.items():
            if not isinstance(value, _Stub) or value.shape != (() if key == "step" else shapes[number]):
                raise _Damaged("has an optimiser for other parameters")


def _check_counters(state: Mapping[str, Any]) -> None:
    standing = state["standing"]
    if not isinstance(standing, dict) or standing.keys() != {"best", "stale", "factor"}:
        raise _Damaged("has no history of validations")
    rules: dict[str, Callable[[Any], bool]] = {
        "step": lambda value: type(value) is int and 0 <= value < 2**40,
        **dict.fromkeys(("seconds", "waited", "validated", "validation_seconds"), _is_number),
        "stale": lambda value: type(value) is int and value >= 0,
        "factor": lambda value: _is_number(value) and value <= 1,
        "best": lambda value: type(value) in (int, float) and not math.isnan(value),
    }
    for key, is_valid in rules.items():
        value = {"validation_seconds": 0.0, **state, **standing}[key]
        if not is_valid(value):
            raise _Damaged(f"says {key} = {str(value)[:20]}, which is impossible")


def _is_number(value: Any) -> bool:
    """Return whether a value is a number that is finite and not negative."""
    return type(value) in (int, float) and 0 <= value < math.inf


def _check_values(state: Mapping[str, Any]) -> None:
    """Check the numbers in tensors, which a stub does not have."""
    moments = state["optimiser"]["state"].values()
    for table in (state["net"], state["mean"], *moments):
        for key, tensor in table.items():
            if not torch.isfinite(tensor).all():
                raise _Damaged("holds NaN or infinity")
            if (key in _SQUARES or (key == "step" and tensor.ndim == 0)) and tensor.numel() and tensor.min() < 0:
                raise _Damaged(f"has a negative {key}")
