"""A source that hangs does not hold up the stop."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from log_rig import append, row

from monitor.sources.files.aside import aside
from monitor.sources.files.source import FileSource


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_poll_that_hangs_is_left_behind_and_lets_go_of_its_files_when_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(tmp_path / "t.jsonl", row(0))
    append(tmp_path / "sub" / "u.jsonl", row(0))
    hangs, goes_on, dead = threading.Event(), threading.Event(), False
    real = os.scandir

    def scandir(path: Any) -> Any:
        if dead and str(path).endswith("sub"):
            hangs.set()
            goes_on.wait(30)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    before = _descriptors()

    async def main() -> int:
        nonlocal dead
        clock = iter(float(i) for i in range(100))
        source = FileSource("files", [str(tmp_path)], poll_s=0.0, clock=lambda: next(clock))
        stream = source.batches({})
        rows = sum(len(f.row) for f in (await anext(stream)).frames)
        dead = True
        waiting = asyncio.ensure_future(anext(stream))
        assert await asyncio.to_thread(hangs.wait, 30)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(waiting, 30)
        assert not goes_on.is_set()
        return rows

    try:
        assert asyncio.run(main()) == 2
        assert _descriptors() > before
    finally:
        goes_on.set()
    for thread in threading.enumerate():
        if thread.name == "files":
            assert thread.daemon
            thread.join(30)
    assert _descriptors() == before


def test_what_a_call_aside_raises_is_raised_where_it_is_awaited() -> None:
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(aside(fail))
