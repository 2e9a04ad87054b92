"""`backtest`: what would have been paged on recorded files, each in a world of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING

from detectors.types import Severity
from monitor.backtest import Recording, record
from monitor.cli.say import FAILED, MISUSED, OK, Complaints, Progress, fail, fit, plain, terminable
from monitor.config import ConfigError, load
from monitor.incident import Incident
from monitor.pages import duration, number

MAX_NAME = 36
MAX_METRIC = 26
_REASONS = {
    "outlier": "far outlier",
    "cusum": "moved and stayed",
    "wait": "far above its usual wait",
    "share": "large share of the step",
    "three_of_five": "three of five rows",
    "early_outlier": "far outlier early on",
    "early_level": "level too high early on",
    "gap": "no row for too long",
}
Episode = tuple[Recording, Incident]

if TYPE_CHECKING:
    from monitor.cli.recorded import Rules


def backtest(paths: Sequence[str], style: str, config: Path | None, jobs: int) -> int:
    """Replay every file below the paths; style: table or jsonl."""
    from monitor.cli import recorded  # noqa: PLC0415, a bad config needs none of it

    try:
        rules = recorded.Rules() if config is None else _rules(config)
    except ConfigError as e:
        print(e, file=sys.stderr)
        return MISUSED
    began = time.monotonic()
    files, missing = recorded.recorded_files(paths)
    complaints, progress = Complaints(), Progress(len(files))
    for complaint in missing:
        complaints.add(complaint)
    found: list[Recording] = []
    with terminable():
        try:
            for n, (path, result) in enumerate(_each(files, rules, jobs)):
                progress.step(n + 1, path)
                if isinstance(result, str):
                    progress.end()
                    complaints.add(result)
                else:
                    found.append(result)
        except BrokenProcessPool:
            return fail("a worker process was killed, for want of memory perhaps; try a smaller --jobs", FAILED)
        finally:
            progress.end()
            complaints.end()
    episodes = sorted(((r, i) for r in found for i in r.incidents), key=_order)
    if style == "jsonl":
        for recording, incident in episodes:
            sys.stdout.write(json.dumps(record(recording.series, incident)) + "\n")
    elif found:
        _table(episodes, _labels(found))
        _summary(found, episodes, len(files) - len(found), time.monotonic() - began)
    if not found:
        return fail("no file could be read", MISUSED)
    return OK


def _rules(path: Path) -> Rules:
    """What of a configuration bears on recorded files, and say so."""
    from monitor.cli.recorded import rules_of  # noqa: PLC0415

    rules = rules_of(load(path, os.environ, secrets=False))
    said = f"pages up to {duration(rules.max_page_age_s)} old, lines up to {rules.max_line_bytes:,} bytes"
    patterns = f", {len(rules.regexes)} line pattern(s)" if rules.regexes else ""
    print(f"runwarden: from {plain(str(path))}: {said}{patterns}", file=sys.stderr)
    return rules


def _each(files: Sequence[str], rules: Rules, jobs: int) -> Iterator[tuple[str, Recording | str]]:
    from monitor.cli.recorded import backtested  # noqa: PLC0415

    if jobs <= 1 or len(files) <= 1:
        for path in files:
            yield path, backtested(path, rules)
        return
    with ProcessPoolExecutor(min(jobs, len(files)), initializer=_leave_signals) as pool:
        yield from zip(files, pool.map(backtested, files, [rules] * len(files), chunksize=4), strict=True)


def _leave_signals() -> None:
    """A worker is ended by its parent, not by the Ctrl-C that reaches the whole group."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _order(episode: Episode) -> tuple[str, str, int, int, str]:
    recording, i = episode
    return recording.series, i.run, i.first_row, i.episode, i.id


def _labels(found: Sequence[Recording]) -> dict[tuple[str, str], str]:
    """(file, run) → what it is called: the run, with its file where another file has a run of that name."""
    known = {(r.path, i.run) for r in found for i in r.incidents}
    files = Counter(run for _, run in known)
    base = os.path.commonpath([Path(r.path).parent for r in found]) if found else ""
    return {
        (path, run): run if files[run] == 1 else _label(str(Path(path).relative_to(base)), run) for path, run in known
    }


def _label(path: str, run: str) -> str:
    return path if Path(path).name.startswith(run) else f"{path}: {run}"


def _table(episodes: Sequence[Episode], labels: dict[tuple[str, str], str]) -> None:
    """Pages first, then notices, a line each."""
    for severity, title in ((Severity.PAGE, "would have paged"), (Severity.NOTICE, "notices, which wake nobody")):
        named = sorted(
            (labels[r.path, i.run], i.first_row, n, i) for n, (r, i) in enumerate(episodes) if i.severity is severity
        )
        rows = [_cells(label, i) for label, _, _, i in named]
        if not rows:
            continue
        print(f"{title}:\n")
        head = ("run", "kind", "metric", "step", "severity", "paged", "why")
        widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head) - 1)]
        for row in (head, *rows):
            print(fit("  ".join((*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]))))
        print()


def _cells(label: str, i: Incident) -> tuple[str, ...]:
    steps = i.first_step >= 0
    first, paged, last = (i.first_step, i.paged_step, i.last_step) if steps else (i.first_row, i.paged_row, i.last_row)
    until = "…" if i.open else "" if last == first else f"–{last}"
    reason = i.findings[0].reason
    return (
        plain(label, MAX_NAME),
        i.kind.value.replace("_", " "),
        plain(i.metric, MAX_METRIC) if i.metric else "-",
        f"{'' if steps else 'row '}{first}{until}",
        i.severity.name.lower(),
        f"at {paged}" if i.paged_row >= 0 else "no",
        f"{_move(i)}{_REASONS.get(reason, reason.replace('_', ' '))}",
    )


def _move(i: Incident) -> str:
    if not i.metric:
        return ""
    times = f" ({i.observed / i.expected:.3g}×)" if i.expected > 0 and 0 < i.observed < float("inf") else ""
    return f"{number(i.expected)} → {number(i.observed)}{times}, "


def _summary(found: Sequence[Recording], episodes: Iterable[Episode], unread: int, seconds: float) -> None:
    kinds = Counter((i.severity, i.kind.value.replace("_", " ")) for _, i in episodes)
    rows = sum(r.rows for r in found)
    files = f"{len(found):,} file{'s' * (len(found) != 1)} read" + (f", {unread:,} not read" if unread else "")
    print(f"{files}: {rows:,} rows in {seconds:.1f} s, {rows / max(seconds, 1e-9):,.0f} rows/s")
    for severity, name in ((Severity.PAGE, "pages"), (Severity.NOTICE, "notices")):
        mine = {kind: n for (s, kind), n in kinds.most_common() if s is severity}
        said = f" ({', '.join(f'{n:,} {kind}' for kind, n in mine.items())})" if mine else ""
        print(f"{sum(mine.values()):,} {name}{said}")
