"""What people decide: on records that were received, and on operations that wait for somebody.

A record is approved, returned to its officer, made void or commented; an operation that is quarantined is repaired, one
in conflict resolved, and either, or one that waited in vain, dismissed. What a decision makes of the records is an
operation like any other (`settling`), by the officer whose it was or by whoever decided. Nothing that a phone sent is
ever changed; a decision stands beside it, is sworn to, and goes out on the feed.

Every decision names what its sender saw. If that is not how things are, it is refused with how they are now
(`DecidedMeanwhile`), and nothing changes. The callers have begun a writing transaction and commit it.
"""

from __future__ import annotations

import base64
import datetime as dt
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import Select, and_, case, false, func, literal, or_, select, true, tuple_, union_all
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from sync import journal, patrol_log, shapes, standing, wire
from sync.clock import Arrival, Stamp, local_day, occurred
from sync.enforcement import Lists
from sync.journal import Change, decision_evidence, record_change
from sync.models import (
    DISTRICT_ROLES,
    Account,
    AnnouncedPhoto,
    Batch,
    Decision,
    Desk,
    Installation,
    Operation,
    Posting,
    ReviewEvent,
    SignedIn,
    Township,
    UtcDateTime,
    among,
    insert_rows,
    is_busy,
    update_rows,
)
from sync.patrol_log import KINDS, cursor_after, is_missing, position_of, review_events, undecided
from sync.places import Areas
from sync.problems import DecidedMeanwhile, DecisionInvalid, EnvelopeInvalid, NotFound, Problem
from sync.revisions import Conflict, Merged, Revision, amend
from sync.settling import Incoming, Taken, arrival_of, conclude, outcome_row, revisions_of, settle
from sync.shapes import Columns, Json
from sync.verdicts import Verdict

#: Decisions that say nothing without words.
_WORDED = frozenset({"return", "void", "comment", "dismiss"})
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sitting:
    """Who decides, when, and by which lists."""

    who: SignedIn
    now: dt.datetime
    lists: Lists
    areas: Areas
    photo_max_bytes: int


# ---------------------------------------------------------------- records


@dataclass(slots=True)
class _Reviewed:
    """A record that is locked, its last decision and how many events it has."""

    kind: str
    state: dict[str, Any]
    decided: Columns | None = None
    events: int = 0

    @property
    def review(self) -> Json:
        return shapes.review(self.state["version"], self.state["voided_at"] is not None, self.decided)

    def told(self) -> Json:
        """How the record stands now."""
        return {"record": str(self.state["id"]), "version": self.state["version"], "review": self.review}


def decide(session: Session, sitting: Sitting, record_id: uuid.UUID, said: Mapping[str, Any]) -> Json:
    """How the record stands once this was decided on it, or remarked about it.

    Raises NotFound if it isn't this account's to decide on, EnvelopeInvalid without the words that a decision needs,
    DecidedMeanwhile if the record has another version, or stands otherwise, than its decider saw.
    """
    _demand_words(said)
    found = _lock(session, sitting.who, [record_id])
    if record_id not in found:
        raise NotFound
    record = found[record_id]
    if record.state["version"] != said["version"] or not _stands(record, said):
        raise DecidedMeanwhile(**record.told())
    if said["action"] == "void":
        _void(session, sitting, record, said["comment"])
    else:
        _keep_events(session, sitting, [record], said["action"], said["comment"])
    return _lock(session, sitting.who, [record_id])[record_id].told()


def approve(session: Session, sitting: Sitting, said: Mapping[str, Any]) -> list[Json]:
    """What became of each of the records that are to be approved together: how it stands now, and the problem where it
    could not be approved. The number of statements does not depend on how many they are."""
    ids = {seen["id"] for seen in said["records"]}
    found, approved = _lock(session, sitting.who, ids), set()
    refusals: list[type[Problem] | None] = []
    for seen in said["records"]:
        refused = DecidedMeanwhile if seen["id"] in approved else _refused(found.get(seen["id"]), seen)
        refusals.append(refused)
        approved |= {seen["id"]} if refused is None else set()
    _keep_events(session, sitting, [found[id] for id in approved], "approve", said["comment"])
    found = _lock(session, sitting.who, ids)
    told = [found[seen["id"]].told() if seen["id"] in found else _nothing(seen["id"]) for seen in said["records"]]
    return [{**each, **_approval(refused)} for each, refused in zip(told, refusals, strict=True)]


def _nothing(record_id: uuid.UUID) -> Json:
    return {"record": str(record_id), "version": None, "review": None}


def _approval(refused: type[Problem] | None) -> Json:
    problem = None if refused is None else {"code": refused.code, "title": refused.title[0]}
    return {"approved": refused is None, "problem": problem}


def _refused(record: _Reviewed | None, seen: Mapping[str, Any]) -> type[Problem] | None:
    """Why a record can't be approved as it was seen."""
    if record is None:
        return NotFound
    as_seen = record.state["version"] == seen["version"] and record.review["state"] == "received"
    return None if as_seen else DecidedMeanwhile


def _demand_words(said: Mapping[str, Any]) -> None:
    if said["action"] in _WORDED and said["comment"] is None:
        raise EnvelopeInvalid(errors=[{"pointer": "/comment", "code": "required"}])


def _stands(record: _Reviewed, said: Mapping[str, Any]) -> bool:
    """Whether the record stands as its decider saw it, and may be decided on like this then."""
    state = record.review["state"]
    return said["action"] == "comment" or (state == said["state"] and standing.may(said["action"], state))


def _in_charge_of(model: Any, who: SignedIn) -> ColumnElement[bool]:
    """True for the records that this account may decide on: a supervisor those of the townships, a reviewer all."""
    return true() if who.role in DISTRICT_ROLES else model.township_code.in_(sorted(who.townships))


def _lock(session: Session, who: SignedIn, ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, _Reviewed]:
    """Those of these records that this account may decide on, locked as settling does it."""
    found: dict[uuid.UUID, _Reviewed] = {}
    ids = list(ids)
    for kind in ("warning", "incident", "patrol"):
        model = KINDS[kind]
        table = model.__table__
        asked = select(table).where(among(session, table.c.id, ids), _in_charge_of(model, who)).order_by(table.c.id)
        for row in session.execute(asked.with_for_update(key_share=True)).mappings():
            found[row["id"]] = _Reviewed(kind, dict(row))
    for event in review_events(session, found):
        found[event.record_id].events = event.ordinal
        if event.action != "comment":
            found[event.record_id].decided = event
    return found


def _keep_events(
    session: Session, sitting: Sitting, records: Sequence[_Reviewed], action: str, comment: str | None
) -> None:
    """Each of the records has one more event; the feed and the chain tell of it."""
    if not records:
        return
    events = [_event(sitting, record, action, comment) for record in records]
    insert_rows(session, ReviewEvent, events)
    incidents = [record.state["id"] for record in records if record.kind == "incident"]
    links = journal.item_links(session, incidents) if incidents else {}
    changes = [record_change(r.kind, r.state, links.get(r.state["id"], [])) for r in records]
    journal.record(session, changes, now=sitting.now, evidence=[_event_evidence(event) for event in events])


def _event(sitting: Sitting, record: _Reviewed, action: str, comment: str | None) -> dict[str, Any]:
    return {
        "record_id": record.state["id"],
        "ordinal": record.events + 1,
        "kind": record.kind,
        "version": record.state["version"],
        "action": action,
        "comment": comment,
        "account_id": sitting.who.account_id,
        "at": sitting.now,
    }


def _event_evidence(event: Mapping[str, Any]) -> list[Any]:
    return decision_evidence("review", event, event["record_id"], event["ordinal"])


def _void(session: Session, sitting: Sitting, record: _Reviewed, reason: str) -> None:
    """The record is void, by an operation of who decided."""
    incoming, n = _at_desk(session, sitting)
    operation = _made(n, f"{record.kind}.void", str(record.state["id"]), reason=reason)
    event = _event(sitting, record, "void", reason)
    taken = _settled(session, incoming, operation)
    insert_rows(session, ReviewEvent, [event])
    taken.evidence.append(_event_evidence(event))
    conclude(session, incoming, [operation], taken, now=sitting.now)


# ---------------------------------------------------------------- operations made here


def _at_desk(session: Session, sitting: Sitting) -> tuple[Incoming, int]:
    """What an operation of this account's own comes with, and its counter. Two of its decisions wait for each other."""
    who = sitting.who
    account = select(Account.id).where(Account.id == who.account_id)
    session.execute(account.with_for_update(key_share=True))
    installation = _desk(session, who, sitting.now)
    n = installation.next_n
    installation.next_n, installation.received = n + 1, [[1, n]]
    session.flush()
    whose = (who.account_id, who.username, installation.id, uuid.uuid4())
    return _incoming(sitting, whose, _here(sitting), decided=True), n


def _desk(session: Session, who: SignedIn, now: dt.datetime) -> Installation:
    desk = session.get(Desk, who.account_id)
    if desk is not None:
        return session.get_one(Installation, desk.install_id, populate_existing=True)
    installation = Installation(
        id=uuid.uuid4(), account_id=who.account_id, app="desk", created_at=now, received=[], unsent=[], next_n=1
    )
    session.add(installation)
    session.flush()
    session.add(Desk(account_id=who.account_id, install_id=installation.id))
    session.flush()
    return installation


def _here(sitting: Sitting) -> Arrival:
    """What is decided here arrives at once, by no clock but the server's."""
    return Arrival(sitting.now, Stamp(), 0)


def _incoming(
    sitting: Sitting, whose: tuple[int, str, uuid.UUID, uuid.UUID], arrival: Arrival, *, decided: bool
) -> Incoming:
    return Incoming(*whose, arrival, sitting.lists, sitting.areas, sitting.photo_max_bytes, decided=decided)


def _made(n: int, kind: str, record: str, **parts: Any) -> wire.Operation:
    """An operation that somebody decided on, complete."""
    return _read({"op": str(uuid.uuid4()), "n": n, "kind": kind, "record": record, "at": {}} | parts)


def _read(value: dict[str, Any]) -> wire.Operation:
    operation = wire.recognise(value, orjson.dumps(value))
    wire.complete(operation)
    return operation


def _settled(session: Session, incoming: Incoming, operation: wire.Operation) -> Taken:
    """What became of an operation that somebody decided on. Raises DecisionInvalid if it would be quarantined."""
    try:
        with session.begin_nested():
            taken = settle(session, incoming, [operation], [])
    except Exception as error:
        if is_busy(error):
            raise
        _LOG.exception("what was decided can't be written")
        raise DecisionInvalid(problem=wire.problem("internal")) from error
    verdict = taken.verdicts[operation.id]
    if verdict.outcome == "quarantined":
        raise DecisionInvalid(problem=verdict.problem)
    return taken


# ---------------------------------------------------------------- operations that wait for a person


def decide_operation(session: Session, sitting: Sitting, operation_id: uuid.UUID, said: Mapping[str, Any]) -> Json:
    """The operation with what was decided on it.

    Raises NotFound if it isn't this account's to decide on, EnvelopeInvalid where a part of the decision is missing,
    DecidedMeanwhile if it is decided or has joined, or its record has another version than the decider saw,
    DecisionInvalid if this can't be decided on it.
    """
    _demand_words(said)
    asked = _asked(sitting.who, operation_id, sitting.now).with_for_update(of=Operation)
    row = session.execute(asked.execution_options(populate_existing=True)).one_or_none()
    if row is None:
        raise NotFound
    stored: Operation = row.Operation
    if stored.outcome == "applied" or session.get(Decision, operation_id) is not None:
        raise DecidedMeanwhile(**_told(session, row))
    allowed = standing.decisions_on(stored.outcome, stored.received_at, sitting.now)
    if said["action"] not in allowed:
        raise DecisionInvalid(outcome=stored.outcome, allowed=list(allowed))
    _DECIDE[said["action"]](session, sitting, row, said)
    session.expire(stored)
    return _told(session, row)


def _asked(who: SignedIn, operation_id: uuid.UUID, now: dt.datetime) -> Select[Any]:
    """The operation with what came with it, if this account is in charge of it."""
    return (
        select(
            Operation,
            Batch.sent,
            Batch.received_at,
            Batch.clock_error_ms,
            Account.username,
            Account.full_name,
        )
        .join(Account, Account.id == Operation.officer_id)
        .outerjoin(Batch, and_(Batch.install_id == Operation.install_id, Batch.id == Operation.batch_id))
        .where(Operation.id == operation_id, _in_charge(who, now))
    )


def _in_charge(who: SignedIn, now: dt.datetime) -> ColumnElement[bool]:
    """True for the operations that this account may decide on: a supervisor those of records of the townships and,
    where no record is filed, those that officers posted there have sent; a reviewer all."""
    if who.role in DISTRICT_ROLES:
        return true()
    codes, today = sorted(who.townships), local_day(now)
    if not codes:
        return false()
    posted = select(Posting.account_id).where(
        Posting.township_code.in_(codes),
        Posting.from_on <= today,
        or_(Posting.until_on.is_(None), Posting.until_on >= today),
    )
    # each looked up once and as a scalar: PostgreSQL would hash whole tables for an EXISTS
    filed = (_township_of(model) for model in KINDS.values())
    return func.coalesce(*filed, case((Operation.officer_id.in_(posted), codes[0]))).in_(codes)


def _township_of(model: Any) -> Any:
    """Where the record of an operation is filed, if it is of this kind."""
    return select(model.township_code).where(model.id == Operation.record_id).correlate(Operation).scalar_subquery()


def _keep_decision(
    session: Session, sitting: Sitting, row: Columns, said: Mapping[str, Any], made: wire.Operation | None, taken: Taken
) -> None:
    """What was decided stands beside the operation, is sworn to, and its phone learns of it."""
    decision = {
        "operation_id": row.Operation.id,
        "action": said["action"],
        "comment": said["comment"],
        "made_id": made.id if made else None,
        "account_id": sitting.who.account_id,
        "at": sitting.now,
    }
    insert_rows(session, Decision, [decision])
    entity = str(row.Operation.id)
    evidence = decision_evidence("decision", decision, entity)
    taken.changes["operation", entity] = Change("operation", entity, evidence, new=False)


def _repair(session: Session, sitting: Sitting, row: Columns, said: Mapping[str, Any]) -> None:
    """The corrected operation is live, as if its officer had sent it like that; it has an id of its own."""
    if said["operation"] is None:
        raise EnvelopeInvalid(errors=[{"pointer": "/operation", "code": "required"}])
    stored: Operation = row.Operation
    corrected = said["operation"] | {"op": str(uuid.uuid4())}
    if stored.n is not None:
        corrected["n"] = stored.n
    if (at := wire.moment_of(bytes(stored.raw))) is not None:
        corrected["at"] = at
    whose = (stored.officer_id, row.username, stored.install_id, stored.batch_id)
    incoming = _incoming(sitting, whose, arrival_of(row), decided=False)
    operation = _read(corrected)
    taken = _settled(session, incoming, operation)
    _keep_decision(session, sitting, row, said, operation, taken)
    conclude(session, replace(incoming, arrival=_here(sitting)), [operation], taken, now=sitting.now)


def _resolve(session: Session, sitting: Sitting, row: Columns, said: Mapping[str, Any]) -> None:
    """The record has, of each field in conflict, the value that was chosen; and whatever else the amend has set."""
    if said["version"] is None:
        raise EnvelopeInvalid(errors=[{"pointer": "/version", "code": "required"}])
    stored: Operation = row.Operation
    record = _locked_record(session, stored)
    if record is None or record["version"] != said["version"] or record["voided_at"] is not None:
        raise DecidedMeanwhile(**_told(session, row))
    clashing, others = _merged(session, stored)
    _demand_choices(clashing, said["fields"])
    yours, photos = _sent(row)
    chosen = {name: _value(choice, yours[name]) for name, choice in said["fields"].items() if choice != "live"}
    wanted = {name: yours[name] for name in others} | chosen
    if not wanted and not photos:
        _keep_without_operation(session, sitting, row, said, Taken())
        return
    incoming, n = _at_desk(session, sitting)
    parts = {"at": _instant(stored.occurred_at), "base": record["version"], "set": wanted, "photos": photos}
    operation = _made(n, stored.kind or "", str(stored.record_id), **parts)
    taken = _settled(session, incoming, operation)
    if taken.verdicts[operation.id].outcome != "applied":
        waits_for = taken.verdicts[operation.id].waits_for
        raise DecisionInvalid(outcome=taken.verdicts[operation.id].outcome, waits_for=str(waits_for))
    _keep_decision(session, sitting, row, said, operation, taken)
    conclude(session, incoming, [operation], taken, now=sitting.now)


def _sent(row: Columns) -> tuple[dict[str, Any], list[Any]]:
    """The fields and photos of an amend as its phone sent them; moments as the instants they were found to be, for the
    phone's clocks mean nothing in an operation that is made here."""
    value, arrival = wire.as_json(bytes(row.Operation.raw)), arrival_of(row)
    moments = {name: value["set"][name] for name in ("started", "ended") if value["set"].get(name)}
    found = {name: _instant(occurred(wire.stamp_of(moment), arrival).at) for name, moment in moments.items()}
    return value["set"] | found, value.get("photos") or []


def _instant(at: dt.datetime | None) -> dict[str, Any]:
    return {} if at is None else {"gnss": at.isoformat()}


def _value(choice: Any, yours: Any) -> Any:
    return yours if choice == "yours" else choice["value"]


def _demand_choices(clashing: Iterable[str], chosen: Mapping[str, Any]) -> None:
    """One choice for each field that clashes, and for no other."""
    missing = [{"pointer": f"/fields/{name}", "code": "required"} for name in clashing if name not in chosen]
    idle = [{"pointer": f"/fields/{name[:60]}", "code": "unknown-field"} for name in chosen if name not in clashing]
    if missing or idle:
        raise EnvelopeInvalid(errors=[*missing, *idle][: wire.MAX_FLAWS])


def _locked_record(session: Session, stored: Operation) -> Mapping[str, Any] | None:
    table = KINDS[(stored.kind or "").partition(".")[0]].__table__
    asked = select(table.c.version, table.c.voided_at).where(table.c.id == stored.record_id)
    row = session.execute(asked.with_for_update(key_share=True)).mappings().one_or_none()
    return None if row is None else dict(row)


def _merged(session: Session, stored: Operation) -> tuple[dict[str, tuple[Any, Any, Any]], list[str]]:
    """How an amend in conflict stands to the record as it is now: (value at base, the server's, the phone's) of every
    field that clashes; and the fields that it sets besides."""
    operation = wire.read_again(bytes(stored.raw))
    history = [revision for _, revision in revisions_of(session, [stored.record_id])]
    wanted = Revision(max((r.version for r in history), default=0), operation.fields, stored.install_id, stored.n or 0)
    base = operation.base or 0
    found = amend(history, base, wanted)
    clashing = {name: values for name, *values in found.fields} if isinstance(found, Conflict) else {}
    rest = {name: value for name, value in operation.fields.items() if name not in clashing}
    others = amend(history, base, replace(wanted, fields=rest))
    told = {name: (values[0], values[1], values[2]) for name, values in clashing.items()}
    return told, list(others.fields) if isinstance(others, Merged) else []


def _dismiss(session: Session, sitting: Sitting, row: Columns, said: Mapping[str, Any]) -> None:
    """The operation has no effect, ever. One that waited no longer does: it is sworn to like a release."""
    taken, stored = Taken(), row.Operation
    if stored.outcome == "held":
        verdict = Verdict("quarantined", problem=wire.problem("dismissed"))
        update_rows(session, Operation, [outcome_row(stored.id, verdict)])
        taken.evidence.append(journal.release_evidence(stored.id, verdict.outcome, verdict.version))
    _keep_without_operation(session, sitting, row, said, taken)


def _keep_without_operation(
    session: Session, sitting: Sitting, row: Columns, said: Mapping[str, Any], taken: Taken
) -> None:
    _keep_decision(session, sitting, row, said, None, taken)
    journal.record(session, list(taken.changes.values()), now=sitting.now, evidence=taken.evidence)


_DECIDE = {"repair": _repair, "resolve": _resolve, "dismiss": _dismiss}


# ---------------------------------------------------------------- looking at one


def operation(session: Session, who: SignedIn, operation_id: uuid.UUID, *, now: dt.datetime) -> Json:
    """The operation, whole: what it said (`raw`, or `raw_base64` where that is no JSON that can be shown), what became
    of it, and of one in conflict every field that clashes with the record as it is now. Raises NotFound."""
    row = session.execute(_asked(who, operation_id, now)).one_or_none()
    if row is None:
        raise NotFound
    raw = bytes(row.Operation.raw)
    said = wire.as_json(raw)
    shown = None if said is not None else base64.b64encode(raw).decode()
    return _told(session, row) | {"raw": said, "raw_base64": shown}


def _told(session: Session, row: Columns) -> Json:
    """The operation as it is now, what was decided on it, and its record's version."""
    stored: Operation = row.Operation
    told = shapes.waiting(_Told(stored, row))
    decided = patrol_log.decisions(session, [stored.id]).get(stored.id)
    clashing = _merged(session, stored)[0] if stored.outcome == "conflict" and decided is None else {}
    fields = [dict(zip(("field", "base", "live", "yours"), (n, *v), strict=True)) for n, v in clashing.items()]
    return told | {"record_version": _version(session, stored.record_id), "fields": fields, "decision": decided}


class _Told:
    """The operation and the names of its officer, as one row."""

    def __init__(self, stored: Operation, officer: Columns) -> None:
        self._stored, self.username, self.full_name = stored, officer.username, officer.full_name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stored, name)


def _version(session: Session, record_id: uuid.UUID | None) -> int | None:
    versions = union_all(*(select(model.version).where(model.id == record_id) for model in KINDS.values()))
    return session.scalar(versions)


# ---------------------------------------------------------------- the inbox


@dataclass(frozen=True, slots=True)
class Inbox:
    """What waits for this account: how many of each kind, and one page of one kind, oldest first."""

    counts: dict[str, int]
    items: list[Json]
    next: str | None


def inbox(
    session: Session, who: SignedIn, kind: str | None, *, limit: int, cursor: str | None, now: dt.datetime
) -> Inbox:
    """The counts, and a page of what waits of this kind; without a kind the counts alone.

    The number of queries does not depend on how much waits. Raises QueryInvalid if the cursor is of another list.
    """
    waiting = {each: _waiting(who, each, now) for each in shapes.INBOX}
    counted = select(*(select(func.count()).select_from(one.subquery()).scalar_subquery() for one in waiting.values()))
    counts = dict(zip(shapes.INBOX, session.execute(counted).one(), strict=True))
    if kind is None:
        return Inbox(counts, [], None)
    listed = ["inbox", kind]
    place = waiting[kind].subquery("place")
    after = true() if cursor is None else _behind(place, *position_of(listed, cursor))
    page = select(place).where(after).order_by(place.c.since, place.c.id).limit(limit + 1).subquery("page")
    asked = _lacking(page) if kind == "photos" else _described(page)
    rows = session.execute(asked.order_by(page.c.since, page.c.id)).all()
    shown, shape = rows[:limit], shapes.lacking if kind == "photos" else shapes.waiting
    following = cursor_after(listed, shown[-1].since, shown[-1].id) if len(rows) > limit else None
    return Inbox(counts, [shape(row) for row in shown], following)


def _behind(place: Any, at: dt.datetime, id: uuid.UUID) -> ColumnElement[bool]:
    return tuple_(place.c.since, place.c.id) > tuple_(literal(at, UtcDateTime), literal(id, place.c.id.type))


def _waiting(who: SignedIn, kind: str, now: dt.datetime) -> Select[Any]:
    """(id, since) of what waits for a person, at least."""
    if kind == "photos":
        return _without_photos(who, now)
    long_enough = Operation.received_at <= now - standing.HELD_TOO_LONG if kind == "held" else true()
    columns: tuple[Any, ...] = (Operation.id, Operation.received_at.label("since"))
    return select(*columns).where(Operation.outcome == kind, undecided(), long_enough, _in_charge(who, now))


def _without_photos(who: SignedIn, now: dt.datetime) -> Select[Any]:
    """The records that photos are missing of which should have come by now."""
    since = func.min(AnnouncedPhoto.announced_at)
    late = (
        select(AnnouncedPhoto.record_id, since.label("since"), func.count().label("photos_missing"))
        .where(is_missing())
        .group_by(AnnouncedPhoto.record_id)
        .having(since < now - standing.PHOTO_LATE)
        .cte()
    )
    of_kinds = [
        select(
            model.id,
            late.c.since,
            late.c.photos_missing,
            literal(kind).label("kind"),
            model.officer_id,
            model.township_code,
        )
        .join(late, late.c.record_id == model.id)
        .where(model.voided_at.is_(None), _in_charge_of(model, who))
        for kind, model in KINDS.items()
    ]
    return select(union_all(*of_kinds).subquery())


def _described(page: Any) -> Select[Any]:
    columns = (column for column in Operation.__table__.columns if column.name not in ("raw", "fingerprint"))
    return (
        select(*columns, page.c.since, Account.username, Account.full_name)
        .join(page, page.c.id == Operation.id)
        .join(Account, Account.id == Operation.officer_id)
    )


def _lacking(page: Any) -> Select[Any]:
    return (
        select(page, Account.username, Account.full_name, Township.name.label("township_name"))
        .join(Account, Account.id == page.c.officer_id)
        .outerjoin(Township, Township.code == page.c.township_code)
    )
