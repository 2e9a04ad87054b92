"""What is in a log file, as the watcher would read it: for `runwarden inspect FILE`."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from monitor.roles import RoleInfo, role_of
from monitor.sources.files import PARSERS, Formats
from monitor.sources.files.discover import run_of
from monitor.sources.files.haul import Names
from monitor.sources.files.rows import Piece
from monitor.sources.files.values import Ints
from monitor.sources.files.whole import Whole

Cell = str | int | float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSummary:
    """One metric: how many values, how many of them not finite, and what its name means."""

    metric: str
    info: RoleInfo
    primary: bool
    values: int
    nonfinite: int
    first_row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One run of a file. Ranges are (lowest, highest), None without a step or clock. total_steps: -1 if unknown."""

    run: str
    rows: int
    columns: tuple[ColumnSummary, ...]
    steps: tuple[int, int] | None
    times: tuple[float, float] | None
    total_steps: int
    steps_back: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One file. problems: reason → (how many, first line, from 1)."""

    path: str
    format: str
    lines: int
    log_lines: int
    runs: tuple[RunSummary, ...]
    problems: dict[str, tuple[int, int]]


@dataclass(slots=True)
class _Column:
    values: int = 0
    nonfinite: int = 0
    first_row: int = 0


@dataclass(slots=True)
class _Run:
    rows: int = 0
    columns: dict[str, _Column] = field(default_factory=dict)
    low: int = 1 << 62
    high: int = -1
    begins: float = math.inf
    ends: float = -math.inf
    total: int = -1
    steps_back: int = 0
    last_step: int = -1


def inspect_file(path: str, formats: Formats = PARSERS) -> Summary:
    """Read `path` whole and sum it up. Raises OSError if it cannot be read, PermanentError if its format is unknown."""
    whole, runs, log_lines = Whole(path, formats), dict[str, _Run](), 0
    names = Names(run_of(path, path), path, {})
    for parsed in whole:
        log_lines += len(parsed.lines)
        steps: dict[str, list[tuple[Ints, Ints]]] = {}
        for piece in parsed.pieces:
            name = names.of(piece.run)
            run = runs.setdefault(name, _Run())
            run.rows += len(piece.row)
            steps.setdefault(name, []).append((piece.row, piece.step))
            for i, metric in enumerate(piece.columns):
                column = run.columns.setdefault(metric, _Column(first_row=int(piece.row[0])))
                column.first_row = min(column.first_row, int(piece.row[0]))
                column.values += len(piece.row)
                column.nonfinite += int((~np.isfinite(piece.values[:, i])).sum())
            if (known := piece.t[np.isfinite(piece.t)]).size:
                run.begins, run.ends = min(run.begins, float(known.min())), max(run.ends, float(known.max()))
        for name, parts in steps.items():
            _add_steps(runs[name], np.concatenate([r for r, _ in parts]), np.concatenate([s for _, s in parts]))
        for owner, total in parsed.totals.items():
            runs.setdefault(names.of(owner), _Run()).total = total
    problems = {str(k): (n, whole.tally.first[k] + 1) for k, n in whole.tally.counts.items()}
    return Summary(
        path=path,
        format=whole.format,
        lines=whole.lines,
        log_lines=log_lines,
        runs=tuple(_summary(name, run) for name, run in runs.items() if run.rows),
        problems=problems,
    )


def _add_steps(run: _Run, row: Ints, step: Ints) -> None:
    step = step[np.argsort(row, kind="stable")]
    step = step[step >= 0]
    if not step.size:
        return
    run.low, run.high = min(run.low, int(step.min())), max(run.high, int(step.max()))
    run.steps_back += int((np.diff(step, prepend=run.last_step) < 0).sum())
    run.last_step = int(step[-1])


def _summary(name: str, run: _Run) -> RunSummary:
    infos = {metric: role_of(metric) for metric in run.columns}
    best: dict[str, tuple[int, int, str]] = {}
    for metric, info in infos.items():
        rank = (info.rank, run.columns[metric].first_row, metric)
        best[info.role] = min(best.get(info.role, rank), rank)
    columns = tuple(
        ColumnSummary(
            metric=metric,
            info=infos[metric],
            primary=infos[metric].role != "other" and best[infos[metric].role][2] == metric,
            values=c.values,
            nonfinite=c.nonfinite,
            first_row=c.first_row,
        )
        for metric, c in run.columns.items()
    )
    return RunSummary(
        run=name,
        rows=run.rows,
        columns=columns,
        steps=(run.low, run.high) if run.high >= 0 else None,
        times=(run.begins, run.ends) if run.ends > -math.inf else None,
        total_steps=run.total,
        steps_back=run.steps_back,
    )


def rows(path: str, formats: Formats = PARSERS) -> Iterator[dict[str, Cell]]:
    """The rows of a file in order: `{"run", "step", "t", metric: value, …}`; step and t None where there is none."""
    names = Names(run_of(path, path), path, {})
    for parsed in Whole(path, formats):
        numbered = heapq.merge(*(_records(piece, names.of(piece.run)) for piece in parsed.pieces), key=lambda r: r[0])
        yield from (record for _, record in numbered)


def _records(piece: Piece, run: str) -> Iterator[tuple[int, dict[str, Cell]]]:
    cells = zip(piece.row.tolist(), piece.step.tolist(), piece.t.tolist(), piece.values.tolist(), strict=True)
    for row, step, t, values in cells:
        record: dict[str, Cell] = {"run": run, "step": None if step < 0 else step, "t": None if math.isnan(t) else t}
        record.update(zip(piece.columns, values, strict=True))
        yield row, record
