"""Event files and W&B logs become the rows that their writers meant.

`golden/writers` holds files that the real writers wrote: torch 2.13.0 `SummaryWriter` (two writers in one folder, a
`simple_value`, a float and a double tensor a step, one text, one histogram), tensorboardX 2.6.5, and wandb 0.31.0 with
mode="offline", a nested key, a NaN, two histograms, a printed line and exit code 3. `tensorboard.json` is what
TensorBoard's own EventFileLoader reads: [event, step, wall time, tag, value].
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from binary_logs import event, field, transaction_log
from log_rig import append, watching

from detectors.types import Origin
from monitor.sources.files.inspect import inspect_file, rows
from monitor.sources.files.replay import read_file
from monitor.sources.files.rows import Unusable

WRITERS = Path(__file__).parents[1] / "golden" / "writers"
READ = json.loads((WRITERS / "tensorboard.json").read_text())
WANDB = WRITERS / "wandb" / "run-abcd1234.wandb"
ORIGINALS = Path(__file__).parents[3] / "shared" / "corpus" / "originals"
EXPECTED = json.loads((ORIGINALS / "expected.json").read_text()) if ORIGINALS.exists() else {}
BINARY = sorted(name for name in EXPECTED if "tfevents" in name or ".wandb" in name)


@pytest.mark.parametrize("name", sorted(READ))
def test_an_event_file_is_read_as_tensorboard_reads_it(name: str) -> None:
    first: dict[int, float] = {}  # the row of a step has the time of its first event
    for _, step, t, *_ in READ[name]:
        first.setdefault(step, t)
    wanted = [[step, first[step], tag, value] for _, step, _, tag, value in READ[name]]
    found = [
        [step, t, tag, value]
        for batch in read_file(str(WRITERS / name))
        for f in batch.frames
        for step, t, values in zip(f.step.tolist(), f.t.tolist(), f.values.tolist(), strict=True)
        for tag, value in zip(f.columns, values, strict=True)
    ]
    assert len(found) >= 40
    assert repr(sorted(found)) == repr(sorted(wanted))
    kinds = 2 if name.startswith("torch") else 1  # text and histogram, or text
    problems = inspect_file(str(WRITERS / name)).problems
    assert {what: n for what, (n, _) in problems.items()} == {Unusable.NOT_A_SCALAR: kinds}


def test_a_wandb_log_has_the_rows_that_were_logged_and_says_that_the_run_ended() -> None:
    found = {
        r["step"]: {k: v for k, v in r.items() if k not in ("run", "step", "t", "_runtime")} for r in rows(str(WANDB))
    }
    wanted: dict[int, Any] = {4: {}, 15: {}}  # a histogram took a step of its own after the calls 3 and 13
    for call in range(20):
        wanted[call + (call > 3) + (call > 13)] = {
            "train/loss": math.nan if call == 5 else 4 / (call + 1), "grad.norm": call / 9, "lr": 1e-3,
        }  # fmt: skip
    assert json.dumps(found, sort_keys=True) == json.dumps(wanted, sort_keys=True)
    batches = list(read_file(str(WANDB)))
    assert [f.finished for b in batches for f in b.facts.values()] == [True]
    texts = [line.text for b in batches for line in b.lines]
    assert texts == ["Traceback: boom", "wandb: the run ended with exit code 3"]
    assert inspect_file(str(WANDB)).problems[Unusable.NOT_A_SCALAR][0] == 1


def test_statistics_of_the_machine_are_rows_with_a_clock_and_no_step(tmp_path: Path) -> None:
    item = field(1, b"gpu.0.temp") + field(16, b"61.5")
    stats = field(2, field(1, 1_700_000_000) + field(2, 500_000_000)) + field(3, item)
    (tmp_path / "run-a.wandb").write_bytes(transaction_log([field(1, 1) + field(7, stats)]))
    assert list(rows(str(tmp_path / "run-a.wandb"))) == [
        {"run": "run-a", "step": None, "t": 1_700_000_000.5, "system/gpu.0.temp": 61.5}
    ]


def test_a_history_record_may_keep_its_step_beside_the_items(tmp_path: Path) -> None:
    history = field(1, field(1, b"loss") + field(16, b'"NaN"')) + field(2, field(1, 7))
    (tmp_path / "run-a.wandb").write_bytes(transaction_log([field(2, history)]))
    (row,) = rows(str(tmp_path / "run-a.wandb"))
    assert row["step"] == 7
    assert math.isnan(row["loss"])  # type: ignore[arg-type]


def test_an_event_of_several_values_is_one_row_and_other_kinds_are_counted_once(tmp_path: Path) -> None:
    def value(tag: bytes, *content: bytes) -> bytes:
        return field(1, field(1, tag) + b"".join(content))

    tensor = field(8, field(1, 2) + field(4, struct.pack("<d", 0.1)))
    many = value(b"loss", b"\x15" + struct.pack("<f", 2.5)) + value(b"acc", tensor) + value(b"h", field(5, b""))
    data = event(7, many) + event(8, value(b"h", field(5, b""))) + event(9, value(b"i", field(4, b"")))
    (tmp_path / "events.out.tfevents.1700000000.h").write_bytes(data)
    (row,) = rows(str(tmp_path / "events.out.tfevents.1700000000.h"))
    assert row == {"run": tmp_path.name, "step": 7, "t": 1_700_000_007.0, "loss": 2.5, "acc": 0.1}
    assert inspect_file(str(tmp_path / "events.out.tfevents.1700000000.h")).problems == {Unusable.NOT_A_SCALAR: (2, 1)}


def test_a_second_event_file_is_a_new_attempt_of_the_run_that_its_folder_is(tmp_path: Path) -> None:
    old, new = (sorted((WRITERS / "torch").iterdir())[i].read_bytes() for i in (0, 1))
    folder = tmp_path / "runs" / "a"
    append(folder / "events.out.tfevents.999.host.1.0", event(1) + event(2))  # an older one, of fewer digits
    append(folder / "events.out.tfevents.1795206927.host.7.0", old)
    with watching(tmp_path / "runs") as rig:
        rig.poll(8)
        assert {(r["run"], r["generation"], r["origin"]) for r in rig.seen} == {
            ("a", 0, Origin.HISTORY),
            ("a", 1, Origin.HISTORY),
        }
        rig.restart()
        append(folder / "events.out.tfevents.1795206928.host.9.0", new)
        rig.poll(8)
        rig.restart()
        append(folder / "events.out.tfevents.1795206928.host.9.0", event(30))
        (folder / "events.out.tfevents.999.host.1.0").unlink()
        rig.poll(8)
        steps = [r["step"] for r in rig.seen]
        assert steps == [1, 2, *range(20), *range(10, 30), 30]
        assert [r["generation"] for r in rig.seen[22:]] == [2] * 21
        assert [r["row"] for r in rig.seen] == sorted({r["row"] for r in rig.seen})
        assert {r["origin"] for r in rig.seen[22:-1]} == {Origin.BACKLOG}
        assert not set(rig.counts) - {Unusable.NOT_A_SCALAR}


def test_an_event_file_that_is_deleted_does_not_bring_an_older_one_back(tmp_path: Path) -> None:
    append(tmp_path / "events.out.tfevents.1.h", event(1))
    append(tmp_path / "events.out.tfevents.2.h", event(2))
    with watching(tmp_path) as rig:
        rig.poll(8)
        (tmp_path / "events.out.tfevents.2.h").unlink()
        rig.poll(8)
        rig.restart()
        rig.poll(8)
        append(tmp_path / "events.out.tfevents.3.h", event(3))
        rig.poll(8)
        assert [(r["run"], r["step"], r["generation"]) for r in rig.seen] == [
            (tmp_path.name, 1, 0), (tmp_path.name, 2, 1), (tmp_path.name, 3, 2),
        ]  # fmt: skip


def test_an_event_file_that_is_watched_by_its_own_name_is_one_attempt(tmp_path: Path) -> None:
    append(tmp_path / "events.out.tfevents.1.h", event(1))
    append(tmp_path / "events.out.tfevents.2.h", event(2))
    with watching(tmp_path / "events.out.tfevents.1.h") as rig:
        rig.poll(8)
        assert [(r["run"], r["step"]) for r in rig.seen] == [(tmp_path.name, 1)]


@pytest.mark.skipif(not BINARY, reason="the labelled corpus is not beside the checkout")
@pytest.mark.parametrize("name", BINARY or [""])
def test_an_original_has_the_expected_rows_and_values(name: str) -> None:
    found = list(rows(str(ORIGINALS / name)))
    machine = [r for r in found if any(k.startswith("system/") for k in r)]
    at: dict[Any, dict[str, Any]] = {}
    for r in (r for r in found if r not in machine):
        at.setdefault(r["step"], {}).update(r)
    trained = sorted(step for step, r in at.items() if ".wandb" in name or {"loss", "grad_norm", "lr"} & r.keys())
    for run in EXPECTED[name]["runs"]:
        if run["stream"] == "system":
            assert len(machine) == run["rows"]
        elif run["stream"] == "train":
            assert (len(trained), trained[0], trained[-1]) == (run["rows"], run["first_step"], run["last_step"])
        for (step, metric, value), row in zip(run["samples"], run["sample_rows"], strict=True):
            seen = machine[row][f"system/{metric}"] if run["stream"] == "system" else at[step][metric]
            assert seen == value
    assert not inspect_file(str(ORIGINALS / name)).problems
