"""Pages on a terminal: whole when they say something new, a short block when only details moved.

A terminal cannot be edited, so the receipt remembers digests of what was shown. Deliveries are at least once: when the
process dies between printing and storing the receipt, the same lines are printed again.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import TextIO

from monitor.errors import PermanentError
from monitor.page import Page, Receipt
from monitor.section import Section
from sinks.message import compose, digests, note_text
from sinks.render import WIDTH, edited, noted, terminal

_NEWS = ("marker", "headline", "hypothesis")
_ASCII = str.maketrans({"─": "-", "✓": "+", "✗": "x", "…": "~"})


class Params(Section):
    """Pages as text on the standard output."""


def create(params: Params) -> TerminalSink:  # noqa: ARG001  (every sink is made from its params)
    """Print to standard output, coloured if that is a terminal."""
    return TerminalSink(sys.stdout, colour=sys.stdout.isatty())


class TerminalSink:
    """Prints pages to `stream` in lines of `width` columns."""

    name = "terminal"

    def __init__(self, stream: TextIO, *, colour: bool = False, width: int = WIDTH) -> None:
        self._stream = stream
        self._colour = colour
        self._width = width

    async def deliver(self, page: Page, prior: Receipt | None) -> Receipt:
        """Print what the prior receipt does not hold. Raises PermanentError if the stream is gone."""
        shown = dict(prior.data) if prior else {}
        said = prior.notes if prior else ()
        notes = [note for note in page.notes if note.id not in said]
        now = digests(page)
        changed = [part for part in now if now[part] != shown.get(part)]
        text = self._text(page, changed, [note_text(note.text) for note in notes], again="marker" in shown)
        if text:
            await asyncio.to_thread(self._print, text)
        return Receipt(sink=self.name, data=now, notes=(*said, *(note.id for note in notes)))

    async def check(self) -> list[str]:
        """Say where the text goes. Raises PermanentError if the stream is gone."""
        if self._stream.closed or not self._stream.writable():
            raise PermanentError("terminal: cannot print: the stream is closed")
        return [f"prints to {getattr(self._stream, 'name', 'a stream')}, {self._width} columns"]

    async def close(self) -> None:
        """Nothing to release: the stream belongs to the caller."""

    def _text(self, page: Page, changed: list[str], notes: list[str], *, again: bool) -> str:
        if not changed and not notes:
            return ""
        message = compose(page)
        acknowledged = page.state == "acknowledged" and "marker" in changed
        if any(part in changed for part in _NEWS if part != "marker" or not acknowledged):
            if again and "marker" not in changed:  # no second page: the same one, told anew
                message = replace(message, marker=f"{message.marker}, edited")
            whole = terminal(message, width=self._width, colour=self._colour)
            return whole + noted(notes, width=self._width) + "\n"
        what = "acknowledged" if acknowledged else "edited"  # whoever did it was here: no second page for it
        return edited(message, changed, notes, what=what, width=self._width, colour=self._colour) + "\n"

    def _print(self, text: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            text = text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError) as error:  # ValueError: the stream was closed
            raise PermanentError(f"terminal: cannot print: {error}") from None
