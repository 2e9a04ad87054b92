"""How far a run was read, as its cursor keeps it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(slots=True, kw_only=True)
class Progress:
    """Of one run.

    row: number of its next row. next: first step that was not read. since: last step that was there at first sight,
    -1 if none was. lines: of its history, as the server counts them, that were read or given up. generation: times it
    was resumed or rewound. statistics_t: clock of the newest row of statistics of the machine, -1 before the first;
    statistics_lines: how many of them there were. total: planned last step as the configuration has it, -1 if it has
    none. done: it ended and all was read.
    """

    row: int = 0
    next: int = 0
    since: int = -1
    lines: int = 0
    generation: int = 0
    state: str = ""
    statistics_t: float = -1.0
    statistics_lines: int = 0
    total: int = -1
    done: bool = False

    def dumps(self) -> str:
        """For the cursor."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def loads(cls, text: str) -> Self | None:
        """Back again; None if it is damaged: the run is then seen for the first time."""
        try:
            value, usual = json.loads(text), asdict(cls())
            kept = {key: type(usual[key])(value[key]) for key in usual}
        except (ValueError, TypeError, KeyError, OverflowError):
            return None
        return cls(**kept)
