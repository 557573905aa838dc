"""A server restored from a backup gets back from the phones what came after it: nothing lost, nothing twice."""

from __future__ import annotations

import datetime as dt
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, func, make_url, select
from sqlalchemy.orm import Session

from migrations import upgrade
from sync.evidence import verify
from sync.models import (
    AnnouncedPhoto,
    Head,
    Incident,
    Operation,
    Patrol,
    Photo,
    Track,
    Upload,
    Vendor,
    VendorWarning,
    begin_read,
)
from tests import cluster
from tests.builders import GUALI
from tests.conftest import NO_POSTGRESQL, do_without, opened
from tests.demo.people import vendor
from tests.demo.phone import Answer, Clock, Line, Lost, Offline, Phone, utc_now
from tests.demo.photos import take
from tests.journeys.ground import PASSWORD, Ground, made
from tests.journeys.serving import free_port, running
from tests.sync.days import IN_GUALI

#: What a record says. The others are about its arrival, which was another the second time, or reckoned from it; so is
#: the version that an operation made: phones come again in another order.
SAID = ("id", "version", "officer_id", "township_code", "void_reason", "photos")
SAID_OF: Mapping[Any, tuple[str, ...]] = {
    Patrol: (*SAID, "officers", "purpose"),
    Incident: (*SAID, "patrol", "items", "description", "measures", "vendor_id"),
    VendorWarning: (*SAID, "incident", "vendor_id", "step", "text"),
    Vendor: ("id", "name", "phone", "stall", "plate"),
    Track: ("id", "patrol_id", "points"),
    Operation: ("id", "op", "n", "install_id", "officer_id", "kind", "record_id", "outcome", "fingerprint"),
    Photo: ("sha256", "size_bytes"),
    Upload: ("officer_id", "sha256"),
}
#: The server looks at no photos here: what it notes on them would come at any time.
STILL = {"look_every_s": 0, "export_every_s": 0}


class WithoutPhotos(Line):
    """A line too weak for photos."""

    def ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        if path.startswith("/api/v1/uploads"):
            raise Lost("too weak")
        return super().ask(method, path, body, headers)


@dataclass
class Place:
    """A server that a backup can be taken of, and that can be put back to it, and its phones."""

    url: str
    folder: Path
    backup: Callable[[str], Callable[[], str]]
    port: int = field(default_factory=free_port)
    stack: ExitStack = field(default_factory=ExitStack)

    def serve(self) -> Any:
        return made("gunicorn", self.url, self.folder, port=self.port, **STILL)

    def serve_again(self, url: str) -> Any:
        return running("gunicorn", url, self.folder, port=self.port, **STILL)

    def phone(self, name: str, username: str = "officer", way: type[Line] = Line) -> Phone:
        """A phone that is signed in, as it was left."""
        clock = Clock(utc_now() - dt.timedelta(hours=10))
        line = way(f"http://127.0.0.1:{self.port}")
        file = self.folder / f"{name}.sqlite"
        phone = Phone(file, line, clock, username, lambda: PASSWORD, rest=lambda _: None)
        self.stack.callback(phone.close)
        phone.sign_in()
        return phone


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'field.sqlite'}"
        upgrade(url)
        place = Place(url, tmp_path, _copied)
    else:
        server = request.getfixturevalue("postgresql")
        programs = cluster.binaries()
        if programs is None or not (programs / "pg_dump").exists():
            do_without(request.config, NO_POSTGRESQL, required_by="REQUIRE_POSTGRESQL")
        url = server.create_database(request.getfixturevalue("template"))
        place = Place(url, tmp_path, lambda url: _dumped(programs, server, url, tmp_path / "backup"))
    with place.stack:
        yield place


def _copied(url: str) -> Callable[[], str]:
    """Takes a backup of a SQLite file in use; what puts it somewhere tells where that is."""
    file = Path(str(make_url(url).database))
    kept, restored = file.with_suffix(".backup"), file.with_suffix(".restored")
    with closing(sqlite3.connect(file)) as live, closing(sqlite3.connect(kept)) as copy:
        live.backup(copy, pages=50)

    def restore() -> str:
        kept.rename(restored)
        return f"sqlite:///{restored}"

    return restore


def _dumped(programs: Path, server: cluster.Server, url: str, kept: Path) -> Callable[[], str]:
    """The same of a PostgreSQL database, with its own programs."""
    subprocess.run([programs / "pg_dump", "-Fc", "-f", kept, "-d", _of_libpq(url)], check=True)

    def restore() -> str:
        restored = server.create_database()
        command = [programs / "pg_restore", "--exit-on-error", "-d", _of_libpq(restored), kept]
        subprocess.run(command, check=True)
        return restored

    return restore


def _of_libpq(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _patrol(phone: Phone, name: str) -> list[str]:
    """A short patrol with a photo, a vendor and a warning: its incidents."""
    patrol = phone.start_patrol([phone.username, "partner"], GUALI, fix=IN_GUALI, purpose=name)
    photo = phone.take_photo(take(Random(name)), "scene")
    met = vendor(Random(name).randrange(100))
    first = phone.record_incident(patrol, ["DEMO-SR-001"], fix=IN_GUALI, photos=[photo], vendor=met, township=GUALI)
    phone.warn(first, "education", fix=IN_GUALI, vendor=met["id"], text=name)
    second = phone.record_incident(patrol, ["DEMO-SR-001"], fix=IN_GUALI, description=name, township=GUALI)
    phone.append_track(patrol, [[120.46, 30.18, None, 5], [120.47, 30.18, None, 5]], "wgs84")
    phone.end_patrol(patrol)
    return [first, second]


def test_what_came_after_the_backup_comes_back_from_the_phones(place: Place) -> None:
    with place.serve() as ground:
        phone, tablet, colleague = place.phone("phone"), place.phone("tablet"), place.phone("colleague", "stranger")
        weak = place.phone("weak", way=WithoutPhotos)
        before = _patrol(phone, "before")
        phone.exchange()
        tablet.pull()
        _patrol(weak, "its photo comes later")
        with pytest.raises(Offline):
            weak.exchange()
        _patrol(colleague, "while the backup is taken")
        with ThreadPoolExecutor(1) as pool:
            sent = pool.submit(colleague.exchange)
            restore = place.backup(place.url)
            sent.result()
        phone.amend(before[1], {"description": "占道约两米"})
        phone.void(before[0], "重复录入")
        _patrol(phone, "after")
        phone.record_incident(before[0], ["NO-SUCH-ITEM"], fix=IN_GUALI)
        phone.add("incident.create", "no record at all", body={"patrol": float("nan")})
        phone.exchange()
        tablet.amend(before[1], {"measures": ["educate"]})
        tablet.sync()  # it has not pulled since: its cursor is good on both sides of the backup
        weak.line = phone.line
        weak.exchange()
        _patrol(colleague, "also after")
        colleague.exchange()
        _approve(ground, before[1], 3)
        whole = _stored(ground.engine)
        ground.server.kill()

    with opened(restored := restore()) as engine, place.serve_again(restored):
        assert len(_stored(engine)[Operation]) < len(whole[Operation])
        # two learn it by the holes in a receipt, two by the 410 of a pull
        for each, turn in (
            (tablet, Phone.exchange),
            (colleague, Phone.pull),
            (weak, Phone.exchange),
            (phone, Phone.pull),
        ):
            turn(each)
            assert (each.waiting(), each.holes, each.photos("here")) == ([], [], [])
        assert _stored(engine) == whole
        assert _everything_is_well(engine)
        _nothing_is_added_by(engine, phone, tablet, colleague, weak)
        assert phone.told("incident")[before[1]]["review"]["state"] == "received"  # what people decided is gone
        fresh = place.phone("fresh")
        fresh.pull()
        assert fresh.told("incident") == phone.told("incident")


def test_what_no_phone_has_any_more_is_a_hole_that_everybody_sees(place: Place) -> None:
    with place.serve() as ground:
        phone = place.phone("phone")
        _patrol(phone, "before")
        phone.exchange()
        restore = place.backup(place.url)
        first_lost, still_here = phone.next_n, _patrol(phone, "after")
        phone.exchange()
        assert still_here[0] in phone.told("incident")
        with closing(sqlite3.connect(phone.outbox)) as file, file:
            file.execute("DELETE FROM sent")  # as after a week
        phone.start_patrol(["officer", "partner"], GUALI, fix=IN_GUALI)
        ground.server.kill()

    with opened(restored := restore()) as engine, place.serve_again(restored):
        phone.exchange()
        assert phone.holes == [[first_lost, phone.next_n - 2]]
        assert still_here[0] not in phone.told("incident")
        assert len(_stored(engine)[Patrol]) == 2
        assert _everything_is_well(engine)


def _approve(ground: Ground, record: str, version: int) -> None:
    said = orjson.dumps({"action": "approve", "version": version})
    assert ground.handset("supervisor").ask("POST", f"/api/v1/review/records/{record}", said).status == 200


def _stored(engine: Engine) -> dict[Any, list[str]]:
    """All that phones have said and sent, as it is stored."""
    with Session(engine) as session:
        return {
            model: sorted(str(tuple(row)) for row in session.execute(select(*(model.__table__.c[n] for n in names))))
            for model, names in SAID_OF.items()
        }


def _everything_is_well(engine: Engine) -> bool:
    """Whether the evidence holds, and no photo is missing."""
    with Session(engine) as session:
        begin_read(session)
        missing = select(func.count()).where(AnnouncedPhoto.received_at.is_(None))
        return bool(list(verify(session))) and not session.scalar(missing)


def _nothing_is_added_by(engine: Engine, *phones: Phone) -> None:
    with Session(engine) as session:
        head = session.scalar(select(Head.number))
        session.rollback()
        for phone in phones:
            phone.exchange()
        assert session.scalar(select(Head.number)) == head
