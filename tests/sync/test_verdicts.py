"""What operations make of records where it is easy to get wrong: at the edges of clocks, editions and waiting."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from sync.evidence import verify
from sync.models import Account, Incident, Operation, Patrol, SignedIn, Track, VendorWarning
from tests.builders import make_account, make_event_class, make_installation, make_lists, make_signed_in
from tests.sync.days import amend, batch, incident, operation, outcomes, patrol, push, refusing, void, warning

LARGEST = 2**53 - 1
OLD_EDITION, OLD_CLASS = "GB/T 30428.2-2013", "0501"


@pytest.fixture
def officer(session: Session) -> SignedIn:
    make_lists(session)
    make_event_class(session, OLD_EDITION, OLD_CLASS)
    make_account(session, username="partner")
    who = make_signed_in(session)
    session.commit()
    return who


def track(of: dict[str, Any], *points: Any, **parts: Any) -> dict[str, Any]:
    return operation("track.append", uuid.UUID(of["record"]), body={"crs": "wgs84", "points": list(points)}, **parts)


# ---------------------------------------------------------------- clocks


@pytest.mark.parametrize(
    "at",
    [
        {"mono_ms": LARGEST, "boot": "6", "wall": "2026-11-23T08:00:00+08:00"},
        {"mono_ms": LARGEST, "boot": "6", "gnss": "2026-11-23T00:00:00Z"},
        {"mono_ms": 0, "boot": "6", "wall": "9999-12-31T00:00:00Z"},
        {"mono_ms": LARGEST, "boot": "6", "anchor": {"server": "0001-01-01T00:00:00Z", "mono_ms": 0}},
        {},
    ],
)
def test_a_track_is_kept_whatever_its_clocks_say(
    session: Session, officer: SignedIn, now: dt.datetime, at: dict[str, Any]
) -> None:
    out = patrol()
    receipt = push(session, officer, batch(officer, out, track(out, [120.46, 30.18, 0, 5], at=at)), now)
    assert outcomes(receipt) == ["applied", "applied"]
    assert session.scalars(select(Track)).one().from_at <= now


def test_a_stretch_begins_when_its_first_point_was_taken(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    """Recorded before a reboot, sent after: told by the wall clock of the operation, a minute after its last point."""
    out = patrol()
    at = {"mono_ms": 500_000, "boot": "6", "wall": "2026-11-23T08:00:00+08:00"}
    points = [[120.46, 30.18, 440_000, 5], [120.46, 30.18, 380_000, 5], [120.46, 30.18, None, None]]
    push(session, officer, batch(officer, out, track(out, *points, at=at)), now)
    walked = session.scalars(select(Track)).one()
    assert walked.from_at == dt.datetime(2026, 11, 22, 23, 58, tzinfo=dt.UTC)
    assert [point[2] for point in walked.points] == [60_000, 0, None]


def test_the_start_of_a_patrol_is_told_by_its_anchor_after_a_reboot(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    anchored = {"server": "2026-11-22T23:00:00Z", "mono_ms": 100_000}
    started = {"wall": "2016-01-01T00:00:00Z", "mono_ms": 3_700_000, "boot": "6", "anchor": anchored}
    push(session, officer, batch(officer, patrol(started=started, ended=None)), now)
    assert session.scalars(select(Patrol.started_at)).one() == dt.datetime(2026, 11, 23, 0, 0, tzinfo=dt.UTC)


# ---------------------------------------------------------------- editions


def test_amending_a_class_asks_the_edition_the_record_has(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    seen = incident(out, event_class=OLD_CLASS, event_class_edition=OLD_EDITION)
    new, old = amend(seen, 1, event_class="09001"), amend(seen, 1, event_class=OLD_CLASS)
    receipt = push(session, officer, batch(officer, out, seen, new, old), now)
    assert outcomes(receipt) == ["applied", "applied", "quarantined", "applied"]
    assert session.scalars(select(Incident.event_class)).one() == OLD_CLASS


def test_amending_an_edition_asks_for_the_class_the_record_has(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    seen = incident(out)
    receipt = push(
        session,
        officer,
        batch(
            officer,
            out,
            seen,
            amend(seen, 1, event_class_edition=OLD_EDITION),
            amend(seen, 1, event_class_edition=OLD_EDITION, event_class=OLD_CLASS),
        ),
        now,
    )
    assert outcomes(receipt) == ["applied", "applied", "quarantined", "applied"]


# ---------------------------------------------------------------- waiting


def test_a_warning_joins_when_what_waited_tells_of_its_vendor(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    """The vendor is told of by an incident that itself waits for its patrol."""
    vendor = {"id": str(uuid.uuid4()), "name": "测试摊主"}
    known, unsent = patrol(), patrol()
    seen = incident(known)
    push(session, officer, batch(officer, known, seen), now)
    held = push(
        session, officer, batch(officer, incident(unsent, vendor=vendor), warning(seen, vendor=vendor["id"])), now
    )
    assert outcomes(held) == ["held", "held"]
    push(session, officer, batch(officer, unsent), now)
    assert set(session.scalars(select(Operation.outcome))) == {"applied"}
    assert session.scalars(select(VendorWarning.vendor_id)).one() == uuid.UUID(vendor["id"])


def test_what_waits_and_breaks_the_server_does_not_keep_out_what_it_waited_for(
    session: Session, officer: SignedIn, now: dt.datetime, caplog: pytest.LogCaptureFixture
) -> None:
    out = patrol()
    poison, good = incident(out, description="毒"), incident(out)
    assert outcomes(push(session, officer, batch(officer, poison, good), now)) == ["held", "held"]
    with refusing(session, "毒"):
        assert outcomes(push(session, officer, batch(officer, out), now)) == ["applied"]
        later = incident(out)
        assert outcomes(push(session, officer, batch(officer, later), now)) == ["applied"]
    kept = set(session.scalars(select(Incident.id)))
    assert {uuid.UUID(good["record"]), uuid.UUID(later["record"])} <= kept
    assert session.scalars(select(Operation.outcome).where(Operation.op == poison["op"])).one() != "applied"
    session.rollback()
    assert list(verify(session))


def test_amends_that_come_in_any_order_end_alike(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    out = patrol()
    seen = incident(out)
    chain = [amend(seen, base, description=f"第{base}次") for base in (1, 2, 3)]
    push(session, officer, batch(officer, chain[2], chain[0]), now)
    push(session, officer, batch(officer, chain[1]), now)
    push(session, officer, batch(officer, seen), now)
    receipt = push(session, officer, batch(officer, out), now)
    assert outcomes(receipt) == ["applied"]
    assert set(session.scalars(select(Operation.outcome))) == {"applied"}
    assert session.execute(select(Incident.description, Incident.version)).one() == ("第3次", 4)


# ---------------------------------------------------------------- answers


def test_a_conflict_reads_the_same_now_and_later(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    second = replace(officer, install_id=make_installation(session, session.get_one(Account, officer.account_id)).id)
    session.commit()
    out = patrol()
    times = [{"wall": f"2026-11-23T0{hour}:00:00+08:00"} for hour in (7, 8)]
    push(session, officer, batch(officer, out), now)
    push(session, officer, batch(officer, amend(out, 1, started=times[0])), now)
    day = batch(second, amend(out, 1, started=times[1]))
    first, again = push(session, second, day, now), push(session, second, day, now)
    assert outcomes(first) == ["conflict"]
    assert first["results"][0]["problem"] == again["results"][0]["problem"]


def test_a_record_that_was_voided_stays_as_it_was(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    out = patrol()
    seen = incident(out)
    push(session, officer, batch(officer, out, seen), now)
    push(session, officer, batch(officer, void(seen, "误报")), now)
    again = push(session, officer, batch(officer, void(seen, "再次"), amend(seen, 2, description="x")), now)
    assert [result["problem"]["code"] for result in again["results"]] == ["record-voided", "record-voided"]
    assert session.execute(select(Incident.void_reason, Incident.version)).one() == ("误报", 2)


def test_the_same_id_for_another_kind_of_record_is_quarantined(
    session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    seen = incident(out)
    record = uuid.UUID(out["record"])
    twins = [
        incident(out) | {"record": out["record"]},
        operation("incident.amend", record, base=1, set={"description": "x"}),
        operation("warning.void", record, reason="x"),
        warning(seen, incident=out["record"]),
        incident(seen),
        track(seen, [120.46, 30.18, 0, 5]),
    ]
    receipt = push(session, officer, batch(officer, out, seen, *twins), now)
    assert [result["problem"] and result["problem"]["code"] for result in receipt["results"]] == [
        None,
        None,
        "record-exists",
        *["wrong-record-kind"] * 5,
    ]
