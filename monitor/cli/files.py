"""`inspect` and `backtest`: what is seen in recorded files, and what would have been paged."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from monitor.cli.say import MISUSED, OK, Progress, fail
from monitor.config import ConfigError, load

_Lines = list[dict[str, object]]


def backtest(paths: Sequence[str], style: str, config: Path | None, jobs: int) -> int:
    """Replay every file below the paths, each in a world of its own."""
    max_page_age_s = 6 * 3600.0
    if config is not None:
        try:
            max_page_age_s = load(config, os.environ).detection.max_page_age_s
        except ConfigError as e:
            print(e, file=sys.stderr)
            return MISUSED
    from monitor import wiring  # noqa: PLC0415, a bad config needs none of it

    files, complaints = wiring.recorded_files(paths)
    for complaint in complaints:
        print(f"runwarden: {complaint}", file=sys.stderr)
    progress = Progress(len(files))
    found: _Lines = []
    read = 0
    for n, (path, result) in enumerate(_each(wiring.backtest_lines, files, max_page_age_s, jobs)):
        progress.step(n + 1, path)
        if isinstance(result, str):
            progress.end()
            print(f"runwarden: {result}", file=sys.stderr)
        else:
            read += 1
            found += result
    progress.end()
    found.sort(key=_order)
    if style == "jsonl":
        for line in found:
            sys.stdout.write(json.dumps(line) + "\n")
    else:
        _table(found, read)
    if read == 0:
        return fail("no file could be read", MISUSED)
    return OK


def inspect(path: str, *, rows: bool) -> int:
    """What is seen in one file."""
    from monitor import wiring  # noqa: PLC0415

    try:
        seen = wiring.inspection(path)
        if rows:
            for row in seen.rows():
                sys.stdout.write(json.dumps(row) + "\n")
        else:
            sys.stdout.write(seen.text())
    except (OSError, wiring.Unreadable) as e:
        return fail(e, MISUSED)
    return OK


def _each(
    work: Callable[[str, float], _Lines | str], files: Sequence[str], max_page_age_s: float, jobs: int
) -> Iterable[tuple[str, _Lines | str]]:
    if jobs <= 1 or len(files) <= 1:
        for path in files:
            yield path, work(path, max_page_age_s)
        return
    with ProcessPoolExecutor(min(jobs, len(files))) as pool:
        yield from zip(files, pool.map(work, files, [max_page_age_s] * len(files), chunksize=4), strict=True)


def _order(line: dict[str, object]) -> tuple[str, str, int, int, str]:
    row, episode = line["first_row"], line["episode"]
    assert isinstance(row, int)
    assert isinstance(episode, int)
    return str(line["series"]), str(line["run"]), row, episode, str(line["incident"])


def _table(found: _Lines, read: int) -> None:
    form = "{:<28} {:<16} {:<7} {:>9} {:>9} {:>9} {:<18} {}"
    if found:
        print(form.format("series", "kind", "tier", "first", "paged", "last", "metric", "reason"))
    for line in found:
        unit = "step" if line["first_step"] is not None else "row"
        places = [line[f"{name}_{unit}"] for name in ("first", "paged", "last")]
        cells = [line["series"], line["kind"], line["severity"], *places, line["metric"], line["reason"]]
        print(form.format(*("-" if c is None else str(c)[:40] for c in cells)))
    pages = sum(line["severity"] == "page" for line in found)
    notices = sum(line["severity"] == "notice" for line in found)
    print(f"{read} files read: {pages} pages, {notices} notices")
