"""Files for other programs: the records of a list in the format that the address ends with.

A file is written beside before its first byte is sent: whatever fails is answered as a problem, a length is announced,
and nobody's slow line holds the database. Who took out what, and how many, is on record before it leaves.
"""

from __future__ import annotations

import datetime as dt
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from flask import Response, request
from flask_smorest import Blueprint
from marshmallow import RAISE
from sqlalchemy.orm import Session
from werkzeug.wsgi import FileWrapper

from field_api import taken_out
from field_api.answers import request_id
from field_api.database import db, writing
from field_api.identity import roles
from sync import columns, export
from sync.columns import Wanted
from sync.models import ROLES, SignedIn, begin_read
from sync.problems import Busy
from sync.store import PIECE_BYTES

blueprint = Blueprint("exports", __name__, url_prefix="/api/v1/exports", description="Files for other programs")

#: Files that one process writes at once, each in up to 100 MB of memory (measured), and how long others wait, s.
AT_ONCE, PATIENCE_S = 2, 30
_ANY_FILE = {"type": "string", "format": "binary"}
_WRITING = threading.BoundedSemaphore(AT_ONCE)


@blueprint.route("/incidents.<ending>")
@roles(*ROLES, program=True)
@blueprint.arguments(export.QUERIES["incident"], location="query", unknown=RAISE)
@blueprint.alt_response(200, schema=_ANY_FILE, content_type="application/octet-stream", success=True)
def export_incidents(who: SignedIn, query: dict[str, Any], ending: str) -> Response:
    """The incidents of a list as gpkg, fgb, geojson, geojsonl, csv, kml, shp.zip, parquet or xlsx; points."""
    return _answer(who, "incident", query, ending)


@blueprint.route("/warnings.<ending>")
@roles(*ROLES, program=True)
@blueprint.arguments(export.QUERIES["warning"], location="query", unknown=RAISE)
@blueprint.alt_response(200, schema=_ANY_FILE, content_type="application/octet-stream", success=True)
def export_warnings(who: SignedIn, query: dict[str, Any], ending: str) -> Response:
    """The warnings of a list as gpkg, fgb, geojson, geojsonl, csv, kml, shp.zip, parquet or xlsx; points."""
    return _answer(who, "warning", query, ending)


@blueprint.route("/patrols.<ending>")
@roles(*ROLES, program=True)
@blueprint.arguments(export.QUERIES["patrol"], location="query", unknown=RAISE)
@blueprint.alt_response(200, schema=_ANY_FILE, content_type="application/octet-stream", success=True)
def export_patrols(who: SignedIn, query: dict[str, Any], ending: str) -> Response:
    """The patrols of a list as gpkg, fgb, geojson, geojsonl, csv, kml, shp.zip, parquet or xlsx; lines."""
    return _answer(who, "patrol", query, ending)


def _answer(who: SignedIn, kind: str, query: dict[str, Any], ending: str) -> Response:
    wanted = export.wanted(who, kind, query)
    format = export.check(wanted, ending)
    with Session(db.engine) as session:
        begin_read(session)
        tag = export.tag(session, who, wanted, ending)
        known = _known(session, who, wanted, ending)
        if known is not None:
            answer = Response(status=304)
        elif request.method == "HEAD":
            answer = Response()
        else:
            answer = _file(session, who, wanted, ending)
    answer.mimetype = format.mimetype
    answer.set_etag(known or tag.etag)
    answer.headers["X-Next-Cursor"] = tag.cursor
    answer.headers["Content-Disposition"] = (
        f'attachment; filename="{export.file_name(wanted, ending, dt.datetime.now(dt.UTC))}"'
    )
    answer.cache_control.private = True
    answer.cache_control.no_cache = True
    answer.vary.add("Authorization")
    return answer


def _known(session: Session, who: SignedIn, wanted: Wanted, ending: str) -> str | None:
    """The tag of the file that whoever asks has already, if it is what would be written now."""
    tags = request.if_none_match.as_set()
    return next((etag for etag in tags if export.is_current(session, who, wanted, ending, etag)), None)


def _file(session: Session, who: SignedIn, wanted: Wanted, ending: str) -> Response:
    with ExitStack() as opened:
        with _turn():
            folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="export-"))
            path = Path(folder) / f"file.{ending}"
            records = export.write(session, who, wanted, ending, path)
        session.rollback()
        file = opened.enter_context(path.open("rb"))
        _taken_out(who, wanted, ending, records, path.stat().st_size)
        answer = Response(FileWrapper(file, PIECE_BYTES))
        answer.content_length = path.stat().st_size
        answer.call_on_close(opened.pop_all().close)
    return answer


@contextmanager
def _turn() -> Iterator[None]:
    """Few at once: a process has memory and processors for no more."""
    if not _WRITING.acquire(timeout=PATIENCE_S):
        raise Busy("many files are being written")
    try:
        yield
    finally:
        _WRITING.release()


def _taken_out(who: SignedIn, wanted: Wanted, ending: str, records: int, size_bytes: int) -> None:
    """The access log says who takes the file, and what is in it."""
    details = export.told(wanted) | {"records": records, "bytes": size_bytes, "request_id": request_id()}
    entity = f"{columns.NAMES[wanted.kind]}.{ending}"
    with writing(db.engine) as session:
        taken_out.enter(session, who, "export", entity, details, now=dt.datetime.now(dt.UTC))
