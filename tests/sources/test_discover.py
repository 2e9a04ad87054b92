"""Files are found and grouped by name alone, within bounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.sources.files.discover import family_of, run_of, scan
from monitor.sources.files.rows import Unusable


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("t.jsonl", "t.jsonl"),
        ("t.jsonl.1", "t.jsonl"),
        ("t.log-20260102", "t.log"),
        ("t.log-20260102.gz", "t.log"),
        ("t.log.12.gz", "t.log"),
        ("t.log.gz", "t.log.gz"),
        ("slurm-123.out", "slurm-123.out"),
        ("version_1", "version_1"),
        ("layer.1", "layer.1"),
    ],
)
def test_a_rotated_log_belongs_to_the_log(name: str, base: str) -> None:
    assert family_of(name)[0] == base


def test_members_sort_from_the_oldest_to_the_one_being_written() -> None:
    names = ["t.log", "t.log.1", "t.log.2.gz", "t.log.10", "t.log-20260102", "t.log-20260101"]
    in_order = ["t.log-20260101", "t.log-20260102", "t.log.10", "t.log.2.gz", "t.log.1", "t.log"]
    assert sorted(names, key=lambda n: family_of(n)[1]) == in_order


@pytest.mark.parametrize(
    ("path", "root", "run"),
    [
        ("/runs/a/train.jsonl", "/runs", "a/train"),
        ("/runs/a/train.jsonl.gz", "/runs", "a/train"),
        ("/runs/x.log", "/runs/x.log", "x"),
        ("/runs/model.v2", "/runs", "model.v2"),
        ("/runs/20210113.log.json", "/runs", "20210113.log"),
    ],
)
def test_a_run_is_the_path_below_the_root_without_its_suffix(path: str, root: str, run: str) -> None:
    assert run_of(path, root) == run


def test_a_scan_is_bounded_in_depth_and_number(tmp_path: Path) -> None:
    deep = tmp_path
    for i in range(10):
        deep = deep / f"d{i}"
        deep.mkdir()
        (deep / "t.log").write_text("x")
    found = scan(str(tmp_path))
    assert len(found.families) == 8
    assert list(found.refused.values()) == [Unusable.TOO_DEEP_FOLDER]
    assert scan(str(tmp_path), max_files=3).refused[str(tmp_path)] is Unusable.TOO_MANY_FILES
