"""What we tell systemd, as datagrams to $NOTIFY_SOCKET: READY, STATUS, WATCHDOG, STOPPING, and that a start takes time.

Without one nothing is sent. The watchdog is to be fed from the event loop, and only if the stages of the pipeline made
progress: a thread that feeds it proves nothing. Protocol: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"
PATIENCE = "EXTEND_TIMEOUT_USEC=60000000"  # a start that still replays rows is no start that hangs
MAX_STATUS = 200


def notify(environ: Mapping[str, str], *lines: str) -> bool:
    """Send the lines in one datagram; False if nobody listens. Never blocks, never raises: we go on without."""
    address = environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in {"/", "@"}:
        return False
    if address[0] == "@":  # the abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto("\n".join(lines).encode("utf-8", "replace"), address)
    except OSError:
        return False
    return True


def status(text: str) -> str:
    """The line that `systemctl status` shows; text may hold names that a stranger chose, so it stays one short line."""
    return "STATUS=" + "".join(c if c.isprintable() else " " for c in text[:MAX_STATUS])


def watchdog_interval_s(environ: Mapping[str, str], pid: int) -> float | None:
    """How often to send WATCHDOG: half of what systemd waits (seconds); None if it does not watch this process."""
    usec = environ.get("WATCHDOG_USEC", "")
    if not usec.isdecimal() or int(usec[:18]) == 0 or environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(usec[:18]) / 2e6
