"""Decides: whether a vendor is one who was met before, and which step may come next.

Every phone gives a vendor an id of its own, so one who was met by two officers has two. A vendor is known again by a
telephone, a plate or a stall, never by the name alone: in a township there is more than one 王伟. What is told of a
repeat is counted, and the next step proposed from the ladder (education, warning, order to correct, case) by the
provision of the item. Neither is ever decided here: who is on the spot decides.

Pure. Days are calendar days in Asia/Shanghai.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sync.clock import local_day
from sync.enforcement import in_force
from sync.fellegi_sunter import Comparators, Table
from sync.likeness import STANDING_M, WITHIN, Likeness, explained
from sync.names import (
    name_level,
    normal_name,
    normal_phone,
    normal_plate,
    normal_stall,
    phone_level,
    plate_level,
    sound,
    stall_level,
)
from sync.places import UNDECLARED_ACCURACY_M, distance_m

Note = dict[str, Any]
#: What a record tells of a vendor: `name`, `phone`, `stall`, `plate`, as far as they are told.
Told = Mapping[str, Any]

#: The code of the note on a record of a vendor who was warned before.
REPEAT = "repeat-vendor"
#: By what a vendor is known again: what the keys begin with.
KNOWN_AGAIN = ("phone:", "plate:", "stall:")
#: By what a vendor is found, which is not to say known. Of whom only a surname is told there are too many to compare.
NAME, SURNAME = "name:", "surname:"
#: Who sells from a cart moves about within this, m. ESTIMATE: the streets around a building site or a school.
NEAR_M = 1_000.0
#: Characters of a key at most: no telephone, plate, stall or name that means one is longer, and an index takes no more.
LONGEST_KEY = 100
_NUMBERED = re.compile("[0-9][a-z]?$")
#: What so many vendors share is nobody's: a number that is typed where none is known. ESTIMATE.
MOST_SHARING = 20


# ---------------------------------------------------------------- by what a vendor is known


def keys(told: Told, township: str | None) -> list[str]:
    """By what a vendor is known again: `phone:13805710001`, `plate:浙a12345`, `stall:330109113:a12`; never the name.

    A stall is one of a township, and its name ends with a number: half of them sell from a 三轮车.
    """
    phone, plate = normal_phone(told.get("phone") or ""), normal_plate(told.get("plate") or "")
    stall = normal_stall(told.get("stall") or "") if township else None
    numbered = _NUMBERED.search(stall or "")
    found = (phone and f"phone:{phone}", plate and f"plate:{plate}", numbered and f"stall:{township}:{stall}")
    return [key[:LONGEST_KEY] for key in found if key]


def name_keys(told: Told, township: str | None) -> list[str]:
    """How a vendor of this name is found: by sound, `name:330109113:wjg:wangjianguo` or `surname:330109113:w:wang`."""
    name = told.get("name") or ""
    syllables = sound(name).split()
    if not syllables:
        return []
    kind = NAME if len(normal_name(name)) > 1 else SURNAME
    initials = "".join(syllable[0] for syllable in syllables)
    return [f"{kind}{township or ''}:{initials}:{''.join(syllables)}"[:LONGEST_KEY]]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a vendor: as first told, where met, and all `keys` that any record gave."""

    id: uuid.UUID
    name: str | None = None
    phone: str | None = None
    plate: str | None = None
    stall: str | None = None
    township: str | None = None
    lon: float | None = None
    lat: float | None = None
    error_m: float | None = None
    keys: frozenset[str] = frozenset()


def recognised(told: Known, others: Iterable[Known]) -> dict[uuid.UUID, frozenset[str]]:
    """Which of these vendors this one is taken for when a note is written, and by what: `phone`, `plate`, `stall`.

    An equal telephone or plate is enough. Stalls are let to others: an equal one counts unless something contradicts.
    """
    found = {other.id: _shared(told, other) for other in others}
    return {id: by for id, by in found.items() if by}


def _shared(one: Known, other: Known) -> frozenset[str]:
    shared = frozenset(key.partition(":")[0] for key in one.keys & other.keys if key.startswith(KNOWN_AGAIN))
    return shared - {"stall"} if "stall" in shared and _contradict(one, other) else shared


def _contradict(one: Known, other: Known) -> bool:
    return "differs" in (
        name_level(one.name, other.name),
        phone_level(one.phone, other.phone),
        plate_level(one.plate, other.plate),
    )


# ---------------------------------------------------------------- how much two vendors resemble each other


def same_vendor(one: Known, other: Known, table: Table) -> Likeness:
    """How much two vendors resemble each other, and why: for a person to decide, never by the name alone."""
    return explained("vendor", one, other, COMPARATORS, _values, table)


def _number(kind: str, level: Callable[[str | None, str | None], str | None]) -> Callable[[Known, Known], str | None]:
    """How far their telephones or plates agree: equal if any record gave both the same."""

    def compared(one: Known, other: Known) -> str | None:
        same = any(key.startswith(kind) for key in one.keys & other.keys if key.startswith(KNOWN_AGAIN))
        return "equal" if same else level(getattr(one, kind[:-1]), getattr(other, kind[:-1]))

    return compared


def _stall(one: Known, other: Known) -> str | None:
    return stall_level(one.stall, other.stall) if one.township == other.township else None


def _apart_m(one: Known, other: Known) -> float | None:
    if one.lon is None or one.lat is None or other.lon is None or other.lat is None:
        return None
    return distance_m(one.lon, one.lat, other.lon, other.lat)


def _place(one: Known, other: Known) -> str | None:
    apart_m = _apart_m(one, other)
    if apart_m is None:
        return None
    error_m = math.hypot(one.error_m or UNDECLARED_ACCURACY_M, other.error_m or UNDECLARED_ACCURACY_M, STANDING_M)
    return "here" if apart_m <= WITHIN * error_m else "near" if apart_m <= NEAR_M else "far"


#: What is compared of two vendors, and at which levels they may agree in it.
COMPARATORS: Comparators[Known] = {
    "phone": _number("phone:", phone_level),
    "plate": _number("plate:", plate_level),
    "name": lambda one, other: name_level(one.name, other.name),
    "stall": _stall,
    "place": _place,
}
LEVELS: Mapping[str, tuple[str, ...]] = {
    "phone": ("equal", "similar", "differs"),
    "plate": ("equal", "similar", "differs"),
    "name": ("equal", "same-sound", "similar", "differs"),
    "stall": ("equal", "similar", "differs"),
    "place": ("here", "near", "far"),
}


def _values(name: str, one: Known, other: Known) -> tuple[Any, Any] | Mapping[str, Any]:
    if name == "place":
        return {"distance_m": round(_apart_m(one, other) or 0.0, 1)}
    return getattr(one, name), getattr(other, name)


# ---------------------------------------------------------------- who was warned before


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning as it counts for its vendor. `event` is its incident, or the group that is one with others; `items` are
    the incident's. One that is not `live` was voided, or is no vendor's any more."""

    id: uuid.UUID
    vendor_id: uuid.UUID
    occurred_at: dt.datetime
    step: str
    event: uuid.UUID
    items: frozenset[str] = frozenset()
    deadline_on: dt.date | None = None
    response: str | None = None
    live: bool = True


@dataclass(frozen=True, slots=True)
class Rule:
    """What an edition of an item provides: as in the list, with the penalty articles of its provisions in order."""

    item: str
    first_step: str | None
    fine_condition: str | None
    fine_modal: str | None
    from_on: dt.date | None = None
    until_on: dt.date | None = None
    articles: tuple[str, ...] = ()


#: The editions of items, newest first, by code.
Rules = Mapping[str, Sequence[Rule]]


def repeat_note(
    occurred_at: dt.datetime,
    vendor_id: uuid.UUID,
    event: uuid.UUID,
    items: Collection[str],
    warnings: Sequence[tuple[Warned, Collection[str]]],
    rules: Rules,
) -> Note | None:
    """The note `repeat-vendor` on a record of this vendor and event: how often the vendor was warned before it, when
    first and last, by what the vendor is known again, and the next step proposed for each of its items.

    `warnings` are those of this vendor and of whom it is taken for, each with by what. Those of one event count once,
    those of the record's own event not at all. `None` if there are none.
    """
    earlier = [(w, by) for w, by in warnings if w.live and w.occurred_at < occurred_at and w.event != event]
    if not earlier:
        return None
    counted, day = [w for w, _ in earlier], local_day(occurred_at)
    return {
        "code": REPEAT,
        "vendor": str(vendor_id),
        "warnings": count_events(counted),
        "first_on": local_day(min(w.occurred_at for w in counted)).isoformat(),
        "last_on": local_day(max(w.occurred_at for w in counted)).isoformat(),
        "by": sorted({word for _, by in earlier for word in by}),
        "next_steps": next_steps(items, counted, rules, day, recognisable=True),
    }


def count_events(warnings: Iterable[Warned]) -> int:
    """In how many events these warnings were given."""
    return len({w.event for w in warnings})


# ---------------------------------------------------------------- which step may come next


def next_steps(
    items: Iterable[str], warnings: Sequence[Warned], rules: Rules, day: dt.date, *, recognisable: bool
) -> list[Note]:
    """The next step proposed for each of these items in order, by its edition of that day, else the newest."""
    editions = {code: rules[code] for code in sorted(set(items)) if rules.get(code)}
    return [next_step(_in_force(each, day), warnings, day, recognisable=recognisable) for each in editions.values()]


def _in_force(editions: Sequence[Rule], day: dt.date) -> Rule:
    return next((rule for rule in editions if in_force(rule, day)), editions[0])


def next_step(rule: Rule, warnings: Sequence[Warned], day: dt.date, *, recognisable: bool) -> Note:
    """The step that the ladder and the item's provision propose on that day, after these warnings of the vendor.

    Only warnings on the same item count: who was taught about rubbish was not ordered to move a stall. `why` is a code,
    `articles` the provision's where it provides this very step. `first` says whether this is the first offence
    (初次违法, which may go without a penalty: 行政处罚法 2021, art. 33): true of a vendor who can be recognised and was
    never warned; false after a warning on this item; null where nobody can tell, be it after warnings on other items or
    on none, or of a vendor who is known by name only.
    """
    same = [w for w in warnings if rule.item in w.items]
    step, why = _proposed(rule, same, day)
    return {
        "item": rule.item,
        "step": step,
        "why": why,
        "articles": list(rule.articles) if _provides(rule, step) else [],
        "warnings": count_events(same),
        "first": False if same else None if warnings or not recognisable else True,
    }


def _proposed(rule: Rule, same: Sequence[Warned], day: dt.date) -> tuple[str, str]:
    """One rung above what was reached; a rung that the provision does not have is passed over, or not reached."""
    reached = {w.step for w in same}
    if not reached:
        return "education", "nothing-earlier"
    if reached == {"education"}:
        return "warning", "taught-before"
    orders = [w for w in same if w.step == "order_correction"]
    if not orders and (_orders(rule) or _unfined(rule)):
        return "order_correction", "warned-before"
    return _after_order(rule, orders, day)


def _orders(rule: Rule) -> bool:
    return "责令" in (rule.first_step or "")


def _unfined(rule: Rule) -> str | None:
    """Why no case can end with a fine, if none can."""
    return None if rule.fine_modal in ("可以", "应当") else _UNFINED.get(rule.fine_modal or "", "unclear")


#: 无罚款: an order and nothing more. 转致: another law punishes it.
_UNFINED = {"无罚款": "no-fine", "转致": "other-law"}


def _after_order(rule: Rule, orders: Sequence[Warned], day: dt.date) -> tuple[str, str]:
    """A case only where the item has a fine and its condition is met; what is no condition is met."""
    if unfined := _unfined(rule):
        return "order_correction", unfined
    condition = rule.fine_condition or ""
    for begins, met, so, else_ in _CONDITIONS:
        if condition.startswith(begins):
            return ("case", so) if any(met(order, day) for order in orders) else ("order_correction", else_)
    if condition:
        return "order_correction", "condition-for-a-person"
    return "case", "ordered-before" if orders else "fine-without-order"


def _is_overdue(order: Warned, day: dt.date) -> bool:
    return order.deadline_on is not None and order.deadline_on < day


def _is_refused(order: Warned, day: dt.date) -> bool:
    return order.response == "refused" or _is_overdue(order, day)


#: What a fine's condition begins with, what of an earlier order meets it, and why then, and why not yet.
_CONDITIONS: tuple[tuple[str, Callable[[Warned, dt.date], bool], str, str], ...] = (
    ("拒不", _is_refused, "order-refused", "order-not-refused"),
    ("逾期", _is_overdue, "order-overdue", "order-not-overdue"),
)


def _provides(rule: Rule, step: str) -> bool:
    """Whether the provision itself knows this step: teaching is always allowed and is no provision's."""
    if step == "case":
        return True
    word = {"warning": "警告", "order_correction": "责令"}.get(step)
    return word is not None and word in (rule.first_step or "")
