"""The real Trackio writes, renames and resumes runs while its database is read: each row once, as it was meant."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import wait
from test_writers import Writer

from monitor.frame import Frame
from monitor.sources.trackio.source import TrackioSource

pytestmark = pytest.mark.real


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    (tmp_path / "data").mkdir()
    made = Writer(tmp_path, "write_trackio.py", str(tmp_path / "data"))
    try:
        yield made
    finally:
        made.close()


def look(folder: Path, cursors: dict[str, str]) -> list[Frame]:
    """What a new process finds in one look."""

    async def main() -> list[Frame]:
        frames: list[Frame] = []
        async with contextlib.aclosing(TrackioSource("here", str(folder)).batches(dict(cursors))) as batches:
            async for batch in batches:
                assert not batch.detail
                frames += batch.frames
                cursors.update(batch.cursors)
                if batch.at_head:
                    return frames
        raise AssertionError

    return asyncio.run(main())


def test_each_row_comes_once_through_a_rename_and_a_resumption(tmp_path: Path, writer: Writer) -> None:
    cursors: dict[str, str] = {}
    frames: list[Frame] = []
    for said in ("first", "second", "end"):
        wait(lambda: said in writer.said or writer.ended, f"{said}: {writer.errors()}")  # noqa: B023
        assert said in writer.said, writer.errors()
        frames += look(tmp_path / "data", cursors)
        writer.go()
    rows = {
        run: sorted(
            (int(f.row[i]), int(f.step[i]), *f.values[i].tolist())
            for f in frames
            if f.run == run
            for i in range(f.row.size)
        )
        for run in {f.run for f in frames}
    }
    odd = {3: math.nan, 4: math.inf, 5: -math.inf}
    first = [(i, i, odd.get(i, 4 / (i + 1)), 1e-3) for i in range(10)]
    more = [(i, i + 10, 1.0, 1e-3) for i in range(10, 15)]
    assert repr(rows["here/demo/first"]) == repr(first)
    assert repr(rows["here/demo/second"]) == repr([*first, *more])
    assert {f.columns for f in frames} == {("train/loss", "optim/lr")}
    assert set(rows) == {"here/demo/first", "here/demo/second"}
