"""The API document, generated from the code (OpenAPI 3.1), and a page to read it: `/api/openapi.json`, `/api/docs`.

The page is made of files of this server only; nothing it needs comes from elsewhere.
"""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Any

import flask_swagger_ui
from flask import Flask, Response, current_app, jsonify, send_from_directory
from flask_smorest import Api, Blueprint
from marshmallow import Schema, fields

from field_api.identity import public

blueprint = Blueprint("api_document", __name__, url_prefix="/api", description="This document")

_OWN_FILES = Path(__file__).parent / "static" / "docs"
_PACKAGED_FILES = Path(flask_swagger_ui.__file__).parent / "dist"
_PACKAGED = {"swagger-ui.css", "swagger-ui-bundle.js"}
#: swagger-ui draws its icons as data: images and sets styles on elements.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class ProblemSchema(Schema):
    """A problem (RFC 9457). `code` is stable, `title` follows Accept-Language; some codes bring figures."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    code = fields.String(required=True, metadata={"example": "token-invalid"})
    detail = fields.String(required=True, allow_none=True)
    request_id = fields.String(required=True)
    errors = fields.List(fields.Dict(), metadata={"description": "Fields in error: pointer (RFC 6901), code, detail"})


class _Document(Api):  # type: ignore[misc]
    """flask-smorest's document, with our problems in place of its errors."""

    ERROR_SCHEMA = ProblemSchema

    def _register_error_handlers(self) -> None:
        """Leave errors to `answers`."""

    def _register_responses(self) -> None:
        content = {"application/problem+json": {"schema": ProblemSchema}}
        for status in HTTPStatus:
            self.spec.components.response(status.name, {"description": status.phrase, "content": content}, lazy=True)
        self.spec.components.response("DEFAULT_ERROR", {"description": "A problem", "content": content}, lazy=True)


def init_app(app: Flask) -> Api:
    """The app describes itself; blueprints registered at what is returned appear in the document."""
    app.config.update(API_TITLE="Field API", API_VERSION="1", OPENAPI_VERSION="3.1.0")
    api = _Document(app, spec_kwargs={"info": {"description": "What phones and offices say to the field service."}})
    api.spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"})
    program = {"type": "http", "scheme": "basic", "description": "any name; an access token as the password"}
    api.spec.components.security_scheme("basic", program)
    return api


@blueprint.route("/openapi.json")
@public
@blueprint.response(200, content_type="application/json", description="OpenAPI 3.1")
def get_document() -> Response:
    """This document."""
    api: Any = current_app.extensions["flask-smorest"]["apis"][""]["ext_obj"]
    return jsonify(api.spec.to_dict())


@blueprint.route("/docs")
@public
@blueprint.response(200, content_type="text/html", description="A page")
def get_page() -> Response:
    """A page to read this document and try it."""
    page = send_from_directory(_OWN_FILES, "index.html")
    page.headers["Content-Security-Policy"] = _PAGE_POLICY
    return page


@blueprint.route("/docs/<name>")
@public
@blueprint.response(200, content_type="application/octet-stream", description="A file")
def get_page_file(name: str) -> Response:
    """A script or style of the page."""
    return send_from_directory(_PACKAGED_FILES if name in _PACKAGED else _OWN_FILES, name, max_age=3600)
