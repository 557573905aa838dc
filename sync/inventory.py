"""Compares what the store holds with what the tables know, and clears away what uploads have left behind.

Any number of servers may be taking photos meanwhile. Bytes are kept before their row is committed, never after; so the
store is listed first and the tables are asked then, and what no row knows is no leftover before it is `IN_FLIGHT` old.
What a row refers to is never deleted, and a photo's bytes aren't either when no row does: they are told.

Memory stays constant, and so does the number of questions for each page. Reading every byte takes hours: between pages
no transaction is open.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import NamedTuple

from sqlalchemy import delete, func, or_, select, tuple_, update
from sqlalchemy.orm import Session

from sync.journal import Change, record
from sync.models import AnnouncedPhoto, ExportJob, Photo, Upload, UploadPart, among
from sync.pictures import SIZES
from sync.store import PIECE_BYTES, Store, Stored, derivative_key, part_key, photo_key

#: Between bytes that are durable and their row lies one transaction; a day also covers clocks that are far off.
IN_FLIGHT = dt.timedelta(days=1)
#: Photos looked at between two questions; names of a list; uploads removed in one transaction.
_PHOTOS, _NAMES, _UPLOADS = 50, 1_000, 100

#: What is wrong with a photo that a row refers to.
FAULTS = {"missing", "changed", "unreadable"}


class Finding(NamedTuple):
    """Something out of order, and where it lies in the store.

    `missing`, `changed`, `unreadable`: a photo's bytes. `orphan`: bytes that no row knows; `new orphan`: they may be
    just arriving. `leftover`: what an upload left behind, which is gone now; `new leftover`: it was let be.
    """

    what: str
    key: str


@dataclass(frozen=True, slots=True)
class Page:
    """What was found among the next few. `total` is None where it can't be known."""

    done: int
    total: int | None
    found: Sequence[Finding]


class Forgotten(NamedTuple):
    """How many uploads were forgotten, and the keys of their parts."""

    uploads: int
    parts: list[str]


def forget_expired(session: Session, *, now: dt.datetime) -> Forgotten:
    """Some uploads that nobody went on with in time exist no more; to be asked again until there were none.

    The parts are to be dropped from the store after the commit.
    """
    free = or_(Upload.held_by.is_(None), Upload.held_until < now)
    over = select(Upload.officer_id, Upload.name).where(Upload.finished_at.is_(None), Upload.expires_at < now, free)
    ids = [tuple(row) for row in session.execute(over.limit(_UPLOADS).with_for_update(skip_locked=True))]
    its = tuple_(UploadPart.officer_id, UploadPart.name).in_(ids)
    parts = list(session.scalars(delete(UploadPart).where(its).returning(UploadPart.key)))
    session.execute(delete(Upload).where(tuple_(Upload.officer_id, Upload.name).in_(ids)))
    return Forgotten(len(ids), parts)


def check_photos(session: Session, store: Store) -> Iterator[Page]:
    """Every photo's digest, computed anew from the bytes in the store."""
    total = session.scalar(select(func.count()).select_from(Photo)) or 0
    done, last = 0, ""
    while names := _photos_after(session, last):
        found = [Finding(fault, photo_key(name)) for name in names if (fault := _fault(store, name))]
        done, last = done + len(names), names[-1]
        yield Page(done, max(done, total), found)


def _photos_after(session: Session, last: str) -> Sequence[str]:
    names = session.scalars(select(Photo.sha256).where(Photo.sha256 > last).order_by(Photo.sha256).limit(_PHOTOS)).all()
    session.rollback()
    return names


def _fault(store: Store, sha256: str) -> str | None:
    digest = hashlib.sha256()
    try:
        with store.opened(photo_key(sha256)) as file:
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "unreadable"
    return None if digest.hexdigest() == sha256 else "changed"


def ask_again(session: Session, names: Iterable[str], *, now: dt.datetime) -> None:
    """Photos whose bytes are gone count as never sent: whoever announced them is asked for them, and phones learn it.

    That they did arrive once stays in the evidence chain. The caller has begun a writing transaction and commits it.
    """
    gone = delete(Upload).where(among(session, Upload.sha256, names), Upload.finished_at.is_not(None))
    sent = session.execute(gone.returning(Upload.officer_id, Upload.sha256)).all()
    cited = update(AnnouncedPhoto).where(among(session, AnnouncedPhoto.sha256, {sha256 for _, sha256 in sent}))
    session.execute(cited.values(received_at=None), execution_options={"synchronize_session": False})
    changes = [
        Change("arrival", f"{officer_id}:{sha256}", ["gone", sha256, officer_id, now], new=False, gone=True)
        for officer_id, sha256 in sent
    ]
    record(session, changes, now=now)


def check_bytes(session: Session, store: Store, *, now: dt.datetime) -> Iterator[Page]:
    """Everything in the store that no row knows; what uploads left behind is deleted once it can't be in flight."""
    everything, done = store.everything(), 0
    while some := list(islice(everything, _NAMES)):
        found = [_dealt_with(store, stored, now) for stored in _unknown(session, some)]
        done += len(some)
        yield Page(done, None, [finding for finding in found if finding])


def _unknown(session: Session, some: Iterable[Stored]) -> list[Stored]:
    names = {name for stored in some if (name := PurePosixPath(stored.key).stem).isascii()}
    photos = session.scalars(select(Photo.sha256).where(among(session, Photo.sha256, names))).all()
    parts = session.scalars(select(UploadPart.key).where(among(session, UploadPart.key, names))).all()
    exports = set(session.scalars(select(ExportJob.key).where(ExportJob.key.is_not(None))))
    session.rollback()
    known = exports | {photo_key(sha256) for sha256 in photos} | {part_key(key) for key in parts}
    known |= {derivative_key(sha256, size) for sha256 in photos for size in SIZES}
    return [stored for stored in some if stored.key not in known]


def _dealt_with(store: Store, stored: Stored, now: dt.datetime) -> Finding | None:
    kind, is_new = stored.key.split("/")[0], stored.stored_at > now - IN_FLIGHT
    if kind not in ("parts", "exports", "incoming"):
        return Finding("new orphan" if is_new else "orphan", stored.key)
    if not is_new:
        store.drop(stored.key)
        return Finding("leftover", stored.key)
    return Finding("new leftover", stored.key) if kind != "incoming" else None  # requests come and go in `incoming/`
