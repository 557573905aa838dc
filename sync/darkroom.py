"""What happens with a photo after it has arrived: somebody looks at it, and the records that cite it are told.

Neither is done while a phone waits. A photo is claimed, looked at outside any transaction, and its facts are kept; then
the records that cite it are compared with them, many at once. Any number of processes may do so side by side.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, func, or_, select, update
from sqlalchemy.orm import Session

from sync import journal, photo_notes, pictures
from sync.again import look_again_at
from sync.models import (
    AnnouncedPhoto,
    Photo,
    PhotoFacts,
    among,
    update_rows,
)
from sync.photo_notes import Cited, Note
from sync.pictures import Facts
from sync.problems import Busy
from sync.settling import LOCKING_ORDER, locked, write_notes
from sync.store import Store, derivative_key, photo_key
from sync.verdicts import Record

#: Who claimed a photo and has not told by then what it says is taken for dead.
CLAIM_HOLDS = dt.timedelta(minutes=5)
#: A photo whose looks never end takes processes with it: after so many nobody decodes it any more.
MOST_CLAIMS = 3
#: Records compared in one transaction: a phone that amends one of them waits for no more than that.
MOST_COMPARED = 100

#: A forged photo may claim sides of up to 2^32 − 1 px; more than this no integer of PostgreSQL holds.
MOST_KEPT_PX = 2**31 - 1
_DEVELOPING = threading.Lock()

#: What a look gives and a row keeps.
TOLD = [field.name for field in fields(Facts) if field.name != "thumb"]
_LOG = logging.getLogger(__name__)


class Waiting(NamedTuple):
    """How many photos nobody has looked at, and how many citations are to be compared with what is known by now."""

    photos: int
    citations: int


class Kept(NamedTuple):
    """A photo that is kept: its size, and its format by content once somebody has looked."""

    size_bytes: int
    format: str | None


def kept(session: Session, sha256: str) -> Kept:
    """What is known of a photo that has arrived."""
    known = select(Photo.size_bytes, PhotoFacts.format).outerjoin(PhotoFacts, PhotoFacts.sha256 == Photo.sha256)
    return Kept(*session.execute(known.where(Photo.sha256 == sha256)).one())


def can_be_shown(session: Session, sha256: str) -> bool:
    """Whether pictures of the photo are to be made: unless somebody who looked could not decode it, or never ended.

    A HEIC may be tried again, for its decoder may have been installed since.
    """
    looked = select(PhotoFacts.format, PhotoFacts.flags).where(PhotoFacts.sha256 == sha256)
    format, flags = session.execute(looked).one()
    return "too-costly" not in flags and ("undecodable" not in flags or format == "heic")


def waiting(session: Session, *, now: dt.datetime) -> Waiting:
    """What there is to do. Only asks, so that a process without work disturbs nobody."""
    photos = select(func.count()).where(_is_open(now)).scalar_subquery()
    citations = select(func.count()).select_from(_ready(AnnouncedPhoto.record_id).subquery()).scalar_subquery()
    return Waiting(*session.execute(select(photos, citations)).one())


# ---------------------------------------------------------------- looking


def claim(session: Session, *, now: dt.datetime) -> str | None:
    """The SHA-256 of a photo that nobody has looked at and nobody else looks at now; `None` if there is none."""
    free = select(PhotoFacts.sha256).where(_is_free(now)).order_by(PhotoFacts.sha256).limit(1)
    one = free.with_for_update(skip_locked=True).scalar_subquery()
    claimed = update(PhotoFacts).where(PhotoFacts.sha256 == one, _is_free(now))
    mine = claimed.values(claimed_at=now, claims=PhotoFacts.claims + 1).returning(PhotoFacts.sha256)
    return session.scalar(mine.execution_options(synchronize_session=False))


def put_back(session: Session, sha256: str, *, claimed_at: dt.datetime | None = None) -> None:
    """Who claimed the photo could not begin to look: it is nobody's again, or later, as if claimed at that moment."""
    back = {"claimed_at": claimed_at, "claims": PhotoFacts.claims - 1}
    session.execute(update(PhotoFacts).where(PhotoFacts.sha256 == sha256).values(back))


def spare(session: Session, *, now: dt.datetime) -> None:
    """Photos whose looks never ended are `too-costly`: looked at, as far as anybody dares."""
    dangerous = update(PhotoFacts).where(_is_open(now), PhotoFacts.claims >= MOST_CLAIMS)
    told = dangerous.values(looked_at=now, flags=["too-costly"])
    session.execute(told.execution_options(synchronize_session=False))


def look(store: Store, sha256: str) -> Facts:
    """What the photo says by itself; its thumb is then kept. Touches no database: it may take seconds.

    Raises FileNotFoundError if the photo's bytes are gone, Busy if the store is away.
    """
    with store.opened(photo_key(sha256)) as file:
        facts = pictures.look(file)
    if facts.thumb is not None:
        _keep(store, facts.thumb, derivative_key(sha256, "thumb"))
    return facts


def keep_facts(session: Session, sha256: str, facts: Facts, *, now: dt.datetime) -> None:
    """What the photo says is known; the records that cite it can be compared."""
    told = {name: getattr(facts, name) for name in TOLD}
    told |= {side: min(told[side], MOST_KEPT_PX) for side in ("width_px", "height_px") if told[side] is not None}
    session.execute(update(PhotoFacts).where(PhotoFacts.sha256 == sha256).values(**told, looked_at=now))


def develop(store: Store, sha256: str, size: str, *, patience_s: float) -> bytes:
    """The photo as a JPEG of this size, a word of `pictures.SIZES`: made once, then kept in the store.

    Raises PhotoNotShown if it can't be, FileNotFoundError if the photo's bytes are gone, Busy if the store is away or
    others are still being made after `patience_s`.
    """
    key = derivative_key(sha256, size)
    picture = _found(store, key)
    if picture is None:
        with _turn(patience_s):
            picture = _found(store, key) or _developed(store, sha256, size)
    return picture


def _found(store: Store, key: str) -> bytes | None:
    with suppress(FileNotFoundError), store.opened(key) as file:
        return file.read()
    return None


@contextmanager
def _turn(patience_s: float) -> Iterator[None]:
    """One at a time: a process has memory for few, and who waited for the same picture finds it made."""
    if not _DEVELOPING.acquire(timeout=patience_s):
        raise Busy("many pictures are being made")
    try:
        yield
    finally:
        _DEVELOPING.release()


def _developed(store: Store, sha256: str, size: str) -> bytes:
    with store.opened(photo_key(sha256)) as file:
        picture = pictures.develop(file, pictures.SIZES[size])
    _keep(store, picture, derivative_key(sha256, size))
    return picture


def _keep(store: Store, picture: bytes, key: str) -> None:
    with store.incoming() as file:
        file.write(picture)
        store.keep(file, key)


def _is_free(now: dt.datetime) -> ColumnElement[bool]:
    return _is_open(now) & (PhotoFacts.claims < MOST_CLAIMS)


def _is_open(now: dt.datetime) -> ColumnElement[bool]:
    """True where nobody has looked, and nobody looks now."""
    unclaimed = or_(PhotoFacts.claimed_at.is_(None), PhotoFacts.claimed_at < now - CLAIM_HOLDS)
    return PhotoFacts.looked_at.is_(None) & unclaimed


# ---------------------------------------------------------------- comparing


def compare(session: Session, *, now: dt.datetime, most: int = MOST_COMPARED) -> int:
    """How many citations were compared, those of so many records at most: these then have the notes on what their
    photos say. 0: nothing is left to compare. The caller has begun a writing transaction and commits it.

    A record keeps its version, for nobody changed it; the evidence chain tells of its new state.
    """
    chosen = session.scalars(_ready(AnnouncedPhoto.record_id).distinct().limit(most)).all()
    if not chosen:
        return 0
    records = {id: each for kind in LOCKING_ORDER for id, each in locked(session, kind, chosen).items()}
    citations = _citations(session, chosen)
    for citation in citations:
        _remark(records, citation)
    if touched := [found for found in records.values() if found.touched]:
        journal.record(session, write_notes(session, touched), now=now)
    look_again_at(session, ((found.kind, id) for id, found in records.items()), now=now)
    compared = [{"record_id": row.record_id, "sha256": row.sha256, "compared_at": now} for row in citations]
    update_rows(session, AnnouncedPhoto, compared)
    return len(citations)


def _ready(*columns: Any) -> Select[Any]:
    """Of the citations whose photo has arrived and was looked at, those that nobody has compared."""
    return (
        select(*columns)
        .select_from(AnnouncedPhoto)
        .join(PhotoFacts, PhotoFacts.sha256 == AnnouncedPhoto.sha256)
        .where(AnnouncedPhoto.compared_at.is_(None), AnnouncedPhoto.received_at.is_not(None))
        .where(PhotoFacts.looked_at.is_not(None))
    )


def _citations(session: Session, ids: Sequence[uuid.UUID]) -> Sequence[Any]:
    """What is still to be compared of these records, now that they are locked."""
    cited = (AnnouncedPhoto.record_id, AnnouncedPhoto.sha256, AnnouncedPhoto.told_at)
    told = (PhotoFacts.__table__.c[name] for name in TOLD)
    ready = _ready(*cited, *told, Photo.size_bytes).join(Photo, Photo.sha256 == AnnouncedPhoto.sha256)
    ordered = ready.order_by(AnnouncedPhoto.record_id, AnnouncedPhoto.sha256)
    return session.execute(ordered.where(among(session, AnnouncedPhoto.record_id, ids))).all()


def _remark(records: Mapping[uuid.UUID, Record], citation: Any) -> None:
    """The record has what is to be remarked. One that can't be compared must not keep all others waiting for ever."""
    try:
        found = records[citation.record_id]
        notes = photo_notes.compare(_facts(citation), _cited(found.state, citation))
    except Exception:
        _LOG.exception("photo %s can't be compared with record %s", citation.sha256, citation.record_id)
        return
    if notes:
        found.touched = True
        found.state["notes"] = [*found.state["notes"], *notes]
        found.state["note_codes"] = sorted({note["code"] for note in found.state["notes"]})


def _facts(row: Any) -> Facts:
    told = {name: getattr(row, name) for name in TOLD}
    return Facts(**told | {"flags": tuple(row.flags)})


def _cited(state: Mapping[str, Any], citation: Any) -> Cited:
    photo = next(photo for photo in state["photos"] if photo["sha256"] == citation.sha256)
    return Cited(
        sha256=citation.sha256,
        type=photo["type"],
        size_bytes=photo["bytes"],
        kept_bytes=citation.size_bytes,
        occurred_at=state["occurred_at"],
        occurred_error_ms=state["occurred_error_ms"],
        off_ms=_off_ms(state["notes"]),
        told_at=citation.told_at,
        lon=state["lon"],
        lat=state["lat"],
        error_m=state["error_m"],
    )


def _off_ms(notes: Iterable[Note]) -> int | None:
    return next((note["off_ms"] for note in notes if note["code"] == "clock-corrected"), None)
