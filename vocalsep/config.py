"""Settings: frozen dataclasses, read from TOML, changed by dotted overrides and written back to TOML.

An unknown setting is an error that suggests the nearest known one. A value of the wrong type is an error that names the
expected type. Defaults are written in the dataclasses and nowhere else.
"""

from __future__ import annotations

import dataclasses
import sys
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from vocalsep.errors import ConfigError, describe_error, describe_unknown, describe_value

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build a settings dataclass from plain values.

    Args:
        cls: A dataclass. Its fields may be bool, int, float, str, Literal, tuples, lists and dictionaries of these,
            other such dataclasses, or a union of such dataclasses that each have a different
            ``kind: Literal["..."] = "..."``.
        values: One entry per field. Missing fields keep their defaults.
        where: Dotted name of this table, for messages.

    Raises:
        ConfigError: For an unknown or missing key, a wrong type, or a value that the class itself rejects.
    """
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    converted = {}
    for key, value in values.items():
        name = f"{where}.{key}" if where else key
        if key not in fields:
            raise ConfigError(describe_unknown("setting", name, [f"{where}.{f}" if where else f for f in fields]))
        converted[key] = _convert(hints[key], value, name)
    missing = [
        name
        for name, field in fields.items()
        if name not in converted
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"setting {f'{where}.' if where else ''}{missing[0]} is missing")
    return cls(**converted)


def _convert(hint: Any, value: Any, name: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, Mapping):
            return build(hint, value, name)
    elif origin is typing.Literal:
        if value in arguments:
            return value
        raise ConfigError(f"{name} = {describe_value(value)}: expected one of {', '.join(map(repr, arguments))}")
    elif origin is tuple:
        if isinstance(value, list | tuple) and (arguments[-1] is Ellipsis or len(value) == len(arguments)):
            kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
            return tuple(
                _convert(kind, entry, f"{name}[{i}]") for i, (kind, entry) in enumerate(zip(kinds, value, strict=True))
            )
    elif origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _convert(
            _choose_member([kind for kind in arguments if kind is not type(None)], value, name), value, name
        )
    elif origin is list:
        if isinstance(value, list):
            return [_convert(arguments[0], entry, f"{name}[{i}]") for i, entry in enumerate(value)]
    elif origin is dict:
        if isinstance(value, Mapping):
            kind = arguments[1]
            return {k: each if kind is Any else _convert(kind, each, f"{name}.{k}") for k, each in value.items()}
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if abs(value) <= sys.float_info.max:
            return float(value)
        raise ConfigError(f"{name} = {describe_value(value)}: expected a finite number")
    elif isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    expected = hint.__name__ if isinstance(hint, type) else str(hint)
    raise ConfigError(f"{name} = {describe_value(value)}: expected {expected}")


def _choose_member(members: list[Any], value: Any, name: str) -> Any:
    """Return the union's member whose `kind` the value names, or the first member if it names none."""
    if len(members) == 1 or not isinstance(value, Mapping):
        return members[0]
    kinds = {typing.get_args(typing.get_type_hints(member)["kind"])[0]: member for member in members}
    wanted = value.get("kind", next(iter(kinds)))
    if not isinstance(wanted, str) or wanted not in kinds:
        raise ConfigError(
            describe_unknown(f"{name}.kind", wanted if isinstance(wanted, str) else describe_value(wanted), kinds)
        )
    return kinds[wanted]


def to_dict(settings: Any) -> dict[str, Any]:
    """Turn a settings dataclass into plain values for TOML and JSON. Tuples become lists; None is left out."""
    return {
        field.name: _to_plain(getattr(settings, field.name))
        for field in dataclasses.fields(settings)
        if field.init and getattr(settings, field.name) is not None
    }


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {key: _to_plain(entry) for key, entry in value.items() if entry is not None}
    return [_to_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: If the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read this TOML file ({describe_error(error)})") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not a valid TOML file ({describe_error(error)})") from error


def dump_toml(values: Mapping[str, Any]) -> str:
    """Format plain values as TOML."""
    return tomli_w.dumps(values)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay nested plain values over others, table by table. Other values, and lists, replace those below."""
    merged = dict(below)
    for key, value in above.items():
        other = below.get(key)
        merged[key] = merge(other, value) if isinstance(value, Mapping) and isinstance(other, Mapping) else value
    return merged


def override(values: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """Apply ``a.b=value`` overrides. The value is parsed as TOML; a value that is not TOML is a plain string.

    Args:
        values: Nested plain values. They are not changed.
        settings: Overrides in order. A later one wins.

    Returns:
        The values with all overrides applied.

    Raises:
        ConfigError: For an override without a key or ``=``, or one whose path leads through a plain value.
    """
    merged: dict[str, Any] = {key: _copy(value) for key, value in values.items()}
    for setting in settings:
        path, equals, text = setting.partition("=")
        *tables, key = [part.strip() for part in path.split(".")]
        if not equals or not all((*tables, key)):
            raise ConfigError(
                f"override {describe_value(setting)}: expected key=value, for example training.batch_size=8"
            )
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError):
            value = text.strip()
        table = merged
        for name in tables:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise ConfigError(f"override {describe_value(setting)}: {name} is a value, not a table")
        table[key] = value
    return merged


def _copy(value: Any) -> Any:
    return {key: _copy(entry) for key, entry in value.items()} if isinstance(value, dict) else value
