"""`test-page`: through the running daemon, or directly where none answers."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from monitor.cli.say import FAILED, MISUSED, OK, fail, plain
from monitor.config import Config, ConfigError, default, load
from monitor.control import ControlError, NoDaemonError, ask
from monitor.verbs import rehearse, troubled

_STATE_DIR = Path("/var/lib/runwarden")


def test_page(path: Path | None, state_dir: Path | None) -> int:
    """Exercise every sink. Secrets are read only where no daemon answers."""
    try:
        socket = (state_dir or Path(os.environ.get("STATE_DIRECTORY", _STATE_DIR))) / "control.sock"
        if path is not None:
            socket = load(path, os.environ, secrets=False).control_socket
        said = asyncio.run(_through(socket))
        if said is None and state_dir is not None:
            return fail(f"no daemon answers on {socket}", FAILED)
        if said is None:
            config = default([Path.cwd()], os.environ) if path is None else load(path, os.environ)
            names = ", ".join(config.sinks.sections)
            print(f"runwarden: no daemon answers on {socket}: directly to {names}", file=sys.stderr, flush=True)
            if path is None and "slack" not in config.sinks.sections:
                print("runwarden: for Slack set SLACK_BOT_TOKEN and SLACK_CHANNEL, or --config FILE", file=sys.stderr)
            said = asyncio.run(_directly(config))
    except ConfigError as e:
        print(e, file=sys.stderr)
        return MISUSED
    except ControlError as e:
        return fail(e, FAILED)
    print("\n".join(map(plain, said.splitlines())))
    return FAILED if troubled(said) else OK


async def _through(socket: Path) -> str | None:
    """What the daemon says; None where there is none."""
    try:
        return await ask(socket, "test-page", "all")
    except NoDaemonError:
        return None


async def _directly(config: Config) -> str:
    from monitor.wiring import sinks_of  # noqa: PLC0415, only where no daemon answers

    outlets = sinks_of(config)
    try:
        return "\n".join([await rehearse(sink) for sink in outlets])
    finally:
        for sink in outlets:
            await sink.close()
