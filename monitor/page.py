"""What a sink is asked to say: the state of one incident as plain values, ready for any destination.

A page carries the whole current state of its incident; a sink edits one message to match it and adds the notes that it
has not yet said to the thread. Every text here may hold names that a stranger chose: sinks escape it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One checked statement. verdict: supported, contradicted or unverifiable; found: what was recomputed."""

    text: str
    verdict: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionView:
    """A prediction and its outcome so far: open, confirmed, refuted or undecided."""

    text: str
    probability: float
    outcome: str
    found: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HypothesisView:
    """The checked hypothesis as a person reads it.

    author: "built-in" or a model id; note: why not the model. fallen: the cause that stood first and what the rows say
    against it, "" if nothing; stands: whether the cause shown is one that nothing speaks against.
    """

    author: str
    cause: str
    summary: str
    claims: tuple[Claim, ...] = ()
    rivals: tuple[str, ...] = ()
    predictions: tuple[PredictionView, ...] = ()
    experiment: str = ""
    note: str = ""
    fallen: str = ""
    stands: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One line for the thread; its id is stable over retries and restarts."""

    id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The state of one incident for a sink.

    id: stable id of the outbox row that asks for this delivery. thread: stable id of the message, the same for all
    episodes. state: open, acknowledged, resolved, or closed without recovery. severity: page or notice. headline: one
    complete line, the first 120 characters say run, what and how bad. facts: (label, value). notes: everything said in
    the thread so far, in order, the newest last. chart_png: None if there is nothing to draw; chart_of: names what it
    shows, the same as long as that is nothing new. command: what to type before `ack ID` and `show ID` so that it
    reaches this daemon.
    """

    id: str
    thread: str
    incident: str
    run: str
    state: str
    severity: str
    headline: str
    facts: tuple[tuple[str, str], ...]
    hypothesis: HypothesisView | None = None
    notes: tuple[Note, ...] = ()
    chart_png: bytes | None = None
    chart_alt: str = ""
    chart_of: str = ""
    links: tuple[tuple[str, str], ...] = ()
    command: str = "runwarden incidents"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a sink remembers of a delivered message, stored for it: where it is and which notes it carries.

    intent: a delivery was begun but its result is not known; the sink looks before it repeats.
    """

    sink: str
    data: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    intent: bool = False
