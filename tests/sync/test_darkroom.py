"""After a photo has arrived: one looks at it, its thumb is kept, and the records that cite it tell what it says."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from PIL import Image
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from sync import darkroom, photos
from sync.evidence import verify
from sync.models import AnnouncedPhoto, FeedEntry, Head, Incident, Link, PhotoFacts, SignedIn, begin_write
from sync.patrol_log import Selection, one, page
from sync.pictures import Facts
from sync.problems import Busy, PhotoNotShown
from sync.store import Folder, Store, derivative_key, photo_key
from tests.builders import make_account, make_lists, make_signed_in
from tests.counting import count_statements
from tests.sync.days import amend, batch, incident, patrol, push, warning
from tests.sync.test_in_flight import at_once, receive

JPEG = "image/jpeg"
#: 西湖, some 40 km from where the records of these tests are.
ELSEWHERE = Facts(format="jpeg", taken_how="gps", lon=120.14, lat=30.24, error_m=10.0)
ZIPPED = Facts(format="jpeg", flags=("polyglot",))
PLAIN = Facts(format="jpeg")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Folder(tmp_path / "photos")


@pytest.fixture
def officer(session: Session) -> SignedIn:
    make_lists(session)
    make_account(session, username="partner")
    who = make_signed_in(session)
    session.commit()
    return who


def name(n: int) -> str:
    """The SHA-256 of a photo of which only the facts matter."""
    return f"{n:064x}"


def cited(sha256: str, size_bytes: int = 3) -> dict[str, Any]:
    return {"sha256": sha256, "bytes": size_bytes, "type": JPEG, "role": "before"}


def arrive(session: Session, who: SignedIn, sha256: str, now: dt.datetime) -> None:
    session.rollback()
    begin_write(session)
    photos.arrive(session, who, sha256, 3, now=now)
    session.commit()


def looked(session: Session, sha256: str, facts: Facts, now: dt.datetime) -> None:
    """Somebody has looked at the photo and says this of it."""
    session.rollback()
    begin_write(session)
    darkroom.keep_facts(session, sha256, facts, now=now)
    session.commit()


def compared(session: Session, now: dt.datetime, most: int = darkroom.MOST_COMPARED) -> int:
    session.rollback()
    begin_write(session)
    done = darkroom.compare(session, now=now, most=most)
    session.commit()
    return done


def claimed(session: Session, now: dt.datetime) -> str | None:
    session.rollback()
    begin_write(session)
    sha256 = darkroom.claim(session, now=now)
    session.commit()
    return sha256


def notes_of(session: Session, who: SignedIn, told: dict[str, Any]) -> list[tuple[str, str]]:
    """What the record of this create remarks on photos: code and SHA-256."""
    kind = told["kind"].split(".")[0]
    notes = one(session, who, kind, uuid.UUID(told["record"]))["notes"]
    return [(note["code"], note["sha256"]) for note in notes if note["code"].startswith("photo-")]


def drawn(colour: str = "teal", size: tuple[int, int] = (640, 480)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG")
    return file.getvalue()


def kept(store: Store, content: bytes) -> str:
    """The SHA-256 of a photo whose bytes are in the store."""
    sha256 = hashlib.sha256(content).hexdigest()
    photos.receive(store, sha256, [content])
    return sha256


# ---------------------------------------------------------------- claiming


def test_a_photo_is_claimed_once_and_forgotten_when_somebody_has_looked(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    for n in range(3):
        arrive(session, officer, name(n), now)
    assert darkroom.waiting(session, now=now) == (3, 0)
    assert {claimed(session, now) for _ in range(3)} == {name(n) for n in range(3)}
    assert claimed(session, now) is None
    looked(session, name(1), PLAIN, now)
    assert {claimed(session, now + 2 * darkroom.CLAIM_HOLDS) for _ in range(3)} == {name(0), name(2), None}


@pytest.mark.parametrize(
    ("later", "free"), [(darkroom.CLAIM_HOLDS, 0), (darkroom.CLAIM_HOLDS + dt.timedelta(seconds=1), 1)]
)
def test_who_claimed_a_photo_and_died_gives_it_up_after_a_while(
    session: Session, officer: SignedIn, now: dt.datetime, later: dt.timedelta, free: int
) -> None:
    arrive(session, officer, name(1), now)
    claimed(session, now)
    assert darkroom.waiting(session, now=now + later).photos == free
    assert claimed(session, now + later) == (name(1) if free else None)


def test_a_photo_whose_looks_never_end_is_spared(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    arrive(session, officer, name(1), now)
    for n in range(darkroom.MOST_CLAIMS):
        session.rollback()
        begin_write(session)
        darkroom.spare(session, now=now)
        session.commit()
        assert claimed(session, now) == name(1), n
        now += darkroom.CLAIM_HOLDS + dt.timedelta(seconds=1)
    assert claimed(session, now) is None
    assert darkroom.waiting(session, now=now).photos == 1
    session.rollback()
    begin_write(session)
    darkroom.spare(session, now=now)
    session.commit()
    assert darkroom.waiting(session, now=now).photos == 0
    facts = session.execute(select(PhotoFacts)).scalar_one()
    assert (facts.flags, facts.looked_at) == (["too-costly"], now)


@pytest.mark.parametrize("claimed_at", [None, "now"])
def test_a_photo_that_is_given_back_was_not_claimed(
    session: Session, officer: SignedIn, now: dt.datetime, claimed_at: str | None
) -> None:
    arrive(session, officer, name(1), now)
    for _ in range(darkroom.MOST_CLAIMS + 1):
        assert claimed(session, now) == name(1)
        session.rollback()
        begin_write(session)
        darkroom.put_back(session, name(1), claimed_at=now if claimed_at else None)
        session.commit()
        if claimed_at:
            assert claimed(session, now) is None
            now += darkroom.CLAIM_HOLDS + dt.timedelta(seconds=1)


def test_a_photo_that_could_not_be_looked_at_is_free_again(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    arrive(session, officer, name(1), now)
    claimed(session, now)
    session.rollback()
    begin_write(session)
    darkroom.put_back(session, name(1))
    session.commit()
    assert claimed(session, now) == name(1)


def test_two_who_claim_at_the_same_time_share_the_work(
    engine: Engine, session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    names = {name(n) for n in range(12)}
    for sha256 in names:
        arrive(session, officer, sha256, now)
    session.rollback()
    found: list[str] = []
    ready = threading.Barrier(2)

    def claim_all() -> None:
        ready.wait()
        with Session(engine) as own:
            while (sha256 := claimed(own, now)) is not None:
                found.append(sha256)

    threads = [threading.Thread(target=claim_all) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == len(names)
    assert set(found) == names


def test_on_postgresql_who_claims_does_not_wait_for_another_that_is_about_to(
    engine: Engine, session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    if engine.dialect.name == "sqlite":
        return  # its writers wait for each other whatever they do
    arrive(session, officer, name(1), now)
    arrive(session, officer, name(2), now)
    begin_write(session)
    first = darkroom.claim(session, now=now)
    with Session(engine) as other:
        assert {first, claimed(other, now)} == {name(1), name(2)}
    session.commit()


# ---------------------------------------------------------------- looking


def test_a_look_keeps_the_thumb_and_tells_what_the_photo_says(store: Store) -> None:
    sha256 = kept(store, drawn())
    facts = darkroom.look(store, sha256)
    assert (facts.format, facts.width_px, facts.height_px, facts.flags) == ("jpeg", 640, 480, ())
    with store.opened(derivative_key(sha256, "thumb")) as file:
        assert Image.open(file).size == (320, 240)


def test_what_no_decoder_likes_has_facts_and_no_thumb(store: Store) -> None:
    sha256 = kept(store, b"not a picture, and evidence all the same")
    assert darkroom.look(store, sha256).flags == ("undecodable",)
    assert [stored.key for stored in store.everything()] == [photo_key(sha256)]


def test_facts_come_back_from_the_database_as_they_were(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    arrive(session, officer, name(1), now)
    facts = Facts(
        "heic", 4032, 3024, ("edited", "polyglot"), now, "zone", 120.5, 30.2, 8.0, "HUAWEI", "某相机", "0f" * 8
    )
    looked(session, name(1), facts, now)
    row = session.get_one(PhotoFacts, name(1))
    assert row.looked_at == now
    assert Facts(**{word: getattr(row, word) for word in darkroom.TOLD} | {"flags": tuple(row.flags)}) == facts


def test_a_photo_that_claims_to_be_wider_than_any_is_looked_at_once_and_for_all(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    arrive(session, officer, name(1), now)
    looked(session, name(1), Facts(format="png", width_px=2**32 - 1, height_px=48, flags=("too-costly",)), now)
    assert session.get_one(PhotoFacts, name(1)).width_px == darkroom.MOST_KEPT_PX
    assert darkroom.waiting(session, now=now).photos == 0


@pytest.mark.parametrize("size", ["thumb", "screen"])
def test_a_picture_is_developed_once(store: Store, tmp_path: Path, size: str) -> None:
    sha256 = kept(store, drawn())
    first = darkroom.develop(store, sha256, size, patience_s=5)
    assert max(Image.open(io.BytesIO(first)).size) == {"thumb": 320, "screen": 640}[size]
    (tmp_path / "photos" / photo_key(sha256)).unlink()
    assert darkroom.develop(store, sha256, size, patience_s=5) == first


def test_what_can_not_be_shown_is_told_and_nothing_is_kept_of_it(store: Store) -> None:
    sha256 = kept(store, b"not a picture")
    with pytest.raises(PhotoNotShown):
        darkroom.develop(store, sha256, "screen", patience_s=5)
    assert [stored.key for stored in store.everything()] == [photo_key(sha256)]


class Stalled(Folder):
    """A folder that opens nothing before it is told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked, self.goes_on = threading.Event(), threading.Event()

    @contextmanager
    def opened(self, key: str) -> Iterator[IO[bytes]]:
        if key == photo_key(key[-64:]):
            self.asked.set()
            self.goes_on.wait(30)
        with super().opened(key) as file:
            yield file


def test_pictures_are_made_one_at_a_time_and_nobody_waits_for_ever(tmp_path: Path) -> None:
    store = Stalled(tmp_path / "photos")
    first, second = kept(store, drawn("teal")), kept(store, drawn("navy"))
    made: list[bytes] = []
    thread = threading.Thread(target=lambda: made.append(darkroom.develop(store, first, "screen", patience_s=5)))
    thread.start()
    assert store.asked.wait(30)
    with pytest.raises(Busy):
        darkroom.develop(store, second, "screen", patience_s=0.05)
    store.goes_on.set()
    thread.join(30)
    assert darkroom.develop(store, second, "screen", patience_s=5) != made[0]


def test_bytes_that_are_gone_are_not_mistaken_for_a_photo_that_can_not_be_decoded(store: Store) -> None:
    with pytest.raises(FileNotFoundError):
        darkroom.look(store, name(1))
    with pytest.raises(FileNotFoundError):
        darkroom.develop(store, name(1), "thumb", patience_s=5)


# ---------------------------------------------------------------- comparing


@pytest.mark.parametrize("order", ["record photo look", "photo record look", "photo look record"])
def test_a_record_tells_what_its_photo_says_whatever_came_first(
    session: Session, officer: SignedIn, now: dt.datetime, order: str
) -> None:
    out = patrol()
    seen = incident(out, photos=[cited(name(1))])
    steps = {
        "record": lambda: push(session, officer, batch(officer, out, seen), now),
        "photo": lambda: arrive(session, officer, name(1), now),
        "look": lambda: looked(session, name(1), ELSEWHERE, now),
    }
    for step in order.split():
        assert compared(session, now) == 0
        steps[step]()
    assert compared(session, now) == 1
    assert notes_of(session, officer, seen) == [("photo-elsewhere", name(1))]
    assert session.scalars(select(AnnouncedPhoto.compared_at)).one() == now
    assert list(verify(session))


def test_the_note_is_found_by_lists_and_the_version_stays(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    seen, other = incident(out, photos=[cited(name(1))]), incident(out)
    push(session, officer, batch(officer, out, seen, other), now)
    arrive(session, officer, name(1), now)
    looked(session, name(1), ZIPPED, now)
    compared(session, now)
    listed = page(session, officer, "incident", Selection(note="photo-polyglot"), limit=10).items
    assert [(record["id"], record["version"]) for record in listed] == [(seen["record"], 1)]


def test_every_kind_of_record_is_told_and_sworn_to_in_one_link(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol() | {"photos": [cited(name(1))]}
    seen = incident(out, photos=[cited(name(2)), cited(name(3))])
    said = warning(seen) | {"photos": [cited(name(1))]}
    push(session, officer, batch(officer, out, seen, said), now)
    for n in range(1, 4):
        arrive(session, officer, name(n), now)
        looked(session, name(n), ZIPPED, now)
    before = session.scalar(select(Head.number))
    assert compared(session, now) == 4
    assert notes_of(session, officer, out) == notes_of(session, officer, said) == [("photo-polyglot", name(1))]
    assert notes_of(session, officer, seen) == [("photo-polyglot", name(2)), ("photo-polyglot", name(3))]
    assert session.scalar(select(Head.number)) == (before or 0) + 1
    newest = select(Link.key).order_by(Link.number.desc()).limit(1)
    moved = session.scalars(select(FeedEntry.entity).where(FeedEntry.link_key == newest.scalar_subquery()))
    assert set(moved) == {out["record"], seen["record"], said["record"]}
    assert list(verify(session))


def test_a_photo_that_says_nothing_else_changes_no_record(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    seen = incident(out, photos=[cited(name(1))])
    push(session, officer, batch(officer, out, seen), now)
    arrive(session, officer, name(1), now)
    looked(session, name(1), PLAIN, now)
    before = session.scalar(select(Head.number))
    assert compared(session, now) == 1
    assert (compared(session, now), darkroom.waiting(session, now=now)) == (0, (0, 0))
    assert (notes_of(session, officer, seen), session.scalar(select(Head.number))) == ([], before)


def test_what_is_said_once_is_not_said_again_and_outlasts_an_amend(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    seen = incident(out, photos=[cited(name(1))])
    push(session, officer, batch(officer, out, seen), now)
    for n in (1, 2):
        arrive(session, officer, name(n), now)
        looked(session, name(n), ZIPPED, now)
    compared(session, now)
    later = amend(seen, 1, description="占道约两米") | {"photos": [cited(name(1)), cited(name(2))]}
    push(session, officer, batch(officer, later), now)
    assert notes_of(session, officer, seen) == [("photo-polyglot", name(1))]
    assert compared(session, now) == 1
    assert notes_of(session, officer, seen) == [("photo-polyglot", name(1)), ("photo-polyglot", name(2))]
    assert list(verify(session))


def test_a_record_that_cites_what_another_officer_sent_is_told_nothing(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    other = make_signed_in(session, username="other")
    session.commit()
    out = patrol(officers=["other", "partner"])
    seen = incident(out, photos=[cited(name(1))])
    push(session, other, batch(other, out, seen), now)
    arrive(session, officer, name(1), now)
    looked(session, name(1), ZIPPED, now)
    assert compared(session, now) == 0
    arrive(session, other, name(1), now)
    assert compared(session, now) == 1
    assert notes_of(session, other, seen) == [("photo-polyglot", name(1))]


def test_a_record_that_can_not_be_compared_keeps_no_other_waiting(
    session: Session, officer: SignedIn, now: dt.datetime, caplog: pytest.LogCaptureFixture
) -> None:
    out = patrol()
    spoilt, seen = incident(out, photos=[cited(name(1))]), incident(out, photos=[cited(name(1))])
    push(session, officer, batch(officer, out, spoilt, seen), now)
    arrive(session, officer, name(1), now)
    looked(session, name(1), ZIPPED, now)
    session.rollback()
    begin_write(session)
    session.execute(update(Incident).where(Incident.id == uuid.UUID(spoilt["record"])).values(photos=[]))
    session.commit()
    assert (compared(session, now), compared(session, now)) == (2, 0)
    assert notes_of(session, officer, seen) == [("photo-polyglot", name(1))]
    assert spoilt["record"] in caplog.text


def test_records_are_taken_a_few_at_a_time(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    many(session, officer, range(1, 6), now)
    assert [compared(session, now, most=2) for _ in range(4)] == [2, 2, 1, 0]
    assert list(verify(session))


def many(session: Session, who: SignedIn, numbers: Iterable[int], now: dt.datetime) -> None:
    """A patrol with an incident for each of these photos, all of which somebody has looked at."""
    out = patrol()
    cases = [incident(out, photos=[cited(name(n))]) for n in numbers]
    push(session, who, batch(who, out, *cases), now)
    for n in numbers:
        arrive(session, who, name(n), now)
        looked(session, name(n), ZIPPED, now)


def test_comparing_many_records_asks_the_database_no_more_often(
    engine: Engine, session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    def statements(numbers: Iterable[int]) -> int:
        many(session, officer, numbers, now)
        session.rollback()
        with count_statements(engine) as counted:
            compared(session, now)
        assert darkroom.waiting(session, now=now).citations == 0
        return counted.statements

    assert statements(range(1, 3)) == statements(range(3, 40)) <= 15


# ---------------------------------------------------------------- at the same moment


def test_two_who_compare_at_the_same_moment_remark_once(
    engine: Engine, session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    seen = incident(out, photos=[cited(name(1))])
    push(session, officer, batch(officer, out, seen), now)
    arrive(session, officer, name(1), now)
    looked(session, name(1), ZIPPED, now)

    def comparing(own: Session) -> None:
        begin_write(own)
        darkroom.compare(own, now=now)

    at_once(engine, session, comparing, comparing)
    assert notes_of(session, officer, seen) == [("photo-polyglot", name(1))]
    assert list(verify(session))


@pytest.mark.parametrize("first", ["amend", "compare"])
def test_an_amend_and_a_comparison_in_flight_lose_nothing_of_each_other(
    engine: Engine, session: Session, officer: SignedIn, now: dt.datetime, first: str
) -> None:
    out = patrol()
    seen = incident(out, photos=[cited(name(1))])
    push(session, officer, batch(officer, out, seen), now)
    arrive(session, officer, name(1), now)
    looked(session, name(1), ZIPPED, now)

    def comparing(own: Session) -> None:
        begin_write(own)
        assert darkroom.compare(own, now=now) == 1

    def amending(own: Session) -> None:
        receive(own, officer, batch(officer, amend(seen, 1, description="占道约两米")), now)

    at_once(engine, session, *([amending, comparing] if first == "amend" else [comparing, amending]))
    record = one(session, officer, "incident", uuid.UUID(seen["record"]))
    assert (record["version"], record["description"]) == (2, "占道约两米")
    assert notes_of(session, officer, seen) == [("photo-polyglot", name(1))]
    assert list(verify(session))
