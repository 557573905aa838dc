"""The thread behind the requests: it begins with the first of them, works, outlives what goes wrong, and stops."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from sync import photos
from sync.evidence import verify
from sync.models import Incident, PhotoFacts, SignedIn, begin_write
from sync.store import Folder, derivative_key, photo_key
from tests.builders import make_account, make_lists, make_signed_in
from tests.field_api.test_photos import drawn
from tests.journeys.serving import free_port
from tests.sync.days import batch, incident, patrol, push

#: How often the threads of these tests ask, s; and how long a test waits for one.
EVERY_S = 0.05
PATIENCE_S = 20

Send = Callable[[bytes], tuple[str, str]]


@pytest.fixture
def store(tmp_path: Path) -> Folder:
    """The store of the app."""
    return Folder(tmp_path / "photos")


@pytest.fixture
def send(session: Session, store: Folder, now: dt.datetime) -> Send:
    """Sends a photo with an incident that cites it; their SHA-256 and id."""
    make_lists(session)
    make_account(session, username="partner")
    who = make_signed_in(session)
    session.commit()

    def send(content: bytes) -> tuple[str, str]:
        sha256 = hashlib.sha256(content).hexdigest()
        photos.receive(store, sha256, [content])
        out = patrol()
        seen = incident(out, photos=[{"sha256": sha256, "bytes": len(content), "type": "image/jpeg"}])
        push(session, who, batch(who, out, seen), now)
        arrive(session, who, sha256, len(content), now)
        return sha256, seen["record"]

    return send


def arrive(session: Session, who: SignedIn, sha256: str, size_bytes: int, now: dt.datetime) -> None:
    session.rollback()
    begin_write(session)
    photos.arrive(session, who, sha256, size_bytes, now=now)
    session.commit()


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(EVERY_S / 5)


def is_looked_at(session: Session, sha256: str) -> bool:
    session.rollback()
    return session.scalar(select(PhotoFacts.looked_at).where(PhotoFacts.sha256 == sha256)) is not None


def note_codes(session: Session, record: str) -> list[str]:
    session.rollback()
    return session.scalars(select(Incident.note_codes).where(Incident.id == uuid.UUID(record))).one()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "darkroom"]


# ---------------------------------------------------------------- its life


def test_the_thread_begins_with_the_first_request_and_ends_when_it_is_told(make_app: Callable[..., Flask]) -> None:
    app = make_app(look_every_s=EVERY_S)
    assert threads() == []
    for _ in range(3):
        app.test_client().get("/health")
        assert len(threads()) == 1
    app.extensions["darkroom"].close()
    assert threads() == []


def test_two_first_requests_at_the_same_time_begin_one(make_app: Callable[..., Flask]) -> None:
    app = make_app(look_every_s=EVERY_S)
    at_once = threading.Barrier(8)

    def ask() -> None:
        at_once.wait()
        app.test_client().get("/health")

    asking = [threading.Thread(target=ask) for _ in range(8)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len(threads()) == 1


def test_no_thread_looks_where_none_shall(make_app: Callable[..., Flask]) -> None:
    make_app(look_every_s=0).test_client().get("/health")
    assert threads() == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a priority is the process's")
def test_the_thread_stands_back_and_no_other_does(make_app: Callable[..., Flask]) -> None:
    make_app(look_every_s=EVERY_S).test_client().get("/health")
    (thread,) = threads()
    assert thread.native_id is not None
    wait_until(lambda: os.getpriority(os.PRIO_PROCESS, thread.native_id or 0) == 15)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == os.getpriority(os.PRIO_PROCESS, os.getpid())
    assert os.getpriority(os.PRIO_PROCESS, os.getpid()) < 15


# ---------------------------------------------------------------- its work


def test_a_photo_gets_its_thumb_and_its_record_a_note(
    make_app: Callable[..., Flask], session: Session, store: Folder, send: Send
) -> None:
    app = make_app(look_every_s=EVERY_S)
    app.test_client().get("/health")
    good, _ = send(drawn())
    _, record = send(b"not a picture")
    wait_until(lambda: is_looked_at(session, good))
    assert store.has(derivative_key(good, "thumb"))
    wait_until(lambda: "photo-undecodable" in note_codes(session, record))
    app.extensions["darkroom"].close()
    session.rollback()
    assert list(verify(session))


def test_a_photo_without_bytes_is_told_and_holds_nothing_up(
    make_app: Callable[..., Flask],
    session: Session,
    tmp_path: Path,
    send: Send,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gone = [send(drawn((40 + n, 30)))[0] for n in range(5)]
    for sha256 in gone:
        (tmp_path / "photos" / photo_key(sha256)).unlink()
    good, _ = send(drawn())
    make_app(look_every_s=EVERY_S).test_client().get("/health")
    wait_until(lambda: is_looked_at(session, good) and all(sha256 in caplog.text for sha256 in gone))
    later, _ = send(drawn((80, 60)))
    wait_until(lambda: is_looked_at(session, later))
    assert [caplog.text.count(sha256) for sha256 in gone] == [1] * 5, "once, not again and again"
    assert not any(is_looked_at(session, sha256) for sha256 in gone)


def test_a_photo_that_the_disk_does_not_give_is_looked_at_later(
    make_app: Callable[..., Flask], session: Session, tmp_path: Path, send: Send, caplog: pytest.LogCaptureFixture
) -> None:
    """It says nothing of the photo, as little as bytes that are missing: nobody may call it too costly for that."""
    refused = [send(drawn((40 + n, 30)))[0] for n in range(2)]
    for sha256 in refused:
        (tmp_path / "photos" / photo_key(sha256)).unlink()
        (tmp_path / "photos" / photo_key(sha256)).mkdir()
    good, _ = send(drawn())
    result = make_app().test_cli_runner().invoke(args=["look-at-photos"])
    assert (result.exit_code, all(sha256 in caplog.text for sha256 in refused)) == (0, True)
    assert is_looked_at(session, good)
    assert [session.get_one(PhotoFacts, sha256).claims for sha256 in refused] == [0, 0]


def test_the_thread_outlives_what_nobody_expected(
    make_app: Callable[..., Flask],
    engine: Engine,
    session: Session,
    send: Send,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rename(engine, "photo_facts", "elsewhere")
    make_app(look_every_s=EVERY_S).test_client().get("/health")
    wait_until(lambda: caplog.text.count("wait to be looked at") > 2)
    rename(engine, "elsewhere", "photo_facts")
    good, _ = send(drawn())
    wait_until(lambda: is_looked_at(session, good))


def rename(engine: Engine, name: str, other: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {name} RENAME TO {other}")


def away() -> dict[str, str]:
    """The settings of a store that nobody answers for."""
    url = f"http://127.0.0.1:{free_port()}"
    return {"store_url": "s3://photos", "s3_key_id": "key", "s3_secret": "secret", "s3_endpoint_url": url}


def test_a_store_that_is_away_is_waited_for(
    make_app: Callable[..., Flask],
    session: Session,
    store: Folder,
    send: Send,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent = [send(drawn((40 + n, 30)))[0] for n in range(3)]
    app = make_app(look_every_s=EVERY_S, **away())
    app.test_client().get("/health")
    wait_until(lambda: caplog.text.count("wait to be looked at") > 2)
    app.extensions["store"] = store
    wait_until(lambda: all(is_looked_at(session, sha256) for sha256 in sent))
    assert "Traceback" not in caplog.text


# ---------------------------------------------------------------- the command


def test_the_command_does_all_that_waits_and_says_how_far_it_is(
    make_app: Callable[..., Flask], session: Session, tmp_path: Path, send: Send
) -> None:
    sent = [send(drawn((40 + n, 30)))[0] for n in range(3)]
    (tmp_path / "photos" / photo_key(sent[1])).unlink()
    _, record = send(b"not a picture")
    result = make_app().test_cli_runner().invoke(args=["look-at-photos"])
    assert (result.exit_code, result.stdout) == (0, "Nothing more can be looked at now.\n")
    assert result.stderr.splitlines()[0] == "4 photos to look at, 0 citations to compare, 0 records to look at again"
    assert [is_looked_at(session, sha256) for sha256 in sent] == [True, False, True]
    assert "photo-undecodable" in note_codes(session, record)
    again = make_app().test_cli_runner().invoke(args=["look-at-photos"])
    assert (again.exit_code, again.stderr) == (0, "")


def test_the_command_tells_that_the_store_is_away(
    make_app: Callable[..., Flask], session: Session, store: Folder, send: Send
) -> None:
    sha256, _ = send(drawn())
    app = make_app(**away())
    result = app.test_cli_runner().invoke(args=["look-at-photos"])
    assert (result.exit_code, "Error: busy: the store" in result.stderr) == (1, True)
    app.extensions["store"] = store
    assert app.test_cli_runner().invoke(args=["look-at-photos"]).exit_code == 0
    assert is_looked_at(session, sha256)
