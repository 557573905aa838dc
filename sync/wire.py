"""Every JSON shape a phone sends, read strictly: what is wrong is found here, by pointer and code.

Two levels, because a poison record must not delay its neighbours: the envelope is read or refused as a whole
(`EnvelopeProblem`); an operation that can't be read or is not valid still becomes an `Operation`, with its raw bytes,
an id and a `problem`, and is kept for a person to look at.

Reading is fast where the body is exactly what a plain JSON writer produces, and careful everywhere else: JSON hides
duplicate keys, numbers too large, NaN, lone surrogates and nesting without end, and each of them once gave a 500
somewhere (traps.md).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
from marshmallow import RAISE, Schema, ValidationError, fields, missing

from sync.clock import Stamp
from sync.grouping import ACTIONS as ACTIONS_ON_GROUPS
from sync.places import TO_WGS84
from sync.problems import QUARANTINE, BatchTooLarge, EnvelopeInvalid, Malformed
from sync.standing import ACTIONS, STATES

#: Operations in one batch at most; a phone answers 413 by sending half.
MAX_OPERATIONS = 1_000
#: One operation's JSON at most, bytes; a whole patrol's track in one operation is about 200 KiB.
MAX_OPERATION_BYTES = 256 * 1024
#: Photos that one operation announces at most.
MAX_PHOTOS = 100
#: Flaws named per operation at most: enough to repair it, too few to fill a disk with.
MAX_FLAWS = 20
#: The largest integer that PostgreSQL's bigint and SQLite hold, and JavaScript's numbers do not round.
MAX_WHOLE = 2**53 - 1

#: The list of event classes that a code without an edition is taken from.
CURRENT_EDITION = "GB/T 47678.5-2026"

MEASURES = ("educate", "publicise", "inform", "guide", "order_correction", "seize_goods", "refer", "none")
STEPS = ("education", "warning", "order_correction", "case")
RESPONSES = ("acknowledged", "refused")

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
#: More than white space.
#: For how many days an access token is good if nothing is said, and at most. ESTIMATE: a quarter; a year.
USUAL_TOKEN_DAYS, MOST_TOKEN_DAYS = 90, 366
_SOMETHING = re.compile(r".*\S.*", re.DOTALL)
_CODES: dict[str, Any] = {"required": "required", "null": "null", "validator_failed": "invalid", "type": "type"}


# ---------------------------------------------------------------- marshmallow's fields, made strict; messages are codes


class _Lean:
    """Checks everything in `_deserialize`; marshmallow's validators, unused here, cost a third of reading.

    `null` for a field that may be absent means that it is: many JSON writers can't leave a field out.
    """

    def deserialize(self: Any, value: Any, attr: Any = None, data: Any = None, **kwargs: Any) -> Any:
        if value is missing:
            if self.required:
                raise self.make_error("required")
            return self.load_default() if callable(self.load_default) else self.load_default
        if value is None:
            if self.required:
                raise self.make_error("null")
            return None if self.allow_none else self.deserialize(missing)
        return self._deserialize(value, attr, data, **kwargs)


class Text(_Lean, fields.String):
    """Characters that both databases can keep: no NUL. `one_of` limits them to a list."""

    default_error_messages = _CODES | {"nul": "nul", "too_long": "too-long", "one_of": "one-of", "format": "format"}

    def __init__(
        self, longest: int, *, one_of: tuple[str, ...] = (), pattern: re.Pattern[str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(metadata={"maxLength": longest} | ({"enum": list(one_of)} if one_of else {}), **kwargs)
        self.longest, self.one_of, self.pattern = longest, one_of, pattern

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise self.make_error("type")
        if len(value) > self.longest:
            raise self.make_error("too_long")
        if "\x00" in value:
            raise self.make_error("nul")
        if self.one_of and value not in self.one_of:
            raise self.make_error("one_of")
        if self.pattern and not self.pattern.fullmatch(value):
            raise self.make_error("format")
        return value


class Whole(_Lean, fields.Integer):
    """A whole number within limits; never a boolean, a float or a string."""

    default_error_messages = _CODES | {"range": "range"}

    def __init__(self, least: int = 0, most: int = MAX_WHOLE, **kwargs: Any) -> None:
        super().__init__(metadata={"minimum": least, "maximum": most}, **kwargs)
        self.least, self.most = least, most

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if type(value) is not int:
            raise self.make_error("type")
        if not self.least <= value <= self.most:
            raise self.make_error("range")
        return value


class Real(_Lean, fields.Float):
    """A finite number within limits; never a boolean or a string."""

    default_error_messages = _CODES | {"range": "range"}

    def __init__(self, least: float, most: float, **kwargs: Any) -> None:
        super().__init__(metadata={"minimum": least, "maximum": most}, **kwargs)
        self.least, self.most = least, most

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:
        if type(value) is not float and type(value) is not int:
            raise self.make_error("type")
        if not self.least <= value <= self.most:
            raise self.make_error("range")
        return value


class Flag(_Lean, fields.Boolean):
    """True or false; never "yes", 1 or "true"."""

    default_error_messages = _CODES

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("type")
        return value


class Uid(_Lean, fields.UUID):
    """A UUID in its usual form with dashes; other spellings of the same id would be other strings on the phone."""

    default_error_messages = _CODES | {"format": "format"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> uuid.UUID:
        if not isinstance(value, str):
            raise self.make_error("type")
        if not _UUID.fullmatch(value):
            raise self.make_error("format")
        return uuid.UUID(value)


class Instant(_Lean, fields.AwareDateTime):
    """An RFC 3339 date-time with a zone, in UTC afterwards. Naive times are refused: nobody knows what they mean."""

    default_error_messages = _CODES | {"format": "format", "naive": "naive-time"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dt.datetime:
        if not isinstance(value, str):
            raise self.make_error("type")
        try:
            instant = dt.datetime.fromisoformat(value)
            if instant.tzinfo is None:
                raise self.make_error("naive")
            return instant.astimezone(dt.UTC)
        except (ValueError, OverflowError) as error:
            if isinstance(error, ValidationError):
                raise
            raise self.make_error("format") from error


class Day(_Lean, fields.Date):
    """A calendar day, YYYY-MM-DD."""

    default_error_messages = _CODES | {"format": "format"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dt.date:
        if not isinstance(value, str):
            raise self.make_error("type")
        try:
            return dt.date.fromisoformat(value)
        except ValueError as error:
            raise self.make_error("format") from error


class Many(_Lean, fields.List[Any]):
    """A list with a longest and a least length."""

    default_error_messages = _CODES | {"too_long": "too-long", "too_short": "too-short"}

    def __init__(self, inner: fields.Field[Any], longest: int, *, least: int = 0, **kwargs: Any) -> None:
        super().__init__(inner, metadata={"minItems": least, "maxItems": longest}, **kwargs)
        self.longest, self.least = longest, least
        self.inner.required = True  # null is no element

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            raise self.make_error("type")
        if len(value) > self.longest:
            raise self.make_error("too_long")
        if len(value) < self.least:
            raise self.make_error("too_short")
        values, flaws = [], {}
        for index, each in enumerate(value):
            try:
                values.append(self.inner.deserialize(each))
            except ValidationError as error:
                flaws[index] = error.messages
        if flaws:
            raise ValidationError(flaws)
        return values


class Shape(Schema):
    """An object whose every field is known: what a newer app adds waits for a person rather than being lost unseen."""

    class Meta:
        unknown = RAISE

    def load(self, data: Any, **_options: Any) -> dict[str, Any]:
        """The object's values. Raises ValidationError with codes by field.

        marshmallow's own also looks for hooks, renamed fields and generators, none of which are here: twice the time.
        """
        if not isinstance(data, dict):
            raise ValidationError({"_schema": ["type"]})
        values, flaws, seen = {}, {}, 0
        for name, inner in self.load_fields.items():
            given = data.get(name, missing)
            seen += given is not missing
            if given is missing and self.partial:
                continue
            try:  # what is there is read without asking the field twice: a fifth of the time
                there = given is not missing and given is not None
                value = inner._deserialize(given, name, data) if there else inner.deserialize(given)
            except ValidationError as error:
                flaws[name] = error.messages
            else:
                if value is not missing:
                    values[name] = value
        if seen < len(data):
            flaws |= {name: ["unknown-field"] for name in data if name not in self.load_fields}
        if flaws:
            raise ValidationError(flaws)
        return values


class Nested(_Lean, fields.Nested):
    """An object inside an object."""

    default_error_messages = _CODES

    def _deserialize(self, value: Any, attr: str | None, data: Any, partial: Any = None, **kwargs: Any) -> Any:
        return self.schema.load(value)


# ---------------------------------------------------------------- shapes


class AnchorShape(Shape):
    """The server's time as a phone received it, and its own monotonic clock at that moment."""

    server = Instant(required=True)
    mono_ms = Whole(required=True)


class StampShape(Shape):
    """One moment as a phone's clocks saw it."""

    wall = Instant(allow_none=True)
    mono_ms = Whole(allow_none=True)
    boot = Text(64, allow_none=True)
    gnss = Instant(allow_none=True)
    anchor = Nested(AnchorShape, allow_none=True)


class FixShape(Shape):
    """One position reading, as sent."""

    lon = Real(-180, 180, required=True)
    lat = Real(-90, 90, required=True)
    accuracy_m = Real(0, 1_000_000, allow_none=True)
    crs = Text(10, one_of=tuple(TO_WGS84), allow_none=True)
    source = Text(40, allow_none=True)
    age_ms = Whole(allow_none=True)
    mock = Flag(allow_none=True)


class PhotoShape(Shape):
    """A photo that exists on the phone; its bytes follow by themselves."""

    sha256 = Text(64, pattern=_SHA256, required=True)
    bytes = Whole(1, required=True)
    type = Text(60, required=True)
    role = Text(20, allow_none=True)


class PatrolBody(Shape):
    officers = Many(Text(80), 20, least=1, required=True)
    township = Text(12, required=True)
    purpose = Text(500, allow_none=True, load_default=None)
    started = Nested(StampShape, allow_none=True, load_default=None)
    ended = Nested(StampShape, allow_none=True, load_default=None)


class VendorShape(Shape):
    """Who a vendor is, as told. The id is the phone's; a vendor known already keeps what was first told."""

    id = Uid(required=True)
    name = Text(80, allow_none=True)
    phone = Text(40, allow_none=True)
    stall = Text(80, allow_none=True)
    plate = Text(20, allow_none=True)


class PartyShape(Shape):
    """A person or firm concerned by an incident."""

    name = Text(80, allow_none=True)
    role = Text(40, allow_none=True)
    phone = Text(40, allow_none=True)
    id_number = Text(40, allow_none=True)


class IncidentBody(Shape):
    patrol = Uid(required=True)
    items = Many(Text(40), 50, required=True)
    township = Text(12, allow_none=True, load_default=None)
    event_class = Text(20, allow_none=True, load_default=None)
    event_class_edition = Text(40, allow_none=True, load_default=None)
    description = Text(4_000, allow_none=True, load_default=None)
    measures = Many(Text(20, one_of=MEASURES), len(MEASURES), load_default=list)
    designated_place = Text(40, allow_none=True, load_default=None)
    vendor = Nested(VendorShape, allow_none=True, load_default=None)
    parties = Many(Nested(PartyShape), 20, load_default=list)
    no_penalty_reason = Text(500, allow_none=True, load_default=None)


class WarningBody(Shape):
    incident = Uid(required=True)
    vendor = Uid(allow_none=True, load_default=None)
    township = Text(12, allow_none=True, load_default=None)
    step = Text(20, one_of=STEPS, required=True)
    text = Text(4_000, allow_none=True, load_default=None)
    deadline_on = Day(allow_none=True, load_default=None)
    response = Text(20, one_of=RESPONSES, allow_none=True, load_default=None)


class PointField(_Lean, fields.Field[Any]):
    """[lon, lat, mono_ms or null, accuracy_m or null]: an array, because a track has thousands of them."""

    default_error_messages = _CODES | {"range": "range"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list) or len(value) != 4 or any(isinstance(part, bool) for part in value):
            raise self.make_error("type")
        lon, lat, mono_ms, accuracy_m = value
        if not isinstance(lon, (int, float)) or not isinstance(lat, (int, float)):
            raise self.make_error("type")
        if not isinstance(mono_ms, (int, type(None))) or not isinstance(accuracy_m, (int, float, type(None))):
            raise self.make_error("type")
        on_earth = -180 <= lon <= 180 and -90 <= lat <= 90
        if not on_earth or not 0 <= (mono_ms or 0) <= MAX_WHOLE or (accuracy_m or 0) < 0:
            raise self.make_error("range")
        return value


class TrackBody(Shape):
    crs = Text(10, one_of=tuple(TO_WGS84), allow_none=True, load_default=None)
    points = Many(PointField(metadata={"type": "array"}), 4_000, least=1, required=True)


class OperationShape(Shape):
    """What every operation has."""

    op = Uid(required=True)
    n = Whole(1, required=True)
    kind = Text(40, required=True)
    record = Uid(required=True)
    at = Nested(StampShape, required=True)


class CreateShape(OperationShape):
    fix = Nested(FixShape, allow_none=True)
    photos = Many(Nested(PhotoShape), MAX_PHOTOS)


class AmendShape(OperationShape):
    base = Whole(1, 2**31 - 1, required=True)
    photos = Many(Nested(PhotoShape), MAX_PHOTOS)


class VoidShape(OperationShape):
    reason = Text(500, pattern=_SOMETHING, required=True)


BODIES: Mapping[str, type[Shape]] = {"patrol": PatrolBody, "incident": IncidentBody, "warning": WarningBody}

#: The shape of each kind of operation.
KINDS: Mapping[str, Schema] = {
    **{
        f"{record}.create": CreateShape.from_dict({"body": Nested(body, required=True)})()
        for record, body in BODIES.items()
    },
    **{
        f"{record}.amend": AmendShape.from_dict({"set": Nested(body(partial=True), required=True)})()
        for record, body in BODIES.items()
    },
    **{f"{record}.void": VoidShape() for record in BODIES},
    "track.append": OperationShape.from_dict({"body": Nested(TrackBody, required=True)})(),
}


# ---------------------------------------------------------------- what people decide


class Anything(_Lean, fields.Dict):
    """An object of any shape."""

    default_error_messages = _CODES

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.make_error("type")
        return value


class Choices(Anything):
    """For each field `"live"`, `"yours"` or `{"value": …}`."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Any]:
        chosen = super()._deserialize(value, attr, data, **kwargs)
        flaws = {name: ["one-of"] for name, choice in chosen.items() if not _is_choice(choice)}
        if flaws:
            raise ValidationError(flaws)
        return chosen


def _is_choice(value: Any) -> bool:
    return value in ("live", "yours") or (isinstance(value, dict) and value.keys() == {"value"})


#: What people say about their decisions, characters at most: as long as the reason of a void.
LONGEST_COMMENT = 500
#: Records approved in one request at most.
MOST_APPROVED = 500
#: Records that are said to be one thing, or not, in one request at most.
MOST_GROUPED = 100


class RecordDecisionShape(Shape):
    """What is decided on a record, or remarked: about which version, and how the record stood for who decides."""

    action = Text(10, one_of=ACTIONS, required=True)
    version = Whole(1, 2**31 - 1, required=True)
    state = Text(10, one_of=STATES[:-1], load_default=STATES[0])
    comment = Text(LONGEST_COMMENT, pattern=_SOMETHING, allow_none=True, load_default=None)


class SeenRecordShape(Shape):
    """A record in the version that was seen."""

    id = Uid(required=True)
    version = Whole(1, 2**31 - 1, required=True)


class ApprovalsShape(Shape):
    """Records that are approved together, each as it was seen."""

    records = Many(Nested(SeenRecordShape), MOST_APPROVED, least=1, required=True)
    comment = Text(LONGEST_COMMENT, pattern=_SOMETHING, allow_none=True, load_default=None)


#: What is decided on an operation that waits for a person. `outcome` is the one its decider saw, where told. A repair
#: brings the corrected `operation`; a resolution the `version` of the record, and a choice for each of the `fields`
#: that clash; who dismisses a conflict may tell the `version` too.
OperationDecisionShape = Shape.from_dict(
    {
        "action": Text(10, one_of=("repair", "resolve", "dismiss"), required=True),
        "comment": Text(LONGEST_COMMENT, pattern=_SOMETHING, allow_none=True, load_default=None),
        "outcome": Text(12, one_of=("quarantined", "conflict", "held")),
        "operation": Anything(allow_none=True, load_default=None),
        "version": Whole(1, 2**31 - 1, allow_none=True, load_default=None),
        "fields": Choices(load_default=dict),
    },
    name="OperationDecisionShape",
)


class GroupingShape(Shape):
    """What is said of records that are alike: `records` are all that it is about, each as it was seen, with all that
    they are one thing with. A split names those that are `off`; an undo may name the one `grouping` that was wrong."""

    action = Text(10, one_of=ACTIONS_ON_GROUPS, required=True)
    records = Many(Nested(SeenRecordShape), MOST_GROUPED, least=1, required=True)
    off = Many(Uid(), MOST_GROUPED, load_default=list)
    grouping = Uid(allow_none=True, load_default=None)
    reason = Text(LONGEST_COMMENT, pattern=_SOMETHING, required=True)


class LossShape(Shape):
    """Counters of a phone that are declared lost, and why."""

    ranges = Many(Many(Whole(1), 2, least=2), 1_000, least=1, required=True)
    reason = Text(LONGEST_COMMENT, pattern=_SOMETHING, required=True)


class RevocationShape(Shape):
    """Why a phone is revoked."""

    reason = Text(LONGEST_COMMENT, pattern=_SOMETHING, required=True)


class PermitShape(Shape):
    """Why an officer may send what is left on a phone; without a name it is who signed in last."""

    reason = Text(LONGEST_COMMENT, pattern=_SOMETHING, required=True)
    officer = Text(80, pattern=_SOMETHING, allow_none=True, load_default=None)


class AccessTokenShape(Shape):
    """What the program is called, and for how many days its access token is good."""

    name = Text(80, pattern=_SOMETHING, required=True)
    days = Whole(1, MOST_TOKEN_DAYS, load_default=USUAL_TOKEN_DAYS)


def read_decision(raw: bytes, shape: Schema) -> dict[str, Any]:
    """What the body of such a request says. Raises Malformed or EnvelopeInvalid."""
    value = _parse(raw)
    if isinstance(value, _Unreadable):
        raise Malformed(why=value.why)
    try:
        said: dict[str, Any] = shape.load(value)
    except ValidationError as error:
        raise EnvelopeInvalid(errors=[{"pointer": p, "code": c} for p, c in _flaws(error.messages)]) from None
    return said


class EnvelopeShape(Shape):
    """A batch. `ops` are read one by one, so that one that is wrong does not delay the others."""

    batch = Uid(required=True)
    install = Uid(required=True)
    app = Text(80, allow_none=True, load_default=None)
    sent = Nested(StampShape, load_default=dict)
    next_n = Whole(1, required=True)
    unsent = Many(Many(Whole(1), 2), 10_000, load_default=list)
    ops = fields.List(fields.Raw(), required=True, error_messages=_CODES | {"invalid": "type"})


# ---------------------------------------------------------------- the same for the API document, and what is answered


class OperationDocument(CreateShape):
    """An operation. `body` for a create and for track.append, `base` and `set` for an amend, `reason` for a void."""

    kind = Text(40, one_of=tuple(KINDS), required=True)
    body = fields.Dict()
    base = Whole(1, 2**31 - 1)
    set = fields.Dict()
    reason = Text(500)


class EnvelopeDocument(EnvelopeShape):
    """A batch as a phone sends it."""

    ops = fields.List(fields.Nested(OperationDocument), required=True)


class ClockDocument(Schema):
    offset_ms = fields.Integer(allow_none=True, metadata={"description": "how far the phone's wall clock is ahead"})
    error_ms = fields.Integer()


class ResembledDocument(Schema):
    """Another record that may be the same event."""

    record = fields.UUID()
    score = fields.Float(metadata={"description": "how probable that is, from 0 to 1"})
    grouped = fields.Boolean(metadata={"description": "they count as one already"})


class ResultDocument(Schema):
    """What became of one operation."""

    op = fields.UUID(allow_none=True)
    n = fields.Integer(allow_none=True)
    outcome = fields.String(metadata={"enum": ["applied", "held", "conflict", "quarantined"]})
    record = fields.UUID(allow_none=True)
    version = fields.Integer(allow_none=True)
    replayed = fields.Boolean()
    notes = fields.List(fields.Dict())
    problem = fields.Dict(allow_none=True)
    waits_for = fields.UUID(allow_none=True)
    photos_needed = fields.List(fields.String())
    resembles = fields.List(fields.Nested(ResembledDocument))
    decision = fields.Dict(allow_none=True, metadata={"description": "what a person decided on it"})


class ReceiptDocument(Schema):
    """What became of a batch; `results` in the order sent."""

    batch = fields.UUID()
    received_at = fields.AwareDateTime()
    clock = fields.Nested(ClockDocument)
    results = fields.List(fields.Nested(ResultDocument))
    joined = fields.List(fields.Nested(ResultDocument))
    holes = fields.List(fields.List(fields.Integer()))
    photos_needed = fields.List(fields.String())


class HeldDocument(Schema):
    """The operations the server holds, by counter."""

    operations = fields.List(fields.Nested(ResultDocument))


# ---------------------------------------------------------------- what reading gives


@dataclass(slots=True)
class Operation:
    """One operation as it came: first recognised (`recognise`), then, unless it is known already, read (`complete`).

    `id` is the phone's `op`; where that can't be read it is made from the fingerprint, so that a repeat is recognised.
    What stands below `problem` is known once it is complete, and only if there is no problem.
    """

    raw: bytes
    value: Any
    fingerprint: bytes
    id: uuid.UUID
    op: str | None
    n: int | None
    kind: str | None
    record: uuid.UUID | None
    problem: dict[str, Any] | None = None
    at: Stamp = field(default_factory=Stamp)
    fix: dict[str, Any] | None = None
    photos: list[dict[str, Any]] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)
    base: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """A batch as it came, its operations in the order sent."""

    batch: uuid.UUID
    install: uuid.UUID
    app: str | None
    sent: Stamp
    sent_raw: dict[str, Any]
    next_n: int
    unsent: list[list[int]]
    operations: list[Operation]


def problem(code: str, *errors: tuple[str, str], **details: Any) -> dict[str, Any]:
    """Why an operation is quarantined, as phones and supervisors see it: `errors` are (pointer, code)."""
    listed = [{"pointer": pointer, "code": flaw} for pointer, flaw in errors]
    return {"code": code, "title": QUARANTINE[code][0], **({"errors": listed} if listed else {}), **details}


def stamp(value: Mapping[str, Any] | None) -> Stamp:
    """A moment from its validated shape."""
    value = value or {}
    anchor = value.get("anchor")
    return Stamp(
        value.get("wall"),
        value.get("mono_ms"),
        value.get("boot"),
        value.get("gnss"),
        (anchor["server"], anchor["mono_ms"]) if anchor else None,
    )


def stamp_of(sent_raw: Mapping[str, Any]) -> Stamp:
    """The moment a batch was sent, or an operation tells of, from what was kept of it."""
    return stamp(_STAMP.load(sent_raw))


def read_envelope(raw: bytes, most_operations: int = MAX_OPERATIONS) -> Envelope:
    """The batch in a request's body. Raises Malformed, EnvelopeInvalid or BatchTooLarge; nothing else."""
    head, found, recognised = _read_plain(raw) or _read_carefully(raw)
    if len(found) > most_operations:
        raise BatchTooLarge(operations=len(found), most_operations=most_operations)
    try:
        envelope = _ENVELOPE.load(head | {"ops": []})
    except ValidationError as error:
        raise EnvelopeInvalid(errors=[{"pointer": p, "code": c} for p, c in _flaws(error.messages)]) from None
    _check_ranges(envelope["unsent"])
    return Envelope(
        envelope["batch"],
        envelope["install"],
        envelope["app"],
        stamp(envelope["sent"]),
        head.get("sent") or {},
        envelope["next_n"],
        envelope["unsent"],
        [recognised(one) for one in found],
    )


_ENVELOPE, _STAMP = EnvelopeShape(), StampShape()


def _check_ranges(unsent: list[list[int]]) -> None:
    for index, pair in enumerate(unsent):
        if len(pair) != 2 or pair[0] > pair[1]:
            raise EnvelopeInvalid(errors=[{"pointer": f"/unsent/{index}", "code": "range"}])


def as_json(raw: bytes) -> Any:
    """The JSON value that was kept as these bytes; None where they can't be read, or not shown inside an answer."""
    value = _parse(raw)
    try:
        orjson.dumps([[[[[[[[value]]]]]]]])  # an answer goes round what is nested as deep as it may be
    except orjson.JSONEncodeError:
        return None
    return value


def moment_of(raw: bytes) -> dict[str, Any] | None:
    """The moment that an operation tells of, as it was sent; None where it can't be read."""
    value = _parse(raw)
    at = value.get("at") if isinstance(value, dict) else None
    try:
        _STAMP.load(at)
    except ValidationError:
        return None
    return cast(dict[str, Any], at)


def recognise_again(raw: bytes) -> Operation:
    """The operation that was kept as these bytes, as far as it takes to tell which one it is."""
    return recognise(_parse(raw), raw)


def read_again(raw: bytes) -> Operation:
    """The operation that was kept as these bytes, complete."""
    operation = recognise_again(raw)
    complete(operation)
    return operation


# ---------------------------------------------------------------- reading JSON


class _Unreadable:
    """Stands where an operation's JSON can't be kept as a value; `why` is a code."""

    def __init__(self, why: str) -> None:
        self.why = why


#: The head of a batch, what was found for each operation, and how to make an operation of that: only a batch that is
#: not too large is worth that work.
_Read = tuple[dict[str, Any], list[Any], Callable[[Any], Operation]]


def _read_plain(raw: bytes) -> _Read | None:
    """Head and operations of a body that reads back to the very same bytes, so that nothing can hide in it; or None."""
    try:
        document = orjson.loads(raw)
        if not isinstance(document, dict) or orjson.dumps(document) != raw:
            return None
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    operations = document.pop("ops", None)
    if not isinstance(operations, list):
        raise EnvelopeInvalid(errors=[{"pointer": "/ops", "code": "type" if operations else "required"}])
    return document, operations, lambda value: recognise(value, orjson.dumps(value))


def _read_carefully(raw: bytes) -> _Read:
    head_bytes, slices = _split(raw)
    head = _parse(head_bytes)
    if isinstance(head, _Unreadable):
        raise Malformed(why=head.why)
    if not isinstance(head, dict) or not isinstance(head.pop("ops", None), list):
        raise EnvelopeInvalid(errors=[{"pointer": "/ops", "code": "required"}])
    return head, slices, lambda slice_: recognise(_parse(slice_), slice_)


# A string that never ends is one token too: looking for another start inside it would take for ever.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)
_OPS = re.compile(rb'"(?:o|\\u006[fF])(?:p|\\u0070)(?:s|\\u0073)"')


def _split(raw: bytes) -> tuple[bytes, list[bytes]]:
    """The body with its `ops` emptied, and the bytes of each operation. Never recurses, whatever the nesting."""
    depth, in_ops, last_string, start, first = 0, False, b"", 0, 0
    slices: list[bytes] = []
    for match in _TOKEN.finditer(raw):
        token = match.group()
        if token in b"[{":
            depth += 1
            if depth == 2 and token == b"[" and _OPS.fullmatch(last_string):
                in_ops, start, first = True, match.end(), match.end()
        elif in_ops and depth == 2 and token in b",]":
            slices.append(raw[start : match.start()].strip())
            start = match.end()
            if token == b"]":
                return raw[:first] + raw[match.start() :], slices if slices != [b""] else []
        elif token in b"]}":
            depth -= 1
        if depth == 1 and token != b",":
            last_string = token
    return raw, []


def _parse(raw: bytes) -> Any:
    """The JSON value, or why it can't be kept as one."""
    try:
        value = json.loads(
            raw.decode(),
            object_pairs_hook=_object,
            parse_constant=_refuse("not-a-number"),
            parse_int=_whole,
            parse_float=_real,
        )
        orjson.dumps(value)
    except _Refused as refused:
        return _Unreadable(str(refused))
    except UnicodeDecodeError:
        return _Unreadable("not-utf-8")
    except orjson.JSONEncodeError as error:
        return _Unreadable("too-deep" if "ecursion" in str(error) else "lone-surrogate")
    except RecursionError:
        return _Unreadable("too-deep")
    except ValueError:
        return _Unreadable("syntax")
    return value


class _Refused(Exception):
    """A JSON value that reads differently from how it was written."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _Refused("duplicate-key")
    return made


def _refuse(why: str) -> Any:
    def refuse(_text: str) -> Any:
        raise _Refused(why)

    return refuse


def _whole(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= (value := int(text)) < 2**64:
        raise _Refused("number-too-large")
    return value


def _real(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _Refused("number-too-large")
    return value


# ---------------------------------------------------------------- reading one operation

_OP_IN_RAW = re.compile(rb'"op"\s*:\s*"(' + _UUID.pattern.encode() + rb')"')
_N_IN_RAW = re.compile(rb'"n"\s*:\s*([1-9][0-9]{0,15})\b')


def _legible(raw: bytes) -> dict[str, Any]:
    """What can be made out of an operation that is not JSON: its id, and its counter, which else would seem lost."""
    op, n = _OP_IN_RAW.search(raw), _N_IN_RAW.search(raw)
    return ({"op": op.group(1).decode()} if op else {}) | ({"n": int(n.group(1))} if n else {})


def recognise(value: Any, raw: bytes) -> Operation:
    """The operation in a JSON value that was read from these bytes, as far as it takes to tell whether it is known."""
    if isinstance(value, _Unreadable):
        digest, said = hashlib.sha256(raw).digest(), _legible(raw)
    else:
        digest, said = fingerprint(value), value if isinstance(value, dict) else {}
    op, n, kind = said.get("op"), said.get("n"), said.get("kind")
    op_id = _id_or_none(op)
    return Operation(
        raw,
        value,
        digest,
        op_id or derived_id(digest),
        op if op_id else None,
        n if type(n) is int and 1 <= n <= MAX_WHOLE else None,
        kind if isinstance(kind, str) and kind in KINDS else None,
        _id_or_none(said.get("record")),
    )


def announced(operation: Operation) -> list[str]:
    """The digests of the photos an operation announces, whatever else is wrong with it."""
    photos = operation.value.get("photos") if isinstance(operation.value, dict) else None
    names = [photo.get("sha256") for photo in photos if isinstance(photo, dict)] if isinstance(photos, list) else []
    return [name for name in names if isinstance(name, str) and _SHA256.fullmatch(name)]


def _id_or_none(value: Any) -> uuid.UUID | None:
    return uuid.UUID(value) if isinstance(value, str) and _UUID.fullmatch(value) else None


def complete(operation: Operation) -> None:
    """The operation is read whole; what is wrong with it is its `problem`. One that has a problem stays as it is."""
    if operation.problem is not None:
        return
    operation.problem = _outer_problem(operation)
    if operation.problem is not None or operation.kind is None:
        return
    try:
        loaded = KINDS[operation.kind].load(operation.value)
    except ValidationError as error:
        operation.problem = problem("invalid", *_swapped(operation.value, _flaws(error.messages)))
        return
    operation.at = stamp(loaded["at"])
    operation.fix = operation.value.get("fix")
    operation.photos = loaded.get("photos", [])
    operation.fields = loaded.get("body") or loaded.get("set") or {}
    operation.base = loaded.get("base")
    operation.reason = loaded.get("reason")


def _outer_problem(operation: Operation) -> dict[str, Any] | None:
    """What stands in the way of reading its fields at all."""
    if isinstance(operation.value, _Unreadable):
        return problem("unreadable", ("", operation.value.why))
    if not isinstance(operation.value, dict):
        return problem("invalid", ("", "type"))
    if len(operation.raw) > MAX_OPERATION_BYTES:
        return problem("op-too-large", bytes=len(operation.raw), most_bytes=MAX_OPERATION_BYTES)
    if operation.kind is None:
        return problem("unknown-kind", ("/kind", "unknown" if "kind" in operation.value else "required"))
    return None


def fingerprint(value: Any) -> bytes:
    """SHA-256 of an operation's canonical JSON: keys sorted, no white space, UTF-8."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).digest()


def derived_id(*parts: bytes) -> uuid.UUID:
    """An id that the same content always gets, for what has none of its own."""
    return uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(b"".join(parts)).hexdigest())


def _flaws(messages: Any, pointer: str = "") -> list[tuple[str, str]]:
    return list(_walk(messages, pointer))[:MAX_FLAWS]


def _walk(messages: Any, pointer: str) -> Iterator[tuple[str, str]]:
    if isinstance(messages, dict):
        for key, inner in messages.items():
            step = "" if key == "_schema" else f"/{str(key)[:60].replace('~', '~0').replace('/', '~1')}"
            yield from _walk(inner, pointer + step)
    else:
        for message in messages:
            yield pointer, str(message)


def _swapped(value: dict[str, Any], flaws: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The flaws, with a latitude out of range named `swapped` where it would do as a longitude."""
    if ("/fix/lat", "range") not in flaws:
        return flaws
    lon, lat = value["fix"].get("lon"), value["fix"]["lat"]
    looks_swapped = isinstance(lon, (int, float)) and abs(lon) <= 90 and abs(lat) <= 180
    return [(p, "swapped" if (p, c) == ("/fix/lat", "range") and looks_swapped else c) for p, c in flaws]
