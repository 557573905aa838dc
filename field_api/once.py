"""A POST that has its effect once, however often it is sent: `Idempotency-Key`.

A request without the header is simply done. See `sync/answered.py` for what is kept, and for how long.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Callable
from typing import Any

from flask import Response, request
from flask_smorest import Blueprint
from sqlalchemy.orm import Session

from field_api.answers import as_json
from sync import answered
from sync.models import SignedIn
from sync.problems import EnvelopeInvalid

#: What a key may look like: a UUID, or whatever else is as unlikely to come twice.
KEY = re.compile(r"[\x21-\x7e]{1,100}")

#: Says in the API document that a view takes the header.
takes_key = Blueprint.doc(
    parameters=[
        {
            "in": "header",
            "name": "Idempotency-Key",
            "schema": {"type": "string", "maxLength": 100},
            "description": "the same key and body again: the first answer again, with `Idempotency-Replayed: true`",
        }
    ]
)


def once(
    session: Session, who: SignedIn, body: bytes, effect: Callable[[], dict[str, Any]], *, now: dt.datetime
) -> Response:
    """The answer to this request: that of its effect, which has happened now, or the first one again.

    The view has begun a writing transaction and commits it. Raises EnvelopeInvalid if the key is none,
    IdempotencyKeyReused if it stands for another request.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return as_json(effect())
    if not KEY.fullmatch(key):
        raise EnvelopeInvalid(header="Idempotency-Key", errors=[{"pointer": "", "code": "format"}])
    fingerprint = hashlib.sha256(f"{request.method} {request.path}\n".encode() + body).digest()
    first = answered.earlier_answer(session, who, key, fingerprint, now=now)
    if first is not None:
        return Response(first, mimetype="application/json", headers={"Idempotency-Replayed": "true"})
    answer = as_json(effect())
    answered.keep(session, who, key, answer.get_data())
    return answer
