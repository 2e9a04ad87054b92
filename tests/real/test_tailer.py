"""The real daemon over files that do what they should not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from benchmarks.harness import TERMINAL, Daemon, line, make_known, wait_for

pytestmark = pytest.mark.real

_HANGING = """
import os, runpy, sys
real = os.scandir
def scandir(path="."):
    if os.path.exists(f"{path}/dead"):  # as on a mount whose server is gone: a system call that does not return
        os.open(f"{path}/dead", os.O_RDONLY)
    return real(path)
os.scandir = scandir
sys.argv = ["runwarden", "run", "--config", sys.argv[1]]
runpy.run_module("monitor", run_name="__main__")
"""


def test_a_daemon_whose_file_system_hangs_stops_within_five_seconds_and_commits_nothing_twice(tmp_path: Path) -> None:
    with Daemon(tmp_path, TERMINAL) as daemon:
        daemon.start(program=("-c", _HANGING))
        make_known(daemon)
        with (daemon.runs / "known.jsonl").open("ab") as out:
            out.write(line(1, time.time(), [2.0]) + line(2, time.time(), [2.0]))
        wait_for(lambda: daemon.rows_seen() == {"known": 3}, "rows")
        os.mkfifo(daemon.runs / "dead")  # a FIFO without a writer: to open it hangs for ever
        time.sleep(2.5)  # until the next scan is in it
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 5.0
        (daemon.runs / "dead").unlink()
        with (daemon.runs / "known.jsonl").open("ab") as out:
            out.write(line(3, time.time(), [2.0]))
        daemon.start()
        wait_for(lambda: daemon.rows_seen() == {"known": 4}, "rows after the stop")
        daemon.stop()
