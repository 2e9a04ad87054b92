"""JSON lines as mmengine, detectron2 and LLaMA-Factory write them: which key is the step, the clock, the plan."""

from __future__ import annotations

import json
from typing import Any

import pytest
from log_rig import parse

from detectors.types import Role
from monitor.roles import role_of
from monitor.sources.files import PARSERS

MMENGINE = [  # vis_data/scalars.json; an evaluation counts its step in epochs
    {"lr": 0.002, "data_time": 0.01, "loss": 1.5, "loss_cls": 1.0, "time": 0.25, "epoch": 1, "iter": 50, "step": 50},
    {"lr": 0.004, "data_time": 0.01, "loss": 1.25, "loss_cls": 0.9, "time": 0.25, "epoch": 1, "iter": 100, "step": 100},
    {"coco/bbox_mAP": 0.25, "data_time": 0.5, "time": 1.5, "step": 1},
]
DETECTRON2 = [  # metrics.json; the first line lacks what is not measured yet
    {"eta_seconds": 90.5, "iteration": 19, "lr": 0.001, "rank_data_time": 0.01, "time": 0.5, "total_loss": 1.5},
    {"data_time": 0.01, "eta_seconds": 80.5, "iteration": 39, "loss_cls": 0.5, "time": 0.5, "total_loss": 1.25},
]
LLAMA_FACTORY = [  # trainer_log.jsonl
    {"current_steps": s, "total_steps": 90, "loss": x, "lr": 1e-4, "percentage": 9.5, "elapsed_time": "0:01:10"}
    for s, x in ((10, 1.5), (20, 1.25))
]


@pytest.mark.parametrize(
    ("lines", "steps", "loss", "times"),
    [
        (MMENGINE, [50, 100, 1], "loss", [0.25, 0.25, 1.5]),
        (DETECTRON2, [19, 39], "total_loss", [0.5, 0.5]),
        (LLAMA_FACTORY, [10, 20], "loss", []),
    ],
    ids=["mmengine", "detectron2", "LLaMA-Factory"],
)
def test_the_lines_of_a_writer_are_rows_with_its_steps_and_its_loss(
    lines: list[dict[str, Any]], steps: list[int], loss: str, times: list[float]
) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    assert next(n for n, f in PARSERS.items() if f.recognise(text.encode().split(b"\n")[:-1])) == "jsonl"
    found, parsed = parse("jsonl", text)
    assert [r["step"] for r in found] == steps
    assert [r[loss] for r in found if loss in r] == [1.5, 1.25]
    assert role_of(loss).role is Role.LOSS
    assert [r["time"] for r in found if "time" in r] == times  # a duration, no clock
    assert all("t" not in r for r in found)
    assert parsed.totals == ({None: 90} if "total_steps" in lines[0] else {})
