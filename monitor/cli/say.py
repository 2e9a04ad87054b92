"""Exit codes, and how commands speak: results on standard output, everything else on standard error."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from types import FrameType

from sinks.untrusted import clean

OK, FAILED, MISUSED, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143
MAX_COMPLAINTS = 20


def fail(message: object, code: int = FAILED) -> int:
    """Say what is wrong."""
    print(f"runwarden: {plain(str(message))}", file=sys.stderr)
    return code


def plain(text: str, limit: int = 2_000) -> str:
    """Names and lines that a stranger chose, safe to print: see `sinks.untrusted.clean`."""
    return clean(text.encode("utf-8", "replace").decode(), limit)


def fit(line: str) -> str:
    """The line; on a terminal that is too narrow for it, wrapped."""
    if not sys.stdout.isatty():
        return line
    width = max(20, shutil.get_terminal_size().columns)
    return "\n".join(textwrap.wrap(line, width, subsequent_indent="    ", break_long_words=False)) or line


class Terminated(KeyboardInterrupt):
    """SIGTERM, to be cleaned up after like Ctrl-C."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGINT and SIGTERM unwind, so that what was started is ended, also where a shell had them ignored."""

    def end(_: int, __: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


@contextlib.contextmanager
def postponed() -> Iterator[Callable[[], None]]:
    """Keep SIGINT and SIGTERM until the function that is given is called, so that they never fall between two steps."""
    asked: list[type[KeyboardInterrupt]] = []

    def note(number: int, _: FrameType | None) -> None:
        asked.append(Terminated if number == signal.SIGTERM else KeyboardInterrupt)

    def check() -> None:
        if asked:
            raise asked[0]

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def open_streams() -> None:
    """Make the standard streams safe: closed ones lead nowhere, and what they cannot encode is escaped."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, before a file of ours does
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, "r" if descriptor == 0 else "w", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Complaints:
    """What could not be read, a line each; the first of very many, then their number."""

    def __init__(self) -> None:
        self._many = 0

    def add(self, text: str) -> None:
        """Say one."""
        self._many += 1
        if self._many <= MAX_COMPLAINTS:
            fail(text)

    def end(self) -> None:
        """Say how many were left out."""
        if (rest := self._many - MAX_COMPLAINTS) > 0:
            fail(f"and {rest:,} more that could not be read")


class Progress:
    """One line that is overwritten, on a terminal only. total: 0 if unknown."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._shown = sys.stderr.isatty()
        self._next = 0.0

    def step(self, done: int, text: str) -> None:
        """Show that `done` of the total is reached, ten times a second at most."""
        if not self._shown or (now := time.monotonic()) < self._next:
            return
        self._next = now + 0.1
        count = f"{done}/{self._total} "
        room = max(0, shutil.get_terminal_size().columns - len(count) - 1)
        sys.stderr.write(f"\r\x1b[K{count}{plain(text)[-room:] if room else ''}")
        sys.stderr.flush()

    def end(self) -> None:
        """Remove the line."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "t": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up_logging(level: str, style: str) -> None:
    """Log to standard error; style: console or json."""
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(levelname).1s %(message)s", "%H:%M:%S")
    plain.converter = time.gmtime
    handler.setFormatter(_Json() if style == "json" else plain)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("aiohttp", "slack_sdk", "anthropic", "httpx", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
