"""Sixteen phones write and others read all the while, page by page: in the end every reader holds what the server has.

The same is tried with two cursors that look as good and are not: over a serial number, and over the time of the last
change. Both are drawn when a change is made, and who draws first may commit last. They must miss something: else this
test would not notice if ours did.
"""

from __future__ import annotations

import datetime as dt
import itertools
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from sync import intake, photos, reference, wire
from sync.models import FeedEntry, Incident, Patrol, SignedIn, VendorWarning, begin_read, begin_write
from tests.builders import GUALI, YINONG, make_lists, make_signed_in
from tests.sync.days import IN_GUALI, PHOTO_MAX_BYTES, YARDSTICK, amend, batch, incident, patrol, void, warning
from tests.sync.pulling import Puller

WRITERS, ROUNDS = 16, 4
#: A writer draws its number and commits so much later at most, s.
LONGEST_PAUSE_S = 0.03
#: Pages of a reader have at most so many changes.
LARGEST_PAGE = 40
NOW = dt.datetime(2026, 11, 23, 8, 15, tzinfo=dt.UTC)


# ---------------------------------------------------------------- writing

#: Beside the feed, what a table would have that readers follow by a serial or by a time.
NAIVE = """
    CREATE TABLE naive_feed (kind VARCHAR(20), entity VARCHAR(80), serial BIGINT, updated_at BIGINT, number BIGINT,
                             version BIGINT, PRIMARY KEY (kind, entity))
"""
MOVED = text("""
    INSERT INTO naive_feed (kind, entity, serial, updated_at, number, version)
    VALUES (:kind, :entity, :serial, :updated_at, :number, 1)
    ON CONFLICT (kind, entity) DO UPDATE SET serial = excluded.serial, updated_at = excluded.updated_at,
    number = excluded.number, version = naive_feed.version + 1
""")
CHANGED = text("""
    SELECT f.kind, f.entity, h.number FROM feed f JOIN links l ON l.key = f.link_key JOIN head h ON h.number = l.number
""")
_serial = itertools.count(1)


@contextmanager
def changing(engine: Engine, chance: random.Random) -> Iterator[Session]:
    """A writing transaction. It draws its serial and its time as it begins, and both are for what it changes."""
    with Session(engine) as session:
        if engine.dialect.name == "postgresql":
            begin_write(session)
        serial, updated_at = 1_000 * next(_serial), time.time_ns() // 1_000_000
        time.sleep(chance.uniform(0, LONGEST_PAUSE_S))
        if engine.dialect.name == "sqlite":
            _begin_when_free(session)  # not before: on SQLite, who has begun is alone
        yield session
        moved = session.execute(CHANGED).all()
        rows = [
            {
                "kind": kind,
                "entity": entity,
                "serial": serial + n,
                "updated_at": updated_at,
                "number": 1_000 * number + n,
            }
            for n, (kind, entity, number) in enumerate(moved)
        ]
        if rows:
            session.execute(MOVED, rows)
        session.commit()


def _begin_when_free(session: Session) -> None:
    """SQLite serves who waits in no order: who is told that it is busy comes again, as phones do."""
    for _ in range(10):
        try:
            return begin_write(session)
        except OperationalError:
            session.rollback()
    raise AssertionError("the database was busy all the while")


def write(engine: Engine, who: SignedIn, seed: int) -> None:
    """A day of one phone: patrols, incidents and warnings, photos, amends, what comes too early, what is voided."""
    chance = random.Random(seed)
    warned: list[tuple[dict[str, Any], int]] = []

    def push(*operations: Any) -> None:
        with changing(engine, chance) as session:
            known = reference.snapshot(session)
            read = wire.read_envelope(orjson.dumps(batch(who, *operations)))
            intake.receive(
                session,
                who,
                read,
                known.lists,
                known.areas,
                now=NOW,
                photo_max_bytes=PHOTO_MAX_BYTES,
                likeness=YARDSTICK,
            )

    for number in range(ROUNDS):
        sha256 = f"{seed:032x}{number:032x}"
        out = patrol(officers=[who.username, f"writer-{chance.randrange(WRITERS)}"])
        vendor = {"id": str(uuid.uuid4()), "name": "测试摊主", "phone": f"138{seed % 10_000:04}{number:04}"}
        place = IN_GUALI | {"lat": 30.142 + 0.005 * (seed % WRITERS), "lon": 120.43 + 0.01 * number}  # each its own
        seen = incident(out, vendor=vendor, fix=place, photos=[{"sha256": sha256, "bytes": 3, "type": "image/jpeg"}])
        told = warning(seen, vendor=vendor["id"], township=GUALI)
        push(seen, told)  # they wait
        push(out)
        with changing(engine, chance) as session:
            photos.arrive(session, who, sha256, 3, now=NOW)
        warned.append((told, 1))
        late, version = warned.pop(chance.randrange(len(warned)))
        if chance.random() < 0.3:
            push(void(late), amend(out, 1, officers=[who.username, f"writer-{chance.randrange(WRITERS)}"]))
        else:
            push(amend(late, version, township=chance.choice([GUALI, YINONG]), text=f"第{number}次"))
            warned.append((late, version + 1))


# ---------------------------------------------------------------- reading


class Reader(Protocol):
    """Reads a page; what it has come to hold."""

    holds: dict[tuple[str, str], Any]

    def turn(self, session: Session, *, limit: int) -> Any: ...


@dataclass
class Naive:
    """Follows a column of the naive feed, as anybody would: what is larger than the last one seen is new."""

    column: str
    cursor: int = 0
    holds: dict[tuple[str, str], Any] = field(default_factory=dict)

    def turn(self, session: Session, *, limit: int) -> bool:
        """Whether there was anything new."""
        begin_read(session)
        newer = f"SELECT kind, entity, version, {self.column} FROM naive_feed WHERE {self.column} > :cursor "
        order = f"ORDER BY {self.column}, kind, entity LIMIT :limit"
        rows = session.execute(text(newer + order), {"cursor": self.cursor, "limit": limit}).all()
        session.rollback()
        for kind, entity, version, at in rows:
            self.holds[kind, entity] = version
            self.cursor = at
        return bool(rows)


def read(engine: Engine, reader: Reader, seed: int, done: threading.Event) -> None:
    """Page after page of random size while others write, and to the end when they have finished."""
    chance = random.Random(seed)
    with Session(engine) as session:
        while True:
            finished = done.is_set()
            anything = reader.turn(session, limit=chance.randint(1, LARGEST_PAGE))
            more = anything if isinstance(anything, bool) else anything.more
            if finished and not more:
                return
            if not more:
                done.wait(0.01)


@pytest.fixture
def people(session: Session) -> Iterator[list[SignedIn]]:
    """The writers; a naive feed is kept while they write."""
    make_lists(session)
    writers = [make_signed_in(session, username=f"writer-{number}") for number in range(WRITERS)]
    session.execute(text(NAIVE))
    session.commit()
    yield writers
    session.rollback()
    session.execute(text("DROP TABLE naive_feed"))
    session.commit()


def race(engine: Engine, writers: list[SignedIn], readers: Sequence[Reader]) -> None:
    """All at once, until nobody writes any more and every reader has read to the end."""
    done = threading.Event()
    with ThreadPoolExecutor(WRITERS + len(readers)) as pool:
        reading = [pool.submit(read, engine, reader, seed, done) for seed, reader in enumerate(readers)]
        writing = [pool.submit(write, engine, who, seed) for seed, who in enumerate(writers)]
        try:
            for each in writing:
                each.result()
        finally:
            done.set()
        for each in reading:
            each.result()


def test_every_reader_ends_with_what_the_server_has(engine: Engine, session: Session, people: list[SignedIn]) -> None:
    there = make_signed_in(session, username="there", townships=[YINONG])
    chief = make_signed_in(session, username="chief", role="supervisor", townships=[GUALI, YINONG])
    session.commit()
    readers = [Puller(who) for who in (*people[:2], there, chief)]
    race(engine, people, readers)
    for reader in readers:
        fresh = Puller(reader.who)
        fresh.pull(session)
        assert reader.holds == fresh.holds
        assert {key: data["version"] for key, data in fresh.holds.items() if "version" in data} == versions(
            session, reader.who
        )
        assert len(fresh.ids("photo")) == (ROUNDS if reader.who in people else 0)


def versions(session: Session, who: SignedIn) -> dict[tuple[str, str], int]:
    """What the tables themselves say this account's phone should hold, but for lists, vendors and photos."""
    session.rollback()
    own: list[tuple[str, Any, Callable[[Any], bool]]] = [
        ("patrol", Patrol, lambda row: who.username in row.officers),
        ("incident", Incident, lambda row: row.officer_id == who.account_id),
        (
            "warning",
            VendorWarning,
            lambda row: row.officer_id == who.account_id or (row.township_code in who.townships and not row.voided_at),
        ),
    ]
    found = {
        (k, str(row.id)): row.version for k, model, is_ in own for row in session.scalars(select(model)) if is_(row)
    }
    released = select(FeedEntry.entity).where(FeedEntry.kind == "operation")
    mine = set(session.scalars(text("SELECT id FROM operations WHERE officer_id = :me").bindparams(me=who.account_id)))
    mine_ids = {str(uuid.UUID(str(each))) for each in mine}
    return found | {("operation", each): 1 for each in session.scalars(released) if each in mine_ids}


def test_a_cursor_over_a_serial_or_a_time_misses_something(
    engine: Engine, session: Session, people: list[SignedIn]
) -> None:
    """And the same reader misses nothing over the number that is given last."""
    readers = [Naive(column) for column in ("serial", "updated_at", "number") for _ in range(2)]
    race(engine, people, readers)
    rows = session.execute(text("SELECT kind, entity, version FROM naive_feed"))
    truth = {(kind, entity): version for kind, entity, version in rows}
    assert len(truth) > WRITERS * ROUNDS
    for reader in readers:
        missed = truth.items() - reader.holds.items()
        assert bool(missed) == (reader.column != "number"), f"{reader.column}: {len(missed)} of {len(truth)} missed"
