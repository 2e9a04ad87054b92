"""A place in a file that knows which file it is a place in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Check(StrEnum):
    """Whether a file is still the one that a position belongs to."""

    SAME = "same"
    SHRUNK = "shrunk"
    OTHER_HEAD = "other_head"
    OTHER_TAIL = "other_tail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """An offset, and what identifies the file: device, inode, hashes of its head and of what stands before the offset.

    skipping: the offset is inside a line that is too long.
    """

    device: int = 0
    inode: int = 0
    head: str = ""
    head_bytes: int = 0
    offset: int = 0
    tail: str = ""
    skipping: bool = False


def to_json(position: Position) -> list[Any]:
    """As a short JSON value."""
    p = position
    return [p.device, p.inode, p.head, p.head_bytes, p.offset, p.tail, p.skipping]


def from_json(value: list[Any]) -> Position:
    """Back again. Raises ValueError or TypeError if it is none."""
    device, inode, head, head_bytes, offset, tail, skipping = value
    return Position(
        device=int(device),
        inode=int(inode),
        head=str(head),
        head_bytes=int(head_bytes),
        offset=int(offset),
        tail=str(tail),
        skipping=bool(skipping),
    )
