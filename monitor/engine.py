"""The deterministic core: `Engine.step(batch)` says what the batch means, and nothing else happens in it.

It reads no clock and touches no disk: the same batches give the same steps, live, replayed or after a restart.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

from detectors import Suite
from detectors.types import Block, Finding, Kind, Origin, Role, Severity
from monitor.attempts import Attempt
from monitor.frame import Batch, Frame, Status
from monitor.incident import Incident, Reason
from monitor.incidents import Book, Limit, Transition
from monitor.outage import KEY, Outages
from monitor.rows import Run, blocks_of


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Bounds and patience of the core; durations in seconds.

    max_page_age_s: older rows that were missed while we were down page nobody. late_s: such rows older than this mark
    their page as late. source_lost_s: how long a source may fail before that is an incident. idle_every_s: least time
    between two looks for silence. persist_rows: so many rows after history, what still holds pages. max_series: metrics
    per run, more are dropped. max_runs: runs in memory; a new one beyond makes the engine forget the one that was seen
    longest ago. Both are counted.
    """

    max_page_age_s: float = 6 * 3600.0
    late_s: float = 120.0
    source_lost_s: float = 60.0
    idle_every_s: float = 1.0
    persist_rows: int = 3
    max_series: int = 4096
    max_runs: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStart:
    """A new attempt of a run, recognised at `row`. The first attempt of a run starts with its first row."""

    run: str
    attempt: int
    row: int
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one batch meant.

    touched: runs with new rows. told: runs of which the source said something new. dropped: (reason, count) of what a
    limit refused.
    """

    findings: tuple[Finding, ...] = ()
    transitions: tuple[Transition, ...] = ()
    attempts: tuple[AttemptStart, ...] = ()
    touched: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    dropped: tuple[tuple[str, int], ...] = ()


class Engine:
    """Detectors, then incidents. `suite` and `book` hold the state of the two; runs that of the rows."""

    def __init__(self, suite: Suite, book: Book, settings: EngineSettings | None = None) -> None:
        self._suite = suite
        self._book = book
        self._settings = settings or EngineSettings()
        self._outages = Outages(self._settings.source_lost_s)
        self._runs: dict[str, Run] = {}
        self._looked: dict[str, float] = {}  # source → when its runs were last looked at for silence

    @property
    def runs(self) -> dict[str, Run]:
        """Every run in memory by name; to be read only."""
        return self._runs

    def step(self, batch: Batch) -> Step:
        """Take in a batch."""
        dropped: dict[str, int] = {}
        told = self._hear(batch)
        blocks = self._blocks(batch, dropped)
        attempts = self._attempts(blocks, told)
        findings = self._suite.update(blocks)
        transitions = self._decide(findings, blocks, batch.t_recv)
        for name in told:
            if self._runs[name].finished:
                self._suite.finish(name)
        waiting = self._outages.look(batch, open_=any(KEY in i.open for i in self._book.open(batch.source)))
        unwatched = batch.source not in self._looked
        waiting += self._silent(batch)
        changes = (self._book.apply(f, self._waited(f, unwatched=unwatched), batch.t_recv) for f in waiting)
        transitions += [c for c in changes if c is not None]
        known = len(self._runs)
        transitions += self._make_room(batch.t_recv)
        if len(self._runs) < known:
            dropped["run_forgotten"] = known - len(self._runs)
        return Step(
            findings=(*findings, *waiting),
            transitions=tuple(transitions),
            attempts=tuple(attempts),
            touched=tuple(dict.fromkeys(b.run for b in blocks)),
            told=tuple(told),
            dropped=tuple(dropped.items()),
        )

    def observe(self, batch: Batch) -> None:
        """Take in a batch again after a restart: what it meant is already known."""
        blocks = self._blocks(batch, {})
        self._attempts(blocks)
        self._suite.update(blocks)
        for block in blocks:
            self._count_live(block, batch.t_recv)
        self._make_room(batch.t_recv)

    def acknowledge(self, incident_id: str, now: float) -> Transition | None:
        """See `Book.acknowledge`."""
        return self._book.acknowledge(incident_id, now)

    def resolve(self, incident_id: str, now: float) -> Transition | None:
        """See `Book.resolve`."""
        return self._book.resolve(incident_id, now)

    def incident(self, incident_id: str) -> Incident | None:
        """See `Book.find`."""
        return self._book.find(incident_id)

    def put_back(self, incident: Incident) -> None:
        """See `Book.put_back`."""
        self._book.put_back(incident)

    def open_incidents(self) -> list[Incident]:
        """Incidents that are not resolved."""
        return self._book.open()

    def dump(self, run: str) -> bytes:
        """Everything that is known of a run, to continue from after a restart."""
        head = json.dumps(asdict(self._runs[run])).encode()
        return len(head).to_bytes(4, "big") + head + self._suite.dump(run)

    def load(self, run: str, blob: bytes) -> None:
        """Continue a run from `dump`. ValueError if the blob is of another version; nothing is known of it then."""
        size = int.from_bytes(blob[:4], "big")
        try:
            state = json.loads(blob[4 : 4 + size])
            state["attempt"] = Attempt(**state["attempt"])
            state["metrics"] = {k: Role(v) for k, v in state["metrics"].items()}
            state["primary"] = {Role(k): v for k, v in state["primary"].items()}
            known = Run(**state)
            self._suite.load(run, blob[4 + size :])
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as e:
            self._suite.forget(run)
            raise ValueError(f"state of another version: {e}") from e
        self._runs[run] = known

    def begin(self, run: str, source: str, attempt: int) -> None:
        """Expect the stored rows of a run, the first of them of this attempt."""
        self._runs[run] = Run(run, source, Attempt(ordinal=attempt))

    def recall(self, run: str, rows: int, total_steps: int, *, finished: bool) -> None:
        """What stored rows do not tell of their run."""
        if (known := self._runs.get(run)) is None:
            return  # it made room for others
        known.rows, known.total_steps, known.finished = rows, total_steps, finished
        if finished:
            self._suite.finish(run)

    def _make_room(self, now: float) -> list[Transition]:
        """Forget the runs that were seen longest ago until the rest fits; those with an open incident last."""
        over = len(self._runs) - self._settings.max_runs
        if over <= 0:
            return []
        held = {i.run for i in self._book.open()}
        age = {r.name: r.seen if math.isfinite(r.seen) else -math.inf for r in self._runs.values()}
        closed = []
        for name in sorted(self._runs, key=lambda n: (n in held, age[n], n))[:over]:
            del self._runs[name]
            self._suite.forget(name)
            closed += self._book.forget(name, now)
        return closed

    def _hear(self, batch: Batch) -> list[str]:
        """What the source says of its runs; those of which it is news."""
        told = []
        for name in batch.facts.keys() & (self._runs.keys() | {f.run for f in batch.frames}):
            facts, run = batch.facts[name], self._runs.setdefault(name, Run(name, batch.source))
            if facts.total_steps > run.total_steps or facts.finished:
                run.total_steps = max(run.total_steps, facts.total_steps)
                run.finished = run.finished or facts.finished
                told.append(name)
        return sorted(told)

    def _blocks(self, batch: Batch, dropped: dict[str, int]) -> list[Block]:
        by_run: dict[str, list[Frame]] = {}
        for frame in batch.frames:
            by_run.setdefault(frame.run, []).append(frame)
        blocks: list[Block] = []
        for name, frames in by_run.items():
            run = self._runs.setdefault(name, Run(name, batch.source))
            run.source = batch.source
            refused = run.dropped
            blocks += blocks_of(run, frames, batch.t_recv, self._settings.max_series)
            if run.dropped > refused:
                dropped["series_limit"] = dropped.get("series_limit", 0) + run.dropped - refused
        return blocks

    def _attempts(self, blocks: Sequence[Block], told: Collection[str] = ()) -> list[AttemptStart]:
        starts = []
        for block in blocks:
            run = self._runs[block.run]
            if block.attempt > run.announced:
                run.finished = run.finished and (run.announced < 0 or block.run in told)  # it was resumed
                run.announced = block.attempt
                row, step = int(block.row[0]), int(block.step[0])
                starts.append(AttemptStart(run=block.run, attempt=block.attempt, row=row, step=step))
        return starts

    def _decide(self, findings: Sequence[Finding], blocks: Sequence[Block], now: float) -> list[Transition]:
        """Findings to transitions, run by run and row by row, with what persists from history in its place."""
        by_run: dict[str, list[Block]] = {}
        for block in blocks:
            by_run.setdefault(block.run, []).append(block)
        said: dict[str, list[Finding]] = {}
        for finding in findings:
            said.setdefault(finding.run, []).append(finding)
        transitions = []
        for name, mine in by_run.items():
            lift = next((place for place in (self._count_live(b, now) for b in mine) if place is not None), None)
            for finding in said.get(name, []):
                if lift is not None and finding.row > lift[0]:
                    transitions += self._book.lift(name, *lift, now)
                    lift = None
                limit = self._limit(_home(finding, mine), finding.t, now)
                change = self._book.apply(finding, limit, now)
                transitions += [] if change is None else [change]
            if lift is not None:
                transitions += self._book.lift(name, *lift, now)
        return transitions

    def _count_live(self, block: Block, now: float) -> tuple[int, int] | None:
        """Count rows that may page; (row, step) of the one at which the run counts as alive, if it is in the block."""
        if self._limit(block, float(block.t[-1]), now).reason is not None:
            return None
        run = self._runs[block.run]
        before, run.alive = run.alive, run.alive + block.row.size
        at = self._settings.persist_rows - before - 1
        return (int(block.row[at]), int(block.step[at])) if 0 <= at < block.row.size else None

    def _limit(self, block: Block, t: float, now: float) -> Limit:
        if block.origin is Origin.HISTORY:
            return Limit(ceiling=Severity.RECORD, reason=Reason.HISTORY)
        if block.origin is Origin.BACKLOG:
            age = now - t  # NaN, and so neither, where the log has no clock
            if age > self._settings.max_page_age_s:
                return Limit(ceiling=Severity.RECORD, reason=Reason.TOO_OLD)
            return Limit(late=age > self._settings.late_s)
        return Limit()

    def _silent(self, batch: Batch) -> list[Finding]:
        """Look for silence among the runs of a source that was just read to its end; of others nothing is known."""
        looked = self._looked.get(batch.source, -math.inf)
        # A clock that was set back must not stop the looking.
        due = not looked <= batch.t_recv < looked + self._settings.idle_every_s
        if not (batch.at_head and (batch.status is Status.OK or batch.lost) and due):
            return []
        self._looked[batch.source] = batch.t_recv
        # Only what was seen growing can fall silent: a finished log that was copied here did not.
        mine = {r.name for r in self._runs.values() if r.source == batch.source and r.alive}
        return self._suite.idle(batch.t_recv, mine - batch.lost)

    def _waited(self, finding: Finding, *, unwatched: bool) -> Limit:
        """What a silence may do that began while nobody watched its source."""
        if finding.kind is not Kind.SILENCE or not unwatched:
            return Limit()
        if finding.observed > self._settings.max_page_age_s:
            return Limit(ceiling=Severity.RECORD, reason=Reason.TOO_OLD)
        return Limit(late=finding.observed > self._settings.late_s)


def _home(finding: Finding, blocks: Sequence[Block]) -> Block:
    """The block of its run that holds the row of a finding."""
    return blocks[min(bisect_left(blocks, finding.row, key=lambda b: int(b.row[-1])), len(blocks) - 1)]
