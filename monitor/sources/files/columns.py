"""A JSON document of whole columns, `{metric: {"values": {step: value}}}`: the golden values of Megatron-LM's tests.

Read from a finished file only: nothing in it is complete before its last byte. Bounds: MAX_BYTES of a file.
"""

from __future__ import annotations

import orjson

MAX_BYTES = 64 << 20
_PEEK = 4096


def likely(beginning: bytes) -> bool:
    """Whether a file that begins so may be such a document."""
    return beginning.lstrip()[:1] == b"{" and b'"values"' in beginning[:_PEEK]


def as_lines(document: bytes) -> list[bytes]:
    """The rows as JSON lines in the order of their steps; empty if it is no such document.

    A value that is not a number ("nan") was not recorded at that step.
    """
    try:
        cells = [
            (int(step), name, value)
            for name, column in orjson.loads(document).items()
            for step, value in column["values"].items()
        ]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []
    rows: dict[int, dict[str, object]] = {step: {"step": step} for step in sorted({step for step, *_ in cells})}
    for step, name, value in cells:
        if isinstance(value, int | float) and name != "step":
            rows[step][name] = value
    return [orjson.dumps(row) for row in rows.values() if len(row) > 1]
