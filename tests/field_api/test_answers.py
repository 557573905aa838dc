"""What every answer has in common, and how whatever goes wrong is told."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, abort
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from field_api import answers
from field_api.database import db
from sync import problems
from sync.models import Department, begin_write
from sync.problems import Problem


def leaves(kind: type[Problem]) -> list[type[Problem]]:
    below = [leaf for child in kind.__subclasses__() for leaf in leaves(child)]
    return below or [kind]


#: As in PROTOCOL.md: a phone acts upon the status first.
STATUS_BY_CODE = {
    "malformed": 400,
    "body-truncated": 400,
    "digest-mismatch": 400,
    "unsupported-media-type": 415,
    "batch-too-large": 413,
    "envelope-invalid": 422,
    "token-invalid": 401,
    "bad-credentials": 401,
    "sign-in-throttled": 429,
    "account-disabled": 403,
    "install-revoked": 403,
    "forbidden": 403,
    "not-found": 404,
    "account-invalid": 422,
    "query-invalid": 400,
    "photo-digest-mismatch": 422,
    "photo-too-large": 413,
    "photo-invalid": 400,
    "photo-quota": 429,
    "photo-kept": 403,
    "photo-not-shown": 422,
    "tus-version": 412,
    "upload-invalid": 400,
    "upload-offset": 409,
    "upload-busy": 423,
    "cursor-expired": 410,
    "permit-invalid": 401,
    "decided-meanwhile": 409,
    "decision-invalid": 422,
    "idempotency-key-reused": 422,
    "checksum-mismatch": 460,
    "reference-invalid": 422,
    "export-too-large": 422,
    "exports-waiting": 429,
    "format-not-installed": 404,
    "too-many-tokens": 422,
    "not-ready": 503,
    "internal": 500,
    "method-not-allowed": 405,
    "body-too-large": 413,
    "request-refused": 400,
}


def test_every_problem_has_the_status_that_phones_expect() -> None:
    assert {leaf.code: answers.status_of(leaf) for leaf in leaves(Problem)} == STATUS_BY_CODE
    assert answers.status_of(problems.Busy) == 503


def failing(app: Flask, error: Callable[[], Exception]) -> FlaskClient:
    """Asks an app whose `/fail` writes a row, does not commit, and raises."""

    def fail() -> str:
        begin_write(db.session())
        db.session.add(Department(code=uuid.uuid4().hex, name="half done"))
        db.session.flush()
        raise error()

    app.add_url_rule("/fail", view_func=fail)
    return app.test_client()


def test_a_problem_is_told_with_its_code_figures_and_request_id(make_app: Callable[..., Flask]) -> None:
    client = failing(make_app(), lambda: problems.BatchTooLarge("1,001 operations", most=1000))
    answer = client.get("/fail", headers={"X-Request-Id": "gateway-17"})
    assert answer.status_code == 413
    assert answer.mimetype == "application/problem+json"
    assert answer.json == {
        "type": "urn:field-api:batch-too-large",
        "title": "The batch is too large; send half of it",
        "status": 413,
        "code": "batch-too-large",
        "detail": "1,001 operations",
        "request_id": "gateway-17",
        "most": 1000,
    }


@pytest.mark.parametrize(
    ("accepted", "language"),
    [("zh", "zh"), ("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("en, zh;q=0.5", "en"), ("fr", "en"), ("", "en")],
)
def test_the_title_is_chinese_for_who_reads_chinese(client: FlaskClient, accepted: str, language: str) -> None:
    answer = client.get("/nowhere", headers={"Accept-Language": accepted})
    assert answer.json is not None
    assert answer.json["title"] == problems.NotFound.title[language == "zh"]
    assert answer.headers["Content-Language"] == language


@pytest.mark.parametrize("given", ["", "a" * 65, "with space", 'quo"te', "<script>", "ünï"])
def test_a_request_id_that_is_not_sane_is_replaced(client: FlaskClient, given: str) -> None:
    answer = client.get("/health", environ_overrides={"HTTP_X_REQUEST_ID": given})
    assert uuid.UUID(answer.headers["X-Request-Id"])


@pytest.mark.parametrize("path", ["/health", "/nowhere", "/api/openapi.json", "/api/docs"])
def test_every_answer_carries_the_headers_that_keep_it_harmless(client: FlaskClient, path: str) -> None:
    with client.get(path) as answer:
        headers = answer.headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] in {"no-store", "no-cache"}


def test_a_method_that_an_address_does_not_take_is_told_with_those_it_takes(client: FlaskClient) -> None:
    answer = client.delete("/health")
    assert answer.status_code == 405
    assert answer.json is not None
    assert answer.json["code"] == "method-not-allowed"
    assert "GET" in answer.headers["Allow"]


def test_a_refusal_without_a_code_of_its_own_keeps_its_status(make_app: Callable[..., Flask]) -> None:
    app = make_app()
    app.add_url_rule("/teapot", view_func=lambda: abort(418))
    answer = app.test_client().get("/teapot")
    assert answer.status_code == 418
    assert answer.json is not None
    assert (answer.json["code"], answer.json["status"]) == ("request-refused", 418)


def test_a_bug_is_logged_once_with_the_requests_id_and_shows_nothing_of_itself(
    make_app: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    client = failing(make_app(), lambda: KeyError("password of wang"))
    answer = client.get("/fail", headers={"X-Request-Id": "r1"})
    assert answer.status_code == 500
    assert answer.json is not None
    assert answer.json["code"] == "internal"
    assert b"password" not in answer.data
    bugs = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(bugs) == 1
    assert "r1" in bugs[0].getMessage()
    assert bugs[0].exc_info is not None


@pytest.mark.parametrize("error", [problems.NotFound, lambda: KeyError("x")])
def test_whatever_goes_wrong_nothing_half_done_is_kept(
    make_app: Callable[..., Flask], session: Session, error: Callable[[], Exception]
) -> None:
    failing(make_app(), error).get("/fail")
    begin_write(session)  # would wait in vain for a lock that was left behind
    assert session.query(Department).count() == 0


def test_a_view_that_forgets_to_commit_leaves_no_lock_and_no_row(
    make_app: Callable[..., Flask], session: Session
) -> None:
    app = make_app()

    def forget() -> str:
        begin_write(db.session())
        db.session.add(Department(code="x", name="forgotten"))
        db.session.flush()
        return ""

    app.add_url_rule("/forget", view_func=forget)
    assert app.test_client().get("/forget").status_code == 200
    begin_write(session)
    assert session.query(Department).count() == 0


def test_without_a_free_connection_the_answer_is_to_ask_again(make_app: Callable[..., Flask]) -> None:
    app = make_app(database_connections=1, database_wait_s=1)
    with app.app_context(), db.engine.connect():
        answer = app.test_client().get("/ready")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0


def test_a_lock_that_is_not_given_in_time_is_answered_busy(make_app: Callable[..., Flask], session: Session) -> None:
    app = make_app()

    def wait() -> str:
        impatient(db.session())
        begin_write(db.session())
        db.session.execute(text("UPDATE head SET number = number"))
        return ""

    app.add_url_rule("/wait", view_func=wait)
    begin_write(session)
    session.execute(text("UPDATE head SET number = number"))
    answer = app.test_client().get("/wait")
    assert answer.status_code == 503
    assert answer.json is not None
    assert answer.json["code"] == "busy"
    assert answer.headers["Retry-After"] == "5"


def impatient(session: Session) -> None:
    """The session's connection waits for a lock 50 ms only."""
    sqlite = session.get_bind().dialect.name == "sqlite"
    session.execute(text("PRAGMA busy_timeout = 50" if sqlite else "SET lock_timeout = 50"))
    session.commit()


def test_a_statement_that_makes_no_sense_is_a_bug_and_not_busy(make_app: Callable[..., Flask]) -> None:
    app = make_app()
    app.add_url_rule("/nonsense", view_func=lambda: db.session.execute(text("SELECT * FROM nowhere")))
    assert app.test_client().get("/nonsense").status_code == 500


def test_the_apps_connections_are_set_up_like_the_engines(make_app: Callable[..., Flask], engine: Engine) -> None:
    app = make_app()
    with app.app_context(), engine.connect() as plain:
        begin_write(db.session())
        assert settings_of(db.session().connection()) == settings_of(plain)


def settings_of(connection: Any) -> list[Any]:
    if connection.dialect.name == "postgresql":
        return [connection.exec_driver_sql("SHOW transaction_isolation").scalar()]
    pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "wal_autocheckpoint")
    return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]
