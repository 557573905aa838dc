"""What Alembic runs for every command: one connection, one transaction, the models to compare with."""

from __future__ import annotations

import os
from typing import Any

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Connection, TypeDecorator, create_engine

from sync.models import Base, prepare

#: Tables that are not ours: PostGIS brings its own.
FOREIGN_TABLES = frozenset({"spatial_ref_sys"})
#: Indexes of the map: each database has one of the two, which Alembic can't tell (tests/test_migrations.py does).
MAP_INDEXES = ("_place", "_lon_lat", "_tile")


def is_compared(_item: Any, name: str | None, kind: str, *_: Any) -> bool:
    """Whether autogenerate should look at it at all."""
    if kind == "index":
        return not (name or "").endswith(MAP_INDEXES)
    return name not in FOREIGN_TABLES


def written(kind: str, item: Any, autogen: AutogenContext) -> str | bool:
    """Our own types as what they are in the database: a migration must not change when the models do."""
    if kind == "type" and isinstance(item, TypeDecorator):
        autogen.imports.add("import sqlalchemy as sa")
        return f"sa.{item.impl_instance!r}"
    return False


def run() -> None:
    """All steps are taken or none, on SQLite too: its tables are made inside the transaction like any row."""
    engine = prepare(create_engine(context.config.attributes.get("url") or os.environ["DATABASE_URL"]))
    try:
        with engine.connect().execution_options(writes=True) as connection:
            _migrate(connection)
    finally:
        engine.dispose()


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_object=is_compared,
        render_item=written,
        render_as_batch=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
