"""The floors: what the database itself takes for the same rows or the same page, by its driver and nothing else."""

from __future__ import annotations

import datetime as dt
import sqlite3
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import orjson
import psycopg
from sqlalchemy import make_url

from tests.bench.day import BATCH, Days, Json

Row = tuple[Any, ...]

COLUMNS = {
    **{"id": "uuid", "patrol": "uuid", "officer": "text", "occurred_at": "timestamptz", "received_at": "timestamptz"},
    **{"lon": "float", "lat": "float", "accuracy_m": "float", "crs": "text", "source": "text", "township": "text"},
    **{"items": "text", "event_class": "text", "description": "text", "measures": "text"},
    **{"designated_place": "text", "vendor": "text", "photos": "text"},
}
_NAMES = ", ".join(COLUMNS)
_TABLE = ", ".join(f"{name} {kind}" + " PRIMARY KEY" * (name == "id") for name, kind in COLUMNS.items())
#: The indexes that lists of incidents need, as the real table has them.
INDEXES = ("occurred_at, id", "township, occurred_at, id", "officer, occurred_at, id", "patrol", "lon, lat")


def rows(days: Sequence[Days], numbers: range) -> list[Row]:
    """The incidents of these batches as rows of 18 columns."""
    return [_row(op, each) for number in numbers for each in days for op in _incidents(each.batch(number))]


def _incidents(envelope: Json) -> Iterator[Json]:
    return (op for op in envelope["ops"] if op["kind"] == "incident.create")


def _row(op: Json, days: Days) -> Row:
    body, fix = op["body"], op["fix"]
    occurred_at = dt.datetime.fromisoformat(op["at"]["wall"])
    return (
        *(uuid.UUID(op["record"]), uuid.UUID(body["patrol"]), days.sender.username, occurred_at, days.sent_at),
        *(fix["lon"], fix["lat"], fix["accuracy_m"], fix["crs"], fix["source"], body["township"]),
        *(_json(body["items"]), body["event_class"], body["description"], _json(body["measures"])),
        *(body["designated_place"], _json(body["vendor"]), _json(op["photos"])),
    )


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def insert_rate(url: str, given: Sequence[Row], *, indexes: Sequence[str] = ()) -> float:
    """Rows per second, in batches committed one by one: COPY on PostgreSQL, executemany on SQLite."""
    batches = [given[start : start + BATCH] for start in range(0, len(given), BATCH)]
    insert = _copy if "postgresql" in url else _executemany
    if insert is _executemany:
        batches = [[tuple(_plain(value) for value in row) for row in batch] for batch in batches]
    with closing(connect(url)) as connection:
        connection.execute(f"CREATE TABLE floor ({_TABLE})")
        for number, columns in enumerate(indexes):
            connection.execute(f"CREATE INDEX floor_{number} ON floor ({columns})")
        connection.commit()
        began = time.perf_counter()
        for batch in batches:
            insert(connection, batch)
        seconds = time.perf_counter() - began
        connection.execute("DROP TABLE floor")
        connection.commit()
    return len(given) / seconds


def _copy(connection: Any, batch: Sequence[Row]) -> None:
    with connection.cursor().copy(f"COPY floor ({_NAMES}) FROM STDIN") as copy:
        for row in batch:
            copy.write_row(row)
    connection.commit()


def _executemany(connection: Any, batch: Sequence[Row]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(f"INSERT INTO floor ({_NAMES}) VALUES ({', '.join('?' * len(COLUMNS))})", batch)
    connection.execute("COMMIT")


def _plain(value: Any) -> Any:
    return value.hex if isinstance(value, uuid.UUID) else str(value) if isinstance(value, dt.datetime) else value


def connect(url: str) -> Any:
    """A connection by the driver alone, as durable as the server's."""
    address = make_url(url)
    if address.get_backend_name() == "postgresql":
        return psycopg.connect(host=address.query["host"], user=address.username, dbname=address.database)
    connection = sqlite3.connect(address.database or "", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 10000")
    return connection
