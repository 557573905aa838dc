"""Who is known again by what, and what is remarked of those who were warned before."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from sync.models import Incident, Patrol, Resemblance, SignedIn, Vendor, VendorKey, VendorWarning
from sync.resemblances import read_weights
from sync.vendor_log import (
    Asked,
    asked_of,
    histories,
    keep_keys,
    later_records,
    repeat_notes,
    warned_by,
    weigh_vendors,
)
from sync.vendors import MOST_SHARING, Note, Warned
from tests.builders import GUALI, YINONG, make_item, make_lists, make_signed_in
from tests.counting import count_statements
from tests.sync.records import NOW, make_incident, make_patrol, make_warning
from tests.sync.street import STREET, WANG, group, hours_ago, make_vendor, warn


@pytest.fixture
def officer(session: Session) -> SignedIn:
    make_lists(session)
    return make_signed_in(session)


@pytest.fixture
def patrol(session: Session, officer: SignedIn) -> Patrol:
    return make_patrol(session, officer)


def as_asked(vendor: Vendor, *, items: Collection[str] = (STREET,), **parts: Any) -> Asked:
    """An incident that is happening now, told as its vendor was."""
    told = {name: getattr(vendor, name) for name in ("name", "phone", "stall", "plate")}
    id = uuid.uuid4()
    basis = {"record_id": id, "vendor_id": vendor.id, "told": told, "township": vendor.township_code}
    return Asked(**basis | {"occurred_at": NOW, "incident_id": id, "items": items} | parts)


def note_on(session: Session, asked: Asked, *unwritten: Warned) -> Note | None:
    session.flush()
    return repeat_notes(session, [asked], unwritten).get(asked.record_id)


# ---------------------------------------------------------------- keys


def kept(session: Session, vendor_id: uuid.UUID) -> set[str]:
    return set(session.scalars(select(VendorKey.key).where(VendorKey.vendor_id == vendor_id)))


def test_keys_of_new_and_known_vendors_are_kept_once(session: Session, officer: SignedIn) -> None:
    known, new = make_vendor(session, **WANG), uuid.uuid4()
    session.add(Vendor(id=new, created_at=NOW))
    session.flush()
    before = kept(session, known.id)
    told = [(known.id, GUALI, WANG), (known.id, GUALI, WANG | {"phone": "13800010002"}), (new, None, WANG)]
    assert keep_keys(session, [*told, *told], {new}) == {known.id, new}
    assert keep_keys(session, [*told, *told], set()) == set()
    assert kept(session, known.id) - before == {"phone:13800010002"}
    assert kept(session, new) == {"phone:13800010001", "plate:浙a12345", "name::wjg:wangjianguo"}


def test_nothing_told_of_a_vendor_is_no_key(session: Session, officer: SignedIn) -> None:
    vendor = make_vendor(session, name=" ", phone="无", stall="三轮车", plate="无牌")
    assert kept(session, vendor.id) == set()


# ---------------------------------------------------------------- whom a vendor is taken for


def test_a_vendor_warned_before_is_remarked_with_count_and_days(
    session: Session, patrol: Patrol, officer: SignedIn
) -> None:
    vendor = make_vendor(session, **WANG)
    warn(session, patrol, officer, vendor, dt.datetime(2026, 11, 19, 16, 30, tzinfo=dt.UTC))  # 00:30 in Xiaoshan
    warn(session, patrol, officer, vendor, hours_ago(3))
    note = note_on(session, as_asked(vendor))
    assert note is not None
    (step,) = note.pop("next_steps")
    assert note == {
        "code": "repeat-vendor",
        "vendor": str(vendor.id),
        "warnings": 2,
        "first_on": "2026-11-20",
        "last_on": "2026-11-23",
        "by": ["vendor"],
    }
    assert (step["item"], step["step"], step["warnings"], step["first"]) == (STREET, "warning", 2, False)


KNOWN_BY: list[tuple[dict[str, str | None], list[str] | None]] = [
    ({"phone": "+86 138 0001 0001"}, ["phone"]),
    ({"plate": "浙a·12345"}, ["plate"]),
    ({"stall": "a十二号摊", "name": "王建国"}, ["stall"]),
    ({"stall": "A12", "name": None}, ["stall"]),
    ({"stall": "A12", "name": "李秀英"}, None),
    ({"stall": "A12", "name": "王建国", "phone": "13911112222"}, None),
    ({"phone": "13800010001", "name": "李秀英"}, ["phone"]),
    ({"phone": "13800010001", "plate": "浙A12345"}, ["phone", "plate"]),
    ({"name": "王建国"}, None),
    ({"phone": "13800010002", "name": "王建国"}, None),
    ({"stall": "三轮车", "name": "王建国"}, None),
]


@pytest.mark.parametrize(("told", "by"), KNOWN_BY, ids=str)
def test_a_vendor_of_another_phone_is_known_again_by_number_or_stall_never_by_name(
    session: Session, patrol: Patrol, officer: SignedIn, told: dict[str, str | None], by: list[str] | None
) -> None:
    warn(session, patrol, officer, make_vendor(session, **WANG), hours_ago(3))
    note = note_on(session, as_asked(make_vendor(session, **told)))
    assert (note and note["by"]) == by


def test_a_stall_is_one_of_its_township(session: Session, patrol: Patrol, officer: SignedIn) -> None:
    warn(session, patrol, officer, make_vendor(session, stall="A12"), hours_ago(3))
    assert note_on(session, as_asked(make_vendor(session, YINONG, stall="A12"))) is None


def test_a_vendor_is_known_by_what_any_record_ever_told(session: Session, patrol: Patrol, officer: SignedIn) -> None:
    before, again = make_vendor(session, name="王建国"), make_vendor(session, name="老王")
    warn(session, patrol, officer, before, hours_ago(3))
    assert note_on(session, as_asked(again)) is None
    keep_keys(session, [(before.id, GUALI, {"phone": "13800010001"})], set())
    keep_keys(session, [(again.id, GUALI, {"phone": "13800010001"})], set())
    note = note_on(session, as_asked(again, told=None))
    assert note is not None
    assert note["by"] == ["phone"]


def test_what_a_record_tells_now_counts_before_it_is_kept(session: Session, patrol: Patrol, officer: SignedIn) -> None:
    warn(session, patrol, officer, make_vendor(session, phone="13800010001"), hours_ago(3))
    asked = as_asked(make_vendor(session), vendor_id=uuid.uuid4(), told={"phone": "138-0001-0001"})
    note = note_on(session, asked)
    assert note is not None
    assert (note["vendor"], note["by"]) == (str(asked.vendor_id), ["phone"])


def test_grouped_vendors_are_one_also_without_a_key(session: Session, patrol: Patrol, officer: SignedIn) -> None:
    nameless, named, third = make_vendor(session), make_vendor(session, name="王建国"), make_vendor(session, **WANG)
    warn(session, patrol, officer, nameless, hours_ago(3))
    group(session, nameless, named, third)
    for vendor, by in ((named, ["group"]), (make_vendor(session, phone=WANG["phone"]), ["group", "phone"])):
        note = note_on(session, as_asked(vendor))
        assert note is not None
        assert note["by"] == by


def test_a_number_that_too_many_have_is_nobodys(session: Session, patrol: Patrol, officer: SignedIn) -> None:
    warned = make_vendor(session, phone="88888888")
    warn(session, patrol, officer, warned, hours_ago(3))
    many = [make_vendor(session, phone="88888888") for _ in range(MOST_SHARING - 2)]
    assert note_on(session, as_asked(make_vendor(session, phone="88888888"))) is not None
    many.append(make_vendor(session, phone="88888888"))
    for asked in (as_asked(many[0]), as_asked(many[0], vendor_id=uuid.uuid4())):
        assert note_on(session, asked) is None
    two = [as_asked(many[0], vendor_id=uuid.uuid4()) for _ in range(2)]
    first = Warned(uuid.uuid4(), two[0].vendor_id, hours_ago(1), "education", uuid.uuid4())
    assert repeat_notes(session, two, [first]).keys() == {two[0].record_id}
    new = [as_asked(many[0], told={"phone": "11111111"}, vendor_id=uuid.uuid4()) for _ in range(MOST_SHARING + 1)]
    given = [Warned(uuid.uuid4(), new[0].vendor_id, hours_ago(1), "education", uuid.uuid4())]
    assert repeat_notes(session, new, given).keys() == {new[0].record_id}
    assert len(repeat_notes(session, new[1:], given)) == 0
    assert len(repeat_notes(session, new[:2], given)) == 2


def test_what_is_known_of_one_of_a_group_is_known_of_all(session: Session, patrol: Patrol, officer: SignedIn) -> None:
    nameless, named = make_vendor(session), make_vendor(session, phone="13800010001")
    group(session, nameless, named)
    warn(session, patrol, officer, make_vendor(session, phone="13800010001"), hours_ago(3))
    note = note_on(session, as_asked(nameless))
    assert note is not None
    assert note["by"] == ["group", "phone"]
    assert histories(session, [nameless.id])[nameless.id].recognisable


# ---------------------------------------------------------------- what counts


def test_warnings_of_one_event_count_once(session: Session, patrol: Patrol, officer: SignedIn) -> None:
    vendor = make_vendor(session, **WANG)
    first = warn(session, patrol, officer, vendor, hours_ago(5))
    make_warning(
        session, session.get_one(Incident, first.incident), officer, vendor_id=vendor.id, occurred_at=hours_ago(4)
    )
    second, third = (warn(session, patrol, officer, vendor, hours_ago(hours)) for hours in (3, 2))
    assert _count(session, vendor) == 3
    group(session, *(session.get_one(Incident, each.incident) for each in (second, third)))
    assert _count(session, vendor) == 2


def _count(session: Session, vendor: Vendor) -> int:
    note = note_on(session, as_asked(vendor))
    return 0 if note is None else int(note["warnings"])


def test_only_what_was_before_and_is_live_and_of_another_event_counts(
    session: Session, patrol: Patrol, officer: SignedIn
) -> None:
    vendor = make_vendor(session, **WANG)
    warn(session, patrol, officer, vendor, hours_ago(2), voided_at=NOW)
    warn(session, patrol, officer, vendor, NOW)
    own = warn(session, patrol, officer, vendor, hours_ago(1))
    assert note_on(session, as_asked(vendor, incident_id=own.incident)) is None
    twice = make_incident(session, patrol, officer)
    group(session, twice, session.get_one(Incident, own.incident))
    for one in (twice.id, own.incident):
        assert note_on(session, as_asked(vendor, incident_id=one)) is None
    assert note_on(session, as_asked(vendor)) is not None


def test_a_warning_that_names_no_vendor_was_given_to_its_incidents(
    session: Session, patrol: Patrol, officer: SignedIn
) -> None:
    vendor, other = make_vendor(session, **WANG), make_vendor(session)
    warn(session, patrol, officer, vendor, hours_ago(2), vendor_id=None)
    warn(session, patrol, officer, vendor, hours_ago(1), vendor_id=other.id)
    assert (_count(session, vendor), _count(session, other)) == (1, 1)


def test_a_warning_is_asked_about_and_counts_as_its_incident_tells(
    session: Session, patrol: Patrol, officer: SignedIn
) -> None:
    vendor = make_vendor(session, **WANG)
    met = make_incident(session, patrol, officer, items=[STREET], vendor_id=vendor.id, vendor={"id": "x"} | WANG)
    incident = columns(met)
    for named, told in ((None, met.vendor), (vendor.id, met.vendor), (make_vendor(session).id, None)):
        warning = columns(make_warning(session, met, officer, vendor_id=named, deadline_on=NOW.date(), voided_at=NOW))
        asked, warned = asked_of(warning, incident), warned_by(warning, incident)
        assert (asked.vendor_id, asked.told, asked.incident_id) == (named or vendor.id, told, met.id)
        assert (warned.vendor_id, warned.event, warned.live) == (named or vendor.id, met.id, False)
        assert (set(asked.items), warned.items, warned.deadline_on) == ({STREET}, {STREET}, NOW.date())
    assert asked_of(incident, incident).record_id == met.id


def columns(record: Incident | VendorWarning) -> dict[str, Any]:
    return {column.name: getattr(record, column.name) for column in record.__table__.columns}


def test_what_is_about_to_be_written_stands_in_for_what_is_stored(
    session: Session, patrol: Patrol, officer: SignedIn
) -> None:
    vendor = make_vendor(session, **WANG)
    stored = warn(session, patrol, officer, vendor, hours_ago(3))
    new = Warned(uuid.uuid4(), vendor.id, hours_ago(2), "warning", uuid.uuid4(), frozenset({STREET}))
    note = note_on(session, as_asked(vendor), new)
    assert note is not None
    assert (note["warnings"], note["next_steps"][0]["step"]) == (2, "order_correction")
    twice = make_incident(session, patrol, officer)
    group(session, twice, session.get_one(Incident, stored.incident))
    for event, events in ((twice.id, 1), (stored.incident, 1), (uuid.uuid4(), 2)):
        note = note_on(session, as_asked(vendor), replace(new, event=event))
        assert note is not None
        assert note["warnings"] == events
    voided = Warned(stored.id, vendor.id, stored.occurred_at, "education", stored.incident, live=False)
    assert note_on(session, as_asked(vendor), voided) is None
    moved = Warned(stored.id, uuid.uuid4(), stored.occurred_at, "education", stored.incident)
    assert note_on(session, as_asked(vendor), moved) is None


def test_two_vendors_that_are_both_new_are_known_by_what_their_batch_tells(session: Session, officer: SignedIn) -> None:
    told = {"phone": "13800010001"}
    met = [as_asked(Vendor(id=uuid.uuid4()), told=told), as_asked(Vendor(id=uuid.uuid4()), told=told)]
    given = Warned(uuid.uuid4(), met[0].vendor_id, hours_ago(1), "education", met[0].incident_id)
    notes = repeat_notes(session, met, [given])
    assert {id: note["by"] for id, note in notes.items()} == {met[1].record_id: ["phone"]}


def test_the_next_step_goes_by_the_edition_in_force_that_day(
    session: Session, patrol: Patrol, officer: SignedIn
) -> None:
    vendor, today = make_vendor(session, **WANG), NOW.date()
    old = make_item(session, "DEMO-SR-009", from_on=dt.date(2022, 1, 1), until_on=today)
    old.fine_modal, old.fine_condition = "无罚款", None
    warn(session, patrol, officer, vendor, hours_ago(3), items=["DEMO-SR-009"], step="order_correction")
    new = make_item(session, "DEMO-SR-009", delegated_to=(), from_on=today + dt.timedelta(days=1))
    new.fine_modal = "应当"
    new.until_on = today + dt.timedelta(days=1)
    days = ((0, "no-fine"), (1, "ordered-before"), (2, "ordered-before"))  # on the last none is in force: the newest
    for at, why in ((NOW + dt.timedelta(days=number), why) for number, why in days):
        note = note_on(session, as_asked(vendor, items=["DEMO-SR-009", "DEMO-SR-001"], occurred_at=at))
        assert note is not None
        assert [(step["item"], step["why"]) for step in note["next_steps"]] == [
            ("DEMO-SR-001", "nothing-earlier"),
            ("DEMO-SR-009", why),
        ]


# ---------------------------------------------------------------- who resembles whom


def weighed(session: Session, *vendors: Vendor) -> dict[frozenset[uuid.UUID], float]:
    weigh_vendors(session, [vendor.id for vendor in vendors], read_weights(), least_bits=0.0, now=NOW)
    session.expire_all()
    return {frozenset((row.one_id, row.other_id)): row.weight for row in session.scalars(select(Resemblance))}


def test_vendors_who_share_a_number_or_a_sound_are_weighed_and_kept(session: Session, officer: SignedIn) -> None:
    vendor = make_vendor(session, **WANG)
    by_phone = make_vendor(session, name="王师傅", phone=WANG["phone"])
    by_stall = make_vendor(session, name="王建國", stall="A12")
    for told in ({"name": "王建国"}, {"name": "王建国", "phone": "15957100000"}, {"stall": "A13"}, {"name": "王"}):
        make_vendor(session, **told)
    found = weighed(session, vendor)
    assert found.keys() == {frozenset((vendor.id, by_phone.id)), frozenset((vendor.id, by_stall.id))}
    (row, *_) = session.scalars(select(Resemblance).order_by(Resemblance.weight.desc()))
    assert (row.kind, row.one_id < row.other_id, row.evidence[0]["name"]) == ("vendor", True, "phone")
    assert weighed(session, by_phone, by_stall) == found
    session.delete(session.get_one(VendorKey, (f"phone:{WANG['phone']}", by_phone.id)))
    session.flush()
    assert weighed(session, by_phone).keys() == {frozenset((vendor.id, by_stall.id))}


def test_a_crowd_of_one_name_is_not_weighed(session: Session, officer: SignedIn) -> None:
    stalls = [make_vendor(session, name="王建国", stall="A12") for _ in range(MOST_SHARING)]
    assert len(weighed(session, stalls[0])) == MOST_SHARING - 1
    make_vendor(session, name="王建国", stall="A12")
    assert weighed(session, stalls[0]) == {}


# ---------------------------------------------------------------- whose notes change


def test_records_after_a_warning_that_came_late_are_found(session: Session, patrol: Patrol, officer: SignedIn) -> None:
    vendor, same = make_vendor(session, **WANG), make_vendor(session, phone=WANG["phone"])
    other = make_vendor(session, name="王建国")
    earlier, later = (warn(session, patrol, officer, vendor, hours_ago(hours)) for hours in (9, 3))
    by_phone = make_incident(session, patrol, officer, occurred_at=hours_ago(2), vendor_id=same.id)
    unnamed = make_warning(session, by_phone, officer, occurred_at=hours_ago(2))
    make_incident(session, patrol, officer, occurred_at=hours_ago(1), vendor_id=same.id, voided_at=NOW)
    make_warning(session, by_phone, officer, occurred_at=hours_ago(1), vendor_id=same.id, voided_at=NOW)
    make_incident(session, patrol, officer, occurred_at=hours_ago(1), vendor_id=other.id)
    late = Warned(uuid.uuid4(), vendor.id, hours_ago(5), "education", uuid.uuid4())
    expected = [("incident", by_phone.id), ("incident", later.incident), ("warning", later.id), ("warning", unnamed.id)]
    assert later_records(session, [late]) == sorted(expected)
    much_later = Warned(uuid.uuid4(), other.id, hours_ago(20), "education", uuid.uuid4(), live=False)
    assert len(later_records(session, [late, much_later])) == len(expected) + 1
    assert earlier.id not in {id for _, id in later_records(session, [late, much_later])}


# ---------------------------------------------------------------- cost


def test_the_number_of_queries_does_not_grow(
    engine: Engine, session: Session, patrol: Patrol, officer: SignedIn
) -> None:
    vendors = [make_vendor(session, phone=f"138{n:08}", stall=f"A{n}") for n in range(30)]
    for vendor in vendors:
        warn(session, patrol, officer, vendor, hours_ago(24))
    session.commit()
    warned = [Warned(uuid.uuid4(), vendor.id, hours_ago(72), "education", uuid.uuid4()) for vendor in vendors]
    for several in ([], vendors[:1], vendors):
        asked, told = [as_asked(vendor) for vendor in several], [(vendor.id, GUALI, WANG) for vendor in several]
        with count_statements(engine) as counted:
            assert len(repeat_notes(session, asked, warned if several else ())) == len(several)
            session.commit()
        assert counted.statements == (4 if several else 0)
        with count_statements(engine) as counted:
            assert len(later_records(session, warned[: len(several)])) == 2 * len(several)
            session.commit()
        assert counted.statements == (3 if several else 0)
        with count_statements(engine) as counted:
            weigh_vendors(session, [id for id, *_ in told], read_weights(), least_bits=0.0, now=NOW)
            session.commit()
        assert counted.statements == (3 if several else 0)
        with count_statements(engine) as counted:
            keep_keys(session, told, set())
            session.commit()
        assert counted.statements == (0, 2)[bool(several)]


def test_of_a_vendor_never_warned_nobody_asks_what_items_provide(
    engine: Engine, session: Session, officer: SignedIn
) -> None:
    asked = as_asked(make_vendor(session, **WANG))
    session.commit()
    with count_statements(engine) as counted:
        assert repeat_notes(session, [asked], []) == {}
    assert counted.statements == 3
