"""A message becomes lines for a terminal or blocks for Slack. Pure: no clock, no stream, no network.

Slack gets `plain_text` and `rich_text` only, which it does not parse, so no text can mention, link or format anything;
the only link elements are the page's own checked addresses. Bounds: at most BLOCKS blocks, a header of HEADER
characters, and BUDGET characters of JSON in all (Slack refuses about 13,200 and counts the markup too, see
slackapi/bolt-js#2509 and #2867); what does not fit is left out from the end and the message says where it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sinks.message import Line, Message, Section
from sinks.untrusted import columns, cut, escape, wrap

WIDTH = 80
LABELS = 12  # columns; a longer label of a link stands out
BLOCKS, HEADER, BUDGET, ALT = 50, 150, 9_800, 500
_COLOURS = {"PAGE": "31;1", "NOTICE": "33;1", "RESOLVED": "32;1"}

Block = dict[str, Any]


# --- terminal


def terminal(message: Message, *, width: int = WIDTH, colour: bool = False) -> str:
    """The whole message in lines of at most `width` columns; only addresses stay whole, so that they can be opened."""
    word = message.marker.partition(",")[0]
    head = f"── {message.marker} "
    lines = [_paint(head + "─" * (width - columns(head)), _COLOURS.get(word, "1") if colour else "")]
    lines += [_paint(line, "1" if colour else "") for line in wrap(message.headline, width)]
    for section in message.sections:
        lines += ["", *_section(section, width, colour=colour)]
    labels = [columns(label) for label, _ in (*message.commands, *message.links)]
    gap = max(n for n in labels if n <= LABELS) + 2
    lines += ["", *(f"  {label}{' ' * (gap - columns(label))}{command}" for label, command in message.commands)]
    for label, url in message.links:
        line = f"  {label}{' ' * max(gap - columns(label), 2)}{url}"
        lines += [line] if columns(line) <= width else [f"  {label}", f"    {url}"]
    return "\n".join(lines) + "\n"


def edited(
    message: Message,
    changed: Sequence[str],
    notes: Sequence[str],
    *,
    what: str = "edited",
    width: int = WIDTH,
    colour: bool = False,
) -> str:
    """What is new since the message was last shown: `changed` names parts as `digests` does, `notes` are clean."""
    first, *more = wrap(f"~ {what}: {message.headline}", width - 1)
    lines = [_paint(first + ("…" if more else ""), "1" if colour else "")]
    for section in message.sections:
        news = [
            line for line in section.lines if f"fact {line.label}" in changed or f"prediction {line.text}" in changed
        ]
        lines += _lines(news, width, colour=colour)
    lines += _notes(notes, width)
    return "\n".join(lines) + "\n"


def noted(notes: Sequence[str], *, width: int = WIDTH) -> str:
    """Thread lines that follow a whole message."""
    return "\n".join(_notes(notes, width)) + "\n" if notes else ""


def _notes(notes: Sequence[str], width: int) -> list[str]:
    return [line for note in notes for line in _hang("  > ", note, width)]


def _section(section: Section, width: int, *, colour: bool) -> Iterator[str]:
    if section.title:
        yield from (_paint(line, "1" if colour else "") for line in wrap(section.title, width))
    yield from _lines(section.lines, width, colour=colour)


def _lines(lines: Sequence[Line], width: int, *, colour: bool) -> list[str]:
    """Labels of marked lines (verdicts) and of the others (names of facts) align each among themselves."""
    room = {
        marked: max((columns(n.label) for n in lines if bool(n.mark) is marked), default=0) for marked in (True, False)
    }
    out: list[str] = []
    for line in lines:
        mark = f"{line.mark} " if line.mark else ""
        label = f"{line.label}{' ' * (room[bool(mark)] - columns(line.label))}  " if line.label else ""
        said = _hang(f"  {mark}{label}", line.text, width)
        out += [_paint(text, "9" if colour and line.struck else "") for text in said]
        if line.detail:
            out += _hang(" " * columns(f"  {mark}{label}"), line.detail, width)
    return out


def _hang(head: str, text: str, width: int) -> list[str]:
    """`text` behind `head`, its further lines indented to the same column."""
    indent = columns(head)
    first, *rest = wrap(text, width - indent)
    return [head + first, *(" " * indent + line for line in rest)]


def _paint(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


# --- Slack


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of rich text: its inline elements, as a bullet or not."""

    elements: list[Block]
    bullet: bool = False


def slack(message: Message, chart: Mapping[str, str] | None = None) -> list[Block]:
    """Blocks for the message; chart: {"id": file id, "alt": text} of an uploaded picture, shown below the facts."""
    head: list[Block] = [{"type": "header", "text": _plain(cut(message.summary, HEADER))}]
    if len(message.summary) > HEADER:
        head.append(_rich([_Row([_text(message.headline)])]))
    picture = [_image(chart["id"], chart["alt"])] if chart else []
    room = BUDGET - sum(map(_cost, (*head, *picture, _footer(message, whole=False))))
    facts: list[Block] = []
    rest: list[Block] = []
    whole = True
    for section in message.sections:
        rows = [_Row([_text(section.title, "bold")])] if section.title else []
        fitting, whole = _fit(rows, section.lines, room)
        if len(fitting) > len(rows):
            block = _rich(fitting)
            room -= _cost(block)
            (rest if section.title else facts).append(block)
        if not whole:
            break
    return [*head, *facts, *picture, *rest, _footer(message, whole=whole)][:BLOCKS]


def slack_note(text: str) -> list[Block]:
    """Blocks for one clean thread line."""
    return [_rich([_Row([_text(text)])])]


def fallback(text: str) -> str:
    """The text beside blocks, which notifications show and Slack parses: escaped."""
    return escape(text)


def _fit(rows: list[_Row], lines: Sequence[Line], room: int) -> tuple[list[_Row], bool]:
    """`rows` and as many of the lines as cost at most `room` characters of JSON together; whether that was all."""
    for line in lines:
        if _cost(_rich([*rows, _row(line)])) > room:
            return rows, False
        rows = [*rows, _row(line)]
    return rows, True


def _row(line: Line) -> _Row:
    if not line.mark:
        label = [_text(f"{line.label}: ", "bold")] if line.label else []
        return _Row([*label, _text(line.text)])
    label = [_text(f"{line.mark} {line.label}: ", "bold")] if line.label else []
    detail = [_text(f" ({line.detail})", "italic")] if line.detail else []
    return _Row([*label, _text(line.text, "strike" if line.struck else ""), *detail], bullet=True)


def _footer(message: Message, *, whole: bool) -> Block:
    rows = [] if whole else [_Row([_text("Cut to fit; the last command below shows the rest.", "italic")])]
    rows += [_Row([_text(f"{label}: "), _text(command, "code")]) for label, command in message.commands]
    rows += [_Row([{"type": "link", "url": url, "text": label}]) for label, url in message.links]
    return _rich(rows)


def _rich(rows: Sequence[_Row]) -> Block:
    """Neighbouring bullets share a list and neighbouring lines a section, whose line breaks Slack shows as written."""
    elements: list[Block] = []
    for bullet, group in groupby(rows, key=lambda row: row.bullet):
        if bullet:
            elements.append(
                {"type": "rich_text_list", "style": "bullet", "elements": [_flow(r.elements) for r in group]}
            )
            continue
        first, *others = (row.elements for row in group)
        elements.append(_flow([*first, *(e for row in others for e in (_text("\n"), *row))]))
    return {"type": "rich_text", "elements": elements}


def _flow(elements: Sequence[Block]) -> Block:
    return {"type": "rich_text_section", "elements": list(elements)}


def _image(file: str, alt: str) -> Block:
    return {"type": "image", "slack_file": {"id": file}, "alt_text": cut(alt, ALT)}


def _text(text: str, style: str = "") -> Block:
    element: Block = {"type": "text", "text": text}
    return element | {"style": {style: True}} if style else element


def _plain(text: str) -> Block:
    return {"type": "plain_text", "text": text, "emoji": False}


def _cost(block: Block) -> int:
    return len(json.dumps(block, ensure_ascii=False)) + 2
