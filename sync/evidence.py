"""Verifies the evidence: recomputes every link of the chain, every operation's fingerprint, every record's digest.

Whoever holds an earlier head (number and hash, see `head`) outside the database can also prove that no tail was cut off
and the chain rewritten from there. Memory stays constant: one link at a time.
"""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from sync import wire
from sync.journal import GENESIS, digest_of, entries_of, link_hash, operation_evidence, record_digest
from sync.models import (
    FeedEntry,
    Head,
    Incident,
    IncidentItem,
    Link,
    Operation,
    Patrol,
    Track,
    Vendor,
    VendorWarning,
)

#: What the chain swears to row by row, by the kind its entries carry; reference data is sworn to but not re-read here.
SWORN: Mapping[str, Any] = {
    "patrol": Patrol,
    "incident": Incident,
    "warning": VendorWarning,
    "track": Track,
    "vendor": Vendor,
}
#: Links read at once.
_PAGE = 100


class Break(Exception):
    """The first thing that is not as it was sworn to: in which link, and what."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"link {number}: {what}")
        self.number = number


@dataclass(frozen=True, slots=True)
class HeadOfChain:
    """The last link's number and hash: to be kept somewhere else, printed in a protocol, sent to a notary."""

    number: int
    hash: bytes


def head(session: Session) -> HeadOfChain:
    """The head as it stands."""
    row = session.execute(select(Head.number, Head.hash)).one()
    return HeadOfChain(row.number, bytes(row.hash))


def verify(session: Session, earlier: HeadOfChain | None = None) -> Iterator[tuple[int, int]]:
    """Recomputes everything; yields (links done, links in all) on the way. Raises Break at the first that differs.

    `earlier` is a head that was kept elsewhere: the chain must still contain it.
    """
    end = head(session)
    if earlier and earlier.number > end.number:
        raise Break(earlier.number, f"is gone: the chain ends at {end.number}")
    previous, number = GENESIS, 0
    for link in _links(session):
        number += 1
        if link.number != number:
            raise Break(number, "is missing")
        entries = _entries(link)
        if link_hash(previous, number, link.at, entries) != bytes(link.hash):
            raise Break(number, "its hash does not follow from the link before and its entries")
        if earlier and earlier.number == number and earlier.hash != bytes(link.hash):
            raise Break(number, "differs from the head that was kept: the chain was rewritten")
        _check_operations(session, link, entries)
        _check_states(session, link, entries)
        previous = bytes(link.hash)
        yield number, end.number
    if HeadOfChain(number, previous) != end:
        raise Break(number + 1, "is missing: the head tells of more links than there are")
    _check_strays(session, number)


def _links(session: Session) -> Iterator[Link]:
    statement = select(Link).order_by(Link.number).execution_options(yield_per=_PAGE)
    for link in session.scalars(statement):
        yield link
        session.expunge(link)


def _entries(link: Link) -> list[Any]:
    try:
        return entries_of(link)
    except (zlib.error, ValueError) as error:
        raise Break(link.number, "its entries can't be read") from error


def _check_operations(session: Session, link: Link, entries: Iterable[Any]) -> None:
    """Every operation sworn to is there, from the same officer, and its raw bytes still have their fingerprint."""
    sworn = {entry[1]: entry for entry in entries if entry[0] == "operation"}
    table = Operation.__table__.c
    columns = (table.id, table.raw, table.officer_id, table.received_at)
    found = {str(row.id): row for row in session.execute(select(*columns).where(table.id.in_(_uuids(sworn))))}
    for operation_id, entry in sworn.items():
        row = found.get(operation_id)
        if row is None:
            raise Break(link.number, f"operation {operation_id} is gone")
        now = operation_evidence(row.id, wire.fingerprint_of(bytes(row.raw)), row.officer_id, row.received_at)
        if now != entry[: len(now)]:
            raise Break(link.number, f"operation {operation_id} is not what was received")


def _check_states(session: Session, link: Link, entries: Iterable[Any]) -> None:
    """Every record that last changed in this link is still as it was then."""
    last_here = select(FeedEntry.kind, FeedEntry.entity).where(FeedEntry.link_key == link.key)
    current = {(kind, entity) for kind, entity in session.execute(last_here)}
    sworn = {(entry[0], entry[1]): entry[2:] for entry in entries if entry[0] in SWORN}
    for kind, entity in current:
        if kind in SWORN and (kind, entity) not in sworn:
            raise Break(link.number, f"{kind} {entity} is said to have changed here and did not")
    for kind in SWORN:
        ids = [entity for of, entity in sworn if of == kind and (kind, entity) in current]
        digests = dict(_digests(session, kind, ids)) if ids else {}
        for entity in ids:
            if digests.get(entity) != tuple(sworn[kind, entity]):
                what = "is gone" if entity not in digests else "is not what it was when it last changed"
                raise Break(link.number, f"{kind} {entity} {what}")


def _digests(session: Session, kind: str, ids: list[str]) -> Iterator[tuple[str, tuple[int, str]]]:
    """(id, (version, digest)) of the rows as they are now."""
    table = SWORN[kind].__table__
    rows = [dict(row) for row in session.execute(select(table).where(table.c.id.in_(_uuids(ids)))).mappings()]
    links = _item_links(session, ids) if kind == "incident" else {}
    for row in rows:
        recorded = "version" in row
        digest = record_digest(row, links.get(row["id"], [])) if recorded else digest_of(row)
        yield str(row["id"]), (row["version"] if recorded else 1, digest)


def _item_links(session: Session, ids: list[str]) -> dict[Any, list[dict[str, Any]]]:
    table = IncidentItem.__table__
    statement = select(table).where(table.c.incident_id.in_(_uuids(ids))).order_by(table.c.ordinal)
    links: dict[Any, list[dict[str, Any]]] = {}
    for row in session.execute(statement).mappings():
        links.setdefault(row["incident_id"], []).append(dict(row))
    return links


def _check_strays(session: Session, number: int) -> None:
    """No record, and no row of the feed, stands outside the chain."""
    for kind, model in SWORN.items():
        rows = session.scalar(select(func.count()).select_from(model)) or 0
        fed = select(func.count()).select_from(FeedEntry).join(Link, Link.key == FeedEntry.link_key)
        told = session.scalar(fed.where(FeedEntry.kind == kind)) or 0
        if rows != told:
            raise Break(number, f"there are {rows} rows of {kind}, the chain tells of {told}")


def _uuids(texts: Iterable[str]) -> list[uuid.UUID]:
    return [uuid.UUID(text) for text in texts]
