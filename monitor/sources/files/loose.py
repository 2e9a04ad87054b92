"""Patterns for lines of no particular trainer, tried after all others: JSON in text, progress bars, `key: value`."""

from __future__ import annotations

import json
import re
from typing import Any

from monitor.sources.files.textline import EXACT, Line, pairs_of, with_clock
from monitor.sources.files.values import number


def record_in(line: str) -> dict[str, Any] | None:
    """The JSON object that fills the rest of a line of other text."""
    start = line.find("{")
    if start < 0 or not line.rstrip().endswith("}"):
        return None
    try:
        record = json.loads(line[start:])
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def embedded_json(line: str) -> Line | None:
    """A JSON object behind other text, with a step in it."""
    record = record_in(line)
    if record is None or not any(k in record for k in ("step", "global_step", "iteration", "_step")):
        return None
    numbers = {k: x for k, v in record.items() if (x := number(v)) is not None}
    return Line(numbers) if len(numbers) > 1 else None


_STEP = re.compile(
    r"(?:^|[\s|,;\[({])(?:global[_ ]|train(?:ing)?[_ ])?(?:step|iter(?:ation)?|update)s?\s{0,4}[:=#]?\s{0,4}\[?\s{0,4}"
    r"(\d[\d,]{0,20})(?:\s{0,4}(?:/|of)\s{0,4}(\d[\d,]{0,20}))?(?![\w.])",
    re.IGNORECASE,
)


def generic(line: str) -> Line | None:
    """`Step 10: loss=2.3, lr=1e-3` and the like: a step-like key and at least one `key: value` or `key=value`."""
    found = _STEP.search(line)
    if not found:
        return None
    rest = line[: found.start()] + " ; " + line[found.end() :]
    values = {k: v for k, v in pairs_of(rest).items() if k.lower() not in ("rank", "pid", "line", "epoch")}
    if not values:
        return None
    step, total = found[1].rstrip(",").replace(",", ""), (found[2] or "-1").rstrip(",").replace(",", "")
    if len(step) > 18 or len(total) > 18:
        return None
    return Line(with_clock(line, step, values), int(total))


_TQDM = re.compile(r"\|\s{0,4}(\d{1,18})/(\d{1,18}) \[([^\]]{0,2000})\]")

_RATE = re.compile(r"(\d{1,9}\.\d{1,9})(it/s|s/it)")


def tqdm(line: str) -> Line | None:
    """`train:  2%|▏ | 30/1500 [00:00<00:47, 31.2it/s, loss=2.31, lr=1e-3]`.

    A bar of an epoch counts within it: only one that shows the step of the run too is read (NeMo 1, fairseq).
    """
    found = _TQDM.search(line)
    if not found:
        return None
    values = pairs_of(found[3])
    own = [values.pop(k) for k in ("global_step", "num_updates") if k in values]
    if "poch" in line and not own:
        return None
    rate = _RATE.search(found[3])
    if values and rate and (x := float(rate[1])) > 0:
        values["it_per_s"] = x if rate[2] == "it/s" else 1 / x
    if not values or (own and not 0 <= own[0] < EXACT):
        return None
    return Line(with_clock("", str(int(own[0])) if own else found[1], values), -1 if own else int(found[2]))
