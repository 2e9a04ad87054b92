"""An incident as words: the headline, the facts and the thread notes that every sink shows. Pure.

The first 120 characters of a headline say which run, what, and how bad; numbers are as the trainer wrote them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from detectors.types import Finding, Kind, Severity
from monitor.incident import Incident, Life, Reason
from monitor.incidents import Transition
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
_LEADS = (Kind.DIVERGENCE, Kind.LOSS_SPIKE)  # what a training incident is about, whichever metric moved first
_MOVED = 4
_RAISED = (Reason.ESCALATED, Reason.CORROBORATED, Reason.PERSISTS)
_UNITS = {"sigma": "σ", "cusum": " σ, cumulative", "ratio": "×", "s": " s"}


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


def headline(incident: Incident) -> str:
    """Run, what and how bad in one line; of the loss where it moved, for that is what one gets up for."""
    lead = _lead(incident)
    return f"{incident.run}: {_what(lead.kind)}{_size(lead)} at {place(incident.first_step, incident.first_row)}"


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


def _size(finding: Finding) -> str:
    if finding.kind in (Kind.SILENCE, Kind.SOURCE_LOST):
        return f" for {duration(finding.observed)}"
    if finding.metric and finding.metric not in _what(finding.kind).split():
        return f", {finding.metric} {_move(finding)}"
    return f" {_move(finding)}"


def _move(finding: Finding) -> str:
    """From where to where a metric moved."""
    if not math.isfinite(finding.observed):
        return f"is {number(finding.observed)}"
    text = f"{number(finding.expected)} → {number(finding.observed)}"
    if finding.expected > 0 and finding.observed > 0:
        text += f" ({finding.observed / finding.expected:.3g}×)"
    return text


def _moved(incident: Incident) -> str:
    """What moved and how far, in the order in which the metrics joined."""
    latest = {f.metric: f for f in incident.findings if f.metric}
    said = [f"{metric} {_move(f)}" for metric, f in latest.items()]
    rest = max(len(said), len(incident.metrics)) - _MOVED
    return ", ".join(said[:_MOVED]) + (f" and {rest} more" if rest > 0 else "")


def facts(incident: Incident) -> tuple[tuple[str, str], ...]:
    """(label, value) in the order in which a person asks."""
    since = f"{place(incident.first_step, incident.first_row)}, {moment(incident.opened_t)}"
    if incident.paged_row > incident.first_row:
        since += f", paged at {place(incident.paged_step, incident.paged_row)}"
    listed = [("Since", since)]
    if len(incident.metrics) > 1:
        listed.append(("Moved", _moved(incident)))
    listed.append(("Score", f"{number(incident.score)}{_UNITS.get(incident.unit, ' ' + incident.unit)}"))
    if incident.attempt:
        listed.append(("Attempt", str(incident.attempt + 1)))
    if incident.episode > 1:
        listed.append(("Episode", str(incident.episode)))
    if incident.late:
        listed.append(("Late", "written while Runwarden was not reading"))
    if incident.state is Life.RESOLVED:
        why = _WHY.get(incident.reason, incident.reason.value)
        after = f"{moment(incident.resolved_t)}, {duration(incident.resolved_t - incident.opened_t)} after it began"
        listed.append(("Resolved", f"{why} after {place(incident.last_step, incident.last_row)}, {after}"))
    return tuple(listed)


def note(transition: Transition) -> Note | None:
    """What a transition adds to the thread; None for the first page, which is the message itself."""
    incident, finding = transition.incident, transition.finding
    text = None
    if incident.reason is Reason.JOINED and finding is not None:
        text = f"Also: {_what(finding.kind)}{_size(finding)} at {place(finding.first_step, finding.first_row)}."
    elif incident.reason is Reason.RELAPSED or (incident.episode > 1 and incident.reason in _RAISED):
        text = f"Relapse, episode {incident.episode}: {headline(incident)}."
    elif incident.state is Life.RESOLVED:
        text = f"Resolved: {_WHY.get(incident.reason, incident.reason.value)}."
    return None if text is None else Note(id=f"{incident.id}.{incident.revision}", text=text)


def build(
    incident: Incident,
    page_id: str,
    notes: Sequence[Note],
    hypothesis: HypothesisView | None,
    chart: tuple[bytes, str] | None,
    links: tuple[tuple[str, str], ...] = (),
    command: str = "runwarden incidents",
) -> Page:
    """The page of an incident as it stands. chart: PNG and its alt text. command: see `Page`."""
    closed = incident.state is Life.RESOLVED and incident.reason in (Reason.REBASED, Reason.FORGOTTEN)
    return Page(
        id=page_id,
        thread=incident.id,
        incident=incident.id,
        run=incident.run,
        state="closed" if closed else incident.state.value,
        severity="page" if incident.severity is Severity.PAGE else "notice",
        headline=headline(incident),
        facts=facts(incident),
        hypothesis=hypothesis,
        notes=tuple(notes),
        chart_png=chart[0] if chart else None,
        chart_alt=chart[1] if chart else "",
        links=links,
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
