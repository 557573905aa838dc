"""Decides: which item was in force, may this township act on it that day, else refer to whom.

Pure: it is handed the lists (`Lists`, loaded by `reference`) and answers from them. Days are calendar days in
Asia/Shanghai; `from_on` and `until_on` are both inclusive and `None` means without end.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

#: An investigation needs at least two officers (行政处罚法 2021, art. 42).
OFFICERS_REQUIRED = 2
#: What an auxiliary may do alone; every further step is an officer's decision (行政处罚法 2021, art. 42).
ADVICE = frozenset({"education"})
#: Measures that decide something about somebody, as opposed to advice.
DECIDING_MEASURES = frozenset({"order_correction", "seize_goods"})

Note = dict[str, Any]


class Dated(Protocol):
    @property
    def from_on(self) -> dt.date | None: ...
    @property
    def until_on(self) -> dt.date | None: ...


@dataclass(frozen=True, slots=True)
class Township:
    code: str
    name: str
    from_on: dt.date | None
    until_on: dt.date | None
    successor_code: str | None


@dataclass(frozen=True, slots=True)
class Item:
    """One edition of an enforcement item; `id` is its row."""

    id: int
    code: str
    name: str
    domain: str
    department_code: str
    from_on: dt.date | None
    until_on: dt.date | None


@dataclass(frozen=True, slots=True)
class Delegated:
    id: int
    from_on: dt.date | None
    until_on: dt.date | None


@dataclass(frozen=True, slots=True)
class Place:
    code: str
    township_code: str
    from_on: dt.date | None
    until_on: dt.date | None


@dataclass(frozen=True, slots=True)
class Lists:
    """Everything that is looked up by a code and a day. Editions of one item stand newest first."""

    townships: Mapping[str, Township]
    items: Mapping[str, tuple[Item, ...]]
    delegations: Mapping[tuple[str, str], tuple[Delegated, ...]]
    departments: Mapping[str, str]
    places: Mapping[str, Place]
    event_classes: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Link:
    """What one code on a record means: the edition of the item, and who may act on it."""

    item: Item
    delegation_id: int | None
    referred_to: str | None


def in_force(thing: Dated, day: dt.date) -> bool:
    """Whether it was valid on that day."""
    return (thing.from_on is None or thing.from_on <= day) and (thing.until_on is None or day <= thing.until_on)


def link_item(lists: Lists, code: str, township_code: str | None, day: dt.date) -> tuple[Link, list[Note]]:
    """The item as of that day, and the notes it earns. An item not in force links to its newest edition.

    The code must be on some list (`code in lists.items`). Without a township nothing is said about delegation.
    """
    editions = lists.items[code]
    item = next((edition for edition in editions if in_force(edition, day)), None)
    notes: list[Note] = [] if item else [{"code": "item-not-in-force", "item": code}]
    item = item or editions[0]
    delegation_id = _delegation(lists, township_code, code, day)
    if township_code is None or delegation_id is not None:
        return Link(item, delegation_id, None), notes
    refer = {"code": item.department_code, "name": lists.departments[item.department_code]}
    notes.append({"code": "not-delegated", "item": code, "township": township_code, "refer_to": refer})
    return Link(item, None, item.department_code), notes


def _delegation(lists: Lists, township_code: str | None, code: str, day: dt.date) -> int | None:
    delegations = lists.delegations.get((township_code or "", code), ())
    return next((delegated.id for delegated in delegations if in_force(delegated, day)), None)


def township_notes(lists: Lists, chosen: str | None, day: dt.date) -> list[Note]:
    """A remark when the chosen code was retired by that day, with the code that followed it."""
    if chosen is None or in_force(lists.townships[chosen], day):
        return []
    return [{"code": "township-retired", "chosen": chosen, "successor": lists.townships[chosen].successor_code}]


def place_notes(lists: Lists, code: str | None, day: dt.date) -> list[Note]:
    """A remark when vendors were guided to a place that was not in use that day."""
    if code is None or in_force(lists.places[code], day):
        return []
    return [{"code": "place-not-in-force", "place": code}]


def officer_notes(role: str, card: Dated | None, day: dt.date, *, decides: bool) -> list[Note]:
    """Remarks on who acted: an expired card, an auxiliary who decided."""
    notes: list[Note] = []
    if card is not None and not in_force(card, day):
        until = card.until_on.isoformat() if card.until_on else None
        notes.append({"code": "card-expired", "until_on": until})
    if role == "auxiliary" and decides:
        notes.append({"code": "auxiliary-decided"})
    return notes


def crew_notes(officers: int) -> list[Note]:
    """A remark when fewer officers were out than the law asks for; auxiliaries do not count."""
    if officers >= OFFICERS_REQUIRED:
        return []
    return [{"code": "single-officer", "officers": officers, "required": OFFICERS_REQUIRED}]
