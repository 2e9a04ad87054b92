"""What format a file has, from what is in it; looked at again when it grew.

Bounds: 64 KiB per look for formats that show at the beginning, then 1 MiB per poll for those that may begin late.
"""

from __future__ import annotations

import gzip
import re

from monitor.sources.files import PARSERS, Formats, Parser
from monitor.sources.files.rows import Tally, Unusable
from monitor.sources.files.tailer import BOM, READ_BYTES, NotRegularError, Tail

HEAD_BYTES = 1 << 16
BINARY_BYTES = 4096
MAX_REWRITTEN = 1 << 24
STRAY = 50
"""In so many bytes there may be one stretch of NUL: a crash leaves one in a text, a binary format has more."""
_NULS = re.compile(rb"\0+")


class Sniffer:
    """Remembers how far it has looked and why it did not recognise the file."""

    def __init__(self, formats: Formats = PARSERS) -> None:
        self._formats = formats
        self.reason: Unusable | None = None
        self._looked = 0

    def look(self, tail: Tail, tally: Tally, *, final: bool = False) -> str:
        """Name of the format, "" if it is not known (yet). final: the last line needs no newline."""
        if tail.size() < self._looked:
            self._looked = 0
        head = tail.pread(HEAD_BYTES, 0)
        tail.mark_seen()
        if not head:
            return ""
        if name := next((n for n, f in PARSERS.items() if f.records is not None and f.records.opens(head)), ""):
            return name
        begin = head[:BINARY_BYTES].strip(b"\0")
        nuls = len(_NULS.findall(begin))
        if (nuls > 1 and nuls * STRAY > len(begin)) or not _is_text(head):
            return self._refuse(Unusable.BINARY, tally)
        if not self._looked:
            if len(head) == HEAD_BYTES and b"\n" not in head:
                head = tail.pread(tail.max_line_bytes, 0)
            lines = _lines(head, whole=final and len(head) < HEAD_BYTES)
            if not lines or (name := _known(self._formats, lines)):
                return name if lines else ""
            if len(head) < HEAD_BYTES:
                return self._refuse(Unusable.UNRECOGNISED, tally)
            self._looked = head.rfind(b"\n") + 1 or len(head)
        return self._look_further(tail, tally)

    def _look_further(self, tail: Tail, tally: Tally) -> str:
        window = tail.pread(READ_BYTES, self._looked)
        lines = _lines(window, whole=False)
        if name := _known(self._formats, lines, anywhere=True):
            return name
        full = len(window) == READ_BYTES
        self._looked += window.rfind(b"\n") + 1 or (len(window) if full else 0)
        if full:
            tail.mark_unseen()
            return ""
        return self._refuse(Unusable.UNRECOGNISED, tally)

    def _refuse(self, reason: Unusable, tally: Tally) -> str:
        if self.reason is not reason:
            tally.add(reason, 0)
            self.reason = reason
        return ""


def _is_text(head: bytes) -> bool:
    """Whether it is UTF-8, apart from a character cut at the end and the odd stray byte."""
    damaged = head.decode(errors="replace").count("\ufffd")
    return damaged * 100 <= len(head) + 300


def _lines(data: bytes, *, whole: bool) -> list[bytes]:
    lines = data.removeprefix(BOM).replace(b"\0", b"").replace(b"\r", b"\n").split(b"\n")
    return lines if whole else lines[:-1]


def _known(formats: Formats, lines: list[bytes], *, anywhere: bool = False) -> str:
    return next((n for n, f in formats.items() if (f.anywhere or not anywhere) and f.recognise(lines)), "")


def reason_of(error: OSError) -> Unusable:
    """Why a file could not be read."""
    if isinstance(error, gzip.BadGzipFile):
        return Unusable.CORRUPT
    return Unusable.NOT_A_FILE if isinstance(error, NotRegularError) else Unusable.UNREADABLE


def skip_known(tail: Tail, parser: Parser | None) -> int:
    """Go behind what `parser` knows of a rewritten file. How many lines it knows; negative: not all are there yet."""
    tail.mark_seen()  # before it is read: a later change is looked at again
    content = tail.pread(MAX_REWRITTEN, 0)
    lines = content.split(b"\n")[:-1]
    seen = parser.known(lines) if parser is not None else 0
    if seen >= 0:
        tail.mark_unseen()
    if seen > 0:
        tail.skip_to(sum(map(len, lines[:seen])) + seen, content)
    return seen
