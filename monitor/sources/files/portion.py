"""The next lines or records of a file, as its format has them, and what of them could not be used."""

from __future__ import annotations

from monitor.sources.files import PARSERS, Parser
from monitor.sources.files.rows import Parsed, Unusable
from monitor.sources.files.tailer import Chunk, Tail


def take(
    tail: Tail, parser: Parser, *, budget: int, boundary: int = 0, final: bool = False, quiet_s: float = 0.0
) -> Chunk:
    """Read on; parameters as of `Tail.records`."""
    framing = PARSERS[parser.name].records
    if framing is not None:
        return tail.records(framing, boundary=boundary, final=final, quiet_s=quiet_s, budget=budget)
    return tail.read(boundary=boundary, returns=parser.splits_returns, final=final, budget=budget)


def note(chunk: Chunk, row: int, out: Parsed) -> Parsed:
    """`out` with what could not be used of a chunk that begins at `row`."""
    for index in chunk.long_lines:
        out.tally.add(Unusable.LINE_TOO_LONG, row + index)
    for index, byte in chunk.damaged.items():
        out.tally.add(Unusable.RECORD_DAMAGED, row + index)
        out.lines.append((row + index, f"damaged record at byte {byte}"))
    if chunk.torn:
        out.tally.add(Unusable.TORN_LINE, row + len(chunk.lines))
    return out
