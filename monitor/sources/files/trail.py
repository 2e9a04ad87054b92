"""Which file of a log is read, and which is the next: through rotation, truncation, compression, deletion.

The open file is read to its end; then the next younger one of the family (see `discover`) is entered, once something
stands in it: a writer that writes to the younger one has done with the older. A copy (of copytruncate, or an archive)
is known by its content: it is gone on in where we were, or left out, so that what was written between our last read
and the truncation is not lost and nothing is read twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import StrEnum
from functools import partial

from monitor.sources.files.discover import Member, family, is_sequence, settled
from monitor.sources.files.likeness import began_as, end_of, ends_at, holds, is_at, marks, open_at
from monitor.sources.files.origins import Origins
from monitor.sources.files.position import Check, Position
from monitor.sources.files.tailer import Tail

MAX_PAST = 8


class Turn(StrEnum):
    """What there is to read now."""

    NOTHING = "nothing"
    ON = "on"
    """The file goes on, here or in a copy of it."""
    NEXT = "next"
    """The next file of the same log, from its beginning."""
    ANEW = "anew"
    """A file that begins the log anew."""
    REPLACED = "replaced"
    """The content was truncated or rewritten while we watched."""
    LOST = "lost"
    """The file that we were in cannot be found."""


class Trail:
    """The files of one log, and a place in them. path: of the file being written; members: when last listed."""

    def __init__(self, path: str, origins: Origins, *, max_line_bytes: int) -> None:
        """origins: what the present content of the files is."""
        self.path = path
        self.members: list[Member] = []
        self.origins = origins
        self.tail: Tail | None = None
        self.past: tuple[Position, ...] = ()
        self._max_line = max_line_bytes
        self._resume: Position | None = None
        self._parked: tuple[int, int, int] | None = None
        self.ended = False
        """Whether the writer is done with the open file: what is read now is its last."""
        self.torn = False
        """Whether the file that was left last ended inside a line."""
        self._anew: Turn | None = None
        self._elders: set[tuple[int, ...]] = set()
        self._idle: set[tuple[int, ...]] = set()

    def resume(self, position: Position, past: tuple[Position, ...] = ()) -> None:
        """Go on at `position`. past: ends of files that were left before."""
        self._resume, self.past = position, past

    @property
    def position(self) -> Position | None:
        """Where we are, None before the first file was opened."""
        return self.tail.position if self.tail is not None else self._resume

    @property
    def _written(self) -> str:
        """The file that is being written, as far as its name tells: where each has its own, the youngest."""
        return self.members[-1].path if self.members and is_sequence(self.path) else self.path

    def has(self, path: str) -> bool:
        """Whether `path` is the file that is being read, or one that was left, under whatever name."""
        return any(p is not None and is_at(path, p) for p in (self.position, *self.past))

    def close(self) -> None:
        """Give the descriptor back."""
        if self.tail is not None:
            self.tail.close()
            self.tail = None

    def park(self) -> bool:
        """Give the descriptor back until there is news; not while only the descriptor leads to the file."""
        if self.tail is None or not self.is_young() or self.tail.status().st_nlink == 0:
            return False
        self._parked = _state(self.tail.status()) if self.tail.unchanged() else None
        self._resume = self.tail.position
        self.close()
        return True

    def retire(self) -> None:
        """The files are gone. Should there be some again, the log begins anew."""
        if self.tail is not None:
            self._resume, self._parked = self.tail.position, None
        self.close()

    def turn(self, *, known: bool, due: bool = False) -> Turn:
        """Open what is to be read next, and say again what was not accepted. Raises OSError.

        known: whether something of the file was understood. due: its end is to be looked at though it has not changed.
        """
        turn = self._turn(known=known, due=due)
        if turn in (Turn.ANEW, Turn.LOST):
            self._anew = self._anew or turn
        return turn if turn is Turn.NOTHING else self._anew or turn

    def accept(self) -> None:
        """What `turn` said of a file that is not a continuation was dealt with."""
        self._anew = None

    def _turn(self, *, known: bool, due: bool) -> Turn:
        if self.tail is None:
            return self._open(due=due)
        if self.tail.unchanged():
            return self._at_end(self.tail, known=known, due=due)
        if known and not self.tail.compressed and self.tail.check() is not Check.SAME:
            return self._replaced(self.tail)
        return self._on(self.tail)

    def _open(self, *, due: bool) -> Turn:
        same = self._parked is not None and _state(os.stat(self._written)) == self._parked
        if same and not due:
            return Turn.NOTHING
        self._parked = None
        if self._resume is not None:
            turn = self._reopen(self._resume)
            if same and self.tail is not None:
                self.tail.mark_seen()  # it has not grown: what waits at its end does not begin to wait again
            return turn
        return Turn.NEXT if self._enter(self.members[0]) else Turn.NOTHING

    def _reopen(self, position: Position) -> Turn:
        """Find the file of the position under its name or another of the family, or a copy of it; else the next."""
        for again in (False, True):
            members = settled(self.path) if again else self.members
            for member in sorted(members, key=lambda m: (m.inode == position.inode, m.age), reverse=True):
                tail = open_at(member.path, position, max_line_bytes=self._max_line)
                if tail is not None:
                    if tail.inode != position.inode:
                        self.origins.renew(position.inode, members)
                    self.members = members
                    self._take(tail)
                    self._resume = None
                    return self._on(tail)
        self.members = settled(self.path)
        unread = self._unread(position) or [m for m in self.members[-1:] if not self.has(m.path)]
        if not unread or not self._enter(unread[0]):
            return Turn.NOTHING
        self.origins.renew(position.inode, unread)
        self._resume = None
        return Turn.LOST if position.offset else Turn.ANEW

    def _enter(self, member: Member) -> bool:
        """Open a file of the family at its beginning. False if its name stands for another file by now."""
        tail = Tail(member.path, max_line_bytes=self._max_line)
        if tail.inode != member.inode:
            tail.close()
            self.members = family(self.path) or self.members
            return False
        self._take(tail)
        return True

    def _take(self, tail: Tail) -> None:
        self.close()
        self.tail, self.ended, self._idle = tail, False, set()
        if not (tail.offset and self._elders):
            self._elders = marks(self.members)

    def _on(self, tail: Tail) -> Turn:
        """Read on; at the beginning of a file only if no copy was made and the file truncated before we read it."""
        if tail.offset:
            return Turn.ON
        members = settled(self.path)
        if (copy := next(self._newcomers(members, tail), None)) is None:
            return Turn.ON
        self.members = members
        return Turn.NEXT if self._enter(copy) else Turn.NOTHING

    def _newcomers(self, members: list[Member], tail: Tail) -> Iterator[Member]:
        """Older files than the open one that were not there when it was entered, the oldest first."""
        new = [m for m in members if not self._elders.issuperset(marks([m]))]
        here = next((m for m in members if m.inode == tail.inode), None)
        if here is None and new:
            here = next((m for m in members[::-1] if end_of(m, tail) is not None), None)
        for member in new:
            if here is not None and member.age < here.age and not any(ends_at(p, member) for p in self.past):
                yield member

    def _replaced(self, tail: Tail) -> Turn:
        """The open file was truncated or rewritten: go on in the copy that a copytruncate left, else it is new."""
        self.members = settled(self.path) or self.members
        self.origins.forget(tail.inode)
        for member in reversed(self.members):
            copy = open_at(member.path, tail.position, max_line_bytes=self._max_line) if tail.offset else None
            if copy is not None and copy.inode != tail.inode:
                self._take(copy)
                return Turn.ON
        unread = next((m for m in self._newcomers(self.members, tail) if not began_as(m, tail)), None)
        if unread is None:
            return Turn.REPLACED
        return Turn.LOST if self._enter(unread) else Turn.NOTHING

    def is_young(self) -> bool:
        """Whether the open file is the one being written."""
        assert self.tail is not None
        try:
            status = os.stat(self._written)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == (self.tail.device, self.tail.inode)

    def _at_end(self, tail: Tail, *, known: bool, due: bool) -> Turn:
        """The open file was read to its end: go to the next younger one in which something stands."""
        stay = Turn.ON if due else Turn.NOTHING
        if not self.is_young():
            return self._look_on(tail, stay)
        self.ended = False
        if tail.certain() and not due:
            return stay
        changed = known and not tail.compressed and tail.recheck() is not Check.SAME
        return self._replaced(tail) if changed else stay

    def _look_on(self, tail: Tail, stay: Turn) -> Turn:
        """Where the log goes on, else `stay`; nothing is looked into that has not changed."""
        self.members = settled(self.path) or self.members
        if (present := marks(self.members)) == self._idle:
            return stay
        copy = self._longer(tail)
        following = next((m for m in self._unread(tail.position) if holds(m)), None) if copy is None else None
        if copy is not None:
            self._take(copy)
        elif following is None or (is_sequence(self.path) and self.has(following.path)):
            self._idle = present
            return stay
        elif self.ended:
            return self._follow(tail, following)
        else:  # the writer may have written between our last read and its first one elsewhere
            self.ended = True
            tail.mark_unseen()
        return Turn.ON

    def _follow(self, tail: Tail, following: Member) -> Turn:
        """Leave the open file for the next."""
        anew = is_sequence(self.path) or (tail.status().st_nlink == 0 and len(self.members) == 1)
        torn, past = tail.torn() and not tail.compressed and self._anew is None, tail.position
        if not tail.compressed and (copy := self._copy(following, past)) is not None:
            self._leave(past)
            self._take(copy)
            return Turn.ON
        gone = not tail.compressed and all(m.inode != tail.inode for m in self.members)
        copies = [end_of(m, tail) for m in self.members] if gone else []
        if not self._enter(following):
            return Turn.NOTHING
        self.torn = torn
        for position in (*copies, past):
            self._leave(position)
        self.origins.forget(past.inode)
        return Turn.ANEW if anew else Turn.NEXT

    def _longer(self, tail: Tail) -> Tail | None:
        """Where the open file is gone: one that begins as it does and goes on, as the original of a copy."""
        if tail.compressed or any(m.inode == tail.inode for m in self.members):
            return None
        for member in self.members:
            copy = open_at(member.path, tail.position, max_line_bytes=self._max_line) if tail.offset else None
            if copy is not None:
                with suppress(OSError):  # a damaged archive
                    if copy.pread(1, tail.size()):
                        return copy
                copy.close()
        return None

    def _leave(self, position: Position | None) -> None:
        if position is not None and position.offset:
            self.past = (*self.past, position)[-MAX_PAST:]

    def _copy(self, member: Member, position: Position) -> Tail | None:
        """A file that begins with all that was read: what we read was a copy of it, made to truncate it."""
        if member.path.endswith(".gz") or is_sequence(self.path) or not position.offset:
            return None
        return open_at(member.path, position, max_line_bytes=self._max_line)

    def _unread(self, position: Position) -> list[Member]:
        """The files that are younger than the one of the position; where that is gone, than those that were left."""
        members = self.members[::-1]
        tests: list[Callable[[Member], bool]] = [lambda m: m.inode == position.inode and is_at(m.path, position)]
        if (tail := self.tail) is not None:
            tests.append(lambda m: end_of(m, tail) is not None)
        tests += [partial(ends_at, place) for place in (position, *self.past[::-1])]
        here = next((m for test in tests for m in members if test(m)), None)
        return [m for m in self.members if here is None or m.age > here.age]


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns
