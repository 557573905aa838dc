"""Which vendors may be whom: what is told of each, who shares a key with whom, and who is one with whom.

Read for all vendors of a transaction at once: first what they are known by, then who else has that. Whom one of them is
taken for is decided in `vendors`.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import CompoundSelect, Uuid, and_, cast, func, null, or_, select, union, union_all
from sqlalchemy.orm import Session, aliased

from sync.models import Grouped, Vendor, VendorKey, among
from sync.vendors import KNOWN_AGAIN, MOST_SHARING, Known, Told, keys, recognised

#: What tells vendors at one stall apart.
_SAID = ("name", "phone", "plate")


@dataclass(slots=True)
class Circle:
    """Vendors, and those that they may be taken for. `nobodys` are keys that too many have; `groups` also holds the
    events that were asked for."""

    said: dict[uuid.UUID, Known] = field(default_factory=dict)
    keys: dict[uuid.UUID, set[str]] = field(default_factory=lambda: defaultdict(set))
    holders: dict[str, set[uuid.UUID]] = field(default_factory=lambda: defaultdict(set))
    nobodys: set[str] = field(default_factory=set)
    groups: dict[uuid.UUID, uuid.UUID] = field(default_factory=dict)
    members: dict[uuid.UUID, set[uuid.UUID]] = field(default_factory=lambda: defaultdict(set))

    def hear(self, told: Known, *known_by: str) -> None:
        """What else is told of a vendor; what was told first stays."""
        before = self.said.setdefault(told.id, told)
        new = {name: getattr(told, name) for name in _SAID if getattr(before, name) is None}
        if any(new.values()):
            self.said[told.id] = replace(before, **new)
        for key in known_by:
            self.keys[told.id].add(key)
            self.holders[key].add(told.id)

    def group(self, id: uuid.UUID, group_id: uuid.UUID) -> None:
        """A vendor or event is one with all of this group."""
        self.groups[id] = group_id
        self.members[group_id].add(id)

    def group_of(self, id: uuid.UUID) -> uuid.UUID:
        """What stands for a vendor or event, and for all that are one with it."""
        return self.groups.get(id, id)

    def known(self, id: uuid.UUID) -> Known:
        """What is known of a vendor."""
        return replace(self.said[id], keys=frozenset(self.keys[id]))

    def sharing(self, id: uuid.UUID) -> set[uuid.UUID]:
        """Who else has a key of this vendor's, but for keys that too many have."""
        shared = (self.holders[key] for key in self.keys[id] - self.nobodys)
        return set[uuid.UUID]().union(*(holders for holders in shared if len(holders) <= MOST_SHARING)) - {id}

    def taken_for(self, vendor_id: uuid.UUID) -> dict[uuid.UUID, set[str]]:
        """Who this vendor is, as far as anybody can tell, and by what: whoever is one with it, and whoever one of those
        is taken for."""
        found: dict[uuid.UUID, set[str]] = {vendor_id: {"vendor"}}
        for each in self._one_with(vendor_id):
            grouped = set() if each == vendor_id else {"group"}
            found.setdefault(each, grouped)
            for other, by in self._recognised(each).items():
                for member in self._one_with(other):
                    found.setdefault(member, set()).update(by, grouped, set() if member == other else {"group"})
        return found

    def is_recognisable(self, vendor_id: uuid.UUID) -> bool:
        """Whether there is anything but a name that it is known by."""
        return any(self.keys[each] - self.nobodys for each in self._one_with(vendor_id))

    def _one_with(self, id: uuid.UUID) -> set[uuid.UUID]:
        return self.members.get(self.group_of(id), {id})

    def _recognised(self, id: uuid.UUID) -> Mapping[uuid.UUID, frozenset[str]]:
        others = self.sharing(id) - self._one_with(id)
        return recognised(self.known(id), map(self.known, others)) if others else {}


def circle_of(
    session: Session,
    vendors: Collection[uuid.UUID],
    events: Collection[uuid.UUID] = (),
    told: Iterable[tuple[uuid.UUID, str | None, Told]] = (),
    by: Sequence[str] = KNOWN_AGAIN,
) -> Circle:
    """The circle of these vendors by such keys, with what records tell of them now: (vendor, township, what is told);
    and what these events are one with. Two queries."""
    circle = Circle()
    for row in session.execute(_first_told(session, vendors, by)):
        circle.hear(Known(*row[:6]), *filter(None, [row.key]))
    for id, township, said in told:
        circle.hear(Known(id, said.get("name"), said.get("phone"), said.get("plate")), *keys(said, township))
    for row in session.execute(_sharing(session, circle.holders.keys(), {*vendors, *events})):
        if row.group_id is not None:
            circle.group(row.id, row.group_id)
        elif row.id is not None:
            circle.hear(Known(*row[:6]), row.key)
        else:
            circle.nobodys.add(row.key)
    return circle


#: The columns of a vendor in the order in which `Known` begins.
_COLUMNS = (Vendor.id, Vendor.name, Vendor.phone, Vendor.plate, Vendor.stall, Vendor.township_code)


def _first_told(session: Session, ids: Collection[uuid.UUID], by: Sequence[str]) -> CompoundSelect[Any]:
    """These vendors, and all that are one with them, as first told: a row for each key of such kinds, or one."""
    of_kind = or_(*(VendorKey.key.startswith(kind) for kind in by))
    asked = select(*_COLUMNS, VendorKey.key).outerjoin(VendorKey, and_(VendorKey.vendor_id == Vendor.id, of_kind))
    mine, theirs = aliased(Grouped), aliased(Grouped)
    together = asked.join(theirs, theirs.record_id == Vendor.id).join(mine, mine.group_id == theirs.group_id)
    return union_all(asked.where(among(session, Vendor.id, ids)), together.where(among(session, mine.record_id, ids)))


def _sharing(session: Session, known_by: Collection[str], ids: Collection[uuid.UUID]) -> CompoundSelect[Any]:
    """Who has these keys, as first told, without an id where too many have one; and (id, group_id) of all that is one
    with those, or with these vendors and events.

    The keys travel as one array: who else has them is found by them, not by reading all that are kept.
    """
    of_key = func.count().over(partition_by=VendorKey.key), func.row_number().over(partition_by=VendorKey.key)
    held = (
        select(VendorKey.key, VendorKey.vendor_id, of_key[0].label("holders"), of_key[1].label("place"))
        .where(among(session, VendorKey.key, known_by))
        .subquery()
    )
    few = held.c.holders <= MOST_SHARING
    sharing = (
        select(*_COLUMNS, held.c.key, cast(null(), Uuid()).label("group_id"))
        .select_from(held)
        .outerjoin(Vendor, and_(Vendor.id == held.c.vendor_id, few))
        .where(or_(few, held.c.place == 1))
        .cte("sharing")
    )
    mine = aliased(Grouped)
    of_these = union(
        select(mine.group_id).where(among(session, mine.record_id, ids)),
        select(mine.group_id).join(sharing, sharing.c.id == mine.record_id),
    )
    grouped = select(Grouped.record_id, *(null() for _ in _COLUMNS), Grouped.group_id)
    return union_all(select(sharing), grouped.where(Grouped.group_id.in_(of_these)))
