r"""Where lines end. "\n" ends every line; "\r" ends one too in console logs, but not as the first half of "\r\n"."""

from __future__ import annotations


def last_end(data: bytes, *, returns: bool) -> int:
    r"""Where the last complete line of `data` ends. "\r" ends one only if something other than "\n" follows it."""
    end = data.rfind(b"\n") + 1
    if returns:
        end = max(end, data.rfind(b"\r", 0, max(0, len(data) - 1)) + 1)
    return end


def next_end(data: bytes, start: int, *, returns: bool) -> int:
    """Where the first line ends that is complete at or after `start`; the length of `data` if none is."""
    newline = data.find(b"\n", start)
    end = newline + 1 if newline >= 0 else len(data)
    if returns:
        back = data.find(b"\r", start, end)
        if 0 <= back < len(data) - 1 and data[back + 1] != 0x0A:
            end = back + 1
    return end


def split(part: bytes, *, returns: bool) -> list[bytes]:
    """The lines of a stretch that ends where a line ends; NUL bytes, which a crash leaves in files, are removed."""
    if not part:
        return []
    if b"\0" in part:
        part = part.replace(b"\0", b"")
    if returns:
        part = part.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    lines = part.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines
