"""Photos out: small pictures made of them for whoever sees a record that cites one, and the original bytes for few.

Not there, not for you and no SHA-256 at all are one answer, for every size: nobody learns what others have.
"""

from __future__ import annotations

import base64
import datetime as dt
import logging
import re
from contextlib import ExitStack

from flask import Response, request
from flask_smorest import Blueprint
from marshmallow import RAISE, Schema, fields, validate
from werkzeug.wsgi import FileWrapper

from field_api import taken_out
from field_api.answers import request_id
from field_api.database import db
from field_api.identity import roles
from field_api.storage import store
from sync import darkroom, patrol_log, pictures
from sync.models import ROLES, SignedIn, begin_read, begin_write
from sync.problems import Forbidden, NotFound, PhotoNotShown
from sync.store import PIECE_BYTES, photo_key

log = logging.getLogger(__name__)

blueprint = Blueprint("photos", __name__, url_prefix="/api/v1/photos", description="Photos that records cite")

#: Who may have the very bytes, with whatever else stands in them.
ORIGINAL_ROLES = ("reviewer", "supervisor")
#: How long a request waits while the pictures of others are made, s.
PATIENCE_S = 10
#: How long a browser shows a picture without asking again, s. Whoever may no longer see the record may until then.
FRESH_S = 3600
#: What is sent runs nothing, wherever it is opened: a photo may be a web page too.
_SANDBOX = "default-src 'none'; sandbox"
#: What an original of a format is sent as, and the ending of its name.
_FORMATS = {
    "jpeg": ("image/jpeg", "jpg"),
    "png": ("image/png", "png"),
    "webp": ("image/webp", "webp"),
    "avif": ("image/avif", "avif"),
    "heic": ("image/heic", "heic"),
}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNKNOWN = ("application/octet-stream", "bin")


class PhotoQuery(Schema):
    """Which of its sizes."""

    size = fields.String(load_default="screen", validate=validate.OneOf((*pictures.SIZES, "original")))


@blueprint.route("/<sha256>")
@roles(*ROLES, program=True)
@blueprint.arguments(PhotoQuery, location="query", unknown=RAISE)
@blueprint.alt_response(200, schema={"type": "string", "format": "binary"}, content_type="image/jpeg", success=True)
def get_photo(who: SignedIn, query: dict[str, str], sha256: str) -> Response:
    """A photo that a record you may see cites: `thumb` or `screen`, upright JPEGs without EXIF, or the `original`.

    Originals are for supervisors and reviewers, as an attachment in the format they came in; every download is logged.
    An access token is good for the small ones.
    """
    size = query["size"]
    if size == "original" and who.role not in ORIGINAL_ROLES:
        raise Forbidden(roles=sorted(ORIGINAL_ROLES))
    if size == "original" and who.install_id is None:
        raise Forbidden("A program with an access token gets small pictures only")
    if not _sees(who, sha256):
        raise NotFound
    try:
        return _original(who, sha256) if size == "original" else _picture(sha256, size)
    except FileNotFoundError:
        log.error("request %s: photo %s has no bytes; flask check-store tells which others", request_id(), sha256)
        raise NotFound from None


def _sees(who: SignedIn, sha256: str) -> bool:
    if not _SHA256.fullmatch(sha256):
        return False
    session = db.session()
    begin_read(session)
    sees = patrol_log.sees_photo(session, who, sha256)
    session.rollback()
    return sees


def _picture(sha256: str, size: str) -> Response:
    etag = f"{sha256}-{size}"
    if request.if_none_match.contains_weak(etag):
        answer = Response(status=304)
    elif not _can_be_shown(sha256):
        raise PhotoNotShown
    else:
        answer = Response(darkroom.develop(store(), sha256, size, patience_s=PATIENCE_S), mimetype="image/jpeg")
    answer.set_etag(etag)
    answer.cache_control.private = True
    answer.cache_control.max_age = FRESH_S
    answer.vary.add("Authorization")
    answer.headers["Content-Security-Policy"] = _SANDBOX
    return answer


def _can_be_shown(sha256: str) -> bool:
    session = db.session()
    begin_read(session)
    can_be = darkroom.can_be_shown(session, sha256)
    session.rollback()
    return can_be


def _original(who: SignedIn, sha256: str) -> Response:
    """The very bytes, streamed from the store. Who takes them is on record before the first one leaves."""
    with ExitStack() as opened:
        file = opened.enter_context(store().opened(photo_key(sha256)))
        kept = _taken_out(who, sha256)
        answer = Response(FileWrapper(file, PIECE_BYTES))
        answer.call_on_close(opened.pop_all().close)
    answer.mimetype, ending = _FORMATS.get(kept.format or "", _UNKNOWN)
    answer.content_length = kept.size_bytes
    answer.headers["Content-Disposition"] = f'attachment; filename="{sha256}.{ending}"'
    answer.headers["Content-Security-Policy"] = _SANDBOX
    answer.headers["Repr-Digest"] = f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"
    return answer


def _taken_out(who: SignedIn, sha256: str) -> darkroom.Kept:
    """What is known of the photo. The access log says who takes it; HEAD takes nothing."""
    session = db.session()
    begin_write(session)
    kept = darkroom.kept(session, sha256)
    if request.method == "GET":
        details = {"bytes": kept.size_bytes, "request_id": request_id()}
        taken_out.enter(session, who, "photo-original", sha256, details, now=dt.datetime.now(dt.UTC))
    session.commit()
    return kept
