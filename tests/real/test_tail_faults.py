"""Every fault of log files on real files and real writers, smaller than in the benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.tail_faults import FAULTS

pytestmark = pytest.mark.real


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_fault_loses_nothing_and_doubles_nothing(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSYSLOGD", "")
    monkeypatch.setenv("PATH", "")  # rsyslog is for the table only
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)  # one of the faults is read by somebody else
    tmp_path.chmod(0o755)
    folder = tmp_path / "runs"
    folder.mkdir()
    for outcome in FAULTS[name](folder, 0.2):
        assert outcome.written
        assert (outcome.lost, outcome.doubled) == (0, 0)
