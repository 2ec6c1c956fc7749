"""Read and write ID3 tags, the tags of mp3, wav and aiff files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mutagen.id3 import ID3

FRONT_COVER = 3
"""ID3's picture type for the front cover; FLAC uses the same number."""

_FRAMES = {
    "title": "TIT2",
    "artist": "TPE1",
    "album": "TALB",
    "albumartist": "TPE2",
    "composer": "TCOM",
    "lyricist": "TEXT",
    "conductor": "TPE3",
    "remixer": "TPE4",
    "genre": "TCON",
    "date": "TDRC",
    "originaldate": "TDOR",
    "tracknumber": "TRCK",
    "discnumber": "TPOS",
    "discsubtitle": "TSST",
    "subtitle": "TIT3",
    "grouping": "TIT1",
    "mood": "TMOO",
    "bpm": "TBPM",
    "initialkey": "TKEY",
    "isrc": "TSRC",
    "language": "TLAN",
    "media": "TMED",
    "organization": "TPUB",
    "copyright": "TCOP",
    "compilation": "TCMP",
    "titlesort": "TSOT",
    "artistsort": "TSOP",
    "albumsort": "TSOA",
    "albumartistsort": "TSO2",
    "composersort": "TSOC",
    "encoder": "TSSE",
}
_NAMES = {frame: name for name, frame in _FRAMES.items()}

READ = frozenset({*_NAMES, "TYER", "TDAT", "TIME", "TORY", "TXXX", "COMM", "USLT", "APIC"})
"""Frames that `read_fields` reads, and older ones that mutagen turns into these."""


def read_fields(tags: ID3) -> tuple[dict[str, tuple[str, ...]], tuple[str, bytes] | None]:
    """Return the values of each field, and MIME type and bytes of the cover."""
    found: dict[str, tuple[str, ...]] = {}
    for frame in tags.values():
        kind = frame.FrameID
        if kind in _NAMES:
            texts = frame.genres if kind == "TCON" else frame.text
            name = _NAMES[kind]
        elif kind == "TXXX":
            name, texts = frame.desc.lower(), frame.text
        elif kind == "COMM" and not frame.desc:
            name, texts = "comment", frame.text
        elif kind == "USLT":
            name, texts = "lyrics", [frame.text]
        else:
            continue
        found[name] = (*found.get(name, ()), *(str(text) for text in texts))
    pictures = sorted(tags.getall("APIC"), key=lambda picture: picture.type != FRONT_COVER)
    return found, (pictures[0].mime, pictures[0].data) if pictures else None


def add_fields(tags: ID3, fields: dict[str, tuple[str, ...]], cover: tuple[str, bytes] | None) -> None:
    """Add fields and a cover to the tags of a file."""
    from mutagen import id3

    utf8 = id3.Encoding.UTF8
    for name, texts in fields.items():
        if name in _FRAMES:
            tags.add(getattr(id3, _FRAMES[name])(encoding=utf8, text=list(texts)))
        elif name in ("comment", "description"):
            tags.add(id3.COMM(encoding=utf8, lang="eng", desc="", text=list(texts)))
        elif name in ("lyrics", "unsyncedlyrics"):
            tags.add(id3.USLT(encoding=utf8, lang="eng", desc="", text="\n".join(texts)))
        else:
            tags.add(id3.TXXX(encoding=utf8, desc=name, text=list(texts)))
    if cover:
        tags.add(id3.APIC(encoding=utf8, mime=cover[0], type=FRONT_COVER, desc="", data=cover[1]))
