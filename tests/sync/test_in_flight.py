"""Two phones at the same moment: what one brings and the other waits for finds each other, whoever commits first."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from sync import intake, photos, reference, wire
from sync.evidence import verify
from sync.journal import entries_of
from sync.models import AnnouncedPhoto, Incident, Link, Operation, SignedIn, Track, Upload, Vendor, begin_write
from tests.builders import make_lists, make_signed_in
from tests.sync.days import PHOTO_MAX_BYTES, YARDSTICK, batch, incident, operation, patrol

Doing = Callable[[Session], Any]

PHOTO: dict[str, Any] = {"sha256": "ab" * 32, "bytes": 3, "type": "image/jpeg"}


def receive(session: Session, who: SignedIn, envelope: dict[str, Any], now: dt.datetime) -> dict[str, Any]:
    """The receipt of a batch that is received but not committed yet."""
    begin_write(session)
    known = reference.snapshot(session)
    read = wire.read_envelope(orjson.dumps(envelope))
    return intake.receive(
        session, who, read, known.lists, known.areas, now=now, photo_max_bytes=PHOTO_MAX_BYTES, likeness=YARDSTICK
    )


def stretch(of: dict[str, Any]) -> dict[str, Any]:
    """A stretch of a patrol's way."""
    points = [[120.46, 30.18, 900_000, 5]]
    return operation("track.append", uuid.UUID(of["record"]), body={"crs": "wgs84", "points": points})


def at_once(engine: Engine, session: Session, first: Doing, second: Doing) -> None:
    """The second is done while what the first did is not committed yet."""

    def do_second() -> None:
        with Session(engine) as other:
            second(other)
            other.commit()

    first(session)
    thread = threading.Thread(target=do_second)
    thread.start()
    thread.join(0.5)
    session.commit()
    thread.join(10)
    assert not thread.is_alive()


def sending(who: SignedIn, envelope: dict[str, Any], now: dt.datetime) -> Doing:
    return lambda session: receive(session, who, envelope, now)


def arriving(who: SignedIn, now: dt.datetime) -> Doing:
    """The photo of this officer arrives."""

    def arrive(session: Session) -> None:
        begin_write(session)
        photos.arrive(session, who, PHOTO["sha256"], PHOTO["bytes"], now=now)

    return arrive


def test_two_phones_that_tell_of_one_vendor_in_flight_both_keep_their_records(
    engine: Engine, session: Session, now: dt.datetime, caplog: pytest.LogCaptureFixture
) -> None:
    make_lists(session)
    leader, partner = make_signed_in(session), make_signed_in(session, username="partner")
    session.commit()
    vendors = [{"id": str(uuid.uuid4()), "name": "测试摊主"} for _ in range(3)]
    out, other = patrol(), patrol()
    first = batch(leader, out, *(incident(out, vendor=vendor) for vendor in vendors[:2]))
    second = batch(partner, other, *(incident(other, vendor=vendor) for vendor in vendors[1:]))
    at_once(engine, session, sending(leader, first, now), sending(partner, second, now))

    assert list(session.scalars(select(Operation.outcome))) == ["applied"] * 6
    assert session.scalar(select(func.count()).select_from(Vendor)) == 3
    assert not caplog.records
    assert list(verify(session))


@pytest.mark.parametrize("first", ["patrol", "stretch"])
def test_what_waits_joins_once_when_two_phones_have_it_in_hand(
    engine: Engine, session: Session, now: dt.datetime, caplog: pytest.LogCaptureFixture, first: str
) -> None:
    """A stretch of the way waits for its patrol; that and the next stretch, from two phones, meet it in flight."""
    make_lists(session)
    leader, partner = make_signed_in(session), make_signed_in(session, username="partner")
    session.commit()
    out = patrol()
    one, other = stretch(out), stretch(out)
    receive(session, partner, batch(partner, one), now)
    session.commit()
    sendings = [sending(leader, batch(leader, out), now), sending(partner, batch(partner, other), now)]
    at_once(engine, session, *(sendings if first == "patrol" else reversed(sendings)))

    assert set(session.scalars(select(Operation.outcome))) == {"applied"}
    assert session.scalar(select(func.count()).select_from(Track)) == 2
    assert not caplog.records
    assert list(verify(session))


@pytest.mark.parametrize("first", ["patrol", "incident"])
def test_a_patrol_and_its_incident_from_two_phones_in_flight_join(
    engine: Engine, session: Session, now: dt.datetime, first: str
) -> None:
    make_lists(session)
    leader, partner = make_signed_in(session), make_signed_in(session, username="partner")
    session.commit()
    out = patrol()
    sendings = [sending(leader, batch(leader, out), now), sending(partner, batch(partner, incident(out)), now)]
    at_once(engine, session, *(sendings if first == "patrol" else reversed(sendings)))

    assert set(session.scalars(select(Operation.outcome))) == {"applied"}
    assert session.scalars(select(Incident.patrol)).one() == uuid.UUID(out["record"])


@pytest.mark.parametrize("first", ["record", "photo"])
def test_a_photo_and_its_record_in_flight_find_each_other(
    engine: Engine, session: Session, now: dt.datetime, first: str
) -> None:
    make_lists(session)
    make_signed_in(session, username="partner")
    officer = make_signed_in(session)
    session.commit()
    out = patrol()
    doings = [sending(officer, batch(officer, out, incident(out, photos=[PHOTO])), now), arriving(officer, now)]
    at_once(engine, session, *(doings if first == "record" else reversed(doings)))

    assert session.scalars(select(AnnouncedPhoto.received_at)).one() == now
    assert list(verify(session))


@pytest.mark.parametrize("by", ["the same officer", "another"])
def test_a_photo_that_is_sent_twice_at_the_same_moment_arrives_once_for_each_officer(
    engine: Engine, session: Session, now: dt.datetime, by: str
) -> None:
    make_lists(session)
    first = make_signed_in(session)
    second = first if by == "the same officer" else make_signed_in(session, username="partner")
    session.commit()
    at_once(engine, session, arriving(first, now), arriving(second, now + dt.timedelta(seconds=1)))

    sworn = [entry for link in session.scalars(select(Link)) for entry in entries_of(link)]
    officers = {first.account_id, second.account_id}
    assert sorted(entry[2] for entry in sworn if entry[0] == "arrival") == sorted(officers)
    assert [entry[1] for entry in sworn if entry[0] == "photo"] == [PHOTO["sha256"]]
    assert session.scalar(select(func.min(Upload.finished_at))) == now
    assert list(verify(session))
