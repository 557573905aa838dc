"""What people decide on records and on operations that wait: who may, what comes of it, and that it is sworn to."""

from __future__ import annotations

import base64
import datetime as dt
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, delete, func, select, update
from sqlalchemy.orm import Session

from sync import carried, evidence, inbox, intake, patrol_log, reference, review, shapes, wire
from sync.evidence import Break, verify
from sync.models import (
    Account,
    AnnouncedPhoto,
    Decision,
    FeedEntry,
    Incident,
    Installation,
    Link,
    Operation,
    Patrol,
    Posting,
    ReviewEvent,
    SignedIn,
    begin_read,
    begin_write,
)
from sync.patrol_log import Selection
from sync.problems import DecidedMeanwhile, DecisionInvalid, EnvelopeInvalid, NotFound, Problem, QueryInvalid
from sync.review import Sitting
from tests.builders import GUALI, YINONG, make_account, make_installation, make_lists, make_signed_in
from tests.counting import count_statements
from tests.sync.days import (
    PHOTO_MAX_BYTES,
    YARDSTICK,
    amend,
    batch,
    codes,
    incident,
    operation,
    outcomes,
    patrol,
    push,
    refusing,
    void,
    warning,
)
from tests.sync.pulling import Puller
from tests.sync.test_in_flight import at_once as one_during_the_other
from tests.sync.test_in_flight import sending

Sent = dict[str, Any]
#: In 益农镇's box of `tests/builders.py`.
IN_YINONG = {"lon": 120.56, "lat": 30.18, "accuracy_m": 12, "crs": "wgs84", "source": "gps"}
PHOTO: Sent = {"sha256": "ab" * 32, "bytes": 3, "type": "image/jpeg"}
DAY = dt.timedelta(days=1)


@pytest.fixture
def officer(session: Session) -> SignedIn:
    make_lists(session)
    make_account(session, username="partner")
    who = make_signed_in(session)
    session.commit()
    return who


@pytest.fixture
def supervisor(session: Session, officer: SignedIn) -> SignedIn:
    """Of 瓜沥镇."""
    who = make_signed_in(session, username="supervisor", role="supervisor")
    session.commit()
    return who


@pytest.fixture
def reviewer(session: Session, officer: SignedIn) -> SignedIn:
    who = make_signed_in(session, username="reviewer", role="reviewer", townships=())
    session.commit()
    return who


@pytest.fixture
def elsewhere(session: Session, officer: SignedIn) -> SignedIn:
    """A supervisor of 益农镇."""
    who = make_signed_in(session, username="elsewhere", role="supervisor", townships=[YINONG])
    session.commit()
    return who


def sitting(session: Session, who: SignedIn, now: dt.datetime) -> Sitting:
    """The sitting of this account in a transaction that has begun to write."""
    session.rollback()
    begin_write(session)
    known = reference.snapshot(session)
    return Sitting(who, now, known.lists, known.areas, PHOTO_MAX_BYTES, YARDSTICK)


def done(session: Session, deciding: Callable[[], Any]) -> Any:
    """What was decided and committed; a refusal leaves nothing behind."""
    try:
        answer = deciding()
    except Problem:
        session.rollback()
        raise
    session.commit()
    return orjson.loads(orjson.dumps(answer))


def on_record(
    session: Session, who: SignedIn, what: Sent, action: str, now: dt.datetime, version: int = 1, **said: Any
) -> Any:
    """How the record stands after this."""
    words = {"comment": None if action == "approve" else "请补充说明", "state": "received"} | said
    asked = {"action": action, "version": version} | words
    here = sitting(session, who, now)
    return done(session, lambda: review.decide(session, here, uuid.UUID(what["record"]), asked))


def on_operation(session: Session, who: SignedIn, id: Any, action: str, now: dt.datetime, **said: Any) -> Any:
    """The operation after this; said as a request says it."""
    body = {"action": action} | ({"comment": "核实后处理"} if action == "dismiss" else {}) | said
    read = wire.read_decision(orjson.dumps(body), wire.OperationDecisionShape())
    here = sitting(session, who, now)
    return done(session, lambda: review.decide_operation(session, here, uuid.UUID(str(id)), read))


def approved(session: Session, who: SignedIn, records: list[tuple[Any, int]], now: dt.datetime) -> Any:
    here = sitting(session, who, now)
    said = {"records": [{"id": uuid.UUID(str(id)), "version": version} for id, version in records], "comment": None}
    return done(session, lambda: review.approve(session, here, said))


def looked_at(session: Session, who: SignedIn, id: Any, now: dt.datetime) -> Any:
    session.rollback()
    return orjson.loads(orjson.dumps(inbox.operation(session, who, uuid.UUID(str(id)), now=now)))


def the_inbox(session: Session, who: SignedIn, kind: str | None, now: dt.datetime, **page: Any) -> inbox.Page:
    session.rollback()
    begin_read(session)
    found = inbox.page(session, who, kind, YARDSTICK, **{"limit": 50, "cursor": None} | page, now=now)
    session.rollback()
    return found


def one(session: Session, who: SignedIn, what: Sent) -> Any:
    session.rollback()
    kind = what["kind"].partition(".")[0]
    return orjson.loads(orjson.dumps(patrol_log.one(session, who, kind, uuid.UUID(what["record"]))))


def listed(session: Session, who: SignedIn, kind: str = "incident", **filters: Any) -> set[str]:
    session.rollback()
    return {item["id"] for item in patrol_log.page(session, who, kind, Selection(**filters), limit=500).items}


def verified(session: Session) -> int:
    """How many links the chain has, all of which hold."""
    session.rollback()
    return len(list(verify(session)))


def fed(session: Session, kind: str, entity: Any) -> int:
    """The number of the link in which this last changed."""
    session.rollback()
    feed = select(Link.number).join(FeedEntry, FeedEntry.link_key == Link.key)
    return session.scalars(feed.where(FeedEntry.kind == kind, FeedEntry.entity == str(entity))).one()


@pytest.fixture
def day(session: Session, officer: SignedIn, now: dt.datetime) -> tuple[Sent, Sent, Sent]:
    """A patrol, an incident of it and a warning, in 瓜沥镇."""
    out = patrol()
    seen = incident(out)
    told = warning(seen)
    push(session, officer, batch(officer, out, seen, told), now)
    return out, seen, told


# ---------------------------------------------------------------- records: how they stand


@pytest.mark.parametrize("index", [0, 1, 2], ids=["patrol", "incident", "warning"])
@pytest.mark.parametrize(
    ("action", "state", "version"),
    [("approve", "approved", 1), ("return", "returned", 1), ("void", "void", 2), ("comment", "received", 1)],
)
def test_a_decision_on_a_record_is_told_with_who_when_and_about_which_version(
    session: Session,
    supervisor: SignedIn,
    officer: SignedIn,
    day: tuple[Sent, ...],
    now: dt.datetime,
    index: int,
    action: str,
    state: str,
    version: int,
) -> None:
    what, later = day[index], now + DAY
    comment = None if action == "approve" else "请补充说明"
    kind = what["kind"].partition(".")[0]
    before = verified(session)
    answer = on_record(session, supervisor, what, action, later)
    by = {"username": "supervisor", "full_name": "测试 supervisor"}
    at = "2026-11-24T08:15:00.000Z"
    decided = {"state": state, "version": 1, "by": by, "at": at, "comment": comment}
    nothing = {"state": "received", "version": None, "by": None, "at": None, "comment": None}
    expected = nothing if action == "comment" else decided
    assert answer == {"record": what["record"], "version": version, "review": expected}
    record = one(session, officer, what)
    assert (record["review"], record["version"]) == (expected, version)
    assert record["review_events"] == [{"action": action, "version": 1, "comment": comment, "by": by, "at": at}]
    shape = {"patrol": shapes.OnePatrolDocument, "incident": shapes.OneIncidentDocument}
    assert shape.get(kind, shapes.OneWarningDocument)().validate(record) == {}
    assert (record["voided"] is not None) == (action == "void")
    assert fed(session, kind, what["record"]) == verified(session) == before + 1


def test_a_void_is_an_operation_of_whoever_decided_and_ends_all_review(
    session: Session, supervisor: SignedIn, officer: SignedIn, day: tuple[Sent, ...], now: dt.datetime
) -> None:
    seen = day[1]
    on_record(session, supervisor, seen, "void", now + DAY, comment="重复录入")
    record = one(session, officer, seen)
    voiding = record["history"][-1]
    assert (voiding["kind"], voiding["officer"]["username"]) == ("incident.void", "supervisor")
    assert (voiding["sent"], voiding["outcome"], voiding["version"]) == ({"reason": "重复录入"}, "applied", 2)
    assert record["voided"]["reason"] == "重复录入"
    for state in ("received", "approved", "returned"):
        for action in ("approve", "return", "void"):
            with pytest.raises(DecidedMeanwhile):
                on_record(session, supervisor, seen, action, now, version=2, state=state)
    assert on_record(session, supervisor, seen, "comment", now, version=2)["review"]["state"] == "void"
    assert outcomes(push(session, officer, batch(officer, amend(seen, 1, description="x")), now)) == ["quarantined"]


def test_an_account_decides_from_a_desk_of_its_own_and_never_in_the_name_of_its_phone(
    session: Session, supervisor: SignedIn, day: tuple[Sent, ...], now: dt.datetime
) -> None:
    for what in day[:2]:
        on_record(session, supervisor, what, "void", now)
    made = session.scalars(select(Operation).where(Operation.officer_id == supervisor.account_id)).all()
    (desk,) = {operation.install_id for operation in made}
    assert desk != supervisor.install_id
    assert sorted(operation.n or 0 for operation in made) == [1, 2]
    installation = session.get_one(Installation, desk)
    assert (installation.next_n, installation.received) == (3, [[1, 2]])


CHANGES = [
    (["approve"], "approve", "approved", False),
    (["approve"], "return", "approved", True),
    (["approve"], "void", "approved", True),
    (["approve"], "return", "received", False),
    (["approve"], "void", "received", False),
    (["return"], "approve", "returned", True),
    (["return"], "return", "returned", False),
    (["return"], "approve", "received", False),
    (["return", "comment"], "approve", "returned", True),
    (["comment"], "approve", "received", True),
    (["approve", ("return", "approved")], "approve", "approved", False),
    (["approve", ("return", "approved")], "approve", "returned", True),
]


@pytest.mark.parametrize(("before", "action", "seen_as", "taken"), CHANGES)
def test_a_decision_is_taken_only_on_what_its_decider_saw(
    session: Session,
    supervisor: SignedIn,
    day: tuple[Sent, ...],
    now: dt.datetime,
    before: list[Any],
    action: str,
    seen_as: str,
    taken: bool,
) -> None:
    what = day[1]
    for earlier in before:
        name, state = earlier if isinstance(earlier, tuple) else (earlier, "received")
        on_record(session, supervisor, what, name, now, state=state)
    events = session.scalar(select(func.count()).select_from(ReviewEvent))
    if taken:
        on_record(session, supervisor, what, action, now, state=seen_as)
    else:
        with pytest.raises(DecidedMeanwhile) as refused:
            on_record(session, supervisor, what, action, now, state=seen_as)
        assert refused.value.details["review"]["state"] == one(session, supervisor, what)["review"]["state"]
    assert (session.scalar(select(func.count()).select_from(ReviewEvent)) or 0) - (events or 0) == taken
    verified(session)


@pytest.mark.parametrize("action", ["approve", "return", "void", "comment"])
@pytest.mark.parametrize("version", [1, 3])
def test_another_version_than_the_decider_saw_is_refused_with_the_one_there_is(
    session: Session,
    supervisor: SignedIn,
    officer: SignedIn,
    day: tuple[Sent, ...],
    now: dt.datetime,
    action: str,
    version: int,
) -> None:
    what = day[1]
    push(session, officer, batch(officer, amend(what, 1, description="占道约两米")), now)
    links = verified(session)
    with pytest.raises(DecidedMeanwhile) as refused:
        on_record(session, supervisor, what, action, now, version=version)
    assert (refused.value.details["version"], refused.value.details["record"]) == (2, what["record"])
    assert verified(session) == links


def test_what_is_amended_after_a_decision_is_received_again(
    session: Session, supervisor: SignedIn, officer: SignedIn, day: tuple[Sent, ...], now: dt.datetime
) -> None:
    what = day[1]
    for version, action in ((1, "return"), (2, "approve")):
        on_record(session, supervisor, what, action, now, version=version)
        assert outcomes(push(session, officer, batch(officer, amend(what, version, description=action)), now)) == [
            "applied"
        ]
        assert one(session, officer, what)["review"]["state"] == "received"
    on_record(session, supervisor, what, "approve", now, version=3)
    told = one(session, officer, what)
    assert told["review"]["state"] == "approved"
    assert [event["version"] for event in told["review_events"]] == [1, 2, 3]
    verified(session)


@pytest.mark.parametrize("action", ["return", "void", "comment"])
def test_what_says_nothing_without_words_needs_them(
    session: Session, supervisor: SignedIn, day: tuple[Sent, ...], now: dt.datetime, action: str
) -> None:
    with pytest.raises(EnvelopeInvalid) as refused:
        on_record(session, supervisor, day[1], action, now, comment=None)
    assert refused.value.details["errors"] == [{"pointer": "/comment", "code": "required"}]


def test_a_supervisor_decides_in_the_own_townships_and_a_reviewer_in_the_district(
    session: Session,
    supervisor: SignedIn,
    elsewhere: SignedIn,
    reviewer: SignedIn,
    day: tuple[Sent, ...],
    now: dt.datetime,
) -> None:
    nobody = replace(supervisor, townships=frozenset())
    for who in (elsewhere, nobody):
        for action in ("approve", "return", "void", "comment"):
            with pytest.raises(NotFound):
                on_record(session, who, day[1], action, now)
    with pytest.raises(NotFound):
        on_record(session, reviewer, {"record": str(uuid.uuid4())}, "approve", now)
    assert on_record(session, reviewer, day[1], "approve", now)["review"]["by"]["username"] == "reviewer"
    assert on_record(session, supervisor, day[0], "approve", now)["review"]["by"]["username"] == "supervisor"


def test_records_are_found_by_how_they_stand(
    session: Session, supervisor: SignedIn, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    seen = {name: incident(out) for name in ("new", "approve", "return", "void", "amended", "changed", "voided")}
    push(session, officer, batch(officer, out, *seen.values()), now)
    for name in ("approve", "return", "void"):
        on_record(session, supervisor, seen[name], name, now)
    on_record(session, supervisor, seen["amended"], "approve", now)
    on_record(session, supervisor, seen["changed"], "approve", now)
    on_record(session, supervisor, seen["changed"], "return", now, state="approved")
    push(session, officer, batch(officer, amend(seen["amended"], 1, description="x"), void(seen["voided"])), now)
    found = {
        state: {name for name, what in seen.items() if what["record"] in listed(session, officer, review=state)}
        for state in ("received", "approved", "returned")
    }
    assert found == {"received": {"new", "amended"}, "approved": {"approve"}, "returned": {"return", "changed"}}
    assert listed(session, officer, review="received", voided="only") == set()
    pages = {
        item["id"]: item["review"]["state"]
        for item in patrol_log.page(session, officer, "incident", Selection(voided="included"), limit=50).items
    }
    assert pages[seen["void"]["record"]] == pages[seen["voided"]["record"]] == "void"
    assert pages[seen["changed"]["record"]] == "returned"


def at_once(engine: Engine, doings: list[Callable[[Session], Any]]) -> list[Any]:
    """What each came to, all at the same moment, each in a session of its own: an answer or the problem."""
    results: list[Any] = [None] * len(doings)
    ready = threading.Barrier(len(doings))

    def run(index: int) -> None:
        with Session(engine) as session:
            ready.wait(10)
            try:
                results[index] = doings[index](session)
            except Problem as problem:
                results[index] = problem

    threads = [threading.Thread(target=run, args=[index]) for index in range(len(doings))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return results


@pytest.mark.parametrize(("first", "second"), [("approve", "return"), ("approve", "void"), ("void", "void")])
def test_of_two_who_decide_at_once_one_is_told_what_the_other_decided(
    engine: Engine,
    session: Session,
    supervisor: SignedIn,
    reviewer: SignedIn,
    day: tuple[Sent, ...],
    now: dt.datetime,
    first: str,
    second: str,
) -> None:
    session.rollback()
    both = [(supervisor, first), (reviewer, second)]
    results = at_once(engine, [lambda s, w=who, a=action: on_record(s, w, day[1], a, now) for who, action in both])
    refused = [result for result in results if isinstance(result, DecidedMeanwhile)]
    assert len(refused) == 1
    told = next(result for result in results if not isinstance(result, Problem))
    assert refused[0].details["review"] == told["review"]
    assert session.scalar(select(func.count()).select_from(ReviewEvent)) == 1
    verified(session)


# ---------------------------------------------------------------- many at once


def test_many_are_approved_together_and_each_refusal_is_told(
    session: Session, supervisor: SignedIn, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    fine, amended, returned, voided = (incident(out) for _ in range(4))
    away = incident(out, township=YINONG, fix=None)
    told = warning(fine)
    push(session, officer, batch(officer, out, fine, amended, returned, voided, away, told), now)
    push(session, officer, batch(officer, amend(amended, 1, description="x"), void(voided)), now)
    on_record(session, supervisor, returned, "return", now)
    nowhere = str(uuid.uuid4())
    asked = [(what["record"], 1) for what in (out, fine, told, amended, returned, voided, away, fine)] + [(nowhere, 1)]
    results = approved(session, supervisor, asked, now)
    assert [result["record"] for result in results] == [record for record, _ in asked]
    refusals = [result["problem"] and result["problem"]["code"] for result in results]
    meanwhile, none = "decided-meanwhile", "not-found"
    assert refusals == [None, None, None, meanwhile, meanwhile, meanwhile, none, meanwhile, none]
    assert [result["approved"] for result in results] == [code is None for code in refusals]
    states = [result["review"] and result["review"]["state"] for result in results]
    assert states == [*["approved"] * 3, "received", "returned", "void", None, "approved", None]
    assert shapes.ApprovalsDocument().validate({"results": results}) == {}
    verified(session)


def test_nothing_to_approve_changes_nothing(session: Session, supervisor: SignedIn, now: dt.datetime) -> None:
    links = verified(session)
    assert approved(session, supervisor, [(uuid.uuid4(), 1)], now)[0]["problem"]["code"] == "not-found"
    assert verified(session) == links


def test_approving_takes_the_same_number_of_statements_however_many_they_are(
    session: Session, engine: Engine, supervisor: SignedIn, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    seen = [incident(out) for _ in range(60)]
    push(session, officer, batch(officer, out, *seen), now)
    numbers = set()
    for start, stop in ((0, 1), (1, 10), (10, 60)):
        with count_statements(engine) as counted:
            results = approved(session, supervisor, [(what["record"], 1) for what in seen[start:stop]], now)
        assert all(result["approved"] for result in results)
        numbers.add(counted.statements)
    assert len(numbers) == 1
    verified(session)


# ---------------------------------------------------------------- repair


def quarantined(session: Session, officer: SignedIn, sent: Any, code: str, now: dt.datetime) -> uuid.UUID:
    """The id under which an operation that can't be taken is kept."""
    (result,) = push(session, officer, batch(officer, sent), now)["results"]
    assert result["problem"]["code"] == code
    return session.scalars(select(Operation.id).where(Operation.outcome == "quarantined")).one()


def _without(what: Sent, *names: str) -> Sent:
    return {name: value for name, value in what.items() if name not in names}


def _body(what: Sent, **fields: Any) -> Sent:
    return what | {"body": what["body"] | fields}


Bad = Callable[[Sent], Sent]
#: problem, what is wrong with a good incident, and what a person makes of the operation as it is shown
REPAIRS: list[tuple[str, Bad, Bad]] = [
    ("invalid", lambda o: _body(o, description=5), lambda o: _body(o, description="五")),
    ("invalid", lambda o: o | {"at": {"wall": "gestern"}}, lambda o: o | {"at": {"wall": "2026-11-23T08:00:00+08:00"}}),
    ("invalid", lambda o: _without(o, "n"), lambda o: o | {"n": 77}),
    (
        "invalid",
        lambda o: o | {"fix": {"lon": 30.18, "lat": 120.46}},
        lambda o: o | {"fix": {"lon": 120.46, "lat": 30.18}},
    ),
    ("unknown-kind", lambda o: o | {"kind": "incident.seen"}, lambda o: o | {"kind": "incident.create"}),
    ("unknown-township", lambda o: _body(o, township="999999999"), lambda o: _body(o, township=GUALI)),
    ("unknown-item", lambda o: _body(o, items=["NOPE"]), lambda o: _body(o, items=[])),
    ("unknown-event-class", lambda o: _body(o, event_class="99"), lambda o: _body(o, event_class=None)),
    ("unknown-place", lambda o: _body(o, designated_place="X"), lambda o: _body(o, designated_place=None)),
    ("op-too-large", lambda o: o | {"pad": "x" * 300_000}, lambda o: _without(o, "pad")),
]


@pytest.mark.parametrize(("code", "spoil", "correct"), REPAIRS, ids=[f"{n}-{c[0]}" for n, c in enumerate(REPAIRS)])
def test_a_quarantined_operation_is_repaired_in_its_officers_name(
    session: Session,
    supervisor: SignedIn,
    officer: SignedIn,
    now: dt.datetime,
    code: str,
    spoil: Bad,
    correct: Bad,
) -> None:
    out = patrol()
    push(session, officer, batch(officer, out), now)
    bad = spoil(incident(out))
    id = quarantined(session, officer, bad, code, now)
    before = session.execute(select(Operation.__table__).where(Operation.id == id)).one()
    shown = looked_at(session, supervisor, id, now)
    assert (shown["raw"], shown["raw_base64"], shown["problem"]["code"]) == (bad, None, code)
    told = on_operation(session, supervisor, id, "repair", now + DAY, operation=correct(shown["raw"]))
    made = told["decision"]["operation"]
    assert (made["outcome"], made["version"], told["outcome"]) == ("applied", 1, "quarantined")
    assert shapes.DecidedOperationDocument().validate(told) == {}
    after = session.execute(select(Operation.__table__).where(Operation.id == id)).one()
    assert after == before
    repaired = session.get_one(Operation, uuid.UUID(made["id"]))
    assert repaired.id != id
    assert (repaired.officer_id, repaired.install_id) == (officer.account_id, officer.install_id)
    assert repaired.received_at == now
    record = session.get_one(Incident, uuid.UUID(made["record"]))
    assert (record.officer_id, record.received_at, record.township_code) == (officer.account_id, now, GUALI)
    history = patrol_log.one(session, supervisor, "incident", record.id)["history"]
    assert {(each["id"], each["instead_of"]) for each in history} >= {(made["id"], str(id))}
    assert fed(session, "operation", id) == verified(session)


def test_what_is_repaired_happened_when_its_phone_said(
    session: Session, supervisor: SignedIn, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    bad, good = incident(out, items=["NOPE"]), incident(out)
    push(session, officer, batch(officer, out, good, bad), now)
    later = {"wall": "2026-11-24T12:00:00+08:00"}
    told = on_operation(
        session, supervisor, bad["op"], "repair", now + DAY, operation=good | {"record": bad["record"], "at": later}
    )
    columns = (Incident.occurred_at, Incident.occurred_error_ms, Incident.occurred_method, Incident.notes)
    times = session.execute(select(*columns).order_by(Incident.received_at)).all()
    assert times[0] == times[1]
    assert told["decision"]["operation"]["record"] == bad["record"]


def test_bytes_that_are_no_json_are_shown_as_they_are_and_can_be_repaired(
    session: Session, supervisor: SignedIn, officer: SignedIn, now: dt.datetime
) -> None:
    good = patrol()
    raw = orjson.dumps(batch(officer, good | {"purpose": "#"})).replace(b'"#"', b"1e999")
    assert outcomes(push(session, officer, raw, now)) == ["quarantined"]
    shown = looked_at(session, supervisor, good["op"], now)
    assert shown["raw"] is None
    assert b"1e999" in base64.b64decode(shown["raw_base64"])
    assert shapes.WholeOperationDocument().validate(shown) == {}
    told = on_operation(session, supervisor, good["op"], "repair", now, operation=good)
    assert told["decision"]["operation"]["outcome"] == "applied"
    verified(session)


def test_an_operation_that_reused_an_id_is_taken_under_its_own(
    session: Session, supervisor: SignedIn, officer: SignedIn, now: dt.datetime
) -> None:
    first = patrol()
    second = patrol() | {"op": first["op"]}
    push(session, officer, batch(officer, first), now)
    id = quarantined(session, officer, second, "op-reused", now)
    told = on_operation(session, supervisor, id, "repair", now, operation=second)
    assert told["decision"]["operation"]["record"] == second["record"]
    verified(session)


def test_a_record_that_existed_and_one_of_another_kind_are_repaired_by_another_record(
    session: Session, supervisor: SignedIn, officer: SignedIn, day: tuple[Sent, ...], now: dt.datetime
) -> None:
    out, seen, _ = day
    twice = incident(out) | {"record": seen["record"]}
    wrong = warning(out)
    push(session, officer, batch(officer, twice, wrong), now)
    fresh = str(uuid.uuid4())
    told = on_operation(session, supervisor, twice["op"], "repair", now, operation=twice | {"record": fresh})
    assert told["decision"]["operation"] | {"id": ""} == {
        "id": "",
        "kind": "incident.create",
        "record": fresh,
        "outcome": "applied",
        "version": 1,
    }
    right = _body(wrong, incident=fresh)
    assert on_operation(session, supervisor, wrong["op"], "repair", now, operation=right)["decision"]
    verified(session)


def test_what_broke_the_server_can_be_tried_again(
    session: Session, supervisor: SignedIn, officer: SignedIn, day: tuple[Sent, ...], now: dt.datetime
) -> None:
    seen = incident(day[0], description="毒")
    with refusing(session, "毒"):
        push(session, officer, batch(officer, seen), now)
        with pytest.raises(DecisionInvalid) as refused:
            on_operation(session, supervisor, seen["op"], "repair", now, operation=seen)
        assert refused.value.details["problem"]["code"] == "internal"
    told = on_operation(session, supervisor, seen["op"], "repair", now, operation=seen)
    assert told["decision"]["operation"]["outcome"] == "applied"
    verified(session)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"body": {}}, "invalid"),
        ({"kind": "incident.eat"}, "unknown-kind"),
        ({"surprise": 1}, "invalid"),
        ({"record": "HERS"}, "record-exists"),
        ({"kind": "incident.void", "record": "HERS", "reason": "x", "body": None}, "invalid"),
    ],
)
def test_what_would_be_quarantined_again_is_refused_and_stores_nothing(
    session: Session,
    supervisor: SignedIn,
    officer: SignedIn,
    day: tuple[Sent, ...],
    now: dt.datetime,
    change: Sent,
    code: str,
) -> None:
    bad = incident(day[0], items=["NOPE"])
    push(session, officer, batch(officer, bad), now)
    links = verified(session)
    corrected = bad | change
    if corrected["record"] == "HERS":
        corrected["record"] = day[1]["record"]
    with pytest.raises(DecisionInvalid) as refused:
        on_operation(session, supervisor, bad["op"], "repair", now, operation=corrected)
    assert refused.value.details["problem"]["code"] == code
    assert (verified(session), session.scalar(select(func.count()).select_from(Decision))) == (links, 0)
    assert session.scalar(select(func.count()).select_from(Operation)) == 4


def test_a_repair_does_not_let_an_officer_change_the_record_of_another(
    session: Session, supervisor: SignedIn, day: tuple[Sent, ...], now: dt.datetime
) -> None:
    other = make_signed_in(session, username="other")
    session.commit()
    theirs = amend(day[1], 1, description="x")
    push(session, other, batch(other, theirs), now)
    with pytest.raises(DecisionInvalid) as refused:
        on_operation(session, supervisor, theirs["op"], "repair", now, operation=theirs)
    assert refused.value.details["problem"]["code"] == "not-yours"


@pytest.mark.parametrize("change", ["amend", "void", "amend into the own township", "track"])
def test_a_repair_is_no_way_to_a_record_of_another_township(
    session: Session,
    supervisor: SignedIn,
    reviewer: SignedIn,
    officer: SignedIn,
    day: tuple[Sent, ...],
    now: dt.datetime,
    change: str,
) -> None:
    there = patrol(township=YINONG) | {"fix": IN_YINONG}
    bad = incident(day[0], items=["NOPE"])
    push(session, officer, batch(officer, there, bad), now)
    corrected = {
        "amend": amend(there, 1, purpose="x"),
        "void": void(there),
        "amend into the own township": amend(there, 1, township=GUALI),
        "track": operation(
            "track.append", uuid.UUID(there["record"]), body={"crs": "wgs84", "points": [[120.56, 30.18, None, 5]]}
        ),
    }[change]
    with pytest.raises(DecisionInvalid) as refused:
        on_operation(session, supervisor, bad["op"], "repair", now, operation=corrected)
    assert refused.value.details["problem"]["code"] == "not-yours"
    assert one(session, reviewer, there)["version"] == 1
    assert looked_at(session, supervisor, bad["op"], now)["decision"] is None


def test_who_is_in_charge_by_a_record_repairs_what_is_about_it_and_nothing_else(
    session: Session, elsewhere: SignedIn, officer: SignedIn, day: tuple[Sent, ...], now: dt.datetime
) -> None:
    there = patrol(township=YINONG) | {"fix": IN_YINONG}
    bad = amend(there, 1, purpose=5)
    push(session, officer, batch(officer, there, bad), now)
    for other in (amend(day[0], 1, purpose="x"), patrol()):
        with pytest.raises(DecisionInvalid):
            on_operation(session, elsewhere, bad["op"], "repair", now, operation=other)
    told = on_operation(session, elsewhere, bad["op"], "repair", now, operation=amend(there, 1, purpose="x"))
    assert told["decision"]["operation"]["outcome"] == "applied"
    verified(session)


def test_what_waited_for_a_repaired_operation_joins_it(
    session: Session, supervisor: SignedIn, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol(township="999999999")
    seen = incident(out)
    told, changed = warning(seen), amend(seen, 1, description="占道约两米")
    day = batch(officer, changed, told, seen, out)
    assert outcomes(push(session, officer, day, now)) == ["held", "held", "held", "quarantined"]
    on_operation(session, supervisor, out["op"], "repair", now, operation=_body(out, township=GUALI))
    receipt = intake.receipt(session, officer, uuid.UUID(day["batch"]), YARDSTICK)
    assert outcomes(receipt) == ["applied", "applied", "applied", "quarantined"]
    assert receipt["results"][3]["decision"]["operation"]["outcome"] == "applied"
    assert session.get_one(Incident, uuid.UUID(seen["record"])).description == "占道约两米"
    verified(session)


def test_a_repair_that_waits_for_something_joins_when_that_comes(
    session: Session, supervisor: SignedIn, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    seen = incident(out, items=["NOPE"])
    push(session, officer, batch(officer, seen), now)
    told = on_operation(session, supervisor, seen["op"], "repair", now, operation=_body(seen, items=[]))
    assert told["decision"]["operation"]["outcome"] == "held"
    receipt = push(session, officer, batch(officer, out), now + DAY)
    assert [joined["outcome"] for joined in receipt["joined"]] == ["applied"]
    record = session.get_one(Incident, uuid.UUID(seen["record"]))
    assert (record.officer_id, record.received_at) == (officer.account_id, now)
    verified(session)


def test_a_repaired_amend_gives_way_to_the_phones_later_word(
    session: Session, supervisor: SignedIn, officer: SignedIn, day: tuple[Sent, ...], now: dt.datetime
) -> None:
    seen = day[1]
    early, late = amend(seen, 1, description="早", measures=["dance"]), amend(seen, 1, description="晚")
    assert outcomes(push(session, officer, batch(officer, early, late), now)) == ["quarantined", "applied"]
    fixed = early | {"set": {"description": "早", "measures": ["inform"]}}
    on_operation(session, supervisor, early["op"], "repair", now, operation=fixed)
    record = session.get_one(Incident, uuid.UUID(seen["record"]))
    assert (record.description, record.measures) == ("晚", ["inform"])
    verified(session)


def test_the_photos_of_a_repaired_record_are_those_of_its_officer(
    session: Session, supervisor: SignedIn, officer: SignedIn, day: tuple[Sent, ...], now: dt.datetime
) -> None:
    seen = incident(day[0], items=["NOPE"], photos=[PHOTO])
    push(session, officer, batch(officer, seen), now)
    on_operation(session, supervisor, seen["op"], "repair", now + DAY, operation=_body(seen, items=[]))
    announced = session.execute(select(AnnouncedPhoto.officer_id, AnnouncedPhoto.announced_at)).one()
    assert announced == (officer.account_id, now)
    assert push(session, officer, batch(officer), now)["photos_needed"] == [PHOTO["sha256"]]


@pytest.mark.parametrize("first", ["repair", "incident"])
def test_a_repair_and_what_waits_for_it_in_flight_find_each_other(
    engine: Engine, session: Session, supervisor: SignedIn, officer: SignedIn, now: dt.datetime, first: str
) -> None:
    partner = make_signed_in(session, username="colleague")
    session.commit()
    out = patrol(township="9")
    push(session, officer, batch(officer, out), now)
    session.rollback()
    said = {"action": "repair", "comment": None, "operation": _body(out, township=GUALI)}

    def repair(own: Session) -> None:
        review.decide_operation(own, sitting(own, supervisor, now), uuid.UUID(out["op"]), said)

    doings = [repair, sending(partner, batch(partner, incident(out)), now)]
    one_during_the_other(engine, session, *(doings if first == "repair" else reversed(doings)))
    assert session.scalars(select(Incident.patrol)).one() == uuid.UUID(out["record"])
    verified(session)


# ---------------------------------------------------------------- conflict


@pytest.fixture
def tablet(session: Session, officer: SignedIn) -> SignedIn:
    """Another installation of the same officer."""
    installation = make_installation(session, session.get_one(Account, officer.account_id))
    session.commit()
    return replace(officer, install_id=installation.id)


@pytest.fixture
def clash(session: Session, officer: SignedIn, tablet: SignedIn, day: tuple[Sent, ...], now: dt.datetime) -> Sent:
    """An amend of the incident by the tablet: description and items clash with the phone's, measures with nothing."""
    seen = day[1]
    push(session, officer, batch(officer, amend(seen, 1, description="甲", items=[])), now)
    theirs = amend(seen, 1, description="乙", items=["DEMO-SR-001"], measures=["inform"]) | {"photos": [PHOTO]}
    theirs["set"]["items"] = ["DEMO-SR-001", "DEMO-SR-001"]
    assert outcomes(push(session, tablet, batch(tablet, theirs), now)) == ["conflict"]
    return theirs


TWICE = ["DEMO-SR-001", "DEMO-SR-001"]
CHOICES: list[tuple[Sent, str, list[str]]] = [
    ({"description": "live", "items": "live"}, "甲", []),
    ({"description": "yours", "items": "live"}, "乙", []),
    ({"description": "yours", "items": "yours"}, "乙", TWICE),
    ({"description": {"value": "丙"}, "items": {"value": ["DEMO-SR-001"]}}, "丙", ["DEMO-SR-001"]),
    ({"description": {"value": None}, "items": "live"}, "", []),
]


@pytest.mark.parametrize(("fields", "description", "items"), CHOICES)
def test_a_conflict_is_resolved_field_by_field_in_the_name_of_who_decides(
    session: Session,
    supervisor: SignedIn,
    officer: SignedIn,
    clash: Sent,
    now: dt.datetime,
    fields: Sent,
    description: str,
    items: list[str],
) -> None:
    shown = looked_at(session, supervisor, clash["op"], now)
    first = "在建工地门口流动摊贩，已批评教育并引导至指定地点"
    assert sorted(shown["fields"], key=lambda clashing: str(clashing["field"])) == [
        {"field": "description", "base": first, "live": "甲", "yours": "乙"},
        {"field": "items", "base": ["DEMO-SR-001"], "live": [], "yours": TWICE},
    ]
    assert (shown["record_version"], shown["outcome"]) == (2, "conflict")
    told = on_operation(session, supervisor, clash["op"], "resolve", now + DAY, version=2, fields=fields)
    record = session.get_one(Incident, uuid.UUID(clash["record"]), populate_existing=True)
    assert (record.description or "", record.items, record.measures) == (description, items, ["inform"])
    assert (record.version, record.officer_id) == (3, officer.account_id)
    made = session.get_one(Operation, uuid.UUID(told["decision"]["operation"]["id"]))
    assert (made.officer_id, made.kind, made.version) == (supervisor.account_id, "incident.amend", 3)
    assert "not-on-patrol" not in record.note_codes, "notes are about who made the record"
    assert session.scalars(select(AnnouncedPhoto.officer_id)).one() == officer.account_id
    assert (told["outcome"], told["fields"]) == ("conflict", [])
    assert fed(session, "operation", clash["op"]) == fed(session, "incident", clash["record"]) == verified(session)


def test_keeping_all_as_it_is_makes_no_operation(
    session: Session, supervisor: SignedIn, officer: SignedIn, tablet: SignedIn, day: tuple[Sent, ...], now: dt.datetime
) -> None:
    seen = day[1]
    push(session, officer, batch(officer, amend(seen, 1, description="甲")), now)
    theirs = amend(seen, 1, description="乙")
    push(session, tablet, batch(tablet, theirs), now)
    told = on_operation(session, supervisor, theirs["op"], "resolve", now, version=2, fields={"description": "live"})
    assert (told["decision"]["operation"], told["record_version"]) == (None, 2)
    verified(session)


def test_a_moment_that_is_chosen_is_the_one_that_the_phones_clocks_said(
    session: Session, supervisor: SignedIn, officer: SignedIn, tablet: SignedIn, day: tuple[Sent, ...], now: dt.datetime
) -> None:
    """The tablet's wall clock is off by years; only how long ago, by its count since boot, tells when it was."""
    out = day[0]
    push(session, officer, batch(officer, amend(out, 1, ended={"gnss": "2026-11-23T15:00:00+08:00"})), now)
    hour_ago = {"wall": "2016-01-01T00:00:00Z", "mono_ms": 30_700_000 - 3_600_000, "boot": "7"}
    theirs = amend(out, 1, ended=hour_ago, started=hour_ago) | {"at": hour_ago, "photos": [PHOTO]}
    assert outcomes(push(session, tablet, batch(tablet, theirs), now)) == ["conflict"]
    on_operation(session, supervisor, theirs["op"], "resolve", now + DAY, version=2, fields={"ended": "yours"})
    record = session.get_one(Patrol, uuid.UUID(out["record"]))
    when = now - dt.timedelta(hours=1)
    assert (record.ended_at, record.started_at) == (when, when)
    assert session.scalars(select(AnnouncedPhoto.told_at)).one() == when
    verified(session)


def test_a_phone_goes_on_from_what_was_resolved(
    session: Session, supervisor: SignedIn, tablet: SignedIn, clash: Sent, now: dt.datetime
) -> None:
    fields = {"description": {"value": "丙"}, "items": "live"}
    on_operation(session, supervisor, clash["op"], "resolve", now, version=2, fields=fields)
    unaware, aware = amend(clash, 1, description="丁"), amend(clash, 3, description="丁")
    assert outcomes(push(session, tablet, batch(tablet, unaware), now)) == ["conflict"]
    assert outcomes(push(session, tablet, batch(tablet, aware), now)) == ["applied"]
    receipt = push(session, tablet, batch(tablet, clash), now)
    assert receipt["results"][0]["decision"]["operation"]["version"] == 3
    verified(session)


@pytest.mark.parametrize(
    ("said", "errors"),
    [
        ({"fields": {"description": "live"}}, [("/fields/items", "required")]),
        ({"fields": {"description": "live", "items": "live", "x": "live"}}, [("/fields/x", "unknown-field")]),
        ({"fields": {}}, [("/fields/description", "required"), ("/fields/items", "required")]),
        ({"fields": {"description": "mine", "items": "live"}}, [("/fields/description", "one-of")]),
        ({"fields": {"description": {"value": 1, "x": 2}, "items": "live"}}, [("/fields/description", "one-of")]),
        ({"fields": {"description": "live", "items": "live"}, "version": None}, [("/version", "required")]),
    ],
)
def test_a_resolution_chooses_for_each_field_that_clashes_and_no_other(
    session: Session, supervisor: SignedIn, clash: Sent, now: dt.datetime, said: Sent, errors: list[Any]
) -> None:
    with pytest.raises(EnvelopeInvalid) as refused:
        on_operation(session, supervisor, clash["op"], "resolve", now, **{"version": 2} | said)
    assert sorted((error["pointer"], error["code"]) for error in refused.value.details["errors"]) == errors


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"description": {"value": 5}, "items": "live"}, "invalid"),
        ({"description": "live", "items": {"value": ["NOPE"]}}, "unknown-item"),
    ],
)
def test_a_third_value_is_validated_like_any_other(
    session: Session, supervisor: SignedIn, clash: Sent, now: dt.datetime, fields: Sent, code: str
) -> None:
    links = verified(session)
    with pytest.raises(DecisionInvalid) as refused:
        on_operation(session, supervisor, clash["op"], "resolve", now, version=2, fields=fields)
    assert refused.value.details["problem"]["code"] == code
    assert verified(session) == links


@pytest.mark.parametrize("meanwhile", ["amended", "voided"])
def test_a_resolution_on_a_record_that_moved_on_is_refused_with_how_it_is(
    session: Session, supervisor: SignedIn, officer: SignedIn, clash: Sent, now: dt.datetime, meanwhile: str
) -> None:
    change = amend(clash, 2, description="戊") if meanwhile == "amended" else void(clash)
    push(session, officer, batch(officer, change), now)
    fields = {"description": "yours", "items": "live"}
    with pytest.raises(DecidedMeanwhile) as refused:
        on_operation(session, supervisor, clash["op"], "resolve", now, version=2, fields=fields)
    with pytest.raises(DecidedMeanwhile):
        on_operation(session, supervisor, clash["op"], "dismiss", now, version=2)
    told = refused.value.details
    live = {clashing["field"]: clashing["live"] for clashing in told["fields"]}
    assert (told["record_version"], live["description"]) == (3, "戊" if meanwhile == "amended" else "甲")
    if meanwhile == "voided":
        with pytest.raises(DecidedMeanwhile):
            on_operation(session, supervisor, clash["op"], "resolve", now, version=3, fields=fields)
        assert on_operation(session, supervisor, clash["op"], "dismiss", now)["decision"]


# ---------------------------------------------------------------- dismiss


@pytest.mark.parametrize("outcome", ["quarantined", "conflict", "held"])
def test_a_dismissed_operation_has_no_effect_and_is_told_to_its_phone(
    session: Session, supervisor: SignedIn, officer: SignedIn, tablet: SignedIn, now: dt.datetime, outcome: str
) -> None:
    out, other = patrol(), patrol()
    seen, late = incident(out), incident(other)
    push(session, officer, batch(officer, out, seen, amend(seen, 1, description="甲")), now - 7 * DAY)
    what = {
        "quarantined": incident(out, items=["NOPE"]),
        "conflict": amend(seen, 1, description="乙"),
        "held": late,
    }[outcome]
    sent = batch(tablet, what)
    assert outcomes(push(session, tablet, sent, now - 6 * DAY)) == [outcome]
    told = on_operation(session, supervisor, what["op"], "dismiss", now, comment="无此巡查")
    after = "quarantined" if outcome == "held" else outcome
    assert (told["outcome"], told["decision"]["operation"], told["decision"]["comment"]) == (after, None, "无此巡查")
    (result,) = intake.receipt(session, tablet, uuid.UUID(sent["batch"]), YARDSTICK)["results"]
    assert (result["outcome"], result["decision"]["action"], result["waits_for"]) == (after, "dismiss", None)
    assert (result["problem"]["code"] == "dismissed") == (outcome == "held")
    (again,) = intake.operations(session, tablet, tablet.install_id or uuid.uuid4(), what["n"], what["n"], YARDSTICK)
    assert again["decision"] == result["decision"]
    assert fed(session, "operation", what["op"]) == verified(session)
    assert push(session, officer, batch(officer, other), now)["joined"] == []
    assert session.get(Incident, uuid.UUID(late["record"])) is None
    verified(session)


def test_what_has_become_something_else_than_was_seen_is_not_dismissed(
    session: Session, supervisor: SignedIn, officer: SignedIn, now: dt.datetime
) -> None:
    late = incident(patrol())
    push(session, officer, batch(officer, late), now)
    with pytest.raises(DecidedMeanwhile) as refused:
        on_operation(session, supervisor, late["op"], "dismiss", now + 6 * DAY, outcome="conflict")
    assert refused.value.details["outcome"] == "held"
    assert on_operation(session, supervisor, late["op"], "dismiss", now + 6 * DAY, outcome="held")["decision"]


def test_what_may_still_join_by_itself_is_not_dismissed(
    session: Session, supervisor: SignedIn, officer: SignedIn, now: dt.datetime
) -> None:
    late = incident(patrol())
    push(session, officer, batch(officer, late), now)
    with pytest.raises(DecisionInvalid) as refused:
        on_operation(session, supervisor, late["op"], "dismiss", now + 4 * DAY)
    assert refused.value.details == {"outcome": "held", "allowed": []}
    assert on_operation(session, supervisor, late["op"], "dismiss", now + 5 * DAY)["decision"]


@pytest.mark.parametrize(
    ("outcome", "actions"),
    [("quarantined", ["resolve"]), ("conflict", ["repair"]), ("held", ["repair", "resolve"])],
)
def test_what_makes_no_sense_for_an_outcome_is_refused(
    session: Session, supervisor: SignedIn, clash: Sent, officer: SignedIn, now: dt.datetime, outcome: str, actions: Any
) -> None:
    bad, late = incident(patrol(), items=["NOPE"]), incident(patrol())
    push(session, officer, batch(officer, bad, late), now)
    sent = {"quarantined": bad, "conflict": clash, "held": late}[outcome]
    for action in actions:
        with pytest.raises(DecisionInvalid):
            on_operation(session, supervisor, sent["op"], action, now + 6 * DAY, operation=bad, version=2)


@pytest.mark.parametrize("first", ["repair", "dismiss"])
@pytest.mark.parametrize("second", ["repair", "dismiss", "resolve"])
def test_an_operation_is_decided_on_once(
    session: Session,
    supervisor: SignedIn,
    reviewer: SignedIn,
    officer: SignedIn,
    day: tuple[Sent, ...],
    now: dt.datetime,
    first: str,
    second: str,
) -> None:
    bad = incident(day[0], items=["NOPE"])
    push(session, officer, batch(officer, bad), now)
    good = _body(bad, items=[])
    on_operation(session, supervisor, bad["op"], first, now, operation=good)
    with pytest.raises(DecidedMeanwhile) as refused:
        on_operation(session, reviewer, bad["op"], second, now, operation=good)
    assert refused.value.details["decision"]["by"]["username"] == "supervisor"
    assert (refused.value.details["decision"]["action"], refused.value.details["id"]) == (first, bad["op"])


def test_of_two_who_repair_at_once_one_is_told_of_the_other(
    engine: Engine,
    session: Session,
    supervisor: SignedIn,
    reviewer: SignedIn,
    officer: SignedIn,
    day: tuple[Sent, ...],
    now: dt.datetime,
) -> None:
    bad = incident(day[0], items=["NOPE"])
    push(session, officer, batch(officer, bad), now)
    session.rollback()
    good = _body(bad, items=[])
    results = at_once(
        engine,
        [
            lambda s, w=who: on_operation(s, w, bad["op"], "repair", now, operation=good)
            for who in (supervisor, reviewer)
        ],
    )
    assert sum(isinstance(result, DecidedMeanwhile) for result in results) == 1
    assert session.scalar(select(func.count()).select_from(Incident)) == 2
    verified(session)


def test_what_was_taken_needs_nobody(
    session: Session, supervisor: SignedIn, day: tuple[Sent, ...], now: dt.datetime
) -> None:
    for action in ("repair", "resolve", "dismiss"):
        with pytest.raises(DecidedMeanwhile) as refused:
            on_operation(session, supervisor, day[1]["op"], action, now, operation=day[1])
        assert refused.value.details["outcome"] == "applied"


# ---------------------------------------------------------------- whose it is


def test_an_operation_is_for_those_of_its_records_township_else_of_its_officers(
    session: Session,
    supervisor: SignedIn,
    elsewhere: SignedIn,
    reviewer: SignedIn,
    officer: SignedIn,
    day: tuple[Sent, ...],
    now: dt.datetime,
) -> None:
    stranger = make_signed_in(session, username="stranger", townships=[YINONG])
    session.commit()
    on_record_of_guali = amend(day[1], 1, description="x")
    nowhere = incident(day[0], items=["NOPE"], township=GUALI)
    push(session, stranger, batch(stranger, on_record_of_guali, nowhere), now)
    seen_by: dict[str, set[str]] = {}
    for name, who in (("supervisor", supervisor), ("elsewhere", elsewhere), ("reviewer", reviewer)):
        seen_by[name] = {item["id"] for item in the_inbox(session, who, "quarantined", now).items}
        for sent in (on_record_of_guali, nowhere):
            if sent["op"] in seen_by[name]:
                assert looked_at(session, who, sent["op"], now)["id"] == sent["op"]
                continue
            with pytest.raises(NotFound):
                looked_at(session, who, sent["op"], now)
            with pytest.raises(NotFound):
                on_operation(session, who, sent["op"], "dismiss", now)
    both = {on_record_of_guali["op"], nowhere["op"]}
    assert seen_by == {"supervisor": {on_record_of_guali["op"]}, "elsewhere": {nowhere["op"]}, "reviewer": both}


def test_a_posting_that_ended_gives_no_say(
    session: Session, supervisor: SignedIn, officer: SignedIn, now: dt.datetime
) -> None:
    push(session, officer, batch(officer, patrol(township="9")), now)
    assert the_inbox(session, supervisor, None, now).counts["quarantined"] == 1
    ended = update(Posting).where(Posting.account_id == officer.account_id)
    session.execute(ended.values(until_on=dt.date(2026, 11, 22)))
    session.commit()
    assert the_inbox(session, supervisor, None, now).counts["quarantined"] == 0


# ---------------------------------------------------------------- the inbox

#: What is looked at here; `tests/sync/test_installations.py` looks at holes.
HERE = (*shapes.OPEN, "photos")


@pytest.fixture
def waiting(session: Session, officer: SignedIn, tablet: SignedIn, now: dt.datetime) -> dict[str, list[Sent]]:
    """A week of what needs a person, oldest first, and what does not."""
    found: dict[str, list[Sent]] = {kind: [] for kind in HERE}
    for days in range(8, 3, -1):
        out = patrol()
        seen = incident(out, photos=[PHOTO | {"sha256": f"{days:064x}"}])
        then = now - days * DAY
        push(session, officer, batch(officer, out, seen, amend(seen, 1, description="甲")), then)
        bad, clash, late = incident(out, items=["NOPE"]), amend(seen, 1, description="乙"), incident(patrol())
        push(session, tablet, batch(tablet, bad, clash, late), then)
        found["quarantined"].append(bad)
        found["conflict"].append(clash)
        found["held"] += [late] if days >= 5 else []
        found["photos"].append(seen)
    return found


@pytest.mark.parametrize("kind", HERE)
@pytest.mark.parametrize("role", ["supervisor", "reviewer"])
@pytest.mark.parametrize("limit", [1, 2, 50])
def test_the_inbox_is_oldest_first_page_by_page_with_counts(
    session: Session,
    supervisor: SignedIn,
    reviewer: SignedIn,
    waiting: dict[str, list[Sent]],
    now: dt.datetime,
    kind: str,
    role: str,
    limit: int,
) -> None:
    who = supervisor if role == "supervisor" else reviewer
    items, cursor = [], None
    for _ in range(10):
        page = the_inbox(session, who, kind, now, limit=limit, cursor=cursor)
        assert page.counts == {"quarantined": 5, "conflict": 5, "held": 4, "photos": 5, "holes": 2, "alike": 0}
        assert len(page.items) <= limit
        items += page.items
        cursor = page.next
        if cursor is None:
            break
    name = "record" if kind == "photos" else "op"
    assert [item["id"] for item in items] == [sent[name] for sent in waiting[kind]]
    if kind == "photos":
        assert {(item["kind"], item["photos_missing"], item["township"]["name"]) for item in items} == {
            ("incident", 1, "瓜沥镇")
        }
    else:
        assert [shapes.WaitingDocument().validate(item) for item in items] == [{}] * len(items)


def test_what_is_decided_leaves_the_inbox_and_the_filters(
    session: Session, supervisor: SignedIn, waiting: dict[str, list[Sent]], now: dt.datetime
) -> None:
    clash = waiting["conflict"][0]
    assert listed(session, supervisor, open="conflict") == {sent["record"] for sent in waiting["conflict"]}
    for kind in ("quarantined", "conflict", "held"):
        on_operation(session, supervisor, waiting[kind][0]["op"], "dismiss", now)
    on_record(session, supervisor, waiting["photos"][0], "void", now, version=2)
    assert the_inbox(session, supervisor, None, now).counts == {
        "quarantined": 4,
        "conflict": 4,
        "held": 3,
        "photos": 4,
        "holes": 2,
        "alike": 0,
    }
    assert clash["record"] not in listed(session, supervisor, open="conflict", voided="included")
    verified(session)


def test_lists_are_filtered_by_what_waits_on_their_records(
    session: Session, officer: SignedIn, day: tuple[Sent, ...], now: dt.datetime
) -> None:
    _, seen, told = day
    ahead = amend(seen, 7, description="x")
    push(session, officer, batch(officer, ahead, amend(told, 1, step="dance"), patrol(township="9")), now)
    found = {
        (kind, outcome): listed(session, officer, kind, open=outcome)
        for kind in ("patrol", "incident", "warning")
        for outcome in shapes.OPEN
    }
    assert {key: ids for key, ids in found.items() if ids} == {
        ("incident", "held"): {seen["record"]},
        ("warning", "quarantined"): {told["record"]},
    }


def test_the_inbox_takes_the_same_number_of_statements_however_much_waits(
    session: Session, engine: Engine, supervisor: SignedIn, waiting: dict[str, list[Sent]], now: dt.datetime
) -> None:
    numbers = set()
    for kind in HERE:
        for limit in (1, 3, 50):
            with count_statements(engine) as counted:
                the_inbox(session, supervisor, kind, now, limit=limit)
            numbers.add(counted.statements)
    assert numbers == {2}


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "A" * 43, "é", "-" * 64])
def test_a_cursor_of_nothing_is_refused(session: Session, reviewer: SignedIn, now: dt.datetime, cursor: str) -> None:
    with pytest.raises(QueryInvalid):
        the_inbox(session, reviewer, "held", now, cursor=cursor)


def test_a_cursor_of_another_kind_is_refused(
    session: Session, reviewer: SignedIn, waiting: dict[str, list[Sent]], now: dt.datetime
) -> None:
    cursor = the_inbox(session, reviewer, "quarantined", now, limit=1).next
    with pytest.raises(QueryInvalid):
        the_inbox(session, reviewer, "conflict", now, cursor=cursor)


# ---------------------------------------------------------------- what phones are told


def test_what_was_decided_comes_to_the_phone_of_whom_it_concerns(
    session: Session, supervisor: SignedIn, officer: SignedIn, day: tuple[Sent, ...], now: dt.datetime
) -> None:
    seen, bad, late = day[1], incident(day[0], items=["NOPE"]), incident(patrol())
    push(session, officer, batch(officer, bad, late), now - 6 * DAY)
    colleague = make_signed_in(session, username="colleague")
    session.commit()
    phone, other = Puller(officer), Puller(colleague)
    phone.pull(session)
    other.pull(session)
    assert phone.holds["incident", seen["record"]]["review"]["state"] == "received"
    assert phone.ids("operation") == set()

    on_record(session, supervisor, seen, "return", now)
    on_operation(session, supervisor, bad["op"], "repair", now, operation=_body(bad, items=[]))
    on_operation(session, supervisor, late["op"], "dismiss", now, comment="无此巡查")
    phone.pull(session)
    review_told = phone.holds["incident", seen["record"]]["review"]
    assert (review_told["state"], review_told["comment"]) == ("returned", "请补充说明")
    repaired, dismissed = (phone.holds["operation", sent["op"]] for sent in (bad, late))
    assert (repaired["outcome"], repaired["decision"]["operation"]["outcome"]) == ("quarantined", "applied")
    assert (dismissed["outcome"], dismissed["decision"]["comment"]) == ("quarantined", "无此巡查")
    assert phone.holds["incident", bad["record"]]["version"] == 1
    for (kind, name), data in phone.holds.items():
        assert carried.DOCUMENTS[kind]().validate(data) == {}, name
    push(session, officer, batch(officer, amend(seen, 1, description="占道约两米")), now)
    phone.pull(session)
    assert phone.holds["incident", seen["record"]]["review"]["state"] == "received"
    assert not {change["type"] for change in other.pull(session)} & {"incident", "operation"}


# ---------------------------------------------------------------- sworn to

Tamper = Callable[[], Any]
TAMPERED: list[tuple[str, Tamper, str]] = [
    ("a comment", lambda: update(ReviewEvent).values(comment="从未说过"), "review .* is not what was decided"),
    ("a decision", lambda: update(ReviewEvent).values(action="approve"), "review .* is not what was decided"),
    ("its version", lambda: update(ReviewEvent).values(version=7), "review .* is not what was decided"),
    ("its time", lambda: update(ReviewEvent).values(at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC)), "review .* is not"),
    ("a decision gone", lambda: delete(ReviewEvent).where(ReviewEvent.action == "comment"), "review .* is not"),
    ("a reason", lambda: update(Decision).values(comment="x"), "decision .* is not what was decided"),
    ("an action", lambda: update(Decision).values(action="dismiss", made_id=None), "decision .* is not what was"),
    ("a dismissal gone", lambda: delete(Decision), "decision .* is not what was decided"),
    (
        "a dismissal taken back",
        lambda: (
            update(Operation)
            .where(Operation.waits_for.is_(None), Operation.kind == "warning.create")
            .values(outcome="held")
        ),
        "operation .* did not become what was told",
    ),
]


@pytest.mark.parametrize(("name", "tamper", "told"), TAMPERED, ids=[case[0] for case in TAMPERED])
def test_whoever_changes_what_was_decided_is_found_out(
    session: Session,
    supervisor: SignedIn,
    reviewer: SignedIn,
    officer: SignedIn,
    day: tuple[Sent, ...],
    now: dt.datetime,
    name: str,
    tamper: Tamper,
    told: str,
) -> None:
    bad, late = incident(day[0], items=["NOPE"]), warning(incident(day[0]))
    push(session, officer, batch(officer, bad, late), now - 6 * DAY)
    on_record(session, supervisor, day[1], "return", now)
    on_record(session, supervisor, day[1], "comment", now)
    on_operation(session, supervisor, bad["op"], "repair", now, operation=_body(bad, items=[]))
    on_operation(session, supervisor, late["op"], "dismiss", now)
    verified(session)
    session.rollback()
    begin_write(session)
    session.execute(tamper())
    with pytest.raises(Break, match=told):
        list(verify(session))
    session.rollback()


@pytest.mark.parametrize("model", [ReviewEvent, Decision])
def test_a_decision_that_nobody_took_is_found(
    session: Session, supervisor: SignedIn, officer: SignedIn, day: tuple[Sent, ...], now: dt.datetime, model: Any
) -> None:
    begin_write(session)
    words = {"comment": None, "account_id": supervisor.account_id, "at": now}
    if model is ReviewEvent:
        about = {"record_id": uuid.UUID(day[1]["record"]), "ordinal": 1, "kind": "incident", "version": 1}
        session.add(ReviewEvent(**about, action="approve", **words))
    else:
        session.add(Decision(operation_id=uuid.UUID(day[1]["op"]), action="dismiss", made_id=None, **words))
    session.flush()
    kind = next(kind for kind, sworn in evidence.DECIDED.items() if sworn is model)
    with pytest.raises(Break, match=f"1 rows of {kind}, the chain tells of 0"):
        list(verify(session))
    session.rollback()


def test_codes_of_notes_stay_about_the_officer(
    session: Session, supervisor: SignedIn, officer: SignedIn, day: tuple[Sent, ...], clash: Sent, now: dt.datetime
) -> None:
    """A supervisor without a card, off the patrol, who resolves a conflict leaves no remark of that on the record."""
    notes = codes({"notes": one(session, officer, clash)["notes"]})
    fields = {"description": "yours", "items": "live"}
    on_operation(session, supervisor, clash["op"], "resolve", now, version=2, fields=fields)
    assert codes({"notes": one(session, officer, clash)["notes"]}) == notes
