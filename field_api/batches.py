"""Batches in, receipts out: `/api/v1/sync/batches` and `/api/v1/sync/operations`."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from flask import Response, current_app
from flask_smorest import Blueprint
from marshmallow import RAISE, Schema, fields, validate

from field_api.answers import as_json
from field_api.bodies import whole
from field_api.database import db
from field_api.identity import roles
from field_api.settings import Settings
from field_api.yardstick import yardstick
from sync import intake, reference, wire
from sync.models import FIELD_ROLES, SignedIn, begin_write
from sync.problems import BatchTooLarge

blueprint = Blueprint("sync", __name__, url_prefix="/api/v1/sync", description="What phones send and are told")


class OperationsQuery(Schema):
    """Counters of one installation, both ends included."""

    class Meta:
        unknown = RAISE

    install = fields.UUID(required=True)
    n_from = fields.Integer(load_default=1, validate=validate.Range(1, wire.MAX_WHOLE))
    n_to = fields.Integer(load_default=wire.MAX_WHOLE, validate=validate.Range(1, wire.MAX_WHOLE))


@blueprint.route("/batches", methods=["POST"])
@roles(*sorted(FIELD_ROLES), permit=True)
@blueprint.doc(
    requestBody={"required": True, "content": {"application/json": {"schema": wire.EnvelopeDocument}}},
    parameters=[
        {"in": "header", "name": "Content-Encoding", "schema": {"type": "string", "enum": ["gzip", "identity"]}},
        {"in": "header", "name": "Content-Digest", "schema": {"type": "string"}, "description": "RFC 9530, sha-256"},
    ],
)
@blueprint.alt_response(200, schema=wire.ReceiptDocument, success=True)
def post_batch(who: SignedIn) -> Response:
    """Send a batch: up to 1,000 operations, 8 MiB unpacked.

    Answered 200 whenever the envelope could be read: every operation is then stored for good and the phone may forget
    it. Anything else: nothing was stored, send again.
    """
    settings: Settings = current_app.extensions["settings"]
    arrived = dt.datetime.now(dt.UTC)
    envelope = wire.read_envelope(whole(settings.batch_max_bytes, BatchTooLarge), settings.batch_max_ops)
    reading_ms = (dt.datetime.now(dt.UTC) - arrived) // dt.timedelta(milliseconds=1)
    session = db.session()
    begin_write(session)
    known = reference.snapshot(session)
    receipt = intake.receive(
        session,
        who,
        envelope,
        known.lists,
        known.areas,
        now=arrived,
        photo_max_bytes=settings.photo_max_bytes,
        likeness=yardstick(),
        reading_ms=reading_ms,
    )
    session.commit()
    return as_json(receipt)


@blueprint.route("/batches/<uuid:batch_id>")
@roles(*sorted(FIELD_ROLES), permit=True)
@blueprint.alt_response(200, schema=wire.ReceiptDocument, success=True)
def get_batch(who: SignedIn, batch_id: uuid.UUID) -> Response:
    """The receipt of a batch you sent, for when the answer was lost."""
    return as_json(intake.receipt(db.session(), who, batch_id, yardstick()))


@blueprint.route("/operations")
@roles(*sorted(FIELD_ROLES), permit=True)
@blueprint.arguments(OperationsQuery, location="query", unknown=RAISE)
@blueprint.alt_response(200, schema=wire.HeldDocument, success=True)
def list_operations(who: SignedIn, query: dict[str, Any]) -> Response:
    """Which operations of an installation the server holds from you, for after damage on the phone; 1,000 at most."""
    held = intake.operations(db.session(), who, query["install"], query["n_from"], query["n_to"], yardstick())
    return as_json({"operations": held})
