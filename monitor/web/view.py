"""What the status page shows, as plain values, and the protocol by which it gets them.

Every text may hold names that a stranger chose; rendering escapes them. Times are Unix seconds UTC; None means never or
none, so that NaN and Inf are always values that a trainer wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from monitor.page import HypothesisView, Note


class RunState(StrEnum):
    """What is known of a run right now."""

    GROWING = "growing"
    SILENT = "silent"
    UNREACHABLE = "unreachable"
    FINISHED = "finished"
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run. step: last one seen; age_s: since its last row; loss: its last one; incidents: how many are open."""

    run: str
    state: RunState
    step: int | None = None
    age_s: float | None = None
    loss: float | None = None
    incidents: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentRow:
    """One incident in a list.

    severity as in `Page`, state too, or "history": it was so before anybody watched, so nobody was told. why: how it
    ended or why nobody was told, "" while it is open. hypothesis: one line, "" while there is none.
    """

    id: str
    run: str
    kind: str
    state: str
    severity: str
    headline: str
    hypothesis: str
    opened_t: float
    updated_t: float
    resolved_t: float | None = None
    why: str = ""

    @property
    def unrecovered(self) -> bool:
        """Whether it ended, for us, without the run being well again."""
        return self.state in ("closed", "history")


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentDetail:
    """One incident on its own page; facts: (label, value); chart: whether there is one; notes: oldest first."""

    row: IncidentRow
    facts: tuple[tuple[str, str], ...] = ()
    hypothesis: HypothesisView | None = None
    notes: tuple[Note, ...] = ()
    chart: bool = False
    chart_alt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether the daemon does its work; reasons: why not, one line each."""

    ready: bool
    reasons: tuple[str, ...] = ()


class View(Protocol):
    """Answers the page's questions from committed state. Safe to abandon at any await."""

    async def runs(self) -> Sequence[RunRow]:
        """All runs, in the order to show them."""
        ...

    async def incidents(self) -> Sequence[IncidentRow]:
        """Open and recent incidents, the newest first."""
        ...

    async def incident(self, incident: str) -> IncidentDetail | None:
        """One incident by its id, None if there is none."""
        ...

    async def chart(self, incident: str) -> bytes | None:
        """The chart of one incident as PNG, None if there is none."""
        ...
