"""From an incident to a checked explanation, and from a prediction to its outcome. Asynchronous glue over pure parts.

The built-in diagnosis answers at once; a model, if there is one, is asked beside it. Whatever the model does, the page
leaves at the end of the hold. Bounds: one analysis per episode, `MAX_AT_ONCE` calls of the model at a time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import asdict, dataclass

from detectors.types import Role, Severity
from monitor import hardware
from monitor.analysis.differential import Differential
from monitor.analysis.hypothesis import Answer, Hypothesis
from monitor.analysis.predictions import EVEN, Outcome, Registered, judge, register, told
from monitor.analysis.predictions import Verdict as Standing
from monitor.analysis.verify import Checked, Verdict, Verified, verify
from monitor.analysis.view import view
from monitor.engine import Step
from monitor.errors import PermanentError, TransientError
from monitor.evidence import Evidence, build
from monitor.incident import Incident
from monitor.ledger import Explained
from monitor.metrics import Metrics
from monitor.page import HypothesisView, Note
from monitor.ports import Analyst
from monitor.reader import Reader
from monitor.roles import role_of
from monitor.state import State
from monitor.window import Window

log = logging.getLogger(__name__)

WINDOW_ROWS = 20_000
MAX_AT_ONCE = 4
END_OF_RUN = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds. hold_s: how long a page waits for the model; timeout_s: how long the model may take in all."""

    hold_s: float = 60.0
    timeout_s: float = 180.0


class Explainer:
    """clock: Unix seconds. wake: called when the outbox changed. analyst: None asks no model."""

    def __init__(
        self,
        state: State,
        analyst: Analyst | None,
        patience: Patience,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._analyst = analyst
        self._patience = patience
        self._metrics = metrics
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun: set[tuple[str, int]] = set()
        self._places = asyncio.Semaphore(MAX_AT_ONCE)
        self._touched: set[str] = set()
        self._judging = asyncio.Lock()
        self._open: dict[str, tuple[str, Registered]] = {}
        self._stale = True
        self.wake: Callable[[], None] = lambda: None

    def resume(self, incidents: Iterable[Incident]) -> None:
        """Explain what a previous process left unexplained."""
        for incident in incidents:
            self._begin(incident)

    def after(self, step: Step) -> None:
        """Explain incidents that page for the first time, and judge predictions on the new rows."""
        for transition in step.transitions:
            if transition.incident.severity is Severity.PAGE:
                self._begin(transition.incident)
        if step.touched and (self._stale or self._open):
            self._touched.update(step.touched)
            self._spawn(self._judge())

    async def drain(self) -> None:
        """Wait for what is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _begin(self, incident: Incident) -> None:
        key = (incident.id, incident.episode)
        if key not in self._begun:
            self._begun.add(key)
            self._spawn(self._explain(incident))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The page does not depend on this: it leaves at the end of its hold.
            log.error("analysis_broken error=%r", error, exc_info=error)

    async def _explain(self, incident: Incident) -> None:
        began = time.monotonic()
        window = await self._state.read(window_of, self._state.reader, incident)
        evidence = build(incident, window)
        differential = Differential()
        own = differential.answer(incident, window)
        self._observe(differential.name, "ok", began)
        case = _Case(incident, window, evidence)
        if self._analyst is None:
            await self._keep(case, own, "")
            await self._let_go(incident)
            return
        await self._keep(case, own, f"{self._analyst.name} is being asked.", final=False)
        asking = asyncio.ensure_future(self._ask(case))
        done, _ = await asyncio.wait({asking}, timeout=self._patience.hold_s)
        if not done:
            late = f"{self._analyst.name} had not answered after {self._patience.hold_s:g} s."
            await self._keep(case, own, late, final=False)
            await self._let_go(incident)
        failure = await asking
        if failure:
            await self._keep(case, own, failure)
        await self._let_go(incident)

    async def _ask(self, case: _Case) -> str:
        """Ask the model and keep its answer; the reason if there is none."""
        assert self._analyst is not None
        name, began = self._analyst.name, time.monotonic()
        try:
            async with self._places, asyncio.timeout(self._patience.timeout_s):
                answer = await self._analyst.explain(case.evidence)
        except TimeoutError:
            self._observe(name, "timeout", began)
            return f"{name} did not answer within {self._patience.timeout_s:g} s."
        except (TransientError, PermanentError) as e:
            self._observe(name, "error", began)
            log.warning("analysis_failed incident=%s analyst=%s error=%s", case.incident.id, name, e)
            return f"{name} gave no answer: {e}."
        self._observe(name, "ok", began)
        await self._keep(case, answer, "")
        return ""

    async def _keep(self, case: _Case, answer: Answer, remark: str, *, final: bool = True) -> None:
        verified = verify(answer.hypothesis, case.evidence, case.incident, case.window)
        registered = register(verified.hypothesis, case.evidence, case.incident, case.window, answer.author)
        top = verified.hypothesis.causes[0]
        said = Note(
            id=f"{case.incident.id}.{case.incident.episode}.{answer.author}",
            text=f"Hypothesis by {answer.author}: {top.cause.value.replace('_', ' ')}.",
        )
        own = answer.author == Differential.name
        explained = Explained(
            incident=case.incident.id,
            episode=case.incident.episode,
            author=answer.author,
            body=pack(verified, case.evidence, answer.author, remark),
            final=final,
            predictions=tuple((r.id, r.run, r.model_dump_json()) for r in registered),
            sha256=case.evidence.sha256,
            evidence=case.evidence.text(),
            notes=() if own else (said,),
        )
        await self._state.write(self._state.ledger.answer, explained, self._clock())
        self._stale = True
        self._touched.add(case.incident.run)
        self._spawn(self._judge())

    async def _let_go(self, incident: Incident) -> None:
        await self._state.write(self._state.ledger.release, incident.id, self._clock())
        self.wake()

    async def _judge(self) -> None:
        """Judge every open prediction of the runs that have new rows."""
        async with self._judging:
            runs, self._touched = self._touched, set()
            if self._stale:
                self._stale = False  # before the read: what is registered meanwhile makes it stale again
                rows = await self._state.read(self._state.reader.open_predictions)
                self._open = {key: (incident, Registered.model_validate_json(body)) for key, incident, _, body in rows}
            for key, (incident, registered) in list(self._open.items()):
                if registered.run in runs:
                    await self._score(key, incident, registered)

    async def _score(self, key: str, incident: str, registered: Registered) -> None:
        first, metric = registered.after_row + 1, registered.metric
        window = await self._state.read(
            self._state.reader.window, registered.run, first, END_OF_RUN, lambda name: name == metric
        )
        series = window.series[0] if window.series else None
        outcome = judge(registered, series)
        if outcome.outcome is Standing.OPEN:
            return
        self._open.pop(key, None)
        said, _, verdict = told(registered, outcome)
        text = f"Prediction {verdict.value}: {said}; found {outcome.found}."
        if registered.probability < EVEN and verdict is Standing.CONFIRMED:
            text = ""  # that something unlikely did not happen is no news
        await self._state.write(
            self._state.ledger.outcome,
            key,
            incident,
            outcome.outcome.value,
            outcome.model_dump_json(),
            text,
            self._clock(),
        )
        self._metrics.predictions.labels(outcome=outcome.outcome.value).inc()
        self.wake()

    def _observe(self, name: str, result: str, began: float) -> None:
        self._metrics.analysis.labels(analyst=name).observe(time.monotonic() - began)
        self._metrics.analyses.labels(analyst=name, result=result).inc()


@dataclass(frozen=True, slots=True)
class _Case:
    incident: Incident
    window: Window
    evidence: Evidence


def window_of(reader: Reader, incident: Incident) -> Window:
    """What an explanation of an incident looks at: the rows before its first one, and all that came after."""
    known = telling(incident)
    first = max(0, incident.first_row - WINDOW_ROWS)
    return reader.window(incident.run, first, END_OF_RUN, lambda m: known(m) or m in hardware.NAMES)


def telling(incident: Incident) -> Callable[[str], bool]:
    """Which metrics bear on an incident: those of a known role and its own."""
    return lambda metric: metric in incident.metrics or role_of(metric).role is not Role.OTHER


def pack(verified: Verified, evidence: Evidence, author: str, remark: str) -> str:
    """A checked answer as JSON for the store."""
    return json.dumps(
        {
            "hypothesis": verified.hypothesis.model_dump(mode="json"),
            "verdicts": [[asdict(c) for c in checked] for checked in verified.verdicts],
            "names": dict(evidence.names),
            "author": author,
            "remark": remark,
        }
    )


def unpack(body: str, predictions: Iterable[tuple[str, str]]) -> HypothesisView:
    """A stored answer as a person reads it. predictions: (registered, outcome) as JSON, outcome "" while open."""
    stored = json.loads(body)
    verified = Verified(
        hypothesis=Hypothesis.model_validate(stored["hypothesis"]),
        verdicts=tuple(
            tuple(Checked(verdict=Verdict(c["verdict"]), found=c["found"]) for c in checked)
            for checked in stored["verdicts"]
        ),
    )
    pairs = [
        (
            Registered.model_validate_json(registered),
            Outcome.model_validate_json(outcome) if outcome else Outcome(outcome=Standing.OPEN),
        )
        for registered, outcome in predictions
    ]
    return view(verified, stored["names"], stored["author"], pairs, stored["remark"])
