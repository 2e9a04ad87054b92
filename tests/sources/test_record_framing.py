"""Records end where their format says, however a file is cut, grows, is damaged or is read again."""

from __future__ import annotations

import gzip
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from binary_logs import event, row, transaction_log
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_rig import append, watching

from monitor.sources.files import PARSERS, tfevents, wandblog
from monitor.sources.files.inspect import inspect_file
from monitor.sources.files.records import Cut, Framing, Place
from monitor.sources.files.rows import Unusable

LIMIT = 1 << 20
SHARED = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
LOGS = {
    "tfevents": (tfevents.FRAMING, b"".join(event(i // 2, tag=(b"loss", b"grad_norm")[i % 2]) for i in range(120))),
    "wandb": (wandblog.FRAMING, transaction_log([row(i, b"x" * (i % 5) * 1500) for i in range(60)])),
}
QUIET = 8
"""So many polls after the last growth, one second apart, a row at the end of an event file is taken for whole."""
NAMES = {"tfevents": "events.out.tfevents.1700000000.h", "wandb": "run-a.wandb"}
BOTH = pytest.mark.parametrize("name", list(LOGS))


def drain(framing: Framing, data: bytes, sizes: list[int]) -> tuple[list[bytes], list[int], list[int]]:
    """Records, and the indices of those damaged and too long, of data that is looked at in pieces."""
    records: list[bytes] = []
    damaged: list[int] = []
    at, skipping = 0, False
    for size in [*sizes, len(data)]:
        stop = min(len(data), at + size)
        final = stop == len(data)
        cut: Cut = framing.cut(data[at:stop], Place(at, len(data), LIMIT, final, skipping))
        damaged += [len(records) + i for i in cut.damaged]
        records += cut.records
        at, skipping = at + cut.end, cut.skipping
    return records, damaged, []


def values(rows: list[dict[str, Any]]) -> list[tuple[int, int, str]]:
    return [(r["row"], r["step"], repr(r["values"])) for r in rows]


def watched(folder: Path, name: str, data: bytes) -> list[tuple[int, int, str]]:
    append(folder / NAMES[name], data)
    with watching(folder) as rig:
        return values(rig.poll(QUIET))


@BOTH
@SHARED
@given(sizes=st.lists(st.integers(0, 40_000), max_size=30))
def test_any_cutting_gives_the_same_records(name: str, sizes: list[int]) -> None:
    framing, data = LOGS[name]
    records, damaged, _ = drain(framing, data, sizes)
    assert len(records) == 60
    assert not damaged
    assert (records, damaged, []) == drain(framing, data, [])


@BOTH
@SHARED
@given(place=st.integers(8, 100_000), bit=st.integers(0, 7), sizes=st.lists(st.integers(0, 40_000), max_size=12))
def test_a_flipped_bit_costs_at_most_its_block_and_is_counted_the_same_however_cut(
    name: str, place: int, bit: int, sizes: list[int]
) -> None:
    framing, whole = LOGS[name]
    data = bytearray(whole)
    data[8 + place % (len(data) - 8)] ^= 1 << bit
    clean = drain(framing, whole, [])[0]
    found = drain(framing, bytes(data), [])
    assert all(any(record in one for one in clean) for record in found[0])  # a row may lose one of its events
    assert len(found[1]) <= 2
    if name == "tfevents":
        assert len([r for r in found[0] if r]) >= len(clean) - 2
    assert drain(framing, bytes(data), sizes) == found


@BOTH
@SHARED
@given(seed=st.integers(0, 2**32))
def test_no_damage_makes_the_watcher_raise_or_invent_a_row(tmp_path: Path, name: str, seed: int) -> None:
    rng, (_, whole) = random.Random(seed), LOGS[name]
    data = bytearray(whole)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + rng.randint(1, 300)]
            case 2:
                data[at : at + 400] = bytes(rng.randint(1, 400))
            case _:
                del data[rng.randrange(len(data) // 2, len(data)) :]
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    path = folder / NAMES[name]
    append(path, bytes(data))
    with watching(folder) as rig:
        seen = values(rig.poll())
        assert {s for _, s, _ in seen} <= set(range(60))
        assert len({r for r, _, _ in seen}) == len(seen)
        assert set(rig.counts) <= set(Unusable)
        path.write_bytes(b"")
        rig.poll()


@BOTH
@SHARED
@given(seed=st.integers(0, 2**32), damage=st.booleans())
def test_any_growth_and_crashes_give_the_same_rows(tmp_path: Path, name: str, seed: int, damage: bool) -> None:
    """Bytes come in random pieces; now and then only some earlier cursor is left, and the rows after it come again."""
    folder, rng = Path(tempfile.mkdtemp(dir=tmp_path)), random.Random(seed)
    data = LOGS[name][1]
    if damage:
        at = rng.randrange(100, len(data) * 2 // 3)
        data = data[:at] + bytes([data[at] ^ 64]) + data[at + 1 :]
    wanted = watched(folder / "whole", name, data)
    assert len(wanted) >= 20
    path = folder / "live" / NAMES[name]
    append(path, data[:20])
    data = data[20:]
    found: dict[int, tuple[int, int, str]] = {}
    with watching(path.parent) as rig:
        while data:
            size = rng.choice([1, 7, 90, 3000, 20_000] if name == "wandb" else [1, 7, 60, 400])
            append(path, data[:size])
            data = data[size:]
            if rng.random() < 0.2:
                rig.restart(rng.choice(rig.kept) if rig.kept else None)
            for entry in values(rig.poll(2)):
                assert found.setdefault(entry[0], entry) == entry
        for entry in values(rig.poll(QUIET)):  # and in the end it is quiet
            assert found.setdefault(entry[0], entry) == entry
    assert [found[i] for i in sorted(found)] == wanted


@BOTH
def test_every_cursor_is_a_place_to_go_on_from(tmp_path: Path, name: str) -> None:
    data = LOGS[name][1]
    path = tmp_path / NAMES[name]
    append(path, data[:9])
    with watching(tmp_path) as rig:
        for start in range(9, len(data), 997):
            append(path, data[start : start + 997])
            rig.poll(1)
        rig.poll(QUIET)
        whole, kept = values(rig.seen), list(rig.kept)
        assert len(whole) == 60
        for cursors in kept[:: len(kept) // 20 or 1]:
            rig.restart(cursors)
            again = values(rig.poll(QUIET))
            assert again == whole[len(whole) - len(again) :]


@BOTH
def test_damage_is_counted_once_with_its_row_and_byte(tmp_path: Path, name: str) -> None:
    data = LOGS[name][1]
    at = data.index(b"loss", 2000)
    append(tmp_path / NAMES[name], data[:at] + b"l0ss" + data[at + 4 :])
    with watching(tmp_path) as rig:
        rig.poll(QUIET)
        assert rig.counts == {Unusable.RECORD_DAMAGED: 1}
        ((_, row_, text),) = rig.lines
        assert row_ not in {r["row"] for r in rig.seen}
        byte = int(text.removeprefix("damaged record at byte "))
        assert 0 < at - byte < 100
        rig.restart()
        rig.poll(2)
        assert rig.counts == {Unusable.RECORD_DAMAGED: 1}
        assert rig.seen[-1]["step"] == 59


@BOTH
def test_zeros_that_become_a_record_later_lose_nothing(tmp_path: Path, name: str) -> None:
    """As network file systems show a page that is still to come, and as a crash may leave a hole."""
    data, path = LOGS[name][1], tmp_path / NAMES[name]
    half = len(data) // 2
    append(path, data[:half] + bytes(200))
    with watching(tmp_path) as rig:
        rig.poll()
        with path.open("r+b") as file:
            file.seek(half)
            file.write(data[half:])
        rig.poll(QUIET)
        assert sorted(rig.steps()) == list(range(60))
        assert not rig.counts


@BOTH
def test_a_record_that_is_too_long_is_left_out_and_counted(tmp_path: Path, name: str) -> None:
    long = {
        "tfevents": event(0) + event(1, b"z" * 5000) + event(2),
        "wandb": transaction_log([row(0), row(1, b"z" * 90_000), row(2)]),
    }[name]
    path = tmp_path / NAMES[name]
    append(path, long[:1500])
    with watching(tmp_path, max_line_bytes=1000) as rig:
        rig.poll(2)
        for start in range(1500, len(long), 2000):
            append(path, long[start : start + 2000])
            rig.poll(1)
            assert rig.watch.poll(rig.now).at_head, "waiting is not reading"
            rig.restart()
        rig.poll(QUIET)
        assert [(r["row"], r["step"]) for r in rig.seen] == [(0, 0), (2, 2)]
        assert rig.counts == {Unusable.LINE_TOO_LONG: 1}


@BOTH
def test_a_record_longer_than_a_read_but_within_the_bound_is_a_row(tmp_path: Path, name: str) -> None:
    long = {
        "tfevents": event(0) + event(1, b"\x12" + b"\x90\xa1\x0f" + b"z" * 250_000) + event(2),
        "wandb": transaction_log([row(0), row(1, b"z" * 900_000), row(2)]),
    }[name]
    (tmp_path / NAMES[name]).write_bytes(long)
    summary = inspect_file(str(tmp_path / NAMES[name]))
    assert summary.lines == 3
    assert Unusable.LINE_TOO_LONG not in summary.problems


@BOTH
@pytest.mark.parametrize("packed", [False, True])
def test_a_finished_file_may_be_packed_and_may_be_cut_short(tmp_path: Path, name: str, packed: bool) -> None:
    data = LOGS[name][1][:-5]
    path = tmp_path / (NAMES[name] + ".gz" * packed)
    path.write_bytes(gzip.compress(data) if packed else data)
    summary = inspect_file(str(path))
    assert summary.format == name
    rows = {"tfevents": 60, "wandb": 59}[name]  # of the last step one metric is there
    assert [r.rows for r in summary.runs] == [rows]
    assert summary.problems == {Unusable.TORN_LINE: (1, rows + 1)}
    if packed:
        with watching(tmp_path) as rig:
            assert len(rig.poll()) == rows


@BOTH
@SHARED
@given(data=st.lists(st.binary(max_size=60), max_size=8))
def test_no_record_makes_a_parser_raise(name: str, data: list[bytes]) -> None:
    whole = LOGS[name][0].cut(LOGS[name][1], Place(0, 1 << 40, LIMIT)).records[:2]
    out = PARSERS[name].make({}).feed([*data, *whole, b""], 0)
    assert {len(data), len(data) + 1} <= {r for p in out.pieces for r in p.row.tolist()}


def test_many_records_are_checked_as_one_by_one() -> None:
    data = bytearray(b"".join(event(i) for i in range(100)))
    size = len(data) // 100
    data[size * 50 + 20] ^= 1
    cut = tfevents.cut(bytes(data), Place(0, 1 << 40, LIMIT, quiet_s=QUIET))
    assert cut.damaged == [50]
    assert [bool(r) for r in cut.records] == [i != 50 for i in range(100)]
