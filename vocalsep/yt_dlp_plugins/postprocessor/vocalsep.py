"""A post-processor for yt-dlp that separates what it downloads.

yt-dlp finds it by itself where both are installed:

    yt-dlp -x --use-postprocessor 'Vocalsep:when=after_move;stem=both;format=mp3' ADDRESS

Every option of ``vocalsep extract`` works as ``name=value``; one without a value as ``name=yes``.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from yt_dlp.postprocessor.common import PostProcessor
from yt_dlp.utils import PostProcessingError

_YES, _NO = ("", "yes", "true", "1"), ("no", "false", "0")
_FLAGS = ("gate", "instrumental", "karaoke", "overwrite", "skip_existing")


class VocalsepPP(PostProcessor):  # type: ignore[misc]  # yt-dlp has no types
    """Separates the downloaded file with ``vocalsep extract``.

    Args:
        downloader: yt-dlp's downloader.
        options: Options of ``vocalsep extract``, with underscores or dashes.
    """

    def __init__(self, downloader: Any = None, **options: str) -> None:
        super().__init__(downloader)
        self._options = [text for name, value in options.items() for text in _make_option(name, value)]

    def run(self, info: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
        """Separate the file at ``info["filepath"]``. Return no files to delete, and the same information.

        Raises:
            PostProcessingError: If vocalsep fails, with its message.
        """
        command = [sys.executable, "-m", "vocalsep", "extract", *self._options, "-q", "--", str(info["filepath"])]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
        if done.returncode:
            raise PostProcessingError(_join_message(done.stderr))
        for path in done.stdout.splitlines():
            self.to_screen(f"Destination: {path}")
        for line in done.stderr.splitlines():
            self.report_warning(line.removeprefix("vocalsep: "))
        return [], info


def _make_option(name: str, value: str) -> list[str]:
    option = "--" + name.replace("_", "-").lstrip("-")
    if name.replace("-", "_") in _FLAGS:
        return [option] if value.lower() in _YES else []
    if value.lower() in _NO:
        return []
    return [option] if value.lower() in _YES else [f"{option}={value}"]


def _join_message(text: str) -> str:
    """Return an error message of vocalsep in one line: without its frame, and without its usage."""
    frame = "│╭╮╰╯─"
    lines = [line.strip(frame + " ").removeprefix("vocalsep: ") for line in text.splitlines()]
    messages = [line for line in lines if line and not line.startswith(("Usage: ", "Try '", "Error"))]
    return "vocalsep: " + " ".join(" ".join(messages).split())
