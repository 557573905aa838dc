"""What every test stands on: two real databases, empty for each test, and one moment in time.

`engine` (and with it `session`) runs a test twice, on SQLite and on PostgreSQL. Where PostgreSQL is missing its half is
skipped, loudly, unless `CI` or `REQUIRE_POSTGRESQL` is set: then it fails. The same holds for Node and `REQUIRE_NODE`.
Rows to begin with are made by `tests/builders.py`.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.orm import Session

from migrations import upgrade
from sync import journal
from sync.models import Base, begin_write, prepare
from sync.store import Folder, Store
from tests import cluster, seaweed

NO_POSTGRESQL = "no PostgreSQL server with PostGIS on this machine, and no TEST_DATABASE_URL"
_missed = pytest.StashKey[set[str]]()


@pytest.fixture(scope="session")
def now() -> dt.datetime:
    """The present, for every test: a Monday afternoon in Xiaoshan."""
    return dt.datetime(2026, 11, 23, 8, 15, tzinfo=dt.UTC)


@pytest.fixture(scope="session")
def postgresql(request: pytest.FixtureRequest) -> Iterator[cluster.Server]:
    """A PostgreSQL server with PostGIS, for as long as the tests run."""
    with ExitStack() as stack:
        if url := os.environ.get("TEST_DATABASE_URL"):
            yield stack.enter_context(cluster.named(url))
        elif folder := cluster.binaries():
            yield stack.enter_context(cluster.private(folder))
        else:
            do_without(request.config, NO_POSTGRESQL, required_by="REQUIRE_POSTGRESQL")


def do_without(config: pytest.Config, missing: str, *, required_by: str) -> NoReturn:
    """The test is skipped for what is missing, and the summary says so; with `CI` or that variable set it fails."""
    config.stash.setdefault(_missed, set()).add(missing)
    if any(os.environ.get(name, "").lower() not in ("", "0", "false") for name in ("CI", required_by)):
        pytest.fail(missing)
    pytest.skip(missing)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if missed := config.stash.get(_missed, set()):
        terminalreporter.section("NOT ALL TESTS DID RUN", sep="!", red=True, bold=True)
        for missing in sorted(missed):
            terminalreporter.line(f"{missing}.")
        terminalreporter.line(".ci/run installs what is missing and leaves nothing out.")


@pytest.fixture(scope="session")
def template(postgresql: cluster.Server) -> str:
    """The name of a PostgreSQL database with all tables, for `postgresql.create_database(template)`."""
    url = postgresql.create_database()
    upgrade(url)
    return make_url(url).database or ""


@pytest.fixture(scope="session")
def _postgresql_url(postgresql: cluster.Server, template: str) -> str:
    return postgresql.create_database(template)


@pytest.fixture(scope="session")
def _sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("template") / "field.sqlite"
    upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database with empty tables and a journal that has just started."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("_sqlite_file"), tmp_path / "field.sqlite")
        url = f"sqlite:///{tmp_path / 'field.sqlite'}"
    else:
        url = request.getfixturevalue("_postgresql_url")
    with opened(url) as engine, Session(engine) as session:
        begin_write(session)
        if request.param == "postgresql":
            _empty(session)
        journal.start(session)
        session.commit()
    return url


def _empty(session: Session) -> None:
    names = ", ".join(table.name for table in Base.metadata.sorted_tables)
    session.connection().exec_driver_sql(f"TRUNCATE {names} RESTART IDENTITY CASCADE")


@contextmanager
def opened(url: str) -> Iterator[Engine]:
    """A prepared engine, closed at the end: an open connection is a warning, and warnings are errors."""
    engine = prepare(create_engine(url))
    try:
        yield engine
    finally:
        engine.dispose()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A prepared engine on an empty database: SQLite, then PostgreSQL."""
    with opened(database_url) as engine:
        yield engine


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """A bare session; commits and `begin_write` are the test's own business."""
    with Session(engine) as session:
        yield session


@pytest.fixture(scope="session")
def s3() -> Iterator[seaweed.Server]:
    """A real S3 server with a bucket, for as long as the tests run; each test takes a prefix of its own."""
    with seaweed.running() as server:
        yield server


@pytest.fixture(params=["folder", "bucket"])
def either_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store: a folder, then a bucket."""
    if request.param == "folder":
        return Folder(tmp_path / "photos")
    server: seaweed.Server = request.getfixturevalue("s3")
    return server.bucket(uuid.uuid4().hex)
