"""Which pairs that resemble each other wait for somebody, and for whom: the most alike first, with all that speaks for
and against it. Nothing here writes.

A pair waits as long as both are live, are not one thing by now and were not told apart; or were, and more speaks for
them since. Who decides on both records decides on the pair.
"""

from __future__ import annotations

import base64
import binascii
import struct
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Select, literal, select, true, tuple_, union_all
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql import ColumnElement

from sync import groups, shapes
from sync.fellegi_sunter import score_of
from sync.groups import MODELS
from sync.models import Account, Grouped, Resemblance, SignedIn, Township, Vendor, among
from sync.patrol_log import may_decide_on
from sync.problems import QueryInvalid
from sync.resemblances import Yardstick, told_alike, told_apart
from sync.shapes import Columns, Json

#: A cursor: the weight of the last pair shown, and its ids.
_CURSOR = struct.Struct(">d16s16s")


def waiting(who: SignedIn, yardstick: Yardstick) -> Select[Any]:
    """(kind, weight, one_id, other_id, evidence, found_at) of the pairs that wait for this account."""
    return select(union_all(*(_of_kind(kind, who, yardstick) for kind in MODELS)).subquery())


def _of_kind(kind: str, who: SignedIn, yardstick: Yardstick) -> Select[Any]:
    one, other = aliased(MODELS[kind]), aliased(MODELS[kind])
    told = (Resemblance.kind, Resemblance.weight, Resemblance.one_id, Resemblance.other_id, Resemblance.evidence)
    return (
        select(*told, Resemblance.found_at)
        .join(one, one.id == Resemblance.one_id)
        .join(other, other.id == Resemblance.other_id)
        .where(Resemblance.kind == kind, told_alike(literal(kind), Resemblance.weight, yardstick))
        .where(*(_is_live(model) for model in (one, other)), *(may_decide_on(model, who) for model in (one, other)))
        .where(~told_apart(), ~_together())
    )


def _is_live(model: Any) -> ColumnElement[bool]:
    return model.voided_at.is_(None) if hasattr(model, "voided_at") else true()


def _together() -> ColumnElement[bool]:
    one, other = aliased(Grouped), aliased(Grouped)
    same = select(one.record_id).join(other, other.group_id == one.group_id)
    return same.where(one.record_id == Resemblance.one_id, other.record_id == Resemblance.other_id).exists()


def page(
    session: Session, who: SignedIn, yardstick: Yardstick, *, limit: int, cursor: str | None
) -> tuple[list[Json], str | None]:
    """One page of the pairs that wait, the most alike first, and the cursor of the next. Raises QueryInvalid."""
    pairs = waiting(who, yardstick).subquery("pairs").c
    place = (pairs.weight, pairs.one_id, pairs.other_id)
    asked = select(*pairs).order_by(*(column.desc() for column in place)).limit(limit + 1)
    if cursor is not None:
        weight, one_id, other_id = _unpacked(cursor)
        asked = asked.where(tuple_(*place) < tuple_(literal(weight), literal(one_id), literal(other_id)))
    rows = session.execute(asked).all()
    shown = rows[:limit]
    following = _packed(shown[-1]) if len(rows) > limit else None
    return _told(session, shown), following


def _packed(row: Columns) -> str:
    return base64.urlsafe_b64encode(_CURSOR.pack(row.weight, row.one_id.bytes, row.other_id.bytes)).decode()


def _unpacked(cursor: str) -> tuple[float, uuid.UUID, uuid.UUID]:
    try:
        weight, one, other = _CURSOR.unpack(base64.b64decode(cursor, altchars="-_", validate=True))
    except (ValueError, binascii.Error, struct.error) as error:
        raise QueryInvalid.of("cursor", "not a cursor of ours") from error
    return (weight if weight == weight else 0.0), uuid.UUID(bytes=one), uuid.UUID(bytes=other)


# ---------------------------------------------------------------- what a pair looks like


def _told(session: Session, rows: Sequence[Columns]) -> list[Json]:
    ids = {id for row in rows for id in (row.one_id, row.other_id)}
    sides = {id: side for kind in MODELS for id, side in _sides(session, kind, ids).items()} if ids else {}
    one_thing = groups.groups_of(session, ids) if ids else {}
    for id, side in sides.items():
        side["group"] = sorted(str(member) for member in one_thing.get(id, ()))
    return [
        {
            "kind": row.kind,
            "score": round(score_of(row.weight), 4),
            "weight": row.weight,
            "evidence": row.evidence,
            "found_at": shapes.instant(row.found_at),
            "records": [sides[row.one_id], sides[row.other_id]],
        }
        for row in rows
    ]


def _sides(session: Session, kind: str, ids: set[uuid.UUID]) -> Mapping[uuid.UUID, Json]:
    """The two of each pair, enough to tell which they are: the records themselves show the rest."""
    model = MODELS[kind]
    table = model.__table__
    asked = select(*table.c, Township.name.label("township_name")).where(among(session, table.c.id, ids))
    asked = asked.outerjoin(Township, Township.code == table.c.township_code)
    if model is Vendor:
        return {row.id: shapes.vendor_side(row) for row in session.execute(asked)}
    who = asked.add_columns(Account.username, Account.full_name).join(Account, Account.id == table.c.officer_id)
    return {row.id: shapes.record_side(row) for row in session.execute(who)}
