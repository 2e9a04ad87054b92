"""A project's database, read without a trace: nothing is written beside it and no writer waits.

Opened read-only for one short transaction. A database in WAL mode whose writers are gone has no `-wal` file; a reader
would leave one of its own, which a trainer of another user could not write, so it is read as immutable, and once more
if it changed meanwhile. Ids only grow (AUTOINCREMENT, one writer at a time), so what is new stands behind the last one;
the row there tells whether it is the same database still. Rows of a run that is renamed are written anew with greater
ids, those of a database that was put back stand there again: how many is told (`Portion.again`). Bounds: MAX_ROWS and
MAX_BYTES of a portion, MAX_ROW_BYTES of a row. Schema: Trackio 0.24 to 0.43; older databases have no `run_id`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

MAX_ROWS = 2_000
MAX_BYTES = 16 << 20
MAX_ROW_BYTES = 1 << 20
BUSY_S = 1.0
TRIES = 3
COLUMNS = {"id", "run_id", "timestamp", "run_name", "step", "metrics"}
WAL_MODE = b"\x02\x02"  # at byte 18 of the header


class UnreadableError(Exception):
    """The database cannot be read now."""


class NoProjectError(Exception):
    """It is no project, not yet, or none that is understood."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The last row that was read. id: 0 before the first."""

    id: int = 0
    run: str = ""
    timestamp: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """What was read of a run: the name it had, and the newest timestamp."""

    title: str
    timestamp: str


@dataclass(frozen=True, slots=True)
class Row:
    """One call of `log`. metrics: JSON, None if it is too long."""

    id: int
    run: str
    timestamp: str
    title: str
    step: int
    metrics: bytes | str | None


@dataclass(slots=True)
class Portion:
    """What is new. newest: greatest id that there is. same: whether it is the database of the mark.

    again: run → how many rows that it had already stand here anew. more: not everything is here.
    """

    same: bool
    newest: int
    rows: list[Row] = field(default_factory=list)
    again: dict[str, int] = field(default_factory=dict)
    more: bool = False


def read(path: Path, mark: Mark, runs: Mapping[str, Known]) -> Portion:
    """What stands behind the mark. runs: those of which rows were read. Raises UnreadableError, NoProjectError."""
    try:
        for _ in range(TRIES):
            before = _state(path)
            address = f"file:{quote(str(path))}?{'mode=ro' if before is None else 'immutable=1'}"
            with closing(sqlite3.connect(address, uri=True, timeout=BUSY_S, isolation_level=None)) as db:
                db.execute("BEGIN")
                portion = _portion(db, mark, runs)
            if before is None or before == _state(path):
                return portion
    except sqlite3.OperationalError as e:
        hint = ": its writer shuts out readers, or is stuck" if "locked" in str(e) else ""
        raise UnreadableError(f"{path.name}: {e}{hint}") from None
    except sqlite3.DatabaseError as e:
        raise UnreadableError(f"{path.name}: {e}: damaged, or no SQLite database") from None
    except OSError as e:
        raise UnreadableError(f"{path.name}: {e.strerror or e}") from None
    raise UnreadableError(f"{path.name}: changes faster than it can be read")


def _state(path: Path) -> tuple[int, int, int] | None:
    """What tells that a database has changed; None if SQLite itself looks after that."""
    with path.open("rb") as file:
        head = file.read(20)
    if head[18:20] != WAL_MODE or Path(f"{path}-wal").exists():
        return None
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _portion(db: sqlite3.Connection, mark: Mark, runs: Mapping[str, Known]) -> Portion:
    columns = {name for _, name, *_ in db.execute("PRAGMA table_info(metrics)")}
    if not columns:
        raise NoProjectError("has no table of metrics")
    if not columns >= COLUMNS:
        raise NoProjectError("is not of Trackio 0.24 or later")
    newest = int(db.execute("SELECT coalesce(max(id), 0) FROM metrics").fetchone()[0])
    out = Portion(_is_same(db, mark, newest), newest)
    after = mark.id if out.same else 0
    size = 0
    found = db.execute(
        "SELECT id, run_id, timestamp, run_name, step, CASE WHEN length(metrics) <= ? THEN metrics END "
        "FROM metrics WHERE id > ? ORDER BY id",
        (MAX_ROW_BYTES, after),
    )
    for id_, run, timestamp, title, step, metrics in found:
        step_ = step if isinstance(step, int) else -1
        out.rows.append(Row(id_, str(run), str(timestamp), str(title), step_, metrics))
        size += len(metrics or "")
        if len(out.rows) >= MAX_ROWS or size >= MAX_BYTES:
            break
    found.close()
    out.more = bool(out.rows) and out.rows[-1].id < newest
    anew = set(runs)
    if out.same:
        renamed = {row.run for row in out.rows if row.run in runs and runs[row.run].title != row.title}
        stays = "SELECT 1 FROM metrics WHERE run_id = ? AND id <= ? LIMIT 1"
        anew = {run for run in renamed if not db.execute(stays, (run, after)).fetchone()}
    for run in anew:
        old = db.execute("SELECT count(*) FROM metrics WHERE run_id = ? AND timestamp <= ?", (run, runs[run].timestamp))
        (out.again[run],) = old.fetchone()
    return out


def _is_same(db: sqlite3.Connection, mark: Mark, newest: int) -> bool:
    """Whether this is the database of the mark. Where its row was deleted, the ids have at least come as far."""
    if not mark.id:
        return True
    there = db.execute("SELECT run_id, timestamp FROM metrics WHERE id = ?", (mark.id,)).fetchone()
    if there is not None:
        return bool(there == (mark.run, mark.timestamp))
    given = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'metrics'").fetchone()
    return max(newest, int(given[0]) if given else 0) >= mark.id
