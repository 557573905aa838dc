"""Exports through the door: headers, the list's own filters, and a broken stream that nobody takes for a whole file."""

from __future__ import annotations

import csv
import datetime as dt
import http.client
import io
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from field_api.database import db
from sync import export
from sync.clock import LOCAL_ZONE
from sync.models import ROLES, SignedIn
from tests.builders import YINONG, make_lists, make_signed_in
from tests.field_api.conftest import SECRET
from tests.journeys.serving import COMMANDS, running
from tests.sync.records import make_incident, make_patrol
from tests.sync.test_export import many, spoil

Headers = dict[str, str]
TYPES = {"geojson": "application/geo+json", "csv": "text/csv"}


@pytest.fixture
def officer(session: Session) -> SignedIn:
    make_lists(session)
    return make_signed_in(session)


@pytest.fixture
def headers(session: Session, officer: SignedIn, bearer: Callable[..., Headers]) -> Headers:
    session.commit()
    return bearer(officer)


@pytest.mark.parametrize("ending", TYPES)
def test_an_export_is_a_file_with_a_name_and_a_day(client: FlaskClient, headers: Headers, ending: str) -> None:
    with client.get(f"/api/v1/exports/incidents.{ending}", headers=headers) as answer:
        assert (answer.status_code, answer.mimetype) == (200, TYPES[ending])
        day = dt.datetime.now(LOCAL_ZONE).date()
        assert answer.headers["Content-Disposition"] == f'attachment; filename="incidents-{day}.{ending}"'
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.get_data()


def test_the_csv_says_that_it_is_utf_8(client: FlaskClient, headers: Headers) -> None:
    with client.get("/api/v1/exports/incidents.csv", headers=headers) as answer:
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"


def test_an_export_holds_what_the_list_with_the_same_filters_shows(
    client: FlaskClient, session: Session, officer: SignedIn, bearer: Callable[..., Headers]
) -> None:
    out = make_patrol(session, officer)
    for n in range(4):
        make_incident(session, out, officer, description="占道" if n % 2 else "其他")
    make_incident(session, out, officer, description="占道", township_code=YINONG)
    make_incident(session, out, make_signed_in(session, username="colleague"), description="占道")
    session.commit()
    headers, query = bearer(officer), {"q": "占道", "township": "330109113"}
    shown = client.get("/api/v1/incidents", query_string=query, headers=headers).json["items"]
    assert len(shown) == 2
    with client.get("/api/v1/exports/incidents.geojson", query_string=query, headers=headers) as answer:
        features = answer.get_json(force=True)["features"]
    with client.get("/api/v1/exports/incidents.csv", query_string=query, headers=headers) as answer:
        lines = list(csv.DictReader(io.StringIO(answer.get_data().decode("utf-8-sig"))))
    ids = [record["id"] for record in shown]
    assert [feature["id"] for feature in features] == ids
    assert [line["id"] for line in lines] == ids


@pytest.mark.parametrize("query", ["colour=red", "limit=10", "cursor=x", "bbox=1,2,3", "q=%00", "item=a&item=b"])
@pytest.mark.parametrize("ending", TYPES)
def test_what_makes_no_sense_is_refused_before_the_file_begins(
    client: FlaskClient, headers: Headers, ending: str, query: str
) -> None:
    answer = client.get(f"/api/v1/exports/incidents.{ending}?{query}", headers=headers)
    assert (answer.status_code, answer.json["code"]) == (400, "query-invalid")
    assert "Content-Disposition" not in answer.headers
    assert answer.json["errors"][0]["pointer"] == "/" + query.split("=")[0]


def test_what_fails_before_the_first_byte_is_a_problem_and_leaves_no_connection_open(
    client: FlaskClient, session: Session, officer: SignedIn, bearer: Callable[..., Headers]
) -> None:
    spoil(session, make_incident(session, make_patrol(session, officer), officer).id)
    session.commit()
    answer = client.get("/api/v1/exports/incidents.csv", headers=bearer(officer))
    assert (answer.status_code, answer.json["code"]) == (500, "internal")
    assert open_connections(client.application) == 0


@pytest.mark.parametrize("ending", TYPES)
def test_a_stream_that_is_not_read_to_its_end_leaves_no_connection_open(
    client: FlaskClient, session: Session, officer: SignedIn, bearer: Callable[..., Headers], ending: str
) -> None:
    many(session, officer, make_patrol(session, officer), 3 * export.CHUNK)
    session.commit()
    headers = bearer(officer)
    with client.get(f"/api/v1/exports/incidents.{ending}", headers=headers) as answer:
        next(answer.iter_encoded())
        assert open_connections(client.application) == 1
    client.head(f"/api/v1/exports/incidents.{ending}", headers=headers).close()
    assert open_connections(client.application) == 0


def open_connections(app: Flask) -> int:
    """How many connections of the app are in use."""
    with app.app_context():
        return db.engine.pool.checkedout()  # type: ignore[attr-defined]


@pytest.mark.parametrize("role", ROLES)
def test_every_role_may_export_and_nobody_without_a_token(
    client: FlaskClient, session: Session, officer: SignedIn, bearer: Callable[..., Headers], role: str
) -> None:
    who = make_signed_in(session, username=f"a-{role}", role=role)
    session.commit()
    for ending in TYPES:
        with client.get(f"/api/v1/exports/incidents.{ending}", headers=bearer(who)) as answer:
            assert answer.status_code == 200
        assert client.get(f"/api/v1/exports/incidents.{ending}").status_code == 401


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_stream_that_breaks_breaks_the_connection(
    database_url: str,
    session: Session,
    officer: SignedIn,
    bearer: Callable[..., Headers],
    tmp_path: Path,
    kind: str,
) -> None:
    spoil(session, many(session, officer, make_patrol(session, officer), 2 * export.CHUNK)[-1])
    session.commit()
    headers = bearer(officer)
    with (
        running(kind, database_url, tmp_path, secret=SECRET) as server,
        closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection,
    ):
        connection.request("GET", "/api/v1/exports/incidents.csv", headers=headers)
        with connection.getresponse() as answer:
            assert answer.status == 200
            with pytest.raises(http.client.IncompleteRead):
                answer.read()
