"""What every change ends with, in the same transaction: the feed's rows, one link of the evidence chain, the counter.

The counter row is touched last. Whoever commits later has the higher number, so a reader that goes by number never
skips a change (a serial or a time stamp would: see the README's decisions), and writers wait for each other only
between that last statement and the commit.

A link's hash is SHA-256 over the hash before it and the canonical JSON of [number, instant, entries]. Each entry is
what one change swears to: for an operation its id, its fingerprint, its outcome and the digest of the record it led to,
photos included. `sync/evidence.py` recomputes all of it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from sync.models import FeedEntry, Head, IncidentItem, Link, among, insert_rows, upsert_rows

#: What the first link hangs on.
GENESIS = bytes(32)


@dataclass(frozen=True, slots=True)
class Change:
    """One entity changed. `evidence` is what the chain keeps of it; `new` that the feed never had the entity."""

    kind: str
    entity: str
    evidence: list[Any]
    new: bool
    gone: bool = False


def canonical(value: Any) -> bytes:
    """The one way to write a JSON value: UTF-8, keys sorted, no white space. Instants are written as RFC 3339 UTC."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)


def digest_of(value: Any) -> str:
    """SHA-256 of the canonical JSON, in hex: what the chain keeps of a state."""
    return hashlib.sha256(canonical(value)).hexdigest()


def record_digest(state: Mapping[str, Any], links: Sequence[Mapping[str, Any]]) -> str:
    """The digest of a patrol, incident or warning: all its columns, photos' digests among them, and its item links."""
    return digest_of([state, links])


def record_change(
    kind: str, state: Mapping[str, Any], links: Sequence[Mapping[str, Any]], *, new: bool = False
) -> Change:
    """A patrol, incident or warning is as these columns and item links say; they may be as they were before."""
    entity = str(state["id"])
    return Change(kind, entity, [kind, entity, state["version"], record_digest(state, links)], new=new)


def item_links(session: Session, incidents: Sequence[uuid.UUID]) -> dict[uuid.UUID, list[dict[str, Any]]]:
    """The item links of each of these incidents that has any, as `record_digest` takes them."""
    table = IncidentItem.__table__
    asked = select(table).where(among(session, table.c.incident_id, incidents)).order_by(table.c.ordinal)
    links: dict[uuid.UUID, list[dict[str, Any]]] = {}
    for row in session.execute(asked).mappings():
        links.setdefault(row["incident_id"], []).append(dict(row))
    return links


def operation_evidence(
    operation_id: uuid.UUID, fingerprint: bytes, officer_id: int, received_at: dt.datetime
) -> list[Any]:
    """What the chain keeps of an operation's arrival; its outcome and version follow behind."""
    instant = received_at.astimezone(dt.UTC).isoformat(timespec="microseconds")
    return ["operation", str(operation_id), fingerprint.hex(), officer_id, instant]


def decision_evidence(kind: str, row: Mapping[str, Any], *key: Any) -> list[Any]:
    """What the chain keeps of what a person decided (`decision` on an operation, `review` of a record, `loss` of
    counters): its key and its digest."""
    return [kind, *map(str, key), digest_of(row)]


def release_evidence(operation_id: uuid.UUID, outcome: str, version: int | None) -> list[Any]:
    """What the chain keeps of an operation that was held, when it is no more."""
    return ["release", str(operation_id), outcome, version]


def start(session: Session) -> None:
    """The journal has a head: made once, when the database is new, with an epoch of its own."""
    if session.scalar(select(Head.id)) is None:
        head = {"id": 1, "number": 0, "hash": GENESIS, "epoch": uuid.uuid4(), "reference_version": uuid.uuid4()}
        session.execute(insert(Head).values(head))


def hold_counter(session: Session) -> int:
    """The number of the last link. From here to the commit no other transaction commits a change; all that were
    committed can be seen.

    Only for what has to be asked last; the shorter the way to `record` and the commit, the better.
    """
    return session.execute(select(Head.number).where(Head.id == 1).with_for_update()).scalar_one()


def record(session: Session, changes: Sequence[Change], *, now: dt.datetime, evidence: Sequence[Any] = ()) -> int:
    """The number of this transaction's link. To be called once, last; what follows it is only the commit.

    `evidence` are entries that concern no entity of the feed, such as an operation that waits for a person.
    """
    entries = [*evidence, *(change.evidence for change in changes)]
    link_key = uuid.uuid4()
    _move_feed(session, changes, link_key)
    return _append_link(session, entries, link_key, now)


def _move_feed(session: Session, changes: Sequence[Change], link_key: uuid.UUID) -> None:
    latest = {(change.kind, change.entity): change for change in changes}
    rows = [(_feed_row(change, link_key), change.new) for change in latest.values()]
    insert_rows(session, FeedEntry, [row for row, new in rows if new])
    upsert_rows(session, FeedEntry, [row for row, new in rows if not new])


def _feed_row(change: Change, link_key: uuid.UUID) -> dict[str, Any]:
    return {"kind": change.kind, "entity": change.entity, "link_key": link_key, "gone": change.gone}


def _append_link(session: Session, entries: list[Any], link_key: uuid.UUID, now: dt.datetime) -> int:
    packed = zlib.compress(canonical(entries), 1)
    counted = update(Head).where(Head.id == 1).values(number=Head.number + 1).returning(Head.number, Head.hash)
    number, previous = session.execute(counted).one()
    digest = link_hash(previous, number, now, entries)
    session.execute(insert(Link).values(number=number, key=link_key, at=now, hash=digest, entries=packed))
    session.execute(update(Head).where(Head.id == 1).values(hash=digest))
    return int(number)


def link_hash(previous: bytes, number: int, at: dt.datetime, entries: Sequence[Any]) -> bytes:
    """The hash of a link that follows `previous`."""
    return hashlib.sha256(previous + canonical([number, at, list(entries)])).digest()


def entries_of(link: Link) -> list[Any]:
    """What a link swears to, as it was recorded. Raises zlib.error or ValueError if its bytes were tampered with."""
    return list(orjson.loads(zlib.decompress(link.entries)))
