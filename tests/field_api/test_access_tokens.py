"""Access tokens: shown once, good for reading only, as their owner sees it today; ended at once."""

from __future__ import annotations

import base64
import datetime as dt
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from sync import accounts, shapes
from sync.models import ROLES, AccessEntry, AccessToken, Account, Posting, SignedIn, begin_write
from tests.builders import GUALI, YINONG, make_signed_in, make_townships
from tests.field_api.conftest import SECRET
from tests.sync.records import make_incident, make_patrol

TOKENS = "/api/v1/access-tokens"
LIST = "/api/v1/incidents?count=true"
#: Without it uploads answer before they ask who is there.
TUS = {"Tus-Resumable": "1.0.0"}
Headers = dict[str, str]
Bearer = Callable[..., Headers]


@pytest.fixture
def who(session: Session) -> SignedIn:
    begin_write(session)
    make_townships(session)
    found = make_signed_in(session, role="supervisor")
    session.commit()
    return found


@pytest.fixture
def own(who: SignedIn, bearer: Bearer) -> Headers:
    return bearer(who)


def issue(client: FlaskClient, own: Headers, **said: Any) -> dict[str, Any]:
    answer = client.post(TOKENS, json={"name": "QGIS 二楼"} | said, headers=own)
    assert answer.status_code == 201, answer.json
    told: dict[str, Any] = answer.json
    return told


def basic(token: str, name: str = "anything") -> Headers:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{token}".encode()).decode()}


def told(client: FlaskClient, headers: Headers, path: str = LIST) -> tuple[int, str | None]:
    answer = client.get(path, headers=headers)
    return answer.status_code, (answer.json or {}).get("code")


def test_a_token_is_shown_once_and_kept_as_a_hash(client: FlaskClient, session: Session, own: Headers) -> None:
    new = issue(client, own, days=7)
    assert shapes.NewAccessTokenDocument().validate(new) == {}
    assert re.fullmatch(r"fapi_[\w-]{43}", new["token"])
    lasts = dt.datetime.fromisoformat(new["expires_at"]) - dt.datetime.fromisoformat(new["created_at"])
    assert lasts == dt.timedelta(days=7)
    listed = client.get(TOKENS, headers=own).json
    assert shapes.AccessTokensDocument().validate(listed) == {}
    assert listed == {"items": [{name: value for name, value in new.items() if name != "token"}]}
    kept = session.scalars(select(AccessToken)).one()
    assert new["token"].encode() not in b"".join(str(value).encode() for value in vars(kept).values())


def test_it_reads_as_basic_under_any_name_and_as_bearer(client: FlaskClient, own: Headers) -> None:
    token = issue(client, own)["token"]
    for headers in (basic(token), basic(token, "officer"), basic(token, ""), {"Authorization": f"Bearer {token}"}):
        assert told(client, headers) == (200, None)


@pytest.mark.parametrize(
    "shown",
    [
        "Basic",
        "Basic !!!",
        "Basic AAAA",
        "Basic " + base64.b64encode(b"officer").decode(),
        "Basic " + base64.b64encode(b"officer:").decode(),
        "Basic " + base64.b64encode(b"officer:a password").decode(),
        "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode(),
        "Basic " + base64.b64encode(b"a:fapi_\x00").decode(),
        "Bearer fapi_",
        "Bearer fapi_" + "A" * 43,
        "Bearer fapi_" + "A" * 5000,
        "Digest fapi_x",
    ],
)
def test_what_is_no_token_is_401(client: FlaskClient, own: Headers, shown: str) -> None:
    issue(client, own)
    assert told(client, {"Authorization": shown}) == (401, "token-invalid")


def test_a_token_in_the_url_is_not_looked_at(client: FlaskClient, own: Headers) -> None:
    token = issue(client, own)["token"]
    for name in ("token", "access_token", "key", "jwt"):
        assert client.get(f"/api/v1/incidents?{name}={token}").status_code == 401


def test_it_sees_what_its_owner_sees_today(
    client: FlaskClient, session: Session, who: SignedIn, own: Headers, now: dt.datetime
) -> None:
    other = make_signed_in(session, username="other")
    patrol = make_patrol(session, other)
    for code in (GUALI, YINONG, YINONG):
        make_incident(session, patrol, other, township_code=code)
    session.commit()
    token = issue(client, own)["token"]
    assert client.get(LIST, headers=basic(token)).json["count"] == 1
    session.add(Posting(account_id=who.account_id, township_code=YINONG, from_on=dt.date(2022, 1, 1)))
    session.commit()
    assert client.get(LIST, headers=basic(token)).json["count"] == 3
    session.get_one(Account, who.account_id).role = "officer"
    session.commit()
    assert client.get(LIST, headers=basic(token)).json["count"] == 0


def test_disabling_the_account_stops_it_at_once(
    client: FlaskClient, session: Session, own: Headers, now: dt.datetime
) -> None:
    token = issue(client, own)["token"]
    accounts.disable(session, "officer", now=now)
    session.commit()
    assert told(client, basic(token)) == (403, "account-disabled")


def test_a_new_password_ends_it(client: FlaskClient, session: Session, own: Headers, now: dt.datetime) -> None:
    token = issue(client, own)["token"]
    begin_write(session)
    accounts.set_password(session, "officer", "another password", now=now)
    session.commit()
    assert told(client, basic(token)) == (401, "token-invalid")


def test_it_ends_by_itself(client: FlaskClient, session: Session, own: Headers) -> None:
    token = issue(client, own)["token"]
    session.scalars(select(AccessToken)).one().expires_at = dt.datetime.now(dt.UTC)
    session.commit()
    assert told(client, basic(token)) == (401, "token-invalid")


def test_it_is_revoked_by_its_owner_or_an_admin_and_nobody_else(
    client: FlaskClient, session: Session, own: Headers, bearer: Bearer
) -> None:
    others = {role: make_signed_in(session, username=f"a-{role}", role=role) for role in ROLES}
    session.commit()
    for role, stranger in others.items():
        new = issue(client, own)
        answer = client.delete(f"{TOKENS}/{new['id']}", headers=bearer(stranger))
        assert answer.status_code == (204 if role == "admin" else 404)
        assert told(client, basic(new["token"]))[0] == (401 if role == "admin" else 200)
        assert client.delete(f"{TOKENS}/{new['id']}", headers=own).status_code == 204
        assert told(client, basic(new["token"])) == (401, "token-invalid")
    assert client.delete(f"{TOKENS}/{uuid.uuid4()}", headers=own).status_code == 404
    assert all(row["revoked_at"] for row in client.get(TOKENS, headers=own).json["items"])
    assert client.get(TOKENS, headers=bearer(others["admin"])).json["items"] == []


def test_revoking_again_keeps_when_it_ended(client: FlaskClient, own: Headers) -> None:
    new = issue(client, own)
    ended = []
    for _ in range(2):
        assert client.delete(f"{TOKENS}/{new['id']}", headers=own).status_code == 204
        ended.append(client.get(TOKENS, headers=own).json["items"][0]["revoked_at"])
    assert ended[0] == ended[1]


def test_its_last_use_is_noted_every_few_minutes_and_not_every_time(
    client: FlaskClient, session: Session, own: Headers
) -> None:
    token = issue(client, own)["token"]

    def used_at() -> dt.datetime | None:
        told(client, basic(token))
        used: dt.datetime | None = session.scalars(select(AccessToken.last_used_at)).one()
        session.rollback()
        return used

    first = used_at()
    assert first is not None
    assert used_at() == first
    session.scalars(select(AccessToken)).one().last_used_at = first - accounts.USE_NOTED_EVERY
    session.commit()
    third = used_at()
    assert third is not None
    assert third >= first
    assert client.get(TOKENS, headers=own).json["items"][0]["last_used_at"] == shapes.instant(third)


def test_who_made_and_revoked_which_is_in_the_access_log(client: FlaskClient, session: Session, own: Headers) -> None:
    new = issue(client, own, days=3)
    client.delete(f"{TOKENS}/{new['id']}", headers=own)
    entries = session.scalars(select(AccessEntry).order_by(AccessEntry.id)).all()
    assert [(entry.action, entry.entity) for entry in entries] == [
        ("token-issued", new["id"]),
        ("token-revoked", new["id"]),
    ]
    assert entries[0].details == {"name": "QGIS 二楼", "days": 3}


def test_an_account_has_a_limited_number_of_tokens_that_stand(client: FlaskClient, own: Headers) -> None:
    made = [issue(client, own) for _ in range(accounts.MOST_TOKENS)]
    answer = client.post(TOKENS, json={"name": "one more"}, headers=own)
    assert (answer.status_code, answer.json["code"]) == (422, "too-many-tokens")
    client.delete(f"{TOKENS}/{made[0]['id']}", headers=own)
    issue(client, own)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"name": ""},
        {"name": " "},
        {"name": "x" * 81},
        {"name": "a\x00"},
        {"name": 3},
        {"name": "x", "days": 0},
        {"name": "x", "days": 367},
        {"name": "x", "days": True},
        {"name": "x", "days": "9"},
        {"name": "x", "role": "admin"},
        [],
        "x",
    ],
)
def test_what_makes_no_token_is_refused(client: FlaskClient, own: Headers, said: Any) -> None:
    answer = client.post(TOKENS, json=said, headers=own)
    assert (answer.status_code, answer.json["code"]) == (422, "envelope-invalid")


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b'{"name": "\\ud800"}', b"\xff", b"[" * 5000])
def test_what_is_no_json_is_refused(client: FlaskClient, own: Headers, body: bytes) -> None:
    answer = client.post(TOKENS, data=body, headers=own)
    assert 400 <= answer.status_code < 500


# ---------------------------------------------------------------- every route


def every_route(app: Flask) -> Iterator[tuple[str, str, str]]:
    """(endpoint, method, path) of everything the app answers."""
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<uuid:\w+>", str(uuid.uuid4()), rule.rule)
        for method in sorted((rule.methods or set()) - {"OPTIONS"}):
            yield rule.endpoint, method, re.sub(r"<[^>]+>", "incidents", path)


def test_no_route_takes_a_token_but_those_that_say_so_and_these_only_read(client: FlaskClient, own: Headers) -> None:
    token = issue(client, own)["token"]
    shown = basic(token), {"Authorization": f"Bearer {token}"}
    views, taken = client.application.view_functions, set()
    for endpoint, method, path in every_route(client.application):
        answers = [client.open(path, method=method, headers=headers | TUS) for headers in shown]
        refused = {answer.status_code for answer in answers} <= {401, 403}
        if getattr(views[endpoint], "takes_programs", False):
            assert method in ("GET", "HEAD"), path
            assert not refused, path
            taken.add(endpoint.partition(".")[0])
        elif "anyone" not in views[endpoint].roles or path.endswith(("refresh", "logout")):
            assert refused, (method, path)
        for answer in answers:
            answer.close()
    assert taken >= {"patrol_log", "exports", "photos"}


def test_the_original_of_a_photo_is_not_for_programs(client: FlaskClient, own: Headers) -> None:
    token = issue(client, own)["token"]
    photo = f"/api/v1/photos/{'ab' * 32}"
    assert told(client, basic(token), f"{photo}?size=original") == (403, "forbidden")
    assert told(client, basic(token), f"{photo}?size=thumb") == (404, "not-found")
    assert told(client, own, f"{photo}?size=original") == (404, "not-found")


def test_a_token_tells_nothing_of_the_key_that_signs_sign_ins(client: FlaskClient, own: Headers) -> None:
    assert SECRET not in issue(client, own)["token"]
