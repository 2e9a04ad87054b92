"""Real senders push into the real daemon, which is stopped and killed in between: nothing lost, nothing doubled."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Exporter, free_port, running, tool, wait

from monitor.reader import Reader
from monitor.window import Window

pytestmark = pytest.mark.real

STOP_S = 5.0
ROOT = Path(__file__).parents[2]
SCRAPE = "global: {scrape_interval: 200ms}\nscrape_configs: [{job_name: train, static_configs: [{targets: ['%s']}]}]\n"
# Requests so small that every scrape is torn, over several connections.
QUEUE = "{max_samples_per_send: 2, min_shards: 3, max_shards: 3, batch_send_deadline: 100ms, max_backoff: 200ms}"


def prometheus(folder: Path, exporter: str, port: int) -> list[str]:
    write = f"remote_write: [{{url: 'http://127.0.0.1:{port}/api/v1/write', queue_config: {QUEUE}}}]\n"
    (folder / "prometheus.yml").write_text(SCRAPE % exporter + write)
    command = [tool("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    return [*command, f"--web.listen-address=127.0.0.1:{free_port()}"]


def vmagent(folder: Path, exporter: str, port: int) -> list[str]:
    (folder / "scrape.yml").write_text(SCRAPE % exporter)
    command = [tool("vmagent"), f"-promscrape.config={folder}/scrape.yml", f"-remoteWrite.tmpDataPath={folder}/queue"]
    command += [f"-remoteWrite.url=http://127.0.0.1:{port}/api/v1/write", "-remoteWrite.flushInterval=200ms"]
    return [*command, "-remoteWrite.queues=1", f"-httpListenAddr=127.0.0.1:{free_port()}"]


@contextlib.contextmanager
def daemon(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "monitor", "run", "--config", str(folder / "c.yaml")]
    with running(command, folder / "daemon.log", env=dict(os.environ), cwd=ROOT) as process:
        yield process


def stored(folder: Path) -> Window:
    reader = Reader(folder / "state" / "state.db")
    try:
        return reader.window("remote_write/live", 0, 1 << 40)
    finally:
        reader.close()


def steps(folder: Path) -> list[int]:
    with contextlib.suppress(sqlite3.OperationalError, OSError):  # not there yet
        for series in stored(folder).series:
            if series.metric == "train_loss":
                return series.step.tolist()
    return []


@pytest.mark.parametrize("sender", [prometheus, vmagent])
def test_a_sender_loses_and_doubles_nothing_while_the_daemon_is_stopped_and_killed(tmp_path: Path, sender) -> None:
    port = free_port()
    (tmp_path / "c.yaml").write_text(
        f"state_dir: {tmp_path}/state\n"
        f"sources: [{{remote_write: {{listen: '127.0.0.1:{port}', step_metric: train_step, join_s: 0.5,\n"
        """  queries: [{query: '{__name__=~"train_.*"}'}]}}]\n"""
        "sinks: {terminal: {}}\nweb: {listen: null}\nmetrics: {listen: null}\n"
    )
    exporter = Exporter()
    try:
        with running(sender(tmp_path, exporter.address, port), tmp_path / "sender.log", end=signal.SIGKILL):
            with daemon(tmp_path) as process:
                wait(lambda: len(steps(tmp_path)) >= 10, "ten rows")
                asked = time.monotonic()
            assert (process.returncode, time.monotonic() - asked < STOP_S) == (0, True)
            wait(lambda: exporter.scrapes >= steps(tmp_path)[-1] + 5, "scrapes while we are down")
            for kills in range(3):
                with daemon(tmp_path) as process:
                    before = len(steps(tmp_path))
                    wait(lambda: len(steps(tmp_path)) >= before + 7, f"rows after {kills} kills")  # noqa: B023
                    process.kill()
            with daemon(tmp_path):
                end = exporter.scrapes
                wait(lambda: steps(tmp_path)[-1] > end, "everything")
                wait(lambda: steps(tmp_path)[-1] > end + 5, "a little more")
        found = {s.metric: s for s in stored(tmp_path).series}
        loss, lr = found["train_loss"], found["train_lr"]
        assert loss.step.tolist() == list(range(1, len(loss.step) + 1))
        assert loss.values.tolist() == [1 / n for n in loss.step]
        assert abs(len(lr.values) - len(loss.values)) <= 1
        assert (loss.row[1:] > loss.row[:-1]).all()
        assert (loss.t[1:] > loss.t[:-1]).all()
    finally:
        exporter.close()
