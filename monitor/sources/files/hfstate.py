"""Hugging Face's `trainer_state.json`: one JSON document, rewritten whole, whose `log_history` grows.

The Trainer writes it indented with sorted keys, so that it can be read line by line in bounded memory: an entry of
the history is what stands between "    {" and "    }". When it was rewritten, entries up to the last one seen are
skipped; a document whose last line is not there yet is still being written and is left until it is. A document
without our last entry is another log.
Entries keep the writer's names; those with `loss` are of the training, those with `eval_…` of an evaluation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from monitor.sources.files.jsonl import decode
from monitor.sources.files.rows import Parsed, Tabulator, Unusable
from monitor.sources.files.values import number

MAX_ENTRY_BYTES = 1 << 16
_HISTORY, _HISTORY_END = b'"log_history": [', b"]"
_TOTAL = b'"max_steps": '
WRITING = -1
"""In place of the number of lines known: the file is being rewritten."""


def recognise(head: Sequence[bytes]) -> bool:
    """Whether an indented JSON object begins that has the history among its first keys."""
    lines = [line.strip() for line in head[:200]]
    return lines[:1] == [b"{"] and any(line.startswith(_HISTORY) for line in lines)


class TrainerState:
    """Parser. State: how many entries were read, a hash of the last, the entry under way and where in the document."""

    name = "trainer_state"
    splits_returns = False

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._entries = int(state.get("entries", 0))
        self._last = str(state.get("last", ""))
        self._inside = bool(state.get("inside"))
        self._part: list[bytes] = [str(line).encode() for line in state.get("part", ())]
        self._size = sum(map(len, self._part))
        self._table = Tabulator()

    def state(self) -> dict[str, Any]:
        """What a later parser needs to go on after the last line."""
        part = [line.decode(errors="replace") for line in self._part]
        return {"entries": self._entries, "last": self._last, "inside": self._inside, "part": part}

    def known(self, lines: Sequence[bytes]) -> int:
        """How many lines of the rewritten document end with the last entry seen; WRITING if it is not whole yet."""
        if not lines or lines[-1] not in (b"}", b"}\r"):
            return WRITING
        again = TrainerState({})
        for i, line in enumerate(lines):
            again._line(line)
            if again._entries == self._entries and again._entries:
                if again._last != self._last:
                    return 0
                self._inside, self._part, self._size = True, [], 0
                return i + 1
        return 0

    def feed(self, lines: Sequence[bytes], first_row: int) -> Parsed:
        """Parse complete lines, the first of which is number `first_row`."""
        out = Parsed()
        records: list[dict[str, Any]] = []
        rows: list[int] = []
        for row, line in enumerate(lines, first_row):
            text = line.strip()
            entry = self._line(line)
            if entry is not None:
                record = decode(entry)
                if type(record) is dict:
                    records.append(record)
                    rows.append(row)
                else:
                    out.tally.add(Unusable.NOT_A_RECORD, row)
            elif text.startswith(_TOTAL) and not self._inside:
                total = number(text[len(_TOTAL) :].rstrip(b",").decode(errors="replace"))
                if total is not None and 0 < total < 2.0**62:
                    out.totals[None] = int(total)
        self._table.records(records, rows, out)
        return out

    def _line(self, line: bytes) -> bytes | None:
        """The entry that ends with this line."""
        text = line.rstrip()
        indent = len(text) - len(text.lstrip())
        if not self._inside:
            self._inside = text.endswith(_HISTORY)
            return None
        if indent == 2 and text.lstrip().startswith(_HISTORY_END):
            self._inside, self._part, self._size = False, [], 0
            return None
        if indent == 4 and text.endswith(b"{"):
            self._part, self._size = [], 0
        if self._size < MAX_ENTRY_BYTES:  # else it ends without a brace that fits and is counted
            self._part.append(text)
            self._size += len(text)
        if indent != 4 or not text.lstrip().startswith(b"}"):
            return None
        entry = b"\n".join(self._part).rstrip(b",")
        self._part, self._size = [], 0
        self._entries += 1
        self._last = hashlib.sha256(entry).hexdigest()[:32]
        return entry
