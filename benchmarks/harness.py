"""What the benchmarks share: the real daemon and a Slack double as processes, made-up rows, and tables.

Everything stays on loopback and in a temporary folder. Every process is ended by the object that started it. Waits are
bounded by LIMIT_S. `python -m benchmarks.harness 0` serves the double alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ROOT: Final = Path(__file__).resolve().parent.parent
LIMIT_S: Final = 60.0
METRICS: Final = (
    "loss", "grad_norm", "learning_rate", "step_time", "data_time",
    "tokens_per_second", "accuracy", "perplexity", "memory_gib", "weight_norm",
)  # fmt: skip
LOSS, GRAD_NORM, STEP_TIME, DATA_TIME = (METRICS.index(m) for m in ("loss", "grad_norm", "step_time", "data_time"))

_CONFIG = """\
state_dir: {folder}/state
sources:
  - files: {{paths: ["{folder}/runs"]}}
sinks:
{sinks}
web: {{listen: "127.0.0.1:0"}}
metrics: {{listen: "127.0.0.1:0"}}
{more}
"""
TERMINAL: Final = "  terminal: {}"


class Daemon:
    """The real daemon over `folder`: it watches `runs`, keeps `state`, and can be killed and started again."""

    def __init__(self, folder: Path, sinks: str, more: str = "") -> None:
        """sinks: the YAML below `sinks:`. more: other sections of the configuration."""
        self.runs = folder / "runs"
        self.runs.mkdir(parents=True)
        self.database = folder / "state" / "state.db"
        self._config = folder / "daemon.yaml"
        self._config.write_text(_CONFIG.format(folder=folder, sinks=sinks, more=more))
        self._log = (folder / "daemon.log").open("ab")
        self._ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ready.bind(str(folder / "notify"))
        self._ready.settimeout(0.05)
        self._environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "NOTIFY_SOCKET": str(folder / "notify")}
        self._environ |= {"SLACK_DOUBLE_TOKEN": "xoxb-double", "NO_KEY": "none"}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        assert self._process is not None
        return self._process.pid

    def start(self, program: Sequence[str] = ("-m", "monitor", "run", "--config")) -> float:
        """Start it; the seconds until it said READY. program: Python's arguments before the configuration."""
        began = time.monotonic()
        command = [sys.executable, *program, str(self._config)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=self._environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._log
        )
        while time.monotonic() < began + LIMIT_S:
            try:
                if b"READY=1" in self._ready.recv(4096):
                    return time.monotonic() - began
            except TimeoutError:
                self.check()
        raise TimeoutError(f"not ready after {LIMIT_S:g} s: see {self._log.name}")

    def check(self) -> None:
        """RuntimeError if it ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            said = Path(self._log.name).read_text(errors="replace")[-2000:]
            raise RuntimeError(f"the daemon ended with {self._process.returncode}:\n{said}")

    def kill(self) -> None:
        """SIGKILL, no chance to do anything."""
        self.check()
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM, as systemd would; the exit code."""
        return self._end(signal.SIGTERM)

    def close(self) -> None:
        """End it whatever its state."""
        if self._process is not None and self._process.poll() is None:
            self._end(signal.SIGKILL)
        self._ready.close()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, query: str) -> list[Any]:
        """Rows of a query on its state, read-only; none while there is no state yet."""
        try:
            db = sqlite3.connect(f"{self.database.as_uri()}?mode=ro", uri=True, timeout=5.0)
        except sqlite3.OperationalError:
            return []
        try:
            return db.execute(query).fetchall()
        except sqlite3.OperationalError:  # between the file and its tables
            return []
        finally:
            db.close()

    def rows_seen(self) -> dict[str, int]:
        """Run → how many of its rows are committed."""
        return {run: json.loads(facts)["rows"] for run, facts in self.ask("SELECT run, facts FROM runs")}

    def _end(self, sign: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(sign)
        return self._process.wait(timeout=LIMIT_S)


class Slack:
    """The Slack double as a process; its messages carry `posted_t` (monotonic seconds) beside what Slack keeps."""

    def __init__(self, think_s: float = 0.0) -> None:
        """think_s: how long it takes to answer after it has done what was asked."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.harness", str(think_s)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        told = json.loads(self._process.stdout.readline())
        self._url, self._token, self._channel = told["base_url"], told["token"], told["channel"]

    @property
    def sink(self) -> str:
        """Its part of the daemon's configuration."""
        return f'  slack: {{channel: {self._channel}, token: {{env: SLACK_DOUBLE_TOKEN}}, base_url: "{self._url}"}}'

    def messages(self) -> list[dict[str, Any]]:
        """All top-level messages, newest first."""
        return self._all("conversations.history")

    def newest(self) -> list[dict[str, Any]]:
        """The last hundred top-level messages, newest first."""
        return list(self._call("conversations.history", limit=100)["messages"])

    def replies(self, ts: str) -> list[dict[str, Any]]:
        """The thread of a message without itself, oldest first."""
        return [m for m in self._all("conversations.replies", ts=ts) if m["ts"] != ts]

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(timeout=LIMIT_S)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _all(self, method: str, **arguments: str | int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            answer = self._call(method, limit=999, cursor=cursor, **arguments)
            found += answer["messages"]
            cursor = answer.get("response_metadata", {}).get("next_cursor", "")
            if not cursor:
                return found

    def _call(self, method: str, **arguments: str | int) -> dict[str, Any]:
        query = {"channel": self._channel, "include_all_metadata": "true", **arguments}
        request = urllib.request.Request(
            f"{self._url}{method}?{urllib.parse.urlencode(query)}", headers={"Authorization": f"Bearer {self._token}"}
        )
        with urllib.request.urlopen(request, timeout=LIMIT_S) as response:
            answer: dict[str, Any] = json.load(response)
        if not answer["ok"]:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer


def values(seed: int, run: int, first: int, count: int) -> Floats:
    """count rows × METRICS of a healthy run from row `first` on, loss falling; a function of its arguments alone.

    first and count: multiples of BLOCK.
    """
    return np.concatenate([_block(seed, run, at) for at in range(first, first + count, BLOCK)])


BLOCK: Final = 256


def _block(seed: int, run: int, first: int) -> Floats:
    noise = np.random.default_rng((seed, run, first)).standard_normal((BLOCK, len(METRICS)))
    row = first + np.arange(BLOCK)
    loss = (2.0 + 2.0 / np.sqrt(1.0 + row / 500.0)) * np.exp(0.01 * noise[:, 0])
    step_time = 0.5 * np.exp(0.01 * noise[:, 3])
    out = np.empty((BLOCK, len(METRICS)))
    out[:, 0], out[:, 7] = loss, np.exp(loss)
    out[:, 1] = np.exp(0.08 * noise[:, 1])
    out[:, 2] = 3e-4
    out[:, 3], out[:, 5] = step_time, 8192.0 / step_time
    out[:, 4] = 0.02 * np.exp(0.05 * noise[:, 4])
    out[:, 6] = 0.5 + 0.01 * noise[:, 6]
    out[:, 8] = 61.5
    out[:, 9] = 100.0 + 0.01 * row
    return out.round(6)


def line(first: int, t: float, row: Sequence[float]) -> bytes:
    """One row as a trainer logs it, non-finite values spelled as Python does."""
    record = {"step": first, "timestamp": round(t, 3), **dict(zip(METRICS, row, strict=False))}
    return json.dumps(record).encode() + b"\n"


def wait_for(condition: Callable[[], bool], what: str, limit_s: float = LIMIT_S, every_s: float = 0.05) -> None:
    """Look until it holds; TimeoutError after limit_s."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {limit_s:g} s")
        time.sleep(every_s)


def make_known(daemon: Daemon) -> None:
    """Let the daemon see its folder with one file, so that what appears later is news and not history."""
    (daemon.runs / "known.jsonl").write_bytes(line(0, time.time(), [2.0]))
    wait_for(lambda: bool(daemon.ask("SELECT 1 FROM cursors")), "first commit")


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A Markdown table."""
    cells = [[str(c) for c in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    print(f"\n{title}\n")
    for n, row in enumerate(cells):
        print("| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |")
        if n == 0:
            print("| " + " | ".join("-" * w for w in widths) + " |")
    sys.stdout.flush()


async def _serve(think_s: float) -> None:
    from aiohttp import web  # noqa: PLC0415

    from tests.doubles.slack import CHANNEL, SlackDouble  # noqa: PLC0415, only the process of the double needs it

    class Stamped(SlackDouble):
        """Notes when it accepted a message, and is slow to say so."""

        async def _api(self, request: web.Request) -> web.StreamResponse:
            answer = await super()._api(request)
            await asyncio.sleep(think_s)
            return answer

        def _post(self, arguments: dict[str, Any]) -> dict[str, Any]:
            answer = super()._post(arguments)
            answer["message"]["posted_t"] = time.monotonic()
            return answer

    double = Stamped()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await double.start()
    print(json.dumps({"base_url": double.base_url, "token": double.token, "channel": CHANNEL}), flush=True)
    await stop.wait()
    await double.stop()


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1])))
