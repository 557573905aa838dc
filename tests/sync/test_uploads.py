"""Bytes are counted once, by the one request that holds the upload, and only the whole photo ever counts as arrived."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import itertools
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from sync import photos, uploads
from sync.evidence import verify
from sync.models import Photo, SignedIn, Upload, UploadPart, begin_write, insert_rows
from sync.problems import (
    NotFound,
    PhotoDigestMismatch,
    PhotoInvalid,
    PhotoKept,
    PhotoQuota,
    PhotoTooLarge,
    Problem,
    UploadBusy,
    UploadInvalid,
    UploadOffset,
)
from sync.store import Folder, part_key, photo_key
from sync.uploads import LEASE, MOST_A_DAY, MOST_TOLD, Asked, Hold, Limits, Standing
from tests.builders import make_signed_in
from tests.counting import count_statements

BYTES = b"the bytes of a photo, in pieces"
SHA256 = hashlib.sha256(BYTES).hexdigest()
SIZE = len(BYTES)
WHOLE = Asked(SHA256, SIZE, None)
LIMITS = Limits(photo_bytes=100, day_bytes=10_000, waits=dt.timedelta(days=7))
SECOND = dt.timedelta(seconds=1)


@dataclass
class Server:
    """What a process does with the database and the store, for one officer, as the door does it."""

    engine: Engine
    store: Folder
    who: SignedIn
    now: dt.datetime
    limits: Limits = LIMITS

    def do(self, step: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """The step in a transaction of its own, committed unless it raises."""
        with Session(self.engine) as session:
            begin_write(session)
            done = step(session, *given, **named)
            session.commit()
            return done

    def create(self, asked: Asked = WHOLE) -> Standing:
        standing, stale = self.do(uploads.create, self.who, asked, self.limits, now=self.now)
        self.drop(stale)
        return standing  # type: ignore[no-any-return]

    def look(self, name: str = SHA256) -> Standing:
        return self.do(uploads.look, self.who, name, now=self.now)  # type: ignore[no-any-return]

    def claim(self, name: str = SHA256, offset: int = 0, length: int | None = None) -> Hold:
        said = {"offset_bytes": offset, "length_bytes": length, "limits": self.limits, "now": self.now}
        return self.do(uploads.claim, self.who, name, **said)  # type: ignore[no-any-return]

    def keep(self, data: bytes) -> str:
        key = uuid.uuid4().hex
        with self.store.incoming() as file:
            file.write(data)
            self.store.keep(file, part_key(key))
        return key

    def count(self, hold: Hold, data: bytes, *, goes_on: bool = False) -> Hold:
        key = self.keep(data)
        return self.do(  # type: ignore[no-any-return]
            uploads.count, hold, key, len(data), self.limits, now=self.now, goes_on=goes_on
        )

    def assemble(self, hold: Hold, parts: list[str], data: bytes) -> str:
        with self.store.incoming() as file:
            file.write(data)
            return uploads.assemble(self.store, hold, parts, file)

    def drop(self, keys: list[str]) -> None:
        for key in keys:
            self.store.drop(part_key(key))

    def arrive(self, hold: Hold, sha256: str, size: int) -> None:
        def finish(session: Session) -> list[str]:
            stale = uploads.finish(session, hold)
            photos.arrive(session, self.who, sha256, size, now=self.now, name=hold.name)
            return stale

        self.drop(self.do(finish))

    def row(self, name: str = SHA256) -> Any:
        with Session(self.engine) as session:
            return session.execute(select(*Upload.__table__.c).where(Upload.name == name)).one_or_none()

    def parts(self, name: str = SHA256) -> list[UploadPart]:
        its = select(UploadPart).where(UploadPart.name == name).order_by(UploadPart.from_byte)
        with Session(self.engine) as session:
            return list(session.scalars(its))

    def kept(self) -> list[str]:
        return [stored.key for stored in self.store.everything()]

    def read(self, key: str) -> bytes:
        with self.store.opened(key) as file:
            return file.read()


@pytest.fixture
def server(engine: Engine, session: Session, tmp_path: Path, now: dt.datetime) -> Server:
    who = make_signed_in(session, townships=())
    session.commit()
    return Server(engine, Folder(tmp_path / "photos"), who, now)


# ---------------------------------------------------------------- what a phone tells


def b64(said: str) -> str:
    return base64.b64encode(said.encode()).decode()


@pytest.mark.parametrize(
    ("told", "name"),
    [
        (None, None),
        ("", None),
        (f"sha256 {b64(SHA256)}", SHA256),
        (f"filename {b64('photo ü.jpg')},sha256 {b64(SHA256)},done", SHA256),
        (f"a ,b,  sha256 {b64(SHA256)}", SHA256),
        (f"SHA256 {b64(SHA256)}", None),
        (f"filename {b64(SHA256)}", None),
        (f"a {b64('x' * (MOST_TOLD * 3 // 4 - 6))}", None),
    ],
)
def test_a_photo_is_named_by_what_is_told_of_it(told: str | None, name: str | None) -> None:
    assert uploads.named(told) == name


@given(st.text(max_size=200))
def test_whatever_is_told_is_understood_or_refused(told: str) -> None:
    with suppress(UploadInvalid, PhotoInvalid):
        assert uploads.named(told) is None


@given(st.dictionaries(st.text("abc_-.", min_size=1), st.binary(max_size=20), max_size=5))
def test_metadata_as_the_standard_writes_them_are_taken(told: dict[str, bytes]) -> None:
    assert uploads.named(",".join(f"{key} {base64.b64encode(value).decode()}" for key, value in told.items())) is None


# ---------------------------------------------------------------- creation

#: What there is, what is asked for, what becomes of it: how many bytes stay, or what is raised.
AGAIN: list[tuple[str, int | None, int, int | None, dt.timedelta, int]] = [
    ("the same", SIZE, 10, SIZE, SECOND, 10),
    ("the same, deferred", None, 10, None, SECOND, 10),
    ("another length", SIZE + 1, 10, SIZE, SECOND, 0),
    ("a length at last", None, 10, SIZE, SECOND, 0),
    ("nothing yet", SIZE, 0, SIZE, SECOND, 0),
    ("nearly expired", SIZE, 10, SIZE, LIMITS.waits - SECOND, 10),
    ("expired", SIZE, 10, SIZE, LIMITS.waits, 0),
]


@pytest.mark.parametrize(("name", "length", "there", "asked", "later", "stay"), AGAIN, ids=[case[0] for case in AGAIN])
def test_what_was_begun_before_is_found_again(
    server: Server, name: str, length: int | None, there: int, asked: int | None, later: dt.timedelta, stay: int
) -> None:
    server.create(Asked(SHA256, length, "first"))
    if there:
        server.count(server.claim(), BYTES[:there])
    begun_at, server.now = server.now, server.now + later
    standing = server.create(Asked(SHA256, asked, "again"))
    assert (standing.offset_bytes, standing.length_bytes) == (stay, asked)
    assert standing.told == ("first" if stay or name == "nothing yet" else "again")
    assert standing.expires_at == (begun_at if stay or name == "nothing yet" else server.now) + LIMITS.waits
    assert standing == server.look()
    assert sum(part.size_bytes for part in server.parts()) == stay
    assert len(server.kept()) == bool(stay)


def test_without_a_name_every_creation_is_another_upload(server: Server) -> None:
    names = {server.create(Asked(None, SIZE, None)).name for _ in range(3)}
    assert len(names) == 3
    assert {len(name) for name in names} == {32}


def test_uploads_of_two_officers_know_nothing_of_each_other(server: Server, session: Session) -> None:
    other = replace(server, who=make_signed_in(session, username="other", townships=()))
    session.commit()
    server.create()
    server.claim()
    with pytest.raises(NotFound):
        other.look()
    other.create(Asked(SHA256, SIZE, None))
    other.count(other.claim(), BYTES[:5])
    server.now += LEASE
    assert (server.look().offset_bytes, other.look().offset_bytes) == (0, 5)


def test_a_day_ends_at_midnight_in_hangzhou(server: Server) -> None:
    server.limits = replace(LIMITS, day_bytes=SIZE)
    server.now = dt.datetime(2026, 11, 23, 15, 59, 30, tzinfo=dt.UTC)
    server.create()
    with pytest.raises(PhotoQuota) as refused:
        server.create(Asked(None, 1, None))
    assert refused.value.details == {"most_bytes": SIZE, "retry_after_s": 30}
    server.now += 30 * SECOND
    server.create(Asked(None, 1, None))
    assert server.create().offset_bytes == 0


def test_an_officer_begins_so_many_uploads_on_one_day_however_small(server: Server) -> None:
    last = server.create(Asked(None, None, None)).name
    row = server.row(last)._asdict()
    server.do(insert_rows, Upload, [row | {"name": f"{n:032x}"} for n in range(MOST_A_DAY - 1)])
    with pytest.raises(PhotoQuota):
        server.create(Asked(None, None, None))
    server.do(uploads.forget, server.who, last, now=server.now)
    server.create(Asked(None, None, None))


@pytest.mark.parametrize("length", [None, SIZE])
def test_what_is_begun_without_a_length_counts_on_the_day_its_bytes_come(server: Server, length: int | None) -> None:
    server.limits = replace(LIMITS, day_bytes=SIZE)
    first, second = (server.create(Asked(None, None, None)).name for _ in range(2))
    server.now += dt.timedelta(days=1)
    server.count(server.claim(first, length=length), BYTES)
    with pytest.raises(PhotoQuota):
        server.claim(second, length=1)


def test_an_upload_that_begins_anew_counts_once(server: Server) -> None:
    server.limits = replace(LIMITS, day_bytes=SIZE)
    server.create()
    server.create(Asked(SHA256, SIZE - 1, None))
    server.create()
    with pytest.raises(PhotoTooLarge):
        server.create(Asked(SHA256, LIMITS.photo_bytes + 1, None))


# ---------------------------------------------------------------- holding

HELD: list[tuple[str, Callable[[Server], Any]]] = [
    ("look", lambda server: server.look()),
    ("create", lambda server: server.create()),
    ("create with another length", lambda server: server.create(Asked(SHA256, 1, None))),
    ("claim", lambda server: server.claim()),
    ("claim elsewhere", lambda server: server.claim(offset=5)),
    ("forget", lambda server: server.do(uploads.forget, server.who, SHA256, now=server.now)),
]


@pytest.mark.parametrize(("name", "step"), HELD, ids=[case[0] for case in HELD])
def test_what_one_request_holds_is_busy_for_all_others_until_the_lease_runs_out(
    server: Server, name: str, step: Callable[[Server], Any]
) -> None:
    server.create()
    server.claim()
    server.now += LEASE - SECOND
    with pytest.raises(UploadBusy) as busy:
        step(server)
    assert busy.value.details == {"retry_after_s": 1}
    server.now += SECOND
    if name == "claim elsewhere":
        with pytest.raises(UploadOffset) as refused:
            step(server)
        assert refused.value.details == {"offset_bytes": 0}
    else:
        step(server)


def test_each_durable_step_keeps_others_out_for_a_lease_more(server: Server) -> None:
    server.create()
    hold = server.claim()
    for at in range(3):
        server.now += LEASE - SECOND
        hold = server.count(hold, BYTES[at : at + 1], goes_on=True)
        with pytest.raises(UploadBusy):
            server.look()
    server.now += LEASE - SECOND
    server.do(uploads.renew, hold, now=server.now)
    server.now += LEASE - SECOND
    with pytest.raises(UploadBusy):
        server.look()
    server.do(uploads.let_go, hold)
    assert server.look() == Standing(SHA256, SIZE, 3, None, hold.expires_at)


def test_a_length_that_is_reached_already_is_not_told_before_the_photo_has_arrived(server: Server) -> None:
    """A phone takes an offset equal to the length for the photo's arrival."""
    server.create(Asked(SHA256, None, None))
    server.count(server.claim(), BYTES)
    hold = server.claim(offset=SIZE, length=SIZE)
    assert (hold.length_bytes, hold.room_bytes) == (SIZE, 0)
    server.now += LEASE
    assert server.look().length_bytes is None
    server.arrive(server.claim(offset=SIZE, length=SIZE), SHA256, SIZE)
    assert server.look().length_bytes == SIZE


OVERTAKEN: list[tuple[str, Callable[[Server, Hold], Any]]] = [
    ("count", lambda server, hold: server.count(hold, b"late")),
    ("renew", lambda server, hold: server.do(uploads.renew, hold, now=server.now)),
    ("gather", lambda server, hold: server.do(uploads.gather, hold, now=server.now)),
    ("finish", lambda server, hold: server.arrive(hold, SHA256, SIZE)),
    ("start over", lambda server, hold: server.do(uploads.start_over, hold)),
]


@pytest.mark.parametrize(("name", "step"), OVERTAKEN, ids=[case[0] for case in OVERTAKEN])
@pytest.mark.parametrize("by", ["a claim", "a count", "a creation", "nobody any more"])
def test_who_was_overtaken_changes_nothing(
    server: Server, by: str, name: str, step: Callable[[Server, Hold], Any]
) -> None:
    server.create()
    late = server.claim()
    server.now += LEASE
    if by == "nobody any more":
        server.do(uploads.forget, server.who, SHA256, now=server.now)
    elif by == "a creation":
        server.create(Asked(SHA256, SIZE - 1, None))
    else:
        hold = server.claim()
        if by == "a count":
            server.count(hold, BYTES[:5])
    before = server.row()
    with pytest.raises(UploadBusy):
        step(server, late)
    server.do(uploads.let_go, late)
    assert server.row() == before


def test_a_lease_that_ran_out_is_good_as_long_as_nobody_has_taken_over(server: Server) -> None:
    server.create()
    hold = server.claim()
    server.now += 5 * LEASE
    assert server.look().offset_bytes == 0
    assert server.count(hold, BYTES[:5]).offset_bytes == 5


def test_an_upload_waits_from_its_last_durable_byte(server: Server) -> None:
    server.create()
    for at in range(3):
        server.now += LIMITS.waits - SECOND
        server.count(server.claim(offset=at), BYTES[at : at + 1])
    server.now += LIMITS.waits - SECOND
    server.do(uploads.let_go, server.claim(offset=3))
    server.now += SECOND
    for step in (server.look, server.claim, lambda: server.do(uploads.forget, server.who, SHA256, now=server.now)):
        with pytest.raises(NotFound):
            step()


# ---------------------------------------------------------------- the end


def test_a_photo_that_has_arrived_stays(server: Server) -> None:
    server.create()
    hold = server.count(server.claim(), BYTES[:10], goes_on=True)
    parts = server.do(uploads.gather, hold, now=server.now)
    sha256 = server.assemble(hold, parts, BYTES[10:])
    server.arrive(hold, sha256, SIZE)
    finished = Standing(SHA256, SIZE, SIZE, None, None)
    server.now += 10 * LIMITS.waits
    assert server.look() == server.create() == server.create(Asked(SHA256, 5, "other")) == finished
    assert finished.is_finished
    assert server.claim(offset=SIZE) is None
    with pytest.raises(PhotoKept):
        server.do(uploads.forget, server.who, SHA256, now=server.now)
    assert server.kept() == [photo_key(SHA256)]


ENDINGS: list[tuple[str, str, list[bytes], bytes]] = [
    ("other bytes in a part", SHA256, [BYTES[:9] + b"!"], BYTES[10:]),
    ("other bytes at the end", SHA256, [BYTES[:10]], BYTES[10:-1] + b"!"),
    ("a part lost", SHA256, [], BYTES[10:]),
    ("parts in another order", SHA256, [BYTES[5:10], BYTES[:5]], BYTES[10:]),
    ("too few", "0" * 32, [BYTES[:10]], BYTES[10:-1]),
    ("too many", "0" * 32, [BYTES[:10]], BYTES[10:] + b"!"),
]


@pytest.mark.parametrize(("name", "called", "parts", "tail"), ENDINGS, ids=[case[0] for case in ENDINGS])
def test_other_bytes_are_never_kept_as_the_photo(
    tmp_path: Path, now: dt.datetime, name: str, called: str, parts: list[bytes], tail: bytes
) -> None:
    server = Server(None, Folder(tmp_path / "photos"), None, now)  # type: ignore[arg-type]
    keys = [server.keep(part) for part in parts]
    hold = Hold(called, SIZE, 10, None, now, 1, uuid.uuid4(), SIZE - 10)
    with pytest.raises(PhotoDigestMismatch) as refused:
        server.assemble(hold, [*keys, "lost"], tail)
    assert refused.value.details["received_bytes"] == len(b"".join(parts) + tail)
    assert set(server.kept()) == {part_key(key) for key in keys}


def test_every_step_asks_a_fixed_number_of_questions(server: Server) -> None:
    """However many parts there are."""
    assert questions(server, parts=1) == questions(server, parts=7) == [1, 1, 2, 2, 1, 4, 3]


def questions(server: Server, parts: int) -> list[int]:
    """How many statements each step sends, on an upload of so many parts."""
    who, now, name = server.who, server.now, hashlib.sha256(b"%d" % parts).hexdigest()
    server.create(Asked(name, SIZE, None))
    for at in range(parts):
        server.count(server.claim(name, at), BYTES[at : at + 1])
    holds: list[Hold] = []
    steps: list[Callable[[], Any]] = [
        lambda: server.do(uploads.look, who, name, now=now),
        lambda: server.do(uploads.create, who, Asked(name, SIZE, None), LIMITS, now=now),
        lambda: holds.append(server.claim(name, parts)),
        lambda: server.do(uploads.gather, holds[0], now=now),
        lambda: server.do(uploads.let_go, holds[0]),
        lambda: server.do(uploads.create, who, Asked(name, 5, None), LIMITS, now=now),
        lambda: server.do(uploads.forget, who, name, now=now),
    ]
    asked = []
    for step in steps:
        with count_statements(server.engine) as counted:
            step()
        asked.append(counted.statements)
    return asked


# ---------------------------------------------------------------- whatever happens


@dataclass
class World:
    """One upload, those who send it, and the bytes that count by now as far as anybody was told."""

    server: Server
    photo: bytes
    asked: Asked
    name: str = ""
    counted: bytes = b""
    arrived: bytes | None = None
    sending: dict[int, Iterator[None]] = field(default_factory=dict)

    def create(self, length: int | None) -> None:
        with suppress(UploadBusy):
            standing = self.server.create(replace(self.asked, length_bytes=length))
            self.name = standing.name
            if not standing.offset_bytes:
                self.counted = b""

    def send(self, stretches: list[int], *, spoilt: bool) -> Iterator[None]:
        """A chunk that comes in stretches, as the door takes it, a step at a time: a server may die between any two."""
        offset = self.server.look(self.name).offset_bytes
        yield
        hold = self.server.claim(self.name, offset)
        if hold is None:
            return  # the photo has arrived meanwhile
        yield
        for number, size in enumerate(stretches, 1):
            data = self.photo[hold.offset_bytes : hold.offset_bytes + size]
            data = b"!" * len(data) if spoilt else data
            if hold.offset_bytes + len(data) == hold.length_bytes:
                yield from self.finish(hold, data)
                return
            key = self.server.keep(data)
            yield
            goes_on = number < len(stretches)
            now, limits = self.server.now, self.server.limits
            hold = self.server.do(uploads.count, hold, key, len(data), limits, now=now, goes_on=goes_on)
            self.counted = self.counted[: hold.offset_bytes - len(data)] + data
            yield

    def finish(self, hold: Hold, tail: bytes) -> Iterator[None]:
        parts = self.server.do(uploads.gather, hold, now=self.server.now)
        yield
        try:
            sha256 = self.server.assemble(hold, parts, tail)
        except PhotoDigestMismatch:
            self.server.drop(self.server.do(uploads.start_over, hold))
            self.counted = b""
            raise
        yield
        whole = self.counted + tail
        self.server.arrive(hold, sha256, len(whole))
        self.arrived = whole

    def step(self, slot: int) -> None:
        """The request goes a step further; one that is refused lets go, as in the door."""
        with suppress(Problem, StopIteration):
            next(self.sending.get(slot, iter(())))

    def forget(self) -> None:
        with suppress(NotFound, UploadBusy, PhotoKept):
            self.server.drop(self.server.do(uploads.forget, self.server.who, self.name, now=self.server.now))
            self.counted = b""

    def put(self) -> None:
        """The photo comes in one go."""

        def arrive(session: Session) -> list[str]:
            stale = uploads.give_way(session, self.server.who, self.name)
            photos.arrive(session, self.server.who, self.name, len(self.photo), now=self.server.now)
            return stale

        if self.asked.name:
            photos.receive(self.server.store, self.name, [self.photo])
            self.server.drop(self.server.do(arrive))
            self.arrived = self.arrived or self.photo

    def check(self) -> None:
        """The database and the store say what was told, and no more."""
        row, parts = self.server.row(self.name), self.server.parts(self.name)
        kept = b"".join(self.server.read(part_key(part.key)) for part in parts)
        if self.arrived is not None:
            assert (row.offset_bytes, row.length_bytes, parts) == (len(self.arrived), len(self.arrived), [])
            assert row.finished_at
            assert self.server.read(photo_key(row.sha256)) == self.arrived
            assert row.sha256 == hashlib.sha256(self.arrived).hexdigest()
            assert row.name in (row.sha256, self.name if not self.asked.name else row.sha256)
        elif row is None:
            assert (kept, self.counted) == (b"", b"")
        else:
            assert not row.finished_at
            assert kept == self.counted
            assert len(kept) == row.offset_bytes == sum(part.size_bytes for part in parts)
            assert row.offset_bytes != row.length_bytes


_slot = st.integers(0, 2)
_stretches = st.lists(st.integers(1, 20), min_size=1, max_size=3)
_step = st.one_of(
    st.tuples(st.just("begin"), _slot, _stretches, st.integers(0, 9)),
    *(st.tuples(st.just("step"), _slot) for _ in range(6)),
    st.tuples(st.just("die"), _slot),
    st.tuples(st.just("wait"), st.integers(1, 15)),
    st.tuples(st.just("create"), st.sampled_from([SIZE, SIZE, SIZE + 1])),
    st.tuples(st.just("forget")),
    st.tuples(st.just("put")),
)
_numbers = itertools.count()


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(is_named=st.booleans(), steps=st.lists(_step, max_size=40))
@example(is_named=True, steps=[("put",), ("begin", 0, [1], 0), ("step", 0), ("step", 0), ("step", 0)])
def test_however_requests_interleave_and_die_the_photo_is_exactly_its_bytes(
    server: Server, is_named: bool, steps: list[Any]
) -> None:
    photo = (b"%d " % next(_numbers)).ljust(SIZE, b".")
    world = World(server, photo, Asked(hashlib.sha256(photo).hexdigest() if is_named else None, SIZE, None))
    world.create(SIZE)
    for kind, *said in steps:
        if kind == "begin":
            slot, stretches, luck = said
            world.sending[slot] = world.send(stretches, spoilt=not luck)
        elif kind == "step":
            world.step(*said)
        elif kind == "die":
            world.sending.pop(said[0], None)
        elif kind == "wait":
            server.now += said[0] * SECOND
        elif kind == "create":
            if is_named:
                world.create(*said)
        elif kind == "forget":
            world.forget()
        else:
            world.put()
        world.check()
    goes_through_in_the_end(world)


def goes_through_in_the_end(world: World) -> None:
    """Whatever happened before, a phone that does as it is told brings its photo through."""
    for _ in range(3):
        world.server.now += LEASE
        if world.asked.name or world.server.row(world.name) is None:
            world.create(SIZE)
        with suppress(PhotoDigestMismatch):
            for _ in world.send([SIZE], spoilt=False) if world.arrived is None else ():
                world.check()
        world.check()
    assert world.arrived is not None
    assert world.arrived == world.photo or not world.asked.name


# ---------------------------------------------------------------- at the same moment


@pytest.mark.parametrize("is_named", [True, False])
def test_phones_that_send_the_same_at_the_same_moment_never_interleave(server: Server, is_named: bool) -> None:
    """Four of them, each going on from where the upload is, in chunks of other sizes, and none waits for another."""
    name = server.create(Asked(SHA256 if is_named else None, SIZE, None)).name
    counted: list[tuple[int, bytes]] = []
    errors: list[BaseException] = []

    def chunk(hold: Hold, size: int) -> None:
        data = BYTES[hold.offset_bytes : hold.offset_bytes + size]
        if hold.offset_bytes + len(data) < SIZE:
            server.count(hold, data)
        else:
            parts = server.do(uploads.gather, hold, now=server.now)
            server.arrive(hold, server.assemble(hold, parts, data), SIZE)
        counted.append((hold.offset_bytes, data))

    def send(size: int) -> None:
        try:
            while not errors:
                with suppress(UploadBusy, UploadOffset):
                    standing = server.look(name)
                    if standing.is_finished:
                        return
                    hold = server.claim(name, standing.offset_bytes)
                    if hold is not None:
                        chunk(hold, size)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=send, args=[size]) for size in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert b"".join(data for _, data in sorted(counted)) == BYTES
    assert server.read(photo_key(SHA256)) == BYTES
    assert server.kept() == [photo_key(SHA256)]
    with Session(server.engine) as session:
        assert [photo.sha256 for photo in session.scalars(select(Photo))] == [SHA256]
        assert list(verify(session))


def test_two_creations_at_the_same_moment_make_one_upload(server: Server) -> None:
    made: list[Standing] = []

    def create() -> None:
        for _ in range(50):
            with suppress(UploadBusy):
                made.append(server.create())
                return

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert made == [made[0]] * 4
