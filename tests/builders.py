"""Rows to begin a test with: small, with the figures that matter visible at the call.

Each adds to the session and flushes, so that ids are known; committing is the test's business. Township codes and names
are real, their areas here are plain boxes; people and `DEMO-` items are invented.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable

from sqlalchemy.orm import Session

from sync.models import (
    Account,
    Base,
    Delegation,
    Department,
    DesignatedPlace,
    EnforcementItem,
    EventClass,
    Installation,
    Posting,
    SignedIn,
    Township,
    TownshipArea,
)

GUALI = "330109113"
YINONG = "330109115"
#: Retired in 2021, now 330114004 in 钱塘区.
YIPENG = "330109007"
#: (west, south, east, north), WGS 84: the two lie side by side along 120.51° E.
BOXES = {GUALI: (120.42, 30.14, 120.51, 30.22), YINONG: (120.51, 30.14, 120.63, 30.24)}
SINCE = dt.date(2022, 1, 1)
CREATED_AT = dt.datetime(2026, 1, 5, 1, 0, tzinfo=dt.UTC)


def make_townships(session: Session) -> None:
    """瓜沥镇 and 益农镇 with their areas, and 义蓬街道, which left the district in 2021."""
    _add(
        session,
        Township(code=GUALI, name="瓜沥镇", kind="镇", pinyin="gua li"),
        Township(code=YINONG, name="益农镇", kind="镇", pinyin="yi nong"),
        Township(code=YIPENG, name="义蓬街道", kind="街道", until_on=dt.date(2021, 4, 8), successor_code="330114004"),
    )
    areas = [
        TownshipArea(township_code=code, edition="demo", synthetic=True, geometry=box_area(*box))
        for code, box in BOXES.items()
    ]
    _add(session, *areas)


def box_area(west: float, south: float, east: float, north: float) -> dict[str, object]:
    """A rectangle as a GeoJSON Polygon."""
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def make_account(
    session: Session,
    *,
    username: str = "officer",
    role: str = "officer",
    townships: Iterable[str] = (GUALI,),
    card_until_on: dt.date | None = dt.date(2027, 12, 31),
    password_hash: str = "!",
) -> Account:
    """An account posted to these townships since 2022. Nobody can sign in with the hash it has unless one is given."""
    account = Account(
        username=username,
        full_name=f"测试 {username}",
        role=role,
        password_hash=password_hash,
        card_number="DEMO-0001",
        card_from_on=SINCE,
        card_until_on=card_until_on,
        created_at=CREATED_AT,
    )
    _add(session, account)
    _add(session, *(Posting(account_id=account.id, township_code=code, from_on=SINCE) for code in townships))
    return account


def make_installation(session: Session, account: Account) -> Installation:
    """A phone of this account that has never sent anything."""
    installation = Installation(
        id=uuid.uuid4(), account_id=account.id, created_at=CREATED_AT, received=[], unsent=[], next_n=1
    )
    _add(session, installation)
    return installation


def make_signed_in(
    session: Session, *, username: str = "officer", role: str = "officer", townships: Iterable[str] = (GUALI,)
) -> SignedIn:
    """Somebody with an account and a phone, as a view would hand them on."""
    codes = frozenset(townships)
    account = make_account(session, username=username, role=role, townships=codes)
    installation = make_installation(session, account)
    return SignedIn(account.id, username, role, codes, installation.id)


def make_item(
    session: Session,
    code: str = "DEMO-SR-001",
    *,
    delegated_to: Iterable[str] = (GUALI,),
    from_on: dt.date = SINCE,
    until_on: dt.date | None = None,
) -> EnforcementItem:
    """An enforcement item, delegated to these townships for as long as it is in force."""
    if session.get(Department, "zhzf") is None:
        _add(session, Department(code="zhzf", name="综合行政执法局"))
    item = EnforcementItem(
        code=code,
        name="对擅自占用城市人行道设摊经营的处理",
        domain="市容环卫",
        scope="comprehensive",
        department_code="zhzf",
        first_step="责令改正",
        event_classes=["09001"],
        synthetic=True,
        from_on=from_on,
        until_on=until_on,
    )
    _add(session, item)
    for township in delegated_to:
        _add(session, Delegation(township_code=township, item_code=code, from_on=from_on, until_on=until_on))
    return item


def make_place(session: Session, code: str = "DEMO-PLACE-1", *, until_on: dt.date | None = None) -> DesignatedPlace:
    """A designated place in 瓜沥镇."""
    place = DesignatedPlace(
        code=code,
        township_code=GUALI,
        name="示范摊贩疏导点",
        geometry={"type": "Point", "coordinates": [120.46, 30.18]},
        hours="06:00-09:00",
        synthetic=True,
        from_on=SINCE,
        until_on=until_on,
    )
    _add(session, place)
    return place


def make_event_class(session: Session, edition: str = "GB/T 47678.5-2026", code: str = "09001") -> EventClass:
    """A class of the national list of events."""
    kind = EventClass(edition=edition, code=code, name="无照经营游商", group_code="09", group_name="街面秩序类")
    _add(session, kind)
    return kind


def make_lists(session: Session) -> None:
    """Everything an incident may point to: townships, an item of 瓜沥镇, a designated place, an event class."""
    make_townships(session)
    make_item(session)
    make_place(session)
    make_event_class(session)


def _add(session: Session, *rows: Base) -> None:
    session.add_all(rows)
    session.flush()
