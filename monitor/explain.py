"""From an incident to a checked explanation, made anew whenever the incident has become another one.

The built-in diagnosis answers at once; a model, if there is one, is asked beside it. Whatever the model does, the page
leaves at the end of the hold; a later answer is edited in. Bounds: those of `monitor.gravity` per episode, and
`MAX_AT_ONCE` calls of the model at a time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass

from detectors.types import Role, Severity
from monitor import hardware
from monitor.analysis.differential import Differential
from monitor.analysis.hypothesis import Answer
from monitor.answers import unpack
from monitor.engine import Step
from monitor.episode import Case, Episode
from monitor.errors import PermanentError, TransientError
from monitor.evidence import build
from monitor.gravity import gravity
from monitor.incident import Incident
from monitor.metrics import Metrics
from monitor.move import moved
from monitor.ports import Analyst
from monitor.reader import Reader
from monitor.roles import role_of
from monitor.score import END_OF_RUN, Scorer
from monitor.state import State
from monitor.window import Window

log = logging.getLogger(__name__)

WINDOW_ROWS = 20_000
MAX_AT_ONCE = 4


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
        self._scorer = Scorer(state, metrics, clock)
        self._scorer.refuted = self._doubt
        self._scorer.wake = self._woken
        self._tasks: set[asyncio.Task[None]] = set()
        self._episodes: dict[tuple[str, int], Episode] = {}
        self._places = asyncio.Semaphore(MAX_AT_ONCE)
        self.wake: Callable[[], None] = lambda: None

    def resume(self, incidents: Iterable[Incident]) -> None:
        """Go on with the open pages of a previous process: explain them where it had not."""
        for incident in incidents:
            self._stir(incident)

    def after(self, step: Step) -> None:
        """Explain incidents that page, anew where they became worse, and judge predictions on the new rows."""
        for transition in step.transitions:
            if transition.incident.severity is Severity.PAGE:
                self._stir(transition.incident)
        for episode in list(self._episodes.values()):
            if episode.incident.run in step.touched and episode.look():
                self._stir(episode.incident)
        if step.touched and self._scorer.touch(step.touched):
            self._spawn(self._scorer.judge())

    async def drain(self) -> None:
        """Wait for what is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _stir(self, incident: Incident) -> None:
        episode = self._episodes.setdefault((incident.id, incident.episode), Episode(incident))
        episode.incident, episode.stirred = incident, True
        if not episode.busy:
            episode.busy = True
            self._spawn(self._follow(episode))

    def _woken(self) -> None:
        self.wake()

    def _doubt(self, incident: str, cause: str) -> None:
        for (held, _), episode in list(self._episodes.items()):
            if held == incident and cause in episode.leading.values():
                episode.refuted = True
                self._stir(episode.incident)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The page does not depend on this: it leaves at the end of its hold.
            log.error("analysis_broken error=%r", error, exc_info=error)

    # --- the built-in diagnosis

    async def _follow(self, episode: Episode) -> None:
        try:
            while episode.stirred:
                episode.stirred = False
                await self._revise(episode)
        finally:
            episode.busy = False
            episode.case = episode.case if episode.asking else None
        self._leave(episode)

    def _leave(self, episode: Episode) -> None:
        if episode.over:
            self._episodes.pop((episode.incident.id, episode.incident.episode), None)

    async def _revise(self, episode: Episode) -> None:
        """Explain the incident as it stands now, if that is news."""
        began, incident = time.monotonic(), episode.incident
        if not episode.recalled:
            kept = await self._state.read(self._state.reader.answers, incident.id, incident.episode)
            episode.recall((stored, final) for body, final in kept if (stored := unpack(body)) is not None)
        window = await self._state.read(window_of, self._state.reader, incident)
        now = gravity(incident, moved(incident, window), episode.refuted)
        if not episode.calls_for(now):
            return
        own = Differential().answer(incident, window)
        self._observe(Differential.name, "ok", began)
        case = Case(incident, window, build(incident, window), own, now)
        episode.take(case)
        if not episode.settled:
            await self._first(episode, case)
            return
        analyst = self._analyst if not episode.asking and episode.may_ask(case) else None
        await self._keep_all(episode, case, f"{analyst.name} is being asked again." if analyst else "")
        self.wake()
        if analyst is not None:
            episode.asking = True
            self._spawn(self._ask_on(episode))

    async def _first(self, episode: Episode, case: Case) -> None:
        """Explain a page that has not left yet."""
        if self._analyst is None:
            episode.settled = True
            await self._keep(episode, case, case.own)
            await self._let_go(episode)
            return
        await self._keep(episode, case, case.own, f"{self._analyst.name} is being asked.")
        if not episode.asking:
            episode.asking = True
            self._spawn(self._hold(episode))

    # --- the model

    async def _hold(self, episode: Episode) -> None:
        """Ask for the first time; the page waits for the answer until the end of the hold."""
        assert self._analyst is not None
        asking = asyncio.ensure_future(self._ask_on(episode))
        done, _ = await asyncio.wait({asking}, timeout=self._patience.hold_s)
        if not done and (case := episode.case) is not None:
            late = f"{self._analyst.name} had not answered after {self._patience.hold_s:g} s."
            await self._keep(episode, case, case.own, late)
            await self._let_go(episode)
        await asking

    async def _ask_on(self, episode: Episode) -> None:
        """Ask, and again if the incident became another one meanwhile."""
        case = episode.case
        try:
            while case is not None:
                failure = await self._ask(episode, case)
                episode.settled = True
                await self._keep_all(episode, episode.case or case, failure)
                await self._let_go(episode)
                asked, case = case, episode.case
                if case is asked or (case is not None and not episode.may_ask(case)):
                    break
        finally:
            episode.asking, episode.case = False, None
        self._leave(episode)

    async def _ask(self, episode: Episode, case: Case) -> str:
        """Ask the model and keep its answer; the reason if there is none."""
        assert self._analyst is not None
        name, began = self._analyst.name, time.monotonic()
        episode.asked.append(case.evidence.sha256)
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
        episode.settled = True
        await self._keep(episode, case, answer)
        return ""

    # --- what is kept

    async def _keep_all(self, episode: Episode, case: Case, remark: str) -> None:
        """Our own answer, and that of the model with its claims checked on the rows as they are by now."""
        await self._keep(episode, case, case.own, remark)
        if episode.model is not None:
            await self._keep(episode, case, episode.model, remark)

    async def _keep(self, episode: Episode, case: Case, answer: Answer, remark: str = "") -> None:
        explained = episode.check(case, answer, remark)
        await self._state.write(self._state.ledger.answer, explained, self._clock())
        if explained.predictions and self._scorer.touch([case.incident.run], registered=True):
            self._spawn(self._scorer.judge())

    async def _let_go(self, episode: Episode) -> None:
        await self._state.write(self._state.ledger.release, episode.incident.id, self._clock())
        self.wake()

    def _observe(self, name: str, result: str, began: float) -> None:
        self._metrics.analysis.labels(analyst=name).observe(time.monotonic() - began)
        self._metrics.analyses.labels(analyst=name, result=result).inc()


def window_of(reader: Reader, incident: Incident) -> Window:
    """What an explanation of an incident looks at: the rows before its first one, and all that came after."""
    known = telling(incident)
    first = max(0, incident.first_row - WINDOW_ROWS)
    return reader.window(incident.run, first, END_OF_RUN, lambda m: known(m) or m in hardware.NAMES)


def telling(incident: Incident) -> Callable[[str], bool]:
    """Which metrics bear on an incident: those of a known role and its own."""
    return lambda metric: metric in incident.metrics or role_of(metric).role is not Role.OTHER
