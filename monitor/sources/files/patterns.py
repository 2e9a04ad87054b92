r"""One function per trainer: a console line → its step and metrics, or None if it is another's.

Sources of the formats: Megatron-LM `training_log`, torchtitan `metrics.py`, nanoGPT `train.py`, nanochat `base_train.py`,
modded-nanogpt's records, DeepSpeed `log_dist`, Hugging Face Trainer's printed dicts. Names of metrics are the writer's;
a unit glued to the number becomes part of the name (`train_time_ms`). All expressions are linear in the line's length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from monitor.sources.files.values import number

MAX_LINE = 20_000
MARKS = ("step", "iter", "s:", "'loss'", '"', "Step", "Iter", "STEP")
"""A line without any of these is no line of metrics."""

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]")
_N = r"[-+]?(?:\d[\d,_]*\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|NaN|NAN|inf|Inf|INF|Infinity)"


@dataclass(slots=True)
class Line:
    """values: `step`, perhaps `t`, and metrics. total: planned last step, -1 if unknown."""

    values: dict[str, Any]
    total: int = -1
    nan_if_absent: tuple[str, ...] = field(default=())


def plain(raw: bytes) -> str:
    """Text of a line without escape sequences, cut to a bound."""
    text = raw[:MAX_LINE].decode(errors="replace")
    return _ESCAPE.sub("", text) if "\x1b" in text else text


def _number(text: str) -> float | None:
    return number(text.replace(",", ""))


_STAMP = re.compile(r"\[?(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)")


def _clock(line: str) -> float | None:
    """Time stamp near the beginning of a line; without a zone it is read as UTC."""
    found = _STAMP.search(line[:60])
    if not found:
        return None
    try:
        moment = datetime.fromisoformat(found[1].replace(",", "."))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _with_clock(line: str, step: str, values: dict[str, Any]) -> dict[str, Any]:
    t = _clock(line)
    head: dict[str, Any] = {"step": int(step.replace(",", ""))}
    if t is not None:
        head["t"] = t
    return {**head, **values}


_MEGATRON = re.compile(r"\biteration\s+(\d+)\s*/\s*(\d+)\s*\|(.*)")


def megatron(line: str) -> Line | None:
    """` iteration n/ N | key: value | …`, also for DeepSpeed's fork and NeMo 1."""
    found = _MEGATRON.search(line)
    if not found:
        return None
    values: dict[str, Any] = {}
    for item in found[3].split("|"):
        key, colon, value = item.rpartition(":")
        if colon and (x := _number(value.strip())) is not None and key.strip():
            values[key.strip()] = x
    if not values:
        return None
    nan_if_absent = ("lm loss",) if "elapsed time per iteration (ms)" in values or "grad norm" in values else ()
    return Line(_with_clock(line[: found.start()], found[1], values), int(found[2]), nan_if_absent)


_NANOCHAT = re.compile(r"\bstep (\d+)/(\d+) \([\d.]+%\) \| (.*)")
_NANOCHAT_ITEM = re.compile(rf"([A-Za-z_][A-Za-z_/ 0-9]*): ?({_N})(ms|m|s|%)?$")
_NANOCHAT_NAMES = {"dt": "dt_ms", "tok/sec": "tok_per_s", "bf16_mfu": "mfu", "total time": "total_time_m"}


def nanochat(line: str) -> Line | None:
    """`step 00120/21400 (0.56%) | loss: 4.5 | lrm: 1.00 | dt: 512.33ms | tok/sec: 1,023,456 | …`."""
    found = _NANOCHAT.search(line)
    if not found:
        return None
    values: dict[str, Any] = {}
    for item in found[3].split("|"):
        if (pair := _NANOCHAT_ITEM.match(item.strip())) and (x := _number(pair[2])) is not None:
            if (name := pair[1].strip()) not in ("eta", "epoch"):
                values[_NANOCHAT_NAMES.get(name, name)] = x
    return Line(_with_clock("", found[1], values), int(found[2])) if values else None


_NANOGPT = re.compile(rf"^iter (\d+): loss ({_N})(?:, time ({_N})ms)?(?:, mfu ({_N})%)?")
_NANOGPT_EVAL = re.compile(rf"^step (\d+): train loss ({_N}), val loss ({_N})")


def nanogpt(line: str) -> Line | None:
    """`iter 250: loss 3.2031, time 135.42ms, mfu 38.11%`; `step 250: train loss 3.2, val loss 3.3`."""
    names: tuple[str, ...] = ("loss", "time_ms", "mfu")
    found = _NANOGPT.search(line)
    if not found:
        names, found = ("train/loss", "val/loss"), _NANOGPT_EVAL.search(line)
    if not found:
        return None
    pairs = zip(names, found.groups()[1:], strict=True)
    values = {name: x for name, text in pairs if text is not None and (x := _number(text)) is not None}
    return Line(_with_clock("", found[1], values))


_MODDED = re.compile(r"(?:^|\s)(?:step|s):(\d+)(?:/(\d+))?\s+(\S.*)")
_MODDED_ITEM = re.compile(rf"([A-Za-z_][\w/.]*):({_N})(ms|s)?(?=\s|$)")
_MODDED_NAMES = {"trl": "train_loss", "norm": "grad_norm"}


def modded(line: str) -> Line | None:
    """`step:125/3375 val_loss:4.85 train_time:56129ms step_avg:449.03ms`; `s:n trl:… norm:…`."""
    found = _MODDED.search(line)
    if not found:
        return None
    values: dict[str, Any] = {}
    for name, text, unit in _MODDED_ITEM.findall(found[3]):
        if (x := _number(text)) is not None:
            name, x = _MODDED_NAMES.get(name, name), x * 1000 if unit == "s" else x
            values[f"{name}_ms" if unit else name] = x
    return Line(_with_clock("", found[1], values), int(found[2] or -1)) if values else None


_TORCHTITAN = re.compile(r"\bstep:\s*([\d,]+)(?:/([\d,]+))?\s+(?=\S)(.*\bloss:.*)")
_PAIR = re.compile(rf"([A-Za-z_][\w/.\-() ]*?)\s*[:=]\s*['\"]?({_N})(?![\d:/-]*[:/]\d)([A-Za-z%]*)")


def torchtitan(line: str) -> Line | None:
    """`step: 10  loss:  7.84719  grad_norm:  1.4412  memory: 22.10GiB(46.53%)  tps: 8,131  tflops: 89.12  mfu: 28.56%`."""
    found = _TORCHTITAN.search(line)
    if not found:
        return None
    values = _pairs(re.sub(r"\([^)]*\)", " ", found[3]))
    return Line(_with_clock(line, found[1], values), int((found[2] or "-1").replace(",", ""))) if values else None


def _pairs(text: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value, unit in _PAIR.findall(text):
        if (x := _number(value.rstrip(","))) is not None:
            values[f"{name.strip()}_ms" if unit == "ms" else name.strip()] = x
    return values


def huggingface(line: str) -> Line | None:
    """`{'loss': '2.345', 'grad_norm': '1.2', 'learning_rate': '5e-05', 'epoch': '0.1'}`, also after a progress bar."""
    start, end = line.find("{'"), line.rfind("}")
    if start < 0 or end < start or "loss'" not in line:
        return None
    values = dict(_HF_ITEM.findall(line[start : end + 1]))
    numbers = {k: x for k, v in values.items() if (x := _number(v)) is not None}
    return Line(numbers) if numbers else None


_HF_ITEM = re.compile(rf"'([^']{{1,200}})': '?({_N})'?(?=[,}}])")


def embedded_json(line: str) -> Line | None:
    """A JSON object that fills the rest of a line of other text, with a step in it."""
    start = line.find("{")
    if start < 0 or not line.rstrip().endswith("}"):
        return None
    try:
        record = json.loads(line[start:])
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not any(k in record for k in ("step", "global_step", "iteration", "_step")):
        return None
    numbers = {k: x for k, v in record.items() if (x := number(v)) is not None}
    return Line(numbers) if len(numbers) > 1 else None


_STEP = re.compile(
    r"(?:^|[\s|,;\[({])(?:global[_ ]|train(?:ing)?[_ ])?(?:step|iter(?:ation)?|update)s?\s*[:=#]?\s*\[?\s*"
    r"(\d[\d,]*)(?:\s*(?:/|of)\s*(\d[\d,]*))?(?![\w.])",
    re.IGNORECASE,
)


def generic(line: str) -> Line | None:
    """`Step 10: loss=2.3, lr=1e-3` and the like: a step-like key and at least one `key: value` or `key=value`."""
    found = _STEP.search(line)
    if not found:
        return None
    rest = line[: found.start()] + " ; " + line[found.end() :]
    values = {k: v for k, v in _generic_pairs(rest).items() if k.lower() not in ("rank", "pid", "line", "epoch")}
    if not values:
        return None
    step, total = found[1].rstrip(",").replace(",", ""), (found[2] or "-1").rstrip(",").replace(",", "")
    if len(step) > 18 or len(total) > 18:
        return None
    return Line(_with_clock(line, step, values), int(total))


_GENERIC_PAIR = re.compile(
    rf"(?:^|[\s,;|\[({{\"'])([A-Za-z_][\w/.\-]{{0,100}}(?: (?:loss|norm|rate|scale|time))?)['\"]?\s*[:=]\s*['\"]?({_N})(ms\b|s\b|%)?(?=$|[\s,;|\])}}\"'])"
)


def _generic_pairs(text: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value, unit in _GENERIC_PAIR.findall(text):
        if (x := _number(value.rstrip(","))) is not None:
            values[f"{name}_ms" if unit == "ms" else name] = x
    return values


PATTERNS: dict[str, Callable[[str], Line | None]] = {
    "megatron": megatron,
    "nanochat": nanochat,
    "nanogpt": nanogpt,
    "modded_nanogpt": modded,
    "torchtitan": torchtitan,
    "huggingface": huggingface,
    "json": embedded_json,
    "generic": generic,
}
