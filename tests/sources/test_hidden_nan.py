"""Every trainer's way of hiding what is not finite, as far as it shows in a file, ends as a value that is not finite.

Trackers that hide it in their own databases and protocols (MLflow, Trackio, Prometheus, OpenTelemetry) are other
sources; the spellings that they use are read here, since people export them to files.
"""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from log_rig import parse

from detectors.types import Role
from monitor.roles import role_of

INF = math.inf


def only(name: str, text: str, role: Role) -> list[float]:
    found, parsed = parse(name, text)
    assert not parsed.tally.counts
    return [v for row in found for m, v in row.items() if m not in ("row", "step", "t") and role_of(m).role is role]


def nan_at(values: list[float]) -> list[int]:
    return [i for i, v in enumerate(values) if math.isnan(v)]


def test_megatron_leaves_the_loss_out_and_the_row_says_nan() -> None:
    lost = "{:>4}/ 9 | elapsed time per iteration (ms): 5.0 |{} grad norm: {} | number of nan iterations: {} |\n"
    lines = [(" lm loss: 2.5E+00 |", 1.5, 0), ("", "nan", 1), (" lm loss: 2.4E+00 |", 1.5, 1)]
    text = "".join(" iteration " + lost.format(i, *line) for i, line in enumerate(lines, 1))
    assert nan_at(only("text", text, Role.LOSS)) == [1]
    assert nan_at(only("text", text, Role.GRAD_NORM)) == [1]


def test_a_megatron_line_that_was_cut_is_not_taken_for_one_without_a_loss() -> None:
    text = " iteration 1/ 9 | lm loss: 2.5E+00 | grad norm: 1.0 |\n iteration 2/ 9 | consumed samples: 8 | learn\n"
    assert only("text", text, Role.LOSS) == [2.5]


@pytest.mark.parametrize("spelling", ["nan", "'nan'"])
def test_hugging_face_repeats_a_mean_for_the_loss_but_its_gradient_norm_stays_nan_on_stdout(spelling: str) -> None:
    text = f"{{'loss': '2.5', 'grad_norm': '1.5', 'epoch': '0.1'}}\n{{'loss': '2.5', 'grad_norm': {spelling}}}\n"
    assert nan_at(only("text", text, Role.GRAD_NORM)) == [1]
    assert only("text", text, Role.LOSS) == [2.5, 2.5]


def test_hugging_face_repeats_a_mean_for_the_loss_but_its_gradient_norm_stays_nan_in_the_state() -> None:
    history = [{"grad_norm": x, "loss": 2.5, "step": i} for i, x in enumerate([1.5, math.nan, INF])]
    text = json.dumps({"log_history": history, "max_steps": 9}, indent=2, sort_keys=True) + "\n"
    values = only("trainer_state", text, Role.GRAD_NORM)
    assert nan_at(values) == [1]
    assert values[2] == INF


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('"NaN"', math.nan),  # Trackio, MLflow
        ('"Infinity"', INF),  # Trackio
        ('"-Infinity"', -INF),
        ("1.7976931348623157e308", INF),  # MLflow's store
        ("-1.797e+308", -INF),
        ("NaN", math.nan),  # W&B, json
        ("Infinity", INF),
        ("-Infinity", -INF),
        ('"+Inf"', INF),  # Prometheus
        ('"nan"', math.nan),
    ],
)
def test_every_spelling_in_json_lines_is_read(written: str, read: float) -> None:
    rows: list[dict[str, Any]] = parse("jsonl", f'{{"step": 1, "loss": 2.5}}\n{{"step": 2, "loss": {written}}}\n')[0]
    assert str(rows[1]["loss"]) == str(read)


@pytest.mark.parametrize(("written", "read"), [("nan", math.nan), ("inf", INF), ("-inf", -INF), ("NaN", math.nan)])
def test_csv_says_it_as_it_is_and_an_empty_cell_is_absent(written: str, read: float) -> None:
    rows, _ = parse("csv", f"step,loss,lr\n1,2.5,0.5\n2,{written},0.5\n3,,0.5\n")
    assert str(rows[1]["loss"]) == str(read)
    assert "loss" not in rows[2]


@pytest.mark.parametrize(
    "line",
    [
        "iter 5: loss nan, time 10.00ms, mfu 3.00%",
        "step 00005/10 (50.00%) | loss: nan | lrm: 1.00 | dt: 5.00ms | tok/sec: 1,000",
        "step:5/10 train_loss:nan train_time:5ms step_avg:1.0ms",
        "[titan] step:  5  loss:  nan  grad_norm:  1.5  memory: 1.00GiB(1.00%)  tps: 1,000",
        "2026-01-12 12:38:53,500 - mmdet - INFO - Epoch [1][5/10]\tlr: 1.0e-03, time: 0.5, loss: nan",
        ':::MLLOG {"time_ms": 1, "key": "train_loss", "value": NaN, "metadata": {"step": 5}}',
        "Step 5: loss=NaN, lr=1e-3",
    ],
)
def test_a_console_line_with_nan_is_a_row_with_nan(line: str) -> None:
    assert nan_at(only("text", line + "\n", Role.LOSS)) == [0]
