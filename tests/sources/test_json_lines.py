"""JSON lines as each of their writers writes them: whose keys, which clock, how many runs in one file."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from log_rig import append, parse, same, watching

from monitor.sources.files import PARSERS
from monitor.sources.files.rows import STEP_KEYS

NAN = math.nan
T = 1_777_975_200.0

WRITERS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "mmcv": (
        [
            {"env_info": "x", "seed": 1, "exp_name": "a.py"},
            {"mode": "train", "epoch": 1, "iter": 50, "lr": 0.002, "memory": 4, "data_time": 0.02, "loss": 1.5},
            {"mode": "train", "epoch": 2, "iter": 50, "lr": 0.002, "memory": 4, "data_time": 0.02, "loss": NAN},
        ],
        [
            {"row": 0, "seed": 1.0},
            {
                "row": 1, "step": 50, "epoch": 1.0, "iter": 50.0, "lr": 0.002, "memory": 4.0, "data_time": 0.02,
                "loss": 1.5,
            },
            {
                "row": 2, "step": 100, "epoch": 2.0, "iter": 50.0, "lr": 0.002, "memory": 4.0, "data_time": 0.02,
                "loss": NAN,
            },
        ],
    ),
    "mmengine": (
        [
            {"lr": 0.01, "data_time": 0.02, "loss": 1.5, "time": 0.5, "epoch": 1, "iter": 10, "memory": 4, "step": 10},
            {"coco/bbox_mAP": 0.125, "data_time": 0.1, "time": 0.25, "step": 1},
        ],
        [
            {
                "row": 0, "step": 10, "lr": 0.01, "data_time": 0.02, "loss": 1.5, "time": 0.5, "epoch": 1.0,
                "iter": 10.0, "memory": 4.0,
            },
            {"row": 1, "step": 1, "coco/bbox_mAP": 0.125, "data_time": 0.1, "time": 0.25},
        ],
    ),
    "detectron2": (
        [{"data_time": 0.01, "eta_seconds": 60.5, "iteration": 19, "lr": 0.0004, "time": 0.3, "total_loss": 4.125}],
        [
            {
                "row": 0, "step": 19, "data_time": 0.01, "eta_seconds": 60.5, "lr": 0.0004, "time": 0.3,
                "total_loss": 4.125,
            }
        ],
    ),
    "LLaMA-Factory": (
        [
            {
                "current_steps": 5, "total_steps": 100, "loss": 1.25, "lr": 1e-05, "epoch": 0.1, "percentage": 5.0,
                "elapsed_time": "0:00:10", "remaining_time": "0:03:10",
            }
        ],
        [{"row": 0, "step": 5, "loss": 1.25, "lr": 1e-05, "epoch": 0.1, "percentage": 5.0}],
    ),
    "Trackio": (
        [
            {"run_name": "a", "step": 0, "timestamp": "2026-05-05T10:00:00+00:00", "loss": "NaN", "x": "Infinity"},
            {"run_name": "b", "step": 0, "timestamp": "2026-05-05T10:00:00+00:00", "loss": 2.5, "x": 1},
        ],
        [
            {"row": 0, "step": 0, "t": T, "run": "a", "loss": NAN, "x": math.inf},
            {"row": 1, "step": 0, "t": T, "run": "b", "loss": 2.5, "x": 1.0},
        ],
    ),
    "W&B export": (
        [{"_step": 3, "_timestamp": T, "_runtime": 2.5, "train": {"loss": 2.5, "grad": {"norm": 1.5}}, "_wandb": {}}],
        [{"row": 0, "step": 3, "t": T, "_runtime": 2.5, "train/loss": 2.5, "train/grad/norm": 1.5}],
    ),
    "fairseq": (
        [{"epoch": 1, "update": 0.01, "loss": "12.5", "num_updates": "10", "lr": "1e-05"}],
        [{"row": 0, "step": 10, "epoch": 1.0, "update": 0.01, "loss": 12.5, "lr": 1e-05}],
    ),
    "milliseconds": ([{"ts": T * 1000, "step": "7", "loss": "1e-3"}], [{"row": 0, "step": 7, "t": T, "loss": 0.001}]),
}  # fmt: skip


@pytest.mark.parametrize("name", list(WRITERS))
def test_a_writers_records_become_its_rows(name: str) -> None:
    records, wanted = WRITERS[name]
    text = "".join(json.dumps(r) + "\n" for r in records)
    assert PARSERS["jsonl"].recognise(text.encode().splitlines())
    same(parse("jsonl", text)[0], wanted)


@pytest.mark.parametrize("key", STEP_KEYS)
def test_every_name_of_a_step_is_one(key: str) -> None:
    same(parse("jsonl", f'{{"{key}": 12, "loss": 1.5}}\n')[0], [{"row": 0, "step": 12, "loss": 1.5}])


def test_records_of_other_keys_among_each_other_keep_their_rows() -> None:
    records = [{"step": i, "loss": float(i)} | ({"lr": 0.5} if i % 3 else {"eval_loss": 1.0}) for i in range(900)]
    found, _ = parse("jsonl", "".join(json.dumps(r) + "\n" for r in records))
    same(found, [{"row": i, **r} for i, r in enumerate(records)])


def test_records_that_differ_in_what_is_no_metric_stay_in_order() -> None:
    text = "".join(json.dumps({"step": i, "loss": 1.5} | ({"note": None} if i % 2 else {})) + "\n" for i in range(9))
    (piece,) = parse("jsonl", text)[1].pieces
    assert piece.row.tolist() == piece.step.tolist() == list(range(9))


def test_records_with_their_keys_in_another_order_are_the_same_rows() -> None:
    found, _ = parse("jsonl", '{"step":1,"loss":2.5,"lr":0.5}\n{"lr":0.25,"step":2,"loss":2.0}\n')
    same(found, [{"row": 0, "step": 1, "loss": 2.5, "lr": 0.5}, {"row": 1, "step": 2, "loss": 2.0, "lr": 0.25}])


def test_a_number_that_a_later_record_spells_as_text_or_truth_is_told_from_one() -> None:
    found, parsed = parse("jsonl", '{"step":1,"loss":2.5}\n{"step":2,"loss":true}\n{"step":3,"loss":"2.5"}\n')
    same(found, [{"row": 0, "step": 1, "loss": 2.5}, {"row": 2, "step": 3, "loss": 2.5}])
    assert parsed.tally.counts["not_a_number"] == 1


def test_runs_that_are_appended_to_one_file_go_on_in_it(tmp_path: Any) -> None:
    path = tmp_path / "log.jsonl"
    one = "".join(json.dumps({"step": i, "loss": 2.5}) + "\n" for i in range(5)).encode()
    with watching(tmp_path) as rig:
        append(path, one)
        rig.poll()
        append(path, one)
        rig.poll()
        assert rig.steps() == [0, 1, 2, 3, 4] * 2
        assert len({r["run"] for r in rig.seen}) == 1


def test_a_file_that_is_written_twice_is_read_twice_as_another_generation(tmp_path: Any) -> None:
    path = tmp_path / "log.jsonl"
    one = "".join(json.dumps({"step": i, "loss": 2.5}) + "\n" for i in range(5)).encode()
    with watching(tmp_path) as rig:
        path.write_bytes(one)
        rig.poll()
        path.write_bytes(one[:60])
        rig.poll()
        path.write_bytes(one.replace(b"2.5", b"2.0"))
        rig.poll()
        assert rig.steps()[-5:] == [0, 1, 2, 3, 4]
        assert [r["values"]["loss"] for r in rig.seen[-5:]] == [2.0] * 5
        assert rig.seen[-1]["generation"] > rig.seen[0]["generation"]
