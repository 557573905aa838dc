"""Decides: what is one thing with what, after everything that was said of it. Pure.

People (and, of what was sent again, the server) say that records are one thing, that some are not the rest of their
group, that some are not each other; and take such words back. Records themselves never change: which of them are a
group is nothing but all that was said, in order, without what was taken back. So taking a word back, in whatever order,
leads to exactly what would be had it never been said.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

#: What may be said of records: one thing, not the rest of their group, not each other; and that it was wrong.
ACTIONS = ("group", "split", "apart", "undo")
#: Two records that somebody told apart are shown again once so many bits more speak for them than did then: as much as
#: an agreement of its own (an equal photo, a telephone), not the noise of a word that was corrected.
NEW_EVIDENCE_BITS = 3.0

#: Two records, the smaller id first.
Pair = tuple[uuid.UUID, uuid.UUID]


@dataclass(frozen=True, slots=True)
class Said:
    """One grouping (see `models.Grouping`)."""

    id: uuid.UUID
    action: str
    records: Sequence[uuid.UUID]
    apart: Sequence[tuple[uuid.UUID, uuid.UUID, float | None]] = ()
    undoes: Collection[uuid.UUID] = ()


@dataclass(slots=True)
class Overlay:
    """What all that was said comes to: the groups, by each of their records, and the pairs that were told apart, with
    the bits that spoke for them then; `None`: none did."""

    groups: dict[uuid.UUID, frozenset[uuid.UUID]] = field(default_factory=dict)
    apart: dict[Pair, float | None] = field(default_factory=dict)

    def group_of(self, record: uuid.UUID) -> frozenset[uuid.UUID]:
        """What this record is one thing with, itself included."""
        return self.groups.get(record, frozenset({record}))


def pair(one: uuid.UUID, other: uuid.UUID) -> Pair:
    """The two, in the order in which every pair is kept."""
    return (one, other) if one < other else (other, one)


def standing(said: Sequence[Said]) -> list[Said]:
    """What was said and not taken back, in order."""
    undone = {id for each in said for id in each.undoes}
    return [each for each in said if each.action != "undo" and each.id not in undone]


def fold(said: Sequence[Said]) -> Overlay:
    """What everything said, in order, comes to."""
    overlay = Overlay()
    for each in standing(said):
        if each.action == "group":
            join(overlay, each.records)
        elif each.action == "split":
            _split(overlay, frozenset(each.records))
        overlay.apart |= {(one, other): weight for one, other, weight in each.apart}
    overlay.groups = {record: group for record, group in overlay.groups.items() if len(group) > 1}
    return overlay


def join(overlay: Overlay, records: Iterable[uuid.UUID]) -> None:
    """These records are one thing, with all that they were one thing with."""
    joined = frozenset().union(*(overlay.group_of(record) for record in records))
    overlay.groups |= dict.fromkeys(joined, joined)


def _split(overlay: Overlay, off: frozenset[uuid.UUID]) -> None:
    """What is split off stays together as far as it was; so does the rest."""
    for group in {overlay.group_of(record) for record in off}:
        for part in (group & off, group - off):
            overlay.groups |= dict.fromkeys(part, part)
