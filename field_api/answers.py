"""What every answer has in common, and how a problem is told (RFC 9457).

The one place that knows which HTTP status a problem has. Whatever goes wrong, the session is rolled back, the answer is
`application/problem+json` with a stable `code`, and the insides go to the log together with the request's id.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Iterator
from typing import Any

import orjson
from flask import Flask, Response, g, request
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException

from field_api.bodies import hang_up_on_silence, hear_out
from field_api.database import db
from sync import problems
from sync.models import is_busy
from sync.problems import Problem

log = logging.getLogger(__name__)

#: What to wait before asking a busy server again, in seconds.
BUSY_RETRY_AFTER_S = 5
#: Request ids that are taken over from whoever stands in front.
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: Nothing that the API sends may load or run anything.
_NOTHING_RUNS = "default-src 'none'; frame-ancestors 'none'"


class MethodNotAllowed(Problem):
    code = "method-not-allowed"
    title = ("This address does not take this method", "该地址不支持此请求方法")


class BodyTooLarge(Problem):
    code = "body-too-large"
    title = ("The body is larger than this address takes", "请求内容超过该地址的上限")


class RequestRefused(Problem):
    code = "request-refused"
    title = ("The request can't be served as it is", "无法处理该请求")


#: The status of every problem: its own, else that of the nearest class above it.
STATUS: dict[type[Problem], int] = {
    problems.EnvelopeProblem: 400,
    problems.BatchTooLarge: 413,
    problems.UnsupportedEncoding: 415,
    problems.EnvelopeInvalid: 422,
    problems.SignInProblem: 401,
    problems.SignInThrottled: 429,
    problems.AccountDisabled: 403,
    problems.InstallRevoked: 403,
    problems.TooManyTokens: 422,
    problems.Forbidden: 403,
    problems.NotFound: 404,
    problems.AccountInvalid: 422,
    problems.QueryInvalid: 400,
    problems.CursorExpired: 410,
    problems.FormatNotInstalled: 404,
    problems.ExportTooLarge: 422,
    problems.ExportsWaiting: 429,
    problems.PhotoProblem: 400,
    problems.PhotoTooLarge: 413,
    problems.PhotoDigestMismatch: 422,
    problems.PhotoQuota: 429,
    problems.PhotoKept: 403,
    problems.PhotoNotShown: 422,
    problems.TusVersion: 412,
    problems.UploadInvalid: 400,
    problems.UploadOffset: 409,
    problems.UploadBusy: 423,
    problems.ChecksumMismatch: 460,
    problems.ReviewProblem: 422,
    problems.DecidedMeanwhile: 409,
    problems.IdempotencyKeyReused: 422,
    problems.ReferenceInvalid: 422,
    problems.Busy: 503,
    MethodNotAllowed: 405,
    BodyTooLarge: 413,
    RequestRefused: 400,
    Problem: 500,
}

#: What a refusal of the framework is called; others are `RequestRefused`.
_REFUSALS: dict[int, type[Problem]] = {
    400: problems.Malformed,
    404: problems.NotFound,
    405: MethodNotAllowed,
    413: BodyTooLarge,
    415: problems.UnsupportedEncoding,
}

#: marshmallow's own messages that have a code of their own; everything else is `invalid`.
_FIELD_CODES = {
    "Missing data for required field.": "required",
    "Field may not be null.": "null",
    "Unknown field.": "unknown-field",
}


def init_app(app: Flask) -> None:
    """Every answer of the app, good or bad, is as this page says."""
    app.register_error_handler(Problem, tell)
    app.register_error_handler(HTTPException, _tell_refusal)
    app.register_error_handler(Exception, _tell_unexpected)
    app.before_request(hang_up_on_silence)
    app.after_request(_finish)


def as_json(value: dict[str, Any]) -> Response:
    """The value as an answer; orjson writes it, for lists and receipts are long."""
    return Response(orjson.dumps(value, option=orjson.OPT_UTC_Z), mimetype="application/json")


def request_id() -> str:
    """The id of this request: the one it came with if that is sane, else a new one."""
    if "request_id" not in g:
        given = request.headers.get("X-Request-Id", "")
        g.request_id = given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
    return str(g.request_id)


def challenge() -> str:
    """How to show who is asking. QGIS, GDAL and browsers know Basic; for the rest no browser shall ask a password."""
    return 'Basic realm="Field API", charset="UTF-8"' if request.path.startswith("/ogc") else "Bearer"


def status_of(problem: type[Problem]) -> int:
    """The HTTP status that this kind of problem is answered with."""
    return next(STATUS[kind] for kind in problem.__mro__ if kind in STATUS)


def tell(problem: Problem, status: int | None = None) -> Response:
    """The problem as an answer; the transaction it happened in is gone."""
    db.session.rollback()
    status = status or status_of(type(problem))
    language = request.accept_languages.best_match(["en", "zh"], "en")
    body = problem.details | {
        "type": f"urn:field-api:{problem.code}",
        "title": problem.title[language == "zh"],
        "status": status,
        "code": problem.code,
        "detail": problem.detail,
        "request_id": request_id(),
    }
    answer = Response(orjson.dumps(body), status, mimetype="application/problem+json")
    answer.content_language.add(language)
    answer.vary.add("Accept-Language")
    if status == 401:
        answer.headers["WWW-Authenticate"] = challenge()
    if status in (423, 429, 503):
        answer.headers["Retry-After"] = str(problem.details.get("retry_after_s", BUSY_RETRY_AFTER_S))
    return answer


def _tell_refusal(error: HTTPException) -> Response:
    if error.code is None or error.code >= 500:
        return _tell_unexpected(error)
    fields = getattr(error, "data", {}).get("messages")
    if fields and error.code == 422:
        return tell(_field_problem(fields))
    answer = tell(_REFUSALS.get(error.code, RequestRefused)(), error.code)
    for name, value in error.get_headers():
        if name != "Content-Type":
            answer.headers[name] = value
    return answer


def _tell_unexpected(error: Exception) -> Response:
    if isinstance(error, SQLAlchemyError) and is_busy(error):
        log.warning("request %s: the database is busy: %s", request_id(), error)
        return tell(problems.Busy())
    log.error("request %s: unexpected", request_id(), exc_info=error)
    return tell(problems.Internal())


def _field_problem(fields: dict[str, Any]) -> Problem:
    kind = problems.EnvelopeInvalid if "json" in fields else problems.QueryInvalid
    return kind(errors=[error for place in fields.values() for error in _field_errors(place, "")])


def _field_errors(messages: Any, pointer: str) -> Iterator[dict[str, str]]:
    """Every message of marshmallow's tree, with the RFC 6901 pointer of its field."""
    if isinstance(messages, dict):
        for name, below in messages.items():
            step = "" if name == "_schema" else "/" + str(name).replace("~", "~0").replace("/", "~1")
            yield from _field_errors(below, pointer + step)
        return
    for message in messages if isinstance(messages, list) else [messages]:
        yield {"pointer": pointer, "code": _FIELD_CODES.get(message, "invalid"), "detail": str(message)}


def _finish(answer: Response) -> Response:
    if answer.status_code >= 400:
        hear_out()
    headers = answer.headers
    headers["X-Request-Id"] = request_id()
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers.setdefault("Cache-Control", "no-store")
    headers.setdefault("Content-Security-Policy", _NOTHING_RUNS)
    return answer
