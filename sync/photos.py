"""Receives a photo: counted, digested, in place; then known to the records of the officer who sent it.

A photo's name is the SHA-256 of its bytes, and that is all its integrity: a file that no decoder likes is still
evidence. The bytes are durable before the rows are committed; a crash between leaves a harmless orphan.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterable

from sqlalchemy import update
from sqlalchemy.orm import Session

from sync.journal import Change, digest_of, hold_counter, record
from sync.models import AnnouncedPhoto, Photo, PhotoFacts, SignedIn, Upload, insert_if_new, insert_or, insert_rows
from sync.problems import PhotoDigestMismatch, PhotoInvalid
from sync.store import Store, photo_key

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
        store.keep(file, photo_key(sha256))
    return size


def arrive(
    session: Session, who: SignedIn, sha256: str, size_bytes: int, *, now: dt.datetime, name: str | None = None
) -> None:
    """The photo is known to have arrived from this officer, and every record of theirs that announces it has it.

    `name` is that of the upload it came by, where it has another. Again: nothing changes. To be called in a writing
    transaction of its own, whose last statements these are.
    """
    name = name or sha256
    row = {"sha256": sha256, "size_bytes": size_bytes, "received_at": now, "officer_id": who.account_id}
    if not _finish_upload(session, who, name, row):
        return
    is_new = insert_if_new(session, Photo, row)
    if is_new:
        insert_rows(session, PhotoFacts, [{"sha256": sha256, "claims": 0, "flags": []}])
    hold_counter(session)  # a record announced from now on finds the upload finished; those before are marked here
    _mark_received(session, who, sha256, now)
    changes = [Change("photo", sha256, ["photo", sha256, 1, digest_of(row)], new=True)] if is_new else []
    record(session, [*changes, _arrival(who, sha256, now)], now=now)


def _arrival(who: SignedIn, sha256: str, now: dt.datetime) -> Change:
    """This officer has the photo: their phones learn it from the feed."""
    return Change("arrival", f"{who.account_id}:{sha256}", ["arrival", sha256, who.account_id, now], new=False)


def _finish_upload(session: Session, who: SignedIn, name: str, photo: dict[str, object]) -> bool:
    """Whether it is this that finishes the officer's upload of that name; one made in one go begins and ends here.

    Nobody holds it then. Who finishes the same at this moment is waited for.
    """
    done = {
        "length_bytes": photo["size_bytes"],
        "offset_bytes": photo["size_bytes"],
        "finished_at": photo["received_at"],
        "sha256": photo["sha256"],
        "held_by": None,
        "held_until": None,
    }
    whole = {"officer_id": who.account_id, "name": name, "created_at": photo["received_at"]}
    inserted = insert_or(session, Upload).values({**whole, "expires_at": photo["received_at"], **done})
    finished = inserted.on_conflict_do_update(
        index_elements=["officer_id", "name"], set_=done, where=Upload.finished_at.is_(None)
    )
    return session.execute(finished.returning(Upload.name)).first() is not None


def _mark_received(session: Session, who: SignedIn, sha256: str, now: dt.datetime) -> None:
    waiting = update(AnnouncedPhoto).where(AnnouncedPhoto.sha256 == sha256, AnnouncedPhoto.officer_id == who.account_id)
    session.execute(waiting.where(AnnouncedPhoto.received_at.is_(None)).values(received_at=now))
