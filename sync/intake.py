"""Receives a batch: read, recognise, place, link, keep, answer with a receipt.

    lock the installation → recognise what is known → settle what is new (`settling`) → count what arrived → conclude:
    join what another phone brought in the same moment, journal → the view commits

Two copies of one batch in flight wait for each other at the installation's row; the loser finds every operation known
and answers what the winner stored. Should anything unexpected be raised, the same operations are taken one at a time,
each in a savepoint: the one that fails is kept raw and `quarantined` with `internal`, the others go through.
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from sync import wire
from sync.clock import arrived
from sync.enforcement import Lists
from sync.installations import count_owed
from sync.models import AnnouncedPhoto, Batch, Decision, Installation, Operation, SignedIn, Upload, among, is_busy
from sync.patrol_log import decisions
from sync.places import Areas
from sync.problems import NotFound, TokenInvalid
from sync.resemblances import Yardstick, resembled
from sync.revisions import holes, merge_ranges
from sync.settling import SENT, Incoming, Taken, brought, conclude, reread, settle, waiting_for
from sync.verdicts import Verdict

#: Photos and holes named in one receipt at most; the next receipt names the next.
MOST_LISTED = 1_000
#: Operations answered by one look-up at most.
MOST_LOOKED_UP = 1_000

_LOG = logging.getLogger(__name__)


def receive(
    session: Session,
    who: SignedIn,
    envelope: wire.Envelope,
    lists: Lists,
    areas: Areas,
    *,
    now: dt.datetime,
    photo_max_bytes: int,
    likeness: Yardstick,
    reading_ms: int = 0,
) -> dict[str, Any]:
    """The receipt for a batch, every operation of which is then stored once. The caller has begun a writing
    transaction and commits it.

    `now` is when the request arrived, `reading_ms` how long its body took; a photo larger than `photo_max_bytes` will
    never arrive; records are compared by `likeness`. Raises TokenInvalid if the batch is another installation's.
    """
    installation = _lock_installation(session, who, envelope)
    arrival = arrived(now, envelope.sent, reading_ms)
    whose = (who.account_id, who.username, installation.id, envelope.batch)
    incoming = Incoming(*whose, arrival, lists, areas, photo_max_bytes, likeness, installation.received)
    operations = envelope.operations
    taken = _take(session, incoming, operations)
    _keep_batch(session, incoming, envelope)
    missing = _count_received(session, installation, incoming, envelope)
    photos_needed = _photos_needed(session, who)
    here = _photos_here(session, who, [*operations, *taken.joined.values()])
    early = set(taken.joined)
    conclude(session, incoming, operations, taken, now=now)
    sent = {operation.id for operation in operations}
    joined = [o for i, o in taken.joined.items() if i not in sent]
    here |= _photos_here(session, who, [o for i, o in taken.joined.items() if i not in early])
    decided = decisions(session, taken.replayed) if taken.replayed else {}
    alike = _alike(session, taken, [*operations, *joined], likeness)
    return {
        "batch": str(envelope.batch),
        "received_at": now,
        "clock": {"offset_ms": arrival.offset_ms, "error_ms": arrival.transit_ms},
        "results": _results(operations, taken, here, decided, alike),
        "joined": _results(joined, taken, here, decided, alike),
        "holes": missing[:MOST_LISTED],
        "photos_needed": photos_needed,
    }


def _lock_installation(session: Session, who: SignedIn, envelope: wire.Envelope) -> Installation:
    """The installation's row, locked: batches of one phone are taken one after the other."""
    if envelope.install != who.install_id:
        raise TokenInvalid("the batch comes from another installation than the token")
    statement = select(Installation).where(Installation.id == envelope.install)
    return session.scalars(statement.with_for_update().execution_options(populate_existing=True)).one()


# ---------------------------------------------------------------- taking operations, together or one by one


def _take(session: Session, incoming: Incoming, operations: Sequence[wire.Operation]) -> Taken:
    try:
        with session.begin_nested():
            return _take_together(session, incoming, operations)
    except Exception as error:
        if is_busy(error):
            raise  # nothing is stored, the phone sends again
        _LOG.exception("batch %s is taken one operation at a time", incoming.batch_id)
    taken = Taken()
    for operation in operations:
        taken.add(_take_alone(session, incoming, operation))
    return taken


def _take_alone(session: Session, incoming: Incoming, operation: wire.Operation) -> Taken:
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
    session: Session, incoming: Incoming, operations: Sequence[wire.Operation], *, release: bool = True
) -> Taken:
    """Every operation judged and written, all at once, in a number of statements that does not grow with them.

    What waited for them is released with them, unless that is left to `conclude`: it may be what broke the server.
    """
    known = _recognise(session, operations)
    fresh = list({o.id: o for o in operations if o.id not in known}.values())
    for operation in fresh:
        wire.complete(operation)
    taken = settle(session, incoming, fresh, waiting_for(session, brought(fresh)) if release else [])
    taken.verdicts |= known
    taken.replayed |= set(known)
    return taken


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


# ---------------------------------------------------------------- the batch, the counters, the receipt


def _keep_batch(session: Session, incoming: Incoming, envelope: wire.Envelope) -> None:
    """What the receipt is made of again. A batch id used once more adds the operations that came with it, unless
    another officer sends them: a receipt tells each officer of the own."""
    ids = [str(operation.id) for operation in envelope.operations]
    known = session.get(Batch, (incoming.install_id, envelope.batch))
    if known is not None and known.officer_id != incoming.account_id:
        return
    if known is not None:
        known.ops = [*known.ops, *(i for i in ids if i not in set(known.ops))]
    else:
        session.add(
            Batch(
                install_id=incoming.install_id,
                id=envelope.batch,
                officer_id=incoming.account_id,
                app=envelope.app,
                received_at=incoming.arrival.at,
                sent=envelope.sent_raw,
                clock_offset_ms=incoming.arrival.offset_ms,
                clock_error_ms=incoming.arrival.transit_ms,
                ops=ids,
            )
        )
    session.flush()


def _count_received(
    session: Session, installation: Installation, incoming: Incoming, envelope: wire.Envelope
) -> list[list[int]]:
    """The holes: counters the installation has used, that never arrived and that it does not declare unsent."""
    counters = [[operation.n, operation.n] for operation in envelope.operations if operation.n is not None]
    installation.received = merge_ranges([*installation.received, *counters])
    if envelope.next_n >= installation.next_n:  # else an old batch that was long under way: it knows less
        installation.unsent, installation.next_n = envelope.unsent, envelope.next_n
    installation.app, installation.last_sync_at = envelope.app, incoming.arrival.at
    installation.clock_offset_ms = incoming.arrival.offset_ms
    count_owed(installation, now=incoming.arrival.at)
    session.flush()
    return holes(installation.received, installation.unsent, installation.next_n)


def _alike(
    session: Session, taken: Taken, operations: Iterable[wire.Operation], likeness: Yardstick
) -> Mapping[uuid.UUID, list[dict[str, Any]]]:
    """What the records of these operations resemble; of what is new it is known which resemble nothing."""
    applied = [o for o in operations if o.record and taken.verdicts[o.id].outcome == "applied"]
    may_resemble = {o.record for o in applied if o.id in taken.replayed or o.record in taken.alike}
    return resembled(session, {record for record in may_resemble if record}, likeness)


def _results(
    operations: Sequence[wire.Operation],
    taken: Taken,
    here: set[str],
    decided: Mapping[uuid.UUID, Any],
    alike: Mapping[uuid.UUID, list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    results, seen = [], set(taken.replayed)
    for operation in operations:
        result = _result(operation, taken.verdicts[operation.id])
        needed = [name for name in wire.announced(operation) if name not in here]
        told = {"photos_needed": needed, "decision": decided.get(operation.id)}
        resembles = alike.get(operation.record, []) if operation.record and result["outcome"] == "applied" else []
        results.append(result | told | {"replayed": operation.id in seen, "resembles": resembles})
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
        .where(~exists().where(SENT))  # those of this very batch are marked last
        .limit(MOST_LISTED)
    )
    return list(session.scalars(missing))


# ---------------------------------------------------------------- looking up what was received


def receipt(session: Session, who: SignedIn, batch_id: uuid.UUID, likeness: Yardstick) -> dict[str, Any]:
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
        "results": _stored_results(session, who, [stored[i] for i in ids], likeness),
        "joined": [],
        "holes": holes(installation.received, installation.unsent, installation.next_n)[:MOST_LISTED],
        "photos_needed": _photos_needed(session, who),
    }


def operations(
    session: Session, who: SignedIn, install_id: uuid.UUID, n_from: int, n_to: int, likeness: Yardstick
) -> list[dict[str, Any]]:
    """Which of an installation's operations the server holds from this officer, by counter, both ends included.

    What a person made of one of them is told with it: the phone never made that.
    """
    statement = (
        select(Operation)
        .where(Operation.install_id == install_id, Operation.officer_id == who.account_id)
        .where(Operation.n.between(n_from, n_to), ~exists().where(Decision.made_id == Operation.id))
        .order_by(Operation.n)
        .limit(MOST_LOOKED_UP)
    )
    return _stored_results(session, who, session.scalars(statement).all(), likeness)


def _stored_results(
    session: Session, who: SignedIn, stored: Sequence[Operation], likeness: Yardstick
) -> list[dict[str, Any]]:
    again = [reread(row) for row in stored]
    taken = Taken({row.id: _verdict(row) for row in stored}, alike={row.record_id for row in stored if row.record_id})
    decided, alike = decisions(session, [row.id for row in stored]), _alike(session, taken, again, likeness)
    return _results(again, taken, _photos_here(session, who, again), decided, alike)


def _verdict(row: Any) -> Verdict:
    return Verdict(row.outcome, row.version, row.notes, row.problem, row.waits_for)
