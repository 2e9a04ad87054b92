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
from typing import Any

from monitor.sources.files.loose import embedded_json, generic, tqdm
from monitor.sources.files.textline import MAX_REPEATS, NUMBER, Line, pairs_of, read_number, with_clock

MARKS = ("step", "iter", "it/s", "s/it", "s:", "'loss'", '"', "Step", "Iter", "STEP", "Epoch")
"""A line without any of these is no line of metrics."""


_MEGATRON = re.compile(r"\biteration\s+(\d+)\s*/\s*(\d+)\s*\|(.*)")


def megatron(line: str) -> Line | None:
    """` iteration n/ N | key: value | …`, also for DeepSpeed's fork and NeMo 1."""
    found = _MEGATRON.search(line)
    if not found:
        return None
    values, rest = megatron_items(found[3])
    if not values:
        return None
    nan_if_absent = ("lm loss",) if line.rstrip().endswith("|") else ()  # else it was cut
    head = with_clock(line[: found.start()], found[1], {})
    return Line({**head, **values}, int(found[2]), nan_if_absent, rest)


def megatron_items(text: str) -> tuple[dict[str, Any], str]:
    """`key: value | key: value | …` and what stands behind the last bar, if that is no item by itself."""
    values: dict[str, Any] = {}
    item, known = "", True
    for item in text.split("|"):
        key, colon, value = item.rpartition(":")
        known = bool(colon and (x := read_number(value.strip())) is not None and key.strip())
        if known:
            values[key.strip()] = x
    return values, "" if known else item.strip()


_MMDET = re.compile(r"\bEpoch(?:\(train\))?\s{1,4}\[(\d+)\]\s{0,4}\[\s{0,8}(\d+)/(\d+)\]\s(.*)")


def mmdet(line: str) -> Line | None:
    """`Epoch [1][50/1833] lr: 1.9e-03, eta: 1:02:03, time: 0.511, data_time: 0.189, …`; steps go on over epochs."""
    found = _MMDET.search(line)
    if not found or len(found[1] + found[3]) > 18:
        return None
    epoch, at, length = int(found[1]), int(found[2]), int(found[3])
    values = {k: v for k, v in pairs_of(found[4]).items() if k not in ("eta", "day", "days")}
    return Line(with_clock(line, str((epoch - 1) * length + at), {"epoch": float(epoch), **values})) if values else None


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
        head: dict[str, Any] = {"t": float(entry["time_ms"]) / 1000}
        if not all(str(k).startswith("validation") for k in stats):  # these count the steps of each validation
            head["step"] = about.get("step", about.get("step_num"))
        counts = {k: about[k] for k in ("samples_count", "epoch_num", "epoch_count") if k in about and k not in stats}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return Line({**head, **counts, **{str(k): v for k, v in stats.items()}})


_NANOCHAT = re.compile(r"\bstep (\d+)/(\d+) \([\d.]+%\) \| (.*)")
_NANOCHAT_ITEM = re.compile(rf"([A-Za-z_][A-Za-z_/ 0-9]*): ?({NUMBER})(ms|m|s|%)?$")
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
    return Line(with_clock("", found[1], values), int(found[2])) if values else None


_NANOGPT = re.compile(rf"^iter (\d+): loss ({NUMBER})(?:, time ({NUMBER})ms)?(?:, mfu ({NUMBER})%)?")
_NANOGPT_EVAL = re.compile(rf"^step (\d+): train loss ({NUMBER}), val loss ({NUMBER})")


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
    return Line(with_clock("", found[1], values))


_MODDED = re.compile(r"(?:^|\s)(?:step|s):(\d+)(?:/(\d+))?\s+(\S.*)")
_MODDED_ITEM = re.compile(rf"(?<![\w/.])([A-Za-z_][\w/.]{{0,100}}):({NUMBER})(ms|s)?(?=\s|$)")
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
    return Line(with_clock("", found[1], values), int(found[2] or -1)) if values else None


_TORCHTITAN = re.compile(r"\bstep:\s{0,8}([\d,]{1,20})(?:/([\d,]{1,20}))?\s+")
_TORCHTITAN_ITEM = re.compile(
    rf"([A-Za-z_][\w/.\-]{{0,60}}):\s{{0,8}}({NUMBER})(?:[A-Za-z%]+)?(?:\([^)]{{0,40}}\))?(?=\s|$)"
)


def torchtitan(line: str) -> Line | None:
    """`step: 10  loss:  7.84719  grad_norm:  1.4412  memory: 22.10GiB(46.53%)  tps: 8,131  mfu: 28.56%`."""
    found = _TORCHTITAN.search(line)
    if not found or "loss:" not in line:
        return None
    pairs = _TORCHTITAN_ITEM.findall(line, found.end())
    values = {name: x for name, text in pairs if (x := read_number(text)) is not None}
    step, total = found[1].replace(",", ""), (found[2] or "").replace(",", "")
    return Line(with_clock(line, step, values), int(total or -1)) if values and step else None


def huggingface(line: str) -> Line | None:
    """`{'loss': '2.345', 'grad_norm': '1.2', 'learning_rate': '5e-05', 'epoch': '0.1'}`, also after a progress bar."""
    start, end = line.find("{'"), line.rfind("}")
    if start < 0 or end < start or "loss'" not in line:
        return None
    items = _HF_ITEM.findall(line[start : end + 1])
    values = dict(items)
    if len(items) - len(values) > MAX_REPEATS:  # a summary of many steps
        return None
    numbers = {k: x for k, v in values.items() if (x := read_number(v)) is not None}
    return Line(numbers) if numbers else None


_HF_ITEM = re.compile(rf"'([^']{{1,200}})': '?({NUMBER})'?(?=[,}}])")


_DEEPSPEED = re.compile(rf"\bstep=(\d{{1,18}}), skipped=(\d{{1,18}}), lr=\[({NUMBER})")
_DEEPSPEED_TIMER = re.compile(r"/global_step=(\d{1,18}), (RunningAvgSamplesPerSec=.{0,500})")
OVERFLOW = "fp16 dynamic loss scale overflow!"
"""DeepSpeed's remark on a step that it skips; a text without step or metrics that is only worth counting."""


def deepspeed(line: str) -> Line | None:
    """`step=10, skipped=0, lr=[1e-4, 1e-4], mom=[(0.9, 0.999)]`; `…/global_step=10, RunningAvgSamplesPerSec=8.5, …`."""
    if ", skipped=" in line and (found := _DEEPSPEED.search(line)):
        values = {"skipped": float(found[2]), "lr": read_number(found[3])}
        return Line(with_clock(line, found[1], values))
    found = _DEEPSPEED_TIMER.search(line) if "/global_step=" in line else None
    return Line(with_clock(line, found[1], pairs_of(found[2]))) if found else None


_OLMO = re.compile(r"\[step=([\d,]{1,24})(?:/([\d,]{1,24}))?,epoch=")
_OLMO_ITEM = re.compile(rf"    ([^\s=][^=]{{0,200}})=({NUMBER})$")


def olmo_head(line: str) -> Line | None:
    """`[step=100/1000,epoch=1,eta=…]` of OLMo-core: the step of the indented lines that follow."""
    found = _OLMO.search(line) if "[step=" in line else None
    if not found or not (step := found[1].replace(",", "")):
        return None
    return Line(with_clock(line[: found.start()], step, {}), int((found[2] or "").replace(",", "") or -1))


def olmo_item(line: str) -> tuple[str, float] | None:
    """`    train/CE loss=3.412`."""
    found = _OLMO_ITEM.match(line.rstrip())
    x = read_number(found[2]) if found else None
    return (found[1], x) if found and x is not None else None


PATTERNS: dict[str, Callable[[str], Line | None]] = {
    "megatron": megatron,
    "mlperf": mlperf,
    "mmdet": mmdet,
    "deepspeed": deepspeed,
    "nanochat": nanochat,
    "nanogpt": nanogpt,
    "modded_nanogpt": modded,
    "torchtitan": torchtitan,
    "huggingface": huggingface,
    "json": embedded_json,
    "tqdm": tqdm,
    "generic": generic,
}
