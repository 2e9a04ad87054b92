"""A finished file as the batches that a live tail would have seen, with the ticks between them.

Between rows that are more than 60 s apart a live source would have yielded empty batches; here they stand on a fixed
grid of the data's own clock (10 s for the first 2 h of a gap, then 600 s, for 7 days at most: what
has not been called silent by then will not be). A clock that goes back makes no ticks, a log without a clock has none,
and none follow the last row: the end of a file is not a silence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import PurePath

import numpy as np

from detectors.types import Origin
from monitor.frame import Batch
from monitor.sources.files import PARSERS, Formats
from monitor.sources.files.discover import run_of
from monitor.sources.files.haul import Haul, Names
from monitor.sources.files.rows import Parsed, Piece, Tally
from monitor.sources.files.tailer import MAX_LINE_BYTES
from monitor.sources.files.whole import Whole

MAX_ROWS = 8_192
GAP_S = 60.0
SPAN_S = 3_600.0
TICK_S = 10.0
FINE_S = 7_200.0
COARSE_TICK_S = 600.0
MAX_GAP_S = 7 * 86_400.0


def read_file(
    path: str, *, run: str | None = None, formats: Formats = PARSERS, max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[Batch]:
    """Yield the batches of one file, its rows as LIVE, in row order; the last has `at_head`.

    t_recv: the latest time that any row has had so far, or of the tick; 0.0 without a clock. run: the run id; by
    default the file's name without its suffixes. Before the first batch raises OSError if the file cannot be read and
    PermanentError if its format is unknown; later OSError if an archive is damaged.
    """
    whole = Whole(path, formats, max_line_bytes)
    names = Names(run or run_of(path, path), path, {})
    source, now = PurePath(path).name, -math.inf
    for parsed in whole:
        counts = parsed.tally
        for part, begins in _parts(parsed, now):
            for tick in _ticks(now, begins):
                yield Batch(source=source, t_recv=tick)
            haul = Haul(more=True, tally=counts)
            counts = Tally()
            haul.take(part, names, Origin.LIVE, 0)
            now = max((now, *(float(np.nanmax(p.t)) for p in part.pieces if np.isfinite(p.t).any())))
            yield haul.batch(source, _known(now))
    yield Batch(source=source, t_recv=_known(now))


def _known(t: float) -> float:
    return t if math.isfinite(t) else 0.0


def _ticks(after: float, before: float) -> Iterator[float]:
    """Times of the empty batches between two rows, none unless they are more than a gap apart."""
    if not before - after > GAP_S or not math.isfinite(before - after):
        return
    end = min(before, after + MAX_GAP_S)
    t = (math.floor(after / TICK_S) + 1) * TICK_S
    while t < end:
        yield t
        grid = TICK_S if t - after < FINE_S else COARSE_TICK_S
        t = (math.floor(t / grid) + 1) * grid


def _parts(parsed: Parsed, now: float) -> Iterator[tuple[Parsed, float]]:
    """Cut at gaps, at the bound of rows and at the bound of time; with each part the time at which it begins."""
    if not parsed.pieces:
        yield Parsed(lines=parsed.lines, totals=parsed.totals, finished=parsed.finished), math.nan
        return
    row = np.concatenate([p.row for p in parsed.pieces])
    order = np.argsort(row, kind="stable")
    row, t = row[order], np.concatenate([p.t for p in parsed.pieces])[order]
    latest = np.fmax.accumulate(np.concatenate(([now], t)))  # before each row, NaN skipped
    gaps = np.flatnonzero(t - latest[:-1] > GAP_S)
    start = 0
    while start < len(row):
        stop = min(len(row), start + MAX_ROWS)
        following = int(np.searchsorted(gaps, start, side="right"))
        if following < len(gaps):
            stop = min(stop, int(gaps[following]))
        if math.isfinite(limit := float(latest[start + 1]) + SPAN_S):
            stop = max(start + 1, min(stop, int(np.searchsorted(latest[1:], limit, side="right"))))
        low = int(row[start]) if start else -1
        high = int(row[stop]) if stop < len(row) else 1 << 62
        yield _slice(parsed, low, high), float(t[start])
        start = stop


def _slice(parsed: Parsed, low: int, high: int) -> Parsed:
    """The part of rows low <= row < high; planned lengths go with the first, the end of the run with the last."""
    out = Parsed(
        totals=parsed.totals if low < 0 else {},
        lines=[line for line in parsed.lines if low <= line[0] < high],
        finished=parsed.finished and high == 1 << 62,
    )
    for piece in parsed.pieces:
        a, b = np.searchsorted(piece.row, (low, high))
        if a < b:
            part = (piece.row[a:b], piece.step[a:b], piece.t[a:b], piece.values[a:b])
            out.pieces.append(Piece(piece.run, piece.columns, *part))
    return out
