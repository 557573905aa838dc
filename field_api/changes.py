"""What a phone takes along, and what came of its records: `/api/v1/sync/changes`."""

from __future__ import annotations

import gzip
from typing import Any

from flask import Response, request
from flask_smorest import Blueprint
from marshmallow import RAISE

from field_api.answers import as_json
from field_api.database import db
from field_api.identity import roles
from sync import carried, changes
from sync.models import FIELD_ROLES, SignedIn, begin_read

blueprint = Blueprint("changes", __name__, url_prefix="/api/v1/sync", description="What phones take along")

#: A page of reference data becomes a fifth at this level; higher ones take longer and gain little.
_LEVEL = 5
#: Answers shorter than this, bytes, fit into one packet anyway.
_NOT_WORTH_PACKING = 1_000


@blueprint.route("/changes")
@roles(*sorted(FIELD_ROLES))
@blueprint.arguments(carried.ChangesQuery, location="query", unknown=RAISE)
@blueprint.doc(parameters=[{"in": "header", "name": "If-None-Match", "schema": {"type": "string"}}])
@blueprint.alt_response(200, schema=carried.PAGE_DOCUMENT, success=True)
@blueprint.alt_response(304, description="Nothing has changed", success=True)
@blueprint.alt_response(410, "GONE")
def list_changes(who: SignedIn, query: dict[str, Any]) -> Response:
    """What has changed since the cursor, or everything from the beginning: lists, vendors, warnings, your records.

    Ask again with the cursor of the answer; at once as long as `more` is true. 410: begin without one.
    """
    session = db.session()
    begin_read(session)
    page = changes.changes(session, who, query.get("cursor"), limit=query["limit"])
    session.rollback()
    answer = _packed(as_json({"changes": page.changes, "cursor": page.cursor, "more": page.more}))
    answer.set_etag(f"{page.cursor}{'+' * page.more}", weak=True)
    answer.cache_control.private, answer.cache_control.no_cache = True, True
    answer.make_conditional(request)
    return answer


def _packed(answer: Response) -> Response:
    """The answer with gzip, if whoever asks takes that."""
    answer.vary.add("Accept-Encoding")
    content = answer.get_data()
    if request.accept_encodings["gzip"] and len(content) >= _NOT_WORTH_PACKING:
        answer.set_data(gzip.compress(content, _LEVEL, mtime=0))
        answer.content_encoding = "gzip"
    return answer
