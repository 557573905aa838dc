"""Pages of the origins that are named may call the API from a browser; to any other nothing is said."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from field_api.settings import Settings, SettingsInvalid
from tests.field_api.conftest import SECRET

DESK = "https://desk.example"
#: As Uppy's browser asks before it begins an upload.
UPPY = (
    "authorization,content-type,tus-resumable,upload-checksum,upload-concat,upload-defer-length,upload-length,"
    "upload-metadata,upload-offset,x-http-method-override,x-request-id"
)
OURS = "accept-language,content-digest,content-encoding,idempotency-key"
READ = (
    "Location Tus-Resumable Tus-Version Tus-Extension Tus-Max-Size Upload-Offset Upload-Length Upload-Metadata "
    "Upload-Expires Retry-After ETag Date X-Request-Id"
)
UPLOADS = "/api/v1/uploads"


@pytest.fixture
def desk(make_app: Callable[..., Flask]) -> FlaskClient:
    return make_app(cors_origins=f"{DESK}  http://localhost:5173").test_client()


def words(header: str | None) -> set[str]:
    return {word.strip().lower() for word in (header or "").split(",")}


@pytest.mark.parametrize("origin", [DESK, "http://localhost:5173"])
@pytest.mark.parametrize(
    ("path", "method"),
    [
        (UPLOADS, "POST"),
        (f"{UPLOADS}/{'0' * 64}", "PATCH"),
        (f"{UPLOADS}/{'0' * 64}", "HEAD"),
        (f"{UPLOADS}/{'0' * 64}", "PUT"),
        ("/api/v1/sync/batches", "POST"),
        ("/api/v1/incidents", "GET"),
        ("/api/v1/auth/login", "POST"),
    ],
)
def test_a_browser_that_asks_first_is_let_in_without_a_token(
    desk: FlaskClient, path: str, method: str, origin: str
) -> None:
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": UPPY}
    answer = desk.options(path, headers={"Origin": origin, **asked})
    assert answer.status_code in (200, 204)
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert method.lower() in words(answer.headers["Access-Control-Allow-Methods"])
    assert words(answer.headers["Access-Control-Allow-Headers"]) >= words(UPPY) | words(OURS)
    assert int(answer.headers["Access-Control-Max-Age"]) > 0
    assert "Origin" in answer.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    ("path", "status"), [("/health", 200), ("/api/v1/incidents", 401), ("/nowhere", 404), ("/api/v1/uploads", 405)]
)
def test_every_answer_can_be_read_errors_too(desk: FlaskClient, path: str, status: int) -> None:
    answer = desk.get(path, headers={"Origin": DESK})
    assert answer.status_code == status
    assert answer.headers["Access-Control-Allow-Origin"] == DESK
    assert words(answer.headers["Access-Control-Expose-Headers"]) >= {word.lower() for word in READ.split()}
    assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize(
    "origin", ["https://desk.example.evil.example", "https://desk.example:8443", "http://desk.example", "null", "*", ""]
)
def test_other_origins_are_told_nothing(desk: FlaskClient, origin: str) -> None:
    for answer in (desk.options(UPLOADS, headers={"Origin": origin}), desk.get("/health", headers={"Origin": origin})):
        assert "Access-Control" not in str(answer.headers)
        assert "Origin" in answer.headers["Vary"]


def test_without_origins_in_the_settings_nobody_is_told_anything(client: FlaskClient) -> None:
    answer = client.get("/health", headers={"Origin": DESK})
    assert "Access-Control" not in str(answer.headers)
    assert "Vary" not in answer.headers


@pytest.mark.parametrize(
    "origins", ["", DESK, f"{DESK} http://127.0.0.1:8080", "http://[::1]:3000", "capacitor://localhost"]
)
def test_origins_are_taken_from_the_settings(origins: str) -> None:
    assert Settings(secret=SECRET, cors_origins=origins).origins == set(origins.split())


@pytest.mark.parametrize(
    "origins",
    [
        "*",
        "null",
        "desk.example",
        "https://desk.example/",
        "https://desk.example/app",
        "https://*.example",
        "https://Desk.example",
        "https://desk.example,https://other.example",
        "https://a@desk.example",
        "https://desk.example:port",
        "https://",
        f"{DESK} *",
    ],
)
def test_what_is_no_origin_stops_the_start(origins: str) -> None:
    with pytest.raises(SettingsInvalid, match="FIELD_API_CORS_ORIGINS"):
        Settings(secret=SECRET, cors_origins=origins)
