"""The evidence verifies after a rich day, and whatever is changed behind the engine's back is named."""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, delete, func, insert, select, update
from sqlalchemy.orm import Session

from migrations import upgrade
from sync import journal, photos
from sync.evidence import Break, HeadOfChain, head, verify
from sync.journal import entries_of, link_hash
from sync.models import (
    Account,
    FeedEntry,
    Head,
    Incident,
    IncidentItem,
    Link,
    Operation,
    Patrol,
    Photo,
    PhotoFacts,
    SignedIn,
    Track,
    Vendor,
    VendorWarning,
    begin_write,
)
from sync.store import Folder
from tests.builders import YINONG, make_account, make_installation, make_lists, make_signed_in
from tests.conftest import opened
from tests.sync.days import amend, batch, incident, operation, outcomes, patrol, push, refusing, void, warning

PICTURE = b"the bytes of a picture"
DIGEST = hashlib.sha256(PICTURE).hexdigest()
PHOTO = {"sha256": DIGEST, "bytes": len(PICTURE), "type": "image/jpeg", "role": "before"}
NOW = dt.datetime(2026, 11, 23, 8, 15, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


@dataclass
class Day:
    """What was sent, for tests to find it again."""

    patrol: dict[str, Any]
    incident: dict[str, Any]
    amended: dict[str, Any]
    warning: dict[str, Any]
    late: dict[str, Any]
    track: dict[str, Any]
    vendor: uuid.UUID
    heads: list[HeadOfChain]

    @staticmethod
    def id(sent: dict[str, Any]) -> uuid.UUID:
        return uuid.UUID(sent["record"])


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Day]]:
    """A database with a rich day in it, made once; tests change it in transactions that they never commit."""
    folder = tmp_path_factory.mktemp("evidence")
    url = f"sqlite:///{folder / 'field.sqlite'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql").create_database(request.getfixturevalue("template"))
    else:
        upgrade(url)
    with opened(url) as engine, Session(engine) as session:
        begin_write(session)
        journal.start(session)
        make_lists(session)
        make_account(session, username="partner")
        officer, other = make_signed_in(session), make_signed_in(session, username="other")
        session.commit()
        yield engine, play(session, officer, other, folder)


@pytest.fixture
def session(stored: tuple[Engine, Day]) -> Iterator[Session]:
    """In a transaction that may write and is rolled back at the end."""
    with Session(stored[0]) as session:
        begin_write(session)
        yield session


@pytest.fixture
def day(stored: tuple[Engine, Day]) -> Day:
    return stored[1]


def play(session: Session, officer: SignedIn, other: SignedIn, folder: Path) -> Day:
    """Two phones and everything that may happen to an operation, in a dozen links."""
    now, heads = NOW, []

    def send(who: SignedIn, *operations: Any, expected: list[str]) -> None:
        nonlocal now
        now += MINUTE
        assert outcomes(push(session, who, batch(who, *operations), now)) == expected
        heads.append(head(session))

    vendor = {"id": str(uuid.uuid4()), "name": "测试摊主", "phone": "10000000001"}
    out, unsent = patrol(), patrol()
    seen = incident(out, vendor=vendor, photos=[PHOTO])
    amended, told = incident(out, items=[]), warning(seen, vendor=vendor["id"], deadline_on="2026-11-30")
    late = incident(unsent, fix={"lon": 120, "lat": 30, "crs": "wgs84"})
    points = [[120.46, 30.18, 900_000, 5], [120, 30, None, None]]
    track = operation("track.append", uuid.UUID(out["record"]), body={"crs": "wgs84", "points": points})
    send(officer, out, seen, amended, told, track, expected=["applied"] * 5)
    send(officer, late, warning(late), expected=["held", "held"])
    send(officer, amend(amended, 1, description="甲", items=["DEMO-SR-001"]), expected=["applied"])
    account = session.get_one(Account, officer.account_id)
    second = replace(officer, install_id=make_installation(session, account).id)
    session.commit()
    send(second, amend(amended, 1, description="乙"), amend(amended, 1, measures=[]), expected=["conflict", "applied"])
    begin = {"wall": "2026-11-23T07:00:00+08:00"}
    send(officer, amend(out, 1, started=begin, ended=None), expected=["applied"])
    send(other, amend(seen, 1, description="x"), incident(out, township=YINONG), expected=["quarantined", "applied"])
    stray = operation("incident.create", base=2**64 - 1)
    send(officer, stray, incident(out, items=["NOPE"]), 5, late | {"n": 99}, expected=["quarantined"] * 4)
    unreadable = orjson.dumps(batch(officer, patrol() | {"app": "#"})).replace(b'"#"', b"1e999")
    assert outcomes(push(session, officer, unreadable, now)) == ["quarantined"]
    with refusing(session, "毒"):
        send(officer, incident(out), incident(out, description="毒"), expected=["applied", "quarantined"])
    keep_photo(session, officer, folder, now)
    send(officer, unsent, expected=["applied"])
    send(officer, void(late), expected=["applied"])
    return Day(out, seen, amended, told, late, track, uuid.UUID(vendor["id"]), heads)


def keep_photo(session: Session, who: SignedIn, folder: Path, now: dt.datetime) -> None:
    size = photos.receive(Folder(folder), DIGEST, [PICTURE])
    session.rollback()
    begin_write(session)
    photos.arrive(session, who, DIGEST, size, now=now)
    session.commit()


def verified(session: Session, earlier: HeadOfChain | None = None) -> list[tuple[int, int]]:
    session.flush()
    session.expunge_all()
    return list(verify(session, earlier))


# ---------------------------------------------------------------- what holds


def test_a_rich_day_verifies_with_progress(session: Session, day: Day) -> None:
    links = session.scalar(select(func.count()).select_from(Link)) or 0
    assert verified(session) == [(done, links) for done in range(1, links + 1)]
    assert set(session.scalars(select(Operation.outcome))) == {"applied", "conflict", "quarantined"}


def test_every_head_that_was_ever_told_is_still_in_the_chain(session: Session, day: Day) -> None:
    for earlier in day.heads:
        assert verified(session, earlier)


def test_no_more_than_a_page_of_links_is_held_at_once(session: Session, day: Day) -> None:
    """Memory stays constant, and each link is told of before the next is looked at."""
    seen = []
    for done, _ in verify(session):
        seen.append(done)
        assert sum(isinstance(thing, Link) for thing in session.identity_map.values()) <= 101
    assert seen == sorted(seen)


# ---------------------------------------------------------------- what was tampered with

Where = Callable[["Day"], Any]
Tamper = Callable[[Session, Day], Any]


def _the(model: Any, name: str) -> Where:
    """The record that the day calls by this name."""
    return lambda day: model.id == uuid.UUID(getattr(day, name)["record"])


def _op(name: str) -> Where:
    return lambda day: Operation.id == uuid.UUID(getattr(day, name)["op"])


def _is(condition: Any) -> Where:
    return lambda _: condition


def _set(model: Any, where: Where, **values: Any) -> Tamper:
    return lambda session, day: session.execute(update(model.__table__).where(where(day)).values(**values))


def _delete(model: Any, where: Where) -> Tamper:
    return lambda session, day: session.execute(delete(model.__table__).where(where(day)))


def _forget_photo(session: Session, day: Day) -> None:
    session.execute(delete(PhotoFacts))
    _delete(Photo, PICTURE_HERE)(session, day)


def _copy(model: Any, where: Where, **other: Any) -> Tamper:
    """One more row like that one."""

    def copy(session: Session, day: Day) -> None:
        table = model.__table__
        row = dict(session.execute(select(table).where(where(day))).mappings().one())
        session.execute(insert(table).values(row | other))

    return copy


def _officer_of(session: Session, day: Day) -> None:
    stranger = make_account(session, username="stranger")
    session.execute(
        update(Operation).where(Operation.id == uuid.UUID(day.incident["op"])).values(officer_id=stranger.id)
    )


def _raw(session: Session, day: Day) -> None:
    forged = day.incident | {"body": day.incident["body"] | {"description": "从未发生"}}
    raw = orjson.dumps(forged)
    session.execute(update(Operation).where(OP(day)).values(raw=raw))


def _entries(session: Session, day: Day) -> None:
    link = session.get_one(Link, 2)
    entries = entries_of(link)
    entries[0][3] += 1
    session.execute(update(Link).where(Link.number == 2).values(entries=zlib.compress(orjson.dumps(entries))))


def _cut_tail(session: Session, day: Day) -> None:
    """The last link and what it swore to are gone, and the head is set back."""
    last = session.scalars(select(Link).order_by(Link.number.desc())).first()
    assert last is not None
    before = session.get_one(Link, last.number - 1)
    session.execute(update(Head).values(number=before.number, hash=before.hash))
    session.execute(delete(Link).where(Link.number == last.number))


def _rewrite(session: Session, day: Day) -> None:
    """One operation is gone from the seventh link, and every hash from there is computed anew, the head's too."""
    previous = session.get_one(Link, 6).hash
    for link in session.scalars(select(Link).where(Link.number >= 7).order_by(Link.number)).all():
        entries = entries_of(link)
        if link.number == 7:
            session.execute(delete(Operation).where(Operation.id == uuid.UUID(entries.pop()[1])))
        link.entries = zlib.compress(orjson.dumps(entries))
        link.hash = previous = link_hash(previous, link.number, link.at, entries)
    session.execute(update(Head).values(hash=previous))


def _feed_to_the_end(session: Session, day: Day) -> None:
    """The incident is said to have changed last in the last link."""
    last = session.scalar(select(Link.key).order_by(Link.number.desc()).limit(1))
    feed = update(FeedEntry).where(FeedEntry.entity == day.incident["record"])
    session.execute(feed.values(link_key=last))


def _roll_back(session: Session, day: Day) -> None:
    """The void is undone: the incident is as it was before, and the feed says that it changed last back then."""
    late = session.get_one(Incident, day.id(day.late))
    late.voided_at, late.void_reason, late.version = None, None, 1
    earlier = session.scalar(select(Link.key).order_by(Link.number.desc()).offset(1).limit(1))
    session.execute(update(FeedEntry).where(FeedEntry.entity == str(late.id)).values(link_key=earlier))


def _point(session: Session, day: Day) -> None:
    track = session.scalars(select(Track)).one()
    track.points = [[120.47, *track.points[0][1:]], *track.points[1:]]


SEEN, LATE = _the(Incident, "incident"), _the(Incident, "late")
TOLD = _the(VendorWarning, "warning")
OP = _op("incident")
PICTURE_HERE, THIRD = _is(Photo.sha256 == DIGEST), _is(Link.number == 3)
LONG_AGO = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
NEW = uuid.uuid4()


def _item_of(day: Day) -> Any:
    return IncidentItem.incident_id == day.id(day.incident)


def _vendor(day: Day) -> Any:
    return Vendor.id == day.vendor


def _fed(day: Day) -> Any:
    return FeedEntry.entity == day.incident["record"]


INCIDENT = r"incident [0-9a-f-]{36} is not what it was when it last changed"
OPERATION = r"operation [0-9a-f-]{36} is not what was received"
OUTCOME = r"operation [0-9a-f-]{36} did not become what was told"
HASH = "its hash does not follow from the link before"

#: what, how, in which link it is found, and what is said
TAMPERED: list[tuple[str, Tamper, int, str]] = [
    ("a text", _set(Incident, SEEN, description="从未发生"), 1, INCIDENT),
    ("a township", _set(Incident, SEEN, township_code=YINONG), 1, INCIDENT),
    ("a position", _set(Incident, SEEN, lon=120.4600001), 1, INCIDENT),
    ("a note", _set(Incident, SEEN, note_codes=["no-fix"]), 1, INCIDENT),
    ("a photo's digest", _set(Incident, SEEN, photos=[]), 1, INCIDENT),
    ("a void undone", _set(Incident, LATE, voided_at=None), 12, INCIDENT),
    ("an item's link", _set(IncidentItem, _item_of, delegation_id=None), 1, INCIDENT),
    ("an item's link gone", _delete(IncidentItem, _item_of), 1, INCIDENT),
    ("a patrol's officers", _set(Patrol, _the(Patrol, "patrol"), officers=["officer"]), 5, "patrol .* is not what"),
    ("a deadline", _set(VendorWarning, TOLD, deadline_on=None), 1, "warning .* is not what"),
    ("a track's point", _point, 1, "track .* is not what"),
    ("a vendor's phone", _set(Vendor, _vendor, phone="1"), 1, "vendor .* is not what"),
    ("a record gone", _delete(VendorWarning, TOLD), 1, "warning .* is gone"),
    ("a record added", _copy(VendorWarning, TOLD, id=NEW), 12, "3 rows of warning, the chain tells of 2"),
    ("an incident added", _copy(Incident, SEEN, id=NEW), 12, "rows of incident"),
    ("an operation's officer", _officer_of, 1, OPERATION),
    ("an operation's bytes", _raw, 1, OPERATION),
    ("an operation's time", _set(Operation, OP, received_at=LONG_AGO), 1, OPERATION),
    ("an operation's record", _set(Operation, OP, record_id=NEW), 1, OPERATION),
    ("an operation's kind", _set(Operation, OP, kind="incident.void"), 1, OPERATION),
    ("an operation's counter", _set(Operation, OP, n=7_000), 1, OPERATION),
    ("an operation's fingerprint", _set(Operation, OP, fingerprint=bytes(32)), 1, OPERATION),
    ("an operation gone", _delete(Operation, OP), 1, "operation .* is gone"),
    ("an operation added", _copy(Operation, OP, id=NEW), 12, "operations that are applied"),
    ("an outcome", _set(Operation, OP, outcome="quarantined"), 1, OUTCOME),
    ("an outcome taken back", _set(Operation, _op("late"), outcome="held"), 11, OUTCOME),
    ("a version", _set(Operation, OP, version=2), 1, OUTCOME),
    ("a conflict hidden", _set(Operation, _is(Operation.outcome == "conflict"), outcome="applied"), 4, OUTCOME),
    ("a photo gone", _forget_photo, 10, f"photo {DIGEST} is gone"),
    ("a photo's size", _set(Photo, PICTURE_HERE, size_bytes=1), 10, f"photo {DIGEST} is not what"),
    ("a photo added", _copy(Photo, PICTURE_HERE, sha256="0" * 64), 12, "2 rows of photo, the chain tells of 1"),
    ("a link's entries", _entries, 2, HASH),
    ("a link's entries spoilt", _set(Link, THIRD, entries=b"x"), 3, "its entries can't be read"),
    ("a link's hash", _set(Link, THIRD, hash=bytes(32)), 3, HASH),
    ("a link's time", _set(Link, THIRD, at=LONG_AGO), 3, HASH),
    ("a link gone", _delete(Link, THIRD), 3, "is missing"),
    ("the head's hash", _set(Head, _is(Head.id == 1), hash=bytes(32)), 13, "is missing: the head tells of more"),
    ("the feed's row moved", _feed_to_the_end, 12, "incident .* is said to have changed here and did not"),
    ("the feed's row gone", _delete(FeedEntry, _fed), 1, "incident .* is not in the feed"),
    ("a record and the feed rolled back", _roll_back, 12, "incident .* is said to have changed last before"),
]


@pytest.mark.parametrize(("name", "tamper", "number", "told"), TAMPERED, ids=[case[0] for case in TAMPERED])
def test_what_was_changed_is_named(
    session: Session, day: Day, name: str, tamper: Tamper, number: int, told: str
) -> None:
    tamper(session, day)
    with pytest.raises(Break, match=told) as found:
        verified(session)
    assert found.value.number == number


def test_a_cut_tail_is_found_by_what_it_leaves_behind(session: Session, day: Day) -> None:
    _cut_tail(session, day)
    with pytest.raises(Break):
        verified(session)


def test_a_tail_cut_without_a_trace_is_found_by_an_earlier_head(session: Session, day: Day) -> None:
    last = session.scalars(select(Link).order_by(Link.number.desc())).first()
    assert last is not None
    for entry in entries_of(last):
        if entry[0] == "operation":
            session.execute(delete(Operation).where(Operation.id == uuid.UUID(entry[1])))
    _roll_back(session, day)
    _cut_tail(session, day)
    assert verified(session), "nothing inside the database tells of it any more"
    with pytest.raises(Break, match="is gone: the chain ends at"):
        verified(session, day.heads[-1])
    assert verified(session, day.heads[-2])


def test_a_rewritten_chain_is_found_by_an_earlier_head(session: Session, day: Day) -> None:
    _rewrite(session, day)
    assert verified(session), "nothing inside the database tells of it any more"
    with pytest.raises(Break, match="the chain was rewritten"):
        verified(session, day.heads[-1])
