"""Receives a batch: read, recognise, place, link, keep, answer with a receipt.

    lock the installation → gather what the batch touches, in a fixed number of queries → judge each operation
    (`verdicts`, pure) → write table by table → hold the counter, join what another phone brought in the same moment →
    journal → the view commits

Two copies of one batch in flight wait for each other at the installation's row; the loser finds every operation known
and answers what the winner stored. Should anything unexpected be raised, the same operations are taken one at a time,
each in a savepoint: the one that fails is kept raw and `quarantined` with `internal`, the others go through.
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

from sqlalchemy import and_, delete, exists, func, literal, or_, select, union_all, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from sync import verdicts, wire
from sync.clock import Arrival, Occurred, Stamp, arrived, occurred
from sync.enforcement import Lists
from sync.journal import Change, digest_of, hold_counter, operation_evidence, record, record_digest, release_evidence
from sync.models import (
    Account,
    AnnouncedPhoto,
    Batch,
    Incident,
    IncidentItem,
    Installation,
    Operation,
    Patrol,
    PatrolOfficer,
    SignedIn,
    Track,
    Upload,
    Vendor,
    VendorWarning,
    among,
    insert_rows,
    is_busy,
    update_rows,
)
from sync.places import Areas
from sync.problems import NotFound, TokenInvalid
from sync.revisions import Revision, holes, merge_ranges
from sync.verdicts import Officer, Pending, Record, Verdict, World

#: Photos and holes named in one receipt at most; the next receipt names the next.
MOST_LISTED = 1_000
#: Operations answered by one look-up at most.
MOST_LOOKED_UP = 1_000

MODELS: Mapping[str, type[Patrol | Incident | VendorWarning]] = {
    "patrol": Patrol,
    "incident": Incident,
    "warning": VendorWarning,
}
_LOG = logging.getLogger(__name__)

#: True for the upload by which the officer who announced a photo has sent it.
_SENT = and_(Upload.sha256 == AnnouncedPhoto.sha256, Upload.officer_id == AnnouncedPhoto.officer_id)


@dataclass(slots=True)
class _Taken:
    """What became of the operations taken so far, and what the journal is to keep of it.

    `joined` are operations that this officer sent earlier and that need not wait any more; `announcing` the records
    that tell of new photos.
    """

    verdicts: dict[uuid.UUID, Verdict] = field(default_factory=dict)
    replayed: set[uuid.UUID] = field(default_factory=set)
    evidence: list[Any] = field(default_factory=list)
    changes: dict[tuple[str, str], Change] = field(default_factory=dict)
    joined: dict[uuid.UUID, wire.Operation] = field(default_factory=dict)
    announcing: set[uuid.UUID] = field(default_factory=set)

    def add(self, more: _Taken) -> None:
        """What was taken after the rest; an entity that was new in this transaction stays new to the feed."""
        self.verdicts |= more.verdicts
        self.replayed |= more.replayed
        self.evidence += more.evidence
        self.joined |= more.joined
        self.announcing |= more.announcing
        for key, change in more.changes.items():
            earlier = self.changes.get(key)
            self.changes[key] = replace(change, new=earlier.new) if earlier else change


def receive(
    session: Session,
    who: SignedIn,
    envelope: wire.Envelope,
    lists: Lists,
    areas: Areas,
    *,
    now: dt.datetime,
    photo_max_bytes: int,
    reading_ms: int = 0,
) -> dict[str, Any]:
    """The receipt for a batch, every operation of which is then stored once. The caller has begun a writing
    transaction and commits it.

    `now` is when the request arrived, `reading_ms` how long its body took; a photo larger than `photo_max_bytes` will
    never arrive. Raises TokenInvalid if the batch is another installation's.
    """
    installation = _lock_installation(session, who, envelope)
    arrival = arrived(now, envelope.sent, reading_ms)
    incoming = _Incoming(who, installation, envelope.batch, arrival, lists, areas, photo_max_bytes)
    operations = envelope.operations
    taken = _take(session, incoming, operations)
    _keep_batch(session, incoming, envelope, operations)
    missing = _count_received(session, incoming, envelope)
    photos_needed = _photos_needed(session, who)
    here = _photos_here(session, who, [*operations, *taken.joined.values()])
    hold_counter(session)
    early = set(taken.joined)
    _join_late(session, incoming, operations, taken)
    _mark_arrived(session, taken.announcing)
    if taken.evidence or taken.changes:
        record(session, list(taken.changes.values()), now=now, evidence=taken.evidence)
    sent = {operation.id for operation in operations}
    joined = [o for i, o in taken.joined.items() if i not in sent]
    here |= _photos_here(session, who, [o for i, o in taken.joined.items() if i not in early])
    return {
        "batch": str(envelope.batch),
        "received_at": now,
        "clock": {"offset_ms": arrival.offset_ms, "error_ms": arrival.transit_ms},
        "results": _results(operations, taken, here),
        "joined": _results(joined, taken, here),
        "holes": missing[:MOST_LISTED],
        "photos_needed": photos_needed,
    }


@dataclass(frozen=True, slots=True)
class _Incoming:
    """Who sends what batch, from which installation, when it arrived, and the lists of that moment."""

    who: SignedIn
    installation: Installation
    batch_id: uuid.UUID
    arrival: Arrival
    lists: Lists
    areas: Areas
    photo_max_bytes: int


def _lock_installation(session: Session, who: SignedIn, envelope: wire.Envelope) -> Installation:
    """The installation's row, locked: batches of one phone are taken one after the other."""
    if envelope.install != who.install_id:
        raise TokenInvalid("the batch comes from another installation than the token")
    statement = select(Installation).where(Installation.id == envelope.install)
    return session.scalars(statement.with_for_update().execution_options(populate_existing=True)).one()


# ---------------------------------------------------------------- taking operations, together or one by one


def _take(session: Session, incoming: _Incoming, operations: Sequence[wire.Operation]) -> _Taken:
    try:
        with session.begin_nested():
            return _take_together(session, incoming, operations)
    except Exception as error:
        if is_busy(error):
            raise  # nothing is stored, the phone sends again
        _LOG.exception("batch %s is taken one operation at a time", incoming.batch_id)
    taken = _Taken()
    for operation in operations:
        taken.add(_take_alone(session, incoming, operation))
    return taken


def _take_alone(session: Session, incoming: _Incoming, operation: wire.Operation) -> _Taken:
    try:
        with session.begin_nested():
            return _take_together(session, incoming, [operation], release=False)
    except Exception as error:
        if is_busy(error):
            raise
        _LOG.exception("operation %s of batch %s is quarantined", operation.id, incoming.batch_id)
    operation.problem = wire.problem("internal")
    with session.begin_nested():
        return _take_together(session, incoming, [operation], release=False)


def _take_together(
    session: Session, incoming: _Incoming, operations: Sequence[wire.Operation], *, release: bool = True
) -> _Taken:
    """Every operation judged and written, all at once, in a number of statements that does not grow with them.

    What waited for them is released with them, unless that is left to `_join_late`: it may be what broke the server.
    """
    known = _recognise(session, operations)
    fresh = list({o.id: o for o in operations if o.id not in known}.values())
    for operation in fresh:
        wire.complete(operation)
    taken = _settle(session, incoming, fresh, _waiting(session, _brought(fresh)) if release else [])
    taken.verdicts |= known
    taken.replayed |= set(known)
    return taken


def _join_late(session: Session, incoming: _Incoming, operations: Sequence[wire.Operation], taken: _Taken) -> None:
    """What another phone brought in the same moment joins too. The counter is held: whoever commits now was seen, and
    nobody else commits before us, so one of the two finds the other."""
    waited_for = {v.waits_for for v in taken.verdicts.values() if v.outcome == "held"}
    waiting = _waiting(session, _brought(operations) | _present(session, waited_for))
    if not waiting or _joined(session, incoming, waiting, taken):
        return
    for row in sorted(waiting, key=lambda row: verdicts.RANK.get(row.Operation.kind, len(verdicts.RANK))):
        if not _joined(session, incoming, [row], taken):
            _give_up(session, row.Operation.id, taken)


def _joined(session: Session, incoming: _Incoming, waiting: Sequence[Any], taken: _Taken) -> bool:
    """Whether these could be judged and written."""
    try:
        with session.begin_nested():
            taken.add(_settle(session, incoming, [], waiting))
    except Exception as error:
        if is_busy(error):
            raise
        _LOG.exception("of what waited for batch %s, %s could not join", incoming.batch_id, len(waiting))
        return False
    return True


def _give_up(session: Session, operation_id: uuid.UUID, taken: _Taken) -> None:
    """An operation that waited, and breaks the server now that it need not, waits for a person."""
    verdict = Verdict("quarantined", problem=wire.problem("internal"))
    update_rows(session, Operation, [_outcome_row(operation_id, verdict)])
    taken.verdicts[operation_id] = verdict
    _release(taken, operation_id)


def _settle(session: Session, incoming: _Incoming, fresh: Sequence[wire.Operation], waiting: Sequence[Any]) -> _Taken:
    """What is fresh and what waited, judged against everything it touches, and written."""
    world = _gather(session, incoming, fresh, waiting)
    used = Counter(operation.n for operation in fresh)
    pending = [_pending(incoming, operation, world, again=used[operation.n] > 1) for operation in fresh]
    released = [_released(row, world) for row in waiting]
    taken = _Taken(_judge_all(pending, released, world))
    taken.announcing = _write(session, incoming, pending, released, taken.verdicts, world)
    _swear(taken, [*pending, *released], world)
    for p in released:
        if p.officer.account_id == incoming.who.account_id and taken.verdicts[p.operation.id].outcome != "held":
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


# ---------------------------------------------------------------- gather


def _recognise(session: Session, operations: Sequence[wire.Operation]) -> dict[uuid.UUID, Verdict]:
    """What became of those that are known already. One that reuses an id for other content gets an id of its own: the
    first stays live, the other is kept beside it."""
    stored = _stored(session, [operation.id for operation in operations])
    prints = {i: bytes(row.fingerprint) for i, row in stored.items()}
    reused = [o for o in operations if prints.setdefault(o.id, o.fingerprint) != o.fingerprint]
    for operation in reused:
        operation.id = wire.derived_id(operation.id.bytes, operation.fingerprint)
        operation.problem = wire.problem("op-reused")
    if reused:
        stored |= _stored(session, [operation.id for operation in reused])
    return {i: _verdict(row) for i, row in stored.items()}


def _stored(session: Session, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Any]:
    columns = ("id", "fingerprint", "outcome", "version", "notes", "problem", "waits_for")
    table = Operation.__table__.c
    rows = session.execute(select(*(table[name] for name in columns)).where(among(session, table.id, ids)))
    return {row.id: row for row in rows}


def _brought(operations: Iterable[wire.Operation]) -> set[uuid.UUID]:
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


def _waiting(session: Session, arriving: set[uuid.UUID]) -> list[Any]:
    """Operations that came earlier and wait, directly or through each other, for something of this.

    What is found may tell of a vendor that warnings wait for; nothing that waits for a warning brings a vendor.
    """
    if not _anything_waits(session, arriving):
        return []
    found = _chained(session, arriving)
    vendors = _told_of(_reread(row.Operation) for row in found.values()) - arriving
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
    incoming: _Incoming,
    fresh: Sequence[wire.Operation],
    waiting: Sequence[Any],
) -> World:
    """Everything these operations touch."""
    earlier = [_reread(row.Operation) for row in waiting]
    everything = [*fresh, *earlier]
    records = _records(session, everything)
    _load_histories(session, records, everything)
    names = {name for o in everything for name in o.fields.get("officers") or ()}
    for found in records.values():
        names |= set(found.state.get("officers") or ())
    names = {name.lower() for name in names} | {incoming.who.username}
    officers = _officers(session, names, {row.Operation.officer_id for row in waiting})
    vendors = _vendors(session, everything)
    return World(incoming.lists, incoming.areas, records, officers, vendors, incoming.photo_max_bytes)


def _records(session: Session, operations: Iterable[wire.Operation]) -> dict[uuid.UUID, Record]:
    """The records named and those they hang on, locked so that nobody else changes them meanwhile."""
    named: set[uuid.UUID] = set()
    for operation in operations:
        parents = (operation.fields.get("patrol"), operation.fields.get("incident"))
        named |= {i for i in (operation.record, *parents) if i}
    found: dict[uuid.UUID, Record] = {}
    for kind in ("warning", "incident", "patrol"):
        table = MODELS[kind].__table__
        locked = (
            select(table).where(among(session, table.c.id, named)).order_by(table.c.id).with_for_update(key_share=True)
        )
        for row in session.execute(locked).mappings():
            found[row["id"]] = Record(kind, dict(row))
            parent_field, _ = verdicts.PARENTS.get(kind, ("", ""))
            named |= {row[parent_field]} if parent_field else set()
    _load_links(session, found)
    return found


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
    rows = session.execute(
        select(Operation.record_id, Operation.version, Operation.raw, Operation.install_id).where(
            among(session, Operation.record_id, amended),
            Operation.outcome == "applied",
            Operation.kind != "track.append",
        )
    )
    for record_id, version, raw, phone in rows:
        if record_id is not None and version is not None:
            operation = wire.read_again(raw)
            records[record_id].history.append(Revision(version, operation.fields, phone, operation.n or 0))


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


def _pending(incoming: _Incoming, operation: wire.Operation, world: World, *, again: bool) -> Pending:
    """The operation as it is to be judged; `again`: another one of the batch has the same counter."""
    officer = world.officers[incoming.who.username]
    happened = occurred(operation.at, incoming.arrival)
    pending = Pending(operation, officer, incoming.installation.id, incoming.arrival, happened)
    if operation.n is not None and (again or _counter_used(incoming.installation, operation.n)):
        pending.notes.append({"code": "counter-reused", "n": operation.n})
    return pending


def _counter_used(installation: Installation, n: int) -> bool:
    ranges = installation.received
    before = bisect_right(ranges, n, key=itemgetter(0))
    return before > 0 and n <= ranges[before - 1][1]


def _released(row: Any, world: World) -> Pending:
    """An operation that waited, as it was when it arrived."""
    stored: Operation = row.Operation
    officer = next(o for o in world.officers.values() if o.account_id == stored.officer_id)
    came_with_it = stored.received_at == row.received_at  # else the phone used the batch's id again
    sent = wire.stamp_of(row.sent) if came_with_it else Stamp()
    arrival = Arrival(stored.received_at, sent, row.clock_error_ms or 0)
    happened = Occurred(stored.occurred_at or arrival.at, stored.occurred_error_ms, stored.occurred_method or "arrival")
    return Pending(_reread(stored), officer, stored.install_id, arrival, happened, stored=True)


def _reread(stored: Operation) -> wire.Operation:
    operation = wire.read_again(bytes(stored.raw))
    operation.id = stored.id
    return operation


# ---------------------------------------------------------------- write


def _write(
    session: Session,
    incoming: _Incoming,
    pending: list[Pending],
    released: list[Pending],
    found: dict[uuid.UUID, Verdict],
    world: World,
) -> set[uuid.UUID]:
    """The records that announce new photos, once all rows are written, table by table, parents first."""
    insert_rows(session, Operation, [_operation_row(incoming, p, found[p.operation.id]) for p in pending])
    update_rows(session, Operation, [_outcome_row(p.operation.id, found[p.operation.id]) for p in released])
    world.new_vendors = _keep_vendors(session, world.new_vendors)
    touched = [r for r in world.records.values() if r.touched]
    for kind, model in MODELS.items():
        insert_rows(session, model, [r.state for r in touched if r.kind == kind and r.new])
        update_rows(session, model, [r.state for r in touched if r.kind == kind and not r.new])
    _write_crews(session, [r for r in touched if r.kind == "patrol"], world)
    _write_links(session, [r for r in touched if r.kind == "incident"])
    insert_rows(session, Track, world.new_tracks)
    announced = [row for r in touched for row in r.announced]
    insert_rows(session, AnnouncedPhoto, [row | {"announced_at": incoming.arrival.at} for row in announced])
    return {row["record_id"] for row in announced}


def _operation_row(incoming: _Incoming, pending: Pending, verdict: Verdict) -> dict[str, Any]:
    operation = pending.operation
    return {
        **_outcome_row(operation.id, verdict),
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


def _outcome_row(operation_id: uuid.UUID, verdict: Verdict) -> dict[str, Any]:
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
    arrived = select(func.min(Upload.finished_at)).where(_SENT).correlate(AnnouncedPhoto).scalar_subquery()
    unmarked = (among(session, AnnouncedPhoto.record_id, announcing), AnnouncedPhoto.received_at.is_(None))
    marked = update(AnnouncedPhoto).where(*unmarked, exists().where(_SENT)).values(received_at=arrived)
    session.execute(marked, execution_options={"synchronize_session": False})


def _swear(taken: _Taken, judged: list[Pending], world: World) -> None:
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
            _change(taken, r.kind, r.state["id"], record_digest(r.state, r.links), r.state["version"], new=r.new)
    for track in world.new_tracks:
        _change(taken, "track", track["id"], digest_of(track), 1, new=True)
    for vendor in world.new_vendors:
        _change(taken, "vendor", vendor["id"], digest_of(vendor), 1, new=True)


def _release(taken: _Taken, operation_id: uuid.UUID) -> None:
    """An operation waits no more: whoever sent it learns from the feed what became of it."""
    verdict, entity = taken.verdicts[operation_id], str(operation_id)
    evidence = release_evidence(operation_id, verdict.outcome, verdict.version)
    taken.changes["operation", entity] = Change("operation", entity, evidence, new=False)


def _change(taken: _Taken, kind: str, entity: uuid.UUID, digest: str, version: int, *, new: bool) -> None:
    evidence = [kind, str(entity), version, digest]
    taken.changes[kind, str(entity)] = Change(kind, str(entity), evidence, new=new)


# ---------------------------------------------------------------- the batch, the counters, the receipt


def _keep_batch(
    session: Session, incoming: _Incoming, envelope: wire.Envelope, operations: Sequence[wire.Operation]
) -> None:
    """What the receipt is made of again. A batch id used once more adds the operations that came with it."""
    ids = [str(operation.id) for operation in operations]
    known = session.get(Batch, (incoming.installation.id, envelope.batch))
    if known is not None:
        known.ops = [*known.ops, *(i for i in ids if i not in set(known.ops))]
    else:
        session.add(
            Batch(
                install_id=incoming.installation.id,
                id=envelope.batch,
                officer_id=incoming.who.account_id,
                app=envelope.app,
                received_at=incoming.arrival.at,
                sent=envelope.sent_raw,
                clock_offset_ms=incoming.arrival.offset_ms,
                clock_error_ms=incoming.arrival.transit_ms,
                ops=ids,
            )
        )
    session.flush()


def _count_received(session: Session, incoming: _Incoming, envelope: wire.Envelope) -> list[list[int]]:
    """The holes: counters the installation has used, that never arrived and that it does not declare unsent."""
    installation = incoming.installation
    counters = [[operation.n, operation.n] for operation in envelope.operations if operation.n is not None]
    installation.received = merge_ranges([*installation.received, *counters])
    if envelope.next_n >= installation.next_n:  # else an old batch that was long under way: it knows less
        installation.unsent, installation.next_n = envelope.unsent, envelope.next_n
    installation.app, installation.last_sync_at = envelope.app, incoming.arrival.at
    installation.clock_offset_ms = incoming.arrival.offset_ms
    session.flush()
    return holes(installation.received, installation.unsent, installation.next_n)


def _results(operations: Sequence[wire.Operation], taken: _Taken, here: set[str]) -> list[dict[str, Any]]:
    results, seen = [], set(taken.replayed)
    for operation in operations:
        result = _result(operation, taken.verdicts[operation.id])
        needed = [name for name in wire.announced(operation) if name not in here]
        results.append(result | {"replayed": operation.id in seen, "photos_needed": needed})
        seen.add(operation.id)
    return results


def _result(operation: wire.Operation, verdict: Verdict) -> dict[str, Any]:
    """What a phone is told of one operation."""
    return {
        "op": operation.op,
        "n": operation.n,
        "outcome": verdict.outcome,
        "record": str(operation.record) if operation.record else None,
        "version": verdict.version,
        "notes": list(verdict.notes),
        "problem": verdict.problem,
        "waits_for": str(verdict.waits_for) if verdict.waits_for else None,
    }


def _photos_here(session: Session, who: SignedIn, operations: Iterable[wire.Operation]) -> set[str]:
    """Which of the photos that these operations announce this officer has sent."""
    names = {name for operation in operations for name in wire.announced(operation)}
    if not names:
        return set()
    sent = select(Upload.sha256).where(among(session, Upload.sha256, names), Upload.officer_id == who.account_id)
    return {name for name in session.scalars(sent) if name}


def _photos_needed(session: Session, who: SignedIn) -> list[str]:
    """Photos that this officer's records announce and whose bytes this officer never sent."""
    missing = (
        select(AnnouncedPhoto.sha256)
        .distinct()
        .where(AnnouncedPhoto.officer_id == who.account_id, AnnouncedPhoto.received_at.is_(None))
        .where(~exists().where(_SENT))  # those of this very batch are marked last
        .limit(MOST_LISTED)
    )
    return list(session.scalars(missing))


# ---------------------------------------------------------------- looking up what was received


def receipt(session: Session, who: SignedIn, batch_id: uuid.UUID) -> dict[str, Any]:
    """The receipt of a batch this officer sent, as it stands now, without what joined then. Raises NotFound."""
    batch = session.scalars(select(Batch).where(Batch.id == batch_id, Batch.officer_id == who.account_id)).first()
    if batch is None:
        raise NotFound("no such batch of yours")
    ids = [uuid.UUID(operation_id) for operation_id in batch.ops]
    stored = {o.id: o for o in session.scalars(select(Operation).where(among(session, Operation.id, ids)))}
    installation = session.get_one(Installation, batch.install_id)
    return {
        "batch": str(batch.id),
        "received_at": batch.received_at,
        "clock": {"offset_ms": batch.clock_offset_ms, "error_ms": batch.clock_error_ms},
        "results": _stored_results(session, who, [stored[i] for i in ids]),
        "joined": [],
        "holes": holes(installation.received, installation.unsent, installation.next_n)[:MOST_LISTED],
        "photos_needed": _photos_needed(session, who),
    }


def operations(session: Session, who: SignedIn, install_id: uuid.UUID, n_from: int, n_to: int) -> list[dict[str, Any]]:
    """Which of an installation's operations the server holds from this officer, by counter, both ends included."""
    statement = (
        select(Operation)
        .where(Operation.install_id == install_id, Operation.officer_id == who.account_id)
        .where(Operation.n.between(n_from, n_to))
        .order_by(Operation.n)
        .limit(MOST_LOOKED_UP)
    )
    return _stored_results(session, who, session.scalars(statement).all())


def _stored_results(session: Session, who: SignedIn, stored: Sequence[Operation]) -> list[dict[str, Any]]:
    again = [_reread(row) for row in stored]
    taken = _Taken({row.id: _verdict(row) for row in stored})
    return _results(again, taken, _photos_here(session, who, again))


def _verdict(row: Any) -> Verdict:
    return Verdict(row.outcome, row.version, row.notes, row.problem, row.waits_for)
