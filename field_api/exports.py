"""Files for other programs: the incidents of a list, as GeoJSON or CSV, streamed.

What fails before the first byte is answered as a problem. What fails later breaks the connection off: a file that looks
whole always is.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from flask import Response
from flask_smorest import Blueprint
from marshmallow import RAISE
from sqlalchemy.orm import Session

from field_api.database import db
from field_api.identity import roles
from sync import export, shapes
from sync.clock import LOCAL_ZONE
from sync.models import ROLES, SignedIn, begin_read
from sync.patrol_log import FILTERS, Selection

blueprint = Blueprint("exports", __name__, url_prefix="/api/v1/exports", description="Files for other programs")

_QUERY = shapes.SelectionQuery(only=FILTERS["incident"])
_GEOJSON, _CSV = "application/geo+json", "text/csv"


@blueprint.route("/incidents.geojson")
@roles(*ROLES, program=True)
@blueprint.arguments(_QUERY, location="query", unknown=RAISE)
@blueprint.alt_response(200, schema={"type": "object"}, content_type=_GEOJSON, success=True)
def export_incidents_geojson(who: SignedIn, query: dict[str, Any]) -> Response:
    """The incidents of a list as GeoJSON (RFC 7946), newest first."""
    return _streamed(export.geojson, who, query, "geojson", _GEOJSON)


@blueprint.route("/incidents.csv")
@roles(*ROLES, program=True)
@blueprint.arguments(_QUERY, location="query", unknown=RAISE)
@blueprint.alt_response(200, schema={"type": "string"}, content_type=_CSV, success=True)
def export_incidents_csv(who: SignedIn, query: dict[str, Any]) -> Response:
    """The incidents of a list as CSV (RFC 4180, UTF-8 with a byte order mark), newest first."""
    return _streamed(export.as_csv, who, query, "csv", _CSV)


def _streamed(
    write: Callable[[Session, SignedIn, Selection], Iterator[bytes]],
    who: SignedIn,
    query: dict[str, Any],
    ending: str,
    mimetype: str,
) -> Response:
    with ExitStack() as opened:
        session = opened.enter_context(Session(db.engine))
        begin_read(session)
        answer = Response(write(session, who, Selection(**query)), mimetype=mimetype)
        answer.call_on_close(opened.pop_all().close)
    day = dt.datetime.now(LOCAL_ZONE).date()
    answer.headers["Content-Disposition"] = f'attachment; filename="incidents-{day}.{ending}"'
    return answer
