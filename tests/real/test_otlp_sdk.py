"""The real OpenTelemetry SDK exports into the real daemon: each collection is a row, what it hides is a repetition."""

from __future__ import annotations

import contextlib
import math
import socket
import sqlite3
from pathlib import Path

import pytest
from servers import free_port, wait
from test_remote_write_senders import daemon
from test_writers import Writer

from monitor.reader import Reader

pytestmark = pytest.mark.real


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def values(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each metric of the run."""
    with contextlib.suppress(sqlite3.OperationalError, OSError):  # not there yet
        reader = Reader(folder / "state" / "state.db")
        try:
            window = reader.window("otlp/live", 0, 1 << 40)
        finally:
            reader.close()
        return {s.metric: list(zip(s.step.tolist(), s.values.tolist(), strict=True)) for s in window.series}
    return {}


def test_each_collection_is_a_row_and_a_repetition_is_none(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "c.yaml").write_text(
        f"state_dir: {tmp_path}/state\n"
        f"sources: [{{otlp: {{listen: '127.0.0.1:{port}', step_metric: trainer_step, join_s: 0.2,\n"
        """  queries: [{query: '{__name__=~"trainer_.*"}'}]}}]\n"""
        "sinks: {terminal: {}}\nweb: {listen: null}\nmetrics: {listen: null}\n"
    )
    with contextlib.ExitStack() as stack:
        with daemon(tmp_path):
            wait(lambda: listens(port), "the daemon")
            writer = Writer(tmp_path, "write_otlp.py", f"http://127.0.0.1:{port}/v1/metrics")
            stack.callback(writer.close)
            wait(lambda: "ten" in writer.said or writer.ended, "ten steps")
            assert "ten" in writer.said, writer.errors()
        with daemon(tmp_path):
            wait(lambda: listens(port), "the daemon")
            writer.go()
            wait(lambda: "end" in writer.said or writer.ended, "the end")
            assert "end" in writer.said, writer.errors()
            wait(lambda: len(values(tmp_path).get("trainer_tokens", ())) >= 20, "all rows")
    found = values(tmp_path)
    assert found["trainer_tokens"] == [(i, 100.0 * (i + 1)) for i in range(20)]
    # A gauge that is set to what is no finite number stays where it was: the SDK drops the value.
    shown = [6 if i in (7, 8) else i for i in range(20)]
    assert found["trainer_loss"] == [(i, 4 / (last + 1)) for i, last in enumerate(shown)]
    assert all(math.isfinite(x) for _, x in found["trainer_loss"])
