"""Rows as W&B's server tells them, strings of JSON with bare NaN, become records and frames.

Metrics are named as in the `.wandb` file of the same run: nested keys joined by dots, statistics of the machine under
`system/`. Bounds: MAX_NAME characters of a key; longer ones are dropped and counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from detectors.types import Origin
from monitor.frame import Frame
from monitor.sources.files.haul import encodable
from monitor.sources.files.jsonl import decode
from monitor.sources.files.rows import STEP_KEYS, TOTAL_KEYS, Parsed, Tally, flat
from monitor.sources.files.values import clock, number
from monitor.sources.files.wandblog import SYSTEM, scalars

MAX_NAME = 300
PLANNED = frozenset({
    *TOTAL_KEYS, "max_iters", "max_train_steps", "num_train_steps", "num_training_steps", "total_train_steps",
    "total_training_steps", "train_steps",
})  # fmt: skip
"""Keys of a configuration that name the planned last step."""


class Unusable(StrEnum):
    """Why something that the server has did not become a value; the keys of `Batch.counts`."""

    BAD_ROW = "wandb_bad_row"
    NAME_TOO_LONG = "wandb_name_too_long"
    NOT_A_SCALAR = "wandb_not_a_scalar"
    SKIPPED = "wandb_old_rows_skipped"
    MISSING = "wandb_rows_not_told"
    STATISTICS_MISSED = "wandb_system_rows_missed"
    REWOUND = "wandb_run_rewound"
    RUN_LIMIT = "wandb_run_limit"
    QUESTION_FAILED = "wandb_question_failed"
    BROKEN = "wandb_run_broken"
    CORRUPT = "wandb_corrupt_cursor"


class Counts(dict[str, int]):
    """How often what could not be used."""

    def add(self, what: str, many: int = 1) -> None:
        """Count more of it."""
        if many > 0:
            self[what] = self.get(what, 0) + many


def history(texts: object, window: tuple[int, int], counts: Counts) -> list[tuple[int, dict[str, Any]]]:
    """(step of W&B's own, record) of the rows within a window, by step; rows of one step stay as they are told."""
    rows: list[tuple[int, dict[str, Any]]] = []
    for text in texts if isinstance(texts, list) else []:
        record = _record(text)
        step = record.get("_step") if record else None
        if record is None or type(step) is not int or not window[0] <= step < window[1]:
            counts.add(Unusable.BAD_ROW)
            continue
        nested = flat(record, tally := Tally(), 0, ".")
        kept = scalars(nested)
        counts.add(Unusable.NOT_A_SCALAR, len(kept) < len(nested))
        for reason, many in tally.counts.items():
            counts.add(reason, many)
        rows.append((step, _short(kept, counts)))
    rows.sort(key=lambda r: r[0])
    return rows


def statistics(told: object, after: float, counts: Counts) -> list[tuple[float, dict[str, Any]]]:
    """(clock, record) of the statistics of the machine that are younger than `after`, by clock."""
    texts = decode(told.encode()) if isinstance(told, str) else told
    rows: list[tuple[float, dict[str, Any]]] = []
    for text in texts if isinstance(texts, list) else []:
        record = _record(text)
        t = clock(record.get("_timestamp"), sure=True) if record else None
        if record is None or t is None or math.isnan(t):
            counts.add(Unusable.BAD_ROW)
            continue
        if t <= after:
            continue
        named = {
            SYSTEM + k.removeprefix("system."): v
            for k, v in flat(record, Tally(), 0, ".").items()
            if not k.startswith("_")
        }
        rows.append((t, {"_timestamp": t, **_short(scalars(named), counts)}))
    rows.sort(key=lambda r: r[0])
    return rows


def _record(text: object) -> dict[str, Any] | None:
    value = decode(text.encode("utf-8", "replace")) if isinstance(text, str) else text
    return value if isinstance(value, dict) else None


def _short(record: dict[str, Any], counts: Counts) -> dict[str, Any]:
    if all(len(key) <= MAX_NAME for key in record):
        return record
    kept = {key: value for key, value in record.items() if len(key) <= MAX_NAME}
    counts.add(Unusable.NAME_TOO_LONG, len(record) - len(kept))
    return kept


def frames(parsed: Parsed, run: str, origin: Origin, generation: int) -> list[Frame]:
    """What a `Tabulator` made of records, as frames of a run."""
    return [
        Frame(
            run=run,
            columns=tuple(map(encodable, piece.columns)),
            row=piece.row,
            step=piece.step,
            t=piece.t,
            values=piece.values,
            origin=origin,
            generation=generation,
        )
        for piece in parsed.pieces
    ]


def planned(config: object) -> int:
    """The planned last step that a configuration names, -1 if it names none or several."""
    value = decode(config.encode("utf-8", "replace")) if isinstance(config, str) else config
    if not isinstance(value, dict):
        return -1
    plain = {k: v["value"] if isinstance(v, dict) and "value" in v else v for k, v in value.items()}
    found = {number(v) for k, v in flat(plain, Tally(), 0, ".").items() if k.rpartition(".")[2] in PLANNED}
    totals = {int(x) for x in found if x is not None and 0 < x < 2.0**62}
    return totals.pop() if len(totals) == 1 else -1


def counts_steps(record: Mapping[str, Any]) -> bool:
    """Whether the step of a row is one of the trainer's own: W&B's counts how often it was called."""
    own = [record[key] for key in STEP_KEYS if key != "_step" and key in record]
    return record.get("step", record.get("_step")) in own


def last_step(keys: object) -> int:
    """The last step that `historyKeys` names, -1 if there is no row."""
    value = decode(keys.encode()) if isinstance(keys, str) else keys
    step = value.get("lastStep") if isinstance(value, dict) else None
    return int(step) if isinstance(step, (int, float)) and 0 <= step < 2.0**62 else -1


def count(value: object) -> int:
    """A number of lines as the server tells it, 0 if it tells none."""
    return value if type(value) is int and value > 0 else 0


def texts_in(rows: object) -> int:
    """How many rows there are in an answer."""
    return len(rows) if isinstance(rows, Sequence) and not isinstance(rows, str) else 0
