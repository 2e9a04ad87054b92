"""Reads a W&B double for some polls at a time, over several lives of a process."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from doubles.wandb import ENTITY, KEY, PROJECT, WandbDouble

from detectors.types import Origin
from monitor.frame import Batch
from monitor.sources.wandb.source import Plan, WandbSource

Row = tuple[int, int, dict[str, float], Origin, int]


@dataclass
class Rig:
    """between: called before each poll but the first, with its number."""

    server: WandbDouble = field(default_factory=WandbDouble)
    options: dict[str, Any] = field(default_factory=dict)
    cursors: dict[str, str] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)
    between: Callable[[int], None] = lambda _: None

    def poll(self, polls: int = 1, *, until: int | None = None) -> list[Batch]:
        """The batches of `polls` polls, then the process dies; or the first `until` ones: it dies before the next."""
        return asyncio.run(self._poll(polls, until))

    async def _poll(self, polls: int, until: int | None) -> list[Batch]:
        came: list[Batch] = []
        done = 0

        async def sleep(seconds: float) -> None:
            nonlocal done
            done += 1
            self.server.pass_time(seconds)
            self.between(done)

        async with self.server.serve() as url:
            plan = Plan(**{"entity": ENTITY, "project": PROJECT, "key": KEY, "url": url} | self.options)
            source = WandbSource("wb", plan, now=self.server.clock, sleep=sleep)
            async with contextlib.aclosing(source.batches(dict(self.cursors))) as batches:
                async for batch in batches:
                    if until is not None and len(came) == until:
                        return came
                    came.append(batch)
                    self.batches.append(batch)
                    self.cursors |= batch.cursors
                    polls -= batch.at_head
                    if not polls and until is None:
                        return came
        raise AssertionError("the source ended")

    def rows(self, run: str = "wb/a", batches: list[Batch] | None = None) -> list[Row]:
        """(row, step, values, origin, generation), by row; their numbers are unique and leave none out."""
        found: list[Row] = []
        for f in (f for b in (self.batches if batches is None else batches) for f in b.frames if f.run == run):
            for i in range(f.row.size):
                values = dict(zip(f.columns, f.values[i].tolist(), strict=True))
                found.append((int(f.row[i]), int(f.step[i]), values, f.origin, f.generation))
        found.sort(key=lambda r: r[0])
        if batches is None:
            assert [r[0] for r in found] == list(range(len(found)))
        return found

    def values(self, column: str = "loss", run: str = "wb/a") -> list[tuple[int, float]]:
        return [(step, values[column]) for _, step, values, _, _ in self.rows(run) if column in values]

    def counts(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for batch in self.batches:
            for reason, many in batch.counts.items():
                total[reason] = total.get(reason, 0) + many
        return total

    def said(self, run: str = "wb/a") -> list[str]:
        return [line.text for b in self.batches for line in b.lines if line.run == run]


def failing(status: int = 502, *, when: Callable[[str, dict[str, Any]], bool] = lambda *_: True, **headers: str) -> Any:
    """An answer for the questions that `when` picks by operation and variables."""

    async def answer(operation: str, variables: dict[str, Any]) -> web.StreamResponse | None:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return web.Response(status=status, headers=named) if when(operation, variables) else None

    return answer


def about(run: str) -> Callable[[str, dict[str, Any]], bool]:
    """Picks the questions about the rows of a run, whatever else they are about."""
    return lambda operation, variables: operation == "Rows" and run in variables.values()


def same(found: float, wanted: float) -> bool:
    return found == wanted or (math.isnan(found) and math.isnan(wanted))
