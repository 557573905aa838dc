"""Two phones of one patrol that come back into reach at the same moment."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.demo.instance import set_up
from tests.demo.people import YINONG, vendor
from tests.demo.phone import Clock, Line, Phone, utc_now
from tests.journeys.serving import serving

PASSWORD = "only-for-this-test"
FIX = {"lon": 120.585, "lat": 30.19375, "accuracy_m": 12, "crs": "wgs84"}
TIMES = 25


@pytest.fixture(params=["sqlite", "postgresql"])
def phones(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Phone, Phone]]:
    """Two officers' phones, signed in to a server with two workers."""
    url = f"sqlite:///{tmp_path / 'field.sqlite'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql").create_database(request.getfixturevalue("template"))
    set_up(url, PASSWORD)
    with ExitStack() as stack:
        server = stack.enter_context(serving("gunicorn", url, tmp_path))
        yield _phone(stack, tmp_path, server, "demo-officer"), _phone(stack, tmp_path, server, "demo-officer2")


def _phone(stack: ExitStack, folder: Path, server: str, username: str) -> Phone:
    clock = Clock(utc_now() - dt.timedelta(hours=2))
    phone = Phone(folder / f"{username}.sqlite", Line(server), clock, username, lambda: PASSWORD)
    stack.callback(phone.close)
    phone.sign_in()
    return phone


def _sync_together(phones: tuple[Phone, Phone]) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Phone.sync, phones))


def test_an_incident_on_a_patrol_that_arrives_at_the_same_moment_is_live_in_the_end(
    phones: tuple[Phone, Phone],
) -> None:
    leader, partner = phones
    for _ in range(TIMES):
        patrol = leader.start_patrol([leader.username, partner.username], YINONG, fix=FIX)
        partner.record_incident(patrol, ["DEMO-SR-001"], fix=FIX)
        _sync_together(phones)
    assert Counter(operation["outcome"] for operation in partner.look_up()) == Counter(applied=TIMES)


def test_a_vendor_whom_both_meet_is_kept_once_and_so_is_all_else(phones: tuple[Phone, Phone]) -> None:
    patrols = [phone.start_patrol([phone.username], YINONG, fix=FIX) for phone in phones]
    for number in range(TIMES):
        for phone, patrol in zip(phones, patrols, strict=True):
            incident = phone.record_incident(patrol, ["DEMO-SR-001"], fix=FIX, vendor=vendor(number))
            phone.warn(incident, "education", fix=FIX, vendor=vendor(number)["id"])
        _sync_together(phones)
    for phone in phones:
        assert Counter(operation["outcome"] for operation in phone.look_up()) == Counter(applied=2 * TIMES + 1)
        assert not any(answer.result["problem"] for answer in phone.answers())
