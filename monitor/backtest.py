"""What would have been paged: the daemon's own core over recorded batches, as fast as it goes. Pure.

Every file gets a world of its own: no grouping across files, severity as the engine says it. Nothing looks ahead.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

from detectors.types import Kind
from monitor.engine import Engine
from monitor.frame import Batch
from monitor.incident import Incident, Life

_NO_METRIC = frozenset({Kind.SILENCE, Kind.SOURCE_LOST, Kind.STRAGGLER})
_SUFFIXES = frozenset({".jsonl", ".json", ".csv", ".tsv", ".log", ".txt", ".out", ".ndjson"})


def series_name(path: PurePath) -> str:
    """File name without `.gz` and then without its format suffix."""
    name = path.name.removesuffix(".gz")
    suffix = PurePath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in _SUFFIXES else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What the core found in one file. series: see `series_name`."""

    path: str
    series: str
    rows: int
    incidents: tuple[Incident, ...]


def replay(path: str, batches: Iterable[Batch], engine: Engine) -> Recording:
    """Run the batches of a file through a fresh engine."""
    rows = 0

    def counted() -> Iterator[Batch]:
        nonlocal rows
        for batch in batches:
            rows += sum(frame.row.size for frame in batch.frames)
            yield batch

    found = tuple(episodes(counted(), engine))
    return Recording(path=path, series=series_name(PurePath(path)), rows=rows, incidents=found)


def episodes(batches: Iterable[Batch], engine: Engine) -> Iterator[Incident]:
    """Every episode of every incident, as it stood when it was resolved, or at the end."""
    for batch in batches:
        for transition in engine.step(batch).transitions:
            if transition.incident.state is Life.RESOLVED:
                yield transition.incident
    yield from engine.open_incidents()


def record(series: str, incident: Incident) -> dict[str, object]:
    """One line of the JSON-lines output."""
    open_ = incident.state is not Life.RESOLVED
    places = {
        "first": (incident.first_row, incident.first_step),
        "detected": (incident.detected_row, incident.detected_step),
        "paged": (incident.paged_row, incident.paged_step),
        "last": (-1, -1) if open_ else (incident.last_row, incident.last_step),
    }
    line: dict[str, object] = {
        "series": series,
        "run": incident.run,
        "attempt": incident.attempt,
        "incident": incident.id,
        "episode": incident.episode,
        "kind": incident.kind.value,
        "metric": None if incident.kind in _NO_METRIC else incident.metric,
        "metrics": list(incident.metrics[1:]),
        "severity": incident.severity.name.lower(),
        "score": incident.score if math.isfinite(incident.score) else None,
        "reason": incident.findings[0].reason,
    }
    for name, (row, step) in places.items():
        line[f"{name}_row"] = row if row >= 0 else None
        line[f"{name}_step"] = step if row >= 0 and step >= 0 else None
    return line
