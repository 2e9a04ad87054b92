"""Where the rows of a file come from: what it held at first sight is history or backlog, what follows is live."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from detectors.types import Origin
from monitor.sources.files.discover import Member
from monitor.sources.files.tailer import NO_END


class Origins:
    """Bytes that the files of a family held at first sight, by inode."""

    def __init__(self, history: Mapping[int, int] | None = None) -> None:
        """history: what a cursor remembers of it."""
        self._history: dict[int, int] = dict(history or {})
        self._backlog: dict[int, int] = {}

    def take(self, members: Iterable[Member], origin: Origin) -> None:
        """What `members` hold now is of `origin`."""
        sizes = {m.inode: _size(m.path) for m in members}
        if origin is Origin.HISTORY:
            self._history.update(sizes)
        elif origin is Origin.BACKLOG:
            self._backlog.update(sizes)

    def forget(self, inode: int) -> None:
        """The file's content is new."""
        self._history.pop(inode, None)
        self._backlog.pop(inode, None)

    def renew(self, inode: int, members: Iterable[Member]) -> None:
        """The file's content is not what it was; what `members` hold now is backlog."""
        self.forget(inode)
        self.take(members, Origin.BACKLOG)

    def unread(self, inode: int, offset: int) -> dict[int, int]:
        """The history that is still to be read when a file is read up to `offset`, for the cursor."""
        return {i: size for i, size in self._history.items() if i != inode or size > offset}

    def boundary(self, inode: int, offset: int) -> tuple[int, Origin, Origin]:
        """The next byte at which the origin changes, and the origin before and after it."""
        history, backlog = self._history.get(inode, 0), self._backlog.get(inode, 0)
        if offset < history:
            return history, Origin.HISTORY, Origin.BACKLOG if backlog > history else Origin.LIVE
        return backlog, Origin.BACKLOG if offset < backlog else Origin.LIVE, Origin.LIVE


def _size(path: str) -> int:
    """Bytes of content now; an archive is finished, so that all of it counts."""
    try:
        return NO_END if path.endswith(".gz") else os.stat(path).st_size
    except OSError:
        return 0
