"""What the formats of lines have in common, and what of a line depends on those before it."""

from __future__ import annotations

import json
import math

import pytest
from log_rig import parse, same

from monitor.sources.files import PARSERS
from monitor.sources.files.rows import Unusable

NAN = math.nan


@pytest.mark.parametrize(
    "line",
    [
        "Removed previous checkpoint at step 004600",
        "gradient_accumulation_steps: 256",
        "Traceback (most recent call last):",
        "step: ten loss: high",
        "iteration 3 of the quest",
    ],
)
def test_a_line_without_metrics_is_a_log_line(line: str) -> None:
    found, parsed = parse("text", f"{line}\n\n")
    assert not found
    assert parsed.lines == [(0, line)]
    assert not PARSERS["text"].recognise([line.encode()])


def test_megatron_drops_the_loss_when_it_is_nan_and_we_say_so() -> None:
    with_loss = " iteration 1/ 9 | lm loss: 2.5E+00 | grad norm: 1.5 |\n"
    without = " iteration 2/ 9 | grad norm: nan | number of nan iterations: 1 |\n"
    found, parsed = parse("text", without + with_loss + without)
    assert ["lm loss" in row for row in found] == [False, True, True]
    assert math.isnan(found[2]["lm loss"])
    assert parsed.totals == {None: 9}


def test_each_line_of_a_block_of_olmo_core_is_a_row_of_its_step() -> None:
    head = "2026-05-05 10:00:00.250\thost:0\tolmo_core.train.callbacks.console_logger:49\tINFO\t"
    text = (
        f"{head}[step=1,100/9,000,epoch=1,eta=1:02:03]\n    train/CE loss=3.5\n    throughput/device/TPS=12,345\nbye\n"
    )
    found, parsed = parse("text", text + "    train/CE loss=4\n")
    at = {"step": 1100, "t": 1777975200.25}
    same(found, [{"row": 1, **at, "train/CE loss": 3.5}, {"row": 2, **at, "throughput/device/TPS": 12345.0}])
    assert parsed.totals == {None: 9000}
    assert [row for row, _ in parsed.lines] == [0, 3, 4]


def test_overflows_that_deepspeed_reports_are_counted_and_their_lines_kept() -> None:
    said = "[deepspeed] fp16 dynamic loss scale overflow! Skipping step. Attempted loss scale: 8, reducing to 4\n"
    line = " iteration {}/ 9 | lm loss: 2.5E+00 |\n"
    found, parsed = parse("text", line.format(1) + said * 2 + line.format(2) + said + line.format(3))
    assert [r.get("fp16_overflows") for r in found] == [None, 2, 3]
    assert [row for row, _ in parsed.lines] == [1, 2, 4]


def test_a_megatron_line_that_was_wrapped_when_it_was_pasted_is_read_to_its_end() -> None:
    text = (
        " iteration 2/ 9 | elapsed time per iteration (s): 105.5 | learning\n"
        " rate: 4.5E-05 | lm loss: 2.5 | number of nan\niterations: 0 |\ntime (ms) | forward: 1.5 | x\n"
    )
    found, parsed = parse("text", text)
    same(
        found,
        [
            {"row": 0, "step": 2, "elapsed time per iteration (s)": 105.5},
            {"row": 1, "step": 2, "learning rate": 4.5e-05, "lm loss": 2.5},
            {"row": 2, "step": 2, "number of nan iterations": 0.0},
        ],
    )
    assert [row for row, _ in parsed.lines] == [3]


def test_what_does_not_complete_a_cut_megatron_line_is_a_line_of_its_own() -> None:
    cut = " iteration 3/ 9 | lm loss: 1.5 | learning rate:\n"
    found, parsed = parse(
        "text", f"{cut}time (ms) | forward: 1.5 |\n{cut.replace('3', '4')}step 5/9 (5%) | loss: 2.5 |\n"
    )
    assert [(r["row"], r["step"]) for r in found] == [(0, 3), (2, 4), (3, 5)]
    assert [row for row, _ in parsed.lines] == [1]


def test_a_line_that_sums_up_many_steps_is_no_row() -> None:
    steps = ", ".join(f"({i}, {{'loss': {i}.5, 'lr': 0.5}})" for i in range(9))
    found, _ = parse("text", f"Metrics: {{'results': [{steps}], 'global_step': 9}}\n")
    assert not found


def test_a_line_that_a_launcher_prints_twice_counts_once() -> None:
    line = "step 00001/10 (1.00%) | loss: 4.5 | dt: 5.00ms\n"
    found, parsed = parse("text", line * 2 + line.replace("00001", "00002") * 2)
    assert [(r["row"], r["step"]) for r in found] == [(0, 1), (2, 2)]
    assert not parsed.lines


def test_a_progress_line_written_with_carriage_returns_is_a_line() -> None:
    found, _ = parse("text", "\rstep 1: loss: 3.5\rstep 2: loss: 3.25\r\nstep 3: loss: 3.0\n")
    assert [(r["row"], r["step"], r["loss"]) for r in found] == [(1, 1, 3.5), (2, 2, 3.25), (3, 3, 3.0)]


def test_json_rows_keep_what_is_a_number_in_any_spelling() -> None:
    found, parsed = parse(
        "jsonl",
        b'{"step": 1, "t": 1700000000.5, "loss": "2.345", "ok": true, "note": "x", "nothing": null}\n'
        b'{"step": 2, "t": "2026-01-01T00:00:00Z", "loss": NaN, "grad": {"norm": -Infinity, "deep": {"er": 1}}}\n'
        b'{"_step": 3, "_timestamp": 1700000002500, "loss": nan, "a": "Infinity", "b": 1.797e308, "c": [1]}\n'
        b'{"trainer/global_step": 4, "loss": -inf}\n'
        b'{"loss": 1, "iteration": null}\n'
        b'{"step": 5, "time": 0.25}\n'
        b'{"step": 6, "time": 1700000000, "loss": 1}\n'
        b'{"step": "7", "t": 3.5, "loss": 1, "run": "other", "total_steps": 100}\n',
    )
    same(
        found,
        [
            {"row": 0, "step": 1, "t": 1700000000.5, "loss": 2.345},
            {"row": 1, "step": 2, "t": 1767225600.0, "loss": NAN, "grad/norm": -math.inf, "grad/deep/er": 1.0},
            {"row": 2, "step": 3, "t": 1700000002.5, "loss": NAN, "a": math.inf, "b": math.inf},
            {"row": 3, "step": 4, "loss": -math.inf},
            {"row": 4, "loss": 1.0},
            {"row": 5, "step": 5, "time": 0.25},
            {"row": 6, "step": 6, "t": 1700000000.0, "loss": 1.0},
            {"row": 7, "step": 7, "t": 3.5, "loss": 1.0, "run": "other"},
        ],
    )
    assert parsed.totals == {"other": 100}


def test_a_metric_that_turns_into_text_is_counted_and_the_row_is_kept() -> None:
    found, parsed = parse("jsonl", '{"step":1,"loss":1.5,"a":1}\n{"step":2,"loss":"diverged","a":2}\n')
    assert [set(r) for r in found] == [{"row", "step", "loss", "a"}, {"row", "step", "a"}]
    assert parsed.tally.counts == {Unusable.NOT_A_NUMBER: 1}
    assert parsed.tally.first == {Unusable.NOT_A_NUMBER: 1}


def test_a_line_that_is_no_json_is_counted_and_kept_as_a_log_line() -> None:
    bomb = b'{"a":' * 100_000
    found, parsed = parse("jsonl", b'{"step":1,"loss":1}\noops\n[1]\n' + bomb + b'\n\n{"step":2,"loss":1}\n')
    assert [r["row"] for r in found] == [0, 5]
    assert parsed.tally.counts == {Unusable.NOT_A_RECORD: 3}
    assert [row for row, _ in parsed.lines] == [1, 2, 3]


def test_numbers_beyond_a_float_are_infinite_and_steps_beyond_an_integer_are_none() -> None:
    found, _ = parse("jsonl", f'{{"step": {10**400}, "loss": {10**400}}}\n{{"step": -3, "loss": 1e999}}\n')
    same(found, [{"row": 0, "loss": math.inf}, {"row": 1, "loss": math.inf}])


def test_iterations_counted_within_epochs_go_on_over_epochs() -> None:
    lines = [
        {"env_info": "x"},
        {"mode": "train", "epoch": 1, "iter": 50, "loss": 2.0},
        {"mode": "train", "epoch": 1, "iter": 100, "loss": 2.0},
        {"mode": "val", "epoch": 1, "iter": 7, "mAP": 0.5},
        {"mode": "train", "epoch": 2, "iter": 50, "loss": 2.0},
        {"mode": "train", "epoch": 3, "iter": 10, "loss": 2.0},
    ]
    found, _ = parse("jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert [r["step"] for r in found] == [50, 100, 100, 150, 160]
    assert found[2]["val/mAP"] == 0.5
    assert "mAP" not in found[2]


def test_an_empty_csv_cell_is_absent_and_nan_is_a_value() -> None:
    found, parsed = parse(
        "csv", 'step,loss,"val, loss"\r\n1,2.5,\r\n2,nan,0.5\r\n3,,\r\n4,1\r\nstep,loss,"val, loss"\r\n5,1,2\r\n'
    )
    same(
        found,
        [
            {"row": 1, "step": 1, "loss": 2.5},
            {"row": 2, "step": 2, "loss": NAN, "val, loss": 0.5},
            {"row": 6, "step": 5, "loss": 1.0, "val, loss": 2.0},
        ],
    )
    assert parsed.tally.counts == {Unusable.NO_METRICS: 1, Unusable.FIELD_COUNT: 1}


def test_a_csv_header_that_grows_is_a_header() -> None:
    found, _ = parse("csv", "step,loss\n1,2\nstep,loss,lr\n2,3,0.5\n")
    same(found, [{"row": 1, "step": 1, "loss": 2.0}, {"row": 3, "step": 2, "loss": 3.0, "lr": 0.5}])


def test_a_csv_column_that_comes_twice_is_two_metrics() -> None:
    found, _ = parse("csv", "step,loss,loss\n1,2,3\n")
    same(found, [{"row": 1, "step": 1, "loss": 2.0, "loss#2": 3.0}])


@pytest.mark.parametrize(
    ("head", "name"),
    [
        ('{"env_info": "x"}\n{"epoch": 1, "iter": 5, "loss": 1}\n', "jsonl"),
        ('{"lr": 0.1, "batch_size": 8}\n', None),
        ("step,loss\n1,2\n", "csv"),
        ("step\tloss\n1\t2\n", "csv"),
        ("a, b\nhello, you\n", None),
        ("hello\nstep 1: loss=2\n", "text"),
        ("# Read me\n\nSome text.\n", None),
        ('{\n  "step": 10,\n  "loss": 2\n}\n', None),
    ],
)
def test_a_format_is_known_by_its_content(head: str, name: str | None) -> None:
    lines = head.encode().splitlines()
    assert next((n for n, f in PARSERS.items() if f.recognise(lines)), None) == name
