"""The ledger and the reader, each on a thread of its own, so that the event loop never waits for a disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from monitor.ledger import Ledger
from monitor.reader import Reader

P = ParamSpec("P")
T = TypeVar("T")


class State:
    """Access to what is stored, from the event loop."""

    def __init__(self, ledger: Ledger, reader: Reader) -> None:
        self.ledger = ledger
        self.reader = reader
        self._core = ThreadPoolExecutor(1, "core")
        self._reading = ThreadPoolExecutor(1, "reader")

    async def write(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of the ledger on its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._core, lambda: call(*args, **kwargs))

    async def read(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of the reader on its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._reading, lambda: call(*args, **kwargs))

    def close(self) -> None:
        """Wait for what is under way, then close the files."""
        self._core.shutdown()
        self._reading.shutdown()
        self.reader.close()
        self.ledger.close()
