"""A sample of the random lives of a log; `python -m benchmarks.tail_model` is the long run."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.tail_model import live, trial
from benchmarks.tail_world import Act


def test_random_lives_of_a_log_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    trial(150, tmp_path)


FOUND = {
    "no file at the path after a rotation": (Act.WRITE, Act.COPYTRUNCATE, Act.RENAME, Act.WRITE),
    "a copy that is not truncated yet, at first sight": (Act.WRITE, Act.COPY, Act.WRITE, Act.POLL, Act.TRUNCATE),
    "compressed while it is read": (Act.WRITE, Act.RENAME, Act.POLL, Act.GZIP, Act.REOPEN, Act.WRITE),
    "two rotations and compressions between two looks": (
        Act.WRITE, Act.POLL, Act.WRITE, Act.RENAME, Act.REOPEN, Act.GZIP, Act.WRITE, Act.RENAME, Act.REOPEN, Act.GZIP,
    ),
    "the writer goes on in the old file after the new one was made": (
        Act.WRITE, Act.REST, Act.RENAME_AND_MAKE, Act.POLL, Act.POLL, Act.POLL, Act.WRITE, Act.POLL, Act.REOPEN,
    ),
    "the copy that was read is deleted, its original goes on": (Act.WRITE, Act.COPY, Act.POLL, Act.DROP_OLDEST),
    "deleted with a copy left behind": (
        Act.WRITE, Act.COPY, Act.REST, Act.WRITE, Act.DELETE, Act.WRITE, Act.REST, Act.DELETE,
    ),
    "copied and truncated before anything was read": (
        Act.POLL, Act.WRITE, Act.COPYTRUNCATE, Act.WRITE, Act.RENAME, Act.GZIP,
    ),
    "so short that all logs begin like it": (
        Act.TEAR, Act.COPYTRUNCATE, Act.WRITE, Act.WRITE, Act.GZIP, Act.POLL, Act.DELETE, Act.POLL, Act.DROP_OLDEST,
    ),
    "the copy of what we read is deleted unseen, a later one is there": (
        Act.WRITE, Act.REST, Act.COPYTRUNCATE, Act.WRITE, Act.COPYTRUNCATE, Act.DROP_OLDEST, Act.WRITE,
    ),
    "killed in a rotated file": (
        Act.WRITE, Act.COMMIT, Act.WRITE, Act.RENAME_AND_MAKE, Act.KILL, Act.WRITE, Act.REOPEN, Act.WRITE, Act.GZIP,
    ),
    "two rotated files in which nothing is to be understood": (
        Act.COPY, Act.TEAR, Act.POLL, Act.DROP_OLDEST, Act.RENAME, Act.REOPEN,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(FOUND))
@pytest.mark.parametrize("number", [0, 1, 2, 3, 6143])
def test_lives_that_once_went_wrong(tmp_path: Path, name: str, number: int) -> None:
    assert live([(act, number) for act in FOUND[name]], tmp_path).seen.rows
