from __future__ import annotations

import pytest

from vocalsep import errors


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("unett", ["dpcl", "unet"], "unknown net 'unett'; did you mean 'unet'?"),
        ("zzz", ["unet", "dpcl"], "unknown net 'zzz'; known: dpcl, unet"),
        ("unet", [], "unknown net 'unet'; known: none"),
        ("9" * 5_000, ["unet"], f"unknown net '{'9' * 80}'; known: unet"),
    ],
)
def test_an_unknown_name_is_described_with_the_nearest_name_or_all(name: str, known: list[str], expected: str) -> None:
    assert errors.describe_unknown("net", name, known) == expected


def test_every_error_is_a_vocalsep_error() -> None:
    for kind in (errors.AudioError, errors.ConfigError, errors.ModelError, errors.DatasetError, errors.ManifestError):
        assert issubclass(kind, errors.VocalsepError)
