"""Read and write MP4 tags, the tags of m4a files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mutagen.mp4 import MP4Tags

_ATOMS = {
    "title": "\xa9nam",
    "artist": "\xa9ART",
    "album": "\xa9alb",
    "albumartist": "aART",
    "composer": "\xa9wrt",
    "genre": "\xa9gen",
    "date": "\xa9day",
    "comment": "\xa9cmt",
    "lyrics": "\xa9lyr",
    "grouping": "\xa9grp",
    "copyright": "cprt",
    "description": "desc",
    "encoder": "\xa9too",
    "titlesort": "sonm",
    "artistsort": "soar",
    "albumsort": "soal",
    "albumartistsort": "soaa",
    "composersort": "soco",
}
_NAMES = {atom: name for name, atom in _ATOMS.items()}
_PAIRS = {"tracknumber": "trkn", "discnumber": "disk"}
_FREEFORM = "----:com.apple.iTunes:"
_MIME = {13: "image/jpeg", 14: "image/png"}  # by MP4Cover's imageformat


def read_fields(tags: MP4Tags) -> tuple[dict[str, tuple[str, ...]], tuple[str, bytes] | None]:
    """Return the values of each field, and MIME type and bytes of the cover."""
    found: dict[str, tuple[str, ...]] = {}
    for atom, values in tags.items():
        if atom in _NAMES:
            found[_NAMES[atom]] = tuple(map(str, values))
        elif atom in _PAIRS.values():
            name = next(name for name, other in _PAIRS.items() if other == atom)
            found[name] = tuple(f"{number}/{total}" if total else str(number) for number, total in values)
        elif atom == "tmpo":
            found["bpm"] = tuple(map(str, values))
        elif atom == "cpil":
            found["compilation"] = (str(int(values)),)
        elif atom.startswith("----:"):
            found[atom.rpartition(":")[2].lower()] = tuple(bytes(value).decode("utf-8", "replace") for value in values)
    covers = tags.get("covr", [])
    if not covers:
        return found, None
    return found, (_MIME.get(covers[0].imageformat, "image/jpeg"), bytes(covers[0]))


def add_fields(tags: MP4Tags, fields: dict[str, tuple[str, ...]], cover: tuple[str, bytes] | None) -> None:
    """Add fields and a cover to the tags of a file."""
    from mutagen.mp4 import MP4Cover

    for name, texts in fields.items():
        if name in _ATOMS:
            tags[_ATOMS[name]] = list(texts)
        elif name in _PAIRS and (pair := _parse_pair(texts[0])):
            tags[_PAIRS[name]] = [pair]
        elif name == "bpm" and texts[0].isdecimal() and int(texts[0]) < 2**16:
            tags["tmpo"] = [int(texts[0])]
        elif name == "compilation" and texts[0] in ("0", "1"):
            tags["cpil"] = texts[0] == "1"
        else:
            tags[_FREEFORM + name] = [text.encode() for text in texts]
    if cover and cover[0] in _MIME.values():
        kind = next(kind for kind, mime in _MIME.items() if mime == cover[0])
        tags["covr"] = [MP4Cover(cover[1], imageformat=kind)]


def _parse_pair(text: str) -> tuple[int, int] | None:
    """Parse "3/12" or "3" into a number and a total, which is 0 if missing. Return None for any other text."""
    parts = text.split("/")
    if len(parts) > 2 or not all(part.strip().isdecimal() and int(part) < 2**16 for part in parts):
        return None
    numbers = [int(part) for part in parts]
    return numbers[0], numbers[1] if len(numbers) > 1 else 0
