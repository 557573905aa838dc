"""Photos in, whole: `PUT /api/v1/uploads/{sha256}`."""

from __future__ import annotations

import datetime as dt

from flask import current_app
from flask_smorest import Blueprint
from marshmallow import Schema, fields

from field_api.bodies import pieces
from field_api.database import db
from field_api.identity import roles
from field_api.settings import Settings
from field_api.storage import store
from sync import photos
from sync.models import FIELD_ROLES, SignedIn, begin_write
from sync.problems import PhotoTooLarge

blueprint = Blueprint("uploads", __name__, url_prefix="/api/v1/uploads", description="Photos")


class KeptPhotoSchema(Schema):
    """A photo that is kept."""

    sha256 = fields.String(required=True)
    bytes = fields.Integer(required=True)


@blueprint.route("/<sha256>", methods=["PUT"])
@roles(*sorted(FIELD_ROLES))
@blueprint.doc(
    requestBody={
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
)
@blueprint.response(200, KeptPhotoSchema)
def put_photo(who: SignedIn, sha256: str) -> dict[str, str | int]:
    """Send a photo's bytes in one go; the address is their SHA-256. Sending it again changes nothing.

    It may come before or after the record that announces it.
    """
    settings: Settings = current_app.extensions["settings"]
    size = photos.receive(store(), sha256, pieces(settings.photo_max_bytes, PhotoTooLarge))
    session = db.session()
    begin_write(session)
    photos.arrive(session, who, sha256, size, now=dt.datetime.now(dt.UTC))
    session.commit()
    return {"sha256": sha256, "bytes": size}
