"""Settles operations: gather what they touch, judge them all, write, and end with the journal.

    gather, in a fixed number of queries → judge each operation (`verdicts`, pure) → write table by table → hold the
    counter, join what came in the same moment → journal → the view commits

Whoever brings an operation, a phone's batch (`intake`) or a person who decides (`review`), it becomes of it what is
written here, and so does what waited for it. Nothing here knows of batches, receipts or decisions.
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, TypeVar

from sqlalchemy import and_, delete, exists, func, literal, or_, select, union_all, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from sync import resemblances, verdicts, wire
from sync.again import look_again_at
from sync.clock import Arrival, Occurred, Stamp, occurred
from sync.enforcement import Lists
from sync.journal import (
    Change,
    digest_of,
    hold_counter,
    item_links,
    operation_evidence,
    record,
    record_change,
    release_evidence,
)
from sync.likeness import Sketch
from sync.models import (
    Account,
    AnnouncedPhoto,
    Batch,
    Incident,
    IncidentItem,
    Operation,
    Patrol,
    PatrolOfficer,
    Track,
    TrackBox,
    Upload,
    Vendor,
    VendorWarning,
    among,
    insert_rows,
    is_busy,
    update_rows,
)
from sync.places import Areas, box_of
from sync.resemblances import Search, Yardstick
from sync.revisions import Revision
from sync.vendor_log import Asked, asked_of, keep_keys, later_records, recounted, repeat_notes, vendor_of, warned_by
from sync.vendors import REPEAT, Warned
from sync.verdicts import Officer, Pending, Record, Verdict, World

MODELS: Mapping[str, type[Patrol | Incident | VendorWarning]] = {
    "patrol": Patrol,
    "incident": Incident,
    "warning": VendorWarning,
}
_LOG = logging.getLogger(__name__)
Found = TypeVar("Found")

#: True for the upload by which the officer who announced a photo has sent it.
SENT = and_(Upload.sha256 == AnnouncedPhoto.sha256, Upload.officer_id == AnnouncedPhoto.officer_id)


@dataclass(slots=True)
class Taken:
    """What became of the operations taken so far, and what the journal is to keep of it.

    `joined` are operations that this officer sent earlier and that need not wait any more; `announcing` the records
    that tell of new photos. `sketches` are what likeness looks at of each record that is live, `known` those records
    that were there before, `alike` those that resemble others.
    """

    verdicts: dict[uuid.UUID, Verdict] = field(default_factory=dict)
    replayed: set[uuid.UUID] = field(default_factory=set)
    evidence: list[Any] = field(default_factory=list)
    changes: dict[tuple[str, str], Change] = field(default_factory=dict)
    joined: dict[uuid.UUID, wire.Operation] = field(default_factory=dict)
    announcing: set[uuid.UUID] = field(default_factory=set)
    sketches: dict[uuid.UUID, Sketch] = field(default_factory=dict)
    known: set[uuid.UUID] = field(default_factory=set)
    alike: set[uuid.UUID] = field(default_factory=set)

    def add(self, more: Taken) -> None:
        """What was taken after the rest; an entity that was new in this transaction stays new to the feed."""
        self.verdicts |= more.verdicts
        self.replayed |= more.replayed
        self.evidence += more.evidence
        self.joined |= more.joined
        self.announcing |= more.announcing
        self.sketches = {id: each for id, each in self.sketches.items() if id not in more.known} | more.sketches
        self.known |= more.known
        self.alike |= more.alike
        for key, change in more.changes.items():
            earlier = self.changes.get(key)
            self.changes[key] = replace(change, new=earlier.new) if earlier else change


@dataclass(frozen=True, slots=True)
class Incoming:
    """Whose operations come, from which installation and batch, when they arrived, and the lists of that moment.

    `likeness` is what records are measured by. `used` are the counters that the installation used before, as closed
    ranges in order. `decided`: these are not a phone's, a person decided them.
    """

    account_id: int
    username: str
    install_id: uuid.UUID
    batch_id: uuid.UUID
    arrival: Arrival
    lists: Lists
    areas: Areas
    photo_max_bytes: int
    likeness: Yardstick
    used: Sequence[Sequence[int]] = ()
    decided: bool = False


def conclude(
    session: Session, incoming: Incoming, operations: Sequence[wire.Operation], taken: Taken, *, now: dt.datetime
) -> None:
    """What these operations came to is sworn to, what waited for them has joined, and what their records resemble is
    kept. To be called last: from the counter to the commit nobody else can change anything."""
    seen = dict(taken.sketches)
    found = _spared(session, incoming, lambda: resemblances.search(session, seen, incoming.likeness))
    number = hold_counter(session)
    _join_late(session, incoming, operations, taken)
    _mark_arrived(session, taken.announcing)
    if found is not None:
        _spared(session, incoming, lambda: _resemble(session, incoming, taken, seen, found, number, now))
    if taken.evidence or taken.changes:
        record(session, list(taken.changes.values()), now=now, evidence=taken.evidence)


def _resemble(
    session: Session,
    incoming: Incoming,
    taken: Taken,
    seen: Mapping[uuid.UUID, Sketch],
    found: Search,
    number: int,
    now: dt.datetime,
) -> None:
    """What the records resemble is kept, and what was sent again is grouped; the counter is held, at this number."""
    likeness = incoming.likeness
    if taken.sketches == seen:
        found = resemblances.search_on(session, seen, likeness, found, number)
    else:  # something joined late: rare, and looked for whole
        found = resemblances.search(session, taken.sketches, likeness)
    resemblances.keep(session, found, taken.known, likeness, now=now)
    told = Taken(alike={id for two in found.weights for id in two})
    for spoken in resemblances.group_sent_again(session, found, now=now):
        told.add(Taken(evidence=spoken.evidence, changes={(c.kind, c.entity): c for c in spoken.changes}))
        look_again_at(session, recounted(session, spoken.changed), now=now)
    taken.add(told)


def _spared(session: Session, incoming: Incoming, do: Callable[[], Found]) -> Found | None:
    """What this comes to; `None` where it fails, for records are worth more than what they resemble."""
    try:
        with session.begin_nested():
            return do()
    except Exception as error:
        if is_busy(error):
            raise
        _LOG.exception("what records of batch %s resemble can't be told", incoming.batch_id)
        return None


# ---------------------------------------------------------------- what waits and need not any more


def _join_late(session: Session, incoming: Incoming, operations: Sequence[wire.Operation], taken: Taken) -> None:
    """What another phone brought in the same moment joins too. The counter is held: whoever commits now was seen, and
    nobody else commits before us, so one of the two finds the other."""
    waited_for = {v.waits_for for v in taken.verdicts.values() if v.outcome == "held"}
    waiting = waiting_for(session, brought(operations) | _present(session, waited_for))
    if not waiting or _joined(session, incoming, waiting, taken):
        return
    for row in sorted(waiting, key=lambda row: verdicts.RANK.get(row.Operation.kind, len(verdicts.RANK))):
        if not _joined(session, incoming, [row], taken):
            _give_up(session, row.Operation.id, taken)


def _joined(session: Session, incoming: Incoming, waiting: Sequence[Any], taken: Taken) -> bool:
    """Whether these could be judged and written."""
    try:
        with session.begin_nested():
            taken.add(settle(session, incoming, [], waiting))
    except Exception as error:
        if is_busy(error):
            raise
        _LOG.exception("of what waited for batch %s, %s could not join", incoming.batch_id, len(waiting))
        return False
    return True


def _give_up(session: Session, operation_id: uuid.UUID, taken: Taken) -> None:
    """An operation that waited, and breaks the server now that it need not, waits for a person."""
    verdict = Verdict("quarantined", problem=wire.problem("internal"))
    update_rows(session, Operation, [outcome_row(operation_id, verdict)])
    taken.verdicts[operation_id] = verdict
    _release(taken, operation_id)


# ---------------------------------------------------------------- judge


def settle(session: Session, incoming: Incoming, fresh: Sequence[wire.Operation], waiting: Sequence[Any]) -> Taken:
    """What is fresh and what waited, judged against everything it touches, and written."""
    world = _gather(session, incoming, fresh, waiting)
    used = Counter(operation.n for operation in fresh)
    pending = [_pending(incoming, operation, world, again=used[operation.n] > 1) for operation in fresh]
    released = [_released(row, world) for row in waiting]
    taken = Taken(_judge_all(pending, released, world))
    _remark_repeats(session, [*pending, *released], taken.verdicts, world)
    taken.announcing = _write(session, incoming, pending, released, taken.verdicts, world)
    _swear(taken, [*pending, *released], world)
    _sketch(taken, world)
    _have_others_looked_at(session, world, incoming.arrival.at)
    for p in released:
        if p.officer.account_id == incoming.account_id and taken.verdicts[p.operation.id].outcome != "held":
            taken.joined[p.operation.id] = p.operation
    return taken


def _judge_all(pending: list[Pending], released: list[Pending], world: World) -> dict[uuid.UUID, Verdict]:
    """A verdict for each; what waited is judged again as long as something new makes it possible."""
    found = {p.operation.id: verdicts.judge(p, world) for p in sorted(pending, key=_order)}
    still_held = sorted(
        [*released, *(p for p in pending if found[p.operation.id].outcome == "held")],
        key=_order,
    )
    progress = True
    while still_held and progress:
        again = {p.operation.id: verdicts.judge(p, world) for p in still_held}
        found |= again
        waiting_now = [p for p in still_held if again[p.operation.id].outcome == "held"]
        progress, still_held = len(waiting_now) < len(still_held), waiting_now
    return found


def _order(pending: Pending) -> tuple[int, int]:
    operation = pending.operation
    return verdicts.RANK.get(operation.kind or "", len(verdicts.RANK)), operation.n or 0


# ---------------------------------------------------------------- what the vendors of these records were told before


def _remark_repeats(session: Session, judged: Sequence[Pending], found: dict[uuid.UUID, Verdict], world: World) -> None:
    """Records of vendors who were warned before say so, and so do the answers to the operations that made them."""
    touched = _of_vendors(world)
    live = [r for r in touched if r.state["voided_at"] is None]
    notes = repeat_notes(session, [_asked(r, world) for r in live], _warned(touched, world))
    for record_id, note in notes.items():
        verdicts.remark(world.records[record_id], REPEAT, note)
    for p in judged:
        verdict, said = found[p.operation.id], p.operation
        if said.record in notes and said.fields and verdict.outcome == "applied":
            found[said.id] = replace(verdict, notes=[*verdict.notes, notes[said.record]])


def _of_vendors(world: World) -> list[Record]:
    """The incidents and warnings that were touched and tell of a vendor."""
    touched = (r for r in world.records.values() if r.touched and r.kind != "patrol")
    return [r for r in touched if vendor_of(r.state, _incident_of(r, world))]


def _asked(record: Record, world: World) -> Asked:
    return asked_of(record.state, _incident_of(record, world))


def _warned(records: Iterable[Record], world: World) -> list[Warned]:
    """The warnings among these records, as they will be written."""
    return [warned_by(r.state, _incident_of(r, world)) for r in records if r.kind == "warning"]


def _incident_of(record: Record, world: World) -> Mapping[str, Any]:
    """The columns of the incident that a warning is about; an incident's own."""
    return record.state if record.kind == "incident" else world.records[record.state["incident"]].state


def _have_others_looked_at(session: Session, world: World, now: dt.datetime) -> None:
    """Behind the requests: records of a vendor that occurred after a warning which arrives, or changes, only now. They
    say how often the vendor was warned before, and others may have them in hand."""
    later = later_records(session, _warned(_of_vendors(world), world))
    look_again_at(session, ((kind, id) for kind, id in later if id not in world.records), now=now)


def _sketch(taken: Taken, world: World) -> None:
    """What likeness looks at of the records that were touched; of those that are void it looks at nothing."""
    for record_id, r in world.records.items():
        if r.touched and r.state["voided_at"] is None:
            about = _incident_of(r, world) if r.kind == "warning" else None
            patrol = verdicts.patrol_of(r, world)
            crew = patrol.state["officers"] if patrol else ()
            taken.sketches[record_id] = resemblances.sketch(r.kind, r.state, about, crew)
        if r.touched and not r.new:
            taken.known.add(record_id)


# ---------------------------------------------------------------- gather


def brought(operations: Iterable[wire.Operation]) -> set[uuid.UUID]:
    """The records and vendors that these operations may bring."""
    operations = list(operations)
    return _told_of(operations) | {operation.record for operation in operations if operation.record}


def _told_of(operations: Iterable[wire.Operation]) -> set[uuid.UUID]:
    """The vendors that these operations may bring."""
    vendors = (operation.fields.get("vendor") for operation in operations)
    return {vendor["id"] for vendor in vendors if isinstance(vendor, dict)}


def _present(session: Session, ids: set[uuid.UUID | None]) -> set[uuid.UUID]:
    """Which of these are records or vendors by now."""
    if not ids:
        return set()
    tables = [model.__table__.c.id for model in (*MODELS.values(), Vendor)]
    return set(session.scalars(union_all(*(select(column).where(among(session, column, ids)) for column in tables))))


def waiting_for(session: Session, arriving: set[uuid.UUID]) -> list[Any]:
    """Operations that came earlier and wait, directly or through each other, for something of this.

    What is found may tell of a vendor that warnings wait for; nothing that waits for a warning brings a vendor.
    """
    if not _anything_waits(session, arriving):
        return []
    found = _chained(session, arriving)
    vendors = _told_of(reread(row.Operation) for row in found.values()) - arriving
    return list((found | _chained(session, vendors) if vendors else found).values())


def _anything_waits(session: Session, arriving: set[uuid.UUID]) -> bool:
    """Whether it is worth asking what: almost never, and this question is the cheaper one."""
    held = select(literal(1)).where(Operation.outcome == "held", among(session, Operation.waits_for, arriving)).limit(1)
    return session.execute(held).first() is not None


def _chained(session: Session, arriving: set[uuid.UUID]) -> dict[uuid.UUID, Any]:
    """By their ids, operations that wait for one of these, or for the record of another that does.

    They are locked until the end. One that another batch has in hand is passed over: that batch asks again when it
    holds the counter, and so do we.
    """
    chain = (
        select(Operation.id, Operation.record_id)
        .where(Operation.outcome == "held", among(session, Operation.waits_for, arriving))
        .cte("chain", recursive=True)
    )
    next_one = aliased(Operation)
    chain = chain.union(
        select(next_one.id, next_one.record_id)
        .join(chain, next_one.waits_for == chain.c.record_id)
        .where(next_one.outcome == "held")
    )
    statement = (
        select(Operation, Batch.sent, Batch.received_at, Batch.clock_error_ms)
        .join(Batch, and_(Batch.install_id == Operation.install_id, Batch.id == Operation.batch_id))
        .where(Operation.id.in_(select(chain.c.id)), Operation.outcome == "held")
        .with_for_update(of=Operation, skip_locked=True)
        .execution_options(populate_existing=True)
    )
    return {row.Operation.id: row for row in session.execute(statement)}


def _gather(
    session: Session,
    incoming: Incoming,
    fresh: Sequence[wire.Operation],
    waiting: Sequence[Any],
) -> World:
    """Everything these operations touch."""
    earlier = [reread(row.Operation) for row in waiting]
    everything = [*fresh, *earlier]
    records = _records(session, everything)
    _load_histories(session, records, everything)
    names = {name for o in everything for name in o.fields.get("officers") or ()}
    for found in records.values():
        names |= set(found.state.get("officers") or ())
    names = {name.lower() for name in names} | {incoming.username}
    ids = {row.Operation.officer_id for row in waiting}
    if incoming.decided:
        ids |= {found.state["officer_id"] for found in records.values()}
    officers = _officers(session, names, ids)
    vendors = _vendors(session, everything)
    return World(incoming.lists, incoming.areas, records, officers, vendors, incoming.photo_max_bytes)


def _records(session: Session, operations: Iterable[wire.Operation]) -> dict[uuid.UUID, Record]:
    """The records named and those they hang on, locked so that nobody else changes them meanwhile."""
    named: set[uuid.UUID] = set()
    for operation in operations:
        parents = (operation.fields.get("patrol"), operation.fields.get("incident"))
        named |= {i for i in (operation.record, *parents) if i}
    found: dict[uuid.UUID, Record] = {}
    for kind in LOCKING_ORDER:
        of_kind = locked(session, kind, named)
        found |= of_kind
        if kind in verdicts.PARENTS:
            parent_field, _ = verdicts.PARENTS[kind]
            named |= {each.state[parent_field] for each in of_kind.values()}
    _load_links(session, found)
    return found


#: Whoever locks records of several kinds locks them in this order: no two wait for each other.
LOCKING_ORDER = ("warning", "incident", "patrol")


def locked(session: Session, kind: str, ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Record]:
    """The records of this kind, locked: whoever amends one, or locks it too, waits."""
    table = MODELS[kind].__table__
    asked = select(table).where(among(session, table.c.id, ids)).order_by(table.c.id)
    rows = session.execute(asked.with_for_update(key_share=True)).mappings()
    return {row["id"]: Record(kind, dict(row)) for row in rows}


def _load_links(session: Session, records: dict[uuid.UUID, Record]) -> None:
    incidents = {i: found for i, found in records.items() if found.kind == "incident"}
    table = IncidentItem.__table__
    rows = session.execute(
        select(table).where(among(session, table.c.incident_id, incidents)).order_by(table.c.ordinal)
    )
    for row in rows.mappings():
        incidents[row["incident_id"]].links.append(dict(row))


def _load_histories(session: Session, records: dict[uuid.UUID, Record], operations: Iterable[wire.Operation]) -> None:
    """What each version of a record that is to be amended has set."""
    amended = {o.record for o in operations if o.base is not None and o.record in records}
    for record_id, revision in revisions_of(session, amended):
        records[record_id].history.append(revision)


def revisions_of(session: Session, record_ids: Iterable[uuid.UUID | None]) -> Iterator[tuple[uuid.UUID, Revision]]:
    """What each version of these records has set, in no order."""
    rows = session.execute(
        select(Operation.record_id, Operation.version, Operation.raw, Operation.install_id).where(
            among(session, Operation.record_id, record_ids),
            Operation.outcome == "applied",
            Operation.kind != "track.append",
        )
    )
    for record_id, version, raw, phone in rows:
        if record_id is not None and version is not None:
            operation = wire.read_again(raw)
            yield record_id, Revision(version, operation.fields, phone, operation.n or 0)


def _officers(session: Session, names: set[str], ids: set[int]) -> dict[str, Officer]:
    rows = session.scalars(
        select(Account).where(or_(among(session, Account.username, names), among(session, Account.id, ids)))
    )
    return {account.username: Officer(account.id, account.username, account.role, _card(account)) for account in rows}


@dataclass(frozen=True, slots=True)
class _Card:
    from_on: dt.date | None
    until_on: dt.date | None


def _card(account: Account) -> _Card | None:
    return _Card(account.card_from_on, account.card_until_on) if account.card_number else None


def _vendors(session: Session, operations: Iterable[wire.Operation]) -> set[uuid.UUID]:
    named = (operation.fields.get("vendor") for operation in operations)
    ids = {vendor["id"] if isinstance(vendor, dict) else vendor for vendor in named if vendor}
    return set(session.scalars(select(Vendor.id).where(among(session, Vendor.id, ids))))


def _pending(incoming: Incoming, operation: wire.Operation, world: World, *, again: bool) -> Pending:
    """The operation as it is to be judged; `again`: another one of the batch has the same counter."""
    officer = world.officers[incoming.username]
    happened = occurred(operation.at, incoming.arrival)
    pending = Pending(operation, officer, incoming.install_id, incoming.arrival, happened, decided=incoming.decided)
    if operation.n is not None and (again or _counter_used(incoming.used, operation.n)):
        pending.notes.append({"code": "counter-reused", "n": operation.n})
    return pending


def _counter_used(ranges: Sequence[Sequence[int]], n: int) -> bool:
    before = bisect_right(ranges, n, key=itemgetter(0))
    return before > 0 and n <= ranges[before - 1][1]


def _released(row: Any, world: World) -> Pending:
    """An operation that waited, as it was when it arrived."""
    stored: Operation = row.Operation
    officer = next(o for o in world.officers.values() if o.account_id == stored.officer_id)
    arrival = arrival_of(row)
    happened = Occurred(stored.occurred_at or arrival.at, stored.occurred_error_ms, stored.occurred_method or "arrival")
    return Pending(reread(stored), officer, stored.install_id, arrival, happened, stored=True)


def arrival_of(row: Any) -> Arrival:
    """When an operation arrived and what its phone's clocks said then, from its row and that of its batch."""
    stored: Operation = row.Operation
    came_with_it = stored.received_at == row.received_at  # else the phone used the batch's id again
    sent = wire.stamp_of(row.sent) if came_with_it else Stamp()
    return Arrival(stored.received_at, sent, row.clock_error_ms or 0)


def reread(stored: Operation) -> wire.Operation:
    operation = wire.read_again(bytes(stored.raw))
    operation.id = stored.id
    return operation


# ---------------------------------------------------------------- write


def _write(
    session: Session,
    incoming: Incoming,
    pending: list[Pending],
    released: list[Pending],
    found: dict[uuid.UUID, Verdict],
    world: World,
) -> set[uuid.UUID]:
    """The records that announce new photos, once all rows are written, table by table, parents first."""
    insert_rows(session, Operation, [_operation_row(incoming, p, found[p.operation.id]) for p in pending])
    update_rows(session, Operation, [outcome_row(p.operation.id, found[p.operation.id]) for p in released])
    world.new_vendors = _keep_vendors(session, world.new_vendors)
    touched = [r for r in world.records.values() if r.touched]
    for kind, model in MODELS.items():
        insert_rows(session, model, [r.state for r in touched if r.kind == kind and r.new])
        update_rows(session, model, [r.state for r in touched if r.kind == kind and not r.new])
    _write_crews(session, [r for r in touched if r.kind == "patrol"], world)
    _write_links(session, [r for r in touched if r.kind == "incident"])
    insert_rows(session, Track, world.new_tracks)
    _keep_vendor_keys(session, touched, world, incoming.arrival.at)
    insert_rows(session, TrackBox, [row for track in world.new_tracks if (row := _track_box(track))])
    announced = [row for r in touched for row in r.announced]
    insert_rows(session, AnnouncedPhoto, [row | {"announced_at": incoming.arrival.at} for row in announced])
    return {row["record_id"] for row in announced}


def _track_box(track: Mapping[str, Any]) -> dict[str, Any] | None:
    """Where a track lies that is a line, so that maps find it."""
    if len(track["points"]) < 2:
        return None
    west, south, east, north = box_of(track["points"])
    box = {"west": west, "south": south, "east": east, "north": north}
    return {"track_id": track["id"], "patrol_id": track["patrol_id"], **box}


def _operation_row(incoming: Incoming, pending: Pending, verdict: Verdict) -> dict[str, Any]:
    operation = pending.operation
    return {
        **outcome_row(operation.id, verdict),
        "op": operation.op,
        "install_id": pending.install_id,
        "officer_id": pending.officer.account_id,
        "batch_id": incoming.batch_id,
        "n": operation.n,
        "kind": operation.kind,
        "record_id": operation.record,
        "fingerprint": operation.fingerprint,
        "raw": operation.raw,
        "received_at": pending.arrival.at,
        "occurred_at": pending.occurred.at,
        "occurred_error_ms": pending.occurred.error_ms,
        "occurred_method": pending.occurred.method,
    }


def outcome_row(operation_id: uuid.UUID, verdict: Verdict) -> dict[str, Any]:
    """What became of an operation, as its row holds it."""
    return {
        "id": operation_id,
        "outcome": verdict.outcome,
        "version": verdict.version,
        "waits_for": verdict.waits_for,
        "notes": list(verdict.notes),
        "problem": verdict.problem,
    }


def _keep_vendors(session: Session, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The vendors that are new indeed: another phone may tell of the same one at this moment, and who is first is kept.

    In the order of their ids, so that no two batches wait for each other crosswise.
    """
    rows = sorted(rows, key=itemgetter("id"))
    try:
        with session.begin_nested():
            insert_rows(session, Vendor, rows)
    except IntegrityError:
        present = _present(session, {row["id"] for row in rows})
        rows = [row for row in rows if row["id"] not in present]
        insert_rows(session, Vendor, rows)
    return rows


def _keep_vendor_keys(session: Session, touched: Sequence[Record], world: World, now: dt.datetime) -> None:
    """By what vendors are known is kept; those of whom more is known now are compared behind the requests."""
    told = [
        (r.state["vendor_id"], r.state["township_code"], r.state["vendor"]) for r in touched if r.state.get("vendor")
    ]
    new = {row["id"] for row in world.new_vendors}
    met = keep_keys(session, told, new)
    earlier = recounted(session, {"vendor": met - new})  # they may be somebody who was warned
    look_again_at(session, [*earlier, *(("vendor", vendor_id) for vendor_id in met)], now=now)


def _write_crews(session: Session, patrols: list[Record], world: World) -> None:
    changed = [r.state["id"] for r in patrols if not r.new]
    if changed:
        session.execute(delete(PatrolOfficer).where(among(session, PatrolOfficer.patrol_id, changed)))
    rows = [
        {"patrol_id": r.state["id"], "account_id": account_id}
        for r in patrols
        for account_id in {officer.account_id for officer in verdicts.crew_of(r, world)}
    ]
    insert_rows(session, PatrolOfficer, rows)


def _write_links(session: Session, incidents: list[Record]) -> None:
    changed = [r.state["id"] for r in incidents if not r.new]
    if changed:
        session.execute(delete(IncidentItem).where(among(session, IncidentItem.incident_id, changed)))
    insert_rows(session, IncidentItem, [link for r in incidents for link in r.links])


def _mark_arrived(session: Session, announcing: set[uuid.UUID]) -> None:
    """These records have the photos whose bytes their officer has sent. The counter is held: whatever arrives later
    finds the records and marks them itself (`photos.arrive`)."""
    if not announcing:
        return
    arrived = select(func.min(Upload.finished_at)).where(SENT).correlate(AnnouncedPhoto).scalar_subquery()
    unmarked = (among(session, AnnouncedPhoto.record_id, announcing), AnnouncedPhoto.received_at.is_(None))
    marked = update(AnnouncedPhoto).where(*unmarked, exists().where(SENT)).values(received_at=arrived)
    session.execute(marked, execution_options={"synchronize_session": False})


def write_notes(session: Session, remarked: Sequence[Record]) -> list[Change]:
    """The notes of these records are written; what the journal is to tell of them. Nobody changed them: no version."""
    for kind, model in MODELS.items():
        states = [each.state for each in remarked if each.kind == kind]
        update_rows(session, model, [{name: state[name] for name in ("id", "notes", "note_codes")} for state in states])
    links = item_links(session, [each.state["id"] for each in remarked if each.kind == "incident"])
    return [record_change(each.kind, each.state, links.get(each.state["id"], [])) for each in remarked]


def _swear(taken: Taken, judged: list[Pending], world: World) -> None:
    """What the journal keeps: every operation with its fingerprint and outcome, every record with its new state."""
    for p in judged:
        verdict = taken.verdicts[p.operation.id]
        if p.stored and verdict.outcome == "held":
            continue
        if p.stored:
            _release(taken, p.operation.id)
        else:
            arrived = operation_evidence(p.operation.id, p.operation.fingerprint, p.officer.account_id, p.arrival.at)
            taken.evidence.append([*arrived, verdict.outcome, verdict.version])
    for r in world.records.values():
        if r.touched:
            taken.changes[r.kind, str(r.state["id"])] = record_change(r.kind, r.state, r.links, new=r.new)
    for kind, rows in (("track", world.new_tracks), ("vendor", world.new_vendors)):
        for row in rows:
            entity = str(row["id"])
            taken.changes[kind, entity] = Change(kind, entity, [kind, entity, 1, digest_of(row)], new=True)


def _release(taken: Taken, operation_id: uuid.UUID) -> None:
    """An operation waits no more: whoever sent it learns from the feed what became of it."""
    verdict, entity = taken.verdicts[operation_id], str(operation_id)
    evidence = release_evidence(operation_id, verdict.outcome, verdict.version)
    taken.changes["operation", entity] = Change("operation", entity, evidence, new=False)
