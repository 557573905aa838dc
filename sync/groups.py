"""Keeps what was said of records that are one thing, and what it comes to: groups that lay over the records.

Nothing here changes a record. A group is what `grouping.fold` makes of everything said of its records, kept row by row
(`Grouped`, `Apart`) so that lists can ask for it; who says a word has the counter, for what a group comes to must not
depend on who commits first. Every word is sworn to; every record whose group changed goes out on the feed.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session, aliased

from sync import grouping
from sync.grouping import Overlay, Pair, Said
from sync.journal import Change, decision_evidence, digest_of, item_links, record_change
from sync.models import (
    Apart,
    Grouped,
    Grouping,
    GroupingRecord,
    Incident,
    Patrol,
    Vendor,
    VendorWarning,
    among,
    insert_rows,
)

#: What may be one thing with others of its kind.
MODELS: Mapping[str, Any] = {"patrol": Patrol, "incident": Incident, "warning": VendorWarning, "vendor": Vendor}


@dataclass(frozen=True, slots=True)
class Word:
    """What somebody says of records of one kind; without an account it is the server (see `models.Grouping`)."""

    kind: str
    action: str
    records: Collection[uuid.UUID]
    reason: str
    account_id: int | None = None
    apart: Sequence[tuple[uuid.UUID, uuid.UUID, float | None]] = ()
    undoes: Collection[uuid.UUID] = ()


@dataclass(frozen=True, slots=True)
class Spoken:
    """What came of words: the ids they are kept under, what the chain swears to, what the feed tells of, and the ids,
    by kind, of what is in another group now."""

    ids: list[uuid.UUID]
    evidence: list[Any]
    changes: list[Change]
    changed: Mapping[str, Collection[uuid.UUID]]


def say(session: Session, words: Sequence[Word], *, now: dt.datetime) -> Spoken:
    """These words count from now on, by a number of statements that does not grow with theirs. The caller holds the
    counter."""
    rows = _rows(session, words, now)
    insert_rows(session, Grouping, rows)
    named = [
        {"record_id": record, "grouping_id": row["id"]} for row in rows for record in map(uuid.UUID, row["records"])
    ]
    insert_rows(session, GroupingRecord, named)
    changed = _lay(session, {row["record_id"] for row in named})
    changes = [change for kind, records in changed.items() for change in _told_again(session, kind, records)]
    evidence = [decision_evidence("grouping", row, row["id"]) for row in rows]
    return Spoken([row["id"] for row in rows], evidence, changes, changed)


def _rows(session: Session, words: Sequence[Word], now: dt.datetime) -> list[dict[str, Any]]:
    last = session.scalar(select(func.max(Grouping.ordinal))) or 0
    return [
        {
            "id": uuid.uuid4(),
            "ordinal": ordinal,
            "kind": word.kind,
            "action": word.action,
            "records": sorted(map(str, word.records)),
            "apart": [[str(one), str(other), weight] for one, other, weight in word.apart],
            "undoes": sorted(map(str, word.undoes)),
            "reason": word.reason,
            "account_id": word.account_id,
            "at": now,
        }
        for ordinal, word in enumerate(words, start=last + 1)
    ]


# ---------------------------------------------------------------- what everything said comes to


def overlay(session: Session, records: Iterable[uuid.UUID]) -> Overlay:
    """What everything said of these records, and of those they were ever named with, comes to."""
    return grouping.fold([as_said(row) for row in said_of(session, _reached(session, records))])


def said_of(session: Session, records: Iterable[uuid.UUID]) -> Sequence[Grouping]:
    """Everything that was said of these records, in order."""
    about = select(GroupingRecord.grouping_id).where(among(session, GroupingRecord.record_id, records))
    return session.scalars(select(Grouping).where(Grouping.id.in_(about)).order_by(Grouping.ordinal)).all()


def as_said(row: Grouping) -> Said:
    """A grouping as `grouping` takes it."""
    apart = [(uuid.UUID(one), uuid.UUID(other), weight) for one, other, weight in row.apart]
    return Said(row.id, row.action, [uuid.UUID(i) for i in row.records], apart, {uuid.UUID(i) for i in row.undoes})


def _reached(session: Session, records: Iterable[uuid.UUID]) -> set[uuid.UUID]:
    """These records, and all they were ever named with, directly or by way of others."""
    records = set(records)
    reached = select(GroupingRecord.record_id).where(among(session, GroupingRecord.record_id, records))
    chain = reached.cte("chain", recursive=True)
    here, there = aliased(GroupingRecord), aliased(GroupingRecord)
    further = select(there.record_id).join(here, here.grouping_id == there.grouping_id)
    chain = chain.union(further.join(chain, chain.c.record_id == here.record_id))
    return records | set(session.scalars(select(chain.c.record_id)))


def _lay(session: Session, about: Iterable[uuid.UUID]) -> dict[str, list[uuid.UUID]]:
    """The records whose group is another now, by kind; all of it is written."""
    reached = _reached(session, about)
    said, before = said_of(session, reached), groups_of(session, reached)
    after = grouping.fold([as_said(row) for row in said])
    session.execute(delete(Grouped).where(among(session, Grouped.record_id, reached)))
    session.execute(delete(Apart).where(among(session, Apart.one_id, reached)))
    insert_rows(session, Grouped, _grouped_rows(after))
    insert_rows(session, Apart, _apart_rows(after))
    changed: dict[str, list[uuid.UUID]] = {}
    for record, kind in {uuid.UUID(record): row.kind for row in said for record in row.records}.items():
        if before.get(record) != after.groups.get(record):
            changed.setdefault(kind, []).append(record)
    return changed


def _apart_rows(laid: Overlay) -> list[dict[str, Any]]:
    return [{"one_id": one, "other_id": other, "weight": weight} for (one, other), weight in laid.apart.items()]


def _grouped_rows(laid: Overlay) -> list[dict[str, Any]]:
    return [{"record_id": record, "group_id": min(group)} for record, group in laid.groups.items()]


def groups_of(session: Session, records: Iterable[uuid.UUID]) -> dict[uuid.UUID, frozenset[uuid.UUID]]:
    """What each of these records is one thing with, itself included; those that stand alone are left out."""
    mine, theirs = aliased(Grouped), aliased(Grouped)
    asked = select(mine.record_id, theirs.record_id.label("member")).join(theirs, theirs.group_id == mine.group_id)
    members: dict[uuid.UUID, set[uuid.UUID]] = {}
    for record, member in session.execute(asked.where(among(session, mine.record_id, records))):
        members.setdefault(record, set()).add(member)
    return {record: frozenset(group) for record, group in members.items()}


def judged(session: Session, pairs: Collection[Pair]) -> set[Pair]:
    """Those of these pairs of which anything was ever said together: the server says no more of them by itself."""
    here, there = aliased(GroupingRecord), aliased(GroupingRecord)
    together = select(here.record_id, there.record_id.label("other")).join(there, there.grouping_id == here.grouping_id)
    rows = session.execute(together.where(among(session, here.record_id, {one for one, _ in pairs})))
    return {(one, other) for one, other in rows} & set(pairs)


# ---------------------------------------------------------------- who is told of it


def _told_again(session: Session, kind: str, records: Collection[uuid.UUID]) -> list[Change]:
    """The records as they are: what they are one thing with has changed, they have not."""
    table = MODELS[kind].__table__
    rows = [dict(row) for row in session.execute(select(table).where(among(session, table.c.id, records))).mappings()]
    if kind == "vendor":
        return [Change(kind, str(row["id"]), [kind, str(row["id"]), 1, digest_of(row)], new=False) for row in rows]
    links = item_links(session, [row["id"] for row in rows]) if kind == "incident" else {}
    return [record_change(kind, row, links.get(row["id"], [])) for row in rows]


# ---------------------------------------------------------------- checking


def strays(session: Session) -> set[uuid.UUID]:
    """Records that are kept as grouped, or told apart, otherwise than everything said comes to: none, ever."""
    laid = grouping.fold([as_said(row) for row in session.scalars(select(Grouping).order_by(Grouping.ordinal))])
    grouped = dict(session.execute(select(Grouped.record_id, Grouped.group_id)).all())
    apart = {(row.one_id, row.other_id): row.weight for row in session.execute(select(Apart.__table__))}
    meant = {row["record_id"]: row["group_id"] for row in _grouped_rows(laid)}
    wrong = {record for record in grouped.keys() | meant.keys() if grouped.get(record) != meant.get(record)}
    absent = object()
    pairs = {p for p in apart.keys() | laid.apart.keys() if apart.get(p, absent) != laid.apart.get(p, absent)}
    return wrong | {one for one, _ in pairs}
