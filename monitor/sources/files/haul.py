"""What one poll brings in, over all streams, and how rows get their run's name."""

from __future__ import annotations

from dataclasses import dataclass, field

from detectors.types import Origin
from monitor.frame import Batch, Frame, LogLine, RunFacts, Status
from monitor.sources.files.rows import Parsed, Tally, Unusable

MAX_LINES_PER_FEED = 1_000
MAX_TEXT = 2_000
MAX_RUNS_KEPT = 256


def encodable(text: str) -> str:
    """The text with what is no character (half a surrogate pair, a byte of a file name) replaced: names are stored."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


@dataclass(slots=True)
class Haul:
    """Collects frames, lines, cursors and counts; becomes a batch. now: Unix seconds of the poll."""

    now: float = 0.0
    frames: list[Frame] = field(default_factory=list)
    lines: list[LogLine] = field(default_factory=list)
    cursors: dict[str, str] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    tally: Tally = field(default_factory=Tally)
    rows: int = 0
    more: bool = False

    def take(self, parsed: Parsed, names: Names, origin: Origin, generation: int) -> None:
        """Add what a parser made of some lines."""
        for piece in parsed.pieces:
            self.rows += len(piece.row)
            self.frames.append(
                Frame(
                    run=names.of(piece.run),
                    columns=tuple(map(encodable, piece.columns)),
                    row=piece.row,
                    step=piece.step,
                    t=piece.t,
                    values=piece.values,
                    origin=origin,
                    generation=generation,
                )
            )
        if (dropped := len(parsed.lines) - MAX_LINES_PER_FEED) > 0:
            self.tally.add(Unusable.LOG_LINES_DROPPED, parsed.lines[0][0], dropped)
        for row, text in parsed.lines[-MAX_LINES_PER_FEED:]:  # the last ones: a stack trace stands at the end
            self.lines.append(LogLine(run=names.run, row=row, text=encodable(text[:MAX_TEXT])))
        for run, total in parsed.totals.items():
            self.totals[names.of(run)] = total
        if parsed.finished:
            self.finished.add(names.run)
        self.tally.merge(parsed.tally)

    def batch(self, source: str, t_recv: float, *, detail: str = "") -> Batch:
        """All of it. detail: what of the source could not be read; then the status is an error."""
        return Batch(
            source=source,
            t_recv=t_recv,
            frames=tuple(self.frames),
            lines=tuple(self.lines),
            cursors=self.cursors,
            facts={
                run: RunFacts(total_steps=self.totals.get(run, -1), finished=run in self.finished)
                for run in self.totals.keys() | self.finished
            },
            counts=self.tally.counts,
            status=Status.ERROR if detail else Status.OK,
            detail=detail,
            at_head=not self.more,
        )


class Names:
    """The run names that one stream may use. owners: run → key of the stream that has it, shared by all streams."""

    def __init__(self, run: str, key: str, owners: dict[str, str], runs: tuple[str, ...] = ()) -> None:
        self.run = run = encodable(run)
        self._key, self._owners = key, owners
        self._runs = list(runs)
        for name in (run, *runs):
            owners.setdefault(name, key)

    @property
    def used(self) -> tuple[str, ...]:
        """Names that rows gave, for the cursor."""
        return tuple(self._runs)

    def of(self, run: str | None) -> str:
        """The run of rows that name one themselves; to a name that another file has, this file's is added."""
        if run is None:
            return self.run
        run = encodable(run[:MAX_TEXT])
        if self._owners.setdefault(run, self._key) != self._key:
            return f"{run} ({self.run})"
        if run not in self._runs and len(self._runs) < MAX_RUNS_KEPT:
            self._runs.append(run)
        return run
