"""Vendors and what they were warned of: by what each is known, who was warned before, and what a person may look up.

`keep_keys`, `repeat_notes` and `later_records` are what settling asks when records tell of vendors, each by a number of
queries that does not grow with the batch; whom a vendor is taken for is decided in `vendors`.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import (
    CompoundSelect,
    Select,
    Uuid,
    and_,
    cast,
    func,
    literal,
    null,
    or_,
    select,
    union,
    union_all,
)
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql import ColumnElement

from sync.models import (
    EnforcementItem,
    Grouped,
    Incident,
    Provision,
    Vendor,
    VendorKey,
    VendorWarning,
    among,
    insert_or,
    insert_rows,
)
from sync.vendors import (
    KNOWN_AGAIN,
    MOST_SHARING,
    Known,
    Note,
    Rule,
    Told,
    Warned,
    keys,
    name_keys,
    recognised,
    repeat_note,
)

# ---------------------------------------------------------------- by what vendors are known


def keep_keys(session: Session, told: Iterable[tuple[uuid.UUID, str | None, Told]], new: Collection[uuid.UUID]) -> None:
    """By what these vendors are known, and found, is kept: (vendor, township of the record, what it told) each.

    `new` are the vendors whose rows were inserted just now, by this transaction: of those nothing is kept yet.
    """
    found = {(key, id) for id, township, said in told for key in (*keys(said, township), *name_keys(said, township))}
    rows: list[dict[str, Any]] = [{"key": key, "vendor_id": id} for key, id in sorted(found)]
    insert_rows(session, VendorKey, [row for row in rows if row["vendor_id"] in new])
    again = [row for row in rows if row["vendor_id"] not in new]
    kept = _kept(session, {row["vendor_id"] for row in again}) if again else set()
    added = [row for row in again if (row["key"], row["vendor_id"]) not in kept]
    if added:
        session.execute(insert_or(session, VendorKey).on_conflict_do_nothing(), added)


def _kept(session: Session, ids: Collection[uuid.UUID]) -> set[tuple[str, uuid.UUID]]:
    rows = session.execute(select(VendorKey.key, VendorKey.vendor_id).where(among(session, VendorKey.vendor_id, ids)))
    return {(row.key, row.vendor_id) for row in rows}


# ---------------------------------------------------------------- who was warned before


@dataclass(frozen=True, slots=True)
class Asked:
    """A record that tells of a vendor: a warning, or an incident, whose `incident_id` is its own.

    A warning that names no vendor was given to its incident's. `told` is what the record says of the vendor, besides
    the id; `None` where that is nothing.
    """

    record_id: uuid.UUID
    vendor_id: uuid.UUID
    told: Told | None
    township: str | None
    occurred_at: dt.datetime
    incident_id: uuid.UUID
    items: Collection[str] = ()


def asked_of(state: Mapping[str, Any], incident: Mapping[str, Any]) -> Asked:
    """A record with these columns, and those of the incident it is about (its own, if it is one)."""
    return Asked(
        record_id=state["id"],
        vendor_id=state["vendor_id"],
        told=incident["vendor"] if incident["vendor_id"] == state["vendor_id"] else None,
        township=state["township_code"],
        occurred_at=state["occurred_at"],
        incident_id=incident["id"],
        items=incident["items"],
    )


def warned_by(state: Mapping[str, Any], incident: Mapping[str, Any]) -> Warned:
    """A warning with these columns, and those of its incident, as it counts for its vendor."""
    return Warned(
        id=state["id"],
        vendor_id=state["vendor_id"],
        occurred_at=state["occurred_at"],
        step=state["step"],
        event=state["incident"],
        items=frozenset(incident["items"]),
        deadline_on=state["deadline_on"],
        response=state["response"],
        live=state["voided_at"] is None,
    )


def repeat_notes(session: Session, asked: Sequence[Asked], unwritten: Sequence[Warned]) -> dict[uuid.UUID, Note]:
    """The notes `repeat-vendor` that these records earn, by record: at most four queries, none if nobody is asked for.

    `unwritten` are warnings as they will be written, voided ones too: they stand in for those of the same ids that are
    stored. Their `event` is their incident; which of them are one is looked up here.
    """
    if not asked:
        return {}
    circle = _circle(session, asked, unwritten)
    people = {each.vendor_id: circle.taken_for(each.vendor_id) for each in asked}
    warned = _warnings(session, circle, people, max(each.occurred_at for each in asked), unwritten)
    if not warned:
        return {}
    rules, notes = rules_of(session, {code for each in asked for code in each.items}), {}
    for each in asked:
        event, known_as = circle.group_of(each.incident_id), people[each.vendor_id]
        earlier = [(warning, by) for id, by in known_as.items() for warning in warned.get(id, ())]
        notes[each.record_id] = repeat_note(each.occurred_at, each.vendor_id, event, each.items, earlier, rules)
    return {record_id: note for record_id, note in notes.items() if note is not None}


def later_records(session: Session, warned: Sequence[Warned]) -> list[tuple[str, uuid.UUID]]:
    """(kind, id) of the live records that occurred after these warnings and tell of their vendors, or of whom those may
    be taken for: what their notes say has changed. Three queries, none for no warnings."""
    if not warned:
        return []
    circle = _circle(session, [], warned)
    since: dict[uuid.UUID, dt.datetime] = {}
    for warning in warned:
        for id in circle.taken_for(warning.vendor_id):
            since[id] = min(since.get(id, warning.occurred_at), warning.occurred_at)
    rows = session.execute(_records_of(session, since, min(since.values())))
    return sorted((row.kind, row.id) for row in rows if row.occurred_at > since[row.vendor_id])


def _records_of(session: Session, ids: Collection[uuid.UUID], since: dt.datetime) -> CompoundSelect[Any]:
    """(kind, id, vendor_id, occurred_at) of the live records of these vendors after an instant."""
    incidents = select(literal("incident").label("kind"), Incident.id, Incident.vendor_id, Incident.occurred_at).where(
        among(session, Incident.vendor_id, ids), Incident.occurred_at > since, Incident.voided_at.is_(None)
    )
    warnings = (
        select(literal("warning"), VendorWarning.id, vendor, VendorWarning.occurred_at)
        .where(of_these, VendorWarning.occurred_at > since, VendorWarning.voided_at.is_(None))
        .join(Incident, Incident.id == VendorWarning.incident)
        for vendor, of_these in _given_to(session, ids)
    )
    return union_all(incidents, *warnings)


def _given_to(session: Session, ids: Collection[uuid.UUID]) -> Sequence[tuple[Any, ColumnElement[bool]]]:
    """Both ways in which a warning is one of these vendors': the vendor, and where that is so."""
    named = (VendorWarning.vendor_id, among(session, VendorWarning.vendor_id, ids))
    met = and_(VendorWarning.vendor_id.is_(None), among(session, Incident.vendor_id, ids))
    return named, (Incident.vendor_id, met)


def _warnings(
    session: Session,
    circle: _Circle,
    people: Mapping[uuid.UUID, Collection[uuid.UUID]],
    until: dt.datetime,
    unwritten: Sequence[Warned],
) -> Mapping[uuid.UUID, Sequence[Warned]]:
    """The warnings before an instant, as they will be, of all that these people are taken for, by vendor."""
    ids, replaced = {id for known_as in people.values() for id in known_as}, {warning.id for warning in unwritten}
    rows = session.execute(_stored(session, ids, VendorWarning.occurred_at < until))
    found = [_warned(row) for row in rows if row.id not in replaced]
    found += [replace(warning, event=circle.group_of(warning.event)) for warning in unwritten if warning.live]
    warned: dict[uuid.UUID, list[Warned]] = defaultdict(list)
    for warning in found:
        warned[warning.vendor_id].append(warning)
    return warned


def _stored(session: Session, ids: Collection[uuid.UUID], *conditions: ColumnElement[bool]) -> CompoundSelect[Any]:
    """The columns of `Warned` for the live warnings of these vendors."""
    of_warning = ("id", "occurred_at", "step", "deadline_on", "response")
    event = func.coalesce(Grouped.group_id, VendorWarning.incident, type_=Uuid())
    return union_all(
        *(
            select(
                *(VendorWarning.__table__.c[name] for name in of_warning),
                vendor.label("vendor_id"),
                event.label("event"),
                Incident.items,
            )
            .join(Incident, Incident.id == VendorWarning.incident)
            .outerjoin(Grouped, Grouped.record_id == VendorWarning.incident)
            .where(of_these, VendorWarning.voided_at.is_(None), *conditions)
            for vendor, of_these in _given_to(session, ids)
        )
    )


def _warned(row: Any) -> Warned:
    items = frozenset(row.items)
    return Warned(row.id, row.vendor_id, row.occurred_at, row.step, row.event, items, row.deadline_on, row.response)


# ---------------------------------------------------------------- whom vendors may be taken for


@dataclass(slots=True)
class _Circle:
    """Vendors, and those that they may be taken for: what was said of each, who has each key, what is one with what.
    `nobodys` are keys that too many have."""

    said: dict[uuid.UUID, tuple[str | None, ...]] = field(default_factory=dict)
    keys: dict[uuid.UUID, set[str]] = field(default_factory=lambda: defaultdict(set))
    holders: dict[str, set[uuid.UUID]] = field(default_factory=lambda: defaultdict(set))
    nobodys: set[str] = field(default_factory=set)
    groups: dict[uuid.UUID, uuid.UUID] = field(default_factory=dict)
    members: dict[uuid.UUID, set[uuid.UUID]] = field(default_factory=lambda: defaultdict(set))

    def hear(self, id: uuid.UUID, said: Sequence[str | None], known_by: Iterable[str]) -> None:
        """What else is said of a vendor: name, telephone and plate, and keys."""
        before = self.said.get(id, said)
        self.said[id] = tuple(first or then for first, then in zip(before, said, strict=True))
        for key in known_by:
            self.keys[id].add(key)
            self.holders[key].add(id)

    def group_of(self, id: uuid.UUID) -> uuid.UUID:
        """What stands for a vendor or record, and for all that are one with it."""
        return self.groups.get(id, id)

    def taken_for(self, vendor_id: uuid.UUID) -> dict[uuid.UUID, set[str]]:
        """Who this vendor is, as far as anybody can tell, and by what."""
        sharing = {id for key in self.keys[vendor_id] - self.nobodys for id in self._holders(key)} - {vendor_id}
        found = {vendor_id: {"vendor"}}
        found |= {id: set(by) for id, by in recognised(self._known(vendor_id), map(self._known, sharing)).items()}
        for id, by in list(found.items()):
            for member in self.members.get(self.group_of(id), set()) - {id}:
                found.setdefault(member, set()).update(by - {"vendor"}, {"group"})
        return found

    def _holders(self, key: str) -> set[uuid.UUID]:
        holders = self.holders[key]
        return holders if len(holders) <= MOST_SHARING else set()

    def _known(self, id: uuid.UUID) -> Known:
        name, phone, plate = self.said.get(id, (None, None, None))
        return Known(id, name, phone, plate=plate, keys=frozenset(self.keys[id]))


def _circle(session: Session, asked: Sequence[Asked], warned: Sequence[Warned]) -> _Circle:
    """The circle of the vendors of these records and warnings; two queries."""
    circle = _Circle()
    for each in asked:
        told = each.told or {}
        circle.hear(each.vendor_id, [told.get(name) for name in _SAID], keys(told, each.township))
    ids = {each.vendor_id for each in asked} | {warning.vendor_id for warning in warned}
    for row in session.execute(_said_of(session, ids)):
        circle.hear(row.id, row[1:4], [row.key] if row.key else [])
    events = {each.incident_id for each in asked} | {warning.event for warning in warned}
    for row in session.execute(_acquaintance(session, circle.holders.keys(), ids | events)):
        if row.group_id is not None:
            circle.groups[row.id] = row.group_id
            circle.members[row.group_id].add(row.id)
        elif row.id is not None:
            circle.hear(row.id, row[1:4], [row.key])
        else:
            circle.nobodys.add(row.key)
    return circle


#: What tells vendors at one stall apart.
_SAID = ("name", "phone", "plate")


def _said_of(session: Session, ids: Collection[uuid.UUID]) -> Select[Any]:
    """(id, name, phone, plate, key) of these vendors, a row for each key that they are known by, or one without."""
    again = or_(*(VendorKey.key.startswith(kind) for kind in KNOWN_AGAIN))
    held = select(VendorKey.vendor_id, VendorKey.key).where(among(session, VendorKey.vendor_id, ids), again).subquery()
    asked = select(Vendor.id, Vendor.name, Vendor.phone, Vendor.plate, held.c.key)
    return asked.outerjoin(held, held.c.vendor_id == Vendor.id).where(among(session, Vendor.id, ids))


def _acquaintance(session: Session, told: Collection[str], ids: Collection[uuid.UUID]) -> CompoundSelect[Any]:
    """(id, name, phone, plate, key) of who has these keys, without an id where too many have one; and (id, group_id) of
    all that is one with those, or with these vendors and events.

    The keys travel as one array: what other vendors are known by is found by them, not by reading all.
    """
    of_key = func.count().over(partition_by=VendorKey.key), func.row_number().over(partition_by=VendorKey.key)
    held = (
        select(VendorKey.key, VendorKey.vendor_id, of_key[0].label("holders"), of_key[1].label("place"))
        .where(among(session, VendorKey.key, told))
        .subquery()
    )
    few = held.c.holders <= MOST_SHARING
    said = (Vendor.id, Vendor.name, Vendor.phone, Vendor.plate, held.c.key, cast(null(), Uuid()).label("group_id"))
    sharing = (
        select(*said)
        .select_from(held)
        .outerjoin(Vendor, and_(Vendor.id == held.c.vendor_id, few))
        .where(or_(few, held.c.place == 1))
        .cte("sharing")
    )
    mine = aliased(Grouped)
    of_these = union(
        select(mine.group_id).where(among(session, mine.record_id, ids)),
        select(mine.group_id).join(sharing, sharing.c.id == mine.record_id),
    )
    grouped = select(Grouped.record_id, null(), null(), null(), null(), Grouped.group_id)
    return union_all(select(sharing), grouped.where(Grouped.group_id.in_(of_these)))


# ---------------------------------------------------------------- what the items of a list provide


def rules_of(session: Session, codes: Collection[str]) -> dict[str, list[Rule]]:
    """The editions of these items, newest first, by code; one query, none for no items."""
    if not codes:
        return {}
    item = EnforcementItem
    provides = (item.code, item.first_step, item.fine_condition, item.fine_modal, item.from_on, item.until_on)
    asked = (
        select(*provides, Provision.law, Provision.penalty_article)
        .outerjoin(Provision, Provision.item_id == EnforcementItem.id)
        .where(among(session, EnforcementItem.code, codes))
        .order_by(EnforcementItem.code, EnforcementItem.from_on.desc(), Provision.ordinal)
    )
    rules: dict[str, list[Rule]] = defaultdict(list)
    for _, edition in groupby(session.execute(asked), attrgetter("code", "from_on")):
        rule = _rule(list(edition))
        rules[rule.item].append(rule)
    return rules


def _rule(rows: Sequence[Any]) -> Rule:
    """One edition of an item; a row for each of its provisions."""
    first, articles = rows[0], [f"{row.law} {row.penalty_article}" for row in rows if row.penalty_article]
    provides = (first.first_step, first.fine_condition, first.fine_modal)
    return Rule(first.code, *provides, first.from_on, first.until_on, tuple(articles))
