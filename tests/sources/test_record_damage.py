"""Damage to event files and W&B logs, without end: what the checksums reject is counted, what they pass is as written.

`MANY` examples for a long run: `RUNWARDEN_FUZZ=100000 pytest tests/sources/test_record_damage.py`.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from binary_logs import event, row, transaction_log
from hypothesis import given, settings
from hypothesis import strategies as st
from log_rig import rows_of

from monitor.sources.files import PARSERS, tfevents, wandblog
from monitor.sources.files.records import Framing, Place
from monitor.sources.files.rows import Unusable

MANY = settings(deadline=None, max_examples=int(os.environ.get("RUNWARDEN_FUZZ", "60")))
LIMIT = 1 << 16
TAGS = (b"loss", b"grad_norm", b"lr")
LOGS: dict[str, tuple[Framing, bytes]] = {
    "tfevents": (tfevents.FRAMING, b"".join(event(i, tag=tag) for i in range(1, 13) for tag in TAGS)),
    "wandb": (wandblog.FRAMING, transaction_log([row(i, b"x" * (i % 4) * 9000) for i in range(1, 13)])),
}
BOTH = pytest.mark.parametrize("name", list(LOGS))


def read(name: str, data: bytes) -> tuple[list[dict[str, Any]], set[str]]:
    """Rows without their number and time, and what was counted, of a finished file of these bytes."""
    framing, parser, records = LOGS[name][0], PARSERS[name].make({}), list[bytes]()
    at, skipping, damaged = 0, False, False
    while at < len(data):
        cut = framing.cut(data[at:], Place(at, len(data), LIMIT, final=True, skipping=skipping))
        assert len(cut.records) == len(cut.starts)
        records += cut.records
        damaged = damaged or bool(cut.damaged or cut.too_long)
        torn = cut.end < len(data) - at
        at, skipping = (len(data) if torn or not cut.end else at + cut.end), cut.skipping
    parsed = parser.feed(records, 0)
    counted = {str(what) for what in parsed.tally.counts} | ({str(Unusable.RECORD_DAMAGED)} if damaged else set())
    return [{k: v for k, v in r.items() if k not in ("row", "t", "_timestamp")} for r in rows_of([parsed])], counted


def truthful(name: str, rows: list[dict[str, Any]]) -> None:
    """Every value is the one that was written for its step and metric."""
    for found in rows:
        step = found.pop("step")
        assert 1 <= step <= 12
        assert found
        assert all(value == step / 2 for value in found.values()), found
        assert set(found) <= ({tag.decode() for tag in TAGS} if name == "tfevents" else {"loss"})


@BOTH
def test_a_file_cut_at_any_byte_gives_the_rows_before_it(name: str) -> None:
    whole, _ = read(name, LOGS[name][1])
    assert len(whole) == 12
    data, stride = LOGS[name][1], 1 if name == "tfevents" else 61
    complete = 0
    for size in [*range(9, len(data), stride), len(data) - 1]:
        rows, counted = read(name, data[:size])
        assert not counted - {Unusable.RECORD_DAMAGED}
        last = len(rows) - 1
        assert rows[:last] == whole[: max(last, 0)]
        assert all(value == whole[last].get(key) for r in rows[last:] for key, value in r.items())
        assert len(rows) >= complete
        complete = len(rows)
    assert complete >= 11


@BOTH
@MANY
@given(flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 7)), min_size=1, max_size=8))
def test_flipped_bits_never_make_a_value(name: str, flips: list[tuple[int, int]]) -> None:
    data = bytearray(LOGS[name][1])
    spots = [i for i, byte in enumerate(data) if byte != ord("x")]  # not the filler
    for at, bit in flips:
        data[spots[at % len(spots)]] ^= 1 << bit
    rows, _ = read(name, bytes(data))
    truthful(name, rows)


@BOTH
@MANY
@given(
    pieces=st.lists(
        st.tuples(st.integers(0, 1 << 20), st.integers(0, 1 << 16)) | st.binary(max_size=80), min_size=1, max_size=6
    )
)
def test_files_put_together_from_pieces_hold_what_their_pieces_held(
    name: str, pieces: list[tuple[int, int] | bytes]
) -> None:
    """Spliced, repeated, in another order, with anything in between: lost blocks of a file system, merged copies."""
    whole = LOGS[name][1]
    head = whole[:8] if name == "wandb" else b""
    parts = [p if isinstance(p, bytes) else whole[p[0] % len(whole) :][: p[1]] for p in pieces]
    rows, _ = read(name, head + b"".join(parts))
    truthful(name, rows)


@BOTH
@MANY
@given(data=st.binary(max_size=400))
def test_anything_at_all_is_counted_or_nothing(name: str, data: bytes) -> None:
    rows, _ = read(name, (b":W&B\xe1\xbe\x00" if name == "wandb" else b"") + data)
    assert not rows
