"""Decides: what an amend does to a record that may have moved on. Three-way, field by field; no last writer wins.

Pure. A record's state is a mapping of field to value; its history is what each version set.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

State = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Merged:
    """The amend goes through: `fields` are what it changes; `alongside` whether other changes came in between."""

    fields: dict[str, Any]
    alongside: bool


@dataclass(frozen=True, slots=True)
class Conflict:
    """Both sides changed these fields to different values: (field, value at base, the server's, the phone's)."""

    fields: tuple[tuple[str, Any, Any, Any], ...]


@dataclass(frozen=True, slots=True)
class Revision:
    """What one version changed: the fields it set, the whole body for the first; by the n-th operation of a phone."""

    version: int
    fields: State
    phone: uuid.UUID
    n: int


def state_of(history: Iterable[Revision]) -> dict[str, Any]:
    """The state that these revisions come to, folded in the order of their versions.

    A phone's later word on a field stands, also where an earlier one of its own arrives after it.
    """
    state: dict[str, Any] = {}
    latest: dict[tuple[str, uuid.UUID], int] = {}
    for revision in sorted(history, key=lambda revision: revision.version):
        for name, value in revision.fields.items():
            if latest.get((name, revision.phone), 0) <= revision.n:
                state[name], latest[name, revision.phone] = value, revision.n
    return state


def _later(one: Revision, other: Revision) -> bool:
    return one.phone == other.phone and one.n > other.n


def amend(history: Sequence[Revision], base: int, wanted: Revision) -> Merged | Conflict:
    """What becomes of `wanted`, made on version `base` as the server told it and on all that the same phone did before.

    So a phone may amend a record several times before it hears of the first: its own changes never conflict.
    """
    known = [revision for revision in history if revision.version <= base or _later(wanted, revision)]
    overtaken = {name for revision in history if _later(revision, wanted) for name in revision.fields}
    fields = {name: value for name, value in wanted.fields.items() if name not in overtaken}
    moved = any(revision.version > base and revision.phone != wanted.phone for revision in history)
    return merge(state_of(known), state_of(history), fields, moved=moved)


def merge(base: State, live: State, wanted: State, *, moved: bool) -> Merged | Conflict:
    """What becomes of `wanted`, made on `base`, when the server's state is `live`. `moved`: live is a later version.

    Disjoint fields: both apply. The same value on both sides: applied. Different values of one field: conflict.
    """
    clashes = tuple(
        (field, base.get(field), live.get(field), value)
        for field, value in wanted.items()
        if live.get(field) != base.get(field) and live.get(field) != value
    )
    return Conflict(clashes) if clashes else Merged(dict(wanted), moved)


def holes(received: Iterable[Iterable[int]], unsent: Iterable[Iterable[int]], next_n: int) -> list[list[int]]:
    """The counters below `next_n` that were used, neither received nor declared unsent: closed ranges in order."""
    return without([[1, next_n - 1]], [*received, *unsent])


def owed(
    received: Iterable[Iterable[int]],
    lost: Iterable[Iterable[int]],
    unsent: Iterable[Iterable[int]],
    next_n: int,
) -> tuple[list[list[int]], list[list[int]]]:
    """What never arrived of the counters below `next_n`, but for those that people declared lost: the holes, and what
    the phone declares unsent."""
    missing = without([[1, next_n - 1]], [*received, *lost])
    gone = without(missing, unsent)
    return gone, without(missing, gone)


def without(ranges: Iterable[Iterable[int]], taken: Iterable[Iterable[int]]) -> list[list[int]]:
    """What is left of the ranges when those that are taken are cut out: closed ranges in order."""
    cuts, rest = deque(merge_ranges(taken)), []
    for first, last in merge_ranges(ranges):
        while cuts and cuts[0][0] <= last:
            if first < cuts[0][0]:
                rest.append([first, cuts[0][0] - 1])
            first = max(first, cuts[0][1] + 1)
            if first > last:
                break  # this cut may go on into the next range
            cuts.popleft()
        if first <= last:
            rest.append([first, last])
    return rest


def count_of(ranges: Iterable[Sequence[int]]) -> int:
    """How many counters lie in these ranges, which do not overlap."""
    return sum(last - first + 1 for first, last in ranges)


def merge_ranges(ranges: Iterable[Iterable[int]]) -> list[list[int]]:
    """Closed ranges in order, those that touch or overlap made one."""
    merged: list[list[int]] = []
    for first, last in sorted((first, last) for first, last in ranges if first <= last):
        if merged and first <= merged[-1][1] + 1:
            merged[-1][1] = max(merged[-1][1], last)
        else:
            merged.append([first, last])
    return merged
