"""What all patterns share: a line as text, its clock, numbers as people print them, `key: value` pairs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from monitor.sources.files.values import number

MAX_LINE = 20_000
EXACT = 2.0**53
"""Up to here a float holds every whole number."""
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]")
NUMBER = r"[-+]?(?:\d[\d,_]*\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|NaN|NAN|inf|Inf|INF|Infinity)"


@dataclass(slots=True)
class Line:
    """values: `step`, perhaps `t`, and metrics. total: planned last step, -1 if unknown."""

    values: dict[str, Any]
    total: int = -1
    nan_if_absent: tuple[str, ...] = field(default=())
    rest: str = ""
    """Of a line that was wrapped: the beginning of what the next one goes on with."""
    smoothed: tuple[str, float] | None = None
    """The metric that is an exponential mean, debiased, and its decay (see `smoothed.Mean`)."""
    odd: int = 0
    """How many values that should be numbers are none."""


def plain(raw: bytes) -> str:
    """Text of a line without escape sequences, cut to a bound."""
    text = raw[:MAX_LINE].decode(errors="replace")
    return _ESCAPE.sub("", text) if "\x1b" in text else text


_GROUPED = re.compile(r"\s*[-+]?\d{1,3}(?:,\d{3})+(?![\d,])")


def read_number(text: str) -> float | None:
    """The number that a piece of text spells, with or without commas between thousands; "2,5" is none."""
    if "," not in text:
        return number(text)
    return number(text.replace(",", "")) if _GROUPED.match(text) else None


_STAMP = re.compile(r"\[?(\d{4}[-/]\d\d[-/]\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)")


def clock_of(line: str) -> float | None:
    """Time stamp near the beginning of a line; without a zone it is read as UTC."""
    found = _STAMP.search(line[:60])
    if not found:
        return None
    try:
        moment = datetime.fromisoformat(found[1].replace(",", ".").replace("/", "-"))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def with_clock(line: str, step: str, values: dict[str, Any]) -> dict[str, Any]:
    """`step`, the time stamp at the beginning of the line if there is one, and the metrics."""
    t = clock_of(line)
    head: dict[str, Any] = {"step": int(step.replace(",", ""))}
    if t is not None:
        head["t"] = t
    return {**head, **values}


SOURCE = (".py", ".cc", ".cpp", ".cu", ".rs", ".go")
MAX_REPEATS = 3
_GENERIC_PAIR = re.compile(
    rf"(?:^|(?<=[\s,;|\[({{\"']))([A-Za-z_][\w/.\-]{{0,100}}(?: (?:loss|norm|rate|scale|time|in s))?)['\"]?"
    rf"\s{{0,8}}[:=]\s{{0,8}}['\"]?({NUMBER})(ms\b|s\b|%)?(?=$|[\s,;|\])}}\"'])"
)


def pairs_of(text: str) -> dict[str, Any]:
    """Metrics by name. None where one comes again and again (a summary of many steps); no places in source code."""
    values: dict[str, Any] = {}
    repeats = 0
    for name, value, unit in _GENERIC_PAIR.findall(text):
        if (x := read_number(value.rstrip(","))) is not None and not name.endswith(SOURCE):
            repeats += name in values
            values[f"{name}_ms" if unit == "ms" else name] = x
    return values if repeats <= MAX_REPEATS else {}
