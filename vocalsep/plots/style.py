"""What all plots share: colours, titles, notes, and how they are saved."""

from __future__ import annotations

import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCENT, CALM, GREY = "#d1495b", "#2e86ab", "#777777"
_DPI = 120
_FONTS = (  # that systems bring along for other scripts
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Yu Gothic"),
    *("Microsoft YaHei", "Malgun Gothic", "WenQuanYi Zen Hei", "Noto Sans Thai", "Noto Sans Devanagari"),
)


def clean(text: str, limit: int = 80) -> str:
    """Return a name as it can be drawn: without surrogates and controls, and with its middle left out if it is long."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= limit else f"{text[: limit - 21]}…{text[-20:]}"


def style_axes(axes: Axes, grid: Literal["x", "y"] = "y") -> None:
    """Draw grid lines across one axis, and leave out the frame's upper and right side."""
    axes.grid(axis=grid, alpha=0.3)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def add_note(figure: Figure, note: str, width: int) -> None:
    """Write a note below a figure."""
    figure.supxlabel(textwrap.fill(note, width), parse_math=False, fontsize=9, color="#777777", x=0.01, ha="left")


def add_title(figure: Figure, title: str) -> None:
    """Write a title above a figure, at its left."""
    figure.suptitle(clean(title), parse_math=False, fontsize=13, x=0.01, ha="left")


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whatever the extension of the path."""
    from matplotlib.font_manager import get_font_names
    from matplotlib.text import Text

    others = [name for name in _FONTS if name in get_font_names()]
    if others:  # for letters that matplotlib's own font lacks
        for text in figure.findobj(Text):
            text.set_fontfamily(["DejaVu Sans", *others])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # letters that all fonts lack become boxes
        figure.savefig(path, format="png", dpi=_DPI)
