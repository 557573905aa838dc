"""The ledger of a township and month: a spreadsheet with small pictures, and an archive of the originals behind it."""

from __future__ import annotations

import datetime as dt
import tempfile
from contextlib import ExitStack
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
from field_api.storage import store
from sync import access_log, ledger
from sync.ledger import LedgerQuery, Original
from sync.models import DISTRICT_ROLES, REVIEW_ROLES, SignedIn, begin_read
from sync.store import PIECE_BYTES

blueprint = Blueprint("ledgers", __name__, url_prefix="/api/v1/exports", description="Ledgers as offices keep them")

#: Who keeps ledgers; who may take originals (`photos`).
LEDGER_ROLES = tuple(sorted({*DISTRICT_ROLES, *REVIEW_ROLES}))
_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_BINARY = {"type": "string", "format": "binary"}


@blueprint.route("/ledger.xlsx")
@roles(*LEDGER_ROLES, program=True)
@blueprint.arguments(LedgerQuery, location="query", unknown=RAISE)
@blueprint.alt_response(200, schema=_BINARY, content_type=_XLSX, success=True)
def get_ledger(who: SignedIn, query: dict[str, str]) -> Response:
    """The incidents of a township in a month, with small pictures of before and after; phones and plates masked."""
    ledger.check()
    with ExitStack() as opened:
        path = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="ledger-"))) / "ledger.xlsx"
        with Session(db.engine) as session:
            begin_read(session)
            records = ledger.write(session, who, ledger.wanted(**query), store(), path)
        size_bytes = path.stat().st_size
        if request.method == "GET":
            _enter(who, "ledger.xlsx", query | {"records": records, "bytes": size_bytes})
        answer = Response(FileWrapper(opened.enter_context(path.open("rb")), PIECE_BYTES), mimetype=_XLSX)
        answer.call_on_close(opened.pop_all().close)
    answer.content_length = size_bytes
    return _named(answer, query, "xlsx")


@blueprint.route("/ledger.zip")
@roles(*REVIEW_ROLES)
@blueprint.arguments(LedgerQuery, location="query", unknown=RAISE)
@blueprint.alt_response(200, schema=_BINARY, content_type="application/zip", success=True)
def get_originals(who: SignedIn, query: dict[str, str]) -> Response:
    """The originals behind a ledger, in folders by field of law, with a manifest of their SHA-256; each is logged."""
    with Session(db.engine) as session:
        begin_read(session)
        photos = ledger.originals(session, who, ledger.wanted(**query))
    if request.method == "HEAD":
        return _named(Response(mimetype="application/zip"), query, "zip")
    _enter(who, "ledger.zip", query | {"photos": len(photos)})
    address, id, kept = request.remote_addr, request_id(), store()
    engine = db.engine

    def enter(photo: Original) -> None:
        details = {"incident": photo.incident, "ledger": query, "request_id": id}
        with writing(engine) as session:
            now = dt.datetime.now(dt.UTC)
            access_log.enter(session, who, "photo-original", photo.sha256, details, address=address, now=now)

    return _named(Response(ledger.archive(kept, photos, enter), mimetype="application/zip"), query, "zip")


def _enter(who: SignedIn, entity: str, details: dict[str, Any]) -> None:
    """The access log says who takes this out."""
    with writing(db.engine) as session:
        now = dt.datetime.now(dt.UTC)
        taken_out.enter(session, who, "export", entity, details | {"request_id": request_id()}, now=now)


def _named(answer: Response, query: dict[str, str], ending: str) -> Response:
    name = f"ledger-{query['township']}-{query['month']}.{ending}"
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer
