"""A user's regular expression with named groups, by RE2: linear in the text, so that no expression can stall a poll.

Groups `step`, `t` and `total` have their meaning; every other named group is a metric of that name. Groups without a
name are not read. RE2 has neither look-around nor back-references, which is what makes it linear.
"""

from __future__ import annotations

from typing import Any

MAX_LENGTH = 4_000
SPECIAL = frozenset({"step", "t", "total"})


class Expression:
    """A compiled expression."""

    def __init__(self, regex: str) -> None:
        """Raises ValueError with a phrase that follows the name of what holds it."""
        import re2  # noqa: PLC0415, only who has patterns loads it

        if len(regex) > MAX_LENGTH:
            raise ValueError(f"has {len(regex)} characters; at most {MAX_LENGTH} are compiled")
        options = re2.Options()
        options.log_errors = False
        try:
            self._compiled: Any = re2.compile(regex, options)
        except (re2.error, UnicodeEncodeError) as error:
            said = error.args[0] if error.args else ""
            text = said.decode(errors="replace") if isinstance(said, bytes) else str(error)
            raise ValueError(f"is not RE2: {text} (RE2 has no look-around and no back-references)") from None
        self.metrics = tuple(sorted(self._compiled.groupindex.keys() - SPECIAL))
        if not self.metrics:
            raise ValueError(r"names no metric; write one as a named group, such as (?P<loss>\S+)")

    def groups(self, line: str) -> dict[str, str] | None:
        """Name → text of the groups that took part in the first match; None if nothing matches."""
        found = self._compiled.search(line)
        return None if found is None else {k: v for k, v in found.groupdict().items() if v is not None}
