"""Frames of one run become blocks: rows in order, one attempt, one origin, metrics with their roles; pure.

Every cut follows from the rows alone, so any chunking of the same rows gives the same stretches between the same facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from detectors.types import Block, Column, Origin, Role
from monitor.attempts import Attempt
from monitor.frame import Frame
from monitor.roles import role_of

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]


@dataclass(slots=True)
class Run:
    """What is known of one run between batches.

    metrics: name → role; primary: role → its first metric. dropped: series beyond the cap. rows: how many were seen.
    live: rows came after the first sight. alive: how many rows could have paged. announced: the last attempt whose
    start was reported.
    """

    name: str
    source: str = ""
    attempt: Attempt = field(default_factory=Attempt)
    metrics: dict[str, Role] = field(default_factory=dict)
    primary: dict[Role, str] = field(default_factory=dict)
    dropped: int = 0
    rows: int = 0
    last_row: int = -1
    last_step: int = -1
    last_t: float = float("nan")
    seen: float = float("nan")
    total_steps: int = -1
    finished: bool = False
    live: bool = False
    alive: int = 0
    announced: int = -1


@dataclass(frozen=True, slots=True)
class _Merged:
    row: Int
    step: Int
    t: Float
    columns: dict[str, tuple[Int, Float]]
    generation: Int
    origin: Int


_ORIGINS = (Origin.HISTORY, Origin.BACKLOG, Origin.LIVE)


def blocks_of(run: Run, frames: Sequence[Frame], seen: float, max_series: int) -> list[Block]:
    """Cut the new rows of one run at every change of attempt, origin and primary metric.

    Updates `run`. seen: Unix seconds of arrival. max_series: metrics beyond it are dropped and counted in run.dropped.
    """
    merged = _merge([f for f in frames if f.row.size])
    if merged is None:
        return []
    n = merged.row.size
    cuts = {0, n, *_changes(merged.origin)}
    roles = _learn(run, merged, max_series)
    cuts.update(at for at, _, _ in roles)
    begins = [0, *_changes(merged.generation), n]
    loss = _loss(run, merged, roles)
    ordinal = np.empty(n, dtype=np.int64)
    for a, b in pairwise(begins):
        run.attempt.begin(int(merged.generation[a]))
        first = run.attempt.ordinal
        starts = run.attempt.starts(merged.step[a:b], loss[a:b])
        ordinal[a:b] = first + np.searchsorted(starts, np.arange(b - a), side="right") if starts else first
    cuts.update(_changes(ordinal))
    edges = sorted(cuts)
    blocks = []
    for a, b in pairwise(edges):
        for _, role, metric in (r for r in roles if r[0] == a):
            run.primary[role] = metric
        blocks.append(
            Block(
                run=run.name,
                attempt=int(ordinal[a]),
                row=merged.row[a:b],
                step=merged.step[a:b],
                t=merged.t[a:b],
                columns=tuple(_cut(run, merged, a, b)),
                seen=seen,
                origin=_ORIGINS[int(merged.origin[a])],
                total_steps=run.total_steps,
            )
        )
    _advance(run, merged, seen)
    return blocks


def _changes(line: Int) -> list[int]:
    """Positions at which a line differs from the one before."""
    if line[0] == line[-1] and (line.size == 1 or (line == line[0]).all()):
        return []
    places: list[int] = (np.flatnonzero(line[1:] != line[:-1]) + 1).tolist()
    return places


def _merge(frames: Sequence[Frame]) -> _Merged | None:
    if not frames:
        return None
    if len(frames) == 1:
        return _alone(frames[0])
    row = np.concatenate([f.row for f in frames])
    order = np.argsort(row, kind="stable")
    place = np.empty(row.size, dtype=np.int64)
    place[order] = np.arange(row.size)
    pieces: dict[str, list[tuple[Int, Float]]] = {}
    offset = 0
    for frame in frames:
        at = place[offset : offset + frame.row.size]
        offset += frame.row.size
        for j, name in enumerate(frame.columns):
            pieces.setdefault(name, []).append((at, frame.values[:, j]))
    columns = {}
    for name, parts in pieces.items():
        if len(parts) == 1:
            index, values = parts[0]
        else:
            index, values = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
        sort = np.argsort(index, kind="stable")
        columns[name] = (index[sort], np.ascontiguousarray(values[sort]))
    return _Merged(
        row=row[order],
        step=np.concatenate([f.step for f in frames])[order],
        t=np.concatenate([f.t for f in frames])[order],
        columns=columns,
        generation=np.concatenate([np.full(f.row.size, f.generation) for f in frames])[order],
        origin=np.concatenate([np.full(f.row.size, _ORIGINS.index(f.origin)) for f in frames])[order],
    )


def _alone(frame: Frame) -> _Merged:
    """One frame is in order already."""
    index = np.arange(frame.row.size)
    lines = np.ascontiguousarray(frame.values.T)
    return _Merged(
        row=frame.row,
        step=frame.step,
        t=frame.t,
        columns={name: (index, line) for name, line in zip(frame.columns, lines, strict=True)},
        generation=np.full(frame.row.size, frame.generation),
        origin=np.full(frame.row.size, _ORIGINS.index(frame.origin)),
    )


def _learn(run: Run, merged: _Merged, max_series: int) -> list[tuple[int, Role, str]]:
    """Roles of metrics seen for the first time; (position, role, metric) at which a role gets a better primary."""
    fresh = sorted(
        (int(index[0]), name) for name, (index, _) in merged.columns.items() if name not in run.metrics and index.size
    )
    changes: list[tuple[int, Role, str]] = []
    best = dict(run.primary)
    for at, name in fresh:
        if len(run.metrics) >= max_series:
            run.dropped += 1
            continue
        info = role_of(name)
        run.metrics[name] = info.role
        if info.role is Role.OTHER:
            continue
        if info.role not in best or info.rank < role_of(best[info.role]).rank:
            best[info.role] = name
            changes.append((at, info.role, name))
    return changes


def _loss(run: Run, merged: _Merged, changes: Sequence[tuple[int, Role, str]]) -> Float:
    """The primary loss at every row, NaN where there is none."""
    line = np.full(merged.row.size, np.nan)
    places = [(at, name) for at, role, name in changes if role is Role.LOSS]
    ends = [at for at, _ in places] + [merged.row.size]
    for (at, name), end in zip([(0, run.primary.get(Role.LOSS, "")), *places], ends, strict=True):
        if name in merged.columns:
            index, values = merged.columns[name]
            lo, hi = index.searchsorted((at, end))
            line[index[lo:hi]] = values[lo:hi]
    return line


def _cut(run: Run, merged: _Merged, a: int, b: int) -> list[Column]:
    columns = []
    for name in sorted(merged.columns):
        role = run.metrics.get(name)
        if role is None:
            continue  # beyond the series cap, counted in run.dropped
        index, values = merged.columns[name]
        if b - a < merged.row.size:
            lo, hi = index.searchsorted((a, b))
            index, values = index[lo:hi] - a, values[lo:hi]
        if index.size:
            columns.append(Column(name, role, run.primary.get(role) == name, index, values))
    return columns


def _advance(run: Run, merged: _Merged, seen: float) -> None:
    run.rows += merged.row.size
    run.last_row = int(merged.row[-1])
    steps = merged.step[merged.step >= 0]
    if steps.size:
        run.last_step = int(steps[-1])
    clocks = merged.t[np.isfinite(merged.t)]
    if clocks.size:
        run.last_t = float(clocks[-1])
    run.seen = seen
    run.live = run.live or bool((merged.origin != _ORIGINS.index(Origin.HISTORY)).any())
