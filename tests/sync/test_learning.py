"""What people decided teaches the weights."""

from __future__ import annotations

import datetime as dt
import uuid
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from sync import learning
from sync.fellegi_sunter import written
from sync.grouping import pair
from sync.likeness import read_table
from sync.models import SignedIn
from tests.builders import make_lists, make_signed_in
from tests.sync.alike import PHOTO, again, reinstalled, said, seen
from tests.sync.days import YARDSTICK, batch, patrol, push
from tests.sync.test_resemblances import told_by_two


@pytest.fixture
def people(session: Session) -> dict[str, SignedIn]:
    make_lists(session)
    roles = {"officer": "officer", "partner": "officer", "supervisor": "supervisor"}
    found = {name: make_signed_in(session, username=name, role=role) for name, role in roles.items()}
    session.commit()
    return found


def two(session: Session, people: dict[str, SignedIn], now: dt.datetime) -> tuple[uuid.UUID, uuid.UUID]:
    one, other, _ = told_by_two(session, people["officer"], people["partner"], now)
    return pair(uuid.UUID(one["record"]), uuid.UUID(other["record"]))


def decided(session: Session) -> dict[tuple[uuid.UUID, uuid.UUID], bool]:
    session.rollback()
    return learning.decided(session)


def test_what_people_say_of_a_pair_is_a_judgement_until_they_take_it_back(
    session: Session, people: dict[str, SignedIn], now: dt.datetime
) -> None:
    both = two(session, people, now)
    assert decided(session) == {}
    said(session, people["supervisor"], "group", both, now)
    assert decided(session) == {both: True}
    said(session, people["supervisor"], "undo", both, now)
    assert decided(session) == {}
    said(session, people["supervisor"], "apart", both, now)
    assert decided(session) == {both: False}


def test_what_the_server_grouped_by_itself_teaches_it_nothing(
    session: Session, people: dict[str, SignedIn], now: dt.datetime
) -> None:
    out = patrol()
    what = seen(out, photos=[PHOTO])
    push(session, people["officer"], batch(people["officer"], out, what), now)
    phone = reinstalled(session, people["officer"])
    (result,) = push(session, phone, batch(phone, again(what, out)), now)["results"]
    assert result["resembles"][0]["grouped"]
    assert decided(session) == {}


def test_judgements_change_what_weighs_how_much_and_the_table_can_be_used(
    session: Session, people: dict[str, SignedIn], now: dt.datetime
) -> None:
    judged = {two(session, people, now): True for _ in range(4)}
    session.rollback()
    table, lessons = learning.learn(session, judged, YARDSTICK, now=now)
    (lesson,) = lessons
    assert (lesson.scale, lesson.judged) == ("incident/partner", 4)
    taught, before = table.scales[lesson.scale], YARDSTICK.table.scales[lesson.scale]
    assert taught.bits != before.bits
    untaught = YARDSTICK.table.scales.keys() - {lesson.scale}
    assert {name: table.scales[name] for name in untaught} == {name: YARDSTICK.table.scales[name] for name in untaught}
    assert read_table(written(table)).version == "2026-11-23"
    assert len(list(learning.lines(lessons))) == 1


def test_labelled_pairs_are_read_strictly(tmp_path: Path) -> None:
    one, other = uuid.UUID(int=1), uuid.UUID(int=2)
    file = tmp_path / "pairs.csv"
    file.write_text(f"one,other,same\n{other},{one},1\n", "utf-8")
    assert learning.labelled(file) == {(one, other): True}
    for line in ("x,y,1", f"{one},{other},yes", f"{one}", ""):
        file.write_text(f"one,other,same\n{other},{one},1\n{line or ',,'}\n", "utf-8")
        with pytest.raises(ValueError, match=r"pairs\.csv:3"):
            learning.labelled(file)
