"""What a writer does between its steps: it says how far it is and waits to be told to go on."""

from __future__ import annotations

import os
import sys

SAY = os.dup(1)
"""The pipe to the test, also where standard output is turned into a log file."""


def pause(what: str) -> None:
    os.write(SAY, f"{what}\n".encode())
    if not sys.stdin.readline():
        sys.exit("the test is gone")
