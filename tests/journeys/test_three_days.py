"""Three days of one officer: out of reach, sent, returned with a comment, amended, in conflict, decided."""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from sync.evidence import verify
from sync.models import AnnouncedPhoto, Incident, Operation, Patrol, Photo, ReviewEvent, VendorWarning, begin_read
from tests.builders import GUALI
from tests.demo.people import vendor
from tests.demo.phone import Clock, Line, Phone, Returned, utc_now
from tests.demo.photos import take
from tests.journeys.ground import PASSWORD, Ground, Handset
from tests.sync.days import IN_GUALI

NOUNS = ("patrol", "incident", "warning")
TYPES = ("township", "department", "event_class", "item", "delegation", "place", "vendor", *NOUNS, "operation", "photo")
#: How long the server may take to look at the photos, s.
LOOKED_WITHIN_S = 30

Installed = Callable[[str, str], Phone]
pytestmark = pytest.mark.parametrize("ground", ["gunicorn on sqlite", "gunicorn on postgresql"], indirect=True)


@pytest.fixture
def installed(ground: Ground, tmp_path: Path) -> Iterator[Installed]:
    """Makes phones of an account, signed in."""
    with ExitStack() as stack:

        def install(name: str, username: str) -> Phone:
            clock = Clock(utc_now() - dt.timedelta(hours=10))
            phone = Phone(tmp_path / f"{name}.sqlite", Line(ground.server.url), clock, username, lambda: PASSWORD)
            stack.callback(phone.close)
            phone.sign_in()
            return phone

        yield install


def test_three_days(ground: Ground, installed: Installed) -> None:
    phone, tablet, desk = installed("phone", "officer"), installed("tablet", "officer"), ground.handset("supervisor")

    # the first day: a patrol without a signal
    patrol = phone.start_patrol(["officer", "partner"], GUALI, fix=IN_GUALI)
    photos = [phone.take_photo(take(Random(name)), "scene") for name in ("a stall", "the same stall")]
    met = phone.record_incident(
        patrol, ["DEMO-SR-001"], fix=IN_GUALI, photos=photos, description="占道", vendor=vendor(7), township=GUALI
    )
    warning = phone.warn(met, "education", fix=IN_GUALI, vendor=vendor(7)["id"], text="请到指定地点经营")
    other = phone.record_incident(patrol, ["DEMO-SR-001"], fix=IN_GUALI, township=GUALI)
    mistyped = phone.record_incident(patrol, ["DEMO-SR-O01"], fix=IN_GUALI, township=GUALI)
    mistaken = phone.record_incident(patrol, ["NO-SUCH-ITEM"], fix=IN_GUALI, township=GUALI)
    phone.end_patrol(patrol)
    assert phone.shown("incident", met)["description"] == "占道"
    phone.exchange()
    outcomes = Counter(answer.result["outcome"] for answer in phone.answers())
    assert (outcomes, phone.waiting(), phone.photos("here")) == (Counter(applied=5, quarantined=2), [], [])

    # at the desk
    assert _inbox(desk)["quarantined"] == 2
    _decide(desk, f"records/{met}", {"action": "return", "version": 1, "comment": "请写明占道宽度"})
    others = [{"id": patrol, "version": 2}, {"id": other, "version": 1}, {"id": warning, "version": 1}]
    approved = _decide(desk, "approvals", {"records": others})["results"]
    assert [each["approved"] for each in approved] == [True] * 3
    of_record = {answer.record: answer.op for answer in phone.answers() if answer.kind.endswith(".create")}
    raw = desk.ask("GET", f"/api/v1/review/operations/{of_record[mistyped]}").json["raw"]
    repair = raw | {"body": raw["body"] | {"items": ["DEMO-SR-001"]}}
    _decide(desk, f"operations/{of_record[mistyped]}", {"action": "repair", "operation": repair})
    _decide(desk, f"operations/{of_record[mistaken]}", {"action": "dismiss", "comment": "重复"})
    assert _inbox(desk)["quarantined"] == 0

    # the second day: the officer reads what came back, and amends it out of reach; the tablet is quicker
    phone.pull()
    assert phone.returned() == [Returned(met, "incident", "请写明占道宽度", "测试 supervisor")]
    decided = {op: (each["action"], each["comment"]) for op, each in phone.decided().items()}
    assert decided == {of_record[mistyped]: ("repair", None), of_record[mistaken]: ("dismiss", "重复")}
    assert phone.shown("incident", mistyped)["items"] == ["DEMO-SR-001"]
    phone.amend(met, {"description": "占道约两米"})
    assert phone.returned() == []
    assert phone.shown("incident", met)["description"] == "占道约两米"
    tablet.pull()
    tablet.amend(met, {"description": "占道约三米"})
    tablet.exchange()
    assert tablet.answers(met)[-1].result["outcome"] == "applied"
    phone.exchange()
    clash = phone.answers(met)[-1]
    assert (clash.result["outcome"], clash.result["version"]) == ("conflict", 2)

    # at the desk
    assert _inbox(desk)["conflict"] == 1
    chosen = {"action": "resolve", "version": 2, "fields": {"description": {"value": "占道约两米半"}}}
    assert _decide(desk, f"operations/{clash.op}", chosen)["record_version"] == 3
    _decide(desk, f"records/{met}", {"action": "approve", "version": 3})
    waiting = _inbox(desk)
    del waiting["alike"]  # what resembles other records of these days waits on
    assert waiting == dict.fromkeys(waiting, 0)

    # the third day
    _wait_until_looked_at(ground)
    phone.exchange()
    tablet.exchange()
    assert phone.decided()[clash.op]["action"] == "resolve"
    assert phone.shown("incident", met)["description"] == "占道约两米半"
    told = _told(phone)
    assert {record: data["review"]["state"] for noun in NOUNS for record, data in told[noun].items()} == {
        patrol: "approved",
        met: "approved",
        other: "approved",
        warning: "approved",
        mistyped: "received",
    }
    assert told["photo"].keys() == {photo["sha256"] for photo in photos}
    assert told == _told(tablet)
    fresh = installed("fresh", "officer")
    fresh.pull()
    assert told == _told(fresh)
    for noun in NOUNS:
        shown = {each["id"]: each for each in phone.get(f"/api/v1/{noun}s").json["items"]}
        assert shown.keys() == told[noun].keys()
        assert {id: _agreed(each) for id, each in shown.items()} == {id: _agreed(told[noun][id]) for id in shown}
    assert _counts(ground) == {"operations": 11, "patrols": 1, "incidents": 3, "warnings": 1, "photos": 2, "reviews": 5}
    assert _is_as_sworn(ground)


def test_a_colleague_out_of_reach_finds_what_a_vendor_was_told_before(ground: Ground, installed: Installed) -> None:
    phone, colleague = installed("phone", "officer"), installed("colleague", "stranger")
    patrol = phone.start_patrol(["officer", "partner"], GUALI, fix=IN_GUALI)
    for step, number in (("education", 8), ("warning", 8), ("education", 9)):
        incident = phone.record_incident(patrol, ["DEMO-SR-001"], fix=IN_GUALI, vendor=vendor(number))
        warned = phone.warn(incident, step, fix=IN_GUALI, vendor=vendor(number)["id"])
    phone.exchange()
    colleague.pull()
    for sought in ("10000000008", "0008", "演示摊主008"):
        assert [each["step"] for each in colleague.earlier_warnings(sought)] == ["warning", "education"], sought
    assert colleague.earlier_warnings("推车")[0]["vendor"]["id"] == vendor(9)["id"]
    assert [colleague.earlier_warnings(sought) for sought in ("10000000010", "", "13")] == [[], [], []]
    assert colleague.returned() == []
    phone.void(warned, "重复录入")
    phone.exchange()
    colleague.pull()
    assert colleague.earlier_warnings("推车") == []


def _decide(desk: Handset, path: str, said: dict[str, Any]) -> Any:
    answer = desk.ask("POST", f"/api/v1/review/{path}", orjson.dumps(said))
    assert answer.status == 200, answer
    return answer.json


def _inbox(desk: Handset) -> Any:
    return desk.ask("GET", "/api/v1/review/inbox").json["counts"]


def _told(phone: Phone) -> dict[str, Any]:
    return {type: phone.told(type) for type in TYPES}


def _agreed(record: dict[str, Any]) -> dict[str, Any]:
    """What phones and lists tell of a record in the same words."""
    return {name: record[name] for name in ("version", "review", "notes")}


def _wait_until_looked_at(ground: Ground) -> None:
    """Notes on photos come later, and would change what is compared."""
    until = time.monotonic() + LOOKED_WITHIN_S
    with Session(ground.engine) as session:
        while session.scalar(select(func.count()).where(AnnouncedPhoto.compared_at.is_(None))):
            assert time.monotonic() < until
            session.rollback()
            time.sleep(0.1)


def _counts(ground: Ground) -> dict[str, int | None]:
    models = {"operations": Operation, "patrols": Patrol, "incidents": Incident, "warnings": VendorWarning}
    models |= {"photos": Photo, "reviews": ReviewEvent}
    with Session(ground.engine) as session:
        return {name: session.scalar(select(func.count()).select_from(model)) for name, model in models.items()}


def _is_as_sworn(ground: Ground) -> bool:
    with Session(ground.engine) as session:
        begin_read(session)
        return bool(list(verify(session)))
