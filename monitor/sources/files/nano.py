"""Console lines of nanoGPT and its kin: nanochat, autoresearch, modded-nanogpt, llm.c (see `patterns`).

Sources of the formats: nanoGPT `train.py`, nanochat `base_train.py` and `chat_sft.py`, autoresearch `train.py`,
modded-nanogpt's records, llm.c `train_gpt2.cu`, `train_gpt2.c`, `train_gpt2.py` and `logger.h`.
"""

from __future__ import annotations

import re
from typing import Any

from monitor.sources.files.textline import NUMBER, Line, read_number, with_clock

_NANOCHAT = re.compile(r"\bstep (\d{1,18})(?:/(\d{1,18}))? \([\d.]+%\) \| (.*)")
_NANOCHAT_EVAL = re.compile(rf"^Step (\d{{1,18}}) \| ([A-Za-z][\w ]{{0,60}}): ({NUMBER})(?= \||$)")
_NANOCHAT_ITEM = re.compile(rf"([A-Za-z_][A-Za-z_/ 0-9]*): ?({NUMBER})(ms|m|s|%)?$")
_NANOCHAT_NAMES = {"dt": "dt_ms", "tok/sec": "tok_per_s", "bf16_mfu": "mfu", "total time": "total_time_m"}


def nanochat(line: str) -> Line | None:
    """`step 00120/21400 (0.56%) | loss: 4.5 | lrm: 1.00 | dt: 512.33ms | tok/sec: 1,023,456 | …`, `Step 250 | name: 1`.

    autoresearch writes the same without a total. The loss of both is an exponential mean (decay 0.9, debiased).
    """
    if (found := _NANOCHAT_EVAL.search(line)) and (x := read_number(found[3])) is not None:
        return Line(with_clock("", found[1], {found[2]: x}))
    found = _NANOCHAT.search(line)
    if not found:
        return None
    values: dict[str, Any] = {}
    for item in found[3].split("|"):
        pair = _NANOCHAT_ITEM.match(item.strip())
        if pair and pair[1] not in ("eta", "epoch", "remaining") and (x := read_number(pair[2])) is not None:
            values[_NANOCHAT_NAMES.get(pair[1], pair[1])] = x
    smoothed = ("loss", 0.9) if "loss" in values else None
    return Line(with_clock("", found[1], values), int(found[2] or -1), smoothed=smoothed) if values else None


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
_MODDED_NAMES = {"trl": "train_loss", "tel": "val_loss", "norm": "grad_norm"}


def modded(line: str) -> Line | None:
    """`step:125/3375 val_loss:4.85 train_time:56129ms step_avg:449.03ms`; `s:n trl:… lr:… norm:…` of llm.c's log."""
    found = _MODDED.search(line)
    if not found:
        return None
    values: dict[str, Any] = {}
    for name, text, unit in _MODDED_ITEM.findall(found[3]):
        if (x := read_number(text)) is not None:
            known = _MODDED_NAMES.get(name, name)
            values[f"{known}_ms" if unit else known] = x * 1000 if unit == "s" else x
    return Line(with_clock("", found[1], values), int(found[2] or -1)) if values else None


_LLMC = re.compile(r"^step\s{1,8}(\d{1,18})(?:/(\d{1,18}) \||:) ((?:train )?loss .*)")
_LLMC_ITEM = re.compile(rf"(train loss|loss|norm|lr|took)?\s{{0,8}}({NUMBER})%? ?(ms|bf16 MFU|tok/s)?$")
_LLMC_NAMES = {"norm": "grad_norm", "ms": "time_ms", "bf16 MFU": "mfu", "tok/s": "tok_per_s"}


def llmc(line: str) -> Line | None:
    """`step   5/10 | loss 4.5 (+0.1z)| norm 1.2 (nanz)| lr 1e-04 | 12.3 ms | 45.1% bf16 MFU | 1234 tok/s` of CUDA.

    `step 5/10 | train loss 4.5 | … | (12.3 ms | 1234 tok/s)` of Python, `step 5: train loss 4.5 (took 12.3 ms)` of C.
    The z-scores are left: they are nan until their window is full.
    """
    found = _LLMC.search(line)
    if not found:
        return None
    values: dict[str, Any] = {}
    for item in re.split(r"[|()]", found[3]):
        pair = _LLMC_ITEM.match(item.strip())
        if pair and (name := pair[3] or pair[1]) and (x := read_number(pair[2])) is not None:
            values[_LLMC_NAMES.get(name, name)] = x
    return Line(with_clock("", found[1], values), int(found[2] or -1)) if values else None
