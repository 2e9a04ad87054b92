"""`inspect`: what is seen in recorded files."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from os.path import isdir

from detectors.types import Role
from monitor.account import by_role, label, listing, missing
from monitor.cli import recorded
from monitor.cli.say import MISUSED, OK, Complaints, fail, fit, plain
from monitor.engine import AttemptStart
from monitor.pages import moment
from monitor.sources.files.inspect import ColumnSummary, RunSummary, Summary

MAX_ATTEMPTS = 10
MAX_COLUMNS = 30
_FORM = "  {:<15} {:<34} {:<9} {:>9} {:>10}"


def inspect(paths: Sequence[str], *, rows: bool, regexes: Sequence[str] = ()) -> int:
    """What is seen in a file; in several, or below a folder, a line for each. regexes: what these alone see."""
    try:
        if len(paths) == 1 and not isdir(paths[0]):  # noqa: PTH112, it says no where Path raises
            return _one(paths[0], rows=rows, regexes=regexes)
        return _many(paths, rows=rows, regexes=regexes)
    except ValueError as e:
        return fail(f"the pattern {e}", MISUSED)


def _one(path: str, *, rows: bool, regexes: Sequence[str]) -> int:
    try:
        if rows:
            _print_rows(path, regexes)
        else:
            _whole(*recorded.inspection(path, regexes))
    except recorded.UnreadableError as e:
        return fail(e, MISUSED)
    return OK


def _many(paths: Sequence[str], *, rows: bool, regexes: Sequence[str]) -> int:
    files, unseen = recorded.recorded_files(paths)
    complaints, read = Complaints(), 0
    for text in unseen:
        complaints.add(text)
    for path in files:
        try:
            if rows:
                _print_rows(path, regexes)
            else:
                print(fit(_line(recorded.inspection(path, regexes)[0])), flush=True)
            read += 1
        except recorded.UnreadableError as e:
            complaints.add(str(e))
    complaints.end()
    if not rows and read:
        print(f"\n{read:,} of {len(files):,} files hold metrics; `runwarden inspect FILE` shows one in full")
    if not files and not unseen:
        return fail(f"{', '.join(paths)}: no files in there", MISUSED)
    return OK if read else fail("no file could be read", MISUSED)


def _print_rows(path: str, regexes: Sequence[str]) -> None:
    for row in recorded.recorded_rows(path, regexes):
        sys.stdout.write(json.dumps(row) + "\n")


def _line(seen: Summary) -> str:
    """One file in a line: format, runs, rows, roles."""
    count = sum(run.rows for run in seen.runs)
    columns = dict.fromkeys(c.metric for run in seen.runs for c in run.columns)
    roles = [label(role) for role in by_role(columns) if role is not Role.OTHER]
    runs = f"{len(seen.runs)} runs, " if len(seen.runs) != 1 else ""
    return f"{plain(seen.path)}: {seen.format}, {runs}{count:,} rows; {', '.join(roles) or 'no column is known'}"


def _whole(seen: Summary, attempts: Sequence[AttemptStart]) -> None:
    text = f", {seen.log_lines:,} of them without metrics" if seen.log_lines else ""
    print(f"{plain(seen.path)}\n{seen.format}, {seen.lines:,} {_unit(seen.format)}{text}")
    for run in seen.runs:
        _run(run, [a for a in attempts if a.run == run.run])
    if not seen.runs:
        print("\nno rows of metrics in it")
    if seen.problems:
        print("\nnot used:")
        for reason, (many, line) in seen.problems.items():
            print(f"  {reason.replace('_', ' ')}: {many:,}, first in {_unit(seen.format)[:-1]} {line:,}")


def _unit(form: str) -> str:
    return "records" if form in ("tfevents", "wandb") else "lines"


def _run(run: RunSummary, attempts: Sequence[AttemptStart]) -> None:
    steps = "no steps" if run.steps is None else f"steps {run.steps[0]:,} to {run.steps[1]:,}"
    planned = f" of {run.total_steps:,} planned" if run.total_steps >= 0 else ""
    times = "no clock" if run.times is None else f"{moment(run.times[0])} to {moment(run.times[1])}"
    many = f"{len(attempts)} attempts" if len(attempts) != 1 else "1 attempt"
    print(f"\nrun {plain(run.run)}\n{run.rows:,} rows, {steps}{planned}, {many}\n{times}\n")
    for a in attempts[1:MAX_ATTEMPTS]:
        print(f"  attempt {a.attempt + 1} begins at row {a.row:,}" + (f", step {a.step:,}" if a.step >= 0 else ""))
    if len(attempts) > MAX_ATTEMPTS:
        print(f"  … and {len(attempts) - MAX_ATTEMPTS:,} more")
    if len(attempts) > 1:
        print()
    roles = by_role(c.metric for c in run.columns)
    columns = {c.metric: c for c in run.columns}
    known = [columns[name] for role, names in roles.items() if role is not Role.OTHER for name in names]
    if known:
        _columns(known)
    if others := roles.get(Role.OTHER):
        said = listing([plain(name, 60) for name in others], 12)
        print(fit(f"  kept as evidence, not watched ({len(others):,}): {said}"))
    for text in missing(roles, clock=run.times is not None, step=run.steps is not None):
        print(fit(f"  {text}"))


def _columns(known: Sequence[ColumnSummary]) -> None:
    print(_FORM.format("role", "column", "unit", "values", "not finite"))
    for c in known[:MAX_COLUMNS]:
        role = label(c.info.role) if c.primary else "  also"
        name = plain(c.metric, 34)
        print(_FORM.format(role, name, c.info.unit or "-", f"{c.values:,}", f"{c.nonfinite:,}").rstrip())
    if len(known) > MAX_COLUMNS:
        print(f"  … and {len(known) - MAX_COLUMNS:,} more of these roles")
    print()
