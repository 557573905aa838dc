"""What records look like on their way out, and how they are asked for: the shapes of the read side.

Each function gives the JSON value of one thing, from the columns that `patrol_log` fetched; orjson writes it. The
documents describe the same shapes for the API document and never write anything (marshmallow is too slow for that:
traps.md); a test holds the two together. Names are those of the tables; ids are text; instants RFC 3339, UTC,
milliseconds, `Z`.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Sequence
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, pre_load

from sync.grouping import ACTIONS as GROUPINGS
from sync.problems import NOTES
from sync.revisions import count_of
from sync.standing import ACTIONS, STATES, state_of
from sync.wire import MEASURES, Instant, Text, Uid, as_json

#: Roles that work with all records but have no need to know whom they concern.
MASKED_ROLES = frozenset({"gis", "auditor"})
#: How many characters of personal data stay readable at its head and its tail: 138****1234, 浙A****5.
_READABLE = {"phone": (3, 4), "id_number": (3, 4), "plate": (2, 1)}
#: Where personal data stand in a record, and in an operation of its history.
_PERSONAL = ("vendor", "parties", "sent", "problem")

#: Outcomes of operations that somebody may have to decide on.
OPEN = ("quarantined", "conflict", "held")
#: What may wait for a person: such operations, records whose photos are late, phones whose operations never arrived,
#: pairs that may be one thing.
INBOX = (*OPEN, "photos", "holes", "alike")
#: Ranges of counters told of one phone at most; the count tells of all.
MOST_RANGES = 100

#: One row of a result with named columns; what it holds is said where it is asked for.
Columns = Any
Json = dict[str, Any]


# ---------------------------------------------------------------- how records are asked for

#: More than white space: a filter for nothing is a mistake.
_SOMETHING = re.compile(r".*\S.*", re.DOTALL)
_YES_OR_NO = ("true", "false")
_NUMBER = re.compile(r"-?[0-9]{1,3}(\.[0-9]{1,20})?([eE]-?[0-9]{1,2})?")


class Number(fields.Integer):
    """A whole number within limits, in plain digits."""

    def __init__(self, least: int, most: int, **kwargs: Any) -> None:
        super().__init__(metadata={"minimum": least, "maximum": most}, **kwargs)
        self.least, self.most = least, most

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        digits = value.isascii() and value.isdigit() and len(value) <= len(str(self.most))
        if not digits or not self.least <= int(value) <= self.most:
            raise ValidationError(f"a whole number from {self.least} to {self.most}")
        return int(value)


class Box(fields.Field[tuple[float, float, float, float]]):
    """west,south,east,north in WGS 84 degrees; west > east across the antimeridian."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> tuple[float, float, float, float]:
        parts = value.split(",")
        if len(parts) == 4 and all(_NUMBER.fullmatch(part) for part in parts):
            west, south, east, north = map(float, parts)
            if max(abs(west), abs(east)) <= 180 and -90 <= south <= north <= 90:
                return west, south, east, north
        raise ValidationError("west,south,east,north in degrees, south <= north")


class Query(Schema):
    """What stands behind the question mark: each at most once, and nothing else."""

    class Meta:
        unknown = RAISE

    @pre_load
    def _refuse_repeated(self, query: Any, **_: Any) -> Any:
        """A query string may name a filter twice; taking either value would show what was not asked for."""
        repeated = [name for name, values in query.lists() if len(values) > 1] if hasattr(query, "lists") else []
        if repeated:
            raise ValidationError({name: ["given more than once"] for name in repeated})
        return query


class SelectionQuery(Query):
    """The filters of lists and exports."""

    from_at = Instant()
    until_at = Instant()
    officer = Text(80, pattern=_SOMETHING)
    township = Text(12, pattern=_SOMETHING)
    note = Text(40, one_of=tuple(NOTES))
    photos = Text(10, one_of=("missing", "complete"))
    missing_before = Instant()
    bbox = Box(metadata={"type": "string", "example": "120.42,30.14,120.51,30.22"})
    q = Text(100, pattern=_SOMETHING)
    item = Text(40, pattern=_SOMETHING)
    domain = Text(100, pattern=_SOMETHING)
    event_class = Text(20, pattern=_SOMETHING)
    measure = Text(20, one_of=MEASURES)
    vendor = Uid()
    voided = Text(10, one_of=("excluded", "included", "only"), load_default="excluded")
    review = Text(10, one_of=STATES[:-1])
    open = Text(12, one_of=OPEN)
    grouped = Text(6, one_of=("once", "expand"), load_default="once")


class PageQuery(SelectionQuery):
    """The filters of a list, and which page of it."""

    limit = Number(1, 500, load_default=50)
    cursor = Text(64)
    count = Text(5, one_of=_YES_OR_NO, load_default="false")


class InboxQuery(Query):
    """Which page of what waits for a person; without a kind how much of each there is."""

    kind = Text(12, one_of=INBOX)
    limit = Number(1, 500, load_default=50)
    cursor = Text(64)


class InstallationsQuery(Query):
    """Which installations, and which page of them."""

    officer = Text(80, pattern=_SOMETHING)
    silent_since = Instant()
    holes = Text(5, one_of=_YES_OR_NO)
    unsent = Text(5, one_of=_YES_OR_NO)
    possible_loss = Text(5, one_of=_YES_OR_NO)
    revoked = Text(5, one_of=_YES_OR_NO)
    limit = Number(1, 500, load_default=50)
    cursor = Text(64)


class VendorsQuery(Query):
    """Which vendors, and which page of them."""

    phone = Text(40, pattern=_SOMETHING)
    plate = Text(20, pattern=_SOMETHING)
    stall = Text(80, pattern=_SOMETHING)
    name = Text(80, pattern=_SOMETHING)
    township = Text(12, pattern=_SOMETHING)
    limit = Number(1, 500, load_default=50)
    cursor = Text(64)


# ---------------------------------------------------------------- small things


def instant(at: dt.datetime | None) -> str | None:
    """RFC 3339 of an instant in UTC, cut to the millisecond."""
    return None if at is None else f"{at.isoformat(timespec='milliseconds')[:23]}Z"


def _named(code: str | None, name: str | None) -> Json | None:
    return None if code is None else {"code": code, "name": name}


def masked(value: Any) -> Any:
    """The same JSON value with the middle of every phone, identity number and plate replaced by asterisks."""
    if isinstance(value, list):
        return [masked(each) for each in value]
    if isinstance(value, dict):
        return {name: _mask(name, each) if name in _READABLE else masked(each) for name, each in value.items()}
    return value


def masked_record(record: Json) -> Json:
    """A record, or an operation of one, with personal data masked; looking elsewhere costs lists dearly."""
    return record | {name: masked(record[name]) for name in _PERSONAL if name in record}


def masked_column(name: str, values: Sequence[Any]) -> Sequence[Any]:
    """The values that many records have under this name, masked where it is one of personal data."""
    return [_mask(name, value) for value in values] if name in _READABLE else values


def _mask(name: str, value: Any) -> str | None:
    if value is None:
        return None
    shown, (head, tail) = str(value), _READABLE[name]
    hidden = len(shown) - head - tail
    return shown[:head] + "*" * hidden + shown[-tail:] if hidden > 1 else "*" * len(shown)


def officer(row: Columns) -> Json:
    """Who it was."""
    return {"username": row.username, "full_name": row.full_name}


def _text(id: uuid.UUID | None) -> str | None:
    return None if id is None else str(id)


# ---------------------------------------------------------------- records


def recorded(row: Columns) -> Json:
    """What every kind of record has."""
    arrived = row.arrived or ""
    return {
        "id": str(row.id),
        "version": row.version,
        "officer": officer(row),
        "received_at": instant(row.received_at),
        "occurred": {
            "at": instant(row.occurred_at),
            "error_ms": row.occurred_error_ms,
            "method": row.occurred_method,
        },
        "township": _named(row.township_code, row.township_name),
        "township_chosen": row.township,
        "fix": row.fix,
        "position": _position(row),
        "located": _located(row),
        "photos": [{**photo, "received": photo["sha256"] in arrived} for photo in row.photos],
        "photos_missing_since": instant(row.missing_since),
        "notes": row.notes,
        "voided": None if row.voided_at is None else {"at": instant(row.voided_at), "reason": row.void_reason},
    }


def photo_facts(row: Columns) -> Json:
    """What a photo says by itself: claims of its file, none of them evidence. Pixels as shown, upright."""
    position = None if row.lon is None else {"lon": row.lon, "lat": row.lat, "error_m": row.error_m, "crs": "WGS 84"}
    return {
        "format": row.format,
        "width_px": row.width_px,
        "height_px": row.height_px,
        "flags": row.flags,
        "taken_at": instant(row.taken_at),
        "taken_how": row.taken_how,
        "position": position,
        "camera": row.camera,
        "software": row.software,
    }


def _position(row: Columns) -> Json | None:
    if row.lon is None:
        return None
    return {"lon": row.lon, "lat": row.lat, "error_m": row.error_m, "crs": "WGS 84"}


def _located(row: Columns) -> Json | None:
    if row.located is None:
        return None
    return {
        "how": row.located,
        "township": _named(row.located_code, row.located_name),
        "candidates": row.located_candidates,
        "areas_edition": row.areas_edition,
    }


def group(members: Sequence[Columns]) -> Json:
    """Records that are one thing, as far as they may be seen; each row has its `group_id` and its `id`."""
    return {"id": str(members[0].group_id), "records": [str(member.id) for member in members]}


def patrol(row: Columns, crew: Sequence[Columns]) -> Json:
    """What a patrol has of its own; `crew` are the accounts that were out."""
    return {
        "officers": [officer(member) for member in crew],
        "purpose": row.purpose,
        "started_at": instant(row.started_at),
        "ended_at": instant(row.ended_at),
    }


def incident(row: Columns, items: Sequence[Columns]) -> Json:
    """What an incident has of its own; `items` are the editions it touches, in the order told."""
    return {
        "patrol": str(row.patrol),
        "items": [item(each) for each in items],
        "event_class": row.event_class,
        "event_class_edition": row.event_class_edition,
        "description": row.description,
        "measures": row.measures,
        "designated_place": row.designated_place,
        "vendor": row.vendor,
        "parties": row.parties,
        "no_penalty_reason": row.no_penalty_reason,
    }


def item(row: Columns) -> Json:
    """One edition of an enforcement item, and whether the township could act on it that day."""
    return {
        "code": row.item_code,
        "name": row.name,
        "domain": row.domain,
        "from_on": row.from_on,
        "until_on": row.until_on,
        "delegated": row.delegation_id is not None,
        "referred_to": _named(row.referred_to, row.department_name),
    }


def warning(row: Columns) -> Json:
    """What a warning has of its own."""
    return {
        "incident": str(row.incident),
        "vendor": _text(row.vendor_id),
        "step": row.step,
        "text": row.text,
        "deadline_on": row.deadline_on,
        "response": row.response,
    }


#: What an operation says of its record; the rest of it (counter, clocks) is told by its columns.
_SENT = ("body", "base", "set", "reason", "photos")


def operation(row: Columns) -> Json:
    """One operation in the history of a record. `sent` is what it said, null where that can't be read as JSON."""
    return {
        "id": str(row.id),
        "op": row.op,
        "kind": row.kind,
        "officer": officer(row),
        "received_at": instant(row.received_at),
        "occurred_at": instant(row.occurred_at),
        "outcome": row.outcome,
        "version": row.version,
        "notes": row.notes,
        "problem": row.problem,
        "sent": None if row.raw is None else _sent(row.raw),
    }


def _sent(raw: bytes) -> Json | None:
    operation = as_json(raw)
    return {name: operation[name] for name in _SENT if name in operation} if isinstance(operation, dict) else None


# ---------------------------------------------------------------- what people decided


def review(version: int, voided: bool, decided: Columns | None) -> Json:
    """How a record of this version stands. `decided` is the last decision on it, told where it is about that."""
    state = state_of(version, voided, decided and (decided.action, decided.version))
    if decided is None or state == "received" or (state == "void") != (decided.action == "void"):
        return {"state": state, "version": None, "by": None, "at": None, "comment": None}
    told = {"version": decided.version, "by": officer(decided), "at": instant(decided.at)}
    return {"state": state, **told, "comment": decided.comment}


def review_event(row: Columns) -> Json:
    """A decision on a version of a record, or a comment."""
    told = {"action": row.action, "version": row.version, "comment": row.comment}
    return {**told, "by": officer(row), "at": instant(row.at)}


def decision(row: Columns) -> Json:
    """What was decided on an operation, and what was made of it: columns `made_…`, all null where nothing was."""
    made = None
    if row.made_id is not None:
        record = {"kind": row.made_kind, "record": _text(row.made_record_id)}
        made = {"id": str(row.made_id), **record, "outcome": row.made_outcome, "version": row.made_version}
    told = {"action": row.action, "comment": row.comment, "by": officer(row), "at": instant(row.at)}
    return {**told, "operation": made}


def waiting(row: Columns, sender: Columns) -> Json:
    """An operation that may wait for a person; `sender` has the names of who sent it."""
    return {
        "id": str(row.id),
        "op": row.op,
        "n": row.n,
        "kind": row.kind,
        "record": _text(row.record_id),
        "officer": officer(sender),
        "install": str(row.install_id),
        "received_at": instant(row.received_at),
        "occurred_at": instant(row.occurred_at),
        "outcome": row.outcome,
        "version": row.version,
        "notes": row.notes,
        "problem": row.problem,
        "waits_for": _text(row.waits_for),
    }


def lacking(row: Columns) -> Json:
    """A record that photos are missing of."""
    return {
        "id": str(row.id),
        "kind": row.kind,
        "officer": officer(row),
        "township": _named(row.township_code, row.township_name),
        "photos_missing": row.photos_missing,
        "photos_missing_since": instant(row.since),
    }


def record_side(row: Columns) -> Json:
    """One of two records that are alike: enough to tell which it is."""
    return {
        "id": str(row.id),
        "version": row.version,
        "officer": officer(row),
        "received_at": instant(row.received_at),
        "occurred": {"at": instant(row.occurred_at), "error_ms": row.occurred_error_ms, "method": row.occurred_method},
        "township": _named(row.township_code, row.township_name),
        "position": _position(row),
    }


def vendor_side(row: Columns) -> Json:
    """One of two vendors that are alike, as first told."""
    told = {name: getattr(row, name) for name in ("name", "phone", "stall", "plate")}
    return {"id": str(row.id), "version": 1, **told, "township": _named(row.township_code, row.township_name)}


def installation(
    stored: Columns, row: Columns, officers: Sequence[Columns], owed: tuple[list[list[int]], list[list[int]]]
) -> Json:
    """A phone: its row, who holds it, all who ever signed in on it, its holes and what it declares unsent."""
    gone, unsent = owed
    return {
        "id": str(stored.id),
        "officer": officer(row),
        "account_disabled": row.disabled_at is not None,
        "officers": [officer(each) for each in officers],
        "app": stored.app,
        "created_at": instant(stored.created_at),
        "last_sync_at": instant(stored.last_sync_at),
        "revoked_at": instant(stored.revoked_at),
        "clock_offset_ms": stored.clock_offset_ms,
        "next_n": stored.next_n,
        "unsent": _counters(unsent, stored.unsent_since),
        "holes": _counters(gone, stored.holes_since),
        "lost": _counters(stored.lost or [], None),
        "possible_loss": bool(row.possible_loss),
    }


def permit(issued: Columns) -> Json:
    """A permit, with its code."""
    told = {"code": issued.code, "install": str(issued.install_id), "officer": officer(issued)}
    return {**told, "expires_at": instant(issued.expires_at)}


def access_token(row: Columns) -> Json:
    """An access token, without what makes it one."""
    instants = ("created_at", "expires_at", "last_used_at", "revoked_at")
    return {"id": str(row.id), "name": row.name, **{name: instant(getattr(row, name)) for name in instants}}


def _counters(ranges: Sequence[Sequence[int]], since: dt.datetime | None) -> Json:
    return {"count": count_of(ranges), "ranges": list(ranges[:MOST_RANGES]), "since": instant(since)}


def track(row: Columns) -> Json:
    """A stretch of a patrol's way: points are [lon, lat, ms after from_at or null, accuracy_m or null], WGS 84."""
    return {"from_at": instant(row.from_at), "points": row.points}


# ---------------------------------------------------------------- the same, for the API document


class OfficerDocument(Schema):
    username = fields.String(required=True)
    full_name = fields.String(required=True)


class NamedDocument(Schema):
    code = fields.String(required=True)
    name = fields.String(required=True, allow_none=True)


class OccurredDocument(Schema):
    at = fields.AwareDateTime(required=True)
    error_ms = fields.Integer(required=True, allow_none=True)
    method = fields.String(required=True)


class PositionDocument(Schema):
    lon = fields.Float(required=True)
    lat = fields.Float(required=True)
    error_m = fields.Float(required=True, allow_none=True)
    crs = fields.Constant("WGS 84", required=True)


class LocatedDocument(Schema):
    how = fields.String(required=True, metadata={"enum": ["inside", "uncertain", "outside"]})
    township = fields.Nested(NamedDocument, required=True, allow_none=True)
    candidates = fields.List(fields.String(), required=True)
    areas_edition = fields.String(required=True, allow_none=True)


class AnnouncedPhotoDocument(Schema):
    sha256 = fields.String(required=True)
    bytes = fields.Integer(required=True)
    type = fields.String(required=True)
    role = fields.String(allow_none=True)
    received = fields.Boolean(required=True)


class PhotoFactsDocument(Schema):
    format = fields.String(required=True, allow_none=True)
    width_px = fields.Integer(required=True, allow_none=True)
    height_px = fields.Integer(required=True, allow_none=True)
    flags = fields.List(fields.String(), required=True)
    taken_at = fields.AwareDateTime(required=True, allow_none=True)
    taken_how = fields.String(required=True, allow_none=True)
    position = fields.Nested(PositionDocument, required=True, allow_none=True)
    camera = fields.String(required=True, allow_none=True)
    software = fields.String(required=True, allow_none=True)


class OnePhotoDocument(AnnouncedPhotoDocument):
    facts = fields.Nested(PhotoFactsDocument, required=True, allow_none=True)


class VoidedDocument(Schema):
    at = fields.AwareDateTime(required=True)
    reason = fields.String(required=True, allow_none=True)


class LinkedItemDocument(Schema):
    code = fields.String(required=True)
    name = fields.String(required=True)
    domain = fields.String(required=True)
    from_on = fields.Date(required=True)
    until_on = fields.Date(required=True, allow_none=True)
    delegated = fields.Boolean(required=True)
    referred_to = fields.Nested(NamedDocument, required=True, allow_none=True)


class ReviewDocument(Schema):
    """How a record stands; all else is null where nobody has decided on its version."""

    state = fields.String(required=True, metadata={"enum": list(STATES)})
    version = fields.Integer(required=True, allow_none=True)
    by = fields.Nested(OfficerDocument, required=True, allow_none=True)
    at = fields.AwareDateTime(required=True, allow_none=True)
    comment = fields.String(required=True, allow_none=True)


class ReviewEventDocument(Schema):
    action = fields.String(required=True, metadata={"enum": list(ACTIONS)})
    version = fields.Integer(required=True)
    comment = fields.String(required=True, allow_none=True)
    by = fields.Nested(OfficerDocument, required=True)
    at = fields.AwareDateTime(required=True)


class MadeDocument(Schema):
    """The operation that was made by a decision."""

    id = fields.UUID(required=True)
    kind = fields.String(required=True)
    record = fields.UUID(required=True)
    outcome = fields.String(required=True)
    version = fields.Integer(required=True, allow_none=True)


class DecisionDocument(Schema):
    action = fields.String(required=True, metadata={"enum": ["repair", "resolve", "dismiss"]})
    comment = fields.String(required=True, allow_none=True)
    by = fields.Nested(OfficerDocument, required=True)
    at = fields.AwareDateTime(required=True)
    operation = fields.Nested(MadeDocument, required=True, allow_none=True)


class GroupDocument(Schema):
    """Records that are one thing, those you may see, the first first. Null for a record that stands alone."""

    id = fields.UUID(required=True)
    records = fields.List(fields.UUID(), required=True)


class RecordedDocument(Schema):
    id = fields.UUID(required=True)
    version = fields.Integer(required=True)
    officer = fields.Nested(OfficerDocument, required=True)
    received_at = fields.AwareDateTime(required=True)
    occurred = fields.Nested(OccurredDocument, required=True)
    township = fields.Nested(
        NamedDocument, required=True, allow_none=True, metadata={"description": "where it is filed"}
    )
    township_chosen = fields.String(required=True, allow_none=True)
    fix = fields.Dict(required=True, allow_none=True, metadata={"description": "the position as sent"})
    position = fields.Nested(PositionDocument, required=True, allow_none=True)
    located = fields.Nested(LocatedDocument, required=True, allow_none=True)
    photos = fields.List(fields.Nested(AnnouncedPhotoDocument), required=True)
    photos_missing_since = fields.AwareDateTime(
        required=True, allow_none=True, metadata={"description": "when the longest missing photo was announced"}
    )
    notes = fields.List(fields.Dict(), required=True)
    voided = fields.Nested(VoidedDocument, required=True, allow_none=True)

    review = fields.Nested(ReviewDocument, required=True)
    group = fields.Nested(GroupDocument, required=True, allow_none=True)


class PatrolDocument(RecordedDocument):
    officers = fields.List(fields.Nested(OfficerDocument), required=True)
    purpose = fields.String(required=True, allow_none=True)
    started_at = fields.AwareDateTime(required=True, allow_none=True)
    ended_at = fields.AwareDateTime(required=True, allow_none=True)


class IncidentDocument(RecordedDocument):
    patrol = fields.UUID(required=True)
    items = fields.List(fields.Nested(LinkedItemDocument), required=True)
    event_class = fields.String(required=True, allow_none=True)
    event_class_edition = fields.String(required=True, allow_none=True)
    description = fields.String(required=True, allow_none=True)
    measures = fields.List(fields.String(), required=True)
    designated_place = fields.String(required=True, allow_none=True)
    vendor = fields.Dict(required=True, allow_none=True, metadata={"description": "as told; masked for some roles"})
    parties = fields.List(fields.Dict(), required=True, metadata={"description": "as told; masked for some roles"})
    no_penalty_reason = fields.String(required=True, allow_none=True)


class WarningDocument(RecordedDocument):
    incident = fields.UUID(required=True)
    vendor = fields.UUID(required=True, allow_none=True)
    step = fields.String(required=True)
    text = fields.String(required=True, allow_none=True)
    deadline_on = fields.Date(required=True, allow_none=True)
    response = fields.String(required=True, allow_none=True)


class HistoryDocument(Schema):
    id = fields.UUID(required=True)
    op = fields.String(required=True, allow_none=True)
    kind = fields.String(required=True, allow_none=True)
    officer = fields.Nested(OfficerDocument, required=True)
    received_at = fields.AwareDateTime(required=True)
    occurred_at = fields.AwareDateTime(required=True, allow_none=True)
    outcome = fields.String(required=True)
    version = fields.Integer(required=True, allow_none=True)
    notes = fields.List(fields.Dict(), required=True)
    problem = fields.Dict(required=True, allow_none=True)
    sent = fields.Dict(required=True, allow_none=True)
    decision = fields.Nested(DecisionDocument, required=True, allow_none=True)
    instead_of = fields.UUID(
        required=True, allow_none=True, metadata={"description": "the operation that a decision made this one of"}
    )


class StandingDocument(Schema):
    """How a record stands now."""

    record = fields.UUID(required=True)
    version = fields.Integer(required=True)
    review = fields.Nested(ReviewDocument, required=True)


class ApprovalDocument(Schema):
    record = fields.UUID(required=True)
    version = fields.Integer(required=True, allow_none=True)
    review = fields.Nested(ReviewDocument, required=True, allow_none=True)
    approved = fields.Boolean(required=True)
    problem = fields.Dict(required=True, allow_none=True, metadata={"description": "why not: `code` and `title`"})


class ApprovalsDocument(Schema):
    results = fields.List(fields.Nested(ApprovalDocument), required=True)


class WaitingDocument(Schema):
    """An operation that may wait for a person."""

    id = fields.UUID(required=True)
    op = fields.String(required=True, allow_none=True)
    n = fields.Integer(required=True, allow_none=True)
    kind = fields.String(required=True, allow_none=True)
    record = fields.UUID(required=True, allow_none=True)
    officer = fields.Nested(OfficerDocument, required=True)
    install = fields.UUID(required=True)
    received_at = fields.AwareDateTime(required=True)
    occurred_at = fields.AwareDateTime(required=True, allow_none=True)
    outcome = fields.String(required=True)
    version = fields.Integer(required=True, allow_none=True)
    notes = fields.List(fields.Dict(), required=True)
    problem = fields.Dict(required=True, allow_none=True)
    waits_for = fields.UUID(required=True, allow_none=True)


class DecidedOperationDocument(WaitingDocument):
    record_version = fields.Integer(required=True, allow_none=True, metadata={"description": "the record's, now"})
    fields_in_conflict = fields.List(
        fields.Dict(), required=True, data_key="fields", metadata={"description": "field, base, live, yours: now"}
    )
    decision = fields.Nested(DecisionDocument, required=True, allow_none=True)


class WholeOperationDocument(DecidedOperationDocument):
    raw = fields.Raw(required=True, allow_none=True, metadata={"description": "what the phone sent"})
    raw_base64 = fields.String(
        required=True, allow_none=True, metadata={"description": "the same, where it is no JSON that can be shown"}
    )


class InboxDocument(Schema):
    counts = fields.Dict(
        required=True,
        keys=fields.String(),
        values=fields.Integer(),
        metadata={"description": "quarantined, conflict, held too long, photos late, phones that owe, pairs alike"},
    )
    items = fields.List(
        fields.Dict(), required=True, metadata={"description": "operations, records, installations, or pairs"}
    )
    next = fields.String(required=True, allow_none=True, metadata={"description": "the next page's cursor"})


class GroupedDocument(Schema):
    """What was said, and the groups that came of it."""

    grouping = fields.UUID(required=True)
    groups = fields.List(fields.Nested(GroupDocument), required=True)


class GroupingDocument(Schema):
    """Something that was said of records that are alike; without a `by` the server grouped what was sent again."""

    id = fields.UUID(required=True)
    action = fields.String(required=True, metadata={"enum": list(GROUPINGS)})
    records = fields.List(fields.UUID(), required=True)
    apart = fields.List(fields.List(fields.UUID()), required=True, metadata={"description": "pairs told apart"})
    undoes = fields.List(fields.UUID(), required=True)
    undone = fields.Boolean(required=True)
    reason = fields.String(required=True)
    by = fields.Nested(OfficerDocument, required=True, allow_none=True)
    at = fields.AwareDateTime(required=True)


class GroupHistoryDocument(Schema):
    group = fields.Nested(GroupDocument, required=True, allow_none=True)
    said = fields.List(fields.Nested(GroupingDocument), required=True)


class CountersDocument(Schema):
    """Counters of an installation: how many, which, and since when there have been any."""

    count = fields.Integer(required=True)
    ranges = fields.List(
        fields.List(fields.Integer()),
        required=True,
        metadata={"description": f"closed ranges, the first {MOST_RANGES}"},
    )
    since = fields.AwareDateTime(required=True, allow_none=True)


class InstallationDocument(Schema):
    id = fields.UUID(required=True)
    officer = fields.Nested(OfficerDocument, required=True, metadata={"description": "who signed in last"})
    account_disabled = fields.Boolean(required=True)
    officers = fields.List(fields.Nested(OfficerDocument), required=True, metadata={"description": "all who signed in"})
    app = fields.String(required=True, allow_none=True)
    created_at = fields.AwareDateTime(required=True)
    last_sync_at = fields.AwareDateTime(required=True, allow_none=True)
    revoked_at = fields.AwareDateTime(required=True, allow_none=True)
    clock_offset_ms = fields.Integer(required=True, allow_none=True)
    next_n = fields.Integer(required=True)
    unsent = fields.Nested(CountersDocument, required=True, metadata={"description": "what it said it still has"})
    holes = fields.Nested(CountersDocument, required=True, metadata={"description": "neither received nor unsent"})
    lost = fields.Nested(CountersDocument, required=True, metadata={"description": "what people declared lost"})
    possible_loss = fields.Boolean(
        required=True, metadata={"description": "something is unsent, and the phone is revoked or replaced"}
    )


class InstallationsDocument(Schema):
    items = fields.List(fields.Nested(InstallationDocument), required=True)
    next = fields.String(required=True, allow_none=True, metadata={"description": "the next page's cursor"})


class PermitDocument(Schema):
    """A permit. Its code is told this once."""

    code = fields.String(required=True)
    install = fields.UUID(required=True)
    officer = fields.Nested(OfficerDocument, required=True)
    expires_at = fields.AwareDateTime(required=True)


class AccessTokenDocument(Schema):
    """What a program reads with; `last_used_at` is right to within a few minutes."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    created_at = fields.AwareDateTime(required=True)
    expires_at = fields.AwareDateTime(required=True)
    last_used_at = fields.AwareDateTime(required=True, allow_none=True)
    revoked_at = fields.AwareDateTime(required=True, allow_none=True)


class NewAccessTokenDocument(AccessTokenDocument):
    """The token itself is told this once."""

    token = fields.String(required=True)


class AccessTokensDocument(Schema):
    items = fields.List(fields.Nested(AccessTokenDocument), required=True)


class TrackDocument(Schema):
    from_at = fields.AwareDateTime(required=True)
    points = fields.List(fields.List(fields.Float(allow_none=True)), required=True)


def page_document(record: type[Schema]) -> type[Schema]:
    """A page of such records; `count` only where it was asked for."""
    shape: dict[str, fields.Field[Any]] = {
        "items": fields.List(fields.Nested(record), required=True),
        "next": fields.String(required=True, allow_none=True, metadata={"description": "the next page's cursor"}),
        "count": fields.Integer(),
    }
    return Schema.from_dict(shape, name=record.__name__.replace("Document", "PageDocument"))


class OnePatrolDocument(PatrolDocument):
    photos = fields.List(fields.Nested(OnePhotoDocument), required=True)
    review_events = fields.List(fields.Nested(ReviewEventDocument), required=True)
    tracks = fields.List(fields.Nested(TrackDocument), required=True)
    history = fields.List(fields.Nested(HistoryDocument), required=True)


class OneIncidentDocument(IncidentDocument):
    photos = fields.List(fields.Nested(OnePhotoDocument), required=True)
    review_events = fields.List(fields.Nested(ReviewEventDocument), required=True)
    history = fields.List(fields.Nested(HistoryDocument), required=True)


class OneWarningDocument(WarningDocument):
    photos = fields.List(fields.Nested(OnePhotoDocument), required=True)
    review_events = fields.List(fields.Nested(ReviewEventDocument), required=True)
    history = fields.List(fields.Nested(HistoryDocument), required=True)
