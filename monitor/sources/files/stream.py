"""One run's log as rows: numbered for ever, in generations, each of the format that its content shows.

Row numbers go on across all files of the log (see `trail`); the generation grows where the content began anew
(truncated, rewritten, deleted and made again), not where the log was rotated.
"""

from __future__ import annotations

import math

from detectors.types import Origin
from monitor.sources.files import Formats, Parser
from monitor.sources.files.cursor import Cursor
from monitor.sources.files.discover import Member
from monitor.sources.files.haul import Haul, Names
from monitor.sources.files.origins import Origins
from monitor.sources.files.portion import note, take
from monitor.sources.files.records import HOLD_S
from monitor.sources.files.rows import Parsed, Unusable
from monitor.sources.files.sniff import Sniffer, reason_of, skip_known
from monitor.sources.files.tailer import READ_BYTES, Tail
from monitor.sources.files.trail import Trail, Turn

MAX_UNPACKED = 1 << 32
_NEW = {Turn.ANEW: None, Turn.REPLACED: Unusable.REPLACED, Turn.LOST: Unusable.LOST}


class Stream:
    """The log of one run."""

    def __init__(
        self, key: str, path: str, names: Names, origins: Origins, *, max_line_bytes: int, formats: Formats
    ) -> None:
        """path: of the file being written; origins: what the present content of the files is."""
        self.key, self.names = key, names
        self._trail = Trail(path, origins, max_line_bytes=max_line_bytes)
        self._formats = formats
        self._parser: Parser | None = None
        self._sniffer = Sniffer(formats)
        self._row = self._generation = 0
        self.quiet = 0
        """Polls since something was read."""
        self._restored = False
        self._failed = ""
        self._held = False
        self._grew = 0.0

    @classmethod
    def resume(cls, key: str, cursor: Cursor, names: Names, *, max_line_bytes: int, formats: Formats) -> Stream:
        """The stream that left `cursor`; it reads when `move` has told it where its files are."""
        stream = cls(key, cursor.path, names, Origins(cursor.history), max_line_bytes=max_line_bytes, formats=formats)
        stream._trail.resume(cursor.position, cursor.past)
        stream._restored = True
        stream._row, stream._generation = cursor.row, cursor.generation
        if cursor.format in formats:
            stream._parser = formats[cursor.format].make(cursor.state)
        return stream

    @property
    def path(self) -> str:
        """Of the file being written."""
        return self._trail.path

    @property
    def inode(self) -> int:
        """Of the file that is being read, 0 if none."""
        position = self._trail.position
        return position.inode if position is not None else 0

    @property
    def past(self) -> tuple[int, ...]:
        """Inodes of files that were read to their end and left."""
        return tuple(p.inode for p in self._trail.past)

    @property
    def open(self) -> bool:
        """Whether it holds a descriptor."""
        return self._trail.tail is not None

    def has(self, path: str) -> bool:
        """Whether `path` is the file that is being read, or one that was read to its end, under whatever name."""
        return self._trail.has(path)

    def move(self, path: str, members: list[Member]) -> None:
        """The family stands at `path` now. What it holds when it is found after a restart is backlog."""
        if self._restored:
            self._trail.origins.take(members, Origin.BACKLOG)
            self._restored = False
        self._trail.path, self._trail.members = path, members

    def close(self) -> None:
        """Give the descriptor back."""
        self._trail.close()

    def park(self) -> bool:
        """Give the descriptor back until there is news, if that can be done."""
        return self._trail.park()

    def retire(self) -> None:
        """The files are gone. Should there be some again, the stream begins anew."""
        self._trail.retire()

    def cursor(self) -> Cursor:
        """Where the stream stands."""
        position = self._trail.position
        assert position is not None
        return Cursor(
            run=self.names.run,
            path=self.path,
            position=position,
            row=self._row,
            generation=self._generation,
            history=self._trail.origins.unread(position.inode, position.offset),
            format=self._parser.name if self._parser is not None else "",
            state=self._parser.state() if self._parser is not None else {},
            runs=self.names.used,
            past=self._trail.past,
        )

    def poll(self, haul: Haul, budget: int = READ_BYTES) -> None:
        """Read at most `budget` bytes into `haul`. Never raises: what cannot be read is counted and tried again."""
        self.quiet += 1
        try:
            self._read(haul, budget)
            self._failed = ""
        except FileNotFoundError:
            return  # gone between the scan and now; the next scan knows
        except OSError as error:
            if self._failed != str(error):  # once per failure, not once per poll
                haul.tally.add(reason_of(error), self._row)
                self._failed = str(error)
            tail = self._trail.tail
            if tail is not None and tail.compressed:
                tail.mark_seen()  # a damaged archive ends here

    def _read(self, haul: Haul, budget: int) -> None:
        due = self._held and not self._grew <= haul.now < self._grew + HOLD_S  # what waits may have waited long enough
        turn = self._trail.turn(known=self._parser is not None, due=due)
        tail = self._trail.tail
        if turn is Turn.NOTHING or tail is None:
            return
        if not tail.unchanged():
            self._grew = haul.now
        if self._trail.torn:
            haul.tally.add(Unusable.TORN_LINE, self._row)
            self._row += 1
            self._trail.torn = False
        if turn in _NEW and not self._renew(tail, turn, haul):
            return
        if self._parser is None:
            name = self._sniffer.look(tail, haul.tally)
            if not name:
                haul.more = haul.more or not (tail.unchanged() and self._trail.is_young())
                return
            self._parser = self._formats[name].make({})
        self._consume(tail, self._parser, haul, budget)

    def _renew(self, tail: Tail, turn: Turn, haul: Haul) -> bool:
        """The content is new, unless it is the old one rewritten: then go behind it. False: not all is there yet."""
        seen, self._held = skip_known(tail, self._parser), False
        if seen < 0:
            return False
        self._trail.accept()
        if seen > 0:
            return True
        if (reason := _NEW[turn]) is not None:
            haul.tally.add(reason, self._row)
        self._generation += bool(self._row)
        self._parser, self._sniffer = None, Sniffer(self._formats)
        tail.rewind()
        return True

    def _consume(self, tail: Tail, parser: Parser, haul: Haul, budget: int) -> None:
        boundary, origin, later = self._trail.origins.boundary(tail.inode, tail.offset)
        start = tail.offset
        quiet_s = math.inf if self._trail.ended else haul.now - self._grew
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
        haul.more = haul.more or chunk.more or not (chunk.held or self._trail.is_young())
        if tail.offset != start:
            self.quiet = 0
            haul.cursors[self.key] = self.cursor().dumps()
