"""The page never depends on the model; what the model says is checked, kept, and its predictions are scored once."""

# ruff: noqa: ASYNC110  a fake that records its calls is looked at between two turns of the loop

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from build import batch, falling, frame
from test_ledger import opened

from detectors.types import Severity
from monitor.analysis.hypothesis import Answer, Cause, Hypothesis, Prediction, RankedCause, Relation
from monitor.engine import Step
from monitor.errors import PermanentError, TransientError
from monitor.evidence import Evidence
from monitor.exhibits import explanation
from monitor.explain import Explainer, Patience
from monitor.incident import Incident
from monitor.ledger import Ledger
from monitor.metrics import Metrics
from monitor.page import HypothesisView
from monitor.reader import Delivery, Reader
from monitor.state import State

NOW = 2e9
MODEL = "model-x"


def answer(*predictions: Prediction) -> Answer:
    cause = RankedCause(cause=Cause.BAD_BATCH, summary="A bad batch.", claims=[])
    said = Hypothesis(causes=[cause], ruled_out=[], predictions=list(predictions), experiment=None)
    return Answer(hypothesis=said, author=MODEL)


@dataclass
class FakeAnalyst:
    """Answers when `go` is set: with `result`, raised if it is an error."""

    result: Answer | Exception = field(default_factory=answer)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[Evidence] = field(default_factory=list)
    name: str = "model"

    async def explain(self, evidence: Evidence) -> Answer:
        self.asked.append(evidence)
        await self.go.wait()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@dataclass
class World:
    """A ledger with one paged incident and an explainer over it. let_go: set whenever the outbox was woken."""

    state: State
    explainer: Explainer
    let_go: asyncio.Event

    @property
    def ledger(self) -> Ledger:
        return self.state.ledger

    async def page(self) -> Incident:
        """A NaN that pages; its explanation begins."""
        loss = falling(300)
        loss[290:] = np.nan
        step = await self.feed({"loss": loss}, 0)
        return step.transitions[-1].incident

    async def feed(self, values: dict[str, object], first_row: int) -> Step:
        step = await self.state.write(
            self.ledger.process, batch(frame(values, first_row=first_row), t_recv=1e9 + first_row)
        )
        self.explainer.after(step)
        return step

    async def view(self, incident: Incident) -> HypothesisView:
        view = await self.state.read(explanation, self.state.reader, incident)
        assert view is not None
        return view

    async def delivery(self) -> Delivery:
        rows = await self.state.read(self.state.reader.deliveries)
        return next(r for r in rows if r.sink == "slack")

    async def notes(self, incident: Incident) -> list[str]:
        return [n.text for n in await self.state.read(self.state.reader.notes, incident.id)]


@asynccontextmanager
async def world(folder: Path, analyst: FakeAnalyst | None, **patience: float) -> AsyncIterator[World]:
    state = State(opened(folder), Reader(folder / "state.db"))
    explainer = Explainer(
        state, analyst, Patience(**({"hold_s": 3600.0, "timeout_s": 3600.0} | patience)), Metrics(), lambda: NOW
    )
    let_go = asyncio.Event()
    explainer.wake = let_go.set
    try:
        yield World(state, explainer, let_go)
        if analyst is not None:
            analyst.go.set()
        await explainer.drain()
    finally:
        state.close()


def play(
    folder: Path, analyst: FakeAnalyst | None, body: Callable[[World], Awaitable[None]], **patience: float
) -> None:
    async def whole() -> None:
        async with asyncio.timeout(20), world(folder, analyst, **patience) as w:
            await body(w)

    asyncio.run(whole())


def test_without_a_model_the_built_in_diagnosis_lets_the_page_go_at_once(tmp_path):
    async def body(w: World) -> None:
        incident = await w.page()
        await w.let_go.wait()
        view = await w.view(incident)
        assert (view.author, view.note) == ("built-in", "")
        assert (await w.delivery()).due_t <= NOW

    play(tmp_path, None, body)


def test_a_model_that_answers_within_the_hold_is_on_the_page_when_it_leaves(tmp_path):
    analyst = FakeAnalyst()

    async def body(w: World) -> None:
        incident = await w.page()
        due = (await w.delivery()).due_t
        while not analyst.asked:
            await asyncio.sleep(0)
        assert not w.let_go.is_set()
        assert (await w.delivery()).due_t == due
        analyst.go.set()
        await w.let_go.wait()
        view = await w.view(incident)
        assert (view.author, view.cause) == (MODEL, "bad_batch")
        assert f"Hypothesis by {MODEL}: bad batch." in await w.notes(incident)

    play(tmp_path, analyst, body)


def test_the_page_leaves_at_the_end_of_the_hold_and_is_edited_when_the_answer_comes(tmp_path):
    analyst = FakeAnalyst()

    async def body(w: World) -> None:
        incident = await w.page()
        await w.let_go.wait()
        held = await w.view(incident)
        assert held.author == "built-in"
        assert "had not answered after 0.01 s" in held.note
        assert (await w.delivery()).due_t <= NOW
        wanted = (await w.delivery()).wanted
        w.let_go.clear()
        analyst.go.set()
        await w.let_go.wait()
        assert (await w.view(incident)).author == MODEL
        assert (await w.delivery()).wanted > wanted

    play(tmp_path, analyst, body, hold_s=0.01)


def test_a_hold_of_zero_lets_the_page_go_without_waiting(tmp_path):
    analyst = FakeAnalyst()

    async def body(w: World) -> None:
        await w.page()
        await w.let_go.wait()
        assert not analyst.go.is_set()

    play(tmp_path, analyst, body, hold_s=0.0)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TransientError("overloaded"), "model gave no answer: overloaded."),
        (PermanentError("refused (frontier_llm)"), "model gave no answer: refused (frontier_llm)."),
    ],
)
def test_why_the_model_gave_no_answer_is_noted_and_the_page_leaves(tmp_path, error, said):
    analyst = FakeAnalyst(result=error)
    analyst.go.set()

    async def body(w: World) -> None:
        incident = await w.page()
        await w.let_go.wait()
        view = await w.view(incident)
        assert (view.author, view.note) == ("built-in", said)

    play(tmp_path, analyst, body)


def test_a_model_that_takes_too_long_is_given_up(tmp_path):
    analyst = FakeAnalyst()

    async def body(w: World) -> None:
        incident = await w.page()
        await w.explainer.drain()
        view = await w.view(incident)
        assert (view.author, view.note) == ("built-in", "model did not answer within 0.01 s.")

    play(tmp_path, analyst, body, hold_s=0.001, timeout_s=0.01)


def test_an_answer_may_not_change_severity_or_route(tmp_path):
    analyst = FakeAnalyst()
    analyst.go.set()

    async def body(w: World) -> None:
        incident = await w.page()
        await w.explainer.drain()
        stored = await w.state.read(w.state.reader.incident, incident.id)
        assert stored.severity is Severity.PAGE
        assert {d.sink for d in await w.state.read(w.state.reader.deliveries)} == {"terminal", "slack"}

    play(tmp_path, analyst, body)


def predicting(relation: Relation, within: int = 8) -> FakeAnalyst:
    made = FakeAnalyst(result=answer(Prediction(metric="loss", relation=relation, within_rows=within, probability=0.8)))
    made.go.set()
    return made


@pytest.mark.parametrize(
    ("relation", "outcome"), [(Relation.BACK_IN_BAND, "confirmed"), (Relation.STAYS_OUT, "refuted")]
)
def test_a_prediction_is_scored_on_the_rows_that_come_and_noted_once(tmp_path, relation, outcome):
    async def body(w: World) -> None:
        incident = await w.page()
        await w.explainer.drain()
        said = f"Prediction {outcome}: loss {relation.value.replace('_', ' ')}"
        model = f"{incident.id}-1-{MODEL}-"  # the built-in diagnosis may predict the same
        for n in range(10):
            await w.feed({"loss": falling(8, start=300 + 8 * n)}, 300 + 8 * n)
            await w.explainer.drain()
        notes = await w.state.read(w.state.reader.notes, incident.id)
        assert [n.text.startswith(said) for n in notes if n.id.startswith(model)] == [True]
        outcomes = [p.outcome for p in (await w.view(incident)).predictions]
        assert outcomes == [outcome]

    play(tmp_path, predicting(relation), body)


def test_a_prediction_is_scored_once_also_over_a_restart(tmp_path):
    incidents: list[Incident] = []

    async def first(w: World) -> None:
        incidents.append(await w.page())
        await w.explainer.drain()

    async def second(w: World) -> None:
        for n in range(10):
            await w.feed({"loss": falling(8, start=300 + 8 * n)}, 300 + 8 * n)
            await w.explainer.drain()
        said = [n for n in await w.notes(incidents[0]) if n.startswith("Prediction confirmed: loss back in band")]
        assert len(said) == 1

    play(tmp_path, predicting(Relation.BACK_IN_BAND), first)
    play(tmp_path, predicting(Relation.BACK_IN_BAND), second)


def resumed(folder: Path, analyst: FakeAnalyst | None) -> HypothesisView:
    views: list[HypothesisView] = []

    async def body(w: World) -> None:
        w.explainer.resume(await w.state.read(w.state.reader.open_pages))
        await w.explainer.drain()
        (incident,) = w.ledger.engine.open_incidents()
        views.append(await w.view(incident))

    play(folder, analyst, body)
    return views[0]


def paged_but_not_explained(folder: Path) -> None:
    loss = falling(300)
    loss[290:] = np.nan
    ledger = opened(folder)
    ledger.process(batch(frame({"loss": loss})))
    ledger.close()


def test_a_crash_between_the_opening_and_the_explanation_is_made_good_at_the_next_start(tmp_path):
    paged_but_not_explained(tmp_path)
    assert resumed(tmp_path, None).author == "built-in"


def test_a_crash_while_the_model_is_asked_is_made_good_at_the_next_start(tmp_path):
    slow = FakeAnalyst()

    async def crash() -> None:
        state = State(opened(tmp_path), Reader(tmp_path / "state.db"))
        explainer = Explainer(state, slow, Patience(hold_s=3600.0, timeout_s=3600.0), Metrics(), lambda: NOW)
        w = World(state, explainer, asyncio.Event())
        await w.page()
        while not slow.asked:
            await asyncio.sleep(0)
        for task in list(explainer._tasks):
            task.cancel()
        await asyncio.gather(*explainer._tasks, return_exceptions=True)
        state.close()

    asyncio.run(crash())
    analyst = FakeAnalyst()
    analyst.go.set()
    view = resumed(tmp_path, analyst)
    assert view.author == MODEL
    assert "is being asked" not in view.note


def test_the_evidence_that_was_sent_is_kept_word_for_word(tmp_path):
    analyst = FakeAnalyst()
    analyst.go.set()

    async def body(w: World) -> None:
        incident = await w.page()
        await w.explainer.drain()
        (asked,) = analyst.asked
        assert await w.state.read(w.state.reader.evidence, incident.id) == asked.text()

    play(tmp_path, analyst, body)


def test_an_answer_is_stored_as_plain_json(tmp_path):
    analyst = FakeAnalyst()
    analyst.go.set()

    async def body(w: World) -> None:
        incident = await w.page()
        await w.explainer.drain()
        (body_, _), *_ = await w.state.read(w.state.reader.answers, incident.id, 1)
        assert json.loads(body_)["author"] == MODEL

    play(tmp_path, analyst, body)
