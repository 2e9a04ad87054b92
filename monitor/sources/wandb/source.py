"""Live runs of a W&B project as a source: which runs there are, then what is new in them, RUNS at a time in one query.

A poll lists the runs by heartbeat, follows those that are selected, and reads each to its end, window by window (see
`run`). A question that fails is split until the run that breaks it is alone; that run is told as lost and asked less
and less often (see `breaker`). What existed at the first look is history. A server that cannot be asked is our outage
(TransientError); a run that is broken makes the status an error and names itself in `Batch.lost`, so that neither is
taken for a silent run. Bounds: RUNS of a query, PAGES of PAGE runs of a list, `max_runs` followed at once, MAX_KNOWN
remembered, `max_bytes` of an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp

from monitor.errors import PermanentError
from monitor.frame import Batch, Frame, LogLine, Status
from monitor.sources.files.haul import encodable
from monitor.sources.wandb.api import Answer, Api, FailedError, TooMuchError
from monitor.sources.wandb.breaker import Breaker
from monitor.sources.wandb.progress import Progress
from monitor.sources.wandb.questions import NEWEST_FIRST, RUNS, combine, nodes
from monitor.sources.wandb.records import Counts, Unusable
from monitor.sources.wandb.run import Run
from monitor.sources.wandb.selection import Listed, Selection

RUNS_A_QUERY = 10
PAGE, PAGES = 100, 10
MAX_KNOWN = 20_000
RUN, HEAD = "run:", "head"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is read and within which bounds. first_rows: of a run at first sight."""

    entity: str
    project: str
    key: str
    url: str = "https://api.wandb.ai"
    selection: Selection = field(default_factory=Selection)
    poll_s: float = 15.0
    first_rows: int = 2_000
    max_runs: int = 100
    timeout_s: float = 30.0
    max_bytes: int = 16 << 20


class WandbSource:
    """Polls one project. Implements `monitor.frame.Source`."""

    def __init__(
        self,
        name: str,
        plan: Plan,
        *,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Now gives Unix seconds; sleep waits; both are injected in tests."""
        self.name = name
        self._plan, self._now, self._sleep = plan, now, sleep

    async def batches(self, cursors: Mapping[str, str]) -> AsyncIterator[Batch]:
        """Yield batches for ever, beginning after `cursors`. TransientError, PermanentError."""
        plan = self._plan
        reading = Reading(self.name, plan, cursors, self._now)
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            api = Api(session, plan.url, plan.key, timeout_s=plan.timeout_s, max_bytes=plan.max_bytes)
            while True:
                async with contextlib.aclosing(reading.poll(api)) as poll:
                    async for batch in poll:
                        yield replace(batch, t_recv=self._now())
                await self._sleep(plan.poll_s)

    def committed(self, batch: Batch) -> None:
        """Nobody waits for it."""


class Reading:
    """One reading of a project, from a set of cursors on."""

    def __init__(self, name: str, plan: Plan, cursors: Mapping[str, str], now: Callable[[], float]) -> None:
        """cursors: as batches carried them; damaged ones are counted, and their runs seen for the first time."""
        self._name, self._plan, self._now = name, plan, now
        self._runs: dict[str, Run] = {}
        self._breakers: dict[str, Breaker] = {}
        self._counts = Counts()
        self._told: dict[str, str] = {}
        self._since: float | None = None
        for key, text in cursors.items():
            self._told[key] = text
            if key == HEAD:
                self._since = _since(text)
                self._counts.add(Unusable.CORRUPT, self._since is None)
            elif key.startswith(RUN):
                progress = Progress.loads(text)
                self._counts.add(Unusable.CORRUPT, progress is None)
                self._add(key.removeprefix(RUN), progress, old=True)

    def _add(self, id_: str, progress: Progress | None, *, old: bool) -> Run:
        name = f"{self._name}/{encodable(id_)}"
        run = self._runs[id_] = Run(name, id_, progress, first_rows=self._plan.first_rows, old=old)
        self._breakers[id_] = Breaker()
        return run

    async def poll(self, api: Api) -> AsyncGenerator[Batch]:
        """Read all that is new; the last batch is at the head."""
        await self._list(api)
        due = [run for run in self._runs.values() if not run.progress.done]
        asked = [run for run in due if self._breakers[run.id].allows(self._now())]
        for run in asked:
            run.begin()
        queue = deque(self._groups(asked))
        failed: set[str] = set()
        while queue:
            group = queue.popleft()
            frames = await self._ask(api, group, queue, failed)
            cursors, lines = self._cursors(group), _lines(group)
            if frames or cursors or lines or failed:
                yield Batch(
                    source=self._name,
                    t_recv=0.0,
                    frames=tuple(frames),
                    lines=lines,
                    cursors=cursors,
                    at_head=False,
                )
            if not queue:
                queue.extend(self._groups([run for run in asked if run.more and run.id not in failed]))
        yield self._close(due, [run for run in asked if run.id not in failed])

    def _groups(self, runs: Sequence[Run]) -> Iterator[list[Run]]:
        """Runs that failed go alone."""
        sound = [run for run in runs if not self._breakers[run.id].failures]
        yield from (sound[i : i + RUNS_A_QUERY] for i in range(0, len(sound), RUNS_A_QUERY))
        yield from ([run] for run in runs if self._breakers[run.id].failures)

    async def _ask(self, api: Api, group: list[Run], queue: deque[list[Run]], failed: set[str]) -> list[Frame]:
        """What is new of some runs; those that cannot be read are asked alone, and then `failed`."""
        questions = [run.question() for run in group]
        query, variables = combine(questions)
        frames: list[Frame] = []
        try:
            answer = await api.ask(query, variables | self._where())
        except FailedError as e:
            self._counts.add(Unusable.QUESTION_FAILED)
            if len(group) > 1:
                middle = len(group) // 2
                queue.extendleft((group[middle:], group[:middle]))
            elif isinstance(e, TooMuchError) and group[0].shrink():
                queue.appendleft(group)
            else:
                self._fail(group[0], str(e), failed)
            return frames
        now = self._now() if answer.now != answer.now else answer.now
        found = nodes(self._project(answer), len(group))
        for i, (run, question, node) in enumerate(zip(group, questions, found, strict=True)):
            why = answer.complaints.get(f"r{i}")
            if why:
                self._fail(run, why, failed)
            elif node is None:
                run.delete()
            else:
                frames += await asyncio.to_thread(run.take, question, node, now)
                self._breakers[run.id].succeed()
        return frames

    def _fail(self, run: Run, why: str, failed: set[str]) -> None:
        self._breakers[run.id].fail(why, self._now())
        failed.add(run.id)

    def _close(self, due: Sequence[Run], read: Sequence[Run]) -> Batch:
        """The end of a poll. due: runs that are not done yet; read: those that could be read."""
        for run in read:
            run.settle()
        for run in self._runs.values():
            for reason, many in run.counts.items():
                self._counts.add(reason, many)
            run.counts.clear()
        lost = {run.name for run in due} - {run.name for run in read}
        broken = [f"run {run.id}: {self._breakers[run.id].why}" for run in due if self._breakers[run.id].open]
        self._counts.add(Unusable.BROKEN, len(broken))
        counts, self._counts = dict(self._counts), Counts()
        cursors = self._cursors(read)
        head = json.dumps({"since": self._since})
        if self._told.get(HEAD) != head:
            cursors[HEAD] = self._told[HEAD] = head
        return Batch(
            source=self._name,
            t_recv=0.0,
            lines=_lines(read),
            cursors=cursors,
            facts={run.name: run.facts for run in read},
            counts=counts,
            status=Status.ERROR if broken else Status.OK,
            detail="; ".join(broken[:3]),
            lost=frozenset(lost),
        )

    def _cursors(self, runs: Sequence[Run]) -> dict[str, str]:
        """Those that moved."""
        moved = {RUN + run.id: run.progress.dumps() for run in runs if run.started}
        moved = {key: text for key, text in moved.items() if self._told.get(key) != text}
        self._told |= moved
        return moved

    async def _list(self, api: Api) -> None:
        """Take up runs that are new, and those that go on."""
        cursor: str | None = None
        following = sum(not run.progress.done for run in self._runs.values())
        for _ in range(PAGES):
            answer = await api.ask(RUNS, self._where() | {"order": NEWEST_FIRST, "first": PAGE, "cursor": cursor})
            runs = self._project(answer).get("runs")
            page, edges = (runs.get("pageInfo") or {}, runs.get("edges") or []) if isinstance(runs, dict) else (0, 0)
            if not isinstance(page, dict) or not isinstance(edges, list):
                raise FailedError(f"{self._plan.url}: {next(iter(answer.complaints.values()), 'tells no runs')}")
            now = self._now() if answer.now != answer.now else answer.now
            self._since = now if self._since is None else self._since
            listed = [run for edge in edges if (run := Listed.of(edge)) is not None]
            for one in listed:
                following += self._take_up(one, now, following)
            cursor = page.get("endCursor")
            if (
                not page.get("hasNextPage")
                or not cursor
                or all(r.age_s(now) > self._plan.selection.max_age_s for r in listed)
            ):
                return

    def _take_up(self, listed: Listed, now: float, following: int) -> bool:
        """Whether one more run is followed from now on."""
        known = self._runs.get(listed.id)
        if known is not None:
            if not known.progress.done or (
                listed.state == known.progress.state and listed.lines <= known.progress.lines
            ):
                return False
        elif not self._plan.selection.takes(listed, now):
            return False
        if following >= self._plan.max_runs or len(self._runs) >= MAX_KNOWN:
            self._counts.add(Unusable.RUN_LIMIT)
            return False
        if known is not None:
            known.progress.done = False
            return True
        old = not listed.created > (self._since or now)
        run = self._add(listed.id, None, old=old)
        run.say(f"W&B: run {listed.title!r} of {self._plan.entity}/{self._plan.project}")
        return True

    def _where(self) -> dict[str, Any]:
        return {"entity": self._plan.entity, "project": self._plan.project}

    def _project(self, answer: Answer) -> Mapping[str, Any]:
        project = answer.data.get("project")
        if isinstance(project, dict):
            return project
        where = f"{self._plan.entity}/{self._plan.project}"
        said = next(iter(answer.complaints.values()), "there is none, or the key may not see it")
        raise PermanentError(f"{self._plan.url}: project {where}: {said}")


def _lines(runs: Sequence[Run]) -> tuple[LogLine, ...]:
    """What is to be said of them, once."""
    lines = tuple(line for run in runs for line in run.lines)
    for run in runs:
        run.lines.clear()
    return lines


def _since(text: str) -> float | None:
    try:
        return float(json.loads(text)["since"])
    except (ValueError, TypeError, KeyError):
        return None
