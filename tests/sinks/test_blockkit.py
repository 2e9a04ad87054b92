"""The local renderer knows every block that a page is made of, and no text of a stranger becomes markup in it."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from blockkit import UnknownBlock, block, render
from sample_pages import NASTY, hostile

from sinks.message import compose, note_text
from sinks.render import fallback, slack, slack_note

GOLDEN = Path(__file__).parents[1] / "golden" / "pages"
MARKUP = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></h1></body><b>free</b>",
    "' onmouseover='alert(1)",
    "<!-- &lt;b&gt; -->",
)
TAGS = {"html", "head", "meta", "title", "style", "body", "article", "div", "b", "span", "time", "h1", "h2", "ul", "li",
        "i", "s", "br", "code", "a", "img", "section"}  # fmt: skip
ATTRIBUTES = {"lang", "class", "charset", "http-equiv", "content", "href", "rel", "src", "alt"}


class Seen(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def seen(html: str) -> Seen:
    parser = Seen()
    parser.feed(html)
    parser.close()
    return parser


def channel(blocks: list[dict[str, Any]], notes: tuple[str, ...] = (), **message: Any) -> dict[str, Any]:
    said = [{"ts": f"1750000000.{i:06d}", "blocks": slack_note(note)} for i, note in enumerate(notes, start=2)]
    files = {"F1": {"name": "chart.png", "png": "iVBORw0KGgo="}}
    first = {"ts": "1750000000.000001", "blocks": blocks, **message}
    return {"messages": [first], "replies": {first["ts"]: said}, "files": files}


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda p: p.stem)
def test_every_golden_page_renders_with_all_of_its_words(path: Path) -> None:
    page = json.loads(path.read_text(encoding="utf-8"))
    for dark in (False, True):
        shown = seen(render(channel(page["blocks"]), dark=dark))
        for text in words(page["blocks"]):
            assert text in shown.text
        assert ("class", "dark" if dark else "light") in shown.attributes


def test_a_block_an_element_and_a_style_that_are_not_known_are_refused_by_name() -> None:
    unknown = [
        {"type": "video"},
        {"type": "rich_text", "elements": [{"type": "rich_text_table", "elements": []}]},
        {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [{"type": "user"}]}]},
        {"type": "actions", "elements": [{"type": "datepicker"}]},
    ]
    for node, name in zip(unknown, ("video", "rich_text_table", "user", "datepicker"), strict=True):
        with pytest.raises(UnknownBlock, match=name):
            block(node, {})


def test_a_link_that_is_no_web_address_is_refused() -> None:
    link = {"type": "link", "url": "javascript:alert(1)", "text": "x"}
    with pytest.raises(UnknownBlock):
        block({"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [link]}]}, {})


@pytest.mark.parametrize("text", [*MARKUP, *NASTY], ids=lambda t: ascii(t[:16]))
def test_no_text_of_a_stranger_becomes_markup(text: str) -> None:
    page = hostile(text)
    message = compose(page)
    blocks = slack(message, {"id": "F1", "alt": text or "blank"})
    html = render(channel(blocks, notes=(note_text(text),)))
    assert_tame(html, harmless=render(channel(slack(compose(hostile("x")), {"id": "F1", "alt": "x"}), notes=("x",))))


@pytest.mark.parametrize("text", MARKUP)
def test_the_kinds_of_block_that_our_sink_does_not_post_yet_are_escaped_too(text: str) -> None:
    def kinds(said: str) -> list[dict[str, Any]]:
        plain = {"type": "plain_text", "text": said}
        return [
            {"type": "section", "text": {"type": "mrkdwn", "text": said}, "fields": [plain]},
            {"type": "context", "elements": [plain]},
            {"type": "divider"},
            {"type": "actions", "elements": [{"type": "button", "text": plain, "style": said}]},
            {"type": "image", "slack_file": {"id": said}, "alt_text": said},
            {
                "type": "rich_text",
                "elements": [
                    {"type": kind, "elements": [{"type": "text", "text": said}]}
                    for kind in ("rich_text_preformatted", "rich_text_quote")
                ],
            },
        ]

    html, harmless = (render(channel(kinds(said), files=[{"id": "F1", "title": said}])) for said in (text, "x"))
    assert seen(html).tags == seen(harmless).tags
    assert text in seen(html).text


def test_a_message_without_blocks_shows_its_text() -> None:
    assert "&amp; &lt;b&gt; two" in render(channel([], text="& <b> two"))
    assert fallback("&") == "&amp;"


def assert_tame(html: str, harmless: str) -> None:
    """Only our own tags, as many as harmless text has, and nothing that the network could be asked for."""
    shown = seen(html)
    assert set(shown.tags) <= TAGS
    assert {name for name, _ in shown.attributes} <= ATTRIBUTES
    for tag in ("img", "a", "h1", "article", "style"):
        assert shown.tags.count(tag) == seen(harmless).tags.count(tag)
    for name, value in shown.attributes:
        if name == "src":
            assert (value or "").startswith("data:image/png;base64,")
        if name == "href":
            assert (value or "").startswith("https://ok.example/")


def words(node: Any) -> list[str]:
    """Every text that a block shows."""
    if isinstance(node, list):
        return [text for item in node for text in words(item)]
    if not isinstance(node, dict):
        return []
    own = [node["text"].strip()] if isinstance(node.get("text"), str) and node["text"].strip() else []
    return own + [text for value in node.values() for text in words(value)]
