"""Console logs of trainers: named patterns per trainer, a generic `key: value` fallback for lines with a step.

Escape sequences are removed and carriage returns end lines (progress bars). A line that no pattern takes is a log line.
State: the patterns' memory (Megatron-LM leaves `lm loss` out where it is NaN; what the file once had is missed later).
OLMo-core writes a step and below it one indented line per metric: each of these is a row of that step, so that none
waits for the next. DeepSpeed's overflows are counted, and the rows that follow carry the count as `fp16_overflows`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monitor.expression import Expression
from monitor.sources.files.patterns import OVERFLOW, PATTERNS, megatron, megatron_items, olmo_head, olmo_item
from monitor.sources.files.rows import Parsed, Tabulator, Unusable
from monitor.sources.files.smoothed import Mean
from monitor.sources.files.textline import Line, plain, read_number

MAX_LAST = 2_000
Pattern = Callable[[str], Line | None]


def built_in(line: str) -> Line | None:
    """What the first of the trainers' patterns makes of a line."""
    for pattern, marks in PATTERNS.items():
        for mark in marks:
            if mark in line:
                if (found := pattern(line)) is not None:
                    return found
                break
    return None


def custom(regex: str) -> Pattern:
    """A user's expression as a pattern. Raises ValueError (see `Expression`)."""
    expression = Expression(regex)

    def match(line: str) -> Line | None:
        groups = expression.groups(line)
        if groups is None:
            return None
        values: dict[str, Any] = {"t": groups["t"]} if "t" in groups else {}
        texts = {name: groups[name] for name in ("step", *expression.metrics) if name in groups}
        numbers = {name: x for name, text in texts.items() if (x := read_number(text)) is not None}
        total = read_number(groups.get("total", ""))
        planned = int(total) if total is not None and 0 < total < 2.0**62 else -1
        return Line(values | numbers, planned, odd=len(texts) - len(numbers))

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
        self._overflows = int(state.get("overflows", 0))
        self._block: dict[str, Any] = dict(state.get("block", {}))
        self._rest = str(state.get("rest", ""))
        self._mean = Mean(state.get("mean", ()))
        self._table = Tabulator()

    def state(self) -> dict[str, Any]:
        """What a later parser needs to go on after the last line."""
        state: dict[str, Any] = {"expected": sorted(self._expected), "last": self._last}
        more = {"overflows": self._overflows, "block": self._block, "rest": self._rest}
        more["mean"] = self._mean.state()
        return {**state, **{k: v for k, v in more.items() if v}}

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
            found = self._match(line)
            found = self._within(line, out) if found is None else self._complete(line, found)
            if found is not None:
                if found.total > 0:
                    out.totals[None] = found.total
                out.tally.add(Unusable.NOT_A_NUMBER, row, found.odd)
                records.append(found.values)
                rows.append(row)
            elif line.strip() and line.strip() != self._last:
                out.lines.append((row, line))
        self._table.records(records, rows, out)
        return out

    def _match(self, line: str) -> Line | None:
        if (self._rest and self._goes_on(line)) or ("[step=" in line and olmo_head(line) is not None):
            return None
        for pattern in self._patterns:
            if (found := pattern(line)) is not None:
                return found
        return None

    def _complete(self, line: str, found: Line) -> Line | None:
        """A line of metrics with what its trainer left out; None if some launcher printed it a second time."""
        if "step" in found.values and line.strip() == self._last:
            return None
        self._last = line.strip() if len(line) <= MAX_LAST else ""
        for metric in found.nan_if_absent:
            if metric in found.values:
                self._expected.add(metric)
            elif metric in self._expected:
                found.values[metric] = float("nan")
        if found.smoothed is not None:
            found.values.update(self._mean.undo(*found.smoothed, found.values))
        if self._overflows and "step" in found.values:
            found.values["fp16_overflows"] = self._overflows
        self._rest = found.rest[:MAX_LAST]
        self._block = {k: found.values[k] for k in ("step", "t") if k in found.values} if self._rest else {}
        return found

    def _goes_on(self, line: str) -> bool:
        """Whether it goes on with a wrapped line: its beginning completes the item that was cut."""
        if not self._rest or "|" not in line or megatron(line) is not None:
            return False
        return bool(megatron_items(f"{self._rest} {line.strip()}".partition("|")[0])[0])

    def _within(self, line: str, out: Parsed) -> Line | None:
        """The row of a line that belongs to the one before: an item of OLMo-core's, the rest of a wrapped one."""
        block = self._block
        if self._goes_on(line):
            values, rest = megatron_items(f"{self._rest} {line.strip()}")
            self._rest = rest[:MAX_LAST]
            return Line({**block, **values}) if values else None
        if block and not self._rest and (item := olmo_item(line)) is not None:
            return Line({**block, item[0]: item[1]})
        self._block, self._rest = {}, ""
        if (head := olmo_head(line)) is not None:
            self._block = head.values
            if head.total > 0:
                out.totals[None] = head.total
        self._overflows += OVERFLOW in line
        return None
