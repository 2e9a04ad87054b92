"""Hugging Face's trainer_state.json, rewritten whole at each checkpoint: each entry of its history is read once."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from log_rig import parse, watching

from monitor.sources.files import PARSERS


def document(entries: int, *, seed: int = 0, total: int = 900) -> str:
    """As `TrainerState.save_to_json` writes it."""
    history: list[dict[str, float]] = []
    for i in range(1, entries + 1):
        grad_norm = 1.5 if i % 3 else float("nan")
        history.append({"epoch": i / 10, "grad_norm": grad_norm, "loss": i + seed + 0.5, "step": i * 10})
        if i % 4 == 0:
            history.append({"epoch": i / 10, "eval_loss": 2.5, "step": i * 10})
    state = {
        "best_metric": None, "epoch": entries / 10, "global_step": entries * 10, "log_history": history,
        "logging_steps": 10, "max_steps": total, "stateful_callbacks": {"a": {"args": {"b": [{"loss": 1}]}}},
    }  # fmt: skip
    return json.dumps(state, indent=2, sort_keys=True) + "\n"


def test_the_history_becomes_rows_and_the_plan_the_length_of_the_run() -> None:
    found, parsed = parse("trainer_state", document(4))
    assert [(r["step"], r.get("loss"), r.get("eval_loss")) for r in found] == [
        (10, 1.5, None), (20, 2.5, None), (30, 3.5, None), (40, 4.5, None), (40, None, 2.5),
    ]  # fmt: skip
    assert parsed.totals == {None: 900}
    assert not parsed.tally.counts


def test_it_is_known_by_its_history_and_a_model_configuration_is_not() -> None:
    name = next(n for n, f in PARSERS.items() if f.recognise(document(2).encode().split(b"\n")))
    assert name == "trainer_state"
    assert not PARSERS[name].recognise(b'{\n  "hidden_size": 10,\n  "step": 1\n}'.split(b"\n"))


def rewrite(path: Path, text: str, *, how: str) -> None:
    if how == "renamed":
        other = path.with_name(".new")
        other.write_text(text)
        other.replace(path)
    else:
        path.write_text(text)


@pytest.mark.parametrize("how", ["in place", "renamed"])
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("entries", [2, 300])
def test_only_entries_beyond_the_last_are_new(tmp_path: Path, how: str, killed: bool, entries: int) -> None:
    path = tmp_path / "trainer_state.json"
    path.write_text(document(entries))
    with watching(tmp_path) as rig:
        for n in (entries, entries + 5, entries + 5, entries + 9):
            rewrite(path, document(n), how=how)
            if killed:
                rig.restart()
            rig.poll()
        losses = [r["values"]["loss"] for r in rig.seen if "loss" in r["values"]]
        assert losses == [i + 0.5 for i in range(1, entries + 10)]
        assert {r["generation"] for r in rig.seen} == {0}


@pytest.mark.parametrize("killed", [False, True])
def test_a_document_that_is_half_written_is_left_until_it_is_whole(tmp_path: Path, killed: bool) -> None:
    path, new = tmp_path / "trainer_state.json", document(60)
    path.write_text(document(20))
    with watching(tmp_path) as rig:
        rig.poll()
        for size in (0, 10, 1_000, 5_000, len(new) - 2):
            path.write_text(new[:size])
            if killed:
                rig.restart()
            assert not rig.poll(1)
        path.write_text(new)
        rig.poll()
        assert [r["values"]["loss"] for r in rig.seen if "loss" in r["values"]] == [i + 0.5 for i in range(1, 61)]


def test_the_document_of_another_training_is_another_log(tmp_path: Path) -> None:
    path = tmp_path / "trainer_state.json"
    path.write_text(document(6))
    with watching(tmp_path) as rig:
        rig.poll()
        path.write_text(document(9, seed=100))
        rig.poll()
        assert [r["values"]["loss"] for r in rig.seen if r["generation"] == 1 and "loss" in r["values"]] == [
            i + 100.5 for i in range(1, 10)
        ]


def checkpoint(run: Path, number: int, text: str) -> None:
    """As the Trainer writes it: after the weights, so that its folder is older than it."""
    folder = run / f"checkpoint-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trainer_state.json").write_text(text)
    at_ns = 1_700_000_000_000_000_000 + checkpoint.written * 1_000_000_000  # type: ignore[attr-defined]
    checkpoint.written += 1  # type: ignore[attr-defined]
    os.utime(folder / "trainer_state.json", ns=(at_ns, at_ns))


checkpoint.written = 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("kept", [1, 2, 99])
def test_checkpoints_are_one_run_that_each_state_continues(tmp_path: Path, killed: bool, kept: int) -> None:
    run = tmp_path / "exp" / "a"
    checkpoint(run, 500, document(5))
    checkpoint(run, 1000, document(10))
    with watching(tmp_path) as rig:
        for n in range(10, 60, 5):
            checkpoint(run, n * 100, document(n))
            for old in sorted(run.iterdir(), key=lambda p: int(p.name[11:]))[:-kept]:
                shutil.rmtree(old)
            if killed:
                rig.restart()
            rig.poll(3)
        (run / "trainer_state.json").write_text(document(57))  # `save_state` at the end
        rig.poll(3)
        assert [r["values"]["loss"] for r in rig.seen if "loss" in r["values"]] == [i + 0.5 for i in range(1, 58)]
        assert {(r["run"], r["generation"]) for r in rig.seen} == {("exp/a", 0)}
        assert not rig.counts


def test_a_state_that_is_half_written_is_left_until_it_is_whole_while_the_one_before_stays(tmp_path: Path) -> None:
    new = document(20)
    checkpoint(tmp_path, 100, document(10))
    with watching(tmp_path) as rig:
        rig.poll()
        for size in (0, 100, 2_000, len(new) - 2):
            checkpoint(tmp_path, 200, new[:size])
            assert not rig.poll(2)
        checkpoint(tmp_path, 200, new)
        rig.poll()
        assert [r["values"]["loss"] for r in rig.seen if "loss" in r["values"]] == [i + 0.5 for i in range(1, 21)]


def test_a_training_begun_anew_in_the_same_folder_is_followed_though_its_numbers_are_lower(tmp_path: Path) -> None:
    checkpoint(tmp_path, 100, document(10))
    checkpoint(tmp_path, 200, document(20))
    with watching(tmp_path) as rig:
        rig.poll()
        checkpoint(tmp_path, 50, document(5, seed=7))
        rig.poll()
        checkpoint(tmp_path, 100, document(10, seed=7))
        rig.poll()
        found = [(r["generation"], r["values"]["loss"]) for r in rig.seen if "loss" in r["values"]]
        assert found == [(0, i + 0.5) for i in range(1, 21)] + [(1, i + 7.5) for i in range(1, 11)]


def test_a_newest_state_that_is_deleted_does_not_bring_an_older_one_back(tmp_path: Path) -> None:
    checkpoint(tmp_path, 100, document(10))
    checkpoint(tmp_path, 200, document(20))
    with watching(tmp_path) as rig:
        rig.poll()
        shutil.rmtree(tmp_path / "checkpoint-200")
        rig.poll()
        rig.restart()
        rig.poll()
        assert [r["values"]["loss"] for r in rig.seen if "loss" in r["values"]] == [i + 0.5 for i in range(1, 21)]


@pytest.mark.parametrize("killed", [False, True])
def test_a_state_that_was_never_finished_is_passed_over_for_the_next(tmp_path: Path, killed: bool) -> None:
    checkpoint(tmp_path, 100, document(10))
    with watching(tmp_path) as rig:
        rig.poll()
        checkpoint(tmp_path, 200, document(20)[:2_000])
        rig.poll()
        if killed:
            rig.restart()
        checkpoint(tmp_path, 300, document(30))
        rig.poll(8)
        assert [r["values"]["loss"] for r in rig.seen if "loss" in r["values"]] == [i + 0.5 for i in range(1, 31)]
        assert {r["generation"] for r in rig.seen} == {0}
