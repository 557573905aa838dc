"""Records that are alike, through the door: what waits, what is said of it, by whom, once, and what comes of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from sync import shapes
from sync.models import ROLES, Grouping, SignedIn
from tests.builders import make_lists, make_signed_in
from tests.sync.alike import seen
from tests.sync.days import batch, patrol

URL = "/api/v1/review"
Headers = dict[str, str]
Bearer = Callable[..., Headers]


@pytest.fixture
def officers(session: Session) -> list[SignedIn]:
    make_lists(session)
    found = [make_signed_in(session, username=name) for name in ("officer", "partner")]
    session.commit()
    return found


@pytest.fixture
def told(client: FlaskClient, officers: list[SignedIn], bearer: Bearer) -> list[dict[str, Any]]:
    """One event, told by two officers; the receipt of the second."""
    receipts = []
    for number, who in enumerate(officers):
        out = patrol([who.username])
        day = batch(who, out, seen(out, minutes=3 * number, metres=5 * number))
        receipts.append(client.post("/api/v1/sync/batches", data=orjson.dumps(day), headers=bearer(who)).json)
    return [receipt["results"][1] for receipt in receipts]


@pytest.fixture
def supervisor(session: Session, officers: list[SignedIn], bearer: Bearer) -> Headers:
    who = make_signed_in(session, username="supervisor", role="supervisor")
    session.commit()
    return bearer(who)


def grouping(told: list[dict[str, Any]], **other: Any) -> dict[str, Any]:
    records = [{"id": each["record"], "version": 1} for each in told]
    return {"action": "group", "records": records, "reason": "同一摊位，先后两人记录"} | other


def test_a_pair_waits_is_grouped_counts_once_and_is_told_of_as_the_documents_say(
    client: FlaskClient, supervisor: Headers, told: list[dict[str, Any]]
) -> None:
    first, second = told
    (resembled,) = second["resembles"]
    assert resembled == {"record": first["record"], "score": resembled["score"], "grouped": False}
    inbox = client.get(f"{URL}/inbox?kind=alike", headers=supervisor).json
    assert shapes.InboxDocument().validate(inbox) == {}
    assert inbox["counts"]["alike"] == len(inbox["items"]) == 1
    answer = client.post(f"{URL}/groups", json=grouping(told), headers=supervisor)
    assert (answer.status_code, shapes.GroupedDocument().validate(answer.json)) == (200, {})
    assert client.get(f"{URL}/inbox?kind=alike", headers=supervisor).json["items"] == []
    listed = client.get("/api/v1/incidents?count=true", headers=supervisor).json
    assert (listed["count"], [each["id"] for each in listed["items"]]) == (1, [first["record"]])
    assert shapes.page_document(shapes.IncidentDocument)().validate(listed) == {}
    expanded = client.get("/api/v1/incidents?count=true&grouped=expand", headers=supervisor).json
    assert expanded["count"] == 2
    one = client.get(f"/api/v1/incidents/{second['record']}", headers=supervisor).json
    assert one["group"]["records"] == [first["record"], second["record"]]
    history = client.get(f"{URL}/groups/{second['record']}", headers=supervisor).json
    assert shapes.GroupHistoryDocument().validate(history) == {}
    assert [word["action"] for word in history["said"]] == ["group"]


@pytest.mark.parametrize("role", ROLES)
def test_supervisors_and_reviewers_say_what_is_one_thing_and_nobody_else(
    client: FlaskClient, session: Session, bearer: Bearer, told: list[dict[str, Any]], role: str
) -> None:
    who = make_signed_in(session, username="somebody", role=role)
    session.commit()
    expected = 200 if role in ("supervisor", "reviewer") else 403
    asked = [
        client.post(f"{URL}/groups", json=grouping(told), headers=bearer(who)),
        client.get(f"{URL}/groups/{told[0]['record']}", headers=bearer(who)),
        client.get(f"{URL}/inbox?kind=alike", headers=bearer(who)),
    ]
    assert [answer.status_code for answer in asked] == [expected] * 3


def test_a_request_that_is_sent_again_says_it_once(
    client: FlaskClient, session: Session, supervisor: Headers, told: list[dict[str, Any]]
) -> None:
    headers = supervisor | {"Idempotency-Key": "group-1"}
    answers = [client.post(f"{URL}/groups", json=grouping(told), headers=headers) for _ in range(2)]
    assert answers[0].data == answers[1].data
    session.rollback()
    assert session.scalar(select(func.count()).select_from(Grouping)) == 1


def test_what_has_changed_meanwhile_is_refused_with_how_it_is(
    client: FlaskClient, supervisor: Headers, told: list[dict[str, Any]]
) -> None:
    client.post(f"{URL}/groups", json=grouping(told), headers=supervisor)
    answer = client.post(f"{URL}/groups", json=grouping(told[:1], action="apart"), headers=supervisor)
    assert (answer.status_code, answer.json["code"]) == (409, "decided-meanwhile")
    assert answer.json["groups"][0]["records"] == sorted(each["record"] for each in told)


BODIES: list[Any] = [
    {},
    [],
    None,
    {"action": "group"},
    {"action": "group", "records": [], "reason": "x"},
    {"action": "group", "records": [{"id": "0" * 32, "version": 1}], "reason": "x"},
    {"action": "group", "records": [{"id": str(uuid.UUID(int=1)), "version": 2**40}], "reason": "x"},
    {"action": "eat", "records": [{"id": str(uuid.UUID(int=1)), "version": 1}], "reason": "x"},
    {"action": "split", "records": [{"id": str(uuid.UUID(int=1)), "version": 1}], "off": [1], "reason": "x"},
    {"action": "undo", "records": [{"id": str(uuid.UUID(int=1)), "version": 1}], "grouping": "x", "reason": "x"},
    {"action": "group", "records": [{"id": str(uuid.UUID(int=1)), "version": 1}], "reason": "\x00"},
    {"action": "group", "records": [{"id": str(uuid.UUID(int=1)), "version": 1}] * 101, "reason": "x"},
    {"action": "group", "records": [{"id": str(uuid.UUID(int=1)), "version": 1}], "reason": "x" * 501},
    {"action": "group", "records": [{"id": str(uuid.UUID(int=1)), "version": 1}], "reason": "x"},
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_a_bad_body_is_refused_with_a_code(client: FlaskClient, supervisor: Headers, body: Any) -> None:
    answer = client.post(f"{URL}/groups", json=body, headers=supervisor)
    assert 400 <= answer.status_code < 500
    assert answer.json["code"] in ("malformed", "envelope-invalid", "not-found", "decision-invalid")


@pytest.mark.parametrize("cursor", ["x", "A" * 64, "_" * 64, "f_gAAAAAAAA" + "A" * 53, "%00", "f_AAAAAAAAA" + "A" * 53])
def test_a_cursor_that_is_none_of_ours_breaks_nothing(client: FlaskClient, supervisor: Headers, cursor: str) -> None:
    assert client.get(f"{URL}/inbox?kind=alike&cursor={cursor}", headers=supervisor).status_code in (200, 400)


def test_pages_of_what_is_alike_go_from_the_most_alike_to_the_least(
    client: FlaskClient, officers: list[SignedIn], bearer: Bearer, supervisor: Headers
) -> None:
    for number, who in enumerate([*officers, *officers]):
        out = patrol([who.username])
        day = batch(who, out, *(seen(out, minutes=number, metres=3 * number) for _ in range(2)))
        client.post("/api/v1/sync/batches", data=orjson.dumps(day), headers=bearer(who))
    found, cursor = [], ""
    while cursor is not None:
        page = client.get(f"{URL}/inbox?kind=alike&limit=4{cursor}", headers=supervisor).json
        found += page["items"]
        cursor = None if page["next"] is None else f"&cursor={page['next']}"
    assert len(found) == page["counts"]["alike"] > 8
    assert [pair["weight"] for pair in found] == sorted((pair["weight"] for pair in found), reverse=True)
    assert len({tuple(side["id"] for side in pair["records"]) for pair in found}) == len(found)
