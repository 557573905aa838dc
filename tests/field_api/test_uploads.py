"""Photos through the door, in pieces (tus 1.0.0, to the letter) and in one go."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import io
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from field_api.uploads import TUS_EXTENSIONS, WAIT_S
from sync import uploads
from sync.models import FIELD_ROLES, ROLES, AnnouncedPhoto, Photo, SignedIn, Upload, UploadPart, begin_write
from tests.builders import make_account, make_lists, make_signed_in
from tests.sync.days import batch, incident, patrol, push

URL = "/api/v1/uploads"
CHUNK = "application/offset+octet-stream"
PICTURE = bytes(range(256)) * 40 + b"the last bytes"
SHA256 = hashlib.sha256(PICTURE).hexdigest()
SIZE = len(PICTURE)
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
MOST_BYTES = 100_000
LIMITS = uploads.Limits(MOST_BYTES, 2**31, dt.timedelta(days=7))
Headers = dict[str, str]
#: For what is refused before the database is asked.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def b64(said: str | bytes) -> str:
    return base64.b64encode(said.encode() if isinstance(said, str) else said).decode()


def named(sha256: str = SHA256) -> str:
    return f"sha256 {b64(sha256)}"


def checksum(data: bytes, algorithm: str = "sha1") -> str:
    return f"{algorithm} {b64(hashlib.new(algorithm, data).digest())}"


@dataclass(frozen=True)
class Phone:
    """Somebody who speaks tus. A header of None is left out."""

    client: FlaskClient
    headers: Headers

    def ask(self, method: str, path: str, data: bytes = b"", **headers: str | None) -> TestResponse:
        said: dict[str, str | None] = {**self.headers, "Tus-Resumable": "1.0.0", "Content-Type": CHUNK}
        said |= {name.replace("_", "-").title(): value for name, value in headers.items()}
        given = {name: value for name, value in said.items() if value is not None}
        return self.client.open(path, method=method, data=data, headers=given)

    def create(self, data: bytes = b"", **headers: str | None) -> TestResponse:
        said = {"upload_length": str(SIZE), "upload_metadata": named()} | headers
        return self.ask("POST", URL, data, **({"content_type": CHUNK if data else None} | said))

    def patch(self, offset: int, data: bytes, name: str = SHA256, **headers: str | None) -> TestResponse:
        return self.ask("PATCH", f"{URL}/{name}", data, **({"upload_offset": str(offset)} | headers))

    def cut(self, method: str, path: str, sent: bytes, whole: int, **headers: str) -> TestResponse:
        """A request whose body ends before its announced length."""
        said = {**self.headers, "Tus-Resumable": "1.0.0", "Content-Type": CHUNK}
        said |= {name.replace("_", "-").title(): value for name, value in headers.items()}
        length = {"CONTENT_LENGTH": str(whole)}
        return self.client.open(
            path, method=method, input_stream=io.BytesIO(sent), headers=said, environ_overrides=length
        )

    def offset(self, name: str = SHA256) -> int:
        answer = self.ask("HEAD", f"{URL}/{name}")
        assert answer.status_code == 200, answer.status
        return int(answer.headers["Upload-Offset"])


@pytest.fixture
def client(make_app: Callable[..., Flask]) -> FlaskClient:
    return make_app(photo_max_bytes=MOST_BYTES, look_every_s=0).test_client()


@pytest.fixture
def officer(session: Session) -> SignedIn:
    make_lists(session)
    make_account(session, username="partner")
    who = make_signed_in(session)
    session.commit()
    return who


@pytest.fixture
def phone(client: FlaskClient, officer: SignedIn, bearer: Callable[..., Headers]) -> Phone:
    return Phone(client, bearer(officer))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "photos"


def kept(folder: Path) -> dict[str, bytes]:
    """What the store holds, by file name."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(engine: Engine, model: type[Any]) -> list[Any]:
    with Session(engine) as session:
        return list(session.scalars(select(model)))


def told(answer: TestResponse) -> tuple[int, str | None]:
    return answer.status_code, (answer.json or {}).get("code") if answer.data else None


def address(answer: TestResponse) -> str:
    """The upload's name, of an answer to a creation."""
    assert answer.status_code == 201, answer.data
    return answer.headers["Location"].rpartition("/")[2]


# ---------------------------------------------------------------- what the server can do


@ON_SQLITE
@pytest.mark.parametrize("path", [URL, f"{URL}/{SHA256}", f"{URL}/x"])
def test_what_is_built_is_announced_without_a_token_or_a_version(client: FlaskClient, path: str) -> None:
    answer = client.options(path)
    assert answer.status_code == 200
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert answer.headers["Tus-Extension"] == TUS_EXTENSIONS
    assert TUS_EXTENSIONS == "creation,creation-with-upload,creation-defer-length,checksum,expiration,termination"
    assert answer.headers["Tus-Max-Size"] == str(MOST_BYTES)
    assert answer.headers["Tus-Checksum-Algorithm"] == "sha1,sha256"
    assert "Tus-Resumable" not in answer.headers


ADDRESSES = [("POST", URL), *((method, f"{URL}/{SHA256}") for method in ("HEAD", "PATCH", "DELETE", "POST"))]


@ON_SQLITE
@pytest.mark.parametrize("version", [None, "", "0.2.2", "1.0.1", "1.0.0, 1.0.0"])
def test_another_version_is_refused_before_anything_happens(phone: Phone, engine: Engine, version: str | None) -> None:
    said = {"upload_length": "5", "upload_offset": "0", "x_http_method_override": "PATCH"}
    for method, path in ADDRESSES:
        answer = phone.ask(method, path, b"12345", tus_resumable=version, **said)
        assert answer.status_code == 412
        assert answer.headers["Tus-Version"] == "1.0.0"
        assert method == "HEAD" or told(answer) == (412, "tus-version")
    assert rows(engine, Upload) == []


def test_every_answer_says_the_version_whatever_it_is(phone: Phone, client: FlaskClient) -> None:
    nobody = Phone(client, {})
    answers = [
        phone.create(),
        phone.patch(0, PICTURE[:10]),
        phone.patch(0, PICTURE[:10]),
        phone.ask("HEAD", f"{URL}/{SHA256}"),
        phone.ask("DELETE", f"{URL}/{SHA256}"),
        phone.ask("HEAD", f"{URL}/{SHA256}"),
        phone.patch(0, b"", content_type="text/plain"),
        phone.create(upload_length="-1"),
        phone.create(tus_resumable=None),
        phone.ask("GET", f"{URL}/{SHA256}"),
        phone.ask("GET", URL),
        nobody.create(),
        phone.ask("PUT", f"{URL}/{SHA256}", PICTURE, tus_resumable=None),
        phone.ask("PUT", f"{URL}/x", PICTURE, tus_resumable=None),
    ]
    statuses = [answer.status_code for answer in answers]
    assert statuses == [201, 204, 409, 200, 204, 404, 415, 400, 412, 405, 405, 401, 200, 400]
    assert {answer.headers.get("Tus-Resumable") for answer in answers} == {"1.0.0"}
    assert "Tus-Resumable" not in client.get("/health").headers


@ON_SQLITE
@pytest.mark.parametrize("role", sorted(set(ROLES) - FIELD_ROLES))
def test_only_who_goes_out_with_a_phone_sends_photos(
    client: FlaskClient, session: Session, bearer: Callable[..., Headers], role: str
) -> None:
    other = make_signed_in(session, role=role, townships=())
    session.commit()
    phone = Phone(client, bearer(other))
    assert told(phone.create()) == (403, "forbidden")
    assert {phone.ask(method, path).status_code for method, path in ADDRESSES} == {403}


# ---------------------------------------------------------------- a photo in pieces


def test_a_photo_in_pieces_has_arrived_with_its_last_byte(phone: Phone, engine: Engine, folder: Path) -> None:
    made = phone.create(upload_metadata=f"filename {b64('photo ü.jpg')},{named()}")
    assert made.status_code == 201
    assert made.headers["Location"] == f"http://localhost{URL}/{SHA256}"
    assert made.headers["Upload-Offset"] == "0"
    assert parsedate_to_datetime(made.headers["Upload-Expires"]) > dt.datetime.now(dt.UTC) + dt.timedelta(days=6)

    for begin, end in itertools.pairwise([0, 1, 1, 5_000, SIZE - 1]):
        answer = phone.patch(begin, PICTURE[begin:end])
        assert (answer.status_code, answer.headers["Upload-Offset"], answer.data) == (204, str(end), b"")
        assert answer.headers["Upload-Expires"].endswith(" GMT")
        assert phone.offset() == end
    assert rows(engine, Photo) == []

    answer = phone.patch(SIZE - 1, PICTURE[-1:])
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, str(SIZE))
    assert "Upload-Expires" not in answer.headers
    assert [(photo.sha256, photo.size_bytes) for photo in rows(engine, Photo)] == [(SHA256, SIZE)]
    assert kept(folder) == {SHA256: PICTURE}
    assert rows(engine, UploadPart) == []


def test_head_tells_where_to_go_on(phone: Phone) -> None:
    metadata = f"filename {b64('photo ü.jpg')},is_confidential,name ,relativePath bnVsbA==,{named()}"
    phone.create(upload_metadata=metadata)
    phone.patch(0, PICTURE[:100])
    answer = phone.ask("HEAD", f"{URL}/{SHA256}")
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["Upload-Offset"] == "100"
    assert answer.headers["Upload-Length"] == str(SIZE)
    assert answer.headers["Upload-Metadata"] == metadata
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Upload-Expires" in answer.headers
    assert "Upload-Defer-Length" not in answer.headers

    phone.patch(100, PICTURE[100:])
    answer = phone.ask("HEAD", f"{URL}/{SHA256}")
    assert (answer.headers["Upload-Offset"], answer.headers["Upload-Length"]) == (str(SIZE), str(SIZE))
    assert answer.headers["Upload-Metadata"] == metadata
    assert "Upload-Expires" not in answer.headers


def test_whoever_does_not_name_the_photo_finds_its_name_in_the_bytes(phone: Phone, engine: Engine) -> None:
    made = phone.create(upload_metadata=f"filename {b64('a.jpg')}")
    name = address(made)
    assert len(name) == 32
    assert address(phone.create(upload_metadata=None)) != name
    phone.patch(0, PICTURE[:7], name)
    assert phone.patch(7, PICTURE[7:], name).status_code == 204
    assert phone.offset(name) == SIZE
    assert [photo.sha256 for photo in rows(engine, Photo)] == [SHA256]


@pytest.mark.parametrize("how", ["in pieces", "without a name", "in one go", "with the creation"])
def test_a_record_has_its_photo_however_it_came(
    phone: Phone, session: Session, officer: SignedIn, now: dt.datetime, how: str
) -> None:
    out = patrol()
    photo = {"sha256": SHA256, "bytes": SIZE, "type": "image/jpeg", "role": "before"}
    receipt = push(session, officer, batch(officer, out, incident(out, photos=[photo])), now)
    assert receipt["photos_needed"] == [SHA256]
    session.rollback()
    if how == "in one go":
        phone.ask("PUT", f"{URL}/{SHA256}", PICTURE)
    elif how == "with the creation":
        phone.create(PICTURE)
    else:
        name = address(phone.create(upload_metadata=named() if how == "in pieces" else None))
        phone.patch(0, PICTURE[:9], name)
        phone.patch(9, PICTURE[9:], name)
    assert push(session, officer, batch(officer), now)["photos_needed"] == []
    assert session.scalars(select(AnnouncedPhoto.received_at)).one() is not None


def test_a_stranger_finds_nobody_elses_upload(
    phone: Phone, client: FlaskClient, session: Session, bearer: Callable[..., Headers]
) -> None:
    phone.create(PICTURE[:50])
    other = make_signed_in(session, username="other")
    session.commit()
    stranger = Phone(client, bearer(other))
    assert stranger.ask("HEAD", f"{URL}/{SHA256}").status_code == 404
    assert told(stranger.patch(50, PICTURE[50:])) == (404, "not-found")
    assert told(stranger.ask("DELETE", f"{URL}/{SHA256}")) == (404, "not-found")
    assert stranger.create().headers["Upload-Offset"] == "0"
    assert phone.offset() == 50


# ---------------------------------------------------------------- creation

TAKEN: list[tuple[str, dict[str, str | None]]] = [
    ("a length", {}),
    ("the largest", {"upload_length": str(MOST_BYTES)}),
    ("a deferred length", {"upload_length": None, "upload_defer_length": "1"}),
    ("no metadata", {"upload_metadata": None}),
    ("empty metadata", {"upload_metadata": ""}),
    ("unknown keys", {"upload_metadata": f"filetype {b64('image/jpeg')},name {b64('ü')}"}),
    ("a key alone", {"upload_metadata": "is_confidential"}),
    ("a blank after the comma", {"upload_metadata": f"a {b64('1')}, b {b64('2')}"}),
]


@pytest.mark.parametrize(("name", "headers"), TAKEN, ids=[case[0] for case in TAKEN])
def test_a_creation_is_taken_and_its_metadata_echoed_unchanged(phone: Phone, name: str, headers: Any) -> None:
    made = phone.create(**headers)
    found = phone.ask("HEAD", f"{URL}/{address(made)}")
    assert found.headers["Upload-Offset"] == made.headers["Upload-Offset"] == "0"
    assert found.headers["Upload-Expires"] == made.headers["Upload-Expires"]
    assert found.headers.get("Upload-Metadata") == headers.get("upload_metadata", named())


LENGTH, DEFER, METADATA = "Upload-Length", "Upload-Defer-Length", "Upload-Metadata"
REFUSED: list[tuple[str, dict[str, str | None], int, str, str | None]] = [
    ("neither length", {"upload_length": None}, 400, "upload-invalid", LENGTH),
    ("both lengths", {"upload_defer_length": "1"}, 400, "upload-invalid", LENGTH),
    ("deferred otherwise", {"upload_length": None, "upload_defer_length": "2"}, 400, "upload-invalid", DEFER),
    ("not deferred", {"upload_defer_length": "0"}, 400, "upload-invalid", DEFER),
    ("negative", {"upload_length": "-1"}, 400, "upload-invalid", LENGTH),
    ("a fraction", {"upload_length": "1.5"}, 400, "upload-invalid", LENGTH),
    ("no number", {"upload_length": "many"}, 400, "upload-invalid", LENGTH),
    ("signed", {"upload_length": "+5"}, 400, "upload-invalid", LENGTH),
    ("endless", {"upload_length": "9" * 5_000}, 400, "upload-invalid", LENGTH),
    ("too large", {"upload_length": str(MOST_BYTES + 1)}, 413, "photo-too-large", None),
    ("far too large", {"upload_length": "9" * 18}, 413, "photo-too-large", None),
    ("bad base64", {"upload_metadata": "filename %%%"}, 400, "upload-invalid", METADATA),
    ("base64 cut short", {"upload_metadata": "filename YQ"}, 400, "upload-invalid", METADATA),
    ("two values", {"upload_metadata": "filename YQ== YQ=="}, 400, "upload-invalid", METADATA),
    ("a key twice", {"upload_metadata": "a YQ==,a Yg=="}, 400, "upload-invalid", METADATA),
    ("no key", {"upload_metadata": "a YQ==,,b Yg=="}, 400, "upload-invalid", METADATA),
    ("no ASCII", {"upload_metadata": "ü YQ=="}, 400, "upload-invalid", METADATA),
    ("too much told", {"upload_metadata": f"a {b64('x' * 4_000)}"}, 400, "upload-invalid", METADATA),
    ("a name in capitals", {"upload_metadata": named(SHA256.upper())}, 400, "photo-invalid", None),
    ("a short name", {"upload_metadata": named(SHA256[:-1])}, 400, "photo-invalid", None),
    ("a raw digest", {"upload_metadata": f"sha256 {b64(bytes.fromhex(SHA256))}"}, 400, "photo-invalid", None),
    ("an empty name", {"upload_metadata": "sha256"}, 400, "photo-invalid", None),
    ("part of a photo", {"upload_concat": "partial"}, 400, "upload-invalid", "Upload-Concat"),
    ("parts put together", {"upload_concat": f"final;{URL}/{SHA256}"}, 400, "upload-invalid", "Upload-Concat"),
    ("a bad checksum", {"upload_checksum": "md5 YQ=="}, 400, "upload-invalid", "Upload-Checksum"),
]


@ON_SQLITE
@pytest.mark.parametrize(("name", "headers", "status", "code", "header"), REFUSED, ids=[case[0] for case in REFUSED])
def test_a_creation_that_makes_no_sense_is_refused(
    phone: Phone, engine: Engine, name: str, headers: Any, status: int, code: str, header: str | None
) -> None:
    answer = phone.create(**headers)
    assert told(answer) == (status, code)
    assert answer.json is not None
    assert answer.json.get("header") == header
    assert rows(engine, Upload) == []


#: What a creation has for a body, and under which type.
BODIES: list[tuple[str, bytes, str | None, int, str | None]] = [
    ("the first bytes", PICTURE[:100], CHUNK, 201, "100"),
    ("all bytes", PICTURE, CHUNK, 201, str(SIZE)),
    ("all bytes, in a type with a parameter", PICTURE, f"{CHUNK}; charset=binary", 201, str(SIZE)),
    ("none", b"", CHUNK, 201, "0"),
    ("none, as aiotus sends it", b"", "application/octet-stream", 201, "0"),
    ("none, without a type", b"", None, 201, "0"),
    ("of another type", PICTURE, "application/octet-stream", 415, None),
    ("of no type", PICTURE, None, 415, None),
    ("too many", PICTURE + b"!", CHUNK, 413, None),
]


@pytest.mark.parametrize(("name", "data", "kind", "status", "offset"), BODIES, ids=[case[0] for case in BODIES])
def test_a_creation_may_bring_bytes(
    phone: Phone, folder: Path, name: str, data: bytes, kind: str | None, status: int, offset: str | None
) -> None:
    answer = phone.create(data, content_type=kind)
    assert (answer.status_code, answer.headers.get("Upload-Offset")) == (status, offset)
    if status == 201:
        assert phone.offset() == int(offset or 0)
        assert ("Upload-Expires" in answer.headers) == (data != PICTURE)
        assert b"".join(kept(folder).values()) == data
    else:
        assert kept(folder) == {}


def test_a_creation_repeated_finds_the_same_upload_with_its_bytes(phone: Phone, engine: Engine, folder: Path) -> None:
    phone.create()
    phone.patch(0, PICTURE[:4_000])
    again = phone.create()
    assert (again.status_code, again.headers["Upload-Offset"]) == (201, "4000")
    assert again.headers["Location"].endswith(SHA256)
    phone.patch(4_000, PICTURE[4_000:])
    for length in (SIZE, SIZE + 1, 0):
        finished = phone.create(upload_length=str(length)) if length else phone.create()
        assert (finished.status_code, finished.headers["Upload-Offset"]) == (201, str(SIZE))
        assert "Upload-Expires" not in finished.headers
    assert len(rows(engine, Upload)) == 1
    assert kept(folder) == {SHA256: PICTURE}


@pytest.mark.parametrize("there", [1, 4_000, SIZE - 1, SIZE])
def test_bytes_that_are_there_are_passed_over_when_a_creation_brings_them_again(
    phone: Phone, folder: Path, there: int
) -> None:
    """The answer to a creation was lost, or its body cut: the phone knows no address and begins from the first byte."""
    phone.create(PICTURE[:there])
    answer = phone.create(PICTURE, upload_checksum=checksum(PICTURE))
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (201, str(SIZE))
    assert kept(folder) == {SHA256: PICTURE}


def test_fewer_bytes_than_are_there_change_nothing(phone: Phone) -> None:
    phone.create(PICTURE[:4_000])
    answer = phone.create(PICTURE[:100])
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (201, "4000")
    assert phone.patch(4_000, PICTURE[4_000:]).headers["Upload-Offset"] == str(SIZE)


def test_a_creation_with_another_length_begins_anew(phone: Phone, engine: Engine, folder: Path) -> None:
    phone.create(PICTURE[:100], upload_length="1000")
    answer = phone.create()
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (201, "0")
    assert (kept(folder), rows(engine, UploadPart)) == ({}, [])
    phone.patch(0, PICTURE)
    assert phone.offset() == SIZE


@pytest.mark.parametrize("metadata", [None, named(EMPTY_SHA256)])
@pytest.mark.parametrize("kind", [None, CHUNK])
def test_a_photo_of_no_bytes_is_complete_at_once(
    phone: Phone, engine: Engine, metadata: str | None, kind: str | None
) -> None:
    made = phone.create(upload_length="0", upload_metadata=metadata, content_type=kind)
    assert (made.status_code, made.headers["Upload-Offset"]) == (201, "0")
    assert "Upload-Expires" not in made.headers
    assert phone.ask("HEAD", made.headers["Location"]).headers["Upload-Length"] == "0"
    assert [photo.sha256 for photo in rows(engine, Photo)] == [EMPTY_SHA256]
    assert told(phone.ask("DELETE", made.headers["Location"])) == (403, "photo-kept")
    again = phone.create(upload_length="0", upload_metadata=metadata)
    assert again.status_code == 201


@pytest.mark.parametrize(
    ("data", "status", "code"), [(b"", 422, "photo-digest-mismatch"), (b"1", 413, "photo-too-large")]
)
def test_a_photo_of_no_bytes_that_should_have_some_is_not_begun(
    phone: Phone, engine: Engine, data: bytes, status: int, code: str
) -> None:
    assert told(phone.create(data, upload_length="0")) == (status, code)
    assert rows(engine, Upload) == []


# ---------------------------------------------------------------- chunks

#: To an upload of 100 bytes: what is said, and what is answered.
CHUNKS: list[tuple[str, dict[str, str | None], bytes, int, str | None]] = [
    ("the next bytes", {}, PICTURE[100:200], 204, None),
    ("all the rest", {}, PICTURE[100:], 204, None),
    ("nothing", {}, b"", 204, None),
    ("too early", {"upload_offset": "99"}, PICTURE[99:200], 409, "upload-offset"),
    ("too late", {"upload_offset": "101"}, PICTURE[101:200], 409, "upload-offset"),
    ("far too late", {"upload_offset": "9" * 18}, PICTURE, 409, "upload-offset"),
    ("beyond the end", {}, PICTURE[100:] + b"!", 413, "photo-too-large"),
    ("its length again", {"upload_length": str(SIZE)}, PICTURE[100:200], 204, None),
    ("another length", {"upload_length": str(SIZE + 1)}, PICTURE[100:200], 400, "upload-invalid"),
    ("sha1", {"upload_checksum": checksum(PICTURE[100:200])}, PICTURE[100:200], 204, None),
    ("sha256", {"upload_checksum": checksum(PICTURE[100:200], "sha256")}, PICTURE[100:200], 204, None),
    ("sha1 of the last chunk", {"upload_checksum": checksum(PICTURE[100:])}, PICTURE[100:], 204, None),
    ("another's sha1", {"upload_checksum": checksum(PICTURE)}, PICTURE[100:200], 460, "checksum-mismatch"),
    ("garbled", {"upload_checksum": checksum(PICTURE[100:])}, PICTURE[100:-1] + b"!", 460, "checksum-mismatch"),
    ("nothing, sworn to be something", {"upload_checksum": checksum(b"!")}, b"", 460, "checksum-mismatch"),
]
#: What is refused whatever the upload is.
SENSELESS: list[tuple[str, dict[str, str | None], bytes, int, str | None]] = [
    ("no type", {"content_type": None}, PICTURE[100:200], 415, "unsupported-media-type"),
    ("another type", {"content_type": "application/octet-stream"}, PICTURE[100:], 415, "unsupported-media-type"),
    ("no offset", {"upload_offset": None}, PICTURE[100:200], 400, "upload-invalid"),
    ("an empty offset", {"upload_offset": ""}, PICTURE[100:200], 400, "upload-invalid"),
    ("a negative offset", {"upload_offset": "-100"}, PICTURE[100:200], 400, "upload-invalid"),
    ("an offset of words", {"upload_offset": "all"}, PICTURE[100:200], 400, "upload-invalid"),
    ("no length", {"upload_length": "x"}, PICTURE[100:200], 400, "upload-invalid"),
    ("an unknown sum", {"upload_checksum": checksum(b"", "md5")}, PICTURE[100:200], 400, "upload-invalid"),
    ("a sum too short", {"upload_checksum": "sha1 YQ=="}, PICTURE[100:200], 400, "upload-invalid"),
    ("a sum in hex", {"upload_checksum": "sha1 " + "0" * 40}, PICTURE[100:200], 400, "upload-invalid"),
    ("no sum", {"upload_checksum": "sha1"}, PICTURE[100:200], 400, "upload-invalid"),
    ("an empty sum", {"upload_checksum": ""}, PICTURE[100:200], 400, "upload-invalid"),
    ("no base64", {"upload_checksum": "sha1 ???"}, PICTURE[100:200], 400, "upload-invalid"),
]


@pytest.mark.parametrize(("name", "headers", "data", "status", "code"), CHUNKS, ids=[case[0] for case in CHUNKS])
def test_a_chunk_counts_as_a_whole_or_not_at_all(
    phone: Phone, folder: Path, name: str, headers: Any, data: bytes, status: int, code: str | None
) -> None:
    phone.create(PICTURE[:100])
    answer = phone.patch(100, data, **headers)
    assert told(answer) == (status, code)
    offset = 100 + len(data) * (status == 204)
    assert answer.headers.get("Upload-Offset") == (str(offset) if status in (204, 409) else None)
    assert phone.offset() == offset
    assert sum(map(len, kept(folder).values())) == offset
    assert phone.patch(offset, PICTURE[offset:]).status_code == 204
    assert kept(folder) == {SHA256: PICTURE}


@ON_SQLITE
@pytest.mark.parametrize(("name", "headers", "data", "status", "code"), SENSELESS, ids=[case[0] for case in SENSELESS])
def test_a_chunk_that_makes_no_sense_is_refused(
    phone: Phone, folder: Path, name: str, headers: Any, data: bytes, status: int, code: str
) -> None:
    phone.create(PICTURE[:100])
    answer = phone.patch(100, data, **headers)
    assert told(answer) == (status, code)
    assert "Upload-Offset" not in answer.headers
    assert phone.offset() == 100


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
def test_what_was_never_begun_is_not_found(phone: Phone, method: str) -> None:
    for name in (SHA256, "0" * 32, "x", "%00", "%ff", SHA256.upper(), "0" * 5_000):
        answer = phone.ask(method, f"{URL}/{name}", b"bytes" if method == "PATCH" else b"", upload_offset="0")
        assert answer.status_code == 404
        assert "Upload-Offset" not in answer.headers


def test_a_photo_that_has_arrived_takes_no_more_bytes(phone: Phone, folder: Path) -> None:
    phone.create(PICTURE)
    assert phone.patch(SIZE, b"").headers["Upload-Offset"] == str(SIZE)
    assert told(phone.patch(SIZE, b"!")) == (413, "photo-too-large")
    assert told(phone.patch(0, PICTURE)) == (409, "upload-offset")
    assert told(phone.patch(SIZE, b"", upload_length="1")) == (400, "upload-invalid")
    assert kept(folder) == {SHA256: PICTURE}


@pytest.mark.parametrize("cut", [0, 1, 5_000, SIZE - 1])
@pytest.mark.parametrize("begin", [0, 100])
def test_the_bytes_of_a_chunk_that_was_cut_are_kept(phone: Phone, folder: Path, begin: int, cut: int) -> None:
    phone.create(PICTURE[:begin])
    cut = max(cut, begin)
    answer = phone.cut("PATCH", f"{URL}/{SHA256}", PICTURE[begin:cut], SIZE - begin, upload_offset=str(begin))
    assert told(answer) == (400, "body-truncated")
    assert phone.offset() == cut
    assert phone.patch(cut, PICTURE[cut:]).headers["Upload-Offset"] == str(SIZE)
    assert kept(folder) == {SHA256: PICTURE}


def test_the_bytes_of_a_creation_that_was_cut_are_kept(phone: Phone, folder: Path) -> None:
    said = {"upload_length": str(SIZE), "upload_metadata": named()}
    for cut in (1, 3_000, 2_000, SIZE - 1):
        assert told(phone.cut("POST", URL, PICTURE[:cut], SIZE, **said)) == (400, "body-truncated")
    assert phone.create().headers["Upload-Offset"] == str(SIZE - 1)
    assert phone.create(PICTURE).headers["Upload-Offset"] == str(SIZE)
    assert kept(folder) == {SHA256: PICTURE}


@pytest.mark.parametrize("is_named", [True, False])
def test_a_chunk_with_a_checksum_that_was_cut_is_kept_if_the_end_is_checked(phone: Phone, is_named: bool) -> None:
    name = address(phone.create(upload_metadata=named() if is_named else None))
    sworn = {"upload_offset": "0", "upload_checksum": checksum(PICTURE)}
    assert phone.cut("PATCH", f"{URL}/{name}", PICTURE[:99], SIZE, **sworn).status_code == 400
    assert phone.offset(name) == (99 if is_named else 0)
    assert phone.patch(phone.offset(name), PICTURE[phone.offset(name) :], name).status_code == 204


# ---------------------------------------------------------------- a length that comes later


@pytest.fixture
def deferred(phone: Phone) -> Phone:
    phone.create(PICTURE[:100], upload_length=None, upload_defer_length="1")
    return phone


def test_a_length_may_come_later(deferred: Phone, folder: Path) -> None:
    answer = deferred.ask("HEAD", f"{URL}/{SHA256}")
    assert (answer.headers["Upload-Offset"], answer.headers["Upload-Defer-Length"]) == ("100", "1")
    assert "Upload-Length" not in answer.headers
    assert deferred.patch(100, PICTURE[100:200]).status_code == 204
    assert deferred.patch(200, PICTURE[200:300], upload_length=str(SIZE)).status_code == 204
    answer = deferred.ask("HEAD", f"{URL}/{SHA256}")
    assert answer.headers["Upload-Length"] == str(SIZE)
    assert "Upload-Defer-Length" not in answer.headers
    assert told(deferred.patch(300, PICTURE[300:], upload_length=str(SIZE - 1))) == (400, "upload-invalid")
    assert deferred.patch(300, PICTURE[300:]).status_code == 204
    assert kept(folder) == {SHA256: PICTURE}


def test_a_length_that_comes_last_ends_the_photo(deferred: Phone, folder: Path) -> None:
    deferred.patch(100, PICTURE[100:])
    assert "Upload-Length" not in deferred.ask("HEAD", f"{URL}/{SHA256}").headers
    answer = deferred.patch(SIZE, b"", upload_length=str(SIZE))
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, str(SIZE))
    assert "Upload-Expires" not in answer.headers
    assert kept(folder) == {SHA256: PICTURE}


LENGTHS = [
    (str(MOST_BYTES + 1), b"", 413, "photo-too-large"),
    ("99", b"", 400, "upload-invalid"),
    ("-1", b"", 400, "upload-invalid"),
    ("150", PICTURE[100:200], 413, "photo-too-large"),
    (None, bytes(MOST_BYTES - 99), 413, "photo-too-large"),
    ("100", b"", 422, "photo-digest-mismatch"),
]


@pytest.mark.parametrize(("length", "data", "status", "code"), LENGTHS)
def test_a_length_that_can_not_be_is_refused(
    deferred: Phone, length: str | None, data: bytes, status: int, code: str
) -> None:
    assert told(deferred.patch(100, data, upload_length=length)) == (status, code)
    assert deferred.offset() == (100 if status != 422 else 0)


# ---------------------------------------------------------------- other bytes, other endings


def test_bytes_that_are_not_the_photo_named_begin_again(phone: Phone, engine: Engine, folder: Path) -> None:
    phone.create(PICTURE[:100])
    answer = phone.patch(100, PICTURE[100:-1] + b"!")
    assert told(answer) == (422, "photo-digest-mismatch")
    assert answer.json is not None
    assert answer.json["received_bytes"] == SIZE
    assert answer.json["received_sha256"] == hashlib.sha256(PICTURE[:-1] + b"!").hexdigest()
    assert (phone.offset(), kept(folder), rows(engine, Photo), rows(engine, UploadPart)) == (0, {}, [], [])
    assert phone.patch(0, PICTURE).status_code == 204
    assert kept(folder) == {SHA256: PICTURE}


def test_a_part_that_the_store_has_lost_begins_again(phone: Phone, folder: Path) -> None:
    phone.create(PICTURE[:100])
    for path in (folder / "parts").rglob("*"):
        if path.is_file():
            path.unlink()
    assert told(phone.patch(100, PICTURE[100:])) == (422, "photo-digest-mismatch")
    assert phone.offset() == 0
    assert phone.patch(0, PICTURE).status_code == 204


def test_an_upload_that_is_given_up_is_gone(phone: Phone, engine: Engine, folder: Path) -> None:
    phone.create(PICTURE[:100])
    answer = phone.ask("DELETE", f"{URL}/{SHA256}", content_type=None)
    assert (answer.status_code, answer.data) == (204, b"")
    assert (kept(folder), rows(engine, Upload), rows(engine, UploadPart)) == ({}, [], [])
    assert phone.ask("HEAD", f"{URL}/{SHA256}").status_code == 404
    assert told(phone.ask("DELETE", f"{URL}/{SHA256}")) == (404, "not-found")
    assert phone.create().headers["Upload-Offset"] == "0"


@pytest.mark.parametrize("how", ["in pieces", "in one go"])
def test_a_photo_that_has_arrived_can_not_be_taken_back(phone: Phone, folder: Path, how: str) -> None:
    if how == "in pieces":
        phone.create(PICTURE)
    else:
        phone.ask("PUT", f"{URL}/{SHA256}", PICTURE)
    assert told(phone.ask("DELETE", f"{URL}/{SHA256}")) == (403, "photo-kept")
    assert phone.offset() == SIZE
    assert kept(folder) == {SHA256: PICTURE}


def test_an_upload_that_nobody_goes_on_with_expires(phone: Phone, engine: Engine, folder: Path) -> None:
    phone.create(PICTURE[:100])
    with Session(engine) as session:
        begin_write(session)
        session.execute(update(Upload).values(expires_at=dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)))
        session.commit()
    assert phone.ask("HEAD", f"{URL}/{SHA256}").status_code == 404
    assert told(phone.patch(100, PICTURE[100:])) == (404, "not-found")
    assert told(phone.ask("DELETE", f"{URL}/{SHA256}")) == (404, "not-found")
    assert phone.create().headers["Upload-Offset"] == "0"
    assert kept(folder) == {}
    assert phone.patch(0, PICTURE).status_code == 204


def test_where_only_post_gets_through_another_method_can_be_meant(phone: Phone, folder: Path) -> None:
    def post(meant: str, data: bytes = b"", **headers: str) -> TestResponse:
        return phone.ask("POST", f"{URL}/{SHA256}", data, x_http_method_override=meant, **headers)

    phone.create(PICTURE[:100])
    assert post("PATCH", PICTURE[100:200], upload_offset="100").headers["Upload-Offset"] == "200"
    assert post("patch", PICTURE[200:300], upload_offset="200").headers["Upload-Offset"] == "300"
    assert told(post("PATCH", PICTURE[200:300], upload_offset="200")) == (409, "upload-offset")
    assert post("HEAD").headers["Upload-Offset"] == "300"
    for nonsense in ("GET", "", "POST"):
        answer = post(nonsense)
        assert told(answer) == (405, "method-not-allowed")
        assert "PATCH" in answer.headers["Allow"]
    assert post("DELETE").status_code == 204
    assert kept(folder) == {}


# ---------------------------------------------------------------- two at once


@pytest.fixture
def held(phone: Phone, engine: Engine, officer: SignedIn) -> uploads.Hold:
    """An upload of 100 bytes that another request is adding bytes to."""
    phone.create(PICTURE[:100])
    with Session(engine) as session:
        begin_write(session)
        now = dt.datetime.now(dt.UTC)
        hold = uploads.claim(session, officer, SHA256, offset_bytes=100, limits=LIMITS, now=now)
        session.commit()
    assert hold is not None
    return hold


def asked_at_once(phone: Phone, engine: Engine) -> dict[str, TestResponse]:
    """What each method is answered on the one upload, all asked at the same time."""
    asks = {
        "HEAD": lambda: phone.ask("HEAD", f"{URL}/{SHA256}"),
        "PATCH": lambda: phone.patch(100, PICTURE[100:]),
        "POST": lambda: phone.create(),
        "DELETE": lambda: phone.ask("DELETE", f"{URL}/{SHA256}"),
    }
    answers: dict[str, TestResponse] = {}
    threads = [threading.Thread(target=lambda m=m, a=a: answers.__setitem__(m, a())) for m, a in asks.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return answers


def test_what_another_request_holds_is_busy(phone: Phone, engine: Engine, held: uploads.Hold) -> None:
    started = dt.datetime.now(dt.UTC)
    answers = asked_at_once(phone, engine)
    assert dt.datetime.now(dt.UTC) - started >= dt.timedelta(seconds=WAIT_S)
    assert {method: answer.status_code for method, answer in answers.items()} == dict.fromkeys(answers, 423)
    assert len(answers) == 4
    assert {answer.headers["Retry-After"] for answer in answers.values()} == {"1"}
    assert told(answers["PATCH"]) == (423, "upload-busy")


def test_who_comes_next_waits_for_the_bytes_of_the_one_before(phone: Phone, engine: Engine, held: uploads.Hold) -> None:
    def end() -> None:
        with Session(engine) as session:
            begin_write(session)
            uploads.let_go(session, held)
            session.commit()

    timer = threading.Timer(0.5, end)
    timer.start()
    assert phone.offset() == 100
    timer.join()


def test_whoever_has_vanished_is_followed_by_the_next(phone: Phone, engine: Engine, held: uploads.Hold) -> None:
    with Session(engine) as session:
        begin_write(session)
        session.execute(update(Upload).values(held_until=dt.datetime.now(dt.UTC)))
        session.commit()
    assert phone.patch(100, PICTURE[100:]).status_code == 204


def test_a_photo_in_one_go_overtakes_its_own_pieces(
    phone: Phone, engine: Engine, folder: Path, held: uploads.Hold
) -> None:
    assert phone.ask("PUT", f"{URL}/{SHA256}", PICTURE).status_code == 200
    assert phone.offset() == SIZE
    assert (kept(folder), rows(engine, UploadPart)) == ({SHA256: PICTURE}, [])


class _LastBytes(io.BytesIO):
    """A body; with its last byte something else happens too."""

    def __init__(self, data: bytes, happens: Callable[[], Any]) -> None:
        super().__init__(data)
        self._happens = happens

    def readinto(self, room: Any) -> int:
        size = super().readinto(room)
        if size and self.tell() == len(self.getbuffer()):
            self._happens()
        return size


def test_a_photo_that_is_whole_has_arrived_although_another_request_has_taken_over(
    phone: Phone, engine: Engine, folder: Path, officer: SignedIn
) -> None:
    """A bucket may take longer for a photo's parts than the lease lasts: else no request would ever come to the end."""
    phone.create()
    others: list[Any] = []

    def take_over() -> None:
        with Session(engine) as session:
            begin_write(session)
            later = dt.datetime.now(dt.UTC) + uploads.LEASE
            others.append(uploads.claim(session, officer, SHA256, offset_bytes=0, limits=LIMITS, now=later))
            session.commit()

    said = phone.headers | {"Tus-Resumable": "1.0.0", "Content-Type": CHUNK, "Upload-Offset": "0"}
    body, length = _LastBytes(PICTURE, take_over), {"CONTENT_LENGTH": str(SIZE)}
    path = f"{URL}/{SHA256}"
    answer = phone.client.open(path, method="PATCH", input_stream=body, headers=said, environ_overrides=length)
    assert (answer.status_code, phone.offset()) == (204, SIZE)
    assert (len(others), kept(folder)) == (1, {SHA256: PICTURE})
    assert [upload.held_by for upload in rows(engine, Upload)] == [None], "the other comes too late"


def test_a_store_that_is_away_is_busy_and_the_upload_is_free_at_once(
    make_app: Callable[..., Flask], officer: SignedIn, bearer: Callable[..., Headers]
) -> None:
    nowhere = {"store_url": "s3://photos", "s3_key_id": "k", "s3_secret": "s", "s3_endpoint_url": "http://127.0.0.1:1"}
    phone = Phone(make_app(look_every_s=0, **nowhere).test_client(), bearer(officer))
    phone.create()
    answer = phone.patch(0, PICTURE[:100])
    assert told(answer) == (503, "busy")
    assert int(answer.headers["Retry-After"]) > 0
    assert told(phone.patch(0, PICTURE)) == (503, "busy")
    assert phone.offset() == 0


# ---------------------------------------------------------------- in one go, and how much in a day


@pytest.mark.parametrize("again", [False, True])
def test_a_photo_in_one_go_is_kept(phone: Phone, engine: Engine, folder: Path, again: bool) -> None:
    for _ in range(1 + again):
        answer = phone.ask("PUT", f"{URL}/{SHA256}", PICTURE, tus_resumable=None, content_type="image/jpeg")
        assert (answer.status_code, answer.json) == (200, {"sha256": SHA256, "bytes": SIZE})
    assert phone.create().headers["Upload-Offset"] == str(SIZE)
    assert kept(folder) == {SHA256: PICTURE}
    assert len(rows(engine, Photo)) == 1


PUTS = [
    ("x", PICTURE, 400, "photo-invalid"),
    ("0" * 32, PICTURE, 400, "photo-invalid"),
    ("%00", PICTURE, 400, "photo-invalid"),
    (SHA256.upper(), PICTURE, 400, "photo-invalid"),
    (SHA256, PICTURE[:-1], 422, "photo-digest-mismatch"),
    (SHA256, bytes(MOST_BYTES + 1), 413, "photo-too-large"),
]


@pytest.mark.parametrize(("name", "data", "status", "code"), PUTS)
def test_what_is_not_the_photo_named_is_not_kept_in_one_go(
    phone: Phone, engine: Engine, folder: Path, name: str, data: bytes, status: int, code: str
) -> None:
    assert told(phone.ask("PUT", f"{URL}/{name}", data)) == (status, code)
    assert (kept(folder), rows(engine, Upload)) == ({}, [])


@pytest.mark.parametrize("announced", [MOST_BYTES + 1, 10**30])
def test_a_photo_that_is_announced_too_long_is_refused_before_it_comes(phone: Phone, announced: int) -> None:
    phone.create()
    answer = phone.cut("PATCH", f"{URL}/{SHA256}", b"", announced, upload_offset="0")
    assert told(answer) == (413, "photo-too-large")
    assert answer.json is not None
    assert MOST_BYTES < answer.json["bytes"] <= announced


@pytest.fixture
def modest(make_app: Callable[..., Flask], officer: SignedIn, bearer: Callable[..., Headers]) -> Phone:
    """A phone that may send two photos and a half on one day."""
    app = make_app(photo_max_bytes=MOST_BYTES, photo_day_max_bytes=SIZE * 5 // 2, look_every_s=0)
    return Phone(app.test_client(), bearer(officer))


def photo(number: int) -> tuple[bytes, str]:
    data = bytes([number]) * SIZE
    return data, hashlib.sha256(data).hexdigest()


def begin(phone: Phone, number: int, **headers: str | None) -> TestResponse:
    return phone.create(upload_metadata=named(photo(number)[1]), **headers)


def test_an_officer_sends_so_much_on_one_day_and_no_more(modest: Phone, engine: Engine) -> None:
    (first, first_name), (second, second_name), (third, third_name) = photo(1), photo(2), photo(3)
    assert begin(modest, 1).status_code == 201
    assert modest.ask("PUT", f"{URL}/{second_name}", second).status_code == 200

    refused = begin(modest, 3)
    assert told(refused) == (429, "photo-quota")
    assert refused.json is not None
    assert refused.json["most_bytes"] == SIZE * 5 // 2
    assert 0 < refused.json["retry_after_s"] <= 24 * 3600
    assert refused.headers["Retry-After"] == str(refused.json["retry_after_s"])
    assert told(modest.ask("PUT", f"{URL}/{third_name}", third)) == (429, "photo-quota")
    assert told(begin(modest, 3, upload_length=str(SIZE // 2 + 1))) == (429, "photo-quota")

    assert begin(modest, 1).status_code == 201
    assert modest.patch(0, first, first_name).status_code == 204
    assert begin(modest, 1).status_code == begin(modest, 2).status_code == 201
    assert modest.ask("PUT", f"{URL}/{first_name}", first).status_code == 200
    assert modest.ask("PUT", f"{URL}/{second_name}", second).status_code == 200
    assert begin(modest, 3, upload_length=str(SIZE // 2)).status_code == 201

    with Session(engine) as session:
        begin_write(session)
        session.execute(update(Upload).values(created_at=dt.datetime.now(dt.UTC) - dt.timedelta(days=1)))
        session.commit()
    assert begin(modest, 4).status_code == 201


def test_a_length_that_comes_later_counts_for_the_day_too(modest: Phone, engine: Engine) -> None:
    for number in range(4):
        begin(modest, number, upload_length=None, upload_defer_length="1")
    answers = [modest.patch(0, *photo(number)) for number in range(4)]
    assert [told(answer) for answer in answers] == [(204, None)] * 3 + [(429, "photo-quota")]
    answers = [modest.patch(SIZE, b"", photo(number)[1], upload_length=str(SIZE)) for number in range(3)]
    assert {answer.status_code for answer in answers} == {429}
    with Session(engine) as session:
        assert session.scalar(select(func.sum(Upload.offset_bytes))) == 3 * SIZE
