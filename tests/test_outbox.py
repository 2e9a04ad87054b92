"""A worker brings its sink to what is wanted: in order, at least once, and it notes what it is about to do."""

# ruff: noqa: ASYNC110  a fake that records its calls is looked at between two turns of the loop

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from monitor.errors import PermanentError, TransientError
from monitor.outbox import RETRY_MOST_S, Worker
from monitor.page import Page, Receipt
from monitor.reader import Delivery


def delivery(incident: str = "a", **changes: object) -> Delivery:
    values: dict[str, object] = {
        "incident": incident,
        "sink": "double",
        "wanted": 1,
        "delivered": 0,
        "created_t": 100.0,
        "due_t": 100.0,
        "tries": 0,
        "dead": False,
        "error": "",
        "receipt": None,
    }
    return Delivery(**(values | changes))  # type: ignore[arg-type]


@dataclass
class FakeOutbox:
    """Rows in memory; `log` holds what was asked of it, in order."""

    rows: dict[str, Delivery]
    log: list[tuple[str, str]] = field(default_factory=list)
    when_building: Callable[[], None] = lambda: None

    async def due(self, sink: str) -> list[Delivery]:
        return [r for r in self.rows.values() if r.wanted > r.delivered and not r.dead and r.sink == sink]

    async def page(self, d: Delivery) -> Page:
        self.log.append(("page", d.incident))
        self.when_building()
        return Page(
            id=f"{d.incident}.{self.rows[d.incident].wanted}", thread=d.incident, incident=d.incident, run="r",
            state="open", severity="page", headline="r: loss spike", facts=(),
        )  # fmt: skip

    async def begun(self, d: Delivery) -> None:
        self.log.append(("begun", d.incident))
        old = self.rows[d.incident].receipt
        intent = replace(old, intent=True) if old else Receipt(sink=d.sink, intent=True)
        self.rows[d.incident] = replace(self.rows[d.incident], receipt=intent)

    async def done(self, d: Delivery, receipt: Receipt) -> None:
        self.log.append(("done", d.incident))
        self.rows[d.incident] = replace(self.rows[d.incident], receipt=receipt, delivered=d.wanted, tries=0)

    async def failed(self, d: Delivery, error: TransientError | PermanentError, due_t: float) -> None:
        self.log.append(("failed", d.incident))
        row = self.rows[d.incident]
        partial = error.receipt if isinstance(error, TransientError) and error.receipt else row.receipt
        dead = isinstance(error, PermanentError)
        self.rows[d.incident] = replace(
            row, tries=row.tries + 1, due_t=due_t, dead=dead, error=str(error), receipt=partial
        )


@dataclass
class FakeSink:
    """Answers with what `script` holds: an error is raised, else a receipt is given."""

    script: list[Exception] = field(default_factory=list)
    seen: list[tuple[str, Receipt | None]] = field(default_factory=list)
    name: str = "double"
    meanwhile: Callable[[], None] = lambda: None
    never: bool = False

    async def deliver(self, page: Page, prior: Receipt | None) -> Receipt:
        self.seen.append((page.id, prior))
        self.meanwhile()
        if self.never:
            await asyncio.Event().wait()
        if self.script:
            raise self.script.pop(0)
        return Receipt(sink=self.name, data={"ts": str(len(self.seen))}, notes=())

    async def close(self) -> None:
        pass


def parts(*rows: Delivery, now: float = 100.0, **sink: object) -> tuple[Worker, FakeOutbox, FakeSink, list[float]]:
    outbox, out, clock = FakeOutbox({r.incident: r for r in rows}), FakeSink(**sink), [now]
    return Worker(out, outbox, lambda: clock[0], timeout_s=0.01), outbox, out, clock


def test_nothing_due_means_to_look_again_in_a_minute():
    worker, _, sink, _ = parts()
    assert asyncio.run(worker.round()) == 60.0
    assert sink.seen == []


def test_rows_are_delivered_in_the_order_in_which_the_outbox_names_them():
    worker, outbox, sink, _ = parts(delivery("b"), delivery("a"), delivery("c"))
    assert asyncio.run(worker.round()) == 0.0
    assert [p for p, _ in sink.seen] == ["b.1", "a.1", "c.1"]
    assert asyncio.run(worker.round()) == 60.0
    assert all(r.delivered == r.wanted for r in outbox.rows.values())


def test_a_held_page_waits_for_exactly_the_rest_of_its_hold():
    worker, _, sink, clock = parts(delivery(due_t=112.5))
    assert asyncio.run(worker.round()) == 12.5
    assert sink.seen == []
    clock[0] = 112.5
    asyncio.run(worker.round())
    assert len(sink.seen) == 1


def test_a_held_page_does_not_hold_up_another_one():
    worker, _, sink, _ = parts(delivery("held", due_t=160.0), delivery("due"))
    asyncio.run(worker.round())
    assert [p for p, _ in sink.seen] == ["due.1"]


def test_a_failing_page_does_not_hold_up_another_one():
    worker, outbox, sink, _ = parts(delivery("bad"), delivery("good"), script=[TransientError("no")])
    asyncio.run(worker.round())
    assert [p for p, _ in sink.seen] == ["bad.1", "good.1"]
    assert outbox.rows["good"].delivered == 1


def test_the_intent_is_noted_before_anything_leaves():
    worker, outbox, sink, _ = parts(delivery())
    sink.meanwhile = lambda: outbox.log.append(("sent", "a"))
    asyncio.run(worker.round())
    assert outbox.log == [("page", "a"), ("begun", "a"), ("sent", "a"), ("done", "a")]


def test_a_prior_receipt_is_handed_to_the_sink_as_it_was_stored():
    prior = Receipt(sink="double", data={"ts": "7"}, notes=("n1",), intent=True)
    worker, _, sink, _ = parts(delivery(receipt=prior))
    asyncio.run(worker.round())
    assert sink.seen == [("a.1", prior)]


@pytest.mark.parametrize("tries", [0, 1, 5, 8, 9, 40, 2000])
def test_retries_back_off_twofold_with_jitter_up_to_five_minutes(tries):
    worker, outbox, _, _ = parts(delivery(tries=tries), script=[TransientError("down")])
    wait = asyncio.run(worker.round())
    least = min(RETRY_MOST_S, 2.0 ** min(tries, 60))
    assert outbox.rows["a"].due_t - 100.0 == pytest.approx(least * 1.125, rel=0.1112)
    assert wait == pytest.approx(min(60.0, outbox.rows["a"].due_t - 100.0))
    assert outbox.rows["a"].error == "down"


def test_retry_after_is_obeyed_exactly():
    worker, outbox, _, _ = parts(delivery(), script=[TransientError("429", retry_after_s=17.0)])
    assert asyncio.run(worker.round()) == 17.0
    assert outbox.rows["a"].due_t == 117.0


def test_a_permanent_error_is_the_last_word_until_something_changes():
    worker, outbox, sink, _ = parts(delivery(), script=[PermanentError("channel_not_found")])
    asyncio.run(worker.round())
    assert (outbox.rows["a"].dead, outbox.rows["a"].error) == (True, "channel_not_found")
    asyncio.run(worker.round())
    assert len(sink.seen) == 1
    outbox.rows["a"] = replace(outbox.rows["a"], dead=False, wanted=2)
    asyncio.run(worker.round())
    assert [p for p, _ in sink.seen] == ["a.1", "a.2"]


def test_what_was_achieved_before_a_failure_is_kept_and_used():
    partial = Receipt(sink="double", data={"ts": "3"}, notes=("n1",))
    worker, outbox, sink, clock = parts(delivery(), script=[TransientError("cut", receipt=partial)])
    asyncio.run(worker.round())
    assert outbox.rows["a"].receipt == partial
    clock[0] += 1000.0
    asyncio.run(worker.round())
    assert sink.seen[1] == ("a.1", partial)


def test_a_sink_that_never_answers_is_given_up_and_tried_again():
    worker, outbox, _, _ = parts(delivery(), never=True)
    asyncio.run(worker.round())
    assert "no answer within" in outbox.rows["a"].error
    assert outbox.rows["a"].due_t > 100.0
    assert outbox.rows["a"].receipt == Receipt(sink="double", intent=True)


def test_a_change_while_delivering_is_delivered_after():
    worker, outbox, sink, _ = parts(delivery())

    def change() -> None:
        sink.meanwhile = lambda: None
        outbox.rows["a"] = replace(outbox.rows["a"], wanted=2)

    sink.meanwhile = change
    assert asyncio.run(worker.round()) == 0.0  # look again at once
    assert outbox.rows["a"].delivered == 1
    asyncio.run(worker.round())
    assert [p for p, _ in sink.seen] == ["a.1", "a.2"]
    assert sink.seen[1][1] == Receipt(sink="double", data={"ts": "1"})


def test_a_change_while_the_page_is_built_is_not_lost():
    worker, outbox, _, _ = parts(delivery())

    def change() -> None:
        outbox.when_building = lambda: None
        outbox.rows["a"] = replace(outbox.rows["a"], wanted=2)

    outbox.when_building = change
    asyncio.run(worker.round())
    asyncio.run(worker.round())
    assert outbox.rows["a"].delivered == 2


def test_a_wake_makes_a_sleeping_worker_look():
    async def play() -> list[tuple[str, Receipt | None]]:
        worker, outbox, sink, _ = parts()
        running = asyncio.create_task(worker.run())
        for _ in range(5):
            await asyncio.sleep(0)
        outbox.rows["a"] = delivery()
        worker.wake.set()
        while not sink.seen:
            await asyncio.sleep(0)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        return sink.seen

    assert asyncio.run(play()) == [("a.1", None)]


def test_a_delivery_that_is_cut_off_is_not_counted_as_done():
    async def play() -> FakeOutbox:
        worker, outbox, sink, _ = parts(delivery(), never=True)
        running = asyncio.create_task(worker.round())
        while not sink.seen:
            await asyncio.sleep(0)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        return outbox

    outbox = asyncio.run(play())
    assert outbox.rows["a"].delivered == 0
    assert outbox.rows["a"].receipt == Receipt(sink="double", intent=True)
