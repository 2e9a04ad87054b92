"""Console logs of trainers: named patterns per trainer, a generic `key: value` fallback for lines with a step.

Escape sequences are removed and carriage returns end lines (progress bars). A line that no pattern takes is a log line.
State: the patterns' memory (Megatron-LM leaves `lm loss` out where it is NaN; what the file once had is missed later).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monitor.sources.files.patterns import MARKS, PATTERNS, Line, plain
from monitor.sources.files.rows import Parsed, Tabulator


def recognise(head: Sequence[bytes]) -> bool:
    """Whether any line carries metrics."""
    return any(_match(plain(line)) is not None for line in head)


def _match(line: str) -> Line | None:
    if not any(mark in line for mark in MARKS):
        return None
    for pattern in PATTERNS.values():
        if (found := pattern(line)) is not None:
            return found
    return None


class TextLog:
    """Parser of console logs. State: the last line of metrics and the metrics that are written wherever they exist."""

    name = "text"
    splits_returns = True

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._expected: set[str] = {str(m) for m in state.get("expected", ())}
        self._last = str(state.get("last", ""))
        self._table = Tabulator()

    def state(self) -> dict[str, Any]:
        """What a later parser needs to go on after the last line."""
        return {"expected": sorted(self._expected), "last": self._last}

    def known(self, lines: Sequence[bytes]) -> int:  # noqa: ARG002 - part of the protocol
        """A rewritten file of this format is another log."""
        return 0

    def feed(self, lines: Sequence[bytes], first_row: int) -> Parsed:
        """Parse complete lines, the first of which is number `first_row`."""
        out = Parsed()
        records: list[dict[str, Any]] = []
        rows: list[int] = []
        for row, raw in enumerate(lines, first_row):
            line = plain(raw)
            found = _match(line)
            if found is None:
                if line.strip():
                    out.lines.append((row, line))
                continue
            if "step" in found.values and line.strip() == self._last:  # some launchers print every line twice
                continue
            self._last = line.strip() if len(line) <= 2000 else ""
            for metric in found.nan_if_absent:
                if metric in found.values:
                    self._expected.add(metric)
                elif metric in self._expected:
                    found.values[metric] = float("nan")
            if found.total > 0:
                out.totals[None] = found.total
            records.append(found.values)
            rows.append(row)
        self._table.records(records, rows, out)
        return out
