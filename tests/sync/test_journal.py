"""Every change ends in the journal: one row of the feed per entity, one link, and a counter without gaps."""

from __future__ import annotations

import datetime as dt
import hashlib
import threading
import uuid

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from sync import journal
from sync.evidence import Break, head, verify
from sync.journal import GENESIS, Change, canonical, digest_of, entries_of, link_hash
from sync.models import FeedEntry, Head, Link, begin_write

WRITERS, CHANGES_EACH = 6, 15


def change(entity: str, *, new: bool = True, kind: str = "thing", gone: bool = False) -> Change:
    return Change(kind, entity, [kind, entity, "…"], new=new, gone=gone)


def recorded(session: Session, *changes: Change, now: dt.datetime) -> int:
    session.rollback()
    begin_write(session)
    number = journal.record(session, changes, now=now)
    session.commit()
    return number


def feed(session: Session) -> dict[str, int]:
    """The number under which each entity last changed."""
    rows = session.execute(select(FeedEntry.entity, Link.number).join(Link, Link.key == FeedEntry.link_key))
    return dict(rows.all())


def test_a_change_moves_its_entity_to_the_end_and_leaves_the_others(session: Session, now: dt.datetime) -> None:
    assert recorded(session, change("a"), change("b"), now=now) == 1
    assert recorded(session, change("c"), now=now) == 2
    assert recorded(session, change("a", new=False), now=now) == 3
    assert feed(session) == {"a": 3, "b": 1, "c": 2}


def test_an_entity_that_changes_twice_in_one_transaction_is_in_the_feed_once(
    session: Session, now: dt.datetime
) -> None:
    recorded(session, change("a"), change("a", gone=True), now=now)
    row = session.scalars(select(FeedEntry)).one()
    assert row.gone is True
    assert len(entries_of(session.get_one(Link, 1))) == 2


def test_what_is_said_to_be_old_and_is_not_is_in_the_feed_all_the_same(session: Session, now: dt.datetime) -> None:
    recorded(session, change("a", new=False), now=now)
    assert feed(session) == {"a": 1}


def test_links_follow_from_each_other(session: Session, now: dt.datetime) -> None:
    for entity in "abc":
        recorded(session, change(entity), now=now)
    previous = GENESIS
    for link in session.scalars(select(Link).order_by(Link.number)):
        content = canonical([link.number, now, [["thing", "abc"[link.number - 1], "…"]]])
        assert bytes(link.hash) == hashlib.sha256(previous + content).digest()
        previous = bytes(link.hash)
    assert head(session).hash == previous


def test_a_transaction_that_is_rolled_back_leaves_no_gap(session: Session, now: dt.datetime) -> None:
    recorded(session, change("a"), now=now)
    begin_write(session)
    assert journal.record(session, [change("b")], now=now) == 2
    session.rollback()
    assert recorded(session, change("c"), now=now) == 2
    assert list(verify(session)) == [(1, 2), (2, 2)]


def test_evidence_may_concern_nothing_of_the_feed(session: Session, now: dt.datetime) -> None:
    begin_write(session)
    journal.record(session, [], now=now, evidence=[["remark", 1]])
    session.commit()
    assert entries_of(session.get_one(Link, 1)) == [["remark", 1]]
    assert feed(session) == {}


def test_starting_again_changes_nothing(session: Session, now: dt.datetime) -> None:
    recorded(session, change("a"), now=now)
    before = session.execute(select(Head.number, Head.hash, Head.epoch, Head.reference_version)).one()
    journal.start(session)
    assert session.execute(select(Head.number, Head.hash, Head.epoch, Head.reference_version)).one() == before


def test_writers_at_once_get_numbers_without_gaps_and_one_chain(engine: Engine, now: dt.datetime) -> None:
    """Readers that go by number never miss one: whoever sees a number sees all below it."""
    seen: list[tuple[int, int]] = []
    done = threading.Event()

    def write(writer: int) -> None:
        for index in range(CHANGES_EACH):
            with Session(engine) as session:
                recorded(session, change(f"{writer}-{index}"), change("shared", new=False), now=now)

    def read() -> None:
        while not done.is_set():
            with Session(engine) as session:
                counted = select(func.count(), func.max(Link.number)).select_from(Link)
                seen.append(tuple(session.execute(counted).one()))  # type: ignore[arg-type]

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()

    assert all(count == (highest or 0) for count, highest in seen)
    with Session(engine) as session:
        everything = WRITERS * CHANGES_EACH
        assert list(verify(session))[-1] == (everything, everything)
        assert len(feed(session)) == everything + 1
        assert feed(session)["shared"] == everything


# ---------------------------------------------------------------- the one way to write a value


def test_a_value_is_written_in_one_way_only(now: dt.datetime) -> None:
    assert canonical({"b": 1, "a": [1.5, None, True, "瓜沥"]}) == '{"a":[1.5,null,true,"瓜沥"],"b":1}'.encode()
    assert canonical(now) == b'"2026-11-23T08:15:00Z"'
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert digest_of(uuid.UUID(int=1)) == digest_of(str(uuid.UUID(int=1)))
    assert digest_of(1) != digest_of(1.0) != digest_of("1.0")


@pytest.mark.parametrize("index", range(4))
def test_a_hash_depends_on_everything_it_covers(now: dt.datetime, index: int) -> None:
    usual = (GENESIS, 1, now, [["a"]])
    other = (bytes([1] * 32), 2, now + dt.timedelta(microseconds=1), [["b"]])
    changed = [other[i] if i == index else usual[i] for i in range(4)]
    assert link_hash(*changed) != link_hash(*usual)  # type: ignore[arg-type]


def test_a_break_says_where(session: Session, now: dt.datetime) -> None:
    recorded(session, change("a"), now=now)
    session.get_one(Link, 1).hash = bytes(32)
    with pytest.raises(Break, match=r"^link 1: "):
        list(verify(session))
