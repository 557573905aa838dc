"""Reading the feed: what has changed for somebody's phone since a cursor.

The feed has one row per entity, which stands where the entity last changed: at a link of the chain. A page walks the
rows in the order of their links (then kind, then entity), looks up what these entities are now, and passes over what is
none of the phone's business. All of it is read at one moment. Links are numbered in the order of their commits, so
whatever is committed later stands behind every cursor that was given out before: nothing can be skipped.

A phone is told `delete` where it may hold what is no more, or no more for it: whatever has changed since the phone
began, was there before that change, and is out of its scope. Whether it does hold it nobody knows, nor has to.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Select, Text, and_, func, literal, or_, select, tuple_, type_coerce
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from sync import carried, cursors
from sync.cursors import Place
from sync.groups import groups_of
from sync.models import (
    Base,
    Delegation,
    Department,
    DesignatedPlace,
    EnforcementItem,
    EventClass,
    FeedEntry,
    Incident,
    Link,
    Operation,
    Patrol,
    Provision,
    SignedIn,
    Township,
    TownshipArea,
    Upload,
    Vendor,
    VendorWarning,
    among,
)
from sync.patrol_log import Log, decisions, own, reviews
from sync.shapes import Columns, Json

#: Rows of the feed that a page walks, unless its limit is larger: most are none of the phone's business.
USUALLY_WALKED = 5_000
#: Links that a page walks at most: many hold no row any more, for all they changed has changed again.
MOST_LINKS = 5_000


@dataclass(frozen=True, slots=True)
class Page:
    """What has changed, in order; `cursor` is to be asked with next, `more` tells that something follows already.

    A page may be empty although there is more: what was walked was none of the phone's business.
    """

    changes: list[Json]
    cursor: str
    more: bool


def changes(session: Session, who: SignedIn, cursor: str | None, *, limit: int) -> Page:
    """At most `limit` changes since the cursor, or from the beginning. The number of queries does not depend on it.

    The caller has begun a transaction that sees a single moment. Raises QueryInvalid if the cursor is none of ours,
    CursorExpired if nothing follows from it any more.
    """
    head = cursors.now_of(session, who)
    place, key = Place(head.number, 0), None
    if cursor is not None:
        place, key = cursors.place_of(session, cursor, head.scope)
    walked, end = _walk(session, who, place, key, head.number, max(limit, USUALLY_WALKED))
    told = list(islice(_tell(session, who, walked, place.began), limit + 1))
    if len(told) > limit:
        first_left, _ = told.pop()
        end = _at(place, walked[first_left - 1])
    following = cursors.at(session, head, end)
    return Page([change for _, change in told], following, end != Place(place.began, head.number))


# ---------------------------------------------------------------- walking the feed


def _walk(
    session: Session, who: SignedIn, place: Place, key: uuid.UUID | None, head: int, most: int
) -> tuple[Sequence[Columns], Place]:
    """At most so many rows behind the place, in order, and how far that is. `key` is that of the place's link."""
    walked: list[Columns] = []
    if place.kind:
        walked += session.execute(_rest_of_link(place, key).where(_may_concern(who)).limit(most))
    last = min(place.number + MOST_LINKS, head)
    if len(walked) < most:
        behind = _links_behind(place.number, last).where(_may_concern(who))
        walked += session.execute(behind.limit(most - len(walked)))
    return walked, _at(place, walked[-1]) if len(walked) == most else Place(place.began, last)


def _at(place: Place, row: Columns) -> Place:
    return Place(place.began, row.number, row.kind, row.entity)


def _may_concern(who: SignedIn) -> ColumnElement[bool]:
    """True for rows of kinds that phones are told of; of photos, which are the most, only for own ones."""
    told = [kind for kind in _LOOK_UP if kind != "arrival"]
    own_photo = and_(FeedEntry.kind == "arrival", FeedEntry.entity.startswith(f"{who.account_id}:"))
    return or_(FeedEntry.kind.in_(told), own_photo)


_OF_ROW: tuple[Any, ...] = (FeedEntry.kind, FeedEntry.entity, FeedEntry.gone)


def _rest_of_link(place: Place, key: uuid.UUID | None) -> Select[Any]:
    """What stands behind the place in its own link."""
    behind = tuple_(FeedEntry.kind, FeedEntry.entity) > (place.kind, place.entity)
    number = literal(place.number).label("number")
    return select(number, *_OF_ROW).where(FeedEntry.link_key == key, behind).order_by(*_OF_ROW[:2])


def _links_behind(number: int, last: int) -> Select[Any]:
    """What stands in the links behind this one, up to the last."""
    rows = select(Link.number, *_OF_ROW).join(FeedEntry, FeedEntry.link_key == Link.key)
    return rows.where(Link.number > number, Link.number <= last).order_by(Link.number, *_OF_ROW[:2])


# ---------------------------------------------------------------- what the rows come to

#: What entities are for somebody's phone: `None` if nothing any more. One that is left out is none of its business.
_Found = Mapping[str, Json | None]
_NOT_TOLD: Json = {}


def _tell(session: Session, who: SignedIn, walked: Sequence[Columns], began: int) -> Iterator[tuple[int, Json]]:
    """The changes for this phone, each with the place of its row among those walked."""
    named: dict[str, list[str]] = defaultdict(list)
    for row in walked:
        named[row.kind].append(row.entity)
    found = {kind: _LOOK_UP[kind](session, who, entities) for kind, entities in named.items()}
    for index, row in enumerate(walked):
        data = found[row.kind].get(row.entity, None if row.gone else _NOT_TOLD)
        if data is None and row.number > began:
            yield index, {**_named(row), "op": "delete"}
        elif data:
            yield index, {**_named(row), "op": "put", "data": data}


def _named(row: Columns) -> Json:
    """The type and the id under which phones know an entity. Whose arrival it is they know themselves."""
    if row.kind == "arrival":
        return {"type": "photo", "id": _sent(row.entity)}
    return {"type": row.kind, "id": row.entity}


def _townships(session: Session, _who: SignedIn, codes: Sequence[str]) -> _Found:
    areas = _all(TownshipArea).where(among(session, TownshipArea.township_code, codes)).order_by(TownshipArea.id)
    of_township = _grouped(session.execute(areas), "township_code")
    rows = session.execute(_all(Township).where(among(session, Township.code, codes)))
    return {row.code: carried.township(row, of_township[row.code]) for row in rows}


def _departments(session: Session, _who: SignedIn, codes: Sequence[str]) -> _Found:
    rows = session.execute(_all(Department).where(among(session, Department.code, codes)))
    return {row.code: carried.department(row) for row in rows}


def _event_classes(session: Session, _who: SignedIn, entities: Sequence[str]) -> _Found:
    entity = type_coerce(EventClass.code + "@" + EventClass.edition, Text)  # longer than a code may be
    rows = session.execute(_all(EventClass).where(among(session, entity, entities)))
    return {f"{row.code}@{row.edition}": carried.event_class(row) for row in rows}


def _items(session: Session, _who: SignedIn, entities: Sequence[str]) -> _Found:
    codes = {entity.rpartition("@")[0] for entity in entities}
    rows = session.execute(_all(EnforcementItem).where(among(session, EnforcementItem.code, codes))).all()
    provisions = _all(Provision).where(among(session, Provision.item_id, [row.id for row in rows]))
    of_item = _grouped(session.execute(provisions.order_by(Provision.ordinal)), "item_id")
    return {f"{row.code}@{row.from_on}": carried.item(row, of_item[row.id]) for row in rows}


def _delegations(session: Session, who: SignedIn, entities: Sequence[str]) -> _Found:
    """Those of the phone's townships, whose code comes first in an entity; an item's code may hold anything."""
    parts = (entity.partition("@") for entity in entities)
    items = {rest.rpartition("@")[0] for township, _, rest in parts if township in who.townships}
    here = (Delegation.township_code.in_(sorted(who.townships)), among(session, Delegation.item_code, items))
    rows = session.execute(_all(Delegation).where(*here))
    return {f"{row.township_code}@{row.item_code}@{row.from_on}": carried.delegation(row) for row in rows}


def _places(session: Session, _who: SignedIn, codes: Sequence[str]) -> _Found:
    rows = session.execute(_all(DesignatedPlace).where(among(session, DesignatedPlace.code, codes)))
    return {row.code: carried.place(row) for row in rows}


def _vendors(session: Session, who: SignedIn, ids: Sequence[str]) -> _Found:
    here = Vendor.township_code.in_(sorted(who.townships))
    rows = session.execute(_all(Vendor).where(among(session, Vendor.id, _uuids(ids)), here)).all()
    others, in_full = _grouped_with(session, rows), _sees_all(who)
    return {str(row.id): carried.vendor(row, others(row), in_full=in_full) for row in rows}


def _patrols(session: Session, who: SignedIn, ids: Sequence[str]) -> _Found:
    """Own ones; who is taken off a patrol's crew loses it."""
    rows = session.execute(_records(session, Patrol, who, ids).where(or_(own(Patrol, who), Patrol.version > 1))).all()
    review, others = reviews(session, rows), _grouped_with(session, rows)
    return {str(row.id): carried.patrol(row, review[row.id], others(row)) if row.own else None for row in rows}


def _incidents(session: Session, who: SignedIn, ids: Sequence[str]) -> _Found:
    """Own ones; whose an incident is never changes."""
    rows = session.execute(_records(session, Incident, who, ids).where(own(Incident, who))).all()
    review, others = reviews(session, rows), _grouped_with(session, rows)
    return {str(row.id): carried.incident(row, review[row.id], others(row)) for row in rows}


def _warnings(session: Session, who: SignedIn, ids: Sequence[str]) -> _Found:
    """Own ones, and what is live in the phone's townships; a warning may be filed elsewhere later, or voided."""
    here = VendorWarning.township_code.in_(sorted(who.townships)) & VendorWarning.voided_at.is_(None)
    of_vendor = (
        column.label(f"vendor_{column.name}") for column in _columns(Vendor, ("name", "phone", "stall", "plate"))
    )
    asked = _records(session, VendorWarning, who, ids).add_columns(here.label("here"), *of_vendor)
    known = asked.outerjoin(Vendor, Vendor.id == VendorWarning.vendor_id)
    rows = session.execute(known.where(or_(own(VendorWarning, who), here, VendorWarning.version > 1))).all()
    told, review = [row for row in rows if row.own or row.here], reviews(session, [row for row in rows if row.made])
    gone: dict[str, Json | None] = dict.fromkeys(str(row.id) for row in rows)
    others, in_full = _grouped_with(session, told), _sees_all(who)
    return gone | {str(r.id): carried.warning(r, review.get(r.id, {}), others(r), in_full=in_full) for r in told}


def _grouped_with(session: Session, rows: Sequence[Columns]) -> Callable[[Columns], list[str]]:
    """What each of these records or vendors is one thing with."""
    found = groups_of(session, [row.id for row in rows])
    return lambda row: sorted(str(other) for other in found.get(row.id, ()) if other != row.id)


#: The columns of records that phones are told.
_RECORDED = (
    *("version", "occurred_at", "occurred_error_ms", "occurred_method", "township_code", "voided_at", "void_reason"),
    *("received_at", "notes", "photos"),
)
_OF_KIND: Mapping[Log, Sequence[str]] = {
    Patrol: ("officers", "purpose", "started_at", "ended_at"),
    Incident: (
        *("patrol", "items", "event_class", "event_class_edition", "description", "measures", "designated_place"),
        *("vendor_id", "no_penalty_reason"),
    ),
    VendorWarning: ("incident", "vendor_id", "step", "text", "deadline_on", "response"),
}


def _records(session: Session, model: Log, who: SignedIn, ids: Sequence[str]) -> Select[Any]:
    """These records; `own` where the account made or was out on them, `made` where it may amend them."""
    made = model.officer_id == who.account_id
    columns = _columns(model, ("id", *_RECORDED, *_OF_KIND[model]))
    asked = select(*columns, own(model, who).label("own"), made.label("made"))
    return asked.where(among(session, model.id, _uuids(ids)))


def _operations(session: Session, who: SignedIn, ids: Sequence[str]) -> _Found:
    names = ("id", "op", "n", "install_id", "kind", "record_id", "outcome", "version", "notes", "problem")
    asked = select(*_columns(Operation, names)).where(Operation.officer_id == who.account_id)
    rows = session.execute(asked.where(among(session, Operation.id, _uuids(ids)))).all()
    decided = decisions(session, [row.id for row in rows])
    return {str(row.id): carried.operation(row, decided.get(row.id)) for row in rows}


def _photos(session: Session, who: SignedIn, entities: Sequence[str]) -> _Found:
    """Photos that this account has sent."""
    names = [_sent(entity) for entity in entities]
    sent = (Upload.officer_id == who.account_id, among(session, Upload.sha256, names))
    first = func.min(Upload.finished_at).label("finished_at"), func.min(Upload.length_bytes).label("length_bytes")
    rows = session.execute(select(Upload.sha256, *first).where(*sent).group_by(Upload.sha256))
    return {f"{who.account_id}:{row.sha256}": carried.photo(row) for row in rows}


#: What is looked up for each kind of the feed; the others no phone is told of.
_LOOK_UP: Mapping[str, Callable[[Session, SignedIn, Sequence[str]], _Found]] = {
    "township": _townships,
    "department": _departments,
    "event_class": _event_classes,
    "item": _items,
    "delegation": _delegations,
    "place": _places,
    "vendor": _vendors,
    "patrol": _patrols,
    "incident": _incidents,
    "warning": _warnings,
    "operation": _operations,
    "arrival": _photos,
}


def _all(model: type[Base]) -> Select[Any]:
    """Rows of its columns: objects would cost as much again as all else."""
    return select(*model.__table__.c)


def _columns(model: type[Base], names: Iterable[str]) -> list[Any]:
    return [model.__table__.c[name] for name in names]


def _sees_all(who: SignedIn) -> bool:
    """Whether this account has to know a vendor's telephone and plate."""
    return who.role == "supervisor"


def _sent(arrival: str) -> str:
    return arrival.partition(":")[2]


def _uuids(texts: Sequence[str]) -> list[uuid.UUID]:
    return [uuid.UUID(text) for text in texts]


def _grouped(rows: Iterable[Any], name: str) -> Mapping[Any, list[Any]]:
    groups: dict[Any, list[Any]] = defaultdict(list)
    for row in rows:
        groups[getattr(row, name)].append(row)
    return groups
