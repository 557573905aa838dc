"""Who is asking: tokens made and read, roles demanded.

A token names the account, the installation and the sign-in it belongs to; whether these still stand is asked of the
database at every request, so that disabling an account works at once. Whatever is wrong with a token, the answer is 401
`token-invalid`: a phone that takes another answer for final would lose its records.

Programs that read, such as QGIS, have access tokens instead (`accounts.program`), as Bearer or as the password of HTTP
Basic, whatever the name beside it; a view takes one only where it says so. No token is ever read from a URL: those end
in logs and histories.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Flask, g, request
from flask_jwt_extended import JWTManager, create_access_token, create_refresh_token, get_jwt, verify_jwt_in_request
from flask_jwt_extended.exceptions import JWTExtendedException
from flask_smorest import Blueprint
from jwt.exceptions import PyJWTError

from field_api.database import db
from field_api.settings import Settings
from sync import accounts
from sync.models import SignedIn, begin_read
from sync.problems import Forbidden, TokenInvalid

View = Callable[..., Any]

#: Who issues the tokens and for whom they are: a token of another service signed with the same key is worth nothing.
SERVICE = "field-api"
ALGORITHM = "HS256"
#: How far the clocks of two servers may be apart, in seconds.
LEEWAY_S = 10
#: All that reading a token may raise, garbage in the header included: PyJWT lets a deeply nested one through
#: as RecursionError, Flask-JWT-Extended an oddly split one as IndexError.
_UNREADABLE = (PyJWTError, JWTExtendedException, LookupError, ValueError, TypeError, RecursionError)


_REFUSED = {401: "UNAUTHORIZED", 403: "FORBIDDEN"}
#: Says in the API document that a view reads a token, and what may be wrong with it.
wants_token = Blueprint.doc(security=[{"bearer": []}], responses=_REFUSED)
#: The same of a view that takes access tokens too.
_wants_any_token = Blueprint.doc(security=[{"bearer": []}, {"basic": []}], responses=_REFUSED)


def init_app(app: Flask, settings: Settings) -> None:
    """The app makes and reads tokens of its own and no others."""
    app.config.update(
        JWT_SECRET_KEY=settings.secret,
        JWT_ALGORITHM=ALGORITHM,
        JWT_DECODE_ALGORITHMS=[ALGORITHM],
        JWT_ENCODE_ISSUER=SERVICE,
        JWT_DECODE_ISSUER=SERVICE,
        JWT_ENCODE_AUDIENCE=SERVICE,
        JWT_DECODE_AUDIENCE=SERVICE,
        JWT_DECODE_LEEWAY=LEEWAY_S,
        JWT_ACCESS_TOKEN_EXPIRES=dt.timedelta(seconds=settings.access_token_s),
        JWT_REFRESH_TOKEN_EXPIRES=dt.timedelta(seconds=settings.refresh_token_s),
    )
    JWTManager(app)


def tokens(grant: accounts.Grant) -> dict[str, str]:
    """An access and a refresh token for this sign-in; one that is for sending only has no refresh token."""
    claims = {"install": str(grant.who.install_id), "family": str(grant.family_id)}
    identity = str(grant.who.account_id)
    if grant.push_until_at is not None:
        lasts = accounts.PUSH_GOOD_FOR
        return {"access_token": create_access_token(identity, additional_claims=claims, expires_delta=lasts)}
    return {
        "access_token": create_access_token(identity, additional_claims=claims),
        "refresh_token": create_refresh_token(identity, additional_claims=claims | {"generation": grant.generation}),
    }


def read_token(*, refresh: bool = False) -> accounts.Claims:
    """What the Bearer token of this request says. Raises TokenInvalid, whatever is wrong with it."""
    try:
        verify_jwt_in_request(refresh=refresh)
        said = get_jwt()
        return accounts.Claims(
            int(said["sub"]),
            uuid.UUID(str(said["install"])),
            uuid.UUID(str(said["family"])),
            int(said["generation"]) if refresh else None,
        )
    except _UNREADABLE as error:
        raise TokenInvalid from error


def roles(*names: str, permit: bool = False, program: bool = False) -> Callable[[View], View]:
    """The view is for accounts with one of these roles, and gets `who: SignedIn` as its first argument.

    With `permit` it also takes a sign-in that is for sending only (`accounts.use_permit`), with `program`, which is for
    views that only read, an access token; all others refuse them. Goes directly below the route. The read transaction
    has ended when the view begins: none stays open while a slow body is read. A program sends no body, and its view
    goes on in the same one: beginning another costs as much as a feature.
    """

    def guard(view: View) -> View:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            token = _access_token()
            who = _signed_in(permit=permit) if token is None else _reading(token, program=program)
            if who.role not in names:
                raise Forbidden(roles=sorted(names))
            return view(who, *args, **kwargs)

        guarded.takes_programs = program  # type: ignore[attr-defined]
        return _marked((_wants_any_token if program else wants_token)(guarded), names)

    return guard


def public(view: View) -> View:
    """The view is open to anyone."""
    return _marked(Blueprint.doc(security=[])(view), ("anyone",))


def _signed_in(*, permit: bool) -> SignedIn:
    claims, session = read_token(), db.session()
    grant = accounts.signed_in(session, claims, now=dt.datetime.now(dt.UTC))
    session.rollback()
    if grant.push_until_at is not None and not permit:
        raise Forbidden("A permit is for sending what is left on the phone, and for nothing else")
    return grant.who


def _access_token() -> str | None:
    """The access token that this request shows, `None` if it shows none: then it is a phone's, or nobody's."""
    shown = request.authorization
    if shown is None:
        return None
    if shown.type == "basic":
        return shown.password or ""
    return shown.token if shown.token and shown.token.startswith(accounts.TOKEN_PREFIX) else None


def _reading(token: str, *, program: bool) -> SignedIn:
    """In whose name the program reads; `access_tokens` notes the use after the answer."""
    session = db.session()
    begin_read(session)
    found = accounts.program(session, token, now=dt.datetime.now(dt.UTC))
    if not program:
        raise Forbidden("An access token is for reading, and not for this")
    g.program = found
    return found.who


def _marked(view: View, names: tuple[str, ...]) -> View:
    view.roles = names  # type: ignore[attr-defined]
    return view
