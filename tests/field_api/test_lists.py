"""Lists and single records through the door: strict queries, everybody's share, cursors that work from outside."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from sync import shapes
from sync.models import ROLES, SignedIn
from tests.builders import make_lists, make_signed_in
from tests.sync.records import make_incident, make_patrol, make_warning

Headers = dict[str, str]
PAGES = {"patrols": shapes.PatrolDocument, "incidents": shapes.IncidentDocument, "warnings": shapes.WarningDocument}


@pytest.fixture
def officer(session: Session) -> SignedIn:
    make_lists(session)
    return make_signed_in(session)


@pytest.fixture
def record_ids(session: Session, officer: SignedIn) -> dict[str, str]:
    """One record of each kind."""
    out = make_patrol(session, officer)
    seen = make_incident(session, out, officer, items=["DEMO-SR-001"], photos=["ab" * 32])
    told = make_warning(session, seen, officer)
    made = {"patrols": str(out.id), "incidents": str(seen.id), "warnings": str(told.id)}
    session.commit()
    return made


@pytest.fixture
def headers(record_ids: dict[str, str], officer: SignedIn, bearer: Callable[..., Headers]) -> Headers:
    return bearer(officer)


@pytest.mark.parametrize("kind", PAGES)
def test_a_list_is_a_page_of_records_as_the_document_says(
    client: FlaskClient, headers: Headers, record_ids: dict[str, str], kind: str
) -> None:
    answer = client.get(f"/api/v1/{kind}", headers=headers)
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert shapes.page_document(PAGES[kind])().validate(answer.json) == {}
    assert [record["id"] for record in answer.json["items"]] == [record_ids[kind]]
    assert answer.json["next"] is None
    assert "count" not in answer.json


@pytest.mark.parametrize("kind", PAGES)
def test_a_single_record_is_found_with_its_history_or_not_at_all(
    client: FlaskClient, headers: Headers, record_ids: dict[str, str], kind: str
) -> None:
    answer = client.get(f"/api/v1/{kind}/{record_ids[kind]}", headers=headers)
    assert answer.status_code == 200
    assert answer.json["history"] == []
    for nothing in (uuid.uuid4(), "nonsense", record_ids[kind] + "0"):
        missed = client.get(f"/api/v1/{kind}/{nothing}", headers=headers)
        assert (missed.status_code, missed.json["code"]) == (404, "not-found")


def test_a_record_of_somebody_else_is_as_good_as_none(
    client: FlaskClient, session: Session, record_ids: dict[str, str], bearer: Callable[..., Headers]
) -> None:
    stranger = make_signed_in(session, username="stranger")
    session.commit()
    for kind, id in record_ids.items():
        assert client.get(f"/api/v1/{kind}/{id}", headers=bearer(stranger)).status_code == 404
        assert client.get(f"/api/v1/{kind}?count=true", headers=bearer(stranger)).json == {
            "items": [],
            "next": None,
            "count": 0,
        }


@pytest.mark.parametrize("role", ROLES)
def test_every_role_may_ask(
    client: FlaskClient, session: Session, officer: SignedIn, bearer: Callable[..., Headers], role: str
) -> None:
    who = make_signed_in(session, username=f"a-{role}", role=role)
    session.commit()
    for kind in PAGES:
        assert client.get(f"/api/v1/{kind}", headers=bearer(who)).status_code == 200


@pytest.mark.parametrize("kind", PAGES)
def test_without_a_token_nobody_may(client: FlaskClient, kind: str) -> None:
    assert client.get(f"/api/v1/{kind}").status_code == 401
    assert client.get(f"/api/v1/{kind}/{uuid.uuid4()}").status_code == 401
    assert client.get(f"/api/v1/{kind}?limit=0").status_code == 401


def test_pages_follow_each_other_by_cursor_and_the_count_is_told_on_request(
    client: FlaskClient, session: Session, officer: SignedIn, headers: Headers
) -> None:
    for _ in range(4):
        make_patrol(session, officer)
    session.commit()
    query: dict[str, Any] = {"limit": 2, "count": "true", "officer": "officer"}
    shown: list[str] = []
    sizes = []
    while True:
        answer = client.get("/api/v1/patrols", query_string=query, headers=headers).json
        assert answer["count"] == 5
        sizes.append(len(answer["items"]))
        shown += [record["id"] for record in answer["items"]]
        if answer["next"] is None:
            break
        query["cursor"] = answer["next"]
    assert sizes == [2, 2, 1]
    assert len(set(shown)) == 5


@pytest.mark.parametrize(
    "query",
    [
        "township=330109113",
        "officer=officer&voided=included",
        "from_at=2026-11-23T16:15:00%2B08:00&until_at=2026-11-24T00:00:00Z",
        "from_at=0001-01-01T00:00:00Z&until_at=9999-12-31T23:59:59Z",
        "bbox=120.42,30.14,120.51,30.22",
        "bbox=179,-90,-179,90&voided=included&note=no-fix&limit=500",
        "limit=1",
    ],
)
def test_what_makes_sense_is_answered(client: FlaskClient, headers: Headers, query: str) -> None:
    for kind in PAGES:
        assert client.get(f"/api/v1/{kind}?{query}", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "colour=red",
        "limit=0",
        "limit=501",
        "limit=-1",
        "limit=",
        "limit=1e2",
        "limit=5_0",
        "limit=%D9%A5",
        "limit=" + "9" * 5000,
        "limit=10&limit=20",
        "count=yes",
        "cursor=",
        "cursor=abc",
        "cursor=%00",
        "cursor=" + "A" * 43,
        "cursor=" + "A" * 65,
        "from_at=2026-11-23",
        "from_at=2026-11-23T16:15:00",
        "from_at=2026-11-23T16:15:00+08:00",
        "from_at=yesterday",
        "from_at=0000-01-01T00:00:00Z",
        "until_at=9999-12-31T23:59:59-12:00",
        "until_at=99999-01-01T00:00:00Z",
        "officer=a%00b",
        "officer=",
        "township=3301091150000",
        "note=nonsense",
        "photos=some",
        "voided=true",
        "bbox=1,2,3",
        "bbox=1,2,3,4,5",
        "bbox=181,0,182,1",
        "bbox=0,2,1,1",
        "bbox=nan,0,1,1",
        "bbox=0,0,1e99,1",
        "bbox=0,0,1_0,1",
        "q=%20",
        "q=%00",
        "q=" + "x" * 101,
    ],
)
def test_what_makes_no_sense_is_refused_by_name(client: FlaskClient, headers: Headers, query: str) -> None:
    for kind in PAGES:
        answer = client.get(f"/api/v1/{kind}?{query}", headers=headers)
        assert (answer.status_code, answer.json["code"]) == (400, "query-invalid")
        assert [error["pointer"] for error in answer.json["errors"]] == ["/" + query.split("=")[0]]


@pytest.mark.parametrize(
    ("kind", "query"),
    [
        ("patrols", "item=DEMO-SR-001"),
        ("patrols", "vendor=5b1f7f0a-0000-4000-8000-000000000001"),
        ("warnings", "measure=guide"),
        ("incidents", "vendor=5b1f7f0a000040008000000000000001"),
        ("incidents", "measure=shout"),
        ("incidents", "item=%00"),
    ],
)
def test_a_filter_must_suit_the_kind(client: FlaskClient, headers: Headers, kind: str, query: str) -> None:
    answer = client.get(f"/api/v1/{kind}?{query}", headers=headers)
    assert (answer.status_code, answer.json["code"]) == (400, "query-invalid")
    assert answer.json["errors"][0]["pointer"] == "/" + query.split("=")[0]


def test_a_cursor_of_another_list_is_refused(
    client: FlaskClient, session: Session, officer: SignedIn, headers: Headers
) -> None:
    make_patrol(session, officer)
    session.commit()
    cursor = client.get("/api/v1/patrols?limit=1", headers=headers).json["next"]
    for other in ("incidents?", "patrols?township=330109113&"):
        answer = client.get(f"/api/v1/{other}cursor={cursor}", headers=headers)
        assert (answer.status_code, answer.json["code"]) == (400, "query-invalid")
