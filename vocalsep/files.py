"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name when the ``with`` block ends, and vanishes if it fails.

    Args:
        path: The file to be; replaced if it exists. Its folder must exist.

    Yields:
        The temporary file, empty.

    Raises:
        OSError: If the folder does not take the file.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.stem[:40]}.", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # temporary files are private; results are not
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a text file, UTF-8, that appears whole or not at all.

    Args:
        path: The file; replaced if it exists. Its folder must exist.
        text: What it is to hold.

    Raises:
        OSError: If it cannot be written.
    """
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
