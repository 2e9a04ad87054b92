"""One project: its new rows become frames of its runs, each row once, whatever was renamed, restored or deleted.

A run is known by Trackio's id of it and called by the name that it had at first; a second one of the same name gets a
part of its id added. Where rows stand in the database anew (the run was renamed, the file put back), as many as were
read are passed over. Bounds: MAX_RUNS of a project.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from detectors.types import Origin
from monitor.frame import Frame, LogLine
from monitor.sources.files.haul import MAX_TEXT, encodable
from monitor.sources.files.jsonl import decode
from monitor.sources.files.rows import Parsed, Tabulator
from monitor.sources.trackio.database import Known, Mark, Portion, Row, read
from monitor.sources.wandb.records import Counts, frames

MAX_RUNS = 2_000
PROJECT, RUN = "project:", "run:"


class Unusable(StrEnum):
    """Why something in a folder of projects did not become a value; the keys of `Batch.counts`."""

    NO_PROJECT = "trackio_no_project"
    PROJECT_LIMIT = "trackio_project_limit"
    RUN_LIMIT = "trackio_run_limit"
    REPLACED = "trackio_database_replaced"
    KNOWN = "trackio_row_known"
    BAD_ROW = "trackio_bad_row"
    TOO_LONG = "trackio_row_too_long"
    NOT_A_SCALAR = "trackio_not_a_scalar"
    CORRUPT = "trackio_corrupt_cursor"


@dataclass(slots=True)
class Run:
    """name: of its frames. title, timestamp: of the last row. row: rows read. known: rows to come that were read."""

    name: str
    title: str
    timestamp: str = ""
    row: int = 0
    known: int = 0


@dataclass(slots=True)
class News:
    """What a look at a project brought."""

    frames: list[Frame] = field(default_factory=list)
    lines: list[LogLine] = field(default_factory=list)
    cursors: dict[str, str] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    more: bool = False


class Project:
    """See the module."""

    def __init__(self, source: str, path: Path, cursors: Mapping[str, str], *, old: bool) -> None:
        """cursors: all of the source. old: what the database holds at first sight is history."""
        self.name = f"{source}/{encodable(path.stem)}"
        self._path, self._key = path, encodable(path.stem)
        self._table = Tabulator()
        self._runs: dict[str, Run] = {}
        self._damaged = 0
        self._mark, self._since, self._began = Mark(), 0, -1
        text = cursors.get(PROJECT + self._key)
        self._old = old and text is None
        damaged = False
        try:
            kept: dict[str, Any] = json.loads(text) if text is not None else {"mark": [0, "", ""], "since": 0}
            id_, run, timestamp = kept["mark"]
            self._mark, self._since = Mark(int(id_), str(run), str(timestamp)), int(kept["since"])
        except (ValueError, TypeError, KeyError):
            damaged = self._old = True
            self._damaged += 1
        begin = f"{RUN}{self._key}/"
        for key, text in cursors.items():
            if key.startswith(begin):
                try:
                    name, title, timestamp, row, known = json.loads(text)
                    run_ = Run(str(name), str(title), str(timestamp), int(row), int(known))
                    self._runs[key.removeprefix(begin)] = run_
                except (ValueError, TypeError):
                    self._damaged += 1
        for run in self._runs.values() if damaged else ():
            run.known = run.row  # where to go on is not known: from the beginning

    @property
    def runs(self) -> list[Run]:
        """Those that were seen."""
        return list(self._runs.values())

    def say(self, text: str) -> list[LogLine]:
        """A line for each of its runs."""
        return [LogLine(run=run.name, row=max(0, run.row - 1), text=text[:MAX_TEXT]) for run in self._runs.values()]

    def look(self) -> News:
        """Read what is new. Raises UnreadableError, NoProjectError."""
        portion = read(
            self._path, self._mark, {id_: Known(run.title, run.timestamp) for id_, run in self._runs.items()}
        )
        news = News(more=portion.more)
        news.counts.add(Unusable.CORRUPT, self._damaged)
        self._damaged = 0
        moved: set[str] = set()
        if not portion.same:
            news.lines += self.say(f"Trackio: the database of the project {self._key} is another one now")
            news.counts.add(Unusable.REPLACED)
            self._mark, self._since, self._began = Mark(), 0, -1
            moved |= self._runs.keys()
        if self._began < 0:
            self._began = portion.newest
            self._since, self._old = (portion.newest if self._old else self._since), False
            news.cursors[PROJECT + self._key] = self._dumps()
        for id_, many in portion.again.items():
            self._runs[id_].known = min(self._runs[id_].row, many)
        moved |= self._take(portion, news)
        if portion.rows:
            last = portion.rows[-1]
            self._mark = Mark(last.id, last.run, last.timestamp)
        if portion.rows or moved:
            news.cursors[PROJECT + self._key] = self._dumps()
        for id_ in moved:
            run = self._runs[id_]
            news.cursors[f"{RUN}{self._key}/{id_}"] = json.dumps(astuple(run))
        return news

    def _dumps(self) -> str:
        return json.dumps({"mark": astuple(self._mark), "since": self._since})

    def _take(self, portion: Portion, news: News) -> set[str]:
        """Frames of the rows; the runs that moved."""
        groups: dict[tuple[str, Origin], list[tuple[int, dict[str, Any]]]] = {}
        moved: set[str] = set()
        for row in portion.rows:
            run = self._runs.get(row.run)
            if run is None:
                if len(self._runs) >= MAX_RUNS:
                    news.counts.add(Unusable.RUN_LIMIT)
                    continue
                run = self._runs[row.run] = Run(self._free(row), row.title)
            moved.add(row.run)
            run.title = row.title
            if run.known:
                run.known -= 1
                news.counts.add(Unusable.KNOWN)
                continue
            record = _record(row, news.counts)
            if record:
                groups.setdefault((row.run, self._origin(row.id)), []).append((run.row, record))
            run.row, run.timestamp = run.row + 1, max(run.timestamp, row.timestamp)
        for (id_, origin), rows in groups.items():
            parsed = Parsed()
            self._table.records([record for _, record in rows], [at for at, _ in rows], parsed)
            for reason, many in parsed.tally.counts.items():
                news.counts.add(reason, many)
            news.frames += frames(parsed, self._runs[id_].name, origin, 0)
        return moved

    def _free(self, row: Row) -> str:
        name = f"{self.name}/{encodable(row.title)[:MAX_TEXT]}"
        taken = {run.name for run in self._runs.values()}
        return name if name not in taken else f"{name}-{encodable(row.run)[:8]}"

    def _origin(self, id_: int) -> Origin:
        if id_ <= self._since:
            return Origin.HISTORY
        return Origin.BACKLOG if id_ <= self._began else Origin.LIVE


def _record(row: Row, counts: Counts) -> dict[str, Any] | None:
    """The metrics of a row with its clock and step; pictures, tables and histograms are left out."""
    if row.metrics is None:
        counts.add(Unusable.TOO_LONG)
        return None
    value = decode(row.metrics if isinstance(row.metrics, bytes) else row.metrics.encode("utf-8", "replace"))
    if not isinstance(value, dict):
        counts.add(Unusable.BAD_ROW)
        return None
    kept = {k: v for k, v in value.items() if not (isinstance(v, dict) and "_type" in v)}
    counts.add(Unusable.NOT_A_SCALAR, len(value) - len(kept))
    return {**kept, "_timestamp": row.timestamp, "_step": row.step} if kept else None
