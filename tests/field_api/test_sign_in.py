"""`/api/v1/auth/…`, and what becomes of every kind of bad token."""

from __future__ import annotations

import base64
import datetime as dt
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from field_api.database import db
from field_api.identity import roles
from sync import accounts
from sync.models import Account, Installation, SignedIn, begin_write
from tests.builders import GUALI, make_signed_in, make_townships
from tests.field_api.conftest import SECRET

PASSWORD = "correct horse battery"
PHONE = "0b5c1d52-6d7e-4c59-9c5b-3f4d1f6f0a01"
LOGIN = "/api/v1/auth/login"
REFRESH = "/api/v1/auth/refresh"
LOGOUT = "/api/v1/auth/logout"

Bearer = Callable[..., dict[str, str]]


@pytest.fixture
def officer(session: Session, now: dt.datetime) -> str:
    begin_write(session)
    make_townships(session)
    accounts.add(
        session,
        "wang",
        PASSWORD,
        full_name="王",
        role="officer",
        townships=[GUALI],
        card_until_on=dt.date(2027, 12, 31),
        now=now - dt.timedelta(days=9999),
    )
    session.commit()
    return "wang"


@pytest.fixture
def who(session: Session) -> SignedIn:
    begin_write(session)
    make_townships(session)
    found = make_signed_in(session)
    session.commit()
    return found


def login(client: FlaskClient, username: str = "wang", password: str = PASSWORD, install: str = PHONE) -> TestResponse:
    return client.post(LOGIN, json={"username": username, "password": password, "install": install})


def holding(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def told(answer: TestResponse) -> tuple[int, str]:
    assert answer.mimetype == "application/problem+json"
    assert answer.json is not None
    return answer.status_code, answer.json["code"]


def test_a_sign_in_is_answered_with_tokens_and_what_the_phone_has_to_know(client: FlaskClient, officer: str) -> None:
    answer = login(client)
    assert answer.status_code == 200
    said = answer.json
    assert said is not None
    assert said["account"] == {
        "username": "wang",
        "full_name": "王",
        "role": "officer",
        "townships": [GUALI],
        "card_until_on": "2027-12-31",
    }
    assert said["expires_in"] == 900
    off = dt.datetime.fromisoformat(said["server_time"]) - dt.datetime.now(dt.UTC)
    assert abs(off) < dt.timedelta(minutes=1)
    assert client.post(LOGOUT, headers=holding(said["access_token"])).status_code == 204


def test_a_wrong_password_and_an_unknown_name_are_told_alike(client: FlaskClient, officer: str) -> None:
    wrong, unknown = login(client, password="wrong"), login(client, username="nobody")
    assert told(wrong) == told(unknown) == (401, "bad-credentials")
    assert wrong.headers["WWW-Authenticate"] == "Bearer"
    assert {**wrong.json, "request_id": ""} == {**unknown.json, "request_id": ""}  # type: ignore[dict-item]


def test_a_name_that_failed_too_often_is_told_how_long_to_wait(make_app: Callable[..., Any], officer: str) -> None:
    client = make_app(sign_in_max_per_account=2).test_client()
    for _ in range(2):
        login(client, password="wrong")
    answer = login(client)
    assert told(answer) == (429, "sign-in-throttled")
    assert 0 < int(answer.headers["Retry-After"]) <= 900


def test_behind_a_trusted_proxy_the_address_is_the_phones(make_app: Callable[..., Any], officer: str) -> None:
    client = make_app(sign_in_max_per_address=1, trusted_proxies=1).test_client()
    who = {"username": "x", "password": "wrong", "install": PHONE}
    codes = [
        client.post(LOGIN, json=who, headers={"X-Forwarded-For": address}).status_code
        for address in ("spoofed, 10.1.1.1", "10.1.1.1", "10.1.1.2")
    ]
    assert codes == [401, 429, 401]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "malformed")),
        (b"{", (400, "malformed")),
        (b"\xff\xfe", (400, "malformed")),
        (b"[" * 10_000, (400, "malformed")),
        (b'{"username": NaN}', (400, "malformed")),
        (b'{"username": "\\ud800"}', (400, "malformed")),
        (b"[]", (422, "envelope-invalid")),
        (b"null", (422, "envelope-invalid")),
        (b'"text"', (422, "envelope-invalid")),
        (b"{}", (422, "envelope-invalid")),
        (b'{"username": "wa\\u0000ng", "password": "p", "install": "%s"}' % PHONE.encode(), (422, "envelope-invalid")),
        (b'{"username": 1, "password": [], "install": {}}', (422, "envelope-invalid")),
        (b'{"username": "x", "password": "p", "install": "1"}', (422, "envelope-invalid")),
        (b'{"username": "' + b"x" * 20_000 + b'"}', (413, "body-too-large")),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_sign_in_that_can_not_be_read_is_refused_with_a_code(
    client: FlaskClient, body: bytes, expected: tuple[int, str]
) -> None:
    assert told(client.post(LOGIN, data=body, content_type="application/json")) == expected


def test_a_field_in_error_is_named(client: FlaskClient) -> None:
    answer = client.post(LOGIN, json={"username": "x", "install": "1", "of-a-later-app": 1})
    assert answer.json is not None
    assert {(error["pointer"], error["code"]) for error in answer.json["errors"]} == {
        ("/password", "required"),
        ("/install", "invalid"),
    }


def test_a_refresh_token_gives_new_tokens_once(client: FlaskClient, officer: str) -> None:
    first = login(client).json
    assert first is not None
    second = client.post(REFRESH, headers=holding(first["refresh_token"])).json
    assert second is not None
    assert second["account"] == first["account"]
    assert told(client.post(REFRESH, headers=holding(first["refresh_token"]))) == (401, "token-invalid")
    assert told(client.post(REFRESH, headers=holding(second["refresh_token"]))) == (401, "token-invalid")
    assert told(client.post(LOGOUT, headers=holding(second["access_token"]))) == (401, "token-invalid")
    assert login(client).status_code == 200


def test_after_signing_out_no_token_of_the_phone_is_worth_anything(client: FlaskClient, officer: str) -> None:
    tokens = login(client).json
    assert tokens is not None
    assert client.post(LOGOUT, headers=holding(tokens["access_token"])).status_code == 204
    assert told(client.post(LOGOUT, headers=holding(tokens["access_token"]))) == (401, "token-invalid")
    assert told(client.post(REFRESH, headers=holding(tokens["refresh_token"]))) == (401, "token-invalid")


def test_an_access_token_does_not_refresh_and_a_refresh_token_gives_no_access(
    client: FlaskClient, who: SignedIn, bearer: Bearer
) -> None:
    assert told(client.post(REFRESH, headers=bearer(who))) == (401, "token-invalid")
    assert told(client.post(LOGOUT, headers=bearer(who, "refresh_token"))) == (401, "token-invalid")


def forged(token: str, *, secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """The token with other claims, signed again; a claim of None is left out."""
    said = jwt.decode(token, options={"verify_signature": False}) | claims
    said = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(said, secret if algorithm != "none" else None, algorithm)


LONG_AGO = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
FAR_AHEAD = dt.datetime(2096, 1, 1, tzinfo=dt.UTC)
FORGERIES: dict[str, Callable[[str], str]] = {
    "wrong secret": lambda token: forged(token, secret="x" * 40),
    "no signature": lambda token: forged(token, algorithm="none"),
    "signature cut off": lambda token: token.rpartition(".")[0] + ".",
    "another algorithm": lambda token: forged(token, secret=SECRET * 2, algorithm="HS512"),
    "expired": lambda token: forged(token, exp=LONG_AGO),
    "not yet": lambda token: forged(token, nbf=FAR_AHEAD),
    "another audience": lambda token: forged(token, aud="another"),
    "no audience": lambda token: forged(token, aud=None),
    "another issuer": lambda token: forged(token, iss="another"),
    "no issuer": lambda token: forged(token, iss=None),
    "a number for a subject": lambda token: forged(token, sub="1e3"),
    "no subject": lambda token: forged(token, sub=None),
    "another account": lambda token: forged(token, sub="999"),
    "a huge account": lambda token: forged(token, sub="9" * 40),
    "another installation": lambda token: forged(token, install=str(uuid.uuid4())),
    "no installation": lambda token: forged(token, install=None),
    "an unknown sign-in": lambda token: forged(token, family=str(uuid.uuid4())),
    "a sign-in that is a list": lambda token: forged(token, family=[1]),
    "half": lambda token: token[: len(token) // 2],
    "two dots": lambda _: "..",
    "not a token": lambda _: "garbage",
    "a nested header": lambda token: nested_header(token),
    "a header that is a list": lambda token: encoded(b"[]") + "." + token.partition(".")[2],
}


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def nested_header(token: str) -> str:
    return encoded(b"[" * 3000) + "." + token.partition(".")[2]


@pytest.mark.parametrize("name", FORGERIES)
def test_every_bad_token_is_told_to_sign_in_again(
    client: FlaskClient, who: SignedIn, bearer: Bearer, name: str
) -> None:
    good = bearer(who)["Authorization"].removeprefix("Bearer ")
    answer = client.post(LOGOUT, headers=holding(FORGERIES[name](good)))
    assert told(answer) == (401, "token-invalid")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert client.post(LOGOUT, headers=holding(forged(good))).status_code == 204


def test_a_token_expired_within_the_leeway_still_stands(client: FlaskClient, who: SignedIn, bearer: Bearer) -> None:
    good = bearer(who)["Authorization"].removeprefix("Bearer ")
    just_now = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=2)
    assert client.post(LOGOUT, headers=holding(forged(good, exp=just_now))).status_code == 204


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer  ",
        "Basic d2FuZzp4",
        "Bearer a b",
        "Bearer a, Bearer b",
        ", ,Bearer a",
        "Bearer \xff\xfe\x80",
        "Bearer é.é.é",
        "Bearer " + "x" * 60_000,
        "Bearer \x0c",
        "\x0b,\x0c",
    ],
    ids=lambda header: repr(header)[:24],
)
@pytest.mark.parametrize("path", [LOGOUT, REFRESH])
def test_a_garbled_header_is_told_to_sign_in_again(client: FlaskClient, header: str, path: str) -> None:
    # Past Flask's client, which would refuse to send some of these.
    answer = client.post(path, environ_overrides={"HTTP_AUTHORIZATION": header})
    assert told(answer) == (401, "token-invalid")


def test_without_a_token_there_is_no_way_in(client: FlaskClient) -> None:
    assert told(client.post(LOGOUT)) == (401, "token-invalid")
    assert told(client.post(REFRESH)) == (401, "token-invalid")


def test_a_disabled_account_and_a_revoked_phone_are_told_at_their_next_request(
    client: FlaskClient, session: Session, who: SignedIn, bearer: Bearer, now: dt.datetime
) -> None:
    access, refresh = bearer(who), bearer(who, "refresh_token")
    begin_write(session)
    session.get_one(Installation, who.install_id).revoked_at = now
    session.commit()
    assert told(client.post(LOGOUT, headers=access)) == (403, "install-revoked")
    assert told(client.post(REFRESH, headers=refresh)) == (403, "install-revoked")
    begin_write(session)
    session.get_one(Account, who.account_id).disabled_at = now
    session.commit()
    assert told(client.post(LOGOUT, headers=access)) == (403, "account-disabled")
    assert told(client.post(REFRESH, headers=refresh)) == (403, "account-disabled")


@pytest.fixture
def own_views(client: FlaskClient) -> Iterator[list[Any]]:
    """Two views on the app: one for admins, one that says what it sees of the session."""
    seen: list[Any] = []

    def look(who: SignedIn) -> str:
        seen.append(who)
        seen.append(db.session().in_transaction())
        return json.dumps(who.username)

    client.application.add_url_rule("/for-admins", view_func=roles("admin", "gis")(look), endpoint="admins")
    client.application.add_url_rule("/for-officers", view_func=roles("officer")(look), endpoint="officers")
    return seen


def test_a_role_that_is_not_named_is_forbidden(
    client: FlaskClient, who: SignedIn, bearer: Bearer, own_views: list[Any]
) -> None:
    answer = client.get("/for-admins", headers=bearer(who))
    assert told(answer) == (403, "forbidden")
    assert answer.json is not None
    assert answer.json["roles"] == ["admin", "gis"]
    assert own_views == []


def test_a_view_gets_who_is_asking_and_no_open_transaction(
    client: FlaskClient, who: SignedIn, bearer: Bearer, own_views: list[Any]
) -> None:
    assert client.get("/for-officers", headers=bearer(who)).status_code == 200
    assert own_views == [who, False]
