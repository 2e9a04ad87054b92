"""Our tailer on a folder, polled by hand, and what it read beside what was written."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from monitor.sources.files.source import Watch

LIMIT_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Counts of rows; note: what else is to be said."""

    reader: str = "ours"
    written: int
    read: int
    lost: int
    doubled: int
    note: str = ""


def compare(wanted: Counter[object], read: Counter[object], *, reader: str = "ours", note: str = "") -> Outcome:
    """Row for row."""
    return Outcome(
        reader=reader,
        written=wanted.total(),
        read=read.total(),
        lost=(wanted - read).total(),
        doubled=(read - wanted).total(),
        note=note,
    )


class Reader:
    """Our tailer on a folder, polled by hand; restart as after a SIGKILL."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._cursors: dict[str, str] = {}
        self.rows: Counter[object] = Counter()
        self.counts: Counter[str] = Counter()
        self.now = time.time()
        self.watch = Watch("faults", [self._folder], {}, max_line_bytes=1 << 20)

    def poll(self, times: int = 1) -> bool:
        """Whether there was something to read."""
        news = False
        for _ in range(times):
            self.now += 1.0
            batch = self.watch.poll(self.now)
            for frame in batch.frames:
                self.rows.update((frame.run, s) for s in frame.step.tolist())
            self._cursors.update(batch.cursors)
            self.counts.update(batch.counts)
            news = news or bool(batch.frames) or not batch.at_head
        return news

    def rest(self) -> None:
        """Until nothing comes any more."""
        quiet, end = 0, time.monotonic() + LIMIT_S
        while quiet < 5 and time.monotonic() < end:
            quiet = 0 if self.poll() else quiet + 1

    def down(self) -> None:
        """Only the cursors are left."""
        self.watch.close()

    def up(self) -> None:
        """Begin after the cursors."""
        self.watch = Watch("faults", [self._folder], self._cursors, max_line_bytes=1 << 20)

    def steps(self) -> Counter[object]:
        """Whatever the run."""
        found: Counter[object] = Counter()
        for (_, step), many in self.rows.items():  # type: ignore[misc]
            found[step] += many
        return found
