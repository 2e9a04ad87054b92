"""An incident as a value: one cause in one attempt of one run, from its first sign to its resolution."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from detectors.types import Finding, Kind, Role, Severity


class Life(StrEnum):
    """Life of an incident."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class Reason(StrEnum):
    """Why an incident changed, or why a finding did not page."""

    OPENED = "opened"
    JOINED = "joined"
    ESCALATED = "escalated"
    CORROBORATED = "corroborated"
    RELAPSED = "relapsed"
    RECOVERED = "recovered"
    REBASED = "rebased"
    ATTEMPT_ENDED = "attempt_ended"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED_BY_HAND = "resolved_by_hand"
    HISTORY = "history"
    TOO_OLD = "too_old"
    PERSISTS = "persists"
    FORGOTTEN = "forgotten"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One cause in one attempt of one run.

    id: hash of run, attempt, opening kind and opening row, the same on replay. metric: the writer's name of the metric
    that opened it; metrics: all that joined, in order. Times in Unix seconds; rows and steps as in `Finding`;
    detected_*: where it first reached notice, paged_*: where it first reached page; -1 and NaN stand for never.
    findings: the opening one, then for each condition its last word. open: keys of the conditions that still hold.
    """

    id: str
    run: str
    attempt: int
    episode: int
    revision: int
    kind: Kind
    metric: str | None
    role: Role | None
    metrics: tuple[str, ...]
    severity: Severity
    withheld: Severity
    state: Life
    reason: Reason
    opened_t: float
    updated_t: float
    resolved_t: float
    first_row: int
    first_step: int
    detected_row: int
    detected_step: int
    paged_row: int
    paged_step: int
    last_row: int
    last_step: int
    observed: float
    expected: float
    score: float
    unit: str
    direction: str
    late: bool
    findings: tuple[Finding, ...]
    open: tuple[str, ...]
