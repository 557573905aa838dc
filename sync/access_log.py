"""Who took out what has to be accounted for, such as the original of a photo: entered before it leaves."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from sync.models import AccessEntry, Account, SignedIn

#: Rows fetched at once: the log grows for ever.
_CHUNK = 500


class Entry(NamedTuple):
    """Who did what to which entity, when, and from which address."""

    at: dt.datetime
    username: str
    action: str
    entity: str
    address: str | None
    details: dict[str, Any]


def enter(
    session: Session,
    who: SignedIn,
    action: str,
    entity: str,
    details: Mapping[str, Any],
    *,
    address: str | None,
    now: dt.datetime,
) -> None:
    """The log says who takes this out, as soon as the caller has committed."""
    entry = {"at": now, "account_id": who.account_id, "action": action, "entity": entity}
    session.execute(insert(AccessEntry).values(**entry, details=dict(details), address=address))


def entries(session: Session, *, entity: str | None = None, since_at: dt.datetime | None = None) -> Iterator[Entry]:
    """What was entered, oldest first, of one entity or of all; read piece by piece."""
    columns = (AccessEntry.action, AccessEntry.entity, AccessEntry.address, AccessEntry.details)
    asked = select(AccessEntry.at, Account.username, *columns).join(Account, Account.id == AccessEntry.account_id)
    if entity is not None:
        asked = asked.where(AccessEntry.entity == entity)
    if since_at is not None:
        asked = asked.where(AccessEntry.at >= since_at)
    ordered = asked.order_by(AccessEntry.at, AccessEntry.id).execution_options(yield_per=_CHUNK)
    with session.execute(ordered) as rows:
        for row in rows:
            yield Entry(*row)
