"""`test-page`: through the running daemon, or directly where none answers."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from monitor.cli.say import FAILED, MISUSED, OK, fail
from monitor.config import Config, ConfigError, default, load
from monitor.control import ControlError, NoDaemonError, ask
from monitor.verbs import rehearse, troubled

_STATE_DIR = Path("/var/lib/runwarden")


def test_page(path: Path | None, state_dir: Path | None) -> int:
    """Exercise every sink."""
    try:
        config = default([Path.cwd()], os.environ) if path is None else load(path, os.environ)
    except ConfigError as e:
        print(e, file=sys.stderr)
        return MISUSED
    socket = config.control_socket
    if path is None:
        socket = (state_dir or Path(os.environ.get("STATE_DIRECTORY", _STATE_DIR))) / "control.sock"
    try:
        said = asyncio.run(ask(socket, "test-page", "all"))
    except NoDaemonError as e:
        if state_dir is not None:
            return fail(e, FAILED)
        where = "by SLACK_BOT_TOKEN and SLACK_CHANNEL" if path is None else f"by {path}"
        print(f"runwarden: no daemon answers on {socket}: posting directly, {where}", file=sys.stderr)
        said = asyncio.run(_directly(config))
    except ControlError as e:
        return fail(e, FAILED)
    print(said)
    return FAILED if troubled(said) else OK


async def _directly(config: Config) -> str:
    from monitor.wiring import sinks_of  # noqa: PLC0415, only where no daemon answers

    outlets = sinks_of(config)
    try:
        return "\n".join([await rehearse(sink) for sink in outlets])
    finally:
        for sink in outlets:
            await sink.close()
