"""A photo is kept once under the digest of its bytes, and known to whatever announces it, before or after."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from sync import photos
from sync.evidence import verify
from sync.models import AnnouncedPhoto, FeedEntry, Link, Photo, SignedIn, begin_write
from sync.patrol_log import one, sees_photo
from sync.problems import BodyTruncated, PhotoDigestMismatch, PhotoInvalid
from sync.store import Folder, Store, photo_key
from tests.builders import make_account, make_lists, make_signed_in
from tests.sync.days import PHOTO_MAX_BYTES, amend, batch, incident, patrol, push

BYTES = b"\xff\xd8 not a picture that any decoder likes, and evidence all the same"
DIGEST = hashlib.sha256(BYTES).hexdigest()
PHOTO = {"sha256": DIGEST, "bytes": len(BYTES), "type": "image/jpeg", "role": "before"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Folder(tmp_path / "photos")


@pytest.fixture
def officer(session: Session) -> SignedIn:
    make_lists(session)
    make_account(session, username="partner")
    who = make_signed_in(session)
    session.commit()
    return who


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def keep(session: Session, who: SignedIn, now: dt.datetime) -> None:
    session.rollback()
    begin_write(session)
    photos.arrive(session, who, DIGEST, len(BYTES), now=now)
    session.commit()


# ---------------------------------------------------------------- bytes


@pytest.mark.parametrize("pieces", [[BYTES], [BYTES[:1], b"", BYTES[1:]], [bytes([byte]) for byte in BYTES]])
def test_bytes_are_kept_under_their_digest_however_they_come(store: Store, tmp_path: Path, pieces: Any) -> None:
    assert photos.receive(store, DIGEST, pieces) == len(BYTES)
    (kept,) = files(tmp_path)
    assert (kept.name, kept.read_bytes()) == (DIGEST, BYTES)


def test_the_empty_photo_is_one_too(store: Store) -> None:
    assert photos.receive(store, hashlib.sha256(b"").hexdigest(), []) == 0


def test_a_photo_sent_again_leaves_the_first_file_alone(store: Store, tmp_path: Path) -> None:
    photos.receive(store, DIGEST, [BYTES])
    (kept,) = files(tmp_path)
    os.utime(kept, (1, 1))
    photos.receive(store, DIGEST, [BYTES])
    assert files(tmp_path) == [kept]
    assert kept.stat().st_mtime == 1


def test_other_bytes_are_refused_and_leave_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(PhotoDigestMismatch) as refused:
        photos.receive(store, DIGEST, [BYTES[:-1]])
    assert refused.value.details["received_bytes"] == len(BYTES) - 1
    assert (files(tmp_path), store.has(photo_key(DIGEST))) == ([], False)


def test_a_way_that_breaks_leaves_nothing(store: Store, tmp_path: Path) -> None:
    def breaking() -> Iterator[bytes]:
        yield BYTES[:10]
        raise BodyTruncated

    with pytest.raises(BodyTruncated):
        photos.receive(store, DIGEST, breaking())
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    ["", "x", DIGEST.upper(), DIGEST[:-1], DIGEST + "0", DIGEST + "\n", "../" + DIGEST[3:], "/etc/passwd", "g" * 64],
)
def test_a_name_that_is_no_digest_touches_no_file(store: Store, tmp_path: Path, name: str) -> None:
    with pytest.raises(PhotoInvalid):
        photos.receive(store, name, [BYTES])
    assert files(tmp_path) == []


# ---------------------------------------------------------------- who announces them


@pytest.mark.parametrize("first", ["record", "photo"])
def test_record_and_photo_find_each_other_in_either_order(
    session: Session, officer: SignedIn, now: dt.datetime, first: str
) -> None:
    out = patrol()
    day = batch(officer, out, incident(out, photos=[PHOTO]))
    if first == "photo":
        keep(session, officer, now)
    receipt = push(session, officer, day, now)
    missing = [] if first == "photo" else [DIGEST]
    assert receipt["photos_needed"] == receipt["results"][1]["photos_needed"] == missing
    if first == "record":
        keep(session, officer, now)

    again = push(session, officer, day, now)
    assert again["photos_needed"] == again["results"][1]["photos_needed"] == []
    assert session.scalars(select(AnnouncedPhoto.received_at)).one() == now


def test_a_photo_is_needed_once_however_many_records_show_it(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    first, other = incident(out, photos=[PHOTO, PHOTO]), incident(out, photos=[PHOTO])
    receipt = push(session, officer, batch(officer, out, first, other, amend(first, 1) | {"photos": [PHOTO]}), now)
    assert receipt["photos_needed"] == [DIGEST]
    keep(session, officer, now)
    assert push(session, officer, batch(officer), now)["photos_needed"] == []
    assert session.scalars(select(AnnouncedPhoto.received_at)).all() == [now, now]


def test_nobody_learns_of_the_photos_of_others(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    out = patrol()
    push(session, officer, batch(officer, out, incident(out, photos=[PHOTO])), now)
    stranger = make_signed_in(session, username="stranger")
    session.commit()
    assert push(session, stranger, batch(stranger), now)["photos_needed"] == []


def test_a_photo_kept_again_changes_nothing(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    keep(session, officer, now)
    keep(session, officer, now + dt.timedelta(hours=1))
    kept = session.scalars(select(Photo)).one()
    assert (kept.officer_id, kept.received_at, kept.size_bytes) == (officer.account_id, now, len(BYTES))
    assert session.scalar(select(func.count()).select_from(Link)) == 1


def test_a_photo_counts_for_the_officer_who_sent_its_bytes(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    keep(session, officer, now)
    other = make_signed_in(session, username="other")
    session.commit()
    out = patrol(officers=["other", "partner"])
    day = batch(other, out, incident(out, photos=[PHOTO]))
    receipt = push(session, other, day, now)
    assert receipt["photos_needed"] == receipt["results"][1]["photos_needed"] == [DIGEST]
    assert not sees_photo(session, other, DIGEST)
    keep(session, other, now + dt.timedelta(hours=1))
    assert push(session, other, day, now)["photos_needed"] == []
    assert sees_photo(session, other, DIGEST)
    assert session.scalars(select(Photo.officer_id)).one() == officer.account_id
    assert len(list(verify(session))) == 3


def test_a_photo_that_no_record_cites_is_seen_by_nobody(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    keep(session, officer, now)
    assert not sees_photo(session, officer, DIGEST)


def test_a_photo_too_large_ever_to_arrive_is_remarked(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    out, large = patrol(), PHOTO | {"bytes": PHOTO_MAX_BYTES + 1}
    seen = incident(out, photos=[large])
    later = amend(seen, 1) | {"photos": [large | {"sha256": "ab" * 32}]}
    note = {"code": "photo-too-large", "bytes": PHOTO_MAX_BYTES + 1, "most_bytes": PHOTO_MAX_BYTES}
    first, second = push(session, officer, batch(officer, out, seen, later), now)["results"][1:]
    assert note | {"sha256": DIGEST} in first["notes"]
    assert note | {"sha256": "ab" * 32} in second["notes"]
    told = one(session, officer, "incident", uuid.UUID(seen["record"]))["notes"]
    assert [told_of["sha256"] for told_of in told if told_of["code"] == "photo-too-large"] == [DIGEST, "ab" * 32]


def test_a_photo_is_in_the_feed_and_sworn_to(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    keep(session, officer, now)
    assert session.scalars(select(FeedEntry.entity).where(FeedEntry.kind == "photo")).one() == DIGEST
    assert list(verify(session)) == [(1, 1)]
