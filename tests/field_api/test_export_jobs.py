"""Files that take long: asked for, written behind the requests by any process, fetched in pieces, gone in time."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from field_api.storage import store
from sync import access_log, inventory, jobs
from sync.models import Account, ExportJob, Posting, SignedIn, begin_write
from tests.builders import YINONG, make_lists, make_signed_in
from tests.sync.records import make_incident, make_patrol

Headers = dict[str, str]
JOBS = "/api/v1/exports/jobs"
NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def boss(session: Session) -> SignedIn:
    """A supervisor of a township with three incidents."""
    make_lists(session)
    who = make_signed_in(session, username="boss", role="supervisor")
    out = make_patrol(session, who)
    for _ in range(3):
        make_incident(session, out, who)
    session.commit()
    return who


@pytest.fixture
def working(make_app: Callable[..., Flask]) -> FlaskClient:
    """Asks an app that writes files behind its requests."""
    return make_app(export_every_s=1).test_client()


def ask(client: FlaskClient, headers: Headers, **asked: Any) -> Any:
    return client.post(JOBS, json={"what": "incidents", "format": "gpkg"} | asked, headers=headers)


def wait_for(client: FlaskClient, headers: Headers, address: str) -> dict[str, Any]:
    for _ in range(200):
        told: dict[str, Any] = client.get(address, headers=headers).json
        if told["state"] in ("ready", "failed"):
            return told
        time.sleep(0.1)
    raise AssertionError(told)


def test_a_file_is_asked_for_written_and_fetched_in_pieces(
    working: FlaskClient, session: Session, boss: SignedIn, bearer: Callable[..., Headers]
) -> None:
    headers = bearer(boss)
    answer = ask(working, headers, query={"lang": "zh", "township": "330109113"})
    assert (answer.status_code, answer.json["state"], answer.json["bytes"]) == (202, "waiting", None)
    address = answer.headers["Location"]
    assert working.get(f"{address}/file", headers=headers).status_code == 404
    told = wait_for(working, headers, address)
    assert (told["state"], told["records"], told["total"], told["problem"]) == ("ready", 3, 3, None)
    with working.get(f"{address}/file", headers=headers) as answer:
        whole, etag = answer.get_data(), answer.headers["ETag"]
        assert (answer.status_code, answer.content_length) == (200, told["bytes"])
        assert answer.mimetype == "application/geopackage+sqlite3"
    pieces = []
    for start in range(0, len(whole), 50_000):
        piece = {"Range": f"bytes={start}-{start + 49_999}", "If-Range": etag}
        with working.get(f"{address}/file", headers=headers | piece) as answer:
            assert answer.status_code == 206
            pieces.append(answer.get_data())
    assert b"".join(pieces) == whole
    with working.get(f"{address}/file", headers=headers | {"Range": "bytes=5-", "If-Range": '"other"'}) as answer:
        assert (answer.status_code, len(answer.get_data())) == (200, len(whole))
    assert working.get(f"{address}/file", headers=headers | {"Range": f"bytes={len(whole)}-"}).status_code == 416
    assert working.get(f"{address}/file", headers=headers | {"If-None-Match": etag}).status_code == 304
    entries = list(access_log.entries(session))
    assert {(entry.entity, entry.details["records"]) for entry in entries} == {("incident.gpkg", 3)}


def test_only_its_owner_sees_it_and_only_as_long_as_what_they_see_is_the_same(
    working: FlaskClient, session: Session, boss: SignedIn, bearer: Callable[..., Headers]
) -> None:
    reviewer = make_signed_in(session, username="reviewer", role="reviewer")
    session.commit()
    headers = bearer(boss)
    address = ask(working, headers).headers["Location"]
    wait_for(working, headers, address)
    for path in (address, f"{address}/file"):
        assert working.get(path, headers=bearer(reviewer)).status_code == 404
        assert working.get(path).status_code == 401
    begin_write(session)
    session.query(Posting).filter(Posting.account_id == boss.account_id).update({"township_code": YINONG})
    session.commit()
    assert working.get(f"{address}/file", headers=headers).status_code == 404


def test_what_is_asked_for_in_vain_is_refused_at_once(
    client: FlaskClient, boss: SignedIn, bearer: Callable[..., Headers]
) -> None:
    headers = bearer(boss)
    for asked, status, code in (
        ({"what": "people"}, 422, "envelope-invalid"),
        ({"format": "dwg"}, 422, "envelope-invalid"),
        ({"colour": "red"}, 422, "envelope-invalid"),
        ({"query": {"crs": "EPSG:1"}}, 400, "query-invalid"),
        ({"query": {"colour": "red"}}, 400, "query-invalid"),
        ({"query": {"fields": "colour"}}, 400, "query-invalid"),
        ({"query": {"q": "\0"}}, 400, "query-invalid"),
        ({"query": {"q": 5}}, 422, "envelope-invalid"),
        ({"query": {"since": "x"}}, 400, "query-invalid"),
        ({"format": "kml", "query": {"crs": "GCJ-02"}}, 400, "query-invalid"),
    ):
        answer = ask(client, headers, **asked)
        assert (answer.status_code, answer.json["code"]) == (status, code), asked
    assert client.post(JOBS, data=b"{" * 20_000, headers=headers).status_code == 413
    assert client.post(JOBS, data=b"\xff", headers=headers).status_code == 400
    for nothing in (uuid.uuid4(), "nonsense"):
        assert client.get(f"{JOBS}/{nothing}", headers=headers).status_code == 404


def test_an_account_may_have_five_waiting(client: FlaskClient, boss: SignedIn, bearer: Callable[..., Headers]) -> None:
    headers = bearer(boss)
    for _ in range(jobs.MOST_WAITING):
        assert ask(client, headers).status_code == 202
    answer = ask(client, headers)
    assert (answer.status_code, answer.json["code"]) == (429, "exports-waiting")


# ---------------------------------------------------------------- claims


@pytest.fixture
def job(session: Session, boss: SignedIn) -> uuid.UUID:
    begin_write(session)
    until = NOW + dt.timedelta(days=1)
    id = jobs.begin(session, boss, "incident", "csv", {}, until=until, now=NOW)
    session.commit()
    return id


def test_one_process_writes_a_job_and_another_takes_over_from_a_dead_one(session: Session, job: uuid.UUID) -> None:
    begin_write(session)
    first = jobs.claim(session, now=NOW)
    assert first is not None
    assert first.id == job
    assert jobs.claim(session, now=NOW) is None
    assert jobs.go_on(session, first, now=NOW + jobs.CLAIM_HOLDS, records=5, total=10)
    later = NOW + 2 * jobs.CLAIM_HOLDS + dt.timedelta(seconds=1)
    second = jobs.claim(session, now=later)
    assert second is not None
    assert jobs.key_of(first) != jobs.key_of(second)
    assert not jobs.go_on(session, first, now=later, records=6)
    assert not jobs.finish(session, first, now=later, records=6, size_bytes=1, scope=b"")
    assert jobs.finish(session, second, now=later, records=10, size_bytes=1, scope=b"")


def test_a_job_that_takes_processes_with_it_fails_in_the_end(session: Session, boss: SignedIn, job: uuid.UUID) -> None:
    begin_write(session)
    now = NOW
    for _ in range(jobs.MOST_CLAIMS):
        assert jobs.claim(session, now=now) is not None
        now += jobs.CLAIM_HOLDS + dt.timedelta(seconds=1)
    assert jobs.claim(session, now=now) is None
    jobs.give_up(session, now=now)
    told = jobs.told(jobs.one(session, boss, job, now=now))
    assert (told["state"], told["problem"]) == ("failed", "internal")


def test_a_job_of_a_disabled_account_fails(
    working: FlaskClient, session: Session, boss: SignedIn, job: uuid.UUID, bearer: Callable[..., Headers]
) -> None:
    begin_write(session)
    session.query(Account).filter(Account.id == boss.account_id).update({"disabled_at": NOW})
    session.commit()
    working.get("/health")
    for _ in range(200):
        session.rollback()
        if session.get_one(ExportJob, job, populate_existing=True).ended_at:
            break
        time.sleep(0.1)
    assert session.get_one(ExportJob, job, populate_existing=True).failed == "account-disabled"


def test_what_has_expired_is_gone_with_its_file(
    working: FlaskClient, session: Session, boss: SignedIn, bearer: Callable[..., Headers]
) -> None:
    headers = bearer(boss)
    address = ask(working, headers, format="csv").headers["Location"]
    wait_for(working, headers, address)
    key = session.query(ExportJob.key).scalar()
    session.rollback()
    with working.application.app_context():
        kept = store()
    assert [page.found for page in inventory.check_bytes(session, kept, now=NOW)] == [[]]
    begin_write(session)
    session.query(ExportJob).update({"expires_at": NOW})
    session.commit()
    assert working.get(address, headers=headers).status_code == 404
    for _ in range(100):
        if not kept.has(key):
            break
        time.sleep(0.1)
    assert not kept.has(key)
    session.rollback()
    assert session.query(ExportJob).count() == 0
