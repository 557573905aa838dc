"""Access tokens: what programs such as QGIS read with in your name; made, listed and revoked by who has signed in."""

from __future__ import annotations

import datetime as dt
import logging
import uuid

from flask import Flask, Response, g
from flask_smorest import Blueprint
from sqlalchemy.exc import SQLAlchemyError

from field_api import taken_out
from field_api.answers import BodyTooLarge, as_json
from field_api.bodies import whole
from field_api.database import db
from field_api.identity import roles
from sync import accounts, shapes, wire
from sync.models import ROLES, SignedIn, begin_read, begin_write

log = logging.getLogger(__name__)

blueprint = Blueprint(
    "access_tokens", __name__, url_prefix="/api/v1/access-tokens", description="What programs read with in your name"
)

#: A name and a number, bytes at most.
BODY_MAX_BYTES = 4 * 1024
_SHAPE = wire.AccessTokenShape()


def init_app(app: Flask) -> None:
    """Uses of tokens are noted, after what was asked for is ready."""
    app.after_request(_note_use)


@blueprint.route("")
@roles(*ROLES)
@blueprint.alt_response(200, schema=shapes.AccessTokensDocument, success=True)
def list_access_tokens(who: SignedIn) -> Response:
    """Your access tokens, the newest first, with when each was used last. Those that ended are listed too."""
    session = db.session()
    begin_read(session)
    tokens = [shapes.access_token(row) for row in accounts.access_tokens(session, who)]
    session.rollback()
    return as_json({"items": tokens})


@blueprint.route("", methods=["POST"])
@roles(*ROLES)
@blueprint.doc(
    requestBody={"required": True, "content": {"application/json": {"schema": _SHAPE}}},
    responses={422: "UNPROCESSABLE_ENTITY"},
)
@blueprint.alt_response(201, schema=shapes.NewAccessTokenDocument, success=True)
def post_access_token(who: SignedIn) -> Response:
    """A new access token: it reads what you may see, writes nothing, and is told this once.

    Give it to QGIS or GDAL as the password of HTTP Basic, with any name, or send it as Bearer.
    """
    said = wire.read_decision(whole(BODY_MAX_BYTES, BodyTooLarge), _SHAPE)
    session, now = db.session(), dt.datetime.now(dt.UTC)
    begin_write(session)
    token, row = accounts.issue_access_token(session, who, said["name"], said["days"], now=now)
    taken_out.enter(session, who, "token-issued", str(row.id), {"name": row.name, "days": said["days"]}, now=now)
    told = shapes.access_token(row) | {"token": token}
    session.commit()
    answer = as_json(told)
    answer.status_code = 201
    return answer


@blueprint.route("/<uuid:id>", methods=["DELETE"])
@roles(*ROLES)
@blueprint.doc(responses={404: "NOT_FOUND"})
@blueprint.response(204)
def delete_access_token(who: SignedIn, id: uuid.UUID) -> None:
    """Revoke one of your access tokens, an admin anybody's: it is worth nothing from the next request on."""
    session, now = db.session(), dt.datetime.now(dt.UTC)
    begin_write(session)
    accounts.revoke_access_token(session, who, id, now=now)
    taken_out.enter(session, who, "token-revoked", str(id), {}, now=now)
    session.commit()


def _note_use(answer: Response) -> Response:
    """When the token was used last, every few minutes. It is no reason to fail what was asked for."""
    program: accounts.Program | None = g.pop("program", None)
    if program is not None and program.is_to_be_noted:
        session = db.session()
        session.rollback()
        try:
            begin_write(session)
            accounts.note_use(session, program.token_id, now=dt.datetime.now(dt.UTC))
            session.commit()
        except SQLAlchemyError as error:
            log.warning("the use of an access token was not noted: %s", error)
            session.rollback()
    return answer
