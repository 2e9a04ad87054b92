"""What every source in the registry promises: each row once, trouble told as its own, an end at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from worlds import WORLDS, World, within

from detectors import Suite
from detectors.types import Origin
from monitor.engine import Engine, EngineSettings
from monitor.errors import PermanentError, TransientError
from monitor.frame import Batch, Status
from monitor.incidents import Book
from monitor.sources import REGISTRY

ROWS = [(step, 4.0 - step / 32) for step in range(40)]
END_WITHIN_S = 5.0


@dataclass
class Reading:
    """All that was read and committed over the lives of several processes. row: its number, step, loss and origin."""

    cursors: dict[str, str] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    async def follow(self, world: World, *, lose: int | None = None) -> None:
        """One process: reads until nothing more comes; dies before it commits batch number `lose` that has rows."""
        source, heads = world.source(), 0
        try:
            async with contextlib.aclosing(source.batches(dict(self.cursors))) as batches:
                async for batch in batches:
                    if batch.frames and lose is not None:
                        if not lose:
                            return
                        lose -= 1
                    self.batches.append(batch)
                    self.cursors |= batch.cursors
                    source.committed(batch)
                    if batch.status is Status.ERROR:
                        self.trouble.append(batch.detail)
                    over = batch.at_head or batch.status is Status.ERROR
                    heads = heads + 1 if over and not batch.frames and world.quiet else 0
                    if heads == 3:
                        return
        except (TransientError, PermanentError) as e:
            self.trouble.append(str(e))

    def runs(self) -> dict[str, list[tuple[int, int, float, Origin]]]:
        """(row, step, loss, origin) of each run by row number; row numbers are unique and ascend within a frame."""
        found: dict[str, list[tuple[int, int, float, Origin]]] = {}
        for frame in (f for batch in self.batches for f in batch.frames):
            assert (frame.row[1:] > frame.row[:-1]).all()
            loss = frame.values[:, frame.columns.index("loss")].tolist()
            rows = zip(frame.row.tolist(), frame.step.tolist(), loss, strict=True)
            found.setdefault(frame.run, []).extend((*r, frame.origin) for r in rows)
        for rows_ in found.values():
            rows_.sort()
            assert len({r[0] for r in rows_}) == len(rows_)
        return found

    def values(self, run: str) -> list[tuple[int, float]]:
        """(step, loss) of the only run whose name ends so."""
        mine = [rows for name, rows in self.runs().items() if name.endswith(run)]
        assert len(mine) <= 1
        return [(step, loss) for rows in mine for _, step, loss, _ in rows]


def pieces(rows: list[tuple[int, float]], rng: random.Random) -> Iterator[list[tuple[int, float]]]:
    at = 0
    while at < len(rows):
        n = rng.randint(1, 9)
        yield rows[at : at + n]
        at += n


def test_every_registered_source_is_under_contract() -> None:
    assert set(WORLDS) == set(REGISTRY)


@pytest.mark.parametrize("kind", WORLDS)
def test_rows_of_several_runs_come_once_and_in_order(kind: str, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        reading = Reading()
        for step, loss in ROWS:
            world.write("a", [(step, loss)])
            world.write("b", [(step, -loss)])
            if not step % 7:
                await reading.follow(world)
        await reading.follow(world)
        await reading.follow(world)
        assert reading.values("a") == ROWS
        assert reading.values("b") == [(step, -loss) for step, loss in ROWS]
        assert not reading.trouble

    within(kind, tmp_path, story)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", WORLDS)
def test_no_crash_and_no_cut_loses_or_repeats_a_row(kind: str, seed: int, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        rng, reading = random.Random(seed), Reading()
        for piece in pieces(ROWS, rng):
            world.write("a", piece)
            await reading.follow(world, lose=rng.choice((None, 0, 1)))
        await reading.follow(world)
        assert reading.values("a") == ROWS

    within(kind, tmp_path, story)


@pytest.mark.parametrize("kind", WORLDS)
def test_values_that_are_not_numbers_come_as_they_were_written(kind: str, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        reading = Reading()
        world.write("a", [(0, 1.0), (1, math.nan), (2, math.inf), (3, -math.inf), (4, 1e300), (5, 5e-324)])
        await reading.follow(world)
        found = [loss for _, loss in reading.values("a")]
        assert repr(found) == repr([1.0, math.nan, math.inf, -math.inf, 1e300, 5e-324])

    within(kind, tmp_path, story)


@pytest.mark.parametrize("kind", WORLDS)
def test_an_outage_is_told_as_our_own_and_loses_nothing(kind: str, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        reading = Reading()
        world.write("a", ROWS[:20])
        await reading.follow(world)
        world.fail()
        await reading.follow(world)
        assert reading.trouble
        assert reading.values("a") == ROWS[:20]
        reading.trouble.clear()
        world.mend()
        world.write("a", ROWS[20:])
        await reading.follow(world)
        assert reading.values("a") == ROWS
        assert not reading.trouble

    within(kind, tmp_path, story)


@pytest.mark.parametrize("kind", WORLDS)
def test_a_step_back_begins_an_attempt(kind: str, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        reading = Reading()
        world.write("a", ROWS[:20])
        await reading.follow(world)
        world.write("a", ROWS[10:30])
        await reading.follow(world)
        assert reading.values("a") == [*ROWS[:20], *ROWS[10:30]]
        engine = Engine(Suite(), Book(), EngineSettings())
        starts = [a for batch in reading.batches for a in engine.step(batch).attempts]
        assert [a.attempt for a in starts] == [0, 1]

    within(kind, tmp_path, story)


@pytest.mark.parametrize("kind", WORLDS)
def test_what_came_while_we_were_down_is_no_history(kind: str, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        reading = Reading()
        world.write("a", ROWS[:10])
        await reading.follow(world)
        world.write("a", ROWS[10:20])
        await reading.follow(world)
        (rows,) = reading.runs().values()
        assert len(rows) == 20
        assert Origin.HISTORY not in {origin for *_, origin in rows[10:]}

    within(kind, tmp_path, story)


@pytest.mark.parametrize("kind", WORLDS)
def test_a_long_log_comes_in_bounded_batches(kind: str, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        reading = Reading()
        world.write("a", [(step, 1.0) for step in range(world.flood)])
        await reading.follow(world)
        sizes = [sum(f.row.size for f in batch.frames) for batch in reading.batches]
        assert sum(sizes) == world.flood
        assert max(sizes) < world.flood

    within(kind, tmp_path, story)


def others(tasks: Iterable[asyncio.Task[object]]) -> set[asyncio.Task[object]]:
    return {t for t in tasks if t is not asyncio.current_task()}


# A peer that connects while a server closes leaves asyncio a transport that only the garbage collector closes.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", WORLDS)
def test_it_ends_at_any_await_and_leaves_nothing_running(kind: str, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        reading = Reading()
        world.write("a", ROWS[:20])
        before = others(asyncio.all_tasks())
        for passes in range(60):
            follow = asyncio.ensure_future(reading.follow(world))
            for _ in range(passes):
                await asyncio.sleep(0)
            follow.cancel()
            await asyncio.wait_for(asyncio.gather(follow, return_exceptions=True), END_WITHIN_S)
        world.write("a", ROWS[20:])
        await reading.follow(world)
        assert reading.values("a") == ROWS
        for _ in range(1000):  # the world's own server sees only now that its peers are gone
            if not (left := others(asyncio.all_tasks()) - before):
                break
            await asyncio.sleep(0)
        assert not left

    within(kind, tmp_path, story)


@pytest.mark.parametrize("kind", WORLDS)
def test_damaged_cursors_are_counted_and_never_fatal(kind: str, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        reading = Reading()
        world.write("a", ROWS)
        await reading.follow(world)
        damaged: Mapping[str, str] = {key: text[: len(text) // 2] + "\0" for key, text in reading.cursors.items()}
        again = Reading(cursors=dict(damaged))
        world.write("a", [(99, 9.0)])
        await again.follow(world)
        assert again.values("a")[-1] == (99, 9.0)
        assert not again.trouble

    within(kind, tmp_path, story)
