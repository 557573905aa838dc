"""What the other tests stand on."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from sync.models import Account, Department, Head, Installation, SignedIn, begin_write, insert_rows
from tests.builders import GUALI, make_lists, make_signed_in
from tests.counting import count_statements


@pytest.mark.parametrize("turn", [1, 2])
def test_every_test_finds_an_empty_database_with_a_journal_that_has_just_started(session: Session, turn: int) -> None:
    begin_write(session)
    assert session.scalar(select(func.count()).select_from(Account)) == 0
    assert session.scalars(select(Head.number)).all() == [0]
    make_lists(session)
    who = make_signed_in(session)
    assert who == SignedIn(1, "officer", "officer", frozenset({GUALI}), session.scalar(select(Installation.id)))
    session.commit()


def test_each_test_has_a_reference_version_of_its_own(session: Session) -> None:
    """`reference.snapshot` is cached by it: a version used twice would show one test the lists of another."""
    version = session.scalars(select(Head.reference_version)).one()
    assert version not in _seen
    _seen.add(version)


_seen: set[uuid.UUID] = set()


@pytest.mark.parametrize("rows", [1, 50])
def test_rows_written_at_once_count_as_one_statement(engine: Engine, rows: int) -> None:
    with count_statements(engine) as counted, Session(engine) as session:
        begin_write(session)
        insert_rows(session, Department, [{"code": f"d{i}", "name": "x"} for i in range(rows)])
        session.scalar(select(func.count()).select_from(Department))
    assert counted.statements == 2
