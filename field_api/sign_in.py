"""Signing in and out: `/api/v1/auth/login`, `/refresh`, `/logout`, and `/permit` for sending what is left."""

from __future__ import annotations

import datetime as dt
from typing import Any

import orjson
from flask import current_app, request
from flask_smorest import Blueprint
from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate
from webargs.flaskparser import FlaskParser

from field_api import taken_out
from field_api.database import db
from field_api.identity import public, read_token, roles, tokens, wants_token
from field_api.settings import Settings
from sync import accounts
from sync.models import ROLES, SignedIn, begin_write
from sync.problems import TokenInvalid

#: Nobody's name and password are longer together, in bytes.
BODY_MAX_BYTES = 16 * 1024


class _SmallBody(FlaskParser):
    """Reads a small JSON body. orjson refuses what Python's own reader takes: NaN, half surrogates, deep nesting."""

    def load_json(self, req: Any, schema: Schema) -> Any:
        req.max_content_length = BODY_MAX_BYTES
        try:
            return orjson.loads(req.get_data())
        except orjson.JSONDecodeError as error:
            return self._handle_invalid_json_error(error, req)


blueprint = Blueprint("auth", __name__, url_prefix="/api/v1/auth", description="Signing in and out")
blueprint.ARGUMENTS_PARSER = _SmallBody()


def _storable(text: str) -> None:
    """PostgreSQL keeps no NUL."""
    if "\x00" in text:
        raise ValidationError("Not text that can be kept.")


class LoginSchema(Schema):
    """Who signs in, and on which installation of the app. Fields of later apps are passed over."""

    class Meta:
        unknown = EXCLUDE

    username = fields.String(required=True, validate=[validate.Length(1, 80), _storable])
    password = fields.String(required=True, validate=[validate.Length(1, 1000), _storable])
    install = fields.UUID(required=True)
    app = fields.String(load_default=None, allow_none=True, validate=[validate.Length(max=80), _storable])


class PermitSchema(Schema):
    """The code of a permit, as it was told, and the installation that it is for."""

    class Meta:
        unknown = EXCLUDE

    code = fields.String(required=True, validate=validate.Length(1, 80))
    install = fields.UUID(required=True)


class AccountSchema(Schema):
    """Whose account it is; `townships` are the codes of today's postings."""

    username = fields.String(required=True)
    full_name = fields.String(required=True)
    role = fields.String(required=True, validate=validate.OneOf(ROLES))
    townships = fields.List(fields.String(), required=True)
    card_until_on = fields.Date(required=True, allow_none=True)


class PermittedSchema(Schema):
    """A token, and the server's time to keep as an anchor. `expires_in`: seconds the access token is good for."""

    access_token = fields.String(required=True)
    expires_in = fields.Integer(required=True)
    server_time = fields.AwareDateTime(required=True)
    account = fields.Nested(AccountSchema, required=True)


class SignedInSchema(PermittedSchema):
    """The same, with a token to go on with."""

    refresh_token = fields.String(required=True)


@blueprint.route("/login", methods=["POST"])
@public
@blueprint.arguments(LoginSchema)
@blueprint.response(200, SignedInSchema)
@blueprint.doc(responses={401: "UNAUTHORIZED", 403: "FORBIDDEN", 429: "TOO_MANY_REQUESTS"})
def post_login(login: dict[str, Any]) -> dict[str, Any]:
    """Sign in with name and password on this installation.

    Your earlier sign-ins on the installation end. Nothing on the phone is lost by signing in again.
    """
    session, now = db.session(), dt.datetime.now(dt.UTC)
    begin_write(session)
    attempt = accounts.begin_sign_in(session, login["username"], _address(), _throttle(), now=now)
    session.commit()
    accounts.check_password(attempt, login["password"])
    begin_write(session)
    grant = accounts.sign_in(session, attempt, login["install"], login["app"], now=now)
    session.commit()
    return _told(grant, now)


@blueprint.route("/permit", methods=["POST"])
@public
@blueprint.arguments(PermitSchema)
@blueprint.response(200, PermittedSchema)
@blueprint.doc(responses={401: "UNAUTHORIZED", 403: "FORBIDDEN", 429: "TOO_MANY_REQUESTS"})
def post_permit(given: dict[str, Any]) -> dict[str, Any]:
    """Use a permit: a token to send what is left on this installation, for two hours; the code is then used up.

    With it batches and photos can be sent, and receipts and operations looked up, also when the account is disabled.
    """
    session, now = db.session(), dt.datetime.now(dt.UTC)
    begin_write(session)
    counted = accounts.begin_permit(session, given["install"], _address(), _throttle(), now=now)
    session.commit()
    begin_write(session)
    grant = accounts.use_permit(session, counted, given["install"], given["code"], now=now)
    taken_out.enter(session, grant.who, "permit-used", str(given["install"]), {}, now=now)
    session.commit()
    return _told(grant, now)


@blueprint.route("/refresh", methods=["POST"])
@public
@wants_token
@blueprint.response(200, SignedInSchema)
def post_refresh() -> dict[str, Any]:
    """Change the refresh token, sent as Bearer, for new tokens.

    It is good for one time. Using it again ends the sign-in: two hold it, and the phone signs in again.
    """
    claims, session, now = read_token(refresh=True), db.session(), dt.datetime.now(dt.UTC)
    begin_write(session)
    grant = accounts.refresh(session, claims, now=now)
    session.commit()
    if grant is None:
        raise TokenInvalid
    return _told(grant, now)


@blueprint.route("/logout", methods=["POST"])
@roles(*ROLES)
@blueprint.response(204)
def post_logout(who: SignedIn) -> None:
    """Sign out: every token of this account on this installation ends."""
    session = db.session()
    begin_write(session)
    accounts.sign_out(session, who, now=dt.datetime.now(dt.UTC))
    session.commit()


def _address() -> str:
    return request.remote_addr or "unknown"


def _settings() -> Settings:
    settings: Settings = current_app.extensions["settings"]
    return settings


def _throttle() -> accounts.Throttle:
    settings = _settings()
    return accounts.Throttle(
        window=dt.timedelta(seconds=settings.sign_in_window_s),
        max_per_account=settings.sign_in_max_per_account,
        max_per_address=settings.sign_in_max_per_address,
    )


def _told(grant: accounts.Grant, now: dt.datetime) -> dict[str, Any]:
    lasts = _settings().access_token_s if grant.push_until_at is None else accounts.PUSH_GOOD_FOR.total_seconds()
    return tokens(grant) | {
        "expires_in": lasts,
        "server_time": now,
        "account": {
            "username": grant.who.username,
            "full_name": grant.full_name,
            "role": grant.who.role,
            "townships": sorted(grant.who.townships),
            "card_until_on": grant.card_until_on,
        },
    }
