"""Counting what is sent to a database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import Engine, event


@dataclass
class Counted:
    """How many SQL statements were sent so far, BEGIN aside. One executemany counts as one, and so does one COPY."""

    statements: int = 0

    def executed(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        self.statements += not statement.startswith("BEGIN")

    def copied(self) -> None:
        self.statements += 1


@contextmanager
def count_statements(engine: Engine) -> Iterator[Counted]:
    """Counts every statement of this engine inside the block, where its transaction must begin too."""
    counted = Counted()

    def count_copies(connection: Any, *_: object) -> None:
        # COPY is handed to the driver itself, past SQLAlchemy's events.
        if isinstance(connection, psycopg.Connection):
            connection.cursor_factory = _cursor_counting_copies(counted)

    event.listen(engine, "before_cursor_execute", counted.executed)
    event.listen(engine, "checkout", count_copies)
    try:
        yield counted
    finally:
        event.remove(engine, "before_cursor_execute", counted.executed)
        event.remove(engine, "checkout", count_copies)


def _cursor_counting_copies(counted: Counted) -> type[psycopg.Cursor[Any]]:
    class CountingCursor(psycopg.Cursor[Any]):
        def copy(self, *args: Any, **kwargs: Any) -> Any:
            counted.copied()
            return super().copy(*args, **kwargs)

    return CountingCursor
