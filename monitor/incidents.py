"""Incidents: findings of one cause join one incident, which opens, grows, resolves and may relapse.

A pure state machine: it reads no clock and every decision returns its reason.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from detectors.types import Finding, Kind, Phase, Severity
from monitor.incident import Incident, Life, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A change of an incident: its new value, which says why, and the finding that caused it (None: a person did)."""

    incident: Incident
    finding: Finding | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The highest severity that findings of some rows may reach, and why it is lowered (None: it is not)."""

    ceiling: Severity = Severity.PAGE
    reason: Reason | None = None
    late: bool = False


# Findings of one group in one attempt have one cause until shown otherwise; other kinds stand alone.
_TRAINING = frozenset({Kind.LOSS_SPIKE, Kind.DIVERGENCE, Kind.GRAD_BLOWUP, Kind.LR_FAULT, Kind.RESTART})
_SPEED = frozenset({Kind.THROUGHPUT_DROP, Kind.DATA_STALL, Kind.STRAGGLER})
# A spike joins the NaN that it leads to; a NaN joins no spike: it ends the run, and whoever went back to sleep over a
# spike must hear of it.
_JOINED_BY = {kind: _TRAINING | {Kind.NONFINITE} for kind in _TRAINING} | dict.fromkeys(_SPEED, _SPEED)
_LOSS_KINDS = frozenset({Kind.LOSS_SPIKE, Kind.DIVERGENCE})
_ENDINGS = {"recovered": Reason.RECOVERED, "rebased": Reason.REBASED, "attempt_ended": Reason.ATTEMPT_ENDED}
_KEPT_PER_RUN = 32
_KEPT_FINDINGS = 32


def joined_by(kind: Kind) -> frozenset[Kind]:
    """Kinds of incident that a finding of `kind` joins."""
    return _JOINED_BY.get(kind, frozenset({kind}))


class Book:
    """All open incidents and the last few resolved ones of every run.

    relapse_rows: a condition that begins at most so many rows after the last anomalous row of a resolved page of its
    group re-opens it as the next episode.
    """

    def __init__(self, relapse_rows: int = 256) -> None:
        self._relapse_rows = relapse_rows
        self._by_run: dict[str, list[Incident]] = {}

    def restore(self, incidents: Iterable[Incident]) -> None:
        """Take incidents from the store, oldest first."""
        for incident in incidents:
            self._by_run.setdefault(incident.run, []).append(incident)

    def open(self, run: str | None = None) -> list[Incident]:
        """Incidents not resolved, of one run or of all."""
        runs = self._by_run.values() if run is None else [self._by_run.get(run, [])]
        return [i for incidents in runs for i in incidents if i.state is not Life.RESOLVED]

    def find(self, incident_id: str) -> Incident | None:
        """An open or recently resolved incident by its id."""
        return next((i for incidents in self._by_run.values() for i in incidents if i.id == incident_id), None)

    def apply(self, finding: Finding, limit: Limit, now: float) -> Transition | None:
        """Take in one finding; `now` dates it where it has no time of its own."""
        t = finding.t if math.isfinite(finding.t) else now
        holder = next(
            (i for i in self.open(finding.run) if finding.key in i.open and i.attempt == finding.attempt), None
        )
        if finding.phase is Phase.ENDS:
            return None if holder is None else self._end(holder, finding, t)
        severity = min(finding.severity, limit.ceiling)
        if holder is not None:
            return self._take(holder, finding, severity, Reason.JOINED, t)
        group = joined_by(finding.kind)
        mine = [i for i in self._by_run.get(finding.run, []) if i.attempt == finding.attempt and i.kind in group]
        joined = next((i for i in mine if i.state is not Life.RESOLVED), None)
        if joined is not None:
            return self._take(joined, finding, severity, Reason.JOINED, t)
        if finding.severity is Severity.RECORD:
            return None  # a component only joins
        paged = (i for i in mine if i.severity is Severity.PAGE)  # only these have a thread to go on in
        previous = max(paged, key=lambda i: i.last_row, default=None)
        if previous is not None and finding.first_row - previous.last_row <= self._relapse_rows:
            return self._begin(finding, severity, limit, t, previous)
        return self._begin(finding, severity, limit, t, None)

    def lift(self, run: str, row: int, step: int, now: float) -> list[Transition]:
        """Give incidents that history withheld their own severity: the run is alive and they still hold."""
        return [
            self._raise(incident, incident.withheld, row, step, Reason.PERSISTS, now)
            for incident in self.open(run)
            if incident.withheld > incident.severity
        ]

    def acknowledge(self, incident_id: str, now: float) -> Transition | None:
        """A person has seen it. None if there is no such open incident."""
        incident = self.find(incident_id)
        if incident is None or incident.state is not Life.OPEN:
            return None
        return self._put(replace(incident, state=Life.ACKNOWLEDGED), Reason.ACKNOWLEDGED, now)

    def resolve(self, incident_id: str, now: float) -> Transition | None:
        """A person closes it. None if there is no such open incident."""
        incident = self.find(incident_id)
        if incident is None or incident.state is Life.RESOLVED:
            return None
        return self._put(replace(incident, state=Life.RESOLVED, resolved_t=now), Reason.RESOLVED_BY_HAND, now)

    def forget(self, run: str, now: float) -> list[Transition]:
        """Drop a run that left memory; what was open of it is closed, and says so."""
        closed = [
            self._put(replace(i, state=Life.RESOLVED, resolved_t=now, open=()), Reason.FORGOTTEN, now)
            for i in self.open(run)
        ]
        self._by_run.pop(run, None)
        return closed

    def put_back(self, incident: Incident) -> None:
        """Undo the last change of an incident that could not be committed."""
        kept = [i for i in self._by_run.get(incident.run, []) if i.id != incident.id]
        self._by_run[incident.run] = [*kept, incident]

    def _begin(
        self, finding: Finding, severity: Severity, limit: Limit, t: float, previous: Incident | None
    ) -> Transition:
        seen, paged = severity >= Severity.NOTICE, severity is Severity.PAGE
        text = f"{finding.run}\0{finding.attempt}\0{finding.kind}\0{finding.row}"
        incident = Incident(
            id=previous.id if previous else hashlib.sha256(text.encode()).hexdigest()[:12],
            run=finding.run,
            attempt=finding.attempt,
            episode=previous.episode + 1 if previous else 1,
            revision=previous.revision if previous else 0,
            kind=finding.kind,
            metric=finding.metric,
            role=finding.role,
            metrics=(finding.metric,) if finding.metric else (),
            severity=severity,
            withheld=finding.severity,
            state=Life.OPEN,
            reason=limit.reason or Reason.OPENED,
            opened_t=t,
            updated_t=t,
            resolved_t=math.nan,
            first_row=finding.first_row,
            first_step=finding.first_step,
            detected_row=finding.row if seen else -1,
            detected_step=finding.step if seen else -1,
            paged_row=finding.row if paged else -1,
            paged_step=finding.step if paged else -1,
            last_row=finding.last_row,
            last_step=finding.last_step,
            observed=finding.observed,
            expected=finding.expected,
            score=finding.score,
            unit=finding.unit,
            direction=finding.direction,
            late=limit.late,
            findings=(finding,),
            open=(finding.key,),
        )
        reason = Reason.RELAPSED if previous else limit.reason or Reason.OPENED
        return self._put(incident, reason, t, finding)

    def _take(
        self, incident: Incident, finding: Finding, severity: Severity, reason: Reason, t: float
    ) -> Transition | None:
        known = finding.key in incident.open
        metrics = incident.metrics
        if finding.metric and finding.metric not in metrics:
            metrics = (*metrics, finding.metric)
        latest = {f.key: f for f in incident.findings[1:]}
        latest.pop(finding.key, None)
        kept = (*latest.values(), finding)[-_KEPT_FINDINGS + 1 :]
        taken = replace(
            incident,
            metrics=metrics,
            findings=(incident.findings[0], *kept),
            open=incident.open if known else (*incident.open, finding.key),
            last_row=max(incident.last_row, finding.last_row),
            last_step=max(incident.last_step, finding.last_step),
            withheld=max(incident.withheld, finding.severity),
        )
        if finding.key == incident.findings[0].key:
            taken = replace(taken, observed=finding.observed, score=max(incident.score, finding.score))
        corroborated = _corroborated(taken)
        if corroborated:
            taken = replace(taken, withheld=Severity.PAGE)
        wanted = Severity.PAGE if corroborated and severity >= Severity.NOTICE else severity
        if wanted > incident.severity:
            why = Reason.CORROBORATED if wanted > severity else Reason.ESCALATED
            return self._raise(taken, wanted, finding.row, finding.step, why, t, finding)
        if known and finding.phase is Phase.BEGINS:
            return None  # said again after a restart
        return self._put(taken, reason, t, finding)

    def _raise(
        self,
        incident: Incident,
        severity: Severity,
        row: int,
        step: int,
        reason: Reason,
        t: float,
        finding: Finding | None = None,
    ) -> Transition:
        if incident.detected_row < 0:
            incident = replace(incident, detected_row=row, detected_step=step)
        if severity is Severity.PAGE and incident.paged_row < 0:
            incident = replace(incident, paged_row=row, paged_step=step)
        return self._put(replace(incident, severity=severity), reason, t, finding)

    def _end(self, incident: Incident, finding: Finding, t: float) -> Transition:
        still = tuple(key for key in incident.open if key != finding.key)
        # A component that keeps an old excursion open must not keep the incident open.
        components = {f.key for f in incident.findings if f.severity is Severity.RECORD}
        over = not set(still) - components
        ended = replace(
            incident,
            open=() if over else still,
            last_row=max(incident.last_row, finding.last_row),
            last_step=max(incident.last_step, finding.last_step),
        )
        reason = _ENDINGS.get(finding.reason, Reason.RECOVERED)
        if over:
            ended = replace(ended, state=Life.RESOLVED, resolved_t=t)
        return self._put(ended, reason, t, finding)

    def _put(self, incident: Incident, reason: Reason, t: float, finding: Finding | None = None) -> Transition:
        changed = replace(incident, reason=reason, updated_t=t, revision=incident.revision + 1)
        kept = [i for i in self._by_run.get(incident.run, []) if i.id != incident.id]
        resolved = [i for i in kept if i.state is Life.RESOLVED]
        for old in resolved[: max(0, len(resolved) - _KEPT_PER_RUN)]:
            kept.remove(old)
        self._by_run[incident.run] = [*kept, changed]
        return Transition(incident=changed, finding=finding)


def _corroborated(incident: Incident) -> bool:
    """Whether a lasting rise of the gradient norm, a notice alone, stands beside a finding on the loss."""
    persistent_grad = any(f.kind is Kind.GRAD_BLOWUP and f.reason == "cusum" for f in incident.findings)
    loss = any(f.kind in _LOSS_KINDS and f.severity >= Severity.NOTICE for f in incident.findings)
    return persistent_grad and loss
