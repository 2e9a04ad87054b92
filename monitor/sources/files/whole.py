"""A file read from its beginning to its present end by the tailer and the parsers of the live source."""

from __future__ import annotations

from collections.abc import Iterator

from monitor.errors import PermanentError
from monitor.sources.files import PARSERS, Formats, columns
from monitor.sources.files.lines import split
from monitor.sources.files.portion import note, take
from monitor.sources.files.rows import Parsed, Tally, Unusable
from monitor.sources.files.sniff import Sniffer
from monitor.sources.files.tailer import MAX_LINE_BYTES, Tail

CHUNK_BYTES = 1 << 20
CHUNK_ROWS = 8192


_WHY: dict[Unusable | None, str] = {
    None: "no complete line: it is empty, or one very long line",
    Unusable.UNRECOGNISED: "no training metrics found; known are JSON lines, CSV with a header, trainer_state.json,"
    " console lines of common trainers; for others try: runwarden inspect FILE --pattern REGEX",
    Unusable.BINARY: "a binary file, neither TensorBoard events nor a W&B log",
}


class Whole:
    """Iterates over what the parser makes of each chunk. format: name of the parser."""

    def __init__(self, path: str, formats: Formats = PARSERS, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        """Open `path`. Raises OSError if it cannot be read, PermanentError if its content is of no known format."""
        self.path = path
        self._formats = formats
        self._tail = Tail(path, max_line_bytes=max_line_bytes)
        self.tally = Tally()
        self.lines = 0
        self._rows: list[bytes] = []
        try:
            self.format = self._recognise()
        except (OSError, PermanentError):
            self._tail.close()
            raise

    def _recognise(self) -> str:
        if "jsonl" in self._formats and columns.likely(self._tail.pread(CHUNK_BYTES, 0)):
            self._rows = columns.as_lines(self._tail.pread(columns.MAX_BYTES, 0))
            if self._rows:
                return "golden_values"
        sniffer = Sniffer(self._formats)
        while not (name := sniffer.look(self._tail, self.tally, final=True)):
            if self._tail.unchanged():
                why = self._unmatched() or _WHY.get(sniffer.reason, _WHY[None])
                raise PermanentError(f"{self.path}: {why}")
        return name

    def _unmatched(self) -> str:
        """Why a user's expressions, where nothing else is tried, see nothing."""
        if len(self._formats) > 1:
            return ""
        lines = split(self._tail.pread(CHUNK_BYTES, 0), returns=True)
        odd = next(iter(self._formats.values())).make({}).feed(lines, 0).tally
        if not odd.counts:
            return "no line matches the pattern"
        row = min(odd.first.values())
        return f"the pattern matches, first line {row + 1}, but no group that names a metric holds a number there"

    def __iter__(self) -> Iterator[Parsed]:
        """Parse chunk after chunk; the rows of later chunks are higher. Raises OSError, also for a damaged archive."""
        if self._rows:
            yield from self._of_columns()
            return
        parser = self._formats[self.format].make({})
        try:
            more = True
            while more:
                chunk = take(self._tail, parser, final=True, budget=CHUNK_BYTES)
                more = chunk.more
                parsed = parser.feed(chunk.lines, self.lines)
                note(chunk, self.lines, parsed)
                self.lines += len(chunk.lines)
                self.tally.merge(parsed.tally)
                yield parsed
        finally:
            self._tail.close()

    def _of_columns(self) -> Iterator[Parsed]:
        parser = self._formats["jsonl"].make({})
        self._tail.close()
        for low in range(0, len(self._rows), CHUNK_ROWS):
            lines = self._rows[low : low + CHUNK_ROWS]
            parsed = parser.feed(lines, self.lines)
            self.lines += len(lines)
            self.tally.merge(parsed.tally)
            yield parsed
