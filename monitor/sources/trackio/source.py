"""Trackio's projects in a folder as a source: each database is looked at once a poll, read to its end in portions.

What is there at the first look is history. A folder that cannot be listed is our outage (TransientError); a project
that cannot be read (locked, damaged) makes the status an error and names its runs in `Batch.lost`, so that the others
are watched on. Implements `monitor.frame.Source`. Bounds: MAX_PROJECTS, and those of `database` and
`project`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from monitor.errors import TransientError
from monitor.frame import Batch, Status
from monitor.sources.trackio.database import NoProjectError, UnreadableError
from monitor.sources.trackio.project import News, Project, Unusable
from monitor.sources.wandb.records import Counts

MAX_PROJECTS = 200
SUFFIX = ".db"
REGISTRY = "registry-"  # databases of artifacts
HEAD = "head"


class TrackioSource:
    """Polls the projects of one folder."""

    def __init__(
        self,
        name: str,
        path: str,
        *,
        projects: Sequence[str] = (),
        poll_s: float = 1.0,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """path: a folder or one database. projects: those that are read, none for all. now: Unix seconds."""
        self.name = name
        self._path, self._only, self._poll_s = Path(path), frozenset(projects), poll_s
        self._now, self._sleep = now, sleep

    async def batches(self, cursors: Mapping[str, str]) -> AsyncIterator[Batch]:
        """Yield batches for ever, beginning after `cursors`. TransientError while the folder cannot be listed."""
        known: dict[Path, Project] = {}
        refused: dict[Path, str] = {}
        gone: set[Path] = set()
        seen, counts = HEAD in cursors, Counts()
        while True:
            paths = await asyncio.to_thread(self._list)
            counts.add(Unusable.PROJECT_LIMIT, len(paths) - MAX_PROJECTS)
            for path in paths[:MAX_PROJECTS]:
                if path not in known:
                    known[path] = Project(self.name, path, cursors, old=not seen)
            failed: dict[Path, str] = {}
            lines = [
                line for path in known.keys() - paths - gone for line in known[path].say(f"Trackio: {path} is gone")
            ]
            gone = known.keys() - paths
            for path in [p for p in paths if p in known]:
                more = True
                while more:
                    try:
                        news = await asyncio.to_thread(known[path].look)
                    except UnreadableError as e:
                        failed[path] = str(e)
                        break
                    except NoProjectError as e:
                        counts.add(Unusable.NO_PROJECT, refused.get(path) != str(e))
                        refused[path] = str(e)
                        break
                    more = news.more
                    if news.frames or news.cursors or news.lines:
                        yield self._batch(news)
            read = len(paths) > len(failed)
            lost = {run.name for p in failed for run in known[p].runs} | {known[p].name for p in failed}
            yield Batch(
                source=self.name,
                t_recv=self._now(),
                lines=tuple(lines),
                cursors={} if seen or failed else {HEAD: "seen"},  # what could not be looked at was not seen
                counts=counts,
                status=Status.ERROR if failed else Status.OK,
                detail="; ".join([*failed.values()][:3]),
                lost=frozenset(lost if read else ()),
            )
            seen, counts = seen or not failed, Counts()
            await self._sleep(self._poll_s)

    def committed(self, batch: Batch) -> None:
        """Nobody waits for it."""

    def _batch(self, news: News) -> Batch:
        return Batch(
            source=self.name,
            t_recv=self._now(),
            frames=tuple(news.frames),
            lines=tuple(news.lines),
            cursors=news.cursors,
            counts=news.counts,
            at_head=False,
        )

    def _list(self) -> list[Path]:
        try:
            if self._path.suffix == SUFFIX:
                self._path.stat()
                return [self._path]
            found = [p for p in self._path.iterdir() if p.suffix == SUFFIX and not p.name.startswith(REGISTRY)]
        except OSError as e:
            raise TransientError(f"{self._path}: cannot be listed ({e.strerror or e})") from None
        return sorted(p for p in found if not self._only or p.stem in self._only)
