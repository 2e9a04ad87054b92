"""A frame as bytes for the state file: its arrays one after the other, little-endian; and back."""

from __future__ import annotations

import json

import numpy as np

from detectors.types import Origin
from monitor.frame import Frame

_ORIGIN = {o.value: o for o in Origin}


def encode(frame: Frame) -> bytes:
    """The arrays of a frame, one after the other, little-endian."""
    return b"".join(
        (
            frame.row.astype("<i8").tobytes(),
            frame.step.astype("<i8").tobytes(),
            frame.t.astype("<f8").tobytes(),
            np.ascontiguousarray(frame.values, dtype="<f8").tobytes(),
        )
    )


def decode(run: str, origin: str, generation: int, columns: str, n: int, data: bytes) -> Frame:
    """The frame that `encode` wrote."""
    names = tuple(json.loads(columns))
    return Frame(
        run=run,
        columns=names,
        row=np.frombuffer(data, "<i8", n, 0),
        step=np.frombuffer(data, "<i8", n, 8 * n),
        t=np.frombuffer(data, "<f8", n, 16 * n),
        values=np.frombuffer(data, "<f8", n * len(names), 24 * n).reshape(n, len(names)),
        origin=_ORIGIN[origin],
        generation=generation,
    )
