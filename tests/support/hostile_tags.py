"""ID3 tags with frames of any size, packed or not, in front of a song."""

from __future__ import annotations

import random
import zlib
from pathlib import Path

import damage
from cases import Case

from vocalsep.audio import tags


def set_up(folder: Path) -> Case:
    """Return a case: the tags of a song are read."""
    song = damage.make_recordings()["mp3"]
    names = [b"TIT2", b"TPE1", b"TXXX", b"APIC", b"COMM", b"USLT", b"CHAP", b"TCON", b"ZZZZ"]

    def case(rng: random.Random, folder: Path) -> None:
        frames, version = b"", rng.choice([2, 3, 4])
        for _ in range(rng.randint(1, 6)):
            body = rng.choice([b"\3Text", b"\0image/png\0\3\0", b"\1\xff\xfe"]) + rng.randbytes(rng.randint(0, 99))
            body += bytes(rng.choice([0, 0, 0, 10**5, 10**7, 10**8]) if rng.random() < 0.1 else 0)
            flags = rng.choice([0, 0x80, 0x09, 0x08, 0x02, 0x0B, rng.randrange(2**16)])
            if flags & 0x88:
                body = rng.randbytes(4) + zlib.compress(body, 1)
            size = (
                len(body)
                if version == 3 or rng.random() < 0.2
                else sum((len(body) >> 7 * i & 127) << 8 * i for i in range(4))
            )
            frames += rng.choice(names) + (size % 2**32).to_bytes(4, "big") + flags.to_bytes(2, "big") + body
        length = len(frames) if rng.random() < 0.9 else rng.randrange(2**28)
        head = b"ID3" + bytes([version, 0, rng.choice([0, 0, 0x80, 0x40])])
        path = folder / "song.mp3"
        path.write_bytes(head + bytes(length >> 7 * i & 127 for i in (3, 2, 1, 0)) + frames + song)
        tags.read_tags(path)

    return case
