"""Pulling through the door: pages, cursors from outside, packed answers, and nothing at all when nothing changed."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from sync import carried, journal
from sync.journal import Change
from sync.models import FIELD_ROLES, ROLES, SignedIn, begin_write
from tests.builders import GUALI, YINONG, make_lists, make_signed_in
from tests.sync.days import batch, incident, patrol, push, warning

Headers = dict[str, str]
CHANGES = "/api/v1/sync/changes"


@pytest.fixture
def officer(session: Session, now: dt.datetime) -> SignedIn:
    """Somebody with a day's work behind, and the lists in the feed."""
    make_lists(session)
    make_signed_in(session, username="partner")
    who = make_signed_in(session)
    session.commit()
    out = patrol()
    seen = incident(out)
    push(session, who, batch(who, out, seen, warning(seen)), now)
    move(session, now, *((kind, name) for kind, name in LISTS.items()))
    return who


LISTS = {
    "township": GUALI,
    "item": "DEMO-SR-001@2022-01-01",
    "delegation": f"{GUALI}@DEMO-SR-001@2022-01-01",
    "place": "DEMO-PLACE-1",
    "department": "zhzf",
    "event_class": "09001@GB/T 47678.5-2026",
}


def move(session: Session, now: dt.datetime, *entities: tuple[str, str]) -> None:
    begin_write(session)
    journal.record(session, [Change(kind, name, [kind, name], new=False) for kind, name in entities], now=now)
    session.commit()


@pytest.fixture
def headers(officer: SignedIn, bearer: Callable[..., Headers]) -> Headers:
    return bearer(officer)


def test_a_phone_that_asks_page_after_page_gets_everything_as_the_document_says(
    client: FlaskClient, headers: Headers
) -> None:
    query: dict[str, Any] = {"limit": 2}
    told = []
    while True:
        answer = client.get(CHANGES, query_string=query, headers=headers)
        assert (answer.status_code, answer.mimetype) == (200, "application/json")
        assert answer.json.keys() == {"changes", "cursor", "more"}
        told += answer.json["changes"]
        query["cursor"] = answer.json["cursor"]
        if not answer.json["more"]:
            break
    assert {change["type"] for change in told} == {"patrol", "incident", "warning", *LISTS}
    for change in told:
        assert (change.keys(), change["op"]) == ({"type", "id", "op", "data"}, "put")
        assert carried.DOCUMENTS[change["type"]]().validate(change["data"]) == {}, change["type"]


def test_the_api_document_knows_every_type_of_change(client: FlaskClient) -> None:
    document = client.get("/api/openapi.json").json
    content = document["paths"][CHANGES]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    names = [each["$ref"].rpartition("/")[2] for each in content["properties"]["changes"]["items"]["oneOf"]]
    shapes = document["components"]["schemas"]
    assert [shapes[name]["properties"]["op"]["enum"] for name in names] == [["put"]] * len(carried.DOCUMENTS) + [
        ["delete"]
    ]
    assert document["paths"][CHANGES]["get"]["responses"]["410"] == {"$ref": "#/components/responses/GONE"}


def test_when_nothing_has_changed_the_cursor_stays_and_is_its_own_etag(
    client: FlaskClient, session: Session, headers: Headers, now: dt.datetime
) -> None:
    first = client.get(CHANGES, headers=headers)
    cursor, tag = first.json["cursor"], first.headers["ETag"]
    assert tag == f'W/"{cursor}"'
    again = client.get(f"{CHANGES}?cursor={cursor}", headers=headers)
    assert again.json == {"changes": [], "cursor": cursor, "more": False}
    assert again.headers["Cache-Control"] == "private, no-cache"

    for matching in (tag, f'"{cursor}"', "*", f'"other", {tag}'):
        nothing = client.get(f"{CHANGES}?cursor={cursor}", headers=headers | {"If-None-Match": matching})
        assert (nothing.status_code, nothing.data, nothing.headers["ETag"]) == (304, b"", tag)
    move(session, now, ("township", YINONG))
    something = client.get(f"{CHANGES}?cursor={cursor}", headers=headers | {"If-None-Match": tag})
    assert something.status_code == 200
    assert [change["id"] for change in something.json["changes"]] == [YINONG]


def test_what_follows_makes_a_page_another_one(client: FlaskClient, headers: Headers) -> None:
    """The same page, once last and once with more behind it, must not be taken for unchanged."""
    whole = client.get(CHANGES, headers=headers)
    page = client.get(f"{CHANGES}?limit={len(whole.json['changes']) - 1}", headers=headers)
    assert page.json["more"] is True
    assert page.headers["ETag"] == f'W/"{page.json["cursor"]}+"'


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("gzip;q=0", False), ("identity", False), ("", False)],
)
def test_a_large_page_is_packed_for_whoever_takes_that(
    client: FlaskClient, headers: Headers, accepted: str, packed: bool
) -> None:
    plain = client.get(CHANGES, headers=headers)
    assert "Content-Encoding" not in plain.headers
    answer = client.get(CHANGES, headers=headers | {"Accept-Encoding": accepted})
    assert (answer.headers.get("Content-Encoding") == "gzip") is packed
    assert "Accept-Encoding" in answer.headers["Vary"]
    content = gzip.decompress(answer.data) if packed else answer.data
    assert json.loads(content) == plain.json
    assert int(answer.headers["Content-Length"]) == len(answer.data)
    assert answer.headers["ETag"] == plain.headers["ETag"]


def test_a_small_page_is_not_worth_packing(client: FlaskClient, headers: Headers) -> None:
    cursor = client.get(CHANGES, headers=headers).json["cursor"]
    answer = client.get(f"{CHANGES}?cursor={cursor}", headers=headers | {"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in answer.headers


@pytest.mark.parametrize(
    "query",
    [
        "colour=red",
        "limit=0",
        "limit=5001",
        "limit=-1",
        "limit=1.0",
        "limit=",
        "limit=%D9%A5",
        "limit=" + "9" * 5000,
        "limit=1&limit=2",
        "cursor=",
        "cursor=abc",
        "cursor=%00",
        "cursor=%F0%9F%92%A9",
        "cursor=" + "A" * 64,
        "cursor=" + "A" * 600,
    ],
)
def test_what_makes_no_sense_is_refused_by_name(client: FlaskClient, headers: Headers, query: str) -> None:
    answer = client.get(f"{CHANGES}?{query}", headers=headers)
    assert (answer.status_code, answer.json["code"]) == (400, "query-invalid")
    assert [error["pointer"] for error in answer.json["errors"]] == ["/" + query.split("=")[0]]


@pytest.mark.parametrize("limit", [1, 5000])
def test_the_limits_themselves_are_fine(client: FlaskClient, headers: Headers, limit: int) -> None:
    assert client.get(f"{CHANGES}?limit={limit}", headers=headers).status_code == 200


def test_a_cursor_of_somebody_else_is_gone(
    client: FlaskClient, session: Session, headers: Headers, bearer: Callable[..., Headers]
) -> None:
    cursor = client.get(CHANGES, headers=headers).json["cursor"]
    other = make_signed_in(session, username="other")
    session.commit()
    answer = client.get(f"{CHANGES}?cursor={cursor}", headers=bearer(other))
    assert (answer.status_code, answer.json["code"]) == (410, "cursor-expired")


@pytest.mark.parametrize("role", ROLES)
def test_those_who_go_out_with_a_phone_may_ask(
    client: FlaskClient, session: Session, officer: SignedIn, bearer: Callable[..., Headers], role: str
) -> None:
    who = make_signed_in(session, username=f"a-{role}", role=role)
    session.commit()
    assert client.get(CHANGES, headers=bearer(who)).status_code == (200 if role in FIELD_ROLES else 403)


def test_without_a_token_nobody_may(client: FlaskClient) -> None:
    assert client.get(CHANGES).status_code == 401
