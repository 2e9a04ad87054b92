"""One target for all fuzzing: bytes through a parser in two parts with the state carried as JSON, invariants checked.

Bounded in `make test` (test_fuzz.py), for hours by long.py. No input may raise anything, or take longer than linear.
"""

from __future__ import annotations

import json

from monitor.sources.files import PARSERS, Format, only_patterns
from monitor.sources.files.lines import split
from monitor.sources.files.records import Place
from monitor.sources.files.rows import Parsed

CUSTOM = r"^(?P<t>[^|]*)\|(?P<step>[\d,]+)(?:/(?P<total>\d+))? (?P<loss>\S+)?(?: (?P<grad_norm>\S+))?"
FORMATS: dict[str, Format] = {**PARSERS, "custom": only_patterns([CUSTOM])["text"]}


def consume(name: str, data: bytes) -> None:
    """Feed `data`, behind a first byte that says where to cut, and check what comes out."""
    format_ = FORMATS[name]
    if format_.records is not None:
        cut = format_.records.cut(data[1:], Place(0, len(data) - 1, 1 << 20, True, False))
        assert cut.end >= 0
        pieces = list(cut.records)
    else:
        pieces = split(data[1:] + b"\n", returns=format_.make({}).splits_returns)
        format_.recognise(pieces)
    at = len(pieces) * (data[0] if data else 0) // 256
    first = format_.make({})
    check(first.feed(pieces[:at], 0), 0, at)
    second = format_.make(json.loads(json.dumps(first.state())))
    check(second.feed(pieces[at:], at), at, len(pieces))
    json.dumps(second.state())
    if format_.records is None:
        assert -1 <= second.known(pieces) <= len(pieces)


def check(parsed: Parsed, low: int, high: int) -> None:
    """What holds of every parser's output. Raises AssertionError."""
    for piece in parsed.pieces:
        n = len(piece.row)
        assert n
        assert piece.values.shape == (n, len(piece.columns))
        assert len(piece.step) == len(piece.t) == n
        assert len(set(piece.columns)) == len(piece.columns) > 0
        assert low <= piece.row[0] <= piece.row[-1] < high
        assert (piece.row[1:] > piece.row[:-1]).all()
        assert (piece.step >= -1).all()
    assert all(low <= row < high for row, _ in parsed.lines)
    assert all(0 < total < 1 << 62 for total in parsed.totals.values())
