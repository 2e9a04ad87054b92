"""Parsers give the same rows however the lines are cut, and no input makes them raise."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_rig import rows_of, same

from monitor.sources.files import PARSERS


def _json(i: int) -> str:
    record = {"epoch": i // 5, "iter": i % 5, "loss": i / 3 if i % 7 else float("nan")}
    return json.dumps({**record, "x": i} if i % 2 else record) + "\n"


def _megatron(i: int) -> str:
    """Some lines without the loss, some printed twice."""
    return f" iteration {i}/ 99 | {f'lm loss: {i}.5 | ' if i % 3 else ''}grad norm: 1.0 |\n" * (1 + i % 2)


SAMPLES = {
    "jsonl": "".join(map(_json, range(40))) + 'oops\n\n{"step":1,"loss":"a","run":"r2"}\n',
    "csv": "step,loss\n1,2\n2,\n\n3,nan\n4,4,4\nstep,loss,lr\n5,5,5\n6,6,6\n",
    "trainer_state": json.dumps(
        {"epoch": 1, "log_history": [{"loss": 1.5, "step": i} for i in range(9)], "max_steps": 9}, indent=2
    )
    + "\n",
    "text": "hello\n"
    + "".join(map(_megatron, range(12)))
    + "[step=5/9,epoch=1]\n    a=1\n    b=2\n"
    + "fp16 dynamic loss scale overflow!\n iteration 13/ 99 | a: 1 | lm\nloss: 2 |\n"
    + _megatron(14),
}


@pytest.mark.parametrize("name", list(SAMPLES))
@settings(deadline=None, max_examples=40)
@given(cuts=st.lists(st.integers(0, 60), max_size=8))
def test_any_cutting_with_the_state_carried_as_json_gives_the_same_rows(name: str, cuts: list[int]) -> None:
    lines = SAMPLES[name].encode().split(b"\n")[:-1]
    whole = rows_of([PARSERS[name].make({}).feed(lines, 0)])
    parts, state = [], {}
    ends = sorted({min(c, len(lines)) for c in cuts} | {len(lines)})
    for start, end in zip([0, *ends], ends, strict=False):
        parser = PARSERS[name].make(json.loads(json.dumps(state)))
        parts.append(parser.feed(lines[start:end], start))
        state = parser.state()
    same(rows_of(parts), whole)


@settings(deadline=None, max_examples=60)
@given(
    data=st.lists(st.binary(max_size=80).filter(lambda b: b"\n" not in b), max_size=12),
    name=st.sampled_from(sorted(PARSERS)),
)
def test_no_bytes_make_a_parser_raise(data: list[bytes], name: str) -> None:
    parser = PARSERS[name].make({})
    first = parser.feed([*data, b'{"step":1,"loss":1}', b"step,loss", b"1,2"], 0)
    assert all(0 <= row < len(data) + 3 for piece in first.pieces for row in piece.row.tolist())


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=2) | st.dictionaries(st.text(max_size=3), v, max_size=2), max_leaves=6
)


@settings(deadline=None, max_examples=60)
@given(record=st.dictionaries(st.text(max_size=6), VALUES, max_size=6))
def test_no_json_object_makes_the_parser_raise(record: dict[str, Any]) -> None:
    line = json.dumps(record).encode()
    parsed = PARSERS["jsonl"].make({}).feed([line, b'{"step": 1, "loss": 1}'], 0)
    assert 1 in [row for piece in parsed.pieces for row in piece.row.tolist()]
