"""After trouble a source goes on from what was read, not from where the process began."""

# ruff: noqa: ASYNC110  a fake that records its calls is looked at between two turns of the loop

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from monitor.errors import TransientError
from monitor.frame import Batch
from monitor.runtime import Daemon, Retention


class Troubled:
    """Fails after its second batch, with a wait of no length."""

    name = "s"

    def __init__(self) -> None:
        self.began: list[dict[str, str]] = []

    async def batches(self, cursors: Mapping[str, str]) -> AsyncIterator[Batch]:
        self.began.append(dict(cursors))
        if len(self.began) == 3:
            await asyncio.Event().wait()
        yield Batch(source="s", t_recv=1.0, cursors={"a": f"{len(self.began)}"})
        yield Batch(source="s", t_recv=1.0, cursors={"b": f"{len(self.began)}"})
        raise TransientError("gone", retry_after_s=1e-6)


def test_a_source_goes_on_after_trouble_from_its_last_batch() -> None:
    async def main() -> list[dict[str, str]]:
        nothing: Any = None
        daemon = Daemon(
            state=nothing,
            explainer=nothing,
            sources=[],
            workers=[],
            metrics=nothing,
            retention=Retention(),
            cursors={"s": {"a": "0", "c": "0"}},
        )
        source = Troubled()
        task = asyncio.create_task(daemon._read(source))
        async with asyncio.timeout(5):
            while len(source.began) < 3:
                await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return source.began

    assert asyncio.run(main()) == [
        {"a": "0", "c": "0"},
        {"a": "1", "c": "0", "b": "1"},
        {"a": "2", "c": "0", "b": "2"},
    ]
