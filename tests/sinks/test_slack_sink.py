"""The Slack sink against a Slack on loopback that fails in every way that was thought of."""

from __future__ import annotations

import asyncio
import math
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from doubles.slack import CHANNEL, TOKEN, SlackDouble
from sample_pages import OPEN, RESOLVED, WORSE
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from monitor.errors import PermanentError, TransientError
from monitor.page import Note, Page, Receipt
from sinks.slack import REPLIES, WAITS, SlackSink
from sinks.slack_errors import refusal

PNG = b"\x89PNG\r\n\x1a\n picture"
DRAWN = replace(OPEN, chart_png=PNG)
NOTED = replace(OPEN, notes=(Note(id="n1", text="one"), Note(id="n2", text="two"), Note(id="n3", text="three")))

Story = Callable[[SlackDouble, SlackSink], Coroutine[Any, Any, None]]


def play(story: Story, timeout_s: float = 5.0) -> None:
    async def main() -> None:
        async with SlackDouble() as double:
            sink = SlackSink(TOKEN, CHANNEL, base_url=double.base_url, timeout_s=timeout_s)
            try:
                await story(double, sink)
            finally:
                await sink.close()

    asyncio.run(main())


async def fails(sink: SlackSink, page: Page, prior: Receipt | None = None) -> TransientError:
    with pytest.raises(TransientError) as caught:
        await sink.deliver(page, prior)
    return caught.value


def said(double: SlackDouble) -> list[str]:
    """Texts of the replies in the only thread."""
    return [m["text"] for m in double.replies(double.messages()[0]["ts"]) if "files" not in m]


# --- the ordinary way


def test_one_message_is_posted_and_then_edited_in_place() -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        receipt = await sink.deliver(OPEN, None)
        ts = double.messages()[0]["ts"]
        receipt = await sink.deliver(RESOLVED, receipt)
        assert [m["ts"] for m in double.messages()] == [ts]
        assert double.messages()[0]["text"].startswith("RESOLVED")
        assert said(double) == [note.text for note in RESOLVED.notes]
        assert receipt.data["ts"] == ts
        assert receipt.data["channel"] == CHANNEL

    play(story)


def test_messages_carry_the_ids_by_which_they_are_found_again() -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        await sink.deliver(NOTED, None)
        parent = double.messages()[0]
        payload = {"thread": OPEN.thread, "incident": OPEN.incident}
        assert parent["metadata"] == {"event_type": "runwarden_page", "event_payload": payload}
        ids = [m["metadata"]["event_payload"]["note"] for m in double.replies(parent["ts"])]
        assert ids == ["n1", "n2", "n3"]

    play(story)


def test_slack_is_told_to_parse_link_and_unfurl_nothing() -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        await sink.deliver(RESOLVED, await sink.deliver(OPEN, None))
        posts = [c.arguments for c in double.calls if c.method == "chat.postMessage"]
        edits = [c.arguments for c in double.calls if c.method == "chat.update"]
        assert len(posts) == 3
        assert len(edits) == 1
        assert all(a["parse"] == "none" and a["link_names"] is False for a in (*posts, *edits))
        assert all(not a["unfurl_links"] and not a["unfurl_media"] and not a["mrkdwn"] for a in posts)

    play(story)


def test_an_unchanged_page_costs_no_call() -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        receipt = await sink.deliver(NOTED, None)
        before = len(double.calls)
        assert await sink.deliver(NOTED, receipt) == receipt
        assert len(double.calls) == before

    play(story)


def test_a_long_silence_is_caught_up_in_a_bounded_number_of_replies() -> None:
    notes = tuple(Note(id=f"n{i}", text=f"note {i}") for i in range(50))

    async def story(double: SlackDouble, sink: SlackSink) -> None:
        receipt = await sink.deliver(replace(OPEN, notes=notes), None)
        assert len(said(double)) == REPLIES
        assert said(double)[0].startswith("(30 earlier updates are left out here: runwarden incidents show 7c1f09aa)")
        assert said(double)[-1] == "note 49"
        assert set(receipt.notes) == {note.id for note in notes}

    play(story)


# --- errors


@pytest.mark.parametrize(
    ("status", "code", "transient", "unknown"),
    [
        (429, "ratelimited", True, False),
        (200, "ratelimited", True, False),
        (500, "", True, True),
        (502, "", True, True),
        (503, "service_unavailable", True, True),
        (200, "internal_error", True, True),
        (200, "fatal_error", True, True),
        (200, "", True, True),
        (200, "invalid_auth", False, False),
        (200, "account_inactive", False, False),
        (200, "token_revoked", False, False),
        (200, "not_in_channel", False, False),
        (200, "channel_not_found", False, False),
        (200, "is_archived", False, False),
        (200, "missing_scope", False, False),
        (200, "msg_too_long", False, False),
        (200, "msg_blocks_too_long", False, False),
        (200, "invalid_blocks", False, False),
        (200, "something_new", False, False),
        (404, "", False, False),
    ],
)
def test_each_answer_is_worth_a_retry_or_not(status: int, code: str, transient: bool, unknown: bool) -> None:
    judged = refusal("chat.postMessage", status, code)
    assert (judged.transient, judged.unknown) == (transient, unknown)


@pytest.mark.parametrize(
    ("header", "wanted"),
    [("7", 7.0), ("0", 0.0), (None, 0.0), ("soon", 0.0), ("-3", 0.0), ("nan", 0.0), ("\u0661", 0.0)],
)
def test_the_wait_that_slack_asks_for_is_passed_on(header: str | None, wanted: float) -> None:
    assert refusal("chat.postMessage", 429, "", header).retry_after_s == wanted


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"status": 429, "retry_after": "30"}, "ratelimited"),
        ({"status": 500}, "internal_error"),
        ({"error": "fatal_error"}, "fatal_error"),
        ({"body": "<html>maintenance</html>"}, "not readable"),
        ({"cut": True}, "connection lost"),
    ],
)
def test_a_passing_failure_of_the_post_is_transient_and_posts_once_in_the_end(
    fault: dict[str, Any], words: str
) -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        double.fail("chat.postMessage", **fault)
        error = await fails(sink, OPEN)
        assert words in str(error)
        assert error.retry_after_s == (30 if fault.get("status") == 429 else 0)
        assert double.count("chat.postMessage") == 1  # the client did not post again by itself
        assert error.receipt is not None
        assert error.receipt.intent is (fault.get("status") != 429)
        await sink.deliver(OPEN, error.receipt)
        assert len(double.messages()) == 1

    play(story)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("invalid_auth", "xoxb"),
        ("not_in_channel", "invite"),
        ("channel_not_found", "channel id"),
        ("missing_scope", "scope"),
        ("msg_too_long", "limits"),
        ("is_archived", "archived"),
    ],
)
def test_a_lasting_failure_is_permanent_and_names_the_remedy(code: str, remedy: str) -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        double.fail("chat.postMessage", error=code)
        with pytest.raises(PermanentError, match=code) as caught:
            await sink.deliver(OPEN, None)
        assert remedy in str(caught.value).partition(f"{code}: ")[2]

    play(story)


def test_a_server_that_does_not_answer_is_given_up_in_time() -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        double.fail("chat.postMessage", delay_s=math.inf)
        error = await fails(sink, OPEN)
        assert "no answer in time" in str(error)
        assert error.receipt is not None
        assert error.receipt.intent

    play(story, timeout_s=0.2)


def test_a_server_that_is_not_there_leaves_nothing_to_look_for() -> None:
    async def main() -> None:
        async with SlackDouble() as double:
            gone = double.base_url
        sink = SlackSink(TOKEN, CHANNEL, base_url=gone, timeout_s=5)
        error = await fails(sink, OPEN)
        await sink.close()
        assert "cannot connect" in str(error)
        assert error.receipt is not None
        assert not error.receipt.intent

    asyncio.run(main())


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429},
        {"status": 500},
        {"body": "not json"},
        {"cut": True},
        {"error": "invalid_auth"},
        {"error": "made_up " + TOKEN[:4]},
        {"delay_s": math.inf},
    ],
)
def test_no_error_tells_the_token(fault: dict[str, Any]) -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        double.fail("chat.postMessage", **fault)
        with pytest.raises((TransientError, PermanentError)) as caught:
            await sink.deliver(OPEN, None)
        told = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__cause__)
        assert TOKEN not in told
        assert caught.value.__suppress_context__

    play(story, timeout_s=0.5)


# --- looking before repeating


def test_a_post_that_arrived_although_the_connection_was_cut_is_adopted() -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        double.fail("chat.postMessage", cut=True)
        error = await fails(sink, OPEN)
        assert len(double.messages()) == 1
        receipt = await sink.deliver(RESOLVED, error.receipt)
        assert len(double.messages()) == 1
        assert double.messages()[0]["text"].startswith("RESOLVED")
        assert said(double) == [note.text for note in RESOLVED.notes]
        assert not receipt.intent

    play(story)


def test_a_crash_between_intent_and_receipt_leads_to_one_message() -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        await sink.deliver(NOTED, None)  # its receipt was never stored
        receipt = await sink.deliver(NOTED, Receipt(sink="slack", intent=True))
        assert len(double.messages()) == 1
        assert said(double) == ["one", "two", "three"]
        assert receipt.notes == ("n1", "n2", "n3")

    play(story)


def test_the_look_goes_back_over_several_pages_of_a_busy_channel() -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        await sink.deliver(OPEN, None)
        for i in range(450):
            double.channels[CHANNEL].append({"type": "message", "user": "U1", "ts": f"18{i:08d}.0", "text": "chatter"})
        await sink.deliver(OPEN, Receipt(sink="slack", intent=True))
        assert double.count("conversations.history") == 3
        assert double.count("chat.postMessage") == 1

    play(story)


def test_another_incident_is_not_taken_for_this_one() -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        await sink.deliver(replace(OPEN, thread="other/1"), None)
        await sink.deliver(OPEN, Receipt(sink="slack", intent=True))
        assert len(double.messages()) == 2

    play(story)


def test_a_message_of_someone_else_with_our_metadata_is_not_adopted() -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        payload = {"thread": OPEN.thread, "incident": OPEN.incident}
        forged = {"type": "message", "user": "U6", "bot_id": "B6", "ts": "1700000000.000001", "text": "all is well",
                  "metadata": {"event_type": "runwarden_page", "event_payload": payload}}  # fmt: skip
        double.channels[CHANNEL].append(forged)
        receipt = await sink.deliver(OPEN, Receipt(sink="slack", intent=True))
        assert receipt.data["ts"] != forged["ts"]
        assert forged["text"] == "all is well"
        assert double.messages()[-1]["text"].startswith("PAGE")

    play(story)


def test_where_slack_does_not_let_us_look_the_page_goes_out_all_the_same() -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        double.fail("conversations.history", error="missing_scope")
        receipt = await sink.deliver(OPEN, Receipt(sink="slack", intent=True))
        assert len(double.messages()) == 1
        assert receipt.data["look"] == "refused: missing_scope"

    play(story)


def test_a_limited_look_is_not_forgotten() -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        await sink.deliver(OPEN, None)
        double.fail("conversations.history", status=429, retry_after="2")
        error = await fails(sink, OPEN, Receipt(sink="slack", intent=True))
        assert error.receipt is not None
        assert error.receipt.intent
        await sink.deliver(OPEN, error.receipt)
        assert len(double.messages()) == 1

    play(story)


# --- progress is not lost


@pytest.mark.parametrize("fault", [{"status": 429, "retry_after": "1"}, {"status": 503}, {"cut": True}])
@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_failure_among_notes_says_each_note_once_in_order(fault: dict[str, Any], before: int) -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        receipt = await sink.deliver(OPEN, None)
        some = await sink.deliver(replace(NOTED, notes=NOTED.notes[:before]), receipt)
        double.fail("chat.postMessage", **fault)
        error = await fails(sink, NOTED, some)
        assert error.receipt is not None
        assert error.receipt.data["ts"] == receipt.data["ts"]
        done = await sink.deliver(NOTED, error.receipt)
        assert said(double) == ["one", "two", "three"]
        assert done.notes == ("n1", "n2", "n3")
        assert len(double.messages()) == 1

    play(story)


def test_a_post_followed_by_a_failing_note_is_handed_over() -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        double.fail("chat.postMessage", after=1, error="restricted_action", times=2)
        error = await fails(sink, NOTED)
        assert error.receipt is not None  # although lasting: else the message would be posted again
        assert error.receipt.data["ts"] == double.messages()[0]["ts"]
        with pytest.raises(PermanentError, match="restricted_action"):
            await sink.deliver(NOTED, error.receipt)
        assert len(double.messages()) == 1

    play(story)


def test_a_message_that_someone_deleted_is_posted_anew() -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        receipt = await sink.deliver(OPEN, None)
        double.channels[CHANNEL].clear()
        again = await sink.deliver(WORSE, receipt)
        assert len(double.messages()) == 1
        assert again.data["ts"] != receipt.data["ts"]

    play(story)


def test_where_edits_are_forbidden_the_thread_goes_on() -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        receipt = await sink.deliver(OPEN, None)
        double.fail("chat.update", error="edit_window_closed")
        receipt = await sink.deliver(RESOLVED, receipt)
        assert receipt.data["edit"] == "refused: edit_window_closed"
        assert said(double) == [note.text for note in RESOLVED.notes]

    play(story)


# --- the picture


def pictures(double: SlackDouble) -> list[str]:
    """Files that the only message shows."""
    return [b["slack_file"]["id"] for b in double.messages()[0]["blocks"] if b["type"] == "image"]


def test_the_picture_follows_the_text_and_stands_in_the_message_alone() -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        await sink.deliver(DRAWN, None)
        order = [
            "chat.postMessage",
            "files.getUploadURLExternal",
            "upload",
            "files.completeUploadExternal",
            "chat.update",
        ]
        assert [call.method for call in double.calls] == order
        (file,) = double.files.values()
        assert file["content"] == PNG
        assert file["alt_txt"] == OPEN.chart_alt
        images = [b for b in double.messages()[0]["blocks"] if b["type"] == "image"]
        assert images == [{"type": "image", "slack_file": {"id": file["id"]}, "alt_text": OPEN.chart_alt}]
        assert not double.replies(double.messages()[0]["ts"])

    play(story)


def test_the_picture_is_replaced_when_it_shows_something_new_and_only_then() -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        receipt = await sink.deliver(replace(DRAWN, chart_of="1.1.open"), None)
        receipt = await sink.deliver(replace(WORSE, chart_png=PNG, chart_of="1.1.open"), receipt)
        assert double.count("upload") == 1
        receipt = await sink.deliver(replace(RESOLVED, chart_png=PNG + b"2", chart_of="1.2.resolved"), receipt)
        await sink.deliver(replace(RESOLVED, chart_png=PNG + b"2", chart_of="1.2.resolved"), receipt)
        assert double.count("upload") == 2
        (shown,) = pictures(double)
        assert double.files[shown]["content"] == PNG + b"2"
        assert not [m for m in double.replies(double.messages()[0]["ts"]) if "files" in m]

    play(story)


def test_a_crash_between_the_upload_and_the_edit_leaves_nothing_twice() -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        first = await sink.deliver(replace(DRAWN, chart_of="1"), None)
        double.fail("chat.update", cut=True)
        await sink.deliver(replace(DRAWN, chart_png=PNG + b"2", chart_of="2"), first)  # its receipt was never stored
        begun = replace(first, intent=True)
        receipt = await sink.deliver(replace(DRAWN, chart_png=PNG + b"2", chart_of="2"), begun)
        assert len(double.messages()) == 1
        assert not double.replies(double.messages()[0]["ts"])
        assert pictures(double) == [receipt.data["file"]]

    play(story)


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("files.getUploadURLExternal", {"status": 429, "retry_after": "9"}),
        ("files.getUploadURLExternal", {"error": "missing_scope"}),
        ("upload", {"status": 500}),
        ("files.completeUploadExternal", {"status": 502}),
        ("files.completeUploadExternal", {"cut": True}),
        ("chat.update", {"status": 500}),
    ],
)
def test_a_failing_picture_lets_the_page_stand_and_is_tried_again(method: str, fault: dict[str, Any]) -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        double.fail(method, **fault)
        receipt = await sink.deliver(DRAWN, None)
        assert len(double.messages()) == 1
        assert receipt.data["chart"].startswith("failed: slack: ")
        receipt = await sink.deliver(DRAWN, receipt)
        assert receipt.data["chart"] == "shown"
        assert pictures(double) == [receipt.data["file"]]
        assert not double.replies(receipt.data["ts"])

    play(story)


def test_a_picture_that_slack_cannot_show_yet_holds_nothing_back_and_is_waited_for() -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        receipt = await sink.deliver(replace(DRAWN, chart_of="1"), None)
        double.fail("chat.update", error="invalid_blocks", after=1)
        resolved = replace(RESOLVED, chart_png=PNG, chart_of="2")
        error = await fails(sink, resolved, receipt)
        assert double.messages()[0]["text"].startswith("RESOLVED")
        assert pictures(double) == [receipt.data["file"]]  # the older one stays until then
        assert error.receipt is not None
        assert not error.receipt.intent
        receipt = await sink.deliver(resolved, error.receipt)
        assert receipt.data["chart"] == "shown"
        assert pictures(double) == [receipt.data["file"]]
        assert double.count("upload") == 2

    play(story)


def test_a_picture_that_slack_never_shows_is_given_up() -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        double.fail("chat.update", error="invalid_blocks", times=1000)
        receipt: Receipt | None = None
        for _ in range(WAITS):
            receipt = (await fails(sink, DRAWN, receipt)).receipt
        await sink.deliver(DRAWN, receipt)
        assert double.count("upload") == 1
        assert pictures(double) == []

    play(story)


def test_a_hanging_upload_ends_and_the_page_stands() -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        double.fail("upload", delay_s=math.inf)
        receipt = await sink.deliver(DRAWN, None)
        assert receipt.data["chart"].endswith("no answer in time")
        assert len(double.messages()) == 1

    play(story, timeout_s=0.3)


# --- check


def test_the_check_says_who_posts_where_and_which_scopes_are_missing() -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        assert await sink.check() == [f"bot runwarden in workspace Double, posts to channel {CHANNEL}"]
        double.scopes = "chat:write"
        assert (await sink.check())[1:] == [
            "missing scope: files:write",
            "missing scope: channels:history or groups:history",
        ]
        double.token = "xoxb-other"
        with pytest.raises(PermanentError, match="invalid_auth"):
            await sink.check()

    play(story)


# --- the double refuses what Slack refuses


@pytest.mark.parametrize(
    ("blocks", "error"),
    [
        ([{"type": "divider"}] * 51, "invalid_blocks"),
        ([{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}], "invalid_blocks"),
        ([{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}], "invalid_blocks"),
        ([{"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3001}}], "invalid_blocks"),
        ([{"type": "section", "text": {"type": "mrkdwn", "text": "x" * 2900}}] * 5, "msg_blocks_too_long"),
        ([{"type": "hologram"}], "invalid_blocks"),
        ([{"type": "image", "slack_file": {"id": "F0"}, "alt_text": "x"}], "invalid_blocks"),
        ([{"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [{"type": "text"}]}]}],
         "invalid_blocks"),
    ],
)  # fmt: skip
def test_the_double_refuses_blocks_that_slack_refuses(blocks: list[dict[str, Any]], error: str) -> None:
    async def story(double: SlackDouble, sink: SlackSink) -> None:
        client = AsyncWebClient(TOKEN, base_url=double.base_url, retry_handlers=[])
        client.proxy = None
        with pytest.raises(SlackApiError) as caught:
            await client.chat_postMessage(channel=CHANNEL, text="x", blocks=blocks)
        assert caught.value.response["error"] == error

    play(story)
