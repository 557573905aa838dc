"""Is it alive, is it ready: `/health` for who restarts the server, `/ready` for who sends requests to it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from flask_smorest import Blueprint
from marshmallow import Schema, fields
from sqlalchemy.exc import SQLAlchemyError

import migrations
from field_api.database import db
from field_api.identity import public
from field_api.storage import store
from sync.problems import Busy

log = logging.getLogger(__name__)

blueprint = Blueprint("health", __name__, description="Is it alive, is it ready")


class HealthSchema(Schema):
    """`status` is always `ok`; whatever isn't comes as a problem."""

    status = fields.String(required=True)


class NotReady(Busy):
    """A part of the server can't work; `parts` says for each whether it can."""

    code = "not-ready"
    title = ("The server is not ready", "服务器尚未就绪")


@blueprint.route("/health")
@public
@blueprint.response(200, HealthSchema)
def get_health() -> dict[str, str]:
    """The process answers. Looks at nothing else, so that a database that is away restarts nobody."""
    return {"status": "ok"}


@blueprint.route("/ready")
@public
@blueprint.response(200, HealthSchema)
def get_ready() -> dict[str, str]:
    """The database is reached and has today's tables, and the store takes files. Otherwise 503 with the parts."""
    parts = {"database": _works(_find_database_migrated), "store": _works(_write_to_store)}
    if not all(parts.values()):
        raise NotReady(parts={name: "ok" if works else "failed" for name, works in parts.items()})
    return {"status": "ok"}


def _works(part: Callable[[], None]) -> bool:
    try:
        part()
    except (OSError, Busy, SQLAlchemyError, LookupError) as error:
        log.warning("not ready: %s: %s", part.__name__, error)
        return False
    return True


def _find_database_migrated() -> None:
    if not migrations.is_current(db.session().connection()):
        raise LookupError("the tables are of another version; run the migrations")


def _write_to_store() -> None:
    store().check()
