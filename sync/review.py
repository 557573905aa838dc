"""What people decide: on records that were received, and on operations that wait for somebody.

A record is approved, returned to its officer, made void or commented; an operation that is quarantined is repaired, one
in conflict resolved, and either, or one that waited in vain, dismissed. What a decision makes of the records is an
operation like any other (`settling`), by the officer whose it was or by whoever decided. Nothing that a phone sent is
ever changed; a decision stands beside it, is sworn to, and goes out on the feed.

Every decision names what its sender saw. If that is not how things are, it is refused with how they are now
(`DecidedMeanwhile`), and nothing changes. The callers have begun a writing transaction and commit it.
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import literal, select
from sqlalchemy.orm import Session

from sync import journal, shapes, standing, wire
from sync.clock import Arrival, Stamp, occurred
from sync.enforcement import Lists
from sync.inbox import clashes, in_charge, told, waiting_operation
from sync.journal import Change, decision_evidence, record_change
from sync.models import (
    Account,
    Decision,
    Desk,
    Installation,
    Operation,
    ReviewEvent,
    SignedIn,
    among,
    insert_rows,
    is_busy,
    update_rows,
)
from sync.patrol_log import KINDS, may_decide_on, review_events
from sync.places import Areas
from sync.problems import DecidedMeanwhile, DecisionInvalid, EnvelopeInvalid, NotFound, Problem
from sync.resemblances import Yardstick
from sync.settling import Incoming, Taken, arrival_of, conclude, outcome_row, settle
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
    likeness: Yardstick


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
    after = [found[seen["id"]].told() if seen["id"] in found else _nothing(seen["id"]) for seen in said["records"]]
    return [{**each, **_approval(refused)} for each, refused in zip(after, refusals, strict=True)]


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


def _lock(session: Session, who: SignedIn, ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, _Reviewed]:
    """Those of these records that this account may decide on, locked as settling does it."""
    found: dict[uuid.UUID, _Reviewed] = {}
    ids = list(ids)
    for kind in ("warning", "incident", "patrol"):
        model = KINDS[kind]
        table = model.__table__
        asked = select(table).where(among(session, table.c.id, ids), may_decide_on(model, who)).order_by(table.c.id)
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
    known = (sitting.lists, sitting.areas, sitting.photo_max_bytes, sitting.likeness)
    return Incoming(*whose, arrival, *known, decided=decided)


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
    DecidedMeanwhile if it is decided or has joined, or it or its record is not as the decider saw it, DecisionInvalid
    if this can't be decided on it.
    """
    _demand_words(said)
    asked = waiting_operation(sitting.who, operation_id, sitting.now).with_for_update(of=Operation)
    row = session.execute(asked.execution_options(populate_existing=True)).one_or_none()
    if row is None:
        raise NotFound
    stored: Operation = row.Operation
    is_open = stored.outcome != "applied" and session.get(Decision, operation_id) is None
    if not is_open or said.get("outcome", stored.outcome) != stored.outcome:
        raise DecidedMeanwhile(**told(session, row))
    allowed = standing.decisions_on(stored.outcome, stored.received_at, sitting.now)
    if said["action"] not in allowed:
        raise DecisionInvalid(outcome=stored.outcome, allowed=list(allowed))
    _DECIDE[said["action"]](session, sitting, row, said)
    session.expire(stored)
    return told(session, row)


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
    """The corrected operation is live, as if its officer had sent it like that; it has an id of its own.

    Raises DecisionInvalid if it would be about a record that isn't this account's to decide on.
    """
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
    _demand_charge(session, sitting, operation, stored.officer_id)
    taken = _settled(session, incoming, operation)
    _keep_decision(session, sitting, row, said, operation, taken)
    conclude(session, replace(incoming, arrival=_here(sitting)), [operation], taken, now=sitting.now)


def _demand_charge(session: Session, sitting: Sitting, operation: wire.Operation, officer_id: int) -> None:
    """Nothing, if this account would be in charge of the operation, had its officer sent it."""
    record, officer = literal(operation.record, Operation.id.type), literal(officer_id)
    if not session.scalar(select(in_charge(sitting.who, sitting.now, record, officer))):
        raise DecisionInvalid(problem=wire.problem("not-yours"))


def _resolve(session: Session, sitting: Sitting, row: Columns, said: Mapping[str, Any]) -> None:
    """The record has, of each field in conflict, the value that was chosen; and whatever else the amend has set."""
    if said["version"] is None:
        raise EnvelopeInvalid(errors=[{"pointer": "/version", "code": "required"}])
    stored: Operation = row.Operation
    record = _locked_record(session, stored)
    if record is None or record["version"] != said["version"] or record["voided_at"] is not None:
        raise DecidedMeanwhile(**told(session, row))
    clashing, others = clashes(session, stored)
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


def _dismiss(session: Session, sitting: Sitting, row: Columns, said: Mapping[str, Any]) -> None:
    """The operation has no effect, ever. One that waited no longer does: it is sworn to like a release."""
    taken, stored = Taken(), row.Operation
    if stored.outcome == "conflict" and said["version"] is not None:
        record = _locked_record(session, stored)
        if record is None or record["version"] != said["version"]:
            raise DecidedMeanwhile(**told(session, row))
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
