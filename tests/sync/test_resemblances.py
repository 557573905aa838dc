"""What resembles what, found when it arrives: sent again, told by two officers, or only a repeat."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from typing import Any

import pytest
from sqlalchemy import Engine, delete, select, text, update
from sqlalchemy.orm import Session

from sync import intake, reappraisal
from sync.again import look_again_at
from sync.evidence import Break, verify
from sync.models import Grouped, Grouping, Incident, Photo, PhotoFacts, Reappraisal, Resemblance, SignedIn, begin_write
from sync.resemblances import MOST_KEPT
from tests.builders import make_lists, make_signed_in
from tests.counting import count_statements
from tests.sync.alike import (
    PHOTO,
    again,
    at,
    ids,
    listed,
    proposed,
    reinstalled,
    resemblances,
    said,
    seen,
)
from tests.sync.days import YARDSTICK, amend, batch, codes, patrol, push, void, warning
from tests.sync.pulling import Puller
from tests.sync.test_in_flight import at_once, sending


@pytest.fixture
def officer(session: Session) -> SignedIn:
    make_lists(session)
    who = make_signed_in(session)
    session.commit()
    return who


@pytest.fixture
def partner(session: Session, officer: SignedIn) -> SignedIn:
    who = make_signed_in(session, username="partner")
    session.commit()
    return who


@pytest.fixture
def supervisor(session: Session, officer: SignedIn) -> SignedIn:
    who = make_signed_in(session, username="supervisor", role="supervisor")
    session.commit()
    return who


def resembled(receipt: dict[str, Any]) -> dict[str, list[tuple[str, bool]]]:
    """What each record of a receipt resembles, and whether they are grouped."""
    return {r["record"]: [(each["record"], each["grouped"]) for each in r["resembles"]] for r in receipt["results"]}


def begun(session: Session) -> None:
    """The session writes from here on."""
    session.rollback()
    begin_write(session)


# ---------------------------------------------------------------- sent again


def test_what_a_reinstalled_app_sends_again_is_grouped_by_itself_and_counts_once(
    session: Session, officer: SignedIn, supervisor: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    what = seen(out, photos=[PHOTO])
    told = warning(what)
    push(session, officer, batch(officer, out, what, told), now)
    phone = reinstalled(session, officer)
    out_again = again(out)
    what_again = again(what, out_again)
    told_again = again(told, what_again)
    receipt = push(session, phone, batch(phone, out_again, what_again, told_again), now)

    for first, second in ((out, out_again), (what, what_again), (told, told_again)):
        assert (first["record"], True) in resembled(receipt)[second["record"]]
        kind = first["kind"].partition(".")[0]
        (shown,) = listed(session, supervisor, kind)
        assert shown["id"] in (first["record"], second["record"])
        assert set(shown["group"]["records"]) == {first["record"], second["record"]}
        assert len(listed(session, supervisor, kind, grouped="expand")) == 2
    assert proposed(session, supervisor, now) == []
    assert list(verify(session))


def test_an_equal_body_is_enough_without_a_photo_and_an_equal_photo_with_another_body(
    session: Session, officer: SignedIn, supervisor: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    same_body, same_photo = seen(out), seen(out, minutes=60, metres=900, photos=[PHOTO])
    push(session, officer, batch(officer, out, same_body, same_photo), now)
    phone = reinstalled(session, officer)
    reworded = again(same_photo, out)
    reworded["body"] |= {"description": reworded["body"]["description"] + "。"}
    receipt = push(session, phone, batch(phone, again(same_body, out), reworded), now)
    assert [each["resembles"][0]["grouped"] for each in receipt["results"]] == [True, True]
    assert len(listed(session, supervisor)) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"vendor": {"id": str(uuid.uuid4()), "name": "李丽", "phone": "10000054321"}},
        {"at": at(30)},
        {"fix": {"lon": 120.47, "lat": 30.18, "accuracy_m": 12, "crs": "wgs84"}},
    ],
    ids=["another vendor", "later", "elsewhere"],
)
def test_what_something_speaks_against_is_never_grouped_by_itself(
    session: Session, officer: SignedIn, supervisor: SignedIn, now: dt.datetime, change: dict[str, Any]
) -> None:
    out = patrol()
    what = seen(out, photos=[PHOTO])
    push(session, officer, batch(officer, out, what), now)
    phone = reinstalled(session, officer)
    other = again(what, out)
    other["body"] |= {name: value for name, value in change.items() if name == "vendor"}
    other |= {name: value for name, value in change.items() if name != "vendor"}
    push(session, phone, batch(phone, other), now)
    assert len(listed(session, supervisor)) == 2


def test_what_one_installation_records_twice_waits_for_a_person(
    session: Session, officer: SignedIn, supervisor: SignedIn, now: dt.datetime
) -> None:
    """An installation sends nothing twice under two ids: what it made twice was made twice."""
    out = patrol()
    what = seen(out, photos=[PHOTO])
    push(session, officer, batch(officer, out, what, again(what, out) | {"n": 900}), now)
    assert len(listed(session, supervisor)) == 2


def test_what_a_person_took_apart_is_not_grouped_again_by_itself(
    session: Session, officer: SignedIn, supervisor: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    what = seen(out, photos=[PHOTO])
    push(session, officer, batch(officer, out, what), now)
    phone = reinstalled(session, officer)
    other = again(what, out)
    push(session, phone, batch(phone, other), now)
    said(session, supervisor, "undo", [what["record"], other["record"]], now)
    assert len(listed(session, supervisor)) == 2
    push(session, phone, batch(phone, amend(other, 1, no_penalty_reason="首次发生")), now)
    assert len(listed(session, supervisor)) == 2
    (pair,) = proposed(session, supervisor, now)
    assert {each["id"] for each in pair["records"]} == {what["record"], other["record"]}


# ---------------------------------------------------------------- two officers, and repeats


def told_by_two(
    session: Session, officer: SignedIn, partner: SignedIn, now: dt.datetime
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """(one's record, the other's, the other's receipt) of one event on one patrol."""
    out = patrol()
    one = seen(out, description="工地门口卖煎饼")
    other = seen(out, minutes=4, metres=8, description="工地旁边煎饼摊占道")
    push(session, officer, batch(officer, out, one), now)
    return one, other, push(session, partner, batch(partner, other), now)


def test_what_two_officers_tell_is_proposed_with_every_piece_of_evidence_and_not_grouped(
    session: Session, officer: SignedIn, partner: SignedIn, supervisor: SignedIn, now: dt.datetime
) -> None:
    one, other, receipt = told_by_two(session, officer, partner, now)
    assert resembled(receipt)[other["record"]] == [(one["record"], False)]
    assert set(ids(listed(session, supervisor))) == {one["record"], other["record"]}
    (pair,) = proposed(session, supervisor, now)
    assert {each["id"] for each in pair["records"]} == {one["record"], other["record"]}
    assert pair["kind"] == "incident"
    assert sum(piece["weight"] for piece in pair["evidence"]) == pytest.approx(pair["weight"])
    assert {"time", "distance", "vendor_phone", "vendor_name", "kind"} <= {each["name"] for each in pair["evidence"]}


def test_the_order_of_arrival_makes_no_difference(
    session: Session, officer: SignedIn, partner: SignedIn, now: dt.datetime
) -> None:
    for metres, first, second in ((0, officer, partner), (3_000, partner, officer)):
        of = {who.username: patrol([who.username]) for who in (officer, partner)}
        told = {
            "officer": seen(of["officer"], metres=metres, description="工地门口卖煎饼"),
            "partner": seen(of["partner"], minutes=4, metres=metres + 8, description="工地旁边煎饼摊占道"),
        }
        for each in told.values():
            each["body"]["vendor"] |= {"phone": f"1000001{metres:04}", "stall": None}
        for who in (first, second):
            push(session, who, batch(who, of[who.username], told[who.username]), now)
    one, other = resemblances(session).values()
    assert one == pytest.approx(other)


def test_the_same_vendor_three_hours_later_is_a_repeat_and_no_resemblance(
    session: Session, officer: SignedIn, supervisor: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    morning = seen(out)
    told = warning(morning, vendor=morning["body"]["vendor"]["id"]) | {"at": at(1)}
    push(session, officer, batch(officer, out, morning, told), now)
    later = seen(out, minutes=180)
    receipt = push(session, officer, batch(officer, later), now)
    (result,) = receipt["results"]
    assert result["resembles"] == []
    assert proposed(session, supervisor, now) == []
    (note,) = [note for note in result["notes"] if note["code"] == "repeat-vendor"]
    assert (note["warnings"], note["last_on"]) == (1, "2026-11-23")


def test_warnings_of_one_event_count_once_for_their_vendor(
    session: Session, officer: SignedIn, partner: SignedIn, supervisor: SignedIn, now: dt.datetime
) -> None:
    one, other, _ = told_by_two(session, officer, partner, now)
    for who, what, minutes in ((officer, one, 1), (partner, other, 5)):
        told = warning(what, vendor=what["body"]["vendor"]["id"]) | {"at": at(minutes)}
        push(session, who, batch(who, told), now)
    out = patrol()
    later = seen(out, minutes=180)
    push(session, officer, batch(officer, out, later), now)

    def remarked() -> int:
        (shown,) = [each for each in listed(session, supervisor) if each["id"] == later["record"]]
        (note,) = [note for note in shown["notes"] if note["code"] == "repeat-vendor"]
        return int(note["warnings"])

    assert remarked() == 2
    said(session, supervisor, "group", [one["record"], other["record"]], now)
    look_at_all_again(session, now)
    assert remarked() == 1
    assert list(verify(session))


def look_at_all_again(session: Session, now: dt.datetime) -> None:
    looked = 1
    while looked:
        session.rollback()
        begun(session)
        looked = reappraisal.look_again(session, YARDSTICK, now=now)
        session.commit()


def test_a_warning_that_arrives_late_is_counted_by_what_came_after_it(
    session: Session, officer: SignedIn, supervisor: SignedIn, now: dt.datetime
) -> None:
    out = patrol()
    morning, noon = seen(out), seen(out, minutes=200)
    noon["body"]["vendor"] = morning["body"]["vendor"]
    push(session, officer, batch(officer, out, noon, morning), now)
    late = warning(morning, vendor=morning["body"]["vendor"]["id"]) | {"at": at(2)}
    push(session, officer, batch(officer, late), now)
    look_at_all_again(session, now)
    (shown,) = [each for each in listed(session, supervisor) if each["id"] == noon["record"]]
    assert codes(shown) >= {"repeat-vendor"}
    assert shown["version"] == 1
    push(session, officer, batch(officer, void(late)), now)
    look_at_all_again(session, now)
    (shown,) = [each for each in listed(session, supervisor) if each["id"] == noon["record"]]
    assert "repeat-vendor" not in codes(shown)
    assert list(verify(session))


# ---------------------------------------------------------------- what changes


def test_an_amend_and_a_void_change_what_a_record_resembles(
    session: Session, officer: SignedIn, partner: SignedIn, supervisor: SignedIn, now: dt.datetime
) -> None:
    _, other, _ = told_by_two(session, officer, partner, now)
    (before,) = resemblances(session).values()
    changed = amend(other, 1, vendor={"id": str(uuid.uuid4()), "name": "李丽", "phone": "10000054321"})
    push(session, partner, batch(partner, changed), now)
    assert all(weight < before for weight in resemblances(session).values())
    push(session, partner, batch(partner, void(other)), now)
    assert resemblances(session) == {}
    assert proposed(session, supervisor, now) == []


def test_how_photos_look_is_evidence_once_somebody_has_looked(
    session: Session, officer: SignedIn, partner: SignedIn, now: dt.datetime
) -> None:
    out, other_out = patrol(["officer"]), patrol(["partner"])
    one = seen(out, photos=[PHOTO])
    other = seen(other_out, minutes=3, photos=[PHOTO | {"sha256": "cd" * 32}])
    push(session, officer, batch(officer, out, one), now)
    push(session, partner, batch(partner, other_out, other), now)
    both = tuple(sorted((one["record"], other["record"])))
    before = resemblances(session)[both]
    begun(session)
    for name in ("ab" * 32, "cd" * 32):
        keep_facts(session, officer, name, now)
    look_again_at(session, [("incident", uuid.UUID(other["record"]))], now=now)
    session.commit()
    look_at_all_again(session, now)
    assert resemblances(session)[both] > before


def keep_facts(session: Session, officer: SignedIn, sha256: str, now: dt.datetime) -> None:
    session.add(Photo(sha256=sha256, size_bytes=3, received_at=now, officer_id=officer.account_id))
    session.flush()
    session.add(PhotoFacts(sha256=sha256, looked_at=now, flags=[], dhash="0f1e2d3c4b5a6978"))
    session.flush()


def test_what_waits_to_be_looked_at_again_is_done_once(session: Session, officer: SignedIn, now: dt.datetime) -> None:
    out = patrol()
    push(session, officer, batch(officer, out, what := seen(out, vendor=None)), now)
    begun(session)
    look_again_at(session, [("incident", uuid.UUID(what["record"]))] * 3, now=now)
    session.commit()
    assert reappraisal.waiting(session) == 3
    look_at_all_again(session, now)
    assert reappraisal.waiting(session) == 0
    assert session.scalars(select(Reappraisal)).all() == []


def test_a_walk_through_all_finds_what_arrival_found(
    session: Session, officer: SignedIn, partner: SignedIn, now: dt.datetime
) -> None:
    told_by_two(session, officer, partner, now)
    look_at_all_again(session, now)
    found = resemblances(session)
    begun(session)
    session.execute(delete(Resemblance))
    session.commit()
    step: reappraisal.Step | None = reappraisal.begin()
    while step is not None:
        begun(session)
        last, step = step, reappraisal.walk(session, step, YARDSTICK, now=now, most=1)
        session.commit()
    assert last.done == reappraisal.total(session) == 5  # a patrol, two incidents, two vendors
    assert resemblances(session) == found


# ---------------------------------------------------------------- in flight, and at what cost


def test_who_commits_second_finds_the_other(
    engine: Engine, session: Session, officer: SignedIn, partner: SignedIn, now: dt.datetime
) -> None:
    out, other_out = patrol(["officer"]), patrol(["partner"])
    one, other = seen(out), seen(other_out, minutes=3)
    first, second = batch(officer, out, one), batch(partner, other_out, other)
    at_once(engine, session, sending(officer, first, now), sending(partner, second, now))
    assert set(resemblances(session)) == {tuple(sorted((one["record"], other["record"])))}


def test_pairs_found_at_the_same_moment_by_many_are_all_found(
    engine: Engine, session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    people = [make_signed_in(session, username=f"officer-{number}") for number in range(4)]
    session.commit()
    outs = [patrol([who.username]) for who in people]
    records = [seen(out, minutes=number, metres=2 * number) for number, out in enumerate(outs)]

    def send(who: SignedIn, *operations: Any) -> None:
        with Session(engine) as own:
            push(own, who, batch(who, *operations), now)

    threads = [
        threading.Thread(target=send, args=(who, out, what))
        for who, out, what in zip(people, outs, records, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(resemblances(session)) == 6


def test_a_crowd_at_one_place_and_moment_costs_a_bounded_number_of_statements(
    engine: Engine, session: Session, officer: SignedIn, now: dt.datetime
) -> None:
    counts = []
    for size in (20, 40, 60):  # the first finds nobody there
        out = patrol()
        day = batch(officer, out, *(seen(out, metres=100 * size) for _ in range(size)))
        push(session, officer, batch(officer), now)
        session.rollback()
        with count_statements(engine) as counted:
            push(session, officer, day, now)
        counts.append(counted.statements)
    assert counts[1] == counts[2]
    assert len(resemblances(session)) <= MOST_KEPT * (20 + 40 + 60)


def test_records_are_kept_also_where_what_they_resemble_can_not_be(
    session: Session,
    officer: SignedIn,
    partner: SignedIn,
    supervisor: SignedIn,
    now: dt.datetime,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A phone that is answered 500 sends the same for ever."""
    begun(session)
    session.execute(text("ALTER TABLE resemblances RENAME TO elsewhere"))
    session.commit()
    try:
        out = patrol()
        for who in (officer, partner):
            receipt = push(session, who, batch(who, *([out] if who is officer else []), seen(out)), now)
            assert {result["outcome"] for result in receipt["results"]} == {"applied"}
        assert len(listed(session, supervisor)) == 2
        look_at_all_again(session, now)
        assert "can't be told" in caplog.text
        assert "can't be looked at again" in caplog.text
    finally:
        begun(session)
        session.execute(text("ALTER TABLE elsewhere RENAME TO resemblances"))
        session.commit()
    assert list(verify(session))


# ---------------------------------------------------------------- who is told, and that nothing is hidden


def test_phones_learn_from_the_feed_what_is_one_thing(
    session: Session, officer: SignedIn, partner: SignedIn, supervisor: SignedIn, now: dt.datetime
) -> None:
    one, other, _ = told_by_two(session, officer, partner, now)
    phone = Puller(officer)
    phone.pull(session)
    assert phone.holds["incident", one["record"]]["grouped_with"] == []
    said(session, supervisor, "group", [one["record"], other["record"]], now)
    (change,) = phone.pull(session)
    assert change["data"]["grouped_with"] == [other["record"]]
    assert change["data"]["version"] == 1


def test_a_receipt_asked_for_again_tells_what_is_so_by_now(
    session: Session, officer: SignedIn, partner: SignedIn, now: dt.datetime
) -> None:
    one, other, _ = told_by_two(session, officer, partner, now)
    session.rollback()
    held = intake.operations(session, officer, officer.install_id, 1, 10_000, YARDSTICK)  # type: ignore[arg-type]
    (told,) = [each["resembles"] for each in held if each["record"] == one["record"]]
    assert [each["record"] for each in told] == [other["record"]]


def test_a_record_that_is_hidden_behind_another_without_a_word_is_found_out(
    session: Session, officer: SignedIn, partner: SignedIn, now: dt.datetime
) -> None:
    one, other, _ = told_by_two(session, officer, partner, now)
    begun(session)
    both = [uuid.UUID(one["record"]), uuid.UUID(other["record"])]
    session.add_all(Grouped(record_id=id, group_id=min(both)) for id in both)
    session.commit()
    with pytest.raises(Break, match="group"):
        list(verify(session))


def test_words_that_were_changed_are_found_out(
    session: Session, officer: SignedIn, partner: SignedIn, supervisor: SignedIn, now: dt.datetime
) -> None:
    one, other, _ = told_by_two(session, officer, partner, now)
    said(session, supervisor, "group", [one["record"], other["record"]], now)
    assert list(verify(session))
    begun(session)
    session.execute(update(Grouping).values(reason="别的理由"))
    session.commit()
    with pytest.raises(Break, match="grouping"):
        list(verify(session))


def test_a_record_without_a_place_is_found_by_its_vendor(
    session: Session, officer: SignedIn, partner: SignedIn, now: dt.datetime
) -> None:
    out, other_out = patrol(["officer"]), patrol(["partner"])
    one, other = seen(out) | {"fix": None}, seen(other_out, minutes=2)
    push(session, officer, batch(officer, out, one), now)
    push(session, partner, batch(partner, other_out, other), now)
    assert session.scalars(select(Incident.lon).where(Incident.id == uuid.UUID(one["record"]))).one() is None
    assert len(resemblances(session)) == 1
