"""systemd hears what it must, and its absence changes nothing."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from monitor.notify import READY, WATCHDOG, notify, status, watchdog_interval_s


@pytest.fixture(params=["path", "abstract"])
def listener(request, tmp_path):
    name = str(tmp_path / "notify")
    abstract = request.param == "abstract"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(5)
        receiver.bind("\0" + name if abstract else name)
        yield receiver, "@" + name if abstract else name


def test_lines_arrive_in_one_datagram(listener):
    receiver, address = listener
    assert notify({"NOTIFY_SOCKET": address}, READY, status("watching 3 runs"))
    assert receiver.recv(1024) == b"READY=1\nSTATUS=watching 3 runs"


def test_a_status_cannot_smuggle_another_line(listener):
    receiver, address = listener
    assert notify({"NOTIFY_SOCKET": address}, status("run a\nREADY=0\x1b[2J" + "x" * 500))
    data = receiver.recv(1024)
    assert data.startswith(b"STATUS=run a READY=0 [2Jxxx")
    assert (b"\n" in data, len(data)) == (False, len("STATUS=") + 200)


@pytest.mark.parametrize(
    "environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/no/such"}, {"NOTIFY_SOCKET": "vsock:2:1"}]
)
def test_without_a_listener_nothing_is_sent_and_nothing_fails(environ):
    assert not notify(environ, WATCHDOG)


def test_a_full_socket_never_blocks(tmp_path):
    name = str(tmp_path / "full")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name)
        assert not all(notify({"NOTIFY_SOCKET": name}, WATCHDOG) for _ in range(10_000))


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "42"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
    ],
)
def test_the_watchdog_is_fed_at_half_its_interval_if_it_watches_this_process(environ, expected):
    assert watchdog_interval_s(environ, pid=42) == expected


def test_the_unit_keeps_what_the_daemon_relies_on():
    lines = (Path(__file__).parents[1] / "systemd/runwarden.service").read_text().splitlines()
    keys = {line for line in lines if "=" in line and not line.startswith("#")}
    assert {"Type=notify", "WatchdogSec=30s", "StateDirectory=runwarden", "Restart=always", "DynamicUser=yes"} <= keys
    assert {"StartLimitIntervalSec=0", "RestartPreventExitStatus=2"} <= keys
    # It would empty the process_* metrics without a word.
    assert not any(line.startswith("ProcSubset=") for line in keys)
