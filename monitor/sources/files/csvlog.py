"""CSV and TSV with a header line, as Lightning's CSVLogger, AlgoPerf and spreadsheets write them.

An empty cell is an absent metric. A line whose fields are the header again is a header (several runs appended); a line
with another number of fields is counted. Lightning rewrites the whole file when a new metric appears: the parser knows
the rows that it has seen by their number and by the last of them (see `known`).
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from monitor.sources.files.rows import CLOCK_KEYS, STEP_KEYS, Parsed, Tabulator, Unusable
from monitor.sources.files.values import number

WRITING = -1
"""In place of the number of lines known: the file is being rewritten."""
DELIMITERS = (",", "\t", ";")


def recognise(head: Sequence[bytes]) -> bool:
    """Whether the first line names columns and the second has as many fields, at least one a number."""
    lines = [line for line in head[:50] if line.strip()][:2]
    if len(lines) < 2:
        return False
    delimiter = _delimiter(lines[0])
    names, values = (_fields(line, delimiter) for line in lines)
    return (
        len(names) >= 2
        and len(names) == len(values)
        and all(n and number(n) is None and len(n) < 200 for n in names)
        and len(set(names)) == len(names)
        and (any(number(v) is not None for v in values) or bool({*STEP_KEYS, *CLOCK_KEYS} & set(names)))
        and all(number(v) is not None or len(v) < 100 for v in values)
    )


def _delimiter(line: bytes) -> str:
    return max(DELIMITERS, key=lambda d: line.count(d.encode()))


def _fields(line: bytes, delimiter: str) -> list[str]:
    text = line.decode(errors="replace").strip("\r\n")
    if '"' not in text:
        return [f.strip() for f in text.split(delimiter)]
    try:
        return [f.strip() for f in next(csv.reader([text], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _unique(names: list[str]) -> tuple[str, ...]:
    """Names of columns; one that comes again gets its place, since a row has one value for each metric."""
    out: dict[str, None] = {}
    for i, name in enumerate(names):
        free = name
        while free in out:
            free += f"#{i}"
        out[free] = None
    return tuple(out)


def _digest(header: Sequence[str], fields: Sequence[str]) -> str:
    """Of the cells that are not empty, whatever their order."""
    cells = sorted(f"{name}={value}" for name, value in zip(header, fields, strict=True) if value)
    return hashlib.sha256("\n".join(cells).encode()).hexdigest()[:32]


class CsvLog:
    """Parser of CSV. State: the header and its delimiter, how many rows were read, hashes of the first and the last."""

    name = "csv"
    splits_returns = False

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._header: tuple[str, ...] = tuple(str(h) for h in state.get("header", ()))
        self._delimiter = str(state.get("delimiter", ","))
        self._rows = int(state.get("rows", 0))
        self._first, self._last = str(state.get("first", "")), str(state.get("last", ""))
        self._table = Tabulator()

    def state(self) -> dict[str, Any]:
        """What a later parser needs to go on after the last line."""
        hashes = {"first": self._first, "last": self._last}
        return {"header": list(self._header), "delimiter": self._delimiter, "rows": self._rows, **hashes}

    def known(self, lines: Sequence[bytes]) -> int:
        """How many of the first lines of a rewritten file were seen: it has all our columns and our last row.

        WRITING while it is shorter than what was read, but begins as that did.
        """
        filled = [i for i, line in enumerate(lines) if line.strip()]
        if not self._rows:
            return 0
        if len(filled) < 2:
            return WRITING
        header = _unique(_fields(lines[filled[0]], self._delimiter))
        last = filled[self._rows if len(filled) > self._rows else 1]
        fields = _fields(lines[last], self._delimiter)
        if not set(self._header) <= set(header) or len(fields) != len(header):
            return 0
        if len(filled) <= self._rows:
            return WRITING if _digest(header, fields) == self._first else 0
        if _digest(header, fields) != self._last:
            return 0
        self._header = header
        return last + 1

    def feed(self, lines: Sequence[bytes], first_row: int) -> Parsed:
        """Parse complete lines, the first of which is number `first_row`."""
        out = Parsed()
        records: list[list[str]] = []
        rows: list[int] = []
        for row, line in enumerate(lines, first_row):
            if not line.strip():
                continue
            if not self._header:
                self._delimiter = _delimiter(line)
                self._header = _unique(_fields(line, self._delimiter))
                continue
            fields = _fields(line, self._delimiter)
            if len(fields) == len(self._header):
                if fields[0] == self._header[0] and tuple(fields) == self._header:
                    continue
                records.append(fields)
                rows.append(row)
                continue
            if self._is_header(fields):
                self._flush(records, rows, out)
                records, rows = [], []
                self._header = tuple(fields)
                continue
            out.tally.add(Unusable.FIELD_COUNT, row)
            out.lines.append((row, line.decode(errors="replace")))
        self._flush(records, rows, out)
        return out

    def _is_header(self, fields: list[str]) -> bool:
        """A new header repeats most names of the old one."""
        known = set(self._header) & set(fields)
        return len(fields) >= 2 and 2 * len(known) > len(self._header) and len(set(fields)) == len(fields)

    def _flush(self, records: list[list[str]], rows: list[int], out: Parsed) -> None:
        if records:
            if not self._rows:
                self._first = _digest(self._header, records[0])
            self._rows += len(records)
            self._last = _digest(self._header, records[-1])
            self._table.columns(self._header, list(zip(*records, strict=True)), np.array(rows, np.int64), out)
