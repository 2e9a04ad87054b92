"""No bytes make a parser raise or break what holds of its output: a bounded sample of the long run (see target.py)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.target import FORMATS, consume

HERE = Path(__file__).parent
SEEDS = sorted(p.read_bytes() for f in (HERE / "seeds", HERE.parent / "golden" / "writers") for p in f.glob("*.*"))
TOKENS = [
    b"NaN", b"-Infinity", b"1e999", b"-1", b"9" * 25, b"0x1", b'"', b"{", b"}", b"[", b",", b"|", b":", b"=", b"\r",
    b"\xff", b"\x00", b"\x1b[31m", b"step", b"iteration 1/ 2 |", b"num_updates", b"loss: ", b'"log_history"',
    b"/???", b"1,,2", b"1_0", b".", b"e5", "é🙂".encode(), b'{"step":', b"epoch 1 |", b"(1%) | loss: nan",
]  # fmt: skip


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """A seed with pieces cut, repeated, moved to another seed, or replaced by tokens that parsers trip over."""
    data = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 6))):
        a, b = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        other = draw(st.sampled_from(SEEDS))
        piece = draw(st.sampled_from([b"", data[a:b] * 2, other[a:b], *TOKENS]))
        data = (data[:a] + piece + data[draw(st.sampled_from([a, b])) :])[:20_000]
    return data


@pytest.mark.parametrize("name", sorted(FORMATS))
@settings(deadline=None, max_examples=50)
@given(data=mutants())
def test_no_mutant_of_a_log_makes_a_parser_raise(name: str, data: bytes) -> None:
    consume(name, data)


SLOW: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "one long line of text": ("text", lambda n: b"step 1: " + b"a" * n),
    "many pairs in one line": ("text", lambda n: b"step 1: " + b"a=1 " * (n // 4)),
    "many open braces": ("text", lambda n: b'step 1 {"' * (n // 9) + b"}"),
    "many almost matches": ("text", lambda n: b"step 1/1 iter 1: iteration " * (n // 27)),
    "spaces": ("text", lambda n: b"step 1 " + b" " * n + b"loss: x"),
    "escapes": ("text", lambda n: b"\x1b[" + b"0;" * (n // 2) + b"step 1 loss: 2"),
    "digits": ("text", lambda n: b"step: " + b"1," * (n // 2) + b" loss: 1"),
    "bars": ("text", lambda n: b" iteration 1/ 2 | " + b"lm loss: 1 | " * (n // 13)),
    "quotes of a dict": ("text", lambda n: b"{'loss': 1, " + b"'a" * (n // 2) + b"}"),
    "commas of fairseq": ("text", lambda n: b"epoch 001: 1 / 2 num_updates=1" + b", a=1" * (n // 5)),
    "wrapped lines": ("text", lambda n: (b" iteration 1/ 2 | a: 1 | lm\n" + b"b |\n" * 9) * (n // 64)),
    "short lines of text": ("text", lambda n: b"step 1: loss=2\n" * (n // 15)),
    "many keys": ("jsonl", lambda n: b'{"step":1' + b"".join(b',"k%d":1' % i for i in range(n // 9)) + b"}"),
    "other keys in every record": ("jsonl", lambda n: b"".join(b'{"step":1,"k%d":1}\n' % i for i in range(n // 18))),
    "growing records": ("jsonl", lambda n: b"".join(b'{"a%d":1,"b":2}\n' % (i % 97) for i in range(n // 14))),
    "deep nesting": ("jsonl", lambda n: b'{"a":' * (n // 5)),
    "nested, not closed, again and again": ("jsonl", lambda n: (b'{"step":1,"a":[' + b"[" * 80 + b"\n") * (n // 96)),
    "bare nan in every line": ("jsonl", lambda n: b'{"step":1,"loss":nan,"x":NaN}\n' * (n // 30)),
    "digits of json": ("jsonl", lambda n: b'{"step":1,"loss":' + b"9" * n + b"}"),
    "digits of json beside a nan": ("jsonl", lambda n: b'{"step":1,"x":NaN,"loss":' + b"9" * n + b"}"),
    "many columns": (
        "csv",
        lambda n: b",".join(b"c%d" % i for i in range(n // 12)) + b"\n" + b"1," * (n // 12 - 1) + b"1",
    ),
    "a new header in every line": ("csv", lambda n: b"".join(b"step,loss,c%d\n1,2,3\n" % i for i in range(n // 21))),
    "quotes": ("csv", lambda n: b"step,loss\n" + b'"' * n),
    "history of one step": ("trainer_state", lambda n: b'{\n  "log_history": [\n' + b'{"a":1},\n' * (n // 9)),
}


def seconds(name: str, data: bytes) -> float:
    """Processor time of one pass."""
    start = time.process_time()
    consume(name, b"\x80" + data)
    return time.process_time() - start


@pytest.mark.parametrize("what", list(SLOW))
def test_eight_times_the_input_takes_no_more_than_eight_times_as_long(what: str) -> None:
    name, make = SLOW[what]
    seconds(name, make(4_000))
    few, many = (min(seconds(name, make(n)) for _ in range(3)) for n in (32_000, 256_000))
    assert many < 8 * 2.5 * max(few, 2e-3), (few, many)
