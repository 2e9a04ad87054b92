"""What format a file has, from what is in it; looked at again when it grew.

Bounds: 64 KiB per look for formats that show at the beginning, then 1 MiB per poll for those that may begin late.
"""

from __future__ import annotations

from monitor.sources.files import PARSERS
from monitor.sources.files.rows import Tally, Unusable
from monitor.sources.files.tailer import BOM, READ_BYTES, Tail

HEAD_BYTES = 1 << 16
BINARY_BYTES = 4096


class Sniffer:
    """Remembers how far it has looked and why it did not recognise the file."""

    def __init__(self) -> None:
        self.reason: Unusable | None = None
        self._looked = 0

    def look(self, tail: Tail, tally: Tally, *, final: bool = False) -> str:
        """Name of the format, "" if it is not known (yet). final: the last line needs no newline."""
        head = tail.pread(HEAD_BYTES, 0)
        tail.mark_seen()
        if not head:
            return ""
        if b"\0" in head[:BINARY_BYTES].strip(b"\0") or not _is_text(head):
            return self._refuse(Unusable.BINARY, tally)
        if self._looked == 0:
            lines = _lines(head, whole=final and len(head) < HEAD_BYTES)
            for name, known in PARSERS.items():
                if known.recognise(lines):
                    return name
            if not lines:
                return ""
            self._looked = max(0, head.rfind(b"\n") + 1) if len(head) == HEAD_BYTES else 0
        if self._looked:
            window = tail.pread(READ_BYTES, self._looked)
            lines = _lines(window, whole=False)
            for name, known in PARSERS.items():
                if known.anywhere and known.recognise(lines):
                    return name
            self._looked += window.rfind(b"\n") + 1 or (len(window) if len(window) == READ_BYTES else 0)
            if len(window) == READ_BYTES:
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
