"""Vendors and what they were warned of: by what each is known, whom it resembles, and what is remarked of one who was
warned before. Settling asks here, by a number of queries that does not grow with the batch.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import CompoundSelect, Uuid, and_, func, literal, select, union_all
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from sync.acquaintance import circle_of
from sync.fellegi_sunter import Table
from sync.grouping import pair
from sync.models import (
    EnforcementItem,
    Grouped,
    Incident,
    Provision,
    Resemblance,
    VendorKey,
    VendorWarning,
    among,
    insert_or,
    insert_rows,
    upsert_rows,
)
from sync.resemblances import forget, kept
from sync.vendors import (
    KNOWN_AGAIN,
    NAME,
    Note,
    Rule,
    Told,
    Warned,
    keys,
    name_keys,
    repeat_note,
    same_vendor,
)

# ---------------------------------------------------------------- by what vendors are known


def keep_keys(
    session: Session, told: Iterable[tuple[uuid.UUID, str | None, Told]], new: Collection[uuid.UUID]
) -> set[uuid.UUID]:
    """By what these vendors are known, and found, is kept: (vendor, township of the record, what it told) each. The
    vendors of whom more is known now.

    `new` are the vendors whose rows were inserted just now, by this transaction: of those nothing is kept yet.
    """
    found = {(key, id) for id, township, said in told for key in (*keys(said, township), *name_keys(said, township))}
    rows: list[dict[str, Any]] = [{"key": key, "vendor_id": id} for key, id in sorted(found)]
    first = [row for row in rows if row["vendor_id"] in new]
    insert_rows(session, VendorKey, first)
    again = [row for row in rows if row["vendor_id"] not in new]
    kept = _kept(session, {row["vendor_id"] for row in again}) if again else set()
    added = [row for row in again if (row["key"], row["vendor_id"]) not in kept]
    if added:
        session.execute(insert_or(session, VendorKey).on_conflict_do_nothing(), added)
    return {row["vendor_id"] for row in (*first, *added)}


def _kept(session: Session, ids: Collection[uuid.UUID]) -> set[tuple[str, uuid.UUID]]:
    rows = session.execute(select(VendorKey.key, VendorKey.vendor_id).where(among(session, VendorKey.vendor_id, ids)))
    return {(row.key, row.vendor_id) for row in rows}


# ---------------------------------------------------------------- who resembles whom


def weigh_vendors(
    session: Session, ids: Collection[uuid.UUID], table: Table, *, least_bits: float, now: dt.datetime
) -> None:
    """What these vendors resemble, by so many bits at least, is kept; what they resembled before is forgotten.

    They are weighed against whoever shares a key with them, or the sound of a name in one township, unless too many do.
    Four statements at most, none for no vendors.
    """
    if not ids:
        return
    circle = circle_of(session, ids, by=(*KNOWN_AGAIN, NAME))
    pairs = sorted({pair(id, other) for id in ids for other in circle.sharing(id)})
    weighed = [(two, same_vendor(circle.known(two[0]), circle.known(two[1]), table)) for two in pairs]
    forget(session, ids)
    alike = [kept("vendor", two, found, now) for two, found in weighed if found.weight >= least_bits]
    upsert_rows(session, Resemblance, alike)


# ---------------------------------------------------------------- who was warned before


@dataclass(frozen=True, slots=True)
class Asked:
    """A record that tells of a vendor: a warning, or an incident, whose `incident_id` is its own. `told` is what it
    says of the vendor besides the id; `None` where that is nothing."""

    record_id: uuid.UUID
    vendor_id: uuid.UUID
    told: Told | None
    township: str | None
    occurred_at: dt.datetime
    incident_id: uuid.UUID
    items: Collection[str] = ()


def vendor_of(state: Mapping[str, Any], incident: Mapping[str, Any]) -> Any:
    """The vendor of a record: a warning that names none was given to its incident's."""
    return state["vendor_id"] or incident["vendor_id"]


def asked_of(state: Mapping[str, Any], incident: Mapping[str, Any]) -> Asked:
    """A record with these columns, and those of the incident it is about (its own, if it is one)."""
    vendor_id = vendor_of(state, incident)
    return Asked(
        record_id=state["id"],
        vendor_id=vendor_id,
        told=incident["vendor"] if incident["vendor_id"] == vendor_id else None,
        township=state["township_code"],
        occurred_at=state["occurred_at"],
        incident_id=incident["id"],
        items=incident["items"],
    )


def warned_by(state: Mapping[str, Any], incident: Mapping[str, Any]) -> Warned:
    """A warning with these columns, and those of its incident, as it counts for its vendor."""
    return Warned(
        id=state["id"],
        vendor_id=vendor_of(state, incident),
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
    vendors = {each.vendor_id for each in asked} | {warning.vendor_id for warning in unwritten}
    events = {each.incident_id for each in asked} | {warning.event for warning in unwritten}
    told = ((each.vendor_id, each.township, each.told) for each in asked if each.told)
    circle = circle_of(session, vendors, events, told)
    people = {each.vendor_id: circle.taken_for(each.vendor_id) for each in asked}
    before = VendorWarning.occurred_at < max(each.occurred_at for each in asked)
    warned = _warned_of(session, people, before, without={warning.id for warning in unwritten})
    for warning in unwritten:
        warned[warning.vendor_id].append(replace(warning, event=circle.group_of(warning.event)))
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
    circle = circle_of(session, {warning.vendor_id for warning in warned})
    since: dict[uuid.UUID, dt.datetime] = {}
    for warning in warned:
        for id in circle.taken_for(warning.vendor_id):
            since[id] = min(since.get(id, warning.occurred_at), warning.occurred_at)
    rows = session.execute(_records_of(session, since, min(since.values())))
    return sorted((row.kind, row.id) for row in rows if row.occurred_at > since[row.vendor_id])


def recounted(session: Session, changed: Mapping[str, Collection[uuid.UUID]]) -> list[tuple[str, uuid.UUID]]:
    """(kind, id) of the live records of vendors who were warned more, or less, often than it seemed: what they did, or
    they themselves, is one thing now or no more. `changed` are the ids by kind."""
    met = select(Incident.vendor_id).where(among(session, Incident.id, changed.get("incident", ())))
    told = session.scalars(met.where(Incident.vendor_id.is_not(None))) if "incident" in changed else ()
    vendors = {*told, *changed.get("vendor", ())}
    if not vendors:
        return []
    circle = circle_of(session, vendors)
    everybody = {other for id in vendors for other in circle.taken_for(id)}
    return sorted((row.kind, row.id) for row in session.execute(_records_of(session, everybody, _EVER)))


_EVER = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


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


@dataclass(frozen=True, slots=True)
class History:
    """What is known of a vendor: whom it is taken for (itself included) and by what, the warnings that count, and
    whether it can be recognised at all: one who is known by name only can't."""

    taken_for: Mapping[uuid.UUID, Collection[str]]
    warnings: Sequence[Warned]
    recognisable: bool


def histories(session: Session, ids: Collection[uuid.UUID]) -> dict[uuid.UUID, History]:
    """The histories of these vendors; three queries, none for no vendors."""
    if not ids:
        return {}
    circle = circle_of(session, ids)
    people = {id: circle.taken_for(id) for id in ids}
    warned = _warned_of(session, people)
    return {
        id: History(known_as, [w for each in known_as for w in warned.get(each, ())], circle.is_recognisable(id))
        for id, known_as in people.items()
    }


def _warned_of(
    session: Session,
    people: Mapping[uuid.UUID, Collection[uuid.UUID]],
    *conditions: ColumnElement[bool],
    without: Collection[uuid.UUID] = (),
) -> dict[uuid.UUID, list[Warned]]:
    """The warnings of all that these people are taken for, by vendor, without some."""
    ids = {id for known_as in people.values() for id in known_as}
    warned: dict[uuid.UUID, list[Warned]] = defaultdict(list)
    for row in session.execute(live_warnings(session, ids, *conditions)):
        if row.id not in without:
            warned[row.vendor_id].append(_warned(row))
    return warned


def _warned(row: Any) -> Warned:
    items = frozenset(row.items)
    return Warned(row.id, row.vendor_id, row.occurred_at, row.step, row.event, items, row.deadline_on, row.response)


def live_warnings(
    session: Session, ids: Collection[uuid.UUID], *conditions: ColumnElement[bool]
) -> CompoundSelect[Any]:
    """The live warnings of these vendors, each with its `event` and the items of its incident."""
    of_warning = ("id", "incident", "occurred_at", "township_code", "step", "deadline_on", "response")
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
