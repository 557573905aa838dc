"""The reference client keeps its promise: nothing lost, nothing doubled, whatever the way or the phone does."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from sync import accounts
from sync.models import begin_write
from tests.conftest import opened
from tests.demo.instance import set_up
from tests.demo.network import FINE, REPEATED, SWALLOWED, BadNetwork, Trouble
from tests.demo.people import YINONG
from tests.demo.phone import Clock, Line, Offline, Phone, Refused, utc_now
from tests.demo.photos import draw
from tests.journeys.serving import free_port, serving

PASSWORD = "only-for-this-test"
FIX = {"lon": 120.585, "lat": 30.19375, "accuracy_m": 12, "crs": "wgs84"}
#: The server of these tests takes small batches only.
MAX_OPS, MAX_BYTES = 40, 64 * 1024


@dataclass
class Ground:
    """A server and its database, and phones to try on it."""

    server: str
    database_url: str
    folder: Path
    stack: ExitStack = field(default_factory=ExitStack)
    asked_for_password: Counter[str] = field(default_factory=Counter)
    rests: list[float] = field(default_factory=list)

    def phone(
        self, name: str = "phone", *, line: str | None = None, password: str = PASSWORD, **other: object
    ) -> Phone:
        """A phone of demo-officer; the same name is the same file, as after a restart of the app."""
        username = str(other.pop("username", "demo-officer"))

        def ask() -> str:
            self.asked_for_password[name] += 1
            return password

        clock = Clock(utc_now() - dt.timedelta(hours=2))
        file = self.folder / f"{name}.sqlite"
        phone = Phone(file, Line(line or self.server, 10), clock, username, ask, rest=self.rests.append, **other)  # type: ignore[arg-type]
        self.stack.callback(phone.close)
        return phone

    def network(self, *plan: Trouble) -> str:
        """The address of a network in front of the server that does this to the next requests."""
        where = urlsplit(self.server)
        return self.stack.enter_context(BadNetwork((where.hostname or "", where.port or 0), plan)).url


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A server with small limits, and its database."""
    folder = tmp_path_factory.mktemp("phones")
    url = f"sqlite:///{folder / 'field.sqlite'}"
    set_up(url, PASSWORD)
    with serving("waitress", url, folder, batch_max_ops=MAX_OPS, batch_max_bytes=MAX_BYTES) as server:
        yield server, url


@pytest.fixture
def ground(running: tuple[str, str], tmp_path: Path) -> Iterator[Ground]:
    ground = Ground(*running, tmp_path)
    with ground.stack:
        yield ground


def _record(phone: Phone, incidents: int) -> list[str]:
    patrol = phone.start_patrol(["demo-officer", "demo-officer2"], YINONG, fix=FIX)
    return [phone.record_incident(patrol, ["DEMO-SR-001"], township=YINONG, fix=FIX) for _ in range(incidents)]


def _outcomes(phone: Phone) -> Counter[str]:
    return Counter(operation["outcome"] for operation in phone.look_up())


def _all_is_well(phone: Phone, operations: int) -> bool:
    """The server holds each of the phone's operations once, all live, and the phone has nothing left to say."""
    return (_outcomes(phone), phone.waiting(), phone.holes) == (Counter(applied=operations), [], [])


# ---------------------------------------------------------------- keeping and forgetting


def test_what_was_answered_is_forgotten_and_its_answer_kept(ground: Ground) -> None:
    phone = ground.phone()
    phone.sign_in()
    incident = _record(phone, 1)[0]
    phone.sync()
    assert _all_is_well(phone, 2)
    assert [answer.result["outcome"] for answer in phone.answers(incident)] == ["applied"]


def test_a_crash_between_the_answer_and_the_forgetting_doubles_nothing(ground: Ground) -> None:
    phone = ground.phone()
    phone.sign_in()
    _record(phone, 5)
    shutil.copy(phone.outbox, ground.folder / "as_before.sqlite")
    phone.sync()
    restarted = ground.phone("as_before")
    restarted.sync()
    assert all(answer.result["replayed"] for answer in restarted.answers())
    assert _all_is_well(restarted, 6)


def test_operations_survive_the_app(ground: Ground) -> None:
    with closing(ground.phone()) as phone:
        phone.sign_in()
        _record(phone, 3)
        written = phone.waiting()
    again = ground.phone()
    assert again.waiting() == written
    again.sync()
    assert _all_is_well(again, 4)


def test_an_operation_is_sent_as_it_was_written_however_often(ground: Ground) -> None:
    phone = ground.phone(line=ground.network(FINE, REPEATED, SWALLOWED))
    phone.sign_in()
    _record(phone, 3)
    phone.sync()
    assert all(answer.result["replayed"] for answer in phone.answers())
    assert _all_is_well(phone, 4)


# ---------------------------------------------------------------- bad ways


@pytest.mark.parametrize(
    "trouble",
    [
        SWALLOWED,
        REPEATED,
        *(Trouble(cut_request_after=k) for k in (0, 10, 300, 1_200, 1_600)),
        *(Trouble(cut_answer_after=k) for k in (1, 12, 60, 150, 400)),
    ],
    ids=str,
)
def test_whatever_breaks_off_arrives_once(ground: Ground, trouble: Trouble) -> None:
    phone = ground.phone(line=ground.network(FINE, trouble))
    phone.sign_in()
    _record(phone, 8)
    phone.sync()
    assert _all_is_well(phone, 9)


def test_after_a_lost_answer_the_phone_asks_for_the_receipt(ground: Ground) -> None:
    phone = ground.phone(line=ground.network(FINE, SWALLOWED))
    phone.sign_in()
    _record(phone, 2)
    phone.sync()
    assert not any(answer.result["replayed"] for answer in phone.answers())
    assert _all_is_well(phone, 3)


def test_out_of_reach_everything_stays_in_the_outbox_and_the_phone_rests_longer_each_time(ground: Ground) -> None:
    phone = ground.phone()
    phone.sign_in()
    _record(phone, 2)
    phone.line = Line(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Offline):
        phone.sync()
    assert len(phone.waiting()) == 3
    assert ground.rests[-1] > 4 * ground.rests[0]
    phone.line = Line(ground.server)
    phone.sync()
    assert _all_is_well(phone, 3)


# ---------------------------------------------------------------- large batches


def test_a_batch_that_is_too_large_goes_as_two_halves(ground: Ground) -> None:
    phone = ground.phone()
    phone.sign_in()
    _record(phone, MAX_OPS * 2)
    phone.sync()
    assert _all_is_well(phone, MAX_OPS * 2 + 1)


def test_one_operation_too_large_for_any_batch_stays_and_delays_nobody(ground: Ground) -> None:
    phone = ground.phone()
    phone.sign_in()
    incidents = _record(phone, 4)
    phone.amend(incidents[0], {"description": "字" * MAX_BYTES})
    phone.amend(incidents[1], {"description": "工地北门"})
    phone.sync()
    assert [waiting.n for waiting in phone.waiting()] == [6]
    assert (_outcomes(phone), phone.holes) == (Counter(applied=6), [])


def test_sending_the_newest_first_looks_like_no_loss_at_any_moment(ground: Ground) -> None:
    cut_off = [FINE, FINE, *[Trouble(cut_request_after=0)] * 30]
    phone = ground.phone(line=ground.network(*cut_off), newest_first=True, batch_ops=5)
    phone.sign_in()
    _record(phone, 11)
    with pytest.raises(Offline):
        phone.sync()
    assert (len(phone.waiting()), phone.holes) == (7, [])
    assert {answer.result["outcome"] for answer in phone.answers()} == {"held"}
    phone.line = Line(ground.server)
    phone.sync()
    assert _all_is_well(phone, 12)


# ---------------------------------------------------------------- loss is seen


def test_an_operation_lost_on_the_phone_shows_as_a_hole(ground: Ground) -> None:
    phone = ground.phone()
    phone.sign_in()
    _record(phone, 4)
    with closing(sqlite3.connect(phone.outbox)) as damaged, damaged:
        damaged.execute("DELETE FROM outbox WHERE n IN (3, 4)")
    phone.sync()
    assert phone.holes == [[3, 4]]


def test_a_damaged_photo_is_set_aside_and_the_others_go(ground: Ground) -> None:
    phone = ground.phone()
    phone.sign_in()
    patrol = phone.start_patrol(["demo-officer"], YINONG, fix=FIX)
    photos = [phone.take_photo(draw(Random(name)), "scene") for name in ("good", "to be damaged", "also good")]
    incident = phone.record_incident(patrol, ["DEMO-SR-001"], fix=FIX, photos=photos)
    phone.photo_file(photos[1]["sha256"]).write_bytes(b"not what it was")
    phone.sync()
    assert phone.photos("damaged") == [(photos[1]["sha256"], "image/jpeg", incident)]
    assert {sha256 for sha256, _, _ in phone.photos("sent")} == {photos[0]["sha256"], photos[2]["sha256"]}
    assert photos[1]["sha256"] in phone.photos_needed


def test_a_photo_whose_sending_was_cut_off_is_sent_again(ground: Ground) -> None:
    network = ground.network(FINE, FINE, Trouble(cut_request_after=3_000), SWALLOWED)
    phone = ground.phone(line=network)
    phone.sign_in()
    patrol = phone.start_patrol(["demo-officer"], YINONG, fix=FIX)
    photo = phone.take_photo(draw(Random("cut off")), "scene")
    phone.record_incident(patrol, ["DEMO-SR-001"], fix=FIX, photos=[photo])
    phone.sync()
    assert [sha256 for sha256, _, _ in phone.photos("sent")] == [photo["sha256"]]
    assert not phone.photo_file(photo["sha256"]).exists()


# ---------------------------------------------------------------- changing what was recorded


def test_offline_changes_name_the_versions_they_were_made_on(ground: Ground) -> None:
    phone = ground.phone()
    phone.sign_in()
    incident = _record(phone, 1)[0]
    phone.amend(incident, {"description": "一"})
    phone.amend(incident, {"description": "二"})
    phone.sync()
    phone.amend(incident, {"description": "三"})
    phone.void(incident, "重复记录")
    phone.sync()
    assert [answer.result["version"] for answer in phone.answers(incident)] == [1, 2, 3, 4, 5]
    assert _all_is_well(phone, 6)


# ---------------------------------------------------------------- signing in


def test_a_refused_access_token_is_renewed_without_asking(ground: Ground) -> None:
    phone = ground.phone()
    phone.sign_in()
    _record(phone, 2)
    with closing(sqlite3.connect(phone.outbox)) as file, file:
        file.execute("UPDATE settings SET value = 'expired' WHERE key = 'access_token'")
    phone.sync()
    assert _all_is_well(phone, 3)
    assert ground.asked_for_password["phone"] == 1


def test_a_sign_in_that_ended_midway_asks_for_the_password_and_loses_nothing(ground: Ground) -> None:
    phone = ground.phone(batch_ops=3)
    phone.sign_in()
    _record(phone, 2)
    phone.sync()
    with opened(ground.database_url) as engine, Session(engine) as session:
        begin_write(session)
        accounts.set_password(session, "demo-officer", PASSWORD, now=utc_now())
        session.commit()
    _record(phone, 8)
    phone.sync()
    assert _all_is_well(phone, 12)
    assert ground.asked_for_password["phone"] == 2


def test_a_renewal_whose_answer_was_lost_ends_in_signing_in_again(ground: Ground) -> None:
    phone = ground.phone(line=ground.network(FINE, FINE, SWALLOWED))
    phone.sign_in()
    _record(phone, 2)
    with closing(sqlite3.connect(phone.outbox)) as file, file:
        file.execute("UPDATE settings SET value = 'expired' WHERE key = 'access_token'")
    phone.sync()
    assert _all_is_well(phone, 3)


def test_a_wrong_password_is_a_refusal(ground: Ground) -> None:
    phone = ground.phone(password="not the password")
    with pytest.raises(Refused, match="bad-credentials"):
        phone.sign_in()
    assert ground.asked_for_password["phone"] == 1


def test_a_revoked_phone_keeps_its_queue(ground: Ground) -> None:
    phone = ground.phone()
    phone.sign_in()
    _record(phone, 2)
    with opened(ground.database_url) as engine, Session(engine) as session:
        begin_write(session)
        accounts.revoke_installation(session, UUID(phone.install), now=utc_now())
        session.commit()
    with pytest.raises(Refused, match="install-revoked"):
        phone.sync()
    assert len(phone.waiting()) == 3


# ---------------------------------------------------------------- clocks


def test_an_anchor_is_kept_until_the_phone_is_rebooted(ground: Ground) -> None:
    phone = ground.phone()
    phone.sign_in()
    _record(phone, 0)
    phone.clock.reboot("2")
    _record(phone, 0)
    before, after = (json.loads(waiting.text)["at"] for waiting in phone.waiting())
    assert (before["boot"], after["boot"]) == ("1", "2")
    assert before["anchor"]["mono_ms"] <= before["mono_ms"]
    assert "anchor" not in after
    assert after["mono_ms"] < before["mono_ms"]


def test_after_a_reboot_any_answer_gives_a_new_anchor(ground: Ground) -> None:
    phone = ground.phone()
    phone.sign_in()
    phone.clock.reboot("2")
    _record(phone, 0)
    phone.sync()
    _record(phone, 0)
    anchor = json.loads(phone.waiting()[0].text)["at"]["anchor"]
    off = dt.datetime.fromisoformat(anchor["server"]) - phone.clock.true()
    assert abs(off) < dt.timedelta(seconds=3)


def test_a_wall_clock_may_be_wrong_and_drift_while_the_count_is_true() -> None:
    booted_at = dt.datetime(2026, 11, 23, 0, 0, tzinfo=dt.UTC)
    now = booted_at + dt.timedelta(hours=10)
    clock = Clock(booted_at, wall_off=dt.timedelta(days=-3), drift_ppm=100, has_gnss=True, true=lambda: now)
    assert clock.stamp() == {
        "wall": "2026-11-20T18:00:03.600+08:00",
        "mono_ms": 36_000_000,
        "boot": "1",
        "gnss": "2026-11-23T18:00:00.000+08:00",
    }
