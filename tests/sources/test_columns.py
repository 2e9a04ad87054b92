"""A finished JSON document of whole columns is read as rows; anything else is left to the other formats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monitor.sources.files.columns import as_lines
from monitor.sources.files.inspect import rows

GOLDEN = {
    "lm loss": {"start_step": 1, "end_step": 10, "step_interval": 5, "values": {"1": 10.5, "10": 9.5, "5": 10.0}},
    "iteration-time": {"start_step": 1, "end_step": 10, "step_interval": 5, "values": {"1": "nan", "5": 0.25}},
}


@pytest.mark.parametrize("indent", [None, 4])
def test_columns_become_rows_in_the_order_of_the_steps(tmp_path: Path, indent: int | None) -> None:
    path = tmp_path / "golden_values.json"
    path.write_text(json.dumps(GOLDEN, indent=indent))
    assert [{k: v for k, v in r.items() if k not in ("run", "t")} for r in rows(str(path))] == [
        {"step": 1, "lm loss": 10.5},
        {"step": 5, "lm loss": 10.0, "iteration-time": 0.25},
        {"step": 10, "lm loss": 9.5},
    ]


OTHERS = [
    "{}", "[]", "{", '{"a": 1}', '{"values": 1}', '{"a": {"values": [1, 2]}}', '{"a": {"values": {"x": 1}}}',
    '{"a": {"values": {}}}',
]  # fmt: skip


@pytest.mark.parametrize("text", OTHERS)
def test_other_documents_are_none(text: str) -> None:
    assert as_lines(text.encode()) == []


def test_json_lines_with_a_key_called_values_stay_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"step": 1, "loss": 2.0, "values": 3}\n{"step": 2, "loss": 1.9, "values": 4}\n')
    assert [r["loss"] for r in rows(str(path))] == [2.0, 1.9]
