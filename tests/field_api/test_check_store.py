"""A server that keeps its photos in a folder or in a bucket: sending, showing it is ready, `flask check-store`."""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from field_api.settings import SettingsInvalid
from field_api.storage import store
from sync.models import SignedIn, Upload, UploadPart, begin_write
from sync.store import Store, part_key, photo_key
from tests import seaweed
from tests.builders import make_signed_in, make_townships

BYTES = b"a photo"
SHA256 = hashlib.sha256(BYTES).hexdigest()
URL = f"/api/v1/uploads/{SHA256}"
PART = "0" * 32
LONG_AGO = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

Headers = dict[str, str]


@pytest.fixture(params=["folder", "bucket"])
def app(request: pytest.FixtureRequest, make_app: Callable[..., Flask]) -> Flask:
    if request.param == "folder":
        return make_app()
    s3: seaweed.Server = request.getfixturevalue("s3")
    return make_app(**s3.settings(uuid.uuid4().hex))


@pytest.fixture
def kept(app: Flask) -> Store:
    with app.app_context():
        return store()


@pytest.fixture
def officer(session: Session) -> SignedIn:
    begin_write(session)
    make_townships(session)
    who = make_signed_in(session)
    session.commit()
    return who


@pytest.fixture
def headers(officer: SignedIn, bearer: Callable[..., Headers]) -> Headers:
    return bearer(officer)


def check_store(app: Flask, *options: str) -> Result:
    return app.test_cli_runner().invoke(args=["check-store", *options])


def keys(kept: Store) -> set[str]:
    return {stored.key for stored in kept.everything()}


def keep(kept: Store, key: str, data: bytes) -> None:
    with kept.incoming() as file:
        file.write(data)
        kept.keep(file, key)


def test_a_photo_that_was_sent_is_kept_and_found_in_order(app: Flask, kept: Store, headers: Headers) -> None:
    assert app.test_client().put(URL, data=BYTES, headers=headers).status_code == 200
    assert keys(kept) == {photo_key(SHA256)}
    result = check_store(app)
    assert (result.exit_code, result.stdout) == (0, "Nothing is out of order.\n")
    assert "1 of 1 photos" in result.stderr


def test_bytes_that_are_not_the_photo_are_told_with_exit_status_1(app: Flask, kept: Store, headers: Headers) -> None:
    keep(kept, photo_key(SHA256), b"oops")
    assert app.test_client().put(URL, data=BYTES, headers=headers).status_code == 200
    result = check_store(app)
    assert (result.exit_code, result.stdout) == (1, f"changed: {photo_key(SHA256)}\n1 changed\n")
    assert "photos missing or wrong: 1" in result.stderr


def test_bytes_that_no_row_knows_are_told_with_exit_status_0(app: Flask, kept: Store) -> None:
    keep(kept, photo_key(SHA256), BYTES)
    result = check_store(app)
    assert (result.exit_code, result.stdout) == (0, f"new orphan: {photo_key(SHA256)}\n1 new orphan\n")
    assert keys(kept) == {photo_key(SHA256)}


def test_an_expired_upload_is_removed_with_its_parts(
    app: Flask, kept: Store, session: Session, officer: SignedIn
) -> None:
    keep(kept, part_key(PART), b"part")
    begin_write(session)
    upload = {"officer_id": officer.account_id, "name": SHA256}
    session.execute(insert(Upload).values(**upload, offset_bytes=4, created_at=LONG_AGO, expires_at=LONG_AGO))
    session.execute(insert(UploadPart).values(**upload, from_byte=0, size_bytes=4, key=PART))
    session.commit()
    result = check_store(app)
    assert (result.exit_code, result.stdout) == (0, "Nothing is out of order.\n")
    assert "expired uploads removed: 1" in result.stderr
    assert (keys(kept), session.scalars(select(Upload)).all()) == (set(), [])


@pytest.mark.parametrize(("options", "told"), [((), 200), (("--ask-again",), 404)])
def test_phones_are_asked_for_a_photo_that_is_gone_only_if_the_operator_says_so(
    make_app: Callable[..., Flask], tmp_path: Path, headers: Headers, options: tuple[str, ...], told: int
) -> None:
    app = make_app()
    client, tus = app.test_client(), headers | {"Tus-Resumable": "1.0.0"}
    assert client.put(URL, data=BYTES, headers=headers).status_code == 200
    (tmp_path / "photos" / photo_key(SHA256)).unlink()
    result = check_store(app, *options)
    assert (result.exit_code, result.stdout) == (1, f"missing: {photo_key(SHA256)}\n1 missing\n")
    assert client.head(URL, headers=tus).status_code == told
    assert client.put(URL, data=BYTES, headers=headers).status_code == 200
    assert check_store(app).exit_code == 0


def test_a_server_whose_store_works_is_ready_again_and_again(app: Flask) -> None:
    client = app.test_client()
    assert [client.get("/ready").status_code for _ in range(3)] == [200] * 3


# ---------------------------------------------------------------- a bucket that is not what was said

WRONG: dict[str, dict[str, Any]] = {
    "secret": {"s3_secret": "wrong"},
    "bucket": {"store_url": "s3://none"},
    "address": {"s3_endpoint_url": "http://127.0.0.1:1"},
}


@pytest.fixture(params=WRONG)
def misled(request: pytest.FixtureRequest, make_app: Callable[..., Flask], s3: seaweed.Server) -> Flask:
    """A server whose bucket is not to be reached like this."""
    return make_app(**s3.settings("misled") | WRONG[request.param])


def test_a_server_without_its_bucket_is_alive_but_not_ready(misled: Flask) -> None:
    client = misled.test_client()
    assert client.get("/health").status_code == 200
    answer = client.get("/ready")
    assert (answer.status_code, answer.get_json()["parts"]) == (503, {"database": "ok", "store": "failed"})


def test_a_phone_is_told_to_send_again_when_the_bucket_is_away(misled: Flask, headers: Headers) -> None:
    answer = misled.test_client().put(URL, data=BYTES, headers=headers)
    assert (answer.status_code, answer.get_json()["code"]) == (503, "busy")
    assert "Retry-After" in answer.headers


def test_an_operator_is_told_in_one_line_that_the_bucket_is_away(misled: Flask) -> None:
    result = check_store(misled)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Error: busy: the store of photos can't be reached" in result.stderr


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"store_url": "photos"}, "STORE_URL"),
        ({"store_url": "https://s3.example/photos"}, "STORE_URL"),
        ({"store_url": "s3:///prefix"}, "STORE_URL"),
        ({"s3_key_id": ""}, "AWS_ACCESS_KEY_ID"),
        ({"s3_secret": ""}, "AWS_SECRET_ACCESS_KEY"),
        ({"s3_endpoint_url": "s3.example:9000"}, "AWS_ENDPOINT_URL"),
    ],
    ids=str,
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_server_that_can_have_no_such_bucket_does_not_start_and_names_the_variable(
    make_app: Callable[..., Flask], settings: dict[str, str], named: str
) -> None:
    right = seaweed.Server("http://s3.example").settings("photos")
    make_app(**right)
    with pytest.raises(SettingsInvalid, match=named) as refused:
        make_app(**right | settings)
    assert seaweed.SECRET not in str(refused.value)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_server_with_a_bucket_makes_no_folder_of_photos(
    make_app: Callable[..., Flask], s3: seaweed.Server, tmp_path: Path
) -> None:
    client: FlaskClient = make_app(**s3.settings("ready")).test_client()
    assert client.get("/ready").status_code == 200
    assert not (tmp_path / "photos").exists()
