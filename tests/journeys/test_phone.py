"""The reference client keeps its promise: nothing lost, nothing doubled, whatever the way or the phone does."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from sync import accounts
from sync.models import AnnouncedPhoto, Photo, Upload, begin_write
from tests.conftest import opened
from tests.demo.instance import set_up
from tests.demo.network import FINE, REPEATED, SWALLOWED, UNDER_WAY_BYTES, BadNetwork, Trouble
from tests.demo.people import YINONG
from tests.demo.phone import KEPT_FOR, STRETCH_BYTES, Answer, Clock, Line, Offline, Phone, Refused, utc_now
from tests.demo.photos import take
from tests.journeys.serving import free_port, serving

PASSWORD = "only-for-this-test"
UPLOADS = "/api/v1/uploads"
FIX = {"lon": 120.585, "lat": 30.19375, "accuracy_m": 12, "crs": "wgs84"}
#: The server of these tests takes small batches and photos only.
MAX_OPS, MAX_BYTES, MAX_PHOTO_BYTES = 40, 64 * 1024, 2_000_000
#: What a cut line may lose at most, bytes: what was under way, and a stretch sent while the server had yet to notice.
LOST_BYTES = 2 * UNDER_WAY_BYTES + STRETCH_BYTES


@dataclass
class Ground:
    """A server and its database, and phones to try on it."""

    server: str
    database_url: str
    folder: Path
    stack: ExitStack = field(default_factory=ExitStack)
    asked_for_password: Counter[str] = field(default_factory=Counter)
    rests: list[float] = field(default_factory=list)
    networks: list[BadNetwork] = field(default_factory=list)

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
        phone = Phone(file, Line(line or self.server, 5), clock, username, ask, rest=self.rest, **other)  # type: ignore[arg-type]
        self.stack.callback(phone.close)
        return phone

    def rest(self, rest_s: float) -> None:
        """Long enough for the server to notice that a line was cut."""
        self.rests.append(rest_s)
        time.sleep(0.05)

    def network(self, *plan: Trouble, cut_every_bytes: int | None = None) -> str:
        """The address of a network in front of the server that does this to the next requests."""
        where = urlsplit(self.server)
        network = BadNetwork((where.hostname or "", where.port or 0), plan, cut_every_bytes=cut_every_bytes)
        self.networks.append(self.stack.enter_context(network))
        return network.url

    def photo_requests(self) -> list[str]:
        """The methods of what was asked about photos over networks."""
        return [seen.method for network in self.networks for seen in network.seen if seen.path.startswith(UPLOADS)]

    def photo_bytes(self) -> int:
        """What left phones for photos over networks, lost on the way or not."""
        return sum(network.sent_bytes(UPLOADS) for network in self.networks)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A server with small limits, and its database."""
    folder = tmp_path_factory.mktemp("phones")
    url = f"sqlite:///{folder / 'field.sqlite'}"
    set_up(url, PASSWORD)
    limits = {"batch_max_ops": MAX_OPS, "batch_max_bytes": MAX_BYTES, "photo_max_bytes": MAX_PHOTO_BYTES}
    with serving("gunicorn of one", url, folder, **limits) as server:
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


# ---------------------------------------------------------------- taking along


@dataclass(frozen=True)
class Counting(Line):
    """A line that keeps how pulls were answered; the one of this number is lost."""

    statuses: list[int] = field(default_factory=list)
    lost: int = -1

    def ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        answer = super().ask(method, path, body, headers)
        if path.startswith("/api/v1/sync/changes"):
            self.statuses.append(answer.status)
            if len(self.statuses) == self.lost:
                raise Refused("the app was killed")
        return answer


def _of_lists(phone: Phone) -> dict[str, object]:
    return {type: phone.told(type) for type in ("township", "department", "event_class", "item", "delegation", "place")}


def test_a_pull_that_broke_off_goes_on_from_its_last_page_and_what_has_not_changed_is_not_told(ground: Ground) -> None:
    whole, cut = ground.phone("whole", page_changes=100), ground.phone("cut", page_changes=100)
    for phone in (whole, cut):
        phone.sign_in()
    whole.line, cut.line = Counting(ground.server), Counting(ground.server, lost=4)
    whole.pull()
    with pytest.raises(Refused):
        cut.pull()
    restarted = ground.phone("cut", page_changes=100)
    restarted.line = cut.line
    restarted.pull()
    assert _of_lists(restarted) == _of_lists(whole)
    assert len(cut.line.statuses) == len(whole.line.statuses) + 1 > 6
    restarted.pull()
    assert cut.line.statuses[-1] == 304


def test_a_pull_over_a_bad_network_tells_the_same(ground: Ground) -> None:
    whole = ground.phone("whole")
    whole.sign_in()
    whole.pull()
    cut_off = [Trouble(cut_answer_after=500), FINE, SWALLOWED, REPEATED, Trouble(cut_answer_after=5_000)]
    phone = ground.phone(line=ground.network(FINE, *cut_off), page_changes=300)
    phone.sign_in()
    phone.pull()
    assert _of_lists(phone) == _of_lists(whole)
    assert len(phone.told("item")) > 50


# ---------------------------------------------------------------- keeping and forgetting


def test_what_was_answered_is_forgotten_and_its_answer_kept(ground: Ground) -> None:
    phone = ground.phone()
    phone.sign_in()
    incident = _record(phone, 1)[0]
    phone.sync()
    assert _all_is_well(phone, 2)
    assert [answer.result["outcome"] for answer in phone.answers(incident)] == ["applied"]


def test_what_was_answered_is_kept_for_a_week_more_with_its_photos(ground: Ground) -> None:
    phone = _photographed(ground, _small("a week"))
    phone.sync()
    ((sha256, _, _),) = phone.photos("sent")
    phone.exchange()
    assert phone.photo_file(sha256).exists()
    with closing(sqlite3.connect(phone.outbox)) as file, file:
        for table in ("sent", "sent_photos"):
            file.execute(f"UPDATE {table} SET sent_at_s = sent_at_s - ?", [int(KEPT_FOR.total_seconds()) + 60])
    phone.exchange()
    assert not phone.photo_file(sha256).exists()
    assert _all_is_well(phone, 2)


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
    photos = [phone.take_photo(take(Random(name)), "scene") for name in ("good", "to be damaged", "also good")]
    incident = phone.record_incident(patrol, ["DEMO-SR-001"], fix=FIX, photos=photos)
    phone.photo_file(photos[1]["sha256"]).write_bytes(b"not what it was")
    phone.sync()
    assert phone.photos("damaged") == [(photos[1]["sha256"], "image/jpeg", incident)]
    assert {sha256 for sha256, _, _ in phone.photos("sent")} == {photos[0]["sha256"], photos[2]["sha256"]}
    assert photos[1]["sha256"] in phone.photos_needed


# ---------------------------------------------------------------- photos


class Killed(BaseException):
    """The system has killed the app."""


def _photographed(ground: Ground, *contents: bytes, name: str = "phone", **other: object) -> Phone:
    """A phone, signed in, with an incident that has these photos; one request takes all but their bytes."""
    phone = ground.phone(name, **other)
    phone.sign_in()
    patrol = phone.start_patrol(["demo-officer", "demo-officer2"], YINONG, fix=FIX)
    photos = [phone.take_photo(content, "scene") for content in contents]
    phone.record_incident(patrol, ["DEMO-SR-001"], fix=FIX, photos=photos)
    return phone


def _small(name: str) -> bytes:
    """A photo that fits into one stretch."""
    return take(Random(name))[: STRETCH_BYTES // 2]


def _large(name: str) -> bytes:
    """A photo of four stretches."""
    return (take(Random(name)) * 10)[: 4 * STRETCH_BYTES - 1_000]


def _has_arrived(ground: Ground, phone: Phone, content: bytes) -> bool:
    """The server has the photo from this officer, once, and the phone is done with it."""
    sha256 = hashlib.sha256(content).hexdigest()
    with opened(ground.database_url) as engine, Session(engine) as session:
        kept = session.scalars(select(Photo.size_bytes).where(Photo.sha256 == sha256)).all()
        finished = session.scalars(select(Upload.name).where(Upload.sha256 == sha256)).all()
        missing = session.scalars(select(AnnouncedPhoto).where(AnnouncedPhoto.received_at.is_(None))).all()
    assert not [one for one in missing if one.sha256 == sha256]
    assert sha256 in {sent for sent, _, _ in phone.photos("sent")}
    return (kept, finished) == ([len(content)], [sha256])


def test_a_small_photo_takes_one_request(ground: Ground) -> None:
    photo = _small("one request")
    phone = _photographed(ground, photo, line=ground.network())
    phone.sync()
    assert ground.photo_requests() == ["POST"]
    assert _has_arrived(ground, phone, photo)


def test_a_large_photo_takes_one_request_per_stretch(ground: Ground) -> None:
    photo, steps = _large("per stretch"), []
    sending = lambda sha256, held, length: steps.append((held, length))  # noqa: E731
    phone = _photographed(ground, photo, line=ground.network(), sending=sending)
    phone.sync()
    assert ground.photo_requests() == ["POST", "PATCH", "PATCH", "PATCH"]
    assert steps == [(min(n * STRETCH_BYTES, len(photo)), len(photo)) for n in (1, 2, 3, 4)]
    assert _has_arrived(ground, phone, photo)


@pytest.mark.parametrize(
    "troubles",
    [
        [SWALLOWED],
        [REPEATED, REPEATED, REPEATED, REPEATED],
        [FINE, SWALLOWED, SWALLOWED],
        [FINE, FINE, FINE, SWALLOWED],
        [FINE, FINE, FINE, SWALLOWED, SWALLOWED],
        *([FINE, Trouble(cut_answer_after=k), Trouble(cut_answer_after=k)] for k in (1, 120, 200, 250, 300)),
    ],
    ids=str,
)
def test_whatever_becomes_of_the_answers_no_stretch_is_sent_twice(ground: Ground, troubles: list[Trouble]) -> None:
    photo = _large(str(troubles))
    phone = _photographed(ground, photo, line=ground.network(FINE, FINE, *troubles))
    phone.sync()
    assert _has_arrived(ground, phone, photo)
    assert ground.photo_bytes() == len(photo)


@pytest.mark.parametrize("at", [0, 500, 50_000, STRETCH_BYTES + 300])
@pytest.mark.parametrize("stretch", [0, 3])
def test_a_stretch_that_was_cut_is_gone_on_with_where_it_was_cut(ground: Ground, stretch: int, at: int) -> None:
    photo = _large(f"{stretch} {at}")
    phone = _photographed(
        ground, photo, line=ground.network(FINE, FINE, *[FINE] * stretch, Trouble(cut_request_after=at))
    )
    phone.sync()
    assert _has_arrived(ground, phone, photo)
    assert ground.photo_requests().count("POST") <= 2
    assert ground.photo_bytes() <= len(photo) + LOST_BYTES


def test_a_line_that_is_cut_all_the_time_gets_every_photo_there(ground: Ground) -> None:
    photos = [_large(f"all the time {number}") for number in range(4)]
    phone = _photographed(ground, *photos, line=ground.network(cut_every_bytes=300_000))
    phone.sync()
    assert all(_has_arrived(ground, phone, photo) for photo in photos)
    cuts = ground.networks[0].troubles
    assert cuts > 10
    assert ground.photo_bytes() <= sum(map(len, photos)) + cuts * LOST_BYTES


@pytest.mark.parametrize("reached", [1, 3])
def test_an_app_that_was_killed_amid_a_photo_goes_on_with_it(ground: Ground, reached: int) -> None:
    def kill(sha256: str, held: int, length: int) -> None:
        if held == reached * STRETCH_BYTES:
            raise Killed

    photo = _large(f"killed {reached}")
    phone = _photographed(ground, photo, line=ground.network(), sending=kill)
    with pytest.raises(Killed):
        phone.sync()
    again = ground.phone(line=ground.network())
    again.sync()
    assert ground.photo_requests()[reached] == "HEAD"
    assert ground.photo_bytes() == len(photo)
    assert _has_arrived(ground, again, photo)


def test_an_app_that_was_killed_before_the_last_answer_sends_nothing_again(ground: Ground) -> None:
    photo = _small("last answer")
    phone = _photographed(
        ground, photo, line=ground.network(FINE, FINE, SWALLOWED, *[Trouble(cut_request_after=0)] * 9)
    )
    with pytest.raises(Offline):
        phone.sync()
    again = ground.phone(line=ground.network())
    again.sync()
    assert [seen.method for seen in ground.networks[1].seen] == ["HEAD"]
    assert _has_arrived(ground, again, photo)


def test_an_app_that_was_killed_before_the_first_byte_left_begins_anew(ground: Ground) -> None:
    photo = _small("first byte")
    phone = _photographed(ground, photo, line=ground.network(FINE, FINE, *[Trouble(cut_request_after=0)] * 10))
    with pytest.raises(Offline):
        phone.sync()
    again = ground.phone(line=ground.network())
    again.sync()
    assert [seen.method for seen in ground.networks[1].seen] == ["HEAD", "POST"]
    assert _has_arrived(ground, again, photo)


def test_a_silent_line_is_given_up_and_the_photo_waited_for_until_the_server_gives_it_up_too(ground: Ground) -> None:
    photo = _large("silent")
    phone = _photographed(ground, photo, line=ground.network(FINE, FINE, FINE, Trouble(silent_after=100_000)))
    phone.rest = time.sleep
    phone.sync()
    assert ground.photo_requests()[:3] == ["POST", "PATCH", "HEAD"]
    assert ground.photo_bytes() <= len(photo) + STRETCH_BYTES
    assert _has_arrived(ground, phone, photo)


@dataclass(frozen=True)
class Garbling(Line):
    """A line that once turns a bit of a stretch."""

    left: list[int] = field(default_factory=lambda: [1])

    def ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        if method == "PATCH" and body and self.left:
            self.left.pop()
            body = bytes([body[0] ^ 1]) + body[1:]
        return super().ask(method, path, body, headers)


def test_a_stretch_that_was_garbled_on_its_way_is_sent_again(ground: Ground) -> None:
    photo = _large("garbled")
    phone = _photographed(ground, photo)
    phone.line = Garbling(ground.network())
    phone.sync()
    assert ground.photo_requests() == ["POST", "PATCH", "PATCH", "PATCH", "PATCH"]
    assert _has_arrived(ground, phone, photo)


def test_two_phones_with_the_same_photo_make_it_one_upload(ground: Ground) -> None:
    photo = _large("two phones")
    first = _photographed(ground, photo, line=ground.network(*[FINE] * 4, *[Trouble(cut_request_after=0)] * 20))
    with pytest.raises(Offline):
        first.sync()
    second = _photographed(ground, photo, name="tablet", line=ground.network())
    second.sync()
    first.line = Line(ground.network())
    first.sync()
    assert [seen.method for seen in ground.networks[2].seen] == ["HEAD"]
    assert _has_arrived(ground, first, photo)
    assert _has_arrived(ground, second, photo)


def test_a_photo_larger_than_the_server_takes_delays_nobody(ground: Ground) -> None:
    photos = [_small("before"), b"x" * (MAX_PHOTO_BYTES + 1), _small("after")]
    phone = _photographed(ground, *photos)
    phone.sync()
    assert [sha256 for sha256, _, _ in phone.photos("refused")] == [hashlib.sha256(photos[1]).hexdigest()]
    assert _has_arrived(ground, phone, photos[0])
    assert _has_arrived(ground, phone, photos[2])


def test_a_photo_that_was_damaged_when_half_of_it_had_gone_is_set_aside(ground: Ground) -> None:
    photo = _large("half gone")
    sha256 = hashlib.sha256(photo).hexdigest()

    def damage(sha256: str, held: int, length: int) -> None:
        phone.photo_file(sha256).write_bytes(photo[:-1] + b"x")

    phone = _photographed(ground, photo, sending=damage)
    phone.sync()
    assert [damaged for damaged, _, _ in phone.photos("damaged")] == [sha256]
    assert sha256 in phone.photos_needed


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
    phone = ground.phone(line=ground.network(FINE, SWALLOWED))
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
