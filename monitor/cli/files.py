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
from monitor.engine import AttemptStart
from monitor.errors import PermanentError
from monitor.pages import moment
from monitor.sources.files.inspect import Summary

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


def inspect(path: str, *, rows: bool, regexes: Sequence[str] = ()) -> int:
    """What is seen in one file; regexes: what these alone see."""
    from monitor import wiring  # noqa: PLC0415

    try:
        if rows:
            for row in wiring.recorded_rows(path, regexes):
                sys.stdout.write(json.dumps(row) + "\n")
        else:
            summary, attempts = wiring.inspection(path, regexes)
            _summary(summary, attempts)
    except BrokenPipeError:
        raise
    except (OSError, PermanentError) as e:
        return fail(e, MISUSED)
    except ValueError as e:
        return fail(f"the pattern {e}", MISUSED)
    return OK


def _summary(seen: Summary, attempts: Sequence[AttemptStart]) -> None:
    print(f"{seen.path}: {seen.format}, {seen.lines:,} lines, {seen.log_lines:,} of them log text")
    for run in seen.runs:
        steps = "no steps" if run.steps is None else f"steps {run.steps[0]:,} to {run.steps[1]:,}"
        planned = f" of {run.total_steps:,}" if run.total_steps >= 0 else ""
        times = "no clock" if run.times is None else f"{moment(run.times[0])} to {moment(run.times[1])}"
        print(f"\nrun {run.run}: {run.rows:,} rows, {steps}{planned}, {times}")
        mine = [a for a in attempts if a.run == run.run]
        for a in mine[1:]:
            print(f"  attempt {a.attempt + 1} recognised at row {a.row:,}, step {a.step:,}")
        print(f"  {len(mine)} attempt{'s' * (len(mine) != 1)}")
        form = "  {:<34} {:<14} {:<8} {:<8} {:>9} {:>10}"
        print(form.format("column", "role", "unit", "primary", "values", "non-finite"))
        for c in run.columns:
            primary = "yes" if c.primary else ""
            print(form.format(c.metric[:34], c.info.role, c.info.unit or "-", primary, c.values, c.nonfinite))
    if seen.problems:
        print("\nnot parsed:")
        for reason, (many, line) in seen.problems.items():
            print(f"  {reason.replace('_', ' ')}: {many:,}, first in line {line:,}")


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
