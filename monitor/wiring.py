"""The composition root: the only module that names concrete classes."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from aiohttp.web import AppRunner

import sinks
from detectors import Suite
from monitor import control, notify, rebuild, sources
from monitor.account import Account
from monitor.config import Config
from monitor.deliveries import Deliveries
from monitor.engine import Engine, EngineSettings
from monitor.explain import Explainer, Patience
from monitor.frame import Batch, Source
from monitor.incidents import Book
from monitor.ledger import Ledger
from monitor.metrics import Metrics
from monitor.outbox import Worker
from monitor.ports import Analyst, Sink
from monitor.reader import Reader
from monitor.runtime import Daemon, Retention
from monitor.sources.files.cursor import Cursor
from monitor.state import State
from monitor.status import StatusView
from monitor.store import Store, StoreError
from monitor.verbs import verbs
from monitor.web.app import metrics_app, serve, status_app
from monitor.web.view import Readiness

log = logging.getLogger(__name__)

# The page waits this long for the built-in diagnosis, which takes milliseconds, should its task be lost in a crash.
BUILT_IN_HOLD_S = 2.0
RECALLED = 500
"""Rows by which the columns of a run are known again after a start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the daemon answers; "" where it does not."""

    status: str = ""
    metrics: str = ""


def new_engine(max_page_age_s: float) -> Engine:
    """The core without any state."""
    return Engine(Suite(), Book(), EngineSettings(max_page_age_s=max_page_age_s))


def source_of(config: Config) -> list[Source]:
    """The configured sources."""
    return [source for item in config.sources for source in sources.create(item.kind, item.section)]


def sinks_of(config: Config) -> list[Sink]:
    """The configured sinks."""
    return [sinks.create(name, section) for name, section in config.sinks.sections.items()]


def analyst_of(config: Config) -> Analyst | None:
    """The configured model."""
    claude = config.analysis.claude
    if claude is None:
        return None
    from monitor.analysis.claude import ClaudeAnalyst  # noqa: PLC0415, only what is configured is loaded

    return ClaudeAnalyst(
        api_key=claude.api_key.get_secret_value(),
        model=claude.model,
        fallback_models=claude.fallback_models,
        base_url=claude.base_url,
        timeout_s=config.analysis.timeout_s,
    )


def open_ledger(config: Config, sink_names: Sequence[str], hold_s: float) -> tuple[Ledger, dict[str, dict[str, str]]]:
    """The state of the last process, brought back to memory. StoreError if it cannot be used."""
    try:
        config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as e:
        raise StoreError(
            f"{config.state_dir}: cannot be made ({e.strerror}); set state_dir to a folder of yours"
        ) from e
    store = Store(config.state_dir / "state.db")
    settings = EngineSettings(max_page_age_s=config.detection.max_page_age_s)
    try:
        return _restored(store, settings, sink_names, hold_s)
    except BaseException as e:
        store.close()
        if isinstance(e, (sqlite3.DatabaseError, ValueError)):
            why = f"{store.path}: the state database is damaged ({e}); move it away to start afresh"
            raise StoreError(why) from e
        raise


def _restored(
    store: Store, settings: EngineSettings, sink_names: Sequence[str], hold_s: float
) -> tuple[Ledger, dict[str, dict[str, str]]]:
    restored = store.restore(settings.max_runs)
    book = Book()
    book.restore(restored.incidents)
    engine = Engine(Suite(), book, settings)
    rebuild.restore(engine, store, restored.snapshots, lambda: notify.notify(os.environ, notify.PATIENCE))
    ledger = Ledger(engine, store, sink_names, hold_s)
    ledger.reopen()
    return ledger, {k: dict(v) for k, v in restored.cursors.items()}


class _Heard:
    """A source, with somebody who hears of each batch once it is committed. Fulfils `monitor.frame.Source`."""

    def __init__(self, source: Source, heard: Callable[[Batch], None]) -> None:
        self.name, self.batches = source.name, source.batches
        self._source, self._heard = source, heard

    def committed(self, batch: Batch) -> None:
        """Both are told."""
        self._source.committed(batch)
        self._heard(batch)


def _places(cursors: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """File and format of each run that the positions in files know."""
    known = [cursor for cursor in map(Cursor.loads, cursors.values()) if cursor is not None]
    return {run: (c.path, c.format) for c in known for run in (c.run, *c.runs)}


def _account(reader: Reader, cursors: Mapping[str, Mapping[str, str]]) -> Account:
    """An account that knows of the runs of an earlier process, the newest first."""
    account = Account(_places)
    runs = sorted(reader.runs(), key=lambda run: run[2]["seen"], reverse=True)
    for name, source, facts in runs:
        if source in cursors and not facts["finished"]:
            last = facts["last_row"]
            account.recall(name, source, facts["rows"], partial(reader.window, name, max(0, last - RECALLED), last))
    for positions in cursors.values():
        account.locate(positions)
    return account


async def run(
    config: Config,
    started: Callable[[Addresses], None] = lambda _: None,
    say: Callable[[list[str]], None] | None = None,
) -> None:
    """The daemon, until SIGTERM or SIGINT. StoreError, OSError (an address in use) at the start.

    say: hears what was understood of the runs, in lines.
    """
    outlets = sinks_of(config)
    analyst = analyst_of(config)
    hold_s = config.analysis.hold_s if analyst else BUILT_IN_HOLD_S
    ledger, cursors = open_ledger(config, [s.name for s in outlets], hold_s)
    state = State(ledger, Reader(config.state_dir / "state.db"))
    metrics = Metrics()
    explainer = Explainer(
        state, analyst, Patience(hold_s=config.analysis.hold_s, timeout_s=config.analysis.timeout_s), metrics
    )
    feeds = source_of(config)
    if say is not None:
        account = _account(state.reader, cursors)
        feeds = [_Heard(source, lambda batch: say(account.take(batch))) for source in feeds]
    async with _services(config, state, metrics, outlets, explainer, feeds, cursors) as (daemon, addresses):
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, daemon.stop)
        notify.notify(os.environ, notify.READY, notify.status(f"watching {len(config.sources)} source(s)"))
        started(addresses)
        try:
            await daemon.run(notify.watchdog_interval_s(os.environ, os.getpid()))
        finally:
            notify.notify(os.environ, notify.STOPPING)
            for sink in outlets:
                await sink.close()
            if analyst is not None:
                await analyst.close()


@asynccontextmanager
async def _services(
    config: Config,
    state: State,
    metrics: Metrics,
    outlets: Sequence[Sink],
    explainer: Explainer,
    feeds: Sequence[Source],
    cursors: dict[str, dict[str, str]],
) -> AsyncIterator[tuple[Daemon, Addresses]]:
    base: list[str] = []
    usual = config.state_dir == Config.model_fields["state_dir"].default
    command = "runwarden incidents" + ("" if usual else f" --state-dir {shlex.quote(str(config.state_dir))}")
    charts = config.state_dir / "charts"
    charts.mkdir(mode=0o700, exist_ok=True)
    deliveries = Deliveries(
        state, metrics, charts, lambda i: f"{base[0]}/incidents/{i}" if base else "", time.time, command
    )
    workers = [Worker(sink, deliveries, time.time) for sink in outlets]
    retention = Retention(days=config.store.retain_days, max_gib=config.store.max_gib)
    daemon = Daemon(
        state=state,
        explainer=explainer,
        sources=feeds,
        workers=workers,
        metrics=metrics,
        retention=retention,
        cursors=cursors,
    )
    explainer.wake = daemon.wake
    runners: list[AppRunner] = []
    try:
        view = StatusView(state, time.time, lambda: list(daemon.health.trouble))
        status = metrics_url = ""
        if config.web.listen is not None:
            runner, status = await serve(status_app(view, lambda: _ready(daemon)), config.web.listen)
            runners.append(runner)
            base.append(status)
        if config.metrics.listen is not None:
            runner, metrics_url = await serve(metrics_app(metrics, lambda: _ready(daemon)), config.metrics.listen)
            runners.append(runner)
        runners.append(
            await control.serve(config.control_socket, config.control.group, verbs(state, outlets, daemon.changed))
        )
        try:
            yield daemon, Addresses(status=status, metrics=metrics_url)
        finally:
            config.control_socket.unlink(missing_ok=True)  # ours by now
    finally:
        for runner in runners:
            await runner.cleanup()
        state.close()


def _ready(daemon: Daemon) -> Readiness:
    h = daemon.health
    reasons = [f"source {name}: {why}" for name, why in h.trouble.items()]
    reasons += [f"source {name}: not read yet" for name in daemon.source_names if name not in h.heard]
    if h.store:
        reasons.append(f"store: {h.store}")
    return Readiness(ready=not reasons, reasons=tuple(reasons))
