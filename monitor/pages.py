"""An incident as words: the headline, the facts and the thread notes that every sink shows. Pure.

The first 120 characters of a headline say which run, what, and how bad; numbers are as the trainer wrote them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType

from detectors.types import Finding, Kind, Severity
from monitor.incident import Incident, Life, Reason
from monitor.incidents import Transition
from monitor.move import Move
from monitor.page import HypothesisView, Note, Page

_WHAT = {
    Kind.LOSS_SPIKE: "loss spike",
    Kind.DIVERGENCE: "loss diverges",
    Kind.NONFINITE: "non-finite values",
    Kind.GRAD_BLOWUP: "gradient norm blow-up",
    Kind.THROUGHPUT_DROP: "throughput drop",
    Kind.DATA_STALL: "data loader stall",
    Kind.SILENCE: "no new step",
    Kind.SOURCE_LOST: "source unreachable",
}
_WHY = {
    Reason.RECOVERED: "back in its band",
    Reason.REBASED: "the new level held and is the baseline now",
    Reason.ATTEMPT_ENDED: "a new attempt began",
    Reason.RESOLVED_BY_HAND: "resolved by hand",
    Reason.FORGOTTEN: "the run made room for newer ones, it is not watched any more",
}
_BACK = {Kind.SOURCE_LOST: "it can be read again", Kind.SILENCE: "steps come again"}
UNTOLD = {
    Reason.HISTORY: "nobody was paged, it was there before Runwarden was",
    Reason.TOO_OLD: "nobody was paged, it was too old when Runwarden read it",
}
UNRECOVERED = (Reason.REBASED, Reason.FORGOTTEN)
_LEADS = (Kind.DIVERGENCE, Kind.LOSS_SPIKE)  # what a training incident is about, whichever metric moved first
_MOVED = 4
_RAISED = (Reason.ESCALATED, Reason.CORROBORATED, Reason.PERSISTS)
Moves = Mapping[str, Move]
_UNITS = {"sigma": "σ", "cusum": "σ, cumulative", "ratio": "×", "s": " s"}


def number(value: float) -> str:
    """Four significant digits, NaN and Inf by name."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    """Seconds as the two largest units."""
    left = max(0, round(seconds))
    parts = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2]) or "0 s"


def moment(t: float) -> str:
    """Unix seconds as UTC; as a number where no calendar has it."""
    if not 0 <= t < 253_402_300_800:
        return f"t={number(t)}"
    return datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def place(step: int, row: int) -> str:
    """Where in the run: the step, or the row where the log has no steps."""
    return f"step {step:,}" if step >= 0 else f"row {row:,}"


def headline(incident: Incident, moves: Moves = MappingProxyType({})) -> str:
    """Run, what and how bad in one line; of the loss where it moved, for that is what one gets up for.

    moves: how far its metrics went so far, as `monitor.move` measures it; without them what the detectors said counts.
    """
    lead = _lead(incident)
    if incident.kind is Kind.SOURCE_LOST:  # a source has no rows
        return f"{incident.run}: {_what(lead.kind)}{_size(lead)}"
    move = moves.get(lead.metric or "")
    since = place(*begin(incident, moves))
    worst = _worst(move) if move is not None and math.isfinite(lead.observed) else since
    # One place if it was never worse than where it began, as a spike is.
    at = f"at {since}" if worst == since else f"at {worst}, since {since}"
    return f"{incident.run}: {_what(lead.kind)}{_size(lead, move)} {at}{_broken(move, lead.kind)}"


def begin(incident: Incident, moves: Moves) -> tuple[int, int]:
    """Step and row where it began: the first onset of a metric, which may lie before what the detectors noticed."""
    row, step = min([(incident.first_row, incident.first_step), *((m.onset_row, m.onset_step) for m in moves.values())])
    return step, row


def _lead(incident: Incident) -> Finding:
    """The finding to name first."""
    latest = {f.key: f for f in incident.findings}
    opening = replace(incident.findings[0], observed=incident.observed, expected=incident.expected)
    told = [opening, *(f for f in latest.values() if f.severity > Severity.RECORD)]
    if incident.kind in (Kind.GRAD_BLOWUP, *_LEADS):
        return next((f for kind in _LEADS for f in told if f.kind is kind), opening)
    return opening


def _what(kind: Kind) -> str:
    return _WHAT.get(kind, kind.value.replace("_", " "))


def _size(finding: Finding, move: Move | None = None) -> str:
    if finding.kind in (Kind.SILENCE, Kind.SOURCE_LOST):
        return f" for {duration(finding.observed)}"
    way = _way(finding, move)
    return (
        f", {finding.metric} {way}"
        if finding.metric and finding.metric not in _what(finding.kind).split()
        else f" {way}"
    )


def _way(finding: Finding, move: Move | None) -> str:
    """From where to where a metric moved: to its worst finite value, or to what is none where that is the matter."""
    if not math.isfinite(finding.observed):
        return f"is {number(finding.observed)}"
    before, after = (finding.expected, finding.observed) if move is None else (move.normal, move.worst)
    text = f"{number(before)} → {number(after)}"
    return f"{text} ({after / before:.3g}×)" if before > 0 and after > 0 else text


def _worst(move: Move) -> str:
    """Where it was worst."""
    return place(move.worst_step, move.worst_row)


def _broken(move: Move | None, kind: Kind) -> str:
    if move is None or move.lost_row < 0 or kind is Kind.NONFINITE:
        return ""
    return f", {number(move.lost)} from {place(move.lost_step, move.lost_row)} on"


def _moved(incident: Incident, moves: Moves) -> str:
    """What moved, how far, where it was worst and how it began, in the order in which the metrics joined."""
    latest = {f.metric: f for f in incident.findings if f.metric}
    said = [
        f"{metric} {_way(f, moves.get(metric))}{_course(moves.get(metric), f, incident)}"
        for metric, f in latest.items()
    ]
    rest = max(len(said), len(incident.metrics)) - _MOVED
    return "; ".join(said[:_MOVED]) + (f" and {rest} more" if rest > 0 else "")


def _course(move: Move | None, finding: Finding, incident: Incident) -> str:
    """Where a metric was worst and what it was when it began, where that is not the onset of the incident."""
    if move is None or not math.isfinite(finding.observed):
        return ""
    broken = _broken(move, finding.kind)
    if move.worst_row == move.onset_row:
        return broken if move.worst_row <= incident.first_row else f" at {_worst(move)}{broken}"
    onset = f"{number(move.onset)} at {place(move.onset_step, move.onset_row)}"
    return f" at {_worst(move)}, first {onset}{broken}"


def facts(
    incident: Incident, moves: Moves = MappingProxyType({}), said: Sequence[str] = ()
) -> tuple[tuple[str, str], ...]:
    """(label, value) in the order in which a person asks. said: as in `Exhibits`."""
    since = f"{place(*begin(incident, moves))}, {moment(incident.opened_t)}"
    if incident.kind is Kind.SOURCE_LOST:
        since = moment(incident.opened_t - incident.score)
    elif incident.paged_row > incident.first_row:
        since += f", paged at {place(incident.paged_step, incident.paged_row)}"
    listed = [("Since", since)]
    if len(incident.metrics) > 1 or any(m.worst_row != m.onset_row for m in moves.values()):
        listed.append(("Moved", _moved(incident, moves)))
    listed += [("Last said", text) for text in said]
    listed.append(("Score", f"{number(incident.score)}{_UNITS.get(incident.unit, ' ' + incident.unit)}"))
    if incident.attempt:
        listed.append(("Attempt", str(incident.attempt + 1)))
    if incident.episode > 1:
        listed.append(("Episode", str(incident.episode)))
    if incident.late:
        listed.append(("Late", "written while Runwarden was not reading"))
    if incident.state is Life.RESOLVED:
        listed.append(("Closed" if standing(incident) == "closed" else "Resolved", ending(incident)))
    return tuple(listed)


def ending(incident: Incident) -> str:
    """Why, where and when an incident ended."""
    where, lasted_s = f" after {place(incident.last_step, incident.last_row)}", incident.resolved_t - incident.opened_t
    if incident.kind is Kind.SOURCE_LOST:
        where, lasted_s = "", lasted_s + incident.score
    return f"{_why(incident)}{where}, {moment(incident.resolved_t)}, {duration(lasted_s)} after it began"


def _why(incident: Incident) -> str:
    if incident.reason is Reason.RECOVERED and incident.kind in _BACK:
        return _BACK[incident.kind]
    return _WHY.get(incident.reason, incident.reason.value)


def note(transition: Transition) -> Note | None:
    """What a transition adds to the thread; None for the first page, which is the message itself."""
    incident, finding = transition.incident, transition.finding
    text, key = None, str(incident.revision)
    if incident.reason is Reason.JOINED and finding is not None:
        text = f"Also: {_what(finding.kind)}{_size(finding)} at {place(finding.first_step, finding.first_row)}."
        # Said once an episode: how bad it becomes stands in the message.
        key = hashlib.sha256(f"{incident.episode}.{finding.key}".encode()).hexdigest()[:12]
    elif incident.reason is Reason.RELAPSED or (incident.episode > 1 and incident.reason in _RAISED):
        text = f"Relapse, episode {incident.episode}: {headline(incident)}."
    elif incident.state is Life.RESOLVED:
        how = "Closed without recovery" if standing(incident) == "closed" else "Resolved"
        text = f"{how}: {_why(incident)}."
    return None if text is None else Note(id=f"{incident.id}.{key}", text=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibits:
    """What stands beside the facts. chart: PNG and its alt text; chart_of: as in `Page`; moves: as in `headline`.

    said: redacted lines that a silent run said last.
    """

    notes: Sequence[Note] = ()
    hypothesis: HypothesisView | None = None
    moves: Moves = field(default_factory=dict)
    said: Sequence[str] = ()
    chart: tuple[bytes, str] | None = None
    chart_of: str = ""
    links: tuple[tuple[str, str], ...] = ()


def standing(incident: Incident) -> str:
    """State of an incident for a person: one that ended without recovery is closed."""
    closed = incident.state is Life.RESOLVED and incident.reason in UNRECOVERED
    return "closed" if closed else incident.state.value


def build(incident: Incident, page_id: str, beside: Exhibits, command: str = "runwarden incidents") -> Page:
    """The page of an incident as it stands. command: see `Page`."""
    chart = beside.chart
    return Page(
        id=page_id,
        thread=incident.id,
        incident=incident.id,
        run=incident.run,
        state=standing(incident),
        severity="page" if incident.severity is Severity.PAGE else "notice",
        headline=headline(incident, beside.moves),
        facts=facts(incident, beside.moves, beside.said),
        hypothesis=beside.hypothesis,
        notes=tuple(beside.notes),
        chart_png=chart[0] if chart else None,
        chart_alt=chart[1] if chart else "",
        chart_of=beside.chart_of,
        links=beside.links,
        command=command,
    )


def test_page(now: float) -> tuple[Page, Page]:
    """A page that says it is a test, and its resolution with a note for the thread."""
    key = f"test-{now:.0f}"
    first = Page(
        id=f"{key}.1",
        thread=key,
        incident=key,
        run="test",
        state="open",
        severity="notice",
        headline="test: this is a test page of Runwarden, nothing is wrong",
        facts=(("Since", moment(now)),),
    )
    said = Note(id=f"{key}.2", text="A page is edited in place and its updates stand here, in its thread.")
    return first, replace(first, id=f"{key}.2", state="resolved", notes=(said,))
