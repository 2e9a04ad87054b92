"""JSON lines: one object per line, as W&B exports, Lightning, LLaMA-Factory, mmdet and most own loggers write them.

The fast path decodes 256 lines as one array with orjson; a bare NaN or a bad line makes only its own block fall
back to line by line, first orjson, then the standard library for what orjson refuses (NaN, Infinity).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from detectors.types import Role
from monitor.roles import role_of
from monitor.sources.files.rows import CLOCK_KEYS, STEP_KEYS, Parsed, Piece, Tabulator, Tally, Unusable, flat
from monitor.sources.files.values import number

BLOCK_LINES = 256
HEAD_LINES = 50
_NONFINITE = re.compile(rb"(?<=[:,\[\s])([-+]?)(nan|inf(?:inity)?)(?=\s*[,}\]])", re.IGNORECASE)
_TELLING = (Role.LOSS, Role.EVAL_LOSS, Role.GRAD_NORM, Role.STEP_TIME, Role.THROUGHPUT)
_MARKS = frozenset({*STEP_KEYS, *CLOCK_KEYS})


def recognise(head: Sequence[bytes]) -> bool:
    """Whether the first line is a JSON object and one of the first has a step, a clock or a metric of known meaning.

    A configuration that happens to stand in one line is no log.
    """
    lines = [line for line in head if line.strip()][:HEAD_LINES]
    if not lines or type(decode(lines[0])) is not dict:
        return False
    for line in lines:
        record = decode(line)
        keys = flat(record, Tally(), 0) if type(record) is dict else {}
        if any(k in _MARKS or (number(v) is not None and role_of(k).role in _TELLING) for k, v in keys.items()):
            return True
    return False


def decode(line: bytes) -> Any:
    """The value of one line, None if it is none."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        pass
    for text in (line, _NONFINITE.sub(_respell, line)):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            continue
    return None


def _respell(found: re.Match[bytes]) -> bytes:
    return b"NaN" if found[2].lower() == b"nan" else found[1] + b"Infinity"


class JsonLines:
    """Parser of JSON lines."""

    name = "jsonl"
    splits_returns = False

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._epochs = Epochs(state)
        self._table = Tabulator()

    def state(self) -> dict[str, Any]:
        """What a later parser needs to go on after the last line."""
        return self._epochs.state()

    def known(self, lines: Sequence[bytes]) -> int:  # noqa: ARG002 - part of the protocol
        """A rewritten file of this format is another log."""
        return 0

    def feed(self, lines: Sequence[bytes], first_row: int) -> Parsed:
        """Parse complete lines, the first of which is number `first_row`."""
        out = Parsed()
        for start in range(0, len(lines), BLOCK_LINES):
            self._block(lines[start : start + BLOCK_LINES], first_row + start, out)
        out.pieces = joined(out.pieces)
        return out

    def _block(self, block: Sequence[bytes], first_row: int, out: Parsed) -> None:
        """Parse so many lines that what they become stays in the processor's cache."""
        records = _array(block)
        if records is None:
            records = [decode(line) for line in block]
        rows = np.arange(first_row, first_row + len(block))
        if set(map(type, records)) != {dict}:
            for row, record, line in zip(rows.tolist(), records, block, strict=True):
                if type(record) is not dict and line.strip(b" \t\r\0"):
                    out.tally.add(Unusable.NOT_A_RECORD, row)
                    out.lines.append((row, line.decode(errors="replace")))
            rows = rows[[type(record) is dict for record in records]]
            records = [record for record in records if type(record) is dict]
        if any("iter" in record for record in records):
            self._epochs.unroll(records)
        self._table.records(records, rows, out)


def joined(pieces: Sequence[Piece]) -> list[Piece]:
    """`pieces` with those of the same run and metrics made one, in the order of their rows."""
    groups: dict[tuple[str | None, tuple[str, ...]], list[Piece]] = {}
    for piece in pieces:
        groups.setdefault((piece.run, piece.columns), []).append(piece)
    return [_joined(parts) if len(parts) > 1 else parts[0] for parts in groups.values()]


def _joined(parts: Sequence[Piece]) -> Piece:
    row, step = np.concatenate([p.row for p in parts]), np.concatenate([p.step for p in parts])
    t, values = np.concatenate([p.t for p in parts]), np.concatenate([p.values for p in parts])
    if (row[1:] < row[:-1]).any():  # records that differ in what is no metric
        order = np.argsort(row)
        row, step, t, values = row[order], step[order], t[order], values[order]
    return Piece(parts[0].run, parts[0].columns, row, step, t, values)


def _array(lines: Sequence[bytes]) -> list[Any] | None:
    """The values of lines; None if they are not all plain JSON, one value per line."""
    try:
        values: list[Any] = orjson.loads(b"[" + b",".join(lines) + b"]")
    except orjson.JSONDecodeError:
        return None
    return values if len(values) == len(lines) else None


class Epochs:
    """Steps of writers that count iterations within an epoch (mmdet: `epoch`, `iter`, no `step`): made to go on.

    Rows whose `mode` is not "train" count something else and keep the last step of training.
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._epoch = float(state.get("epoch", -1))
        self._base = int(state.get("base", 0))
        self._last = int(state.get("last", 0))

    def state(self) -> dict[str, Any]:
        """As given to the constructor."""
        return {} if self._epoch < 0 else {"epoch": self._epoch, "base": self._base, "last": self._last}

    def unroll(self, records: list[dict[str, Any]]) -> None:
        """Give the records of such a writer a `step`, in place."""
        for i, record in enumerate(records):
            if "iter" not in record or "epoch" not in record or "step" in record:
                continue
            epoch, at = record["epoch"], record["iter"]
            if type(at) is not int or type(epoch) is not int:
                continue
            if record.get("mode", "train") != "train":
                records[i] = {"step": self._base + self._last, **{f"val/{k}": v for k, v in record.items()}}
                continue
            if epoch < self._epoch:
                self._base = self._last = 0
            elif epoch > self._epoch >= 0 and at <= self._last:
                self._base += self._last
            self._epoch, self._last = epoch, at
            records[i] = {"step": self._base + at, **record}
