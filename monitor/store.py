"""State on disk: one SQLite file, one transaction per batch; whoever kills us finds it as it was after a commit.

Samples are kept as the frames they came in (they are the log that detector state is rebuilt from), incidents as JSON,
detector state as a snapshot per run now and then. Only the core thread writes; readers open their own connection.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

from pydantic import TypeAdapter

from monitor.codec import decode, encode
from monitor.frame import Batch
from monitor.incident import Incident
from monitor.incidents import Transition

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE cursors (source TEXT, stream TEXT, position TEXT NOT NULL, PRIMARY KEY (source, stream));
CREATE TABLE frames (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, batch INTEGER NOT NULL, run TEXT NOT NULL, source TEXT NOT NULL,
  first_row INTEGER NOT NULL,
  last_row INTEGER NOT NULL, t_recv REAL NOT NULL, origin TEXT NOT NULL, generation INTEGER NOT NULL,
  columns TEXT NOT NULL, rows INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX frames_by_run ON frames (run, seq);
CREATE TABLE attempts (run TEXT, attempt INTEGER, row INTEGER, step INTEGER, PRIMARY KEY (run, attempt));
CREATE TABLE runs (run TEXT PRIMARY KEY, source TEXT NOT NULL, facts TEXT NOT NULL, seq INTEGER NOT NULL, state BLOB);
CREATE TABLE lines (
  seq INTEGER PRIMARY KEY, run TEXT NOT NULL, row INTEGER NOT NULL, t_recv REAL NOT NULL, text TEXT NOT NULL);
CREATE INDEX lines_by_run ON lines (run, row);
CREATE TABLE incidents (
  id TEXT, episode INTEGER, run TEXT NOT NULL, state TEXT NOT NULL, severity INTEGER NOT NULL, updated_t REAL NOT NULL,
  body TEXT NOT NULL, PRIMARY KEY (id, episode));
CREATE INDEX incidents_by_time ON incidents (updated_t);
CREATE TABLE transitions (
  incident TEXT, revision INTEGER, episode INTEGER, t REAL NOT NULL, reason TEXT NOT NULL, finding TEXT,
  PRIMARY KEY (incident, revision));
CREATE TABLE notes (incident TEXT, id TEXT, seq INTEGER PRIMARY KEY AUTOINCREMENT, t REAL NOT NULL, text TEXT NOT NULL,
  UNIQUE (incident, id));
CREATE TABLE answers (
  incident TEXT, episode INTEGER, author TEXT, t REAL NOT NULL, final INTEGER NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (incident, episode, author));
CREATE TABLE evidence (incident TEXT, sha256 TEXT, t REAL NOT NULL, body TEXT NOT NULL, PRIMARY KEY (incident, sha256));
CREATE TABLE predictions (id TEXT PRIMARY KEY, incident TEXT NOT NULL, run TEXT NOT NULL, outcome TEXT NOT NULL,
  found TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX predictions_open ON predictions (outcome, run);
CREATE TABLE verdicts (incident TEXT, t REAL NOT NULL, author TEXT NOT NULL, verdict TEXT NOT NULL, cause TEXT);
CREATE TABLE outbox (
  incident TEXT, sink TEXT, wanted INTEGER NOT NULL, delivered INTEGER NOT NULL, due_t REAL NOT NULL,
  created_t REAL NOT NULL, tries INTEGER NOT NULL, dead INTEGER NOT NULL,
  error TEXT NOT NULL, receipt TEXT, PRIMARY KEY (incident, sink));
"""

_INCIDENT = TypeAdapter(Incident)


class StoreError(Exception):
    """The state cannot be used as it is; the text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Detector state of one run after the commit it is written with.

    facts: JSON for readers. state: None to keep what is stored.
    """

    run: str
    source: str
    facts: str
    state: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a start continues from: positions, open and recent incidents, snapshots, and the batches after them."""

    cursors: Mapping[str, Mapping[str, str]]
    incidents: tuple[Incident, ...]
    snapshots: Mapping[str, bytes]


class Store:
    """The writing side; use from one thread only. StoreError if the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = _lock(path)
        try:
            self.db = _open(path)
        except BaseException:
            os.close(self._lock)
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield self.db
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:  # a failed COMMIT may have ended it already
                self.db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Fold the log into the file and let others use it."""
        self.db.close()
        os.close(self._lock)

    def restore(self, most_runs: int = 10_000) -> Restored:
        """What the last commit left: every open episode and the newest 2,000, the runs that moved last."""
        cursors: dict[str, dict[str, str]] = {}
        for source, stream, position in self.db.execute("SELECT source, stream, position FROM cursors"):
            cursors.setdefault(source, {})[stream] = position
        rows = self.db.execute(
            "SELECT body FROM incidents WHERE state != 'resolved' OR rowid IN"
            " (SELECT rowid FROM incidents ORDER BY rowid DESC LIMIT 2000) ORDER BY rowid"
        )
        newest: dict[str, Incident] = {}
        for (body,) in rows:
            incident = incident_of(body)
            if incident.id not in newest or newest[incident.id].episode <= incident.episode:
                newest[incident.id] = incident
        snapshots = dict(
            self.db.execute(
                "SELECT run, state FROM runs WHERE state IS NOT NULL ORDER BY seq DESC LIMIT ?", (most_runs,)
            )
        )
        return Restored(cursors=cursors, incidents=tuple(newest.values()), snapshots=snapshots)

    def after_snapshots(self) -> Iterator[Batch]:
        """What came after the snapshot of its run, in the batches in which it was committed."""
        rows = self.db.execute(
            "SELECT f.batch, f.source, f.t_recv, f.run, f.origin, f.generation, f.columns, f.rows, f.data FROM frames f"
            " LEFT JOIN runs r ON r.run = f.run WHERE f.seq > COALESCE(r.seq, 0) ORDER BY f.seq"
        )
        for (_, source, t_recv), group in groupby(rows, key=lambda r: r[:3]):
            yield Batch(source=source, t_recv=t_recv, frames=tuple(decode(*r[3:]) for r in group), at_head=False)

    def put_batch(self, db: sqlite3.Connection, batch: Batch) -> int:
        """Cursors, frames and lines of a batch; the sequence number of its last frame."""
        db.executemany(
            "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)",
            [(batch.source, stream, position) for stream, position in batch.cursors.items()],
        )
        # Numbers are never given twice, or a snapshot would take new frames for ones that it holds.
        seq = self.newest(db)
        for frame in batch.frames:
            db.execute(
                "INSERT INTO frames (batch, run, source, first_row, last_row, t_recv, origin, generation, columns,"
                " rows, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    seq,
                    frame.run,
                    batch.source,
                    int(frame.row[0]),
                    int(frame.row[-1]),
                    batch.t_recv,
                    frame.origin.value,
                    frame.generation,
                    json.dumps(frame.columns),
                    frame.row.size,
                    encode(frame),
                ),
            )
        db.executemany(
            "INSERT INTO lines (run, row, t_recv, text) VALUES (?, ?, ?, ?)",
            [(line.run, line.row, batch.t_recv, line.text) for line in batch.lines],
        )
        return seq + len(batch.frames)

    def newest(self, db: sqlite3.Connection) -> int:
        """The number of the last frame that was ever written."""
        (seq,) = db.execute("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'frames'").fetchone()
        return int(seq)

    def put_transition(self, db: sqlite3.Connection, transition: Transition) -> None:
        """The new value of an incident and why."""
        i = transition.incident
        db.execute(
            "INSERT OR REPLACE INTO incidents VALUES (?, ?, ?, ?, ?, ?, ?)",
            (i.id, i.episode, i.run, i.state.value, int(i.severity), i.updated_t, json.dumps(asdict(i))),
        )
        finding = json.dumps(asdict(transition.finding)) if transition.finding else None
        db.execute(
            "INSERT OR REPLACE INTO transitions VALUES (?, ?, ?, ?, ?, ?)",
            (i.id, i.revision, i.episode, i.updated_t, i.reason.value, finding),
        )

    def put_snapshots(self, db: sqlite3.Connection, snapshots: Iterable[Snapshot], seq: int) -> None:
        """Detector state as of frame `seq`."""
        for s in snapshots:
            if s.state is None:
                db.execute(
                    "INSERT INTO runs VALUES (?, ?, ?, 0, NULL) ON CONFLICT (run) DO UPDATE SET facts=excluded.facts",
                    (s.run, s.source, s.facts),
                )
            else:
                db.execute(
                    "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?)", (s.run, s.source, s.facts, seq, s.state)
                )

    def prune(self, now: float, retain_days: float, max_bytes: float) -> int:
        """Drop samples, lines and evidence beyond age or size, never those a snapshot still needs; how many frames."""
        limit = now - retain_days * 86400.0
        (pages,) = self.db.execute("PRAGMA page_count").fetchone()
        (free,) = self.db.execute("PRAGMA freelist_count").fetchone()
        (size,) = self.db.execute("PRAGMA page_size").fetchone()
        over = (pages - free) * size - max_bytes
        if over > 0:
            # By size: the oldest tenth, again at the next call until it fits.
            (oldest,) = self.db.execute("SELECT MIN(t_recv) FROM frames").fetchone()
            (newest,) = self.db.execute("SELECT MAX(t_recv) FROM frames").fetchone()
            if oldest is not None:
                limit = max(limit, oldest + (newest - oldest) * 0.1)
        with self.transaction() as db:
            gone = db.execute(
                "DELETE FROM frames WHERE t_recv < ? AND seq <= (SELECT seq FROM runs WHERE runs.run = frames.run)",
                (limit,),
            ).rowcount
            db.execute("DELETE FROM lines WHERE t_recv < ?", (limit,))
            db.execute("DELETE FROM evidence WHERE t < ?", (limit,))
        return int(gone)


def _lock(path: Path) -> int:
    """Hold the state for this process; the kernel lets go of it however the process ends."""
    try:
        held = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise StoreError(f"{path.parent}: cannot be written ({e.strerror}); give this user the state folder") from e
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        os.close(held)
        raise StoreError(f"{path.parent}: another runwarden uses this state; stop it or set another state_dir") from e
    return held


def _open(path: Path) -> sqlite3.Connection:
    """The database with our schema, made if there is none. StoreError if it cannot be used."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        path.chmod(0o600)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA busy_timeout=5000")
        (tables,) = db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        if tables == 0:
            made = f"INSERT INTO meta VALUES ('schema', '{SCHEMA_VERSION}');"  # noqa: S608, our own number
            db.executescript(f"BEGIN;{_SCHEMA}{made}COMMIT;")  # all or nothing, whenever we are killed
        found = db.execute("SELECT value FROM meta WHERE key='schema'").fetchone()
    except (sqlite3.DatabaseError, OSError) as e:
        db.close()
        raise StoreError(f"{path}: not a usable state database ({e}); move it away to start afresh") from e
    version = found[0] if found else "none"
    if version != str(SCHEMA_VERSION):
        db.close()
        raise StoreError(
            f"{path}: schema version {version}, this program writes {SCHEMA_VERSION}; use the matching release"
        )
    return db


def incident_of(body: str) -> Incident:
    """An incident from its stored JSON."""
    return _INCIDENT.validate_python(json.loads(body))
