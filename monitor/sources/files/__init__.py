"""Log files as a source: a tailer and one parser per format.

To add a format: one file with a recogniser and a parser, one line in `PARSERS`. A format is recognised by what is in
the file, never by its name; the first that knows the content takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from monitor.sources.files import csvlog, hfstate, jsonl, text, tfevents, wandblog
from monitor.sources.files.records import Framing
from monitor.sources.files.rows import Parsed


class Parser(Protocol):
    """Turns lines (or records, see `Format`) into rows.

    `state()` is small JSON: a parser made from it continues as if it had seen all before.

    splits_returns: whether a carriage return ends a line of this format.
    """

    @property
    def name(self) -> str:
        """The format as `inspect` prints it."""
        ...

    @property
    def splits_returns(self) -> bool: ...  # noqa: D102 - see the class

    def feed(self, lines: Sequence[bytes], first_row: int) -> Parsed:
        """Parse complete lines, the first of which is number `first_row`."""
        ...

    def known(self, lines: Sequence[bytes]) -> int:
        """How many of the first lines of a rewritten file were seen before; 0: it is another log; -1: not whole yet."""
        ...

    def state(self) -> dict[str, Any]:
        """What a later parser needs to go on after the last line."""
        ...


@dataclass(frozen=True, slots=True)
class Format:
    """recognise: whether complete lines from a file's beginning are of this format; make: a parser from a state.

    records: for a format of records instead of lines, where they end; the parser is then fed records.
    """

    recognise: Callable[[Sequence[bytes]], bool]
    make: Callable[[Mapping[str, Any]], Parser]
    anywhere: bool = False
    """Whether the first line that is recognised may come late in the file."""
    records: Framing | None = None


def _no_text(_: Sequence[bytes]) -> bool:
    """What is not made of lines is never recognised by them."""
    return False


Formats = Mapping[str, Format]

PARSERS: dict[str, Format] = {
    "trainer_state": Format(hfstate.recognise, hfstate.TrainerState),
    "jsonl": Format(jsonl.recognise, jsonl.JsonLines),
    "csv": Format(csvlog.recognise, csvlog.CsvLog),
    "text": Format(text.recognise, text.TextLog, anywhere=True),
    "tfevents": Format(_no_text, tfevents.EventLog, records=tfevents.FRAMING),
    "wandb": Format(_no_text, wandblog.WandbLog, records=wandblog.FRAMING),
}


def with_patterns(regexes: Sequence[str]) -> Formats:
    """The formats, where a user's expressions are tried before the trainers' patterns. Raises ValueError."""
    if not regexes:
        return PARSERS
    return {**PARSERS, "text": _text((*map(text.custom, regexes), text.built_in))}


def only_patterns(regexes: Sequence[str]) -> Formats:
    """A user's expressions and nothing else. Raises ValueError."""
    return {"text": _text(tuple(map(text.custom, regexes)))}


def _text(patterns: tuple[text.Pattern, ...]) -> Format:
    return Format(partial(text.recognise, patterns=patterns), partial(text.TextLog, patterns=patterns), anywhere=True)
