"""Phones: who is in charge of them, what they owe, and counters that a person declares lost.

A phone owes what it has counted and never sent: holes, which it does not have any more, and what it declares unsent.
One that is revoked, or whose officer has gone on with a newer one, may have taken what it declared with it.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Select, and_, exists, func, or_, select, true, union
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql import ColumnElement

from sync import journal, shapes
from sync.clock import local_day
from sync.journal import decision_evidence
from sync.models import (
    DISTRICT_ROLES,
    Account,
    Desk,
    Installation,
    Loss,
    Posting,
    SignedIn,
    TokenFamily,
    among,
    insert_rows,
)
from sync.patrol_log import Page, cursor_after, older, position_of
from sync.problems import DecidedMeanwhile, EnvelopeInvalid, NotFound
from sync.revisions import merge_ranges, owed, without
from sync.shapes import Columns, Json

# ---------------------------------------------------------------- who is in charge


def posted(who: SignedIn, now: dt.datetime) -> Select[Any]:
    """The ids of the accounts that are posted today to a township of this account's."""
    today = local_day(now)
    return select(Posting.account_id).where(
        Posting.township_code.in_(sorted(who.townships)),
        Posting.from_on <= today,
        or_(Posting.until_on.is_(None), Posting.until_on >= today),
    )


def in_charge(who: SignedIn, now: dt.datetime) -> ColumnElement[bool]:
    """True for the phones that this account looks after: a supervisor those that somebody signed in on who is posted to
    the townships, whoever holds them now; who works for the district all. A desk is no phone."""
    is_phone = Installation.id.not_in(select(Desk.install_id))
    if who.role in DISTRICT_ROLES:
        return is_phone
    own = posted(who, now)
    signed_in = select(TokenFamily.install_id).where(TokenFamily.account_id.in_(own))
    return and_(is_phone, or_(Installation.account_id.in_(own), Installation.id.in_(signed_in)))


def signed_in_on(session: Session, ids: Iterable[uuid.UUID]) -> Mapping[uuid.UUID, Sequence[Columns]]:
    """By phone, the accounts that have ever signed in on it or hold it, by name: columns of Account."""
    ids = list(ids)
    pairs = union(
        *(
            select(phone.label("phone"), account.label("account")).where(among(session, phone, ids))
            for phone, account in (
                (Installation.id, Installation.account_id),
                (TokenFamily.install_id, TokenFamily.account_id),
            )
        )
    ).subquery()
    asked = select(pairs.c.phone, Account.id, Account.username, Account.full_name, Account.role)
    found: dict[uuid.UUID, list[Columns]] = {}
    for row in session.execute(asked.join(Account, Account.id == pairs.c.account).order_by(Account.username)):
        found.setdefault(row.phone, []).append(row)
    return found


# ---------------------------------------------------------------- what phones owe


def count_owed(installation: Installation, *, now: dt.datetime) -> None:
    """The installation says since when it has holes, and since when it has something unsent, if it has.

    To be called wherever its counters have changed.
    """
    gone, unsent = _owed(installation)
    installation.holes_since = (installation.holes_since or now) if gone else None
    installation.unsent_since = (installation.unsent_since or now) if unsent else None


def _owed(installation: Installation) -> tuple[list[list[int]], list[list[int]]]:
    return owed(installation.received, installation.lost or [], installation.unsent, installation.next_n)


def _is_out_of_use() -> ColumnElement[bool]:
    """True for a phone that is revoked, or whose holder began with a newer one after it had last been heard of."""
    newer = aliased(Installation)
    heard_of_at = func.coalesce(Installation.last_sync_at, Installation.created_at)
    replaced = exists().where(
        newer.account_id == Installation.account_id,
        newer.created_at > heard_of_at,
        newer.id.not_in(select(Desk.install_id)),
    )
    return or_(Installation.revoked_at.is_not(None), replaced)


def _is_possible_loss() -> ColumnElement[bool]:
    """True for a phone out of use that has declared something unsent."""
    return and_(Installation.unsent_since.is_not(None), _is_out_of_use())


def owing(who: SignedIn, now: dt.datetime) -> Select[Any]:
    """(id, since) of the phones with holes, or that may have taken something with them."""
    since = func.coalesce(Installation.holes_since, Installation.unsent_since).label("since")
    owes = or_(Installation.holes_since.is_not(None), _is_possible_loss())
    columns: tuple[Any, ...] = (Installation.id, since)
    return select(*columns).where(owes, in_charge(who, now))


# ---------------------------------------------------------------- looking at them


@dataclass(frozen=True, slots=True)
class Selection:
    """Which phones are asked for; None where it does not matter."""

    officer: str | None = None
    silent_since: dt.datetime | None = None
    holes: bool | None = None
    unsent: bool | None = None
    possible_loss: bool | None = None
    revoked: bool | None = None


def page(
    session: Session, who: SignedIn, selection: Selection, *, limit: int, cursor: str | None, now: dt.datetime
) -> Page:
    """A page of the phones that this account looks after, the newest first.

    The number of queries does not depend on how many they are. Raises QueryInvalid if the cursor is of another list.
    """
    listed = ["installations", asdict(selection)]
    behind = true() if cursor is None else older(Installation.created_at, Installation.id, *position_of(listed, cursor))
    asked = described().where(in_charge(who, now), behind, *_matching(selection))
    newest = asked.order_by(Installation.created_at.desc(), Installation.id.desc()).limit(limit + 1)
    rows = session.execute(newest).all()
    shown = rows[:limit]
    last = shown[-1].Installation if len(rows) > limit else None
    following = None if last is None else cursor_after(listed, last.created_at, last.id)
    return Page(told(session, shown), following)


def described() -> Select[Any]:
    """Installations with what `told` tells of them."""
    named: tuple[Any, ...] = (Account.username, Account.full_name, Account.disabled_at)
    asked = select(Installation, *named, _is_possible_loss().label("possible_loss"))
    return asked.join(Account, Account.id == Installation.account_id)


def told(session: Session, rows: Sequence[Columns]) -> list[Json]:
    """What is told of the phones that `described` found."""
    officers = signed_in_on(session, [row.Installation.id for row in rows])
    return [
        shapes.installation(row.Installation, row, officers[row.Installation.id], _owed(row.Installation))
        for row in rows
    ]


def one(session: Session, who: SignedIn, install_id: uuid.UUID, *, now: dt.datetime) -> Json:
    """What is told of a phone that this account looks after. Raises NotFound."""
    return told(session, [_one(session, who, install_id, now)])[0]


def lock(session: Session, who: SignedIn, install_id: uuid.UUID, *, now: dt.datetime) -> Installation:
    """A phone that this account looks after: until the commit nothing it sends is taken. Raises NotFound."""
    asked = select(Installation).where(Installation.id == install_id, in_charge(who, now))
    locked = asked.with_for_update().execution_options(populate_existing=True)
    found = session.scalars(locked).one_or_none()
    if found is None:
        raise NotFound
    return found


def _one(session: Session, who: SignedIn, install_id: uuid.UUID, now: dt.datetime) -> Columns:
    found = session.execute(described().where(Installation.id == install_id, in_charge(who, now))).one_or_none()
    if found is None:
        raise NotFound
    return found


def _matching(selection: Selection) -> list[ColumnElement[bool]]:
    """The conditions of what was asked for."""
    conditions = []
    if selection.officer is not None:
        conditions.append(Account.username == selection.officer)
    if selection.silent_since is not None:
        last = Installation.last_sync_at
        conditions.append(or_(last.is_(None), last < selection.silent_since))
    for wanted, condition in (
        (selection.holes, Installation.holes_since.is_not(None)),
        (selection.unsent, Installation.unsent_since.is_not(None)),
        (selection.possible_loss, _is_possible_loss()),
        (selection.revoked, Installation.revoked_at.is_not(None)),
    ):
        if wanted is not None:
            conditions.append(condition if wanted else ~condition)
    return conditions


# ---------------------------------------------------------------- counters declared lost


def declare_lost(
    session: Session, who: SignedIn, install_id: uuid.UUID, said: Mapping[str, Any], *, now: dt.datetime
) -> Json:
    """The phone, of which nobody waits for these counters any more. What arrives after all is stored as ever.

    The caller has begun a writing transaction. Raises NotFound if the phone isn't this account's to look after,
    EnvelopeInvalid if a range is none, DecidedMeanwhile if one of the counters isn't missing, be it that it came: holes
    are, and what a phone out of use has declared unsent.
    """
    _check(said["ranges"])
    installation = lock(session, who, install_id, now=now)
    row = _one(session, who, install_id, now)
    gone, unsent = _owed(installation)
    if without(said["ranges"], [*gone, *(unsent if row.possible_loss else [])]):
        raise DecidedMeanwhile(**told(session, [row])[0])
    installation.lost = merge_ranges([*(installation.lost or []), *said["ranges"]])
    count_owed(installation, now=now)
    _keep(session, who, install_id, said, now)
    return one(session, who, install_id, now=now)


def _check(ranges: Sequence[Sequence[int]]) -> None:
    for index, pair in enumerate(ranges):
        if pair[0] > pair[1]:
            raise EnvelopeInvalid(errors=[{"pointer": f"/ranges/{index}", "code": "range"}])


def _keep(session: Session, who: SignedIn, install_id: uuid.UUID, said: Mapping[str, Any], now: dt.datetime) -> None:
    """Who declared it, when and why; the chain swears to it."""
    loss = {
        "id": uuid.uuid4(),
        "install_id": install_id,
        "ranges": merge_ranges(said["ranges"]),
        "reason": said["reason"],
        "account_id": who.account_id,
        "at": now,
    }
    session.flush()
    insert_rows(session, Loss, [loss])
    journal.record(session, [], now=now, evidence=[decision_evidence("loss", loss, loss["id"])])
