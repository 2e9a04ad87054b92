"""Metric names mean what their trainers meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detectors.types import Role
from monitor.roles import COMPONENT_RANK, role_of

CORPUS = Path(__file__).parents[2] / "shared" / "corpus"

NAMES = {
    Role.LOSS: ["loss", "train/loss", "train_loss", "Train/Loss", "lm loss", "reduced_train_loss", "loss_cls"],
    Role.EVAL_LOSS: ["val_loss", "validation/loss", "eval/loss", "test/loss", "lm loss validation", "eval_loss"],
    Role.GRAD_NORM: ["grad_norm", "grad norm", "grad-norm", "train/grad_norm", "optim/total_grad_norm"],
    Role.LEARNING_RATE: ["lr", "learning rate", "learning_rate", "current_lr", "lrm", "lr-AdamW", "optim/lr_group0"],
    Role.STEP_TIME: [
        "step_time", "elapsed time per iteration (ms)", "iteration-time", "train_step_time", "dt_ms", "time",
        "wall_per_step", "time_ms", "train_step_timing in s", "time_metrics/end_to_end(s)",
    ],
    Role.DATA_TIME: ["data_time", "data wait", "data_wait_s", "time_metrics/data_loading(s)"],
    Role.THROUGHPUT: ["tokens_per_s", "tps", "tok_per_s", "tok/sec", "samples per second", "TFLOPs", "throughput"],
    Role.LOSS_SCALE: ["loss scale", "loss_scale", "loss-scale"],
    Role.SKIPPED_STEPS: ["number of skipped iterations"],
    Role.NAN_STEPS: ["number of nan iterations"],
    Role.OTHER: ["accuracy", "epoch", "train_time_ms", "step_avg_ms", "num zeros", "", "time_metrics/data_loading(%)"],
}  # fmt: skip


@pytest.mark.parametrize(("role", "name"), [(role, name) for role, names in NAMES.items() for name in names])
def test_a_known_name_has_its_role(role: Role, name: str) -> None:
    assert role_of(name).role is role


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("elapsed time per iteration (ms)", "ms"),
        ("elapsed time per iteration (s)", "s"),
        ("dt_ms", "ms"),
        ("time", "s"),
        ("data_wait_s", "s"),
        ("tps", "tokens/s"),
        ("mfu(%)", "%"),
        ("loss", ""),
    ],
)
def test_the_unit_is_the_written_one_or_the_usual_one(name: str, unit: str) -> None:
    assert role_of(name).unit == unit


@pytest.mark.parametrize(
    ("primary", "other"),
    [
        ("loss", "train/loss"),
        ("train_loss", "aux_loss"),
        ("loss", "loss_bbox"),
        ("lm loss", "sop loss"),
        ("grad_norm", "grad_norm/layer1"),
        ("tok_per_s", "mfu"),
        ("step_time", "time"),
        ("learning rate", "lrm"),
    ],
)
def test_the_whole_outranks_its_parts_and_proxies(primary: str, other: str) -> None:
    assert role_of(primary).role is role_of(other).role
    assert role_of(primary).rank < role_of(other).rank


def test_a_part_of_a_loss_is_never_ranked_as_a_whole_one() -> None:
    assert all(role_of(name).rank >= COMPONENT_RANK for name in ("loss_cls", "loss_rpn_bbox", "train/aux_loss"))


def test_bad_is_up_for_losses_and_times_and_down_for_throughput() -> None:
    assert [role_of(n).direction for n in ("loss", "step_time", "tps", "lr")] == ["up", "up", "down", "both"]


@pytest.mark.skipif(not (CORPUS / "index.json").exists(), reason="the labelled corpus is not beside the checkout")
def test_roles_and_primaries_agree_with_the_labelled_corpus() -> None:
    watched = {"loss", "grad_norm", "step_time", "data_time", "learning_rate", "throughput"}
    wrong = []
    for series, about in json.loads((CORPUS / "index.json").read_text()).items():
        for metric, named in about["roles"].items():
            expected = {"lr": "learning_rate"}.get(named, named)
            found = role_of(metric).role.value
            if found != expected and (expected in watched or found in watched):
                wrong.append((series, metric, expected, found))
        for named, primary in about["primary"].items():
            expected = {"lr": "learning_rate"}.get(named, named)
            of_role = [m for m in about["metrics"] if role_of(m).role == expected]
            if min(of_role, key=lambda m: role_of(m).rank) != primary:
                wrong.append((series, named, primary, of_role))
    assert not wrong
