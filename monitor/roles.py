"""Metric names of the known trainers → what they mean: role, unit, which way is bad, and how primary they are.

A pure table, because names differ by trainer and roles do not. Names are compared in lower case with every separator
alike, with and without prefixes such as `train/` or `optim/`. The first rule that matches decides; a name that no rule
knows has the role OTHER. The rank orders the metrics of one role in one run: the lowest is the primary one, ties go to
the metric seen first. Component losses (`loss_bbox`, `aux_loss`) keep the role LOSS with a rank that is never primary
beside a total.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from detectors.types import Role

COMPONENT_RANK = 100
"""From this rank on a metric is a part of another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleInfo:
    """What a metric name means.

    unit: of the values as written ("" if none is known). rank: the lowest of a role is the primary metric.
    direction: which way is bad: "up", "down", or "both".
    """

    role: Role
    unit: str = ""
    rank: int = COMPONENT_RANK
    direction: str = "both"


_DIRECTION = {
    Role.LOSS: "up",
    Role.EVAL_LOSS: "up",
    Role.GRAD_NORM: "up",
    Role.STEP_TIME: "up",
    Role.DATA_TIME: "up",
    Role.THROUGHPUT: "down",
    Role.LOSS_SCALE: "down",
    Role.SKIPPED_STEPS: "up",
    Role.NAN_STEPS: "up",
}

# (role, rank, unit, pattern over the whole normalised name), in order of precedence
_TABLE: tuple[tuple[Role, int, str, str], ...] = (
    (Role.OTHER, 0, "", r"(train(ing)?|total|elapsed|wall|eval)_time"),
    (Role.LOSS_SCALE, 0, "", r"(cur(rent)?_|fp16_|dynamic_|grad_)?(loss|grad)_scale(r|r_scale)?"),
    (Role.SKIPPED_STEPS, 0, "steps", r"(number_of_)?skipped(_(iterations|iters|steps))?|overflows?"),
    (Role.NAN_STEPS, 0, "steps", r"(number_of_)?nan_(iterations|iters|steps)"),
    (Role.EVAL_LOSS, 0, "", r"(val(id(at(e|ion))?)?|eval(uation)?|dev)_(lm_|ce_|avg_|mean_|total_)?loss(_epoch)?"),
    (Role.EVAL_LOSS, 1, "", r"(lm_)?loss_(val(id(ation)?)?|eval(uation)?|dev)|lm_loss_validation(_.*)?"),
    (Role.EVAL_LOSS, 2, "", r"(test|heldout|held_out)_(.*_)?loss|loss_test"),
    (Role.EVAL_LOSS, COMPONENT_RANK, "", r"(val(id(ation)?)?|eval(uation)?|dev)_(.*_)?(loss|ppl|bpb|perplexity)(_.*)?"),
    (Role.LOSS, -1, "", r"loss_de_smoothed"),
    (Role.LOSS, 0, "", r"loss"),
    (
        Role.LOSS,
        1,
        "",
        r"(total|avg|mean|running|batch|step|reduced(_train)?|global_avg)_loss|loss_(step|total|avg|mean|train)",
    ),
    (Role.LOSS, 2, "", r"(global_avg_)?(lm|ce|nll|xent|cross_entropy|language_model(ing)?)_loss|trl|cross_entropy"),
    (Role.LOSS, 3, "", r"(ema_|smooth(ed)?_|raw_)loss|loss_(epoch|ema|smooth)"),
    (Role.LOSS, COMPONENT_RANK, "", r"(.*_)?loss(es)?(_.*)?"),
    (Role.GRAD_NORM, 0, "", r"grad(ient)?s?_norm|gnorm|norm_grad|total_(grad(ient)?|norm_of_grad)_norm"),
    (
        Role.GRAD_NORM,
        1,
        "",
        r"(global|total|overall|actor|policy|model)_(grad(ient)?|l2)_norm|grad(ient)?_norm_(total|global|l2|all|step)",
    ),
    (Role.GRAD_NORM, 2, "", r"grad_2(\.0)?_norm_total|grad(ient)?_global_norm|grad(ient)?_l2(_norm)?"),
    (Role.GRAD_NORM, COMPONENT_RANK, "", r"(.*_)?(grad(ient)?s?_norm|gnorm)(_.*)?"),
    (Role.LEARNING_RATE, 0, "", r"lr|learning_rate"),
    (
        Role.LEARNING_RATE,
        1,
        "",
        r"(cur(rent)?|base|main|max)_(lr|learning_rate)|(lr|learning_rate)_(step|0|group_?0|pg_?1)",
    ),
    (Role.LEARNING_RATE, 2, "", r"lrm|lr_(mul(t(iplier)?)?|scale|factor)"),
    (Role.LEARNING_RATE, COMPONENT_RANK, "", r"(lr|learning_rate)_[a-z0-9_]+|[a-z0-9]+_(lr|learning_rate)"),
    (Role.DATA_TIME, 0, "s", r"data_?(time|wait|loading|load|loader|fetch)(_time|_wait|_s|_sec(onds)?|_ms)?"),
    (
        Role.DATA_TIME,
        1,
        "s",
        r"(batch_generator|dataloader|loader|batch_load|input|fetch|batch)_?(wait|time|stall)(_time)?(_s|_ms)?",
    ),
    (Role.STEP_TIME, 0, "s", r"step_time|step_duration|time_per_step"),
    (Role.STEP_TIME, 1, "s", r"(train_|training_)?(step|iter|iteration|batch|update)_?(time|timing|duration)(_in)?"),
    (
        Role.STEP_TIME,
        2,
        "s",
        r"elapsed_time_per_(iteration|step)|time_per_(iteration|iter|batch)|(sec(ond)?s?|s)_per_(step|it(er(ation)?)?)",
    ),
    (Role.STEP_TIME, 3, "s", r"wall_per_step|end_to_end"),
    (Role.STEP_TIME, 4, "s", r"dt"),
    (Role.STEP_TIME, 5, "s", r"time"),
    (
        Role.THROUGHPUT,
        0,
        "tokens/s",
        r"(token|tok)s?_?(per|/)_?s(ec(ond)?)?|tps|(token|tok)s?_s(ec(ond)?)?|throughput_tps",
    ),
    (
        Role.THROUGHPUT,
        1,
        "samples/s",
        r"(train_)?(sample|image|example|seq(uence)?|frame)s?_per_s(ec(ond)?)?|running_?avg_?samples_?per_?sec",
    ),
    (Role.THROUGHPUT, 2, "", r"throughput|(train_|global_)?throughput(_.*)?"),
    (Role.THROUGHPUT, 3, "steps/s", r"((train_)?(step|it(er(ation)?)?)s?_per_s(ec(ond)?)?)|its"),
    (Role.THROUGHPUT, 4, "tokens/s", r"(.*_)?(token|tok)s?_per_(s(ec(ond)?)?)(_.*)?|tgs"),
    (Role.THROUGHPUT, 5, "TFLOP/s", r"(.*_)?t?flops?(_?(per|/)?_?(s(ec)?|gpu|device))*"),
    (Role.THROUGHPUT, 6, "", r"(.*_)?(mfu|hfu)(_pct|_percent)?"),
)
_TOTALS, _PARTS = (
    tuple((role, rank, unit, re.compile(p)) for role, rank, unit, p in _TABLE if (rank >= COMPONENT_RANK) is parts)
    for parts in (False, True)
)

_UNIT = re.compile(r"\s*[(\[]\s*(ms|msec|milliseconds?|s|secs?|seconds?|us|min|%|tps)\s*[)\]]\s*$")
_GLUED_UNIT = re.compile(r"(?<=[a-z])(?<!tok)(?<!token)(?<!tokens)_(ms|msec|milliseconds|s|secs?|seconds|us)$")
_SEPARATORS = re.compile(r"[^a-z0-9.]+|(?<![0-9])\.|\.(?![0-9])")
_PREFIX = re.compile(
    r"^(train(ing|er)?|optim(izer)?|metrics?|stats?|perf(ormance)?|timers?|global|loss_metrics|time_metrics|log|data)_(?=.)"
)
_UNIT_NAME = {
    "msec": "ms",
    "milliseconds": "ms",
    "millisecond": "ms",
    "sec": "s",
    "secs": "s",
    "second": "s",
    "seconds": "s",
}
_TIMES = (Role.STEP_TIME, Role.DATA_TIME)
_OTHER = RoleInfo(role=Role.OTHER)


@lru_cache(maxsize=65_536)
def role_of(metric: str) -> RoleInfo:
    """What `metric` means. Never fails; unknown names are OTHER. Cached, bounded."""
    lower = metric.strip().lower()[:200]
    unit = ""
    if found := _UNIT.search(lower):
        unit, lower = found[1], lower[: found.start()]
    name = _SEPARATORS.sub("_", lower).strip("_")
    if not unit and (found := _GLUED_UNIT.search(name)) and "_per_" not in name:
        unit, name = found[1], name[: found.start()]
    names = [name]
    while found := _PREFIX.match(names[-1]):
        names.append(names[-1][found.end() :])
    for rules in (_TOTALS, _PARTS):
        for cut, candidate in enumerate(names):
            for role, rank, usual, pattern in rules:
                if pattern.fullmatch(candidate) and not (unit == "%" and role in _TIMES):
                    return _info(role, rank + 10 * cut if rank < COMPONENT_RANK else rank, usual, unit)
    return _OTHER


def _info(role: Role, rank: int, usual: str, unit: str) -> RoleInfo:
    if role is Role.OTHER:
        return _OTHER
    written = _UNIT_NAME.get(unit, unit)
    known = written if role in _TIMES or written == "%" else ""
    return RoleInfo(role=role, unit=known or usual, rank=rank, direction=_DIRECTION.get(role, "both"))
