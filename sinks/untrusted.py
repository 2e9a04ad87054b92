"""Text that a stranger may have chosen becomes text that is safe to print: one line, visible, bounded.

Run names, metric names, log lines and a model's sentences end up in messages. `clean` takes away whatever could move a
cursor, turn a line around, hide characters or break a layout; `escape` makes the rest inert where Slack parses it.
Bounds: input is cut to MAX_INPUT before anything looks at it, output to the limit that the caller names.
"""

from __future__ import annotations

import re
import unicodedata

MAX_INPUT = 20_000
_CSI = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]{0,32}[ -/]{0,4}[@-~]"
)  # colours and cursor moves; other escapes lose their ESC
_BREAKS = frozenset({"Zs", "Zl", "Zp"})
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # letters by category that print as nothing
_MARKS = frozenset({"Mn", "Me"})
_MAX_MARKS = 2  # accents in a row: more is no script, only a way to paint over other lines


def _selects_variant(char: str) -> bool:
    return char == "\u034f" or "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"


def _visible(text: str) -> str:
    kept: list[str] = []
    marks = 0
    for char in text:
        category = unicodedata.category(char)
        if category in _BREAKS or char in "\t\n\r\v\f\x85" or char in _BLANK_LETTERS:
            kept.append(" ")
        elif category in _MARKS:
            marks += 1
            if marks <= _MAX_MARKS and not _selects_variant(char):
                kept.append(char)
            continue
        elif category not in _UNSEEN:
            kept.append(char)
        marks = 0
    return "".join(kept)


def clean(text: str, limit: int) -> str:
    """One line of visible characters, at most `limit` long, cut with an ellipsis; never empty."""
    text = text[:MAX_INPUT]
    if not (text.isascii() and text.isprintable()):
        text = _visible(_CSI.sub("", text))
    return cut(" ".join(text.split()), limit) or "(blank)"


def cut(text: str, limit: int) -> str:
    """`text`, or its beginning and an ellipsis, at most `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def escape(text: str) -> str:
    """Inert where Slack parses text: the three characters that open markup escaped, addresses not recognisable."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("://", ": //")


def columns(text: str) -> int:
    """How many terminal columns `text` takes: wide characters two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(c) in _MARKS else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def wrap(text: str, width: int) -> list[str]:
    """Break `text` into lines of at most `width` (>= 2) columns, between words where it can."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if columns(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        *full, line = _pieces(word, width)
        lines.extend(full)
    return [*lines, line]


def _pieces(word: str, width: int) -> list[str]:
    pieces, piece, used = [], "", 0
    for char in word:
        size = columns(char)
        if used + size > width:
            pieces.append(piece)
            piece, used = "", 0
        piece += char
        used += size
    return [*pieces, piece]
