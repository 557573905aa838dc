"""What waits for a person, and for whom: the inbox, and one operation of it looked at closely. Nothing here writes.

An operation that is quarantined or in conflict waits until somebody decides on it (`review`); one that is held waits
for another, and for a person once that took too long; a record waits for photos that should have come; a phone owes
what it counted and never sent (`installations`); and two records that may be one thing wait until somebody says so, or
not (`alike`).
"""

from __future__ import annotations

import base64
import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Select, and_, case, false, func, literal, select, true, tuple_, union_all
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from sync import alike, installations, patrol_log, shapes, standing, wire
from sync.installations import owing, posted
from sync.models import (
    DISTRICT_ROLES,
    Account,
    AnnouncedPhoto,
    Batch,
    Installation,
    Operation,
    SignedIn,
    Township,
    UtcDateTime,
)
from sync.patrol_log import KINDS, cursor_after, is_missing, may_decide_on, position_of, undecided
from sync.problems import NotFound
from sync.resemblances import Yardstick
from sync.revisions import Conflict, Merged, Revision, amend
from sync.settling import revisions_of
from sync.shapes import Columns, Json

# ---------------------------------------------------------------- whose it is to decide


def waiting_operation(who: SignedIn, operation_id: uuid.UUID, now: dt.datetime) -> Select[Any]:
    """The operation with what came with it, if this account is in charge of it."""
    return (
        select(
            Operation,
            Batch.sent,
            Batch.received_at,
            Batch.clock_error_ms,
            Account.username,
            Account.full_name,
        )
        .join(Account, Account.id == Operation.officer_id)
        .outerjoin(Batch, and_(Batch.install_id == Operation.install_id, Batch.id == Operation.batch_id))
        .where(Operation.id == operation_id, in_charge(who, now))
    )


def in_charge(
    who: SignedIn, now: dt.datetime, record: Any = Operation.record_id, officer: Any = Operation.officer_id
) -> ColumnElement[bool]:
    """True for the operations that this account may decide on: a supervisor those of records of the townships and,
    where no record is filed, those that officers posted there have sent; a reviewer all. Or for one operation that is
    no row yet, by the ids of its record and its officer."""
    if who.role in DISTRICT_ROLES:
        return true()
    codes, theirs = sorted(who.townships), posted(who, now)
    if not codes:
        return false()
    # each looked up once and as a scalar: PostgreSQL would hash whole tables for an EXISTS
    filed = (_township_of(model, record) for model in KINDS.values())
    return func.coalesce(*filed, case((officer.in_(theirs), codes[0]))).in_(codes)


def _township_of(model: Any, record: Any) -> Any:
    """Where the record of an operation is filed, if it is of this kind."""
    return select(model.township_code).where(model.id == record).correlate(Operation).scalar_subquery()


# ---------------------------------------------------------------- looking at one


def operation(session: Session, who: SignedIn, operation_id: uuid.UUID, *, now: dt.datetime) -> Json:
    """The operation, whole: what it said (`raw`, or `raw_base64` where that is no JSON that can be shown), what became
    of it, and of one in conflict every field that clashes with the record as it is now. Raises NotFound."""
    row = session.execute(waiting_operation(who, operation_id, now)).one_or_none()
    if row is None:
        raise NotFound
    raw = bytes(row.Operation.raw)
    said = wire.as_json(raw)
    shown = None if said is not None else base64.b64encode(raw).decode()
    return told(session, row) | {"raw": said, "raw_base64": shown}


def told(session: Session, row: Columns) -> Json:
    """The operation of a row of `waiting_operation` as it is now, what was decided on it, and its record's version."""
    stored: Operation = row.Operation
    waits = shapes.waiting(stored, row)
    decided = patrol_log.decisions(session, [stored.id]).get(stored.id)
    clashing = clashes(session, stored)[0] if stored.outcome == "conflict" and decided is None else {}
    fields = [dict(zip(("field", "base", "live", "yours"), (n, *v), strict=True)) for n, v in clashing.items()]
    return waits | {"record_version": _version(session, stored.record_id), "fields": fields, "decision": decided}


def _version(session: Session, record_id: uuid.UUID | None) -> int | None:
    versions = union_all(*(select(model.version).where(model.id == record_id) for model in KINDS.values()))
    return session.scalar(versions)


def clashes(session: Session, stored: Operation) -> tuple[dict[str, tuple[Any, Any, Any]], list[str]]:
    """How an amend in conflict stands to the record as it is now: (value at base, the server's, the phone's) of every
    field that clashes; and the fields that it sets besides."""
    operation = wire.read_again(bytes(stored.raw))
    history = [revision for _, revision in revisions_of(session, [stored.record_id])]
    wanted = Revision(max((r.version for r in history), default=0), operation.fields, stored.install_id, stored.n or 0)
    base = operation.base or 0
    found = amend(history, base, wanted)
    clashing = {name: values for name, *values in found.fields} if isinstance(found, Conflict) else {}
    rest = {name: value for name, value in operation.fields.items() if name not in clashing}
    others = amend(history, base, replace(wanted, fields=rest))
    by_field = {name: (values[0], values[1], values[2]) for name, values in clashing.items()}
    return by_field, list(others.fields) if isinstance(others, Merged) else []


# ---------------------------------------------------------------- the inbox


@dataclass(frozen=True, slots=True)
class Page:
    """What waits for this account: how many of each kind, and one page of one kind, oldest first; of pairs that are
    alike, the most alike first."""

    counts: dict[str, int]
    items: list[Json]
    next: str | None


def page(
    session: Session,
    who: SignedIn,
    kind: str | None,
    likeness: Yardstick,
    *,
    limit: int,
    cursor: str | None,
    now: dt.datetime,
) -> Page:
    """The counts, and a page of what waits of this kind; without a kind the counts alone.

    The number of queries does not depend on how much waits. Raises QueryInvalid if the cursor is of another list.
    """
    waiting = {each: _waiting(who, each, now) for each in shapes.INBOX if each != "alike"}
    waiting["alike"] = alike.waiting(who, likeness)
    counted = select(*(select(func.count()).select_from(one.subquery()).scalar_subquery() for one in waiting.values()))
    counts = dict(zip(waiting, session.execute(counted).one(), strict=True))
    if kind is None:
        return Page(counts, [], None)
    if kind == "alike":
        return Page(counts, *alike.page(session, who, likeness, limit=limit, cursor=cursor))
    listed = ["inbox", kind]
    place = waiting[kind].subquery("place")
    after = true() if cursor is None else _behind(place, *position_of(listed, cursor))
    one_page = select(place).where(after).order_by(place.c.since, place.c.id).limit(limit + 1).subquery("one_page")
    rows = session.execute(_ASKED.get(kind, _described)(one_page).order_by(one_page.c.since, one_page.c.id)).all()
    shown = rows[:limit]
    following = cursor_after(listed, shown[-1].since, shown[-1].id) if len(rows) > limit else None
    return Page(counts, _items(session, kind, shown), following)


def _items(session: Session, kind: str, rows: Sequence[Columns]) -> list[Json]:
    if kind == "holes":
        return installations.told(session, rows)
    return [shapes.lacking(row) if kind == "photos" else shapes.waiting(row, row) for row in rows]


def _behind(place: Any, at: dt.datetime, id: uuid.UUID) -> ColumnElement[bool]:
    return tuple_(place.c.since, place.c.id) > tuple_(literal(at, UtcDateTime), literal(id, place.c.id.type))


def _waiting(who: SignedIn, kind: str, now: dt.datetime) -> Select[Any]:
    """(id, since) of what waits for a person, at least."""
    if kind == "photos":
        return _without_photos(who, now)
    if kind == "holes":
        return owing(who, now)
    long_enough = Operation.received_at <= now - standing.HELD_TOO_LONG if kind == "held" else true()
    columns: tuple[Any, ...] = (Operation.id, Operation.received_at.label("since"))
    return select(*columns).where(Operation.outcome == kind, undecided(), long_enough, in_charge(who, now))


def _without_photos(who: SignedIn, now: dt.datetime) -> Select[Any]:
    """The records that photos are missing of which should have come by now."""
    since = func.min(AnnouncedPhoto.announced_at)
    late = (
        select(AnnouncedPhoto.record_id, since.label("since"), func.count().label("photos_missing"))
        .where(is_missing())
        .group_by(AnnouncedPhoto.record_id)
        .having(since < now - standing.PHOTO_LATE)
        .cte()
    )
    of_kinds = [
        select(
            model.id,
            late.c.since,
            late.c.photos_missing,
            literal(kind).label("kind"),
            model.officer_id,
            model.township_code,
        )
        .join(late, late.c.record_id == model.id)
        .where(model.voided_at.is_(None), may_decide_on(model, who))
        for kind, model in KINDS.items()
    ]
    return select(union_all(*of_kinds).subquery())


def _described(page: Any) -> Select[Any]:
    columns = (column for column in Operation.__table__.columns if column.name not in ("raw", "fingerprint"))
    return (
        select(*columns, page.c.since, Account.username, Account.full_name)
        .join(page, page.c.id == Operation.id)
        .join(Account, Account.id == Operation.officer_id)
    )


def _lacking(page: Any) -> Select[Any]:
    return (
        select(page, Account.username, Account.full_name, Township.name.label("township_name"))
        .join(Account, Account.id == page.c.officer_id)
        .outerjoin(Township, Township.code == page.c.township_code)
    )


def _owing(page: Any) -> Select[Any]:
    return installations.described().add_columns(page.c.id, page.c.since).join(page, page.c.id == Installation.id)


#: What is asked of a page of each kind, where it isn't operations.
_ASKED = {"photos": _lacking, "holes": _owing}
