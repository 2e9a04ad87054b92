"""What a page looks like, and that no text can make it look like something else."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_pages import NASTY, OPEN, PAGES, RESOLVED, WORSE, hostile
from slack_sdk.models.blocks import Block

from monitor.page import Claim, HypothesisView, Page, PredictionView
from sinks.message import compose, digests, note_text
from sinks.render import BLOCKS, BUDGET, HEADER, WIDTH, edited, fallback, noted, slack, terminal
from sinks.untrusted import clean, columns, wrap

GOLDEN = Path(__file__).parents[1] / "golden" / "pages"
UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def check(path: Path, said: str) -> None:
    """Compare with the golden file; RUNWARDEN_BLESS=1 writes it anew."""
    if os.environ.get("RUNWARDEN_BLESS"):
        path.write_text(said, encoding="utf-8")
    assert said == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_the_terminal_shows_a_page_as_agreed(name: str) -> None:
    check(GOLDEN / f"{name}.txt", terminal(compose(PAGES[name])))


@pytest.mark.parametrize("name", PAGES)
def test_slack_is_sent_a_page_as_agreed(name: str) -> None:
    message = compose(PAGES[name])
    chart = {"id": "F1", "alt": "a chart"} if name == "open_spike" else None
    said = {"text": fallback(message.summary), "blocks": slack(message, chart)}
    check(GOLDEN / f"{name}.json", json.dumps(said, ensure_ascii=False, indent=1) + "\n")


def test_the_first_120_characters_of_a_notification_say_run_what_and_how_bad() -> None:
    said = compose(OPEN).summary[:120]
    assert said.startswith("PAGE: llama-7b/seed3: loss spike at step 4118, 9.70 where 2.30 was expected (41 sigma)")


def test_a_resolved_page_says_so_first_and_asks_for_nothing() -> None:
    message = compose(RESOLVED)
    assert message.summary.startswith("RESOLVED: ")
    assert [label for label, _ in message.commands] == ["All of it"]


def test_a_contradicted_claim_stays_visible_struck_through() -> None:
    pieces = [e for e in texts(slack(compose(OPEN))) if "learning rate changed" in e["text"]]
    assert [p["style"] for p in pieces] == [{"strike": True}]
    assert "\x1b[9m  ✗ contradicted  the learning rate changed" in terminal(compose(OPEN), colour=True)


def test_no_colour_reaches_a_stream_that_is_no_terminal() -> None:
    assert "\x1b" not in terminal(compose(OPEN))
    assert "\x1b" in terminal(compose(OPEN), colour=True)


def test_colour_changes_no_letter() -> None:
    painted = terminal(compose(OPEN), colour=True)
    for code in ("31;1", "1", "9", "0"):
        painted = painted.replace(f"\x1b[{code}m", "")
    assert painted == terminal(compose(OPEN))


def test_an_edit_prints_only_what_changed() -> None:
    before, now = digests(OPEN), digests(WORSE)
    changed = [part for part in now if now[part] != before.get(part)]
    assert edited(compose(WORSE), changed, ["03:14 UTC: grad_norm joined"]).splitlines() == [
        "~ edited: llama-7b/seed3: loss spike at step 4118, 9.70 where 2.30 was expected…",
        "  Loss  11.2, expected 2.30 (47 sigma above)",
        "  > 03:14 UTC: grad_norm joined",
    ]


def test_dropped_facts_and_claims_are_counted() -> None:
    claims = tuple(Claim(text=f"claim {i}", verdict="supported", found="") for i in range(9))
    page = PAGES["bare_notice"]
    many = Page(
        **{
            **{f: getattr(page, f) for f in page.__dataclass_fields__},
            "facts": tuple((f"fact {i}", "x") for i in range(13)),
            "hypothesis": HypothesisView(author="a", cause="hang", summary="", claims=claims),
        }
    )
    shown = terminal(compose(many))
    assert "and 3 more" in shown.split("Hypothesis")[0]
    assert "and 3 more" in shown.split("Hypothesis")[1]


def test_links_that_are_no_plain_addresses_are_left_out() -> None:
    bad = (
        "javascript:alert(1)",
        "https://a b",
        "https://x|y",
        "ftp://x",
        "https://x<y>",
        "https://ü.example",
        "https://",
    )
    page = hostile("x")
    for url in bad:
        assert compose(_with_links(page, (("L", url),))).links == ()
    assert compose(_with_links(page, (("L", "https://x.example/a?b=c#d"),))).links == (
        ("L", "https://x.example/a?b=c#d"),
    )


def _with_links(page: Page, links: tuple[tuple[str, str], ...]) -> Page:
    return Page(**{**{f: getattr(page, f) for f in page.__dataclass_fields__}, "links": links})


# --- text of strangers


@pytest.mark.parametrize("text", NASTY, ids=lambda t: ascii(t[:16]))
def test_no_text_can_mention_link_or_format_in_slack(text: str) -> None:
    assert_inert(hostile(text))


@pytest.mark.parametrize("text", NASTY, ids=lambda t: ascii(t[:16]))
def test_no_text_can_break_the_layout_of_a_terminal(text: str) -> None:
    assert_laid_out(hostile(text))


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=400) | st.lists(st.sampled_from(NASTY), max_size=4).map(" ".join))
def test_any_text_is_inert_and_keeps_the_layout(text: str) -> None:
    assert_inert(hostile(text))
    assert_laid_out(hostile(text))


def test_a_terminal_title_sequence_loses_its_power_and_hides_nothing_after_it() -> None:
    assert clean("r1\x1b]0;x loss spike", 100) == "r1]0;x loss spike"
    assert clean("\x1b[1;31mr1\x1b[0m: loss", 100) == "r1: loss"


@settings(deadline=None, max_examples=80)
@given(st.text(max_size=300), st.integers(2, 90))
def test_wrapping_keeps_every_visible_character_and_the_width(text: str, width: int) -> None:
    said = clean(text, 300)
    lines = wrap(said, width)
    assert all(columns(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == said.replace(" ", "")


# --- limits


SHORT = st.text(max_size=30)
LONG = st.text(alphabet='ab "\\<&é字🔥\n', max_size=900)


@settings(deadline=None, max_examples=40)
@given(
    headline=LONG,
    facts=st.lists(st.tuples(SHORT, LONG), max_size=60),
    claims=st.lists(
        st.builds(Claim, text=LONG, verdict=st.sampled_from(["supported", "contradicted", "odd"]), found=LONG),
        max_size=30,
    ),
    rivals=st.lists(LONG, max_size=30),
    predictions=st.lists(
        st.builds(PredictionView, text=LONG, probability=st.floats(0, 1), outcome=SHORT, found=LONG), max_size=30
    ),
    experiment=LONG,
    links=st.lists(st.tuples(SHORT, st.just("https://x.example/" + "p" * 400)), max_size=30),
)
def test_a_message_keeps_slacks_limits_whatever_it_has_to_say(
    headline: str, facts: Any, claims: Any, rivals: Any, predictions: Any, experiment: str, links: Any
) -> None:
    view = HypothesisView(
        author="m", cause="hang", summary=headline, claims=tuple(claims), rivals=tuple(rivals),
        predictions=tuple(predictions), experiment=experiment,
    )  # fmt: skip
    page = Page(
        id="i", thread="t", incident="x", run="r", state="open", severity="page", headline=headline,
        facts=tuple(facts), hypothesis=view, links=tuple(links),
    )  # fmt: skip
    blocks = slack(compose(page), {"id": "F1", "alt": headline * 3 or "alt"})
    assert_within_limits(blocks)


def test_what_does_not_fit_is_named_with_the_command_that_shows_it() -> None:
    quotes = '"' * 1000  # twice as long in JSON
    page = hostile(quotes)
    claims = tuple(Claim(text=quotes, verdict="supported", found=quotes) for _ in range(6))
    view = HypothesisView(author=quotes, cause=quotes, summary=quotes, claims=claims, rivals=(quotes,) * 4,
                          predictions=(PredictionView(text=quotes, probability=1, outcome="open", found=quotes),) * 4,
                          experiment=quotes)  # fmt: skip
    fields = {f: getattr(page, f) for f in page.__dataclass_fields__}
    blocks = slack(compose(Page(**{**fields, "hypothesis": view, "facts": ((quotes, quotes),) * 10})))
    assert_within_limits(blocks)
    said = [e["text"] for e in texts(blocks[-1:])]
    assert said[0].startswith("Cut to fit")
    assert "runwarden incidents show 7c1f09aa" in said


# --- what these tests ask of blocks and lines


def assert_within_limits(blocks: list[dict[str, Any]]) -> None:
    assert len(blocks) <= BLOCKS
    assert len(json.dumps(blocks, ensure_ascii=False)) <= BUDGET + 2 < 10_000
    assert len(blocks[0]["text"]["text"]) <= HEADER
    assert all(1 <= len(e["text"]) <= 3000 for e in texts(blocks))
    for block in Block.parse_all(blocks):
        assert block is not None
        block.to_dict()


def assert_inert(page: Page) -> None:
    message = compose(page)
    blocks = slack(message, {"id": "F1", "alt": clean(page.chart_alt, 100)})
    assert_within_limits(blocks)
    assert {b["type"] for b in blocks} <= {"header", "rich_text", "image"}
    assert blocks[0]["text"]["type"] == "plain_text"
    assert not blocks[0]["text"]["emoji"]
    for element in inline(blocks):
        assert element["type"] in {"text", "link"}
        if element["type"] == "link":
            assert element["url"].startswith("https://ok.example/x")
    text = fallback(message.summary)
    assert "<" not in text
    assert ">" not in text
    assert "://" not in text
    assert text.count("&") == text.count("&amp;") + text.count("&lt;") + text.count("&gt;")
    for said in [text, *(e["text"] for e in inline(blocks) if e["text"] != "\n")]:
        assert not {unicodedata.category(c) for c in said} & UNSEEN
    json.dumps(blocks).encode()


def assert_laid_out(page: Page) -> None:
    message = compose(page)
    notes = [note_text(note.text) for note in page.notes]
    whole, update = terminal(message), edited(message, list(digests(page)), notes) + noted(notes)
    assert whole.startswith("── PAGE ─")
    for said in (whole, update):
        lines = said.splitlines()
        assert "\n".join(lines) + "\n" == said  # no character but \n begins a line
        assert all(line.isprintable() for line in lines)
        assert all(columns(line) <= WIDTH or line.startswith("    https://ok.example/") for line in lines)


def texts(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [e for e in inline(blocks) if e["type"] == "text"]


def inline(blocks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every innermost element of the rich text."""
    for block in blocks:
        for element in block.get("elements", []):
            if element["type"] in {"text", "link"} or "elements" not in element:
                yield element
            else:
                yield from inline([element])
