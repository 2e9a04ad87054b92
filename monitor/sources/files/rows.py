"""Records → dense pieces of rows: which key is the step, the clock, the run; what counts as a number.

Shared by all parsers, and the hot path: records with the same keys become one matrix, and only columns that hold
something else than numbers are looked at value by value. Conventions:
- step: the first present of `STEP_KEYS`; other step-like keys stay metrics. A row without one has step -1.
- t: the first present of `CLOCK_KEYS`. Names that also mean a duration (`time`, …) are the clock only where the value
  is an epoch (> 1e9). Small values of the others are kept: seconds since the start.
- a metric is a number, or text that spells one ("2.345", "NaN", "Infinity"). Booleans, other text, null and lists are
  not metrics. |x| >= 1.79e308 is an infinity that the writer could not spell.
- nested keys are joined by "/".
Bounds: depth 8 of nesting, 65,536 schemas cached.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.sources.files.values import NUMBERS, Floats, Ints, clock, number, numbers, seconds, spelled, steps

STEP_KEYS = (
    "step", "_step", "global_step", "iteration", "iter", "trainer/global_step", "train/step", "train/global_step",
    "current_steps", "train_step", "steps", "num_steps", "num_updates", "update", "iter_num", "it", "Step", "Iteration",
)  # fmt: skip
CLOCK_KEYS = (
    "t",
    "timestamp",
    "_timestamp",
    "ts",
    "unix_time",
    "wall_time",
    "time",
    "datetime",
    "date",
    "time_ms",
    "asctime",
)
SURE_CLOCKS = frozenset({"t", "timestamp", "_timestamp", "ts", "unix_time"})
RUN_KEYS = ("run", "run_id", "run_name")
TOTAL_KEYS = ("total_steps", "max_steps", "total_iters", "train_iters", "total_iterations")

MAX_DEPTH = 8


class Unusable(StrEnum):
    """Why a line, a value or a file could not be used; the keys of `Batch.counts`."""

    NOT_A_RECORD = "not_a_record"
    NOT_A_NUMBER = "not_a_number"
    FIELD_COUNT = "field_count"
    NO_METRICS = "no_metrics"
    TOO_DEEP = "too_deep"
    LINE_TOO_LONG = "line_too_long"
    NOT_A_SCALAR = "not_a_scalar"
    RECORD_DAMAGED = "record_damaged"
    TORN_LINE = "torn_line"
    LOG_LINES_DROPPED = "log_lines_dropped"
    REPLACED = "file_replaced"
    LOST = "file_lost_before_end"
    UNREADABLE = "file_unreadable"
    NOT_A_FILE = "not_a_regular_file"
    BINARY = "file_binary"
    UNRECOGNISED = "file_unrecognised"
    CORRUPT = "file_corrupt"
    TOO_LARGE = "file_too_large"
    TOO_MANY_FILES = "too_many_files"
    TOO_DEEP_FOLDER = "folder_too_deep"


@dataclass(slots=True)
class Tally:
    """How often each thing was unusable and the first row at which it was."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)

    def add(self, what: Unusable, row: int, n: int = 1) -> None:
        """Count `n` more, the first of them at `row`."""
        if n:
            self.counts[what] = self.counts.get(what, 0) + n
            self.first[what] = min(self.first.get(what, row), row)

    def merge(self, other: Tally) -> None:
        """Add everything that `other` counted."""
        for what, n in other.counts.items():
            self.add(Unusable(what), other.first[what], n)


@dataclass(slots=True)
class Piece:
    """Dense rows of one set of metrics; arrays as in `Frame`. run: named in the rows themselves, None if not."""

    run: str | None
    columns: tuple[str, ...]
    row: Ints
    step: Ints
    t: Floats
    values: Floats


@dataclass(slots=True)
class Parsed:
    """What a parser made of some lines.

    lines: (row, text) of what is no record. totals: run → planned last step. finished: the file says that it ends.
    """

    pieces: list[Piece] = field(default_factory=list)
    lines: list[tuple[int, str]] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    totals: dict[str | None, int] = field(default_factory=dict)
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Schema:
    """Positions of the special columns of one tuple of keys (-1: none) and of all others."""

    step: int
    clock: int
    sure_clock: bool
    run: int
    total: int
    metrics: tuple[int, ...]
    names: tuple[str, ...]


def _first(wanted: Iterable[str], keys: Sequence[str]) -> int:
    return next((keys.index(k) for k in wanted if k in keys), -1)


@lru_cache(maxsize=65_536)
def schema_of(keys: tuple[str, ...]) -> Schema:
    """Which column of `keys` is what."""
    step, clock, run = _first(STEP_KEYS, keys), _first(CLOCK_KEYS, keys), _first(RUN_KEYS, keys)
    total = _first(TOTAL_KEYS, keys)
    metrics = tuple(i for i in range(len(keys)) if i not in (step, clock, run, total))
    sure = clock >= 0 and keys[clock] in SURE_CLOCKS
    return Schema(step, clock, sure, run, total, metrics, tuple(keys[i] for i in metrics))


def flat(record: Mapping[str, Any], tally: Tally, row: int, between: str = "/") -> dict[str, Any]:
    """`record` with nested keys joined by "/", or what else is to stand between them."""
    out: dict[str, Any] = {}
    stack: list[tuple[str, Any, int]] = [(str(k), v, 1) for k, v in reversed(list(record.items()))]
    while stack:
        key, value, depth = stack.pop()
        if not isinstance(value, dict):
            out[key] = value
        elif depth >= MAX_DEPTH:
            tally.add(Unusable.TOO_DEEP, row)
        else:
            stack.extend((f"{key}{between}{k}", v, depth + 1) for k, v in reversed(list(value.items())))
    return out


class Tabulator:
    """Turns records into pieces. Remembers which metrics were numbers, to count those that no longer are."""

    def __init__(self) -> None:
        self._numeric: set[str] = set()

    def records(self, records: Sequence[dict[str, Any]], rows: Sequence[int] | Ints, out: Parsed) -> None:
        """Add the pieces of `records`, which stand at `rows`, to `out`."""
        if records and list(chain.from_iterable(records)) == list(records[0]) * len(records):  # the usual case, at once
            values = list(chain.from_iterable(map(dict.values, records)))
            self._group(tuple(records[0]), values, np.asarray(rows, np.int64), out)
            return
        groups: dict[tuple[str, ...], tuple[list[Any], list[int]]] = {}
        for record, row in zip(records, rows, strict=True):
            values, at = groups.setdefault(tuple(record), ([], []))
            values += record.values()
            at.append(row)
        for keys, (values, at) in groups.items():
            self._group(keys, values, np.array(at, np.int64), out)

    def _group(self, keys: tuple[str, ...], values: list[Any], row: Ints, out: Parsed) -> None:
        """Rows of the same keys. values: of the first row, then of the second, and so on."""
        schema, width = schema_of(keys), len(keys)
        kinds = set(map(type, values))
        if kinds <= NUMBERS and (schema.sure_clock or schema.clock < 0) and schema.total < 0 and keys:
            try:
                matrix = spelled(np.fromiter(values, np.float64, len(values)))
            except OverflowError:
                pass
            else:
                self._dense(schema, matrix.reshape(len(row), width), row, out)
                return
        if dict in kinds:
            nested = [
                flat(dict(zip(keys, values[i * width : (i + 1) * width], strict=True)), out.tally, r)
                for i, r in enumerate(row.tolist())
            ]
            self.records(nested, row.tolist(), out)
            return
        self.columns(keys, [values[i::width] for i in range(width)], row, out)

    def _dense(self, schema: Schema, matrix: Floats, row: Ints, out: Parsed) -> None:
        n = len(row)
        step = steps(matrix[:, schema.step]) if schema.step >= 0 else np.full(n, -1, np.int64)
        t = seconds(matrix[:, schema.clock]) if schema.clock >= 0 else np.full(n, np.nan)
        self._emit(None, schema.names, row, step, t, matrix[:, schema.metrics], out)

    def columns(self, keys: tuple[str, ...], columns: Sequence[Sequence[Any]], row: Ints, out: Parsed) -> None:
        """Add the pieces of columns of mixed values, one column for each of `keys`, to `out`."""
        schema, n = schema_of(keys), len(row)
        t = np.full(n, np.nan)
        step = steps(numbers(columns[schema.step])[0]) if schema.step >= 0 else np.full(n, -1, np.int64)
        metrics = [(keys[i], *numbers(columns[i])) for i in schema.metrics]
        if schema.clock >= 0:
            clocks = [clock(v, sure=schema.sure_clock) for v in columns[schema.clock]]
            t = np.array([np.nan if c is None else c for c in clocks])
            if not schema.sure_clock:  # what is no epoch is a duration
                durations, present = numbers(columns[schema.clock])
                position = sum(i < schema.clock for i in schema.metrics)
                metrics.insert(position, (keys[schema.clock], durations, present & np.isnan(t)))
        runs: Sequence[Any] = [None] * n
        if schema.run >= 0:
            runs = [v if type(v) is str and v else None for v in columns[schema.run]]
        if schema.total >= 0:
            for run, total in zip(runs, columns[schema.total], strict=True):
                if (x := number(total)) is not None and 0 < x < 2.0**62:
                    out.totals[run] = int(x)
        for name, _, present in metrics:
            if not present.all() and (name in self._numeric or present.any()):
                column = columns[keys.index(name)]
                odd = [
                    i
                    for i in np.flatnonzero(~present).tolist()
                    if type(column[i]) in (str, bool, list) and column[i] != ""
                ]
                if odd:
                    out.tally.add(Unusable.NOT_A_NUMBER, int(row[odd[0]]), len(odd))
        self._split(runs, metrics, (row, step, t), out)

    def _split(
        self,
        runs: Sequence[str | None],
        metrics: list[tuple[str, Floats, npt.NDArray[np.bool_]]],
        where: tuple[Ints, Ints, Floats],
        out: Parsed,
    ) -> None:
        """Emit one piece for each run and set of present metrics."""
        row, step, t = where
        used = [m for m in metrics if m[2].any()]
        if not used:
            out.tally.add(Unusable.NO_METRICS, int(row[0]), len(row))
            return
        names = tuple(m[0] for m in used)
        values = np.stack([m[1] for m in used], axis=1)
        present = np.stack([m[2] for m in used], axis=1)
        if present.all() and len(set(runs)) == 1:
            self._emit(runs[0], names, row, step, t, values, out)
            return
        groups: dict[tuple[str | None, bytes], list[int]] = {}
        for i, (run, mask) in enumerate(zip(runs, present, strict=True)):
            groups.setdefault((run, mask.tobytes()), []).append(i)
        for (run, _), members in groups.items():
            at, mask = np.array(members), present[members[0]]
            if not mask.any():
                out.tally.add(Unusable.NO_METRICS, int(row[at[0]]), len(at))
                continue
            chosen = tuple(name for name, there in zip(names, mask, strict=True) if there)
            self._emit(run, chosen, row[at], step[at], t[at], values[np.ix_(at, np.flatnonzero(mask))], out)

    def _emit(
        self, run: str | None, columns: tuple[str, ...], row: Ints, step: Ints, t: Floats, values: Floats, out: Parsed
    ) -> None:
        if not columns:
            out.tally.add(Unusable.NO_METRICS, int(row[0]), len(row))
            return
        if len(self._numeric) < 100_000:
            self._numeric.update(columns)
        out.pieces.append(Piece(run, columns, row, step, t, values))
