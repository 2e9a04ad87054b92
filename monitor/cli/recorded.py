"""Recorded files through the daemon's own parsers and core: what `inspect` and `backtest` are made of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from monitor.backtest import Recording, replay
from monitor.config import Config
from monitor.engine import AttemptStart
from monitor.errors import PermanentError
from monitor.sources.files import PARSERS, only_patterns, with_patterns
from monitor.sources.files.discover import scan
from monitor.sources.files.inspect import Summary, inspect_file, rows
from monitor.sources.files.replay import read_file
from monitor.sources.files.section import Params as FilesSection
from monitor.sources.files.tailer import MAX_LINE_BYTES
from monitor.wiring import new_engine


def recorded_files(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Files below the paths, sorted, and what could not be looked at."""
    files: set[str] = set()
    complaints: list[str] = []
    for path in paths:
        found = scan(str(Path(path).absolute()))
        complaints += [f"{where}: {why}" for where, why in found.errors]
        complaints += [f"{where}: {why.replace('_', ' ')}" for where, why in sorted(found.refused.items())]
        files.update(member.path for members in found.families.values() for member in members)
    return sorted(files), complaints


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What of a configuration bears on recorded files. regexes: tried on lines of text before the known formats."""

    max_page_age_s: float = 6 * 3600.0
    max_line_bytes: int = MAX_LINE_BYTES
    regexes: tuple[str, ...] = ()


class UnreadableError(Exception):
    """A file could not be read; the text says which and why."""

    def __init__(self, path: str, error: OSError | PermanentError) -> None:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        super().__init__(text if path in text else f"{path}: {text}")


def backtested(path: str, rules: Rules) -> Recording | str:
    """Every episode that the core finds in a recorded file; the reason as text if it cannot be read."""
    try:
        batches = read_file(path, formats=with_patterns(rules.regexes), max_line_bytes=rules.max_line_bytes)
        return replay(path, batches, new_engine(rules.max_page_age_s))
    except (OSError, PermanentError) as e:
        return str(UnreadableError(path, e))


def rules_of(config: Config) -> Rules:
    """The expressions of all files sections, their longest line, and the age that pages."""
    files = [item.section for item in config.sources if isinstance(item.section, FilesSection)]
    return Rules(
        max_page_age_s=config.detection.max_page_age_s,
        max_line_bytes=max((section.max_line_bytes for section in files), default=MAX_LINE_BYTES),
        regexes=tuple(dict.fromkeys(p.regex for section in files for p in section.patterns)),
    )


def inspection(path: str, regexes: Sequence[str] = ()) -> tuple[Summary, list[AttemptStart]]:
    """What a file holds, or what these expressions alone find in it, and where its attempts begin.

    UnreadableError; ValueError for an expression.
    """
    engine, formats = new_engine(math.inf), only_patterns(regexes) if regexes else PARSERS
    try:
        batches = read_file(path, formats=formats)
        return inspect_file(path, formats), [a for batch in batches for a in engine.step(batch).attempts]
    except (OSError, PermanentError) as e:
        raise UnreadableError(path, e) from e


def recorded_rows(path: str, regexes: Sequence[str] = ()) -> Iterator[dict[str, str | int | float | None]]:
    """The parsed rows of a file, in order. Errors as `inspection`."""
    try:
        yield from rows(path, only_patterns(regexes) if regexes else PARSERS)
    except (OSError, PermanentError) as e:
        raise UnreadableError(path, e) from e
