"""A photo is kept once under the digest of its bytes, and known to whatever announces it, before or after."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from sync import photos
from sync.evidence import verify
from sync.models import AnnouncedPhoto, FeedEntry, Link, Photo, SignedIn, begin_write
from sync.problems import BodyTruncated, PhotoDigestMismatch, PhotoInvalid
from sync.store import Store
from tests.builders import make_account, make_lists, make_signed_in
from tests.sync.days import amend, batch, incident, patrol, push

BYTES = b"\xff\xd8 not a picture that any decoder likes, and evidence all the same"
DIGEST = hashlib.sha256(BYTES).hexdigest()
PHOTO = {"sha256": DIGEST, "bytes": len(BYTES), "type": "image/jpeg", "role": "before"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "photos")


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
    photos.keep(session, who, DIGEST, len(BYTES), now=now)
    session.commit()


# ---------------------------------------------------------------- bytes


@pytest.mark.parametrize("pieces", [[BYTES], [BYTES[:1], b"", BYTES[1:]], [bytes([byte]) for byte in BYTES]])
def test_bytes_are_kept_under_their_digest_however_they_come(store: Store, tmp_path: Path, pieces: Any) -> None:
    assert photos.receive(store, DIGEST, pieces) == len(BYTES)
    assert store.path(DIGEST).read_bytes() == BYTES
    assert files(tmp_path) == [store.path(DIGEST)]


def test_the_empty_photo_is_one_too(store: Store) -> None:
    assert photos.receive(store, hashlib.sha256(b"").hexdigest(), []) == 0


def test_a_photo_sent_again_leaves_the_first_file_alone(store: Store, tmp_path: Path) -> None:
    photos.receive(store, DIGEST, [BYTES])
    os.utime(store.path(DIGEST), (1, 1))
    photos.receive(store, DIGEST, [BYTES])
    assert store.path(DIGEST).stat().st_mtime == 1
    assert files(tmp_path) == [store.path(DIGEST)]


def test_other_bytes_are_refused_and_leave_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(PhotoDigestMismatch) as refused:
        photos.receive(store, DIGEST, [BYTES[:-1]])
    assert refused.value.details["received_bytes"] == len(BYTES) - 1
    assert (files(tmp_path), store.has(DIGEST)) == ([], False)


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
    one, other = incident(out, photos=[PHOTO, PHOTO]), incident(out, photos=[PHOTO])
    receipt = push(session, officer, batch(officer, out, one, other, amend(one, 1) | {"photos": [PHOTO]}), now)
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
    other = make_signed_in(session, username="other")
    session.commit()
    keep(session, other, now + dt.timedelta(hours=1))
    kept = session.scalars(select(Photo)).one()
    assert (kept.officer_id, kept.received_at, kept.size_bytes) == (officer.account_id, now, len(BYTES))
    assert session.scalar(select(func.count()).select_from(Link)) == 1


def test_a_photo_is_in_the_feed_and_sworn_to(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    keep(session, officer, now)
    assert session.scalars(select(FeedEntry.entity).where(FeedEntry.kind == "photo")).one() == DIGEST
    assert list(verify(session)) == [(1, 1)]
