"""MDX-Net models of Ultimate Vocal Remover (UVR): complex spectra in, complex spectra of one stem out.

The graph's input and output are ``(batch, 4, dim_f, dim_t)``: the real and imaginary parts of the left channel, then
those of the right one, in the lowest ``dim_f`` rows of an STFT of ``dim_t`` frames. The STFT is at 44.1 kHz, with a hop
of 1,024 samples and a periodic Hann window. The file does not say how long that window is, nor which stem comes out.
UVR and audio-separator look that up by the file's MD5, in a JSON file of all models that they know.

Source: M. Kim, W. Choi, J. Chung, D. Lee and S. Jung, "KUIELab-MDX-Net", 2021.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vocalsep import files
from vocalsep.errors import ConfigError, ModelError, describe_error, describe_value
from vocalsep.interchange.inspection import MAX_SIGNAL_BYTES

RATE, HOP = 44_100, 1_024
_TAIL = 10_000 * 1_024  # bytes at the end of a file that its MD5 covers
_MAX_JSON_BYTES = 2**24
_JSON_NAMES = ("mdx_model_data.json", "model_data.json", "model_data/model_data.json")
_KEYS = {"mdx_n_fft_scale_set": "n_fft", "mdx_dim_f_set": "dim_f", "mdx_dim_t_set": "dim_t"}
_LARGEST = 2**15  # n_fft, and frames


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How an MDX-Net model is run.

    Attributes:
        n_fft: FFT size and window length in samples, at 44.1 kHz.
        dim_f: Number of rows, from 0 Hz up. No sound comes out above them.
        dim_t: Number of frames of a chunk.
        primary_stem: What comes out: "vocals" or "instrumental". Then the vocals are what remains of the mixture.
        compensate: Gain that brings what comes out to its level in the mixture.

    Raises:
        ConfigError: If a value is out of range.
    """

    kind: Literal["mdx"] = "mdx"
    n_fft: int
    dim_f: int
    dim_t: int
    primary_stem: Literal["vocals", "instrumental"]
    compensate: float = 1.0

    def __post_init__(self) -> None:
        if not 2 * HOP <= self.n_fft <= _LARGEST or self.n_fft % 2:
            raise ConfigError(f"n_fft = {self.n_fft}: expected an even number from {2 * HOP} to {_LARGEST}")
        if not 1 <= self.dim_f <= self.n_fft // 2 + 1:
            raise ConfigError(f"dim_f = {self.dim_f}: an FFT of {self.n_fft} has 1 to {self.n_fft // 2 + 1} rows")
        if not self.n_fft < HOP * (self.dim_t - 1) <= HOP * _LARGEST:
            raise ConfigError(f"dim_t = {self.dim_t}: expected more frames than one window has, and at most {_LARGEST}")
        if 4 * 4 * self.dim_f * self.dim_t > MAX_SIGNAL_BYTES:
            raise ConfigError(f"dim_f = {self.dim_f}, dim_t = {self.dim_t}: far larger than any known model")
        if not 0.1 <= self.compensate <= 10:
            raise ConfigError(f"compensate = {self.compensate}: expected a gain from 0.1 to 10")


def translate(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that an entry of UVR's JSON holds, under our names.

    Raises:
        ConfigError: If a value has another type than in UVR's files, or the stem has nothing to do with vocals.
    """
    found: dict[str, Any] = {}
    for theirs, ours in _KEYS.items():
        if theirs in entry:
            found[ours] = _take(entry, theirs, int)
    if "dim_t" in found:
        if not 0 <= found["dim_t"] <= 15:
            shown = describe_value(found["dim_t"])
            raise ConfigError(f"mdx_dim_t_set = {shown}: expected the exponent of a power of two")
        found["dim_t"] = 2 ** found["dim_t"]
    if "compensate" in entry:
        found["compensate"] = _take(entry, "compensate", (int, float))
    if "primary_stem" in entry:
        found["primary_stem"] = read_stem(_take(entry, "primary_stem", str))
    return found


def read_stem(name: str) -> str:
    """Return UVR's name of a stem as ours.

    Raises:
        ConfigError: If the stem is neither the vocals nor what remains without them.
    """
    stem = {"vocals": "vocals", "instrumental": "instrumental"}.get(name.lower())
    if stem is None:
        raise ConfigError(
            f"primary_stem = {describe_value(name)}: this model separates neither vocals nor instrumental"
        )
    return stem


def _take(entry: Mapping[str, Any], key: str, kind: Any) -> Any:
    value = entry[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ConfigError(f"{key} = {describe_value(value)}: not as in UVR's mdx_model_data.json")
    return value


def read_properties(properties: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that a graph's own metadata holds, as exported for sherpa-onnx."""
    if properties.get("model_type") != "UVR":
        return {}
    found: dict[str, Any] = {key: int(properties[key]) for key in _KEYS.values() if properties.get(key, "").isdecimal()}
    if "primary_stem" in properties:
        found["primary_stem"] = read_stem(properties["primary_stem"])
    return found


def compute_md5(path: Path) -> str:
    """Return the MD5 by which UVR knows a file: that of its last 10,000 KiB."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return hashlib.md5(file.read(), usedforsecurity=False).hexdigest()


def find_entry(path: Path, md5: str) -> dict[str, Any]:
    """Look a model up in the JSON files beside it, and in the usual folders of audio-separator and UVR.

    Args:
        path: The ONNX file.
        md5: Result of `compute_md5`.

    Returns:
        Its entry, or nothing if no file knows it.

    Raises:
        ModelError: If a file beside the model is damaged.
    """
    beside = path.parent
    for folder in dict.fromkeys((beside, *list_program_folders())):
        single = folder / "model_data" / f"{md5}.json"  # UVR writes one when it asks its user
        try:
            if single.is_file():
                return read_json(single)
            for name in _JSON_NAMES:
                if (folder / name).is_file():
                    entry = read_json(folder / name).get(md5)
                    if isinstance(entry, dict):
                        return entry
        except ModelError:
            if folder == beside:
                raise
    return {}


def list_program_folders() -> Iterator[Path]:
    """Return the folders in which audio-separator and UVR keep models unless they are told otherwise."""
    if os.environ.get("AUDIO_SEPARATOR_MODEL_DIR"):
        yield Path(os.environ["AUDIO_SEPARATOR_MODEL_DIR"])
    yield Path(tempfile.gettempdir()) / "audio-separator-models"
    inside = Path("models") / "MDX_Net_Models"
    if os.environ.get("LOCALAPPDATA"):
        yield Path(os.environ["LOCALAPPDATA"]) / "Programs" / "Ultimate Vocal Remover" / inside
    yield Path("/Applications/Ultimate Vocal Remover.app/Contents/MacOS") / inside
    yield Path.home() / "ultimatevocalremovergui" / inside


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of parameters.

    Raises:
        ModelError: If it cannot be read, or is not a table.
    """
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise ValueError("it is too large")
        content = files.parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is not a table")
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not a JSON file of MDX parameters ({describe_error(error)})") from error
    return content
