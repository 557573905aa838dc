"""Migrating from nothing leads to the very tables of `sync/models.py`, on both databases; back only if safe."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, inspect, select, text
from sqlalchemy.orm import Session

from migrations import downgrade, upgrade
from sync import photos
from sync.evidence import verify
from sync.models import Base, Installation, Operation, TrackBox, begin_write
from tests.builders import make_signed_in
from tests.conftest import opened
from tests.sync.records import make_patrol, make_track

ROOT = Path(__file__).parent.parent
#: What is there before the first table.
NOT_OURS = {"spatial_ref_sys", "alembic_version"}


@pytest.fixture(params=["sqlite", "postgresql"])
def nothing(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database without tables, on PostgreSQL also without PostGIS."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new.sqlite'}"
    return str(request.getfixturevalue("postgresql").create_database())


@pytest.fixture
def migrated(nothing: str) -> Iterator[Connection]:
    upgrade(nothing)
    with opened(nothing) as engine, engine.connect() as connection:
        yield connection


@pytest.fixture
def modelled(request: pytest.FixtureRequest, migrated: Connection, tmp_path: Path) -> Iterator[Connection]:
    """A database of the same kind whose tables were made from the models, without any migration."""
    url = f"sqlite:///{tmp_path / 'modelled.sqlite'}"
    if migrated.dialect.name == "postgresql":
        url = request.getfixturevalue("postgresql").create_database()
    with opened(url) as engine, engine.connect().execution_options(writes=True) as connection:
        if migrated.dialect.name == "postgresql":
            connection.execute(text("CREATE EXTENSION postgis"))
        Base.metadata.create_all(connection)
        connection.commit()
        yield connection


def test_migrations_and_models_make_the_same_tables(migrated: Connection, modelled: Connection) -> None:
    assert shape(migrated) == shape(modelled)


def shape(connection: Connection) -> dict[str, Any]:
    """Everything the database itself says of our tables, indexes on expressions and CHECKs included."""
    if connection.dialect.name == "sqlite":
        rows = connection.execute(text("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
        indexes = {name: sql for kind, name, sql in rows if kind == "index"}
    else:
        rows = connection.execute(text("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"))
        indexes = {name: sql for name, sql in rows if name not in ("spatial_ref_sys_pkey", "alembic_version_pkc")}
    found = inspect(connection)
    return {"indexes": indexes} | {
        table: {
            "columns": [{**column, "type": str(column["type"])} for column in found.get_columns(table)],
            "primary key": found.get_pk_constraint(table),
            "foreign keys": sorted(map(str, found.get_foreign_keys(table))),
            "unique": sorted(map(str, found.get_unique_constraints(table))),
            "checks": sorted(map(str, found.get_check_constraints(table))),
        }
        for table in found.get_table_names()
        if table not in NOT_OURS
    }


def test_migrating_again_changes_nothing_and_keeps_what_is_there(engine: Engine, database_url: str) -> None:
    with Session(engine) as session:
        begin_write(session)
        make_signed_in(session, townships=())
        session.commit()
    upgrade(database_url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM accounts")) == 1


def test_an_empty_database_can_be_taken_back_to_nothing_and_forward_again(migrated: Connection, nothing: str) -> None:
    assert set(inspect(migrated).get_table_names()) > NOT_OURS - {"spatial_ref_sys"}
    migrated.rollback()
    downgrade(nothing, "base")
    assert set(inspect(migrated).get_table_names()) <= NOT_OURS
    migrated.rollback()
    upgrade(nothing)


def test_photos_that_arrived_before_phones_could_pull_are_in_the_feed(
    engine: Engine, session: Session, database_url: str, now: dt.datetime
) -> None:
    begin_write(session)
    officers = [make_signed_in(session, username=name, townships=()) for name in ("first", "second")]
    for who, name in zip((officers[0], officers[1], officers[1]), ("ab" * 32, "ab" * 32, "cd" * 16), strict=True):
        photos.arrive(session, who, "ab" * 32, 3, now=now, name=name)
    session.commit()
    fed = "SELECT kind, entity FROM feed WHERE kind <> 'photo' ORDER BY entity"
    before = session.execute(text(fed)).all()
    session.rollback()
    downgrade(database_url, "0002")
    assert session.execute(text(fed)).all() == []
    session.rollback()
    upgrade(database_url)
    assert session.execute(text(fed)).all() == before
    assert before == [("arrival", f"{who.account_id}:{'ab' * 32}") for who in officers]
    assert list(verify(session))


def test_operations_can_not_be_lost_by_a_downgrade(session: Session, database_url: str, now: dt.datetime) -> None:
    begin_write(session)
    who = make_signed_in(session, townships=())
    operation = Operation(
        id=uuid.uuid4(),
        install_id=who.install_id,
        officer_id=who.account_id,
        batch_id=uuid.uuid4(),
        fingerprint=b"",
        raw=b"{}",
        received_at=now,
        outcome="quarantined",
        notes=[],
    )
    session.add(operation)
    session.commit()
    with pytest.raises(RuntimeError, match="kept for ever"):
        downgrade(database_url, "base")
    assert session.scalar(text("SELECT count(*) FROM operations")) == 1


@pytest.mark.parametrize(
    ("received", "unsent", "next_n", "holes", "waits"),
    [
        ([], [], 1, False, False),
        ([[1, 4]], [], 5, False, False),
        ([[1, 1], [3, 4]], [], 5, True, False),
        ([[1, 2]], [[3, 4]], 5, False, True),
        ([[1, 2]], [[2, 3], [2, 2]], 5, True, True),
        ([[1, 4]], [[5, 9]], 5, False, False),
    ],
)
def test_phones_are_taken_to_owe_what_they_owe_since_they_last_spoke(
    nothing: str, now: dt.datetime, received: list[Any], unsent: list[Any], next_n: int, holes: bool, waits: bool
) -> None:
    upgrade(nothing)
    with opened(nothing) as engine, Session(engine) as session:
        begin_write(session)
        who = make_signed_in(session, townships=())
        phone = session.get_one(Installation, who.install_id)
        phone.received, phone.unsent, phone.next_n, phone.last_sync_at = received, unsent, next_n, now
        session.commit()
        downgrade(nothing, "0004")
        upgrade(nothing)
        session.refresh(phone)
        owes = (phone.holes_since, phone.unsent_since)
        assert owes == (now if holes else None, now if waits else None)


def test_tracks_that_are_there_already_have_boxes(nothing: str) -> None:
    upgrade(nothing)
    with opened(nothing) as engine, Session(engine) as session:
        begin_write(session)
        who = make_signed_in(session, townships=())
        patrol = make_patrol(session, who)
        line = make_track(session, patrol, who, [(120.42, 30.2), (120.5, 30.15), (120.48, 30.21)])
        make_track(session, patrol, who, [(120.42, 30.2)])
        session.commit()
        boxes = [(box.track_id, box.west, box.south, box.east, box.north) for box in session.scalars(select(TrackBox))]
        assert boxes == [(line.id, 120.42, 30.15, 120.5, 30.21)]
        session.rollback()
        downgrade(nothing, "0006")
        upgrade(nothing)
        session.expire_all()
        assert boxes == [
            (box.track_id, box.west, box.south, box.east, box.north) for box in session.scalars(select(TrackBox))
        ]


def test_a_migration_that_fails_half_way_leaves_nothing_behind(nothing: str) -> None:
    with opened(nothing) as engine:
        with engine.connect().execution_options(writes=True) as connection:
            connection.execute(text("CREATE TABLE warnings (id INTEGER)"))  # in the way of the last of ours
            connection.commit()
        with pytest.raises(Exception, match="warnings"):
            upgrade(nothing)
        assert set(inspect(engine).get_table_names()) - NOT_OURS == {"warnings"}


def test_alembic_migrates_from_a_shell_without_an_app_and_finds_nothing_left_to_do(nothing: str) -> None:
    alembic(nothing, "upgrade", "head")
    assert "No new upgrade operations detected" in alembic(nothing, "check").stdout


def alembic(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "alembic", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | {"DATABASE_URL": url}, capture_output=True, text=True, check=True
    )
