r"""One function per trainer: a console line → its step and metrics, or None if it is another's.

Sources of the formats: Megatron-LM `training_log`, torchtitan `metrics.py`, fairseq `progress_bar.py`, DeepSpeed
`log_dist`, OLMo-core's ConsoleLoggerCallback, mmcv's TextLoggerHook, MLPerf logging, the dicts that Hugging Face's
Trainer prints; nanoGPT and its kin are in `nano`. Names of metrics are the writer's; a unit glued to the number becomes
part of the name (`train_time_ms`). All expressions are linear in the line's length. `PATTERNS`, at the end, is the only
list of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from monitor.sources.files.loose import embedded_json, generic, record_in, tqdm
from monitor.sources.files.nano import llmc, modded, nanochat, nanogpt
from monitor.sources.files.textline import EXACT, MAX_REPEATS, NUMBER, Line, pairs_of, read_number, with_clock
from monitor.sources.files.values import number

Reader = Callable[[str], Line | None]

_MEGATRON = re.compile(r"\biteration\s+(\d+)\s*/\s*(\d+)\s*\|(.*)")


def megatron(line: str) -> Line | None:
    """` iteration n/ N | key: value | …`, also of DeepSpeed's fork and NeMo 2."""
    found = _MEGATRON.search(line)
    if not found:
        return None
    values, rest = megatron_items(found[3])
    if not values:
        return None
    nan_if_absent = ("lm loss",) if line.rstrip().endswith("|") else ()  # else it was cut
    head = with_clock(line[: found.start()], found[1], {})
    return Line({**head, **values}, int(found[2]), nan_if_absent, rest)


_MEGATRON_EVAL = re.compile(r"\bvalidation loss at iteration (\d{1,18})(?: on (\w{1,50}) set)?[^|]{0,50}\|(.*)")


def megatron_eval(line: str) -> Line | None:
    """` validation loss at iteration n | lm loss value: x | lm loss PPL: y |`, named as it names them elsewhere."""
    found = _MEGATRON_EVAL.search(line)
    if not found:
        return None
    where = found[2] or "validation"
    items = megatron_items(found[3])[0]
    values = {k.replace(" value", f" {where}").replace(" PPL", f" {where} ppl"): x for k, x in items.items()}
    return Line(with_clock(line[: found.start()], found[1], values)) if values else None


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


_MMDET = re.compile(r"\bEpoch(?:\(train\))?\s{1,8}\[(\d+)\]\s{0,4}\[\s{0,8}(\d+)/(\d+)\]\s(.*)")
_MMDET_ITER = re.compile(r"\bIter(?:\(train\))?\s{1,8}\[\s{0,8}(\d{1,18})/(\d{1,18})\]\s(.*)")


def mmdet(line: str) -> Line | None:
    """`Epoch [1][50/1833] lr: 1.9e-03, eta: 1:02:03, time: 0.511, data_time: 0.189, …`; steps go on over epochs.

    Also `Epoch(train) …` of mmengine, and `Iter [50/40000] …` where a run is counted in iterations.
    """
    if found := _MMDET_ITER.search(line):
        values = {k: v for k, v in pairs_of(found[3]).items() if k not in ("eta", "day", "days")}
        return Line(with_clock(line, found[1], values), int(found[2])) if values else None
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


_FAIRSEQ = re.compile(
    r"\bepoch (\d{1,9})(?: \| (?:valid on '(\w{1,50})' subset \| )?|:\s{1,8}\d{1,18} / \d{1,18} )(.*)"
)
_FAIRSEQ_ITEM = re.compile(rf"([A-Za-z_][\w.]{{0,60}})[= ]({NUMBER})$")


def fairseq(line: str) -> Line | None:
    """`epoch 001:  10 / 99 loss=9.5, …, num_updates=10, …` of an interval, `epoch 001 | loss 9.5 | …` of an epoch.

    The interval's names are bare; an epoch's and a validation's begin with `train_` and `valid_`, as fairseq names
    them itself where it writes JSON: `{"epoch": 1, "update": 0.1, "loss": "9.5", …}`. Steps are its updates.
    """
    values: dict[str, Any]
    if (record := record_in(line)) is not None:
        values = {k: x for k, v in record.items() if (x := number(v)) is not None}
    elif found := _FAIRSEQ.search(line):
        pairs = map(_FAIRSEQ_ITEM.match, map(str.strip, re.split(r", | \| ", found[3])))
        values = {p[1]: x for p in pairs if p and (x := read_number(p[2])) is not None}
        if " | " in found[3]:
            values = {f"{found[2] or 'train'}_{k}": x for k, x in values.items()}
        values["epoch"] = float(found[1])
    else:
        return None
    counts = [k for k in values if k.endswith("num_updates")]
    if not counts or not 0 <= values[counts[0]] < EXACT:
        return None
    step = values.pop(counts[0])
    return Line(with_clock(line, str(int(step)), values)) if len(values) > 1 else None


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
    kind = "validate/" if line[: found.start()].endswith("validate ") else ""
    values = {kind + name: x for name, text in pairs if (x := read_number(text)) is not None}
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


_OLMO = re.compile(r"\[step=([\d,]{1,24})(?:/(?:([\d,]{1,24})|\?{1,8}))?,epoch=")
_OLMO_ITEM = re.compile(rf"    ([^\s=][^=]{{0,200}})=({NUMBER})([BTPE]?)$")
_OLMO_UNITS = {"": 1.0, "B": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}


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
    return (found[1], x * _OLMO_UNITS[found[3]]) if found and x is not None else None


PATTERNS: dict[Reader, tuple[str, ...]] = {
    megatron: ("iteration",),
    megatron_eval: ("validation loss at",),
    mlperf: (":::MLLOG",),
    fairseq: ("num_updates",),
    mmdet: ("Epoch", "Iter"),
    deepspeed: ("step=",),
    nanochat: ("step ", "Step "),
    nanogpt: ("iter ", "step "),
    llmc: ("step ",),
    modded: ("step:", "s:"),
    torchtitan: ("step:",),
    huggingface: ("loss'",),
    embedded_json: ("{",),
    tqdm: ("it/s", "s/it"),
    generic: ("step", "iter", "update", "Step", "Iter", "Update", "STEP", "ITER", "UPDATE"),
}
"""Pattern → what a line must contain, any of it, to be shown to it. The first that takes a line makes its row."""
