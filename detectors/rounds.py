"""Cuts blocks into rounds and scores each round with one call of the bank.

A round holds at most one piece of each run and about `ROUND` values, so temporary memory is bounded whatever a block
holds. A piece is also cut at the first non-positive value of a loss, where its series moves to another scale.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from detectors.baseline import Bank
from detectors.kernels import REFRESH, WINDOW
from detectors.scored import Round, Run, Segment, Track
from detectors.scores import Tuning
from detectors.settings import Settings
from detectors.types import Block, Column, Role

ROUND = 1 << 16  # values scored together
PIECE = 1 << 16  # rows of one run in a round

SCORED = (Role.LOSS, Role.GRAD_NORM, Role.STEP_TIME, Role.THROUGHPUT, Role.DATA_TIME)
COUNTERS = frozenset({Role.SKIPPED_STEPS, Role.NAN_STEPS, Role.LOSS_SCALE})


def tunings(s: Settings) -> dict[Role, Tuning]:
    """How series of each scored role are scored."""
    time = Tuning(floor=float(np.log1p(s.time_floor)), k=s.time_k)
    return {
        Role.LOSS: Tuning(
            floor=float(np.log1p(s.loss_floor)),
            k=s.loss_k,
            history_cap=float(np.log1p(s.loss_history_cap)),
            falling=True,
            lopsided=True,
        ),
        Role.GRAD_NORM: Tuning(floor=float(np.log1p(s.grad_floor)), k=s.grad_k, falling=True),
        Role.STEP_TIME: time,
        Role.THROUGHPUT: replace(time, sign=-1),
        Role.DATA_TIME: time,
    }


def cut(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Blocks in order → rounds of pieces, at most one piece per run in each."""
    waiting: dict[str, deque[Block]] = {}
    for block in blocks:
        if block.row.size:
            waiting.setdefault(block.run, deque()).append(block)
    begun: dict[str, int] = {}  # rows of the first waiting block that were taken
    while waiting:
        taken: list[Block] = []
        room = ROUND
        for run in list(waiting):
            block, low = waiting[run][0], begun.pop(run, 0)
            high = low + max(1, min(PIECE, room // max(1, len(block.columns))))
            if high < block.row.size:
                begun[run] = high
            else:
                waiting[run].popleft()
                if not waiting[run]:
                    del waiting[run]
            piece = block if low == 0 and high >= block.row.size else _rows(block, low, high)
            taken.append(piece)
            room -= piece.row.size * len(piece.columns)
            if room <= 0:
                break
        yield taken


def split(block: Block, rows: int) -> tuple[Block, Block]:
    """The first `rows` rows and the rest."""
    return _rows(block, 0, rows), _rows(block, rows, block.row.size)


def parts(block: Block, at: Sequence[int]) -> list[Block]:
    """The block, cut before each of these positions."""
    marks = [0, *at, block.row.size]
    return [_rows(block, low, high) for low, high in pairwise(marks) if low < high]


def _rows(block: Block, low: int, high: int) -> Block:
    columns = []
    for c in block.columns:
        a, b = np.searchsorted(c.index, (low, high))
        if a < b:
            columns.append(Column(c.metric, c.role, c.primary, c.index[a:b] - low, c.values[a:b]))
    return replace(
        block, columns=tuple(columns), row=block.row[low:high], step=block.step[low:high], t=block.t[low:high]
    )


@dataclass(slots=True)
class Scorer:
    """Turns pieces into rounds over one bank."""

    bank: Bank
    runs: dict[str, Run]
    tuning: dict[Role, Tuning]
    serial: int = 0

    def score(self, pieces: Sequence[Block]) -> Iterator[Round]:
        """Score pieces of distinct runs; more than one round where a loss changes its scale."""
        todo = list(pieces)
        while todo:
            raw, counters = self._gather(todo)
            rest = self._change_scale(raw)
            if rest:
                # Rows before the change go first, the rest of these runs in the next round.
                short = [split(p, rest[p.run])[0] if p.run in rest else p for p in todo]
                raw, counters = self._gather(short)
                yield self._round(short, raw, counters)
                todo = [split(p, rest[p.run])[1] for p in todo if p.run in rest]
            else:
                yield self._round(todo, raw, counters)
                todo = []

    def _gather(self, pieces: Sequence[Block]) -> tuple[list[Segment], list[Segment]]:
        """The columns to score, those of a role side by side, and the counters."""
        by_role: dict[Role, list[Segment]] = {role: [] for role in SCORED}
        counters: list[Segment] = []
        for block in pieces:
            run = self.runs[block.run]
            for c in block.columns:
                if not c.index.size or not (c.role in by_role or c.role in COUNTERS):
                    continue
                track = run.tracks.get(c.metric)
                if track is None:
                    slot = self.bank.add(self.tuning[c.role]) if c.role in by_role else -1
                    track = Track(c.metric, c.role, c.primary, slot, int(block.row[c.index[0]]))
                    run.tracks[c.metric] = track
                (by_role.get(track.role, counters)).append(Segment(track, run, block, c.index, c.values))
        return [segment for role in SCORED for segment in by_role[role]], counters

    def _change_scale(self, raw: Sequence[Segment]) -> dict[str, int]:
        """Move losses whose scale changes at row 0; run → rows to take before another one has to."""
        rest: dict[str, int] = {}
        for x in raw:
            if x.track.role is not Role.LOSS:
                break
            i = self._next_change(x)
            if i >= 0 and x.index[i] == 0:
                self.bank.sign_scale(x.track.slot, float(x.values[i]))
                i = self._next_change(x, done=True)
            if i >= 0:
                rest[x.block.run] = min(int(x.index[i]), rest.get(x.block.run, PIECE))
        return rest

    def _next_change(self, x: Segment, *, done: bool = False) -> int:
        """Position of the value before which a loss changes its scale, -1: none. done: the one at row 0 was made.

        The first value that is not positive does it, and then the 33rd and the 257th: the unit is better known there.
        """
        count = int(self.bank.count[x.track.slot]) + done
        signed = self.bank.unit[x.track.slot] > 0
        if count > WINDOW if signed else x.values.min() > 0:
            return -1
        finite = np.flatnonzero(np.isfinite(x.values))
        mark = REFRESH if count <= REFRESH else WINDOW
        at = finite[mark - count + done :] if signed else finite[x.values[finite] <= 0]
        return int(at[0]) if at.size else -1

    def _round(self, pieces: Sequence[Block], raw: Sequence[Segment], counters: Sequence[Segment]) -> Round:
        self.serial += 1
        length = np.fromiter((x.values.size for x in raw), np.int64, len(raw))
        values = np.concatenate([x.values for x in raw]) if raw else np.zeros(0)
        finite = np.isfinite(values)
        segments: Sequence[Segment] = raw
        bad: list[int] = []
        if not finite.all():
            start = np.cumsum(length) - length
            count = np.add.reduceat(finite.astype(np.int64), start)
            bad = [int(i) for i in np.flatnonzero(count < length)]
            kept = list(raw)
            for i in bad:
                ok = finite[start[i] : start[i] + length[i]]
                kept[i] = replace(raw[i], index=raw[i].index[ok], values=raw[i].values[ok])
            for i, x in enumerate(raw):
                x.track.raw, x.track.segment, x.track.round = i, -1, self.serial
            segments = [x for x in kept if x.values.size]
            values, length = values[finite], count[count > 0]
        else:
            for i, x in enumerate(raw):
                x.track.raw = i
        spans: dict[Role, tuple[int, int]] = {}
        for i, x in enumerate(segments):
            x.track.segment, x.track.round = i, self.serial
            spans[x.track.role] = (spans.get(x.track.role, (i, i))[0], i + 1)
        slot = np.fromiter((x.track.slot for x in segments), np.int64, len(segments))
        return Round(
            serial=self.serial, bank=self.bank, runs=self.runs, pieces={p.run: p for p in pieces}, segments=segments,
            spans=spans, scores=self.bank.score(slot, length, values), raw=raw, bad=bad, counters=counters,
        )  # fmt: skip
