"""Files and folders as a source: polls, finds new runs, follows rotation, never blocks the event loop.

One thread call and one batch per poll over all files; at most 1 MiB per file and about 50,000 rows per batch, taken in
turn, so that one large file cannot starve the others. Folders are scanned again every second.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from detectors.types import Origin
from monitor.frame import Batch
from monitor.sources.files import PARSERS, Formats
from monitor.sources.files.aside import aside
from monitor.sources.files.cursor import Cursor
from monitor.sources.files.discover import MAX_FILES, Member, expand, run_of, scan
from monitor.sources.files.haul import Haul, Names, encodable
from monitor.sources.files.origins import Origins
from monitor.sources.files.rows import Unusable
from monitor.sources.files.stream import Stream
from monitor.sources.files.tailer import MAX_LINE_BYTES

RESCAN_S = 1.0
MAX_ROWS = 50_000
MAX_OPEN = 400
MANY = 2_000
QUIET = 100
"""Polls without news: 25 s."""
ROOT = "root:"
"""Marks a root that was looked at in the cursors: what appears below it later is new, not history."""
GONE_S = 60.0


class FileSource:
    """Watches files and folders. Implements `monitor.frame.Source`."""

    def __init__(
        self,
        name: str,
        paths: Sequence[str],
        *,
        poll_s: float = 0.25,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        max_line_bytes: int = MAX_LINE_BYTES,
        home: str | None = None,
        formats: Formats = PARSERS,
    ) -> None:
        """paths: files or folders. clock gives Unix seconds; sleep waits; both are injected in tests."""
        self.name = name
        self._paths = tuple(os.path.abspath(p) for p in paths)
        self._poll_s = poll_s
        self._clock = clock
        self._sleep = sleep
        self._max_line = max_line_bytes
        self._home = home
        self._formats = formats

    async def batches(self, cursors: Mapping[str, str]) -> AsyncIterator[Batch]:
        """Yield batches for ever, one per poll, beginning after `cursors`."""
        watch = Watch(
            self.name,
            self._paths,
            cursors,
            max_line_bytes=self._max_line,
            home=self._home,
            formats=self._formats,
        )
        try:
            while True:
                batch = await aside(partial(watch.poll, self._clock()))
                yield batch
                if batch.at_head:
                    await self._sleep(self._poll_s)
        finally:
            watch.close()

    def committed(self, batch: Batch) -> None:
        """Nobody waits for it."""


class Found(NamedTuple):
    """A family as a scan sees it. root: what its run id is relative to; pattern: the configured path it came by."""

    root: str
    pattern: str
    members: list[Member]


class Watch:
    """One reading of the paths, from a set of cursors on. Blocking: call it in a thread."""

    def __init__(
        self,
        name: str,
        paths: Sequence[str],
        cursors: Mapping[str, str],
        *,
        max_line_bytes: int,
        home: str | None = None,
        formats: Formats = PARSERS,
    ) -> None:
        """cursors: stream key → cursor, as batches carried them; damaged ones are ignored and counted."""
        self._name, self._paths, self._max_line = name, paths, max_line_bytes
        self._home, self._formats = home, formats
        self._streams: dict[str, Stream] = {}
        self._by_path: dict[str, Stream] = {}
        self._owners: dict[str, str] = {}
        self._refused: set[tuple[str, Unusable]] = set()
        self._errors: list[tuple[str, str]] = []
        self._scanned = math.inf
        self._turn = 0
        self._gone: dict[str, int] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._damaged = 0
        for key, text in sorted(cursors.items()):
            if key.startswith(ROOT):
                continue
            cursor = Cursor.loads(text)
            if cursor is None:
                self._damaged += 1
                continue
            names = Names(cursor.run, key, self._owners, cursor.runs)
            self._streams[key] = Stream.resume(key, cursor, names, max_line_bytes=max_line_bytes, formats=formats)
        self._seen_roots = {root for root in paths if ROOT + encodable(root) in cursors}

    @property
    def streams(self) -> list[Stream]:
        """The logs that are known."""
        return list(self._streams.values())

    def close(self) -> None:
        """Close all files, at once or when a poll that is under way has ended: it may hang, nobody waits for it."""
        self._closed = True
        if self._lock.acquire(blocking=False):
            try:
                for stream in self._streams.values():
                    stream.close()
                self._streams.clear()
            finally:
                self._lock.release()

    def poll(self, now: float) -> Batch:
        """Read what is new. now: Unix seconds."""
        try:
            return self._poll(now)
        finally:
            if self._closed:
                self.close()

    def _poll(self, now: float) -> Batch:
        with self._lock:
            haul = Haul(now)
            if self._damaged:
                haul.tally.add(Unusable.CORRUPT, 0, self._damaged)
                self._damaged = 0
            if not self._scanned <= now < self._scanned + RESCAN_S:  # also when the clock was set back
                self._scan(haul)
                self._scanned = now
            self._read(haul)
            detail = "; ".join(f"{path}: {text}" for path, text in self._errors[:3])
            return haul.batch(self._name, now, detail=detail)

    def _read(self, haul: Haul) -> None:
        """Poll the streams in turn; where there are very many, those that have been quiet for long by quarters."""
        streams = list(self._by_path.values())
        if len(streams) > MANY:
            streams = [s for i, s in enumerate(streams) if s.quiet < QUIET or (i + self._turn) % 4 == 0]
            haul.more = self._turn < 4  # until all were looked at, nothing is known of their silence
        begin = self._turn % len(streams) if streams else 0
        self._turn += 1
        opened = sum(s.open for s in self._streams.values())
        for stream in streams[begin:] + streams[:begin]:
            if haul.rows >= MAX_ROWS:
                haul.more = True
                break
            opened -= stream.open
            stream.poll(haul)
            opened += stream.open
            if opened > MAX_OPEN and stream.park():
                opened -= 1

    def _scan(self, haul: Haul) -> None:
        """Find new families, families under a new name, and what cannot be read."""
        found = self._look(haul)
        self._match(found)
        self._drop(found)
        past = {inode: s for s in self._streams.values() for inode in (s.inode, *s.past)}
        for base in sorted(found.keys() - self._by_path.keys()):
            root, pattern, members = found[base]
            if all(m.inode in past and past[m.inode].has(m.path) for m in members):
                continue  # moved out of the way by hand: it was read under its old name
            self._by_path[base] = self._add(base, members, root, seen=pattern in self._seen_roots)
        lost = {path for path, _ in self._errors}
        for root in set(self._paths) - self._seen_roots - lost:  # what could not be looked at was not seen
            self._seen_roots.add(root)
            haul.cursors[ROOT + encodable(root)] = "seen"

    def _look(self, haul: Haul) -> dict[str, Found]:
        """All families below the paths. A path that cannot be read is an outage; what is below one is only counted."""
        self._errors = []
        found: dict[str, Found] = {}
        for pattern in self._paths:
            root, paths = expand(pattern)
            for path in paths:
                result = scan(path)
                self._errors += [error for error in result.errors if error[0] == pattern]
                refused = {where: Unusable.UNREADABLE for where, _ in result.errors if where != pattern}
                for item in (result.refused | refused).items():
                    if item not in self._refused and len(self._refused) < MAX_FILES:
                        self._refused.add(item)
                        haul.tally.add(item[1], 0)
                for base, members in result.families.items():
                    found.setdefault(base, Found(root, pattern, members))
        return found

    def _match(self, found: Mapping[str, Found]) -> None:
        """Give each family to the stream that knows its files, else to the one of its path.

        A file that was moved within its folder was rotated by hand: its stream stays where it is. One that is in
        another folder now was moved with its run: its stream goes along.
        """
        unknown = {m.inode: (base, m) for base, f in found.items() if base not in self._by_path for m in f.members}
        for stream in list(self._streams.values()):
            here = found[stream.path].members if stream.path in found else []
            base, member = unknown.get(stream.inode, ("", None))
            if member is None or any(m.inode == stream.inode for m in here) or not stream.has(member.path):
                self._place(stream, stream.path, here)
            elif here and os.path.dirname(base) == os.path.dirname(stream.path):
                self._place(stream, stream.path, [member, *here])
            else:
                self._place(stream, base, found[base].members)

    def _place(self, stream: Stream, base: str, members: list[Member]) -> None:
        """`stream` is the one of `base`, unless another is already."""
        if members and self._by_path.setdefault(base, stream) is stream:
            if stream.path != base and self._by_path.get(stream.path) is stream:
                del self._by_path[stream.path]
            stream.move(base, members)

    def _drop(self, found: Mapping[str, object]) -> None:
        """Let go of files that are gone: their writers have had time to finish."""
        for base in list(self._gone.keys() - (self._by_path.keys() - found.keys())):
            del self._gone[base]
        for base in self._by_path.keys() - found.keys():
            self._gone[base] = self._gone.get(base, 0) + 1
            if self._gone[base] * RESCAN_S > GONE_S:
                self._by_path.pop(base).retire()

    def _add(self, base: str, members: list[Member], root: str, *, seen: bool) -> Stream:
        whole = os.path.relpath(base, os.path.dirname(root) if base == root else root)
        name = _free(encodable(run_of(base, self._home or root)), encodable(whole), self._owners)
        key = _free(encodable(base), encodable(base), self._streams)
        origin = Origin.BACKLOG if seen else Origin.HISTORY
        origins = Origins()
        origins.take(members, origin)
        stream = Stream(
            key,
            base,
            Names(name, key, self._owners),
            origins,
            max_line_bytes=self._max_line,
            formats=self._formats,
        )
        stream.move(base, members)
        self._streams[key] = stream
        return stream


def _free(first: str, second: str, taken: Container[str]) -> str:
    """The first of `first`, `second`, `second#2`, … that is not taken."""
    numbered = (f"{second}#{i}" for i in itertools.count(2))
    return next(name for name in itertools.chain((first, second), numbered) if name not in taken)
