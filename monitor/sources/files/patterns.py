r"""One function per trainer: a console line → its step and metrics, or None if it is another's.

Sources of the formats: Megatron-LM `training_log`, torchtitan `metrics.py`, nanoGPT `train.py`, nanochat
`base_train.py`, modded-nanogpt's records, DeepSpeed `log_dist`, mmcv's TextLoggerHook, MLPerf logging, the dicts that
Hugging Face's Trainer prints. Names of metrics are the writer's;
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
MARKS = ("step", "iter", "it/s", "s/it", "s:", "'loss'", '"', "Step", "Iter", "STEP", "Epoch")
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


def read_number(text: str) -> float | None:
    """The number that a piece of text spells, with or without separators of thousands."""
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
        if colon and (x := read_number(value.strip())) is not None and key.strip():
            values[key.strip()] = x
    if not values:
        return None
    nan_if_absent = ("lm loss",) if line.rstrip().endswith("|") else ()  # else it was cut
    return Line(_with_clock(line[: found.start()], found[1], values), int(found[2]), nan_if_absent)


_MMDET = re.compile(r"\bEpoch(?:\(train\))?\s{1,4}\[(\d+)\]\s{0,4}\[\s{0,8}(\d+)/(\d+)\]\s(.*)")


def mmdet(line: str) -> Line | None:
    """`Epoch [1][50/1833] lr: 1.9e-03, eta: 1:02:03, time: 0.511, data_time: 0.189, …`; steps go on over epochs."""
    found = _MMDET.search(line)
    if not found or len(found[1] + found[3]) > 18:
        return None
    epoch, at, length = int(found[1]), int(found[2]), int(found[3])
    values = {k: v for k, v in _generic_pairs(found[4]).items() if k not in ("eta", "day", "days")}
    return (
        Line(_with_clock(line, str((epoch - 1) * length + at), {"epoch": float(epoch), **values})) if values else None
    )


def mlperf(line: str) -> Line | None:
    """`:::MLLOG {json}` anywhere in a line: tracked statistics and the training loss."""
    start = line.find(":::MLLOG {")
    if start < 0:
        return None
    try:
        entry = json.loads(line[start + 9 :])
        key, value, about = entry["key"], entry["value"], entry["metadata"]
        if key not in ("tracked_stats", "train_loss", "eval_accuracy", "eval_loss", "validation_loss"):
            return None
        stats = value if isinstance(value, dict) else {key: value}
        head = {"step": about.get("step", about.get("step_num")), "t": float(entry["time_ms"]) / 1000}
        counts = {k: about[k] for k in ("samples_count",) if k in about and k not in stats}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return Line({**head, **counts, **{str(k): v for k, v in stats.items()}})


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
        pair = _NANOCHAT_ITEM.match(item.strip())
        if pair and pair[1] not in ("eta", "epoch") and (x := read_number(pair[2])) is not None:
            values[_NANOCHAT_NAMES.get(pair[1], pair[1])] = x
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
    values = {name: x for name, text in pairs if text is not None and (x := read_number(text)) is not None}
    return Line(_with_clock("", found[1], values))


_MODDED = re.compile(r"(?:^|\s)(?:step|s):(\d+)(?:/(\d+))?\s+(\S.*)")
_MODDED_ITEM = re.compile(rf"(?<![\w/.])([A-Za-z_][\w/.]{{0,100}}):({_N})(ms|s)?(?=\s|$)")
_MODDED_NAMES = {"trl": "train_loss", "norm": "grad_norm"}


def modded(line: str) -> Line | None:
    """`step:125/3375 val_loss:4.85 train_time:56129ms step_avg:449.03ms`; `s:n trl:… norm:…`."""
    found = _MODDED.search(line)
    if not found:
        return None
    values: dict[str, Any] = {}
    for name, text, unit in _MODDED_ITEM.findall(found[3]):
        if (x := read_number(text)) is not None:
            known = _MODDED_NAMES.get(name, name)
            values[f"{known}_ms" if unit else known] = x * 1000 if unit == "s" else x
    return Line(_with_clock("", found[1], values), int(found[2] or -1)) if values else None


_TORCHTITAN = re.compile(r"\bstep:\s{0,8}([\d,]{1,20})(?:/([\d,]{1,20}))?\s+")
_TORCHTITAN_ITEM = re.compile(
    rf"([A-Za-z_][\w/.\-]{{0,60}}):\s{{0,8}}({_N})(?:[A-Za-z%]+)?(?:\([^)]{{0,40}}\))?(?=\s|$)"
)


def torchtitan(line: str) -> Line | None:
    """`step: 10  loss:  7.84719  grad_norm:  1.4412  memory: 22.10GiB(46.53%)  tps: 8,131  mfu: 28.56%`."""
    found = _TORCHTITAN.search(line)
    if not found or "loss:" not in line:
        return None
    pairs = _TORCHTITAN_ITEM.findall(line, found.end())
    values = {name: x for name, text in pairs if (x := read_number(text)) is not None}
    step, total = found[1].replace(",", ""), (found[2] or "").replace(",", "")
    return Line(_with_clock(line, step, values), int(total or -1)) if values and step else None


def huggingface(line: str) -> Line | None:
    """`{'loss': '2.345', 'grad_norm': '1.2', 'learning_rate': '5e-05', 'epoch': '0.1'}`, also after a progress bar."""
    start, end = line.find("{'"), line.rfind("}")
    if start < 0 or end < start or "loss'" not in line:
        return None
    values = dict(_HF_ITEM.findall(line[start : end + 1]))
    numbers = {k: x for k, v in values.items() if (x := read_number(v)) is not None}
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
    r"(?:^|[\s|,;\[({])(?:global[_ ]|train(?:ing)?[_ ])?(?:step|iter(?:ation)?|update)s?\s{0,4}[:=#]?\s{0,4}\[?\s{0,4}"
    r"(\d[\d,]{0,20})(?:\s{0,4}(?:/|of)\s{0,4}(\d[\d,]{0,20}))?(?![\w.])",
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
    rf"(?:^|(?<=[\s,;|\[({{\"']))([A-Za-z_][\w/.\-]{{0,100}}(?: (?:loss|norm|rate|scale|time))?)['\"]?"
    rf"\s{{0,8}}[:=]\s{{0,8}}['\"]?({_N})(ms\b|s\b|%)?(?=$|[\s,;|\])}}\"'])"
)


def _generic_pairs(text: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value, unit in _GENERIC_PAIR.findall(text):
        if (x := read_number(value.rstrip(","))) is not None:
            values[f"{name}_ms" if unit == "ms" else name] = x
    return values


_TQDM = re.compile(r"\|\s{0,4}(\d{1,18})/(\d{1,18}) \[([^\]]{0,2000})\]")

_RATE = re.compile(r"(\d{1,9}\.\d{1,9})(it/s|s/it)")


def tqdm(line: str) -> Line | None:
    """`train:  2%|▏ | 30/1500 [00:00<00:47, 31.2it/s, loss=2.31, lr=1e-3]`; bars of an epoch are left."""
    found = _TQDM.search(line)
    if not found or "poch" in line:
        return None
    values = _generic_pairs(found[3])
    rate = _RATE.search(found[3])
    if values and rate and (x := float(rate[1])) > 0:
        values["it_per_s"] = x if rate[2] == "it/s" else 1 / x
    return Line(_with_clock("", found[1], values), int(found[2])) if values else None


PATTERNS: dict[str, Callable[[str], Line | None]] = {
    "megatron": megatron,
    "mlperf": mlperf,
    "mmdet": mmdet,
    "nanochat": nanochat,
    "nanogpt": nanogpt,
    "modded_nanogpt": modded,
    "torchtitan": torchtitan,
    "huggingface": huggingface,
    "json": embedded_json,
    "tqdm": tqdm,
    "generic": generic,
}
