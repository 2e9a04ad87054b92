"""A checked answer as it is stored, and as a person reads it with its predictions as they stand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from monitor.analysis.hypothesis import Cause, Hypothesis
from monitor.analysis.predictions import Outcome, Registered, Verdict
from monitor.analysis.verify import Verified
from monitor.analysis.view import view
from monitor.gravity import Gravity
from monitor.page import HypothesisView


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One answer to one episode.

    names: as in `Evidence`. first: the cause that the author named first, before the claims were checked. remark: why
    not another author. led: the causes that he led with so far; generation: the place of this one among them, each
    registers its predictions once.
    revision: how often the episode was explained; gravity: for what. asked: hashes of evidence that a model was shown.
    """

    verified: Verified
    names: Mapping[str, str]
    author: str
    first: Cause
    remark: str
    generation: int
    led: tuple[Cause, ...]
    revision: int
    gravity: Gravity
    asked: tuple[str, ...] = ()

    def named(self) -> Hypothesis:
        """The hypothesis with its causes in the author's order, as far as it is known: his first one first."""
        h = self.verified.hypothesis
        return h.model_copy(update={"causes": sorted(h.causes, key=lambda c: c.cause is not self.first)})

    def predicted(self, incident: str, episode: int) -> str:
        """How the ids of its predictions begin."""
        return f"{incident}-{episode}-{self.author}-{self.generation}-"


_STORED = TypeAdapter(Stored)


def pack(stored: Stored) -> str:
    """As JSON for the store."""
    return json.dumps(_STORED.dump_python(stored, mode="python"), default=list)


def unpack(body: str) -> Stored | None:
    """What `pack` made; None for an answer of another release, which counts as none."""
    try:
        return _STORED.validate_python(json.loads(body))
    except ValidationError:
        return None


def read(stored: Stored, predictions: Iterable[tuple[str, str]]) -> HypothesisView:
    """For a person. predictions: (registered, outcome) as JSON, outcome "" while open."""
    pairs = [
        (
            Registered.model_validate_json(registered),
            Outcome.model_validate_json(outcome) if outcome else Outcome(outcome=Verdict.OPEN),
        )
        for registered, outcome in predictions
    ]
    return view(stored.verified, stored.names, stored.author, pairs, stored.remark, stored.first)
