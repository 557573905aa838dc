"""Who may look up which vendors, how they are found, and what is told of one."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from sync import vendor_shapes
from sync.models import EnforcementItem, Patrol, Resemblance, SignedIn, Vendor
from sync.problems import Forbidden, NotFound, QueryInvalid
from sync.resemblances import Yardstick, read_weights
from sync.vendor_cards import Selection, find, one
from tests.builders import GUALI, YINONG, make_lists, make_signed_in
from tests.counting import count_statements
from tests.sync.records import NOW, make_incident, make_patrol, make_warning
from tests.sync.street import STREET, WANG, group, hours_ago, make_vendor, warn

YARDSTICK = Yardstick(read_weights(), {"patrol": 0.9, "incident": 0.9, "warning": 0.9, "vendor": 0.95})


@pytest.fixture
def officer(session: Session) -> SignedIn:
    make_lists(session)
    return make_signed_in(session)


@pytest.fixture
def patrol(session: Session, officer: SignedIn) -> Patrol:
    return make_patrol(session, officer)


@pytest.fixture
def supervisor(session: Session, officer: SignedIn) -> SignedIn:
    return make_signed_in(session, username="supervisor", role="supervisor")


@pytest.fixture
def reviewer(session: Session, officer: SignedIn) -> SignedIn:
    return make_signed_in(session, username="reviewer", role="reviewer", townships=())


def found(session: Session, who: SignedIn, **asked: str) -> list[str]:
    session.flush()
    return [card["id"] for card in find(session, who, Selection(**asked), limit=500).items]


def look_at(session: Session, who: SignedIn, vendor: Vendor) -> dict[str, Any]:
    session.flush()
    told = one(session, who, vendor.id, YARDSTICK, now=NOW)
    plain: dict[str, Any] = orjson.loads(orjson.dumps(told))
    assert vendor_shapes.OneVendorDocument().validate(plain) == {}
    return plain


# ---------------------------------------------------------------- who may see whom

ROLES = {
    "officer": ("own", "here"),
    "auxiliary": ("here",),
    "supervisor": ("own", "here", "warned here"),
    "reviewer": ("own", "here", "warned here", "elsewhere"),
    "gis": ("own", "here", "warned here", "elsewhere"),
    "admin": ("own", "here", "warned here", "elsewhere"),
    "auditor": ("own", "here", "warned here", "elsewhere"),
}


@pytest.mark.parametrize("role", ROLES)
def test_a_vendor_is_seen_by_the_township_and_by_who_sees_a_record_of_it(
    session: Session, officer: SignedIn, role: str
) -> None:
    who = officer if role == "officer" else make_signed_in(session, username=role, role=role)
    stranger = make_signed_in(session, username="stranger", townships=[YINONG])
    vendors = {
        "own": make_vendor(session, YINONG),
        "here": make_vendor(session),
        "warned here": make_vendor(session, None),
        "elsewhere": make_vendor(session, YINONG),
    }
    make_incident(session, make_patrol(session, officer), officer, vendor_id=vendors["own"].id)
    there = make_incident(session, make_patrol(session, stranger, township_code=YINONG), stranger, township_code=YINONG)
    make_warning(session, there, stranger, vendor_id=vendors["warned here"].id)
    assert set(found(session, who)) == {str(vendors[name].id) for name in ROLES[role]}
    for name, vendor in vendors.items():
        if name in ROLES[role]:
            assert look_at(session, who, vendor)["id"] == str(vendor.id)
        else:
            with pytest.raises(NotFound):
                one(session, who, vendor.id, YARDSTICK, now=NOW)
    with pytest.raises(NotFound):
        one(session, who, uuid.uuid4(), YARDSTICK, now=NOW)


@pytest.mark.parametrize("role", ROLES)
def test_telephones_and_plates_are_masked_but_for_who_decides(session: Session, officer: SignedIn, role: str) -> None:
    who = officer if role == "officer" else make_signed_in(session, username=role, role=role)
    vendor, other = make_vendor(session, **WANG), make_vendor(session, **WANG)
    group(session, vendor, other)
    told = look_at(session, who, vendor)
    (card,) = find(session, who, Selection(), limit=5).items
    whole = role in ("supervisor", "reviewer", "admin")
    for side in (told, *told["members"], card):
        assert (side["name"], side["stall"]) == (WANG["name"], WANG["stall"])
        assert side["phone"] == (WANG["phone"] if whole else "138****0001")
        assert side["plate"] == (WANG["plate"] if whole else "浙A****5")
    assert whole or WANG["phone"] not in str(told)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("asked", ["phone", "plate"])
def test_whose_a_number_is_may_be_asked_by_who_decides(
    session: Session, officer: SignedIn, role: str, asked: str
) -> None:
    who = officer if role == "officer" else make_signed_in(session, username=role, role=role)
    vendor = make_vendor(session, **WANG)
    if role in ("supervisor", "reviewer"):
        assert found(session, who, **{asked: WANG[asked]}) == [str(vendor.id)]
    else:
        with pytest.raises(Forbidden):
            found(session, who, **{asked: WANG[asked]})


# ---------------------------------------------------------------- how they are found

#: What finds 王建国 of WANG, and what doesn't.
FINDS: list[tuple[dict[str, str], bool]] = [
    ({"phone": "+86 138 0001 0001"}, True),
    ({"phone": "13800010002"}, False),
    ({"plate": "浙a·12345"}, True),
    ({"stall": "a十二号摊"}, True),
    ({"stall": "A-12", "township": YINONG}, False),
    ({"stall": "a1"}, False),
    ({"name": "王建国"}, True),
    ({"name": "王建國"}, True),
    ({"name": "汪建国"}, True),
    ({"name": "王建"}, True),
    ({"name": "王师傅"}, True),
    ({"name": "wangjianguo"}, True),
    ({"name": "Wang Jian"}, True),
    ({"name": "wjg"}, True),
    ({"name": "wj"}, True),
    ({"name": "建国"}, False),
    ({"name": "jg"}, False),
    ({"name": "李秀英"}, False),
    ({"name": "330109113"}, False),
    ({"name": "wjg", "phone": "13800010001", "township": GUALI}, True),
    ({"name": "wjg", "phone": "13800010002"}, False),
    ({"township": GUALI}, True),
    ({"township": YINONG}, False),
    ({"township": "x"}, False),
]


@pytest.mark.parametrize(("asked", "finds"), FINDS, ids=str)
def test_a_vendor_is_found_however_it_is_written(
    session: Session, supervisor: SignedIn, asked: dict[str, str], finds: bool
) -> None:
    vendor = make_vendor(session, **WANG)
    assert found(session, supervisor, **asked) == ([str(vendor.id)] if finds else [])


@pytest.mark.parametrize(
    "asked",
    [{"phone": "无"}, {"phone": "123456"}, {"plate": "无牌"}, {"stall": "三轮车"}, {"stall": "%"}, {"name": "%_"}],
    ids=str,
)
def test_what_no_vendor_is_known_by_is_nothing_to_ask_for(
    session: Session, supervisor: SignedIn, asked: dict[str, str]
) -> None:
    with pytest.raises(QueryInvalid):
        found(session, supervisor, **asked)


def test_who_is_known_by_a_surname_only_is_found_by_it(session: Session, supervisor: SignedIn) -> None:
    vendor = make_vendor(session, name="王师傅")
    assert found(session, supervisor, name="王") == found(session, supervisor, name="w") == [str(vendor.id)]
    assert found(session, supervisor, name="王建国") == []


def test_pages_neither_lose_nor_repeat_a_vendor(session: Session, supervisor: SignedIn) -> None:
    vendors = [make_vendor(session, created_at=hours_ago(n // 3)) for n in range(10)]
    group(session, vendors[0], vendors[9])
    group(session, vendors[3], vendors[4], vendors[5])
    seen, cursor = list[str](), None
    while True:
        page = find(session, supervisor, Selection(), limit=2, cursor=cursor)
        seen += [card["id"] for card in page.items]
        cursor = page.next
        if cursor is None:
            break
    counted = sorted(set(vendors) - {vendors[0]} - set(_but_first(vendors[3:6])), key=_newest_first)
    assert seen == [str(vendor.id) for vendor in counted]
    with pytest.raises(QueryInvalid):
        find(
            session,
            supervisor,
            Selection(name="王"),
            limit=2,
            cursor=find(session, supervisor, Selection(), limit=2).next,
        )


def _newest_first(vendor: Vendor) -> tuple[float, int]:
    return -vendor.created_at.timestamp(), -vendor.id.int


def _but_first(vendors: list[Vendor]) -> list[Vendor]:
    return sorted(vendors, key=_newest_first)[:-1]


def test_a_group_is_shown_by_the_first_that_is_asked_for_and_may_be_seen(
    session: Session, supervisor: SignedIn, reviewer: SignedIn
) -> None:
    first = make_vendor(session, YINONG, created_at=hours_ago(3), phone="13911112222")
    second = make_vendor(session, created_at=hours_ago(2), name="王建国")
    third = make_vendor(session, created_at=hours_ago(1), name="李秀英")
    group(session, first, second, third)
    assert found(session, reviewer) == [str(first.id)]
    assert found(session, supervisor) == found(session, reviewer, township=GUALI) == [str(second.id)]
    assert found(session, supervisor, name="李秀英") == [str(third.id)]
    (card,) = find(session, supervisor, Selection(), limit=5).items
    assert card["group"] == {"id": str(min(first.id, second.id, third.id)), "records": [str(second.id), str(third.id)]}


# ---------------------------------------------------------------- what is told of one


def test_a_card_tells_how_often_a_vendor_was_warned(
    session: Session, officer: SignedIn, patrol: Patrol, supervisor: SignedIn
) -> None:
    vendor, same = make_vendor(session, **WANG), make_vendor(session, phone=WANG["phone"])
    warn(session, patrol, officer, vendor, dt.datetime(2026, 11, 19, 16, 30, tzinfo=dt.UTC))
    warn(session, patrol, officer, same, hours_ago(3))
    warn(session, patrol, officer, same, hours_ago(2), voided_at=NOW)
    make_vendor(session, name="王建国")
    session.flush()
    cards = {card["id"]: card for card in find(session, supervisor, Selection(), limit=5).items}
    page = orjson.loads(orjson.dumps({"items": list(cards.values()), "next": None}))
    assert vendor_shapes.VendorsDocument().validate(page) == {}
    told = {"events": 2, "first_on": dt.date(2026, 11, 20), "last_on": dt.date(2026, 11, 23)}
    assert cards[str(vendor.id)]["warned"] == cards[str(same.id)]["warned"] == told
    assert [card["warned"]["events"] for card in cards.values()].count(0) == 1


def test_one_vendor_is_told_with_all_that_counts(
    session: Session, officer: SignedIn, patrol: Patrol, supervisor: SignedIn, reviewer: SignedIn
) -> None:
    vendor = make_vendor(session, **WANG)
    by_phone, grouped = make_vendor(session, phone=WANG["phone"]), make_vendor(session, YINONG)
    group(session, vendor, grouped)
    ordered = warn(
        session, patrol, officer, vendor, hours_ago(50), step="order_correction", deadline_on=dt.date(2026, 11, 22)
    )
    taught = warn(session, patrol, officer, by_phone, hours_ago(80))
    stranger = make_signed_in(session, username="stranger", townships=[YINONG])
    away = make_patrol(session, stranger, township_code=YINONG)
    there = make_incident(session, away, stranger, township_code=YINONG, occurred_at=hours_ago(10))
    make_warning(session, there, stranger, vendor_id=grouped.id, township_code=YINONG, occurred_at=hours_ago(10))
    item = session.scalars(select(EnforcementItem).where(EnforcementItem.code == STREET)).one()
    item.fine_condition, item.fine_modal = "拒不改正", "可以"
    told = look_at(session, supervisor, vendor)
    assert told["warned"] == {"events": 3, "first_on": "2026-11-20", "last_on": "2026-11-23"}
    assert told["taken_for"] == [{"vendor": str(by_phone.id), "by": ["phone"]}]
    assert (told["group"]["records"], told["members"]) == ([str(vendor.id)], [])
    assert told["warnings"] == [
        {
            "id": str(ordered.id),
            "incident": str(ordered.incident),
            "event": str(ordered.incident),
            "vendor": str(vendor.id),
            "occurred_at": "2026-11-21T06:15:00.000Z",
            "township_code": GUALI,
            "items": [STREET],
            "step": "order_correction",
            "deadline_on": "2026-11-22",
            "response": None,
        },
        told["warnings"][1] | {"id": str(taught.id), "step": "education"},
    ]
    (step,) = told["next_steps"]
    assert (step["item"], step["step"], step["why"], step["first"]) == (STREET, "case", "order-refused", False)
    whole = look_at(session, reviewer, vendor)
    assert (len(whole["warnings"]), [member["id"] for member in whole["members"]]) == (3, [str(grouped.id)])
    assert whole["taken_for"] == sorted(
        [{"vendor": str(by_phone.id), "by": ["phone"]}, {"vendor": str(grouped.id), "by": ["group"]}],
        key=lambda each: each["vendor"],
    )


@pytest.mark.parametrize(("told", "first"), [(WANG, True), ({"name": "王建国"}, None), ({}, None)], ids=str)
def test_a_first_offence_is_told_of_who_can_be_recognised(
    session: Session, officer: SignedIn, patrol: Patrol, told: dict[str, str], first: bool | None
) -> None:
    vendor = make_vendor(session, **told)
    make_incident(session, patrol, officer, items=[STREET], vendor_id=vendor.id)
    (step,) = look_at(session, officer, vendor)["next_steps"]
    assert (step["step"], step["warnings"], step["first"]) == ("education", 0, first)


def test_a_warning_of_the_township_is_told_to_the_officers_there(
    session: Session, officer: SignedIn, patrol: Patrol
) -> None:
    colleague, elsewhere = (
        make_signed_in(session, username=name, townships=[code])
        for name, code in (("colleague", GUALI), ("elsewhere", YINONG))
    )
    vendor = make_vendor(session)
    warning = warn(session, patrol, officer, vendor, hours_ago(3))
    assert [each["id"] for each in look_at(session, colleague, vendor)["warnings"]] == [str(warning.id)]
    make_incident(session, make_patrol(session, elsewhere), elsewhere, vendor_id=vendor.id)
    told = look_at(session, elsewhere, vendor)
    assert (told["warnings"], told["warned"]["events"]) == ([], 1)


def test_whom_a_vendor_resembles_is_told_as_far_as_it_may_be_seen(
    session: Session, supervisor: SignedIn, reviewer: SignedIn
) -> None:
    vendor, here, away = make_vendor(session), make_vendor(session), make_vendor(session, YINONG)
    for other, weight in ((here, 6.0), (away, 5.0), (make_vendor(session), 1.0)):
        pair = sorted((vendor.id, other.id))
        found_at = {"evidence": [], "weights": "1", "found_at": NOW}
        session.add(Resemblance(one_id=pair[0], other_id=pair[1], kind="vendor", weight=weight, **found_at))
    assert [each["vendor"] for each in look_at(session, supervisor, vendor)["resembles"]] == [str(here.id)]
    told = look_at(session, reviewer, vendor)["resembles"]
    assert [each["vendor"] for each in told] == [str(here.id), str(away.id)]
    assert told[0]["score"] > told[1]["score"] > 0.95
    group(session, vendor, here)
    assert [each["vendor"] for each in look_at(session, reviewer, vendor)["resembles"]] == [str(away.id)]


def test_the_number_of_queries_does_not_grow(
    engine: Engine, session: Session, officer: SignedIn, patrol: Patrol, supervisor: SignedIn
) -> None:
    vendors = [make_vendor(session, phone=f"138{n:08}", name=f"王{n}") for n in range(30)]
    group(session, *vendors[:3])
    for vendor in vendors:
        warn(session, patrol, officer, vendor, hours_ago(3))
    session.commit()
    for limit in (1, 30):
        with count_statements(engine) as counted:
            assert len(find(session, supervisor, Selection(name="w"), limit=limit).items) == min(limit, 28)
            session.commit()
        assert counted.statements == 5
    for id in (vendors[0].id, vendors[9].id):
        session.commit()
        with count_statements(engine) as counted:
            one(session, supervisor, id, YARDSTICK, now=NOW)
            session.commit()
        assert counted.statements == 10
