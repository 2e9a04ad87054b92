"""One run of a W&B project: what to ask of it next, and what the answers mean.

A window of steps that is no wider than the rows that are asked for is told whole, a wider one may be sampled. So
windows are SAMPLES wide; a gap in the steps is crossed in a wider one, which counts only if it holds all the rows that
the server says there are, else it is cut where its first row stands until nothing stands before that. The last step is
asked for (`survey`) where the server's counts and ours differ. A run's steps only grow: a row that comes later with a
step below the last that was read is not seen, only counted as not told. At first sight the last `first_rows` rows are
read, in wider windows if its steps have gaps. Bounds: SAMPLES rows and STATISTICS rows of the machine an answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from detectors.types import Origin
from monitor.frame import Frame, LogLine, RunFacts
from monitor.sources.files.haul import MAX_TEXT, encodable
from monitor.sources.files.rows import Parsed, Tabulator
from monitor.sources.files.values import clock
from monitor.sources.wandb.progress import Progress
from monitor.sources.wandb.questions import Question
from monitor.sources.wandb.records import (
    Counts,
    Unusable,
    count,
    counts_steps,
    frames,
    history,
    last_step,
    planned,
    statistics,
    texts_in,
)  # fmt: skip

SAMPLES = 1_000
STATISTICS = 200
STALE_S = 120.0
SURVEY_EVERY = 4
Record = dict[str, Any]
ENDED = frozenset({"finished", "failed", "crashed", "killed", "preempted", "deleted"})


class Run:
    """See the module. name: of its frames; id: W&B's own, which is a run's name in GraphQL."""

    def __init__(self, name: str, id_: str, progress: Progress | None, *, first_rows: int, old: bool) -> None:
        """progress: None for a run that is seen for the first time. old: what it holds then is history."""
        self.name, self.id = name, id_
        self.progress = progress or Progress()
        self.more = False
        self.lines: list[LogLine] = []
        self.counts = Counts()
        self._first_rows, self._old = first_rows, old
        self._fresh = progress is None
        self._behind = True
        self._survey = self._stale = self._gap = self._counts_steps = False
        self._asked = self._quiet = False
        self._empty = 0
        self._samples, self._stride = SAMPLES, 1
        self._stop, self._sure = 0, False  # of a wider window; whether rows are known to stand at its stop
        self._table = Tabulator()

    @property
    def ended(self) -> bool:
        """Whether the server says that nothing more is to come."""
        return self.progress.state in ENDED

    @property
    def facts(self) -> RunFacts:
        """What is known of it besides its rows."""
        p = self.progress
        total = p.total if self._counts_steps else -1
        return RunFacts(total_steps=total, finished=p.done and p.state in ("finished", "deleted"))

    @property
    def started(self) -> bool:
        """Whether it is known where to read on."""
        return not self._fresh

    def delete(self) -> None:
        """The server does not know it any more: a person has ended it."""
        self.say("W&B: the run was deleted on the server")
        self.progress.state, self.more, self._fresh = "deleted", False, False

    def begin(self) -> None:
        """A poll begins."""
        self.more, self._quiet, self._asked = True, True, False

    def settle(self) -> None:
        """A poll is over: a run that had ended before it and told nothing new has told everything."""
        self.progress.done = self.ended and self._quiet and not self._fresh

    def question(self) -> Question:
        """What to ask now."""
        p = self.progress
        rows = -1
        if not self._asked:
            rows = STATISTICS if p.statistics_t < 0 or (self._gap and p.statistics_lines < STATISTICS) else 0
        if self._fresh:
            return Question(run=self.id, survey=True, config=True, statistics=rows)
        stop = self._stop or p.next + self._samples
        if p.next <= p.since:
            stop = min(p.next + self._samples * self._stride, p.since + 1)
        return Question(run=self.id, window=(p.next, stop), samples=self._samples, survey=self._survey, statistics=rows)

    def shrink(self) -> bool:
        """Ask for less from now on, since the answer was too large; False if it cannot be less."""
        self._asked = True  # without statistics
        if self._samples == 1:
            return False
        self._samples = max(1, self._samples // 4)
        self._stop = 0
        return True

    def take(self, question: Question, node: Mapping[str, Any], now: float) -> list[Frame]:
        """The rows of an answer. now: the server's clock."""
        origin = Origin.BACKLOG if self._behind else Origin.LIVE
        self._look(node, now)
        if question.window is None:
            self._fresh_start(node)
            return self._frames([], self._machine(question, node), origin)
        machine = self._machine(question, node)
        return self._frames(self._window(question, node, question.window), machine, origin)

    def _look(self, node: Mapping[str, Any], now: float) -> None:
        """What the server says of the run."""
        p = self.progress
        state = str(node.get("state") or "")[:40]
        if state != p.state:
            self.say(f"W&B: the run is {state or 'in no state'}" + (f", it was {p.state}" if p.state else ""))
            if self.ended and state == "running":
                p.generation += 1  # resumed, by another process
            p.state, p.done, self._quiet = state, False, False
        beat = clock(node.get("heartbeatAt"), sure=True)
        if beat is None or math.isnan(now):
            return
        stale = state == "running" and now - beat > STALE_S
        if stale and not self._stale:
            self.say(f"W&B: no heartbeat for {now - beat:.0f} s, although the run is in state running")
        elif self._stale and not stale and state == "running":
            self.say("W&B: the heartbeat is back")
        self._stale = stale

    def say(self, text: str) -> None:
        """Keep a line for the evidence."""
        self.lines.append(LogLine(run=self.name, row=max(0, self.progress.row - 1), text=encodable(text[:MAX_TEXT])))

    def _fresh_start(self, node: Mapping[str, Any]) -> None:
        """Where reading begins in a run that is seen for the first time."""
        p, last, lines = self.progress, last_step(node.get("historyKeys")), count(node.get("historyLineCount"))
        self._stride = max(1, math.ceil((last + 1) / lines)) if lines else 1
        p.next = max(0, last + 1 - self._first_rows * self._stride)
        p.lines = min(lines, round(p.next / self._stride))
        p.since = last if self._old else -1
        p.total = planned(node.get("config"))
        self.counts.add(Unusable.SKIPPED, p.lines)
        self._fresh, self._quiet = False, False

    def _window(self, question: Question, node: Mapping[str, Any], window: tuple[int, int]) -> list[tuple[int, Record]]:
        """The rows of a window, and where the next one is."""
        p, lines, got = self.progress, count(node.get("historyLineCount")), texts_in(node.get("history"))
        last = last_step(node.get("historyKeys")) if question.survey else None
        if last is not None and lines < p.lines and last + 1 < p.next:
            self._rewind()
            return []
        lag = lines - p.lines - got
        past = window[1] - 1 <= p.since
        wide = window[1] - window[0] > question.samples
        found = history(node.get("history"), window, self.counts)
        if wide and found and lag > 0 and not past:  # it may have been sampled: is there something before these?
            self._stop, self._sure = found[0][0], True
            if found[0][0] - window[0] < question.samples:
                self._stop = 0
            return []
        if self._sure and self._stop == window[1] and not got:  # nothing: it begins there
            p.next, self._stop, self._sure = window[1], 0, False
            return []
        if found or got:
            self._empty, self._quiet = 0, False
        else:
            self._empty += 1
        p.lines += got
        if found:
            p.next = found[-1][0] + 1
        if past:
            p.next = window[1]
        self._go_on(lag, last, window, got)
        if not self.more:
            p.lines = max(lines, p.lines) if last is None else lines
            self._behind = False
        return found

    def _go_on(self, lag: int, last: int | None, window: tuple[int, int], got: int) -> None:
        """Whether there is more to read at once, and how."""
        p = self.progress
        self._stop, self._sure, self._survey = 0, False, False
        if p.next <= p.since or (lag > 0 and got):
            return
        if window[1] - window[0] > self._samples and not got:  # up to the last step, and still nothing is told
            self.counts.add(Unusable.MISSING, lag)
            self.more = False
        elif last is None:
            # The count may be wrong: a run that tells nothing is surveyed now and then.
            odd = lag > 0 or (lag < 0 and not got)
            self._survey = self.more = odd or self._empty % SURVEY_EVERY == SURVEY_EVERY - 1
        elif last >= window[1]:
            p.next = window[1]
            self._stop = last + 1 if last - p.next >= self._samples else 0
        else:
            self.counts.add(Unusable.MISSING, lag)
            self.more = False

    def _rewind(self) -> None:
        """Rows were taken back: what there is now is history of another attempt."""
        self.counts.add(Unusable.REWOUND)
        self.say("W&B: the history of the run was cut; reading begins anew, as another attempt")
        self.progress.generation += 1
        self._fresh = self._old = True

    def _machine(self, question: Question, node: Mapping[str, Any]) -> list[tuple[float, Record]]:
        """New statistics of the machine."""
        if question.statistics < 0:
            return []
        p, lines = self.progress, count(node.get("eventsLineCount"))
        self._asked = True
        told = node.get("events") if question.statistics else node.get("eventsTail")
        rows = statistics(told, p.statistics_t, self.counts)
        missed = lines - p.statistics_lines - len(rows)
        self._gap = not question.statistics and missed > 0 and lines <= STATISTICS
        if self._gap:
            return []  # all of them are asked for at the next poll
        if p.statistics_t >= 0:
            self.counts.add(Unusable.STATISTICS_MISSED, missed)
        p.statistics_lines = max(lines, p.statistics_lines)
        return rows

    def _frames(
        self, records: Sequence[tuple[int, Record]], machine: Sequence[tuple[float, Record]], origin: Origin
    ) -> list[Frame]:
        """History first, then statistics. origin: of what is new; numbers of rows go on."""
        p = self.progress
        machine_origin = Origin.HISTORY if p.statistics_t < 0 and (self._old or p.since >= 0) else origin
        if machine:
            p.statistics_t = machine[-1][0]
        if records:
            self._counts_steps = counts_steps(records[-1][1])
        made: list[Frame] = []
        for kind, rows in (
            (Origin.HISTORY, [r for step, r in records if step <= p.since]),
            (origin, [r for step, r in records if step > p.since]),
            (machine_origin, [r for _, r in machine]),
        ):
            parsed = Parsed()
            self._table.records(rows, range(p.row, p.row + len(rows)), parsed)
            p.row += len(rows)
            for reason, many in parsed.tally.counts.items():
                self.counts.add(reason, many)
            made += frames(parsed, self.name, kind, p.generation)
        return made
