"""Which item was in force, who may act on it that day, and what is remarked otherwise."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from sync.enforcement import (
    Delegated,
    Item,
    Lists,
    Place,
    Township,
    crew_notes,
    in_force,
    link_item,
    officer_notes,
    place_notes,
    township_notes,
)
from tests.builders import GUALI, YINONG, YIPENG

FIRST, LAST = dt.date(2022, 1, 1), dt.date(2025, 12, 31)
DAY = dt.timedelta(days=1)
CODE = "DEMO-SR-001"


def item(id: int, from_on: dt.date | None, until_on: dt.date | None) -> Item:
    return Item(id, CODE, f"第{id}版", "市容环卫", "zhzf", from_on, until_on)


LISTS = Lists(
    townships={
        GUALI: Township(GUALI, "瓜沥镇", None, None, None),
        YIPENG: Township(YIPENG, "义蓬街道", None, dt.date(2021, 4, 8), "330114004"),
    },
    items={CODE: (item(2, LAST + 31 * DAY, None), item(1, FIRST, LAST))},
    delegations={
        (GUALI, CODE): (Delegated(12, dt.date(2024, 6, 1), None), Delegated(11, FIRST, dt.date(2023, 12, 31))),
    },
    departments={"zhzf": "综合行政执法局"},
    places={"P": Place("P", GUALI, FIRST, LAST)},
    event_classes=frozenset(),
)

IN_FORCE: list[tuple[dt.date | None, dt.date | None, dt.date, bool]] = [
    (FIRST, LAST, FIRST, True),
    (FIRST, LAST, FIRST - DAY, False),
    (FIRST, LAST, LAST, True),
    (FIRST, LAST, LAST + DAY, False),
    (FIRST, FIRST, FIRST, True),
    (None, LAST, dt.date.min, True),
    (None, LAST, LAST + DAY, False),
    (FIRST, None, dt.date.max, True),
    (FIRST, None, FIRST - DAY, False),
    (None, None, FIRST, True),
]


@pytest.mark.parametrize(("from_on", "until_on", "day", "valid"), IN_FORCE)
def test_the_first_and_the_last_day_count(from_on: Any, until_on: Any, day: dt.date, valid: bool) -> None:
    assert in_force(Delegated(1, from_on, until_on), day) is valid


#: day, township, edition, delegation, codes
LINKS: list[tuple[dt.date, str | None, int, int | None, set[str]]] = [
    (FIRST, GUALI, 1, 11, set()),
    (dt.date(2023, 12, 31), GUALI, 1, 11, set()),
    (dt.date(2024, 1, 1), GUALI, 1, None, {"not-delegated"}),
    (dt.date(2024, 5, 31), GUALI, 1, None, {"not-delegated"}),
    (dt.date(2024, 6, 1), GUALI, 1, 12, set()),
    (LAST, GUALI, 1, 12, set()),
    # Between two editions: linked to the newest, and said.
    (LAST + DAY, GUALI, 2, 12, {"item-not-in-force"}),
    (LAST + 31 * DAY, GUALI, 2, 12, set()),
    (FIRST - DAY, GUALI, 2, None, {"item-not-in-force", "not-delegated"}),
    (FIRST, YINONG, 1, None, {"not-delegated"}),
    # No township, nothing to say about who may act.
    (FIRST, None, 1, None, set()),
    (FIRST - DAY, None, 2, None, {"item-not-in-force"}),
]


@pytest.mark.parametrize(("day", "township", "edition", "delegation_id", "codes"), LINKS)
def test_an_item_is_linked_as_of_its_day(
    day: dt.date, township: str | None, edition: int, delegation_id: int | None, codes: set[str]
) -> None:
    link, notes = link_item(LISTS, CODE, township, day)
    assert (link.item.id, link.delegation_id) == (edition, delegation_id)
    assert {note["code"] for note in notes} == codes
    assert link.referred_to == ("zhzf" if "not-delegated" in codes else None)


def test_who_may_not_act_is_told_who_may() -> None:
    _, notes = link_item(LISTS, CODE, YINONG, FIRST)
    refer_to = {"code": "zhzf", "name": "综合行政执法局"}
    assert notes == [{"code": "not-delegated", "item": CODE, "township": YINONG, "refer_to": refer_to}]


TOWNSHIPS: list[tuple[str | None, dt.date, list[dict[str, Any]]]] = [
    (None, FIRST, []),
    (GUALI, FIRST, []),
    (YIPENG, dt.date(2021, 4, 8), []),
    (YIPENG, dt.date(2021, 4, 9), [{"code": "township-retired", "chosen": YIPENG, "successor": "330114004"}]),
]


@pytest.mark.parametrize(("chosen", "day", "notes"), TOWNSHIPS)
def test_a_retired_township_is_remarked_with_its_successor(chosen: str | None, day: dt.date, notes: Any) -> None:
    assert township_notes(LISTS, chosen, day) == notes


@pytest.mark.parametrize(
    ("code", "day", "remarked"),
    [(None, FIRST, False), ("P", FIRST, False), ("P", LAST, False), ("P", LAST + DAY, True), ("P", FIRST - DAY, True)],
)
def test_a_place_that_was_not_in_use_is_remarked(code: str | None, day: dt.date, remarked: bool) -> None:
    expected = [{"code": "place-not-in-force", "place": "P"}] if remarked else []
    assert place_notes(LISTS, code, day) == expected


CARD = Delegated(1, FIRST, LAST)
ENDLESS = Delegated(1, LAST, None)
EXPIRED = {"code": "card-expired", "until_on": "2025-12-31"}
OFFICERS: list[tuple[str, Any, dt.date, bool, list[dict[str, Any]]]] = [
    ("officer", CARD, LAST, True, []),
    ("officer", CARD, LAST + DAY, True, [EXPIRED]),
    ("officer", CARD, LAST + DAY, False, [EXPIRED]),
    ("officer", CARD, FIRST - DAY, True, [EXPIRED]),
    ("officer", ENDLESS, FIRST, True, [{"code": "card-expired", "until_on": None}]),
    ("officer", None, LAST + DAY, True, []),
    ("auxiliary", None, FIRST, False, []),
    ("auxiliary", None, FIRST, True, [{"code": "auxiliary-decided"}]),
    ("auxiliary", CARD, LAST + DAY, True, [EXPIRED, {"code": "auxiliary-decided"}]),
    ("supervisor", CARD, LAST, True, []),
]


@pytest.mark.parametrize(("role", "card", "day", "decides", "notes"), OFFICERS)
def test_a_card_that_was_not_valid_and_an_auxiliary_who_decides_are_remarked(
    role: str, card: Any, day: dt.date, decides: bool, notes: Any
) -> None:
    assert officer_notes(role, card, day, decides=decides) == notes


@pytest.mark.parametrize(("officers", "remarked"), [(0, True), (1, True), (2, False), (7, False)])
def test_the_law_asks_for_two_officers(officers: int, remarked: bool) -> None:
    expected = [{"code": "single-officer", "officers": officers, "required": 2}] if remarked else []
    assert crew_notes(officers) == expected
