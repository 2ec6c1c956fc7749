"""Make the files that people download from what the store keeps of a song.

They are the same, byte for byte, as ``vocalsep extract`` writes: the store keeps the accompaniment in 32-bit float, and
the vocals are the song minus the accompaniment.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from vocalsep import audio
from vocalsep.errors import AudioError
from vocalsep.kinds import silence_non_finite
from vocalsep.shapes import Waveform

STEMS = ("vocals", "accompaniment")


def encode(
    recording: Path, accompaniment: Path, output: Path, stem: str, *, model: str, stopping: threading.Event
) -> None:
    """Write one part of a song.

    Args:
        recording: The song.
        accompaniment: Its accompaniment, in 32-bit float.
        output: The file to write. Its extension chooses the format. Its folder is created if it does not exist.
        stem: "vocals" or "accompaniment".
        model: Name of the model, for the tags.
        stopping: Set when the server ends.

    Raises:
        AudioError: If the format does not support the song, a file cannot be read or written, or the server ends.
    """
    try:
        output.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise AudioError(f"{output}: cannot be written ({error.strerror})") from error
    with audio.Reader(accompaniment) as kept, audio.Reader(recording) as song:
        audio.check_output(output, rate=song.rate, channels=song.channels)
        tags, _ = audio.read_tags(recording)
        outputs = audio.Outputs(
            [output],
            rate=song.rate,
            channels=song.channels,
            subtype=song.subtype,
            samples=0 if song.estimated else song.samples,
            tags=[tags.for_part(stem, audio.sign(model))],
        )
        with outputs:
            for block in iter(kept) if stem == "accompaniment" else _subtract(song, kept):
                if stopping.is_set():
                    raise AudioError("vocalsep serve has ended")
                outputs.write([block])


def _subtract(song: audio.Reader, accompaniment: audio.Reader) -> Iterator[Waveform]:
    """Yield the vocals as the separator computed them; see `masks.split_mixture`."""
    for mixture, rest in zip(song, accompaniment, strict=True):
        yield silence_non_finite(mixture) - rest
