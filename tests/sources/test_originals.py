"""Logs as their trainers wrote them are read with the expected rows, steps and values.

The corpus is no part of this repository; without it beside the checkout these tests are skipped. What is compared, by
the conventions of its README, of every run of every file in `expected.json`:

| files | checked |
| --- | --- |
| CSV, mmdet JSON, trainer state and log, modded-nanogpt, nanochat, Megatron console, AlgoPerf log | rows, first and last step, sampled values at their row |
| MLPerf, train | the same; the step of a row without one is its sample count here, none in our rows |
| MLPerf, eval | sampled values of what is a metric; start and stop marks are log lines, and the step is of the validation |
| mmdet text | the rows of the JSON log of the same run do not stand in the corpus: number of rows and steps only |
"""
# ruff: noqa: E501  a table

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitor.sources.files.inspect import rows

CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "originals"
EXPECTED: dict[str, Any] = json.loads((CORPUS / "expected.json").read_text()) if CORPUS.is_dir() else {}

ELSEWHERE = {
    "events.out.tfevents": "held against the originals in test_record_formats.py",
    ".wandb.gz": "held against the originals in test_record_formats.py",
}
Row = dict[str, Any]
Choice = Callable[[list[Row]], list[Row]]


def having(*metrics: str) -> Choice:
    return lambda found: [r for r in found if any(m in r for m in metrics)]


def lacking(*metrics: str) -> Choice:
    return lambda found: [r for r in found if not any(m in r for m in metrics)]


def counted(found: list[Row]) -> list[Row]:
    """MLPerf's train rows; the corpus takes the sample count for a step where there is no other."""
    train = having("reduced_train_loss", "train_step_time", "throughput", "loss_scale", "warmup_time", "init_finished")
    return [{**r, "step": r["step"] if r["step"] is not None else r.get("samples_count")} for r in train(found)]


RULES: dict[tuple[str, str], Choice] = {
    ("hf-trainer", "train"): having("loss"),
    ("hf-trainer", "eval"): having("eval_loss"),
    ("mmdet", "train"): having("loss"),
    ("modded-nanogpt", "train"): lacking("val_loss"),
    ("modded-nanogpt", "eval"): having("val_loss"),
    ("nanochat", "train"): having("dt_ms"),
    ("megatron-golden", "train"): lambda found: found,
    ("bigscience", "train"): having("elapsed time per iteration (ms)"),
    ("bigscience", "excerpt"): lambda found: found,
    ("mlperf", "train"): counted,
    ("algoperf", "train"): having("grad_norm"),
    ("algoperf", "eval"): lambda found: [r for r in found if "score" in r and r["step"] is not None],
}
SAMPLES_ONLY = {("mlperf", "eval")}
MARKS = {"init_start", "eval_start", "eval_stop"}


def series() -> list[Any]:
    """(file, number of the run in it) of everything that the corpus expects."""
    found = [(file, i) for file, about in EXPECTED.items() for i in range(len(about.get("runs", ())))]
    return [pytest.param(f, i, id=f"{f.removesuffix('.gz')}-{i}") for f, i in found] or [pytest.param("", 0, id="none")]


def lives(found: list[Row]) -> list[list[Row]]:
    """Runs that follow each other in one log: each begins where the step goes back.

    A run that is resumed repeats a step, with other values; the corpus has it once.
    """
    out: list[list[Row]] = []
    for r in found:
        if out and out[-1][-1]["step"] == r["step"]:
            continue
        if not out or (out[-1][-1]["step"] or 0) > (r["step"] or 0):
            out.append([])
        out[-1].append(r)
    return out


def excerpt(found: list[Row], about: Row) -> list[Row]:
    """The rows of one excerpt; a line that its author wrapped is a row for each part, all of one step."""
    out: list[Row] = []
    for r in found:
        if r["step"] is not None and about["first_step"] <= r["step"] <= about["last_step"]:
            if out and out[-1]["step"] == r["step"]:
                out[-1] |= r
            else:
                out.append(dict(r))
    return having("consumed samples")(out)


@pytest.fixture(scope="module")
def read() -> Callable[[str], list[Row]]:
    known: dict[str, list[Row]] = {}

    def once(file: str) -> list[Row]:
        if file not in known:
            known.clear()
            known[file] = list(rows(str(CORPUS / file)))
        return known[file]

    return once


@pytest.mark.skipif(not EXPECTED, reason="the corpus does not stand beside the checkout")
@pytest.mark.parametrize(("file", "number"), series())
def test_a_log_has_the_rows_that_its_trainer_wrote(file: str, number: int, read: Callable[[str], list[Row]]) -> None:
    data = gzip.decompress((CORPUS / file).read_bytes())
    assert hashlib.sha256(data).hexdigest() == EXPECTED[file]["sha256"]
    if elsewhere := next((why for mark, why in ELSEWHERE.items() if mark in file), None):
        pytest.skip(elsewhere)
    found = read(file)
    about = EXPECTED[file]["runs"][number]
    kind = (file.split("/", maxsplit=1)[0], about["stream"])
    if kind in SAMPLES_ONLY:
        values = {(m, v) for r in found for m, v in r.items()}
        wanted = [(m, v) for _, m, v in about["samples"] if m not in MARKS and m != "samples_count"]
        assert [w for w in wanted if w not in values] == []
        return
    found = found if file.endswith(".csv.gz") else RULES[kind](found)
    if kind[0] == "nanochat":
        found = lives(found)[int(about["run"])]
    elif kind[1] == "excerpt":
        found = excerpt(found, about)
    assert len(found) == about["rows"]
    if about["first_step"] is not None:  # MLPerf's `step_num` is a step to us
        assert (found[0]["step"], found[-1]["step"]) == (about["first_step"], about["last_step"])
    for (step, metric, value), at in zip(about["samples"], about["sample_rows"], strict=True):
        assert step is None or found[at]["step"] == step
        assert math.isclose(found[at][metric], value, rel_tol=1e-12), (at, metric)


@pytest.mark.skipif(not EXPECTED, reason="the corpus does not stand beside the checkout")
@pytest.mark.parametrize("file", [f for f, about in EXPECTED.items() if not about.get("runs")] or [""])
def test_a_text_twin_of_a_json_log_has_its_rows(file: str) -> None:
    found = having("loss")(list(rows(str(CORPUS / file))))
    steps = [r["step"] for r in found]
    assert len(found) == 3516
    assert steps == sorted(steps)
    assert all(math.isfinite(r["loss"]) for r in found)


def test_every_format_of_the_corpus_has_a_rule_or_a_reason() -> None:
    for file, about in EXPECTED.items():
        for run in about.get("runs", ()):
            listed = any(mark in file for mark in ELSEWHERE) or file.endswith(".csv.gz")
            kind = (file.split("/")[0], run["stream"])
            assert listed or kind in RULES or kind in SAMPLES_ONLY, file
