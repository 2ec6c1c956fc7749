from __future__ import annotations

from pathlib import Path

import pytest

from vocalsep import runs, weights


def test_the_name_is_in_the_header_of_the_file(model: Path, tmp_path: Path) -> None:
    assert runs.read_name(model) == weights.load(model).name == "narrow"
    copy = tmp_path / "unet.safetensors"
    copy.write_bytes(model.read_bytes())
    assert runs.read_name(copy) == "unet"
    (tmp_path / runs.RECIPE).touch()
    assert runs.read_name(copy) == weights.load(copy).name == tmp_path.name


@pytest.mark.parametrize("content", [b"", b"\xff" * 20, b"\x02\0\0\0\0\0\0\0{}", b"\x02\0\0\0\0\0\0\0[]"], ids=str)
def test_a_damaged_file_has_the_name_of_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    assert runs.read_name(path) == "broken"


def test_a_weights_file_remembers_its_run() -> None:
    elsewhere = Path("somewhere/unet.safetensors")
    assert runs.name_model(elsewhere, {"net": "unet", "run_name": "tiny"}) == "tiny"
    assert runs.name_model(elsewhere, {"net": "unet", "run_name": "../../tiny"}) == "tiny"
    assert runs.name_model(elsewhere, {"net": "unet"}) == "unet"
    assert runs.name_model(Path("mine.safetensors"), {"net": "unet", "run_name": "tiny"}) == "mine"
