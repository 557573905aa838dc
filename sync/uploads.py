"""Photos that come in pieces (tus 1.0.0): which bytes of whose photo are durable, and who may add the next ones.

Bytes are written first, counted after: what came of a chunk is kept in the store as a part of its own, then one
conditional UPDATE moves the upload's offset, if the request that brought it still holds the upload and the offset is
still where that request began. So two requests never interleave, on however many servers, and a crash costs no more
than the chunk in flight.

Every function below that takes a session is one short transaction, or the beginning of one; the caller commits. Keys of
parts that are handed back belong to nobody any more: they are to be dropped from the store **after** the commit.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import math
import re
import secrets
import shutil
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import IO, Any

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from sync.clock import LOCAL_ZONE
from sync.models import SignedIn, Upload, UploadPart, insert_if_new
from sync.problems import (
    NotFound,
    PhotoDigestMismatch,
    PhotoInvalid,
    PhotoKept,
    PhotoQuota,
    PhotoTooLarge,
    UploadBusy,
    UploadInvalid,
    UploadOffset,
)
from sync.store import PIECE_BYTES, Store, part_key, photo_key

#: How long a request that brings no durable byte keeps others out.
LEASE = dt.timedelta(seconds=10)
#: When to ask again for an upload that another request holds, in seconds.
BUSY_RETRY_AFTER_S = 1
#: Uploads that one officer begins on one day: 2 GiB of photos of 100 KB. Each is a row, however few bytes it has.
MOST_A_DAY = 20_000
#: What a phone may tell about its photo, in characters of `Upload-Metadata`.
MOST_TOLD = 4096

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Limits:
    """What an officer may send: bytes of one photo, bytes on one day; how long an upload waits for its next byte."""

    photo_bytes: int
    day_bytes: int
    waits: dt.timedelta


@dataclass(frozen=True, slots=True)
class Asked:
    """What a phone asks for when it begins: its photo's name and length as far as it knows them, and what it tells."""

    name: str | None
    length_bytes: int | None
    told: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """How far an upload is. `expires_at` is None once it is finished."""

    name: str
    length_bytes: int | None
    offset_bytes: int
    told: str | None
    expires_at: dt.datetime | None

    @property
    def is_finished(self) -> bool:
        """Whether the photo has arrived."""
        return self.expires_at is None

    @property
    def is_named(self) -> bool:
        """Whether the name is the photo's SHA-256, so that its bytes are checked at the end whatever came before."""
        return _SHA256.fullmatch(self.name) is not None


@dataclass(frozen=True, slots=True)
class Hold(Standing):
    """One request's right to add the next bytes, `room_bytes` at most, for as long as nobody has taken over."""

    officer_id: int
    token: uuid.UUID
    room_bytes: int


# ---------------------------------------------------------------- beginning, asking, giving up


def named(told: str | None) -> str | None:
    """The photo's SHA-256, where `Upload-Metadata` tells it.

    Raises PhotoInvalid if it is none in lower case, UploadInvalid for what is no metadata (tus 1.0.0, creation).
    """
    if not told:
        return None
    pairs = [pair.strip(" ").partition(" ") for pair in told.split(",")]
    keys = {key for key, _, _ in pairs}
    if len(told) > MOST_TOLD or not (told.isascii() and told.isprintable()) or "" in keys or len(keys) < len(pairs):
        raise UploadInvalid(header="Upload-Metadata")
    values = {key: _plain(value) for key, _, value in pairs}
    if "sha256" not in values:
        return None
    sha256 = values["sha256"].decode("ascii", "replace")
    if not _SHA256.fullmatch(sha256):
        raise PhotoInvalid()
    return sha256


def _plain(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise UploadInvalid(header="Upload-Metadata") from error


def look(session: Session, who: SignedIn, name: str, *, now: dt.datetime) -> Standing:
    """How far this officer's upload of that name is.

    Raises NotFound if there is none or it has expired, UploadBusy while a request is adding bytes.
    """
    return _standing(_find(session, who, name, now))


def create(
    session: Session, who: SignedIn, asked: Asked, limits: Limits, *, now: dt.datetime
) -> tuple[Standing, list[str]]:
    """The upload that was asked for, and the keys of parts it no longer needs.

    One that this officer began under the same name goes on, or is finished already; with another length, or expired, it
    begins anew. Raises PhotoTooLarge, PhotoQuota, or UploadBusy while a request is adding bytes to it.
    """
    _check_size(asked.length_bytes, limits)
    name = asked.name or secrets.token_hex(16)
    found = _row(session, who, name)
    if found is not None:
        _check_free(found, now)
        if found.finished_at or (found.expires_at > now and found.length_bytes == asked.length_bytes):
            return _standing(found), []
    _check_day(session, who, name, asked.length_bytes or 0, limits, now)
    begun = {"length_bytes": asked.length_bytes, "offset_bytes": 0, "told": asked.told, "created_at": now}
    begun |= {"expires_at": now + limits.waits, "held_by": None, "held_until": None}
    standing = Standing(name, asked.length_bytes, 0, asked.told, now + limits.waits)
    if found is not None:
        session.execute(update(Upload).where(_is(who.account_id, name)).values(begun))
        return standing, _forget_parts(session, who.account_id, name)
    if not insert_if_new(session, Upload, {"officer_id": who.account_id, "name": name, **begun}):
        raise _busy()  # another request began it in this very moment
    return standing, []


def forget(session: Session, who: SignedIn, name: str, *, now: dt.datetime) -> list[str]:
    """The upload is given up; the keys of its parts.

    Raises PhotoKept if it is finished: it stays as the proof that this officer had the photo; NotFound and UploadBusy
    as `look`.
    """
    if _find(session, who, name, now).finished_at:
        raise PhotoKept()
    keys = _forget_parts(session, who.account_id, name)
    session.execute(delete(Upload).where(_is(who.account_id, name)))
    return keys


def allow(session: Session, who: SignedIn, name: str, size_bytes: int, limits: Limits, *, now: dt.datetime) -> None:
    """This officer may send so many bytes in one go. Raises PhotoInvalid if the name is no SHA-256 in lower case, and
    PhotoQuota, but never for a photo that was sent before.
    """
    if not _SHA256.fullmatch(name):
        raise PhotoInvalid()
    found = _row(session, who, name)
    if found is None or not found.finished_at:
        _check_day(session, who, name, size_bytes, limits, now)


def give_way(session: Session, who: SignedIn, name: str) -> list[str]:
    """What had come in pieces is forgotten, for the photo is kept as a whole; the keys of its parts."""
    _row(session, who, name)  # whoever finishes this upload meanwhile has the row first, or waits
    return _forget_parts(session, who.account_id, name)


# ---------------------------------------------------------------- adding bytes


def claim(
    session: Session,
    who: SignedIn,
    name: str,
    *,
    offset_bytes: int,
    length_bytes: int | None = None,
    limits: Limits,
    now: dt.datetime,
) -> Hold | None:
    """The right to add the bytes that follow `offset_bytes`; None if the upload is finished and takes no more.

    `length_bytes` fixes the length of an upload begun without one. Raises UploadOffset if the upload is elsewhere,
    UploadInvalid if its length is another, PhotoTooLarge, PhotoQuota; NotFound and UploadBusy as `look`.
    """
    found = _find(session, who, name, now)
    if length_bytes is not None and found.length_bytes not in (None, length_bytes):
        raise UploadInvalid(header="Upload-Length")
    if offset_bytes != found.offset_bytes:
        raise UploadOffset(offset_bytes=found.offset_bytes)
    if found.finished_at:
        return None
    length, created_at = found.length_bytes, found.created_at
    if length is None:
        length, created_at = _fixed(length_bytes, offset_bytes, limits), now  # it counts on the day its bytes come
        _check_day(session, who, name, length or offset_bytes, limits, now)
    token = uuid.uuid4()
    # A length that is reached already isn't told before the photo has arrived: offset = length means just that.
    told_length = length if length != offset_bytes else None
    held = {"held_by": token, "held_until": now + LEASE, "length_bytes": told_length, "created_at": created_at}
    session.execute(update(Upload).where(_is(who.account_id, name)).values(held))
    room = (limits.photo_bytes if length is None else length) - offset_bytes
    return Hold(name, length, offset_bytes, found.told, found.expires_at, who.account_id, token, room)


def _fixed(length_bytes: int | None, offset_bytes: int, limits: Limits) -> int | None:
    _check_size(length_bytes, limits)
    if length_bytes is not None and length_bytes < offset_bytes:
        raise UploadInvalid(header="Upload-Length")
    return length_bytes


def count(
    session: Session, hold: Hold, key: str, size_bytes: int, limits: Limits, *, now: dt.datetime, goes_on: bool
) -> Hold:
    """The part that was kept under `key` counts, and the upload stays held if the request goes on with it.

    Raises UploadBusy if another request has taken over: then the part belongs to nobody.
    """
    moved = hold.offset_bytes + size_bytes
    lease = {"held_until": now + LEASE} if goes_on else {"held_until": None, "held_by": None}
    _move(session, hold, offset_bytes=moved, expires_at=now + limits.waits, **lease)
    part = {"officer_id": hold.officer_id, "name": hold.name, "from_byte": hold.offset_bytes}
    session.execute(insert(UploadPart).values(**part, size_bytes=size_bytes, key=key))
    return replace(hold, offset_bytes=moved, room_bytes=hold.room_bytes - size_bytes, expires_at=now + limits.waits)


def renew(session: Session, hold: Hold, *, now: dt.datetime) -> None:
    """The upload stays held: bytes came that can't be counted yet. Raises UploadBusy if another has taken over."""
    _move(session, hold, held_until=now + LEASE)


def let_go(session: Session, hold: Hold) -> None:
    """Others may go on; what was counted stays."""
    ours = (_is(hold.officer_id, hold.name), Upload.held_by == hold.token)
    session.execute(update(Upload).where(*ours).values(held_by=None, held_until=None))


# ---------------------------------------------------------------- the end


def gather(session: Session, hold: Hold, *, now: dt.datetime) -> list[str]:
    """The keys of the parts that were counted, in order; the upload stays held meanwhile. Raises UploadBusy."""
    renew(session, hold, now=now)
    its = (UploadPart.officer_id == hold.officer_id, UploadPart.name == hold.name)
    return list(session.scalars(select(UploadPart.key).where(*its).order_by(UploadPart.from_byte)))


def assemble(store: Store, hold: Hold, parts: Sequence[str], tail: IO[bytes]) -> str:
    """The SHA-256 of the whole photo, which is durable under it: the parts, then what `tail` holds.

    Touches no database. Raises PhotoDigestMismatch if these are not the bytes that were named, or not as many as the
    upload is long.
    """
    if not parts:
        return _keep(store, hold, tail)
    with store.incoming() as whole:
        for key in parts:
            with suppress(FileNotFoundError), store.opened(part_key(key)) as part:  # lost bytes are missed below
                shutil.copyfileobj(part, whole, PIECE_BYTES)
        tail.seek(0)
        shutil.copyfileobj(tail, whole, PIECE_BYTES)
        return _keep(store, hold, whole)


def _keep(store: Store, hold: Hold, whole: IO[bytes]) -> str:
    digest = hashlib.sha256()
    whole.seek(0)
    while piece := whole.read(PIECE_BYTES):
        digest.update(piece)
    sha256, size = digest.hexdigest(), whole.tell()
    if size != hold.length_bytes or (hold.is_named and sha256 != hold.name):
        raise PhotoDigestMismatch(received_sha256=sha256, received_bytes=size)
    store.keep(whole, photo_key(sha256))
    return sha256


def finish(session: Session, hold: Hold) -> list[str]:
    """Nobody else can finish the upload: `photos.arrive` is to follow in this transaction. The keys of its parts.

    Raises UploadBusy if another request has taken over.
    """
    _move(session, hold, held_by=None, held_until=None)
    return _forget_parts(session, hold.officer_id, hold.name)


def start_over(session: Session, hold: Hold) -> list[str]:
    """The upload is at 0 again, for its bytes were not the photo named; the keys of its parts. Raises UploadBusy."""
    _move(session, hold, offset_bytes=0, held_by=None, held_until=None)
    return _forget_parts(session, hold.officer_id, hold.name)


# ---------------------------------------------------------------- rows


def _is(officer_id: int, name: str) -> ColumnElement[bool]:
    return (Upload.officer_id == officer_id) & (Upload.name == name)


def _row(session: Session, who: SignedIn, name: str) -> Row[Any] | None:
    """The upload's columns, nobody else changing them before the commit."""
    found = select(*Upload.__table__.c).where(_is(who.account_id, name)).with_for_update()
    return session.execute(found).one_or_none() if _NAME.fullmatch(name) else None


def _find(session: Session, who: SignedIn, name: str, now: dt.datetime) -> Row[Any]:
    found = _row(session, who, name)
    if found is None:
        raise NotFound()
    _check_free(found, now)
    if not found.finished_at and found.expires_at <= now:
        raise NotFound()
    return found


def _standing(row: Row[Any]) -> Standing:
    expires_at = None if row.finished_at else row.expires_at
    return Standing(row.name, row.length_bytes, row.offset_bytes, row.told, expires_at)


def _check_free(row: Row[Any], now: dt.datetime) -> None:
    if row.held_by and row.held_until > now:
        raise _busy()


def _busy() -> UploadBusy:
    return UploadBusy(retry_after_s=BUSY_RETRY_AFTER_S)


def _check_size(length_bytes: int | None, limits: Limits) -> None:
    if length_bytes is not None and length_bytes > limits.photo_bytes:
        raise PhotoTooLarge(bytes=length_bytes, most_bytes=limits.photo_bytes)


def _check_day(session: Session, who: SignedIn, name: str, size_bytes: int, limits: Limits, now: dt.datetime) -> None:
    """With so many bytes under this name, and one upload more, the officer stays within the day's limits."""
    midnight = now.astimezone(LOCAL_ZONE).replace(hour=0, minute=0, second=0, microsecond=0)
    size = func.coalesce(Upload.length_bytes, Upload.offset_bytes)
    others = (Upload.officer_id == who.account_id, Upload.created_at >= midnight, Upload.name != name)
    sent = select(func.coalesce(func.sum(size), 0), func.count()).where(*others)
    sent_bytes, begun = session.execute(sent).one()
    if int(sent_bytes) + size_bytes > limits.day_bytes or begun >= MOST_A_DAY:
        left = midnight + dt.timedelta(days=1) - now
        raise PhotoQuota(most_bytes=limits.day_bytes, retry_after_s=math.ceil(left.total_seconds()))


def _move(session: Session, hold: Hold, **values: Any) -> None:
    """The upload has these values, if it is still this request's, and where this request left it."""
    ours = (_is(hold.officer_id, hold.name), Upload.held_by == hold.token, Upload.offset_bytes == hold.offset_bytes)
    moved = update(Upload).where(*ours).values(values).returning(Upload.name)
    if session.execute(moved).one_or_none() is None:
        raise _busy()


def _forget_parts(session: Session, officer_id: int, name: str) -> list[str]:
    its = (UploadPart.officer_id == officer_id, UploadPart.name == name)
    return list(session.scalars(delete(UploadPart).where(*its).returning(UploadPart.key)))
