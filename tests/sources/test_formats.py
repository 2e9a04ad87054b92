"""Every format's lines, written after its trainer's format string, become the rows that the trainer meant."""

from __future__ import annotations

import json
import math

import pytest
from log_rig import parse, same

from monitor.sources.files import PARSERS
from monitor.sources.files.rows import Unusable

NAN = math.nan


TEXT = {
    "megatron": (
        (" iteration       10/    1000 | consumed samples:         5120 | elapsed time per iteration (ms): 812.5 |"
        " learning rate: 1.875E-05 | global batch size:   512 | lm loss: 7.244238E+00 | loss scale: 1024.0 |"
        " grad norm: 6.593 | number of skipped iterations:   0 | number of nan iterations:   0 |"),
        {
            "step": 10, "consumed samples": 5120.0, "elapsed time per iteration (ms)": 812.5,
            "learning rate": 1.875e-05, "global batch size": 512.0, "lm loss": 7.244238,
            "loss scale": 1024.0, "grad norm": 6.593,
            "number of skipped iterations": 0.0, "number of nan iterations": 0.0,
        },
    ),
    "torchtitan": (
        ("[rank0]:[titan] 2026-05-05 10:00:00,250 - root - INFO - \x1b[31mstep: 10  \x1b[32mloss:  6.25119  "
        "\x1b[38;2;180;60;0mgrad_norm:  1.4412  \x1b[36mmemory: 22.10GiB(46.53%)  \x1b[34mtps: 8,131  "
        "\x1b[36mtflops: 89.12  \x1b[35mmfu: 28.56%\x1b[39m"),
        {
            "step": 10, "t": 1777975200.25, "loss": 6.25119, "grad_norm": 1.4412, "memory": 22.1, "tps": 8131.0,
            "tflops": 89.12, "mfu": 28.56,
        },
    ),
    "tqdm": (
        "train:   2%|▏         | 30/1500 [00:00<00:47, 31.20it/s, loss=2.3161, grad_norm=1.622, lr=1.33e-04]",
        {"step": 30, "loss": 2.3161, "grad_norm": 1.622, "lr": 1.33e-4, "it_per_s": 31.2},
    ),
    "nanogpt": (
        "iter 250: loss 3.5031, time 135.42ms, mfu 38.11%",
        {"step": 250, "loss": 3.5031, "time_ms": 135.42, "mfu": 38.11},
    ),
    "nanogpt eval": (
        "step 250: train loss 3.5031, val loss 3.6125",
        {"step": 250, "train/loss": 3.5031, "val/loss": 3.6125},
    ),
    "nanochat": (
        ("step 00120/21400 (0.56%) | loss: 4.512345 | lrm: 1.00 | dt: 512.33ms | tok/sec: 1,023,456 | mfu: 41.20 | "
        "total time: 1.02m | eta: 181.6m"),
        {
            "step": 120, "loss": 4.512345, "lrm": 1.0, "dt_ms": 512.33, "tok_per_s": 1023456.0, "mfu": 41.2,
            "total_time_m": 1.02,
        },
    ),
    "modded-nanogpt": (
        "step:125/3375 val_loss:4.85424 train_time:56.129s step_avg:449.03ms",
        {"step": 125, "val_loss": 4.85424, "train_time_ms": 56129.0, "step_avg_ms": 449.03},
    ),
    "modded-nanogpt nan": (
        "step:1/3375 train_loss:10.5 train_time:74701ms step_avg:nanms",
        {"step": 1, "train_loss": 10.5, "train_time_ms": 74701.0, "step_avg_ms": NAN},
    ),
    "modded-nanogpt short": ("s:4 trl:3.25 norm:1.5", {"step": 4, "train_loss": 3.25, "grad_norm": 1.5}),
    "deepspeed": (
        "[2026-05-25 22:30:04,500] [INFO] [logging.py:60:log_dist] [Rank 0] step=10, skipped=2, lr=[0.1, 0.1]",
        {"step": 10, "t": 1779748204.5, "skipped": 2.0, "lr": 0.1},
    ),
    "deepspeed timer": (
        ("[2026-05-25 22:30:04,500] [INFO] [timer.py:208:stop] epoch=0/micro_step=20/global_step=10, "
        "RunningAvgSamplesPerSec=8.5, CurrSamplesPerSec=9.25, MemAllocated=1.5GB, MaxMemAllocated=2.0GB"),
        {"step": 10, "t": 1779748204.5, "RunningAvgSamplesPerSec": 8.5, "CurrSamplesPerSec": 9.25},
    ),
    "absl": (
        "I0307 03:25:34.376671 139958446696192 logging_writer.py:48] [1900] global_step=1900, grad_norm=4.5, loss=4.25",
        {"step": 1900, "grad_norm": 4.5, "loss": 4.25},
    ),
    "mlperf validation": (
        (':::MLLOG {"time_ms": 1760055791500, "key": "tracked_stats", "value": {"validation_step_time": 0.5}, '
        '"metadata": {"lineno": 3, "step": 2, "samples_count": 128}}'),
        {"t": 1760055791.5, "samples_count": 128.0, "validation_step_time": 0.5},
    ),
    "mmdet": (
        ("2026-01-12 12:38:53,500 - mmdet - INFO - Epoch [2][50/400]\tlr: 1.978e-03, eta: 1 day, 0:57:21, time: 0.511, "
        "data_time: 0.189, memory: 4267, loss_cls: 1.4711, loss: 2.1291"),
        {
            "step": 450, "t": 1768221533.5, "epoch": 2.0, "lr": 0.001978, "time": 0.511, "data_time": 0.189,
            "memory": 4267.0, "loss_cls": 1.4711, "loss": 2.1291,
        },
    ),
    "mlperf": (
        ('0: :::MLLOG {"namespace": "", "time_ms": 1760055791500, "event_type": "POINT_IN_TIME", "key": '
        '"tracked_stats", "value": {"train_step_time": 0.5, "reduced_train_loss": 8.5}, '
        '"metadata": {"lineno": 3, "step": 64.0}}'),
        {"step": 64, "t": 1760055791.5, "train_step_time": 0.5, "reduced_train_loss": 8.5},
    ),
    "hugging face": (
        "  3%|x | 30/1000 [00:10<05:00]{'loss': '2.345', 'grad_norm': nan, 'learning_rate': '5e-05', 'epoch': '0.02'}",
        {"loss": 2.345, "grad_norm": NAN, "learning_rate": 5e-05, "epoch": 0.02},
    ),
    "json in text": ('INFO {"step": 10, "loss": NaN, "note": "x"}', {"step": 10, "loss": NAN}),
    "generic": (
        "Step 10/500: loss=2.5, lr=1e-3, grad_norm=inf",
        {"step": 10, "loss": 2.5, "lr": 0.001, "grad_norm": math.inf},
    ),
    "generic colon": ("train | global_step: 7 | loss: 2.5 | dt: 12ms", {"step": 7, "loss": 2.5, "dt_ms": 12.0}),
}  # fmt: skip


@pytest.mark.parametrize("name", list(TEXT))
def test_a_line_of_a_known_trainer_is_a_row(name: str) -> None:
    line, wanted = TEXT[name]
    found, parsed = parse("text", line + "\n")
    same(found, [{"row": 0, **wanted}])
    assert not parsed.lines
    assert PARSERS["text"].recognise([line.encode()])


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
