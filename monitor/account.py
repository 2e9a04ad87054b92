"""What was understood of runs, as lines for a person: file, format, rows, the columns of each role, what is missing.

Pure. Bounds: LISTED runs are told of, the others counted; NAMES names in a list;
MAX_COLUMNS columns of a run, MAX_OTHERS names to count.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from detectors.types import Role
from monitor.frame import Batch, Status
from monitor.roles import role_of
from monitor.window import Window

LISTED = 20
NAMES = 6
MAX_COLUMNS = 1_000
MAX_OTHERS = 100_000


_MISSING: tuple[tuple[tuple[Role, ...], str], ...] = (
    ((Role.LOSS,), "no loss: spikes, divergence and NaN of the loss cannot be seen"),
    ((Role.GRAD_NORM,), "no gradient norm: a gradient blow-up shows in the loss only"),
    ((Role.STEP_TIME, Role.THROUGHPUT), "no step time and no throughput: a slow-down cannot be seen"),
    ((Role.DATA_TIME,), "no data time: a starving data loader shows in the step time or throughput only"),
)


def label(role: Role) -> str:
    """A role in words."""
    return role.value.replace("_", " ")


def by_role(columns: Iterable[str]) -> dict[Role, list[str]]:
    """Columns by what they mean, in the order of `Role`; of each role the primary one first."""
    found: dict[Role, list[str]] = {}
    for column in columns:
        found.setdefault(role_of(column).role, []).append(column)
    for role, names in found.items():
        if role is not Role.OTHER:
            names.sort(key=lambda name: role_of(name).rank)
    return {role: found[role] for role in Role if role in found}


def missing(roles: Collection[Role], *, clock: bool, step: bool) -> list[str]:
    """What cannot be seen for want of a column, a sentence each."""
    said = [text for wanted, text in _MISSING if not any(role in roles for role in wanted)]
    if not clock:
        said.append("no clock: silence is told by when rows arrive; a backtest cannot see it")
    if not step:
        said.append("no step: places are told as rows; a restart shows as a new file only")
    return said


def listing(names: Sequence[str], most: int = NAMES) -> str:
    """The first names and how many there are besides."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


@dataclass(slots=True)
class _Run:
    """A run that is told of. place: file and format. told: the roles that were said, None before the first time."""

    source: str
    place: tuple[str, str] = ("", "")
    rows: int = 0
    columns: dict[str, None] = field(default_factory=dict)
    clock: bool = False
    step: bool = False
    told: set[Role] | None = None


class Account:
    """Takes what was read, batch by batch, and gives the lines that are new."""

    def __init__(self, places: Callable[[Mapping[str, str]], Mapping[str, tuple[str, str]]]) -> None:
        """places: cursors → file and format of each run in them."""
        self._places = places
        self._runs: dict[str, _Run] = {}
        self._others: set[str] = set()
        self._said_others = 0
        self._counts: dict[str, int] = {}
        self._said_counts: set[str] = set()
        self._heads: set[str] = set()
        self._alike: dict[tuple[object, ...], str] = {}

    def recall(self, name: str, source: str, rows: int, look: Callable[[], Window]) -> None:
        """A run of an earlier process with so many rows. look: gives the newest of them."""
        if (run := self._run(name, source)) is not None:
            run.rows = rows
            for series in look().series[:MAX_COLUMNS]:
                run.columns[series.metric] = None
                run.clock |= bool(np.isfinite(series.t).any())
                run.step |= bool((series.step >= 0).any())

    def locate(self, cursors: Mapping[str, str]) -> None:
        """Take the file and the format of runs from the positions of a source."""
        if any(not run.place[0] for run in self._runs.values()):
            for name, place in self._places(cursors).items():
                if name in self._runs:
                    self._runs[name].place = place

    def take(self, batch: Batch) -> list[str]:
        """Lines to say after this batch, which is committed."""
        for frame in batch.frames:
            run = self._run(frame.run, batch.source)
            if run is not None:
                run.rows += frame.row.size
                run.columns |= dict.fromkeys(frame.columns[: MAX_COLUMNS - len(run.columns)])
                run.clock |= bool(np.isfinite(frame.t).any())
                run.step |= bool((frame.step >= 0).any())
        for what, many in batch.counts.items():
            self._counts[what] = self._counts.get(what, 0) + many
        self.locate(batch.cursors)
        return self._news(batch.source) if batch.at_head and batch.status is Status.OK else []

    def _run(self, name: str, source: str) -> _Run | None:
        if name not in self._runs and len(self._runs) >= LISTED:
            if len(self._others) < MAX_OTHERS:
                self._others.add(name)
            return None
        return self._runs.setdefault(name, _Run(source))

    def _news(self, source: str) -> list[str]:
        lines: list[str] = []
        for name, run in self._runs.items():
            if run.source == source:
                lines += self._told(name, run)
        if len(self._others) >= max(1, 2 * self._said_others):  # again when there are twice as many
            self._said_others = len(self._others)
            lines.append(f"and {len(self._others):,} more runs; the status page has them all")
        for what in self._counts.keys() - self._said_counts:
            self._said_counts.add(what)
            lines.append(
                f"not used: {self._counts[what]:,} × {what.replace('_', ' ')}; `runwarden inspect PATH` says which"
            )
        if source not in self._heads:
            self._heads.add(source)
            if not any(run.source == source for run in self._runs.values()) and not self._others:
                lines.append(f"{source}: no run yet; new ones are seen as they appear")
        return lines

    def _told(self, name: str, run: _Run) -> list[str]:
        """Everything at first, later the roles that are new."""
        roles = by_role(run.columns)
        if run.told is not None:
            new = [role for role in roles if role not in run.told and role is not Role.OTHER]
            run.told.update(new)
            return [f"{name}: {label(role)} is {roles[role][0]} from now on" for role in new]
        run.told = set(roles)
        where = ", ".join(part for part in (run.place[0] or run.source, run.place[1]) if part)
        first = f"{name}: {where}, {run.rows:,} rows so far"
        like = self._alike.setdefault((*run.columns, run.clock, run.step), name)
        if like != name:
            return [f"{first}; columns as in {like}"]
        known = [f"{label(role)}: {listing(names)}" for role, names in roles.items() if role is not Role.OTHER]
        lines = [first, f"  {'; '.join(known) or 'no column is known'}"]
        if others := roles.get(Role.OTHER):
            lines.append(f"  kept, not watched: {listing(others)}")
        return [*lines, *(f"  {text}" for text in missing(roles, clock=run.clock, step=run.step))]
