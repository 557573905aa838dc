"""Exports through the door: headers, the list's own filters, tags and cursors, and who took out what."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from field_api.database import db
from sync import access_log, columns, journal
from sync.clock import LOCAL_ZONE
from sync.formats import FORMATS
from sync.journal import Change
from sync.models import REVIEW_ROLES, ROLES, Incident, SignedIn
from tests.builders import YINONG, make_lists, make_signed_in
from tests.sync.records import NOW, make_incident, make_patrol, make_warning
from tests.sync.test_export import many, spoil

Headers = dict[str, str]
TYPES = {ending: format.mimetype for ending, format in FORMATS.items()}
KINDS = ("incidents", "warnings", "patrols")


@pytest.fixture
def officer(session: Session) -> SignedIn:
    make_lists(session)
    return make_signed_in(session)


@pytest.fixture
def seen(session: Session, officer: SignedIn) -> Incident:
    """An incident with a warning, on a patrol."""
    out = make_patrol(session, officer)
    told = make_incident(session, out, officer, vendor={"name": "某摊主", "phone": "19900001234"})
    make_warning(session, told, officer)
    journal.record(session, [Change("incident", str(told.id), ["incident"], new=True)], now=NOW)
    session.commit()
    return told


@pytest.fixture
def headers(session: Session, officer: SignedIn, seen: Incident, bearer: Callable[..., Headers]) -> Headers:
    return bearer(officer)


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_is_a_file_with_a_name_a_day_a_length_and_a_tag(
    client: FlaskClient, headers: Headers, kind: str
) -> None:
    day = dt.datetime.now(LOCAL_ZONE).date()
    for ending, mimetype in TYPES.items():
        with client.get(f"/api/v1/exports/{kind}.{ending}", headers=headers) as answer:
            assert (answer.status_code, answer.mimetype) == (200, mimetype)
            assert answer.headers["Content-Disposition"] == f'attachment; filename="{kind}-{day}.{ending}"'
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cache-Control"] == "private, no-cache"
            assert answer.content_length == len(answer.get_data()) > 0
        told = client.head(f"/api/v1/exports/{kind}.{ending}", headers=headers)
        assert (told.status_code, told.headers["ETag"]) == (200, answer.headers["ETag"])
        assert told.headers["X-Next-Cursor"] == answer.headers["X-Next-Cursor"]


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
        features = json.loads(answer.get_data())["features"]
    with client.get("/api/v1/exports/incidents.csv", query_string=query, headers=headers) as answer:
        lines = list(csv.DictReader(io.StringIO(answer.get_data().decode("utf-8-sig"))))
    ids = [record["id"] for record in shown]
    assert [feature["id"] for feature in features] == ids
    assert [line["id"] for line in lines] == ids


def test_row_scope_holds_in_every_format(
    client: FlaskClient, session: Session, seen: Incident, bearer: Callable[..., Headers]
) -> None:
    strangers = [
        make_signed_in(session, username="stranger"),
        make_signed_in(session, username="boss", role="supervisor", townships=(YINONG,)),
    ]
    session.commit()
    for who in strangers:
        for kind, ending in product(KINDS, TYPES):
            with client.get(f"/api/v1/exports/{kind}.{ending}", headers=bearer(who)) as answer:
                assert str(seen.id).encode() not in answer.get_data()
    assert {entry.details["records"] for entry in access_log.entries(session)} == {0}


#: Queries that make no sense.
NONSENSE = [
    *("colour=red", "limit=10", "cursor=x", "bbox=1,2,3", "q=%00", "item=a&item=b", "crs=EPSG:9999", "crs=%00"),
    *("fields=colour", "fields=", "fields=id,,id", f"fields={'a' * 2_001}", "fields=%00", "lang=fr"),
    *("personal=all", "since=x", "since=", "since=%00", f"since={'A' * 401}", "since=" + "A" * 80),
]


def test_what_makes_no_sense_is_refused_by_name(client: FlaskClient, headers: Headers) -> None:
    for ending, query in product(("csv", "gpkg"), NONSENSE):
        answer = client.get(f"/api/v1/exports/incidents.{ending}?{query}", headers=headers)
        assert (answer.status_code, answer.json["code"]) == (400, "query-invalid")
        assert "Content-Disposition" not in answer.headers
        assert answer.json["errors"][0]["pointer"] == "/" + query.split("=")[0]


#: Addresses of files that there are none of, and what of it is wrong.
NO_FILES = [
    *(("incidents.dwg", "/format"), ("incidents.shp", "/format"), ("patrols.%00", "/format")),
    *(("incidents.kml?crs=GCJ-02", "/crs"), ("patrols.geojsonl?crs=EPSG:4549", "/crs")),
    (f"incidents.{'x' * 2_000}", "/format"),
]


def test_an_unknown_format_is_refused_and_told_which_there_are(client: FlaskClient, headers: Headers) -> None:
    for path, pointer in NO_FILES:
        answer = client.get(f"/api/v1/exports/{path}", headers=headers)
        assert (answer.status_code, answer.json["code"]) == (400, "query-invalid")
        assert answer.json["errors"][0]["pointer"] == pointer
    assert client.get("/api/v1/exports/people.csv", headers=headers).status_code == 404


def test_what_fails_is_a_problem_and_leaves_neither_a_file_nor_a_connection_nor_a_line_in_the_log(
    client: FlaskClient, session: Session, officer: SignedIn, bearer: Callable[..., Headers], tmp_path: Path
) -> None:
    made = many(session, officer, make_patrol(session, officer), 3 * columns.CHUNK)
    spoil(session, made[-1])
    session.commit()
    before = set(Path(tempfile.gettempdir()).glob("export-*"))
    for ending in TYPES:
        answer = client.get(f"/api/v1/exports/incidents.{ending}", headers=bearer(officer))
        assert (answer.status_code, answer.json["code"]) == (500, "internal")
    assert open_connections(client.application) == 0
    assert set(Path(tempfile.gettempdir()).glob("export-*")) <= before
    assert list(access_log.entries(session)) == []


def test_who_reads_slowly_holds_no_connection(client: FlaskClient, headers: Headers) -> None:
    with client.get("/api/v1/exports/incidents.gpkg", headers=headers) as answer:
        next(answer.iter_encoded())
        assert open_connections(client.application) == 0
    client.head("/api/v1/exports/incidents.gpkg", headers=headers).close()
    assert open_connections(client.application) == 0


def test_every_export_is_on_record_and_asking_about_one_is_not(
    client: FlaskClient, session: Session, headers: Headers
) -> None:
    path = "/api/v1/exports/incidents.csv?township=330109113&crs=GCJ-02&from_at=2026-01-01T00:00:00Z"
    client.head(path, headers=headers)
    assert list(access_log.entries(session)) == []
    session.rollback()
    with client.get(path, headers=headers) as answer:
        size_bytes = len(answer.get_data())
        etag = answer.headers["ETag"]
    client.get(path, headers=headers | {"If-None-Match": etag})
    (entry,) = access_log.entries(session)
    assert (entry.username, entry.action, entry.entity) == ("officer", "export", "incidents.csv")
    assert (entry.details["records"], entry.details["bytes"], entry.details["crs"]) == (1, size_bytes, "GCJ-02")
    told = {"township": "330109113", "from_at": "2026-01-01T00:00:00Z", "voided": "excluded", "grouped": "once"}
    assert entry.details["selection"] == told


def test_an_unchanged_selection_is_304_until_it_changes(
    client: FlaskClient, session: Session, seen: Incident, headers: Headers
) -> None:
    path = "/api/v1/exports/incidents.gpkg"
    etag = client.head(path, headers=headers).headers["ETag"]
    for method in (client.get, client.head):
        answer = method(path, headers=headers | {"If-None-Match": f'"other", {etag}'})
        assert (answer.status_code, answer.get_data(), answer.headers["ETag"]) == (304, b"", etag)
    assert client.head(f"{path}?lang=zh", headers=headers | {"If-None-Match": etag}).status_code == 200
    journal.record(session, [Change("incident", str(seen.id), ["incident"], new=False)], now=NOW)
    session.commit()
    assert client.head(path, headers=headers | {"If-None-Match": etag}).status_code == 200


def test_changes_follow_from_cursor_to_cursor(
    client: FlaskClient, session: Session, seen: Incident, headers: Headers
) -> None:
    path = "/api/v1/exports/incidents.geojson"

    def ask(since: str) -> tuple[list[str], str]:
        with client.get(path, query_string={"since": since}, headers=headers) as answer:
            features = json.loads(answer.get_data())["features"]
            return [each["properties"]["change"] for each in features], answer.headers["X-Next-Cursor"]

    cursor = client.head(path, headers=headers).headers["X-Next-Cursor"]
    assert ask(cursor) == ([], cursor)
    seen.voided_at = NOW
    journal.record(session, [Change("incident", str(seen.id), ["incident"], new=False)], now=NOW)
    session.commit()
    told, following = ask(cursor)
    assert told == ["delete"]
    assert ask(following) == ([], following)


def test_a_cursor_of_somebody_else_has_expired(
    client: FlaskClient, session: Session, headers: Headers, bearer: Callable[..., Headers]
) -> None:
    cursor = client.head("/api/v1/exports/incidents.csv", headers=headers).headers["X-Next-Cursor"]
    other = make_signed_in(session, username="other")
    session.commit()
    answer = client.get(f"/api/v1/exports/incidents.csv?since={cursor}", headers=bearer(other))
    assert (answer.status_code, answer.json["code"]) == (410, "cursor-expired")


def test_personal_data_are_masked_for_everybody_and_in_full_for_those_who_decide(
    client: FlaskClient, session: Session, seen: Incident, bearer: Callable[..., Headers]
) -> None:
    everybody = [make_signed_in(session, username=f"a-{role}", role=role) for role in ROLES]
    session.commit()
    path = "/api/v1/exports/incidents.csv"
    for who in everybody:
        with client.get(path, headers=bearer(who)) as answer:
            assert answer.status_code == 200
            assert b"19900001234" not in answer.get_data()
        with client.get(f"{path}?personal=full", headers=bearer(who)) as answer:
            assert answer.status_code == (200 if who.role in REVIEW_ROLES else 403)
            assert (b"19900001234" in answer.get_data()) == (who.role in REVIEW_ROLES)


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_without_a_token_may(client: FlaskClient, kind: str) -> None:
    assert client.get(f"/api/v1/exports/{kind}.csv").status_code == 401
    assert client.head(f"/api/v1/exports/{kind}.dwg").status_code == 401


def open_connections(app: Flask) -> int:
    """How many connections of the app are in use."""
    with app.app_context():
        return db.engine.pool.checkedout()  # type: ignore[attr-defined]
