"""Trouble of a source is our own outage: it is told apart from a run that fell silent. Pure."""

from __future__ import annotations

from detectors.types import Finding, Kind, Phase, Severity
from monitor.frame import Batch, Status

KEY = f"{Kind.SOURCE_LOST}:"


class Outages:
    """Which sources cannot be read, and since when."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._since: dict[str, float] = {}
        self._told: set[str] = set()

    def look(self, batch: Batch, *, open_: bool) -> list[Finding]:
        """The outage begins after the patience and ends with the first good batch. open_: it is an open incident."""
        if batch.status is Status.ERROR:
            since = self._since.setdefault(batch.source, batch.t_recv)
            if batch.t_recv - since < self._patience_s or open_ or batch.source in self._told:
                return []  # a person who resolved it knows
            self._told.add(batch.source)
            return [_finding(batch, since, Phase.BEGINS)]
        self._told.discard(batch.source)
        since = self._since.pop(batch.source, batch.t_recv)
        return [_finding(batch, since, Phase.ENDS)] if open_ else []


def _finding(batch: Batch, since: float, phase: Phase) -> Finding:
    lasted_s = batch.t_recv - since
    return Finding(
        kind=Kind.SOURCE_LOST,
        phase=phase,
        severity=Severity.PAGE,
        run=batch.source,
        attempt=0,
        key=KEY,
        metric=None,
        role=None,
        row=int(since),  # a source has no rows; this keeps its incidents apart
        step=-1,
        t=batch.t_recv,
        first_row=int(since),
        first_step=-1,
        last_row=int(since),
        last_step=-1,
        observed=lasted_s,
        expected=0.0,
        score=lasted_s,
        unit="s",
        direction="up",
        reason="recovered" if phase is Phase.ENDS else "unreachable",
    )
