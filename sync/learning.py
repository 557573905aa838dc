"""Teaches the weights of likeness: from what people decided, from pairs that somebody labelled, and from all others.

Pairs that people decided on were shown to them because they looked alike; they teach what levels weigh. Pairs as
blocking finds them, of which nobody said anything, teach how often a level comes up by chance (`estimation`). How good
the weights are is told for pairs that they were not learned from: half of those that were judged teach, the other half
measures; what is written in the end has learned from all.
"""

from __future__ import annotations

import csv
import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from sync import groups, resemblances
from sync.estimation import Judged, Quality, estimate, quality
from sync.fellegi_sunter import Levels, Table
from sync.grouping import Pair, pair, standing
from sync.groups import MODELS
from sync.likeness import COMPARATORS, KINDS, Sketch, scale_name
from sync.models import Grouping
from sync.resemblances import Yardstick

#: The newest records of each kind whose candidates teach what chance does.
NEWEST = 5_000
#: Pairs whose records are read at once.
_CHUNK = 1_000


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a scale has learned: from how many judged pairs, and how good it is on the half that it did not learn from,
    before and after."""

    scale: str
    judged: int
    before: Quality
    after: Quality


def decided(session: Session) -> dict[Pair, bool]:
    """What people say of pairs of records, as it stands: the same, or not."""
    said = session.scalars(select(Grouping).where(Grouping.kind.in_(KINDS)).order_by(Grouping.ordinal)).all()
    by_people = {row.id for row in said if row.account_id is not None}
    judged: dict[Pair, bool] = {}
    for word in standing([groups.as_said(row) for row in said]):
        if word.id in by_people:
            together = combinations(sorted(word.records), 2) if word.action == "group" else ()
            judged |= {pair(one, other): True for one, other in together}
            judged |= {(one, other): False for one, other, _ in word.apart}
    return judged


def labelled(file: Path) -> dict[Pair, bool]:
    """The pairs of a CSV file with the columns `one`, `other` (ids of records) and `same` (1 or 0).

    Raises ValueError, with the line, where it is not like that.
    """
    judged: dict[Pair, bool] = {}
    with file.open(encoding="utf-8-sig", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines), start=2):
            try:
                judged[pair(uuid.UUID(row["one"]), uuid.UUID(row["other"]))] = {"1": True, "0": False}[row["same"]]
            except (KeyError, ValueError, TypeError, AttributeError) as error:
                raise ValueError(f"{file.name}:{number}: not one, other, same: {error!r}") from error
    return judged


def learn(
    session: Session, judged: Mapping[Pair, bool], yardstick: Yardstick, *, now: dt.datetime
) -> tuple[Table, list[Lesson]]:
    """The table as these pairs, and those that nobody judged, teach it; and what each scale has learned."""
    taught = _levels(session, judged, yardstick.table)
    by_chance = _by_chance(session, yardstick.table)
    lessons, scales = [], dict(yardstick.table.scales)
    for name, pairs in sorted(taught.items()):
        scale, least = scales[name], yardstick.told_from[name.partition("/")[0]]
        teaching, measuring = pairs[::2], pairs[1::2]
        half = estimate(scale, by_chance[name], teaching)
        lessons.append(Lesson(name, len(pairs), quality(scale, measuring, least), quality(half, measuring, least)))
        scales[name] = estimate(scale, by_chance[name], pairs)
    reason = f"{yardstick.table.reason} Learned again on {now.date()} from {len(judged)} pairs that were judged."
    return replace(yardstick.table, version=now.date().isoformat(), reason=reason, scales=scales), lessons


def _levels(session: Session, judged: Mapping[Pair, bool], table: Table) -> dict[str, list[tuple[Levels, bool]]]:
    """How the judged pairs agree, by the scale for them, in an order that no decision depends on."""
    taught: dict[str, list[tuple[Levels, bool]]] = defaultdict(list)
    pairs = iter(sorted(judged))
    while chunk := list(islice(pairs, _CHUNK)):
        drawn = _drawn(session, {id for two in chunk for id in two})
        for one, other in chunk:
            if one in drawn and other in drawn and drawn[one].kind == drawn[other].kind:
                name, levels = _compared(drawn[one], drawn[other], table)
                taught[name].append((levels, judged[one, other]))
    return taught


def _drawn(session: Session, ids: set[uuid.UUID]) -> dict[uuid.UUID, Sketch]:
    found = (resemblances.sketches(session, kind, ids) for kind in KINDS)
    return resemblances.with_pictures(session, {id: each for of_kind in found for id, each in of_kind.items()})


def _compared(one: Sketch, other: Sketch, table: Table) -> tuple[str, Levels]:
    name = scale_name(one, other)
    return name, table.scales[name].levels(COMPARATORS, one, other)


def _by_chance(session: Session, table: Table) -> Mapping[str, list[Judged]]:
    """How candidates of the newest records agree, of which nobody says anything here, by the scale for them."""
    found: dict[str, list[Judged]] = defaultdict(list)
    for records in _newest(session):
        drawn, pairs = resemblances.candidates(session, records)
        for one, other in sorted(pairs):
            name, levels = _compared(drawn[one], drawn[other], table)
            found[name].append((levels, None))
    return found


def _newest(session: Session) -> Iterator[Mapping[uuid.UUID, Sketch]]:
    for kind in KINDS:
        model = MODELS[kind]
        asked = select(model.id).where(model.voided_at.is_(None)).order_by(model.occurred_at.desc(), model.id.desc())
        ids: Iterable[uuid.UUID] = iter(session.scalars(asked.limit(NEWEST)).all())
        while chunk := list(islice(ids, _CHUNK)):
            yield resemblances.sketches(session, kind, chunk)


def lines(lessons: Sequence[Lesson]) -> Iterator[str]:
    """What was learned, a line for each scale."""
    for lesson in lessons:
        precision = f"precision {lesson.before.precision:.3f} to {lesson.after.precision:.3f}"
        recall = f"recall {lesson.before.recall:.3f} to {lesson.after.recall:.3f}"
        yield f"{lesson.scale}: {lesson.judged} pairs judged; on half of them {precision}, {recall}"
