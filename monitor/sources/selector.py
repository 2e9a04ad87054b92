r"""A PromQL series selector, matched against labels here: `train_loss{job="trainer", host=~"gpu-\\d+"}`.

Regular expressions are RE2 and match the whole value, as in Prometheus; a label that is not there is the empty text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

_HEAD = re.compile(r"\s*(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)?\s*(?:\{(?P<inside>.*)\})?\s*", re.DOTALL)
_MATCHER = re.compile(
    r"\s*(?P<label>[a-zA-Z_][a-zA-Z0-9_]*)\s*(?P<op>=~|!~|!=|=)\s*"
    r"(?P<text>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`[^`]*`)\s*(?:,|$)",
    re.DOTALL,
)


class Selector:
    """What a series must have to be selected."""

    def __init__(self, text: str) -> None:
        """Raises ValueError with a phrase that follows the name of what holds it."""
        head = _HEAD.fullmatch(text)
        if head is None:
            raise ValueError("is no series selector")
        self._tests: list[tuple[str, Callable[[str], bool]]] = []
        if head["name"]:
            self._tests.append(("__name__", head["name"].__eq__))
        inside, at = head["inside"] or "", 0
        while inside[at:].strip():
            found = _MATCHER.match(inside, at)
            if found is None:
                raise ValueError(f"is no series selector: not understood from {inside[at : at + 30]!r} on")
            self._tests.append((found["label"], _test(found["op"], _unquoted(found["text"]))))
            at = found.end()
        if all(test("") for _, test in self._tests):
            raise ValueError("selects everything; name a metric or a label that must be there")

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a series with these labels is selected."""
        return all(test(labels.get(label, "")) for label, test in self._tests)


def _unquoted(text: str) -> str:
    if text[0] == "`":
        return text[1:-1]
    inner = text[1:-1]
    if text[0] == "'":
        inner = inner.replace("\\'", "'").replace('"', '\\"')
    try:
        return str(json.loads(f'"{inner}"', strict=False))
    except json.JSONDecodeError:
        raise ValueError(f"has the text {text[:40]}, whose escapes are not understood; use back-quotes") from None


def _test(op: str, text: str) -> Callable[[str], bool]:
    if op == "=":
        return text.__eq__
    if op == "!=":
        return text.__ne__
    import re2  # noqa: PLC0415, only who has expressions loads it

    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(text, options)
    except re2.error as e:
        said = e.args[0] if e.args else ""
        raise ValueError(f"is not RE2: {said.decode(errors='replace') if isinstance(said, bytes) else said}") from None
    if op == "=~":
        return lambda value: compiled.fullmatch(value) is not None
    return lambda value: compiled.fullmatch(value) is None
