"""From a registered prediction to its outcome: judged on the rows that come, kept, and said once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import time

from monitor.analysis.predictions import EVEN, Registered, Verdict, judge, told
from monitor.metrics import Metrics
from monitor.state import State

END_OF_RUN = 2**62


class Scorer:
    """Judges every open prediction of the runs that have new rows, one pass at a time.

    clock: Unix seconds. refuted: called with the incident and the cause that just lost a prediction.
    """

    def __init__(self, state: State, metrics: Metrics, clock: Callable[[], float] = time) -> None:
        self._state = state
        self._metrics = metrics
        self._clock = clock
        self._judging = asyncio.Lock()
        self._touched: set[str] = set()
        self._open: dict[str, tuple[str, Registered]] = {}
        self._stale = True
        self.refuted: Callable[[str, str], None] = lambda _, __: None
        self.wake: Callable[[], None] = lambda: None

    def touch(self, runs: Iterable[str], *, registered: bool = False) -> bool:
        """Note runs with new rows, or with new predictions; whether there is anything to judge."""
        self._stale |= registered
        if not (self._stale or self._open):
            return False
        self._touched.update(runs)
        return True

    async def judge(self) -> None:
        """Judge what was touched."""
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
        outcome = judge(registered, window.series[0] if window.series else None)
        if outcome.outcome is Verdict.OPEN:
            return
        self._open.pop(key, None)
        said, _, verdict = told(registered, outcome)
        text = f"Prediction {verdict.value}: {said}; found {outcome.found}."
        if verdict is Verdict.REFUTED and registered.cause:
            text += f" It spoke for {registered.cause.replace('_', ' ')}."
        if registered.probability < EVEN and verdict is Verdict.CONFIRMED:
            text = ""  # that something unlikely did not happen is no news
        kept = outcome.model_dump_json()
        await self._state.write(
            self._state.ledger.outcome, key, incident, outcome.outcome.value, kept, text, self._clock()
        )
        self._metrics.predictions.labels(outcome=outcome.outcome.value).inc()
        if verdict is Verdict.REFUTED:
            self.refuted(incident, registered.cause)
        self.wake()
