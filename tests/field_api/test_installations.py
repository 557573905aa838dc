"""Phones through the door: roles, shapes, bad bodies, and what a permit opens, which is sending and nothing else."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
import re
import uuid
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from sync import accounts, shapes
from sync.models import ROLES, AccessEntry, Installation, SignedIn, begin_write
from tests.builders import make_account, make_lists, make_signed_in
from tests.sync.days import batch, patrol

URL = "/api/v1/installations"
REASON = {"reason": "离职前未上传"}
Headers = dict[str, str]
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
    return bearer(who)


@pytest.fixture
def disabled(session: Session, officer: SignedIn) -> SignedIn:
    """The officer, whose account is disabled."""
    begin_write(session)
    accounts.disable(session, officer.username, now=dt.datetime.now(dt.UTC))
    session.commit()
    return officer


@pytest.fixture
def permitted(client: FlaskClient, supervisor: Headers, disabled: SignedIn) -> Headers:
    """The headers of the officer's phone, which used a permit."""
    code = client.post(f"{URL}/{disabled.install_id}/permits", json=REASON, headers=supervisor).json["code"]
    return {"Authorization": f"Bearer {used(client, disabled, code).json['access_token']}"}


def used(client: FlaskClient, who: SignedIn, code: str) -> Any:
    return client.post("/api/v1/auth/permit", json={"code": code, "install": str(who.install_id)})


def told(answer: Any) -> tuple[int, str]:
    assert answer.mimetype == "application/problem+json"
    return answer.status_code, answer.json["code"]


def log(session: Session) -> list[tuple[str, str, int]]:
    session.rollback()
    columns = (AccessEntry.action, AccessEntry.entity, AccessEntry.account_id)
    return [tuple(row) for row in session.execute(select(*columns).order_by(AccessEntry.id))]


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_do_what_is_its_own(
    client: FlaskClient, session: Session, officer: SignedIn, bearer: Bearer, role: str
) -> None:
    headers = bearer(make_committed(session, "somebody", role))
    push(client, officer, bearer(officer), patrol() | {"n": 2})
    may = {
        "list": {"supervisor", "reviewer", "admin", "auditor"},
        "permit": {"supervisor", "reviewer", "admin"},
        "loss": {"supervisor", "reviewer"},
        "revoke": {"supervisor", "admin"},
    }
    loss = {"ranges": [[1, 1]]} | REASON
    asked = {
        "list": client.get(URL, headers=headers),
        "permit": client.post(f"{URL}/{officer.install_id}/permits", json=REASON, headers=headers),
        "loss": client.post(f"/api/v1/review/holes/{officer.install_id}", json=loss, headers=headers),
        "revoke": client.post(f"{URL}/{officer.install_id}/revoke", json=REASON, headers=headers),
    }
    assert {name: answer.status_code for name, answer in asked.items()} == {
        name: 200 if role in those else 403 for name, those in may.items()
    }


def make_committed(session: Session, username: str, role: str, **more: Any) -> SignedIn:
    who = make_signed_in(session, username=username, role=role, **more)
    session.commit()
    return who


def push(client: FlaskClient, who: SignedIn, headers: Headers, *operations: Any, **parts: Any) -> Any:
    return client.post("/api/v1/sync/batches", data=orjson.dumps(batch(who, *operations, **parts)), headers=headers)


def test_all_that_the_door_tells_is_as_the_document_says(
    client: FlaskClient, supervisor: Headers, officer: SignedIn, bearer: Bearer
) -> None:
    push(client, officer, bearer(officer), patrol() | {"n": 2}, next_n=5, unsent=[[3, 4]])
    page = client.get(f"{URL}?officer=officer&holes=true&unsent=true&limit=1", headers=supervisor).json
    assert shapes.InstallationsDocument().validate(page) == {}
    (phone,) = page["items"]
    assert (phone["holes"]["ranges"], phone["unsent"]["count"], phone["account_disabled"]) == ([[1, 1]], 2, False)
    inbox = client.get("/api/v1/review/inbox?kind=holes", headers=supervisor).json
    assert shapes.InboxDocument().validate(inbox) == {}
    assert inbox["items"] == [phone]
    permit = client.post(f"{URL}/{officer.install_id}/permits", json=REASON, headers=supervisor).json
    assert shapes.PermitDocument().validate(permit) == {}
    assert re.fullmatch(r"([A-Z2-9]{4}-){2}[A-Z2-9]{4}", permit["code"])
    loss = {"ranges": [[1, 1]]} | REASON
    lost = client.post(f"/api/v1/review/holes/{officer.install_id}", json=loss, headers=supervisor).json
    assert shapes.InstallationDocument().validate(lost) == {}
    again = client.post(f"/api/v1/review/holes/{officer.install_id}", json=loss, headers=supervisor)
    assert told(again) == (409, "decided-meanwhile")
    assert again.json["lost"]["ranges"] == [[1, 1]]


def test_a_revoked_phone_is_stopped_at_once_and_the_log_says_by_whom_and_why(
    client: FlaskClient, session: Session, supervisor: Headers, officer: SignedIn, bearer: Bearer
) -> None:
    phone, key = bearer(officer), {"Idempotency-Key": str(uuid.uuid4())}
    answers = [
        client.post(f"{URL}/{officer.install_id}/revoke", json=REASON, headers=supervisor | key) for _ in range(2)
    ]
    assert answers[0].json["revoked_at"] is not None
    assert answers[0].data == answers[1].data
    assert told(push(client, officer, phone)) == (403, "install-revoked")
    answer = client.post(f"{URL}/{officer.install_id}/permits", json=REASON, headers=supervisor)
    assert (*told(answer), answer.json["why"]) == (422, "decision-invalid", "install-revoked")
    session.rollback()
    (entry,) = session.scalars(select(AccessEntry)).all()
    assert (entry.action, entry.entity, entry.details) == ("revoke", str(officer.install_id), REASON)


# ---------------------------------------------------------------- permits

#: All that a permit opens.
OPENED = {
    ("POST", "/api/v1/sync/batches"),
    ("GET", "/api/v1/sync/batches/<uuid:batch_id>"),
    ("GET", "/api/v1/sync/operations"),
    ("POST", "/api/v1/uploads"),
    ("HEAD", "/api/v1/uploads/<name>"),
    ("PATCH", "/api/v1/uploads/<name>"),
    ("PUT", "/api/v1/uploads/<name>"),
    ("POST", "/api/v1/uploads/<name>"),
    ("DELETE", "/api/v1/uploads/<name>"),
}


def routes(app: Flask) -> list[tuple[str, str]]:
    """Every method and address that wants a token."""
    guarded = [rule for rule in app.url_map.iter_rules() if app.view_functions[rule.endpoint].roles != ("anyone",)]  # type: ignore[attr-defined]
    return [(method, rule.rule) for rule in guarded for method in sorted(_own(rule.methods or set()))]


def _own(methods: set[str]) -> set[str]:
    """Without those that Flask adds: OPTIONS, and HEAD beside GET."""
    return methods - {"OPTIONS", "HEAD"} if "GET" in methods else methods - {"OPTIONS"}


@pytest.mark.parametrize("role", ["officer", "supervisor"])
def test_a_permit_opens_what_sending_needs_and_every_other_route_refuses_it(
    client: FlaskClient, session: Session, bearer: Bearer, officer: SignedIn, role: str
) -> None:
    sender = make_committed(session, "sender", role)
    admin = bearer(make_committed(session, "admin", "admin"))
    code = client.post(f"{URL}/{sender.install_id}/permits", json=REASON, headers=admin).json["code"]
    headers = {"Authorization": f"Bearer {used(client, sender, code).json['access_token']}"}
    asked = routes(client.application)
    assert len(asked) > 25
    assert {*OPENED} <= {*asked}
    opened = set()
    for method, rule in asked:
        path = re.sub(r"<uuid:\w+>", str(uuid.uuid4()), rule)
        path = re.sub(r"<\w*:?sha256>|<name>", "ab" * 32, path)
        answer = client.open(re.sub(r"<[^>]+>", "x", path), method=method, headers=headers)
        if answer.status_code != 403:
            opened.add((method, rule))
        elif method != "HEAD":
            assert told(answer) == (403, "forbidden"), rule
    assert opened == OPENED


def test_with_a_permit_a_disabled_officers_records_and_photos_arrive_as_that_officers(
    client: FlaskClient, session: Session, supervisor: Headers, disabled: SignedIn, permitted: Headers
) -> None:
    photo = b"the bytes of a photo"
    name = hashlib.sha256(photo).hexdigest()
    out = patrol() | {"n": 1, "photos": [{"sha256": name, "bytes": len(photo), "type": "image/jpeg"}]}
    receipt = push(client, disabled, permitted, out, next_n=2).json
    assert [result["outcome"] for result in receipt["results"]] == ["applied"]
    assert receipt["photos_needed"] == [name]
    assert client.put(f"/api/v1/uploads/{name}", data=photo, headers=permitted).status_code == 200
    again = client.get(f"/api/v1/sync/batches/{receipt['batch']}", headers=permitted).json
    assert again["photos_needed"] == []
    record = client.get(f"/api/v1/patrols/{out['record']}", headers=supervisor).json
    assert record["officer"]["username"] == "officer"
    assert told(push(client, disabled, permitted, patrol(), install=str(uuid.uuid4()))) == (401, "token-invalid")
    install = str(disabled.install_id)
    assert [entry[:2] for entry in log(session)] == [("permit", install), ("permit-used", install)]
    assert log(session)[1][2] == disabled.account_id


def test_a_permit_is_told_and_used_once(client: FlaskClient, supervisor: Headers, disabled: SignedIn) -> None:
    url = f"{URL}/{disabled.install_id}/permits"
    first, second = (client.post(url, json=REASON, headers=supervisor).json["code"] for _ in range(2))
    assert told(used(client, disabled, first)) == (401, "permit-invalid")
    answer = used(client, disabled, second)
    assert (answer.status_code, answer.json["expires_in"]) == (200, 7200)
    assert "refresh_token" not in answer.json
    assert answer.json["account"]["username"] == "officer"
    assert told(used(client, disabled, second)) == (401, "permit-invalid")
    token = {"Authorization": f"Bearer {answer.json['access_token']}"}
    assert told(client.post("/api/v1/auth/refresh", headers=token)) == (401, "token-invalid")


def test_guesses_are_throttled_like_sign_ins(make_app: Callable[..., Any], officer: SignedIn) -> None:
    client = make_app(sign_in_max_per_account=2).test_client()
    assert [used(client, officer, "AAAA-AAAA-AAAA").status_code for _ in range(3)] == [401, 401, 429]


def test_a_permit_ends_when_its_phone_is_revoked(
    client: FlaskClient, supervisor: Headers, disabled: SignedIn, permitted: Headers
) -> None:
    client.post(f"{URL}/{disabled.install_id}/revoke", json=REASON, headers=supervisor)
    assert told(push(client, disabled, permitted)) == (403, "install-revoked")


def test_operators_read_in_the_log_who_permitted_what_and_why(
    client: FlaskClient, permitted: Headers, disabled: SignedIn
) -> None:
    done = client.application.test_cli_runner().invoke(args=["access-log"])
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(row["username"], row["action"]) for row in rows] == [("supervisor", "permit"), ("officer", "permit-used")]
    assert orjson.loads(rows[0]["details"]) == REASON | {"officer": "officer"}


# ---------------------------------------------------------------- bad input

BODIES: list[tuple[str, bytes, int, str]] = [
    ("revoke", b"", 400, "malformed"),
    ("revoke", b"{}", 422, "envelope-invalid"),
    ("revoke", b'{"reason": " "}', 422, "envelope-invalid"),
    ("revoke", b'{"reason": "x", "more": 1}', 422, "envelope-invalid"),
    ("permits", b"[]", 422, "envelope-invalid"),
    ("permits", b'{"reason": "x", "officer": 1}', 422, "envelope-invalid"),
    ("permits", b'{"reason": "x", "officer": "nobody"}', 404, "not-found"),
    ("permits", b'{"reason": "%s"}' % (b"x" * 20_000), 413, "body-too-large"),
    ("holes", b'{"reason": "x", "ranges": []}', 422, "envelope-invalid"),
    ("holes", b'{"reason": "x", "ranges": [[1]]}', 422, "envelope-invalid"),
    ("holes", b'{"reason": "x", "ranges": [[0, 1]]}', 422, "envelope-invalid"),
    ("holes", b'{"reason": "x", "ranges": [[2, 1]]}', 422, "envelope-invalid"),
    ("holes", b'{"reason": "x", "ranges": [[1, 1e9]]}', 422, "envelope-invalid"),
    ("holes", b'{"ranges": [[1, 1]]}', 422, "envelope-invalid"),
    ("holes", b'{"reason": "x", "ranges": [[1, 1]]}', 409, "decided-meanwhile"),
]


@pytest.mark.parametrize(("what", "body", "status", "code"), BODIES, ids=[f"{b[0]} {b[1][:40]!r}" for b in BODIES])
def test_a_body_that_says_nothing_is_refused(
    client: FlaskClient,
    session: Session,
    supervisor: Headers,
    officer: SignedIn,
    what: str,
    body: bytes,
    status: int,
    code: str,
) -> None:
    id = officer.install_id
    url = f"/api/v1/review/holes/{id}" if what == "holes" else f"{URL}/{id}/{what}"
    answer = client.post(url, data=body, headers=supervisor | {"Content-Type": "application/json"})
    assert told(answer) == (status, code)
    assert (log(session), session.get_one(Installation, id).revoked_at) == ([], None)


@pytest.mark.parametrize("what", ["revoke", "permits"])
def test_a_phone_that_is_not_there_or_not_theirs_is_not_found(
    client: FlaskClient, session: Session, bearer: Bearer, officer: SignedIn, what: str
) -> None:
    elsewhere = bearer(make_committed(session, "elsewhere", "supervisor", townships=["330109115"]))
    for id in (officer.install_id, uuid.uuid4()):
        answer = client.post(f"{URL}/{id}/{what}", json=REASON, headers=elsewhere)
        assert told(answer) == (404, "not-found")


@pytest.mark.parametrize(
    "query",
    [
        "holes=1",
        "revoked=",
        "silent_since=2026-11-23T00:00:00",
        "limit=0",
        "limit=501",
        "cursor=x",
        "who=x",
        "officer=",
        "officer=%00",
        "holes=true&holes=false",
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(client: FlaskClient, supervisor: Headers, query: str) -> None:
    assert told(client.get(f"{URL}?{query}", headers=supervisor)) == (400, "query-invalid")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "malformed")),
        (b"{}", (422, "envelope-invalid")),
        (b'{"code": "", "install": "7c1d0c52-0f0a-4c43-9d0e-52a1f0a3b001"}', (422, "envelope-invalid")),
        (b'{"code": "A", "install": "1"}', (422, "envelope-invalid")),
        (b'{"code": "\\u0000", "install": "7c1d0c52-0f0a-4c43-9d0e-52a1f0a3b001"}', (401, "permit-invalid")),
        (b'{"code": "A", "install": "7c1d0c52-0f0a-4c43-9d0e-52a1f0a3b001"}', (401, "permit-invalid")),
        (b'{"code": "' + b"x" * 20_000 + b'"}', (413, "body-too-large")),
    ],
)
def test_a_permit_that_can_not_be_read_is_refused_with_a_code(
    client: FlaskClient, body: bytes, expected: tuple[int, str]
) -> None:
    assert told(client.post("/api/v1/auth/permit", data=body, content_type="application/json")) == expected
