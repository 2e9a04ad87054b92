"""Bytes of strangers: decompression, decoding and selectors give values or their own errors, within bounds."""

from __future__ import annotations

import contextlib
import math
import struct
import tracemalloc

import pytest
from doubles.remote_write import STALE, scrape, series, snappy, text, varint
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.sources.remote_write import message
from monitor.sources.remote_write.message import MalformedError, TooManyError, labels_of, parse
from monitor.sources.remote_write.snappy import CorruptError, TooLargeError, decompress
from monitor.sources.selector import Selector

MIB = 1 << 20


@st.composite
def blocks(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A snappy block of every kind of element, and what it holds."""
    out, coded = b"", b""
    for _ in range(draw(st.integers(0, 12))):
        if not out or draw(st.booleans()):
            piece = draw(st.binary(min_size=1, max_size=300))
            n = len(piece) - 1
            coded += bytes([n << 2]) if n < 60 else bytes([60 << 2, n]) if n < 256 else b"\xf4" + struct.pack("<H", n)
            coded += piece
        else:
            offset = draw(st.integers(1, len(out)))
            length = draw(st.integers(4, 11) if offset < 2048 else st.integers(1, 64))
            kind = draw(st.sampled_from([1, 2, 3] if offset < 2048 else [2, 3]))
            if kind == 1:
                coded += bytes([offset >> 8 << 5 | length - 4 << 2 | 1, offset & 255])
            else:
                coded += bytes([length - 1 << 2 | kind]) + struct.pack("<H" if kind == 2 else "<I", offset)
            piece = b""
            for _ in range(length):
                piece += (out + piece)[-offset : len(out) + len(piece) - offset + 1][:1]
        out += piece
    return varint(len(out)) + coded, out


@settings(deadline=None, max_examples=200)
@given(blocks())
def test_every_element_of_a_block_is_decompressed(block: tuple[bytes, bytes]) -> None:
    coded, plain = block
    assert decompress(coded, len(plain)) == plain
    if plain:
        with pytest.raises(TooLargeError):
            decompress(coded, len(plain) - 1)


@settings(deadline=None, max_examples=300)
@given(blocks(), st.integers(0, 2000), st.integers(0, 255), st.integers(0, 2000))
def test_a_damaged_block_is_bytes_or_an_error_of_its_own(
    block: tuple[bytes, bytes], at: int, byte: int, cut: int
) -> None:
    coded = bytearray(block[0])
    coded[at % len(coded)] = byte
    with contextlib.suppress(CorruptError, TooLargeError):
        assert len(decompress(bytes(coded[: cut % (len(coded) + 1)]), 5000)) <= 5000


def test_a_bomb_costs_nothing() -> None:
    copies = b"\x00a" + b"\xfe\x01\x00" * 100_000  # each a copy of 64 bytes
    bombs = [varint(1 << 32) + copies, varint(1 << 62), varint(100) + copies]
    tracemalloc.start()
    try:
        for bomb in bombs:
            with pytest.raises((CorruptError, TooLargeError)):
                decompress(bomb, MIB)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def test_a_request_is_its_series_with_labels_and_points() -> None:
    data = series([(5, 1.5), (-1, math.inf), (7, STALE), (8, math.nan)], name="loss", run="ä") + text(3, b"metadata")
    (one,) = parse(data).series
    assert labels_of(one.labels) == {"__name__": "loss", "run": "ä"}
    assert repr(one.points) == "[(5, 1.5), (-1, inf), (7, None), (8, nan)]"


VALID = scrape(1_700_000_000_000, {"loss": 1.0, "lr": 2.0}, run="a", job="t") + text(3, b"\x0a\x01x")


@settings(deadline=None, max_examples=400)
@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(VALID)))
def test_a_damaged_request_is_read_or_malformed(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(VALID)
    for at, byte in changes:
        data[at] = byte
    read(bytes(data[:cut]))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_malformed(data: bytes) -> None:
    read(data)
    read(text(1, data))
    read(text(1, text(1, data) + text(2, data)))


def read(data: bytes) -> None:
    with contextlib.suppress(MalformedError):
        for one in parse(data).series:
            labels_of(one.labels)


def test_a_request_of_too_many_samples_and_series_of_too_long_labels_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(message, "MAX_SAMPLES", 10)
    assert parse(series([(i, 1.0) for i in range(10)])).size == 10
    with pytest.raises(TooManyError):
        parse(series([(i, 1.0) for i in range(6)]) * 2)
    request = parse(series([(1, 1.0)], run="x" * 20_000) + series([(1, 1.0)]) + text(1, text(4, b"")))
    assert (len(request.series), request.overlong, request.histograms) == (1, 1, 1)


@pytest.mark.parametrize(
    ("selector", "labels", "chosen"),
    [
        ("loss", {"__name__": "loss"}, True),
        ("loss", {"__name__": "losses"}, False),
        ('loss{run="a", job!="b",}', {"__name__": "loss", "run": "a"}, True),
        ('loss{run="a"}', {"__name__": "loss"}, False),
        ('{__name__=~"train_.*"}', {"__name__": "train_loss"}, True),
        ('{__name__=~"train_.*"}', {"__name__": "my_train_loss"}, False),
        ("loss{host=~'gpu-\\\\d+'}", {"__name__": "loss", "host": "gpu-12"}, True),
        ("loss{host!~`gpu-\\d+`}", {"__name__": "loss", "host": "gpu-12"}, False),
        ('loss{run="a\\"},b"}', {"__name__": "loss", "run": 'a"},b'}, True),
    ],
)
def test_a_selector_chooses_as_prometheus_does(selector: str, labels: dict[str, str], chosen: bool) -> None:
    assert Selector(selector).matches(labels) is chosen


@pytest.mark.parametrize(
    "selector", ["", "{}", 'loss{run="a}', 'a{b="c"}[5m]', 'a{b=~"("}', '{a=~".*"}', 'a{b="\\q"}', "sum(a)"]
)
def test_a_selector_that_is_none_says_so(selector: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|has|selects) "):
        Selector(selector)


def test_a_block_of_the_double_is_what_it_was() -> None:
    data = bytes(range(256)) * 1000
    assert decompress(snappy(data), len(data)) == data
