"""Exit codes, and how commands speak: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import logging
import sys
import time

OK, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130


def fail(message: object, code: int = FAILED) -> int:
    """Say what is wrong."""
    print(f"runwarden: {message}", file=sys.stderr)
    return code


class Progress:
    """One line that is overwritten, on a terminal only. total: 0 if unknown."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._shown = sys.stderr.isatty()

    def step(self, done: int, text: str) -> None:
        """Show that `done` of the total is reached."""
        if self._shown:
            sys.stderr.write(f"\r\x1b[K{done}/{self._total} {text[:60]}")
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
