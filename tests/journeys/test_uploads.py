"""Photos in pieces, over lines that break, to servers that die, to several servers at once: gunicorn, two workers."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from field_api.bodies import LONGEST_HEARD_S, MOST_HEARD, PAUSE_S
from field_api.settings import variable
from field_api.uploads import CHUNK_TYPE, KEEP_EVERY_S, WAIT_S
from migrations import upgrade
from sync.models import Photo, Upload, UploadPart
from sync.store import Folder, Store, photo_key
from sync.uploads import LEASE
from tests import cluster, seaweed
from tests.conftest import opened
from tests.journeys.ground import UPLOADS, Answer, Ground, Handset, made
from tests.journeys.serving import running

on_both = pytest.mark.parametrize("ground", ["gunicorn on postgresql", "gunicorn on sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("ground", ["gunicorn on postgresql"], indirect=True)
TUS = {"tus_resumable": "1.0.0", "content_type": CHUNK_TYPE}
PATIENCE_S = 60.0
KIB = 1024


class Photographed:
    """A photo of no meaning, another one each time, and its upload."""

    def __init__(self, phone: Handset, size: int = 300 * KIB) -> None:
        self.phone = phone
        self.data = os.urandom(size)
        self.sha256 = hashlib.sha256(self.data).hexdigest()
        self.path = f"{UPLOADS}/{self.sha256}"

    def at(self, other: Handset) -> Photographed:
        """The same photo, sent to another server."""
        same = Photographed(other, 0)
        same.data, same.sha256, same.path = self.data, self.sha256, self.path
        return same

    def begin(self) -> Photographed:
        told = f"sha256 {b64encode(self.sha256.encode()).decode()}"
        said = {"upload_length": str(len(self.data)), "upload_metadata": told}
        assert self.phone.ask("POST", UPLOADS, None, **TUS | said).status == 201
        return self

    def head(self) -> Answer:
        return self.phone.ask("HEAD", self.path, None, **TUS)

    def offset(self) -> int:
        """How much is durable, once nobody holds the upload any more."""
        answer = until_free(self.head)
        assert answer.status == 200, answer
        return int(answer.headers["Upload-Offset"])

    def patch(self, begin: int, end: int | None = None) -> Answer:
        return self.phone.ask("PATCH", self.path, self.data[begin:end], **TUS | {"upload_offset": str(begin)})

    def finish(self) -> None:
        """All that is missing is sent."""
        offset = self.offset()
        assert until_free(lambda: self.patch(offset)).status == 204

    def line(self, begin: int = 0, **headers: str) -> Line:
        return Line(self, begin, headers)


def until_free(ask: Callable[[], Answer]) -> Answer:
    """What is answered when the upload is free: a phone that is told 423 tries again."""
    until = time.monotonic() + PATIENCE_S
    while True:
        answer = ask()
        if answer.status != 423 or time.monotonic() > until:
            return answer
        time.sleep(float(answer.headers["Retry-After"]) / 2)


class Line:
    """A connection on which a PATCH has begun, of all that is left unless headers say otherwise."""

    def __init__(self, photo: Photographed, begin: int, headers: dict[str, str]) -> None:
        self._photo, self.at = photo, begin
        self._socket = socket.create_connection(("127.0.0.1", photo.phone.port), PATIENCE_S)
        said = {"Authorization": f"Bearer {photo.phone.token}", "Tus-Resumable": "1.0.0", "Content-Type": CHUNK_TYPE}
        said |= {"Upload-Offset": str(begin), "Content-Length": str(len(photo.data) - begin)} | headers
        head = "".join(f"{name}: {value}\r\n" for name, value in said.items() if value)
        self._socket.sendall(f"PATCH {photo.path} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode())

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, size: int | None = None) -> Line:
        """The photo's next bytes."""
        data = self._photo.data[self.at : None if size is None else self.at + size]
        self._socket.sendall(data)
        self.at += len(data)
        return self

    def raw(self, data: bytes) -> None:
        self._socket.sendall(data)

    def dribble(self, size: int, every_s: float, until: Callable[[], bool]) -> None:
        """A little of the photo again and again, until it is so."""
        late = time.monotonic() + PATIENCE_S
        while not until():
            assert time.monotonic() < late
            self.send(size)
            time.sleep(every_s)

    def cut(self, engine: Engine, *, reset: bool = False) -> None:
        """The line is gone, once the server has begun to listen: bytes that nobody took can't be told of."""
        wait_until(lambda: is_held(engine, self._photo))
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self._socket.close()

    def answer(self) -> tuple[int, dict[str, str]]:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        said = b""
        while piece := self._socket.recv(65_536):
            said += piece
        head = said.partition(b"\r\n\r\n")[0].decode().split("\r\n")
        return int(head[0].split()[1]), dict(line.lower().split(": ", 1) for line in head[1:])  # type: ignore[misc]


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def durable(engine: Engine, photo: Photographed) -> int:
    """How many bytes count, asked of the database: over HTTP a request that goes on would be waited for."""
    with Session(engine) as session:
        return session.scalars(select(Upload.offset_bytes).where(Upload.name == photo.sha256)).one()


def is_held(engine: Engine, photo: Photographed) -> bool:
    with Session(engine) as session:
        return session.scalars(select(Upload.held_by).where(Upload.name == photo.sha256)).one() is not None


def has_arrived(engine: Engine, store: Store, photo: Photographed) -> bool:
    """The very bytes, once, and nothing left of the pieces."""
    with store.opened(photo_key(photo.sha256)) as file:
        kept = file.read()
    with Session(engine) as session:
        known = session.scalars(select(Photo.size_bytes).where(Photo.sha256 == photo.sha256)).all()
        parts = session.scalars(select(UploadPart).where(UploadPart.name == photo.sha256)).all()
    return (kept == photo.data, known, parts) == (True, [len(photo.data)], [])


@pytest.fixture
def phone(ground: Ground) -> Handset:
    return ground.handset()


@pytest.fixture
def photo(phone: Handset) -> Photographed:
    return Photographed(phone).begin()


@pytest.fixture
def store(ground: Ground) -> Store:
    return Folder(ground.folder / "photos")


# ---------------------------------------------------------------- a line that is cut

CUTS = [1, 1_000, 70_000, 150_000, 300 * KIB - 1]


@on_both
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_what_came_of_a_chunk_that_was_cut_is_kept_and_told_at_once(
    ground: Ground, phone: Handset, store: Store, reset: bool
) -> None:
    for cut in CUTS:
        photo = Photographed(phone).begin()
        photo.line().send(cut).cut(ground.engine, reset=reset)
        assert photo.offset() == cut
        photo.finish()
        assert has_arrived(ground.engine, store, photo)


@on_postgresql
def test_a_photo_that_is_cut_again_and_again_never_begins_again(
    ground: Ground, store: Store, photo: Photographed
) -> None:
    for at in range(0, 300_000, 50_000):
        assert photo.offset() == at
        photo.line(at).send(50_000).cut(ground.engine)
    photo.finish()
    assert has_arrived(ground.engine, store, photo)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@on_postgresql
@pytest.mark.parametrize("end", [b"0\r\n\r\n", b"", b"ffff\r\n", b"nonsense\r\n"])
def test_a_body_without_a_length_counts_as_far_as_it_came(
    ground: Ground, store: Store, photo: Photographed, end: bytes
) -> None:
    with photo.line(0, **{"Content-Length": "", "Transfer-Encoding": "chunked"}) as line:
        line.raw(chunk(photo.data[:100_000]) + chunk(photo.data[100_000:200_000]) + end)
        status, headers = line.answer()
    assert (status, headers.get("upload-offset")) == ((204, "200000") if end == b"0\r\n\r\n" else (400, None))
    assert photo.offset() == 200_000
    photo.finish()
    assert has_arrived(ground.engine, store, photo)


@on_postgresql
def test_a_body_without_a_length_that_is_too_long_does_not_count(photo: Photographed) -> None:
    with photo.line(0, **{"Content-Length": "", "Transfer-Encoding": "chunked"}) as line:
        line.raw(chunk(photo.data) + chunk(b"!") + b"0\r\n\r\n")
        assert line.answer()[0] == 413
    assert photo.offset() == 0


@on_postgresql
@pytest.mark.parametrize(
    ("headers", "status"),
    [({"upload_offset": "7"}, 409), ({"content_type": "image/jpeg"}, 415), ({"tus_resumable": "0.2"}, 412)],
)
def test_a_refusal_is_heard_however_much_was_being_said(
    photo: Photographed, headers: dict[str, str], status: int
) -> None:
    for size in (300_000, 25 * KIB * KIB):
        said = TUS | {"upload_offset": "0"} | headers
        assert photo.phone.ask("PATCH", photo.path, b"x" * size, **said).status == status


@on_postgresql
def test_strangers_who_dribble_keep_nobody_out(ground: Ground, photo: Photographed) -> None:
    stranger = Photographed(replace(photo.phone, token="nobody's"))
    with ExitStack() as lines:
        refused = [lines.enter_context(stranger.line()) for _ in range(150)]
        began = time.monotonic()
        while time.monotonic() < began + LONGEST_HEARD_S + 2 * PAUSE_S:
            for line in refused:
                with suppress(OSError):
                    line.send(1)
            assert Handset.ask(photo.phone, "GET", "/health").status == 200
            assert time.monotonic() < began + LONGEST_HEARD_S + 10
            time.sleep(PAUSE_S / 2)
        heard = 0
        for line in refused:
            with suppress(ConnectionError, IndexError):  # many were hung up on
                heard += line.answer()[0] == 401
        assert heard >= MOST_HEARD


# ---------------------------------------------------------------- two at once


@on_both
def test_of_two_chunks_at_once_one_counts_and_the_other_waits_in_vain(
    ground: Ground, store: Store, photo: Photographed
) -> None:
    with photo.line().send(100_000) as first:
        wait_until(lambda: is_held(ground.engine, photo))
        started = time.monotonic()
        second = photo.patch(0)
        assert time.monotonic() - started >= WAIT_S
        assert (second.status, second.code, second.headers["Retry-After"]) == (423, "upload-busy", "1")
        assert photo.head().status == 423
        status, headers = first.send().answer()
    assert (status, headers["upload-offset"]) == (204, str(len(photo.data)))
    assert has_arrived(ground.engine, store, photo)


@on_postgresql
def test_a_chunk_that_finds_the_other_at_its_end_is_told_where_to_go_on(ground: Ground, photo: Photographed) -> None:
    with photo.line(0, **{"Content-Length": "100000"}) as first:
        first.send(50_000)
        wait_until(lambda: is_held(ground.engine, photo))
        with photo.line() as second:
            second.send()
            first.send(50_000)
            assert first.answer()[0] == 204
            status, headers = second.answer()
    assert (status, headers["upload-offset"]) == (409, "100000")


# ---------------------------------------------------------------- lines that are slow, and lines that fall silent


@on_postgresql
def test_bytes_that_dribble_in_are_durable_within_seconds(ground: Ground, store: Store, photo: Photographed) -> None:
    with photo.line() as line:
        for _ in range(2):
            started, before = time.monotonic(), durable(ground.engine, photo)
            line.dribble(2 * KIB, 0.1, until=lambda before=before: durable(ground.engine, photo) > before)  # type: ignore[misc]
            assert time.monotonic() - started < KEEP_EVERY_S + 4
        status, headers = line.send().answer()
    assert (status, headers["upload-offset"]) == (204, str(len(photo.data)))
    assert has_arrived(ground.engine, store, photo)


@on_postgresql
def test_a_phone_that_vanished_is_followed_by_the_next_and_can_not_come_back(
    ground: Ground, store: Store, photo: Photographed
) -> None:
    with photo.line().send(100 * KIB) as line:
        wait_until(lambda: durable(ground.engine, photo) == 100 * KIB)
        started = time.monotonic()
        offset = photo.offset()
        assert offset == 100 * KIB
        assert until_free(lambda: photo.patch(offset, offset + 1)).status == 204
        assert time.monotonic() - started < LEASE.total_seconds() + WAIT_S + PAUSE_S
        line.send(50 * KIB)
        line.send()
        assert line.answer()[0] == 423
    assert photo.offset() == 100 * KIB + 1
    photo.finish()
    assert has_arrived(ground.engine, store, photo)


@on_both
def test_servers_killed_in_the_middle_of_chunks_lose_at_most_those(
    ground: Ground, store: Store, phone: Handset
) -> None:
    photos = [Photographed(phone).begin() for _ in range(4)]
    for photo in photos:
        assert photo.patch(0, 100_000).status == 204
    with ExitStack() as lines:
        for photo in photos:
            lines.enter_context(photo.line(100_000)).send(50_000)
        wait_until(lambda: all(is_held(ground.engine, photo) for photo in photos))
        for pid in ground.server.workers():
            ground.server.kill_worker(pid)
    for photo in photos:
        assert 100_000 <= photo.offset() <= 150_000
        photo.finish()
        assert has_arrived(ground.engine, store, photo)


# ---------------------------------------------------------------- several servers


@pytest.fixture(params=["a folder on sqlite", "a folder on postgresql", "a bucket on postgresql"])
def servers(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Ground, Handset, Handset, Store]]:
    """Two servers that share a database and a store, and one phone that talks to both."""
    where, _, database = request.param.partition(" on ")
    url = f"sqlite:///{tmp_path / 'field.sqlite'}"
    if database == "postgresql":
        url = request.getfixturevalue("postgresql").create_database(request.getfixturevalue("template"))
    else:
        upgrade(url)
    store: Store = Folder(tmp_path / "photos")
    if where == "a bucket":
        s3: seaweed.Server = request.getfixturevalue("s3")
        store = s3.bucket(tmp_path.name)
        for name, value in s3.settings(tmp_path.name).items():
            monkeypatch.setenv(variable(name), value)
    (tmp_path / "other").mkdir()
    shared = {"store_folder": tmp_path / "photos"}
    with made("gunicorn", url, tmp_path) as ground, running("gunicorn", url, tmp_path / "other", **shared) as other:
        phone = ground.handset()
        yield ground, phone, replace(phone, port=other.port), store


def test_two_servers_each_get_chunks_of_one_photo(servers: tuple[Ground, Handset, Handset, Store]) -> None:
    ground, one, other, store = servers
    photo = Photographed(one).begin()
    here, there = photo, photo.at(other)
    assert here.patch(0, 100_000).status == 204
    assert there.patch(100_000, 150_000).status == 204
    here.line(150_000).send(50_000).cut(ground.engine)
    assert there.offset() == 200_000
    with there.line(200_000).send(50_000) as line:
        wait_until(lambda: is_held(ground.engine, photo))
        assert here.patch(200_000).status == 423
        assert line.send().answer()[0] == 204
    assert here.head().headers["Upload-Offset"] == str(len(photo.data))
    assert has_arrived(ground.engine, store, photo)
    assert [stored.key for stored in store.everything() if stored.key != "incoming/ready"] == [photo_key(photo.sha256)]


def test_phones_that_send_hold_no_connection_to_the_database(
    postgresql: cluster.Server, template: str, tmp_path: Path
) -> None:
    """Far more lines than connections, all in the middle of a chunk; and one asks something else."""
    url = postgresql.create_database(template)
    with made("gunicorn", url, tmp_path, database_connections=2, database_wait_s=2) as ground, ExitStack() as lines:
        phone = ground.handset()
        photos = [Photographed(phone).begin() for _ in range(24)]
        held = [lines.enter_context(photo.line().send(100_000)) for photo in photos]
        wait_until(lambda: all(is_held(ground.engine, photo) for photo in photos))
        assert phone.ask("GET", "/api/v1/incidents").status == 200
        with opened(url) as engine, Session(engine) as session:
            idle = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%' AND datname = current_database()"
            assert session.scalar(text(idle)) == 0
        assert [line.send().answer()[0] for line in held] == [204] * len(held)


@on_both
def test_nothing_unexpected_was_logged(ground: Ground) -> None:
    log = ground.server.log.read_text()
    assert "unexpected" not in log
    assert "Traceback" not in log
