"""What people decide: records, operations that wait, and the inbox of both: `/api/v1/review`."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Any

from flask import Response, current_app
from flask_smorest import Blueprint
from marshmallow import RAISE, Schema

from field_api.answers import BodyTooLarge, as_json
from field_api.bodies import whole
from field_api.database import db
from field_api.identity import roles
from field_api.once import once, takes_key
from field_api.settings import Settings
from field_api.yardstick import yardstick
from sync import group_review, inbox, installations, reference, review, shapes, wire
from sync.models import REVIEW_ROLES, SignedIn, begin_read, begin_write
from sync.review import Sitting

blueprint = Blueprint("review", __name__, url_prefix="/api/v1/review", description="What people decide")

#: A decision at most, bytes: the largest operation, corrected, and what goes round it.
BODY_MAX_BYTES = 2 * wire.MAX_OPERATION_BYTES
_LOSS, _GROUPING = wire.LossShape(), wire.GroupingShape()
_DECISION, _APPROVALS, _ON_OPERATION = wire.RecordDecisionShape(), wire.ApprovalsShape(), wire.OperationDecisionShape()

Deciding = Callable[[Sitting, dict[str, Any]], dict[str, Any]]


def _takes(shape: Schema) -> Any:
    """Says in the API document what a view reads, and what may be wrong with it."""
    body = {"required": True, "content": {"application/json": {"schema": shape}}}
    wrong = {404: "NOT_FOUND", 409: "CONFLICT", 422: "UNPROCESSABLE_ENTITY"}
    return blueprint.doc(requestBody=body, responses=wrong)


@blueprint.route("/records/<uuid:id>", methods=["POST"])
@roles(*REVIEW_ROLES)
@takes_key
@_takes(_DECISION)
@blueprint.alt_response(200, schema=shapes.StandingDocument, success=True)
def post_record(who: SignedIn, id: uuid.UUID) -> Response:
    """Approve a record, return it to its officer, make it void, or comment on it.

    `version` and `state` are those you saw: 409 with how it stands now if that is no longer so.
    """
    return _decide(who, _DECISION, lambda sitting, said: review.decide(db.session(), sitting, id, said))


@blueprint.route("/approvals", methods=["POST"])
@roles(*REVIEW_ROLES)
@takes_key
@_takes(_APPROVALS)
@blueprint.alt_response(200, schema=shapes.ApprovalsDocument, success=True)
def post_approvals(who: SignedIn) -> Response:
    """Approve up to 500 records that were received, each in the version you saw; a result for each, in your order."""
    return _decide(who, _APPROVALS, lambda sitting, said: {"results": review.approve(db.session(), sitting, said)})


@blueprint.route("/operations/<uuid:id>")
@roles(*REVIEW_ROLES)
@blueprint.doc(responses={404: "NOT_FOUND"})
@blueprint.alt_response(200, schema=shapes.WholeOperationDocument, success=True)
def get_operation(who: SignedIn, id: uuid.UUID) -> Response:
    """An operation, whole: what the phone sent, why it waits, and both values of what is in conflict."""
    session = db.session()
    begin_read(session)
    found = inbox.operation(session, who, id, now=dt.datetime.now(dt.UTC))
    session.rollback()
    return as_json(found)


@blueprint.route("/operations/<uuid:id>", methods=["POST"])
@roles(*REVIEW_ROLES)
@takes_key
@_takes(_ON_OPERATION)
@blueprint.alt_response(200, schema=shapes.DecidedOperationDocument, success=True)
def post_operation(who: SignedIn, id: uuid.UUID) -> Response:
    """Repair, resolve or dismiss an operation that waits for a person; once, for good.

    A repair brings the corrected `operation` (`op`, `n` and `at` stay the phone's where they can be read). A resolution
    brings the `version` of the record it is about, and in `fields` a choice for every field that clashes.
    """
    return _decide(who, _ON_OPERATION, lambda sitting, said: review.decide_operation(db.session(), sitting, id, said))


@blueprint.route("/inbox")
@roles(*REVIEW_ROLES)
@blueprint.arguments(shapes.InboxQuery, location="query", unknown=RAISE)
@blueprint.alt_response(200, schema=shapes.InboxDocument, success=True)
def get_inbox(who: SignedIn, query: dict[str, Any]) -> Response:
    """What waits for a person: how much of each kind, and a page of one `kind`, oldest first.

    Of `alike`, pairs that may be one thing, the most alike come first, each with all that speaks for it and against.
    """
    session, now = db.session(), dt.datetime.now(dt.UTC)
    begin_read(session)
    cursor, limit = query.get("cursor"), query["limit"]
    found = inbox.page(session, who, query.get("kind"), yardstick(), limit=limit, cursor=cursor, now=now)
    session.rollback()
    return as_json({"counts": found.counts, "items": found.items, "next": found.next})


@blueprint.route("/groups", methods=["POST"])
@roles(*REVIEW_ROLES)
@takes_key
@_takes(_GROUPING)
@blueprint.alt_response(200, schema=shapes.GroupedDocument, success=True)
def post_grouping(who: SignedIn) -> Response:
    """Say of records that are alike, or of vendors, that they are one thing (`group`), that some are not the rest of
    their group (`split`, with those that are `off`), that they are not the same (`apart`); or that such a word was
    wrong (`undo`).

    Name every record that it is about, each in the version you saw (a vendor's is 1), with all that they are one thing
    with: 409 with how it is now if that is no longer so. The records themselves stay as they are.
    """
    return _decide(who, _GROUPING, lambda at, said: group_review.decide(db.session(), at.who, said, now=at.now))


@blueprint.route("/groups/<uuid:id>")
@roles(*REVIEW_ROLES)
@blueprint.doc(responses={404: "NOT_FOUND"})
@blueprint.alt_response(200, schema=shapes.GroupHistoryDocument, success=True)
def get_group(who: SignedIn, id: uuid.UUID) -> Response:
    """What a record, or a vendor, is one thing with, and all that was ever said of them, in order."""
    session = db.session()
    begin_read(session)
    found = group_review.history(session, who, id)
    session.rollback()
    return as_json(found)


@blueprint.route("/holes/<uuid:id>", methods=["POST"])
@roles(*REVIEW_ROLES)
@takes_key
@_takes(_LOSS)
@blueprint.alt_response(200, schema=shapes.InstallationDocument, success=True)
def post_loss(who: SignedIn, id: uuid.UUID) -> Response:
    """Declare counters of a phone lost: holes, or what one that is revoked or replaced had declared unsent.

    Nobody waits for them any more; what arrives after all is stored as ever. 409 if one of them is not missing.
    """
    return _decide(who, _LOSS, lambda at, said: installations.declare_lost(db.session(), at.who, id, said, now=at.now))


def _decide(who: SignedIn, shape: Schema, decide: Deciding) -> Response:
    """The decision in the body of this request, taken once."""
    body = whole(BODY_MAX_BYTES, BodyTooLarge)
    said = wire.read_decision(body, shape)
    settings: Settings = current_app.extensions["settings"]
    session, now = db.session(), dt.datetime.now(dt.UTC)
    begin_write(session)
    known = reference.snapshot(session)
    sitting = Sitting(who, now, known.lists, known.areas, settings.photo_max_bytes, yardstick())
    answer = once(session, who, body, lambda: decide(sitting, said), now=now)
    session.commit()
    return answer
