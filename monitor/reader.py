"""The reading side of the state: windows, incidents, answers; on a read-only connection that never blocks a commit."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monitor.codec import decode
from monitor.frame import LogLine
from monitor.incident import Incident
from monitor.page import Note, Receipt
from monitor.roles import role_of
from monitor.store import incident_of
from monitor.window import Series, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One stored transition of an incident. finding: JSON or None."""

    revision: int
    episode: int
    t: float
    reason: str
    finding: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Where one incident stands with one sink. wanted > delivered: something is still to be said."""

    incident: str
    sink: str
    wanted: int
    delivered: int
    created_t: float
    due_t: float
    tries: int
    dead: bool
    error: str
    receipt: Receipt | None


class Reader:
    """Queries on the state database; usable from any one thread."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
        self._db.execute("PRAGMA busy_timeout=5000")

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    def window(self, run: str, first_row: int, last_row: int, keep: Callable[[str], bool] = lambda _: True) -> Window:
        """The series of a run between two rows, both included. keep: which metrics, a run may have thousands."""
        rows = self._db.execute(
            "SELECT run, origin, generation, columns, rows, data FROM frames"
            " WHERE run = ? AND last_row >= ? AND first_row <= ? ORDER BY seq",
            (run, first_row, last_row),
        )
        starts = self._db.execute("SELECT row, attempt FROM attempts WHERE run = ? ORDER BY row", (run,)).fetchall()
        begin = np.array([r for r, _ in starts], dtype=np.int64)
        ordinal = np.array([a for _, a in starts], dtype=np.int64)
        pieces: dict[str, list[tuple[np.ndarray, ...]]] = {}
        for record in rows:
            frame = decode(*record)
            inside = (frame.row >= first_row) & (frame.row <= last_row)
            for j, name in enumerate(frame.columns):
                if not keep(name):
                    continue
                pieces.setdefault(name, []).append(
                    (frame.row[inside], frame.step[inside], frame.t[inside], frame.values[inside, j])
                )
        series = []
        best: dict[str, tuple[int, str]] = {}
        for name in sorted(pieces):
            info = role_of(name)
            best[info.role] = min(best.get(info.role, (info.rank, name)), (info.rank, name))
        for name, parts in sorted(pieces.items()):
            row, step, t, values = (np.concatenate([p[k] for p in parts]) for k in range(4))
            order = np.argsort(row, kind="stable")
            at = np.searchsorted(begin, row[order], side="right") - 1
            series.append(
                Series(
                    metric=name,
                    role=role_of(name).role,
                    primary=best[role_of(name).role][1] == name,
                    row=row[order],
                    step=step[order],
                    t=t[order],
                    values=values[order],
                    attempt=ordinal[np.clip(at, 0, None)] if ordinal.size else np.zeros(row.size, dtype=np.int64),
                )
            )
        return Window(run=run, first_row=first_row, last_row=last_row, series=tuple(series))

    def lines(self, run: str, first_row: int, last_row: int, most: int = 40) -> list[LogLine]:
        """The newest raw log lines of a stretch of rows."""
        rows = self._db.execute(
            "SELECT run, row, text FROM lines WHERE run = ? AND row BETWEEN ? AND ? ORDER BY seq DESC LIMIT ?",
            (run, first_row, last_row, most),
        )
        return [LogLine(run=r, row=n, text=t) for r, n, t in rows][::-1]

    def incidents(self, most: int = 200) -> list[Incident]:
        """The newest episode of each incident, open ones first, then by their last change."""
        rows = self._db.execute(
            "SELECT body, MAX(episode) FROM incidents GROUP BY id"
            " ORDER BY (state != 'resolved' AND severity > 0) DESC, updated_t DESC LIMIT ?",
            (most,),
        )
        return [incident_of(body) for body, _ in rows]

    def incident(self, incident_id: str) -> Incident | None:
        """The newest episode of an incident; a unique prefix of its id is enough."""
        rows = self._db.execute(
            "SELECT body, MAX(episode) FROM incidents WHERE substr(id, 1, length(:id)) = :id GROUP BY id LIMIT 2",
            {"id": incident_id},
        ).fetchall()
        return incident_of(rows[0][0]) if len(rows) == 1 else None

    def changes(self, incident_id: str) -> list[Change]:
        """Every transition of an incident, oldest first."""
        rows = self._db.execute(
            "SELECT revision, episode, t, reason, finding FROM transitions WHERE incident = ? ORDER BY revision",
            (incident_id,),
        )
        return [Change(revision=r, episode=e, t=t, reason=why, finding=f) for r, e, t, why, f in rows]

    def notes(self, incident_id: str) -> tuple[Note, ...]:
        """What the thread of an incident says, in order."""
        rows = self._db.execute("SELECT id, text FROM notes WHERE incident = ? ORDER BY seq", (incident_id,))
        return tuple(Note(id=i, text=t) for i, t in rows)

    def answers(self, incident_id: str, episode: int) -> list[tuple[str, bool]]:
        """(JSON, final) of the answers to an episode: those of models, the newest first, then our own."""
        rows = self._db.execute(
            "SELECT body, final FROM answers WHERE incident = ? AND episode = ? ORDER BY author = 'built-in', t DESC",
            (incident_id, episode),
        )
        return [(body, bool(final)) for body, final in rows]

    def predictions(self, incident_id: str) -> list[tuple[str, str, str, str]]:
        """(id, JSON, outcome, found) of the predictions of an incident."""
        return self._db.execute(
            "SELECT id, body, outcome, found FROM predictions WHERE incident = ? ORDER BY id", (incident_id,)
        ).fetchall()

    def evidence(self, incident_id: str) -> str | None:
        """The newest evidence of an incident, as it was or would be sent."""
        row = self._db.execute(
            "SELECT body FROM evidence WHERE incident = ? ORDER BY t DESC LIMIT 1", (incident_id,)
        ).fetchone()
        return row[0] if row else None

    def open_predictions(self) -> list[tuple[str, str, str, str]]:
        """(id, incident, run, JSON) of predictions that are not decided."""
        return self._db.execute("SELECT id, incident, run, body FROM predictions WHERE outcome = 'open'").fetchall()

    def open_pages(self) -> list[Incident]:
        """Episodes of severity page that are not over."""
        rows = self._db.execute("SELECT body FROM incidents WHERE severity = 2 AND state != 'resolved'")
        return [incident_of(body) for (body,) in rows]

    def deliveries(self, pending: bool = True) -> list[Delivery]:
        """The outbox: what is still to be said, new pages before edits; or all of it."""
        rows = self._db.execute(
            "SELECT incident, sink, wanted, delivered, created_t, due_t, tries, dead, error, receipt FROM outbox"
            " WHERE NOT ? OR (wanted > delivered AND dead = 0) ORDER BY delivered > 0, created_t",
            (pending,),
        )
        return [
            Delivery(
                incident=i,
                sink=s,
                wanted=w,
                delivered=d,
                created_t=created,
                due_t=due,
                tries=tries,
                dead=bool(dead),
                error=error,
                receipt=None if receipt is None else receipt_of(s, receipt),
            )
            for i, s, w, d, created, due, tries, dead, error, receipt in rows
        ]

    def runs(self) -> list[tuple[str, str, dict[str, Any]]]:
        """(run, source, facts) of every run that was seen."""
        rows = self._db.execute("SELECT run, source, facts FROM runs ORDER BY run")
        return [(run, source, json.loads(facts)) for run, source, facts in rows]


def receipt_of(sink: str, body: str) -> Receipt:
    """A receipt from its stored JSON."""
    stored = json.loads(body)
    return Receipt(sink=sink, data=stored["data"], notes=tuple(stored["notes"]), intent=stored["intent"])


def receipt_json(receipt: Receipt) -> str:
    """What `receipt_of` reads."""
    return json.dumps({"data": dict(receipt.data), "notes": list(receipt.notes), "intent": receipt.intent})
