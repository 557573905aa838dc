"""Photos through the door: who sees which size of which, one answer for all else, and who took out an original."""

from __future__ import annotations

import base64
import csv
import datetime as dt
import hashlib
import io
import tracemalloc
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from sqlalchemy import select, update
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from sync import darkroom, photos
from sync.models import AccessEntry, PhotoFacts, SignedIn, begin_write
from sync.pictures import Facts
from sync.store import Folder, photo_key
from tests.builders import YINONG, make_lists, make_signed_in
from tests.journeys.serving import free_port
from tests.sync.records import NOW, make_incident, make_patrol

Headers = dict[str, str]

SIZES = ("thumb", "screen", "original")
ORIENTATION, GPS = 0x0112, 0x8825
#: Which accounts ask, as what, from which township: all but the first have no part in the record.
PEOPLE = {
    "its officer": "officer",
    "another officer": "officer",
    "another auxiliary": "auxiliary",
    "the supervisor": "supervisor",
    "a supervisor elsewhere": "supervisor",
    **{role: role for role in ("reviewer", "gis", "admin", "auditor")},
}
#: What each is answered for a small picture, and for the original.
ANSWERS = {
    "its officer": (200, 403),
    "another officer": (404, 403),
    "another auxiliary": (404, 403),
    "the supervisor": (200, 200),
    "a supervisor elsewhere": (404, 404),
    "reviewer": (200, 200),
    "gis": (200, 403),
    "admin": (200, 403),
    "auditor": (200, 403),
}


def drawn(size: tuple[int, int] = (1600, 1200), exif: Image.Exif | None = None) -> bytes:
    """A JPEG that is red above and blue below."""
    picture, file = Image.new("RGB", size, "blue"), io.BytesIO()
    picture.paste("red", (0, 0, size[0], size[1] // 2))
    picture.save(file, "JPEG", exif=exif or Image.Exif())
    return file.getvalue()


PHOTO = drawn()


@pytest.fixture
def officer(session: Session) -> SignedIn:
    make_lists(session)
    who = make_signed_in(session)
    session.commit()
    return who


@pytest.fixture
def store(tmp_path: Path) -> Folder:
    """The store of the app."""
    return Folder(tmp_path / "photos")


@pytest.fixture
def sent(session: Session, store: Folder) -> Callable[..., str]:
    """The SHA-256 of a photo that somebody sent."""

    def send(who: SignedIn, content: bytes = PHOTO) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        photos.receive(store, sha256, [content])
        session.rollback()
        begin_write(session)
        photos.arrive(session, who, sha256, len(content), now=NOW)
        session.commit()
        return sha256

    return send


@pytest.fixture
def shown(session: Session, officer: SignedIn, sent: Callable[..., str]) -> Callable[..., str]:
    """The SHA-256 of a photo that the officer sent for an incident in 瓜沥镇."""

    def show(content: bytes = PHOTO) -> str:
        cite(session, officer, hashlib.sha256(content).hexdigest())
        return sent(officer, content)

    return show


def cite(session: Session, who: SignedIn, sha256: str) -> None:
    """A record of this officer says that the photo exists."""
    session.rollback()
    make_incident(session, make_patrol(session, who), who, photos=[sha256])
    session.commit()


@pytest.fixture
def supervisor(session: Session, officer: SignedIn, bearer: Callable[..., Headers]) -> Headers:
    who = make_signed_in(session, username="supervisor", role="supervisor")
    session.commit()
    return bearer(who)


def ask(client: FlaskClient, sha256: str, size: str, headers: Headers, method: str = "GET") -> TestResponse:
    """The answer, read to its end."""
    with client.open(f"/api/v1/photos/{sha256}?size={size}", method=method, headers=headers) as answer:
        answer.get_data()
        return answer


def taken_out(session: Session) -> list[AccessEntry]:
    session.rollback()
    return list(session.scalars(select(AccessEntry).order_by(AccessEntry.id)))


# ---------------------------------------------------------------- who sees what


@pytest.mark.parametrize("person", PEOPLE)
def test_a_photo_is_seen_by_who_sees_a_record_that_cites_it(
    client: FlaskClient,
    session: Session,
    officer: SignedIn,
    shown: Callable[..., str],
    bearer: Callable[..., Headers],
    person: str,
) -> None:
    sha256, who = shown(), officer
    if person != "its officer":
        townships = {"townships": [YINONG]} if person.endswith("elsewhere") else {}
        who = make_signed_in(session, username="asking", role=PEOPLE[person], **townships)
        session.commit()
    small, original = ANSWERS[person]
    headers = bearer(who)
    for method, size in product(("GET", "HEAD"), SIZES):
        answer = ask(client, sha256, size, headers, method)
        assert answer.status_code == (original if size == "original" else small), (method, size)
        assert (answer.get_data() == b"") == (method == "HEAD")
    assert len(taken_out(session)) == (original == 200)


def test_nobody_sees_a_photo_without_a_token(client: FlaskClient, shown: Callable[..., str]) -> None:
    assert {ask(client, shown(), size, {}).status_code for size in SIZES} == {401}


def test_naming_the_photo_of_another_shows_it_to_nobody(
    client: FlaskClient,
    session: Session,
    shown: Callable[..., str],
    sent: Callable[..., str],
    bearer: Callable[..., Headers],
) -> None:
    sha256 = shown()
    other = make_signed_in(session, username="other", townships=[YINONG])
    chief = make_signed_in(session, username="chief", role="supervisor", townships=[YINONG])
    session.commit()
    cite(session, other, sha256)  # its township is that of the first record: only what the officer sees differs
    headers = bearer(other)
    assert [ask(client, sha256, size, headers).status_code for size in SIZES] == [404, 404, 403]
    assert ask(client, sha256, "original", bearer(chief)).status_code == 404
    sent(other)
    assert [ask(client, sha256, size, headers).status_code for size in SIZES] == [200, 200, 403]


def test_all_that_is_not_for_you_is_one_answer(
    client: FlaskClient,
    session: Session,
    officer: SignedIn,
    shown: Callable[..., str],
    sent: Callable[..., str],
    bearer: Callable[..., Headers],
) -> None:
    not_yours, uncited, never_sent = shown(), sent(officer, drawn((40, 30))), "ab" * 32
    stranger = make_signed_in(session, username="stranger", role="supervisor", townships=[YINONG])
    session.commit()
    cite(session, stranger, never_sent)
    headers = bearer(stranger) | {"X-Request-Id": "one"}
    nothing = (
        "0" * 64,
        not_yours.upper(),
        not_yours[:-1],
        not_yours + "0",
        "x",
        "%00",
        "%ff",
        "..",
        "g" * 64,
        "0" * 9999,
    )
    told = set()
    for sha256, size in product((not_yours, uncited, never_sent, *nothing), SIZES):
        answer = ask(client, sha256, size, headers)
        told.add((answer.status_code, str(answer.headers), answer.get_data()))
        again = ask(client, sha256, size, headers | {"If-None-Match": "*"}, "HEAD")
        assert (again.status_code, str(again.headers)) == (404, str(answer.headers)), (sha256, size)
    assert len(told) == 1
    assert taken_out(session) == []


@pytest.mark.parametrize("query", ["size=large", "size=", "size=Thumb", "colour=red"])
def test_a_size_that_there_is_not_is_refused_whatever_the_photo(
    client: FlaskClient, shown: Callable[..., str], supervisor: Headers, query: str
) -> None:
    for sha256 in (shown(), "0" * 64):
        answer = client.get(f"/api/v1/photos/{sha256}?{query}", headers=supervisor)
        assert (answer.status_code, answer.json["code"]) == (400, "query-invalid")


# ---------------------------------------------------------------- small pictures


def test_a_small_picture_is_upright_and_says_nothing_of_where_it_was_taken(
    client: FlaskClient, shown: Callable[..., str], supervisor: Headers
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # the camera was held upright: what is shown is turned a quarter to the right
    exif[GPS] = {1: "N", 2: (30.0, 10.0, 0.0), 3: "E", 4: (120.0, 27.0, 0.0)}
    sha256 = shown(drawn((1600, 1200), exif))
    for size, shape in (("thumb", (240, 320)), ("screen", (960, 1280))):
        answer = ask(client, sha256, size, supervisor)
        picture = Image.open(io.BytesIO(answer.get_data()))
        assert (answer.mimetype, picture.format, picture.size) == ("image/jpeg", "JPEG", shape)
        assert (dict(picture.getexif()), b"Exif" in answer.get_data()) == ({}, False)
        red, _, blue = picture.convert("RGB").getpixel((shape[0] - 5, shape[1] // 2))  # type: ignore[misc]
        assert red > blue


def test_the_screen_is_what_is_shown_unless_another_size_is_asked_for(
    client: FlaskClient, shown: Callable[..., str], supervisor: Headers
) -> None:
    sha256 = shown()
    asked = client.get(f"/api/v1/photos/{sha256}", headers=supervisor)
    assert asked.get_data() == ask(client, sha256, "screen", supervisor).get_data()


def test_a_small_picture_runs_nothing_and_stays_with_whom_it_was_shown(
    client: FlaskClient, shown: Callable[..., str], supervisor: Headers
) -> None:
    sha256 = shown()
    answer = ask(client, sha256, "thumb", supervisor)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["Content-Length"] == str(len(answer.get_data()))
    assert answer.headers["ETag"] == f'"{sha256}-thumb"'
    assert answer.headers["Cache-Control"] == "private, max-age=3600"
    assert answer.headers["Vary"] == "Authorization"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert (
        ask(client, sha256, "thumb", supervisor, "HEAD").headers["Content-Length"] == answer.headers["Content-Length"]
    )


@pytest.mark.parametrize(
    ("etag", "status"),
    [('"{0}-thumb"', 304), ('W/"{0}-thumb"', 304), ('"x", "{0}-thumb"', 304), ('"{0}-screen"', 200), ('"{0}"', 200)],
)
def test_a_picture_the_browser_has_is_not_sent_again(
    client: FlaskClient, shown: Callable[..., str], supervisor: Headers, etag: str, status: int
) -> None:
    sha256 = shown()
    answer = ask(client, sha256, "thumb", supervisor | {"If-None-Match": etag.format(sha256)})
    assert answer.status_code == status
    assert answer.headers["ETag"] == f'"{sha256}-thumb"'
    assert answer.headers["Cache-Control"] == "private, max-age=3600"
    assert (answer.get_data() == b"", "Content-Type" in answer.headers) == (status == 304, status == 200)


def test_a_picture_is_made_once_and_then_kept(
    client: FlaskClient, store: Folder, tmp_path: Path, shown: Callable[..., str], supervisor: Headers
) -> None:
    sha256 = shown()
    first = ask(client, sha256, "screen", supervisor).get_data()
    (tmp_path / "photos" / photo_key(sha256)).unlink()
    assert ask(client, sha256, "screen", supervisor).get_data() == first


def test_what_no_decoder_likes_is_not_shown_and_its_original_still_is(
    client: FlaskClient, shown: Callable[..., str], supervisor: Headers
) -> None:
    content = b"not a picture, and evidence all the same"
    sha256 = shown(content)
    for size in ("thumb", "screen"):
        answer = ask(client, sha256, size, supervisor)
        assert (answer.status_code, answer.json["code"]) == (422, "photo-not-shown")
    answer = ask(client, sha256, "original", supervisor)
    assert (answer.status_code, answer.get_data()) == (200, content)
    assert answer.headers["Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize("flag", ["too-costly", "undecodable"])
def test_what_a_look_could_not_decode_is_not_tried_again_for_whoever_asks(
    client: FlaskClient, session: Session, shown: Callable[..., str], supervisor: Headers, flag: str
) -> None:
    """It may take seconds each time, or the whole process with it."""
    sha256 = shown()
    session.execute(update(PhotoFacts).values(looked_at=NOW, format="jpeg", flags=[flag, "animated"]))
    session.commit()
    for size in ("thumb", "screen"):
        answer = ask(client, sha256, size, supervisor)
        assert (answer.status_code, answer.json["code"]) == (422, "photo-not-shown")
    assert ask(client, sha256, "original", supervisor).status_code == 200


@pytest.mark.parametrize("size", SIZES)
def test_a_photo_whose_bytes_are_gone_is_not_there_and_the_operator_is_told(
    client: FlaskClient,
    session: Session,
    tmp_path: Path,
    shown: Callable[..., str],
    supervisor: Headers,
    caplog: pytest.LogCaptureFixture,
    size: str,
) -> None:
    sha256 = shown()
    (tmp_path / "photos" / photo_key(sha256)).unlink()
    answer = ask(client, sha256, size, supervisor)
    assert (answer.status_code, answer.json["code"]) == (404, "not-found")
    assert sha256 in caplog.text
    assert taken_out(session) == []


@pytest.mark.parametrize("size", SIZES)
def test_a_store_that_is_away_is_to_be_asked_again(
    session: Session,
    make_app: Callable[..., Flask],
    shown: Callable[..., str],
    supervisor: Headers,
    size: str,
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    away = make_app(store_url="s3://photos", s3_key_id="key", s3_secret="secret", s3_endpoint_url=url)
    answer = ask(away.test_client(), shown(), size, supervisor)
    assert (answer.status_code, answer.json["code"]) == (503, "busy")
    assert int(answer.headers["Retry-After"]) > 0
    assert taken_out(session) == []


# ---------------------------------------------------------------- originals


@pytest.mark.parametrize(
    ("format", "mimetype", "ending"),
    [
        ("jpeg", "image/jpeg", "jpg"),
        ("png", "image/png", "png"),
        ("webp", "image/webp", "webp"),
        ("avif", "image/avif", "avif"),
        ("heic", "image/heic", "heic"),
        (None, "application/octet-stream", "bin"),
    ],
)
def test_an_original_is_the_very_bytes_as_an_attachment(
    client: FlaskClient,
    session: Session,
    shown: Callable[..., str],
    supervisor: Headers,
    format: str | None,
    mimetype: str,
    ending: str,
) -> None:
    sha256 = shown()
    begin_write(session)
    darkroom.keep_facts(session, sha256, Facts(format=format), now=NOW)
    session.commit()
    for method in ("GET", "HEAD"):
        answer = ask(client, sha256, "original", supervisor, method)
        assert answer.get_data() == (PHOTO if method == "GET" else b"")
        assert answer.headers["Content-Type"] == mimetype
        assert answer.headers["Content-Length"] == str(len(PHOTO))
        assert answer.headers["Content-Disposition"] == f'attachment; filename="{sha256}.{ending}"'
        digest = base64.b64encode(hashlib.sha256(PHOTO).digest()).decode()
        assert answer.headers["Repr-Digest"] == f"sha-256=:{digest}:"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "ETag" not in answer.headers


def test_who_takes_out_an_original_is_on_record_before_the_first_byte(
    client: FlaskClient, session: Session, shown: Callable[..., str], supervisor: Headers
) -> None:
    sha256 = shown()
    asked = f"/api/v1/photos/{sha256}?size=original"
    with client.get(asked, headers=supervisor | {"X-Request-Id": "abc"}) as answer:
        (entry,) = taken_out(session)
        assert answer.get_data() == PHOTO
    assert (entry.action, entry.entity, entry.address) == ("photo-original", sha256, "127.0.0.1")
    assert entry.details == {"bytes": len(PHOTO), "request_id": "abc"}


def test_an_original_does_not_pass_through_memory_whole(
    client: FlaskClient, shown: Callable[..., str], supervisor: Headers
) -> None:
    sha256, size_bytes = shown(bytes(12_000_000)), 0
    with client.get(f"/api/v1/photos/{sha256}?size=original", headers=supervisor) as answer:
        tracemalloc.start()
        for piece in answer.iter_encoded():
            size_bytes += len(piece)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert size_bytes == 12_000_000
    assert peak_bytes < 2_000_000


# ---------------------------------------------------------------- who reads the access log


def test_the_access_log_is_told_as_csv(
    make_app: Callable[..., Flask],
    client: FlaskClient,
    session: Session,
    shown: Callable[..., str],
    supervisor: Headers,
) -> None:
    photo, other = shown(), shown(drawn((40, 30)))
    for sha256 in (photo, other, photo):
        ask(client, sha256, "original", supervisor | {"X-Request-Id": sha256[:8]})
    minute_before_midnight = dt.datetime(2020, 1, 5, 15, 59, tzinfo=dt.UTC)  # in Xiaoshan
    first = taken_out(session)[0].id
    session.rollback()
    begin_write(session)
    session.execute(update(AccessEntry).where(AccessEntry.id == first).values(at=minute_before_midnight))
    session.commit()

    def told(*options: str) -> list[dict[str, Any]]:
        result = make_app().test_cli_runner().invoke(args=["access-log", *options])
        assert result.exit_code == 0
        return list(csv.DictReader(io.StringIO(result.stdout)))

    whole = told()
    assert [line["entity"] for line in whole] == [photo, other, photo]
    assert whole[0] == {
        "at": "2020-01-05T15:59:00+00:00",
        "username": "supervisor",
        "action": "photo-original",
        "entity": photo,
        "address": "127.0.0.1",
        "details": f'{{"bytes":{len(PHOTO)},"request_id":"{photo[:8]}"}}',
    }
    assert told("--photo", other) == [whole[1]]
    assert told("--photo", photo) == [whole[0], whole[2]]
    assert told("--since", "2020-01-05") == whole
    assert told("--since", "2020-01-06") == whole[1:]
