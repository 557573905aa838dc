"""One request, one effect: whoever sends the same again under the same key gets the first answer again.

The answer is kept in the transaction of the effect, so there is never one without the other. A request that was refused
had no effect and keeps nothing: its key is free again. Of two copies in flight the second waits for the first.
"""

from __future__ import annotations

import datetime as dt

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from sync.models import AnsweredRequest, SignedIn, insert_if_new
from sync.problems import IdempotencyKeyReused

#: An answer is given again for this long at least: longer than a tab stays open or a queue waits.
KEPT = dt.timedelta(days=30)


def earlier_answer(session: Session, who: SignedIn, key: str, fingerprint: bytes, *, now: dt.datetime) -> bytes | None:
    """What was answered to this request before, or None: then the key is this request's from now on.

    The caller has begun a writing transaction, and ends it with `keep`. Raises IdempotencyKeyReused if the key stands
    for another request of this account.
    """
    table = AnsweredRequest
    session.execute(delete(table).where(table.account_id == who.account_id, table.at < now - KEPT))
    row = {"account_id": who.account_id, "key": key, "fingerprint": fingerprint, "at": now, "answer": None}
    if insert_if_new(session, table, row):
        return None
    asked = select(table.fingerprint, table.answer).where(table.account_id == who.account_id, table.key == key)
    first = session.execute(asked).one()
    if bytes(first.fingerprint) != fingerprint:
        raise IdempotencyKeyReused
    return bytes(first.answer)


def keep(session: Session, who: SignedIn, key: str, answer: bytes) -> None:
    """This is what the same request is answered from now on."""
    table = AnsweredRequest
    this = (table.account_id == who.account_id, table.key == key)
    session.execute(update(table).where(*this).values(answer=answer))
