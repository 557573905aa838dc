"""Decisions through the door: roles, shapes, bad bodies, and that a POST that is sent again has one effect."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from sync import shapes
from sync.models import ROLES, AnsweredRequest, Incident, Operation, ReviewEvent, SignedIn, begin_write
from tests.builders import make_account, make_lists, make_signed_in
from tests.sync.days import amend, batch, incident, patrol

URL = "/api/v1/review"
Headers = dict[str, str]
Sent = dict[str, Any]
Bearer = Callable[..., Headers]


@pytest.fixture
def officer(session: Session) -> SignedIn:
    make_lists(session)
    make_account(session, username="partner")
    who = make_signed_in(session)
    session.commit()
    return who


@pytest.fixture
def supervisor(session: Session, officer: SignedIn, bearer: Bearer) -> Headers:
    who = make_signed_in(session, username="supervisor", role="supervisor")
    session.commit()
    return bearer(who) | {"Content-Type": "application/json"}


@pytest.fixture
def phone(client: FlaskClient, officer: SignedIn, bearer: Bearer) -> Callable[..., Any]:
    """The receipt of what the officer sends."""
    headers = bearer(officer)

    def push(*operations: Any) -> Any:
        return client.post("/api/v1/sync/batches", data=orjson.dumps(batch(officer, *operations)), headers=headers).json

    return push


@pytest.fixture
def day(phone: Callable[..., Any]) -> tuple[Sent, Sent, Sent]:
    """A patrol, an incident and one that is quarantined."""
    out = patrol()
    seen, bad = incident(out), incident(out, items=["NOPE"])
    phone(out, seen, bad)
    return out, seen, bad


def events(engine: Engine) -> int:
    with Session(engine) as session:
        return session.scalar(select(func.count()).select_from(ReviewEvent)) or 0


APPROVE = {"action": "approve", "version": 1}


def test_a_supervisor_decides_and_the_officer_sees_it(
    client: FlaskClient, supervisor: Headers, officer: SignedIn, bearer: Bearer, day: tuple[Sent, ...]
) -> None:
    said = {"action": "return", "version": 1, "comment": "请补充照片"}
    answer = client.post(f"{URL}/records/{day[1]['record']}", json=said, headers=supervisor)
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert shapes.StandingDocument().validate(answer.json) == {}
    record = client.get(f"/api/v1/incidents/{day[1]['record']}", headers=bearer(officer)).json
    assert (record["review"]["state"], record["review"]["comment"]) == ("returned", "请补充照片")
    found = client.get("/api/v1/incidents?review=returned", headers=bearer(officer)).json
    assert [item["id"] for item in found["items"]] == [day[1]["record"]]


def test_all_that_the_door_tells_is_as_the_document_says(
    client: FlaskClient, supervisor: Headers, day: tuple[Sent, ...]
) -> None:
    out, seen, bad = day
    inbox = client.get(f"{URL}/inbox?kind=quarantined", headers=supervisor).json
    assert shapes.InboxDocument().validate(inbox) == {}
    assert inbox["counts"] == {"quarantined": 1, "conflict": 0, "held": 0, "photos": 0, "holes": 1, "alike": 0}
    assert [item["id"] for item in inbox["items"]] == [bad["op"]]
    assert client.get(f"{URL}/inbox", headers=supervisor).json == inbox | {"items": []}
    whole = client.get(f"{URL}/operations/{bad['op']}", headers=supervisor).json
    assert shapes.WholeOperationDocument().validate(whole) == {}
    assert whole["raw"] == bad
    repair = {"action": "repair", "operation": bad | {"body": bad["body"] | {"items": []}}}
    decided = client.post(f"{URL}/operations/{bad['op']}", json=repair, headers=supervisor).json
    assert shapes.DecidedOperationDocument().validate(decided) == {}
    records = [{"id": what["record"], "version": 1} for what in (out, seen, bad)]
    results = client.post(f"{URL}/approvals", json={"records": records}, headers=supervisor).json
    assert shapes.ApprovalsDocument().validate(results) == {}
    assert [result["approved"] for result in results["results"]] == [True] * 3


@pytest.mark.parametrize("role", ROLES)
def test_supervisors_and_reviewers_decide_and_nobody_else(
    client: FlaskClient, session: Session, bearer: Bearer, day: tuple[Sent, ...], role: str
) -> None:
    who = make_signed_in(session, username="somebody", role=role)
    session.commit()
    headers, _, seen, bad = bearer(who), *day
    asked = [
        client.get(f"{URL}/inbox", headers=headers),
        client.get(f"{URL}/operations/{bad['op']}", headers=headers),
        client.post(f"{URL}/records/{seen['record']}", json=APPROVE, headers=headers),
        client.post(f"{URL}/approvals", json={"records": [{"id": seen["record"], "version": 1}]}, headers=headers),
        client.post(f"{URL}/operations/{bad['op']}", json={"action": "dismiss", "comment": "x"}, headers=headers),
    ]
    expected = 200 if role in ("supervisor", "reviewer") else 403
    assert [answer.status_code for answer in asked] == [expected] * 5


def test_what_changed_meanwhile_is_told_as_it_is_now(
    client: FlaskClient, supervisor: Headers, phone: Callable[..., Any], day: tuple[Sent, ...], engine: Engine
) -> None:
    phone(amend(day[1], 1, description="x"))
    answer = client.post(f"{URL}/records/{day[1]['record']}", json=APPROVE, headers=supervisor)
    assert (answer.status_code, answer.mimetype) == (409, "application/problem+json")
    told = (answer.json["code"], answer.json["version"], answer.json["review"]["state"])
    assert told == ("decided-meanwhile", 2, "received")
    assert events(engine) == 0


# ---------------------------------------------------------------- bad input

BODIES: list[tuple[Any, int, str, str | None]] = [
    (b"", 400, "malformed", None),
    (b"approve", 400, "malformed", None),
    (b'{"action": "approve", "action": "void", "version": 1}', 400, "malformed", None),
    (b'{"action": "approve", "version": NaN}', 400, "malformed", None),
    (b'{"action": "comment", "version": 1, "comment": "\\ud800"}', 400, "malformed", None),
    (b"[" * 5_000, 400, "malformed", None),
    (b" " * (512 * 1024 + 1), 413, "body-too-large", None),
    ([], 422, "envelope-invalid", ""),
    ({}, 422, "envelope-invalid", "/action"),
    ({"action": "approve"}, 422, "envelope-invalid", "/version"),
    (APPROVE | {"action": "delete"}, 422, "envelope-invalid", "/action"),
    (APPROVE | {"action": ["approve"]}, 422, "envelope-invalid", "/action"),
    (APPROVE | {"version": 0}, 422, "envelope-invalid", "/version"),
    (APPROVE | {"version": 2**31}, 422, "envelope-invalid", "/version"),
    (APPROVE | {"version": "1"}, 422, "envelope-invalid", "/version"),
    (APPROVE | {"version": True}, 422, "envelope-invalid", "/version"),
    (APPROVE | {"state": "void"}, 422, "envelope-invalid", "/state"),
    (APPROVE | {"comment": 5}, 422, "envelope-invalid", "/comment"),
    (APPROVE | {"comment": " \n"}, 422, "envelope-invalid", "/comment"),
    (APPROVE | {"comment": "x" * 501}, 422, "envelope-invalid", "/comment"),
    (APPROVE | {"comment": "a\x00b"}, 422, "envelope-invalid", "/comment"),
    (APPROVE | {"surprise": 1}, 422, "envelope-invalid", "/surprise"),
    ({"action": "return", "version": 1}, 422, "envelope-invalid", "/comment"),
]


@pytest.mark.parametrize(("body", "status", "code", "pointer"), BODIES, ids=range(len(BODIES)))
def test_a_decision_on_a_record_that_makes_no_sense_is_refused(
    client: FlaskClient,
    supervisor: Headers,
    day: tuple[Sent, ...],
    engine: Engine,
    body: Any,
    status: int,
    code: str,
    pointer: str | None,
) -> None:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    answer = client.post(f"{URL}/records/{day[1]['record']}", data=data, headers=supervisor)
    assert (answer.status_code, answer.json["code"]) == (status, code)
    if pointer is not None:
        assert pointer in [error["pointer"] for error in answer.json["errors"]]
    assert events(engine) == 0


SEEN = {"id": str(uuid.uuid4()), "version": 1}
APPROVALS: list[tuple[Any, str]] = [
    ({"records": []}, "/records"),
    ({"records": [SEEN] * 501}, "/records"),
    ({"records": {"id": 1}}, "/records"),
    ({"records": [SEEN | {"id": "x"}]}, "/records/0/id"),
    ({"records": [SEEN, {"id": SEEN["id"]}]}, "/records/1/version"),
    ({"records": [None]}, "/records/0"),
    ({}, "/records"),
]


@pytest.mark.parametrize(("body", "pointer"), APPROVALS, ids=range(len(APPROVALS)))
def test_approvals_that_make_no_sense_are_refused_whole(
    client: FlaskClient, supervisor: Headers, body: Any, pointer: str
) -> None:
    answer = client.post(f"{URL}/approvals", data=orjson.dumps(body), headers=supervisor)
    assert (answer.status_code, answer.json["code"]) == (422, "envelope-invalid")
    assert pointer in [error["pointer"] for error in answer.json["errors"]]


REPAIRS: list[tuple[Any, int, str]] = [
    ({"action": "repair"}, 422, "envelope-invalid"),
    ({"action": "repair", "operation": []}, 422, "envelope-invalid"),
    ({"action": "repair", "operation": "x"}, 422, "envelope-invalid"),
    ({"action": "repair", "operation": {}}, 422, "decision-invalid"),
    ({"action": "repair", "operation": {"kind": "incident.create"}}, 422, "decision-invalid"),
    ({"action": "repair", "operation": {"kind": 5, "record": 6, "n": [], "body": []}}, 422, "decision-invalid"),
    ({"action": "repair", "operation": {"pad": "x" * 300_000}}, 422, "decision-invalid"),
    ({"action": "repair", "operation": {"body": "\x00"}}, 422, "decision-invalid"),
    ({"action": "repair", "operation": {"n": 2**63}}, 422, "decision-invalid"),
    ({"action": "dismiss"}, 422, "envelope-invalid"),
    ({"action": "resolve", "version": 1, "fields": {}}, 422, "decision-invalid"),
    ({"action": "resolve", "version": 1, "fields": []}, 422, "envelope-invalid"),
    ({"action": "approve"}, 422, "envelope-invalid"),
    (b'{"action": "repair", "operation": {"n": 1e999}}', 400, "malformed"),
    (b'{"action": "repair", "operation": ' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"}", 400, "malformed"),
    (b'{"action": "repair", "operation": ' + b'{"a":' * 240 + b"1" + b"}" * 240 + b"}", 422, "decision-invalid"),
]


@pytest.mark.parametrize(("body", "status", "code"), REPAIRS, ids=range(len(REPAIRS)))
def test_a_decision_on_an_operation_that_makes_no_sense_is_refused(
    client: FlaskClient, supervisor: Headers, day: tuple[Sent, ...], engine: Engine, body: Any, status: int, code: str
) -> None:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    answer = client.post(f"{URL}/operations/{day[2]['op']}", data=data, headers=supervisor)
    assert (answer.status_code, answer.json["code"]) == (status, code)
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Operation)) == 3


@pytest.mark.parametrize("path", ["records/{}", "operations/{}"])
def test_what_is_not_there_is_not_found(client: FlaskClient, supervisor: Headers, path: str) -> None:
    for id in (uuid.uuid4(), "x"):
        said = APPROVE if path.startswith("records") else {"action": "dismiss", "comment": "x"}
        answer = client.post(f"{URL}/{path.format(id)}", json=said, headers=supervisor)
        assert (answer.status_code, answer.json["code"]) == (404, "not-found")
        if path.startswith("operations"):
            assert client.get(f"{URL}/{path.format(id)}", headers=supervisor).status_code == 404


@pytest.mark.parametrize(
    "query",
    [
        "kind=returned",
        "kind=held&kind=held",
        "limit=0",
        "limit=501",
        "limit=x",
        "kind=held&cursor=x",
        "page=2",
        "kind=",
    ],
)
def test_an_inbox_that_makes_no_sense_is_refused(client: FlaskClient, supervisor: Headers, query: str) -> None:
    answer = client.get(f"{URL}/inbox?{query}", headers=supervisor)
    assert (answer.status_code, answer.json["code"]) == (400, "query-invalid")


@pytest.mark.parametrize("query", ["review=void", "review=", "open=applied", "open=held&open=held"])
def test_a_filter_that_makes_no_sense_is_refused(client: FlaskClient, supervisor: Headers, query: str) -> None:
    answer = client.get(f"/api/v1/incidents?{query}", headers=supervisor)
    assert (answer.status_code, answer.json["code"]) == (400, "query-invalid")


def test_what_the_lists_filter_the_exports_filter_too(
    client: FlaskClient, supervisor: Headers, day: tuple[Sent, ...]
) -> None:
    client.post(f"{URL}/records/{day[1]['record']}", json=APPROVE, headers=supervisor)
    found = {}
    for state in ("approved", "returned"):
        with client.get(f"/api/v1/exports/incidents.geojson?review={state}", headers=supervisor) as answer:
            found[state] = len(orjson.loads(answer.get_data())["features"])
    assert found == {"approved": 1, "returned": 0}


# ---------------------------------------------------------------- once


def test_a_decision_sent_again_under_its_key_is_answered_as_the_first_time(
    client: FlaskClient, supervisor: Headers, day: tuple[Sent, ...], engine: Engine
) -> None:
    keyed = supervisor | {"Idempotency-Key": str(uuid.uuid4())}
    path = f"{URL}/records/{day[1]['record']}"
    first, again = (client.post(path, json=APPROVE, headers=keyed) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.data == again.data
    assert ("Idempotency-Replayed" in first.headers, again.headers["Idempotency-Replayed"]) == (False, "true")
    assert client.post(path, json=APPROVE, headers=supervisor).status_code == 409, "without a key it is another request"
    assert events(engine) == 1


@pytest.mark.parametrize("what", ["records", "approvals", "operations"])
def test_every_decision_takes_a_key(client: FlaskClient, supervisor: Headers, day: tuple[Sent, ...], what: str) -> None:
    _, seen, bad = day
    path, said = {
        "records": (f"records/{seen['record']}", {"action": "comment", "version": 1, "comment": "x"}),
        "approvals": ("approvals", {"records": [{"id": seen["record"], "version": 1}]}),
        "operations": (f"operations/{bad['op']}", {"action": "dismiss", "comment": "x"}),
    }[what]
    keyed = supervisor | {"Idempotency-Key": "k"}
    answers = [client.post(f"{URL}/{path}", json=said, headers=keyed) for _ in range(3)]
    assert [answer.data for answer in answers] == [answers[0].data] * 3
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers] == [None, "true", "true"]


def test_a_key_stands_for_one_request_of_one_account(
    client: FlaskClient, supervisor: Headers, session: Session, bearer: Bearer, day: tuple[Sent, ...], engine: Engine
) -> None:
    out, seen, _ = day
    keyed = supervisor | {"Idempotency-Key": "one"}
    comment = {"action": "comment", "version": 1, "comment": "x"}
    client.post(f"{URL}/records/{seen['record']}", json=comment, headers=keyed)
    for path, said in ((seen["record"], comment | {"comment": "y"}), (out["record"], comment)):
        answer = client.post(f"{URL}/records/{path}", json=said, headers=keyed)
        assert (answer.status_code, answer.json["code"]) == (422, "idempotency-key-reused")
    reviewer = make_signed_in(session, username="reviewer", role="reviewer")
    session.commit()
    other = bearer(reviewer) | {"Idempotency-Key": "one"}
    assert client.post(f"{URL}/records/{out['record']}", json=comment, headers=other).status_code == 200
    assert events(engine) == 2


def test_a_refusal_keeps_nothing_and_leaves_the_key_free(
    client: FlaskClient, supervisor: Headers, day: tuple[Sent, ...], engine: Engine
) -> None:
    keyed = supervisor | {"Idempotency-Key": "k"}
    path = f"{URL}/records/{day[1]['record']}"
    assert client.post(path, json=APPROVE | {"version": 2}, headers=keyed).status_code == 409
    answer = client.post(path, json=APPROVE, headers=keyed)
    assert (answer.status_code, "Idempotency-Replayed" in answer.headers) == (200, False)
    assert events(engine) == 1


@pytest.mark.parametrize("key", ["", "k" * 101, "a b", "ü", "a\x7f"])
def test_a_key_that_is_none_is_refused(
    client: FlaskClient, supervisor: Headers, day: tuple[Sent, ...], engine: Engine, key: str
) -> None:
    keyed = supervisor | {"Idempotency-Key": key}
    answer = client.post(f"{URL}/records/{day[1]['record']}", json=APPROVE, headers=keyed)
    assert (answer.status_code, answer.json["code"], answer.json["header"]) == (
        422,
        "envelope-invalid",
        "Idempotency-Key",
    )
    assert events(engine) == 0


def test_an_answer_is_kept_for_thirty_days(
    client: FlaskClient, supervisor: Headers, day: tuple[Sent, ...], session: Session
) -> None:
    comment = {"action": "comment", "version": 1, "comment": "x"}
    path = f"{URL}/records/{day[1]['record']}"

    def replayed(days: float) -> bool:
        """Whether the same is answered as before, so many days later."""
        begin_write(session)
        session.scalars(select(AnsweredRequest)).one().at -= dt.timedelta(days=days)
        session.commit()
        answer = client.post(path, json=comment, headers=supervisor | {"Idempotency-Key": "k"})
        return answer.headers.get("Idempotency-Replayed") == "true"

    client.post(path, json=comment, headers=supervisor | {"Idempotency-Key": "k"})
    assert replayed(29.9)
    assert not replayed(0.2)


def test_two_copies_in_flight_have_one_effect_and_one_answer(
    client: FlaskClient, supervisor: Headers, day: tuple[Sent, ...], engine: Engine
) -> None:
    out = day[0]["record"]
    repair = {"action": "repair", "operation": incident(day[0]) | {"record": str(uuid.uuid4())}}
    answers: list[Any] = []
    ready = threading.Barrier(4)

    def send() -> None:
        with client.application.test_client() as own:
            ready.wait(10)
            keyed = supervisor | {"Idempotency-Key": "k"}
            answers.append(own.post(f"{URL}/operations/{day[2]['op']}", json=repair, headers=keyed))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len({answer.data for answer in answers}) == 1
    assert sorted(answer.headers.get("Idempotency-Replayed", "") for answer in answers) == ["", "true", "true", "true"]
    with Session(engine) as session:
        made = session.scalar(select(func.count()).select_from(Incident).where(Incident.patrol == uuid.UUID(out)))
    assert made == 2


def test_a_record_that_moves_to_another_township_is_decided_on_there(
    client: FlaskClient, supervisor: Headers, day: tuple[Sent, ...], session: Session
) -> None:
    begin_write(session)
    moved = update(Incident).where(Incident.id == uuid.UUID(day[1]["record"]))
    session.execute(moved.values(township_code=None))
    session.commit()
    assert client.post(f"{URL}/records/{day[1]['record']}", json=APPROVE, headers=supervisor).status_code == 404
