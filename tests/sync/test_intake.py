"""A batch is received: every operation kept once, and told what became of it."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import replace
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from sync.clock import UNSEEN_TRANSIT_MS
from sync.evidence import verify
from sync.models import (
    Account,
    Incident,
    IncidentItem,
    Installation,
    Operation,
    PatrolOfficer,
    SignedIn,
    Track,
    TrackBox,
    Vendor,
    VendorWarning,
    begin_write,
)
from sync.photos import arrive
from tests.builders import GUALI, YINONG, YIPENG, make_account, make_installation, make_lists, make_signed_in
from tests.counting import count_statements
from tests.sync.days import (
    IN_GUALI,
    SENT,
    amend,
    batch,
    codes,
    incident,
    operation,
    outcomes,
    patrol,
    push,
    refusing,
    void,
    warning,
)

DIGEST = "ab" * 32


@pytest.fixture
def officer(session: Session) -> SignedIn:
    """`officer`, whose partner is `partner`, with all lists loaded."""
    make_lists(session)
    make_account(session, username="partner")
    who = make_signed_in(session)
    session.commit()
    return who


def another_phone(session: Session, who: SignedIn) -> SignedIn:
    """The same officer, on a second phone."""
    phone = make_installation(session, session.get_one(Account, who.account_id))
    session.commit()
    return replace(who, install_id=phone.id)


def result_of(receipt: dict[str, Any], sent: dict[str, Any]) -> dict[str, Any]:
    return next(result for result in receipt["results"] if result["op"] == sent["op"])


def test_a_patrol_with_everything_is_kept_placed_and_linked(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    vendor = {"id": str(uuid.uuid4()), "name": "测试摊主", "phone": "10000000001"}
    seen = incident(out, vendor=vendor, photos=[{"sha256": DIGEST, "bytes": 9, "type": "image/jpeg", "role": "before"}])
    told = warning(seen, vendor=vendor["id"])
    track = operation(
        "track.append",
        uuid.UUID(out["record"]),
        body={"crs": "wgs84", "points": [[120.46, 30.18, 900_000, 5], [120.47, 30.18, 960_000, None]]},
    )
    receipt = push(session, officer, batch(officer, out, seen, told, track), now)

    assert outcomes(receipt) == ["applied"] * 4
    assert [r["version"] for r in receipt["results"]] == [1, 1, 1, 1]
    assert result_of(receipt, seen)["photos_needed"] == receipt["photos_needed"] == [DIGEST]
    assert all(not result["notes"] for result in receipt["results"])
    kept = session.get_one(Incident, uuid.UUID(seen["record"]))
    assert (kept.township_code, kept.located_code, kept.located, kept.areas_edition) == (GUALI, GUALI, "inside", "demo")
    assert (kept.occurred_at, kept.occurred_method) == (now - dt.timedelta(milliseconds=29_700_000), "mono")
    assert kept.vendor_id == uuid.UUID(vendor["id"])
    assert session.scalars(select(IncidentItem.delegation_id)).one() is not None
    assert session.get_one(VendorWarning, uuid.UUID(told["record"])).vendor_id == kept.vendor_id
    assert session.get_one(Vendor, kept.vendor_id).name == "测试摊主"
    walked = session.scalars(select(Track)).one()
    assert (walked.from_at, walked.points[1][2]) == (now - dt.timedelta(milliseconds=29_800_000), 60_000)
    box = session.get_one(TrackBox, walked.id)
    assert (box.patrol_id, box.west, box.south, box.east, box.north) == (walked.patrol_id, 120.46, 30.18, 120.47, 30.18)


def test_what_is_sent_again_has_one_effect_and_the_first_outcome(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    day = batch(officer, out, incident(out), incident(out, items=["NOT-AN-ITEM"]))
    first = push(session, officer, day, now)
    again = push(session, officer, day, now + dt.timedelta(minutes=5))

    assert outcomes(first) == outcomes(again) == ["applied", "applied", "quarantined"]
    assert [r["replayed"] for r in first["results"]] == [False] * 3
    assert [r["replayed"] for r in again["results"]] == [True] * 3
    assert session.scalar(select(func.count()).select_from(Incident)) == 1
    assert session.scalar(select(func.count()).select_from(Operation)) == 3


def test_an_id_used_again_for_something_else_is_kept_beside_the_first(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    seen = incident(out)
    push(session, officer, batch(officer, out, seen), now)
    other = incident(out) | {"op": seen["op"]}
    for replayed in (False, True):
        result = push(session, officer, batch(officer, other), now)["results"][0]
        assert (result["outcome"], result["problem"]["code"], result["replayed"]) == (
            "quarantined",
            "op-reused",
            replayed,
        )
        assert result["op"] == seen["op"]
    assert session.scalar(select(func.count()).select_from(Operation)) == 3
    assert session.scalars(select(Incident.id)).one() == uuid.UUID(seen["record"])


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 3, 0, 1), (1, 0, 3, 2)])
def test_operations_arrive_in_any_order_and_join(
    session: Session, officer: SignedIn, now: dt.datetime, order: tuple[int, ...]
) -> None:
    out = patrol()
    seen = incident(out)
    day = [out, seen, warning(seen), amend(seen, 1, description="已整改")]
    for index in order:
        push(session, officer, batch(officer, day[index]), now)

    assert set(session.scalars(select(Operation.outcome))) == {"applied"}
    kept = session.scalars(select(Incident)).one()
    assert (kept.description, kept.version) == ("已整改", 2)
    assert session.scalars(select(VendorWarning)).one().incident == kept.id


def test_what_waits_says_for_what(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    out = patrol()
    held = push(session, officer, batch(officer, incident(out)), now)["results"][0]
    assert (held["outcome"], held["waits_for"]) == ("held", out["record"])


def test_amends_of_different_fields_both_apply(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    out = patrol()
    seen = incident(out)
    push(session, officer, batch(officer, out, seen), now)
    second_phone = another_phone(session, officer)
    one, other = amend(seen, 1, description="新描述"), amend(seen, 1, measures=["educate"])
    push(session, officer, batch(officer, one), now)
    result = push(session, second_phone, batch(second_phone, other), now)["results"][0]

    assert (result["outcome"], result["version"]) == ("applied", 3)
    assert "auto-merged" in codes(result)
    kept = session.scalars(select(Incident)).one()
    assert (kept.description, kept.measures) == ("新描述", ["educate"])


def test_two_values_for_one_field_are_a_conflict_and_the_servers_stays(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    seen = incident(out)
    push(session, officer, batch(officer, out, seen), now)
    second_phone = another_phone(session, officer)
    one, other = amend(seen, 1, description="甲"), amend(seen, 1, description="乙")
    push(session, officer, batch(officer, one), now)
    result = push(session, second_phone, batch(second_phone, other), now)["results"][0]

    assert result["outcome"] == "conflict"
    assert result["problem"]["fields"] == [
        {"field": "description", "base": seen["body"]["description"], "live": "甲", "yours": "乙"}
    ]
    assert session.scalars(select(Incident)).one().description == "甲"


def test_the_same_value_from_both_sides_is_no_conflict(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    out = patrol()
    seen = incident(out)
    push(session, officer, batch(officer, out, seen), now)
    receipt = push(
        session, officer, batch(officer, amend(seen, 1, description="甲"), amend(seen, 1, description="甲")), now
    )
    assert outcomes(receipt) == ["applied", "applied"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_amends_of_one_phone_never_conflict_and_its_last_word_stands(
    session: Session, officer: SignedIn, now: dt.datetime, order: tuple[int, ...]
) -> None:
    out = patrol()
    seen = incident(out)
    push(session, officer, batch(officer, out, seen), now)
    said = [amend(seen, 1, description="一", measures=[]), amend(seen, 1, description="二"), amend(seen, 1, parties=[])]
    for index in order:
        assert outcomes(push(session, officer, batch(officer, said[index]), now)) == ["applied"]
    kept = session.scalars(select(Incident)).one()
    assert (kept.description, kept.measures, kept.version) == ("二", [], 4)
    assert list(verify(session))


def test_amending_items_links_them_anew(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    out = patrol()
    seen = incident(out)
    push(session, officer, batch(officer, out, seen), now)
    push(session, officer, batch(officer, amend(seen, 1, items=[])), now)
    assert session.scalars(select(IncidentItem)).all() == []


def test_a_void_needs_a_reason_and_deletes_nothing(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    out = patrol()
    seen = incident(out)
    push(session, officer, batch(officer, out, seen), now)
    reasonless = void(seen)
    del reasonless["reason"]
    receipt = push(
        session, officer, batch(officer, reasonless, void(seen, "误报"), amend(seen, 1, description="x")), now
    )

    assert (
        outcomes(receipt) == ["quarantined", "applied", "quarantined"]
        or outcomes(receipt) == ["quarantined"] + ["applied"] * 2
    )
    kept = session.scalars(select(Incident)).one()
    assert (kept.void_reason, kept.voided_at is not None) == ("误报", True)


def test_another_officers_record_is_not_amended_and_the_attempt_is_kept(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    seen = incident(out)
    push(session, officer, batch(officer, out, seen), now)
    stranger = make_signed_in(session, username="stranger")
    session.commit()
    receipt = push(session, stranger, batch(stranger, amend(seen, 1, description="改"), void(seen)), now)

    assert [r["problem"]["code"] for r in receipt["results"]] == ["not-yours", "not-yours"]
    assert session.scalars(select(Incident)).one().version == 1


NOTED = [
    ({"township": YINONG}, {}, "township-mismatch"),
    ({"township": YINONG}, {}, "not-delegated"),
    ({"township": YIPENG}, {}, "township-retired"),
    ({}, {"lon": 120.5099, "accuracy_m": 30}, "township-uncertain"),
    ({}, {"lon": 119.0, "lat": 29.0}, "outside-district"),
    ({}, {"lon": 0, "lat": 0}, "no-fix"),
    ({}, {"accuracy_m": 900}, "poor-accuracy"),
    ({}, {"mock": True}, "mock-location"),
    ({}, {"crs": None}, "crs-undeclared"),
    ({}, {"source": "amap"}, "crs-doubtful"),
]


@pytest.mark.parametrize(("body", "fix", "code"), NOTED)
def test_a_remark_never_stops_a_record(
    session: Session, officer: SignedIn, now: dt.datetime, body: Any, fix: Any, code: str
) -> None:
    out = patrol()
    sent = incident(out, fix=IN_GUALI | fix, **body)
    result = result_of(push(session, officer, batch(officer, out, sent), now), sent)

    assert result["outcome"] == "applied"
    assert code in codes(result)
    assert code in session.scalars(select(Incident.note_codes)).one()


UNKNOWN = [
    ({"township": "330109999"}, "unknown-township", "/body/township"),
    ({"items": ["DEMO-SR-001", "NOPE"]}, "unknown-item", "/body/items/1"),
    ({"event_class": "99999"}, "unknown-event-class", "/body/event_class"),
    ({"designated_place": "NOPE"}, "unknown-place", "/body/designated_place"),
]


@pytest.mark.parametrize(("body", "code", "pointer"), UNKNOWN)
def test_a_code_that_never_was_waits_for_a_person(
    session: Session, officer: SignedIn, now: dt.datetime, body: Any, code: str, pointer: str
) -> None:
    out = patrol()
    good = incident(out)
    receipt = push(session, officer, batch(officer, out, incident(out, **body), good), now)

    assert outcomes(receipt) == ["applied", "quarantined", "applied"]
    problem = receipt["results"][1]["problem"]
    assert (problem["code"], problem["errors"]) == (code, [{"pointer": pointer, "code": "unknown"}])
    assert session.scalars(select(Incident.id)).one() == uuid.UUID(good["record"])


def test_a_lonely_officer_an_auxiliary_who_decides_and_an_expired_card_are_noted(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    alone = patrol(["officer"])
    assert codes(push(session, officer, batch(officer, alone), now)["results"][0]) == {"single-officer"}

    helper = make_signed_in(session, username="helper", role="auxiliary")
    account = make_account(session, username="expired", card_until_on=dt.date(2026, 1, 1))
    phone = make_installation(session, account)
    session.commit()
    out = patrol(["officer", "partner", "helper", "expired"])
    seen = incident(out)
    decided = warning(seen, step="order_correction")
    receipt = push(session, helper, batch(helper, out, seen, decided), now)
    assert outcomes(receipt) == ["applied"] * 3
    assert codes(result_of(receipt, seen)) == set()
    assert codes(result_of(receipt, decided)) == {"auxiliary-decided"}

    late = SignedIn(account.id, "expired", "officer", frozenset({GUALI}), phone.id)
    noted = push(session, late, batch(late, incident(out)), now)["results"][0]
    assert codes(noted) == {"card-expired"}


def test_an_old_batch_that_was_long_under_way_does_not_undo_what_was_declared(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    old = batch(officer, patrol() | {"n": 1}, next_n=2)
    push(session, officer, batch(officer, next_n=5, unsent=[[1, 4]]), now)
    assert push(session, officer, old, now)["holes"] == []


def test_a_patrol_has_at_least_one_officer(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    result = push(session, officer, batch(officer, patrol([])), now)["results"][0]
    assert result["problem"]["errors"] == [{"pointer": "/body/officers", "code": "too-short"}]


def test_counters_that_never_arrived_are_named_until_they_come_or_are_declared(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol() | {"n": 1}
    later = incident(out) | {"n": 5}
    first = push(session, officer, batch(officer, out, later, next_n=8, unsent=[[7, 7]]), now)
    assert first["holes"] == [[2, 4], [6, 6]]
    filled = push(session, officer, batch(officer, incident(out) | {"n": 3}, next_n=8, unsent=[[7, 7]]), now)
    assert filled["holes"] == [[2, 2], [4, 4], [6, 6]]
    assert session.scalars(select(Installation.received)).first() == [[1, 1], [3, 3], [5, 5]]


def test_an_officer_nobody_knows_is_noted_and_names_are_told_in_any_case(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    result = push(session, officer, batch(officer, patrol(["Officer", "PARTNER", "nobody"])), now)["results"][0]
    assert result["notes"] == [{"code": "unknown-officer", "officers": ["nobody"]}]
    assert session.scalar(select(func.count()).select_from(PatrolOfficer)) == 2


@pytest.mark.parametrize(("said", "kept"), [({"event_class": None}, None), ({}, "GB/T 47678.5-2026")])
def test_an_edition_is_kept_with_its_class_alone(
    session: Session, officer: SignedIn, now: dt.datetime, said: Any, kept: str | None
) -> None:
    out = patrol()
    push(session, officer, batch(officer, out, incident(out, **said)), now)
    assert session.scalars(select(Incident.event_class_edition)).one() == kept


def test_null_for_what_may_be_absent_is_absent(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    out = patrol(purpose=None)
    seen = incident(out, measures=None, parties=None, event_class_edition=None) | {"photos": None}
    assert outcomes(push(session, officer, batch(officer, out, seen, unsent=None), now)) == ["applied", "applied"]
    assert session.scalars(select(Incident)).one().measures == []


def test_what_joins_is_told_to_the_officer_whose_it_is(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    out = patrol()
    seen = incident(out)
    push(session, officer, batch(officer, seen), now)
    joined = push(session, officer, batch(officer, out), now)["joined"]
    assert [(result["op"], result["outcome"], result["version"]) for result in joined] == [(seen["op"], "applied", 1)]
    assert push(session, officer, batch(officer), now)["joined"] == []


def test_what_joins_asks_only_for_photos_that_are_not_there(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    begin_write(session)
    arrive(session, officer, DIGEST, 9, now=now)
    session.commit()
    out = patrol()
    there, missing = ({"sha256": name, "bytes": 9, "type": "image/jpeg"} for name in (DIGEST, "cd" * 32))
    push(session, officer, batch(officer, incident(out, photos=[there, missing])), now)
    (joined,) = push(session, officer, batch(officer, out), now)["joined"]
    assert joined["photos_needed"] == [missing["sha256"]]


def test_a_track_without_a_declared_system_is_noted(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    out = patrol()
    track = operation("track.append", uuid.UUID(out["record"]), body={"points": [[120.46, 30.18, None, None]]})
    assert codes(result_of(push(session, officer, batch(officer, out, track), now), track)) == {"crs-undeclared"}


def test_a_body_collected_before_it_was_handed_on_makes_the_time_less_sure(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    """The anchor says 08:15:00 at 30,700,000 ms; the batch was sent a second later, and arrived six after that."""
    sent = SENT | {
        "mono_ms": SENT["mono_ms"] + 1_000,
        "anchor": {"server": now.isoformat(), "mono_ms": SENT["mono_ms"]},
    }
    receipt = push(session, officer, batch(officer, patrol(), sent=sent), now + dt.timedelta(seconds=7))
    assert receipt["clock"]["error_ms"] == 6_000 + UNSEEN_TRANSIT_MS


def test_a_counter_used_twice_is_noted(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    out = patrol() | {"n": 1}
    push(session, officer, batch(officer, out), now)
    result = push(session, officer, batch(officer, incident(out) | {"n": 1}), now)["results"][0]
    assert codes(result) == {"counter-reused"}
    twice = push(session, officer, batch(officer, incident(out) | {"n": 2}, incident(out) | {"n": 2}), now)
    assert [codes(result) for result in twice["results"]] == [{"counter-reused"}] * 2


def test_one_operation_that_breaks_the_server_does_not_delay_its_neighbours(
    session: Session, officer: SignedIn, now: dt.datetime, caplog: pytest.LogCaptureFixture
) -> None:
    out = patrol()
    good, bad, late = incident(out), incident(out, description="毒"), incident(out)
    with refusing(session, "毒"):
        receipt = push(session, officer, batch(officer, out, good, bad, late), now)

    assert outcomes(receipt) == ["applied", "applied", "quarantined", "applied"]
    assert result_of(receipt, bad)["problem"]["code"] == "internal"
    kept = session.scalars(select(Operation).where(Operation.outcome == "quarantined")).one()
    assert orjson.loads(kept.raw) == bad
    assert set(session.scalars(select(Incident.id))) == {uuid.UUID(good["record"]), uuid.UUID(late["record"])}
    assert "is quarantined" in caplog.text
    assert outcomes(push(session, officer, batch(officer, bad), now)) == ["quarantined"]


def test_a_batch_takes_as_many_statements_however_large_it_is(
    engine: Engine, session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    counts = []
    for size in (1, 2, 100):  # the first finds nobody there
        out = patrol()
        many = [incident(out, vendor={"id": str(uuid.uuid4())}) for _ in range(size)]
        day = batch(
            officer, out, *many, *(warning(seen) for seen in many), *(amend(seen, 1, items=[]) for seen in many)
        )
        push(session, officer, batch(officer), now)
        with count_statements(engine) as counted:
            receipt = push(session, officer, day, now)
        assert set(outcomes(receipt)) == {"applied"}
        counts.append(counted.statements)
    assert counts[1] == counts[2] < 55
