"""What the store holds is compared with what the tables know, and only leftovers are cleared away."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Session

from sync import inventory, photos
from sync.evidence import verify
from sync.inventory import IN_FLIGHT, Finding
from sync.models import FeedEntry, SignedIn, Upload, UploadPart, begin_write
from sync.patrol_log import sees_photo
from sync.store import Folder, Store, derivative_key, part_key, photo_key
from tests.builders import make_account, make_signed_in, make_townships
from tests.counting import count_statements
from tests.sync.days import batch, patrol, push

#: What the store has written now is no longer in flight for somebody who looks then.
LATER = dt.datetime.now(dt.UTC) + IN_FLIGHT + dt.timedelta(hours=1)
SOON = dt.datetime.now(dt.UTC)
A_MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def officer(session: Session) -> SignedIn:
    begin_write(session)
    make_townships(session)
    who = make_signed_in(session)
    session.commit()
    return who


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """For what is the same in a bucket."""
    return Folder(tmp_path / "photos")


def sent(session: Session, store: Store, who: SignedIn, data: bytes, now: dt.datetime) -> str:
    """The SHA-256 of a photo that has arrived."""
    sha256 = hashlib.sha256(data).hexdigest()
    size = photos.receive(store, sha256, [data])
    session.rollback()
    begin_write(session)
    photos.arrive(session, who, sha256, size, now=now)
    session.commit()
    return sha256


def begun(
    session: Session, store: Store, who: SignedIn, parts: Sequence[bytes], *, expires_at: dt.datetime, **given: Any
) -> list[str]:
    """The keys of the parts of an upload that has begun."""
    session.rollback()
    name, keys, offset = uuid.uuid4().hex, [], 0
    row = {"officer_id": who.account_id, "name": name, "created_at": expires_at, "expires_at": expires_at}
    begin_write(session)
    session.execute(insert(Upload).values(row | {"offset_bytes": sum(map(len, parts))} | given))
    for part in parts:
        keys.append(uuid.uuid4().hex)
        keep(store, part_key(keys[-1]), part)
        session.execute(
            insert(UploadPart).values(
                officer_id=who.account_id, name=name, from_byte=offset, size_bytes=len(part), key=keys[-1]
            )
        )
        offset += len(part)
    session.commit()
    return keys


def keep(store: Store, key: str, data: bytes) -> None:
    with store.incoming() as file:
        file.write(data)
        store.keep(file, key)


def keys(store: Store) -> set[str]:
    return {stored.key for stored in store.everything()}


def found(session: Session, store: Store, now: dt.datetime) -> list[Finding]:
    """All that `flask check-store` finds at that time."""
    session.rollback()
    looked = [*inventory.check_photos(session, store), *inventory.check_bytes(session, store, now=now)]
    return [finding for page in looked for finding in page.found]


def forget_expired(session: Session, store: Store, now: dt.datetime) -> int:
    """How many uploads were removed, as `flask check-store` does it."""
    session.rollback()
    begin_write(session)
    forgotten = inventory.forget_expired(session, now=now)
    session.commit()
    for key in forgotten.parts:
        store.drop(part_key(key))
    return forgotten.uploads


# ---------------------------------------------------------------- photos


def test_a_store_in_order_has_nothing_to_tell(
    session: Session, either_store: Store, officer: SignedIn, now: dt.datetime
) -> None:
    for i in range(3):
        sha256 = sent(session, either_store, officer, bytes([i]), now)
        keep(either_store, derivative_key(sha256, "thumb"), b"small")
        keep(either_store, derivative_key(sha256, "screen"), b"larger")
    kept = keys(either_store)
    assert found(session, either_store, LATER) == []
    assert keys(either_store) == kept


def test_a_byte_that_was_flipped_on_the_disk_is_found(
    session: Session, officer: SignedIn, folder: Folder, tmp_path: Path, now: dt.datetime
) -> None:
    bad, *_ = [sent(session, folder, officer, data * 300_000, now) for data in (b"bad", b"good")]
    file = tmp_path / "photos" / photo_key(bad)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert found(session, folder, LATER) == [Finding("changed", photo_key(bad))]


def test_other_bytes_under_a_photos_key_are_found(
    session: Session, either_store: Store, officer: SignedIn, now: dt.datetime
) -> None:
    keep(either_store, photo_key(hashlib.sha256(b"good").hexdigest()), b"oops")
    sha256 = sent(session, either_store, officer, b"good", now)
    assert found(session, either_store, LATER) == [Finding("changed", photo_key(sha256))]


def test_a_photo_whose_bytes_are_missing_is_found(
    session: Session, either_store: Store, officer: SignedIn, now: dt.datetime, tmp_path: Path
) -> None:
    elsewhere = Folder(tmp_path / "elsewhere")
    here, gone = sent(session, either_store, officer, b"here", now), sent(session, elsewhere, officer, b"gone", now)
    assert found(session, either_store, LATER) == [Finding("missing", photo_key(gone))]
    assert keys(either_store) == {photo_key(here)}


def test_a_photo_that_the_disk_does_not_give_is_found(
    session: Session, officer: SignedIn, folder: Folder, tmp_path: Path, now: dt.datetime
) -> None:
    sha256 = sent(session, folder, officer, b"a folder in its place", now)
    (tmp_path / "photos" / photo_key(sha256)).unlink()
    (tmp_path / "photos" / photo_key(sha256)).mkdir()
    assert found(session, folder, LATER) == [Finding("unreadable", photo_key(sha256))]


# ---------------------------------------------------------------- bytes that no row knows

UNKNOWN = hashlib.sha256(b"unknown").hexdigest()


@pytest.mark.parametrize(("at", "what"), [(SOON, "new orphan"), (LATER, "orphan")])
@pytest.mark.parametrize("key", [photo_key(UNKNOWN), derivative_key(UNKNOWN, "thumb"), "notes/read me.txt"])
def test_bytes_that_no_row_knows_are_told_and_never_deleted(
    session: Session, either_store: Store, key: str, at: dt.datetime, what: str
) -> None:
    keep(either_store, key, b"unknown")
    assert found(session, either_store, at) == [Finding(what, key)]
    assert found(session, either_store, at) == [Finding(what, key)]


@pytest.mark.parametrize("key", ["{0}", "00/11/{0}", "derived/huge/{1}.jpg", "derived/thumb/{1}", "{1}.jpg"])
def test_a_known_photo_at_another_place_is_an_orphan(
    session: Session, officer: SignedIn, folder: Folder, now: dt.datetime, key: str
) -> None:
    sha256 = sent(session, folder, officer, b"known", now)
    key = key.format(sha256, photo_key(sha256))
    keep(folder, key, b"a copy")
    assert found(session, folder, LATER) == [Finding("orphan", key)]


def test_a_name_that_no_database_takes_is_an_orphan_too(session: Session, folder: Folder) -> None:
    keep(folder, os.fsdecode(b"caf\xe9"), b"")
    assert [finding.what for finding in found(session, folder, LATER)] == ["orphan"]


# ---------------------------------------------------------------- what uploads leave behind


def test_a_stray_part_is_let_be_while_it_may_be_in_flight_and_removed_after(
    session: Session, either_store: Store
) -> None:
    stray = part_key("0" * 32)
    keep(either_store, stray, b"kept, and not counted yet")
    assert found(session, either_store, SOON) == [Finding("new leftover", stray)]
    assert keys(either_store) == {stray}
    assert found(session, either_store, LATER) == [Finding("leftover", stray)]
    assert keys(either_store) == set()
    assert found(session, either_store, LATER) == []


def test_a_scratch_file_of_a_crash_is_removed_and_that_of_a_request_is_not(session: Session, folder: Folder) -> None:
    with folder.incoming() as file:
        file.write(b"half a photo")
        assert found(session, folder, SOON) == []
        assert len(keys(folder)) == 1
        assert [finding.what for finding in found(session, folder, LATER)] == ["leftover"]
        assert keys(folder) == set()


@pytest.mark.parametrize("age", [-A_MINUTE, A_MINUTE])
def test_an_upload_that_has_expired_is_removed_with_its_parts_and_no_other(
    session: Session, either_store: Store, officer: SignedIn, now: dt.datetime, age: dt.timedelta
) -> None:
    other = begun(session, either_store, officer, [b"1", b"2"], expires_at=now + A_MINUTE)
    begun(session, either_store, officer, [b"3", b"4"], expires_at=now - age)
    expired = age > dt.timedelta(0)
    assert forget_expired(session, either_store, now) == expired
    assert len(session.scalars(select(Upload)).all()) == 2 - expired
    assert len(session.scalars(select(UploadPart)).all()) == 4 - 2 * expired
    assert len(keys(either_store)) == 4 - 2 * expired
    assert {part_key(key) for key in other} <= keys(either_store)
    assert forget_expired(session, either_store, now) == 0
    assert found(session, either_store, LATER) == []


HELD = {"held_by": uuid.uuid4()}


@pytest.mark.parametrize(
    ("given", "stays"),
    [
        ({}, False),
        ({**HELD, "held_until": -A_MINUTE}, False),
        ({**HELD, "held_until": A_MINUTE}, True),
        ({"finished_at": -A_MINUTE, "sha256": "0" * 64}, True),
    ],
    ids=["free", "held once", "held", "finished"],
)
def test_an_upload_that_is_held_or_finished_stays(
    session: Session, either_store: Store, officer: SignedIn, now: dt.datetime, given: dict[str, Any], stays: bool
) -> None:
    at = {name: now + value if isinstance(value, dt.timedelta) else value for name, value in given.items()}
    begun(session, either_store, officer, [b"part"], expires_at=now - A_MINUTE, **at)
    assert forget_expired(session, either_store, now) == (not stays)
    assert len(keys(either_store)) == stays


def test_many_expired_uploads_are_removed_some_at_a_time(
    session: Session, officer: SignedIn, folder: Folder, now: dt.datetime
) -> None:
    for _ in range(120):
        begun(session, folder, officer, [], expires_at=now - A_MINUTE)
    removed = [forget_expired(session, folder, now) for _ in range(3)]
    assert (removed[0] < 120, sum(removed), removed[2]) == (True, 120, 0)


def test_a_request_that_is_taking_an_upload_over_keeps_it(
    engine: Engine, session: Session, officer: SignedIn, folder: Folder, now: dt.datetime
) -> None:
    """On SQLite one of the two waits for the other; on PostgreSQL the row that is locked is passed over."""
    removed: list[int] = []
    begun(session, folder, officer, [b"part"], expires_at=now - A_MINUTE)
    session.rollback()
    begin_write(session)
    row = session.scalars(select(Upload).with_for_update()).one()
    row.held_by, row.held_until = uuid.uuid4(), now + A_MINUTE
    session.flush()

    def forget() -> None:
        with Session(engine) as other:
            removed.append(forget_expired(other, folder, now))

    thread = threading.Thread(target=forget)
    thread.start()
    thread.join(0.3)
    session.commit()
    thread.join()
    assert (removed, len(keys(folder))) == ([0], 1)


# ---------------------------------------------------------------- beside the servers


def test_a_photo_that_arrives_while_the_store_is_listed_is_no_orphan(
    session: Session, officer: SignedIn, tmp_path: Path, now: dt.datetime
) -> None:
    class Arriving(Folder):
        """The row of the last photo is committed once its bytes were listed."""

        def everything(self) -> Any:
            yield from super().everything()
            begin_write(session)
            photos.arrive(session, officer, UNKNOWN, 7, now=now)
            session.commit()

    store = Arriving(tmp_path / "photos")
    keep(store, photo_key(UNKNOWN), b"unknown")
    assert found(session, store, LATER) == []


def test_no_transaction_is_open_while_bytes_are_read(
    session: Session, officer: SignedIn, tmp_path: Path, now: dt.datetime
) -> None:
    open_then: list[bool] = []

    class Watched(Folder):
        def opened(self, key: str) -> Any:
            open_then.append(session.in_transaction())
            return super().opened(key)

    store = Watched(tmp_path / "photos")
    for i in range(2):
        sent(session, store, officer, bytes([i]), now)
    assert found(session, store, now) == []
    assert open_then == [False, False]
    assert not session.in_transaction()


def question_count(walk: Callable[[Session], Any], engine: Engine) -> int:
    with count_statements(engine) as counted, Session(engine) as session:
        for _ in walk(session):
            pass
    return counted.statements


def test_a_page_takes_the_same_questions_whatever_is_in_it(
    engine: Engine, session: Session, officer: SignedIn, folder: Folder, now: dt.datetime
) -> None:
    def questions() -> list[int]:
        return [
            question_count(lambda session: inventory.check_photos(session, folder), engine),
            question_count(lambda session: inventory.check_bytes(session, folder, now=now), engine),
        ]

    sent(session, folder, officer, b"one", now)
    with_one = questions()
    for i in range(20):
        sent(session, folder, officer, bytes([i]), now)
        keep(folder, part_key(f"{i:032x}"), b"stray")
    assert questions() == with_one


def test_how_far_it_is_is_told(session: Session, officer: SignedIn, folder: Folder, now: dt.datetime) -> None:
    for i in range(60):
        sent(session, folder, officer, bytes([i]), now)
    told = [(page.done, page.total) for page in inventory.check_photos(session, folder)]
    assert told == [(50, 60), (60, 60)]
    assert [page.done for page in inventory.check_bytes(session, folder, now=now)] == [60]


# ---------------------------------------------------------------- what is gone for good


def test_phones_are_asked_again_for_a_photo_whose_bytes_are_gone(
    session: Session, officer: SignedIn, folder: Folder, tmp_path: Path, now: dt.datetime
) -> None:
    make_account(session, username="partner")
    session.commit()
    lost, other = (sent(session, folder, officer, data, now) for data in (b"lost", b"still here"))
    told = [{"sha256": name, "bytes": 4, "type": "image/jpeg"} for name in (lost, other)]
    out = patrol()
    day = batch(officer, out | {"photos": told})
    assert push(session, officer, day, now)["photos_needed"] == []
    (tmp_path / "photos" / photo_key(lost)).unlink()

    session.rollback()
    begin_write(session)
    inventory.ask_again(session, [lost], now=now)
    session.commit()
    assert push(session, officer, day, now)["photos_needed"] == [lost]
    assert not sees_photo(session, officer, lost)
    assert session.scalars(select(FeedEntry.gone).where(FeedEntry.entity == f"{officer.account_id}:{lost}")).one()
    assert sent(session, folder, officer, b"lost", now) == lost
    assert push(session, officer, day, now)["photos_needed"] == []
    assert sees_photo(session, officer, lost)
    assert list(verify(session))
