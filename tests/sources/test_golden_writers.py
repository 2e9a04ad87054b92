"""Every log in `golden/writers` becomes the rows beside it: adding a text format is a pattern and such a pair of files.

NAME.log holds lines after the trainer's own format string, NAME.jsonl the rows that they mean, as
`runwarden inspect --rows` prints them (step and t null where a line has none). What is no row is a log line.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monitor.sources.files.inspect import rows
from monitor.sources.files.lines import split
from monitor.sources.files.patterns import PATTERNS
from monitor.sources.files.textline import plain

WRITERS = Path(__file__).parents[1] / "golden" / "writers"
LOGS = sorted(path.stem for path in WRITERS.glob("*.log"))


@pytest.mark.parametrize("name", LOGS)
def test_a_writers_log_becomes_its_golden_rows(name: str) -> None:
    wanted = [json.loads(line) for line in (WRITERS / f"{name}.jsonl").read_text().splitlines()]
    found = list(rows(str(WRITERS / f"{name}.log")))
    for one, other in zip(found, wanted, strict=False):
        assert json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert len(found) == len(wanted) > 0


def test_every_pattern_takes_a_line_of_a_golden_log() -> None:
    logs = [split((WRITERS / f"{name}.log").read_bytes(), returns=True) for name in LOGS]
    shown = {
        next((p for p, marks in PATTERNS.items() if any(m in line for m in marks) and p(line) is not None), None)
        for line in (plain(raw) for log in logs for raw in log)
    }
    assert [p.__name__ for p in PATTERNS if p not in shown] == []
