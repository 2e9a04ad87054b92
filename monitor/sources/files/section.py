"""What the configuration says about files, and the sources that are made of it."""

from __future__ import annotations

import os
from typing import Self

from pydantic import Field, model_validator

from monitor.fields import Glob, Regex, repeated
from monitor.frame import Source
from monitor.section import Section
from monitor.sources import SourceSection, named
from monitor.sources.files import with_patterns
from monitor.sources.files.discover import fixed
from monitor.sources.files.source import FileSource


class LinePattern(Section):
    """Lines of text that no known trainer writes, by a regular expression with named groups."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="What it is called in messages; unique.")
    regex: Regex = Field(
        description="RE2 expression with named groups: step, t, total; all others are metrics. Try: inspect --pattern."
    )


class Params(SourceSection):
    """Metrics and logs in files, followed as they grow."""

    paths: tuple[Glob, ...] = Field(
        min_length=1, max_length=1000, description="Files, folders (searched below) and glob patterns; no '..'."
    )
    name: str = named("files")
    poll_s: float = Field(default=0.25, ge=0.01, le=10, description="Seconds between two looks at the files.")
    max_line_bytes: int = Field(
        default=1 << 20, ge=1024, le=1 << 26, description="Longer lines are skipped and counted (bytes, default 1 MiB)."
    )
    patterns: tuple[LinePattern, ...] = Field(
        default=(), max_length=50, description="Tried on lines of text before the patterns of the known trainers."
    )

    @model_validator(mode="after")
    def _each_pattern_once(self) -> Self:
        if twice := repeated([pattern.name for pattern in self.patterns]):
            raise ValueError(f"has two patterns named {twice!r}; give one of them another `name`")
        return self


def create(params: Params) -> list[Source]:
    """One source for each path: trouble with one says nothing of the runs below another.

    Run ids are relative to what all paths have in common, so that two files of one name stay two runs.
    """
    paths = [p for p in dict.fromkeys(params.paths) if not any(p.startswith(f"{o}/") for o in params.paths)]
    home = os.path.commonpath(fixed(p) for p in paths) if len(paths) > 1 else None
    formats = with_patterns([p.regex for p in params.patterns])
    return [
        FileSource(
            f"{params.name}:{path}",
            [path],
            poll_s=params.poll_s,
            max_line_bytes=params.max_line_bytes,
            home=home,
            formats=formats,
        )
        for path in paths
    ]
