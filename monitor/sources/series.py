"""Labelled series become columns of runs and rows: what sources of the Prometheus kind have in common. Pure.

A selected series belongs to the run that one of its labels names; the samples of a run with one timestamp are one row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from detectors.types import Origin
from monitor.frame import Frame, LogLine
from monitor.sources.hosts import Hosts

MAX_NAME = 200
MAX_TARGETS = 20_000
Target = tuple[str, str]
"""(job, instance) of what is scraped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A series selector and what its series are: the run is named by `run_label`, `labels` tell its columns apart."""

    query: str
    metric: str = ""
    run_label: str = "run"
    labels: tuple[str, ...] = ()

    def run(self, labels: Mapping[str, str]) -> str:
        """The name of the run, "" if the series names none."""
        return labels.get(self.run_label, "")[:MAX_NAME]

    def column(self, labels: Mapping[str, str]) -> str:
        """The name of the column."""
        name = (self.metric or labels.get("__name__") or self.query)[:MAX_NAME]
        told = ",".join(f"{label}={labels.get(label, '')[:MAX_NAME]}" for label in self.labels)
        return f"{name}{{{told}}}" if told else name


def frames_of(
    run: str,
    rows: Mapping[int, Mapping[str, float]],
    first: int,
    step: str,
    origin: Callable[[int], Origin],
    hosts: Hosts,
) -> tuple[list[Frame], int]:
    """Rows in order of time, those of equal columns and origin in one frame; and the number of the row after them.

    rows: ms since 1970 → column → value. first: number of the first row. step: the column that holds the step, "" if
    none does; a row that has nothing else is none. hosts: what they say stands beside what the run says.
    """
    groups: dict[tuple[Origin, tuple[str, ...]], list[tuple[int, int, int, list[float]]]] = {}
    own = {t: values for t in sorted(rows) if (values := {c: v for c, v in rows[t].items() if c != step})}
    for (t, said), context in zip(own.items(), hosts.context(run, list(own)), strict=True):
        values = context | said
        kind = (origin(t), tuple(values))
        groups.setdefault(kind, []).append((first, step_of(rows[t].get(step, -1.0)), t, list(values.values())))
        first += 1
    return [
        Frame(
            run=run,
            columns=columns,
            row=np.array([m[0] for m in members], dtype=np.int64),
            step=np.array([m[1] for m in members], dtype=np.int64),
            t=np.array([m[2] for m in members], dtype=np.float64) / 1000.0,
            values=np.array([m[3] for m in members], dtype=np.float64),
            origin=where,
        )
        for (where, columns), members in groups.items()
    ], first


def step_of(value: float) -> int:
    """A step as the sample of a gauge; -1 if it is none."""
    return int(value) if 0 <= value < 1 << 53 else -1


class Targets:
    """Which runs a scrape target feeds, and which targets cannot be scraped: a dead exporter is no silent trainer."""

    def __init__(self) -> None:
        self._runs: dict[Target, set[str]] = {}
        self._down: set[Target] = set()

    def learn(self, labels: Mapping[str, str], run: str) -> None:
        """A series with these labels belongs to the run."""
        target = (labels.get("job", ""), labels.get("instance", ""))
        if target in self._runs or len(self._runs) < MAX_TARGETS:
            self._runs.setdefault(target, set()).add(run)

    def hear(self, target: Target, *, down: bool, row: Callable[[str], int]) -> list[LogLine]:
        """A line for each of its runs if that is news. row: the last row of a run."""
        if target not in self._runs or down == (target in self._down):
            return []
        (self._down.add if down else self._down.discard)(target)
        what = "cannot be scraped (up == 0)" if down else "no longer has up == 0"
        text = f"Prometheus: the target job={target[0]} instance={target[1]} {what}"
        return [LogLine(run=run, row=row(run), text=text) for run in sorted(self._runs[target])]

    def down(self) -> set[Target]:
        """Those that were last heard to be down."""
        return set(self._down)
