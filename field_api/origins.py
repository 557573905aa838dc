"""Which pages may call the API from a browser (CORS): those of the origins that the settings name, and no others.

Whoever calls shows a token; there are no cookies, so no answer allows credentials.
"""

from __future__ import annotations

from functools import partial

from flask import Flask, Response, request

from field_api.settings import Settings

#: How long a browser need not ask again before it calls, in seconds; Chromium believes no more.
ASK_AGAIN_AFTER_S = 7200
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
#: What a page may send: of tus 1.0.0, then of the rest of the API.
SENT = (
    "Authorization, Content-Type, Tus-Resumable, Upload-Length, Upload-Defer-Length, Upload-Offset, Upload-Metadata, "
    "Upload-Checksum, Upload-Concat, X-HTTP-Method-Override, "
    "Accept-Language, Content-Digest, Content-Encoding, Idempotency-Key, X-Request-Id"
)
#: What a page may read.
SHOWN = (
    "Location, Tus-Resumable, Tus-Version, Tus-Extension, Tus-Max-Size, Tus-Checksum-Algorithm, Upload-Length, "
    "Upload-Defer-Length, Upload-Offset, Upload-Metadata, Upload-Expires, "
    "Content-Disposition, Date, ETag, Idempotency-Replayed, Retry-After, X-Request-Id"
)


def init_app(app: Flask, settings: Settings) -> None:
    """Every answer of the app, good or bad, can be read by pages of these origins."""
    if settings.origins:
        app.after_request(partial(_show, settings.origins))


def _show(origins: frozenset[str], answer: Response) -> Response:
    answer.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin in origins:
        answer.headers["Access-Control-Allow-Origin"] = origin
        answer.headers["Access-Control-Expose-Headers"] = SHOWN
        if request.method == "OPTIONS":
            answer.headers["Access-Control-Allow-Methods"] = METHODS
            answer.headers["Access-Control-Allow-Headers"] = SENT
            answer.headers["Access-Control-Max-Age"] = str(ASK_AGAIN_AFTER_S)
    return answer
