"""Receives a photo: counted, digested, in place; then known to the records that announce it.

A photo's name is the SHA-256 of its bytes, and that is all its integrity: a file that no decoder likes is still
evidence. The bytes are on the disk before the row is committed; a crash between leaves a harmless orphan.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterable

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from sync.journal import Change, digest_of, record
from sync.models import AnnouncedPhoto, Photo, SignedIn, insert_if_new
from sync.problems import PhotoDigestMismatch, PhotoInvalid
from sync.store import Store

_SHA256 = re.compile(r"[0-9a-f]{64}")


def receive(store: Store, sha256: str, pieces: Iterable[bytes]) -> int:
    """The photo's size in bytes, once it is durable under its name. Touches no database.

    Raises PhotoInvalid if the name is no SHA-256 in lower case, PhotoDigestMismatch if the bytes are not what it says,
    and whatever `pieces` raises.
    """
    if not _SHA256.fullmatch(sha256):
        raise PhotoInvalid()
    digest, size = hashlib.sha256(), 0
    with store.incoming() as file:
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            file.write(piece)
        if digest.hexdigest() != sha256:
            raise PhotoDigestMismatch(received_sha256=digest.hexdigest(), received_bytes=size)
        if not store.has(sha256):
            store.keep(file, sha256)
    return size


def keep(session: Session, who: SignedIn, sha256: str, size_bytes: int, *, now: dt.datetime) -> None:
    """The photo is known to have arrived, and every record that announces it has it. Again: nothing changes."""
    row = {"sha256": sha256, "size_bytes": size_bytes, "received_at": now, "officer_id": who.account_id}
    is_new = insert_if_new(session, Photo, row)
    _mark_received(session, sha256)
    if is_new:
        evidence = ["photo", sha256, 1, digest_of(row)]
        record(session, [Change("photo", sha256, evidence, new=True)], now=now)


def _mark_received(session: Session, sha256: str) -> None:
    arrived = select(Photo.received_at).where(Photo.sha256 == sha256).scalar_subquery()
    waiting = update(AnnouncedPhoto).where(AnnouncedPhoto.sha256 == sha256, AnnouncedPhoto.received_at.is_(None))
    session.execute(waiting.values(received_at=arrived))
