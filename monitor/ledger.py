"""Engine and store as one: what a batch means is written in one transaction. Every write goes through here.

It belongs to one thread. A commit that fails leaves nothing half done: the same writes are tried again until they hold.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from detectors.types import Severity
from monitor.engine import Engine, Step
from monitor.frame import Batch
from monitor.incidents import Transition
from monitor.page import Note, Receipt
from monitor.pages import note
from monitor.reader import receipt_json
from monitor.store import Snapshot, Store

# A run is replayed from its last snapshot after a restart; this bounds how many rows that may be.
SNAPSHOT_ROWS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A checked answer to an episode, as it is stored.

    body: JSON. final: nobody is being asked any more. predictions: (id, run, JSON). sha256, evidence: what was seen.
    """

    incident: str
    episode: int
    author: str
    body: str
    final: bool
    predictions: tuple[tuple[str, str, str], ...]
    sha256: str
    evidence: str
    notes: tuple[Note, ...] = ()


class Ledger:
    """hold_s: how long a first page waits for its explanation at most. sinks: names of every configured sink."""

    def __init__(self, engine: Engine, store: Store, sinks: Sequence[str], hold_s: float) -> None:
        self.engine = engine
        self._store = store
        self._sinks = tuple(sinks)
        self._hold_s = hold_s
        self._kept_at: dict[str, int] = {}  # run → rows it had at its last snapshot
        self._waiting: tuple[Batch, Step] | None = None  # understood, but not yet on disk

    def reopen(self) -> None:
        """At a start: dead letters get another chance, and sinks that are new hear of what is open."""
        with self._store.transaction() as db:
            db.execute(
                "UPDATE outbox SET dead = 0, tries = 0 WHERE dead AND incident IN"
                " (SELECT id FROM incidents WHERE state != 'resolved')"
            )
            for sink in self._sinks:
                db.execute(
                    "INSERT OR IGNORE INTO outbox SELECT id, ?, 1, 0, updated_t, updated_t, 0, 0, '', NULL"
                    " FROM incidents WHERE severity = 2 AND state != 'resolved'",
                    (sink,),
                )

    def process(self, batch: Batch) -> Step:
        """Understand a batch once and commit what it caused. sqlite3.Error: call again with the same batch."""
        if self._waiting is None or self._waiting[0] is not batch:
            self._waiting = (batch, self.engine.step(batch))
        step = self._waiting[1]
        if batch.frames or batch.lines or batch.cursors or step.transitions or step.told:
            with self._store.transaction() as db:
                self._write(db, batch, step)
            for run in self._due(step):
                self._kept_at[run] = self.engine.runs[run].rows
        self._waiting = None
        return step

    def acknowledge(self, incident_id: str, now: float) -> bool:
        """A person has seen it; False if there is no such open incident."""
        return self._by_hand(self.engine.acknowledge, incident_id, now)

    def resolve(self, incident_id: str, now: float) -> bool:
        """A person closes it; False if there is no such open incident."""
        return self._by_hand(self.engine.resolve, incident_id, now)

    def judge(self, incident_id: str, verdict: str, cause: str | None, author: str, now: float) -> None:
        """Keep what a person says of an incident or its hypothesis."""
        with self._store.transaction() as db:
            db.execute("INSERT INTO verdicts VALUES (?, ?, ?, ?, ?)", (incident_id, now, author, verdict, cause))
            because = f", cause {cause}" if cause else ""
            said = Note(id=f"{incident_id}.verdict.{now:.3f}", text=f"Verdict by {author}: {verdict}{because}.")
            self._say(db, incident_id, [said], now)

    def answer(self, explained: Explained, now: float) -> None:
        """Keep a checked answer with its predictions and what it adds to the thread."""
        e = explained
        with self._store.transaction() as db:
            row = (e.incident, e.episode, e.author, now, e.final, e.body)
            db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?)", row)
            for key, run, registered in e.predictions:
                db.execute(
                    "INSERT OR IGNORE INTO predictions VALUES (?, ?, ?, 'open', '', ?)",
                    (key, e.incident, run, registered),
                )
            db.execute("INSERT OR IGNORE INTO evidence VALUES (?, ?, ?, ?)", (e.incident, e.sha256, now, e.evidence))
            self._say(db, e.incident, e.notes, now)

    def release(self, incident_id: str, now: float) -> None:
        """End the hold of a page."""
        with self._store.transaction() as db:
            db.execute("UPDATE outbox SET due_t = MIN(due_t, ?) WHERE incident = ? AND tries = 0", (now, incident_id))

    def outcome(self, prediction: str, incident_id: str, outcome: str, found: str, text: str, now: float) -> None:
        """Keep how a prediction ended and say it, unless `text` is empty."""
        with self._store.transaction() as db:
            db.execute("UPDATE predictions SET outcome = ?, found = ? WHERE id = ?", (outcome, found, prediction))
            said = [Note(id=f"{prediction}.{outcome}", text=text)] if text else []
            self._say(db, incident_id, said, now)

    def begin_delivery(self, incident_id: str, sink: str, prior: Receipt | None) -> None:
        """Note the intent before anything leaves, so that after a crash the sink looks before it repeats."""
        receipt = Receipt(sink=sink, data=prior.data if prior else {}, notes=prior.notes if prior else (), intent=True)
        with self._store.transaction() as db:
            db.execute(
                "UPDATE outbox SET receipt = ? WHERE incident = ? AND sink = ?",
                (receipt_json(receipt), incident_id, sink),
            )

    def delivered(self, incident_id: str, receipt: Receipt, upto: int) -> None:
        """The sink shows everything up to `upto`."""
        with self._store.transaction() as db:
            db.execute(
                "UPDATE outbox SET receipt = ?, delivered = ?, tries = 0, error = '' WHERE incident = ? AND sink = ?",
                (receipt_json(receipt), upto, incident_id, receipt.sink),
            )

    def failed(
        self, incident_id: str, sink: str, error: str, due_t: float, dead: bool, receipt: Receipt | None
    ) -> None:
        """A delivery failed: again at due_t, or never (dead), with what was achieved so far."""
        with self._store.transaction() as db:
            db.execute(
                "UPDATE outbox SET tries = tries + 1, error = ?, due_t = ?, dead = ? WHERE incident = ? AND sink = ?",
                (error[:500], due_t, dead, incident_id, sink),
            )
            if receipt is not None:
                db.execute(
                    "UPDATE outbox SET receipt = ? WHERE incident = ? AND sink = ?",
                    (receipt_json(receipt), incident_id, sink),
                )

    def prune(self, now: float, retain_days: float, max_bytes: float) -> int:
        """See `Store.prune`. Before it everything is kept in snapshots, so that only samples can be lost."""
        self.keep()
        return self._store.prune(now, retain_days, max_bytes)

    def keep(self) -> None:
        """Write a snapshot of every run that has moved since its last one: a start then replays nothing."""
        if self._waiting is not None:
            return  # the engine is ahead of the disk
        for name, run in self.engine.runs.items():
            if run.rows > self._kept_at.get(name, 0):
                one = Snapshot(run=name, source=run.source, facts=self._facts(name), state=self.engine.dump(name))
                with self._store.transaction() as db:
                    self._store.put_snapshots(db, [one], self._store.newest(db))
                self._kept_at[name] = run.rows
        self._kept_at = {name: rows for name, rows in self._kept_at.items() if name in self.engine.runs}

    def close(self) -> None:
        """Close the state file, with everything kept if the disk lets us."""
        with contextlib.suppress(sqlite3.Error):
            self.keep()
        self._store.close()

    def _write(self, db: sqlite3.Connection, batch: Batch, step: Step) -> None:
        seq = self._store.put_batch(db, batch)
        for start in step.attempts:
            db.execute(
                "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?)", (start.run, start.attempt, start.row, start.step)
            )
        for transition in step.transitions:
            self._put(db, transition, batch.t_recv)
        due = self._due(step)
        snapshots = [
            Snapshot(
                run=name,
                source=self.engine.runs[name].source,
                facts=self._facts(name),
                state=self.engine.dump(name) if name in due else None,
            )
            for name in {*step.touched, *due} & self.engine.runs.keys()
        ]
        self._store.put_snapshots(db, snapshots, seq)

    def _due(self, step: Step) -> set[str]:
        """Runs whose detector state goes to disk with this step: many rows, or a change that no row will show again."""
        changed = {t.incident.run for t in step.transitions} & self.engine.runs.keys()
        many = {
            r
            for r in step.touched
            if r in self.engine.runs and self.engine.runs[r].rows - self._kept_at.get(r, 0) >= SNAPSHOT_ROWS
        }
        return (changed | many | set(step.told)) & self.engine.runs.keys()

    def _facts(self, name: str) -> str:
        run = self.engine.runs[name]
        return json.dumps(
            {
                "attempt": run.attempt.ordinal,
                "rows": run.rows,
                "last_step": run.last_step,
                "last_t": run.last_t,
                "seen": run.seen,
                "total_steps": run.total_steps,
                "finished": run.finished,
                "live": run.live,
                "last_row": run.last_row,
            }
        )

    def _by_hand(self, change: Callable[[str, float], Transition | None], incident_id: str, now: float) -> bool:
        before = self.engine.incident(incident_id)
        transition = change(incident_id, now)
        if before is None or transition is None:
            return False
        try:
            with self._store.transaction() as db:
                self._put(db, transition, now)
        except sqlite3.Error:
            self.engine.put_back(before)  # what is not on disk did not happen
            raise
        return True

    def _put(self, db: sqlite3.Connection, transition: Transition, now: float) -> None:
        self._store.put_transition(db, transition)
        incident = transition.incident
        if incident.severity is not Severity.PAGE:
            return
        known = db.execute("SELECT 1 FROM outbox WHERE incident = ? LIMIT 1", (incident.id,)).fetchone()
        if known is None:
            for sink in self._sinks:
                db.execute(
                    "INSERT INTO outbox VALUES (?, ?, 1, 0, ?, ?, 0, 0, '', NULL)",
                    (incident.id, sink, now + self._hold_s, now),
                )
            return
        said = note(transition)
        self._say(db, incident.id, [said] if said else [], now)

    def _say(self, db: sqlite3.Connection, incident_id: str, notes: Sequence[Note], now: float) -> None:
        """Put notes into the thread and ask every sink to catch up."""
        for n in notes:
            db.execute(
                "INSERT OR IGNORE INTO notes (incident, id, t, text) VALUES (?, ?, ?, ?)",
                (incident_id, n.id, now, n.text),
            )
        db.execute(
            "UPDATE outbox SET due_t = CASE WHEN delivered >= wanted THEN ? ELSE due_t END, wanted = wanted + 1,"
            " dead = 0 WHERE incident = ?",
            (now, incident_id),
        )
