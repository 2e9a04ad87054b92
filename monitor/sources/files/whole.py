"""A file read from its beginning to its present end by the tailer and the parsers of the live source."""

from __future__ import annotations

from collections.abc import Iterator

from monitor.errors import PermanentError
from monitor.sources.files import PARSERS, Formats
from monitor.sources.files.portion import note, take
from monitor.sources.files.rows import Parsed, Tally, Unusable
from monitor.sources.files.sniff import Sniffer
from monitor.sources.files.tailer import Tail

CHUNK_BYTES = 1 << 20


_WHY: dict[Unusable | None, str] = {
    Unusable.UNRECOGNISED: "no training metrics found in it; known are JSON lines, CSV with a header, and the console"
    " lines of nanoGPT, Megatron-LM, torchtitan and their kin",
    Unusable.BINARY: "a binary file of no known format",
}


class Whole:
    """Iterates over what the parser makes of each chunk. format: name of the parser."""

    def __init__(self, path: str, formats: Formats = PARSERS) -> None:
        """Open `path`. Raises OSError if it cannot be read, PermanentError if its content is of no known format."""
        self.path = path
        self._formats = formats
        self._tail = Tail(path)
        self.tally = Tally()
        self.lines = 0
        try:
            self.format = self._recognise()
        except (OSError, PermanentError):
            self._tail.close()
            raise

    def _recognise(self) -> str:
        sniffer = Sniffer(self._formats)
        while not (name := sniffer.look(self._tail, self.tally, final=True)):
            if self._tail.unchanged():
                raise PermanentError(f"{self.path}: {_WHY.get(sniffer.reason, 'no complete line')}")
        return name

    def __iter__(self) -> Iterator[Parsed]:
        """Parse chunk after chunk; the rows of later chunks are higher. Raises OSError, also for a damaged archive."""
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
