"""`watch` and `run`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from monitor.cli.say import FAILED, MISUSED, OK, fail, plain, set_up_logging
from monitor.config import Config, ConfigError, default, load


def run(path: Path) -> int:
    """The daemon."""
    try:
        config = load(path, os.environ)
    except ConfigError as e:
        print(e, file=sys.stderr)
        return MISUSED
    set_up_logging(config.log.level, config.log.format)
    return _serve(config)


def watch(paths: Sequence[str], path: Path | None) -> int:
    """The daemon without a configuration; it says what it understood of the runs."""
    for given in paths:
        try:
            Path(given).stat()
        except (OSError, ValueError) as e:
            why = "no such file or folder" if isinstance(e, FileNotFoundError) else getattr(e, "strerror", None) or e
            return fail(f"{given}: {why}", MISUSED)
    try:
        config = default(paths, os.environ) if path is None else load(path, os.environ)
        if path is not None:
            config = config.model_copy(update={"sources": default(paths, os.environ).sources})
    except ConfigError as e:
        print(e, file=sys.stderr)
        return MISUSED
    set_up_logging("warning" if path is None else config.log.level, config.log.format)
    return _serve(config, _say)


def _say(lines: list[str]) -> None:
    for line in lines:
        indent = line[: len(line) - len(line.lstrip())]
        print(f"runwarden: {indent}{plain(line)}", file=sys.stderr)


def _serve(config: Config, say: Callable[[list[str]], None] | None = None) -> int:
    from monitor import wiring  # noqa: PLC0415, a bad configuration needs none of it
    from monitor.store import StoreError  # noqa: PLC0415

    def started(addresses: wiring.Addresses) -> None:
        sinks = ", ".join(sorted(config.sinks.sections))
        print(f"runwarden: pages go to {sinks}; state in {config.state_dir}", file=sys.stderr)
        if addresses.status:
            print(f"runwarden: status page {addresses.status}", file=sys.stderr)
        if addresses.metrics:
            print(f"runwarden: metrics {addresses.metrics}/metrics", file=sys.stderr)
        sys.stderr.flush()

    try:
        asyncio.run(wiring.run(config, started, say))
    except (StoreError, OSError) as e:
        return fail(e, FAILED)
    return OK
