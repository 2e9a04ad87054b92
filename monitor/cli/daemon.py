"""`watch`, `run` and `check`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from monitor.cli.say import FAILED, MISUSED, OK, fail, set_up_logging
from monitor.config import Config, ConfigError, default, load


def check(path: Path) -> int:
    """Every problem of a configuration on a line of its own."""
    try:
        load(path, os.environ)
    except ConfigError as e:
        print(e, file=sys.stderr)
        return MISUSED
    print(f"{path}: good")
    return OK


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
    """The daemon without a configuration."""
    missing = [p for p in paths if not Path(p).exists()]
    if missing:
        return fail(f"{missing[0]}: no such file or folder", MISUSED)
    try:
        config = default(paths, os.environ) if path is None else load(path, os.environ)
    except ConfigError as e:
        print(e, file=sys.stderr)
        return MISUSED
    if path is not None:
        config = config.model_copy(update={"sources": default(paths, os.environ).sources})
    set_up_logging("warning" if path is None else config.log.level, config.log.format)
    return _serve(config)


def _serve(config: Config) -> int:
    from monitor import wiring  # noqa: PLC0415, `check` needs none of it
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
        asyncio.run(wiring.run(config, started))
    except (StoreError, OSError) as e:
        return fail(e, FAILED)
    return OK
