"""The real daemon, killed under load."""

from __future__ import annotations

import pytest

from benchmarks.kills import trial


@pytest.mark.real
def test_five_kills_lose_no_page_repeat_nothing_and_change_no_incident() -> None:
    result = trial(kills=5, seed=5)
    assert result.pages > 0
    assert (result.lost, result.lost_notes) == (0, 0)
    assert (result.messages, result.notes) == (0, 0)
    assert result.differences == ()
    assert result.same
