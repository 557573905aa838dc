"""The patrol day of the demo, told over HTTP to a real server, over bad networks, on both databases."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from sync.models import Account, AnnouncedPhoto, Incident, Operation, Patrol, Photo, PhotoFacts, Track, VendorWarning
from sync.photo_notes import PHOTO_NOTES
from sync.store import photo_key
from tests.conftest import opened
from tests.demo import day
from tests.demo.instance import set_up
from tests.demo.photos import CAMERA
from tests.journeys.serving import REPOSITORY, free_port, serving

PASSWORD = "only-for-this-test"
#: How long the server may take to look at all photos of the day, s.
LOOKED_WITHIN_S = 60
#: What signing in and sending take to happen, beside what the server says it may be off by.
SLACK = dt.timedelta(seconds=3)


@dataclass
class Played:
    """A day that was played: on which server and database, and what the phones were told."""

    folder: Path
    server: str
    database_url: str
    written: day.Day
    told: list[day.Told]
    kind: str


@pytest.fixture(scope="module", params=["waitress on sqlite", "gunicorn on postgresql"])
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """The day, played once per kind of server."""
    folder = tmp_path_factory.mktemp("day")
    kind, _, database = request.param.partition(" on ")
    url = f"sqlite:///{folder / 'field.sqlite'}"
    if database == "postgresql":
        url = request.getfixturevalue("postgresql").create_database(request.getfixturevalue("template"))
    set_up(url, PASSWORD)
    with serving(kind, url, folder) as server:
        of_today = day.today(folder / "phones", server, PASSWORD)
        told = day.send(of_today, server, PASSWORD, said=lambda _: None)
        yield Played(folder, server, url, of_today, told, kind)


@pytest.fixture
def stored(played: Played) -> Iterator[Session]:
    """A session on what the server stored."""
    with opened(played.database_url) as engine, Session(engine) as session:
        yield session


def test_each_case_done_on_purpose_becomes_what_it_was_meant_to(played: Played) -> None:
    became = list(day.became(played.written, played.server, PASSWORD))
    assert len(became) == len(day.CASES)
    assert {case.title: seen for case, seen in became if not seen.is_as_meant(case)} == {}


def test_every_operation_of_every_phone_is_stored_exactly_once(played: Played, stored: Session) -> None:
    rows = stored.execute(select(Account.username, Operation.n).join_from(Operation, Account))
    counted = Counter((username, n) for username, n in rows)
    assert counted == Counter((name, n) for name, moments in played.written.moments.items() for n in moments)


def test_the_networks_were_bad_and_nothing_is_left_on_the_phones(played: Played) -> None:
    assert all(told.troubles >= len(day.PROLOGUE) // 2 for told in played.told)
    assert sum(told.replayed for told in played.told) > 0
    assert [(told.waiting, told.holes, told.now["held"]) for told in played.told] == [(0, [], 0)] * len(played.told)


def test_every_record_that_was_applied_is_there_once(stored: Session) -> None:
    models = {"patrol": Patrol, "incident": Incident, "warning": VendorWarning, "track": Track}
    made = stored.execute(
        select(Operation.kind, func.count())
        .where(Operation.outcome == "applied", Operation.kind.in_(["track.append", *(f"{k}.create" for k in models)]))
        .group_by(Operation.kind)
    )
    applied = {str(kind).partition(".")[0]: count for kind, count in made}
    assert applied == {kind: stored.scalar(select(func.count()).select_from(model)) for kind, model in models.items()}
    assert applied["incident"] >= 150


def test_bad_clocks_tell_the_right_time(played: Played, stored: Session) -> None:
    query = select(Account.username, Operation).join_from(Operation, Account).where(Operation.outcome == "applied")
    off = [
        (username, operation.n, operation.occurred_method, operation.occurred_at)
        for username, operation in stored.execute(query)
        if operation.occurred_at
        and abs(operation.occurred_at - played.written.moments[username][operation.n or 0])
        > dt.timedelta(milliseconds=operation.occurred_error_ms or 0) + SLACK
    ]
    assert off == []


def test_the_morning_before_a_reboot_is_dated_by_the_anchor_and_the_rest_by_counting(stored: Session) -> None:
    rows = stored.execute(
        select(Account.username, Operation.occurred_method)
        .join_from(Operation, Account)
        .where(Operation.outcome == "applied")
        .distinct()
    )
    methods: dict[str, set[str | None]] = {}
    for username, method in rows:
        methods.setdefault(username, set()).add(method)
    assert methods.pop("demo-officer3") == {"anchor", "mono"}
    assert all(found == {"mono"} for found in methods.values())


def test_a_patrol_that_began_before_a_reboot_began_when_it_did(played: Played, stored: Session) -> None:
    query = select(Patrol).join(Account).where(Account.username == "demo-officer3")
    patrol = stored.scalars(query).one()
    began_at = played.written.moments["demo-officer3"][1]
    assert patrol.started_at is not None
    assert abs(patrol.started_at - began_at) < SLACK


def test_every_photo_has_arrived_but_the_one_that_was_damaged(played: Played, stored: Session) -> None:
    announced = set(stored.scalars(select(AnnouncedPhoto.sha256)))
    here = set(stored.scalars(select(Photo.sha256)))
    assert len(announced - here) == sum(told.photos_damaged for told in played.told) == 1
    kept = {sha256: played.folder / "photos" / photo_key(sha256) for sha256 in here}
    assert {sha256 for sha256, file in kept.items() if hashlib.sha256(file.read_bytes()).hexdigest() != sha256} == set()


def test_hardly_a_byte_of_a_photo_went_up_twice(played: Played) -> None:
    """waitress keeps nothing of a stretch that was cut: it never hands it to the app."""
    weigh, went_up = sum(told.photos_bytes for told in played.told), sum(told.uploaded_bytes for told in played.told)
    assert weigh > 20_000_000
    assert went_up < weigh * (1.1 if played.kind == "gunicorn" else 1.3)


def test_the_photos_are_what_a_camera_makes(stored: Session) -> None:
    facts = _all_facts(stored)
    assert Counter(fact.format for fact in facts)["jpeg"] >= len(facts) - 1
    assert sum(fact.camera is not None and CAMERA in fact.camera for fact in facts) >= len(facts) - 1
    assert {(fact.width_px or 0) > (fact.height_px or 0) for fact in facts if fact.width_px} == {True, False}


def test_photos_say_nothing_else_than_their_records_unless_on_purpose(stored: Session) -> None:
    _all_facts(stored)
    codes = Counter(code for codes in stored.scalars(select(Incident.note_codes)) for code in codes)
    meant = Counter(code for case in day.CASES for code in case.codes if code in PHOTO_NOTES)
    assert Counter({code: count for code, count in codes.items() if code in PHOTO_NOTES}) == meant


def _all_facts(session: Session) -> list[PhotoFacts]:
    """What every photo says, once the server has looked at all and told the records."""
    until = time.monotonic() + LOOKED_WITHIN_S
    arrived = AnnouncedPhoto.received_at.is_not(None)
    while session.scalar(select(func.count()).where(arrived, AnnouncedPhoto.compared_at.is_(None))):
        assert time.monotonic() < until
        session.rollback()
        time.sleep(0.2)
    return list(session.scalars(select(PhotoFacts)))


def test_playing_the_day_again_adds_nothing(played: Played, stored: Session) -> None:
    before = stored.scalar(select(func.count()).select_from(Operation))
    stored.rollback()
    again = day.today(played.folder / "phones", played.server, PASSWORD)
    told = day.send(again, played.server, PASSWORD, said=lambda _: None)
    assert again.began_at == played.written.began_at
    assert [one.recorded for one in told] == [one.recorded for one in played.told]
    assert stored.scalar(select(func.count()).select_from(Operation)) == before


# ---------------------------------------------------------------- make run


def _make_run(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.demo", "--once"]
    env = os.environ | {"INSTANCE_FOLDER": str(folder), "PORT": str(free_port())} | env
    return subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_the_demo_runs_and_runs_again_from_what_is_there(tmp_path: Path) -> None:
    first, second = _make_run(tmp_path), _make_run(tmp_path, DEMO_PASSWORD="a chosen password")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "✗" not in first.stdout + second.stdout
    assert [run.stdout.count(day.COMMENT) for run in (first, second)] == [1, 1]
    assert "as set in DEMO_PASSWORD" in second.stdout
    assert "a chosen password" not in second.stdout
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    with opened(f"sqlite:///{tmp_path / 'field.sqlite'}") as engine, Session(engine) as session:
        per_counter = select(func.count(Operation.id)).group_by(Operation.install_id, Operation.n)
        assert set(session.scalars(per_counter)) == {1}


def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        run = _make_run(tmp_path, PORT=str(taken.getsockname()[1]))
    assert run.returncode == 1
    assert "Choose another" in run.stderr
    assert "Traceback" not in run.stderr
