"""A writer of numbered lines and the rotator of its log, for `tail_world`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

MAX_LINE: Final = 400
KEEP: Final = 4
"""Rotated files; older ones are deleted."""


class Log:
    """A writer of numbered lines that holds its file open, and a rotator. number: of the next line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        self._rest = b""
        self._file = path.open("ab", buffering=0)

    def close(self) -> None:
        self._file.close()

    def write(self, many: int) -> None:
        """Complete lines of all kinds; a torn one is finished first."""
        self._file.write(self._rest + b"".join(self._line() for _ in range(many)))
        self._rest = b""

    def tear(self, at: int) -> None:
        """A line that is cut somewhere, perhaps inside a character; the rest comes with the next write."""
        line = self._rest or self._line()
        cut = at % len(line)
        self._file.write(line[:cut])
        self._rest = line[cut:]

    @property
    def orphaned(self) -> bool:
        """Whether the file that it writes to was deleted."""
        return os.fstat(self._file.fileno()).st_nlink == 0

    def reopen(self) -> None:
        """Finish the line and go on in the file at the path, as after SIGHUP."""
        self.write(0)
        self._file.close()
        self._file = self.path.open("ab", buffering=0)

    @property
    def younger(self) -> Path:
        """Where the youngest rotated file goes."""
        return self.path.with_name(f"{self.path.name}.1")

    def rotated(self) -> list[Path]:
        """Youngest first."""
        found = [self.path.with_name(f"{self.path.name}.{n}{end}") for n in range(1, 20) for end in ("", ".gz")]
        return [path for path in found if path.exists()]

    def shift(self) -> None:
        """Make place for a new `.1`."""
        for path in reversed(self.rotated()):
            number = int(path.name.removesuffix(".gz").rpartition(".")[2])
            if number >= KEEP:
                path.unlink()
            else:
                path.rename(path.with_name(path.name.replace(f".{number}", f".{number + 1}")))

    def _line(self) -> bytes:
        n = self.number
        self.number += 1
        line = f'{{"step":{n},"loss":{n / 2},"größe":{n % 7}{"," if n % 5 else ""}'.encode()
        line += b'"x":' + b"1" * (1 + n % 5) + b"}" if n % 5 else b"}"
        end = b"\r\n" if n % 7 == 3 else b"\n"
        before = (b"\0\0\0", "Δ warning\n".encode(), b"{" + b"y" * 3 * MAX_LINE + b"\n", b"\n")
        return (before[n // 11 % 4] if n % 11 == 5 else b"") + line + end
