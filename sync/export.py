"""Records out, as files: the one way from what is wanted to a file, whoever asks, in whatever format.

The same selection and the same visibility as the list on screen, read at one moment, in memory that stays flat. A file
is written beside and is whole when `write` returns; what fails before leaves nothing behind.

What has changed since a cursor of the feed can be asked for by itself: records as they are now (`put`), and ids of
those that are no more among them (`delete`), voided, filed elsewhere or amended. Whether a file that somebody has is
still what would be written is the same question: its tag is a cursor, and nothing has changed since.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from marshmallow import Schema, ValidationError, fields
from orjson import loads
from sqlalchemy.orm import Session

from sync import columns, cursors, formats
from sync.clock import local_day
from sync.columns import Chunk, ExportQuery, Wanted
from sync.cursors import Now, Place
from sync.formats import Format
from sync.journal import canonical
from sync.models import REVIEW_ROLES, SignedIn
from sync.patrol_log import FILTERS, Selection
from sync.problems import CursorExpired, Forbidden, QueryInvalid
from sync.wire import Shape, Text, read_decision

#: Changes with what is written: a file made by an older version is not taken for the same.
EDITION = 1


@dataclass(frozen=True, slots=True)
class Tag:
    """What stands for a file, its entity tag, and the cursor from which what changes later can be asked for."""

    etag: str
    cursor: str


#: What a query says beside the filters.
_HOW = ("crs", "columns", "lang", "personal", "since")
QUERIES = {kind: ExportQuery(only=(*filters, *_HOW)) for kind, filters in FILTERS.items()}
_KINDS = {name: kind for kind, name in columns.NAMES.items()}


class JobShape(Shape):
    """A file that is asked for: of what, in which format, and what would stand behind the question mark."""

    what = Text(20, required=True, one_of=tuple(_KINDS))
    format = Text(20, required=True, one_of=tuple(formats.FORMATS))
    query = fields.Dict(keys=fields.String(), values=fields.String(), load_default=dict)


class JobDocument(Schema):
    """How a file that was asked for stands."""

    id = fields.UUID(required=True)
    state = fields.String(required=True, metadata={"enum": ["waiting", "writing", "ready", "failed"]})
    records = fields.Integer(required=True, metadata={"description": "written so far"})
    total = fields.Integer(required=True, allow_none=True)
    bytes = fields.Integer(required=True, allow_none=True)
    problem = fields.String(required=True, allow_none=True, metadata={"description": "why it failed: a code"})
    created_at = fields.AwareDateTime(required=True)
    ended_at = fields.AwareDateTime(required=True, allow_none=True)
    expires_at = fields.AwareDateTime(required=True)


def read_job(raw: bytes) -> tuple[str, str, dict[str, str]]:
    """The kind, the format and the query that a body asks for. Raises Malformed or EnvelopeInvalid."""
    said = read_decision(raw, JobShape())
    return _KINDS[said["what"]], said["format"], said["query"]


def wanted(who: SignedIn, kind: str, query: Mapping[str, Any]) -> Wanted:
    """What a query asks for. Raises Forbidden where personal data in full are not for this role: a file goes further
    than a screen, so fewer may take them than see them."""
    asked = dict(query)
    names, in_full = asked.pop("columns", None), asked.pop("personal") == "full"
    if in_full and who.role not in REVIEW_ROLES:
        raise Forbidden(roles=sorted(REVIEW_ROLES))
    how = {name: asked.pop(name) for name in ("crs", "lang", "since") if name in asked}
    return Wanted(kind, Selection(**asked), tuple(names.split(",")) if names else None, in_full=in_full, **how)


def wanted_in_words(who: SignedIn, kind: str, query: Mapping[str, str]) -> Wanted:
    """The same, of a query that nobody has read yet. Raises QueryInvalid too."""
    try:
        return wanted(who, kind, QUERIES[kind].load(query))
    except ValidationError as error:
        named = error.messages if isinstance(error.messages, dict) else {"": error.messages}
        errors = [{"pointer": f"/query/{name}", "code": "invalid", "detail": str(why)} for name, why in named.items()]
        raise QueryInvalid(errors=errors) from None


def file_name(wanted: Wanted, ending: str, now: dt.datetime) -> str:
    """What a file of this day is called; the name says what of it is not the usual."""
    parts = [columns.NAMES[wanted.kind], *(["gcj02"] * (wanted.crs == "GCJ-02")), *(["changes"] * bool(wanted.since))]
    return f"{'-'.join(parts)}-{local_day(now)}.{ending}"


def try_out(session: Session, who: SignedIn, wanted: Wanted) -> None:
    """Nothing is written. Raises QueryInvalid or CursorExpired where `write` would."""
    columns.check(session, who, wanted)
    since_of(session, who, wanted)


def check(wanted: Wanted, ending: str) -> Format:
    """The format of this ending. Raises QueryInvalid if there is none, or not in those coordinates, and
    FormatNotInstalled."""
    return formats.check(ending, columns.TARGETS[wanted.crs])


def tag(session: Session, who: SignedIn, wanted: Wanted, ending: str) -> Tag:
    """The tag of the file that would be written now."""
    now = cursors.now_of(session, who)
    cursor = cursors.at(session, now, Place(now.number, now.number))
    return Tag(f"{cursor}.{_digest(now, wanted, ending)}", cursor)


def is_current(session: Session, who: SignedIn, wanted: Wanted, ending: str, etag: str) -> bool:
    """Whether the file with this tag is what would be written now, as far as that can be told without writing it.

    Names of lists count by their edition. What is decided on operations moves no record: with `open` asked for, any
    change may be one.
    """
    now = cursors.now_of(session, who)
    cursor, _, digest = etag.rpartition(".")
    if digest != _digest(now, wanted, ending):
        return False
    try:
        place, _ = cursors.place_of(session, cursor, now.scope)
    except (CursorExpired, QueryInvalid):
        return False
    if place.number == now.number:
        return True
    return wanted.selection.open is None and not columns.has_changed(session, who, wanted, place.number)


def _digest(now: Now, wanted: Wanted, ending: str) -> str:
    asked = asdict(wanted) | {"selection": wanted.selection.given()}
    return hashlib.sha256(canonical([EDITION, str(now.reference_version), ending, asked])).hexdigest()[:16]


def told(wanted: Wanted) -> dict[str, Any]:
    """What was asked for, as JSON that the access log keeps: only what is not the usual."""
    usual = asdict(Wanted(wanted.kind, wanted.selection))
    given = {name: value for name, value in asdict(wanted).items() if value != usual[name]}
    return {"kind": wanted.kind, "selection": loads(canonical(wanted.selection.given())), **given}


def since_of(session: Session, who: SignedIn, wanted: Wanted) -> int | None:
    """The number of the link behind which changes are asked for. Raises QueryInvalid, CursorExpired."""
    if wanted.since is None:
        return None
    place, _ = cursors.place_of(session, wanted.since, cursors.now_of(session, who).scope, parameter="since")
    return place.number - bool(place.kind)  # a phone's cursor may stand within a link


def write(
    session: Session,
    who: SignedIn,
    wanted: Wanted,
    ending: str,
    path: Path,
    *,
    tell: Callable[[int], None] = lambda records: None,
) -> int:
    """How many records the file now holds, newest first; those that are gone since the cursor, if any, behind them.

    `tell` is told how many there are, time and again; whatever it raises ends the writing. The caller has begun a
    transaction that sees a single moment. Raises QueryInvalid, CursorExpired, ExportTooLarge.
    """
    layout, chunks = columns.read(session, who, wanted, since_of(session, who, wanted))
    counted = _Counted(chunks, tell)
    try:
        check(wanted, ending).write(layout, counted.chunks(), path)
    except Exception:
        if counted.failed is not None:  # GDAL only knows that something was raised
            raise counted.failed from None
        raise
    return counted.records


class _Counted:
    """Counts the records that pass, and remembers what was raised instead of more."""

    def __init__(self, chunks: Iterable[Chunk], tell: Callable[[int], None]) -> None:
        self._chunks = chunks
        self._tell = tell
        self.records = 0
        self.failed: Exception | None = None

    def chunks(self) -> Iterator[Chunk]:
        try:
            for chunk in self._chunks:
                yield chunk
                self.records += len(chunk)
                self._tell(self.records)
        except Exception as error:
            self.failed = error
            raise
