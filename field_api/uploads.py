"""Photos in: in pieces that survive any network (tus 1.0.0), or in one go with `PUT`.

No transaction and no connection of the database is held while bytes flow or while one request waits for another.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import IO, Any, TypeVar

from flask import Response, current_app, request, url_for
from flask_smorest import Blueprint
from marshmallow import Schema, fields
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.http import http_date

from field_api.answers import tell
from field_api.bodies import has_body, hear_out, pieces
from field_api.database import db
from field_api.identity import public, roles
from field_api.settings import Settings
from field_api.storage import store
from sync import photos, uploads
from sync.models import FIELD_ROLES, SignedIn, begin_write
from sync.problems import (
    BodyTruncated,
    Busy,
    ChecksumMismatch,
    PhotoDigestMismatch,
    PhotoTooLarge,
    TusVersion,
    UnsupportedEncoding,
    UploadBusy,
    UploadInvalid,
    UploadOffset,
)
from sync.store import part_key
from sync.uploads import Asked, Hold, Limits, Standing

blueprint = Blueprint("uploads", __name__, url_prefix="/api/v1/uploads", description="Photos")

TUS_VERSION = "1.0.0"
TUS_EXTENSIONS = "creation,creation-with-upload,creation-defer-length,checksum,expiration,termination"
CHUNK_TYPE = "application/offset+octet-stream"
#: How long a request waits for another that is adding bytes to the same upload, s, and how often it looks.
WAIT_S, LOOK_EVERY_S = 3.0, 0.1
#: What came of a chunk on a slow line is kept and counted this often, s: well within `uploads.LEASE`.
KEEP_EVERY_S = 4.0
#: Digests of a chunk that are understood, with their length in bytes.
CHECKSUMS = {"sha1": 20, "sha256": 32}

_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_NUMBER = re.compile(r"[0-9]{1,18}")
_SENDERS = sorted(FIELD_ROLES)
T = TypeVar("T")


class KeptPhotoSchema(Schema):
    """A photo that is kept."""

    sha256 = fields.String(required=True)
    bytes = fields.Integer(required=True)


# ---------------------------------------------------------------- what every answer has


@blueprint.before_request
def _check_version() -> None:
    if request.method not in ("PUT", "OPTIONS") and request.headers.get("Tus-Resumable") != TUS_VERSION:
        raise TusVersion()


@blueprint.after_app_request
def _say_version(answer: Response) -> Response:
    """Also where no view was reached, for want of a token or of such a method."""
    if f"{request.path}/".startswith(f"{blueprint.url_prefix}/") and request.method != "OPTIONS":
        answer.headers["Tus-Resumable"] = TUS_VERSION
    return answer


@blueprint.errorhandler(TusVersion)
def _tell_version(problem: TusVersion) -> Response:
    return _with(tell(problem), {"Tus-Version": TUS_VERSION})


@blueprint.errorhandler(UploadOffset)
def _tell_offset(problem: UploadOffset) -> Response:
    return _with(tell(problem), {"Upload-Offset": problem.details["offset_bytes"]})


def _with(answer: Response, headers: dict[str, object]) -> Response:
    answer.headers.update({name: str(value) for name, value in headers.items()})
    return answer


def _answer(status: int, standing: Standing, **more: str) -> Response:
    """An answer without a body that says how far the upload is."""
    headers: dict[str, object] = {"Upload-Offset": standing.offset_bytes, **more}
    if standing.expires_at is not None:
        headers["Upload-Expires"] = http_date(standing.expires_at)
    return _with(Response(status=status), headers)


# ---------------------------------------------------------------- asking


def _told(name: str, description: str, kind: str = "integer", *, required: bool = False) -> dict[str, Any]:
    return {"in": "header", "name": name, "description": description, "schema": {"type": kind}, "required": required}


_VERSION = _told("Tus-Resumable", "1.0.0", "string", required=True)
_LENGTH = _told("Upload-Length", "Bytes of the whole photo")
_METADATA = _told("Upload-Metadata", "`sha256` and the Base64 of its 64 hex digits names the photo", "string")
_CHECKSUM = _told("Upload-Checksum", "`sha1` or `sha256`, and the Base64 of this chunk's digest", "string")
_OVERRIDE = _told("X-HTTP-Method-Override", "PATCH, HEAD or DELETE", "string", required=True)
_CHUNK = {"content": {CHUNK_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
_PHOTO = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
_OFFSET_TOLD = {"Upload-Offset": {"description": "Bytes that are durable", "schema": {"type": "integer"}}}


@blueprint.route("", methods=["OPTIONS"])
@blueprint.route("/<name>", methods=["OPTIONS"])
@public
@blueprint.response(200, description="In the headers")
def show_abilities(name: str = "") -> Response:
    """What this server knows of tus: version, extensions, the largest photo, the checksums."""
    return _with(
        Response(),
        {
            "Tus-Version": TUS_VERSION,
            "Tus-Extension": TUS_EXTENSIONS,
            "Tus-Max-Size": _settings().photo_max_bytes,
            "Tus-Checksum-Algorithm": ",".join(CHECKSUMS),
        },
    )


@blueprint.route("/<name>", methods=["HEAD"])
@roles(*_SENDERS, permit=True)
@blueprint.doc(parameters=[_VERSION])
@blueprint.response(200, description="How many bytes are durable", headers=_OFFSET_TOLD)
def show_upload(who: SignedIn, name: str) -> Response:
    """How far an upload is. Offset equal to length: the photo has arrived."""
    return _show(who, name)


def _show(who: SignedIn, name: str) -> Response:
    standing = _patiently(lambda: _look(who, name))
    length = standing.length_bytes
    more = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
    if standing.told is not None:
        more["Upload-Metadata"] = standing.told
    return _answer(200, standing, **more)


def _look(who: SignedIn, name: str) -> Standing:
    session = db.session()
    standing = uploads.look(session, who, name, now=dt.datetime.now(dt.UTC))
    session.rollback()
    return standing


# ---------------------------------------------------------------- beginning and giving up


@blueprint.route("", methods=["POST"])
@roles(*_SENDERS, permit=True)
@blueprint.doc(
    parameters=[_VERSION, _LENGTH, _told("Upload-Defer-Length", "1: the length comes later"), _METADATA, _CHECKSUM],
    requestBody=_CHUNK,
)
@blueprint.response(201, description="Its address is in `Location`", headers=_OFFSET_TOLD)
def post_upload(who: SignedIn) -> Response:
    """Begin an upload, or find it again: the same photo from the same officer is the same upload, with its bytes.

    The body may bring the first bytes.
    """
    asked, brings, checksum = _asked(), _brings_chunk(), _checksum()
    if asked.length_bytes == 0:
        _end_here()
        photos.receive(store(), asked.name or _EMPTY_SHA256, ())
    standing = _patiently(lambda: _begin(who, asked, brings))
    if isinstance(standing, Hold):
        standing = _take(who, standing, _Chunk(standing, 0, checksum))
    elif brings:
        hear_out()
    address = url_for(".show_upload", name=standing.name, _external=True)
    return _answer(201, standing, Location=address)


def _begin(who: SignedIn, asked: Asked, brings: bool) -> Standing:
    """The upload, held if bytes are to follow; one of no bytes has arrived with this."""
    with _writing() as (session, now):
        standing, stale = uploads.create(session, who, asked, _limits(), now=now)
        name, offset = standing.name, standing.offset_bytes
        if asked.length_bytes == 0 and not standing.is_finished:
            photos.arrive(session, who, _EMPTY_SHA256, 0, now=now, name=name)
            standing = replace(standing, expires_at=None)
        elif brings:
            hold = uploads.claim(session, who, name, offset_bytes=offset, limits=_limits(), now=now)
            standing = hold or standing
    _drop(stale)
    return standing


@blueprint.route("/<name>", methods=["DELETE"])
@roles(*_SENDERS, permit=True)
@blueprint.doc(parameters=[_VERSION])
@blueprint.response(204)
def delete_upload(who: SignedIn, name: str) -> Response:
    """Give up an upload that is not complete. A complete one is evidence and stays."""
    return _give_up(who, name)


def _give_up(who: SignedIn, name: str) -> Response:
    def forget() -> list[str]:
        with _writing() as (session, now):
            return uploads.forget(session, who, name, now=now)

    _drop(_patiently(forget))
    return Response(status=204)


# ---------------------------------------------------------------- adding bytes


@blueprint.route("/<name>", methods=["PATCH"])
@roles(*_SENDERS, permit=True)
@blueprint.doc(
    parameters=[_VERSION, _told("Upload-Offset", "Where these bytes begin", required=True), _LENGTH, _CHECKSUM],
    requestBody=_CHUNK | {"required": True},
)
@blueprint.response(204, description="They are durable", headers=_OFFSET_TOLD)
def patch_upload(who: SignedIn, name: str) -> Response:
    """Add bytes. What arrives of a chunk that is cut off is kept."""
    return _append(who, name)


def _append(who: SignedIn, name: str) -> Response:
    if request.mimetype != CHUNK_TYPE:
        raise UnsupportedEncoding(content_type=request.mimetype[:40], accepted=[CHUNK_TYPE])
    offset, length, checksum = _number("Upload-Offset"), _number("Upload-Length"), _checksum()
    if offset is None:
        raise UploadInvalid(header="Upload-Offset")

    def claim() -> Hold | None:
        with _writing() as (session, now):
            return uploads.claim(
                session, who, name, offset_bytes=offset, length_bytes=length, limits=_limits(), now=now
            )

    hold = _patiently(claim)
    if hold is None:
        _end_here()
        return _answer(204, Standing(name, offset, offset, None, None))
    return _answer(204, _take(who, hold, _Chunk(hold, offset, checksum)))


@blueprint.route("/<name>", methods=["POST"])
@roles(*_SENDERS, permit=True)
@blueprint.doc(parameters=[_VERSION, _OVERRIDE], requestBody=_CHUNK)
@blueprint.response(204, description="As the method named")
def post_instead(who: SignedIn, name: str) -> Response:
    """For networks that let no other method through: `X-HTTP-Method-Override` names the one that is meant."""
    views = {"PATCH": _append, "HEAD": _show, "DELETE": _give_up}
    meant = views.get(request.headers.get("X-HTTP-Method-Override", "").upper())
    if meant is None:
        raise MethodNotAllowed([*views, "PUT", "OPTIONS"])
    return meant(who, name)


@blueprint.route("/<name>", methods=["PUT"])
@roles(*_SENDERS, permit=True)
@blueprint.doc(requestBody=_PHOTO | {"required": True})
@blueprint.response(200, KeptPhotoSchema)
def put_photo(who: SignedIn, name: str) -> dict[str, str | int]:
    """Send a photo's bytes in one go; the address is their SHA-256. Sending it again changes nothing.

    It may come before or after the record that announces it.
    """
    _allow(who, name, request.content_length or 0)
    size = photos.receive(store(), name, pieces(_limits().photo_bytes, PhotoTooLarge))
    with _writing() as (session, now):
        stale = uploads.give_way(session, who, name)
        photos.arrive(session, who, name, size, now=now)
    _drop(stale)
    return {"sha256": name, "bytes": size}


def _allow(who: SignedIn, name: str, size_bytes: int) -> None:
    session = db.session()
    uploads.allow(session, who, name, size_bytes, _limits(), now=dt.datetime.now(dt.UTC))
    session.rollback()


# ---------------------------------------------------------------- a chunk as it comes


class _Chunk:
    """The body of this request, poured out a stretch at a time; it begins at `first_byte` of the photo."""

    def __init__(self, hold: Hold, first_byte: int, checksum: _Checksum | None) -> None:
        self._known = hold.offset_bytes - first_byte  # bytes that the upload has already are passed over
        self._pieces = pieces(self._known + hold.room_bytes, PhotoTooLarge)
        self.checksum = checksum
        self.came_bytes = 0
        self.has_ended = False
        self.cut: BodyTruncated | None = None

    def pour(self, file: IO[bytes]) -> None:
        """What came within KEEP_EVERY_S, before a pause or until the end has been written to the file."""
        until = time.monotonic() + KEEP_EVERY_S
        try:
            for piece in self._pieces:
                self._write(piece, file)
                if not piece or time.monotonic() > until:
                    return
        except BodyTruncated as cut:
            self.cut = cut
        self.has_ended = True

    def _write(self, piece: bytes, file: IO[bytes]) -> None:
        self.came_bytes += len(piece)
        if self.checksum:
            self.checksum.digest.update(piece)
        file.write(piece[self._known :])
        self._known -= min(self._known, len(piece))

    def check(self, hold: Hold) -> None:
        """Its bytes may count. Raises ChecksumMismatch, or its BodyTruncated where nothing can check them any more."""
        if self.checksum and self.cut and not hold.is_named:
            raise self.cut
        if self.checksum and not self.cut and self.checksum.digest.digest() != self.checksum.expected:
            raise ChecksumMismatch()


def _take(who: SignedIn, hold: Hold, chunk: _Chunk) -> Standing:
    """How far the upload is when the chunk is at its end: its bytes are durable, and counted.

    Raises BodyTruncated if it was cut off, all the same.
    """
    with _letting_go(hold):
        while not chunk.has_ended:
            with store().incoming() as file:
                _fill(hold, chunk, file)
                if chunk.has_ended:
                    chunk.check(hold)
                if chunk.has_ended and hold.offset_bytes + file.tell() == hold.length_bytes:
                    return _finish(who, hold, file)
                hold = _count(hold, file, goes_on=not chunk.has_ended)
    if chunk.cut:
        raise chunk.cut
    return hold


def _fill(hold: Hold, chunk: _Chunk, file: IO[bytes]) -> None:
    """What may be counted next is in the file: what came before a pause or within KEEP_EVERY_S, or a chunk as a whole.

    A chunk is checked before it counts; and the photo's last byte waits for the end of its chunk, for one that is too
    long is refused.
    """
    came_bytes = 0
    while True:
        chunk.pour(file)
        if chunk.has_ended or (not chunk.checksum and 0 < file.tell() < hold.room_bytes):
            return
        if chunk.came_bytes > came_bytes:
            with _writing() as (session, now):
                uploads.renew(session, hold, now=now)
        came_bytes = chunk.came_bytes


def _count(hold: Hold, file: IO[bytes], *, goes_on: bool) -> Hold:
    """What is in the file is kept as a part, and counted."""
    size, key = file.tell(), uuid.uuid4().hex
    if not size:
        with _writing() as (session, _):
            uploads.let_go(session, hold)
        return hold
    store().keep(file, part_key(key))
    try:
        with _writing() as (session, now):
            return uploads.count(session, hold, key, size, _limits(), now=now, goes_on=goes_on)
    except UploadBusy:
        _drop([key])
        raise


def _finish(who: SignedIn, hold: Hold, tail: IO[bytes]) -> Standing:
    """The photo has arrived: all its bytes are durable under their digest, and that is known."""
    length, parts = hold.offset_bytes + tail.tell(), []
    if hold.offset_bytes:
        with _writing() as (session, now):
            parts = uploads.gather(session, hold, now=now)
    try:
        sha256 = uploads.assemble(store(), hold, parts, tail)
    except PhotoDigestMismatch:
        with _writing() as (session, _):
            stale = uploads.start_over(session, hold)
        _drop(stale)
        raise
    with _writing() as (session, now):
        # A photo that fits its name has arrived, whoever has taken over: putting it together may outlast the lease.
        stale = uploads.give_way(session, who, sha256) if hold.is_named else uploads.finish(session, hold)
        photos.arrive(session, who, sha256, length, now=now, name=hold.name)
    _drop(stale)
    return Standing(hold.name, length, length, hold.told, None)


# ---------------------------------------------------------------- what is asked


@dataclass(frozen=True)
class _Checksum:
    """What a chunk's bytes come to, and what they should."""

    digest: Any
    expected: bytes


def _checksum() -> _Checksum | None:
    said = request.headers.get("Upload-Checksum")
    if said is None:
        return None
    algorithm, _, value = said.partition(" ")
    with suppress(binascii.Error, ValueError):
        expected = base64.b64decode(value, validate=True)
        if CHECKSUMS.get(algorithm) == len(expected):
            return _Checksum(hashlib.new(algorithm, usedforsecurity=False), expected)
    raise UploadInvalid(header="Upload-Checksum", accepted=list(CHECKSUMS))


def _asked() -> Asked:
    told, length = request.headers.get("Upload-Metadata"), _number("Upload-Length")
    deferred = request.headers.get("Upload-Defer-Length")
    if "Upload-Concat" in request.headers:  # parts of a photo would each count as one
        raise UploadInvalid(header="Upload-Concat")
    if deferred not in (None, "1"):
        raise UploadInvalid(header="Upload-Defer-Length")
    if (length is None) == (deferred is None):
        raise UploadInvalid(header="Upload-Length")
    return Asked(uploads.named(told), length, told)


def _number(header: str) -> int | None:
    said = request.headers.get(header)
    if said is None:
        return None
    if not _NUMBER.fullmatch(said):
        raise UploadInvalid(header=header)
    return int(said)


def _brings_chunk() -> bool:
    """Whether a creation has a body. Some clients name a type for one that is empty."""
    if has_body() and request.mimetype != CHUNK_TYPE:
        raise UnsupportedEncoding(content_type=request.mimetype[:40], accepted=[CHUNK_TYPE])
    return has_body()


def _end_here() -> None:
    """The body is empty. Raises PhotoTooLarge if it isn't."""
    for _ in pieces(0, PhotoTooLarge):
        pass


def _settings() -> Settings:
    settings: Settings = current_app.extensions["settings"]
    return settings


def _limits() -> Limits:
    settings = _settings()
    waits = dt.timedelta(seconds=settings.upload_expires_s)
    return Limits(settings.photo_max_bytes, settings.photo_day_max_bytes, waits)


# ---------------------------------------------------------------- transactions


@contextmanager
def _writing() -> Iterator[tuple[Session, dt.datetime]]:
    """A short transaction that writes, and its moment; committed at the end unless something was raised."""
    session = db.session()
    begin_write(session)
    yield session, dt.datetime.now(dt.UTC)
    session.commit()


def _patiently(step: Callable[[], T]) -> T:
    """What the step comes to. Where another request holds the upload, that gets WAIT_S to let go. Raises UploadBusy."""
    until = time.monotonic() + WAIT_S
    while True:
        try:
            return step()
        except UploadBusy:
            db.session.rollback()
            if time.monotonic() > until:
                raise
        time.sleep(LOOK_EVERY_S)


@contextmanager
def _letting_go(hold: Hold) -> Iterator[None]:
    """Whatever goes wrong, the next request need not wait."""
    try:
        yield
    except Exception:
        db.session.rollback()
        with suppress(SQLAlchemyError), _writing() as (session, _):
            uploads.let_go(session, hold)
        raise


def _drop(keys: Iterable[str]) -> None:
    """Parts that nothing names any more are gone; what can't be reached now is found by `flask check-store`."""
    with suppress(Busy, OSError):
        for key in keys:
            store().drop(part_key(key))
