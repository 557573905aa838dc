"""Decides: what each operation makes of the records. Pure: it asks the small deciders and changes only the `World`.

The world is what a batch touches, gathered beforehand: the records named, the people, the vendors, the lists. Judging
an operation gives a `Verdict` for the phone and leaves the records in the world as they are to be written.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sync.clock import Arrival, Occurred, clock_notes, counted_back, local_day, occurred
from sync.enforcement import (
    ADVICE,
    DECIDING_MEASURES,
    Dated,
    Lists,
    crew_notes,
    in_force,
    link_item,
    officer_notes,
    place_notes,
    township_notes,
)
from sync.photo_notes import PHOTO_NOTES
from sync.places import TO_WGS84, Areas, crs_notes, location_notes, position
from sync.revisions import Conflict, Revision, amend
from sync.wire import CURRENT_EDITION, Operation, problem, stamp

Note = dict[str, Any]

#: Creates before what changes them, parents before children: the order in which one batch makes most sense.
RANK = {"patrol.create": 0, "incident.create": 1, "warning.create": 2}
#: Notes on how a record came about and on its photos; an amend leaves them, all others are judged anew.
LASTING_NOTES = PHOTO_NOTES | frozenset(
    {
        *("clock-corrected", "clock-unknown", "no-fix", "poor-accuracy", "mock-location"),
        *("crs-undeclared", "crs-doubtful", "counter-reused", "photo-too-large"),
    }
)
#: Roles that count as officers when the law asks for two.
OFFICER_ROLES = frozenset({"officer", "supervisor"})
#: The field that names the record another hangs on, and that record's kind.
PARENTS = {"incident": ("patrol", "patrol"), "warning": ("incident", "incident")}


@dataclass(frozen=True, slots=True)
class Officer:
    """Who acts: the account, its role and its card; `None` for an account that carries none."""

    account_id: int
    username: str
    role: str
    card: Dated | None


@dataclass(slots=True)
class Pending:
    """An operation that is to be judged: what was sent, by whom, when it arrived and when it happened.

    `stored` says that it came earlier and waited; `decided` that a person decided it, who may do so on the record of
    another and is not who the record's notes are about; `notes` are remarks on the operation itself.
    """

    operation: Operation
    officer: Officer
    install_id: uuid.UUID
    arrival: Arrival
    occurred: Occurred
    stored: bool = False
    decided: bool = False
    notes: list[Note] = field(default_factory=list)


@dataclass(slots=True)
class Record:
    """A patrol, incident or warning as it is to be written. `state` holds its columns, `links` its items."""

    kind: str
    state: dict[str, Any]
    new: bool = False
    touched: bool = False
    history: list[Revision] = field(default_factory=list)
    links: list[dict[str, Any]] = field(default_factory=list)
    announced: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class World:
    """What a batch can see and change. `officers` by user name; `vendors` are the ids known; a photo that is larger
    than `photo_max_bytes` can't arrive."""

    lists: Lists
    areas: Areas
    records: dict[uuid.UUID, Record]
    officers: dict[str, Officer]
    vendors: set[uuid.UUID]
    photo_max_bytes: int
    new_vendors: list[dict[str, Any]] = field(default_factory=list)
    new_tracks: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an operation. `waits_for` is the id of the record or vendor that a held one waits for."""

    outcome: str
    version: int | None = None
    notes: Sequence[Note] = ()
    problem: dict[str, Any] | None = None
    waits_for: uuid.UUID | None = None


def judge(pending: Pending, world: World) -> Verdict:
    """What becomes of one operation, given everything the world holds by now."""
    operation = pending.operation
    if operation.problem is not None or operation.kind is None:
        return Verdict("quarantined", problem=operation.problem)
    kind, action = operation.kind.split(".")
    return _ACTIONS[action](kind, pending, world)


# ---------------------------------------------------------------- create


def _create(kind: str, pending: Pending, world: World) -> Verdict:
    operation = pending.operation
    record_id = _sure(operation.record)
    if record_id in world.records:
        return Verdict("quarantined", problem=problem("record-exists"))
    if stopped := _not_yet(kind, pending, world):
        return stopped
    record = Record(kind, _first_state(pending, record_id), new=True)
    world.records[record_id] = record
    where_notes = _place(record, world)
    record.state["notes"] = [*clock_notes(operation.at, pending.occurred), *pending.notes, *where_notes]
    return _settle(record, pending, world, operation.fields)


def _first_state(pending: Pending, record_id: uuid.UUID) -> dict[str, Any]:
    return {
        "id": record_id,
        "version": 0,
        "officer_id": pending.officer.account_id,
        "install_id": pending.install_id,
        "received_at": pending.arrival.at,
        "occurred_at": pending.occurred.at,
        "occurred_error_ms": pending.occurred.error_ms,
        "occurred_method": pending.occurred.method,
        "fix": pending.operation.fix,
        "photos": [],
        "voided_at": None,
        "void_reason": None,
    }


def _place(record: Record, world: World) -> list[Note]:
    """Puts the record on the map: its WGS 84 position and the township that holds it, by the areas of its day."""
    state = record.state
    where, notes = position(state["fix"])
    if state["fix"] is None and record.kind != "incident":
        notes = []  # a warning is where its incident is, a patrol is everywhere
    located = world.areas.locate(where, local_day(state["occurred_at"])) if where else None
    state |= {
        "lon": where.lon if where else None,
        "lat": where.lat if where else None,
        "error_m": where.error_m if where else None,
        "located": located.how if located else None,
        "located_code": located.code if located else None,
        "located_candidates": list(located.candidates) if located else [],
        "areas_edition": located.edition if located else None,
    }
    return notes


# ---------------------------------------------------------------- amend, void, append


def _amend(kind: str, pending: Pending, world: World) -> Verdict:
    operation = pending.operation
    record = world.records.get(_sure(operation.record))
    if record is None or (operation.base or 0) > record.state["version"]:
        return Verdict("held", waits_for=operation.record)
    if stopped := _may_not_change(kind, record, pending) or _not_yet(kind, pending, world):
        return stopped
    merged = amend(record.history, operation.base or 0, _revision(record, pending, operation.fields))
    if isinstance(merged, Conflict):
        names = ("field", "base", "live", "yours")
        fields = [dict(zip(names, clash, strict=True)) for clash in merged.fields]
        return Verdict("conflict", record.state["version"], problem=problem("conflict", fields=fields))
    notes = [*pending.notes, *([{"code": "auto-merged", "base": operation.base}] if merged.alongside else [])]
    verdict = _settle(record, pending, world, merged.fields)
    return Verdict(verdict.outcome, verdict.version, [*verdict.notes, *notes])


def _void(kind: str, pending: Pending, world: World) -> Verdict:
    operation = pending.operation
    record = world.records.get(_sure(operation.record))
    if record is None:
        return Verdict("held", waits_for=operation.record)
    if stopped := _may_not_change(kind, record, pending):
        return stopped
    record.state |= {"voided_at": pending.occurred.at, "void_reason": operation.reason}
    _advance(record, pending, {})
    return Verdict("applied", record.state["version"], list(pending.notes))


def _append(_kind: str, pending: Pending, world: World) -> Verdict:
    operation = pending.operation
    patrol = world.records.get(_sure(operation.record))
    if patrol is None:
        return Verdict("held", waits_for=operation.record)
    if patrol.kind != "patrol":
        return Verdict("quarantined", problem=problem("wrong-record-kind", ("/record", "kind"), is_a=patrol.kind))
    owns = patrol.state["officer_id"] == pending.officer.account_id
    if not owns and pending.officer not in crew_of(patrol, world):
        return Verdict("quarantined", problem=problem("not-yours"))
    world.new_tracks.append(_track(pending))
    undeclared = crs_notes(operation.fields["crs"])
    return Verdict("applied", patrol.state["version"], [*pending.notes, *undeclared])


def _track(pending: Pending) -> dict[str, Any]:
    """The stretch in WGS 84, its points timed from its first by the phone's monotonic clock."""
    operation = pending.operation
    points, to_wgs84 = operation.fields["points"], TO_WGS84[operation.fields["crs"] or "wgs84"]
    times = [mono_ms for _, _, mono_ms, _ in points if mono_ms is not None]
    first, stamped = min(times, default=0), operation.at.mono_ms
    from_at = pending.occurred.at
    if times and stamped is not None:
        from_at = occurred(counted_back(operation.at, first), pending.arrival).at
    return {
        "id": operation.id,
        "patrol_id": operation.record,
        "officer_id": pending.officer.account_id,
        "from_at": from_at,
        "points": [[*to_wgs84(lon, lat), None if t is None else t - first, error] for lon, lat, t, error in points],
    }


_ACTIONS = {"create": _create, "amend": _amend, "void": _void, "append": _append}


# ---------------------------------------------------------------- what may stop an operation


def _may_not_change(kind: str, record: Record, pending: Pending) -> Verdict | None:
    if record.kind != kind:
        return Verdict("quarantined", problem=problem("wrong-record-kind", ("/record", "kind"), is_a=record.kind))
    if record.state["officer_id"] != pending.officer.account_id and not pending.decided:
        return Verdict("quarantined", problem=problem("not-yours"))
    if record.state["voided_at"] is not None:
        return Verdict("quarantined", problem=problem("record-voided"))
    return None


def _not_yet(kind: str, pending: Pending, world: World) -> Verdict | None:
    """Stops what names a code that never was (quarantined), or a record or vendor that has not arrived (held)."""
    operation = pending.operation
    where = "/body" if operation.kind == f"{kind}.create" else "/set"
    unknown = [(code, f"{where}/{pointer}") for code, pointer in _unknown_codes(operation, world)]
    if unknown:
        errors = [(pointer, "unknown") for _, pointer in unknown]
        return Verdict("quarantined", problem=problem(unknown[0][0], *errors))
    parent_field, parent_kind = PARENTS.get(kind, ("", ""))
    parent_id = operation.fields.get(parent_field)
    if parent_id is not None:
        parent = world.records.get(parent_id)
        if parent is None:
            return Verdict("held", waits_for=parent_id)
        if parent.kind != parent_kind:
            flaw = (f"{where}/{parent_field}", "kind")
            return Verdict("quarantined", problem=problem("wrong-record-kind", flaw, is_a=parent.kind))
    vendor_id = operation.fields.get("vendor") if kind == "warning" else None
    if vendor_id is not None and vendor_id not in world.vendors:
        return Verdict("held", waits_for=vendor_id)
    return None


def _unknown_codes(operation: Operation, world: World) -> Iterable[tuple[str, str]]:
    """(problem code, pointer) of every code in the operation's fields that is on no list at all."""
    lists, fields = world.lists, operation.fields
    if fields.get("township") is not None and fields["township"] not in lists.townships:
        yield "unknown-township", "township"
    for index, code in enumerate(fields.get("items") or ()):
        if code not in lists.items:
            yield "unknown-item", f"items/{index}"
    yield from _unknown_class(operation, world)
    if fields.get("designated_place") is not None and fields["designated_place"] not in lists.places:
        yield "unknown-place", "designated_place"


def _unknown_class(operation: Operation, world: World) -> Iterable[tuple[str, str]]:
    """A class counts in its edition: an amend may change one of the two, and the record has the other."""
    changed = [name for name in ("event_class", "event_class_edition") if name in operation.fields]
    record = world.records.get(_sure(operation.record))
    said = {**(record.state if record else {}), **operation.fields}
    edition, event_class = said.get("event_class_edition") or CURRENT_EDITION, said.get("event_class")
    if changed and event_class is not None and (edition, event_class) not in world.lists.event_classes:
        yield "unknown-event-class", changed[0]


# ---------------------------------------------------------------- what an accepted operation leaves behind


def _settle(record: Record, pending: Pending, world: World, fields: Mapping[str, Any]) -> Verdict:
    """The record takes the fields and the operation's photos, is filed and linked anew, and has its next version."""
    _take_fields(record, fields, pending, world)
    too_large = _announce(record, pending.operation.photos, pending, world)
    record.state["notes"] = [*record.state["notes"], *too_large]
    _file(record, world)
    lasting = [note for note in record.state["notes"] if note["code"] in LASTING_NOTES]
    judged = _judged_notes(record, pending, world)
    record.state["notes"] = [*lasting, *judged]
    record.state["note_codes"] = sorted({note["code"] for note in record.state["notes"]})
    _advance(record, pending, pending.operation.fields)
    remarks = lasting if record.state["version"] == 1 else too_large
    return Verdict("applied", record.state["version"], [*remarks, *judged])


def _advance(record: Record, pending: Pending, fields: Mapping[str, Any]) -> None:
    record.touched = True
    record.state["version"] += 1
    record.history.append(_revision(record, pending, fields))


def _revision(record: Record, pending: Pending, fields: Mapping[str, Any]) -> Revision:
    return Revision(record.state["version"], fields, pending.install_id, pending.operation.n or 0)


def _take_fields(record: Record, fields: Mapping[str, Any], pending: Pending, world: World) -> None:
    for name, value in fields.items():
        if name in ("started", "ended"):
            record.state[f"{name}_at"] = occurred(stamp(value), pending.arrival).at if value else None
        elif name == "vendor" and record.kind == "incident":
            record.state |= {"vendor": value, "vendor_id": value and value["id"]}
            _meet_vendor(value, record, pending, world)
        elif name == "vendor":
            record.state["vendor_id"] = value
        else:
            record.state[name] = value
    if record.kind == "incident":
        edition = record.state["event_class_edition"] or CURRENT_EDITION
        record.state["event_class_edition"] = edition if record.state["event_class"] else None


def _meet_vendor(vendor: Mapping[str, Any] | None, record: Record, pending: Pending, world: World) -> None:
    """A vendor not seen before is kept as first told; what later records say of them stays with those records."""
    if vendor is None or vendor["id"] in world.vendors:
        return
    world.vendors.add(vendor["id"])
    told = {name: vendor.get(name) for name in ("name", "phone", "stall", "plate")}
    township = record.state.get("township") or record.state["located_code"]
    world.new_vendors.append({"id": vendor["id"], **told, "township_code": township, "created_at": pending.arrival.at})


def _announce(record: Record, photos: Sequence[dict[str, Any]], pending: Pending, world: World) -> list[Note]:
    """The record cites the photos that are new to it; remarked are those too large ever to arrive."""
    known = {photo["sha256"]: photo for photo in record.state["photos"]}
    cited_before = len(known)
    for photo in photos:
        known.setdefault(photo["sha256"], photo)
    record.state["photos"] = list(known.values())
    new = record.state["photos"][cited_before:]
    whose = _whose(record, pending, world).account_id
    cited = {"record_id": record.state["id"], "officer_id": whose, "told_at": pending.occurred.at}
    record.announced += [{**cited, "sha256": photo["sha256"]} for photo in new]
    most = {"code": "photo-too-large", "most_bytes": world.photo_max_bytes}
    large = [photo for photo in new if photo["bytes"] > world.photo_max_bytes]
    return [{**most, "sha256": photo["sha256"], "bytes": photo["bytes"]} for photo in large]


def _file(record: Record, world: World) -> None:
    """Where the record belongs: the township chosen, if valid that day; else the one located; else its parent's."""
    state = record.state
    chosen = state.get("township")
    valid = chosen is not None and in_force(world.lists.townships[chosen], local_day(state["occurred_at"]))
    parent = _parent(record, world)
    inherited = parent.state["township_code"] if parent else None
    state["township_code"] = chosen if valid else state["located_code"] or inherited


def _parent(record: Record, world: World) -> Record | None:
    parent_field, _ = PARENTS.get(record.kind, ("", ""))
    return world.records.get(record.state[parent_field]) if parent_field else None


def _judged_notes(record: Record, pending: Pending, world: World) -> list[Note]:
    """Remarks that depend on what the record says now, as of the day it happened; links its items on the way."""
    state, lists = record.state, world.lists
    day = local_day(state["occurred_at"])
    chosen = state.get("township")
    notes = township_notes(lists, chosen, day)
    notes += _location_notes(record, None if notes else chosen)
    notes += place_notes(lists, state.get("designated_place"), day)
    notes += _link_items(record, world, day)
    officer = _whose(record, pending, world)
    notes += officer_notes(officer.role, officer.card, day, decides=_decides(record))
    return notes + _company_notes(record, pending, world)


def _location_notes(record: Record, chosen: str | None) -> list[Note]:
    state = record.state
    if state["located"] is None:
        return []
    return location_notes(state["located"], state["located_code"], state["located_candidates"], chosen)


def _link_items(record: Record, world: World, day: dt.date) -> list[Note]:
    if record.kind != "incident":
        return []
    notes: list[Note] = []
    record.links = []
    for ordinal, code in enumerate(record.state["items"]):
        link, said = link_item(world.lists, code, record.state["township_code"], day)
        notes += said
        record.links.append(
            {
                "incident_id": record.state["id"],
                "ordinal": ordinal,
                "item_code": code,
                "item_id": link.item.id,
                "delegation_id": link.delegation_id,
                "referred_to": link.referred_to,
            }
        )
    return notes


def _decides(record: Record) -> bool:
    if record.kind == "warning":
        return record.state["step"] not in ADVICE
    return not DECIDING_MEASURES.isdisjoint(record.state.get("measures") or ())


def _company_notes(record: Record, pending: Pending, world: World) -> list[Note]:
    """Remarks on who was out together: on the patrol itself, and on decisions taken by too few."""
    patrol = patrol_of(record, world)
    if patrol is None:
        return []
    crew = crew_of(patrol, world)
    officers = sum(officer.role in OFFICER_ROLES for officer in crew)
    notes = crew_notes(officers) if record is patrol or _decides(record) else []
    unknown = [name for name in patrol.state["officers"] if name.lower() not in world.officers]
    if record is patrol and unknown:
        notes = [*notes, {"code": "unknown-officer", "officers": unknown}]
    if _whose(record, pending, world) not in crew:
        notes = [*notes, {"code": "not-on-patrol", "patrol": str(patrol.state["id"])}]
    return notes


def _whose(record: Record, pending: Pending, world: World) -> Officer:
    """Whom the record's notes are about: who acts, or, where a person decided, who made the record."""
    if not pending.decided:
        return pending.officer
    return next(o for o in world.officers.values() if o.account_id == record.state["officer_id"])


def remark(record: Record, code: str, note: Note | None) -> None:
    """Of the notes with this code the record has this one and no other."""
    others = [each for each in record.state["notes"] if each["code"] != code]
    record.state["notes"] = [*others, *([note] if note else [])]
    record.state["note_codes"] = sorted({each["code"] for each in record.state["notes"]})


def crew_of(patrol: Record, world: World) -> list[Officer]:
    """Those named on a patrol who have an account; names are told in any case."""
    names = {name.lower() for name in patrol.state["officers"]}
    return [world.officers[name] for name in sorted(names) if name in world.officers]


def patrol_of(record: Record, world: World) -> Record | None:
    """The patrol that a record belongs to; a patrol's own."""
    seen: Record | None = record
    while seen is not None and seen.kind != "patrol":
        seen = _parent(seen, world)
    return seen


def _sure(record_id: uuid.UUID | None) -> uuid.UUID:
    assert record_id is not None, "a valid operation names its record"
    return record_id
