"""Phones: which there are and what they owe, and what is to be done when one is lost or stranded."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from flask import Response
from flask_smorest import Blueprint
from marshmallow import RAISE

from field_api import taken_out
from field_api.answers import BodyTooLarge, as_json
from field_api.bodies import whole
from field_api.database import db
from field_api.identity import roles
from field_api.once import once, takes_key
from sync import accounts, installations, shapes, wire
from sync.installations import Selection
from sync.models import SignedIn, begin_read, begin_write

blueprint = Blueprint("installations", __name__, url_prefix="/api/v1/installations", description="Phones")

#: A reason and what goes round it, bytes at most.
BODY_MAX_BYTES = 16 * 1024
#: What may be asked for as `true` or `false`.
_FLAGS = ("holes", "unsent", "possible_loss", "revoked")
_REVOCATION, _PERMIT = wire.RevocationShape(), wire.PermitShape()
_WRONG = {404: "NOT_FOUND", 422: "UNPROCESSABLE_ENTITY"}


@blueprint.route("")
@roles("supervisor", "reviewer", "admin", "auditor")
@blueprint.arguments(shapes.InstallationsQuery, location="query", unknown=RAISE)
@blueprint.alt_response(200, schema=shapes.InstallationsDocument, success=True)
def list_installations(who: SignedIn, query: dict[str, Any]) -> Response:
    """Phones of officers posted to your townships, or all: when they last spoke, what they still have, what is missing.

    The newest first. `silent_since`: not heard of since then, or never.
    """
    session, now = db.session(), dt.datetime.now(dt.UTC)
    limit, cursor = query.pop("limit"), query.pop("cursor", None)
    asked = Selection(**(query | {name: query[name] == "true" for name in _FLAGS if name in query}))
    begin_read(session)
    page = installations.page(session, who, asked, limit=limit, cursor=cursor, now=now)
    session.rollback()
    return as_json({"items": page.items, "next": page.next})


@blueprint.route("/<uuid:id>/revoke", methods=["POST"])
@roles("supervisor", "admin")
@takes_key
@blueprint.doc(requestBody={"required": True, "content": {"application/json": {"schema": _REVOCATION}}})
@blueprint.doc(responses=_WRONG)
@blueprint.alt_response(200, schema=shapes.InstallationDocument, success=True)
def post_revocation(who: SignedIn, id: uuid.UUID) -> Response:
    """Revoke a lost phone: its tokens and permits stop at once, and nobody signs in on it any more."""
    body = whole(BODY_MAX_BYTES, BodyTooLarge)
    said = wire.read_decision(body, _REVOCATION)
    session, now = db.session(), dt.datetime.now(dt.UTC)

    def revoke() -> dict[str, Any]:
        installations.lock(session, who, id, now=now)
        accounts.revoke_installation(session, id, now=now)
        taken_out.enter(session, who, "revoke", str(id), said, now=now)
        return installations.one(session, who, id, now=now)

    begin_write(session)
    answer = once(session, who, body, revoke, now=now)
    session.commit()
    return answer


@blueprint.route("/<uuid:id>/permits", methods=["POST"])
@roles("supervisor", "reviewer", "admin")
@blueprint.doc(requestBody={"required": True, "content": {"application/json": {"schema": _PERMIT}}}, responses=_WRONG)
@blueprint.alt_response(200, schema=shapes.PermitDocument, success=True)
def post_permit(who: SignedIn, id: uuid.UUID) -> Response:
    """Permit an officer who can't sign in any more to send what is left on a phone, once, within 24 hours.

    The code is told this once, so there is no `Idempotency-Key`: ask again, and the code before is worth nothing.
    """
    said = wire.read_decision(whole(BODY_MAX_BYTES, BodyTooLarge), _PERMIT)
    session, now = db.session(), dt.datetime.now(dt.UTC)
    begin_write(session)
    permit = accounts.issue_permit(session, who, id, said["officer"], said["reason"], now=now)
    taken_out.enter(session, who, "permit", str(id), said | {"officer": permit.username}, now=now)
    session.commit()
    return as_json(shapes.permit(permit))
