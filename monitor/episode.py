"""The explanations of one open episode: what they were made for, who said what, who may still be asked. Pure.

A hypothesis is a new one, with predictions of its own, when its author names a cause that he has not led with before;
what was predicted earlier stays registered for the cause that it spoke for. Our own answer does not fall back from a
cause that nothing speaks against to `insufficient_evidence`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from monitor.analysis.differential import AUTHOR
from monitor.analysis.hypothesis import ABSTENTIONS, Answer, Cause, Hypothesis
from monitor.analysis.predictions import register
from monitor.analysis.verify import verify
from monitor.answers import Stored, pack
from monitor.evidence import Evidence
from monitor.gravity import ASKS, REVISIONS, Gravity, material
from monitor.incident import Incident
from monitor.ledger import Explained
from monitor.page import Note
from monitor.window import Window

LOOK_MOST = 256


@dataclass(frozen=True, slots=True)
class Case:
    """What one explanation looks at, and what we make of it ourselves."""

    incident: Incident
    window: Window
    evidence: Evidence
    own: Answer
    gravity: Gravity


@dataclass(slots=True)
class Episode:
    """One episode that is not over.

    case: the newest one, kept while a model is asked, for it holds many rows; gravity: what the last one was made for.
    model: the newest answer that is not our own. led: author → the causes that he led with, in order, without repeats;
    leading: author → that of his newest answer. asked: hashes of evidence that a model was shown. begun: this process
    explained it. settled: nothing holds the first page back any more. stirred, busy, asking: work that is to be done,
    or under way.
    """

    incident: Incident
    case: Case | None = None
    gravity: Gravity | None = None
    model: Answer | None = None
    led: dict[str, list[Cause]] = field(default_factory=dict)
    leading: dict[str, Cause] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    revision: int = 0
    refuted: bool = False
    batches: int = 0
    look_at: int = 1
    recalled: bool = False
    begun: bool = False
    settled: bool = False
    stirred: bool = False
    busy: bool = False
    asking: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing is left to be done."""
        ended = self.gravity is not None and self.gravity.over
        return ended and not (self.asking or self.stirred)

    def look(self) -> bool:
        """Count a batch with rows of the run; whether to look at them now: after 1, 2, 4, … `LOOK_MOST` more."""
        self.batches += 1
        if self.batches < self.look_at:
            return False
        self.look_at = self.batches + min(self.batches, LOOK_MOST)
        return True

    def calls_for(self, now: Gravity) -> bool:
        """Whether an explanation is due, `now` being how bad it is."""
        if self.gravity is None or not (self.settled or self.begun):
            return True
        return (self.revision < REVISIONS or now.over) and material(self.gravity, now)

    def may_ask(self, case: Case) -> bool:
        """Whether a model may be shown the evidence: never twice, and not once it is over."""
        return case.evidence.sha256 not in self.asked and len(self.asked) < ASKS and not case.gravity.over

    def take(self, case: Case) -> None:
        """Begin the next explanation."""
        self.case, self.gravity, self.revision, self.begun = case, case.gravity, self.revision + 1, True

    def recall(self, answers: Iterable[tuple[Stored, bool]]) -> None:
        """Go on from what a previous process kept, the newest model's answer first."""
        for stored, final in answers:
            self.led[stored.author] = list(stored.led)
            self.leading[stored.author] = stored.verified.hypothesis.causes[0].cause
            self.asked += [sha for sha in stored.asked if sha not in self.asked]
            self.revision = max(self.revision, stored.revision)
            self.settled |= final
            if stored.author == AUTHOR:
                self.gravity, self.refuted = stored.gravity, stored.gravity.refuted
            elif self.model is None:
                self.model = Answer(hypothesis=stored.named(), author=stored.author)
        self.recalled = True

    def check(self, case: Case, answer: Answer, remark: str = "") -> Explained:
        """Check an answer on the rows of a case; what is to be kept of it. remark: why not another author."""
        incident, own = case.incident, answer.author == AUTHOR
        hypothesis = self._steady(answer.hypothesis) if own else answer.hypothesis
        verified = verify(hypothesis, case.evidence, incident, case.window)
        top, before = verified.hypothesis.causes[0].cause, self.leading.get(answer.author)
        led = self.led.setdefault(answer.author, [])
        fresh = top not in led if own else answer is not self.model
        led += [top] * fresh
        generation = led.index(top) + 1 if own else len(led)
        self.leading[answer.author] = top
        self.model = self.model if own else answer
        if own and top is not before and self.gravity is not None:  # what leads now has lost nothing yet
            self.refuted, self.gravity = False, replace(self.gravity, refuted=False)
        author = answer.author
        registered = register(verified.hypothesis, case.evidence, incident, case.window, author, generation)
        stored = Stored(
            verified=verified,
            names=case.evidence.names,
            author=author,
            first=hypothesis.causes[0].cause if hypothesis.causes else top,
            remark=remark,
            generation=generation,
            led=tuple(led),
            revision=self.revision,
            gravity=self.gravity or case.gravity,
            asked=tuple(self.asked),
        )
        said = _said(incident, author, generation, top, before) if fresh else None
        return Explained(
            incident=incident.id,
            episode=incident.episode,
            author=author,
            body=pack(stored),
            final=self.settled,
            predictions=tuple((r.id, r.run, r.model_dump_json()) for r in registered) if fresh else (),
            sha256=case.evidence.sha256,
            evidence=case.evidence.text(),
            notes=(said,) if said else (),
        )

    def _steady(self, made: Hypothesis) -> Hypothesis:
        """Our own hypothesis, with the cause that led so far first where the signs do not separate it from a rival."""
        before = self.leading.get(AUTHOR)
        doubted = self.refuted or before is None or before in ABSTENTIONS
        if doubted or made.causes[0].cause not in ABSTENTIONS or all(c.cause is not before for c in made.causes):
            return made
        kept = sorted(made.causes[1:], key=lambda c: c.cause is not before)
        return made.model_copy(update={"causes": kept})


def _said(incident: Incident, author: str, generation: int, top: Cause, before: Cause | None) -> Note | None:
    """What a new hypothesis adds to the thread; nothing for the first one of our own, which the page leaves with."""
    key = f"{incident.id}.{incident.episode}.{author}" + (f".{generation}" if generation > 1 else "")
    cause = top.value.replace("_", " ")
    if author != AUTHOR:
        return Note(id=key, text=f"Hypothesis by {author}: {cause}.")
    if before is None:
        return None
    if top in ABSTENTIONS:
        return Note(id=key, text=f"No cause stands out any more; before: {before.value.replace('_', ' ')} ({author}).")
    return Note(id=key, text=f"Likelier now: {cause}; before: {before.value.replace('_', ' ')} ({author}).")
