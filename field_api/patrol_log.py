"""What was recorded: lists and single records of patrols, incidents and warnings."""

from __future__ import annotations

import uuid
from typing import Any

from flask import Response
from flask_smorest import Blueprint
from marshmallow import RAISE

from field_api.answers import as_json
from field_api.database import db
from field_api.identity import roles
from sync import patrol_log, shapes
from sync.models import ROLES, SignedIn, begin_read
from sync.patrol_log import FILTERS, Selection

blueprint = Blueprint("patrol_log", __name__, url_prefix="/api/v1", description="What was recorded, newest first")

#: What a list takes beside the filters of its kind.
_PAGING = ("limit", "cursor", "count")
_QUERIES = {kind: shapes.PageQuery(only=(*filters, *_PAGING)) for kind, filters in FILTERS.items()}


@blueprint.route("/patrols")
@roles(*ROLES, program=True)
@blueprint.arguments(_QUERIES["patrol"], location="query", unknown=RAISE)
@blueprint.alt_response(200, schema=shapes.page_document(shapes.PatrolDocument), success=True)
def list_patrols(who: SignedIn, query: dict[str, Any]) -> Response:
    """Patrols you may see: your own, those of your townships, or all."""
    return _list(who, "patrol", query)


@blueprint.route("/incidents")
@roles(*ROLES, program=True)
@blueprint.arguments(_QUERIES["incident"], location="query", unknown=RAISE)
@blueprint.alt_response(200, schema=shapes.page_document(shapes.IncidentDocument), success=True)
def list_incidents(who: SignedIn, query: dict[str, Any]) -> Response:
    """Incidents you may see: your own, those of your townships, or all."""
    return _list(who, "incident", query)


@blueprint.route("/warnings")
@roles(*ROLES, program=True)
@blueprint.arguments(_QUERIES["warning"], location="query", unknown=RAISE)
@blueprint.alt_response(200, schema=shapes.page_document(shapes.WarningDocument), success=True)
def list_warnings(who: SignedIn, query: dict[str, Any]) -> Response:
    """Warnings you may see: your own, those of your townships, or all."""
    return _list(who, "warning", query)


@blueprint.route("/patrols/<uuid:id>")
@roles(*ROLES, program=True)
@blueprint.alt_response(200, schema=shapes.OnePatrolDocument, success=True)
def get_patrol(who: SignedIn, id: uuid.UUID) -> Response:
    """A patrol with its track and the history of its operations."""
    return _one(who, "patrol", id)


@blueprint.route("/incidents/<uuid:id>")
@roles(*ROLES, program=True)
@blueprint.alt_response(200, schema=shapes.OneIncidentDocument, success=True)
def get_incident(who: SignedIn, id: uuid.UUID) -> Response:
    """An incident with the history of its operations."""
    return _one(who, "incident", id)


@blueprint.route("/warnings/<uuid:id>")
@roles(*ROLES, program=True)
@blueprint.alt_response(200, schema=shapes.OneWarningDocument, success=True)
def get_warning(who: SignedIn, id: uuid.UUID) -> Response:
    """A warning with the history of its operations."""
    return _one(who, "warning", id)


def _list(who: SignedIn, kind: str, query: dict[str, Any]) -> Response:
    limit, cursor, counting = query.pop("limit"), query.pop("cursor", None), query.pop("count")
    selection, session = Selection(**query), db.session()
    begin_read(session)
    page = patrol_log.page(session, who, kind, selection, limit=limit, cursor=cursor)
    answer: dict[str, Any] = {"items": page.items, "next": page.next}
    if counting == "true":
        answer["count"] = patrol_log.count(session, who, kind, selection)
    session.rollback()
    return as_json(answer)


def _one(who: SignedIn, kind: str, id: uuid.UUID) -> Response:
    session = db.session()
    begin_read(session)
    record = patrol_log.one(session, who, kind, id)
    session.rollback()
    return as_json(record)
