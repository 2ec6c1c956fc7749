"""Text from outside on its way to a person: file names, tags, metadata, and messages of other programs.

A terminal obeys control characters. A name that holds them could hide text, change the window's title, or worse. So
everything foreign passes through `escape` before it is shown, and everything that other programs read is JSON, in which
`escape_json` leaves no such character.
"""

from __future__ import annotations

import re

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters (C0, DEL and C1), line and paragraph separators, and those that reverse the order of letters."""


def escape(text: object) -> str:
    r"""Return a text in one line without control characters: a line break becomes ``\n``, an escape ``\x1b``."""
    return _UNSAFE.sub(lambda found: found.group().encode("unicode_escape").decode(), str(text))


def escape_json(text: str) -> str:
    """Return JSON with such characters escaped. They occur only inside strings, so its meaning stays the same.

    Args:
        text: JSON. Line breaks between its values stay as they are.
    """
    return _UNSAFE.sub(lambda found: found.group() if found.group() == "\n" else f"\\u{ord(found.group()):04x}", text)
