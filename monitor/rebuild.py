"""Detector state from the stored rows of a run, where there is no snapshot of it that this release can read.

A release that keeps more of a run than the one before cannot read its snapshots; incidents, positions and rows it can.
Bounds: of each run the batches with its newest `ROWS` rows.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from monitor.engine import Engine
from monitor.store import Store

log = logging.getLogger(__name__)

ROWS = 4096


def restore(engine: Engine, store: Store, snapshots: Mapping[str, bytes], moved: Callable[[], object]) -> None:
    """Bring back every run: from its snapshot and the rows after it, or from its rows alone.

    moved: called after each batch, for this may take minutes.
    """
    strange = {}
    for run, blob in snapshots.items():
        try:
            engine.load(run, blob)
        except ValueError as e:
            strange[run] = str(e)
    if strange:
        _drop(store, strange)
        why = next(iter(strange.values()))
        log.warning("snapshots_dropped runs=%d first=%r: built again from their newest rows", len(strange), why)
    bare = _bare(store)
    for run, (source, attempt, _) in bare.items():
        engine.begin(run, source, attempt)
    for batch in store.after_snapshots():
        engine.observe(batch)
        moved()
    for run, (_, _, facts) in bare.items():
        engine.recall(run, facts["rows"], facts["total_steps"], finished=facts["finished"])


def _drop(store: Store, runs: Mapping[str, str]) -> None:
    """Forget snapshots, and go back to before the newest rows of their runs."""
    with store.transaction() as db:
        db.executemany(
            "UPDATE runs SET state = NULL, seq = COALESCE((SELECT MIN(batch) FROM frames f WHERE f.run = runs.run AND"
            " last_row > (SELECT MAX(last_row) FROM frames g WHERE g.run = runs.run) - ?), seq) WHERE run = ?",
            [(ROWS, run) for run in runs],
        )


def _bare(store: Store) -> dict[str, tuple[str, int, dict[str, Any]]]:
    """Runs with rows and without a snapshot: source, the attempt of the first of these rows, facts."""
    rows = store.db.execute(
        "SELECT run, source, facts, COALESCE((SELECT MAX(attempt) FROM attempts a WHERE a.run = b.run AND"
        " a.row <= b.first), 0) FROM (SELECT r.run, r.source, r.facts, MIN(f.first_row) AS first FROM runs r"
        " JOIN frames f ON f.run = r.run AND f.seq > r.seq WHERE r.state IS NULL GROUP BY r.run) b"
    )
    return {run: (source, attempt, json.loads(facts)) for run, source, facts, attempt in rows}
