"""Engine and store as one: a commit is whole or nothing, and a restart at any point changes nothing."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from build import batch, falling, frame, split
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engine import EVENTFUL, NOW, ROWS

from detectors.types import Kind, Origin, Severity
from monitor import rebuild
from monitor.config import Config, default
from monitor.engine import Engine
from monitor.frame import Batch, LogLine, RunFacts
from monitor.incident import Life
from monitor.ledger import SNAPSHOT_ROWS, Ledger
from monitor.page import Receipt
from monitor.reader import Reader
from monitor.store import Store, StoreError
from monitor.wiring import open_ledger

HOLD_S = 60.0
TABLES = (
    "cursors", "frames", "attempts", "runs", "lines", "incidents", "transitions", "notes", "answers", "evidence",
    "predictions", "verdicts", "outbox",
)  # fmt: skip


def config(folder: Path) -> Config:
    made = default(["/nowhere"], {"HOME": "/nowhere"})  # a socket path must be short
    return made.model_copy(update={"state_dir": folder})


def opened(folder: Path) -> Ledger:
    return open_ledger(config(folder), ["terminal", "slack"], HOLD_S)[0]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = opened(tmp_path)
    yield made
    made.close()


def content(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table."""
    with sqlite3.connect(folder / "state.db") as db:
        rows = {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}
    db.close()
    return rows


def incidents(folder: Path) -> list[object]:
    """What is known of every incident, its changes and its outbox, without what a restart may change."""
    rows = content(folder)
    return [rows[t] for t in ("incidents", "transitions", "notes", "outbox", "cursors", "attempts", "lines")]


def nan_batch(**changes: object) -> Batch:
    loss = falling(300)
    loss[280:] = np.nan
    whole = {"cursors": {"a": "1"}, "lines": (LogLine(run="r", row=300, text="boom"),)} | changes
    return batch(frame({"loss": loss}), **whole)


# --- one transaction


def test_a_batch_with_an_incident_is_all_on_disk_after_one_call(tmp_path, ledger):
    ledger.process(nan_batch())
    rows = content(tmp_path)
    counts = {table: len(rows[table]) for table in TABLES if rows[table]}
    assert counts == {
        "cursors": 1, "frames": 1, "attempts": 1, "runs": 1, "lines": 1, "incidents": 1, "transitions": 1, "outbox": 2,
    }  # fmt: skip
    assert {r[4] for r in rows["outbox"]} == {nan_batch().t_recv + HOLD_S}


class Refusing:
    """A connection that fails at the n-th statement after it was armed."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db, self.left, self.seen = db, -1, 0

    def _count(self) -> None:
        self.seen += 1
        if self.left == 0:
            self.left = -1
            raise sqlite3.OperationalError("database or disk is full")
        self.left -= self.left > 0

    def execute(self, sql: str, *args: object) -> sqlite3.Cursor:
        if not sql.startswith("ROLLBACK"):
            self._count()
        return self._db.execute(sql, *args)

    def executemany(self, sql: str, *args: object) -> sqlite3.Cursor:
        self._count()
        return self._db.executemany(sql, *args)

    def __getattr__(self, name: str) -> object:
        return getattr(self._db, name)


def statements(folder: Path) -> int:
    ledger = opened(folder)
    spy = ledger._store.db = Refusing(ledger._store.db)
    ledger.process(nan_batch())
    ledger.close()
    return spy.seen


def test_a_failure_at_any_statement_leaves_nothing_and_the_second_try_gives_the_step_once(tmp_path):
    (tmp_path / "count").mkdir()
    total = statements(tmp_path / "count")
    expected = incidents(tmp_path / "count")
    assert total > 8
    stuck = []
    for n in range(total):
        folder = tmp_path / str(n)
        folder.mkdir()
        ledger = opened(folder)
        before = content(folder)
        ledger._store.db = Refusing(ledger._store.db)
        ledger._store.db.left = n
        b = nan_batch()
        with pytest.raises(sqlite3.OperationalError, match="disk is full"):
            ledger.process(b)
        try:
            step = ledger.process(b)
        except sqlite3.OperationalError as e:
            stuck.append((n, total, str(e)))
            ledger.close()
            continue
        assert content(folder)["cursors"] != before["cursors"]
        assert [t.incident.kind for t in step.transitions] == [Kind.NONFINITE]
        assert incidents(folder) == expected
        ledger.close()
    assert stuck == []


def test_readers_see_nothing_of_a_commit_that_failed(tmp_path, ledger):
    before = content(tmp_path)
    ledger._store.db.set_authorizer(
        lambda action, table, *_: (
            sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_INSERT and table == "outbox" else sqlite3.SQLITE_OK
        )
    )
    with pytest.raises(sqlite3.DatabaseError):
        ledger.process(nan_batch())
    assert content(tmp_path) == before


def test_an_acknowledgement_that_could_not_be_written_can_be_given_again(tmp_path, ledger):
    (opened_,) = ledger.process(nan_batch()).transitions
    real = ledger._store.db
    ledger._store.db = Refusing(real)
    ledger._store.db.left = 1
    with pytest.raises(sqlite3.OperationalError):
        ledger.acknowledge(opened_.incident.id, NOW)
    ledger._store.db = real
    assert ledger.acknowledge(opened_.incident.id, NOW)


def test_a_batch_without_news_writes_nothing(tmp_path, ledger):
    ledger.process(nan_batch())
    before = content(tmp_path)
    ledger.process(batch(t_recv=1e9 + 301))
    assert content(tmp_path) == before


# --- restart


def feed(folder: Path, batches: Sequence[Batch], stops: set[int]) -> None:
    ledger = opened(folder)
    for n, b in enumerate(batches):
        ledger.process(b)
        if n in stops:
            ledger.close()
            ledger = opened(folder)
    ledger.close()


@settings(deadline=None, max_examples=12)
@given(st.sets(st.integers(1, ROWS + 6), min_size=1, max_size=12), st.sets(st.integers(0, 12), min_size=1))
def test_restarts_at_any_point_give_the_same_incidents_as_an_undisturbed_run(cuts, stops):
    batches = split(EVENTFUL, cuts, t_recv=NOW, cursors={"a": "1"})
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "a").mkdir()
        (folder / "b").mkdir()
        feed(folder / "a", batches, set())
        feed(folder / "b", batches, stops)
        assert incidents(folder / "a") == incidents(folder / "b")
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("rows", [SNAPSHOT_ROWS - 1, SNAPSHOT_ROWS, SNAPSHOT_ROWS + 500])
def test_a_restart_continues_from_the_snapshot_and_the_frames_after_it(tmp_path, rows):
    long = np.concatenate([falling(rows), np.full(8, np.nan)])
    batches = split([frame({"loss": long})], range(500, rows, 500), t_recv=1e9 + rows)
    last = len(batches) - 2
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    feed(tmp_path / "a", batches, set())
    feed(tmp_path / "b", batches, {last})
    assert incidents(tmp_path / "a") == incidents(tmp_path / "b")
    assert content(tmp_path / "a")["incidents"]


def state(ledger: Ledger, run: str = "r") -> bytes:
    return ledger.engine.dump(run)


def test_the_state_of_a_run_is_the_same_after_a_restart_bit_for_bit(tmp_path):
    ledger = opened(tmp_path)
    for b in split(EVENTFUL, {100, 333, 480, 555}, t_recv=NOW):
        ledger.process(b)
    before = state(ledger)
    ledger.close()
    again = opened(tmp_path)
    assert state(again) == before
    again.close()


def silent_after(folder: Path, end: Callable[[Ledger], None]) -> set[Kind]:
    """Kinds that open in the day after a restart that follows `end`."""
    ledger = opened(folder)
    end(ledger)
    ledger.close()
    again = opened(folder)
    steps = [again.process(batch(t_recv=1e9 + 300 + s)) for s in range(0, 86_400, 600)]
    again.close()
    return {t.incident.kind for s in steps for t in s.transitions}


def test_a_run_that_reached_its_planned_end_is_not_silent_after_a_restart(tmp_path):
    facts = {"r": RunFacts(total_steps=300)}
    told = silent_after(tmp_path, lambda x: x.process(batch(frame({"loss": falling(300)}), facts=facts)))
    assert told == set()


def test_a_run_whose_end_was_told_is_not_silent_after_a_restart(tmp_path):
    def end(ledger: Ledger) -> None:
        ledger.process(batch(frame({"loss": falling(300)})))
        ledger.process(batch(t_recv=1e9 + 300, facts={"r": RunFacts(finished=True)}))

    assert silent_after(tmp_path, end) == set()


def test_a_run_that_was_growing_is_silent_after_a_restart_and_paged_once_over_two(tmp_path):
    told = silent_after(tmp_path, lambda x: x.process(batch(frame({"loss": falling(300)}))))
    assert told == {Kind.SILENCE}
    assert silent_after(tmp_path, lambda _: None) == set()


def test_cursors_are_merged_not_replaced(tmp_path):
    ledger = opened(tmp_path)
    ledger.process(batch(cursors={"a": "1", "b": "1"}, t_recv=1.0))
    ledger.process(batch(cursors={"b": "2"}, t_recv=2.0))
    ledger.process(batch(cursors={"a": "9"}, t_recv=2.0, source="other"))
    ledger.close()
    again, cursors = open_ledger(config(tmp_path), [], HOLD_S)
    again.close()
    assert cursors == {"files": {"a": "1", "b": "2"}, "other": {"a": "9"}}


# --- files that cannot be used


def refused(folder: Path) -> str:
    with pytest.raises(StoreError) as caught:
        opened(folder)
    return str(caught.value)


def test_a_damaged_database_is_refused_with_a_remedy(tmp_path):
    ledger = opened(tmp_path)
    ledger.process(nan_batch())
    ledger.close()
    path = tmp_path / "state.db"
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)
    assert "move it away" in refused(tmp_path)


@pytest.mark.parametrize("data", [b"not a database at all" * 100, b"\0" * 4096, b"SQLite format 3\0"])
def test_a_file_that_is_no_database_is_refused_with_a_remedy(tmp_path, data):
    (tmp_path / "state.db").write_bytes(data)
    assert "move it away" in refused(tmp_path)


def test_an_empty_file_is_a_fresh_start(tmp_path):
    (tmp_path / "state.db").touch()
    ledger = opened(tmp_path)
    ledger.process(nan_batch())
    ledger.close()
    assert content(tmp_path)["incidents"]


@pytest.mark.parametrize("version", ["0", "2", "x"])
def test_another_schema_is_refused_with_both_versions(tmp_path, version):
    opened(tmp_path).close()
    db = sqlite3.connect(tmp_path / "state.db")
    db.execute("UPDATE meta SET value = ?", (version,))
    db.commit()
    db.close()
    said = refused(tmp_path)
    assert f"schema version {version}" in said
    assert "matching release" in said


def test_a_start_that_was_killed_while_making_the_database_can_be_repeated(tmp_path):
    db = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("BEGIN")  # the tables are made in one transaction, which a kill undoes
    db.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
    db.close()
    opened(tmp_path).close()


def test_a_state_in_use_is_refused_until_it_is_let_go(tmp_path):
    ledger = opened(tmp_path)
    assert "another runwarden" in refused(tmp_path)
    ledger.close()
    opened(tmp_path).close()


def test_a_refused_database_is_let_go(tmp_path):
    (tmp_path / "state.db").write_bytes(b"nonsense" * 100)
    refused(tmp_path)
    (tmp_path / "state.db").unlink()
    opened(tmp_path).close()


def test_a_folder_that_is_a_file_is_refused_with_a_remedy(tmp_path):
    (tmp_path / "x").touch()
    assert "state" in refused(tmp_path / "x")


# --- prune


def test_prune_snapshots_first_so_that_old_frames_of_any_run_can_go(tmp_path):
    ledger = opened(tmp_path)
    for b in split([frame({"loss": falling(600)})], range(100, 600, 100), t_recv=1e9):
        ledger.process(b)
    before = state(ledger)
    assert ledger.prune(1e9 + 90 * 86_400.0, 30.0, 1e12) == 6
    ledger.close()
    again = opened(tmp_path)
    assert state(again) == before
    again.close()


def test_prune_drops_old_frames_that_a_snapshot_holds(tmp_path):
    ledger = opened(tmp_path)
    batches = split([frame({"loss": falling(SNAPSHOT_ROWS + 1000)})], range(500, SNAPSHOT_ROWS + 1000, 500), t_recv=1e9)
    for b in batches:
        ledger.process(b)
    before = state(ledger)
    assert ledger.prune(1e9 + 90 * 86_400.0, 30.0, 1e12) == 11
    ledger.close()
    again = opened(tmp_path)
    assert state(again) == before
    again.close()


def test_young_frames_are_kept(tmp_path, ledger):
    ledger.process(nan_batch())
    assert ledger.prune(1e9 + 300, 30.0, 1e12) == 0


def test_prune_by_size_drops_the_oldest_part(tmp_path, ledger):
    for n in range(10):
        ledger.process(nan_batch(t_recv=1e9 + n, cursors={"a": str(n)}))
    dropped = ledger.prune(1e9 + 10, 30.0, 0.0)
    assert 0 < dropped < 10


def test_after_everything_was_pruned_a_restart_still_changes_nothing(tmp_path):
    """Sequence numbers must not be given twice: a snapshot would take new frames for ones that it holds."""
    ledger = opened(tmp_path)
    for n in range(3):
        ledger.process(batch(frame({"loss": falling(100, start=100 * n)}, first_row=100 * n)))
    nan = frame({"loss": [np.nan] * 4}, first_row=300)
    ledger.process(batch(nan))  # a snapshot
    assert ledger.prune(1e9 + 90 * 86_400.0, 30.0, 1e12) == 4
    more = frame({"loss": [np.nan] * 50}, first_row=304)  # still NaN: no change, so no snapshot
    ledger.process(batch(more, t_recv=1e9 + 91 * 86_400.0))
    before = state(ledger)
    ledger.close()
    again = opened(tmp_path)
    assert state(again) == before
    again.close()


# --- what people and sinks do


def test_what_a_person_does_survives_a_restart(tmp_path):
    ledger = opened(tmp_path)
    (first,) = ledger.process(nan_batch()).transitions
    assert ledger.acknowledge(first.incident.id, NOW)
    assert not ledger.acknowledge(first.incident.id, NOW)
    ledger.close()
    again = opened(tmp_path)
    assert [i.state for i in again.engine.open_incidents()] == [Life.ACKNOWLEDGED]
    assert again.resolve(first.incident.id, NOW)
    assert not again.resolve(first.incident.id, NOW)
    assert not again.resolve("nothing", NOW)
    again.close()


def test_a_delivery_is_remembered_with_its_intent(tmp_path, ledger):
    (first,) = ledger.process(nan_batch()).transitions
    key = first.incident.id
    reader = Reader(tmp_path / "state.db")
    ledger.begin_delivery(key, "slack", None)
    (slack,) = [d for d in reader.deliveries() if d.sink == "slack"]
    assert slack.receipt == Receipt(sink="slack", intent=True)
    ledger.delivered(key, Receipt(sink="slack", data={"ts": "1"}, notes=("n",)), slack.wanted)
    assert [d.sink for d in reader.deliveries()] == ["terminal"]
    ledger.judge(key, "real", None, "ada", NOW)
    (slack,) = [d for d in reader.deliveries() if d.sink == "slack"]
    assert (slack.receipt.data, slack.receipt.intent) == ({"ts": "1"}, False)
    assert slack.due_t == NOW
    reader.close()


def test_a_change_while_a_page_is_held_does_not_end_the_hold(tmp_path, ledger):
    (first,) = ledger.process(nan_batch()).transitions
    reader = Reader(tmp_path / "state.db")
    due = {d.due_t for d in reader.deliveries()}
    ledger.acknowledge(first.incident.id, NOW)
    assert {d.due_t for d in reader.deliveries()} == due
    ledger.release(first.incident.id, 5.0)
    assert {d.due_t for d in reader.deliveries()} == {5.0}
    reader.close()


def test_a_notice_asks_no_sink(tmp_path, ledger):
    loss = falling(300)
    loss[250] *= 2.0
    (first, *_) = ledger.process(batch(frame({"loss": loss}))).transitions
    assert first.incident.severity is Severity.NOTICE
    assert content(tmp_path)["outbox"] == []


def test_history_is_kept_and_asks_no_sink(tmp_path, ledger):
    ledger.process(batch(frame({"loss": [np.nan] * 5}, origin=Origin.HISTORY)))
    rows = content(tmp_path)
    assert rows["incidents"]
    assert rows["outbox"] == []


HOSTILE = ["<!channel>", "a\nb", "x" * 10_000, "\0", "'; DROP TABLE runs; --", "é\u202e", "a/../../b", " "]


@pytest.mark.parametrize("name", HOSTILE, ids=[ascii(n)[:16] for n in HOSTILE])
def test_any_name_of_a_run_or_metric_is_kept_as_it_is(tmp_path, name):
    ledger = opened(tmp_path)
    ledger.process(batch(frame({name: falling(50), "loss": [1.0] * 46 + [np.nan] * 4}, run=name)))
    ledger.close()
    again = opened(tmp_path)
    assert list(again.engine.runs) == [name]
    assert name in again.engine.runs[name].metrics
    again.close()


def test_facts_for_readers_say_what_the_engine_knows(tmp_path, ledger):
    ledger.process(nan_batch(facts={"r": RunFacts(total_steps=500)}))
    reader = Reader(tmp_path / "state.db")
    ((run, source, facts),) = reader.runs()
    reader.close()
    assert (run, source) == ("r", "files")
    expected = {"attempt": 0, "rows": 300, "last_step": 299, "total_steps": 500, "finished": False, "live": True}
    assert {k: facts[k] for k in expected} == expected
    json.dumps(facts, allow_nan=False)


def test_the_store_alone_opens_and_closes(tmp_path):
    store = Store(tmp_path / "state.db")
    assert store.restore().cursors == {}
    store.close()
    assert (tmp_path / "state.db").stat().st_mode & 0o777 == 0o600


def test_engines_of_two_ledgers_share_nothing(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    a, b = opened(tmp_path / "a"), opened(tmp_path / "b")
    a.process(nan_batch())
    assert isinstance(b.engine, Engine)
    assert b.engine.runs == {}
    a.close()
    b.close()


# --- state of another release


def of_another_release(folder: Path) -> None:
    """Make every snapshot one that cannot be read."""
    with sqlite3.connect(folder / "state.db") as db:
        db.execute("UPDATE runs SET state = CAST(REPLACE(CAST(state AS TEXT), 'RWD', 'OLD') AS BLOB)")
    db.close()


def test_snapshots_of_another_release_are_dropped_and_the_runs_built_again_from_their_rows(tmp_path, caplog):
    whole = batch(*EVENTFUL, t_recv=NOW)
    seen, rest = split(EVENTFUL, [ROWS // 2], t_recv=NOW)
    undisturbed = opened(tmp_path / "calm")
    undisturbed.process(whole)
    ledger = opened(tmp_path / "old")
    ledger.process(seen)
    ledger.keep()
    before = content(tmp_path / "old")["incidents"]
    ledger.close()
    of_another_release(tmp_path / "old")
    again = opened(tmp_path / "old")
    assert "snapshots_dropped runs=1" in caplog.text
    assert content(tmp_path / "old")["incidents"] == before
    again.process(rest)
    states = [e.dump("r") for e in (again.engine, undisturbed.engine)]
    assert states[0][states[0].index(b"RWD") :] == states[1][states[1].index(b"RWD") :]
    assert [i.id for i in again.engine.open_incidents()] == [i.id for i in undisturbed.engine.open_incidents()]
    undisturbed.close()
    again.close()
    caplog.clear()
    opened(tmp_path / "old").close()
    assert not caplog.text


def test_a_run_that_ended_is_not_silent_because_its_snapshot_was_dropped(tmp_path):
    ledger = opened(tmp_path)
    ledger.process(batch(frame({"loss": falling(300)}), facts={"r": RunFacts(finished=True)}))
    ledger.close()
    of_another_release(tmp_path)
    again = opened(tmp_path)
    assert again.engine.runs["r"].finished
    step = again.process(batch(t_recv=1e9 + 100_000.0, at_head=True))
    assert step.findings == ()
    again.close()


def test_a_run_without_its_oldest_rows_keeps_its_attempt_and_its_count_of_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(rebuild, "ROWS", 100)
    ledger = opened(tmp_path)
    for n in range(3):
        ledger.process(batch(frame({"loss": falling(150)}, first_row=n * 150, generation=n)))
    kept = ledger.engine.runs["r"]
    assert (kept.attempt.ordinal, kept.rows) == (2, 450)
    ledger.close()
    of_another_release(tmp_path)
    ledger = opened(tmp_path)
    ledger.close()
    again = ledger.engine.runs["r"]
    assert (again.attempt.ordinal, again.rows, again.last_row, again.alive) == (2, 450, 449, 150)


def test_a_start_that_replays_rows_asks_systemd_for_patience(tmp_path, monkeypatch):
    ledger = opened(tmp_path)
    ledger.process(batch(frame({"loss": falling(300)})))
    ledger.close()
    of_another_release(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        opened(tmp_path).close()
        assert systemd.recv(1000) == b"EXTEND_TIMEOUT_USEC=60000000"
