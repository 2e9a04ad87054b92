"""The deterministic core: `Engine.step(batch)` says what the batch means, and nothing else happens in it.

It reads no clock and touches no disk: the same batches give the same steps, live, replayed or after a restart.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from detectors import Suite
from detectors.types import Block, Finding, Kind, Origin, Phase, Role, Severity
from monitor.attempts import Attempt
from monitor.frame import Batch, Frame, Status
from monitor.incident import Incident, Reason
from monitor.incidents import Book, Limit, Transition
from monitor.rows import Run, blocks_of


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Bounds and patience of the core; durations in seconds.

    max_page_age_s: older rows that were missed while we were down page nobody. late_s: such rows older than this mark
    their page as late. source_lost_s: how long a source may fail before that is an incident. idle_every_s: least time
    between two looks for silence. max_series: metrics per run, more are dropped. max_runs: runs in memory; a new one
    beyond makes the engine forget the one that was seen longest ago. Both are counted.
    """

    max_page_age_s: float = 6 * 3600.0
    late_s: float = 120.0
    source_lost_s: float = 60.0
    idle_every_s: float = 1.0
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
    """What one batch meant. touched: runs with new rows. dropped: (reason, count) of what a limit refused."""

    findings: tuple[Finding, ...] = ()
    transitions: tuple[Transition, ...] = ()
    attempts: tuple[AttemptStart, ...] = ()
    touched: tuple[str, ...] = ()
    dropped: tuple[tuple[str, int], ...] = ()


class Engine:
    """Detectors, then incidents. `suite` and `book` hold the state of the two; runs that of the rows."""

    def __init__(self, suite: Suite, book: Book, settings: EngineSettings | None = None) -> None:
        self._suite = suite
        self._book = book
        self._settings = settings or EngineSettings()
        self._runs: dict[str, Run] = {}
        self._failing: dict[str, float] = {}  # source → when its trouble began
        self._looked = float("-inf")

    @property
    def runs(self) -> dict[str, Run]:
        """Every run in memory by name; to be read only."""
        return self._runs

    def step(self, batch: Batch) -> Step:
        """Take in a batch."""
        blocks, dropped = self._blocks(batch)
        attempts = self._attempts(blocks)
        findings = self._suite.update(blocks)
        latest = {b.run: b for b in blocks}
        transitions = []
        for finding in findings:
            change = self._book.apply(
                finding, self._limit(_home(finding, blocks), finding.t, batch.t_recv), batch.t_recv
            )
            if change is not None:
                transitions.append(change)
        for block in latest.values():
            if self._limit(block, float(block.t[-1]), batch.t_recv).reason is None:
                transitions += self._book.lift(block.run, int(block.row[-1]), int(block.step[-1]), batch.t_recv)
        waiting = self._idle(batch)
        for finding in waiting:
            change = self._book.apply(finding, Limit(), batch.t_recv)
            if change is not None:
                transitions.append(change)
        return Step(
            findings=(*findings, *waiting),
            transitions=tuple(transitions),
            attempts=tuple(attempts),
            touched=tuple(latest),
            dropped=tuple(dropped.items()),
        )

    def observe(self, batch: Batch) -> None:
        """Take in a batch again after a restart: what it meant is already known."""
        self._suite.update(self._blocks(batch)[0])

    def acknowledge(self, incident_id: str, now: float) -> Transition | None:
        """See `Book.acknowledge`."""
        return self._book.acknowledge(incident_id, now)

    def resolve(self, incident_id: str, now: float) -> Transition | None:
        """See `Book.resolve`."""
        return self._book.resolve(incident_id, now)

    def open_incidents(self) -> list[Incident]:
        """Incidents that are not resolved."""
        return self._book.open()

    def dump(self, run: str) -> bytes:
        """Everything that is known of a run, to continue from after a restart."""
        head = json.dumps(asdict(self._runs[run])).encode()
        return len(head).to_bytes(4, "big") + head + self._suite.dump(run)

    def load(self, run: str, blob: bytes) -> None:
        """Continue a run from `dump`. ValueError if the blob is of another version."""
        size = int.from_bytes(blob[:4], "big")
        state = json.loads(blob[4 : 4 + size])
        state["attempt"] = Attempt(**state["attempt"])
        state["metrics"] = {k: Role(v) for k, v in state["metrics"].items()}
        state["primary"] = {Role(k): v for k, v in state["primary"].items()}
        self._suite.load(run, blob[4 + size :])
        self._runs[run] = Run(**state)

    def _blocks(self, batch: Batch) -> tuple[list[Block], dict[str, int]]:
        dropped: dict[str, int] = {}
        by_run: dict[str, list[Frame]] = {}
        for frame in batch.frames:
            by_run.setdefault(frame.run, []).append(frame)
        for name, facts in batch.facts.items():
            if name in by_run or name in self._runs:
                run = self._runs.setdefault(name, Run(name, batch.source))
                run.total_steps = max(run.total_steps, facts.total_steps)
                if facts.finished and not run.finished:
                    run.finished = True
                    self._suite.finish(name)
        blocks: list[Block] = []
        for name, frames in by_run.items():
            if name not in self._runs and len(self._runs) >= self._settings.max_runs:
                self._forget_oldest()
                dropped["run_forgotten"] = dropped.get("run_forgotten", 0) + 1
            run = self._runs.setdefault(name, Run(name, batch.source))
            run.source = batch.source
            refused = run.dropped
            blocks += blocks_of(run, frames, batch.t_recv, self._settings.max_series)
            if run.dropped > refused:
                dropped["series_limit"] = dropped.get("series_limit", 0) + run.dropped - refused
        return blocks, dropped

    def _forget_oldest(self) -> None:
        oldest = min(self._runs.values(), key=lambda r: r.seen if r.seen == r.seen else float("-inf")).name
        del self._runs[oldest]
        self._suite.forget(oldest)
        self._book.forget(oldest)

    def _attempts(self, blocks: Sequence[Block]) -> list[AttemptStart]:
        starts = []
        for block in blocks:
            run = self._runs[block.run]
            if block.attempt > run.announced:
                run.announced = block.attempt
                starts.append(
                    AttemptStart(run=block.run, attempt=block.attempt, row=int(block.row[0]), step=int(block.step[0]))
                )
        return starts

    def _limit(self, block: Block, t: float, now: float) -> Limit:
        if block.origin is Origin.HISTORY:
            return Limit(ceiling=Severity.RECORD, reason=Reason.HISTORY)
        if block.origin is Origin.BACKLOG:
            age = now - t  # NaN, and so neither, where the log has no clock
            if age > self._settings.max_page_age_s:
                return Limit(ceiling=Severity.RECORD, reason=Reason.TOO_OLD)
            return Limit(late=age > self._settings.late_s)
        return Limit()

    def _idle(self, batch: Batch) -> list[Finding]:
        found = self._source(batch)
        due = batch.t_recv - self._looked >= self._settings.idle_every_s
        if batch.at_head and batch.status is Status.OK and due:
            self._looked = batch.t_recv
            if self._failing:
                fine = [r.name for r in self._runs.values() if r.source not in self._failing]
                found += self._suite.idle(batch.t_recv, fine)
            else:
                found += self._suite.idle(batch.t_recv)
        return found

    def _source(self, batch: Batch) -> list[Finding]:
        """Trouble of a source is our own outage: it is told apart from a run that fell silent."""
        key = f"{Kind.SOURCE_LOST}:"
        if batch.status is Status.ERROR:
            since = self._failing.setdefault(batch.source, batch.t_recv)
            if batch.t_recv - since < self._settings.source_lost_s:
                return []
            return [_source_finding(batch, key, since, Phase.BEGINS)]
        since = self._failing.pop(batch.source, batch.t_recv)
        if any(key in i.open for i in self._book.open(batch.source)):
            return [_source_finding(batch, key, since, Phase.ENDS)]
        return []


def _home(finding: Finding, blocks: Sequence[Block]) -> Block:
    """The block that holds the row of a finding."""
    mine = [b for b in blocks if b.run == finding.run]
    return next((b for b in mine if b.row[0] <= finding.row <= b.row[-1]), mine[-1])


def _source_finding(batch: Batch, key: str, since: float, phase: Phase) -> Finding:
    return Finding(
        kind=Kind.SOURCE_LOST,
        phase=phase,
        severity=Severity.PAGE,
        run=batch.source,
        attempt=0,
        key=key,
        metric=None,
        role=None,
        row=int(since),  # a source has no rows; this keeps its incidents apart
        step=-1,
        t=batch.t_recv,
        first_row=int(since),
        first_step=-1,
        last_row=int(since),
        last_step=-1,
        observed=batch.t_recv - since,
        expected=0.0,
        score=batch.t_recv - since,
        unit="s",
        direction="up",
        reason="recovered" if phase is Phase.ENDS else "unreachable",
    )
