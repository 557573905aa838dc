"""Verifies the evidence: recomputes every link of the chain, every operation's fingerprint, every record's digest; and
that nothing stands beside it that the chain does not tell of.

Whoever holds an earlier head (number and hash, see `head`) outside the database can also prove that no tail was cut off
and the chain rewritten from there. Memory stays constant: one link at a time.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from sync import groups, wire
from sync.journal import (
    GENESIS,
    decision_evidence,
    digest_of,
    entries_of,
    item_links,
    link_hash,
    operation_evidence,
    record_digest,
)
from sync.models import (
    Decision,
    FeedEntry,
    Grouping,
    Head,
    Incident,
    Link,
    Loss,
    Operation,
    Patrol,
    Photo,
    ReviewEvent,
    Track,
    Vendor,
    VendorWarning,
    among,
)

#: What the chain swears to row by row, by the kind its entries carry; reference data is sworn to but not re-read here.
SWORN: Mapping[str, Any] = {
    "patrol": Patrol,
    "incident": Incident,
    "warning": VendorWarning,
    "track": Track,
    "vendor": Vendor,
    "photo": Photo,
}
#: What people decided, which never changes, by the kind its entries carry.
DECIDED: Mapping[str, Any] = {"decision": Decision, "review": ReviewEvent, "loss": Loss, "grouping": Grouping}
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
    previous, number, outcomes, decided = GENESIS, 0, Counter[str](), Counter[str]()
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
        _check_decisions(session, link, entries)
        _count(outcomes, entries)
        decided.update(entry[0] for entry in entries if entry[0] in DECIDED)
        previous = bytes(link.hash)
        yield number, end.number
    if HeadOfChain(number, previous) != end:
        raise Break(number + 1, "is missing: the head tells of more links than there are")
    _check_strays(session, number, decided)
    _check_outcomes(session, number, outcomes)


def _links(session: Session) -> Iterator[Link]:
    statement = select(Link).order_by(Link.number).execution_options(yield_per=_PAGE)
    with session.scalars(statement) as links:
        for link in links:
            yield link
            session.expunge(link)


def _entries(link: Link) -> list[Any]:
    try:
        return entries_of(link)
    except (zlib.error, ValueError) as error:
        raise Break(link.number, "its entries can't be read") from error


def _check_operations(session: Session, link: Link, entries: Iterable[Sequence[Any]]) -> None:
    """Every operation sworn to is there, from the same officer, its bytes have their fingerprint, and it became what
    the chain tells. What was held may have become something in a later link, which then tells of it."""
    told = [entry for entry in entries if entry[0] in ("operation", "release")]
    found = _operations(session, {entry[1] for entry in told})
    for entry in told:
        row, (outcome, version) = found.get(entry[1]), entry[-2:]
        if row is None:
            raise Break(link.number, f"operation {entry[1]} is gone")
        if entry[0] == "operation" and not _is_as_received(row, entry[:-2]):
            raise Break(link.number, f"operation {entry[1]} is not what was received")
        if outcome != "held" and (row.outcome, row.version) != (outcome, version):
            raise Break(link.number, f"operation {entry[1]} did not become what was told")


def _operations(session: Session, ids: Iterable[str]) -> dict[str, Any]:
    table = Operation.__table__.c
    names = "id op n kind record_id fingerprint raw officer_id received_at outcome version"
    wanted = select(*(table[name] for name in names.split())).where(among(session, table.id, _keys(table.id, ids)))
    return {str(row.id): row for row in session.execute(wanted)}


def _is_as_received(row: Any, arrival: Sequence[Any]) -> bool:
    """Whether the bytes are those that arrived then, from that officer, and the row is filed as they say."""
    said = wire.recognise_again(bytes(row.raw))
    filed = (row.op, row.n, row.kind, row.record_id, bytes(row.fingerprint))
    as_said = (said.op, said.n, said.kind, said.record, said.fingerprint)
    return filed == as_said and operation_evidence(row.id, said.fingerprint, row.officer_id, row.received_at) == arrival


def _check_states(session: Session, link: Link, entries: Iterable[Sequence[Any]]) -> None:
    """Every record that last changed in this link is still as it was then, and none that changed here is said to have
    last changed before: a record and its row of the feed set back together would else pass."""
    sworn = {(entry[0], entry[1]): tuple(entry[2:]) for entry in entries if entry[0] in SWORN}
    for kind, entity in session.execute(
        select(FeedEntry.kind, FeedEntry.entity).where(FeedEntry.link_key == link.key, FeedEntry.kind.in_(SWORN))
    ):
        if (kind, entity) not in sworn:
            raise Break(link.number, f"{kind} {entity} is said to have changed here and did not")
    last = _last_changes(session, sworn)
    for kind, entity in sworn:
        if (kind, entity) not in last:
            raise Break(link.number, f"{kind} {entity} is not in the feed")
        if last[kind, entity] < link.number:
            raise Break(link.number, f"{kind} {entity} is said to have changed last before")
    for kind in SWORN:
        ids = [entity for of, entity in sworn if of == kind and last[of, entity] == link.number]
        digests = dict(_digests(session, kind, ids)) if ids else {}
        for entity in ids:
            if digests.get(entity) != sworn[kind, entity]:
                what = "is gone" if entity not in digests else "is not what it was when it last changed"
                raise Break(link.number, f"{kind} {entity} {what}")


def _last_changes(session: Session, entities: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """The number of the link in which each last changed, as the feed says."""
    feed = select(FeedEntry.kind, FeedEntry.entity, Link.number).join(Link, Link.key == FeedEntry.link_key)
    rows = session.execute(feed.where(among(session, FeedEntry.entity, [entity for _, entity in entities])))
    return {(kind, entity): number for kind, entity, number in rows}


def _digests(session: Session, kind: str, ids: list[str]) -> Iterator[tuple[str, tuple[int, str]]]:
    """(id, (version, digest)) of the rows as they are now."""
    table = SWORN[kind].__table__
    (key,) = table.primary_key
    rows = [dict(row) for row in session.execute(select(table).where(among(session, key, _keys(key, ids)))).mappings()]
    links = item_links(session, [row["id"] for row in rows]) if kind == "incident" else {}
    for row in rows:
        recorded = "version" in row
        digest = record_digest(row, links.get(row["id"], [])) if recorded else digest_of(row)
        yield str(row[key.name]), (row["version"] if recorded else 1, digest)


def _check_decisions(session: Session, link: Link, entries: Iterable[Sequence[Any]]) -> None:
    """Every decision sworn to is there, by the same person, on the same, with the same words."""
    for kind, model in DECIDED.items():
        sworn = [entry for entry in entries if entry[0] == kind]
        if not sworn:
            continue
        key = list(model.__table__.primary_key)
        about = among(session, key[0], _keys(key[0], {entry[1] for entry in sworn}))
        rows = session.execute(select(model.__table__).where(about)).mappings()
        found = [decision_evidence(kind, dict(row), *(row[column.name] for column in key)) for row in rows]
        for entry in sworn:
            if entry not in found:
                raise Break(link.number, f"{kind} {entry[1]} is not what was decided")


def _keys(column: Any, texts: Iterable[str]) -> list[Any]:
    """The entities of a link, as that column holds them."""
    return [column.type.python_type(text) for text in texts]


def _check_strays(session: Session, number: int, decided: Counter[str]) -> None:
    """No record, no decision and no row of the feed stands outside the chain, and no record is hidden behind another
    but by what was said of them."""
    for record in sorted(groups.strays(session)):
        raise Break(number, f"what is kept of the group of {record} is not what was said")
    for kind, model in DECIDED.items():
        rows = session.scalar(select(func.count()).select_from(model)) or 0
        if rows != decided[kind]:
            raise Break(number, f"there are {rows} rows of {kind}, the chain tells of {decided[kind]}")
    for kind, model in SWORN.items():
        rows = session.scalar(select(func.count()).select_from(model)) or 0
        fed = select(func.count()).select_from(FeedEntry).join(Link, Link.key == FeedEntry.link_key)
        told = session.scalar(fed.where(FeedEntry.kind == kind)) or 0
        if rows != told:
            raise Break(number, f"there are {rows} rows of {kind}, the chain tells of {told}")


def _count(outcomes: Counter[str], entries: Iterable[Sequence[Any]]) -> None:
    """How many operations have become what, by the chain so far."""
    for entry in entries:
        if entry[0] in ("operation", "release"):
            outcomes[entry[-2]] += 1
            outcomes["held"] -= entry[0] == "release"


def _check_outcomes(session: Session, number: int, outcomes: Counter[str]) -> None:
    """No operation stands outside the chain, and none that is held joined unseen."""
    by_outcome = select(Operation.outcome, func.count()).group_by(Operation.outcome)
    rows = Counter(dict(session.execute(by_outcome).all()))
    for outcome in sorted(rows | outcomes):
        if rows[outcome] != outcomes[outcome]:
            told = f"the chain tells of {outcomes[outcome]}"
            raise Break(number, f"there are {rows[outcome]} operations that are {outcome}, {told}")
