"""A page becomes a message: what to say and in which order, as clean text without any destination's markup.

Written for someone woken at three in the morning: the marker and the headline first, then the facts, then the checked
hypothesis, what would decide it, and what to type. Every text is cleaned and capped here, once, so that a renderer can
only lay it out. Bounds: LIMITS; what does not fit is counted in the message and named by a command that shows it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from monitor.page import HypothesisView, Page, PredictionView
from sinks.untrusted import clean

HEADLINE, LABEL, VALUE, SUMMARY, CLAIM, FOUND, EXPERIMENT, NOTE, URL, ID = (
    400,
    24,
    200,
    400,
    220,
    140,
    600,
    600,
    500,
    64,
)
FACTS, CLAIMS, RIVALS, PREDICTIONS, LINKS = 10, 6, 4, 4, 4
_VERDICTS = {"supported": "✓", "contradicted": "✗", "unverifiable": "?"}
_OUTCOMES = {"open": "…", "confirmed": "✓", "refuted": "✗", "undecided": "?"}
_ADDRESS = re.compile(r"https?://[!#-;=?-_a-z~]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One statement. mark: a sign before it; label: its name or verdict; detail: a lesser remark; struck: refuted."""

    text: str
    label: str = ""
    mark: str = ""
    detail: str = ""
    struck: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A titled group of lines. An empty title is none."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What every destination shows, in reading order. links: (label, address), addresses checked."""

    marker: str
    headline: str
    sections: tuple[Section, ...]
    commands: tuple[tuple[str, str], ...]
    links: tuple[tuple[str, str], ...]

    @property
    def summary(self) -> str:
        """The one line that a notification shows."""
        return f"{self.marker}: {self.headline}"


def compose(page: Page) -> Message:
    """Say `page` in clean, capped text."""
    facts = [Line(label=clean(label, LABEL), text=clean(value, VALUE)) for label, value in page.facts[:FACTS]]
    sections = [Section(title="", lines=_with_rest(facts, len(page.facts)))]
    if page.hypothesis is not None:
        sections += _hypothesis(page.hypothesis)
    incident = clean(page.incident, ID)
    acknowledge = [("Acknowledge", f"{page.command} ack {incident}")] if page.state == "open" else []
    links = [(clean(label, LABEL), url) for label, url in page.links[:LINKS] if _is_address(url)]
    return Message(
        marker=marker(page),
        headline=clean(page.headline, HEADLINE),
        sections=tuple(s for s in sections if s.lines),
        commands=(*acknowledge, ("All of it", f"{page.command} show {incident}")),
        links=tuple(links),
    )


def marker(page: Page) -> str:
    """Severity and state in words, the news first."""
    severity = clean(page.severity, 12).upper()
    if page.state == "open":
        return severity
    if page.state == "closed":
        return "CLOSED, NOT RECOVERED"
    return "RESOLVED" if page.state == "resolved" else f"{severity}, {clean(page.state, 12)}"


def note_text(text: str) -> str:
    """A note as one clean line."""
    return clean(text, NOTE)


def digests(page: Page) -> dict[str, str]:
    """Part of the message → short digest of what it says, to tell later what changed; stored in receipts.

    Predictions stand apart from the hypothesis: that one of them was scored is news, but not a new hypothesis.
    """
    message = compose(page)
    parts = {"marker": message.marker, "headline": message.headline, "hypothesis": ""}
    for section in message.sections:
        for line in section.lines:
            if not section.title:
                parts[f"fact {line.label}"] = line.text
            elif section.title == PREDICTED:
                parts[f"prediction {line.text}"] = line.label
            else:
                parts["hypothesis"] += repr((section.title, line))
    return {name: hashlib.sha256(said.encode()).hexdigest()[:12] for name, said in parts.items()}


PREDICTED = "If so, we will see"


def _hypothesis(view: HypothesisView) -> list[Section]:
    cause = clean(view.cause, LABEL * 2).replace("_", " ")
    stated = [Line(text=clean(view.summary, SUMMARY))] if view.summary else []
    if view.fallen:
        stated.insert(0, Line(mark=_OUTCOMES["refuted"], label="refuted", text=clean(view.fallen, SUMMARY)))
    claims = [
        Line(
            mark=_VERDICTS.get(c.verdict, "?"),
            label=clean(c.verdict, LABEL),
            text=clean(c.text, CLAIM),
            detail=f"found: {clean(c.found, FOUND)}" if c.found else "",
            struck=c.verdict == "contradicted",
        )
        for c in view.claims[:CLAIMS]
    ]
    remark = [Line(label="Note", text=clean(view.note, VALUE))] if view.note else []
    rivals = [Line(mark="-", text=clean(r, VALUE)) for r in view.rivals[:RIVALS]]
    predicted = [_predicted(p) for p in view.predictions[:PREDICTIONS]]
    experiment = [Line(text=clean(view.experiment, EXPERIMENT))] if view.experiment else []
    return [
        Section(
            title=f"Hypothesis ({clean(view.author, LABEL * 2)}): {cause}",
            lines=(*stated, *_with_rest(claims, len(view.claims)), *remark),
        ),
        Section(title="Or else", lines=_with_rest(rivals, len(view.rivals))),
        Section(title=PREDICTED, lines=_with_rest(predicted, len(view.predictions))),
        Section(title="Smallest experiment", lines=tuple(experiment)),
    ]


def _predicted(view: PredictionView) -> Line:
    return Line(
        mark=_OUTCOMES.get(view.outcome, "?"),
        label=clean(view.outcome, LABEL),
        text=f"{clean(view.text, CLAIM)} ({view.probability:.0%} sure)",
        detail=f"found: {clean(view.found, FOUND)}" if view.found else "",
        struck=view.outcome == "refuted",
    )


def _with_rest(lines: list[Line], total: int) -> tuple[Line, ...]:
    more = total - len(lines)
    return (*lines, Line(mark="-", text=f"and {more} more")) if more > 0 else tuple(lines)


def _is_address(url: str) -> bool:
    """Whether `url` is a plain http(s) address; a destination that parses links refuses the whole message otherwise."""
    return len(url) <= URL and _ADDRESS.fullmatch(url) is not None
