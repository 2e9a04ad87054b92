"""Foreign programs of the real tests, unpacked or installed: found, started on loopback, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

PATIENCE_S = 40.0
FOLDERS = {
    "prometheus": "PROMETHEUS_BIN",
    "promtool": "PROMETHEUS_BIN",
    "victoria-metrics": "VICTORIA_METRICS_BIN",
    "vmagent": "VICTORIA_METRICS_BIN",
}


def tool(name: str) -> str:
    """Where a program is; skips the test if it is nowhere."""
    variable = FOLDERS[name]
    folder = os.environ.get(variable)
    found = shutil.which(name, path=folder) if folder else shutil.which(name)
    if found is None:
        package = "prometheus" if variable == "PROMETHEUS_BIN" else "victoria-metrics"
        pytest.skip(f"{name} is neither on PATH nor in ${variable} (Debian: apt-get install {package})")
    return found


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextlib.contextmanager
def running(
    command: list[str], log: Path, *, end: signal.Signals = signal.SIGTERM, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """end: the signal that ends it."""
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, **options)
    try:
        yield process
    finally:
        process.send_signal(end)
        process.wait(20)


def wait(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(0.1)
    return found


class Exporter:
    """A trainer's /metrics in a thread of its own: every scrape is the next step."""

    def __init__(self) -> None:
        self.scrapes = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.address = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    async def _start(self) -> str:
        app = web.Application()
        app.add_routes([web.get("/metrics", self._metrics)])
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"127.0.0.1:{self._runner.addresses[0][1]}"

    async def _metrics(self, _: web.Request) -> web.Response:
        self.scrapes += 1
        return web.Response(
            text=f'train_loss{{run="live"}} {1 / self.scrapes!r}\n'
            f'train_step{{run="live"}} {self.scrapes}\ntrain_lr{{run="live"}} 0.5\n'
        )

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
