"""Series of a Prometheus server become rows of runs: joined on equal timestamps, each sample once.

The position in a run is the newest timestamp of every column, and the number of its next row: a column that arrives
later than the others of its timestamp gets a row of its own, and nothing is lost or taken twice. Samples are never
counted or resampled. Bounds: MAX_RUNS runs; columns that brought nothing within the look-back are forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from detectors.types import Origin
from monitor.frame import Frame
from monitor.sources.hosts import Hosts
from monitor.sources.prometheus.api import Series
from monitor.sources.series import Query, frames_of

MAX_RUNS = 20_000
RUN = "run:"
HEAD = "head"


class Unusable(StrEnum):
    """Why something that the server sent did not become a value."""

    AMBIGUOUS = "prometheus_ambiguous_series"
    NO_RUN = "prometheus_series_without_run"
    SERIES_LIMIT = "prometheus_series_limit"
    RUN_LIMIT = "prometheus_run_limit"
    BAD_SAMPLE = "prometheus_bad_sample"
    WARNED = "prometheus_incomplete_answer"
    TOO_OLD = "prometheus_gap_older_than_lookback"
    CORRUPT = "prometheus_corrupt_cursor"
    NO_CONTEXT = "prometheus_preset_not_answered"


@dataclass(slots=True)
class Progress:
    """row: ordinal of the run's next row. at: column → newest timestamp read, ms. held: what waited for the rest."""

    row: int = 0
    at: dict[str, int] = field(default_factory=dict)
    held: int = -1

    def dumps(self) -> str:
        """For the cursor."""
        return json.dumps({"row": self.row, "at": self.at}, separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What was asked for, ms. since: before it lies history, before `began` backlog. head: `stop` is now."""

    start: int
    stop: int
    since: int
    began: int
    head: bool

    def origin(self, t: int) -> Origin:
        """Where a sample of `t` comes from."""
        if t <= self.since:
            return Origin.HISTORY
        return Origin.BACKLOG if t <= self.began else Origin.LIVE


Columns = dict[str, Series]


class Runs:
    """How far every run was read, and what is new in the next answers."""

    def __init__(self, source: str, cursors: Mapping[str, str], step: str, hosts: Hosts) -> None:
        """step: the column that holds the step, "" if none does. Damaged cursors are ignored and counted."""
        self._hosts = hosts
        self._source = source
        self._step = step
        self._runs: dict[str, Progress] = {}
        self._owners: dict[tuple[str, str], frozenset[tuple[str, str]]] = {}
        self.counts: dict[str, int] = {}
        for key, text in cursors.items():
            if key.startswith(RUN):
                try:
                    kept = json.loads(text)
                    at = {str(c): int(t) for c, t in kept["at"].items()}
                    self._runs[key.removeprefix(RUN)] = Progress(row=int(kept["row"]), at=at)
                except (ValueError, LookupError, TypeError, AttributeError):
                    self.count(Unusable.CORRUPT)

    def count(self, what: Unusable, many: int = 1) -> None:
        """Count what could not be used."""
        if many:
            self.counts[what] = self.counts.get(what, 0) + many

    def row(self, run: str) -> int:
        """The last row of a run, 0 before the first."""
        return max(0, self._runs[run].row - 1) if run in self._runs else 0

    def sort(self, window: Window, answers: Sequence[tuple[Query, Sequence[Series]]]) -> dict[str, Columns]:
        """The samples of the answers by run and column."""
        places: dict[tuple[str, str], list[Series]] = {}
        for query, many in answers:
            for series in many:
                label = query.run(series.labels)
                if not label:
                    self.count(Unusable.NO_RUN)
                    continue
                run = f"{self._source}/{label}"
                if run not in self._runs and len(self._runs) >= MAX_RUNS:
                    self.count(Unusable.RUN_LIMIT)
                    continue
                self._hosts.learn(series.labels, run)
                places.setdefault((run, query.column(series.labels)), []).append(series)
        found: dict[str, Columns] = {}
        for (run, column), candidates in places.items():
            found.setdefault(run, {})[column] = self._one(window, run, column, candidates)
        return found

    def _one(self, window: Window, run: str, column: str, candidates: list[Series]) -> Series:
        """One series where several claim the column: the one that had it stays until it ends; the rest is counted.

        Two that follow each other, as when a trainer moves to another host, are read one after the other.
        """
        if len(candidates) == 1:
            self._owners[run, column] = frozenset(candidates[0].labels.items())
            return candidates[0]
        at = self._runs[run].at.get(column, -1) if run in self._runs else -1
        owner = self._owners.get((run, column))
        mine = [s for s in candidates if frozenset(s.labels.items()) == owner]
        fresh = [s for s in candidates if s.t[-1] > at and frozenset(s.labels.items()) != owner]
        fresh.sort(key=lambda s: (int(s.t[s.t > at][0]), sorted(s.labels.items())))
        ordered = [*mine, *fresh] or candidates[:1]
        t, values, last = ordered[0].t, ordered[0].values, ordered[0]
        for other in ordered[1:]:
            later = other.t > max(at, int(t[-1]))
            if later.sum() >= 3 or (later.any() and not window.head):  # fewer: both may be alive
                t = np.concatenate([t, other.t[later]])
                values = np.concatenate([values, other.values[later]])
                last = other
            else:
                self.count(Unusable.AMBIGUOUS)
        self._owners[run, column] = frozenset(last.labels.items())
        return Series(labels=last.labels, t=t, values=values)

    def gap(self, found: Mapping[str, Columns], start: int, new_from: int) -> int:
        """From where to read again, ms: columns that come back after `start` may have more; `start` if none does."""
        need = start
        for run, columns in found.items():
            progress = self._runs.get(run, Progress())
            for column, series in columns.items():
                at = progress.at.get(column, new_from)
                if series.t[-1] > at:
                    need = min(need, at)
        return need

    def take(self, window: Window, found: Mapping[str, Columns], floor: int) -> tuple[list[Frame], dict[str, str], int]:
        """Frames of what is new, cursors of the runs that moved, and the oldest timestamp that was held back (ms).

        At the head a row waits one poll for columns that are not there yet, so that one scrape is one row.
        floor: columns older than this can bring nothing that was not read.
        """
        frames: list[Frame] = []
        cursors: dict[str, str] = {}
        held = window.stop
        for run, columns in sorted(found.items()):
            progress = self._runs.setdefault(run, Progress())
            common = min(int(s.t[-1]) for s in columns.values())
            ripe = max(common, progress.held) if window.head else window.stop
            rows: dict[int, dict[str, float]] = {}
            waiting: list[int] = []
            moved = False
            for column, series in sorted(columns.items()):
                fresh = series.t > progress.at.get(column, -1)
                waiting += series.t[fresh & (series.t > ripe)].tolist()
                fresh &= series.t <= ripe
                if not fresh.any():
                    continue
                moved = True
                for t, value in zip(series.t[fresh].tolist(), series.values[fresh].tolist(), strict=True):
                    rows.setdefault(t, {})[column] = value
                progress.at[column] = int(series.t[fresh][-1])
            progress.held = max(waiting, default=-1)
            held = min([held, *waiting])
            if moved:
                made, progress.row = frames_of(run, rows, progress.row, self._step, window.origin, self._hosts)
                frames += made
                progress.at = {c: t for c, t in progress.at.items() if t >= floor}
                cursors[RUN + run] = progress.dumps()
        return frames, cursors, held
