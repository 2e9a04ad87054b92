"""What the configuration says about Trackio's projects, and the source that is made of it."""

from __future__ import annotations

from pydantic import Field

from monitor.fields import AbsolutePath
from monitor.frame import Source
from monitor.sources import SourceSection, named


class Params(SourceSection):
    """Runs that Trackio keeps on this machine. They are called NAME/PROJECT/NAME-OF-THE-RUN."""

    path: AbsolutePath = Field(description="Folder of the projects (TRACKIO_DIR), or the .db file of one.")
    projects: tuple[str, ...] = Field(default=(), max_length=200, description="Projects that are read; empty: all.")
    name: str = named("trackio")
    poll_s: float = Field(default=1.0, ge=0.1, le=20, description="Seconds between two looks at the databases.")


def create(params: Params) -> list[Source]:
    """One source for the folder."""
    from monitor.sources.trackio.source import TrackioSource  # noqa: PLC0415, only what is configured

    return [TrackioSource(params.name, str(params.path), projects=params.projects, poll_s=params.poll_s)]
