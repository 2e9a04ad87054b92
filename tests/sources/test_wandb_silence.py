"""What the engine makes of W&B runs that finish, hang, crash or cannot be read."""

from __future__ import annotations

import pytest
from doubles.wandb import Run
from wandb_rig import Rig, about, failing

from detectors import Suite
from detectors.types import Kind, Phase, Severity
from monitor.engine import Engine, EngineSettings
from monitor.incidents import Book

POLLS = 40  # ten minutes


def silences(rig: Rig) -> set[str]:
    """Runs of which the engine says that they page for silence."""
    engine = Engine(Suite(), Book(), EngineSettings())
    findings = [f for batch in rig.batches for f in engine.step(batch).findings]
    return {
        f.run for f in findings if f.kind is Kind.SILENCE and f.phase is Phase.BEGINS and f.severity is Severity.PAGE
    }


def train(rig: Rig, *runs: Run, polls: int) -> None:
    """Each logs a row a second in its own time for so many polls, the machine's statistics go on for ever."""

    def between(poll: int) -> None:
        now = rig.server.clock()
        for run in rig.server.runs.values():
            if run.state == "running":
                run.measure(now, cpu=50)
            if run in runs and poll <= polls:
                for i in range(15):
                    run.log(loss=2.0, _timestamp=now - 15.0 + i)

    rig.between = between


@pytest.mark.parametrize("state", ["running", "finished", "crashed", "deleted"])
def test_only_a_run_that_was_ended_may_fall_silent_without_a_page(state: str) -> None:
    """A trainer that hangs keeps its heartbeat and the statistics of its machine: they are no progress."""
    rig = Rig()
    run, other = rig.server.add("a"), rig.server.add("other")
    train(rig, run, other, polls=20)
    rig.poll(20)
    train(rig, other, polls=POLLS)
    if state == "deleted":
        del rig.server.runs["a"]
    else:
        run.state = state
    rig.poll(POLLS)
    assert silences(rig) == ({"wb/a"} if state in ("running", "crashed") else set())


def test_a_run_that_cannot_be_read_is_not_silent_and_hides_no_silence_of_others() -> None:
    rig = Rig()
    broken, hangs = rig.server.add("broken"), rig.server.add("hangs")
    train(rig, broken, hangs, polls=20)
    rig.poll(20)
    train(rig, polls=0)
    rig.server.answer = failing(when=about("broken"))
    rig.poll(POLLS)
    assert silences(rig) == {"wb/hangs"}


def test_a_run_that_finished_was_resumed_and_finished_again_is_not_silent() -> None:
    rig = Rig()
    run = rig.server.add("a")
    for _ in range(2):
        train(rig, run, polls=20)
        rig.poll(20)
        train(rig, polls=0)
        run.state = "finished"
        rig.poll(POLLS)
        run.state = "running"
    assert silences(rig) == set()
    assert {f.generation for b in rig.batches for f in b.frames} == {0, 1}
