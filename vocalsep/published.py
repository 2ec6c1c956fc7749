"""Where the published models are. This module loads no libraries, so that the command line can check names at once."""

from __future__ import annotations

from pathlib import Path

SUFFIX = ".safetensors"


def find_models_folder() -> Path:
    """Return the folder of the published models: inside an installed package, or beside the package in a checkout."""
    package = Path(__file__).parent
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def find_models(folder: Path) -> dict[str, Path]:
    """Return the weights files in a folder, by the names of their models."""
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}
