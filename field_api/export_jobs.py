"""Files that take longer than a request may: asked for, written behind the requests, fetched in pieces.

The same files as those of `exports`. Only who asked for one sees it, as long as they see what was theirs to see then.
"""

from __future__ import annotations

import datetime as dt
import logging
import shutil
import tempfile
import time
import uuid
from contextlib import ExitStack
from pathlib import Path

from flask import Flask, Response, current_app, request
from flask_smorest import Blueprint
from sqlalchemy.orm import Session
from werkzeug.wsgi import FileWrapper

from field_api import taken_out
from field_api.answers import BodyTooLarge, as_json, request_id
from field_api.behind import Behind
from field_api.bodies import whole
from field_api.database import db, writing
from field_api.identity import roles
from field_api.settings import Settings
from field_api.storage import store
from sync import accounts, cursors, export, jobs, patrol_log
from sync.models import ROLES, SignedIn, begin_read, begin_write, is_busy
from sync.problems import AccountDisabled, Busy, NotFound, Problem
from sync.shapes import Columns
from sync.store import PIECE_BYTES

log = logging.getLogger(__name__)

blueprint = Blueprint("export_jobs", __name__, url_prefix="/api/v1/exports/jobs", description="Files that take long")

#: A query as JSON, bytes at most.
BODY_MAX_BYTES = 16 * 1024
#: How often a job says how far it is, s.
TELL_EVERY_S = 2.0
_ASKED = export.JobShape()
_WRONG = {404: "NOT_FOUND", 422: "UNPROCESSABLE_ENTITY"}


def init_app(app: Flask, settings: Settings) -> None:
    """The app writes what is asked for, if the settings say how often it is to look for that."""
    behind = app.extensions["export_jobs"] = Behind(
        app, "export-jobs", settings.export_every_s, lambda: _work(behind), "files wait to be written"
    )
    if settings.export_every_s:
        app.before_request(behind.open)


# ---------------------------------------------------------------- asked for


@blueprint.route("", methods=["POST"])
@roles(*ROLES)
@blueprint.doc(requestBody={"required": True, "content": {"application/json": {"schema": _ASKED}}}, responses=_WRONG)
@blueprint.alt_response(202, schema=export.JobDocument, success=True)
def post_job(who: SignedIn) -> Response:
    """Ask for a file: `what` and `format` as in the address of an export, `query` what would stand behind it."""
    kind, ending, query = export.read_job(whole(BODY_MAX_BYTES, BodyTooLarge))
    wanted = export.wanted_in_words(who, kind, query)
    export.check(wanted, ending)
    session, now = db.session(), dt.datetime.now(dt.UTC)
    settings: Settings = current_app.extensions["settings"]
    begin_write(session)
    export.try_out(session, who, wanted)
    until = now + dt.timedelta(seconds=settings.export_expires_s)
    id = jobs.begin(session, who, kind, ending, query, until=until, now=now)
    job = jobs.one(session, who, id, now=now)
    session.commit()
    answer = as_json(jobs.told(job))
    answer.status_code = 202
    answer.headers["Location"] = f"/api/v1/exports/jobs/{id}"
    return answer


@blueprint.route("/<uuid:id>")
@roles(*ROLES, program=True)
@blueprint.alt_response(200, schema=export.JobDocument, success=True)
def get_job(who: SignedIn, id: uuid.UUID) -> Response:
    """How far it is: `waiting`, `writing`, `ready` or `failed`."""
    return as_json(jobs.told(_one(who, id)))


@blueprint.route("/<uuid:id>/file")
@roles(*ROLES, program=True)
@blueprint.alt_response(200, schema={"type": "string", "format": "binary"}, content_type="application/octet-stream")
def get_job_file(who: SignedIn, id: uuid.UUID) -> Response:
    """The file, or with `Range` (and `If-Range`) what is still lacking of it."""
    job = _one(who, id)
    if job.key is None or job.scope != _scope(who):
        raise NotFound
    wanted = export.wanted_in_words(who, job.kind, job.query)
    with ExitStack() as opened:
        try:
            file = opened.enter_context(store().opened(job.key))
        except FileNotFoundError:
            raise NotFound from None
        name = export.file_name(wanted, job.ending, job.created_at)
        answer = Response(FileWrapper(file, PIECE_BYTES), mimetype=export.check(wanted, job.ending).mimetype)
        answer.content_length = job.size_bytes
        answer.set_etag(job.key.rpartition("/")[2])
        answer.make_conditional(request, accept_ranges=True, complete_length=job.size_bytes)
        if request.method == "GET" and answer.status_code != 304:
            _enter(who, job)
        answer.call_on_close(opened.pop_all().close)
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    answer.cache_control.private = True
    answer.vary.add("Authorization")
    return answer


def _one(who: SignedIn, id: uuid.UUID) -> Columns:
    session = db.session()
    begin_read(session)
    job = jobs.one(session, who, id, now=dt.datetime.now(dt.UTC))
    session.rollback()
    return job


def _scope(who: SignedIn) -> bytes:
    session = db.session()
    begin_read(session)
    scope = cursors.now_of(session, who).scope
    session.rollback()
    return scope


def _enter(who: SignedIn, job: Columns) -> None:
    """The access log says who takes the file out; each piece that is asked for counts."""
    details = {"job": str(job.id), "query": job.query, "records": job.records, "bytes": job.size_bytes}
    details |= {"range": request.headers.get("Range"), "request_id": request_id()}
    with writing(db.engine) as session:
        taken_out.enter(session, who, "export", f"{job.kind}.{job.ending}", details, now=_now())


# ---------------------------------------------------------------- written


def _work(behind: Behind) -> None:
    """What has expired is gone; what waits is written, one after the other."""
    with writing(db.engine) as session:
        jobs.give_up(session, now=_now())
        expired = jobs.forget(session, now=_now())
    for key in expired:
        store().drop(key)
    while behind.goes_on() and _write_next(behind):
        pass


def _write_next(behind: Behind) -> bool:
    """Whether there was a job that nobody wrote."""
    with writing(db.engine) as session:
        job = jobs.claim(session, now=_now())
    if job is None:
        return False
    try:
        _write(behind, job)
    except Problem as problem:
        if isinstance(problem, Busy):
            _put_back(job)
            raise
        _fail(job, problem.code)
    except Exception as error:
        if is_busy(error):
            _put_back(job)
            raise
        log.error("export job %s", job.id, exc_info=error)
        _fail(job, "internal")
    return True


def _put_back(job: Columns) -> None:
    with writing(db.engine) as session:
        jobs.put_back(session, job)


def _fail(job: Columns, code: str) -> None:
    with writing(db.engine) as session:
        jobs.fail(session, job, code, now=_now())


def _write(behind: Behind, job: Columns) -> None:
    """The job's file is in the store, and the job says so. Raises Problem if that can't be."""
    with tempfile.TemporaryDirectory(prefix="export-") as folder:
        path = Path(folder) / f"file.{job.ending}"
        with Session(db.engine) as session:
            begin_read(session)
            who = accounts.acting(session, job.account_id, now=_now())
            if who is None:
                raise AccountDisabled
            wanted = export.wanted_in_words(who, job.kind, job.query)
            scope = cursors.now_of(session, who).scope
            total = patrol_log.count(session, who, job.kind, wanted.selection)
            records = export.write(session, who, wanted, job.ending, path, tell=_Teller(behind, job, total).tell)
        with store().incoming() as kept, path.open("rb") as file:
            shutil.copyfileobj(file, kept)
            store().keep(kept, jobs.key_of(job))
        with writing(db.engine) as session:
            size_bytes = path.stat().st_size
            mine = jobs.finish(session, job, now=_now(), records=records, size_bytes=size_bytes, scope=scope)
    if not mine:
        store().drop(jobs.key_of(job))


class _Teller:
    """Says time and again how far a job is. Raises Busy once it is somebody else's, or the process ends."""

    def __init__(self, behind: Behind, job: Columns, total: int) -> None:
        self._behind, self._job, self._total = behind, job, total
        self._next_s = 0.0

    def tell(self, records: int) -> None:
        if not self._behind.goes_on():
            raise Busy("the process ends")
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + TELL_EVERY_S
        with writing(db.engine) as session:
            if not jobs.go_on(session, self._job, now=_now(), records=records, total=self._total):
                raise Busy("somebody else writes it")


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
