"""Console logs of trainers: named patterns per trainer, a generic `key: value` fallback for lines with a step.

Escape sequences are removed and carriage returns end lines (progress bars). A line that no pattern takes is a log line.
State: the patterns' memory (Megatron-LM leaves `lm loss` out where it is NaN; what the file once had is missed later).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monitor.expression import Expression
from monitor.sources.files.patterns import MARKS, PATTERNS, Line, plain, read_number
from monitor.sources.files.rows import Parsed, Tabulator

Pattern = Callable[[str], Line | None]


def built_in(line: str) -> Line | None:
    """What the first of the trainers' patterns makes of a line."""
    if not any(mark in line for mark in MARKS):
        return None
    for pattern in PATTERNS.values():
        if (found := pattern(line)) is not None:
            return found
    return None


def custom(regex: str) -> Pattern:
    """A user's expression as a pattern. Raises ValueError (see `Expression`)."""
    expression = Expression(regex)

    def match(line: str) -> Line | None:
        groups = expression.groups(line)
        if groups is None:
            return None
        values: dict[str, Any] = {"t": groups["t"]} if "t" in groups else {}
        for name in ("step", *expression.metrics):
            if (x := read_number(groups.get(name, ""))) is not None:
                values[name] = x
        total = read_number(groups.get("total", ""))
        return Line(values, int(total) if total is not None and 0 < total < 2.0**62 else -1)

    return match


def recognise(head: Sequence[bytes], patterns: Sequence[Pattern] = (built_in,)) -> bool:
    """Whether any line carries metrics."""
    return bool(TextLog({}, patterns).feed(head, 0).pieces)


class TextLog:
    """Parser of console logs. State: the last line of metrics and the metrics that are written wherever they exist."""

    name = "text"
    splits_returns = True

    def __init__(self, state: Mapping[str, Any], patterns: Sequence[Pattern] = (built_in,)) -> None:
        """patterns: tried in this order; the first that takes a line makes its row."""
        self._patterns = tuple(patterns)
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
            found = next((f for p in self._patterns if (f := p(line)) is not None), None)
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
