"""Pages on a terminal, line by line."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace

import pytest
from sample_pages import OPEN, RESOLVED, WORSE

from monitor.errors import PermanentError
from monitor.page import Page, Receipt
from sinks.terminal import TerminalSink


def show(stream: io.StringIO | io.TextIOWrapper, page: Page, prior: Receipt | None = None) -> Receipt:
    return asyncio.run(TerminalSink(stream).deliver(page, prior))


def test_small_changes_print_a_short_block_and_a_new_state_the_whole_message() -> None:
    stream = io.StringIO()
    receipt = show(stream, OPEN)
    whole = stream.tell()
    receipt = show(stream, WORSE, receipt)
    update = stream.getvalue()[whole:]
    assert update.count("\n") == 4  # headline, fact, note, and an empty line
    show(stream, RESOLVED, receipt)
    assert stream.getvalue()[whole + len(update) :].startswith("── RESOLVED ─")


def test_a_page_that_is_told_anew_says_that_it_is_the_same_one() -> None:
    stream = io.StringIO()
    receipt = show(stream, OPEN)
    whole = stream.tell()
    show(stream, replace(OPEN, headline="worse"), receipt)
    assert stream.getvalue()[whole:].startswith("── PAGE, edited ─")


def test_commands_and_links_stand_in_one_column() -> None:
    stream = io.StringIO()
    show(stream, replace(RESOLVED, notes=(), links=(("Status page", "https://example.org/1"),)))
    *_, command, link, _ = stream.getvalue().splitlines()
    assert command.index("runwarden") == link.index("https")


def test_a_scored_prediction_is_a_short_block() -> None:
    assert OPEN.hypothesis is not None
    scored = replace(OPEN.hypothesis.predictions[0], outcome="confirmed", found="in its band from step 4161 on")
    page = replace(OPEN, hypothesis=replace(OPEN.hypothesis, predictions=(scored, OPEN.hypothesis.predictions[1])))
    stream = io.StringIO()
    receipt = show(stream, OPEN)
    whole = stream.tell()
    show(stream, page, receipt)
    assert stream.getvalue()[whole:].splitlines()[1:-1] == [
        "  ✓ confirmed  loss is back in its band within 200 rows (70% sure)",
        "               found: in its band from step 4161 on",
    ]


def test_a_stream_that_knows_no_marks_gets_plain_ones() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    show(stream, OPEN)
    said = raw.getvalue().decode("ascii")
    assert said.startswith("-- PAGE ---")
    assert "x contradicted  the learning rate changed" in said


def test_a_closed_stream_is_a_permanent_error() -> None:
    stream = io.StringIO()
    stream.close()
    with pytest.raises(PermanentError, match="cannot print"):
        show(stream, OPEN)
