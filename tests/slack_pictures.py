"""Make the pictures of our Slack messages anew: the real daemon, a recorded run, a Slack double, the local renderer.

`python tests/slack_pictures.py [FOLDER]` writes slack-open-light.png and slack-resolved-dark.png to tests/golden/pages
and, where a folder is named, what was recorded and all pictures there. Not a test: the clock is real, so two runs
differ in times of day. Bounds: LIMIT_S for all of it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from blockkit import picture, render
from doubles.slack import CHANNEL, TOKEN, SlackDouble

from monitor.incident import Incident, Life
from monitor.reader import Reader

HOME = Path(__file__).parent
GOLDEN = HOME / "golden" / "pages"
RECORDING = HOME.parent / "benchmarks" / "recordings" / "12-bad-batch-202.jsonl.gz"
KEPT = {("open", False): "slack-open-light.png", ("resolved", True): "slack-resolved-dark.png"}
LIMIT_S = 120.0

_CONFIG = """\
state_dir: {folder}/state
sources:
  - files: {{paths: ["{folder}/runs"], name: trainings}}
sinks:
  slack: {{channel: {channel}, token: {{env: SLACK_BOT_TOKEN}}, base_url: "{url}"}}
web: {{listen: "127.0.0.1:0"}}
metrics: {{listen: "127.0.0.1:0"}}
log: {{level: warning}}
"""


class _Dated(SlackDouble):
    """A double whose messages carry the time of day, for the eye."""

    def _ts(self) -> str:
        return f"{time.time():.0f}.{next(self._count):06d}"


async def watch(folder: Path) -> dict[str, dict[str, Any]]:
    """What the channel holds when the page stands with its chart ("open"), and when all is said ("resolved")."""
    (folder / "runs").mkdir()
    config = folder / "config.yaml"
    async with _Dated() as double:
        config.write_text(_CONFIG.format(folder=folder, channel=CHANNEL, url=double.base_url))
        environ = {**os.environ, "SLACK_BOT_TOKEN": TOKEN}
        run = [sys.executable, "-m", "monitor", "run", "--config", str(config)]
        write = [
            sys.executable,
            "-m",
            "monitor.cli.demo_writer",
            str(RECORDING),
            str(folder / "runs" / "pico-7b.jsonl"),
        ]
        async with _process(run, environ) as daemon:
            await _until((folder / "state" / "control.sock").exists, daemon)
            async with _process(write, environ) as writer:
                reader = Reader(folder / "state" / "state.db")
                await _until(lambda: bool(_paged(reader)), daemon)
                writer.send_signal(signal.SIGSTOP)  # the fault goes on while the page is looked at
                await _until(lambda: _drawn(double) and _said(reader), daemon)
                shown = {"open": recorded(double)}
                writer.send_signal(signal.SIGCONT)
                await _until(lambda: _settled(reader), daemon)
                shown["resolved"] = recorded(double)
                reader.close()
    return shown


def recorded(double: SlackDouble) -> dict[str, Any]:
    """The channel as `blockkit` reads it."""
    files = {
        key: {"name": file["name"], "png": base64.b64encode(file["content"]).decode()}
        for key, file in double.files.items()
    }
    messages = double.messages()
    replies = {m["ts"]: double.replies(m["ts"]) for m in messages}
    return json.loads(json.dumps({"messages": messages, "replies": replies, "files": files}))


@contextlib.asynccontextmanager
async def _process(command: list[str], environ: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(*command, env=environ, cwd=HOME.parent)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), LIMIT_S / 6)


async def _until(condition: Callable[[], bool], daemon: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(LIMIT_S / 3):
        while not condition():
            if daemon.returncode is not None:
                raise SystemExit(f"the daemon ended with {daemon.returncode}")
            await asyncio.sleep(0.01)


def _paged(reader: Reader) -> list[Incident]:
    with contextlib.suppress(sqlite3.OperationalError):  # the daemon has not made its tables yet
        return [i for i in reader.incidents() if i.paged_row >= 0]
    return []


def _drawn(double: SlackDouble) -> bool:
    return any(b["type"] == "image" for m in double.messages() for b in m.get("blocks", ()))


def _said(reader: Reader) -> bool:
    """Explained, and all of it delivered."""
    return all(reader.answers(i.id, i.episode) for i in _paged(reader)) and not reader.deliveries()


def _settled(reader: Reader) -> bool:
    """Resolved, every prediction judged, everything delivered."""
    paged = _paged(reader)
    judged = all(outcome != "open" for i in paged for _, _, outcome, _ in reader.predictions(i.id))
    return judged and _said(reader) and all(i.state is Life.RESOLVED for i in paged)


def main() -> None:
    """Record, render, photograph."""
    keep = Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(prefix="runwarden-pictures-") as name:
        shown = asyncio.run(watch(Path(name)))
    for (moment, dark), file in KEPT.items():
        picture(render(shown[moment], dark=dark), GOLDEN / file)
    if keep is None:
        return
    keep.mkdir(parents=True, exist_ok=True)
    for moment, channel in shown.items():
        (keep / f"{moment}.json").write_text(json.dumps(channel, ensure_ascii=False, indent=1), encoding="utf-8")
        for theme in ("light", "dark"):
            picture(render(channel, dark=theme == "dark"), keep / f"{moment}-{theme}.png")


if __name__ == "__main__":
    main()
