"""What a stream of rows leaves behind so that another can go on after it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from monitor.sources.files.position import Position, from_json, to_json

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """A place in the log of one run.

    path: of the file being written, whichever of its family `position` is in. row: number of the next line.
    history: inode → bytes that were there at first sight, for files not yet read past that. runs: names that rows gave.
    format, state: the parser and its memory, "" if the format is not known yet. past: ends of files read before.
    """

    run: str
    path: str
    position: Position
    row: int = 0
    generation: int = 0
    history: Mapping[int, int] = field(default_factory=dict)
    format: str = ""
    state: Mapping[str, Any] = field(default_factory=dict)
    runs: tuple[str, ...] = ()
    past: tuple[Position, ...] = ()

    def dumps(self) -> str:
        """As a short JSON string."""
        value = {
            "v": VERSION,
            "run": self.run,
            "path": self.path,
            "at": to_json(self.position),
            "row": self.row,
            "generation": self.generation,
            "history": list(self.history.items()),
            "format": self.format,
            "state": self.state,
            "runs": self.runs,
            "past": [to_json(p) for p in self.past],
        }
        return json.dumps(value, separators=(",", ":"))

    @classmethod
    def loads(cls, text: str) -> Cursor | None:
        """Back again; None if it is damaged or not ours: the file is then read from its beginning."""
        try:
            value = json.loads(text)
            if value["v"] != VERSION:
                return None
            return cls(
                run=str(value["run"]),
                path=str(value["path"]),
                position=from_json(value["at"]),
                row=int(value["row"]),
                generation=int(value["generation"]),
                history={int(inode): int(size) for inode, size in value["history"]},
                format=str(value["format"]),
                state=dict(value["state"]),
                runs=tuple(str(run) for run in value["runs"]),
                past=tuple(from_json(p) for p in value["past"]),
            )
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
