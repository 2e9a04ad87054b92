"""One run's log over the life of its files: rotation, truncation, replacement, and where each row came from.

A stream reads the file it is in to the end, then goes on with the next younger one of the family (see `discover`). Row
numbers go on for ever; the generation grows where the content began anew (truncated, rewritten, deleted and made
again), not where the log was rotated. A copy that a copytruncate left behind is read from where we were, so that what
was written between our last read and the truncation is not lost. Where rows came from is in `origins`.
"""

from __future__ import annotations

import math
import os

from detectors.types import Origin
from monitor.sources.files import Formats, Parser
from monitor.sources.files.cursor import Cursor
from monitor.sources.files.discover import Member, family, is_sequence, newcomer, settled, younger
from monitor.sources.files.haul import Haul, Names
from monitor.sources.files.origins import Origins
from monitor.sources.files.portion import note, take
from monitor.sources.files.position import Check, Position
from monitor.sources.files.records import HOLD_S
from monitor.sources.files.rows import Parsed, Unusable
from monitor.sources.files.sniff import Sniffer, reason_of, skip_known
from monitor.sources.files.tailer import READ_BYTES, Tail, open_at

MAX_UNPACKED = 1 << 32
MAX_PAST = 8


class Stream:
    """The log of one run. `path`: of the file being written; `members`: its family when last listed, oldest first."""

    def __init__(
        self, key: str, path: str, names: Names, origins: Origins, *, max_line_bytes: int, formats: Formats
    ) -> None:
        """origins: what the present content of the files is."""
        self.key, self.path, self.names = key, path, names
        self.members: list[Member] = []
        self._origins = origins
        self._max_line = max_line_bytes
        self._formats = formats
        self._tail: Tail | None = None
        self._parser: Parser | None = None
        self._sniffer = Sniffer(formats)
        self._row = self._generation = self._ended = 0
        self._resume: Cursor | None = None
        self._restored = False
        self._parked: tuple[int, int, int] | None = None
        self._failed = ""
        self._past: tuple[Position, ...] = ()
        self._elders: set[int] = set()
        self._held = False
        self._grew = 0.0

    @classmethod
    def resume(cls, key: str, cursor: Cursor, names: Names, *, max_line_bytes: int, formats: Formats) -> Stream:
        """The stream that left `cursor`; it reads when `move` has told it where its files are."""
        stream = cls(key, cursor.path, names, Origins(cursor.history), max_line_bytes=max_line_bytes, formats=formats)
        stream._resume, stream._restored, stream._past = cursor, True, cursor.past
        stream._row, stream._generation = cursor.row, cursor.generation
        if cursor.format in formats:
            stream._parser = formats[cursor.format].make(cursor.state)
        return stream

    @property
    def inode(self) -> int:
        """Of the file that is being read, 0 if none."""
        position = self._position
        return position.inode if position is not None else 0

    @property
    def past(self) -> tuple[int, ...]:
        """Inodes of files that were read to their end and left."""
        return tuple(p.inode for p in self._past)

    @property
    def open(self) -> bool:
        """Whether it holds a descriptor."""
        return self._tail is not None

    @property
    def _position(self) -> Position | None:
        if self._tail is not None:
            return self._tail.position
        return self._resume.position if self._resume is not None else None

    @property
    def _written(self) -> str:
        """The file that is being written, as far as its name tells: where each has its own, the youngest."""
        return self.members[-1].path if self.members and is_sequence(self.path) else self.path

    def has(self, path: str) -> bool:
        """Whether `path` is the file that is being read, or one that was read to its end, under whatever name."""
        for position in (self._position, *self._past):
            if position is not None and (tail := open_at(path, position, max_line_bytes=self._max_line)) is not None:
                tail.close()
                if tail.inode == position.inode:
                    return True
        return False

    def move(self, path: str, members: list[Member]) -> None:
        """The family stands at `path` now. What it holds when it is found after a restart is backlog."""
        if self._restored:
            self._origins.take(members, Origin.BACKLOG)
            self._restored = False
        self.path, self.members = path, members

    def close(self) -> None:
        """Give the descriptor back."""
        if self._tail is not None:
            self._tail.close()
            self._tail = None

    def park(self) -> bool:
        """Give the descriptor back until there is news; not while only the descriptor leads to the file."""
        if self._tail is None or not self._is_young() or self._tail.status().st_nlink == 0:
            return False
        status = self._tail.status()
        self._parked = (status.st_ino, status.st_size, status.st_mtime_ns) if self._tail.unchanged() else None
        self._resume = self.cursor()
        self.close()
        return True

    def retire(self) -> None:
        """The files are gone. Should there be some again, the stream begins anew."""
        if self._tail is not None:
            self._resume, self._parked = self.cursor(), None
        self.close()

    def cursor(self) -> Cursor:
        """Where the stream stands."""
        assert self._tail is not None
        return Cursor(
            run=self.names.run,
            path=self.path,
            position=self._tail.position,
            row=self._row,
            generation=self._generation,
            history=self._origins.unread(self._tail.inode, self._tail.offset),
            format=self._parser.name if self._parser is not None else "",
            state=self._parser.state() if self._parser is not None else {},
            runs=self.names.used,
            past=self._past,
        )

    def poll(self, haul: Haul, budget: int = READ_BYTES) -> None:
        """Read at most `budget` bytes into `haul`. Never raises: what cannot be read is counted and tried again."""
        try:
            if self._tail is None and not self._open(haul):
                return
            self._read(haul, budget)
            self._failed = ""
        except FileNotFoundError:
            return  # gone between the scan and now; the next scan knows
        except OSError as error:
            if self._failed != str(error):  # once per failure, not once per poll
                haul.tally.add(reason_of(error), self._row)
                self._failed = str(error)
            if self._tail is not None and self._tail.compressed:
                self._tail.mark_seen()  # a damaged archive ends here

    def _open(self, haul: Haul) -> bool:
        """Open the file to begin or go on with; whether there is one."""
        same = False
        if self._parked is not None:
            status = os.stat(self._written)
            same = (status.st_ino, status.st_size, status.st_mtime_ns) == self._parked
            if same and not self._due(haul.now):
                return False
            self._parked = None
        if self._resume is None:
            return self._enter(self.members[0])
        opened = self._reopen(haul, self._resume)
        if opened and same and self._tail is not None:
            self._tail.mark_seen()  # it has not grown: what waits at its end does not begin to wait again
        return opened

    def _enter(self, member: Member) -> bool:
        """Open a file of the family at its beginning. False if its name stands for another file by now."""
        tail = Tail(member.path, max_line_bytes=self._max_line)
        if tail.inode != member.inode:
            tail.close()
            self.members = family(self.path) or self.members
            return False
        self.close()
        self._tail, self._ended, self._elders = tail, 0, {m.inode for m in self.members}
        return True

    def _reopen(self, haul: Haul, cursor: Cursor) -> bool:
        """Find the file of the cursor under its name or another of the family, or a copy of it; else begin anew."""
        for members in (self.members, settled(self.path)):
            for member in sorted(members, key=lambda m: (m.inode == cursor.position.inode, m.age), reverse=True):
                tail = open_at(member.path, cursor.position, max_line_bytes=self._max_line)
                if tail is not None:
                    if tail.inode != cursor.position.inode:
                        self._origins.renew(cursor.position.inode, members)
                    self._tail, self._ended, self._resume = tail, 0, None
                    self._elders = {m.inode for m in members}
                    return True
        self.members = family(self.path)
        if is_sequence(self.path) and self.members and self.has(self.members[-1].path):
            return False  # ours is gone, and what is there came before it
        if not self.members or not self._enter(self.members[-1]) or self._tail is None:
            return False
        if (seen := skip_known(self._tail, self._parser)) < 0:
            self.close()  # its writer is not done
            return False
        self._origins.renew(cursor.position.inode, self.members[-1:])
        self._resume = None
        if not seen:
            self._begin_anew(haul, Unusable.LOST if cursor.position.offset else None)
        return True

    def _begin_anew(self, haul: Haul, reason: Unusable | None) -> None:
        """The content is new: another generation, of a format that is still to be seen."""
        if reason is not None:
            haul.tally.add(reason, self._row)
        self._generation += bool(self._row)
        self._parser, self._sniffer = None, Sniffer(self._formats)

    def _read(self, haul: Haul, budget: int) -> None:
        tail = self._tail
        assert tail is not None
        if tail.unchanged() and not self._due(haul.now):
            if not self._follow(haul):
                return
        elif self._changed(tail) and not self._replaced(haul):
            return
        tail = self._tail
        assert tail is not None
        if not tail.unchanged():
            self._grew = haul.now
        if self._parser is None:
            name = self._sniffer.look(tail, haul.tally)
            if not name:
                haul.more = haul.more or not tail.unchanged()
                return
            self._parser = self._formats[name].make({})
        self._consume(tail, self._parser, haul, budget)

    def _due(self, now: float) -> bool:
        """Whether a row that was held back has waited long enough to be looked at again."""
        return self._held and not self._grew <= now < self._grew + HOLD_S

    def _changed(self, tail: Tail) -> bool:
        return self._parser is not None and not tail.compressed and tail.check() is not Check.SAME

    def _replaced(self, haul: Haul) -> bool:
        """The open file was truncated or rewritten: go on in the copy that a copytruncate left, else begin anew.

        False while its writer is not done.
        """
        tail = self._tail
        assert tail is not None
        self.members = settled(self.path) or self.members
        self._origins.forget(tail.inode)
        for member in reversed(self.members):
            copy = open_at(member.path, tail.position, max_line_bytes=self._max_line) if tail.offset else None
            if copy is not None and copy.inode != tail.inode:
                self.close()
                self._tail, self._ended = copy, 0
                return True
        if not (seen := skip_known(tail, self._parser)):
            self._begin_anew(haul, Unusable.REPLACED)
            tail.rewind()
        return seen >= 0

    def _is_young(self) -> bool:
        """Whether the open file is the one at the run's path, or nothing is there."""
        assert self._tail is not None
        try:
            status = os.stat(self._written)
        except OSError:
            return True
        return (status.st_dev, status.st_ino) == (self._tail.device, self._tail.inode)

    def _follow(self, haul: Haul) -> bool:
        """At the end of the open file: go to the next younger one of the family. Whether there is something to read."""
        tail = self._tail
        assert tail is not None
        if self._is_young():
            self._ended = 0
            return False
        self._ended += 1
        if self._ended < 2:  # the writer may have written between our last read and the rename
            tail.mark_unseen()
            return True
        self.members = settled(self.path) or self.members
        following = younger(self.members, tail.inode)
        sequence = is_sequence(self.path)
        anew = sequence or (tail.status().st_nlink == 0 and len(self.members) == 1)
        if following is None or (sequence and (self.has(following.path) or not self._is_whole(following))):
            return False
        torn, past = tail.torn() and not tail.compressed, tail.position
        if not self._enter(following):
            return False
        self._past = (*self._past, past)[-MAX_PAST:]
        if torn:
            haul.tally.add(Unusable.TORN_LINE, self._row)
            self._row += 1
        self._origins.forget(past.inode)
        if anew and self._tail is not None and skip_known(self._tail, self._parser) <= 0:
            self._begin_anew(haul, None)
        return True

    def _is_whole(self, member: Member) -> bool:
        """Whether the writer of a file that continues another is done with it."""
        tail = Tail(member.path, max_line_bytes=self._max_line)
        try:
            return skip_known(tail, self._parser) >= 0
        finally:
            tail.close()

    def _consume(self, tail: Tail, parser: Parser, haul: Haul, budget: int) -> None:
        boundary, origin, later = self._origins.boundary(tail.inode, tail.offset)
        start = tail.offset
        if not start and (copy := newcomer(settled(self.path), tail.inode, self._elders)) is not None:
            haul.more = self._enter(copy) or haul.more  # copied and truncated before we had read any of it
            return
        quiet_s = math.inf if self._ended else haul.now - self._grew
        chunk = take(tail, parser, boundary=boundary, final=tail.compressed, quiet_s=quiet_s, budget=budget)
        self._held = chunk.held
        haul.take(note(chunk, self._row, Parsed()), self.names, origin, self._generation)
        for lines, from_ in ((chunk.lines[: chunk.before], origin), (chunk.lines[chunk.before :], later)):
            if lines:
                haul.take(parser.feed(lines, self._row), self.names, from_, self._generation)
                self._row += len(lines)
        if tail.compressed and tail.offset > MAX_UNPACKED:
            haul.tally.add(Unusable.TOO_LARGE, self._row)
            tail.mark_seen()
            return
        haul.more = haul.more or chunk.more or not self._is_young()
        if tail.offset != start:
            haul.cursors[self.key] = self.cursor().dumps()
