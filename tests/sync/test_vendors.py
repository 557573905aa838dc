"""Who is met again, and which step may come next."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync.fellegi_sunter import Table, check_known
from sync.resemblances import read_weights
from sync.vendors import (
    COMPARATORS,
    LEVELS,
    LONGEST_KEY,
    Known,
    Rule,
    Warned,
    keys,
    name_keys,
    next_step,
    recognised,
    repeat_note,
    same_vendor,
)
from tests.builders import GUALI, YINONG

NOW = dt.datetime(2026, 11, 23, 8, 15, tzinfo=dt.UTC)
TODAY = dt.date(2026, 11, 23)
YESTERDAY, TOMORROW = TODAY - dt.timedelta(days=1), TODAY + dt.timedelta(days=1)
STREET, RUBBISH = "DEMO-SR-001", "DEMO-SR-012"
_ids = itertools.count(1)


def new_id() -> uuid.UUID:
    return uuid.UUID(int=next(_ids))


# ---------------------------------------------------------------- by what a vendor is known

KEYS: list[tuple[dict[str, str | None], str | None, list[str]]] = [
    ({"phone": "+86 138-0571-0001"}, None, ["phone:13805710001"]),
    ({"phone": "１３８０５７１０００１"}, None, ["phone:13805710001"]),
    ({"phone": "没有", "plate": "无牌"}, GUALI, []),
    ({"plate": "浙A·12345"}, None, ["plate:浙a12345"]),
    ({"stall": "A-12号摊"}, GUALI, [f"stall:{GUALI}:a12"]),
    ({"stall": "a十二"}, YINONG, [f"stall:{YINONG}:a12"]),
    ({"stall": "12b"}, GUALI, [f"stall:{GUALI}:12b"]),
    ({"stall": "A-12"}, None, []),
    ({"stall": "三轮车"}, GUALI, []),
    ({"stall": "东门口"}, GUALI, []),
    ({"name": "王建国"}, GUALI, []),
    ({"name": None, "phone": None, "stall": None, "plate": None}, GUALI, []),
    ({}, GUALI, []),
]


@pytest.mark.parametrize(("told", "township", "expected"), KEYS, ids=str)
def test_keys_are_numbers_and_stalls_as_they_are_meant(
    told: dict[str, str | None], township: str | None, expected: list[str]
) -> None:
    assert keys(told, township) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("王建国", [f"name:{GUALI}:wjg:wangjianguo"]),
        ("王師傅", [f"surname:{GUALI}:w:wang"]),
        ("老王", [f"surname:{GUALI}:w:wang"]),
        ("單雄信", [f"name:{GUALI}:sxx:shanxiongxin"]),
        ("John", [f"name:{GUALI}:john:john"]),
        ("%_\\:", []),
        ("", []),
        (None, []),
    ],
)
def test_a_name_is_found_by_its_sound(name: str | None, expected: list[str]) -> None:
    assert name_keys({"name": name}, GUALI) == expected


_told = st.dictionaries(st.sampled_from(["name", "phone", "stall", "plate"]), st.none() | st.text(max_size=80))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the first text is drawn from all of Unicode
@given(_told)
def test_keys_of_whatever_people_write_are_short_and_always_the_same(told: dict[str, str | None]) -> None:
    found = [*keys(told, GUALI), *name_keys(told, GUALI)]
    assert found == [*keys(told, GUALI), *name_keys(told, GUALI)]
    assert all(len(key) <= LONGEST_KEY and "\0" not in key and "%" not in key for key in found)


def test_a_name_that_unfolds_into_a_long_one_has_a_short_key() -> None:
    assert [len(key) for key in name_keys({"name": "\ufdfa" * 80}, GUALI)] == [LONGEST_KEY]


def known(**told: Any) -> Known:
    return Known(new_id(), **told, keys=frozenset(keys(told, told.get("township"))))


WANG = {"name": "王建国", "phone": "13805710001", "plate": "浙A12345", "stall": "A12", "township": GUALI}
RECOGNISED: list[tuple[dict[str, str], set[str]]] = [
    (WANG, {"phone", "plate", "stall"}),
    ({"phone": "13805710001"}, {"phone"}),
    ({"phone": "13805710001", "name": "李秀英"}, {"phone"}),
    ({"plate": "浙A12345"}, {"plate"}),
    ({"stall": "A12", "township": GUALI}, {"stall"}),
    ({"stall": "A12", "township": GUALI, "name": "王师傅"}, {"stall"}),
    ({"stall": "A12", "township": GUALI, "name": "李秀英"}, set()),
    ({"stall": "A12", "township": GUALI, "plate": "浙A99999"}, set()),
    ({"stall": "A12", "township": GUALI, "phone": "13805710002"}, {"stall"}),  # one digit off is a slip
    ({"stall": "A12", "township": GUALI, "phone": "15957100000"}, set()),
    ({"stall": "A12", "township": YINONG}, set()),
    ({"stall": "A13", "township": GUALI}, set()),
    ({"name": "王建国", "township": GUALI}, set()),
    ({"phone": "13805710002", "name": "王建国", "township": GUALI}, set()),
]


@pytest.mark.parametrize(("told", "by"), RECOGNISED, ids=lambda case: str(sorted(case)))
def test_who_is_taken_for_whom_is_the_same_from_both_sides(told: dict[str, str], by: set[str]) -> None:
    one, other = known(**WANG), known(**told)
    assert recognised(one, [other]).get(other.id, frozenset()) == by
    assert recognised(other, [one]).get(one.id, frozenset()) == by


def test_nobody_is_recognised_by_what_finds_a_name() -> None:
    one, other = (Known(new_id(), keys=frozenset(name_keys({"name": "王建国"}, GUALI))) for _ in range(2))
    assert recognised(one, [other]) == {}


# ---------------------------------------------------------------- how much they resemble each other


@pytest.fixture(scope="module")
def table() -> Table:
    return read_weights()


def test_the_table_weighs_what_is_compared(table: Table) -> None:
    check_known(table.scales["vendor"], LEVELS)


NAME, PHONE = {"name": "王建国"}, {"phone": "13805710001"}
OTHER_NAME, OTHER_PHONE = {"name": "李秀英"}, {"phone": "15957100000"}
#: (what one tells, what the other tells, from which and until which score)
LIKE: list[tuple[str, dict[str, Any], dict[str, Any], float, float]] = [
    ("name, and nothing else", NAME, {"name": "王建國"}, 0.0, 0.2),
    ("phone", PHONE, {"phone": "138 0571 0001"}, 0.8, 0.9),
    ("phone and name", PHONE | NAME, PHONE | {"name": "王师傅"}, 0.95, 0.99),
    ("plate and name", {"plate": "浙A12345"} | NAME, {"plate": "浙a·12345"} | NAME, 0.95, 0.99),
    ("phone, of another name", PHONE | NAME, PHONE | OTHER_NAME, 0.0, 0.5),
    ("name and stall", NAME | {"stall": "A12"}, NAME | {"stall": "a十二号"}, 0.4, 0.8),
    ("stall of another township", NAME | {"stall": "A12"}, NAME | {"stall": "A12", "township": YINONG}, 0.0, 0.2),
    ("name, and another phone", NAME | PHONE, NAME | OTHER_PHONE, 0.0, 0.01),
    ("name and stall, and another plate", WANG | OTHER_PHONE, WANG | {"phone": None, "plate": "浙B99999"}, 0.0, 0.2),
    ("everything", WANG, WANG, 0.999, 1.0),
    ("nothing", {}, {}, 0.0, 0.05),
]


@pytest.mark.parametrize(("one", "other", "least", "most"), [c[1:] for c in LIKE], ids=[c[0] for c in LIKE])
def test_vendors_resemble_each_other_from_both_sides(
    table: Table, one: dict[str, Any], other: dict[str, Any], least: float, most: float
) -> None:
    first, second = known(**{"township": GUALI} | one), known(**{"township": GUALI} | other)
    answer = same_vendor(first, second, table)
    assert answer == same_vendor(second, first, table)
    assert least <= answer.score <= most
    assert round(sum(piece.weight for piece in answer.evidence), 2) == answer.weight
    assert {piece.name for piece in answer.evidence} - {"kind"} == {
        name for name in COMPARATORS if COMPARATORS[name](first, second)
    }


@given(st.text(max_size=6), st.text(max_size=6))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_two_vendors_are_the_same_by_their_names_alone(one: str, other: str) -> None:
    assert same_vendor(known(name=one), known(name=other), read_weights()).score < 0.5
    assert same_vendor(known(name=one), known(name=one), read_weights()).score < 0.5


def test_a_number_that_any_record_told_of_both_is_equal(table: Table) -> None:
    one, other = known(phone="13805710001"), known(phone="15957100000")
    both = replace(one, keys=one.keys | other.keys)
    assert {piece.level for piece in same_vendor(both, other, table).evidence} == {"equal", "vendor"}


HERE = {"lon": 120.46, "lat": 30.18, "error_m": 12.0}
PLACES = [
    ({"lon": 120.46, "lat": 30.18, "error_m": 20.0}, "here"),
    ({"lon": 120.4602, "lat": 30.18, "error_m": 20.0}, "here"),
    ({"lon": 120.465, "lat": 30.18, "error_m": 20.0}, "near"),
    ({"lon": 120.465, "lat": 30.18, "error_m": 700.0}, "here"),
    ({"lon": 120.56, "lat": 30.18, "error_m": 20.0}, "far"),
    ({"lon": None, "lat": None, "error_m": None}, None),
]


@pytest.mark.parametrize(("there", "level"), PLACES, ids=str)
def test_where_vendors_were_met_counts_against_both_errors(
    table: Table, there: dict[str, float | None], level: str | None
) -> None:
    answer = same_vendor(known(**HERE), known(**there), table)
    assert {piece.level for piece in answer.evidence if piece.name == "place"} == ({level} if level else set())


# ---------------------------------------------------------------- the ladder


def rule(
    first_step: str | None = "责令改正", condition: str | None = None, modal: str | None = "可以", item: str = STREET
) -> Rule:
    return Rule(item, first_step, condition, modal, articles=("某条例 第十六条第三款",))


def warned(step: str = "education", *, items: Collection[str] = (STREET,), **parts: Any) -> Warned:
    basis = {"id": new_id(), "vendor_id": new_id(), "occurred_at": NOW - dt.timedelta(days=3), "event": new_id()}
    return Warned(**basis | {"step": step, "items": frozenset(items)} | parts)


TAUGHT, ADMONISHED, CASE = warned("education"), warned("warning"), warned("case")
ORDERED = warned("order_correction")
REFUSED = warned("order_correction", response="refused")
OVERDUE = warned("order_correction", response="acknowledged", deadline_on=YESTERDAY)
DUE = warned("order_correction", deadline_on=TODAY)
REFUSED_BEFORE_DUE = warned("order_correction", response="refused", deadline_on=TOMORROW)

#: SR-001: an order, a fine only after a refusal.
REFUSAL = rule("责令改正", "拒不改正", "可以")
#: SR-002, SR-003: an order with a deadline, a fine once it has passed.
DEADLINE = rule("责令限期改正", "逾期不改正", "应当")
#: SR-006: an order and nothing more.
NO_FINE = rule("责令改正", None, "无罚款")
#: SR-012: a fine beside the order.
AT_ONCE = rule("责令改正", None, "应当")
#: SR-011: a fine and no order.
NO_ORDER = rule(None, None, "可以")
#: LJ-001: a fine only where it is grave.
GRAVE = rule("责令改正", "情节严重", "应当")
#: JZ-005: a warning is part of the penalty.
ADMONITION = rule("责令限期改正,警告", None, "应当")
#: TF-001: punished by another law.
OTHER_LAW = rule("依照相关法律、法规", None, "转致")
#: A list that does not say.
UNCLEAR = rule("责令改正", None, None)

LADDER: list[tuple[str, Rule, list[Warned], str, str, bool]] = [
    ("nothing yet", REFUSAL, [], "education", "nothing-earlier", False),
    ("taught", REFUSAL, [TAUGHT], "warning", "taught-before", False),
    ("taught often", REFUSAL, [TAUGHT, TAUGHT], "warning", "taught-before", False),
    ("warned", REFUSAL, [TAUGHT, ADMONISHED], "order_correction", "warned-before", True),
    ("ordered", REFUSAL, [ADMONISHED, ORDERED], "order_correction", "order-not-refused", True),
    ("refused", REFUSAL, [REFUSED], "case", "order-refused", True),
    ("let a deadline pass", REFUSAL, [OVERDUE], "case", "order-refused", True),
    ("refused once of two", REFUSAL, [REFUSED, ORDERED], "case", "order-refused", True),
    ("a refusal of advice is none", REFUSAL, [warned(response="refused")], "warning", "taught-before", False),
    ("due today", DEADLINE, [DUE], "order_correction", "order-not-overdue", True),
    ("refused before due", DEADLINE, [REFUSED_BEFORE_DUE], "order_correction", "order-not-overdue", True),
    ("refused without a deadline", DEADLINE, [REFUSED], "order_correction", "order-not-overdue", True),
    ("overdue", DEADLINE, [OVERDUE], "case", "order-overdue", True),
    ("no fine, warned", NO_FINE, [ADMONISHED], "order_correction", "warned-before", True),
    ("no fine, refused", NO_FINE, [REFUSED], "order_correction", "no-fine", True),
    ("no condition, warned", AT_ONCE, [ADMONISHED], "order_correction", "warned-before", True),
    ("no condition, ordered", AT_ONCE, [ORDERED], "case", "ordered-before", True),
    ("no order, taught", NO_ORDER, [TAUGHT], "warning", "taught-before", False),
    ("no order, warned", NO_ORDER, [ADMONISHED], "case", "fine-without-order", True),
    ("only if grave", GRAVE, [REFUSED, OVERDUE], "order_correction", "condition-for-a-person", True),
    ("a warning provided", ADMONITION, [TAUGHT], "warning", "taught-before", True),
    ("another law", OTHER_LAW, [ADMONISHED], "order_correction", "warned-before", False),
    ("another law, refused", OTHER_LAW, [REFUSED], "order_correction", "other-law", False),
    ("not said", UNCLEAR, [REFUSED], "order_correction", "unclear", True),
    ("a case without an order", REFUSAL, [CASE], "order_correction", "warned-before", True),
    ("a case after an order", REFUSAL, [REFUSED, CASE], "case", "order-refused", True),
    ("another item", REFUSAL, [warned("case", items=[RUBBISH])], "education", "nothing-earlier", False),
    ("no item", REFUSAL, [warned("case", items=[])], "education", "nothing-earlier", False),
    ("two items", REFUSAL, [warned("warning", items=[RUBBISH, STREET])], "order_correction", "warned-before", True),
]


@pytest.mark.parametrize(
    ("rule_", "earlier", "step", "why", "provided"), [c[1:] for c in LADDER], ids=[c[0] for c in LADDER]
)
def test_the_next_step_is_proposed_by_the_provision(
    rule_: Rule, earlier: list[Warned], step: str, why: str, provided: bool
) -> None:
    for order in (earlier, earlier[::-1]):
        proposed = next_step(rule_, order, TODAY, recognisable=True)
        assert (proposed["step"], proposed["why"]) == (step, why)
        assert proposed["articles"] == (["某条例 第十六条第三款"] if provided else [])


FIRST: list[tuple[str, list[Warned], bool, bool | None]] = [
    ("nothing found of one who can be recognised", [], True, True),
    ("nothing found of one known by name", [], False, None),
    ("warned on this item", [TAUGHT], True, False),
    ("warned on this item, known by name", [TAUGHT], False, False),
    ("warned on another item", [warned(items=[RUBBISH])], True, None),
    ("warned on no item", [warned(items=[])], True, None),
]


@pytest.mark.parametrize(("earlier", "recognisable", "first"), [c[1:] for c in FIRST], ids=[c[0] for c in FIRST])
def test_a_first_offence_is_checked_and_never_assumed(
    earlier: list[Warned], recognisable: bool, first: bool | None
) -> None:
    assert next_step(REFUSAL, earlier, TODAY, recognisable=recognisable)["first"] is first


# ---------------------------------------------------------------- the note


def test_a_note_tells_of_events_days_and_steps_and_of_nobody() -> None:
    vendor, event = new_id(), new_id()
    at = dt.datetime(2026, 11, 1, 15, 59, tzinfo=dt.UTC)
    warnings = [
        (warned(occurred_at=at), {"phone"}),  # 23:59 on the 1st in Xiaoshan
        (warned("warning", occurred_at=at + dt.timedelta(minutes=1), event=event), {"stall", "phone"}),
        (warned("education", occurred_at=at + dt.timedelta(minutes=1), event=event), {"stall"}),
    ]
    rules = {STREET: [REFUSAL], RUBBISH: [rule(item=RUBBISH)]}
    note = repeat_note(NOW, vendor, new_id(), [RUBBISH, STREET, STREET, "unknown"], warnings, rules)
    assert note is not None
    steps = note.pop("next_steps")
    assert [(each["item"], each["step"], each["warnings"], each["first"]) for each in steps] == [
        (STREET, "order_correction", 2, False),
        (RUBBISH, "education", 0, None),
    ]
    assert note == {
        "code": "repeat-vendor",
        "vendor": str(vendor),
        "warnings": 2,
        "first_on": "2026-11-01",
        "last_on": "2026-11-02",
        "by": ["phone", "stall"],
    }


def test_a_deadline_is_judged_on_the_day_of_the_record() -> None:
    order = [(warned("order_correction", deadline_on=TODAY), {"vendor"})]
    late = dt.datetime(2026, 11, 23, 16, 0, tzinfo=dt.UTC)  # midnight in Xiaoshan
    for at, step in ((late - dt.timedelta(seconds=1), "order_correction"), (late, "case")):
        note = repeat_note(at, new_id(), new_id(), [STREET], order, {STREET: [DEADLINE]})
        assert note is not None
        assert note["next_steps"][0]["step"] == step


NOT_COUNTED = {
    "void": warned(live=False),
    "at the same time": warned(occurred_at=NOW),
    "later": warned(occurred_at=NOW + dt.timedelta(hours=1)),
}


@pytest.mark.parametrize("warning", NOT_COUNTED.values(), ids=NOT_COUNTED.keys())
def test_what_does_not_count_is_no_repeat(warning: Warned) -> None:
    assert repeat_note(NOW, new_id(), new_id(), [], [(warning, {"vendor"})], {}) is None


def test_a_records_own_event_is_no_repeat() -> None:
    earlier = warned()
    assert repeat_note(NOW, new_id(), earlier.event, [], [(earlier, {"vendor"})], {}) is None
    assert repeat_note(NOW, new_id(), new_id(), [], [(earlier, {"vendor"})], {}) is not None
