"""Who takes part in the demo. Names, phones and plates are invented so that they can be nobody's.

Phone numbers begin with 100, a prefix no operator has; plates hold a character that no plate has.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from sync import accounts
from sync.clock import local_day
from sync.models import Account

YINONG, GUALI, NANYANG, JINGJIANG = "330109115", "330109113", "330109006", "330109005"
ONE_YEAR = dt.timedelta(days=365)


@dataclass(frozen=True)
class Person:
    """An account of the demo; `card` says whether an officer's card is valid or has expired last month."""

    username: str
    full_name: str
    role: str
    townships: tuple[str, ...] = ()
    card: str | None = None


PEOPLE = (
    Person("demo-officer", "演示队员甲", "officer", (YINONG,), "valid"),
    Person("demo-officer2", "演示队员乙", "officer", (YINONG,), "valid"),
    Person("demo-officer3", "演示队员丙", "officer", (GUALI,), "expired"),
    Person("demo-officer4", "演示队员丁", "officer", (NANYANG, JINGJIANG), "valid"),
    Person("demo-auxiliary", "演示辅助人员", "auxiliary", (YINONG,)),
    Person("demo-supervisor", "演示中队长", "supervisor", (YINONG, GUALI), "valid"),
    Person("demo-gis", "演示测绘人员", "gis"),
    Person("demo-admin", "演示管理员", "admin"),
)


def add_people(session: Session, password: str, *, now: dt.datetime) -> None:
    """Everyone has an account with this password, those who had one included."""
    known = set(session.scalars(select(Account.username)))
    for person in PEOPLE:
        if person.username in known:
            accounts.set_password(session, person.username, password, now=now)
        else:
            _add(session, person, password, now)


def _add(session: Session, person: Person, password: str, now: dt.datetime) -> None:
    last_day = local_day(now) + (ONE_YEAR if person.card == "valid" else -dt.timedelta(days=30))
    card: dict[str, Any] = {
        "card_number": f"DEMO-{person.username}",
        "card_from_on": last_day - 3 * ONE_YEAR,
        "card_until_on": last_day,
    }
    accounts.add(
        session,
        person.username,
        password,
        full_name=person.full_name,
        role=person.role,
        townships=person.townships,
        now=now,
        **(card if person.card else {}),
    )


def vendor(number: int) -> dict[str, Any]:
    """A street vendor, the same for the same number on every phone."""
    return {
        "id": str(UUID(int=Random(f"vendor {number}").getrandbits(128), version=4)),
        "name": f"演示摊主{number:03d}",
        "phone": f"100{number:08d}",
        "stall": ("三轮车", "推车", "地摊", "面包车")[number % 4],
        "plate": f"浙A演{number:04d}",
    }
