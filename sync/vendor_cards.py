"""Vendors as people look them up: who may see which, who is asked for, and all that is known of one. Nothing here
writes.

A vendor may be seen by who works in its township, or may see a record that tells of it. Vendors that somebody said are
one count once. Telephones and plates are for those who decide: to look for one is to ask whose it is.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Select, or_, select, true, tuple_, union
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql import ColumnElement

from sync import shapes, vendor_shapes
from sync.clock import local_day
from sync.models import (
    DISTRICT_ROLES,
    REVIEW_ROLES,
    Grouped,
    Incident,
    IncidentItem,
    SignedIn,
    Township,
    Vendor,
    VendorKey,
    VendorWarning,
    among,
)
from sync.names import sound
from sync.patrol_log import Page, cursor_after, older, position_of, visible_to
from sync.problems import Forbidden, NotFound, QueryInvalid
from sync.resemblances import Yardstick, resembled
from sync.shapes import Columns, Json
from sync.vendor_log import History, histories, live_warnings, rules_of
from sync.vendors import NAME, SURNAME, keys, next_steps

#: Warnings told of one vendor at most; the count tells of all.
MOST_WARNINGS = 200
#: Roles that see telephones and plates whole, as in the records themselves; phones in the field get them masked.
_SEES_ALL = frozenset({"supervisor", "reviewer", "admin"})


# ---------------------------------------------------------------- who may see whom


def _may_see(model: type[Vendor], who: SignedIn) -> ColumnElement[bool]:
    """True for the vendors that this account may see: those of its townships, as phones take them along, and those of
    whom a record tells that it may see."""
    if who.role in DISTRICT_ROLES:
        return true()
    cited = (select(of.vendor_id).where(visible_to(of, who)) for of in (Incident, VendorWarning))
    return or_(model.township_code.in_(sorted(who.townships)), *(model.id.in_(ids) for ids in cited))


def _may_see_warning(who: SignedIn) -> ColumnElement[bool]:
    """True for the warnings that this account may see, and those of its townships, which its phone takes along."""
    return or_(visible_to(VendorWarning, who), VendorWarning.township_code.in_(sorted(who.townships)))


def _for(who: SignedIn, told: Json) -> Json:
    return told if who.role in _SEES_ALL else {**shapes.masked(told)}


# ---------------------------------------------------------------- who is asked for


@dataclass(frozen=True, slots=True)
class Selection:
    """Which vendors are asked for; `None` where it does not matter. A name is meant as it sounds, and may be its
    beginning, in characters or in pinyin, or its initials."""

    phone: str | None = None
    plate: str | None = None
    stall: str | None = None
    name: str | None = None
    township: str | None = None

    def given(self) -> dict[str, str]:
        """The filters in use, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def _by_number(kind: str) -> Callable[[str], ColumnElement[bool]]:
    def known_by(told: str) -> ColumnElement[bool]:
        found = keys({kind: told}, None)
        if not found:
            raise QueryInvalid.of(kind, "nothing that a vendor is known by")
        return VendorKey.key == found[0]

    return known_by


def _by_stall(told: str) -> ColumnElement[bool]:
    found = keys({"stall": told}, "%")  # in any township
    if not found:
        raise QueryInvalid.of("stall", "a stall has a number")
    return VendorKey.key.like(found[0])


def _by_name(told: str) -> ColumnElement[bool]:
    """Initials and sound stand behind a colon each, and hold nothing but letters and digits."""
    heard = sound(told).replace(" ", "")
    if not heard:
        raise QueryInvalid.of("name", "no name")
    return or_(*(VendorKey.key.like(f"{kind}%:{heard}%") for kind in (NAME, SURNAME)))


_MEANS: Mapping[str, Callable[[str], ColumnElement[bool]]] = {
    "phone": _by_number("phone"),
    "plate": _by_number("plate"),
    "stall": _by_stall,
    "name": _by_name,
}


def _asked_for(model: type[Vendor], who: SignedIn, selection: Selection) -> list[ColumnElement[bool]]:
    """What this account may see of what is asked for."""
    given = selection.given()
    township = given.pop("township", None)
    known_by = (select(VendorKey.vendor_id).where(_MEANS[name](told)) for name, told in given.items())
    filed = [] if township is None else [model.township_code == township]
    return [_may_see(model, who), *filed, *(model.id.in_(ids) for ids in known_by)]


def _stands_for_its_group(who: SignedIn, selection: Selection) -> ColumnElement[bool]:
    """True unless another of its group was met before it, is asked for too, and can be seen."""
    other, mine, theirs = aliased(Vendor), aliased(Grouped), aliased(Grouped)
    before = tuple_(other.created_at, other.id) < tuple_(Vendor.created_at, Vendor.id)
    return ~(
        select(mine.record_id)
        .join(theirs, theirs.group_id == mine.group_id)
        .join(other, other.id == theirs.record_id)
        .where(mine.record_id == Vendor.id, before, *_asked_for(other, who, selection))
        .exists()
    )


def find(session: Session, who: SignedIn, selection: Selection, *, limit: int, cursor: str | None = None) -> Page:
    """A page of the vendors asked for, the newest first; those that are one count once.

    The number of queries does not depend on how many they are. Raises Forbidden where a telephone or plate is not this
    account's to ask for, QueryInvalid if a filter says nothing or the cursor is of another list.
    """
    if (selection.phone or selection.plate) and who.role not in REVIEW_ROLES:
        raise Forbidden(roles=sorted(REVIEW_ROLES))
    listed = ["vendors", selection.given()]
    asked = _described().where(*_asked_for(Vendor, who, selection), _stands_for_its_group(who, selection))
    if cursor is not None:
        asked = asked.where(older(Vendor.created_at, Vendor.id, *position_of(listed, cursor)))
    rows = session.execute(asked.order_by(Vendor.created_at.desc(), Vendor.id.desc()).limit(limit + 1)).all()
    shown = rows[:limit]
    following = cursor_after(listed, shown[-1].created_at, shown[-1].id) if len(rows) > limit else None
    return Page(_cards(session, who, shown), following)


def _described() -> Select[Any]:
    """Vendors with the names of their townships."""
    named = select(*Vendor.__table__.c, Township.name.label("township_name"))
    return named.outerjoin(Township, Township.code == Vendor.township_code)


# ---------------------------------------------------------------- what is told of them


def _cards(session: Session, who: SignedIn, rows: Sequence[Columns]) -> list[Json]:
    ids = [row.id for row in rows]
    members, known = _members(session, who, ids), histories(session, ids)
    return [_for(who, vendor_shapes.card(row, members.get(row.id, ()), known[row.id].warnings)) for row in rows]


def _members(session: Session, who: SignedIn, ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, Sequence[Columns]]:
    """Who is one with each of these vendors, as far as this account may see them, the first first."""
    mine, theirs = aliased(Grouped), aliased(Grouped)
    asked = (
        _described()
        .add_columns(mine.record_id.label("of"), mine.group_id)
        .join(theirs, theirs.record_id == Vendor.id)
        .join(mine, mine.group_id == theirs.group_id)
        .where(among(session, mine.record_id, ids), _may_see(Vendor, who))
        .order_by(Vendor.created_at, Vendor.id)
    )
    members: dict[uuid.UUID, list[Columns]] = defaultdict(list)
    for row in session.execute(asked) if ids else ():
        members[row.of].append(row)
    return members


def one(session: Session, who: SignedIn, id: uuid.UUID, yardstick: Yardstick, *, now: dt.datetime) -> Json:
    """All that is known of a vendor. What it was warned of counts in the whole district; told of it, and of who else it
    may be, is what this account may see. Raises NotFound if there is no such vendor, or not for this account."""
    row = session.execute(_described().where(Vendor.id == id, _may_see(Vendor, who))).one_or_none()
    if row is None:
        raise NotFound
    history = histories(session, [id])[id]
    members = _members(session, who, [id]).get(id, ())
    resembles = resembled(session, [id], yardstick).get(id, [])
    seen = _seen(session, who, {*history.taken_for, *(uuid.UUID(each["record"]) for each in resembles)})
    told = vendor_shapes.whole(
        [member for member in members if member.id != id],
        {other: by for other, by in history.taken_for.items() if other != id and other in seen},
        _warnings(session, who, history.taken_for),
        _next_steps(session, history, local_day(now)),
        [each for each in resembles if not each["grouped"] and uuid.UUID(each["record"]) in seen],
    )
    return _for(who, vendor_shapes.card(row, members, history.warnings) | told)


def _seen(session: Session, who: SignedIn, ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    return set(session.scalars(select(Vendor.id).where(among(session, Vendor.id, ids), _may_see(Vendor, who))))


def _warnings(session: Session, who: SignedIn, ids: Collection[uuid.UUID]) -> Sequence[Columns]:
    """The newest warnings of these vendors that this account may see."""
    counted = live_warnings(session, ids, _may_see_warning(who)).subquery()
    return session.execute(
        select(counted).order_by(counted.c.occurred_at.desc(), counted.c.id).limit(MOST_WARNINGS)
    ).all()


def _next_steps(session: Session, history: History, day: dt.date) -> list[Json]:
    """What is proposed for each item that the vendor was met with."""
    met = select(Incident.id).where(among(session, Incident.vendor_id, history.taken_for), Incident.voided_at.is_(None))
    warned = select(VendorWarning.incident).where(
        among(session, VendorWarning.vendor_id, history.taken_for), VendorWarning.voided_at.is_(None)
    )
    codes = select(IncidentItem.item_code).where(IncidentItem.incident_id.in_(union(met, warned))).distinct()
    items = session.scalars(codes).all()
    rules = rules_of(session, items)
    return next_steps(items, history.warnings, rules, day, recognisable=history.recognisable)
