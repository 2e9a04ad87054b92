"""What the tests of log files share: a watch that is polled by hand, and rows as plain dictionaries."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monitor.frame import Batch
from monitor.sources.files import PARSERS
from monitor.sources.files.lines import split
from monitor.sources.files.rows import Parsed
from monitor.sources.files.source import Watch


def row(step: int, **more: float) -> bytes:
    return json.dumps({"step": step, "loss": step / 2, **more}).encode() + b"\n"


class Rig:
    """A watch on a folder, polled by hand: what it has said so far, and the cursors that a store would hold."""

    def __init__(self, root: Path, *roots: Path, max_line_bytes: int = 1 << 20) -> None:
        self.roots = [str(r) for r in (root, *roots)]
        self.max_line_bytes = max_line_bytes
        self.now = 0.0
        self.cursors: dict[str, str] = {}
        self.kept: list[dict[str, str]] = []
        self.seen: list[dict[str, Any]] = []
        self.lines: list[tuple[str, int, str]] = []
        self.counts: dict[str, int] = {}
        self.watch = Watch("files", self.roots, {}, max_line_bytes=max_line_bytes)

    def poll(self, times: int = 4, *, apart: float = 1.0) -> list[dict[str, Any]]:
        """Rows of some polls, each of which scans."""
        out: list[dict[str, Any]] = []
        for _ in range(times):
            self.now += apart
            out += self.take(self.watch.poll(self.now))
        return out

    def take(self, batch: Batch) -> list[dict[str, Any]]:
        out = []
        for frame in batch.frames:
            assert (frame.row[1:] > frame.row[:-1]).all()
            out += [
                {
                    "run": frame.run,
                    "row": int(frame.row[i]),
                    "step": int(frame.step[i]),
                    "values": dict(zip(frame.columns, frame.values[i].tolist(), strict=True)),
                    "origin": frame.origin,
                    "generation": frame.generation,
                }
                for i in range(len(frame.row))
            ]
        out.sort(key=lambda r: (r["run"], r["row"]))
        self.seen += out
        self.lines += [(line.run, line.row, line.text) for line in batch.lines]
        self.cursors = {**self.cursors, **batch.cursors}
        self.kept.append(self.cursors)
        for what, n in batch.counts.items():
            self.counts[what] = self.counts.get(what, 0) + n
        return out

    def restart(self, cursors: dict[str, str] | None = None) -> None:
        """As after a crash: only the cursors are left."""
        self.watch.close()
        self.cursors = self.cursors if cursors is None else cursors
        self.watch = Watch("files", self.roots, self.cursors, max_line_bytes=self.max_line_bytes)

    def steps(self, run: str | None = None) -> list[int]:
        return [r["step"] for r in self.seen if run in (None, r["run"])]


@contextmanager
def watching(root: Path, *roots: Path, **options: Any) -> Iterator[Rig]:
    rig = Rig(root, *roots, **options)
    try:
        yield rig
    finally:
        rig.watch.close()


def append(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(data)


def rows_of(parsed: list[Parsed]) -> list[dict[str, Any]]:
    out = []
    for piece in (p for one in parsed for p in one.pieces):
        for i, row in enumerate(piece.row.tolist()):
            record = {"row": row, **dict(zip(piece.columns, piece.values[i].tolist(), strict=True))}
            if piece.step[i] >= 0:
                record["step"] = int(piece.step[i])
            if not math.isnan(piece.t[i]):
                record["t"] = float(piece.t[i])
            if piece.run is not None:
                record["run"] = piece.run
            out.append(record)
    return sorted(out, key=lambda r: r["row"])


def parse(name: str, text: str | bytes) -> tuple[list[dict[str, Any]], Parsed]:
    data = text if isinstance(text, bytes) else text.encode()
    format_ = PARSERS[name]
    parser = format_.make({})
    parsed = parser.feed(split(data, returns=parser.splits_returns), 0)
    return rows_of([parsed]), parsed


def same(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    assert json.dumps(found, sort_keys=True) == json.dumps(wanted, sort_keys=True)
