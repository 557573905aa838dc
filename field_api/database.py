"""Sessions on the engine's tables, one per request, always left clean.

A view that writes calls `sync.models.begin_write(session)` first and `session.commit()` once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine, make_url
from sqlalchemy.orm import Session

from field_api.settings import Settings
from sync.models import Base, begin_write, prepare

#: How long a statement on PostgreSQL waits for a lock, in ms; SQLite's wait is `sync.models.SQLITE_BUSY_MS`.
POSTGRESQL_LOCK_MS = 10_000
#: Connections kept open; up to `database_connections` are opened when needed.
KEPT_CONNECTIONS = 8

db = SQLAlchemy(model_class=Base)


def init_app(app: Flask, settings: Settings) -> None:
    """The app has its engine, prepared before anything connects."""
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.database_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = _engine_options(settings)
    db.init_app(app)
    with app.app_context():
        prepare(db.engine)


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """A session of its own that writes, for what goes on beside a request; committed at the end unless something was
    raised."""
    with Session(engine) as session, session.begin():
        begin_write(session)
        yield session


def _engine_options(settings: Settings) -> dict[str, Any]:
    url = make_url(settings.database_url)
    kept = min(KEPT_CONNECTIONS, settings.database_connections)
    pool = {
        "pool_size": kept,
        "max_overflow": settings.database_connections - kept,
        "pool_timeout": settings.database_wait_s,
        "pool_pre_ping": True,
        "hide_parameters": True,  # what people recorded belongs in no log
    }
    if url.get_backend_name() == "sqlite":
        Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
        return pool
    return pool | {"connect_args": {"options": f"-c lock_timeout={POSTGRESQL_LOCK_MS}"}}
