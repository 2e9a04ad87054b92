"""The two kinds of error that cross a boundary: worth retrying, or to be reported."""

from __future__ import annotations

from monitor.page import Receipt


class TransientError(Exception):
    """Worth retrying. retry_after_s: how long the other side asked us to wait, 0 if it did not say.

    receipt: what a sink got done before it failed, to be stored and handed to the next try.
    """

    def __init__(self, message: str, retry_after_s: float = 0.0, receipt: Receipt | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.receipt = receipt


class PermanentError(Exception):
    """Retrying cannot help: report it and go on."""
