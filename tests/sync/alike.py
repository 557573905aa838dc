"""One event that reaches the server twice, for tests of what is alike: sent again, or told by two officers."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.orm import Session

from sync import group_review, inbox, patrol_log, wire
from sync.models import Account, Resemblance, SignedIn, begin_read, begin_write
from sync.patrol_log import Selection
from sync.problems import Problem
from tests.builders import make_installation
from tests.sync.days import IN_GUALI, YARDSTICK, incident

Json = dict[str, Any]

VENDOR = {"name": "王建国", "phone": "10000012345", "stall": "煎饼3号"}
PHOTO = {"sha256": "ab" * 32, "bytes": 3, "type": "image/jpeg", "role": "before"}
#: When what happens at minute 0 happened, by all clocks of a phone.
_WALL, _MONO_MS = dt.datetime.fromisoformat("2026-11-23T08:00:00+08:00"), 1_000_000


def at(minutes: float) -> Json:
    """So many minutes after eight in the morning, by a clock that counts truly."""
    wall = (_WALL + dt.timedelta(minutes=minutes)).isoformat()
    return {"wall": wall, "mono_ms": _MONO_MS + round(minutes * 60_000), "boot": "7"}


def near(metres_east: float) -> Json:
    """A fix so far from where most of it happens."""
    return {**IN_GUALI, "lon": 120.46 + metres_east / 96_377}


def seen(of: Json, *, minutes: float = 0, metres: float = 0, photos: Sequence[Json] = (), **body: Any) -> Json:
    """The vendor at the stall, as an officer writes it down; every phone gives vendors ids of its own."""
    vendor = {"id": str(uuid.uuid4())} | VENDOR
    return incident(of, fix=near(metres), photos=photos, **{"vendor": vendor} | body) | {"at": at(minutes)}


def again(operation: Json, of: Json | None = None) -> Json:
    """The same record as a reinstalled app sends it: only the ids are new; `of` is what it hangs on now."""
    body = dict(operation["body"])
    if of is not None:
        body["patrol" if "patrol" in body else "incident"] = of["record"]
    if isinstance(body.get("vendor"), dict):
        body["vendor"] = body["vendor"] | {"id": str(uuid.uuid4())}
    return {**operation, "op": str(uuid.uuid4()), "record": str(uuid.uuid4()), "body": body}


def reinstalled(session: Session, who: SignedIn) -> SignedIn:
    """The same officer on another installation."""
    installation = make_installation(session, session.get_one(Account, who.account_id))
    session.commit()
    return SignedIn(who.account_id, who.username, who.role, who.townships, installation.id)


def resemblances(session: Session) -> dict[tuple[str, str], float]:
    """The weight of every pair that is kept."""
    session.rollback()
    rows = session.execute(select(Resemblance.one_id, Resemblance.other_id, Resemblance.weight))
    return {(str(one), str(other)): weight for one, other, weight in rows}


def listed(session: Session, who: SignedIn, kind: str = "incident", **selection: Any) -> list[Json]:
    """The list, as its JSON; that it counts what it shows is asserted."""
    session.rollback()
    begin_read(session)
    found = patrol_log.page(session, who, kind, Selection(**selection), limit=100)
    assert patrol_log.count(session, who, kind, Selection(**selection)) == len(found.items)
    session.rollback()
    return orjson.loads(orjson.dumps(found.items))  # type: ignore[no-any-return]


def ids(found: Sequence[Json]) -> list[str]:
    return [each["id"] for each in found]


def proposed(session: Session, who: SignedIn, now: dt.datetime, **page: Any) -> list[Json]:
    """The pairs that wait for this account, as the inbox tells them; that it counts them is asserted."""
    session.rollback()
    begin_read(session)
    found = inbox.page(session, who, "alike", YARDSTICK, **{"limit": 50, "cursor": None} | page, now=now)
    session.rollback()
    if not page:
        assert found.counts["alike"] == len(found.items)
    return orjson.loads(orjson.dumps(found.items))  # type: ignore[no-any-return]


def said(
    session: Session,
    who: SignedIn,
    action: str,
    records: Sequence[Any],
    now: dt.datetime,
    *,
    version: int = 1,
    **more: Any,
) -> Json:
    """What was decided on these records and committed; a refusal leaves nothing behind."""
    named = [{"id": str(record), "version": version} for record in records]
    body = {"action": action, "records": named, "reason": "核对照片后认定"} | more
    read = wire.read_decision(orjson.dumps(body), wire.GroupingShape())
    session.rollback()
    begin_write(session)
    try:
        answer = group_review.decide(session, who, read, now=now)
    except Problem:
        session.rollback()
        raise
    session.commit()
    return orjson.loads(orjson.dumps(answer))  # type: ignore[no-any-return]
