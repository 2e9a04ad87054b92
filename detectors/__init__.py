"""Detectors of what goes wrong in a training run: a library over arrays, without clock, files or network.

`Suite` runs all detectors of `REGISTRY` over one shared baseline. What it says is a function of the rows it was shown,
never of how they were cut into blocks or of when it was dumped and loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np

from detectors.baseline import Bank
from detectors.cadence import Cadence
from detectors.data_stall import DataStall
from detectors.divergence import Divergence
from detectors.grad_blowup import GradBlowup
from detectors.loss_spike import LossSpike
from detectors.nonfinite import Nonfinite
from detectors.plateau import Plateau
from detectors.rounds import Scorer, cut, parts, tunings
from detectors.scored import Round, Run, Track
from detectors.settings import Settings
from detectors.silence import Silence
from detectors.throughput import Throughput
from detectors.types import Block, Finding, Kind, Phase, Role

__all__ = ["REGISTRY", "Detector", "Idle", "Settings", "Suite"]


class Detector(Protocol):
    """One failure class. Its state of a run is JSON values, so that it survives a restart bit for bit."""

    def update(self, round_: Round) -> Iterator[Finding]:
        """Look at the rows of a round."""

    def restart(self, run: str, tracks: dict[str, Track], block: Block, reason: str) -> Iterator[Finding]:
        """End what is open for a reason: `block` begins anew."""

    def forget(self, run: str) -> None:
        """Drop what is known of a run."""

    def dump(self, run: str) -> object:
        """State of a run."""

    def load(self, run: str, state: Any) -> None:
        """Put back what `dump` gave."""


@runtime_checkable
class Idle(Protocol):
    """A detector that speaks when nothing comes."""

    def idle(self, now: float, runs: Collection[str] | None) -> Iterator[Finding]:
        """Look at the time since the last rows."""

    def finish(self, run: str) -> None:
        """Nothing more will come of this run."""


REGISTRY: Final[Mapping[Kind, Callable[[Settings], Detector]]] = {
    Kind.LOSS_SPIKE: LossSpike,
    Kind.DIVERGENCE: Divergence,
    Kind.NONFINITE: Nonfinite,
    Kind.PLATEAU: Plateau,
    Kind.GRAD_BLOWUP: GradBlowup,
    Kind.THROUGHPUT_DROP: Throughput,
    Kind.DATA_STALL: DataStall,
    Kind.SILENCE: Silence,
}

# What is known of these does not outlive a change of the cadence: see `Cadence`.
_LEARNT: Final = (Kind.LOSS_SPIKE, Kind.DIVERGENCE, Kind.GRAD_BLOWUP, Kind.PLATEAU)
_FORMAT: Final = b"RWD2"
_PHASES: Final = tuple(Phase)


class Suite:
    """All detectors over all runs."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._runs: dict[str, Run] = {}
        self._bank = Bank(self.settings.fresh_factor)
        self._scorer = Scorer(self._bank, self._runs, tunings(self.settings))
        self._detectors = {kind: build(self.settings) for kind, build in REGISTRY.items()}

    def update(self, blocks: Sequence[Block]) -> list[Finding]:
        """Look at rows: blocks of any runs, those of a run in order. Findings per run by row, then kind."""
        found: list[Finding] = []
        with np.errstate(over="ignore"):  # values can be any number, and a ratio may be infinite
            for pieces in cut([piece for block in blocks for piece in self._by_cadence(block)]):
                for block in pieces:
                    found.extend(self._enter(block))
                for round_ in self._scorer.score(pieces):
                    for detector in self._detectors.values():
                        found.extend(detector.update(round_))
        # A stable sort: what one detector says of one series at one row stays in order.
        found.sort(key=lambda f: (f.run, f.row, f.attempt, f.kind, f.key))
        return found

    def _by_cadence(self, block: Block) -> list[Block]:
        """The block in pieces, cut where its run begins to log less often."""
        if not block.row.size:
            return []
        run = self._runs.setdefault(block.run, Run(block.attempt))
        turns = run.cadence.turns(block.attempt, block.step)
        if not turns:
            return [block]
        run.turns.update(block.row[turns].tolist())
        return parts(block, turns)

    def _enter(self, block: Block) -> Iterator[Finding]:
        run = self._runs[block.run]
        if block.attempt > run.attempt:
            run.attempt = block.attempt
            for detector in self._detectors.values():
                yield from detector.restart(block.run, run.tracks, block, "attempt_ended")
            back = 0 <= int(block.step[0]) < run.step
            if back:  # training repeats itself from an earlier level: the level of later steps says nothing of it
                self._unlearn(run)
            for track in run.tracks.values():
                if track.slot >= 0:
                    self._bank.restart(track.slot, self.settings.fresh_rows)
            run.step = -1
        elif run.turns and int(block.row[0]) in run.turns:
            run.turns.remove(int(block.row[0]))
            for kind in _LEARNT:
                yield from self._detectors[kind].restart(block.run, run.tracks, block, "rebased")
            self._unlearn(run)
        run.step = max(run.step, int(block.step.max()))

    def _unlearn(self, run: Run) -> None:
        for track in run.tracks.values():
            if track.slot >= 0 and track.role in (Role.LOSS, Role.GRAD_NORM):
                self._bank.clear(track.slot)

    def idle(self, now: float, runs: Collection[str] | None = None) -> list[Finding]:
        """What the time says. now: Unix seconds; runs: those whose source can be read, None for all."""
        idle = [d for d in self._detectors.values() if isinstance(d, Idle)]
        return sorted((f for d in idle for f in d.idle(now, runs)), key=lambda f: (f.run, f.row, f.kind))

    def finish(self, run: str) -> None:
        """The run ended by itself: it can no longer fall silent."""
        for detector in self._detectors.values():
            if isinstance(detector, Idle):
                detector.finish(run)

    def forget(self, run: str) -> None:
        """Drop what is known of a run, if anything."""
        known = self._runs.pop(run, None)
        for track in known.tracks.values() if known else ():
            if track.slot >= 0:
                self._bank.drop(track.slot)
        for detector in self._detectors.values():
            detector.forget(run)

    def dump(self, run: str) -> bytes:
        """The whole state of a run. Raises KeyError if it is not known."""
        known = self._runs[run]
        blobs: list[bytes] = []
        tracks: list[object] = []
        for t in known.tracks.values():
            small, blob = self._bank.dump(t.slot) if t.slot >= 0 else ([], b"")
            tracks.append([t.metric, t.role, t.primary, t.first_row, small, len(blob)])
            blobs.append(blob)
        states = {kind.value: detector.dump(run) for kind, detector in self._detectors.items()}
        head = json.dumps(
            [known.attempt, known.step, asdict(known.cadence), tracks, states], separators=(",", ":")
        ).encode()
        return b"".join([_FORMAT, len(head).to_bytes(4, "little"), head, *blobs])

    def load(self, run: str, data: bytes) -> None:
        """Put back what `dump` gave, in place of what is known of the run. Raises ValueError for another format."""
        if data[:4] != _FORMAT:
            raise ValueError(f"detector state of {run!r} has an unknown format {data[:4]!r}")
        self.forget(run)
        size = int.from_bytes(data[4:8], "little")
        attempt, step, cadence, tracks, states = json.loads(data[8 : 8 + size])
        known = self._runs[run] = Run(attempt, step, Cadence(**cadence))
        at = 8 + size
        for metric, name, primary, first_row, small, length in tracks:
            role = Role(name)
            slot = -1
            if small:
                slot = self._bank.add(self._scorer.tuning[role])
                self._bank.load(slot, small, data[at : at + length])
            at += length
            known.tracks[metric] = Track(metric, role, primary, slot, first_row)
        for kind, detector in self._detectors.items():
            if kind.value in states:
                detector.load(run, states[kind.value])
