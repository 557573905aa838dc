"""`/health` and `/ready`, and that the server does not start without what it needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from field_api.database import db
from field_api.settings import Settings, SettingsInvalid
from tests.field_api.conftest import SECRET


def test_a_server_with_its_tables_and_its_store_is_ready(client: FlaskClient) -> None:
    assert client.get("/health").json == {"status": "ok"}
    assert client.get("/ready").json == {"status": "ok"}


def test_a_server_whose_database_is_away_is_alive_but_not_ready(
    make_app: Callable[..., Flask], unreachable: str
) -> None:
    client = make_app(database_url=unreachable).test_client()
    assert client.get("/health").status_code == 200
    assert failed_parts(client) == {"database"}


@pytest.fixture(params=["postgresql://nobody@127.0.0.1:1/none", "sqlite:///{}/none.sqlite"])
def unreachable(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A PostgreSQL that does not answer; a SQLite file without tables."""
    return str(request.param).format(tmp_path)


def test_a_server_whose_tables_are_of_another_version_is_not_ready(make_app: Callable[..., Flask]) -> None:
    app = make_app()
    with app.app_context(), db.engine.begin() as connection:
        version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    write_version(app, "0000")
    try:
        assert failed_parts(app.test_client()) == {"database"}
    finally:
        write_version(app, version)


def write_version(app: Flask, version: str | None) -> None:
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})


def test_a_server_whose_store_is_gone_is_not_ready(make_app: Callable[..., Flask], tmp_path: Path) -> None:
    client = make_app().test_client()
    (tmp_path / "photos").rmdir()
    assert failed_parts(client) == {"store"}


def failed_parts(client: FlaskClient) -> set[str]:
    answer = client.get("/ready")
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers
    assert answer.json is not None
    assert answer.json["code"] == "not-ready"
    return {name for name, state in answer.json["parts"].items() if state == "failed"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"FIELD_API_SECRET": ""},
        {"FIELD_API_SECRET": "short"},
        {"FIELD_API_SECRET": SECRET, "FIELD_API_BATCH_MAX_OPS": "many"},
        {"FIELD_API_SECRET": SECRET, "FIELD_API_PHOTO_MAX_BYTES": "0"},
        {"FIELD_API_SECRET": SECRET, "FIELD_API_TRUSTED_PROXIES": "-1"},
        {"FIELD_API_SECRET": SECRET, "FIELD_API_UPLOAD_EXPIRES_S": "1000000000000"},
    ],
    ids=str,
)
def test_the_server_refuses_to_start_and_names_the_variable(environment: dict[str, str]) -> None:
    with pytest.raises(SettingsInvalid, match="FIELD_API_"):
        Settings.from_environment(environment)


def test_what_the_environment_says_is_what_counts() -> None:
    environment: dict[str, Any] = {
        "FIELD_API_SECRET": SECRET,
        "DATABASE_URL": "postgresql://db/field",
        "FIELD_API_STORE_FOLDER": "/srv/photos",
        "FIELD_API_BATCH_MAX_OPS": "7",
        "FIELD_API_PHOTO_MAX_BYTES": "",
        "PATH": "/bin",
    }
    assert Settings.from_environment(environment) == Settings(
        secret=SECRET, database_url="postgresql://db/field", store_folder=Path("/srv/photos"), batch_max_ops=7
    )


def test_the_secret_is_not_shown_when_settings_are_printed() -> None:
    assert SECRET not in repr(Settings(secret=SECRET))
