"""Pushed samples become rows of runs: each once, those of one timestamp together, whatever requests they came in.

What was taken of a series is known by its newest timestamp. A row that is not complete yet (senders split a scrape into
requests) is kept in the run's cursor: so its samples are durable, and their sender may hear so, before the row is
emitted. It is complete when every series of the run has come as far, or after `join_s`. A column belongs to one series
at a time: another one that claims it (the second of an HA pair, a trainer that moved) gets it when the first has ended
or said nothing for TAKEOVER_MS; until then its samples are dropped and counted. Bounds: MAX_RUNS, series of a sender
and of a run, HELD values that wait; series that brought nothing for MAX_AGE_MS are forgotten, older samples refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b

from detectors.types import Origin
from monitor.frame import Frame
from monitor.sources.hosts import Hosts
from monitor.sources.series import frames_of

RUN = "run:"
MAX_RUNS = 20_000
MAX_AGE_MS = 86_400_000
FUTURE_MS = 600_000
TAKEOVER_MS = 60_000
HELD = 5_000
SWEEP_MS = 60_000


class Unusable(StrEnum):
    """Why something that was pushed did not become a value."""

    NO_QUERY = "remote_write_not_selected"
    NO_RUN = "remote_write_series_without_run"
    BAD_LABELS = "remote_write_bad_labels"
    HISTOGRAM = "remote_write_native_histogram"
    RUN_LIMIT = "remote_write_run_limit"
    SENDER_SERIES = "remote_write_sender_series_limit"
    RUN_SERIES = "remote_write_run_series_limit"
    RIVAL = "remote_write_rival_series"
    DUPLICATE = "remote_write_duplicate"
    OUT_OF_ORDER = "remote_write_out_of_order"
    TOO_OLD = "remote_write_too_old"
    FUTURE = "remote_write_in_the_future"
    REPEATED = "remote_write_repeated_row"
    CORRUPT = "remote_write_corrupt_cursor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a series belongs. series: tells those apart that claim one column."""

    run: str
    column: str
    series: str


def fingerprint(labels: Mapping[str, str]) -> str:
    """Short, the same for the same labels."""
    return blake2b(json.dumps(sorted(labels.items())).encode(), digest_size=6).hexdigest()


@dataclass(slots=True)
class Column:
    """at: newest timestamp taken, ms. series: whose it is. sender: who brought it first. ended: by a staleness mark."""

    at: int
    series: str
    sender: str
    ended: bool = False


@dataclass(slots=True)
class Row:
    """Values that wait for the rest of their timestamp since `since` (ms of our clock)."""

    since: int
    values: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Progress:
    """row: ordinal of the run's next row. held: timestamp → what waits. last: what the last row said, in short."""

    row: int = 0
    columns: dict[str, Column] = field(default_factory=dict)
    held: dict[int, Row] = field(default_factory=dict)
    last: str = ""

    def dumps(self) -> str:
        """For the cursor."""
        columns = {c: [k.at, k.series, k.sender, int(k.ended)] for c, k in self.columns.items()}
        held = {t: r.values for t, r in self.held.items()}
        kept = {"row": self.row, "columns": columns, "held": held, "last": self.last}
        return json.dumps(kept, separators=(",", ":"))

    @classmethod
    def loads(cls, text: str, now: int) -> Progress:
        """What `dumps` gave. Raises ValueError, LookupError, TypeError, AttributeError."""
        kept = json.loads(text)
        columns = {str(c): Column(int(a), str(s), str(w), bool(e)) for c, (a, s, w, e) in kept["columns"].items()}
        held = {int(t): Row(now, {str(c): float(v) for c, v in r.items()}) for t, r in kept["held"].items()}
        return cls(int(kept["row"]), columns, held, str(kept.get("last", "")))

    def ripe(self, now: int, join_ms: int) -> list[int]:
        """Timestamps of the rows that wait no longer, in order."""
        newest = max(self.held, default=-1)
        # Of a run that is new nobody knows yet what belongs to a row of it.
        upto = min((c.at for c in self.columns.values() if not c.ended), default=newest) if self.row else -1
        upto = max([upto, *(t for t, row in self.held.items() if not row.since <= now < row.since + join_ms)])
        if sum(len(row.values) for row in self.held.values()) > HELD:
            upto = newest
        return sorted(t for t in self.held if t <= upto)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """max_series: of one sender. max_run_series: of one run. join_s: how long a row waits for the rest of it.

    repeats: whether senders say the last values again where there is nothing new, so that such rows are none.
    """

    max_series: int = 5_000
    max_run_series: int = 1_000
    join_s: float = 2.0
    repeats: bool = False


class Runs:
    """How far every run was taken."""

    def __init__(self, cursors: Mapping[str, str], bounds: Bounds, step: str, now: int, hosts: Hosts) -> None:
        """step: the column that holds the step, "" if none does. Damaged cursors are ignored and counted."""
        self._bounds = bounds
        self._hosts = hosts
        self._step = step
        self._runs: dict[str, Progress] = {}
        self._waiting: set[str] = set()  # runs with held rows
        self._used: dict[str, int] = {}  # sender → series
        self._swept = now
        self.counts: dict[str, int] = {}
        for key, text in cursors.items():
            if key.startswith(RUN):
                try:
                    self._runs[key.removeprefix(RUN)] = Progress.loads(text, now)
                except (ValueError, LookupError, TypeError, AttributeError):
                    self.count(Unusable.CORRUPT)
        self._waiting.update(run for run, progress in self._runs.items() if progress.held)
        self._sweep(now)

    def __len__(self) -> int:
        return len(self._runs)

    def count(self, what: Unusable, many: int = 1) -> None:
        """Count what could not be used."""
        if many:
            self.counts[what] = self.counts.get(what, 0) + many

    def row(self, run: str) -> int:
        """The last row of a run, 0 before the first."""
        return max(0, self._runs[run].row - 1) if run in self._runs else 0

    def fed_by(self, sender: str) -> list[str]:
        """The runs that have series of a sender."""
        return sorted(r for r, p in self._runs.items() if any(c.sender == sender for c in p.columns.values()))

    def add(self, place: Place, points: list[tuple[int, float | None]], sender: str, now: int) -> bool:
        """Take what is new of a series; whether there was anything."""
        progress, column = self._column(place, sender)
        if column is None:
            return False
        new = False
        for t, value in points:
            refusal = _refusal(column, place.series, t, now)
            if refusal is not None:
                if value is not None:  # staleness marks are no samples
                    self.count(refusal)
                continue
            new = True
            column.at, column.series, column.ended = t, place.series, value is None
            if value is not None:
                progress.held.setdefault(t, Row(now)).values[place.column] = value
        return new

    def _column(self, place: Place, sender: str) -> tuple[Progress, Column | None]:
        progress = self._runs.get(place.run)
        if progress is None:
            progress = Progress()
            if len(self._runs) >= MAX_RUNS:
                self.count(Unusable.RUN_LIMIT)
                return progress, None
        column = progress.columns.get(place.column)
        if column is None:
            if len(progress.columns) >= self._bounds.max_run_series:
                self.count(Unusable.RUN_SERIES)
                return progress, None
            if self._used.get(sender, 0) >= self._bounds.max_series:
                self.count(Unusable.SENDER_SERIES)
                return progress, None
            self._used[sender] = self._used.get(sender, 0) + 1
            column = progress.columns[place.column] = Column(-1, place.series, sender)
        self._runs[place.run] = progress
        return progress, column

    def take(self, touched: set[str], origin: Callable[[int], Origin], now: int) -> tuple[list[Frame], dict[str, str]]:
        """Frames of the rows that are complete, and the cursors of the runs that moved.

        touched: the runs with new samples.
        """
        frames: list[Frame] = []
        cursors: dict[str, str] = {}
        if not self._swept <= now < self._swept + SWEEP_MS:
            self._sweep(now)
        for run in sorted(self._waiting | touched):
            progress = self._runs[run]
            ripe = progress.ripe(now, round(self._bounds.join_s * 1000))
            rows = {t: progress.held.pop(t).values for t in ripe}
            if self._bounds.repeats:
                self._unrepeat(progress, rows)
            made, progress.row = frames_of(run, rows, progress.row, self._step, origin, self._hosts)
            frames += made
            (self._waiting.add if progress.held else self._waiting.discard)(run)
            if ripe or run in touched:
                cursors[RUN + run] = progress.dumps()
        return frames, cursors

    def _unrepeat(self, progress: Progress, rows: dict[int, dict[str, float]]) -> None:
        """Take out the rows that say what the one before said, in every value."""
        for t in sorted(rows):
            said = blake2b(json.dumps(sorted(rows[t].items())).encode(), digest_size=6).hexdigest()
            if said == progress.last:
                del rows[t]
                self.count(Unusable.REPEATED)
            progress.last = said

    def _sweep(self, now: int) -> None:
        """Forget series that can bring nothing any more; the ordinal of a run's rows stays."""
        self._swept = now
        self._used = {}
        for progress in self._runs.values():
            progress.columns = {c: k for c, k in progress.columns.items() if k.at >= now - MAX_AGE_MS}
            for column in progress.columns.values():
                self._used[column.sender] = self._used.get(column.sender, 0) + 1


def _refusal(column: Column, series: str, t: int, now: int) -> Unusable | None:
    if t < now - MAX_AGE_MS:
        return Unusable.TOO_OLD
    if t > now + FUTURE_MS:
        return Unusable.FUTURE
    if series != column.series and not column.ended and t <= column.at + TAKEOVER_MS:
        return Unusable.RIVAL
    if t == column.at:
        return Unusable.DUPLICATE
    return Unusable.OUT_OF_ORDER if t < column.at else None
