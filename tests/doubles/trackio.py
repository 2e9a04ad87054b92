"""A project as Trackio writes it: its table in SQLite, WAL mode, values that are no JSON numbers as text."""

from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path
from typing import Any

METRICS = """CREATE TABLE IF NOT EXISTS metrics (
    id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, timestamp TEXT NOT NULL, run_name TEXT NOT NULL,
    step INTEGER NOT NULL, metrics TEXT NOT NULL, log_id TEXT, space_id TEXT)"""


def spelled(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


class TrackioProject:
    """Its database, open as long as the trainer runs."""

    def __init__(self, path: Path, journal: str = "WAL") -> None:
        self.path, self._journal = path, journal
        self._steps: dict[str, int] = {}
        self._batches = 0
        self._db: sqlite3.Connection | None = None
        path.parent.mkdir(parents=True, exist_ok=True)

    @property
    def db(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = sqlite3.connect(self.path)
            self._db.execute(f"PRAGMA journal_mode = {self._journal}")
            self._db.execute(METRICS)
            self._db.commit()
        return self._db

    def log(self, run: str, *rows: dict[str, Any], title: str = "") -> None:
        """One batch, all of it with one timestamp. run: the id; title: the name, else the same."""
        self._batches += 1
        t = f"2026-11-20T{self._batches // 3600:02}:{self._batches // 60 % 60:02}:{self._batches % 60:02}.000001+00:00"
        for row in rows:
            step = self._steps[run] = self._steps.get(run, -1) + 1
            text = json.dumps({k: spelled(v) for k, v in row.items()}).encode()
            self.db.execute(
                "INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) VALUES (?, ?, ?, ?, ?)",
                (run, t, title or run, step, text),
            )
        self.db.commit()

    def rename(self, run: str, title: str) -> None:
        """As `rename_run`: all rows of the run are deleted and written again, with new ids."""
        rows = self.db.execute(
            "SELECT run_id, timestamp, ?, step, metrics FROM metrics WHERE run_id = ?", (title, run)
        ).fetchall()
        self.db.execute("DELETE FROM metrics WHERE run_id = ?", (run,))
        self.db.executemany(
            "INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) VALUES (?, ?, ?, ?, ?)", rows
        )
        self.db.commit()

    def delete(self, run: str) -> None:
        self.db.execute("DELETE FROM metrics WHERE run_id = ?", (run,))
        self.db.commit()

    def close(self) -> None:
        """The trainer ends: SQLite puts everything into the database and removes the log."""
        if self._db is not None:
            self._db.close()
            self._db = None
