"""Bringing a database to the tables of `sync/models.py`, step by step, without a Flask app.

`alembic upgrade head` does it from a shell, with the database in `DATABASE_URL`; `upgrade` does it from Python. The
steps are in `versions/`: generated against PostgreSQL, run on both databases, and never changed once they are released.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

FOLDER = Path(__file__).parent


def upgrade(url: str, revision: str = "head") -> None:
    """The database has the tables of this revision, all or nothing. What it holds stays."""
    command.upgrade(_config(url), revision)


def downgrade(url: str, revision: str) -> None:
    """The database has the tables of this earlier revision. What only the later ones could hold is lost."""
    command.downgrade(_config(url), revision)


def is_current(connection: Connection) -> bool:
    """Whether the database has the tables of the newest revision."""
    return MigrationContext.configure(connection).get_current_revision() == _newest()


@cache
def _newest() -> str | None:
    return ScriptDirectory(str(FOLDER)).get_current_head()


def _config(url: str) -> Config:
    config = Config(attributes={"url": url})
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("path_separator", "os")
    return config
