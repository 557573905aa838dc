"""However often, from wherever and in whatever company an operation comes: one effect, told once as new."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from sync.evidence import verify
from sync.models import (
    FeedEntry,
    Incident,
    IncidentItem,
    Installation,
    Link,
    Operation,
    Patrol,
    VendorWarning,
    begin_read,
)
from tests.journeys.ground import Ground, Handset
from tests.sync.days import amend, batch, codes, incident, patrol, warning

pytestmark = pytest.mark.parametrize(
    "ground", ["gunicorn on sqlite", "gunicorn on postgresql"], indirect=True, scope="module"
)
CLIENTS = 8
Op = dict[str, Any]


def a_day(incidents: int) -> list[Op]:
    out = patrol()
    seen = [incident(out, vendor={"id": str(uuid.uuid4()), "name": "测试摊主"}) for _ in range(incidents)]
    return [out, *seen, *(warning(one) for one in seen), *(amend(one, 1, description="已整改") for one in seen)]


def at_once(work: Iterable[Callable[[], Any]]) -> list[Any]:
    """What all of these return, begun in the same moment."""
    work = list(work)
    barrier = threading.Barrier(len(work))

    def begin(one: Callable[[], Any]) -> Any:
        barrier.wait(30)
        return one()

    with ThreadPoolExecutor(len(work)) as pool:
        return [future.result() for future in [pool.submit(begin, one) for one in work]]


def told_new(receipts: Iterable[Any]) -> Counter[str]:
    """How often each operation was told of as new."""
    results = [result for receipt in receipts for result in receipt["results"]]
    return Counter(result["op"] for result in results if not result["replayed"])


def assert_one_effect(ground: Ground, sent: list[Op]) -> None:
    """Each operation is stored and applied once, each record made once, and the whole database agrees with itself."""
    records = {uuid.UUID(op["record"]) for op in sent if op["kind"].endswith(".create")}
    with Session(ground.engine) as session:
        begin_read(session)
        rows = session.execute(select(Operation.op, Operation.outcome)).all()
        mine = {op["op"] for op in sent}
        assert Counter(row.op for row in rows if row.op in mine) == Counter(mine)
        assert {row.outcome for row in rows if row.op in mine} == {"applied"}
        made = {i for model in (Patrol, Incident, VendorWarning) for i in session.scalars(select(model.id))}
        assert records <= made
        amended = {uuid.UUID(op["record"]) for op in sent if op["kind"] == "incident.amend"}
        versions = dict(session.execute(select(Incident.id, Incident.version)).all())
        assert {versions[i] for i in amended} <= {2}
        assert_sound(session)


def assert_sound(session: Session) -> None:
    """The chain verifies, its numbers have no gap, the feed has one row per entity, each incident its links."""
    links = session.scalar(select(func.count()).select_from(Link)) or 0
    assert [done for done, _ in verify(session)] == list(range(1, links + 1))
    fed = session.scalar(select(func.count()).select_from(FeedEntry).where(FeedEntry.kind == "incident"))
    assert fed == session.scalar(select(func.count()).select_from(Incident))
    assert session.scalar(select(func.count()).select_from(IncidentItem)) == fed


# ---------------------------------------------------------------- the same again


def test_the_same_batch_from_eight_at_once_has_one_effect(ground: Ground) -> None:
    phone, sent = ground.handset(), a_day(40)
    day = batch(phone.who, *sent)
    receipts = at_once([lambda: phone.push_until_answered(day)] * CLIENTS)
    assert told_new(receipts) == Counter(op["op"] for op in sent)
    assert {tuple(r["outcome"] for r in receipt["results"]) for receipt in receipts} == {("applied",) * len(sent)}
    assert_one_effect(ground, sent)


def test_overlapping_batches_of_one_phone_have_one_effect(ground: Ground) -> None:
    """Every client sends another selection in another order, as retries of a confused app would."""
    phone, sent = ground.handset(), a_day(25)
    dice = random.Random(7)
    parts = [dice.sample(sent, len(sent) * 2 // 3) for _ in range(CLIENTS - 1)]
    receipts = at_once(
        [lambda part=part: phone.push_until_answered(batch(phone.who, *part)) for part in (*parts, sent)]
    )
    assert told_new(receipts) == Counter(op["op"] for op in sent)
    assert_one_effect(ground, sent)


def test_an_outbox_that_was_copied_to_other_phones_has_one_effect(ground: Ground) -> None:
    """Nothing makes them wait for each other but the operations' own ids."""
    phones, sent = [ground.handset() for _ in range(CLIENTS)], a_day(25)
    dice = random.Random(8)
    orders = [dice.sample(sent, len(sent)) for _ in phones]
    receipts = at_once(
        [
            lambda phone=phone, order=order: phone.push_until_answered(batch(phone.who, *order))
            for phone, order in zip(phones, orders, strict=True)
        ]
    )
    assert told_new(receipts) == Counter(op["op"] for op in sent)
    assert_one_effect(ground, sent)


def test_different_batches_of_eight_phones_all_have_their_effect(ground: Ground) -> None:
    phones = [ground.handset() for _ in range(CLIENTS)]
    days = [a_day(10) for _ in phones]
    receipts = at_once(
        [
            lambda phone=phone, day=day: phone.push_until_answered(batch(phone.who, *day))
            for phone, day in zip(phones, days, strict=True)
        ]
    )
    sent = [op for day in days for op in day]
    assert told_new(receipts) == Counter(op["op"] for op in sent)
    assert_one_effect(ground, sent)


# ---------------------------------------------------------------- one record, two phones


def _amended_at_once(ground: Ground, one: Op, other: Op) -> tuple[list[Op], Incident]:
    """The results of two amends of one incident by two phones in the same moment, and what became of the incident."""
    first, second = ground.handset(), ground.handset()
    out = patrol()
    seen = incident(out, description="起初")
    first.push_until_answered(batch(first.who, out, seen))
    changes = [amend(seen, 1, **one), amend(seen, 1, **other)]
    receipts = at_once(
        [
            lambda phone=phone, change=change: phone.push_until_answered(batch(phone.who, change))
            for phone, change in zip((first, second), changes, strict=True)
        ]
    )
    with Session(ground.engine) as session:
        begin_read(session)
        kept = session.get_one(Incident, uuid.UUID(seen["record"]))
        session.expunge(kept)
        assert_sound(session)
    assert len(ground.stored(*changes)) == 2
    return [receipt["results"][0] for receipt in receipts], kept


@pytest.mark.parametrize("repeat", range(3))
def test_two_phones_that_change_different_fields_at_once_both_succeed(ground: Ground, repeat: int) -> None:
    results, kept = _amended_at_once(ground, {"description": "甲"}, {"no_penalty_reason": "乙"})
    assert [result["outcome"] for result in results] == ["applied", "applied"]
    assert sorted(result["version"] for result in results) == [2, 3]
    assert (kept.description, kept.no_penalty_reason, kept.version) == ("甲", "乙", 3)


@pytest.mark.parametrize("repeat", range(3))
def test_two_phones_that_change_one_field_at_once_conflict_and_neither_is_lost(ground: Ground, repeat: int) -> None:
    results, kept = _amended_at_once(ground, {"description": "甲"}, {"description": "乙"})
    assert sorted(result["outcome"] for result in results) == ["applied", "conflict"]
    conflict = next(result for result in results if result["outcome"] == "conflict")
    (field,) = conflict["problem"]["fields"]
    assert {field["live"], field["yours"]} == {"甲", "乙"}
    assert (kept.description, kept.version) == (field["live"], 2)


# ---------------------------------------------------------------- servers that die

BATCHES_EACH, PHONES = 6, 4


def _push_all(phone: Handset, days: list[list[Op]]) -> list[Any]:
    return [phone.push_until_answered(batch(phone.who, *day)) for day in days]


def _survived(ground: Ground, kill: Callable[[], None], times: int) -> None:
    """Phones push while something is killed again and again; in the end everything is there once."""
    phones = [ground.handset() for _ in range(PHONES)]
    days = [[a_day(4) for _ in range(BATCHES_EACH)] for _ in phones]
    with ThreadPoolExecutor(PHONES) as pool:
        pushed = [pool.submit(_push_all, phone, mine) for phone, mine in zip(phones, days, strict=True)]
        for _ in range(times):
            time.sleep(0.25)
            kill()
        receipts = [receipt for future in pushed for receipt in future.result()]
    sent = [op for mine in days for day in mine for op in day]
    assert all(count == 1 for count in told_new(receipts).values())
    assert {result["outcome"] for receipt in receipts for result in receipt["results"]} == {"applied"}
    assert_one_effect(ground, sent)
    with Session(ground.engine) as session:
        for phone in phones:
            numbers = session.get_one(Installation, phone.who.install_id).received
            assert sum(last - first + 1 for first, last in numbers) == len(sent) // PHONES


def test_workers_that_die_in_the_middle_lose_and_double_nothing(ground: Ground) -> None:
    dice = random.Random(9)

    def kill() -> None:
        workers = ground.server.workers()
        if workers:
            ground.server.kill_worker(dice.choice(workers))

    _survived(ground, kill, times=4)


def test_a_server_that_dies_in_the_middle_loses_and_doubles_nothing(ground: Ground) -> None:
    def kill() -> None:
        ground.server.kill()
        ground.server.start_again()

    _survived(ground, kill, times=2)


def test_a_phone_whose_counters_went_back_is_told_so(ground: Ground) -> None:
    """A phone restored from a copy uses counters again for other operations: kept, and remarked."""
    phone = ground.handset()
    phone.push_until_answered(batch(phone.who, patrol() | {"n": 1}))
    receipt = phone.push_until_answered(batch(phone.who, patrol() | {"n": 1}))
    assert receipt["results"][0]["outcome"] == "applied"
    assert "counter-reused" in codes(receipt["results"][0])


def test_what_was_stored_before_the_phone_signed_in_anew_is_known(ground: Ground) -> None:
    phone = ground.handset()
    day = batch(phone.who, *a_day(2))
    phone.push_until_answered(day)
    again = ground.handset(install=phone.who.install_id)
    assert told_new([again.push_until_answered(day)]) == Counter()
    other = ground.handset()
    assert told_new([other.push_until_answered(batch(other.who, *day["ops"]))]) == Counter()
