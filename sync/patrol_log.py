"""The read side: who may see which records, which of them are asked for, and what they look like.

`visible_to` is the one rule of visibility, `matching` the one way from a selection to SQL; lists, single records,
counts and exports all go through both. Nothing here writes. Every list is newest first, by (occurred_at, id).
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import re
import struct
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Select, and_, exists, func, inspect, literal, null, or_, select, true, tuple_, union_all
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased
from sqlalchemy.sql import ColumnElement, case

from sync import shapes, standing, wire
from sync.journal import canonical
from sync.models import (
    DISTRICT_ROLES,
    Account,
    AnnouncedPhoto,
    Decision,
    Department,
    EnforcementItem,
    Grouped,
    Incident,
    IncidentItem,
    Operation,
    Patrol,
    PatrolOfficer,
    PhotoFacts,
    ReviewEvent,
    SignedIn,
    Township,
    Track,
    UtcDateTime,
    Vendor,
    VendorWarning,
    among,
    has_word,
    within_box,
)
from sync.problems import NotFound, QueryInvalid
from sync.shapes import Columns, Json

Log = type[Patrol] | type[Incident] | type[VendorWarning]

#: Operations told in the history of one record at most.
MOST_HISTORY = 500

KINDS: Mapping[str, Log] = {"patrol": Patrol, "incident": Incident, "warning": VendorWarning}


def _kind_of(model: Any) -> Any:
    """The class of the records, also where it is asked of under another name."""
    return inspect(model).mapper.class_


# ---------------------------------------------------------------- who may see what


def visible_to(model: Log, who: SignedIn) -> ColumnElement[bool]:
    """True where this account may see the record: its own, a supervisor those of the townships, the district all."""
    return or_(*ways_to_see(model, who))


def sees_photo(session: Session, who: SignedIn, sha256: str) -> bool:
    """Whether this account may see a photo: one that arrived for a record it may see."""
    cites = select(AnnouncedPhoto.record_id).where(AnnouncedPhoto.sha256 == sha256, ~is_missing())
    citing = [select(model.id).where(model.id.in_(cites), visible_to(model, who)) for model in KINDS.values()]
    return session.execute(union_all(*citing).limit(1)).first() is not None


def ways_to_see(model: Log, who: SignedIn) -> list[ColumnElement[bool]]:
    """What makes a record visible, each way by itself. A page asks each for its newest: an OR would sort a township."""
    if who.role in DISTRICT_ROLES:
        return [true()]
    townships = sorted(who.townships) if who.role == "supervisor" else []
    return [*(model.township_code == code for code in townships), own(model, who)]


def may_decide_on(model: Log | type[Vendor], who: SignedIn) -> ColumnElement[bool]:
    """True for the records, or vendors, that an account of a reviewing role may decide on: a supervisor those of the
    townships, a reviewer all."""
    return true() if who.role in DISTRICT_ROLES else model.township_code.in_(sorted(who.townships))


def own(model: Log, who: SignedIn) -> ColumnElement[bool]:
    """True where this account made the record or, for a patrol, was out on it."""
    return _recorded_by(model, select(literal(who.account_id)))


def _recorded_by(model: Log, account: Select[Any]) -> ColumnElement[bool]:
    """True where this account made the record or, for a patrol, was out on it."""
    if _kind_of(model) is not Patrol:
        return model.officer_id == account.scalar_subquery()
    made = select(Patrol.id).where(Patrol.officer_id == account.scalar_subquery())
    was_out = select(PatrolOfficer.patrol_id).where(PatrolOfficer.account_id == account.scalar_subquery())
    return model.id.in_(union_all(made, was_out))


# ---------------------------------------------------------------- what is asked for


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records are asked for. `None` asks for nothing in particular; `until_at` is the first instant no longer in.

    `bbox` is (west, south, east, north) in WGS 84 degrees, west > east across the antimeridian. `photos` is `missing`
    where an announced photo has not arrived, else `complete`; `missing_before` asks for records that still wait for a
    photo announced before then. `voided` is `excluded`, `included` or `only`. `review` is how the record stands,
    `open` the outcome of an operation of it that nobody has decided on. `grouped` is `once` where records that are one
    thing count once (the first of those asked for that the account may see), `expand` where each counts.
    """

    from_at: dt.datetime | None = None
    until_at: dt.datetime | None = None
    officer: str | None = None
    township: str | None = None
    note: str | None = None
    photos: str | None = None
    missing_before: dt.datetime | None = None
    bbox: tuple[float, float, float, float] | None = None
    q: str | None = None
    item: str | None = None
    domain: str | None = None
    event_class: str | None = None
    measure: str | None = None
    vendor: uuid.UUID | None = None
    voided: str = "excluded"
    review: str | None = None
    open: str | None = None
    grouped: str = "once"

    def given(self) -> dict[str, Any]:
        """The filters in use, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


_EVERYWHERE = (
    *("from_at", "until_at", "officer", "township", "note", "photos", "missing_before", "bbox", "q", "voided"),
    *("review", "open", "grouped"),
)
#: Which filters make sense for which kind.
FILTERS: Mapping[str, tuple[str, ...]] = {
    "patrol": _EVERYWHERE,
    "incident": (*_EVERYWHERE, "item", "domain", "event_class", "measure", "vendor"),
    "warning": (*_EVERYWHERE, "vendor"),
}

_CASELESS = re.compile("[^A-Za-z]*")
#: The free text of each kind.
_TEXT: Mapping[type[Any], str] = {Patrol: "purpose", Incident: "description", VendorWarning: "text"}


def _by_officer(model: Log, username: str) -> ColumnElement[bool]:
    return _recorded_by(model, select(Account.id).where(Account.username == username))


def _by_photos(model: Log, state: str) -> ColumnElement[bool]:
    missing = select(AnnouncedPhoto.record_id).where(is_missing())
    if state == "missing":
        return model.id.in_(missing)
    return ~missing.where(AnnouncedPhoto.record_id == model.id).exists()


def _missing_before(model: Log, at: dt.datetime) -> ColumnElement[bool]:
    return model.id.in_(select(AnnouncedPhoto.record_id).where(is_missing(), AnnouncedPhoto.announced_at < at))


def is_missing() -> ColumnElement[bool]:
    """True where the officer who announced a photo has not sent it."""
    return AnnouncedPhoto.received_at.is_(None)


def missing_photos(model: Log) -> ColumnElement[int]:
    """How many of the photos that a record announced have not arrived."""
    missing = select(func.count()).where(AnnouncedPhoto.record_id == model.id, is_missing())
    return missing.correlate(model).scalar_subquery()


def _by_text(model: Log, text: str) -> ColumnElement[bool]:
    """True where the free text holds this one. Chinese knows no case, and PostgreSQL takes long to fold it."""
    column: InstrumentedAttribute[str | None] = getattr(model, _TEXT[_kind_of(model)])
    holds = column.contains if _CASELESS.fullmatch(text) else column.icontains
    return holds(text, autoescape=True)


def _by_item(model: type[Incident], code: str) -> ColumnElement[bool]:
    return model.id.in_(select(IncidentItem.incident_id).where(IncidentItem.item_code == code))


def _by_domain(model: type[Incident], domain: str) -> ColumnElement[bool]:
    editions = select(EnforcementItem.id).where(EnforcementItem.domain == domain)
    return model.id.in_(select(IncidentItem.incident_id).where(IncidentItem.item_id.in_(editions)))


def _by_review(model: Log, state: str) -> ColumnElement[bool]:
    """True where the record stands like that. Few are returned: those are looked up, not every record of a list."""
    on_this = (ReviewEvent.record_id == model.id, ReviewEvent.version == model.version, ReviewEvent.action.in_(_STANDS))
    last = select(ReviewEvent.action).where(*on_this).order_by(ReviewEvent.ordinal.desc()).limit(1)
    decided = last.correlate(model).scalar_subquery()
    if state not in _STANDS.values():
        return and_(decided.is_(None), model.voided_at.is_(None))
    action = next(action for action, after in _STANDS.items() if after == state)
    return and_(model.id.in_(select(ReviewEvent.record_id).where(ReviewEvent.action == action)), decided == action)


#: How a record stands after the decisions that leave its version as it is.
_STANDS = {action: standing.after(action) for action in ("approve", "return")}


def _by_open(model: Log, outcome: str) -> ColumnElement[bool]:
    return model.id.in_(select(Operation.record_id).where(Operation.outcome == outcome, undecided()))


def undecided() -> ColumnElement[bool]:
    """True where nobody has decided on the operation."""
    return ~exists().where(Decision.operation_id == Operation.id)


_VOIDED: Mapping[str, Callable[[Any], ColumnElement[bool]]] = {
    "excluded": lambda model: model.voided_at.is_(None),
    "included": lambda model: true(),
    "only": lambda model: model.voided_at.is_not(None),
}

#: What each filter means; the box is told apart because only the database knows how, groups because it depends on all.
_MEANS: Mapping[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "from_at": lambda model, at: model.occurred_at >= at,
    "until_at": lambda model, at: model.occurred_at < at,
    "officer": _by_officer,
    "township": lambda model, code: model.township_code == code,
    "note": lambda model, code: has_word(model.note_codes, code),
    "photos": _by_photos,
    "missing_before": _missing_before,
    "q": _by_text,
    "item": _by_item,
    "domain": _by_domain,
    "event_class": lambda model, code: model.event_class == code,
    "measure": lambda model, word: has_word(model.measures, word),
    "vendor": lambda model, id: model.vendor_id == id,
    "voided": lambda model, which: _VOIDED[which](model),
    "review": _by_review,
    "open": _by_open,
}


def matching(session: Session, who: SignedIn, kind: str, selection: Selection) -> list[ColumnElement[bool]]:
    """The conditions of a selection for this account, beside what it may see. Raises QueryInvalid if a filter makes no
    sense for the kind."""
    for name in selection.given().keys() - set(FILTERS[kind]):
        raise QueryInvalid.of(name, f"no filter for a {kind}")
    conditions = _asked_for(session, KINDS[kind], selection)
    return (
        [*conditions, _stands_for_its_group(session, who, kind, selection)]
        if selection.grouped == "once"
        else conditions
    )


def _asked_for(session: Session, model: Log, selection: Selection) -> list[ColumnElement[bool]]:
    """What the filters say of each record by itself."""
    given = selection.given()
    box = given.pop("bbox", None)
    conditions = [_MEANS[name](model, value) for name, value in given.items() if name in _MEANS]
    return conditions if box is None else [*conditions, within_box(session, model, box)]


def _stands_for_its_group(session: Session, who: SignedIn, kind: str, selection: Selection) -> ColumnElement[bool]:
    """True unless another of its group arrived before it, is asked for too, and can be seen: so each group counts once,
    whichever of its records somebody may see and asks for."""
    model, other = KINDS[kind], aliased(KINDS[kind])
    mine, theirs = aliased(Grouped), aliased(Grouped)
    before = tuple_(other.received_at, other.id) < tuple_(model.received_at, model.id)
    return ~(
        select(mine.record_id)
        .join(theirs, theirs.group_id == mine.group_id)
        .join(other, other.id == theirs.record_id)
        .where(mine.record_id == model.id, before, visible_to(other, who), *_asked_for(session, other, selection))
        .exists()
    )


# ---------------------------------------------------------------- cursors

#: A cursor: digest of what is listed, microseconds since 1970 of the last record shown, and its id.
_CURSOR = struct.Struct(">8sq16s")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def _digest(listed: Sequence[Any]) -> bytes:
    return hashlib.sha256(canonical(listed)).digest()[:8]


def cursor_after(listed: Sequence[Any], at: dt.datetime, id: uuid.UUID) -> str:
    """The cursor behind this place of a list that is ordered by instant and id; `listed` says which list it is."""
    microseconds = (at - _EPOCH) // dt.timedelta(microseconds=1)
    packed = _CURSOR.pack(_digest(listed), microseconds, id.bytes)
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def position_of(listed: Sequence[Any], cursor: str) -> tuple[dt.datetime, uuid.UUID]:
    """Where the cursor stands. Raises QueryInvalid if it is not whole, or was given for another list."""
    try:
        packed = base64.b64decode(cursor + "=", altchars="-_", validate=True)
        digest, microseconds, id = _CURSOR.unpack(packed)
        at = _EPOCH + dt.timedelta(microseconds=microseconds)
    except (ValueError, binascii.Error, struct.error, OverflowError) as error:
        raise QueryInvalid.of("cursor", "not a cursor of ours") from error
    if digest != _digest(listed):
        raise QueryInvalid.of("cursor", "given for another selection")
    return at, uuid.UUID(bytes=id)


def older(instant: Any, key: Any, at: dt.datetime, id: uuid.UUID) -> ColumnElement[bool]:
    """True for what stands behind this place of a list that is ordered by these two columns, newest first."""
    return tuple_(instant, key) < tuple_(literal(at, UtcDateTime), literal(id, key.type))


# ---------------------------------------------------------------- lists


@dataclass(frozen=True, slots=True)
class Page:
    """Records, newest first, as JSON values; `next` is the cursor of the page after it, `None` on the last one."""

    items: list[Json]
    next: str | None


def page(
    session: Session, who: SignedIn, kind: str, selection: Selection, *, limit: int, cursor: str | None = None
) -> Page:
    """One page of the records asked for. The number of queries does not depend on its size.

    Raises QueryInvalid if a filter makes no sense for the kind, or the cursor none for the selection.
    """
    model = KINDS[kind]
    conditions, listed = matching(session, who, kind, selection), [kind, selection.given()]
    if cursor is not None:
        conditions.append(older(model.occurred_at, model.id, *position_of(listed, cursor)))
    newest = union_all(*(_newest(model, [way, *conditions], limit + 1) for way in ways_to_see(model, who)))
    rows = session.execute(newest_first(model, [model.id.in_(newest)]).limit(limit + 1)).all()
    shown = rows[:limit]
    following = cursor_after(listed, shown[-1].occurred_at, shown[-1].id) if len(rows) > limit else None
    return Page(_described(session, who, kind, shown), following)


def count(session: Session, who: SignedIn, kind: str, selection: Selection) -> int:
    """How many records the selection holds for this account."""
    model = KINDS[kind]
    conditions = matching(session, who, kind, selection)
    counted = select(func.count()).select_from(model).where(visible_to(model, who), *conditions)
    return session.execute(counted).scalar_one()


def one(session: Session, who: SignedIn, kind: str, id: uuid.UUID) -> Json:
    """The record with the history of its operations, a patrol with its track too; voided ones as well.

    Raises NotFound if there is none, or not for this account.
    """
    model = KINDS[kind]
    row = session.execute(newest_first(model, [model.id == id, visible_to(model, who)])).one_or_none()
    if row is None:
        raise NotFound
    record = _described(session, who, kind, [row])[0]
    record["photos"] = _with_facts(session, record["photos"])
    record["review_events"] = [shapes.review_event(event) for event in review_events(session, [id])]
    tracks = {"tracks": _tracks(session, id)} if kind == "patrol" else {}
    return record | tracks | {"history": _for(who, _history(session, who, id))}


def _with_facts(session: Session, photos: list[Json]) -> list[Json]:
    """The photos of a record, each with what it says by itself; null until somebody has looked."""
    names = [photo["sha256"] for photo in photos if photo["received"]]
    looked = select(PhotoFacts).where(PhotoFacts.sha256.in_(names), PhotoFacts.looked_at.is_not(None))
    facts = {row.sha256: shapes.photo_facts(row) for row in session.scalars(looked)}
    return [photo | {"facts": facts.get(photo["sha256"])} for photo in photos]


def _newest(model: Log, conditions: Iterable[ColumnElement[bool]], limit: int) -> Select[Any]:
    order = (model.occurred_at.desc(), model.id.desc())
    return select(select(model.id).where(*conditions).order_by(*order).limit(limit).subquery().c.id)


def newest_first(model: Log, conditions: Iterable[ColumnElement[bool]]) -> Select[Any]:
    """The records with the names of their codes and the photos that have arrived, in the order of every list."""
    located = aliased(Township)
    return (
        select(
            *model.__table__.columns,
            Account.username,
            Account.full_name,
            Township.name.label("township_name"),
            located.name.label("located_name"),
            _arrived_photos(model).label("arrived"),
            _missing_since(model).label("missing_since"),
        )
        .outerjoin(Account, Account.id == model.officer_id)
        .outerjoin(Township, Township.code == model.township_code)
        .outerjoin(located, located.code == model.located_code)
        .where(*conditions)
        .order_by(model.occurred_at.desc(), model.id.desc())
    )


def _missing_since(model: Log) -> ColumnElement[Any]:
    """When the photo was announced that a record has been waiting for longest."""
    announced = select(func.min(AnnouncedPhoto.announced_at))
    return announced.where(AnnouncedPhoto.record_id == model.id, is_missing()).correlate(model).scalar_subquery()


def _arrived_photos(model: Log) -> ColumnElement[Any]:
    """The SHA-256 of a record's photos that have arrived, as one text: a query of its own would cost a round trip."""
    digests = select(func.aggregate_strings(AnnouncedPhoto.sha256, ","))
    arrived = digests.where(AnnouncedPhoto.record_id == model.id, ~is_missing())
    return arrived.correlate(model).scalar_subquery()


# ---------------------------------------------------------------- what belongs to the records of a page

ByRecord = Mapping[uuid.UUID, Sequence[Columns]]


def _described(session: Session, who: SignedIn, kind: str, rows: Sequence[Columns]) -> list[Json]:
    """The JSON of the records, with what belongs to them fetched for all at once."""
    ids = [row.id for row in rows]
    own, standing_of, groups = _OWN[kind](session, ids), reviews(session, rows), _groups_of(session, who, kind, ids)
    laid = ({"review": standing_of[row.id], "group": groups.get(row.id)} for row in rows)
    return _for(who, [shapes.recorded(row) | own(row) | over for row, over in zip(rows, laid, strict=True)])


def _groups_of(session: Session, who: SignedIn, kind: str, ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, Json]:
    """The groups of those of these records that are in one, with what this account may see of each, the first first."""
    mine, theirs, other = aliased(Grouped), aliased(Grouped), aliased(KINDS[kind])
    asked = (
        select(mine.record_id, mine.group_id, other.id)
        .join(theirs, theirs.group_id == mine.group_id)
        .join(other, other.id == theirs.record_id)
        .where(among(session, mine.record_id, ids), visible_to(other, who))
        .order_by(other.received_at, other.id)
    )
    return {id: shapes.group(members) for id, members in _by_record(session.execute(asked)).items()}


def reviews(session: Session, rows: Sequence[Columns]) -> Mapping[uuid.UUID, Json]:
    """How each of these records stands: `rows` have its `id`, `version` and `voided_at`."""
    events = review_events(session, [row.id for row in rows])
    last = {event.record_id: event for event in events if event.action != "comment"}
    return {row.id: shapes.review(row.version, row.voided_at is not None, last.get(row.id)) for row in rows}


def review_events(session: Session, ids: Iterable[uuid.UUID]) -> Sequence[Columns]:
    """What was decided on these records and remarked about them, and by whom; of each record in order."""
    asked = (
        select(*ReviewEvent.__table__.columns, Account.username, Account.full_name)
        .join(Account, Account.id == ReviewEvent.account_id)
        .where(among(session, ReviewEvent.record_id, ids))
        .order_by(ReviewEvent.record_id, ReviewEvent.ordinal)
    )
    return session.execute(asked).all()


def _for(who: SignedIn, records: list[Json]) -> list[Json]:
    return [shapes.masked_record(record) for record in records] if who.role in shapes.MASKED_ROLES else records


def _items_of(session: Session, ids: Sequence[uuid.UUID]) -> ByRecord:
    """The items of each of these incidents, in the order told."""
    asked = (
        select(
            IncidentItem.incident_id,
            IncidentItem.item_code,
            IncidentItem.delegation_id,
            IncidentItem.referred_to,
            EnforcementItem.name,
            EnforcementItem.domain,
            EnforcementItem.from_on,
            EnforcementItem.until_on,
            Department.name.label("department_name"),
        )
        .join(EnforcementItem, EnforcementItem.id == IncidentItem.item_id)
        .outerjoin(Department, Department.code == IncidentItem.referred_to)
        .where(IncidentItem.incident_id.in_(ids))
        .order_by(IncidentItem.incident_id, IncidentItem.ordinal)
    )
    return _by_record(session.execute(asked))


def _crews_of(session: Session, ids: Sequence[uuid.UUID]) -> ByRecord:
    asked = (
        select(PatrolOfficer.patrol_id, Account.username, Account.full_name)
        .join(Account, Account.id == PatrolOfficer.account_id)
        .where(PatrolOfficer.patrol_id.in_(ids))
        .order_by(Account.username)
    )
    return _by_record(session.execute(asked))


def _by_record(rows: Iterable[Columns]) -> ByRecord:
    grouped: dict[uuid.UUID, list[Columns]] = defaultdict(list)
    for row in rows:
        grouped[row[0]].append(row)
    return grouped


def _patrol(session: Session, ids: Sequence[uuid.UUID]) -> Callable[[Columns], Json]:
    crews = _crews_of(session, ids)
    return lambda row: shapes.patrol(row, crews.get(row.id, ()))


def _incident(session: Session, ids: Sequence[uuid.UUID]) -> Callable[[Columns], Json]:
    items = _items_of(session, ids)
    return lambda row: shapes.incident(row, items.get(row.id, ()))


def _warning(session: Session, ids: Sequence[uuid.UUID]) -> Callable[[Columns], Json]:
    return shapes.warning


#: What each kind has of its own, for the records of a page at once.
_OWN = {"patrol": _patrol, "incident": _incident, "warning": _warning}


def _history(session: Session, who: SignedIn, id: uuid.UUID) -> list[Json]:
    """The operations that concern the record, as they came in, the first `MOST_HISTORY` of them. Those of a track, and
    those too large to be valid, say nothing but that they came.

    A quarantined one may be another officer's, about something else: those who don't supervise see only their own.
    """
    allowed = or_(Operation.outcome != "quarantined", Operation.officer_id == who.account_id)
    hidden = or_(Operation.kind == "track.append", func.length(Operation.raw) > wire.MAX_OPERATION_BYTES)
    if who.role in shapes.MASKED_ROLES:  # what is not valid may hold personal data anywhere
        hidden = or_(hidden, Operation.outcome == "quarantined")
    supervises = who.role == "supervisor" or who.role in DISTRICT_ROLES
    asked = (
        select(
            *(column for column in Operation.__table__.columns if column.name != "raw"),
            case((hidden, null()), else_=Operation.raw).label("raw"),
            Account.username,
            Account.full_name,
        )
        .join(Account, Account.id == Operation.officer_id)
        .where(Operation.record_id == id, true() if supervises else allowed)
        .order_by(Operation.received_at, Operation.n, Operation.id)
        .limit(MOST_HISTORY)
    )
    rows = session.execute(asked).all()
    decided, made_of = _decided(session, [row.id for row in rows])
    told = ({"decision": decided.get(row.id), "instead_of": made_of.get(row.id)} for row in rows)
    return [shapes.operation(row) | more for row, more in zip(rows, told, strict=True)]


def decisions(session: Session, ids: Iterable[uuid.UUID]) -> Mapping[uuid.UUID, Json]:
    """What people decided on these operations, by their ids."""
    return _decided(session, ids)[0]


def _decided(session: Session, ids: Iterable[uuid.UUID]) -> tuple[dict[uuid.UUID, Json], dict[uuid.UUID, str]]:
    """What was decided on these operations; and of which each was made that a decision made."""
    made, ids = aliased(Operation), list(ids)
    told = (made.kind, made.record_id, made.outcome, made.version)
    asked = (
        select(
            *(Decision.__table__.columns),
            Account.username,
            Account.full_name,
            *(column.label(f"made_{column.key}") for column in told),
        )
        .join(Account, Account.id == Decision.account_id)
        .outerjoin(made, made.id == Decision.made_id)
        .where(or_(among(session, Decision.operation_id, ids), among(session, Decision.made_id, ids)))
    )
    rows = session.execute(asked).all()
    made_of = {row.made_id: str(row.operation_id) for row in rows if row.made_id is not None}
    return {row.operation_id: shapes.decision(row) for row in rows}, made_of


def _tracks(session: Session, id: uuid.UUID) -> list[Json]:
    asked = select(Track.from_at, Track.points).where(Track.patrol_id == id).order_by(Track.from_at, Track.id)
    return [shapes.track(row) for row in session.execute(asked)]
